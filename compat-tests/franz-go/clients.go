// Producers and consumers with the settings of these checks, and what every check does with them.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func newClient(options ...kgo.Opt) (*kgo.Client, error) {
	common := []kgo.Opt{
		kgo.SeedBrokers(os.Getenv("OTTLA_BOOTSTRAP")),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}
	return kgo.NewClient(append(common, options...)...)
}

func newProducer(codec string, idempotent bool) (*kgo.Client, error) {
	options := []kgo.Opt{kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(5 * time.Millisecond)}
	if idempotent {
		// Small batches and few unacknowledged records, so that a crash meets a stream and not a queue.
		options = append(options, kgo.ProducerBatchMaxBytes(1<<10), kgo.MaxBufferedRecords(500))
	} else {
		options = append(options, kgo.DisableIdempotentWrite()) // which leaves one request in flight: order is kept
	}
	return newClient(options...)
}

func newMember(topic, group string, more ...kgo.Opt) (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
	}
	return newClient(append(options, more...)...)
}

func create(admin *kadm.Client, topic string, partitions int32, settings map[string]string) error {
	values := map[string]*string{}
	for key, value := range settings {
		values[key] = kadm.StringPtr(value)
	}
	_, err := admin.CreateTopic(context.Background(), partitions, 1, values, topic)
	return err
}

// poll gives the records of one poll that waits at most that long.
func poll(cl *kgo.Client, most int, wait time.Duration) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	fetches := cl.PollRecords(ctx, most)
	for _, each := range fetches.Errors() {
		if !errors.Is(each.Err, context.DeadlineExceeded) && !connectionLost(each.Err) {
			return nil, fmt.Errorf("%s-%d: %w", each.Topic, each.Partition, each.Err)
		}
	}
	return fetches.Records(), nil
}

// connectionLost recognizes the news that a member lost its broker; the client goes on joining by itself.
func connectionLost(err error) bool {
	var session *kgo.ErrGroupSession
	var network *net.OpError
	return errors.As(err, &session) && (errors.As(err, &network) || errors.Is(err, io.EOF))
}

// read polls until that many records are there; a deadline, not a pause, ends a wait for records that never come.
func read(cl *kgo.Client, count int) ([]*kgo.Record, error) {
	var got []*kgo.Record
	deadline := time.Now().Add(limit)
	for len(got) < count {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d records after %s", len(got), count, limit)
		}
		records, err := poll(cl, count-len(got), 500*time.Millisecond)
		if err != nil {
			return nil, err
		}
		got = append(got, records...)
	}
	return got, nil
}

// readAll gives every record of a topic, by partition, from the first offset to the end as it is now.
func readAll(admin *kadm.Client, topic string, partitions int) ([][]*kgo.Record, error) {
	ends, err := admin.ListEndOffsets(context.Background(), topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	total := 0
	ends.Each(func(end kadm.ListedOffset) { total += int(end.Offset) })
	starts := map[int32]kgo.Offset{}
	for p := range partitions {
		starts[int32(p)] = kgo.NewOffset().AtStart()
	}
	consumer, err := newClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	records, err := read(consumer, total)
	if err != nil {
		return nil, err
	}
	byPartition := make([][]*kgo.Record, partitions)
	for _, r := range records {
		if r.Offset != int64(len(byPartition[r.Partition])) {
			return nil, fmt.Errorf("%s-%d: offset %d is out of order", topic, r.Partition, r.Offset)
		}
		byPartition[r.Partition] = append(byPartition[r.Partition], r)
	}
	return byPartition, nil
}

// sendNumbers sends from..until as values, round robin over the partitions, and waits for every acknowledgement.
func sendNumbers(producer *kgo.Client, topic string, partitions, from, until int) error {
	var records []*kgo.Record
	for n := from; n < until; n++ {
		records = append(records, number(topic, int32(n%partitions), n))
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return producer.ProduceSync(ctx, records...).FirstErr()
}

// commitIfPossible commits; what a rebalance refuses is read again by the next owner.
func commitIfPossible(cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := cl.CommitUncommittedOffsets(ctx)
	for _, allowed := range []error{kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID} {
		if errors.Is(err, allowed) {
			return nil
		}
	}
	return err
}
