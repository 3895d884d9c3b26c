//! ElectLeaders (43): elects the preferred leaders of partitions, or any leader for those without one (KIP-460).
//!
//! v0: preferred leaders only. v1: the kind of election, an error at the top. v2: flexible. Null topics mean every
//! partition, and then those that need no election are left out of the answer.

use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use crate::api::translate::{message, topic_name};
use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::ids::PartitionIndex;
use crate::metadata::{Elected, Election};

/// Asks the quorum, and answers once the leaders are in the image.
pub async fn handle(ctx: &Context, request: ElectLeadersRequest) -> Reply<ElectLeadersResponse> {
    let partitions = request.topic_partitions.as_deref().map(partitions);
    let services = &ctx.services;
    let outcome = match election(ctx.request.version, request.election_type) {
        Ok(election) => {
            let asked = services.metadata.elect_leaders(election, partitions.clone());
            ctx.within(request.timeout_ms, asked).await
        }
        Err(why) => Err(why),
    };
    let (code, elected) = match outcome {
        Ok(elected) => (ErrorCode::None, elected),
        Err(why) => {
            let refused = |(topic, index)| (topic, index, Err(why.clone()));
            (why.code, partitions.unwrap_or_default().into_iter().map(refused).collect())
        }
    };
    // Version 0 has no place for an error at the top.
    let code = if ctx.request.version == 0 { ErrorCode::None } else { code };
    let response = ElectLeadersResponse::default().with_error_code(code.code());
    Reply::Now(response.with_replica_election_results(results(elected)))
}

fn election(version: i16, number: i8) -> Result<Election, ApiError> {
    match number {
        _ if version == 0 => Ok(Election::Preferred),
        0 => Ok(Election::Preferred),
        1 => Ok(Election::Unclean),
        unknown => Err(ApiError::new(ErrorCode::InvalidRequest, format!("Unknown election type {unknown}"))),
    }
}

fn partitions(topics: &[TopicPartitions]) -> Vec<(String, PartitionIndex)> {
    let of_topic = |topic: &TopicPartitions| {
        let name = topic.topic.to_string();
        topic.partitions.iter().map(|index| (name.clone(), *index)).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

/// The outcomes, those of one topic together.
fn results(elected: Vec<Elected>) -> Vec<ReplicaElectionResult> {
    let mut results: Vec<ReplicaElectionResult> = Vec::new();
    for (topic, index, outcome) in elected {
        let result = PartitionResult::default().with_partition_id(index).with_error_message(None);
        let result = match outcome {
            Ok(()) => result,
            Err(why) => result.with_error_code(why.code.code()).with_error_message(message(&why)),
        };
        match results.last_mut() {
            Some(last) if last.topic.as_str() == topic => last.partition_result.push(result),
            _ => {
                let first = ReplicaElectionResult::default().with_topic(topic_name(&topic));
                results.push(first.with_partition_result(vec![result]));
            }
        }
    }
    results
}
