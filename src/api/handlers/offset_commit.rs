//! OffsetCommit (8): a group remembers how far it has read.
//!
//! v2-4: how long to keep the offsets. v5: no such time any more. v6: leader epochs. v7: static members (KIP-345).
//! v8: flexible. v9: members of the new consumer protocol, and 69 instead of 22 for a group that is not there
//! (KIP-848). v10 names topics by id; the protocol crate cannot read it, so it is not offered.
//!
//! An empty group id is allowed, for clients that only store offsets. A partition that does not exist gets 3 and does
//! not keep the others from being committed.

use std::sync::Arc;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::api::{Context, Reply};
use crate::coordinator::group::{CommitAsk, CommitPartition, CommitTopic, GroupAnswer, GroupAsk, TopicOutcome};
use crate::error::ErrorCode;
use crate::metadata::ClusterImage;

/// From this version on clients know `GroupIdNotFound`.
const KNOWS_GROUP_ID_NOT_FOUND: i16 = 9;
/// The retention time of a request that names none.
const NO_RETENTION_TIME: i64 = -1;

/// Commits what exists.
pub async fn handle(ctx: &Context, request: OffsetCommitRequest) -> Reply<OffsetCommitResponse> {
    let Checked { known, exists } = check(&ctx.services.metadata.image(), &request.topics);
    if known.is_empty() {
        return Reply::Now(response(request.topics, &exists, Ok(Vec::new())));
    }
    let ask = CommitAsk {
        group: Arc::from(request.group_id.as_str()),
        generation: request.generation_id_or_member_epoch,
        member_id: Arc::from(request.member_id.as_str()),
        instance_id: request.group_instance_id.as_deref().map(Arc::from),
        retention_ms: Some(request.retention_time_ms).filter(|time_ms| *time_ms != NO_RETENTION_TIME),
        knows_group_id_not_found: ctx.request.version >= KNOWS_GROUP_ID_NOT_FOUND,
        topics: known,
    };
    let group = ask.group.clone();
    let answer = ctx.services.groups.ask(&group, GroupAsk::CommitOffsets(ask));
    Reply::Later(Box::pin(async move {
        let outcome = answer.await.and_then(GroupAnswer::commit_offsets);
        response(request.topics, &exists, outcome)
    }))
}

/// The topics of a request, held against the image.
struct Checked {
    /// What there is of them, to be committed.
    known: Vec<CommitTopic>,
    /// For each partition of the request, in its order, whether there is such a partition.
    exists: Vec<bool>,
}

fn check(image: &ClusterImage, topics: &[OffsetCommitRequestTopic]) -> Checked {
    let mut checked = Checked { known: Vec::new(), exists: Vec::new() };
    for asked in topics {
        let topic = image.topics.by_name(asked.name.as_str());
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let index = usize::try_from(partition.partition_index);
            let exists = topic.is_some_and(|topic| index.is_ok_and(|index| index < topic.partitions.len()));
            checked.exists.push(exists);
            if exists {
                partitions.push(commit_partition(partition));
            }
        }
        if let Some(topic) = topic.filter(|_| !partitions.is_empty()) {
            checked.known.push(CommitTopic { name: topic.name.clone(), id: topic.id, partitions });
        }
    }
    checked
}

fn commit_partition(partition: &OffsetCommitRequestPartition) -> CommitPartition {
    CommitPartition {
        index: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: Arc::from(partition.committed_metadata.as_deref().unwrap_or_default()),
    }
}

/// Puts the outcomes, which are those of the partitions that exist, back into the places of the request.
fn response(
    topics: Vec<OffsetCommitRequestTopic>,
    exists: &[bool],
    outcome: Result<Vec<TopicOutcome>, ErrorCode>,
) -> OffsetCommitResponse {
    let refused = outcome.as_ref().err().copied();
    let outcomes = outcome.unwrap_or_default().into_iter().flat_map(|topic| topic.partitions);
    let mut codes = outcomes.map(|(_, code)| code);
    let mut exists = exists.iter();
    let mut one = |partition: &OffsetCommitRequestPartition| {
        let code = if exists.next() != Some(&true) {
            ErrorCode::UnknownTopicOrPartition
        } else {
            refused.or_else(|| codes.next()).unwrap_or(ErrorCode::UnknownServerError)
        };
        OffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(code.code())
    };
    let mut answered = Vec::with_capacity(topics.len());
    for topic in topics {
        let partitions = topic.partitions.iter().map(&mut one).collect();
        answered.push(OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    OffsetCommitResponse::default().with_topics(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::translate::topic_name;

    fn codes(exists: &[bool], outcome: Result<Vec<TopicOutcome>, ErrorCode>) -> Vec<(String, Vec<i16>)> {
        let partition = |index| OffsetCommitRequestPartition::default().with_partition_index(index);
        let topic = |name, indexes: &[i32]| {
            let partitions = indexes.iter().map(|index| partition(*index)).collect();
            OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
        };
        let response = response(vec![topic("a", &[0, 9]), topic("b", &[1])], exists, outcome);
        let code = |topic: &OffsetCommitResponseTopic| {
            let codes: Vec<i16> = topic.partitions.iter().map(|partition| partition.error_code).collect();
            (topic.name.to_string(), codes)
        };
        response.topics.iter().map(code).collect()
    }

    fn view(a: [i16; 2], b: i16) -> Vec<(String, Vec<i16>)> {
        vec![("a".to_owned(), a.to_vec()), ("b".to_owned(), vec![b])]
    }

    #[test]
    fn outcomes_come_back_in_the_order_of_the_request() {
        let outcome = |topic: &str, index, code| TopicOutcome { topic: topic.into(), partitions: vec![(index, code)] };
        let outcomes = vec![outcome("a", 0, ErrorCode::None), outcome("b", 1, ErrorCode::OffsetMetadataTooLarge)];
        assert_eq!(codes(&[true, false, true], Ok(outcomes)), view([0, 3], 12));
        assert_eq!(codes(&[false, false, false], Ok(Vec::new())), view([3, 3], 3));
    }

    #[test]
    fn a_refusal_is_said_of_every_partition_that_exists() {
        assert_eq!(codes(&[true, false, true], Err(ErrorCode::IllegalGeneration)), view([22, 3], 22));
    }
}
