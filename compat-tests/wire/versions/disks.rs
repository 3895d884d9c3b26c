//! Cases of the APIs that tell what lies in the data directories and logs.

use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, DescribeLogDirsRequest, DescribeProducersRequest};
use ottla::wire::bridge;

use super::Lab;
use super::configs;
use crate::asks::{Topic, code, text};
use crate::batch::Batch;
use crate::client::Client;

/// DescribeLogDirs 35: sizes by partition, and the room of the volume from version 4 on.
pub fn describe_log_dirs(lab: &mut Lab, version: i16) {
    let (topic, other) = (lab.topic(2), lab.topic(1));
    let batch = Batch::of(&["a", "b"]).bytes();
    lab.client.append(&topic, 1, batch.clone());
    let sizes = |result: &DescribeLogDirsResult, topic: &Topic| -> Vec<(i32, i64, i64, bool)> {
        let found = result.topics.iter().find(|found| found.name == topic.wire());
        let partitions = found.iter().flat_map(|found| &found.partitions);
        partitions.map(|at| (at.partition_index, at.partition_size, at.offset_lag, at.is_future_key)).collect()
    };
    let all = describe(&mut lab.client, version, None);
    assert_eq!(sizes(&all, &topic), [(0, 0, 0, false), (1, batch.len() as i64, 0, false)]);
    assert_eq!(sizes(&all, &other), [(0, 0, 0, false)]);
    if version >= 4 {
        assert!(
            all.usable_bytes > 0 && all.total_bytes >= all.usable_bytes,
            "{} {}",
            all.total_bytes,
            all.usable_bytes
        );
    }
    let wanted = [(&topic, 1), (&topic, 9), (&Topic::unknown(), 0)];
    let some = describe(&mut lab.client, version, Some(&wanted));
    assert_eq!((some.topics.len(), sizes(&some, &topic)), (1, vec![(1, batch.len() as i64, 0, false)]));
    assert_eq!(describe(&mut lab.client, version, Some(&[])).topics.len(), 0);
    assert_eq!(cordoned(&all), None);
    if version >= 5 {
        let node = lab.broker.node().to_string();
        let cordon = ("cordoned.log.dirs", 0, Some("*"));
        assert_eq!(configs::alter(&mut lab.client, 1, (4, &node), &[cordon], false), code::NONE);
        while cordoned(&describe(&mut lab.client, version, None)).is_none() {}
    }
}

/// Whether the answer says that the directory is cordoned; the protocol crate puts that aside.
fn cordoned(result: &DescribeLogDirsResult) -> Option<u8> {
    let aside = result.unknown_tagged_fields.get(&(bridge::IS_CORDONED as i32))?;
    Some(aside[0]).filter(|flag| *flag != 0)
}

fn describe(client: &mut Client, version: i16, wanted: Option<&[(&Topic, i32)]>) -> DescribeLogDirsResult {
    let topic = |(topic, index): &(&Topic, i32)| {
        DescribableLogDirTopic::default().with_topic(topic.wire()).with_partitions(vec![*index])
    };
    let topics = wanted.map(|wanted| wanted.iter().map(topic).collect());
    let response = client.call(version, &DescribeLogDirsRequest::default().with_topics(topics));
    assert_eq!((response.throttle_time_ms, response.error_code, response.results.len()), (0, code::NONE, 1));
    assert_eq!(response.results[0].error_code, code::NONE);
    assert!(response.results[0].log_dir.starts_with('/'), "{}", response.results[0].log_dir);
    response.results[0].clone()
}

/// AlterReplicaLogDirs 34: to where it is, to nowhere, and of what is not here.
pub fn alter_replica_log_dirs(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1);
    let home = describe(&mut lab.client, 4, None).log_dir.to_string();
    let mut alter = |path: &str, topic: &Topic, index: i32| {
        let asked = AlterReplicaLogDirTopic::default().with_name(topic.wire()).with_partitions(vec![index]);
        let directory = AlterReplicaLogDir::default().with_path(text(path)).with_topics(vec![asked]);
        let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![directory]);
        let response = lab.client.call(version, &request);
        assert_eq!((response.throttle_time_ms, response.results.len()), (0, 1));
        assert_eq!(response.results[0].topic_name, topic.wire());
        let [partition] = &response.results[0].partitions[..] else { panic!("one partition") };
        assert_eq!(partition.partition_index, index);
        partition.error_code
    };
    assert_eq!(alter(&home, &topic, 0), code::NONE);
    assert_eq!(alter("/nowhere", &topic, 0), 57);
    assert_eq!(alter(&home, &topic, 1), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(alter(&home, &Topic::unknown(), 0), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(alter("/nowhere", &Topic::unknown(), 0), 57);
}

/// DescribeProducers 61: idempotent producers with their last sequence.
pub fn describe_producers(lab: &mut Lab, version: i16) {
    let topic = lab.topic(2);
    let id = lab.client.producer_id();
    lab.client.append(&topic, 0, Batch::of(&["a", "b"]).from(id, 0, 0).bytes());
    let asked = |topic: &Topic, indexes: &[i32]| {
        TopicRequest::default().with_name(topic.wire()).with_partition_indexes(indexes.to_vec())
    };
    let bad = Topic { name: "a b".to_owned(), ..Topic::unknown() };
    let topics = vec![asked(&topic, &[0, 1, 2]), asked(&Topic::unknown(), &[0]), asked(&bad, &[0])];
    let response = lab.client.call(version, &DescribeProducersRequest::default().with_topics(topics));
    assert_eq!(response.throttle_time_ms, 0);
    let codes: Vec<Vec<i16>> =
        response.topics.iter().map(|topic| topic.partitions.iter().map(|one| one.error_code).collect()).collect();
    let unknown = code::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, [vec![code::NONE, code::NONE, unknown], vec![unknown], vec![code::INVALID_TOPIC]]);
    let [producer] = &response.topics[0].partitions[0].active_producers[..] else { panic!("one producer") };
    assert_eq!((producer.producer_id.0, producer.producer_epoch, producer.last_sequence), (id, 0, 1));
    assert_eq!((producer.coordinator_epoch, producer.current_txn_start_offset), (-1, -1));
    assert!(producer.last_timestamp > 0);
    assert_eq!(response.topics[0].partitions[1].active_producers.len(), 0);
}
