//! OffsetCommit (8): a group remembers how far it has read.
//!
//! v2-4: how long to keep the offsets. v5: no such time any more. v6: leader epochs. v7: static members (KIP-345).
//! v8: flexible. v9: members of the new consumer protocol, and 69 instead of 22 for a group that is not there
//! (KIP-848). v10: topics by id (KIP-848); an unknown id is 100.
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
use crate::metadata::{ClusterImage, Topic};
use crate::wire::bridge;

/// From this version on clients know `GroupIdNotFound`.
const KNOWS_GROUP_ID_NOT_FOUND: i16 = 9;
/// From this version on topics are named by id.
const TOPIC_IDS: i16 = 10;
/// The retention time of a request that names none.
const NO_RETENTION_TIME: i64 = -1;

/// Commits what exists.
pub async fn handle(ctx: &Context, request: OffsetCommitRequest) -> Reply<OffsetCommitResponse> {
    let by_id = ctx.request.version >= TOPIC_IDS;
    let Checked { known, refused } = check(&ctx.services.metadata.image(), &request.topics, by_id);
    if known.is_empty() {
        return Reply::Now(response(request.topics, &refused, Ok(Vec::new())));
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
        response(request.topics, &refused, outcome)
    }))
}

/// The topics of a request, held against the image.
struct Checked {
    /// What there is of them, to be committed.
    known: Vec<CommitTopic>,
    /// For each partition of the request, in its order, why there is no such partition; `None` if there is.
    refused: Vec<Option<ErrorCode>>,
}

fn check(image: &ClusterImage, topics: &[OffsetCommitRequestTopic], by_id: bool) -> Checked {
    let mut checked = Checked { known: Vec::new(), refused: Vec::new() };
    for asked in topics {
        let topic = find(image, asked, by_id);
        let missing =
            if by_id && topic.is_none() { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let index = usize::try_from(partition.partition_index);
            let exists = topic.is_some_and(|topic| index.is_ok_and(|index| index < topic.partitions.len()));
            checked.refused.push((!exists).then_some(missing));
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

fn find<'a>(image: &'a ClusterImage, asked: &OffsetCommitRequestTopic, by_id: bool) -> Option<&'a Topic> {
    let topic = if by_id {
        image.topics.by_id(bridge::carried_id(&asked.unknown_tagged_fields, bridge::TOPIC_ID)?)
    } else {
        image.topics.by_name(asked.name.as_str())
    };
    topic.map(|topic| &**topic)
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
    refused: &[Option<ErrorCode>],
    outcome: Result<Vec<TopicOutcome>, ErrorCode>,
) -> OffsetCommitResponse {
    let all_refused = outcome.as_ref().err().copied();
    let outcomes = outcome.unwrap_or_default().into_iter().flat_map(|topic| topic.partitions);
    let mut codes = outcomes.map(|(_, code)| code);
    let mut refused = refused.iter();
    let mut one = |partition: &OffsetCommitRequestPartition| {
        let decided = || all_refused.or_else(|| codes.next());
        let code = refused.next().copied().flatten().or_else(decided).unwrap_or(ErrorCode::UnknownServerError);
        OffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(code.code())
    };
    let mut answered = Vec::with_capacity(topics.len());
    for topic in topics {
        let partitions = topic.partitions.iter().map(&mut one).collect();
        let mut answer = OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions);
        if let Some(id) = bridge::carried_id(&topic.unknown_tagged_fields, bridge::TOPIC_ID) {
            bridge::carry_id(&mut answer.unknown_tagged_fields, bridge::TOPIC_ID, id);
        }
        answered.push(answer);
    }
    OffsetCommitResponse::default().with_topics(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::translate::topic_name;

    const HERE: Option<ErrorCode> = None;
    const MISSING: Option<ErrorCode> = Some(ErrorCode::UnknownTopicOrPartition);

    fn codes(refused: &[Option<ErrorCode>], outcome: Result<Vec<TopicOutcome>, ErrorCode>) -> Vec<(String, Vec<i16>)> {
        let partition = |index| OffsetCommitRequestPartition::default().with_partition_index(index);
        let topic = |name, indexes: &[i32]| {
            let partitions = indexes.iter().map(|index| partition(*index)).collect();
            OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
        };
        let response = response(vec![topic("a", &[0, 9]), topic("b", &[1])], refused, outcome);
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
        assert_eq!(codes(&[HERE, MISSING, HERE], Ok(outcomes)), view([0, 3], 12));
        assert_eq!(codes(&[MISSING, MISSING, MISSING], Ok(Vec::new())), view([3, 3], 3));
    }

    #[test]
    fn a_refusal_is_said_of_every_partition_that_exists() {
        assert_eq!(codes(&[HERE, MISSING, HERE], Err(ErrorCode::IllegalGeneration)), view([22, 3], 22));
    }
}
