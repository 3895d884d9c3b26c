//! Reassignments: moving the replicas of a partition to other brokers, and calling that off.
//!
//! While one is under way `replicas` holds the target, then what is to be removed; `adding` and `removing` tell the two
//! apart. It is complete once every replica that it adds is in sync. Invariants: no reassignment empties an ISR; a
//! partition whose target is what it has does not change. Sentences are Kafka's (`ReplicationControlManager`). Pure.

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, PartitionIndex};
use crate::metadata::image::ClusterImage;
use crate::metadata::record::MetadataRecord;
use crate::metadata::topics::{PartitionChange, PartitionRegistration, Topic, check_assignment};

/// Where the replicas of a partition shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reassignment {
    pub topic: String,
    pub index: PartitionIndex,
    /// `None` calls off the reassignment that is under way.
    pub target: Option<Vec<BrokerId>>,
}

/// Decides one reassignment. With `factor_may_change` the target may have more or fewer replicas than before.
pub fn decide_reassign(
    image: &ClusterImage,
    asked: &Reassignment,
    factor_may_change: bool,
) -> Result<Vec<MetadataRecord>, ApiError> {
    let (topic, partition) = find(image, asked)?;
    let change = match &asked.target {
        None => called_off(image, topic, asked.index, partition)?,
        Some(target) => {
            check_assignment(image, target, None)?;
            if !factor_may_change {
                check_factor(partition, target)?;
            }
            towards(image, partition, target)
        }
    };
    if change == PartitionChange::default() {
        return Ok(Vec::new());
    }
    Ok(vec![MetadataRecord::PartitionChange { topic: topic.id, index: asked.index, change }])
}

/// True while replicas are being added or removed.
pub fn is_under_way(partition: &PartitionRegistration) -> bool {
    !partition.adding.is_empty() || !partition.removing.is_empty()
}

fn find<'a>(image: &'a ClusterImage, asked: &Reassignment) -> Result<(&'a Topic, &'a PartitionRegistration), ApiError> {
    let Reassignment { topic: name, index, .. } = asked;
    let unknown = |what: String| ApiError::new(ErrorCode::UnknownTopicOrPartition, format!("Unable to find {what}."));
    let topic = image.topics.by_name(name).ok_or_else(|| unknown(format!("a topic named {name}")))?;
    let partition = topic.partition(*index).ok_or_else(|| unknown(format!("partition {name}:{index}")))?;
    Ok((topic, partition))
}

fn check_factor(partition: &PartitionRegistration, target: &[BrokerId]) -> Result<(), ApiError> {
    let kept = partition.replicas.iter().filter(|id| !partition.removing.contains(id)).count();
    if kept == target.len() {
        return Ok(());
    }
    let message = format!("The replication factor is changed from {kept} to {}", target.len());
    Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message))
}

/// The way to `target`, and its end at once if nothing has to be copied for it.
fn towards(image: &ClusterImage, partition: &PartitionRegistration, target: &[BrokerId]) -> PartitionChange {
    let held = without(&partition.replicas, &partition.adding);
    let mut adding = without(target, &held);
    let mut removing = without(&partition.replicas, target);
    adding.sort_unstable();
    removing.sort_unstable();
    let left = without(&partition.isr, &removing);
    let in_sync = |ids: &[BrokerId]| ids.iter().all(|id| left.contains(id));
    let shrinks = adding.len() < removing.len();
    let complete = !left.is_empty() && in_sync(&adding) && (!shrinks || in_sync(target));
    let next = if complete {
        PartitionRegistration {
            replicas: target.to_vec(),
            isr: left,
            adding: vec![],
            removing: vec![],
            ..partition.clone()
        }
    } else {
        let replicas = [target, &removing].concat();
        PartitionRegistration { replicas, adding, removing, ..partition.clone() }
    };
    difference(image, partition, &next)
}

/// The way back: what was to be added goes, what was to be removed stays.
fn called_off(
    image: &ClusterImage,
    topic: &Topic,
    index: PartitionIndex,
    partition: &PartitionRegistration,
) -> Result<PartitionChange, ApiError> {
    if !is_under_way(partition) {
        return Err(ErrorCode::NoReassignmentInProgress.into());
    }
    let replicas = without(&partition.replicas, &partition.adding);
    let isr = without(&partition.isr, &partition.adding);
    if isr.is_empty() {
        let message = format!(
            "Unable to revert partition assignment for {}:{index} because it would require an unclean leader election.",
            topic.name
        );
        return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    let next = PartitionRegistration { replicas, isr, adding: vec![], removing: vec![], ..partition.clone() };
    Ok(difference(image, partition, &next))
}

/// What leads from `before` to `after`. A leader that is no longer in sync is replaced by the first replica that is.
fn difference(image: &ClusterImage, before: &PartitionRegistration, after: &PartitionRegistration) -> PartitionChange {
    let changed = |before: &Vec<BrokerId>, after: &Vec<BrokerId>| (before != after).then(|| after.clone());
    let able = |id: &&BrokerId| after.isr.contains(id) && image.brokers.is_active(**id);
    let leads_on = after.leader.is_some_and(|leader| after.isr.contains(&leader));
    let leader = (!leads_on).then(|| after.replicas.iter().find(able).copied()).filter(|next| *next != before.leader);
    PartitionChange {
        replicas: changed(&before.replicas, &after.replicas),
        isr: changed(&before.isr, &after.isr),
        adding: changed(&before.adding, &after.adding),
        removing: changed(&before.removing, &after.removing),
        leader,
        ..PartitionChange::default()
    }
}

fn without(ids: &[BrokerId], gone: &[BrokerId]) -> Vec<BrokerId> {
    ids.iter().copied().filter(|id| !gone.contains(id)).collect()
}
