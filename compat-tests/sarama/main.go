// sarama, unmodified: the adapter for compat-tests/harness/go, and its run.

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"ottla/compat/harness"
)

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func main() {
	harness.Run(library{})
}

func brokers() []string {
	return []string{os.Getenv("OTTLA_BOOTSTRAP")}
}

func settings() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Metadata.Retry.Max, c.Metadata.Retry.Backoff = 200, 50*time.Millisecond
	c.Net.MaxOpenRequests = 1 // keeps the order without idempotence, and idempotence asks for it
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	c.Producer.Flush.Frequency = 5 * time.Millisecond
	c.Producer.Retry.Max, c.Producer.Retry.Backoff = 1000, 50*time.Millisecond
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Consumer.Retry.Backoff = 50 * time.Millisecond
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Session.Timeout = 10 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return c
}

type library struct{}

func (library) NilIsEmpty() bool    { return false }
func (library) OwnTimestamps() bool { return false }

// ask runs a question with an admin client of its own: an old one holds a connection that a restart has cut.
func ask(question func(sarama.ClusterAdmin) error) error {
	admin, err := sarama.NewClusterAdmin(brokers(), settings())
	if err != nil {
		return err
	}
	return errors.Join(question(admin), admin.Close())
}

func (library) CreateTopic(topic string, partitions int, settings map[string]string) error {
	entries := map[string]*string{}
	for key, value := range settings {
		entries[key] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1, ConfigEntries: entries}
	err := ask(func(admin sarama.ClusterAdmin) error { return admin.CreateTopic(topic, detail, false) })
	if errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return harness.ErrExists
	}
	return err
}

func (library) Grow(topic string, partitions int) error {
	return ask(func(admin sarama.ClusterAdmin) error {
		return admin.CreatePartitions(topic, int32(partitions), nil, false)
	})
}

func (library) AlterTopic(topic, key, value string) error {
	entry := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	entries := map[string]sarama.IncrementalAlterConfigsEntry{key: entry}
	return ask(func(admin sarama.ClusterAdmin) error {
		return admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
	})
}

func (library) TopicSetting(topic, key string) (value string, err error) {
	resource := &sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{key}}
	err = ask(func(admin sarama.ClusterAdmin) error {
		found, err := admin.DescribeConfigs([]*sarama.ConfigResource{resource}, sarama.DescribeConfigsOptions{})
		if err != nil {
			return err
		}
		if len(found) != 1 || len(found[0].Configs) != 1 || found[0].Configs[0].Name != key {
			return fmt.Errorf("%s has no setting %s", topic, key)
		}
		value = found[0].Configs[0].Value
		return nil
	})
	return value, err
}

func (library) Topics() (names []string, err error) {
	err = ask(func(admin sarama.ClusterAdmin) error {
		all, err := admin.ListTopics()
		for name := range all {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

func (library) DeleteTopic(topic string) error {
	return ask(func(admin sarama.ClusterAdmin) error { return admin.DeleteTopic(topic) })
}

func (library) DeleteRecords(topic string, partition int32, before int64) error {
	return ask(func(admin sarama.ClusterAdmin) error {
		return admin.DeleteRecords(topic, map[int32]int64{partition: before})
	})
}

func (library) DeleteGroup(group string) error {
	return ask(func(admin sarama.ClusterAdmin) error { return admin.DeleteConsumerGroup(group) })
}

func (library) Committed(group, topic string, partition int32) (at int64, err error) {
	at = -1
	err = ask(func(admin sarama.ClusterAdmin) error {
		found, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
		if err != nil {
			return err
		}
		if block := found.GetBlock(topic, partition); block != nil {
			if block.Err != sarama.ErrNoError {
				return block.Err
			}
			at = block.Offset
		}
		return nil
	})
	return at, err
}

func (library) OffsetForTime(topic string, partition int32, timestampMs int64) (harness.Found, error) {
	offset, err := offset(topic, partition, timestampMs)
	return harness.Found{Offset: offset, TimestampMs: -1}, err
}

func offset(topic string, partition int32, time int64) (int64, error) {
	client, err := sarama.NewClient(brokers(), settings())
	if err != nil {
		return -1, err
	}
	defer client.Close()
	return client.GetOffset(topic, partition, time)
}

func (library) EndOffset(topic string, partition int32) (int64, error) {
	return offset(topic, partition, sarama.OffsetNewest)
}

// producer remembers where each record went, in the order of sending.
type producer struct {
	inner   sarama.AsyncProducer
	room    chan struct{} // one element for each unacknowledged record
	sent    []*sarama.ProducerMessage
	results chan error
}

func (library) Producer(codec string, idempotent bool) (harness.Producer, error) {
	c, unacknowledged := settings(), 10000
	c.Producer.Compression = codecs[codec]
	if idempotent {
		c.Producer.Idempotent = true
		// Small batches and few unacknowledged records, so that a crash meets a stream and not a queue.
		c.Producer.Flush.MaxMessages, unacknowledged = 50, 500
	}
	inner, err := sarama.NewAsyncProducer(brokers(), c)
	if err != nil {
		return nil, err
	}
	p := &producer{inner: inner, room: make(chan struct{}, unacknowledged), results: make(chan error, 1<<20)}
	go func() {
		for range inner.Successes() {
			<-p.room
			p.results <- nil
		}
	}()
	go func() {
		for failure := range inner.Errors() {
			<-p.room
			p.results <- failure
		}
	}()
	return p, nil
}

func (p *producer) Send(topic string, partition int32, record harness.Record) error {
	message := &sarama.ProducerMessage{Topic: topic, Partition: partition, Timestamp: time.UnixMilli(record.TimestampMs)}
	// Nil must reach the library as no encoder at all; an encoder of nil means an empty value.
	if record.Key != nil {
		message.Key = sarama.ByteEncoder(record.Key)
	}
	if record.Value != nil {
		message.Value = sarama.ByteEncoder(record.Value)
	}
	for _, h := range record.Headers {
		message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
	}
	p.room <- struct{}{}
	p.sent = append(p.sent, message)
	p.inner.Input() <- message
	return nil
}

func (p *producer) Flush() ([]harness.Place, error) {
	var failure error
	for range p.sent {
		select {
		case err := <-p.results:
			failure = errors.Join(failure, err)
		case <-time.After(time.Minute):
			return nil, errors.New("records still unacknowledged")
		}
	}
	var placed []harness.Place
	for _, message := range p.sent {
		placed = append(placed, harness.Place{Partition: message.Partition, Offset: message.Offset})
	}
	p.sent = nil
	return placed, failure
}

func (p *producer) Close() error {
	p.inner.AsyncClose() // the readers of its two channels end when it has closed them
	return nil
}

// received translates a record of the library.
func received(m *sarama.ConsumerMessage) harness.Received {
	r := harness.Record{Key: m.Key, Value: m.Value, TimestampMs: m.Timestamp.UnixMilli()}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, harness.Header{Key: string(h.Key), Value: h.Value})
	}
	return harness.Received{Place: harness.Place{Partition: m.Partition, Offset: m.Offset}, Record: r}
}

// reader reads partitions without a group.
type reader struct {
	topic    string
	inner    sarama.Consumer
	messages chan *sarama.ConsumerMessage
	open     map[int32]*partition
}

// partition is what a reader has open for one partition.
type partition struct {
	inner sarama.PartitionConsumer
	ended chan struct{}
}

func (library) Reader(topic string, partitions int) (harness.Reader, error) {
	inner, err := sarama.NewConsumer(brokers(), settings())
	if err != nil {
		return nil, err
	}
	r := &reader{topic: topic, inner: inner, messages: make(chan *sarama.ConsumerMessage), open: map[int32]*partition{}}
	for p := range int32(partitions) {
		if err := r.start(p, sarama.OffsetOldest); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *reader) start(p int32, offset int64) error {
	inner, err := r.inner.ConsumePartition(r.topic, p, offset)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	r.open[p] = &partition{inner, ended}
	go func() {
		defer close(ended)
		for m := range inner.Messages() {
			r.messages <- m
		}
	}()
	return nil
}

// stop ends the reading of a partition; what it had delivered already is dropped.
func (r *reader) stop(p int32) {
	open := r.open[p]
	delete(r.open, p)
	open.inner.AsyncClose()
	for {
		select {
		case <-r.messages: // of one partition only: nothing but Close stops a reader of several
		case <-open.ended:
			return
		}
	}
}

// Seek closes a partition and opens it elsewhere, the only way that the library has.
func (r *reader) Seek(p int32, offset int64) error {
	r.stop(p)
	return r.start(p, offset)
}

func (r *reader) Poll(wait time.Duration) ([]harness.Received, error) {
	select {
	case m := <-r.messages:
		return []harness.Received{received(m)}, nil // one at a time is enough here
	case <-time.After(wait):
		return nil, nil
	}
}

func (r *reader) Close() error {
	for p := range r.open {
		r.stop(p)
	}
	return r.inner.Close()
}

func owned(session sarama.ConsumerGroupSession, topic string) []int32 {
	if session == nil {
		return nil
	}
	return slices.Clone(session.Claims()[topic])
}
