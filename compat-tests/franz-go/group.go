// A group that grows from one member to three and shrinks to one, under load; compat-tests/harness/groups.py says more.
// At each size the members own every partition once in equal shares; every record that was produced is read.

package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	groupPartitions = 6
	perSize         = 300
)

type place struct {
	partition int32
	offset    int64
}

type group struct {
	topic string

	mutex   sync.Mutex
	changed chan struct{} // closed and replaced at every change
	owned   map[int]map[int32]bool
	read    map[place]int
	err     error
	sent    int
}

func newGroup(topic string) *group {
	return &group{topic: topic, changed: make(chan struct{}), owned: map[int]map[int32]bool{}, read: map[place]int{}}
}

// change runs an update under the lock and wakes whoever waits.
func (g *group) change(update func()) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	update()
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *group) fail(err error) {
	g.change(func() { g.err = err })
}

// await waits until holds() is true under the lock.
func (g *group) await(what string, holds func() bool) error {
	deadline := time.After(90 * time.Second)
	for {
		g.mutex.Lock()
		done, err, changed := holds(), g.err, g.changed
		state := fmt.Sprintf("owned %v, read %d", g.owned, len(g.read))
		g.mutex.Unlock()
		if err != nil {
			return err
		}
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-deadline:
			return fmt.Errorf("%s: %s", what, state)
		}
	}
}

func (g *group) shares(sizes ...int) bool {
	var have []int
	all := map[int32]bool{}
	for _, partitions := range g.owned {
		have = append(have, len(partitions))
		for p := range partitions {
			all[p] = true
		}
	}
	slices.Sort(have)
	return slices.Equal(have, sizes) && len(all) == groupPartitions
}

// join starts a member; the returned function makes it leave and waits until it has.
func (g *group) join(name int) (func(), error) {
	give := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		g.change(func() {
			for _, p := range partitions[g.topic] {
				g.owned[name][p] = true
			}
		})
	}
	take := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		g.change(func() {
			for _, p := range partitions[g.topic] {
				delete(g.owned[name], p)
			}
		})
	}
	g.change(func() { g.owned[name] = map[int32]bool{} })
	cl, err := newMember(g.topic, g.topic, kgo.OnPartitionsAssigned(give), kgo.OnPartitionsRevoked(take),
		kgo.OnPartitionsLost(take))
	if err != nil {
		return nil, err
	}
	leaving, left := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		g.consume(cl, leaving)
		cl.Close()
		g.change(func() { delete(g.owned, name) })
	}()
	return func() { close(leaving); <-left }, nil
}

func (g *group) consume(cl *kgo.Client, leaving chan struct{}) {
	for {
		select {
		case <-leaving:
			return
		default:
		}
		records, err := poll(cl, 500, 200*time.Millisecond)
		if err == nil {
			g.change(func() {
				for _, r := range records {
					g.read[place{r.Partition, r.Offset}] = numberOf(r)
				}
			})
			err = commitIfPossible(cl)
		}
		if err != nil {
			g.fail(err)
			return
		}
	}
}

// load produces until it is told to stop; the tick paces it, so that the last member has something to read.
func (g *group) load(stopping, stopped chan struct{}) {
	defer close(stopped)
	producer, err := newProducer("none", true)
	if err != nil {
		g.fail(err)
		return
	}
	defer producer.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stopping:
			return
		case <-tick.C:
		}
		if err := sendNumbers(producer, g.topic, groupPartitions, g.sent, g.sent+groupPartitions); err != nil {
			g.fail(err)
			return
		}
		g.sent += groupPartitions
	}
}

func (g *group) awaitProgress() error {
	g.mutex.Lock()
	goal := len(g.read) + perSize
	g.mutex.Unlock()
	return g.await("progress", func() bool { return len(g.read) >= goal })
}

func growAndShrink(admin *kadm.Client) error {
	g := newGroup("group-load")
	if err := create(admin, g.topic, groupPartitions, nil); err != nil {
		return err
	}
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go g.load(stopping, stopped)
	var leave []func()
	for _, sizes := range [][]int{{6}, {3, 3}, {2, 2, 2}} {
		member, err := g.join(len(leave))
		if err != nil {
			return err
		}
		leave = append(leave, member)
		if err := g.await(fmt.Sprintf("growing to %v", sizes), func() bool { return g.shares(sizes...) }); err != nil {
			return err
		}
		if err := g.awaitProgress(); err != nil {
			return err
		}
	}
	for _, sizes := range [][]int{{3, 3}, {6}} {
		leave[len(leave)-1]()
		leave = leave[:len(leave)-1]
		if err := g.await(fmt.Sprintf("shrinking to %v", sizes), func() bool { return g.shares(sizes...) }); err != nil {
			return err
		}
		if err := g.awaitProgress(); err != nil {
			return err
		}
	}
	close(stopping)
	<-stopped
	if err := g.await("reading the rest", func() bool { return len(g.read) >= g.sent }); err != nil {
		return err
	}
	leave[0]()
	seen := map[int]bool{}
	for _, n := range g.read {
		seen[n] = true
	}
	if len(g.read) != g.sent || len(seen) != g.sent {
		return fmt.Errorf("sent %d records, read %d different ones", g.sent, len(seen))
	}
	return nil
}
