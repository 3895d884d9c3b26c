//! AlterReplicaLogDirs (34): moves partitions to other data directories of this broker (KIP-113).
//!
//! v1: the first that is served. v2: flexible. The move goes on in the background, DescribeLogDirs shows how far; asked
//! for where the replica is, one that is under way is given up. An unknown directory is 57, an offline one, or an
//! offline replica, 56, a cordoned one 39. A replica that is not here is 9, one that the cluster does not know 3; it
//! will be begun in the directory if it comes.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, TopicName as WireTopicName};

use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicName};

/// Answers for each partition by itself.
pub async fn handle(ctx: &Context, request: AlterReplicaLogDirsRequest) -> Reply<AlterReplicaLogDirsResponse> {
    let image = ctx.services.metadata.image();
    let config = ctx.services.config.load_full();
    let cordoned = &config.broker().cordoned_log_dirs;
    // A partition that is named with two directories counts with the last one, as in Kafka.
    let mut outcomes: BTreeMap<WireTopicName, BTreeMap<PartitionIndex, ErrorCode>> = BTreeMap::new();
    for directory in request.dirs {
        for topic in directory.topics {
            for index in topic.partitions {
                let hosted = ctx.services.hosted_by_name(&image, &topic.name, index).map_err(known);
                let name: TopicName = topic.name.as_str().into();
                let asked = ctx.services.partitions.move_to((&name, index), hosted, &directory.path, cordoned);
                let code = asked.err().unwrap_or(ErrorCode::None);
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
fn known(code: ErrorCode) -> ErrorCode {
    if code == ErrorCode::NotLeaderOrFollower { ErrorCode::ReplicaNotAvailable } else { code }
}
