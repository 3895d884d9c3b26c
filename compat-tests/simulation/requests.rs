//! Requests as the workload asks them, and the answers as the checkers want them.
//!
//! Invariant: nothing here knows what is true; what cannot be read is an error in words.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, GroupId, ListOffsetsRequest, MetadataRequest, OffsetFetchRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{RecordBatchDecoder, TimestampType};
use ottla::records::BatchBuilder;
use uuid::Uuid;

use crate::checkers::log::Seen;
use crate::checkers::{Spot, TOPICS};

/// Versions the workload speaks, where it has no choice to make.
pub mod version {
    pub const LIST_OFFSETS: i16 = 8;
    pub const METADATA: i16 = 12;
    pub const OFFSET_COMMIT: i16 = 8;
    pub const OFFSET_FETCH: i16 = 8;
    pub const FIND_COORDINATOR: i16 = 4;
    pub const JOIN_GROUP: i16 = 9;
    pub const HEARTBEAT: i16 = 4;
    pub const LEAVE_GROUP: i16 = 5;
    pub const SYNC_GROUP: i16 = 5;
    pub const DESCRIBE_GROUPS: i16 = 5;
    pub const CREATE_TOPICS: i16 = 7;
    pub const DELETE_TOPICS: i16 = 6;
    pub const DELETE_RECORDS: i16 = 2;
    pub const INIT_PRODUCER_ID: i16 = 4;
    pub const OFFSET_FOR_LEADER_EPOCH: i16 = 4;
    pub const ALTER_PARTITION: i16 = 3;
    pub const ALTER_PARTITION_REASSIGNMENTS: i16 = 0;
    pub const ELECT_LEADERS: i16 = 2;
    pub const INCREMENTAL_ALTER_CONFIGS: i16 = 1;
}

/// Error codes that the workload knows by name.
pub mod code {
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const UNKNOWN_TOPIC: i16 = 3;
    pub const LEADER_NOT_AVAILABLE: i16 = 5;
    pub const NOT_LEADER: i16 = 6;
    pub const REQUEST_TIMED_OUT: i16 = 7;
    pub const COORDINATOR_LOADING: i16 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const NOT_COORDINATOR: i16 = 16;
    pub const STORAGE: i16 = 56;
    pub const NOT_ENOUGH_REPLICAS: i16 = 19;
    pub const NOT_ENOUGH_AFTER_APPEND: i16 = 20;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const UNKNOWN_MEMBER: i16 = 25;
    pub const REBALANCE: i16 = 27;
    pub const TOPIC_EXISTS: i16 = 36;
    pub const INVALID_REPLICATION_FACTOR: i16 = 38;
    pub const NOT_CONTROLLER: i16 = 41;
    pub const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
    pub const OUT_OF_ORDER: i16 = 45;
    pub const FETCH_SESSION_NOT_FOUND: i16 = 70;
    pub const FETCH_SESSION_EPOCH: i16 = 71;
    pub const FENCED_EPOCH: i16 = 74;
    pub const UNKNOWN_EPOCH: i16 = 75;
    pub const OFFSET_NOT_AVAILABLE: i16 = 78;
    pub const MEMBER_ID_REQUIRED: i16 = 79;
    pub const PREFERRED_NOT_AVAILABLE: i16 = 80;
    pub const ELECTION_NOT_NEEDED: i16 = 84;
    pub const NO_REASSIGNMENT: i16 = 85;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A topic as a request names it: by its name, or from some version on by its id.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    pub name: &'static str,
    pub id: Uuid,
    pub by_id: bool,
}

impl Named {
    fn name(&self) -> TopicName {
        if self.by_id { TopicName::default() } else { topic_name(self.name) }
    }

    fn id(&self) -> Uuid {
        if self.by_id { self.id } else { Uuid::nil() }
    }

    pub fn produce_version(&self) -> i16 {
        if self.by_id { 13 } else { 9 }
    }

    pub fn fetch_version(&self) -> i16 {
        if self.by_id { 17 } else { 12 }
    }
}

/// A batch of `values`, of an idempotent producer if it has an id and a first sequence.
pub fn batch(timestamp: i64, producer: Option<(i64, i32)>, values: &[Bytes]) -> Bytes {
    let mut batch = BatchBuilder::new(timestamp);
    if let Some((id, sequence)) = producer {
        batch = batch.producer(id, 0, sequence);
    }
    for value in values {
        batch.push(timestamp, None, Some(value), &[]);
    }
    batch.build()
}

pub fn produce(topic: Named, index: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(index).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(topic.name()).with_topic_id(topic.id());
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(2_000)
        .with_topic_data(vec![topic.with_partition_data(vec![data])])
}

/// How a fetch is asked.
#[derive(Clone, Copy, Debug)]
pub struct FetchHow {
    pub wait_ms: i32,
    pub bytes_max: i32,
    pub isolation: i8,
    pub session: (i32, i32),
    /// The leader epoch that the reader knows; -1 if it does not say.
    pub leader_epoch: i32,
}

pub fn fetch(how: FetchHow, asked: &[(Named, i32, i64)]) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (named, index, from) in asked {
        let partition = FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*from)
            .with_current_leader_epoch(how.leader_epoch)
            .with_partition_max_bytes(how.bytes_max);
        match topics.last_mut() {
            Some(last) if last.topic == named.name() && last.topic_id == named.id() => last.partitions.push(partition),
            _ => {
                let topic = FetchTopic::default().with_topic(named.name()).with_topic_id(named.id());
                topics.push(topic.with_partitions(vec![partition]));
            }
        }
    }
    FetchRequest::default()
        .with_max_wait_ms(how.wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(how.bytes_max)
        .with_isolation_level(how.isolation)
        .with_session_id(how.session.0)
        .with_session_epoch(how.session.1)
        .with_topics(topics)
}

/// Every record in the batches of an answer, with everything its batch says of it.
pub fn records(mut bytes: Bytes) -> Result<Vec<Seen>, String> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let Some(length) = bytes.get(8..12).map(|mut length| length.get_i32()) else {
            return Err("the last batch is cut".into());
        };
        let size = usize::try_from(length).ok().and_then(|length| length.checked_add(12)).filter(|&size| size >= 61);
        let Some(size) = size.filter(|&size| size <= bytes.len()) else {
            return Err(format!("a batch of {length} bytes among {} is cut", bytes.len()));
        };
        let mut batch = bytes.split_to(size);
        let (mut head, mut times) = (batch.slice(..61), batch.slice(35..43));
        let (base, last_delta) = (head.get_i64(), batch.slice(23..27).get_i32());
        let max_timestamp = times.get_i64();
        let set = RecordBatchDecoder::decode(&mut batch).map_err(|error| format!("batch at {base}: {error}"))?;
        let expected = base..=base + i64::from(last_delta);
        if !set.records.iter().map(|record| record.offset).eq(expected) {
            return Err(format!("the batch at {base} of {} offsets has {} records", last_delta + 1, set.records.len()));
        }
        all.extend(set.records.into_iter().map(|record| Seen {
            offset: record.offset,
            value: record.value.unwrap_or_default(),
            epoch: record.partition_leader_epoch,
            timestamp: match record.timestamp_type {
                TimestampType::LogAppend => max_timestamp,
                TimestampType::Creation => record.timestamp,
            },
            producer: record.producer_id,
            sequence: record.sequence,
        }));
    }
    Ok(all)
}

pub fn list_offsets((topic, index): Spot, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

pub fn all_metadata() -> MetadataRequest {
    MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false)
}

/// Asks for what `group` committed for every partition with records.
pub fn offset_fetch(group: &str) -> OffsetFetchRequest {
    let topic = |&(topic, count): &(&str, i32)| {
        OffsetFetchRequestTopics::default().with_name(topic_name(topic)).with_partition_indexes((0..count).collect())
    };
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(TOPICS.iter().map(topic).collect()));
    OffsetFetchRequest::default().with_groups(vec![group])
}
