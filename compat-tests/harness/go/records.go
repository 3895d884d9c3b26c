// The records of harness/records.py: record i is a function of i, and every shape occurs.

package harness

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// One second apart and an hour ago: explicit, but far from every retention and future-timestamp rule.
var baseMs = (time.Now().Unix() - 3600) * 1000

// Header is a name with bytes; no bytes at all (nil) is something else than none (empty).
type Header struct {
	Key   string
	Value []byte
}

// Record is what a producer decides about a record.
type Record struct {
	Key, Value  []byte
	Headers     []Header
	TimestampMs int64
}

// Place is where a record lies.
type Place struct {
	Partition int32
	Offset    int64
}

// Received is a record as a consumer sees it.
type Received struct {
	Place
	Record
}

func sample(i int) Record {
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
	var headers []Header
	if i%2 == 0 {
		headers = []Header{
			{"trace", []byte(fmt.Sprintf("t-%d", i))}, {"empty", []byte{}}, {"trace", []byte("again")}, {"nothing", nil},
		}
	}
	return Record{key, value, headers, baseMs + int64(i)*1000}
}

// number is a record that carries only a number, for checks in which nothing else matters.
func number(n int) Record {
	return Record{Value: []byte(strconv.Itoa(n)), TimestampMs: baseMs}
}

// numberOf is the number that such a record carries; -1 for any other.
func numberOf(r Record) int {
	n, err := strconv.Atoi(string(r.Value))
	if err != nil {
		return -1
	}
	return n
}

// same gives an error unless what was read is what was sent, naming the first field that differs. `equal` compares
// bytes.
func same(sent Record, got Received, equal func(a, b []byte) bool) error {
	where := fmt.Sprintf("partition %d, offset %d", got.Partition, got.Offset)
	switch {
	case !equal(sent.Key, got.Key):
		return fmt.Errorf("%s: key differs", where)
	case !equal(sent.Value, got.Value):
		return fmt.Errorf("%s: value differs", where)
	case sent.TimestampMs != got.TimestampMs:
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

// exact tells nil from empty, as Kafka does.
func exact(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}
