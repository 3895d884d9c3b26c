//! AssignReplicasToDirs (73): a broker tells the active controller which directory holds which replica (KIP-858).
//!
//! One version.

use kafka_protocol::messages::assign_replicas_to_dirs_request::DirectoryData as Asked;
use kafka_protocol::messages::assign_replicas_to_dirs_response::{DirectoryData, PartitionData, TopicData};
use kafka_protocol::messages::{AssignReplicasToDirsRequest, AssignReplicasToDirsResponse};

use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::ids::BrokerId;
use crate::metadata::DirectoryAssignment;

/// Asks the quorum, and answers once the directories are in the image.
pub async fn handle(ctx: &Context, request: AssignReplicasToDirsRequest) -> Reply<AssignReplicasToDirsResponse> {
    let (broker, epoch) = (BrokerId(request.broker_id.0), request.broker_epoch);
    let assignments: Vec<DirectoryAssignment> = request.directories.iter().flat_map(assignments).collect();
    let outcome = ctx.services.metadata.on_assign_directories(broker, epoch, assignments).await;
    let response = AssignReplicasToDirsResponse::default();
    Reply::Now(match outcome {
        Ok(outcomes) => response.with_directories(directories(&request.directories, outcomes)),
        Err(refused) => response.with_error_code(refused.code.code()),
    })
}

fn assignments(directory: &Asked) -> Vec<DirectoryAssignment> {
    let mut assignments = Vec::new();
    for topic in &directory.topics {
        assignments.extend(topic.partitions.iter().map(|partition| DirectoryAssignment {
            topic: topic.topic_id.into(),
            index: partition.partition_index,
            directory: directory.id.into(),
        }));
    }
    assignments
}

/// The outcomes in the shape of the request, in whose order they are.
fn directories(asked: &[Asked], outcomes: Vec<Result<(), ErrorCode>>) -> Vec<DirectoryData> {
    let mut outcomes = outcomes.into_iter();
    let mut directories = Vec::with_capacity(asked.len());
    for directory in asked {
        let mut topics = Vec::with_capacity(directory.topics.len());
        for topic in &directory.topics {
            let outcomes = topic.partitions.iter().zip(outcomes.by_ref());
            let partitions = outcomes.map(|(partition, outcome)| {
                let code = outcome.err().unwrap_or(ErrorCode::None).code();
                PartitionData::default().with_partition_index(partition.partition_index).with_error_code(code)
            });
            topics.push(TopicData::default().with_topic_id(topic.topic_id).with_partitions(partitions.collect()));
        }
        directories.push(DirectoryData::default().with_id(directory.id).with_topics(topics));
    }
    directories
}
