//! Who leads: what it means for partitions that a broker leaves or comes back, that a directory fails, and elections.
//!
//! Invariant: nothing here chooses by itself; every partition is changed by a [`Plan`]. A broker that restarts leads
//! under a new leader epoch, so that what its earlier life promised cannot be confused with what the new one knows.
//! Pure.

use std::sync::Arc;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, KafkaUuid, PartitionIndex};
use crate::metadata::image::ClusterImage;
use crate::metadata::partition::PartitionRegistration;
use crate::metadata::partition_change::{Election, Electorate, Plan, Terms};
use crate::metadata::record::MetadataRecord;
use crate::metadata::rules::Rules;
use crate::metadata::topics::Topic;

/// Most elections that one pass over all partitions decides (`MAX_ELECTIONS_PER_IMBALANCE`).
pub const ELECTIONS_PER_PASS_MAX: usize = 1000;

/// Takes a broker out of every ISR, and has others lead where it led.
pub fn leaving(image: &ClusterImage, rules: &Rules, broker: BrokerId) -> Vec<MetadataRecord> {
    let electorate = Electorate { leaving: Some(broker), ..Electorate::of(&image.brokers) };
    let selected = |partition: &PartitionRegistration| partition.isr.contains(&broker);
    changes(image, rules, &electorate, selected, |plan| plan.isr.retain(|id| *id != broker))
}

/// Takes a broker that may have lost something out of every ISR and out of every ELR.
pub fn lossy(image: &ClusterImage, rules: &Rules, broker: BrokerId) -> Vec<MetadataRecord> {
    let electorate = Electorate { leaving: Some(broker), ..Electorate::of(&image.brokers) };
    let selected =
        |partition: &PartitionRegistration| partition.isr.contains(&broker) || partition.elr.contains(&broker);
    changes(image, rules, &electorate, selected, |plan| {
        plan.isr.retain(|id| *id != broker);
        plan.lossy = Some(broker);
    })
}

/// Elects a broker that has come back wherever nobody leads and it may.
pub fn returning(image: &ClusterImage, rules: &Rules, broker: BrokerId) -> Vec<MetadataRecord> {
    let electorate = Electorate { joining: Some(broker), ..Electorate::of(&image.brokers) };
    let selected =
        |partition: &PartitionRegistration| partition.leader.is_none() && partition.replicas.contains(&broker);
    changes(image, rules, &electorate, selected, |_| {})
}

/// Takes a broker out of the ISRs of what it has in directories that are offline.
pub fn directories_lost(
    image: &ClusterImage,
    rules: &Rules,
    broker: BrokerId,
    offline: &[KafkaUuid],
) -> Vec<MetadataRecord> {
    let electorate = Electorate { leaving: Some(broker), ..Electorate::of(&image.brokers) };
    let selected = |partition: &PartitionRegistration| {
        partition.replicas.contains(&broker) && offline.contains(&partition.directory(broker))
    };
    changes(image, rules, &electorate, selected, |plan| plan.isr.retain(|id| *id != broker))
}

/// Has preferred replicas lead that do not, as many as one pass may elect.
pub fn balance(image: &ClusterImage, rules: &Rules) -> Vec<MetadataRecord> {
    let electorate = Electorate::of(&image.brokers);
    let imbalanced = |partition: &PartitionRegistration| partition.leader.as_ref() != partition.replicas.first();
    let mut elected = changes(image, rules, &electorate, imbalanced, |plan| plan.election = Election::Preferred);
    elected.truncate(ELECTIONS_PER_PASS_MAX);
    elected
}

/// Elects whoever lives where nobody leads and the topic allows it, as many as one pass may elect.
pub fn elect_uncleanly(image: &ClusterImage, rules: &Rules) -> Vec<MetadataRecord> {
    let electorate = Electorate::of(&image.brokers);
    let topics = image.topics.iter().filter(|topic| rules.terms(image, topic).unclean);
    let leaderless = |partition: &PartitionRegistration| partition.leader.is_none();
    let of_topic = |topic: &Arc<Topic>| changes_in(topic, rules.terms(image, topic), &electorate, leaderless, |_| {});
    topics.flat_map(of_topic).take(ELECTIONS_PER_PASS_MAX).collect()
}

/// Decides an election of one partition. `ElectionNotNeeded`, `PreferredLeaderNotAvailable` or
/// `EligibleLeadersNotAvailable` if the leader stays who it is.
pub fn decide_elect(
    image: &ClusterImage,
    rules: &Rules,
    (name, index): (&str, PartitionIndex),
    election: Election,
) -> Result<Vec<MetadataRecord>, ApiError> {
    let unknown = |what: String| ApiError::new(ErrorCode::UnknownTopicOrPartition, format!("No such {what}"));
    let topic = image.topics.by_name(name).ok_or_else(|| unknown(format!("topic as {name}")))?;
    let partition = topic.partition(index).ok_or_else(|| unknown(format!("partition as {name}-{index}")))?;
    let preferred = election == Election::Preferred;
    let settled = if preferred { partition.leader.as_ref() == partition.replicas.first() } else { true };
    if partition.leader.is_some() && settled {
        return Err(ErrorCode::ElectionNotNeeded.into());
    }
    let mut plan = Plan::new(partition, rules.terms(image, topic));
    plan.election = election;
    let none = if preferred { ErrorCode::PreferredLeaderNotAvailable } else { ErrorCode::EligibleLeadersNotAvailable };
    let change = plan.decide(&Electorate::of(&image.brokers)).ok_or(none)?;
    Ok(vec![MetadataRecord::PartitionChange { topic: topic.id, index, change }])
}

/// The changes of every partition that is `selected`, after `shape` has made its plan.
fn changes(
    image: &ClusterImage,
    rules: &Rules,
    electorate: &Electorate<'_>,
    selected: impl Fn(&PartitionRegistration) -> bool + Copy,
    shape: impl Fn(&mut Plan<'_>) + Copy,
) -> Vec<MetadataRecord> {
    let topics = image.topics.iter().filter(|topic| topic.partitions.iter().any(selected));
    topics.flat_map(|topic| changes_in(topic, rules.terms(image, topic), electorate, selected, shape)).collect()
}

fn changes_in(
    topic: &Topic,
    terms: Terms,
    electorate: &Electorate<'_>,
    selected: impl Fn(&PartitionRegistration) -> bool,
    shape: impl Fn(&mut Plan<'_>),
) -> Vec<MetadataRecord> {
    let partitions = topic.partitions.iter().enumerate().filter(|(_, partition)| selected(partition));
    let changed = partitions.filter_map(|(index, partition)| {
        let mut plan = Plan::new(partition, terms);
        shape(&mut plan);
        let change = plan.decide(electorate)?;
        Some(MetadataRecord::PartitionChange { topic: topic.id, index: index as PartitionIndex, change })
    });
    changed.collect()
}
