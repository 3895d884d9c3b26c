// The checks of harness/scenario.py that leave the broker alone.

package harness

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

const (
	records    = 200
	partitions = 3
)

// Run runs all checks with one library and ends the program.
func Run(c Client) {
	r := &report{}
	r.check("topics", func() error { return topics(c) })
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		r.check("codec-"+codec, func() error { return checkCodec(c, codec) })
	}
	r.check("append-time", func() error { return appendTime(c) })
	r.check("group-of-three", func() error { return growAndShrink(c) })
	r.check("commit-resume", func() error { return commitResume(c) })
	r.check("seek", func() error { return seek(c) })
	r.check("restart-resume", func() error { return restartResume(c) })
	r.check("idempotence", func() error { return idempotence(c) })
	r.check("administration", func() error { return administration(c) })
	if r.failed > 0 {
		os.Exit(1)
	}
	os.Exit(0)
}

// read polls until that many records are there; a deadline, not a pause, ends a wait for records that never come.
func read(from Source, count int) ([]Received, error) {
	var got []Received
	deadline := time.Now().Add(limit)
	for len(got) < count {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d records after %s", len(got), count, limit)
		}
		more, err := from.Poll(500 * time.Millisecond)
		if err != nil {
			return nil, err
		}
		got = append(got, more...)
	}
	return got, nil
}

// readAll gives every record of a topic, by partition, from the first offset to the end as it is now.
func readAll(c Client, topic string, partitions int) ([][]Received, error) {
	total := 0
	for p := range int32(partitions) {
		end, err := c.EndOffset(topic, p)
		if err != nil {
			return nil, err
		}
		total += int(end)
	}
	reader, err := c.Reader(topic, partitions)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	got, err := read(reader, total)
	if err != nil {
		return nil, err
	}
	byPartition := make([][]Received, partitions)
	for _, r := range got {
		if r.Offset != int64(len(byPartition[r.Partition])) {
			return nil, fmt.Errorf("%s-%d: offset %d is out of order", topic, r.Partition, r.Offset)
		}
		byPartition[r.Partition] = append(byPartition[r.Partition], r)
	}
	return byPartition, nil
}

// sendNumbers sends from..until as values, round robin over the partitions, and waits for every acknowledgement.
func sendNumbers(producer Producer, topic string, partitions, from, until int) error {
	for n := from; n < until; n++ {
		if err := producer.Send(topic, int32(n%partitions), number(n)); err != nil {
			return err
		}
	}
	_, err := producer.Flush()
	return err
}

// fill sends the numbers below `count` with a producer of its own.
func fill(c Client, topic string, partitions, count int) error {
	producer, err := c.Producer("none", false)
	if err != nil {
		return err
	}
	return errors.Join(sendNumbers(producer, topic, partitions, 0, count), producer.Close())
}

func topics(c Client) error {
	settings := map[string]string{"retention.ms": "86400000", "cleanup.policy": "delete"}
	if err := c.CreateTopic("topics-a", partitions, settings); err != nil {
		return err
	}
	if err := c.CreateTopic("topics-a", 1, nil); !errors.Is(err, ErrExists) {
		return fmt.Errorf("creating a topic twice: %v", err)
	}
	// Of several brokers the one that is asked may hear of the topic after the one that was told.
	listed := time.Now().Add(limit)
	for {
		all, err := c.Topics()
		if err == nil && slices.Contains(all, "topics-a") {
			break
		}
		if err != nil || time.Now().After(listed) {
			return fmt.Errorf("the new topic is not listed: %v", err)
		}
	}
	value, err := c.TopicSetting("topics-a", "retention.ms")
	if err != nil || value != "86400000" {
		return fmt.Errorf("retention.ms is %q: %v", value, err)
	}
	return nil
}

func checkCodec(c Client, codec string) error {
	topic := "codec-" + codec
	if err := c.CreateTopic(topic, partitions, nil); err != nil {
		return err
	}
	producer, err := c.Producer(codec, false)
	if err != nil {
		return err
	}
	for i := range records {
		if err := producer.Send(topic, int32(i%partitions), sample(i)); err != nil {
			return err
		}
	}
	placed, err := producer.Flush()
	if err := errors.Join(err, producer.Close()); err != nil {
		return err
	}
	for i, place := range placed {
		if want := (Place{int32(i % partitions), int64(i / partitions)}); place != want {
			return fmt.Errorf("record %d was acknowledged at %v", i, place)
		}
	}
	got, err := readAll(c, topic, partitions)
	if err != nil {
		return err
	}
	for i := range records {
		partition, offset := i%partitions, i/partitions
		if offset >= len(got[partition]) {
			return fmt.Errorf("%s-%d has %d records", topic, partition, len(got[partition]))
		}
		equal := exact
		if c.NilIsEmpty() {
			equal = slices.Equal[[]byte]
		}
		if err := same(sample(i), got[partition][offset], equal); err != nil {
			return err
		}
	}
	return nil
}

func appendTime(c Client) error {
	if c.OwnTimestamps() {
		return Skipped("the library does not look at the timestamp type of a batch")
	}
	settings := map[string]string{"message.timestamp.type": "LogAppendTime"}
	if err := c.CreateTopic("append-time", 1, settings); err != nil {
		return err
	}
	before := time.Now().UnixMilli()
	if err := fill(c, "append-time", 1, 20); err != nil {
		return err
	}
	after := time.Now().UnixMilli()
	got, err := readAll(c, "append-time", 1)
	if err != nil {
		return err
	}
	for _, r := range got[0] {
		if r.TimestampMs < before || r.TimestampMs > after {
			return fmt.Errorf("timestamp %d is not the broker's time of appending", r.TimestampMs)
		}
	}
	return nil
}

func commitResume(c Client) error {
	if err := c.CreateTopic("commit", partitions, nil); err != nil {
		return err
	}
	if err := fill(c, "commit", partitions, 90); err != nil {
		return err
	}
	first, err := c.Member("resume", "commit")
	if err != nil {
		return err
	}
	if _, err := read(first, 90); err != nil {
		return err
	}
	// Half of each partition: what follows must be exactly the other half.
	if err := first.CommitAt(map[int32]int64{0: 15, 1: 15, 2: 15}); err != nil {
		return err
	}
	for p := range int32(partitions) {
		if at, err := c.Committed("resume", "commit", p); err != nil || at != 15 {
			return fmt.Errorf("committed offset of partition %d is %d: %v", p, at, err)
		}
	}
	if err := first.Close(); err != nil {
		return err
	}
	second, err := c.Member("resume", "commit")
	if err != nil {
		return err
	}
	rest, err := read(second, 45)
	if err := errors.Join(err, second.Close()); err != nil {
		return err
	}
	seen := map[Place]bool{}
	for _, r := range rest {
		if r.Offset < 15 {
			return fmt.Errorf("the second consumer read offset %d", r.Offset)
		}
		seen[r.Place] = true
	}
	if len(seen) != 45 {
		return fmt.Errorf("%d different records", len(seen))
	}
	return nil
}

func seek(c Client) error {
	if err := c.CreateTopic("seek", 1, nil); err != nil {
		return err
	}
	producer, err := c.Producer("none", false)
	if err != nil {
		return err
	}
	for i := range 100 {
		if err := producer.Send("seek", 0, sample(i)); err != nil {
			return err
		}
	}
	_, err = producer.Flush()
	if err := errors.Join(err, producer.Close()); err != nil {
		return err
	}
	reader, err := c.Reader("seek", 1)
	if err != nil {
		return err
	}
	defer reader.Close()
	if _, err := read(reader, 100); err != nil {
		return err
	}
	// Between two records: the later one is meant.
	found, err := c.OffsetForTime("seek", 0, baseMs+60_500)
	stamp := found.TimestampMs
	if err != nil || found.Offset != 61 || (stamp != -1 && stamp != baseMs+61_000) {
		return fmt.Errorf("the offset for a time between 60 and 61 is %v: %v", found, err)
	}
	for _, to := range []int64{40, 0, found.Offset} {
		if err := reader.Seek(0, to); err != nil {
			return err
		}
		next, err := read(reader, 1)
		if err != nil {
			return err
		}
		if next[0].Offset != to {
			return fmt.Errorf("after seeking to %d the next record is %d", to, next[0].Offset)
		}
	}
	if late, err := c.OffsetForTime("seek", 0, baseMs+3_000_000); err != nil || late.Offset >= 0 {
		return fmt.Errorf("the offset for a time after the last record is %v: %v", late, err)
	}
	return nil
}
