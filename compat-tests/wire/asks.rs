//! The requests that many tests send, as short as they can be said.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteRecordsRequest, DescribeGroupsRequest, FetchRequest, FetchResponse,
    FindCoordinatorRequest, GroupId, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::client::Client;

/// Error codes that more than one file expects, by Kafka's names.
pub mod code {
    pub const UNKNOWN_SERVER_ERROR: i16 = -1;
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const CORRUPT_MESSAGE: i16 = 2;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const NOT_COORDINATOR: i16 = 16;
    pub const INVALID_TOPIC: i16 = 17;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
    pub const INVALID_GROUP_ID: i16 = 24;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    pub const INVALID_TIMESTAMP: i16 = 32;
    pub const INVALID_PARTITIONS: i16 = 37;
    pub const INVALID_REPLICATION_FACTOR: i16 = 38;
    pub const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
    pub const INVALID_CONFIG: i16 = 40;
    pub const INVALID_REQUEST: i16 = 42;
    pub const POLICY_VIOLATION: i16 = 44;
    pub const OUT_OF_ORDER_SEQUENCE: i16 = 45;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const INVALID_TXN_STATE: i16 = 48;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    pub const GROUP_ID_NOT_FOUND: i16 = 69;
    pub const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
    pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub const MEMBER_ID_REQUIRED: i16 = 79;
    pub const FENCED_INSTANCE_ID: i16 = 82;
    pub const INVALID_RECORD: i16 = 87;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// Versions that the short asks below use: the newest that name topics by name.
pub const PRODUCE: i16 = 12;
pub const FETCH: i16 = 12;

/// A topic by both of its names.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
}

impl Topic {
    /// A topic that nobody created.
    pub fn unknown() -> Topic {
        Topic { name: "nowhere".to_owned(), id: Uuid::from_u128(77) }
    }

    /// Its name on the wire.
    pub fn wire(&self) -> TopicName {
        topic_name(&self.name)
    }
}

/// A string of the protocol.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic name of the protocol.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A group id of the protocol.
pub fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}

/// Produce to partitions of one topic, which is named as `version` wants it.
pub fn produce(version: i16, topic: &Topic, acks: i16, batches: &[(i32, Option<Bytes>)]) -> ProduceRequest {
    let partition = |(index, records): &(i32, Option<Bytes>)| {
        PartitionProduceData::default().with_index(*index).with_records(records.clone())
    };
    let data = TopicProduceData::default().with_partition_data(batches.iter().map(partition).collect());
    let data = if version >= 13 { data.with_topic_id(topic.id) } else { data.with_name(topic.wire()) };
    ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![data])
}

/// Fetch from (partition, offset) pairs of one topic: at once, without a session, as much as there is.
pub fn fetch(version: i16, topic: &Topic, wanted: &[(i32, i64)]) -> FetchRequest {
    let partition = |(index, offset): &(i32, i64)| {
        FetchPartition::default().with_partition(*index).with_fetch_offset(*offset).with_partition_max_bytes(50 << 20)
    };
    let wanted = FetchTopic::default().with_partitions(wanted.iter().map(partition).collect());
    let wanted = if version >= 13 { wanted.with_topic_id(topic.id) } else { wanted.with_topic(topic.wire()) };
    FetchRequest::default().with_topics(vec![wanted])
}

/// ListOffsets of one partition, as a consumer asks.
pub fn list_offsets(topic: &Topic, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic.wire()).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

/// DeleteRecords of one partition.
pub fn delete_records(topic: &Topic, partition: i32, before: i64) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before);
    let topic = DeleteRecordsTopic::default().with_name(topic.wire()).with_partitions(vec![partition]);
    DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
}

/// Metadata of these topics, without creating them where the version can say so.
pub fn metadata(version: i16, names: &[&str]) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    MetadataRequest::default()
        .with_topics(Some(names.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(version < 4)
}

/// CreateTopics of one topic.
pub fn create_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopicsRequest {
    let config = |(key, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
}

impl Client {
    /// Creates a topic.
    pub fn topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
        let response = self.call(7, &create_topic(name, partitions, configs));
        let created = &response.topics[0];
        assert_eq!(created.error_code, code::NONE, "{name}: {:?}", created.error_message);
        Topic { name: name.to_owned(), id: created.topic_id }
    }

    /// Produces one batch with acks=all, and returns what is said of its partition.
    pub fn produce(&mut self, topic: &Topic, partition: i32, batch: Bytes) -> PartitionProduceResponse {
        let response = self.call(PRODUCE, &produce(PRODUCE, topic, -1, &[(partition, Some(batch))]));
        response.responses[0].partition_responses[0].clone()
    }

    /// Produces one batch that must be taken, and returns the offset it got.
    pub fn append(&mut self, topic: &Topic, partition: i32, batch: Bytes) -> i64 {
        let answer = self.produce(topic, partition, batch);
        assert_eq!(answer.error_code, code::NONE, "{:?}", answer.error_message);
        answer.base_offset
    }

    /// Fetches from one partition, and returns what is said of it.
    pub fn fetch(&mut self, topic: &Topic, partition: i32, offset: i64) -> PartitionData {
        let response = self.call(FETCH, &fetch(FETCH, topic, &[(partition, offset)]));
        only_partition(&response).clone()
    }

    /// Error, offset and timestamp of one ListOffsets lookup.
    pub fn offset_at(&mut self, topic: &Topic, partition: i32, timestamp: i64) -> (i16, i64, i64) {
        let response = self.call(10, &list_offsets(topic, partition, timestamp));
        let found = &response.topics[0].partitions[0];
        (found.error_code, found.offset, found.timestamp)
    }

    /// What Metadata says of a topic that may not exist.
    pub fn describe(&mut self, name: &str) -> MetadataResponseTopic {
        self.call(12, &metadata(12, &[name])).topics[0].clone()
    }

    /// A producer id.
    pub fn producer_id(&mut self) -> i64 {
        let response = self.call(4, &InitProducerIdRequest::default().with_transactional_id(None));
        assert_eq!(response.error_code, code::NONE);
        response.producer_id.0
    }

    /// Waits until the coordinator of `group` serves it: its topic exists and is loaded.
    pub fn coordinator(&mut self, group: &str) {
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        let describe = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
        loop {
            let found = self.call(4, &find).coordinators[0].error_code;
            let described = self.call(5, &describe).groups[0].error_code;
            match (found, described) {
                (code::NONE, code::NONE) => return,
                (code::NONE | code::COORDINATOR_NOT_AVAILABLE, not_yet) => {
                    let waits = [
                        code::NONE,
                        code::COORDINATOR_LOAD_IN_PROGRESS,
                        code::COORDINATOR_NOT_AVAILABLE,
                        code::NOT_COORDINATOR,
                    ];
                    assert!(waits.contains(&not_yet), "group {group}: {not_yet}");
                }
                (refused, _) => panic!("no coordinator for {group}: {refused}"),
            }
        }
    }
}

/// The partition of an answer to a fetch of one.
pub fn only_partition(response: &FetchResponse) -> &PartitionData {
    assert_eq!(response.error_code, code::NONE);
    &response.responses[0].partitions[0]
}
