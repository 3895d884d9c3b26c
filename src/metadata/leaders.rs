//! Who leads: what a broker's restart means for the partitions it has replicas of.
//!
//! Invariants: the last member of an ISR never leaves it, because only that replica is known to have everything; a
//! broker that restarts leads under a new leader epoch, even if nobody else could have led meanwhile, so that what its
//! earlier life promised cannot be confused with what the new one knows. Pure.

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
