//! Who leads: what a broker's restart, or its leave, means for the partitions it has replicas of; elections on demand.
//!
//! Invariants: the last member of an ISR never leaves it, because only that replica is known to have everything; a
//! broker that restarts leads under a new leader epoch, even if nobody else could have led meanwhile, so that what its
//! earlier life promised cannot be confused with what the new one knows. Pure.

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, PartitionIndex};
use crate::metadata::image::ClusterImage;
use crate::metadata::record::MetadataRecord;
use crate::metadata::topics::{PartitionChange, PartitionRegistration, Topic};

/// Takes a broker out of every ISR that has other members, and lets one of those lead where it led.
/// Where it is the only member nothing changes: see [`returned`].
pub fn without(image: &ClusterImage, broker: BrokerId) -> Vec<MetadataRecord> {
    changes(image, |partition| {
        let isr: Vec<BrokerId> = partition.isr.iter().copied().filter(|id| *id != broker).collect();
        if isr.is_empty() || isr.len() == partition.isr.len() {
            return None;
        }
        let leader = (partition.leader == Some(broker)).then(|| {
            let able = |id: &&BrokerId| isr.contains(id) && image.brokers.is_active(**id);
            partition.replicas.iter().find(able).copied()
        });
        Some(PartitionChange { isr: Some(isr), leader, ..PartitionChange::default() })
    })
}

/// Elects a broker that has come back, wherever it is the leader of record or nobody leads and it is in the ISR.
pub fn returned(image: &ClusterImage, broker: BrokerId) -> Vec<MetadataRecord> {
    changes(image, |partition| {
        let waiting = partition.leader.is_none_or(|leader| leader == broker);
        let elected = waiting && partition.isr.contains(&broker);
        elected.then(|| PartitionChange { leader: Some(Some(broker)), ..PartitionChange::default() })
    })
}

/// Leaves the partitions that only this broker can lead without a leader: it has left for good, or until it is back.
pub fn orphaned(image: &ClusterImage, broker: BrokerId) -> Vec<MetadataRecord> {
    changes(image, |partition| {
        let orphaned = partition.leader == Some(broker) && partition.isr == [broker];
        orphaned.then(|| PartitionChange { leader: Some(None), ..PartitionChange::default() })
    })
}

/// Whom an election on demand may choose (`ElectionType`, KIP-460).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Election {
    /// The first replica, if it is in sync; where nobody leads, any replica that is.
    Preferred,
    /// Where nobody leads: a replica that is in sync, or else the first that lives, whatever it has.
    Unclean,
}

/// Decides an election of one partition. `ElectionNotNeeded`, `PreferredLeaderNotAvailable` or
/// `EligibleLeadersNotAvailable` if the leader stays who it is.
pub fn decide_elect(
    image: &ClusterImage,
    name: &str,
    index: PartitionIndex,
    election: Election,
) -> Result<Vec<MetadataRecord>, ApiError> {
    let unknown = |what: String| ApiError::new(ErrorCode::UnknownTopicOrPartition, format!("No such {what}"));
    let topic = image.topics.by_name(name).ok_or_else(|| unknown(format!("topic as {name}")))?;
    let partition = topic.partition(index).ok_or_else(|| unknown(format!("partition as {name}-{index}")))?;
    let change = match election {
        Election::Preferred => elect_preferred(image, partition)?,
        Election::Unclean => elect_any(image, partition)?,
    };
    Ok(vec![MetadataRecord::PartitionChange { topic: topic.id, index, change }])
}

fn elect_preferred(image: &ClusterImage, partition: &PartitionRegistration) -> Result<PartitionChange, ApiError> {
    if partition.leader.is_some() && partition.leader.as_ref() == partition.replicas.first() {
        return Err(ErrorCode::ElectionNotNeeded.into());
    }
    let able = |id: &&BrokerId| partition.isr.contains(id) && image.brokers.is_active(**id);
    let preferred = partition.replicas.first().filter(able);
    let instead = || partition.replicas.iter().find(able).filter(|_| partition.leader.as_ref().filter(able).is_none());
    let elected = preferred.or_else(instead).copied().ok_or(ErrorCode::PreferredLeaderNotAvailable)?;
    Ok(PartitionChange { leader: Some(Some(elected)), ..PartitionChange::default() })
}

fn elect_any(image: &ClusterImage, partition: &PartitionRegistration) -> Result<PartitionChange, ApiError> {
    if partition.leader.is_some() {
        return Err(ErrorCode::ElectionNotNeeded.into());
    }
    let mut active = partition.replicas.iter().copied().filter(|id| image.brokers.is_active(*id)).peekable();
    let first = active.peek().copied().ok_or(ErrorCode::EligibleLeadersNotAvailable)?;
    let change = match active.find(|id| partition.isr.contains(id)) {
        Some(in_sync) => PartitionChange { leader: Some(Some(in_sync)), ..PartitionChange::default() },
        None => PartitionChange {
            leader: Some(Some(first)),
            isr: Some(vec![first]),
            recovering: Some(true),
            ..PartitionChange::default()
        },
    };
    Ok(change)
}

fn changes(
    image: &ClusterImage,
    decide: impl Fn(&PartitionRegistration) -> Option<PartitionChange>,
) -> Vec<MetadataRecord> {
    let of_topic = |topic: &Topic| {
        let partitions = topic.partitions.iter().enumerate();
        let changed = partitions.filter_map(|(index, partition)| {
            let change = decide(partition)?;
            Some(MetadataRecord::PartitionChange { topic: topic.id, index: index as PartitionIndex, change })
        });
        changed.collect::<Vec<_>>()
    };
    image.topics.iter().flat_map(|topic| of_topic(topic)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KafkaUuid;
    use crate::metadata::brokers::Broker;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn image(active: &[i32], isr: &[i32], leader: Option<i32>) -> ClusterImage {
        let brokers = active.iter().map(|id| MetadataRecord::RegisterBroker(Broker::plain(*id)));
        let mut records: Vec<MetadataRecord> = brokers.collect();
        let topic = KafkaUuid(7);
        records.push(MetadataRecord::Topic { id: topic, name: "t".into() });
        let registration = PartitionRegistration {
            replicas: ids(&[1, 2, 3]),
            isr: ids(isr),
            leader: leader.map(BrokerId),
            leader_epoch: 5,
            ..PartitionRegistration::default()
        };
        records.push(MetadataRecord::Partition { topic, index: 0, registration });
        ClusterImage::default().replay(&records)
    }

    fn partition(image: &ClusterImage, records: &[MetadataRecord]) -> PartitionRegistration {
        image.replay(records).topics.by_name("t").unwrap().partitions[0].clone()
    }

    #[test]
    fn a_leader_among_others_is_replaced() {
        let image = image(&[1, 3], &[1, 2, 3], Some(1));
        let after = partition(&image, &without(&image, BrokerId(1)));
        assert_eq!((after.isr, after.leader, after.leader_epoch), (ids(&[2, 3]), Some(BrokerId(3)), 6));
    }

    #[test]
    fn a_follower_only_leaves() {
        let image = image(&[1, 2, 3], &[1, 2, 3], Some(1));
        let after = partition(&image, &without(&image, BrokerId(2)));
        assert_eq!((after.isr, after.leader, after.leader_epoch), (ids(&[1, 3]), Some(BrokerId(1)), 5));
    }

    #[test]
    fn the_last_member_stays_and_leads_under_a_new_epoch() {
        let image = image(&[1], &[1], Some(1));
        assert_eq!(without(&image, BrokerId(1)), vec![]);
        let after = partition(&image, &returned(&image, BrokerId(1)));
        assert_eq!((after.isr, after.leader, after.leader_epoch), (ids(&[1]), Some(BrokerId(1)), 6));
    }

    #[test]
    fn who_comes_back_leads_only_what_nobody_leads() {
        let orphan = image(&[1], &[1], None);
        assert_eq!(partition(&orphan, &returned(&orphan, BrokerId(1))).leader, Some(BrokerId(1)));
        let led = image(&[1, 2], &[1, 2], Some(2));
        assert_eq!(returned(&led, BrokerId(1)), vec![]);
        let behind = image(&[1, 2], &[2], None);
        assert_eq!(returned(&behind, BrokerId(1)), vec![], "it is not in the ISR");
    }
}
