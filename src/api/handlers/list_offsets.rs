//! ListOffsets (2): the offset of a timestamp, of the start and of the end of partitions.
//!
//! v1: one offset per partition. v2: isolation level. v4: leader epochs, both ways. v5+: an end that is not known yet
//! is 78, before it was 5. v6: flexible. v7: largest timestamp. v8: earliest local. v9: latest tiered. v10: a timeout
//! for remote storage, of which there is none. v11: earliest that is not tiered yet.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use crate::api::offset_lookups::{Located, Lookup, is_known, locate};
use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::ids::PartitionIndex;
use crate::metadata::ClusterImage;
use crate::partitions::Isolation;

const CONSUMER: i32 = -1;
const READ_COMMITTED: i8 = 1;

/// Looks every partition up at once.
pub async fn handle(ctx: &Context, request: ListOffsetsRequest) -> Reply<ListOffsetsResponse> {
    let image = ctx.services.metadata.image();
    let asked = Asked {
        ctx,
        image: &image,
        isolation: isolation(*request.replica_id, request.isolation_level),
        duplicates: duplicates(&request.topics),
    };
    let topics = join_all(request.topics.iter().map(|topic| asked.topic(topic))).await;
    Reply::Now(ListOffsetsResponse::default().with_topics(topics))
}

fn isolation(replica_id: i32, level: i8) -> Isolation {
    match (replica_id, level) {
        (CONSUMER, READ_COMMITTED) => Isolation::ReadCommitted,
        (CONSUMER, _) => Isolation::ReadUncommitted,
        _ => Isolation::LogEnd,
    }
}

/// The partitions that are asked about more than once.
fn duplicates(topics: &[ListOffsetsTopic]) -> BTreeSet<(&str, PartitionIndex)> {
    let mut seen = BTreeSet::new();
    let partitions = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(move |partition| (topic.name.as_str(), partition.partition_index))
    });
    partitions.filter(|partition| !seen.insert(*partition)).collect()
}

/// What holds for every partition of a request.
struct Asked<'a> {
    ctx: &'a Context,
    image: &'a ClusterImage,
    isolation: Isolation,
    duplicates: BTreeSet<(&'a str, PartitionIndex)>,
}

impl Asked<'_> {
    async fn topic(&self, topic: &ListOffsetsTopic) -> ListOffsetsTopicResponse {
        let partitions = join_all(topic.partitions.iter().map(|asked| self.partition(&topic.name, asked))).await;
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    }

    async fn partition(&self, topic: &str, asked: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
        let version = self.ctx.request.version;
        let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
        match self.locate(topic, asked).await {
            Ok(None) => answer,
            Ok(Some(found)) => answer
                .with_offset(found.offset)
                .with_timestamp(found.timestamp)
                .with_leader_epoch(if version >= 4 { found.epoch } else { -1 }),
            Err(ErrorCode::OffsetNotAvailable) if version < 5 => {
                answer.with_error_code(ErrorCode::LeaderNotAvailable.code())
            }
            Err(code) => answer.with_error_code(code.code()),
        }
    }

    async fn locate(&self, topic: &str, asked: &ListOffsetsPartition) -> Result<Option<Located>, ErrorCode> {
        if self.duplicates.contains(&(topic, asked.partition_index)) {
            return Err(ErrorCode::InvalidRequest);
        }
        if !is_known(asked.timestamp, self.ctx.request.version) {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let partition = self.ctx.services.hosted_by_name(self.image, topic, asked.partition_index)?;
        let lookup =
            Lookup { timestamp: asked.timestamp, isolation: self.isolation, leader_epoch: asked.current_leader_epoch };
        locate(&partition, lookup).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::translate::topic_name;

    fn topic(name: &str, partitions: &[i32]) -> ListOffsetsTopic {
        let partition = |index: &i32| ListOffsetsPartition::default().with_partition_index(*index);
        let partitions = partitions.iter().map(partition).collect();
        ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    }

    #[test]
    fn duplicates_are_found_across_topics_of_one_name() {
        let topics = [topic("a", &[0, 1, 1]), topic("b", &[0]), topic("a", &[0, 2])];
        assert_eq!(duplicates(&topics), BTreeSet::from([("a", 0), ("a", 1)]));
    }

    #[test]
    fn isolation_is_for_consumers_only() {
        assert_eq!(isolation(-1, 0), Isolation::ReadUncommitted);
        assert_eq!(isolation(-1, 1), Isolation::ReadCommitted);
        assert_eq!(isolation(3, 1), Isolation::LogEnd);
        assert_eq!(isolation(-2, 0), Isolation::LogEnd);
    }
}
