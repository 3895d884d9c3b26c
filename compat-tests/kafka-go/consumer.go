// Reading: without a group, and as a member of one. Goroutines read partitions, the checks poll what they deliver.

package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"ottla/compat/harness"
)

func newReader(topic string, partition int) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{os.Getenv("OTTLA_BOOTSTRAP")}, Topic: topic, Partition: partition, MinBytes: 1,
		MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond, ReadBackoffMax: 500 * time.Millisecond,
	})
}

func received(m kafka.Message) harness.Received {
	r := harness.Record{Key: m.Key, Value: m.Value, TimestampMs: m.Time.UnixMilli()}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, harness.Header{Key: h.Key, Value: h.Value})
	}
	return harness.Received{Place: harness.Place{Partition: int32(m.Partition), Offset: m.Offset}, Record: r}
}

// reader reads partitions without a group.
type reader struct {
	partitions map[int32]*reading
	delivered  chan kafka.Message
}

// reading is the goroutine that reads one partition.
type reading struct {
	inner *kafka.Reader
	stop  context.CancelFunc
	ended chan struct{}
}

func (library) Reader(topic string, partitions int) (harness.Reader, error) {
	r := &reader{partitions: map[int32]*reading{}, delivered: make(chan kafka.Message)}
	for p := range partitions {
		r.partitions[int32(p)] = r.start(newReader(topic, p))
	}
	return r, nil
}

func (r *reader) start(inner *kafka.Reader) *reading {
	ctx, stop := context.WithCancel(context.Background())
	this := &reading{inner, stop, make(chan struct{})}
	go func() {
		defer close(this.ended)
		for ctx.Err() == nil {
			m, err := inner.ReadMessage(ctx)
			if err != nil {
				continue // it tells of lost connections and mends them itself; a poll that gets nothing says the rest
			}
			select {
			case r.delivered <- m:
			case <-ctx.Done():
			}
		}
	}()
	return this
}

func (r *reader) Seek(partition int32, offset int64) error {
	was := r.partitions[partition]
	was.stop()
	<-was.ended // hence nothing from before the seek is delivered after it
	err := was.inner.SetOffset(offset)
	r.partitions[partition] = r.start(was.inner)
	return err
}

func (r *reader) Poll(wait time.Duration) ([]harness.Received, error) {
	select {
	case m := <-r.delivered:
		return []harness.Received{received(m)}, nil // one at a time is enough here
	case <-time.After(wait):
		return nil, nil
	}
}

func (r *reader) Close() error {
	var joined error
	for _, p := range r.partitions {
		p.stop()
		<-p.ended
		joined = errors.Join(joined, p.inner.Close())
	}
	return joined
}

// member uses the library's ConsumerGroup: its Reader does not tell which partitions it owns.
type member struct {
	topic     string
	group     *kafka.ConsumerGroup
	delivered chan delivery
	stop      context.CancelFunc
	stopped   chan struct{}

	mutex      sync.Mutex
	generation *kafka.Generation // nil between two
	next       map[int32]int64   // what a commit of everything polled would commit
}

// delivery is a record with the generation that read it: records of an ended one are the next owner's.
type delivery struct {
	generation *kafka.Generation
	inner      kafka.Message
}

func (library) Member(group, topic string) (harness.Member, error) {
	inner, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: []string{os.Getenv("OTTLA_BOOTSTRAP")}, Topics: []string{topic},
		StartOffset: kafka.FirstOffset, SessionTimeout: 10 * time.Second, HeartbeatInterval: 500 * time.Millisecond,
		JoinGroupBackoff: 100 * time.Millisecond, Timeout: 10 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &member{topic: topic, group: inner, delivered: make(chan delivery, 500), stop: stop, stopped: make(chan struct{})}
	go m.follow(ctx)
	return m, nil
}

// follow takes part in one generation after another.
func (m *member) follow(ctx context.Context) {
	defer close(m.stopped)
	for ctx.Err() == nil {
		generation, err := m.group.Next(ctx)
		if err != nil {
			continue // the broker is away, or the member was forgotten; the library waits and joins again
		}
		m.change(generation)
		for _, assigned := range generation.Assignments[m.topic] {
			generation.Start(func(ctx context.Context) { m.read(ctx, generation, assigned) })
		}
		generation.Start(func(ctx context.Context) {
			<-ctx.Done()
			m.change(nil)
		})
	}
}

func (m *member) change(generation *kafka.Generation) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.generation, m.next = generation, map[int32]int64{}
}

func (m *member) read(ctx context.Context, generation *kafka.Generation, assigned kafka.PartitionAssignment) {
	reader := newReader(m.topic, assigned.ID)
	defer reader.Close()
	if err := reader.SetOffset(assigned.Offset); err != nil {
		return
	}
	for ctx.Err() == nil {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			continue
		}
		select {
		case m.delivered <- delivery{generation, message}:
		case <-ctx.Done():
		}
	}
}

func (m *member) Poll(wait time.Duration) ([]harness.Received, error) {
	return harness.Drain(m.delivered, wait, m.take), nil
}

func (m *member) take(next delivery) (harness.Received, bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if next.generation != m.generation {
		return harness.Received{}, false
	}
	m.next[int32(next.inner.Partition)] = next.inner.Offset + 1
	return received(next.inner), true
}

func (m *member) Assignment() []int32 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	var owned []int32
	if m.generation != nil {
		for _, p := range m.generation.Assignments[m.topic] {
			owned = append(owned, int32(p.ID))
		}
	}
	return owned
}

func (m *member) Commit() error {
	m.mutex.Lock()
	next := maps.Clone(m.next)
	m.mutex.Unlock()
	if len(next) == 0 {
		return nil
	}
	// What a rebalance or a lost connection refuses is read again; who needs to know asks for the offsets.
	_ = m.CommitAt(next)
	return nil
}

func (m *member) CommitAt(offsets map[int32]int64) error {
	m.mutex.Lock()
	generation := m.generation
	m.mutex.Unlock()
	if generation == nil {
		return nil
	}
	wanted := map[int]int64{}
	for p, offset := range offsets {
		wanted[int(p)] = offset
	}
	return generation.CommitOffsets(map[string]map[int]int64{m.topic: wanted})
}

func (m *member) Close() error {
	m.stop()
	<-m.stopped
	return m.group.Close()
}
