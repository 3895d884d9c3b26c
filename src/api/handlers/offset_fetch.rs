//! OffsetFetch (9): how far groups have read.
//!
//! v1: an error is said of every partition. v2: an error at the top; null topics mean all. v5: leader epochs. v6:
//! flexible. v7: `RequireStable`, which changes nothing as long as there are no transactional commits. v8: many
//! groups, each with its own error (KIP-709). v9: member id and epoch, which a classic group does not look at
//! (KIP-848). v10: topics by id (KIP-848); an unknown id is 100, and of all topics those that are gone are left out.
//!
//! A group or partition nobody knows is no error: its offset is -1. An empty group id is allowed.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId as WireGroupId, OffsetFetchRequest, OffsetFetchResponse};

use crate::api::translate::{text, topic_name};
use crate::api::{Context, Reply};
use crate::coordinator::group::{FetchAsk, FetchedOffset, FetchedTopic, GroupAnswer, GroupAsk};
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicId, TopicName};
use crate::metadata::ClusterImage;
use crate::wire::bridge;

/// From this version on an error stands at the top.
const TOP_ERROR: i16 = 2;
/// From this version on a request names many groups.
const MANY_GROUPS: i16 = 8;
/// From this version on topics are named by id.
const TOPIC_IDS: i16 = 10;

/// What is asked of one group: these partitions, or all.
type Topics = Option<Vec<(TopicName, Vec<PartitionIndex>)>>;

/// One group of a request.
struct Asked {
    group: WireGroupId,
    topics: Topics,
    /// What is asked of topics by ids that nobody has.
    unknown: Vec<(TopicId, Vec<PartitionIndex>)>,
}

/// What one group answers.
type Fetched = Result<Vec<FetchedTopic>, ErrorCode>;

/// Reads the offsets of every group asked for. All offsets of a group may be many, so they are read once: who asks for
/// them again is told that the request is invalid.
pub async fn handle(ctx: &Context, request: OffsetFetchRequest) -> Reply<OffsetFetchResponse> {
    let version = ctx.request.version;
    let image = ctx.services.metadata.image();
    let asked = asked(version, &image, request);
    let mut seen = BTreeSet::new();
    let ask = |Asked { group, topics, .. }: &Asked| {
        let group: Arc<str> = Arc::from(group.as_str());
        let again = topics.is_none() && !seen.insert(Arc::clone(&group));
        let answer = (!again).then(|| {
            let ask = FetchAsk { group: Arc::clone(&group), topics: topics.clone() };
            ctx.services.groups.ask(&group, GroupAsk::FetchOffsets(ask))
        });
        async move {
            match answer {
                Some(answer) => answer.await,
                None => Err(ErrorCode::InvalidRequest),
            }
        }
    };
    let answers: Vec<_> = asked.iter().map(ask).collect();
    Reply::Later(Box::pin(async move {
        let answers = join_all(answers).await;
        let fetched = answers.into_iter().map(|answer| answer.and_then(GroupAnswer::fetch_offsets));
        let groups: Vec<_> = asked.into_iter().zip(fetched).collect();
        response(version, &image, groups)
    }))
}

/// The groups of a request, with what is asked of each.
fn asked(version: i16, image: &ClusterImage, request: OffsetFetchRequest) -> Vec<Asked> {
    let name = |name: &str| TopicName::from(name);
    if version < MANY_GROUPS {
        let topics = request.topics.map(|topics| {
            topics.into_iter().map(|topic| (name(topic.name.as_str()), topic.partition_indexes)).collect()
        });
        return vec![Asked { group: request.group_id, topics, unknown: Vec::new() }];
    }
    let group = |group: OffsetFetchRequestGroup| {
        let mut unknown = Vec::new();
        let named = |topic: OffsetFetchRequestTopics| {
            if version < TOPIC_IDS {
                return Some((name(topic.name.as_str()), topic.partition_indexes));
            }
            let id = bridge::carried_id(&topic.unknown_tagged_fields, bridge::TOPIC_ID).unwrap_or(TopicId::ZERO);
            match image.topics.by_id(id) {
                Some(known) => Some((known.name.clone(), topic.partition_indexes)),
                None => {
                    unknown.push((id, topic.partition_indexes));
                    None
                }
            }
        };
        let topics = group.topics.map(|topics| topics.into_iter().filter_map(named).collect());
        Asked { group: group.group_id, topics, unknown }
    };
    request.groups.into_iter().map(group).collect()
}

fn response(version: i16, image: &ClusterImage, groups: Vec<(Asked, Fetched)>) -> OffsetFetchResponse {
    if version >= MANY_GROUPS {
        let by_id = (version >= TOPIC_IDS).then_some(image);
        let groups = groups.into_iter().map(|(asked, fetched)| group_response(asked, fetched, by_id)).collect();
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let Some((Asked { topics, .. }, fetched)) = groups.into_iter().next() else {
        return OffsetFetchResponse::default();
    };
    match fetched {
        Ok(fetched) => {
            let topics = fetched.iter().map(|topic| topic_response(topic, ErrorCode::None)).collect();
            OffsetFetchResponse::default().with_topics(topics)
        }
        Err(code) if version >= TOP_ERROR => OffsetFetchResponse::default().with_error_code(code.code()),
        Err(code) => {
            let topics = topics.unwrap_or_default().into_iter().map(|topic| topic_response(&nothing(topic), code));
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
    }
}

/// What a group without offsets would answer for a topic.
fn nothing((topic, indexes): (TopicName, Vec<PartitionIndex>)) -> FetchedTopic {
    let none = |index| FetchedOffset { index, offset: -1, leader_epoch: -1, metadata: "".into() };
    FetchedTopic { topic, partitions: indexes.into_iter().map(none).collect() }
}

/// A topic as versions below 8 show it.
fn topic_response(topic: &FetchedTopic, code: ErrorCode) -> OffsetFetchResponseTopic {
    let partition = |at: &FetchedOffset| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(at.index)
            .with_committed_offset(at.offset)
            .with_committed_leader_epoch(at.leader_epoch)
            .with_metadata(Some(text(&at.metadata)))
            .with_error_code(code.code())
    };
    let partitions = topic.partitions.iter().map(partition).collect();
    OffsetFetchResponseTopic::default().with_name(topic_name(&topic.topic)).with_partitions(partitions)
}

/// A group as versions from 8 on show it; with topics by their ids in an image, if the version has them so.
fn group_response(asked: Asked, fetched: Fetched, by_id: Option<&ClusterImage>) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(asked.group);
    let fetched = match fetched {
        Ok(topics) => topics,
        Err(code) => return response.with_error_code(code.code()),
    };
    let mut topics = Vec::with_capacity(fetched.len() + asked.unknown.len());
    for topic in &fetched {
        let answer = OffsetFetchResponseTopics::default().with_name(topic_name(&topic.topic));
        let mut answer = answer.with_partitions(topic.partitions.iter().map(partition_response).collect());
        if let Some(image) = by_id {
            let Some(known) = image.topics.by_name(&topic.topic) else { continue };
            bridge::carry_id(&mut answer.unknown_tagged_fields, bridge::TOPIC_ID, known.id);
        }
        topics.push(answer);
    }
    for (id, indexes) in asked.unknown {
        let refused = nothing((TopicName::from(""), indexes)).partitions;
        let code = ErrorCode::UnknownTopicId.code();
        let partitions = refused.iter().map(|at| partition_response(at).with_error_code(code)).collect();
        let mut answer = OffsetFetchResponseTopics::default().with_partitions(partitions);
        bridge::carry_id(&mut answer.unknown_tagged_fields, bridge::TOPIC_ID, id);
        topics.push(answer);
    }
    response.with_topics(topics)
}

fn partition_response(at: &FetchedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(at.index)
        .with_committed_offset(at.offset)
        .with_committed_leader_epoch(at.leader_epoch)
        .with_metadata(Some(text(&at.metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(version: i16, fetched: Fetched) -> OffsetFetchResponse {
        let topics = Some(vec![(TopicName::from("t"), vec![3])]);
        let asked = Asked { group: WireGroupId(text("g")), topics, unknown: Vec::new() };
        response(version, &ClusterImage::default(), vec![(asked, fetched)])
    }

    #[test]
    fn an_error_stands_where_the_version_looks_for_it() {
        let refused = || Err(ErrorCode::NotCoordinator);
        let first = answered(1, refused());
        let partition = &first.topics[0].partitions[0];
        assert_eq!((first.error_code, partition.error_code, partition.committed_offset), (0, 16, -1));
        let second = answered(2, refused());
        assert_eq!((second.error_code, second.topics.len()), (16, 0));
        let eighth = answered(8, refused());
        assert_eq!((eighth.error_code, eighth.groups[0].error_code), (0, 16));
    }

    #[test]
    fn offsets_stand_below_their_group() {
        let at = FetchedOffset { index: 3, offset: 42, leader_epoch: 5, metadata: "note".into() };
        let fetched = || Ok(vec![FetchedTopic { topic: "t".into(), partitions: vec![at.clone()] }]);
        let old = answered(7, fetched());
        let old = &old.topics[0].partitions[0];
        assert_eq!((old.partition_index, old.committed_offset, old.committed_leader_epoch), (3, 42, 5));
        let new = answered(8, fetched());
        assert_eq!(&**new.groups[0].group_id, "g");
        assert_eq!(new.groups[0].topics[0].partitions[0].metadata.as_deref(), Some("note"));
    }
}
