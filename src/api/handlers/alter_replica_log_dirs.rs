//! AlterReplicaLogDirs (34): moves partitions to other data directories of this broker (KIP-113).
//!
//! v1: the first that is served. v2: flexible. A partition may stay where it is; an unknown one is 3, one that is not
//! hosted here 9, an unknown directory 57, an offline one 56. Nothing moves yet: another directory than its own is 39.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, TopicName as WireTopicName};

use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::ids::PartitionIndex;

/// Answers for each partition by itself.
pub async fn handle(ctx: &Context, request: AlterReplicaLogDirsRequest) -> Reply<AlterReplicaLogDirsResponse> {
    let image = ctx.services.metadata.image();
    // A partition that is named with two directories counts with the last one, as in Kafka.
    let mut outcomes: BTreeMap<WireTopicName, BTreeMap<PartitionIndex, ErrorCode>> = BTreeMap::new();
    for directory in request.dirs {
        for topic in directory.topics {
            for index in topic.partitions {
                let hosted = ctx.services.hosted_by_name(&image, &topic.name, index);
                let checked = ctx.services.partitions.check_move(hosted.as_deref().map_err(known), &directory.path);
                let code = checked.err().unwrap_or(ErrorCode::None);
                outcomes.entry(topic.name.clone()).or_default().insert(index, code);
            }
        }
    }
    let result = |(index, code): (PartitionIndex, ErrorCode)| {
        AlterReplicaLogDirPartitionResult::default().with_partition_index(index).with_error_code(code.code())
    };
    let topic = |(name, partitions): (WireTopicName, BTreeMap<PartitionIndex, ErrorCode>)| {
        let partitions = partitions.into_iter().map(result).collect();
        AlterReplicaLogDirTopicResult::default().with_topic_name(name).with_partitions(partitions)
    };
    Reply::Now(AlterReplicaLogDirsResponse::default().with_results(outcomes.into_iter().map(topic).collect()))
}

/// The code that clients of this API know: who is no replica is not "not leader" here.
fn known(code: &ErrorCode) -> ErrorCode {
    if *code == ErrorCode::NotLeaderOrFollower { ErrorCode::ReplicaNotAvailable } else { *code }
}
