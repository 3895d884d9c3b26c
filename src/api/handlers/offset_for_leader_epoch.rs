//! OffsetForLeaderEpoch (23): where a leader epoch ends, so that a reader can tell whether its log was truncated
//! (KIP-320).
//!
//! v2: the leader epoch the reader knows is checked. v3: replica id; any reader is answered alike. v4: flexible. An
//! epoch that is not known is no error: epoch -1, offset -1.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::api::{Context, Reply};

/// Answers from the epoch history of each partition this broker leads.
pub async fn handle(ctx: &Context, request: OffsetForLeaderEpochRequest) -> Reply<OffsetForLeaderEpochResponse> {
    let image = ctx.services.metadata.image();
    let end = |topic: &str, asked: &OffsetForLeaderPartition| {
        let answer = EpochEndOffset::default().with_partition(asked.partition);
        let partition = ctx.services.hosted_by_name(&image, topic, asked.partition);
        let end = partition.and_then(|hosted| hosted.offset_for_epoch(asked.leader_epoch, asked.current_leader_epoch));
        match end {
            Ok((epoch, end_offset)) => answer.with_leader_epoch(epoch).with_end_offset(end_offset),
            Err(code) => answer.with_error_code(code.code()),
        }
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| end(&topic.topic, asked)).collect();
        topics.push(OffsetForLeaderTopicResult::default().with_partitions(partitions).with_topic(topic.topic));
    }
    Reply::Now(OffsetForLeaderEpochResponse::default().with_topics(topics))
}
