//! AlterPartitionReassignments (45): moves the replicas of partitions, or calls that off (KIP-455).
//!
//! v0: flexible from the start. v1: whether the number of replicas may change (KIP-860). Null replicas call off what is
//! under way; partitions answer for themselves.

use kafka_protocol::messages::alter_partition_reassignments_request::ReassignableTopic;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use crate::api::translate::{message, our_broker_ids};
use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Reassignment;

type Outcome = Result<(), ApiError>;

/// Asks the quorum, and answers once the reassignments are in the image.
pub async fn handle(
    ctx: &Context,
    request: AlterPartitionReassignmentsRequest,
) -> Reply<AlterPartitionReassignmentsResponse> {
    let services = &ctx.services;
    let asked = request.topics.iter().flat_map(reassignments).collect();
    let asked = services.metadata.reassign(asked, request.allow_replication_factor_change);
    let response = AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_error_message(None);
    Reply::Now(match ctx.within(request.timeout_ms, asked).await {
        Ok(outcomes) => response.with_responses(responses(&request.topics, outcomes)),
        Err(why) => response.with_error_code(why.code.code()).with_error_message(message(&why)),
    })
}

fn reassignments(topic: &ReassignableTopic) -> Vec<Reassignment> {
    let reassignments = topic.partitions.iter().map(|partition| Reassignment {
        topic: topic.name.to_string(),
        index: partition.partition_index,
        target: partition.replicas.as_deref().map(our_broker_ids),
    });
    reassignments.collect()
}

/// The outcomes, which are in the order of the request, by topic.
fn responses(topics: &[ReassignableTopic], outcomes: Vec<Outcome>) -> Vec<ReassignableTopicResponse> {
    let mut outcomes = outcomes.into_iter();
    let mut next = || outcomes.next().unwrap_or(Err(ErrorCode::UnknownServerError.into()));
    let mut responses = Vec::with_capacity(topics.len());
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let partition = ReassignablePartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_message(None);
            partitions.push(match next() {
                Ok(()) => partition,
                Err(why) => partition.with_error_code(why.code.code()).with_error_message(message(&why)),
            });
        }
        responses.push(ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    responses
}
