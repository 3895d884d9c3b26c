// A member of a group: the library pushes records from goroutines of its own, the checks poll.

package main

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"ottla/compat/harness"
)

// message is a record with the session that delivered it: records of an ended session are the next owner's.
type message struct {
	session sarama.ConsumerGroupSession
	inner   *sarama.ConsumerMessage
}

type member struct {
	topic    string
	group    sarama.ConsumerGroup
	messages chan message
	stop     context.CancelFunc
	stopped  chan struct{}

	mutex   sync.Mutex
	session sarama.ConsumerGroupSession // nil between two generations
	next    map[int32]int64             // what a commit of everything polled would commit
	failure error
}

func (library) Member(group, topic string) (harness.Member, error) {
	inner, err := sarama.NewConsumerGroup(brokers(), group, settings())
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &member{topic: topic, group: inner, messages: make(chan message, 500), stop: stop, stopped: make(chan struct{})}
	go m.consume(ctx)
	return m, nil
}

// consume joins again and again, as the library's documentation asks for, until the member is closed.
func (m *member) consume(ctx context.Context) {
	defer close(m.stopped)
	deadline := time.Now().Add(time.Minute)
	for ctx.Err() == nil {
		err := m.group.Consume(ctx, []string{m.topic}, m)
		if err == nil {
			deadline = time.Now().Add(time.Minute)
			continue
		}
		// The broker is away, or the member was forgotten: both pass, unless they last.
		if time.Now().After(deadline) {
			m.mutex.Lock()
			m.failure = err
			m.mutex.Unlock()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Setup begins a generation.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.session, m.next = session, map[int32]int64{}
	return nil
}

// Cleanup ends a generation.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.session = nil
	return nil
}

// ConsumeClaim hands over the records of one partition.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case inner, open := <-claim.Messages():
			if !open {
				return nil
			}
			select {
			case m.messages <- message{session, inner}:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *member) Poll(wait time.Duration) ([]harness.Received, error) {
	got := harness.Drain(m.messages, wait, m.take)
	if len(got) > 0 {
		return got, nil
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return nil, m.failure
}

func (m *member) take(next message) (harness.Received, bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if next.session != m.session {
		return harness.Received{}, false
	}
	m.next[next.inner.Partition] = next.inner.Offset + 1
	return received(next.inner), true
}

func (m *member) Assignment() []int32 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return owned(m.session, m.topic)
}

func (m *member) Commit() error {
	m.mutex.Lock()
	next := maps.Clone(m.next)
	m.mutex.Unlock()
	return m.CommitAt(next)
}

// CommitAt marks and commits. The library reports refusals to its log only: who needs to know asks for the offsets.
func (m *member) CommitAt(offsets map[int32]int64) error {
	m.mutex.Lock()
	session := m.session
	m.mutex.Unlock()
	if session == nil {
		return nil
	}
	for p, offset := range offsets {
		session.MarkOffset(m.topic, p, offset, "")
	}
	session.Commit()
	return nil
}

func (m *member) Close() error {
	m.stop()
	<-m.stopped
	err := m.group.Close()
	if errors.Is(err, sarama.ErrNotCoordinatorForConsumer) {
		return nil // a broker that has just started need not know the group yet; the session ends by itself
	}
	return err
}
