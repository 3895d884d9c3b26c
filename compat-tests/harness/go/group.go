// A group that grows from one member to three and shrinks to one, under load; harness/groups.py says more.
// At each size the members own every partition once in equal shares; every record that was produced is read.

package harness

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	groupPartitions = 6
	perSize         = 300
)

type group struct {
	client Client
	topic  string

	mutex   sync.Mutex
	changed chan struct{} // closed and replaced at every change
	owned   map[int]map[int32]bool
	read    map[Place]int
	err     error
	sent    int
}

func newGroup(client Client) *group {
	return &group{client: client, topic: "group-load", changed: make(chan struct{}),
		owned: map[int]map[int32]bool{}, read: map[Place]int{}}
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
	member, err := g.client.Member("three", g.topic)
	if err != nil {
		return nil, err
	}
	leaving, left := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		g.consume(name, member, leaving)
		if err := member.Close(); err != nil {
			g.fail(err)
		}
		g.change(func() { delete(g.owned, name) })
	}()
	return func() { close(leaving); <-left }, nil
}

func (g *group) consume(name int, member Member, leaving chan struct{}) {
	for {
		select {
		case <-leaving:
			return
		default:
		}
		got, err := member.Poll(200 * time.Millisecond)
		g.change(func() {
			g.owned[name] = map[int32]bool{}
			for _, p := range member.Assignment() {
				g.owned[name][p] = true
			}
			for _, r := range got {
				g.read[r.Place] = numberOf(r.Record)
			}
		})
		if err == nil {
			err = member.Commit()
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
	producer, err := g.client.Producer("none", true)
	if errors.As(err, new(Skipped)) {
		producer, err = g.client.Producer("none", false)
	}
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

func growAndShrink(c Client) error {
	g := newGroup(c)
	if err := c.CreateTopic(g.topic, groupPartitions, nil); err != nil {
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
