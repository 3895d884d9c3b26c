//! Compacted topics: what is superseded goes, what stays keeps its place, and every read copes with the gaps.
//!
//! Records carry times far apart, so that each batch rolls the segment before it: what a test appends last is the
//! active segment and stays.

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{DeleteGroupsRequest, OffsetCommitRequest};
use ottla::records;

use crate::asks::{self, Topic, code, group_id};
use crate::batch::{Batch, CODECS, Record, attributes_and_max_timestamp, base_offset, batches, crc_is_right};
use crate::broker::{Broker, now_ms};
use crate::client::Client;

/// Between two batches; more than `segment.ms`.
const STEP_MS: i64 = 10_000;
const DELETE_HORIZON: i16 = 1 << 6;
const COMPACTED: &[(&str, &str)] =
    &[("cleanup.policy", "compact"), ("segment.ms", "1000"), ("min.cleanable.dirty.ratio", "0")];

fn broker(settings: &[(&str, &str)]) -> Broker {
    let settings: Vec<_> = [("log.cleaner.backoff.ms", "5")].into_iter().chain(settings.iter().copied()).collect();
    Broker::with(&settings)
}

fn keyed(at_ms: i64, records: &[(&'static str, Option<&str>)]) -> Batch {
    let record = |(key, value): &(&'static str, Option<&str>)| Record {
        key: Some(key.as_bytes()),
        value: value.map(|value| value.as_bytes().to_vec()),
        headers: vec![("h", Some(b"x"))],
        ..Record::default()
    };
    Batch { records: records.iter().map(record).collect(), ..Batch::at(at_ms, &[]) }
}

/// Offset, key and value of every record from `from` on.
type Found = Vec<(i64, String, Option<String>)>;

fn read(client: &mut Client, topic: &Topic, from: i64) -> Found {
    let mut found = Vec::new();
    for batch in batches(&client.fetch(topic, 0, from).records.unwrap_or_default()) {
        assert!(crc_is_right(&batch));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for record in records::records(&batch).expect("records that can be read") {
            let offset = base_offset(&batch) + i64::from(record.offset_delta);
            let key = text(&record.key.unwrap_or_default());
            found.push((offset, key, record.value.as_deref().map(text)));
        }
    }
    found
}

/// Reads until `done` of what is there.
fn read_until(client: &mut Client, topic: &Topic, done: impl Fn(&Found) -> bool) -> Found {
    loop {
        let found = read(client, topic, 0);
        if done(&found) {
            return found;
        }
    }
}

fn offsets(found: &Found) -> Vec<i64> {
    found.iter().map(|record| record.0).collect()
}

#[test]
fn the_last_record_of_each_key_stays_in_its_place() {
    let broker = broker(&[]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, COMPACTED);
    let start = now_ms() - 1_000_000;
    let mut at = start;
    for (codec, name) in CODECS {
        let batch = keyed(at, &[("a", Some(name)), ("b", Some(name)), (name, Some("once"))]);
        client.append(&topic, 0, Batch { attributes: codec, ..batch }.bytes());
        at += STEP_MS;
    }
    // a and b last in the zstd batch, at 12 and 13.
    client.append(&topic, 0, keyed(at, &[("end", Some("x"))]).bytes());
    let found = read_until(&mut client, &topic, |found| found.len() == 8);
    assert_eq!(offsets(&found), [2, 5, 8, 11, 12, 13, 14, 15]);
    for (index, (codec, name)) in CODECS.into_iter().enumerate() {
        let batch = &batches(&client.fetch(&topic, 0, 3 * index as i64).records.expect("records"))[0];
        let (attributes, max_timestamp) = attributes_and_max_timestamp(batch);
        assert_eq!((attributes & 7, max_timestamp), (codec, start + index as i64 * STEP_MS), "{name}");
        assert_eq!(base_offset(batch), 3 * index as i64, "a batch keeps its base offset");
        let once = (3 * index as i64 + 2, name.to_owned(), Some("once".to_owned()));
        assert!(found.contains(&once), "{name}");
        assert_eq!(read(&mut client, &topic, once.0)[usize::from(index == 4) * 2], once, "{name}");
    }
    assert_eq!((client.offset_at(&topic, 0, -2).1, client.offset_at(&topic, 0, -1).1), (0, 16));
    assert_eq!(client.offset_at(&topic, 0, start), (code::NONE, 2, start));
    assert_eq!(client.offset_at(&topic, 0, start + 1), (code::NONE, 5, start + STEP_MS));
    assert_eq!(client.offset_at(&topic, 0, -3), (code::NONE, 15, at));
    assert_eq!(client.append(&topic, 0, keyed(at, &[("end", Some("y"))]).bytes()), 16, "offsets go on");
}

#[test]
fn tombstones_get_a_horizon_and_go_after_it() {
    let broker = broker(&[]);
    let mut client = broker.client();
    let patient = client.topic("patient", 1, COMPACTED);
    let prompt: Vec<_> = COMPACTED.iter().copied().chain([("delete.retention.ms", "0")]).collect();
    let prompt = client.topic("prompt", 1, &prompt);
    let mut at = now_ms() - 1_000_000;
    for topic in [&patient, &prompt] {
        client.append(topic, 0, keyed(at, &[("a", Some("1")), ("b", Some("1"))]).bytes());
        client.append(topic, 0, keyed(at + STEP_MS, &[("a", None)]).bytes());
        client.append(topic, 0, keyed(at + 2 * STEP_MS, &[("end", Some("1"))]).bytes());
    }
    let found = read_until(&mut client, &patient, |found| found.len() == 3);
    assert_eq!(offsets(&found), [1, 2, 3]);
    assert_eq!(found[1], (2, "a".to_owned(), None));
    // A pass goes from chunk to chunk, and its end is not known here.
    let stamped = loop {
        let stamped = &batches(&client.fetch(&patient, 0, 2).records.expect("records"))[0];
        match attributes_and_max_timestamp(stamped) {
            (0, _) => {}
            stamped => break stamped,
        }
    };
    assert_eq!(stamped, (DELETE_HORIZON, at + STEP_MS), "its time is as it was");
    at += 3 * STEP_MS;
    client.append(&prompt, 0, keyed(at, &[("end", Some("2"))]).bytes());
    // The next pass comes with the next dirt; which pass has stamped the tombstone is not known here.
    client.append(&prompt, 0, keyed(at + STEP_MS, &[("end", Some("3"))]).bytes());
    client.append(&prompt, 0, keyed(at + 2 * STEP_MS, &[("end", Some("4"))]).bytes());
    let mut more = 3;
    loop {
        let found = read(&mut client, &prompt, 0);
        if found.iter().all(|record| record.1 != "a") {
            assert_eq!(found[0], (1, "b".to_owned(), Some("1".to_owned())));
            break;
        }
        client.append(&prompt, 0, keyed(at + more * STEP_MS, &[("end", Some("5"))]).bytes());
        more += 1;
    }
}

#[test]
fn a_producer_goes_on_after_its_records_went() {
    let broker = broker(&[]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, COMPACTED);
    let producer = client.producer_id();
    let at = now_ms() - 1_000_000;
    for sequence in 0..3 {
        let batch = keyed(at + i64::from(sequence) * STEP_MS, &[("a", Some("1"))]).from(producer, 0, sequence);
        client.append(&topic, 0, batch.bytes());
    }
    client.append(&topic, 0, keyed(at + 5 * STEP_MS, &[("a", Some("2"))]).bytes());
    client.append(&topic, 0, keyed(at + 6 * STEP_MS, &[("end", Some("1"))]).bytes());
    let found = read_until(&mut client, &topic, |found| found.len() == 2);
    assert_eq!(offsets(&found), [3, 4]);
    let held = batches(&client.fetch(&topic, 0, 0).records.expect("records"));
    assert_eq!(held.iter().map(|batch| base_offset(batch)).collect::<Vec<_>>(), [2, 3, 4], "2 is an empty batch");
    let again = keyed(at + 2 * STEP_MS, &[("a", Some("1"))]).from(producer, 0, 2);
    assert_eq!(client.append(&topic, 0, again.bytes()), 2, "a repetition is answered with the offset it had");
    let next = keyed(at + 7 * STEP_MS, &[("a", Some("3"))]).from(producer, 0, 3);
    assert_eq!(client.append(&topic, 0, next.bytes()), 5);
}

#[test]
fn only_compacted_topics_are_compacted_and_the_policy_can_change() {
    let broker = broker(&[("log.cleaner.min.cleanable.ratio", "0"), ("log.roll.ms", "1000")]);
    let mut client = broker.client();
    let at = now_ms() - 1_000_000;
    let kept = client.topic("kept", 1, &[]);
    let both = client.topic("both", 1, &[("cleanup.policy", "compact,delete")]);
    for topic in [&kept, &both] {
        for step in 0..4 {
            client.append(topic, 0, keyed(at + step * STEP_MS, &[("a", Some("1"))]).bytes());
        }
    }
    read_until(&mut client, &both, |found| offsets(found) == [2, 3]);
    assert_eq!(offsets(&read(&mut client, &kept, 0)), [0, 1, 2, 3]);
    let alter = kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig::default()
        .with_name(asks::text("cleanup.policy"))
        .with_value(Some(asks::text("compact")));
    let resource = kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(asks::text("kept"))
        .with_configs(vec![alter]);
    let request = kafka_protocol::messages::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(client.call(1, &request).responses[0].error_code, code::NONE);
    read_until(&mut client, &kept, |found| offsets(found) == [2, 3]);
}

#[test]
fn the_topic_of_the_groups_is_compacted() {
    let broker = broker(&[
        ("log.roll.ms", "1"),
        ("log.cleaner.min.cleanable.ratio", "0"),
        ("log.cleaner.delete.retention.ms", "0"),
    ]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    client.coordinator("gone");
    let offsets_topic =
        Topic { name: "__consumer_offsets".to_owned(), id: client.describe("__consumer_offsets").topic_id };
    let commit = |client: &mut Client, group: &str, offset| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default().with_name(topic.wire()).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default().with_group_id(group_id(group)).with_topics(vec![topic]);
        assert_eq!(client.call(8, &request).topics[0].partitions[0].error_code, code::NONE);
    };
    commit(&mut client, "gone", 7);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group_id("gone")]);
    assert_eq!(client.call(2, &delete).results[0].error_code, code::NONE);
    let mut offset = 0;
    let of_gone = |found: &Found| found.iter().filter(|record| record.1.contains("gone")).count();
    // Commits roll segments as the clock goes on; the tombstones of the deleted group go with the second pass.
    loop {
        commit(&mut client, "stays", offset);
        offset += 1;
        let found = read(&mut client, &offsets_topic, 0);
        if of_gone(&found) == 0 && offset > 20 && found.len() < 5 {
            let last = found.iter().rfind(|record| record.1.contains("stays")).expect("the last commit");
            assert!(last.2.is_some());
            break;
        }
    }
}
