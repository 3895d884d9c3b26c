//! Where replicas are: brokers tell which directory they put a replica into (AssignReplicasToDirs, KIP-858).
//!
//! Invariant: a replica that is put into a directory that is not online leaves the ISR. Pure.

use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, PartitionIndex, TopicId};
use crate::metadata::brokers::Broker;
use crate::metadata::image::ClusterImage;
use crate::metadata::partition_change::{Election, Electorate, Plan};
use crate::metadata::record::MetadataRecord;
use crate::metadata::rules::Rules;

/// A replica of the broker that says so is in `directory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectoryAssignment {
    pub topic: TopicId,
    pub index: PartitionIndex,
    pub directory: KafkaUuid,
}

/// Decides one assignment of `broker`.
pub fn decide_assign(
    image: &ClusterImage,
    rules: &Rules,
    broker: &Broker,
    asked: &DirectoryAssignment,
) -> Result<Option<MetadataRecord>, ErrorCode> {
    let topic = image.topics.by_id(asked.topic).ok_or(ErrorCode::UnknownTopicId)?;
    let partition = topic.partition(asked.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !partition.replicas.contains(&broker.id) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let mut plan = Plan::new(partition, rules.terms(image, topic));
    plan.put(broker.id, asked.directory);
    let mut electorate = Electorate::of(&image.brokers);
    if broker.has_online(asked.directory) {
        plan.election = Election::Online;
    } else {
        plan.isr.retain(|id| *id != broker.id);
        electorate.leaving = Some(broker.id);
    }
    let record = |change| MetadataRecord::PartitionChange { topic: topic.id, index: asked.index, change };
    Ok(plan.decide(&electorate).map(record))
}
