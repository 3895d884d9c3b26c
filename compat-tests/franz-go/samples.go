// The records of compat-tests/harness/records.py: record i is a function of i, and every shape occurs.

package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// One second apart and an hour ago: explicit, but far from every retention and future-timestamp rule.
var baseMs = (time.Now().Unix() - 3600) * 1000

func sample(topic string, partition int32, i int) *kgo.Record {
	key := []byte(fmt.Sprintf("key-%d", i))
	if i%7 == 3 {
		key = nil
	}
	value := make([]byte, 10+(i*37)%2000)
	for j := range value {
		value[j] = byte(i*31 + j*7)
	}
	if i%13 == 6 {
		value = []byte{}
	}
	if i%11 == 5 {
		key, value = []byte(fmt.Sprintf("gone-%d", i)), nil
	}
	var headers []kgo.RecordHeader
	if i%2 == 0 {
		headers = []kgo.RecordHeader{
			{Key: "trace", Value: []byte(fmt.Sprintf("t-%d", i))},
			{Key: "empty", Value: []byte{}},
			{Key: "trace", Value: []byte("again")},
			{Key: "nothing", Value: nil},
		}
	}
	stamp := time.UnixMilli(baseMs + int64(i)*1000)
	return &kgo.Record{Topic: topic, Partition: partition, Key: key, Value: value, Headers: headers, Timestamp: stamp}
}

// number is a record that carries only a number, for checks in which nothing else matters.
func number(topic string, partition int32, n int) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Value: []byte(strconv.Itoa(n))}
}

// numberOf is the number that such a record carries; -1 for any other.
func numberOf(r *kgo.Record) int {
	n, err := strconv.Atoi(string(r.Value))
	if err != nil {
		return -1
	}
	return n
}

// same gives an error unless what was read is what was sent, naming the first field that differs.
func same(sent, got *kgo.Record) error {
	where := fmt.Sprintf("%s-%d@%d", got.Topic, got.Partition, got.Offset)
	switch {
	case !equal(sent.Key, got.Key):
		return fmt.Errorf("%s: key differs", where)
	case !equal(sent.Value, got.Value):
		return fmt.Errorf("%s: value differs", where)
	case sent.Timestamp.UnixMilli() != got.Timestamp.UnixMilli():
		return fmt.Errorf("%s: timestamp differs", where)
	case len(sent.Headers) != len(got.Headers):
		return fmt.Errorf("%s: %d headers, sent %d", where, len(got.Headers), len(sent.Headers))
	}
	for h, want := range sent.Headers {
		if want.Key != got.Headers[h].Key || !equal(want.Value, got.Headers[h].Value) {
			return fmt.Errorf("%s: header %d differs", where, h)
		}
	}
	return nil
}

// equal tells nil from empty, as Kafka does.
func equal(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}
