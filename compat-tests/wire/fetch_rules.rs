//! What is read: the bytes that were written, how many of them, and when.

use bytes::Bytes;
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse};

use crate::asks::{self, FETCH, Topic, code, only_partition};
use crate::batch::{
    APPEND_TIME, Batch, CODECS, as_sent, attributes_and_max_timestamp, base_offset, batches, crc_is_right,
};
use crate::broker::{Broker, now_ms};
use crate::client::Client;
use crate::versions::alter;

/// How long a fetch is willing to wait: longer than any test.
const TEN_MINUTES_MS: i32 = 600_000;

fn setup(partitions: i32, configs: &[(&str, &str)]) -> (Broker, Client, Topic) {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", partitions, configs);
    (broker, client, topic)
}

/// The batches from the start of partition 0.
fn stored(client: &mut Client, topic: &Topic) -> Vec<Bytes> {
    batches(&client.fetch(topic, 0, 0).records.expect("records"))
}

#[test]
fn every_codec_passes_through_byte_for_byte() {
    let (broker, mut client, topic) = setup(1, &[]);
    let values: Vec<String> = (0..100).map(|index| format!("value {index} of a batch that compresses well")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let mut sent = Vec::new();
    for (codec, name) in CODECS {
        let batch = Batch { attributes: codec, ..Batch::of(&values) }.bytes();
        assert_eq!(client.append(&topic, 0, batch.clone()), 100 * sent.len() as i64, "{name}");
        sent.push(batch);
    }
    let epoch = client.describe("t").partitions[0].leader_epoch;
    let found = stored(&mut client, &topic);
    assert_eq!(found.len(), sent.len());
    for ((batch, found), (index, (_, name))) in sent.iter().zip(&found).zip(CODECS.iter().enumerate()) {
        assert_eq!(as_sent(found), batch, "{name}");
        assert_eq!((base_offset(found), found[12..16].to_vec()), (100 * index as i64, epoch.to_be_bytes().to_vec()));
        assert!(crc_is_right(found), "{name}");
    }
    // An offset inside a compressed batch is found by its timestamp, which means that the block was read.
    assert_eq!(client.offset_at(&topic, 0, -3).0, code::NONE);
    assert_eq!(broker.client().offset_at(&topic, 0, -1).1, 500);
}

#[test]
fn a_topic_may_ask_for_a_codec_of_its_own() {
    let (_broker, mut client, topic) = setup(1, &[("compression.type", "gzip")]);
    for (codec, _) in CODECS {
        client.append(&topic, 0, Batch { attributes: codec, ..Batch::of(&["x"; 50]) }.bytes());
    }
    let found = stored(&mut client, &topic);
    assert_eq!(found.len(), CODECS.len());
    for batch in &found {
        assert_eq!(attributes_and_max_timestamp(batch).0 & 7, 1);
        assert!(crc_is_right(batch));
    }
}

#[test]
fn append_time_is_the_brokers() {
    let (_broker, mut client, topic) = setup(1, &[("message.timestamp.type", "LogAppendTime")]);
    let before = now_ms();
    let answer = client.produce(&topic, 0, Batch::at(1_000, &["a", "b"]).bytes());
    let after = now_ms();
    assert_eq!((answer.error_code, answer.base_offset), (code::NONE, 0));
    let appended = answer.log_append_time_ms;
    assert!((before..=after).contains(&appended), "{before} <= {appended} <= {after}");
    let found = stored(&mut client, &topic);
    assert_eq!(attributes_and_max_timestamp(&found[0]), (APPEND_TIME, appended));
    assert!(crc_is_right(&found[0]));
    assert_eq!(client.offset_at(&topic, 0, appended), (code::NONE, 0, appended), "it counts for every record");
    assert_eq!(client.offset_at(&topic, 0, -3), (code::NONE, 0, appended));
}

#[test]
fn a_header_that_is_wrong_about_time_is_put_right() {
    let (_broker, mut client, topic) = setup(1, &[]);
    let now = now_ms();
    let wrong = Batch { max_timestamp: Some(now + 50), ..Batch::at(now, &["a", "b"]) };
    client.append(&topic, 0, wrong.bytes());
    let found = stored(&mut client, &topic);
    assert_eq!(attributes_and_max_timestamp(&found[0]), (0, now + 1));
    assert!(crc_is_right(&found[0]));
}

#[test]
fn the_size_limit_of_a_topic_can_change() {
    let (broker, mut client, topic) = setup(1, &[]);
    let node = broker.node().to_string();
    let batch = |bytes: usize| {
        let mut sizes = (bytes - 100..bytes).map(|value_bytes| Batch::sized(value_bytes).bytes());
        sizes.find(|batch| batch.len() == bytes).expect("a batch of that size")
    };
    let mut is_taken = |bytes: usize| match client.produce(&topic, 0, batch(bytes)).error_code {
        code::NONE => true,
        refused => {
            assert_eq!(refused, code::MESSAGE_TOO_LARGE);
            false
        }
    };
    // The default, then what the topic says, then what the broker says of all topics.
    assert_eq!((is_taken(1_048_588), is_taken(1_048_589)), (true, false));
    let mut admin = broker.client();
    assert_eq!(alter(&mut admin, 1, (2, "t"), &[("max.message.bytes", 0, Some("2000"))], false), code::NONE);
    assert_eq!((is_taken(2_000), is_taken(2_001)), (true, false));
    assert_eq!(alter(&mut admin, 1, (2, "t"), &[("max.message.bytes", 1, None)], false), code::NONE);
    assert_eq!(alter(&mut admin, 1, (4, &node), &[("message.max.bytes", 0, Some("3000"))], false), code::NONE);
    assert_eq!((is_taken(3_000), is_taken(3_001)), (true, false));
}

/// A fetch that waits until `bytes` are there.
fn waiting(topic: &Topic, offset: i64, bytes: i32) -> FetchRequest {
    asks::fetch(FETCH, topic, &[(0, offset)]).with_min_bytes(bytes).with_max_wait_ms(TEN_MINUTES_MS)
}

/// Waits until the broker has handled `count` fetches: those that find nothing are waiting by then, or are about to.
fn await_fetches(broker: &Broker, count: u64) {
    while broker.services().api_stats.read(1).requests < count {
        std::thread::yield_now();
    }
}

#[test]
fn a_long_poll_ends_with_the_record_it_waits_for() {
    let (broker, mut client, topic) = setup(1, &[]);
    for round in 0..20 {
        let mut poll = broker.client();
        poll.send(FETCH, &waiting(&topic, round, 1));
        await_fetches(&broker, round as u64 + 1);
        assert_eq!(client.append(&topic, 0, Batch::of(&["x"]).bytes()), round);
        let response = poll.receive::<FetchRequest>();
        let part = only_partition(&response);
        let found = batches(part.records.as_ref().expect("records"));
        assert_eq!((part.high_watermark, found.len(), base_offset(&found[0])), (round + 1, 1, round));
    }
}

#[test]
fn a_long_poll_ends_when_there_are_enough_bytes() {
    let (broker, mut client, topic) = setup(1, &[]);
    let batch = Batch::of(&["x"]).bytes();
    let mut poll = broker.client();
    poll.send(FETCH, &waiting(&topic, 0, 3 * batch.len() as i32));
    await_fetches(&broker, 1);
    for _ in 0..3 {
        client.append(&topic, 0, batch.clone());
    }
    let response = poll.receive::<FetchRequest>();
    assert_eq!(batches(only_partition(&response).records.as_ref().expect("records")).len(), 3, "not before the third");
}

#[test]
fn a_long_poll_ends_empty_when_its_time_is_over() {
    let (_broker, mut client, topic) = setup(1, &[]);
    let response = client.call(FETCH, &waiting(&topic, 0, 1).with_max_wait_ms(20));
    let part = only_partition(&response);
    assert_eq!((part.error_code, part.high_watermark), (code::NONE, 0));
    assert!(part.records.as_ref().is_none_or(|records| records.is_empty()));
    client.append(&topic, 0, Batch::of(&["x"]).bytes());
    let response = client.call(FETCH, &waiting(&topic, 0, 100_000).with_max_wait_ms(20));
    assert_eq!(batches(only_partition(&response).records.as_ref().expect("records")).len(), 1, "what there is");
}

#[test]
fn a_long_poll_ends_when_its_topic_is_deleted() {
    let (broker, mut client, topic) = setup(1, &[]);
    let mut poll = broker.client();
    poll.send(FETCH, &waiting(&topic, 0, 1));
    await_fetches(&broker, 1);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic.wire()]).with_timeout_ms(30_000);
    assert_eq!(client.call(5, &delete).responses[0].error_code, code::NONE);
    let response = poll.receive::<FetchRequest>();
    assert_eq!(only_partition(&response).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn an_error_in_one_partition_answers_at_once() {
    let (_broker, mut client, topic) = setup(1, &[]);
    let request = asks::fetch(FETCH, &topic, &[(0, 0), (7, 0)]).with_min_bytes(1).with_max_wait_ms(TEN_MINUTES_MS);
    let response = client.call(FETCH, &request);
    let codes = response.responses[0].partitions.iter().map(|part| part.error_code);
    assert!(codes.eq([code::NONE, code::UNKNOWN_TOPIC_OR_PARTITION]));
}

/// Batches per partition of an answer, by their base offsets.
fn offsets(response: &FetchResponse) -> Vec<(i32, Vec<i64>)> {
    let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
    let of = |records: &Bytes| batches(records).iter().map(|batch| base_offset(batch)).collect();
    parts.map(|part| (part.partition_index, part.records.as_ref().map(of).unwrap_or_default())).collect()
}

#[test]
fn the_first_batch_comes_whole_and_the_limits_hold_after_it() {
    let (broker, mut client, topic) = setup(3, &[]);
    let batch = Batch::of(&["x"]).bytes();
    let size = batch.len() as i32;
    for partition in [1, 2] {
        for _ in 0..4 {
            client.append(&topic, partition, batch.clone());
        }
    }
    let wanted = [(0, 0), (1, 1), (2, 0)];
    // Limit of the request, limit of each partition, batches of partitions 1 and 2.
    let all = || vec![1, 2, 3];
    let table = [
        (i32::MAX, i32::MAX, all(), vec![0, 1, 2, 3]),
        (1, i32::MAX, vec![1], vec![]),
        (0, i32::MAX, vec![1], vec![]),
        (i32::MAX, 1, vec![1], vec![]),
        (2 * size, i32::MAX, vec![1, 2], vec![]),
        (4 * size, i32::MAX, all(), vec![0]),
        (5 * size - 1, i32::MAX, all(), vec![0]),
        (i32::MAX, 2 * size, vec![1, 2], vec![0, 1]),
    ];
    for (bytes_max, partition_bytes_max, of_first, of_second) in table {
        for version in [4, 11, 12, 13, 18] {
            let mut request = asks::fetch(version, &topic, &wanted).with_max_bytes(bytes_max);
            for partition in &mut request.topics[0].partitions {
                partition.partition_max_bytes = partition_bytes_max;
            }
            let expected = vec![(0, vec![]), (1, of_first.clone()), (2, of_second.clone())];
            let seen = offsets(&client.call(version, &request));
            assert_eq!(seen, expected, "v{version} {bytes_max} {partition_bytes_max}");
        }
    }
    assert_eq!(broker.client().fetch(&topic, 0, 0).high_watermark, 0);
}

#[test]
fn the_brokers_own_limit_holds_too() {
    let broker = Broker::with(&[("fetch.max.bytes", "1024")]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    for _ in 0..4 {
        client.append(&topic, 0, Batch::sized(400).bytes());
    }
    let response = client.call(FETCH, &asks::fetch(FETCH, &topic, &[(0, 0)]));
    assert_eq!(offsets(&response), [(0, vec![0, 1])]);
    client.append(&topic, 0, Batch::sized(4_000).bytes());
    let response = client.call(FETCH, &asks::fetch(FETCH, &topic, &[(0, 4)]));
    assert_eq!(offsets(&response), [(0, vec![4])], "a batch above the limit is not stuck");
}

#[test]
fn old_records_are_read_from_disk_like_new_ones_from_memory() {
    let broker = Broker::with(&[("ottla.tail.cache.bytes", "0")]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let sent: Vec<Bytes> = (0..10).map(|size| Batch::sized(10 + 100 * size).bytes()).collect();
    for batch in &sent {
        client.append(&topic, 0, batch.clone());
    }
    assert!(stored(&mut client, &topic).iter().map(|batch| as_sent(batch)).eq(sent.iter().cloned()));
    let limited = asks::fetch(FETCH, &topic, &[(0, 3)]).with_max_bytes(sent[3].len() as i32 + 1);
    assert_eq!(offsets(&client.call(FETCH, &limited)), [(0, vec![3])]);
    let mut poll = broker.client();
    poll.send(FETCH, &waiting(&topic, 10, 1));
    assert_eq!(client.append(&topic, 0, sent[0].clone()), 10);
    assert_eq!(offsets(&poll.receive::<FetchRequest>()), [(0, vec![10])]);
}
