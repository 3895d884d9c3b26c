//! OffsetFetch (9): how far groups have read.
//!
//! v1: an error is said of every partition. v2: an error at the top; null topics mean all. v5: leader epochs. v6:
//! flexible. v7: `RequireStable`, which changes nothing as long as there are no transactional commits. v8: many
//! groups, each with its own error (KIP-709). v9: member id and epoch, which a classic group does not look at
//! (KIP-848). v10 names topics by id; the protocol crate cannot read it, so it is not offered.
//!
//! A group or partition nobody knows is no error: its offset is -1. An empty group id is allowed.

use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId as WireGroupId, OffsetFetchRequest, OffsetFetchResponse};

use crate::api::translate::{text, topic_name};
use crate::api::{Context, Reply};
use crate::coordinator::group::{FetchAsk, FetchedOffset, FetchedTopic, GroupAnswer, GroupAsk};
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicName};

/// From this version on an error stands at the top.
const TOP_ERROR: i16 = 2;
/// From this version on a request names many groups.
const MANY_GROUPS: i16 = 8;

/// What is asked of one group: these partitions, or all.
type Topics = Option<Vec<(TopicName, Vec<PartitionIndex>)>>;

/// What one group answers.
type Fetched = Result<Vec<FetchedTopic>, ErrorCode>;

/// Reads the offsets of every group asked for.
pub async fn handle(ctx: &Context, request: OffsetFetchRequest) -> Reply<OffsetFetchResponse> {
    let version = ctx.request.version;
    let asked = asked(version, request);
    let answers: Vec<_> = asked
        .iter()
        .map(|(group, topics)| {
            let ask = FetchAsk { group: Arc::from(group.as_str()), topics: topics.clone() };
            ctx.services.groups.ask(group.as_str(), GroupAsk::FetchOffsets(ask))
        })
        .collect();
    Reply::Later(Box::pin(async move {
        let answers = join_all(answers).await;
        let fetched = answers.into_iter().map(|answer| answer.and_then(GroupAnswer::fetch_offsets));
        let groups: Vec<_> = asked.into_iter().zip(fetched).collect();
        response(version, groups)
    }))
}

/// The groups of a request, with what is asked of each.
fn asked(version: i16, request: OffsetFetchRequest) -> Vec<(WireGroupId, Topics)> {
    let name = |name: &str| TopicName::from(name);
    if version < MANY_GROUPS {
        let topics = request.topics.map(|topics| {
            topics.into_iter().map(|topic| (name(topic.name.as_str()), topic.partition_indexes)).collect()
        });
        return vec![(request.group_id, topics)];
    }
    let group = |group: OffsetFetchRequestGroup| {
        let topics = group.topics.map(|topics| {
            topics.into_iter().map(|topic| (name(topic.name.as_str()), topic.partition_indexes)).collect()
        });
        (group.group_id, topics)
    };
    request.groups.into_iter().map(group).collect()
}

fn response(version: i16, groups: Vec<((WireGroupId, Topics), Fetched)>) -> OffsetFetchResponse {
    if version >= MANY_GROUPS {
        let groups = groups.into_iter().map(|((group, _), fetched)| group_response(group, fetched)).collect();
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let Some(((_, topics), fetched)) = groups.into_iter().next() else { return OffsetFetchResponse::default() };
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

/// A group as versions from 8 on show it.
fn group_response(group: WireGroupId, fetched: Fetched) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(group);
    let topics = match fetched {
        Ok(topics) => topics,
        Err(code) => return response.with_error_code(code.code()),
    };
    let partition = |at: &FetchedOffset| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(at.index)
            .with_committed_offset(at.offset)
            .with_committed_leader_epoch(at.leader_epoch)
            .with_metadata(Some(text(&at.metadata)))
    };
    let topic = |topic: &FetchedTopic| {
        let partitions = topic.partitions.iter().map(partition).collect();
        OffsetFetchResponseTopics::default().with_name(topic_name(&topic.topic)).with_partitions(partitions)
    };
    response.with_topics(topics.iter().map(topic).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(version: i16, fetched: Fetched) -> OffsetFetchResponse {
        let topics = Some(vec![(TopicName::from("t"), vec![3])]);
        response(version, vec![((WireGroupId(text("g")), topics), fetched)])
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
