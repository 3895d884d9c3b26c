// franz-go, unmodified, through the checks of compat-tests/harness/scenario.py.

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	records    = 200
	partitions = 3
)

func main() {
	r := &report{}
	cl, err := newClient()
	if err != nil {
		fmt.Println("check client failed", err)
		os.Exit(1)
	}
	admin := kadm.NewClient(cl)
	r.check("topics", func() error { return topics(admin) })
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		r.check("codec-"+codec, func() error { return checkCodec(admin, codec) })
	}
	r.check("append-time", func() error { return appendTime(admin) })
	r.check("group-of-three", func() error { return growAndShrink(admin) })
	r.check("commit-resume", func() error { return commitResume(admin) })
	r.check("seek", func() error { return seek(admin) })
	r.check("restart-resume", func() error { return restartResume(admin) })
	r.check("idempotence", func() error { return idempotence(admin) })
	r.check("administration", func() error { return administration(admin) })
	cl.Close()
	if r.failed > 0 {
		os.Exit(1)
	}
}

func setting(admin *kadm.Client, topic, key string) (string, error) {
	described, err := admin.DescribeTopicConfigs(context.Background(), topic)
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

func listed(admin *kadm.Client, topic string) (bool, error) {
	all, err := admin.ListTopics(context.Background())
	return all.Has(topic), err
}

func topics(admin *kadm.Client) error {
	settings := map[string]string{"retention.ms": "86400000", "cleanup.policy": "delete"}
	if err := create(admin, "topics-a", partitions, settings); err != nil {
		return err
	}
	if err := create(admin, "topics-a", 1, nil); !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("creating a topic twice: %v", err)
	}
	if found, err := listed(admin, "topics-a"); err != nil || !found {
		return fmt.Errorf("the new topic is not listed: %v", err)
	}
	value, err := setting(admin, "topics-a", "retention.ms")
	if err != nil || value != "86400000" {
		return fmt.Errorf("retention.ms is %q: %v", value, err)
	}
	return nil
}

func checkCodec(admin *kadm.Client, codec string) error {
	topic := "codec-" + codec
	if err := create(admin, topic, partitions, nil); err != nil {
		return err
	}
	producer, err := newProducer(codec, false)
	if err != nil {
		return err
	}
	defer producer.Close()
	var sent []*kgo.Record
	for i := range records {
		sent = append(sent, sample(topic, int32(i%partitions), i))
	}
	// The client writes into the records that it sends: compare with fresh ones.
	if err := producer.ProduceSync(context.Background(), sent...).FirstErr(); err != nil {
		return err
	}
	got, err := readAll(admin, topic, partitions)
	if err != nil {
		return err
	}
	for i := range records {
		partition, offset := i%partitions, i/partitions
		if offset >= len(got[partition]) {
			return fmt.Errorf("%s-%d has %d records", topic, partition, len(got[partition]))
		}
		if sent[i].Offset != int64(offset) {
			return fmt.Errorf("record %d was acknowledged at %d", i, sent[i].Offset)
		}
		if err := same(sample(topic, int32(partition), i), got[partition][offset]); err != nil {
			return err
		}
	}
	return nil
}

func appendTime(admin *kadm.Client) error {
	if err := create(admin, "append-time", 1, map[string]string{"message.timestamp.type": "LogAppendTime"}); err != nil {
		return err
	}
	producer, err := newProducer("none", false)
	if err != nil {
		return err
	}
	defer producer.Close()
	before := time.Now().UnixMilli()
	if err := sendNumbers(producer, "append-time", 1, 0, 20); err != nil {
		return err
	}
	after := time.Now().UnixMilli()
	got, err := readAll(admin, "append-time", 1)
	if err != nil {
		return err
	}
	for _, r := range got[0] {
		if stamp := r.Timestamp.UnixMilli(); stamp < before || stamp > after {
			return fmt.Errorf("timestamp %d is not the broker's time of appending", stamp)
		}
	}
	return nil
}

func commitResume(admin *kadm.Client) error {
	if err := create(admin, "commit", partitions, nil); err != nil {
		return err
	}
	producer, err := newProducer("none", false)
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := sendNumbers(producer, "commit", partitions, 0, 90); err != nil {
		return err
	}
	first, err := newMember("commit", "resume")
	if err != nil {
		return err
	}
	if _, err := read(first, 90); err != nil {
		return err
	}
	half := map[string]map[int32]kgo.EpochOffset{"commit": {}}
	for p := range int32(partitions) {
		half["commit"][p] = kgo.EpochOffset{Epoch: -1, Offset: 15}
	}
	first.CommitOffsetsSync(context.Background(), half, nil)
	committed, err := admin.FetchOffsets(context.Background(), "resume")
	if err != nil {
		return err
	}
	for p := range int32(partitions) {
		if found, ok := committed.Lookup("commit", p); !ok || found.At != 15 {
			return fmt.Errorf("committed offset of partition %d is %d", p, found.At)
		}
	}
	first.Close()
	second, err := newMember("commit", "resume")
	if err != nil {
		return err
	}
	defer second.Close()
	rest, err := read(second, 45)
	if err != nil {
		return err
	}
	seen := map[place]bool{}
	for _, r := range rest {
		if r.Offset < 15 {
			return fmt.Errorf("the second consumer read offset %d", r.Offset)
		}
		seen[place{r.Partition, r.Offset}] = true
	}
	if len(seen) != 45 {
		return fmt.Errorf("%d different records", len(seen))
	}
	return nil
}

func seek(admin *kadm.Client) error {
	if err := create(admin, "seek", 1, nil); err != nil {
		return err
	}
	producer, err := newProducer("none", false)
	if err != nil {
		return err
	}
	defer producer.Close()
	for i := range 100 {
		if err := producer.ProduceSync(context.Background(), sample("seek", 0, i)).FirstErr(); err != nil {
			return err
		}
	}
	start := map[string]map[int32]kgo.Offset{"seek": {0: kgo.NewOffset().AtStart()}}
	consumer, err := newClient(kgo.ConsumePartitions(start))
	if err != nil {
		return err
	}
	defer consumer.Close()
	if _, err := read(consumer, 100); err != nil {
		return err
	}
	// Between two records: the later one is meant.
	found, err := admin.ListOffsetsAfterMilli(context.Background(), baseMs+60_500, "seek")
	if err != nil {
		return err
	}
	if offset, _ := found.Lookup("seek", 0); offset.Offset != 61 || offset.Timestamp != baseMs+61_000 {
		return fmt.Errorf("the offset for a time between 60 and 61 is %d", offset.Offset)
	}
	for _, to := range []int64{40, 0, 61} {
		consumer.SetOffsets(map[string]map[int32]kgo.EpochOffset{"seek": {0: {Epoch: -1, Offset: to}}})
		next, err := read(consumer, 1)
		if err != nil {
			return err
		}
		if next[0].Offset != to {
			return fmt.Errorf("after seeking to %d the next record is %d", to, next[0].Offset)
		}
	}
	return nil
}

func restartResume(admin *kadm.Client) error {
	if err := create(admin, "restart", partitions, nil); err != nil {
		return err
	}
	producer, err := newProducer("lz4", false)
	if err != nil {
		return err
	}
	defer producer.Close()
	consumer, err := newMember("restart", "survivor")
	if err != nil {
		return err
	}
	seen := map[place]int{}
	sent := 0
	for _, word := range []string{"restart", "restart", "crash", "crash"} {
		if err := sendNumbers(producer, "restart", partitions, sent, sent+60); err != nil {
			return err
		}
		sent += 60
		if err := commitEverything(admin, consumer, seen, sent); err != nil {
			return err
		}
		// The same producer and the same consumer go on afterwards as if nothing had happened.
		if err := control(word); err != nil {
			return err
		}
	}
	consumer.Close()
	different := map[int]bool{}
	for _, n := range seen {
		different[n] = true
	}
	if len(seen) != sent || len(different) != sent {
		return fmt.Errorf("sent %d, read %d different ones", sent, len(different))
	}
	late, err := newMember("restart", "survivor")
	if err != nil {
		return err
	}
	defer late.Close()
	if err := sendNumbers(producer, "restart", partitions, sent, sent+3); err != nil {
		return err
	}
	rest, err := read(late, 3)
	if err != nil {
		return err
	}
	for _, r := range rest {
		if numberOf(r) < sent {
			return fmt.Errorf("the group resumed too early, at %d", numberOf(r))
		}
	}
	return nil
}

// commitEverything reads and commits until the broker says that everything sent is committed; a member may rejoin.
func commitEverything(admin *kadm.Client, consumer *kgo.Client, seen map[place]int, sent int) error {
	deadline := time.Now().Add(limit)
	committed := int64(0)
	for len(seen) < sent || committed < int64(sent) {
		if time.Now().After(deadline) {
			return fmt.Errorf("read %d, committed %d of %d", len(seen), committed, sent)
		}
		got, err := poll(consumer, 500, 100*time.Millisecond)
		if err != nil {
			return err
		}
		for _, r := range got {
			seen[place{r.Partition, r.Offset}] = numberOf(r)
		}
		if err := commitIfPossible(consumer); err != nil {
			return err
		}
		offsets, err := admin.FetchOffsets(context.Background(), "survivor")
		if err != nil {
			return err
		}
		committed = 0
		for p := range int32(partitions) {
			if found, ok := offsets.Lookup("restart", p); ok && found.At > 0 {
				committed += found.At
			}
		}
	}
	return nil
}

func idempotence(admin *kadm.Client) error {
	if err := create(admin, "idempotent", partitions, nil); err != nil {
		return err
	}
	producer, err := newProducer("none", true)
	if err != nil {
		return err
	}
	defer producer.Close()
	const count = 6000
	var mutex sync.Mutex
	var failures []error
	note := func(err error) {
		if err != nil {
			mutex.Lock()
			failures = append(failures, err)
			mutex.Unlock()
		}
	}
	var crash sync.WaitGroup
	for n := range count {
		producer.Produce(context.Background(), number("idempotent", int32(n%partitions), n),
			func(_ *kgo.Record, err error) { note(err) })
		if n == 1500 || n == 4000 {
			crash.Wait()
			crash.Add(1)
			go func() {
				defer crash.Done()
				note(control("crash"))
			}()
		}
	}
	crash.Wait()
	if err := producer.Flush(context.Background()); err != nil {
		return err
	}
	if len(failures) > 0 {
		return fmt.Errorf("%d failures, first: %w", len(failures), failures[0])
	}
	got, err := readAll(admin, "idempotent", partitions)
	if err != nil {
		return err
	}
	for p, found := range got {
		if len(found) != count/partitions {
			return fmt.Errorf("partition %d has %d records", p, len(found))
		}
		for n, r := range found {
			if numberOf(r) != n*partitions+p {
				return fmt.Errorf("partition %d: %d at offset %d", p, numberOf(r), n)
			}
		}
	}
	return nil
}

func administration(admin *kadm.Client) error {
	ctx := context.Background()
	if err := create(admin, "admin", 1, nil); err != nil {
		return err
	}
	grown, err := admin.UpdatePartitions(ctx, 3, "admin")
	if err == nil {
		err = grown.Error()
	}
	if err != nil {
		return fmt.Errorf("growing: %w", err)
	}
	producer, err := newProducer("none", false)
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := sendNumbers(producer, "admin", 3, 0, 30); err != nil {
		return err
	}
	larger := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kadm.StringPtr("2000000")}}
	altered, err := admin.AlterTopicConfigs(ctx, larger, "admin")
	if err != nil || altered[0].Err != nil {
		return fmt.Errorf("altering: %v %v", err, altered)
	}
	if value, err := setting(admin, "admin", "max.message.bytes"); err != nil || value != "2000000" {
		return fmt.Errorf("max.message.bytes is %q: %v", value, err)
	}
	cut := kadm.Offsets{}
	cut.AddOffset("admin", 0, 4, -1)
	deleted, err := admin.DeleteRecords(ctx, cut)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		return fmt.Errorf("deleting records: %w", err)
	}
	consumer, err := newMember("admin", "admin-group")
	if err != nil {
		return err
	}
	got, err := read(consumer, 26)
	if err != nil {
		return err
	}
	for _, r := range got {
		if r.Partition == 0 && r.Offset < 4 {
			return fmt.Errorf("a deleted record was read")
		}
	}
	if err := commitIfPossible(consumer); err != nil {
		return err
	}
	consumer.Close()
	if _, err := admin.DeleteGroup(ctx, "admin-group"); err != nil {
		return fmt.Errorf("deleting the group: %w", err)
	}
	if _, err := admin.DeleteTopic(ctx, "admin"); err != nil {
		return fmt.Errorf("deleting the topic: %w", err)
	}
	deadline := time.Now().Add(limit)
	for {
		found, err := listed(admin, "admin")
		if err != nil || time.Now().After(deadline) {
			return fmt.Errorf("the deleted topic is still listed: %v", err)
		}
		if !found {
			return nil
		}
	}
}
