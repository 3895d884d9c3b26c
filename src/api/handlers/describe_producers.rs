//! DescribeProducers (61): the producers that a partition knows, with their open transactions (KIP-664).
//!
//! v0: the only one. Whoever hosts the partition answers, leader or not.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId as WireProducerId};

use crate::api::translate::message;
use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{PartitionIndex, check_topic_name};
use crate::metadata::ClusterImage;
use crate::partitions::ActiveProducer;

const NO_TRANSACTION: i64 = -1;

/// Answers from the partitions that are hosted here. A partition may have many producers, so it is described once: when
/// it is named again that is an invalid request.
pub async fn handle(ctx: &Context, request: DescribeProducersRequest) -> Reply<DescribeProducersResponse> {
    let image = ctx.services.metadata.image();
    let mut seen = BTreeSet::new();
    let topics = request.topics.iter().map(|topic| {
        let partition = |index: &PartitionIndex| {
            let response = PartitionResponse::default().with_partition_index(*index);
            let found = if seen.insert((topic.name.as_str(), *index)) {
                producers(ctx, &image, &topic.name, *index)
            } else {
                Err(ErrorCode::InvalidRequest.into())
            };
            match found {
                Ok(producers) => response.with_active_producers(producers.iter().map(state).collect()),
                Err(why) => response.with_error_code(why.code.code()).with_error_message(message(&why)),
            }
        };
        let partitions = topic.partition_indexes.iter().map(partition).collect();
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    Reply::Now(DescribeProducersResponse::default().with_topics(topics.collect()))
}

fn producers(
    ctx: &Context,
    image: &ClusterImage,
    topic: &str,
    index: PartitionIndex,
) -> Result<Vec<ActiveProducer>, ApiError> {
    check_topic_name(topic)
        .map_err(|why| ApiError::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}")))?;
    Ok(ctx.services.hosted_by_name(image, topic, index)?.active_producers())
}

fn state(producer: &ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(WireProducerId(producer.id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_seen_ms)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.txn_first_offset.unwrap_or(NO_TRANSACTION))
}
