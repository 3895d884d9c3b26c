// kafka-go (segmentio), unmodified: the adapter for compat-tests/harness/go, and its run.

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"ottla/compat/harness"
)

const limit = time.Minute

func main() {
	harness.Run(library{})
}

// library lacks an idempotent producer and DeleteRecords, reads an absent value as an empty one and LogAppendTime as if
// it were CreateTime.
type library struct{}

func (library) NilIsEmpty() bool    { return true }
func (library) OwnTimestamps() bool { return true }

func bootstrap() net.Addr {
	return kafka.TCP(os.Getenv("OTTLA_BOOTSTRAP"))
}

// ask runs a question with connections of its own: old ones may have been cut by a restart.
func ask(question func(context.Context, *kafka.Client) error) error {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return question(ctx, &kafka.Client{Addr: bootstrap(), Transport: transport})
}

// all joins the errors of an answer that has one for each name.
func all(each map[string]error) error {
	var joined error
	for name, err := range each {
		if err != nil {
			joined = errors.Join(joined, fmt.Errorf("%s: %w", name, err))
		}
	}
	return joined
}

func (library) CreateTopic(topic string, partitions int, settings map[string]string) error {
	wanted := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}
	for key, value := range settings {
		wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
	}
	err := ask(func(ctx context.Context, c *kafka.Client) error {
		answer, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
		if err != nil {
			return err
		}
		return all(answer.Errors)
	})
	if errors.Is(err, kafka.TopicAlreadyExists) {
		return harness.ErrExists
	}
	return err
}

func (library) Grow(topic string, partitions int) error {
	wanted := []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(partitions)}}
	return ask(func(ctx context.Context, c *kafka.Client) error {
		answer, err := c.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: wanted})
		if err != nil {
			return err
		}
		return all(answer.Errors)
	})
}

func (library) AlterTopic(topic, key, value string) error {
	resource := kafka.IncrementalAlterConfigsRequestResource{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
		Configs: []kafka.IncrementalAlterConfigsRequestConfig{
			{Name: key, Value: value, ConfigOperation: kafka.ConfigOperationSet},
		},
	}
	resources := []kafka.IncrementalAlterConfigsRequestResource{resource}
	return ask(func(ctx context.Context, c *kafka.Client) error {
		answer, err := c.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: resources})
		if err != nil {
			return err
		}
		return answer.Resources[0].Error
	})
}

func (library) TopicSetting(topic, key string) (value string, err error) {
	resource := kafka.DescribeConfigRequestResource{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{key},
	}
	resources := []kafka.DescribeConfigRequestResource{resource}
	err = ask(func(ctx context.Context, c *kafka.Client) error {
		answer, err := c.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: resources})
		if err != nil {
			return err
		}
		found := answer.Resources[0]
		if len(found.ConfigEntries) != 1 || found.ConfigEntries[0].ConfigName != key {
			return fmt.Errorf("%s has no setting %s: %v", topic, key, found.Error)
		}
		value = found.ConfigEntries[0].ConfigValue
		return nil
	})
	return value, err
}

func (library) Topics() (names []string, err error) {
	err = ask(func(ctx context.Context, c *kafka.Client) error {
		answer, err := c.Metadata(ctx, &kafka.MetadataRequest{})
		if err != nil {
			return err
		}
		for _, topic := range answer.Topics {
			names = append(names, topic.Name)
		}
		return nil
	})
	return names, err
}

func (library) DeleteTopic(topic string) error {
	return ask(func(ctx context.Context, c *kafka.Client) error {
		answer, err := c.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
		if err != nil {
			return err
		}
		return all(answer.Errors)
	})
}

func (library) DeleteRecords(string, int32, int64) error {
	return harness.Skipped("kafka-go has no DeleteRecords")
}

func (library) DeleteGroup(group string) error {
	return ask(func(ctx context.Context, c *kafka.Client) error {
		answer, err := c.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
		if err != nil {
			return err
		}
		return all(answer.Errors)
	})
}

func (library) Committed(group, topic string, partition int32) (at int64, err error) {
	wanted := &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {int(partition)}}}
	err = ask(func(ctx context.Context, c *kafka.Client) error {
		answer, err := c.OffsetFetch(ctx, wanted)
		if err != nil {
			return err
		}
		found := answer.Topics[topic][0]
		at = found.CommittedOffset
		return errors.Join(answer.Error, found.Error)
	})
	return at, err
}

// offsets asks for one offset of one partition.
func offsets(topic string, wanted kafka.OffsetRequest) (found kafka.PartitionOffsets, err error) {
	request := &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {wanted}}}
	err = ask(func(ctx context.Context, c *kafka.Client) error {
		answer, err := c.ListOffsets(ctx, request)
		if err != nil {
			return err
		}
		found = answer.Topics[topic][0]
		return found.Error
	})
	return found, err
}

func (library) OffsetForTime(topic string, partition int32, timestampMs int64) (harness.Found, error) {
	found, err := offsets(topic, kafka.TimeOffsetOf(int(partition), time.UnixMilli(timestampMs)))
	for offset := range found.Offsets {
		return harness.Found{Offset: offset, TimestampMs: -1}, err
	}
	return harness.Found{Offset: -1, TimestampMs: -1}, err
}

func (library) EndOffset(topic string, partition int32) (int64, error) {
	found, err := offsets(topic, kafka.LastOffsetOf(int(partition)))
	return found.LastOffset, err
}

// producer collects, writes at every flush and learns where each record went.
type producer struct {
	inner  *kafka.Writer
	sent   []kafka.Message
	placed []harness.Place
}

func (library) Producer(codec string, idempotent bool) (harness.Producer, error) {
	if idempotent {
		return nil, harness.Skipped("kafka-go has no idempotent producer")
	}
	compressions := map[string]kafka.Compression{
		"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
	}
	p := &producer{}
	p.inner = &kafka.Writer{
		Addr: bootstrap(), RequiredAcks: kafka.RequireAll, Compression: compressions[codec],
		Balancer:     kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return m.WriterData.(slot).partition }),
		BatchTimeout: 5 * time.Millisecond, MaxAttempts: 1000, WriteBackoffMin: 50 * time.Millisecond,
		Completion: p.note,
		// Its own, which looks at the topics now: the shared one knows them as they were some seconds ago.
		Transport: &kafka.Transport{},
	}
	return p, nil
}

// slot says of a record which it is of those sent since the last flush, and for which partition.
type slot struct{ index, partition int }

// note is told by the library where records went, by one partition's goroutine or another's, each its own slots.
func (p *producer) note(messages []kafka.Message, err error) {
	if err != nil {
		return // the writing call reports it
	}
	for _, m := range messages {
		place := harness.Place{Partition: int32(m.Partition), Offset: m.Offset}
		p.placed[m.WriterData.(slot).index] = place
	}
}

func (p *producer) Send(topic string, partition int32, record harness.Record) error {
	message := kafka.Message{
		Topic: topic, Key: record.Key, Value: record.Value, Time: time.UnixMilli(record.TimestampMs),
		WriterData: slot{len(p.sent), int(partition)},
	}
	for _, h := range record.Headers {
		message.Headers = append(message.Headers, kafka.Header{Key: h.Key, Value: h.Value})
	}
	p.sent = append(p.sent, message)
	return nil
}

func (p *producer) Flush() ([]harness.Place, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	sent := p.sent
	p.sent, p.placed = nil, make([]harness.Place, len(sent))
	for {
		err := p.inner.WriteMessages(ctx, sent...)
		left, retriable := leaderless(sent, err)
		if !retriable {
			return p.placed, err
		}
		sent = left
	}
}

// leaderless gives the records that the library gave up because their partition had no leader for a moment, which it
// takes for final (against a real Kafka too), if there are any and nothing else went wrong.
func leaderless(sent []kafka.Message, err error) ([]kafka.Message, bool) {
	var failures kafka.WriteErrors
	if !errors.As(err, &failures) {
		return nil, false
	}
	var left []kafka.Message
	for n, failure := range failures {
		if failure == nil {
			continue
		}
		if !errors.Is(failure, protocol.ErrNoLeader) {
			return nil, false
		}
		left = append(left, sent[n])
	}
	return left, len(left) > 0
}

func (p *producer) Close() error {
	defer p.inner.Transport.(*kafka.Transport).CloseIdleConnections()
	return p.inner.Close()
}
