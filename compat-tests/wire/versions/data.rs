//! Cases of the APIs that write and read records.

use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    InitProducerIdRequest, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProducerId, TransactionalId,
};

use super::Lab;
use crate::asks::{self, Topic, code, only_partition, text};
use crate::batch::{Batch, as_sent, base_offset, batches};
use crate::broker::now_ms;

/// Produce 0: what any version writes, every version of Fetch reads, byte for byte.
pub fn produce(lab: &mut Lab, version: i16) {
    let topic = lab.topic(2);
    let batch = Batch::of(&["one", "two"]).bytes();
    for (round, acks) in [-1, 1].into_iter().enumerate() {
        let request = asks::produce(version, &topic, acks, &[(1, Some(batch.clone()))]);
        let response = lab.client.call(version, &request);
        assert_eq!(response.throttle_time_ms, 0);
        let answered = &response.responses[0];
        if version >= 13 {
            assert_eq!(answered.topic_id, topic.id);
        } else {
            assert_eq!(answered.name, topic.wire());
        }
        let answer = &answered.partition_responses[0];
        assert_eq!((answer.index, answer.error_code), (1, code::NONE));
        assert_eq!((answer.base_offset, answer.log_append_time_ms), (2 * round as i64, -1));
        assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
        assert_eq!((answer.record_errors.len(), answer.error_message.as_ref()), (0, None));
        assert_eq!(answer.current_leader.leader_id.0, -1);
    }
    for reader in 4..=18 {
        let response = lab.client.call(reader, &asks::fetch(reader, &topic, &[(1, 0)]));
        let found = batches(only_partition(&response).records.as_ref().expect("records"));
        assert!(found.iter().map(|batch| base_offset(batch)).eq([0, 2]), "Produce v{version}, Fetch v{reader}");
        assert!(found.iter().all(|found| as_sent(found) == batch), "Produce v{version}, Fetch v{reader}");
    }
    let unknown = asks::produce(version, &Topic::unknown(), -1, &[(0, Some(batch.clone()))]);
    let refused = lab.client.call(version, &unknown).responses[0].partition_responses[0].clone();
    let expected = if version >= 13 { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
    assert_eq!((refused.error_code, refused.base_offset), (expected, -1));
    let both = [(0, Some(batch.clone())), (2, Some(batch))];
    let response = lab.client.call(version, &asks::produce(version, &topic, -1, &both));
    let codes = response.responses[0].partition_responses.iter().map(|part| (part.index, part.error_code));
    assert!(codes.eq([(0, code::NONE), (2, code::UNKNOWN_TOPIC_OR_PARTITION)]), "one refusal is not the other's");
}

/// Fetch 1: fields by version, both isolation levels, and the errors of one partition beside the data of another.
pub fn fetch(lab: &mut Lab, version: i16) {
    let topic = lab.topic(2);
    let batch = Batch::of(&["a", "b", "c"]).bytes();
    lab.client.append(&topic, 0, batch.clone());
    lab.client.append(&topic, 0, batch.clone());
    for isolation in [0, 1] {
        let request = asks::fetch(version, &topic, &[(0, 4), (1, 0), (7, 0)]).with_isolation_level(isolation);
        let response = lab.client.call(version, &request);
        assert_eq!((response.throttle_time_ms, response.error_code, response.session_id), (0, code::NONE, 0));
        assert_eq!(response.responses.len(), 1);
        let answered = &response.responses[0];
        if version >= 13 {
            assert_eq!(answered.topic_id, topic.id);
        } else {
            assert_eq!(answered.topic, topic.wire());
        }
        let [full, empty, missing] = &answered.partitions[..] else { panic!("three partitions") };
        assert_eq!((full.partition_index, full.error_code), (0, code::NONE));
        assert_eq!((full.high_watermark, full.last_stable_offset), (6, 6));
        assert_eq!(full.log_start_offset, if version >= 5 { 0 } else { -1 });
        assert_eq!(full.preferred_read_replica.0, -1);
        let aborted = full.aborted_transactions.as_ref().map(Vec::len);
        assert_eq!(aborted, if isolation == 1 { Some(0) } else { None }, "null unless read_committed");
        let found = batches(full.records.as_ref().expect("records"));
        assert_eq!(found.len(), 1, "from the batch that holds the offset");
        assert_eq!((base_offset(&found[0]), as_sent(&found[0])), (3, batch.clone()));
        assert_eq!((empty.error_code, empty.high_watermark), (code::NONE, 0));
        assert!(empty.records.as_ref().is_none_or(|records| records.is_empty()));
        assert_eq!(missing.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!((missing.high_watermark, missing.last_stable_offset), (-1, -1));
    }
    let beyond = lab.client.call(version, &asks::fetch(version, &topic, &[(0, 7)]));
    assert_eq!(only_partition(&beyond).error_code, code::OFFSET_OUT_OF_RANGE);
    let unknown = lab.client.call(version, &asks::fetch(version, &Topic::unknown(), &[(0, 0)]));
    let expected = if version >= 13 { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
    assert_eq!(only_partition(&unknown).error_code, expected);
    let epoch = lab.client.describe(&topic.name).partitions[0].leader_epoch;
    for (known, expected) in [(epoch, code::NONE), (epoch + 1, code::UNKNOWN_LEADER_EPOCH)] {
        let mut request = asks::fetch(version, &topic, &[(0, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = known;
        let response = lab.client.call(version, &request);
        let expected = if version >= 9 { expected } else { code::NONE };
        assert_eq!(only_partition(&response).error_code, expected, "leader epoch {known}");
    }
    if version >= 12 {
        let mut request = asks::fetch(version, &topic, &[(0, 6)]);
        request.topics[0].partitions[0].last_fetched_epoch = epoch;
        let response = lab.client.call(version, &request);
        assert_eq!(only_partition(&response).diverging_epoch.end_offset, -1, "nothing diverges");
    }
}

/// ListOffsets 2: every special timestamp from the version on that knows it, 35 before.
pub fn list_offsets(lab: &mut Lab, version: i16) {
    let topic = lab.topic(2);
    let epoch = lab.client.describe(&topic.name).partitions[0].leader_epoch;
    let start = now_ms() - 1_000_000;
    lab.client.append(&topic, 0, Batch::at(start + 10, &["a", "b"]).bytes());
    lab.client.append(&topic, 0, Batch::at(start, &["c", "d"]).bytes());
    // Timestamp, first version that knows it, offset and timestamp of the answer.
    let table = [
        (-1, 1, 4, -1),
        (-2, 1, 0, -1),
        (-3, 7, 1, start + 11),
        (-4, 8, 0, -1),
        (-5, 9, -1, -1),
        (-6, 11, -1, -1),
        (-7, i16::MAX, -1, -1),
        (i64::MIN, i16::MAX, -1, -1),
        (0, 1, 0, start + 10),
        (start + 11, 1, 1, start + 11),
        (start + 12, 1, -1, -1),
    ];
    for isolation in if version >= 2 { vec![0, 1] } else { vec![0] } {
        for (asked, since, offset, timestamp) in table {
            let request = asks::list_offsets(&topic, 0, asked).with_isolation_level(isolation);
            let response = lab.client.call(version, &request);
            let found = &response.topics[0].partitions[0];
            let seen = (found.error_code, found.offset, found.timestamp);
            let expected = if version >= since { (code::NONE, offset, timestamp) } else { (35, -1, -1) };
            assert_eq!(seen, expected, "timestamp {asked} in v{version}");
            let has_epoch = version >= 4 && seen.1 >= 0;
            assert_eq!(found.leader_epoch, if has_epoch { epoch } else { -1 }, "timestamp {asked} in v{version}");
        }
    }
    let empty = lab.client.call(version, &asks::list_offsets(&topic, 1, 0)).topics[0].partitions[0].clone();
    assert_eq!((empty.error_code, empty.offset, empty.timestamp), (code::NONE, -1, -1));
    let missing = lab.client.call(version, &asks::list_offsets(&topic, 2, -1)).topics[0].partitions[0].clone();
    assert_eq!((missing.error_code, missing.offset), (code::UNKNOWN_TOPIC_OR_PARTITION, -1));
    let mut twice = asks::list_offsets(&topic, 0, -1);
    twice.topics.push(twice.topics[0].clone());
    let response = lab.client.call(version, &twice);
    assert!(response.topics.iter().all(|topic| topic.partitions[0].error_code == code::INVALID_REQUEST));
    if version >= 4 {
        let mut newer = asks::list_offsets(&topic, 0, -1);
        newer.topics[0].partitions[0].current_leader_epoch = epoch + 1;
        let refused = lab.client.call(version, &newer).topics[0].partitions[0].error_code;
        assert_eq!(refused, code::UNKNOWN_LEADER_EPOCH);
    }
}

/// DeleteRecords 21: the low watermark moves, and says so everywhere.
pub fn delete_records(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1);
    lab.client.append(&topic, 0, Batch::of(&["a", "b", "c", "d"]).bytes());
    let table = [
        (2, code::NONE, 2),
        (1, code::NONE, 2),
        (-1, code::NONE, 4),
        (5, code::OFFSET_OUT_OF_RANGE, -1),
        (-2, code::OFFSET_OUT_OF_RANGE, -1),
    ];
    for (before, error, low_watermark) in table {
        let response = lab.client.call(version, &asks::delete_records(&topic, 0, before));
        let answer = &response.topics[0].partitions[0];
        assert_eq!(response.topics[0].name, topic.wire());
        assert_eq!((answer.error_code, answer.low_watermark), (error, low_watermark), "before {before}");
        let start = lab.client.offset_at(&topic, 0, -2);
        assert_eq!(start.1, if low_watermark < 0 { 4 } else { low_watermark });
    }
    let missing = lab.client.call(version, &asks::delete_records(&topic, 9, 0)).topics[0].partitions[0].clone();
    assert_eq!((missing.error_code, missing.low_watermark), (code::UNKNOWN_TOPIC_OR_PARTITION, -1));
}

/// InitProducerId 22: ids that were never given out before.
pub fn init_producer_id(lab: &mut Lab, version: i16) {
    let ask = || InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let first = lab.client.call(version, &ask());
    assert_eq!((first.error_code, first.producer_epoch, first.throttle_time_ms), (code::NONE, 0, 0));
    assert!(first.producer_id.0 >= 0);
    let second = lab.client.call(version, &ask());
    assert!(second.producer_id > first.producer_id, "every producer has an id of its own");
    let nameless = lab.client.call(version, &ask().with_transactional_id(Some(TransactionalId(text("")))));
    assert_eq!((nameless.error_code, nameless.producer_id.0), (code::INVALID_REQUEST, -1));
    if version >= 3 {
        let half = ask().with_producer_id(ProducerId(7)).with_producer_epoch(-1);
        assert_eq!(lab.client.call(version, &half).error_code, code::INVALID_REQUEST);
        let half = ask().with_producer_epoch(3);
        assert_eq!(lab.client.call(version, &half).error_code, code::INVALID_REQUEST);
    }
}

/// OffsetForLeaderEpoch 23: where an epoch ends.
pub fn offset_for_leader_epoch(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1);
    lab.client.append(&topic, 0, Batch::of(&["a", "b", "c"]).bytes());
    let epoch = lab.client.describe(&topic.name).partitions[0].leader_epoch;
    let mut ask = |partition, asked, current| -> (i16, i32, i64) {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_leader_epoch(asked)
            .with_current_leader_epoch(current);
        let wanted = OffsetForLeaderTopic::default().with_topic(topic.wire()).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![wanted]);
        let response: OffsetForLeaderEpochResponse = lab.client.call(version, &request);
        assert_eq!(response.topics[0].topic, topic.wire());
        let answer = &response.topics[0].partitions[0];
        (answer.error_code, answer.leader_epoch, answer.end_offset)
    };
    assert_eq!(ask(0, epoch, -1), (code::NONE, epoch, 3));
    assert_eq!(ask(0, epoch, epoch), (code::NONE, epoch, 3));
    assert_eq!(ask(0, epoch + 1, -1), (code::NONE, -1, -1));
    assert_eq!(ask(0, -1, -1), (code::NONE, -1, -1));
    assert_eq!(ask(0, epoch, epoch + 1), (code::UNKNOWN_LEADER_EPOCH, -1, -1));
    assert_eq!(ask(1, epoch, -1), (code::UNKNOWN_TOPIC_OR_PARTITION, -1, -1));
}
