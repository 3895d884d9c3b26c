//! What may be written: the checks of kafka.md 4.3 that a client can meet, in its order, each with its exact code.
//!
//! Every refusal is checked twice: for its code, and for leaving no trace in the log.

use bytes::Bytes;
use kafka_protocol::messages::TransactionalId;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;

use crate::asks::{self, Topic, code, text};
use crate::batch::{APPEND_TIME, Batch, CONTROL, HEADER_BYTES, Record, TRANSACTIONAL};
use crate::broker::{Broker, now_ms};
use crate::client::Client;

const AN_HOUR_MS: i64 = 3_600_000;

/// A broker with a topic of one partition and these settings.
fn setup(configs: &[(&str, &str)]) -> (Broker, Client, Topic) {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, configs);
    (broker, client, topic)
}

/// Every refusal in `table`, by what is wrong; nothing of it may be stored.
fn check_refused(client: &mut Client, topic: &Topic, table: Vec<(&str, Option<Bytes>, i16)>) {
    for (what, records, expected) in table {
        for acks in [-1, 1] {
            let request = asks::produce(9, topic, acks, &[(0, records.clone())]);
            let answer = client.call(9, &request).responses[0].partition_responses[0].clone();
            assert_eq!(answer.error_code, expected, "{what}: {:?}", answer.error_message);
            assert_eq!((answer.base_offset, answer.log_append_time_ms), (-1, -1), "{what}");
        }
    }
    let end = client.offset_at(topic, 0, -1);
    assert_eq!(end, (code::NONE, 0, -1), "something was written");
    assert_eq!(client.append(topic, 0, keyed().bytes()), 0, "and the next good batch is taken");
}

/// One record with a key: what any topic takes.
fn keyed() -> Batch {
    let mut batch = Batch::of(&["v"]);
    batch.records[0].key = Some(b"k");
    batch
}

/// A good batch with another byte at one place.
fn with_byte(at: usize, value: u8) -> Bytes {
    let mut bytes = Batch::of(&["x"]).bytes().to_vec();
    bytes[at] = value;
    bytes.into()
}

/// A good batch with one bit changed after its CRC was taken.
fn with_flipped_bit(at: usize) -> Bytes {
    let mut bytes = Batch::of(&["x"]).bytes().to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

#[test]
fn acks_are_0_1_or_all() {
    let (_broker, mut client, topic) = setup(&[]);
    for version in 3..=13 {
        for acks in [2, -2, 127, i16::MIN] {
            let batch = Batch::of(&["x"]).bytes();
            let request = asks::produce(version, &topic, acks, &[(0, Some(batch.clone())), (9, Some(batch))]);
            let response = client.call(version, &request);
            let codes = response.responses[0].partition_responses.iter().map(|answer| answer.error_code);
            assert!(codes.eq([21, 21]), "v{version} acks={acks}: said of every partition");
        }
    }
    assert_eq!(client.offset_at(&topic, 0, -1).1, 0);
}

#[test]
fn there_is_exactly_one_batch_of_magic_2() {
    let (_broker, mut client, topic) = setup(&[]);
    let good = Batch::of(&["x"]).bytes();
    let two = Bytes::from([&good[..], &good[..]].concat());
    let table = vec![
        ("no records", None, code::INVALID_RECORD),
        ("empty records", Some(Bytes::new()), code::INVALID_RECORD),
        ("two batches", Some(two), code::INVALID_RECORD),
        ("half a batch", Some(good.slice(..good.len() - 1)), code::INVALID_RECORD),
        ("magic 0", Some(with_byte(16, 0)), code::INVALID_RECORD),
        ("magic 1", Some(with_byte(16, 1)), code::INVALID_RECORD),
    ];
    check_refused(&mut client, &topic, table);
}

#[test]
fn place_size_and_crc_are_right() {
    let (_broker, mut client, topic) = setup(&[("max.message.bytes", "1000")]);
    let moved = Batch { base_offset: 1, ..Batch::of(&["x"]) }.bytes();
    let mut short = with_byte(11, 20).to_vec();
    short.truncate(32);
    // The last byte but the number of headers.
    let value = Batch::of(&["x"]).bytes().len() - 2;
    let table = vec![
        ("a base offset", Some(moved), code::INVALID_RECORD),
        ("one byte too large", Some(Batch::sized(1000 - HEADER_BYTES).bytes()), code::MESSAGE_TOO_LARGE),
        ("shorter than a header", Some(short.into()), code::CORRUPT_MESSAGE),
        ("a changed value", Some(with_flipped_bit(value)), code::CORRUPT_MESSAGE),
        ("a changed timestamp", Some(with_flipped_bit(30)), code::CORRUPT_MESSAGE),
        ("a wrong CRC", Some(with_flipped_bit(17)), code::CORRUPT_MESSAGE),
    ];
    check_refused(&mut client, &topic, table);
}

#[test]
fn the_header_agrees_with_itself_and_with_the_records() {
    let (_broker, mut client, topic) = setup(&[]);
    let of = |change: fn(&mut Batch)| {
        let mut batch = Batch::of(&["x", "y"]);
        change(&mut batch);
        Some(batch.bytes())
    };
    let unreadable = |body: Vec<u8>| of_body(Batch::of(&["x", "y"]), body);
    let block = Batch::of(&["x", "y"]).block();
    let mut long = block.clone();
    long[0] = 0x7e;
    let table = vec![
        ("a negative offset delta", of(|batch| batch.last_offset_delta = Some(-1)), code::INVALID_RECORD),
        ("no records", of(|batch| batch.count = Some(0)), code::INVALID_RECORD),
        ("fewer than none", of(|batch| batch.count = Some(-3)), code::INVALID_RECORD),
        ("more offsets than records", of(|batch| batch.last_offset_delta = Some(2)), code::INVALID_RECORD),
        ("a control batch", of(|batch| batch.attributes = CONTROL), code::INVALID_RECORD),
        ("a producer without a sequence", of(|batch| batch.producer_id = 7), code::INVALID_RECORD),
        ("records cut short", unreadable(block[..block.len() - 1].to_vec()), code::INVALID_RECORD),
        ("bytes left over", unreadable([&block[..], &[0]].concat()), code::INVALID_RECORD),
        ("a record longer than the rest", unreadable(long), code::INVALID_RECORD),
        ("one record for two", unreadable(Batch::of(&["x"]).block()), code::INVALID_RECORD),
        ("noise for a gzip block", of(|batch| batch.body = Some(vec![7; 40])).and_then(gzipped), code::INVALID_RECORD),
        ("a codec nobody knows", of(|batch| batch.attributes = 7), 76),
    ];
    check_refused(&mut client, &topic, table);
}

fn of_body(batch: Batch, body: Vec<u8>) -> Option<Bytes> {
    Some(Batch { body: Some(body), ..batch }.bytes())
}

/// The same batch said to be compressed, with a CRC that is right.
fn gzipped(bytes: Bytes) -> Option<Bytes> {
    of_body(Batch { attributes: 1, ..Batch::of(&["x", "y"]) }, bytes[HEADER_BYTES..].to_vec())
}

#[test]
fn zstd_is_known_from_version_7_on() {
    let (_broker, mut client, topic) = setup(&[]);
    let batch = Batch { attributes: 4, ..Batch::of(&["x"]) }.bytes();
    for version in 3..=13 {
        let request = asks::produce(version, &topic, -1, &[(0, Some(batch.clone()))]);
        let answer = client.call(version, &request).responses[0].partition_responses[0].error_code;
        assert_eq!(answer, if version < 7 { 76 } else { code::NONE }, "v{version}");
    }
}

/// Indexes of the records at fault, all of which have a message.
fn faults(answer: &PartitionProduceResponse) -> Vec<i32> {
    let errors = answer.record_errors.iter();
    errors.inspect(|error| assert!(error.batch_index_error_message.is_some())).map(|error| error.batch_index).collect()
}

#[test]
fn records_of_a_compacted_topic_have_keys() {
    let (_broker, mut client, topic) = setup(&[("cleanup.policy", "compact")]);
    let mut batch = Batch::of(&["a", "b", "c"]);
    batch.records[1].key = Some(b"k");
    for version in 3..=12 {
        let request = asks::produce(version, &topic, -1, &[(0, Some(batch.bytes()))]);
        let answer = client.call(version, &request).responses[0].partition_responses[0].clone();
        assert_eq!(answer.error_code, code::INVALID_RECORD);
        let told: &[i32] = if version >= 8 { &[0, 2] } else { &[] };
        assert_eq!((faults(&answer), answer.error_message.is_some()), (told.to_vec(), version >= 8), "v{version}");
    }
    check_refused(&mut client, &topic, vec![("one key is not enough", Some(batch.bytes()), code::INVALID_RECORD)]);
}

#[test]
fn timestamps_lie_within_the_topics_bounds() {
    let bounds = [("message.timestamp.before.max.ms", "3600000"), ("message.timestamp.after.max.ms", "3600000")];
    let (_broker, mut client, topic) = setup(&bounds);
    for (offset_ms, is_good) in [(-2 * AN_HOUR_MS, false), (2 * AN_HOUR_MS, false), (-AN_HOUR_MS / 2, true)] {
        let mut batch = Batch::of(&["now", "then", "now"]);
        batch.records[1].timestamp_delta = offset_ms;
        let answer = client.produce(&topic, 0, batch.bytes());
        let expected = if is_good { (code::NONE, vec![]) } else { (code::INVALID_TIMESTAMP, vec![1]) };
        assert_eq!((answer.error_code, faults(&answer)), expected, "{offset_ms} ms from now");
    }
    let timeless = client.produce(&topic, 0, Batch::at(-1, &["no timestamp"]).bytes());
    assert_eq!(timeless.error_code, code::NONE, "-1 stands for none and is always taken");
}

#[test]
fn a_producer_does_not_claim_the_brokers_append_time() {
    let (_broker, mut client, topic) = setup(&[("message.timestamp.type", "LogAppendTime")]);
    let claiming = Batch { attributes: APPEND_TIME, ..Batch::at(now_ms(), &["x"]) }.bytes();
    check_refused(&mut client, &topic, vec![("append time", Some(claiming), code::INVALID_TIMESTAMP)]);
}

#[test]
fn a_batch_fits_a_segment() {
    let (_broker, mut client, topic) = setup(&[("segment.bytes", "1048576"), ("max.message.bytes", "2000000")]);
    let large = Batch::sized(1 << 20).bytes();
    check_refused(&mut client, &topic, vec![("larger than a segment", Some(large), 18)]);
}

#[test]
fn transactional_batches_need_a_transaction() {
    let (_broker, mut client, topic) = setup(&[]);
    let batch = Batch { attributes: TRANSACTIONAL, ..Batch::of(&["x"]).from(7, 0, 0) }.bytes();
    for version in 3..=13 {
        let nameless = asks::produce(version, &topic, -1, &[(0, Some(batch.clone()))]);
        let named = nameless.clone().with_transactional_id(Some(TransactionalId(text("txn"))));
        for (request, expected) in [(nameless, 53), (named, code::INVALID_TXN_STATE)] {
            let answer = client.call(version, &request).responses[0].partition_responses[0].clone();
            assert_eq!((answer.error_code, answer.base_offset), (expected, -1), "v{version}");
        }
    }
    assert_eq!(client.offset_at(&topic, 0, -1).1, 0);
}

#[test]
fn internal_topics_take_nothing_from_clients() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.coordinator("group");
    let id = client.describe("__consumer_offsets").topic_id;
    let internal = Topic { name: "__consumer_offsets".to_owned(), id };
    let keyless = Batch::of(&["x"]).bytes();
    for version in 3..=13 {
        let request = asks::produce(version, &internal, -1, &[(0, Some(keyless.clone()))]);
        let refused = client.call(version, &request).responses[0].partition_responses[0].error_code;
        assert_eq!(refused, code::INVALID_TOPIC, "v{version}");
        // The administrator gets past this check; the topic is compacted, so a batch without keys ends at the next.
        let mut admin = broker.client().called(Some("__admin_client"));
        let refused = admin.call(version, &request).responses[0].partition_responses[0].error_code;
        assert_eq!(refused, code::INVALID_RECORD, "v{version}");
    }
}

#[test]
fn every_shape_of_a_record_is_taken() {
    let (_broker, mut client, topic) = setup(&[]);
    let mut batch = Batch::of(&[]);
    batch.records = vec![
        Record::default(),
        Record { key: Some(b""), value: Some(Vec::new()), ..Record::default() },
        Record { key: Some(b"k"), timestamp_delta: -5, ..Record::default() },
        Record { headers: vec![("a", None), ("a", Some(b"")), ("\u{e9}", Some(b"v"))], ..Record::default() },
        Record { value: Some(vec![0xff; 100_000]), timestamp_delta: 7, ..Record::default() },
    ];
    assert_eq!(client.append(&topic, 0, batch.bytes()), 0);
    assert_eq!(client.offset_at(&topic, 0, -1).1, 5);
    let stored = client.fetch(&topic, 0, 0).records.expect("records");
    assert_eq!(crate::batch::as_sent(&stored), batch.bytes());
}
