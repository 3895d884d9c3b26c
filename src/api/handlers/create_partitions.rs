//! CreatePartitions (37): adds partitions to topics.
//!
//! v0-1: the same. v2: flexible. v3: quota errors. The count is the new total; assignments are for the new partitions
//! only.

use std::collections::BTreeSet;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::api::translate::{message, our_broker_ids, topic_name};
use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Growth;

/// From this version on a topic above the quota is refused (KIP-599).
const STRICT_SINCE: i16 = 3;

/// Asks the quorum to add the partitions and answers once they are in the image.
pub async fn handle(ctx: &Context, request: CreatePartitionsRequest) -> Reply<CreatePartitionsResponse> {
    let duplicates = duplicates(&request.topics);
    let why = ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
    let mut results: Vec<_> = duplicates.iter().map(|name| result(name, Some(&why))).collect();
    let unique = request.topics.iter().filter(|topic| !duplicates.contains(topic.name.as_str()));
    let wanted: Vec<Growth> = unique.map(growth).collect();
    let mutations = ctx.mutations(STRICT_SINCE);
    if !wanted.is_empty() {
        let services = &ctx.services;
        let quota = mutations.quota();
        let asked = services.metadata.create_partitions(wanted.clone(), request.validate_only, quota);
        let outcomes = match ctx.within(request.timeout_ms, asked).await {
            Ok(outcomes) => outcomes,
            Err(why) => vec![Err(why); wanted.len()],
        };
        let grown = wanted.iter().zip(outcomes);
        results.extend(grown.map(|(growth, outcome)| result(&growth.topic, outcome.err().as_ref())));
    }
    let wait_ms = mutations.throttle(ctx);
    Reply::Now(CreatePartitionsResponse::default().with_results(results).with_throttle_time_ms(wait_ms))
}

/// The names that occur more than once: none of them grows.
fn duplicates(topics: &[CreatePartitionsTopic]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    topics.iter().map(|topic| topic.name.as_str()).filter(|name| !seen.insert(*name)).collect()
}

fn growth(topic: &CreatePartitionsTopic) -> Growth {
    let assignments = topic.assignments.as_ref();
    Growth {
        topic: topic.name.to_string(),
        count: topic.count,
        assignments: assignments.map(|given| given.iter().map(|one| our_broker_ids(&one.broker_ids)).collect()),
    }
}

fn result(name: &str, why: Option<&ApiError>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default()
        .with_name(topic_name(name))
        .with_error_code(why.map_or(ErrorCode::None, |why| why.code).code())
        .with_error_message(why.and_then(message))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::BrokerId as WireBrokerId;
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;

    use super::*;
    use crate::ids::BrokerId;

    #[test]
    fn null_assignments_differ_from_none() {
        let topic = CreatePartitionsTopic::default().with_name(topic_name("t")).with_count(3);
        assert_eq!(growth(&topic.clone().with_assignments(None)).assignments, None);
        assert_eq!(growth(&topic.clone().with_assignments(Some(vec![]))).assignments, Some(vec![]));
        let one = CreatePartitionsAssignment::default().with_broker_ids(vec![WireBrokerId(4)]);
        assert_eq!(growth(&topic.with_assignments(Some(vec![one]))).assignments, Some(vec![vec![BrokerId(4)]]));
    }
}
