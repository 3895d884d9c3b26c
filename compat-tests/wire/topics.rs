//! How topics come and go: by themselves, by name, under a name that was used before.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    DeleteTopicsRequest, FetchRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
};
use uuid::Uuid;

use crate::asks::{self, Topic, code, group_id, metadata, only_partition, topic_name};
use crate::batch::Batch;
use crate::broker::Broker;
use crate::client::Client;

/// Metadata that may create what it names.
fn creating(names: &[&str]) -> MetadataRequest {
    metadata(9, names).with_allow_auto_topic_creation(true)
}

fn delete(client: &mut Client, name: &str) {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]).with_timeout_ms(30_000);
    assert_eq!(client.call(5, &request).responses[0].error_code, code::NONE);
}

#[test]
fn topics_that_are_asked_for_come_with_the_brokers_defaults() {
    let broker = Broker::with(&[("num.partitions", "3")]);
    let mut client = broker.client();
    let asked = client.call(9, &creating(&["one", "a b", "two"]));
    let codes: Vec<i16> = asked.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [code::UNKNOWN_TOPIC_OR_PARTITION, code::INVALID_TOPIC, code::UNKNOWN_TOPIC_OR_PARTITION]);
    for name in ["one", "two"] {
        while client.describe(name).error_code != code::NONE {}
        assert_eq!(client.describe(name).partitions.len(), 3);
    }
    assert_eq!(client.describe("a b").error_code, code::INVALID_TOPIC);
}

#[test]
fn topics_do_not_come_by_themselves_where_that_is_switched_off() {
    let broker = Broker::with(&[("auto.create.topics.enable", "false")]);
    let mut client = broker.client();
    for version in 0..=13 {
        let request = metadata(version, &["t"]).with_allow_auto_topic_creation(true);
        assert_eq!(client.call(version, &request).topics[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    }
    // What groups need is made all the same.
    client.coordinator("group");
    let all = client.call(9, &MetadataRequest::default().with_topics(None));
    let names: Vec<_> = all.topics.iter().map(|topic| (topic.name.clone(), topic.is_internal)).collect();
    assert_eq!(names, [(Some(topic_name("__consumer_offsets")), true)]);
    assert!(!client.call(0, &metadata(0, &["__consumer_offsets"])).topics[0].is_internal, "v0 cannot say so");
}

#[test]
fn names_that_metrics_would_confuse_do_not_stand_side_by_side() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.topic("a.b_c", 1, &[]);
    for (name, expected) in [("a_b.c", code::INVALID_TOPIC), ("a.b.c", code::INVALID_TOPIC), ("a-b-c", code::NONE)] {
        let response = client.call(7, &asks::create_topic(name, 1, &[]));
        assert_eq!(response.topics[0].error_code, expected, "{name}");
    }
    for name in ["", ".", "..", &"x".repeat(250)] {
        let response = client.call(7, &asks::create_topic(name, 1, &[]));
        assert_eq!(response.topics[0].error_code, code::INVALID_TOPIC, "{name:?}");
    }
    client.topic(&"x".repeat(249), 1, &[]);
}

#[test]
fn deletion_can_be_switched_off() {
    let broker = Broker::with(&[("delete.topic.enable", "false")]);
    let mut client = broker.client();
    client.topic("t", 1, &[]);
    for version in 1..=6 {
        let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
        let request = if version < 6 {
            request.with_topic_names(vec![topic_name("t")])
        } else {
            request.with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name("t")))])
        };
        let refused = client.call(version, &request).responses[0].error_code;
        assert_eq!(refused, if version >= 3 { 73 } else { code::INVALID_REQUEST }, "v{version}");
    }
    assert_eq!(client.describe("t").error_code, code::NONE);
}

#[test]
fn a_name_that_is_used_again_is_another_topic() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.coordinator("group");
    let old = client.topic("t", 1, &[("max.message.bytes", "100")]);
    client.append(&old, 0, Batch::of(&["old"]).bytes());
    commit(&mut client, &old);
    assert_eq!(committed(&mut client, &old), 1);
    delete(&mut client, "t");
    let new = client.topic("t", 2, &[]);
    assert_ne!(new.id, old.id);
    assert_eq!(client.append(&new, 0, Batch::sized(1000).bytes()), 0, "neither records nor settings were inherited");
    while committed(&mut client, &new) != -1 {}

    let batch = Some(Batch::of(&["x"]).bytes());
    let refused = client.call::<ProduceRequest>(13, &asks::produce(13, &old, -1, &[(0, batch)]));
    assert_eq!(refused.responses[0].partition_responses[0].error_code, code::UNKNOWN_TOPIC_ID);
    let refused = client.call::<FetchRequest>(13, &asks::fetch(13, &old, &[(0, 0)]));
    assert_eq!(only_partition(&refused).error_code, code::UNKNOWN_TOPIC_ID);
    assert_eq!(client.describe("t").topic_id, new.id);
    assert_ne!(new.id, Uuid::nil());
}

/// Commits offset 1 of partition 0 for `group`.
fn commit(client: &mut Client, topic: &Topic) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default().with_name(topic.wire()).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default().with_group_id(group_id("group")).with_topics(vec![topic]);
    assert_eq!(client.call(8, &request).topics[0].partitions[0].error_code, code::NONE);
}

/// What `group` has committed of partition 0.
fn committed(client: &mut Client, topic: &Topic) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(topic.wire()).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group_id("group")).with_topics(Some(vec![topic]));
    client.call(7, &request).topics[0].partitions[0].committed_offset
}
