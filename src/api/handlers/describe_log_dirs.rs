//! DescribeLogDirs (35): what lies in the data directories of this broker, and how much room is left (KIP-113).
//!
//! v1: the first that is served. v2: flexible. v3: an error at the top. v4: size and room of the file system
//! (KIP-827). v5: whether a directory is cordoned (KIP-1066). Null topics mean all partitions. Sizes are those of
//! record batches as producers sent them. A copy that is to take a log's place is listed by itself, with what it
//! lacks of that. A directory that is offline answers 56 and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use crate::api::translate::{text, topic_name};
use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicName};
use crate::partitions::{HostedLog, LogDir};
use crate::wire::bridge;

/// A volume that does not tell its size (`DescribeLogDirsResponse.UNKNOWN_VOLUME_BYTES`).
const UNKNOWN_BYTES: i64 = -1;
/// A log of which nothing is known (`DescribeLogDirsResponse.INVALID_OFFSET_LAG`).
const UNKNOWN_LAG: i64 = -1;

/// The partitions that are asked about; `None`: all.
type Wanted<'a> = Option<BTreeSet<(&'a str, PartitionIndex)>>;

/// Looks into every directory.
pub async fn handle(ctx: &Context, request: DescribeLogDirsRequest) -> Reply<DescribeLogDirsResponse> {
    let wanted = request.topics.as_deref().map(wanted);
    let config = ctx.services.config.load_full();
    let log_dirs = ctx.services.partitions.log_dirs(&ctx.services.env).await;
    let results = log_dirs.iter().map(|log_dir| result(log_dir, &wanted, &config.broker().cordoned_log_dirs));
    Reply::Now(DescribeLogDirsResponse::default().with_results(results.collect()))
}

fn wanted(topics: &[DescribableLogDirTopic]) -> BTreeSet<(&str, PartitionIndex)> {
    let partitions = topics.iter().map(|topic| (topic.topic.as_str(), &topic.partitions));
    partitions.flat_map(|(topic, indexes)| indexes.iter().map(move |index| (topic, *index))).collect()
}

fn result(log_dir: &LogDir, wanted: &Wanted<'_>, cordoned: &[String]) -> DescribeLogDirsResult {
    let path = log_dir.path.to_string_lossy();
    let result = DescribeLogDirsResult::default().with_log_dir(text(&path));
    if !log_dir.online {
        return result.with_error_code(ErrorCode::KafkaStorageError.code());
    }
    let mut topics: BTreeMap<TopicName, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for log in &log_dir.logs {
        let (topic, index) = (log.partition.topic(), log.partition.index());
        if wanted.as_ref().is_none_or(|wanted| wanted.contains(&(&**topic, index))) {
            topics.entry(topic.clone()).or_default().push(partition(log, index));
        }
    }
    let topic = |(name, partitions): (TopicName, Vec<DescribeLogDirsPartition>)| {
        DescribeLogDirsTopic::default().with_name(topic_name(&name)).with_partitions(partitions)
    };
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut result = result
        .with_topics(topics.into_iter().map(topic).collect())
        .with_total_bytes(log_dir.space.map_or(UNKNOWN_BYTES, |space| bytes(space.total_bytes)))
        .with_usable_bytes(log_dir.space.map_or(UNKNOWN_BYTES, |space| bytes(space.usable_bytes)));
    if cordoned.iter().any(|one| one == "*" || *one == path) {
        bridge::carry_bool(&mut result.unknown_tagged_fields, bridge::IS_CORDONED, true);
    }
    result
}

fn partition(log: &HostedLog, index: PartitionIndex) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition::default()
        .with_partition_index(index)
        .with_partition_size(i64::try_from(log.bytes).unwrap_or(i64::MAX))
        .with_offset_lag(log.lag.unwrap_or(UNKNOWN_LAG))
        .with_is_future_key(log.is_future)
}
