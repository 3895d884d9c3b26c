//! OffsetDelete (47): a group forgets how far it has read partitions (KIP-496).
//!
//! v0: the only one, never flexible. Topics that a member reads are refused with 86, a group with members that are no
//! consumers with 68, an unknown group with 69, an empty id with 24. A partition that does not exist gets 3 and keeps
//! no other back.

use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::api::{Context, Reply};
use crate::coordinator::group::{DeleteOffsetsAsk, GroupAnswer, GroupAsk, GroupId, TopicOutcome};
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicName};
use crate::metadata::ClusterImage;

/// Deletes what exists.
pub async fn handle(ctx: &Context, request: OffsetDeleteRequest) -> Reply<OffsetDeleteResponse> {
    // Kafka takes an empty group id only where old clients need it: to commit, fetch and describe.
    if request.group_id.is_empty() {
        return Reply::Now(OffsetDeleteResponse::default().with_error_code(ErrorCode::InvalidGroupId.code()));
    }
    let image = ctx.services.metadata.image();
    let group = GroupId::from(request.group_id.as_str());
    let topics = request.topics.iter().filter_map(|topic| existing(&image, topic)).collect();
    let ask = DeleteOffsetsAsk { group: group.clone(), topics };
    let answer = ctx.services.groups.ask(&group, GroupAsk::DeleteOffsets(ask));
    Reply::Later(Box::pin(async move {
        match answer.await.and_then(GroupAnswer::delete_offsets) {
            Ok(outcomes) => response(&image, &request.topics, outcomes),
            Err(code) => OffsetDeleteResponse::default().with_error_code(code.code()),
        }
    }))
}

/// What there is of a topic of the request.
fn existing(image: &ClusterImage, asked: &OffsetDeleteRequestTopic) -> Option<(TopicName, Vec<PartitionIndex>)> {
    let topic = image.topics.by_name(asked.name.as_str())?;
    let indexes = asked.partitions.iter().map(|partition| partition.partition_index);
    let indexes: Vec<PartitionIndex> = indexes.filter(|index| topic.partition(*index).is_some()).collect();
    (!indexes.is_empty()).then(|| (topic.name.clone(), indexes))
}

/// Puts the outcomes, which are those of the partitions that exist, back into the places of the request.
fn response(
    image: &ClusterImage,
    topics: &[OffsetDeleteRequestTopic],
    outcomes: Vec<TopicOutcome>,
) -> OffsetDeleteResponse {
    let mut codes = outcomes.into_iter().flat_map(|topic| topic.partitions).map(|(_, code)| code);
    let mut answered = Vec::with_capacity(topics.len());
    for asked in topics {
        let topic = image.topics.by_name(asked.name.as_str());
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let index = partition.partition_index;
            let code = match topic.and_then(|topic| topic.partition(index)) {
                Some(_) => codes.next().unwrap_or(ErrorCode::UnknownServerError),
                None => ErrorCode::UnknownTopicOrPartition,
            };
            let outcome = OffsetDeleteResponsePartition::default().with_partition_index(index);
            partitions.push(outcome.with_error_code(code.code()));
        }
        answered.push(OffsetDeleteResponseTopic::default().with_name(asked.name.clone()).with_partitions(partitions));
    }
    OffsetDeleteResponse::default().with_topics(answered)
}
