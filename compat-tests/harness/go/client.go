// Package harness holds what every Go library must be able to do, written once after harness/scenario.py: the libraries
// differ only in their adapter, which implements Client.
package harness

import (
	"errors"
	"time"
)

// ErrExists is what CreateTopic gives for a topic that is there.
var ErrExists = errors.New("the topic exists")

// mostDrained is how many records one poll gives at most.
const mostDrained = 500

// Client is one unmodified library against the broker of this program.
type Client interface {
	// NilIsEmpty says that the library reads an absent value as an empty one.
	NilIsEmpty() bool
	// OwnTimestamps says that the library reads the producer's timestamps even where the broker's count.
	OwnTimestamps() bool
	CreateTopic(topic string, partitions int, settings map[string]string) error
	Grow(topic string, partitions int) error
	AlterTopic(topic, key, value string) error
	TopicSetting(topic, key string) (string, error)
	Topics() ([]string, error)
	DeleteTopic(topic string) error
	// DeleteRecords gives Skipped when the library cannot.
	DeleteRecords(topic string, partition int32, before int64) error
	DeleteGroup(group string) error
	// Committed is -1 when there is none.
	Committed(group, topic string, partition int32) (int64, error)
	// OffsetForTime has the offset -1 when there is none.
	OffsetForTime(topic string, partition int32, timestampMs int64) (Found, error)
	EndOffset(topic string, partition int32) (int64, error)
	// Producer gives Skipped when the library has no idempotent one.
	Producer(codec string, idempotent bool) (Producer, error)
	// Reader reads all partitions of a topic without a group, from the first offset.
	Reader(topic string, partitions int) (Reader, error)
	// Member reads a topic in a group, from the committed or else the first offset; it commits only when told.
	Member(group, topic string) (Member, error)
}

// Found is a record found by its timestamp, which is -1 when the library does not tell.
type Found struct{ Offset, TimestampMs int64 }

// Producer sends to chosen partitions. Send may wait for room; Flush waits for every acknowledgement.
type Producer interface {
	Send(topic string, partition int32, record Record) error
	// Flush gives where the records went, in the order of sending; no places when the library does not tell.
	Flush() ([]Place, error)
	Close() error
}

// Source gives records in batches; waiting for the first of them ends after `wait`.
type Source interface {
	Poll(wait time.Duration) ([]Received, error)
	Close() error
}

// Reader is a source without a group.
type Reader interface {
	Source
	Seek(partition int32, offset int64) error
}

// Member is a source that shares a topic with the other members of its group.
type Member interface {
	Source
	Assignment() []int32
	// Commit commits everything polled. A refusal in a rebalance is no error: the next owner reads it again.
	Commit() error
	// CommitAt commits these offsets.
	CommitAt(offsets map[int32]int64) error
}

// Drain gives what a library's own goroutines have put into `delivered`, waiting at most that long for the first.
// `take` translates a delivery, or says that it came too late to count.
func Drain[T any](delivered <-chan T, wait time.Duration, take func(T) (Received, bool)) []Received {
	var got []Received
	timeout := time.After(wait)
	for len(got) < mostDrained {
		var next T
		select {
		case next = <-delivered:
		default:
			if len(got) > 0 {
				return got
			}
			select {
			case next = <-delivered:
			case <-timeout:
				return nil
			}
		}
		if received, counts := take(next); counts {
			got = append(got, received)
		}
	}
	return got
}
