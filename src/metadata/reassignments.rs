//! Reassignments: moving the replicas of a partition to other brokers, and calling that off.
//!
//! While one is under way `replicas` holds the target, then what is to be removed; `adding` and `removing` tell the two
//! apart. It is complete once every replica that it adds is in sync. Invariants: no reassignment empties an ISR; a
//! partition whose target is what it has does not change. Sentences are Kafka's (`ReplicationControlManager`). Pure.

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, PartitionIndex};
use crate::metadata::image::ClusterImage;
use crate::metadata::partition::PartitionRegistration;
use crate::metadata::partition_change::{Election, Electorate, Plan, Terms, without};
use crate::metadata::record::MetadataRecord;
use crate::metadata::rules::Rules;
use crate::metadata::topics::{Topic, check_assignment};

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
    rules: &Rules,
    asked: &Reassignment,
    factor_may_change: bool,
) -> Result<Vec<MetadataRecord>, ApiError> {
    let (topic, partition) = find(image, asked)?;
    let terms = rules.terms(image, topic);
    let plan = match &asked.target {
        None => called_off(partition, terms, || format!("{}:{}", topic.name, asked.index))?,
        Some(target) => {
            check_assignment(image, target, None)?;
            if !factor_may_change {
                check_factor(partition, target)?;
            }
            towards(partition, terms, target)
        }
    };
    let change = plan.decide(&Electorate::of(&image.brokers));
    let record = |change| MetadataRecord::PartitionChange { topic: topic.id, index: asked.index, change };
    Ok(change.map(record).into_iter().collect())
}

/// True while replicas are being added or removed.
pub fn is_under_way(partition: &PartitionRegistration) -> bool {
    partition.is_reassigning()
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
fn towards<'a>(partition: &'a PartitionRegistration, terms: Terms, target: &[BrokerId]) -> Plan<'a> {
    let held = without(&partition.replicas, &partition.adding);
    let mut plan = Plan::new(partition, terms);
    plan.adding = without(target, &held);
    plan.removing = without(&partition.replicas, target);
    plan.adding.sort_unstable();
    plan.removing.sort_unstable();
    plan.replicas = [target, &plan.removing].concat();
    plan.election = Election::Online;
    plan
}

/// The way back: what was to be added goes, what was to be removed stays.
fn called_off<'a>(
    partition: &'a PartitionRegistration,
    terms: Terms,
    what: impl FnOnce() -> String,
) -> Result<Plan<'a>, ApiError> {
    if !is_under_way(partition) {
        return Err(ErrorCode::NoReassignmentInProgress.into());
    }
    let mut plan = Plan::new(partition, terms);
    plan.replicas = without(&partition.replicas, &partition.adding);
    plan.isr = without(&partition.isr, &partition.adding);
    plan.adding.clear();
    plan.removing.clear();
    if plan.isr.is_empty() && !partition.isr.is_empty() {
        if !terms.unclean {
            let message = format!(
                "Unable to revert partition assignment for {} because it would require an unclean leader election.",
                what()
            );
            return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        // The one that is left is taken to have everything, though it has not.
        plan.isr.extend(plan.replicas.first());
    }
    Ok(plan)
}
