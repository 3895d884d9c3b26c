// franz-go, unmodified: the adapter for compat-tests/harness/go, and its run.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ottla/compat/harness"
)

const (
	limit    = 60 * time.Second
	mostRead = 500
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func main() {
	client, err := newClient()
	if err != nil {
		fmt.Println("check client failed", err)
		os.Exit(1)
	}
	harness.Run(library{kadm.NewClient(client)})
}

func newClient(options ...kgo.Opt) (*kgo.Client, error) {
	common := []kgo.Opt{
		kgo.SeedBrokers(os.Getenv("OTTLA_BOOTSTRAP")),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}
	return kgo.NewClient(append(common, options...)...)
}

type library struct{ admin *kadm.Client }

func (library) NilIsEmpty() bool    { return false }
func (library) OwnTimestamps() bool { return false }

func (l library) CreateTopic(topic string, partitions int, settings map[string]string) error {
	values := map[string]*string{}
	for key, value := range settings {
		values[key] = kadm.StringPtr(value)
	}
	_, err := l.admin.CreateTopic(context.Background(), int32(partitions), 1, values, topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return harness.ErrExists
	}
	return err
}

func (l library) Grow(topic string, partitions int) error {
	grown, err := l.admin.UpdatePartitions(context.Background(), partitions, topic)
	if err != nil {
		return err
	}
	return grown.Error()
}

func (l library) AlterTopic(topic, key, value string) error {
	larger := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: kadm.StringPtr(value)}}
	altered, err := l.admin.AlterTopicConfigs(context.Background(), larger, topic)
	if err != nil {
		return err
	}
	return altered[0].Err
}

func (l library) TopicSetting(topic, key string) (string, error) {
	described, err := l.admin.DescribeTopicConfigs(context.Background(), topic)
	if err != nil {
		return "", err
	}
	for _, config := range described[0].Configs {
		if config.Key == key && config.Value != nil {
			return *config.Value, nil
		}
	}
	return "", fmt.Errorf("%s has no setting %s: %v", topic, key, described[0].Err)
}

func (l library) Topics() ([]string, error) {
	all, err := l.admin.ListTopics(context.Background())
	return all.Names(), err
}

func (l library) DeleteTopic(topic string) error {
	_, err := l.admin.DeleteTopic(context.Background(), topic)
	return err
}

func (l library) DeleteRecords(topic string, partition int32, before int64) error {
	cut := kadm.Offsets{}
	cut.AddOffset(topic, partition, before, -1)
	deleted, err := l.admin.DeleteRecords(context.Background(), cut)
	if err != nil {
		return err
	}
	return deleted.Error()
}

func (l library) DeleteGroup(group string) error {
	_, err := l.admin.DeleteGroup(context.Background(), group)
	return err
}

func (l library) Committed(group, topic string, partition int32) (int64, error) {
	committed, err := l.admin.FetchOffsets(context.Background(), group)
	if err != nil {
		return -1, err
	}
	if found, ok := committed.Lookup(topic, partition); ok {
		return found.At, found.Err
	}
	return -1, nil
}

// OffsetForTime finds no timestamp, and the end, where the broker finds no record.
func (l library) OffsetForTime(topic string, partition int32, timestampMs int64) (harness.Found, error) {
	listed, err := l.admin.ListOffsetsAfterMilli(context.Background(), timestampMs, topic)
	if err == nil {
		err = listed.Error()
	}
	found, ok := listed.Lookup(topic, partition)
	if err != nil || !ok || found.Timestamp < 0 {
		return harness.Found{Offset: -1, TimestampMs: -1}, err
	}
	return harness.Found{Offset: found.Offset, TimestampMs: found.Timestamp}, nil
}

func (l library) EndOffset(topic string, partition int32) (int64, error) {
	ends, err := l.admin.ListEndOffsets(context.Background(), topic)
	if err == nil {
		err = ends.Error()
	}
	found, _ := ends.Lookup(topic, partition)
	return found.Offset, err
}

// producer remembers where each record went, in the order of sending.
type producer struct {
	inner *kgo.Client
	sent  []*kgo.Record

	mutex   sync.Mutex
	failure error
}

func (library) Producer(codec string, idempotent bool) (harness.Producer, error) {
	options := []kgo.Opt{kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(5 * time.Millisecond)}
	if idempotent {
		// Small batches and few unacknowledged records, so that a crash meets a stream and not a queue.
		options = append(options, kgo.ProducerBatchMaxBytes(1<<10), kgo.MaxBufferedRecords(500))
	} else {
		options = append(options, kgo.DisableIdempotentWrite()) // which leaves one request in flight: order is kept
	}
	inner, err := newClient(options...)
	if err != nil {
		return nil, err
	}
	return &producer{inner: inner}, nil
}

func (p *producer) Send(topic string, partition int32, record harness.Record) error {
	sent := &kgo.Record{Topic: topic, Partition: partition, Key: record.Key, Value: record.Value,
		Timestamp: time.UnixMilli(record.TimestampMs)}
	for _, h := range record.Headers {
		sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	p.sent = append(p.sent, sent)
	p.inner.Produce(context.Background(), sent, func(_ *kgo.Record, err error) {
		if err != nil {
			p.mutex.Lock()
			p.failure = errors.Join(p.failure, err)
			p.mutex.Unlock()
		}
	})
	return nil
}

func (p *producer) Flush() ([]harness.Place, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := p.inner.Flush(ctx); err != nil {
		return nil, err
	}
	var placed []harness.Place
	for _, record := range p.sent {
		placed = append(placed, harness.Place{Partition: record.Partition, Offset: record.Offset})
	}
	p.sent = nil
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return placed, p.failure
}

func (p *producer) Close() error {
	p.inner.Close()
	return nil
}

// source polls a client.
type source struct{ inner *kgo.Client }

func (s source) Poll(wait time.Duration) ([]harness.Received, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	fetches := s.inner.PollRecords(ctx, mostRead)
	for _, each := range fetches.Errors() {
		if !errors.Is(each.Err, context.DeadlineExceeded) && !connectionLost(each.Err) {
			return nil, fmt.Errorf("%s-%d: %w", each.Topic, each.Partition, each.Err)
		}
	}
	var got []harness.Received
	for _, r := range fetches.Records() {
		record := harness.Record{Key: r.Key, Value: r.Value, TimestampMs: r.Timestamp.UnixMilli()}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, harness.Header{Key: h.Key, Value: h.Value})
		}
		place := harness.Place{Partition: r.Partition, Offset: r.Offset}
		got = append(got, harness.Received{Place: place, Record: record})
	}
	return got, nil
}

// connectionLost recognizes the news that a member lost its broker; the client goes on joining by itself.
func connectionLost(err error) bool {
	var session *kgo.ErrGroupSession
	var network *net.OpError
	return errors.As(err, &session) && (errors.As(err, &network) || errors.Is(err, io.EOF))
}

func (s source) Close() error {
	s.inner.Close()
	return nil
}

// reader reads partitions without a group.
type reader struct {
	source
	topic string
}

func (library) Reader(topic string, partitions int) (harness.Reader, error) {
	starts := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		starts[p] = kgo.NewOffset().AtStart()
	}
	inner, err := newClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}))
	if err != nil {
		return nil, err
	}
	return reader{source{inner}, topic}, nil
}

func (r reader) Seek(partition int32, offset int64) error {
	r.inner.SetOffsets(map[string]map[int32]kgo.EpochOffset{r.topic: {partition: {Epoch: -1, Offset: offset}}})
	return nil
}

// member is a member of a group, which is told what it owns.
type member struct {
	source
	topic string

	mutex sync.Mutex
	owned []int32
}

func (library) Member(group, topic string) (harness.Member, error) {
	m := &member{topic: topic}
	give := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		m.owned = append(m.owned, partitions[topic]...)
	}
	take := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		m.owned = slices.DeleteFunc(m.owned, func(p int32) bool { return slices.Contains(partitions[topic], p) })
	}
	inner, err := newClient(
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.OnPartitionsAssigned(give), kgo.OnPartitionsRevoked(take), kgo.OnPartitionsLost(take),
	)
	m.inner = inner
	return m, err
}

func (m *member) Assignment() []int32 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return slices.Clone(m.owned)
}

func (m *member) Commit() error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := m.inner.CommitUncommittedOffsets(ctx)
	for _, allowed := range []error{kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID} {
		if errors.Is(err, allowed) {
			return nil
		}
	}
	return err
}

func (m *member) CommitAt(offsets map[int32]int64) error {
	wanted := map[string]map[int32]kgo.EpochOffset{m.topic: {}}
	for p, offset := range offsets {
		wanted[m.topic][p] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	var refused error
	m.inner.CommitOffsetsSync(context.Background(), wanted,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
			refused = err
		})
	return refused
}
