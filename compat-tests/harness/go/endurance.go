// The checks of harness/scenario.py in which the broker restarts or things are deleted.

package harness

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

func restartResume(c Client) error {
	if err := c.CreateTopic("restart", partitions, nil); err != nil {
		return err
	}
	producer, err := c.Producer("lz4", false)
	if err != nil {
		return err
	}
	defer producer.Close()
	member, err := c.Member("survivor", "restart")
	if err != nil {
		return err
	}
	seen := map[Place]int{}
	sent := 0
	for _, word := range []string{"restart", "restart", "crash", "crash"} {
		if err := sendNumbers(producer, "restart", partitions, sent, sent+60); err != nil {
			return err
		}
		sent += 60
		if err := commitEverything(c, member, seen, sent); err != nil {
			return err
		}
		// The same producer and the same consumer go on afterwards as if nothing had happened.
		if err := control(word); err != nil {
			return err
		}
	}
	if err := member.Close(); err != nil {
		return err
	}
	different := map[int]bool{}
	for _, n := range seen {
		different[n] = true
	}
	if len(seen) != sent || len(different) != sent {
		return fmt.Errorf("sent %d, read %d different ones", sent, len(different))
	}
	late, err := c.Member("survivor", "restart")
	if err != nil {
		return err
	}
	if err := sendNumbers(producer, "restart", partitions, sent, sent+3); err != nil {
		return err
	}
	rest, err := read(late, 3)
	if err := errors.Join(err, late.Close()); err != nil {
		return err
	}
	for _, r := range rest {
		if numberOf(r.Record) < sent {
			return fmt.Errorf("the group resumed too early, at %d", numberOf(r.Record))
		}
	}
	return nil
}

// commitEverything reads and commits until the broker says that everything sent is committed; a member may rejoin.
func commitEverything(c Client, member Member, seen map[Place]int, sent int) error {
	deadline := time.Now().Add(limit)
	committed := int64(0)
	var unknown error // why the broker does not say what is committed: it may still load its groups
	for len(seen) < sent || committed < int64(sent) {
		if time.Now().After(deadline) {
			return fmt.Errorf("read %d, committed %d of %d: %v", len(seen), committed, sent, unknown)
		}
		got, err := member.Poll(100 * time.Millisecond)
		if err != nil {
			return err
		}
		for _, r := range got {
			seen[r.Place] = numberOf(r.Record)
		}
		if err := member.Commit(); err != nil {
			return err
		}
		committed = 0
		for p := range int32(partitions) {
			var at int64
			if at, unknown = c.Committed("survivor", "restart", p); unknown != nil {
				break
			}
			committed += max(at, 0)
		}
	}
	return nil
}

func idempotence(c Client) error {
	producer, err := c.Producer("none", true)
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := c.CreateTopic("idempotent", partitions, nil); err != nil {
		return fmt.Errorf("creating: %w", err)
	}
	const count = 6000
	var crash sync.WaitGroup
	var crashed error
	for n := range count {
		if err := producer.Send("idempotent", int32(n%partitions), number(n)); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		if n == 1500 || n == 4000 {
			crash.Wait()
			crash.Add(1)
			go func() {
				defer crash.Done()
				crashed = errors.Join(crashed, control("crash"))
			}()
		}
	}
	crash.Wait()
	if _, err := producer.Flush(); errors.Join(err, crashed) != nil {
		return errors.Join(err, crashed)
	}
	got, err := readAll(c, "idempotent", partitions)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	for p, found := range got {
		if len(found) != count/partitions {
			return fmt.Errorf("partition %d has %d records", p, len(found))
		}
		for n, r := range found {
			if numberOf(r.Record) != n*partitions+p {
				return fmt.Errorf("partition %d: %d at offset %d", p, numberOf(r.Record), n)
			}
		}
	}
	return nil
}

func administration(c Client) error {
	if err := c.CreateTopic("admin", 1, nil); err != nil {
		return err
	}
	if err := c.Grow("admin", 3); err != nil {
		return fmt.Errorf("growing: %w", err)
	}
	if err := fill(c, "admin", 3, 30); err != nil {
		return err
	}
	if err := c.AlterTopic("admin", "max.message.bytes", "2000000"); err != nil {
		return fmt.Errorf("altering: %w", err)
	}
	// Of several brokers the one that is asked may hear of the change after the one that was told.
	changed := time.Now().Add(limit)
	for {
		value, err := c.TopicSetting("admin", "max.message.bytes")
		if err == nil && value == "2000000" {
			break
		}
		if err != nil || time.Now().After(changed) {
			return fmt.Errorf("max.message.bytes is %q: %v", value, err)
		}
	}
	left := 26
	var cannot Skipped
	if err := c.DeleteRecords("admin", 0, 4); errors.As(err, &cannot) {
		left = 30
	} else if err != nil {
		return fmt.Errorf("deleting records: %w", err)
	}
	member, err := c.Member("admin-group", "admin")
	if err != nil {
		return err
	}
	got, err := read(member, left)
	if err != nil {
		return err
	}
	for _, r := range got {
		if left == 26 && r.Partition == 0 && r.Offset < 4 {
			return fmt.Errorf("a deleted record was read")
		}
	}
	if err := errors.Join(member.Commit(), member.Close()); err != nil {
		return err
	}
	if err := c.DeleteGroup("admin-group"); err != nil {
		return fmt.Errorf("deleting the group: %w", err)
	}
	if err := c.DeleteTopic("admin"); err != nil {
		return fmt.Errorf("deleting the topic: %w", err)
	}
	deadline := time.Now().Add(limit)
	for {
		all, err := c.Topics()
		if err != nil || time.Now().After(deadline) {
			return fmt.Errorf("the deleted topic is still listed: %v", err)
		}
		if !slices.Contains(all, "admin") {
			return nil
		}
	}
}
