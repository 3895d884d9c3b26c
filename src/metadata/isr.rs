//! AlterPartition: what a leader may say about its ISR, and what comes of it (KIP-497, KIP-841, KIP-903).
//!
//! Invariants: the refusals come in Kafka's order (`ReplicationControlManager.validateAlterPartitionData`), because a
//! leader acts on which one it gets; nobody fenced, leaving or restarted since the leader counted on it becomes a
//! member. Pure.

use std::collections::BTreeSet;

use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use crate::metadata::image::ClusterImage;
use crate::metadata::partition::PartitionRegistration;
use crate::metadata::partition_change::{Electorate, Plan};
use crate::metadata::record::MetadataRecord;
use crate::metadata::rules::Rules;
use crate::sabotage;

/// The ISR that a leader proposes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterPartition {
    pub topic: TopicId,
    pub index: PartitionIndex,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    /// Each member with the broker epoch under which it fetched; -1 leaves that unchecked.
    pub isr: Vec<(BrokerId, i64)>,
    /// The leader was elected uncleanly and has not recovered yet.
    pub recovering: bool,
}

/// The partition after an accepted proposal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlteredPartition {
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub isr: Vec<BrokerId>,
    pub recovering: bool,
    pub partition_epoch: i32,
}

/// What the leader hears.
pub type Altered = Result<AlteredPartition, ErrorCode>;

/// Decides one proposal of `sender`. `NewLeaderElected` comes with a record: the proposal was accepted, and completed a
/// reassignment that leaves the sender out.
pub fn decide_alter_partition(
    image: &ClusterImage,
    rules: &Rules,
    sender: BrokerId,
    asked: &AlterPartition,
) -> (Option<MetadataRecord>, Altered) {
    let Some(topic) = image.topics.by_id(asked.topic) else { return (None, Err(ErrorCode::UnknownTopicId)) };
    let Some(partition) = topic.partition(asked.index) else {
        return (None, Err(ErrorCode::UnknownTopicOrPartition));
    };
    if let Err(refused) = check(image, partition, sender, asked) {
        tracing::debug!(topic = %topic.name, partition = asked.index, %sender, ?refused, "an ISR change is refused");
        return (None, Err(refused));
    }
    let mut plan = Plan::new(partition, rules.terms(image, topic));
    plan.isr = asked.isr.iter().map(|(id, _)| *id).collect();
    plan.recovering = asked.recovering;
    let Some(change) = plan.decide(&Electorate::of(&image.brokers)) else { return (None, Ok(altered(partition))) };
    let after = partition.changed(&change);
    let deposed = change.leader.is_some() && after.leader != Some(sender);
    let outcome = if deposed { Err(ErrorCode::NewLeaderElected) } else { Ok(altered(&after)) };
    (Some(MetadataRecord::PartitionChange { topic: topic.id, index: asked.index, change }), outcome)
}

fn altered(partition: &PartitionRegistration) -> AlteredPartition {
    let PartitionRegistration { leader, leader_epoch, recovering, partition_epoch, .. } = *partition;
    AlteredPartition { leader, leader_epoch, isr: partition.isr.clone(), recovering, partition_epoch }
}

fn check(
    image: &ClusterImage,
    partition: &PartitionRegistration,
    sender: BrokerId,
    asked: &AlterPartition,
) -> Result<(), ErrorCode> {
    let refuse_if = |bad: bool, code: ErrorCode| if bad { Err(code) } else { Ok(()) };
    // Who knows more than we do hears it from another controller: we are not the active one any more.
    let ahead = asked.leader_epoch > partition.leader_epoch || asked.partition_epoch > partition.partition_epoch;
    refuse_if(ahead, ErrorCode::NotController)?;
    let unchecked = sabotage::on("partition-epoch-unchecked");
    refuse_if(asked.leader_epoch < partition.leader_epoch && !unchecked, ErrorCode::FencedLeaderEpoch)?;
    refuse_if(partition.leader != Some(sender), ErrorCode::InvalidRequest)?;
    refuse_if(asked.partition_epoch < partition.partition_epoch && !unchecked, ErrorCode::InvalidUpdateVersion)?;
    let mut seen = BTreeSet::new();
    let is_member = |(id, _): &(BrokerId, i64)| partition.replicas.contains(id) && seen.insert(*id);
    let all_members = asked.isr.iter().all(is_member);
    refuse_if(!all_members || !seen.contains(&sender), ErrorCode::InvalidRequest)?;
    let recovers_with_others = asked.recovering && asked.isr.len() > 1;
    let recovers_again = asked.recovering && !partition.recovering;
    refuse_if(recovers_with_others || recovers_again, ErrorCode::InvalidRequest)?;
    let is_eligible = |(id, epoch): &(BrokerId, i64)| {
        let known = image.brokers.by_id(*id).is_some_and(|broker| *epoch == -1 || *epoch == broker.epoch);
        sabotage::on("broker-epoch-unchecked") || known && image.brokers.is_active(*id)
    };
    refuse_if(!asked.isr.iter().all(is_eligible), ErrorCode::IneligibleReplica)
}
