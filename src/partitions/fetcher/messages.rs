//! What a follower says to its leader, in Kafka's words: Fetch and ListOffsets.

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::Asked;
use super::session::Session;
use crate::config::BrokerSettings;
use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use crate::partitions::partition::{Divergence, FromLeader, Partition};

/// Topic ids, the broker's epoch, directory ids; the high watermark that is known here, so that the leader need not
/// wait for records to tell of a later one (KIP-1166).
pub(super) const VERSION: i16 = 18;
pub(super) const LIST_OFFSETS_VERSION: i16 = 7;

/// Timestamps with a meaning of their own.
pub(super) const LATEST: i64 = -1;
pub(super) const EARLIEST: i64 = -2;

/// What a leader says of one partition.
pub(super) enum Fetched {
    Records(FromLeader),
    Diverging(Divergence),
    Refused(ErrorCode),
}

impl Fetched {
    pub(super) fn has_records(&self) -> bool {
        matches!(self, Fetched::Records(sent) if !sent.batches.is_empty())
    }
}

/// A request for everything in `asked`, beginning behind `after`, in `session`.
pub(super) fn fetch(
    settings: &BrokerSettings,
    (node, broker_epoch): (BrokerId, i64),
    asked: &Asked,
    after: Option<TopicIdPartition>,
    session: &Session,
) -> FetchRequest {
    let named = asked.iter().filter(|(id, (_, at))| session.names(id, at));
    let (first, second): (Vec<_>, Vec<_>) = named.partition(|(id, _)| after.is_none_or(|after| **id > after));
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (id, (partition, at)) in first.into_iter().chain(second) {
        let wanted = FetchPartition::default()
            .with_partition(id.partition)
            .with_current_leader_epoch(at.epoch)
            .with_fetch_offset(at.from)
            .with_last_fetched_epoch(at.last_epoch)
            .with_log_start_offset(at.log_start)
            .with_partition_max_bytes(settings.replica_fetch_max_bytes)
            .with_replica_directory_id(partition.directory().unwrap_or_default().into())
            .with_high_watermark(at.high_watermark);
        let topic_id = id.topic.into();
        match topics.last_mut().filter(|topic| topic.topic_id == topic_id) {
            Some(topic) => topic.partitions.push(wanted),
            None => topics.push(FetchTopic::default().with_topic_id(topic_id).with_partitions(vec![wanted])),
        }
    }
    let reference = session.refer(|id| asked.contains_key(id));
    let replica = ReplicaState::default().with_replica_id(WireBrokerId(node.0)).with_replica_epoch(broker_epoch);
    FetchRequest::default()
        .with_replica_state(replica)
        .with_max_wait_ms(settings.replica_fetch_wait_max_ms)
        .with_min_bytes(settings.replica_fetch_min_bytes)
        .with_max_bytes(settings.replica_fetch_response_max_bytes)
        .with_session_id(reference.id)
        .with_session_epoch(reference.epoch)
        .with_topics(topics)
        .with_forgotten_topics_data(forgotten(&reference.forgotten))
}

fn forgotten(ids: &[TopicIdPartition]) -> Vec<ForgottenTopic> {
    let mut topics: Vec<ForgottenTopic> = Vec::new();
    for id in ids {
        let topic_id = id.topic.into();
        match topics.last_mut().filter(|topic| topic.topic_id == topic_id) {
            Some(topic) => topic.partitions.push(id.partition),
            None => topics.push(ForgottenTopic::default().with_topic_id(topic_id).with_partitions(vec![id.partition])),
        }
    }
    topics
}

/// What the answer says, partition by partition. What it does not name has no news. The error is that of the session.
pub(super) fn fetched(answer: FetchResponse) -> Result<Vec<(TopicIdPartition, Fetched)>, ErrorCode> {
    let code = ErrorCode::from_code(answer.error_code);
    if code.is_error() {
        return Err(code);
    }
    let mut parts = Vec::new();
    for topic in answer.responses {
        let id = |partition| TopicIdPartition { topic: topic.topic_id.into(), partition };
        parts.extend(topic.partitions.into_iter().map(|data| (id(data.partition_index), fetched_partition(data))));
    }
    Ok(parts)
}

fn fetched_partition(data: PartitionData) -> Fetched {
    let code = ErrorCode::from_code(data.error_code);
    let (epoch, end_offset) = (data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
    if code.is_error() {
        Fetched::Refused(code)
    } else if epoch >= 0 && end_offset >= 0 {
        Fetched::Diverging(Divergence { epoch, end_offset })
    } else {
        let batches = data.records.unwrap_or_default();
        Fetched::Records(FromLeader { batches, high_watermark: data.high_watermark, log_start: data.log_start_offset })
    }
}

/// Asks for the start or the end of the leader's log.
pub(super) fn list_offsets(
    node: BrokerId,
    partition: &Partition,
    epoch: LeaderEpoch,
    timestamp: i64,
) -> ListOffsetsRequest {
    let wanted = ListOffsetsPartition::default()
        .with_partition_index(partition.index())
        .with_current_leader_epoch(epoch)
        .with_timestamp(timestamp);
    let name = TopicName(StrBytes::from_string(partition.topic().to_string()));
    let topic = ListOffsetsTopic::default().with_name(name).with_partitions(vec![wanted]);
    ListOffsetsRequest::default().with_replica_id(WireBrokerId(node.0)).with_topics(vec![topic])
}

/// The one offset that was asked for.
pub(super) fn offset(answer: ListOffsetsResponse) -> Result<Offset, ErrorCode> {
    let mut partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
    let partition = partitions.next().ok_or(ErrorCode::UnknownServerError)?;
    let code = ErrorCode::from_code(partition.error_code);
    match code.is_error() || partition.offset < 0 {
        true if code.is_error() => Err(code),
        true => Err(ErrorCode::UnknownServerError),
        false => Ok(partition.offset),
    }
}
