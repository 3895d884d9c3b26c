//! A broker whose disk is full lets others lead: it asks the controller to fence it (`WantFence` of BrokerHeartbeat)
//! until there is room.
//!
//! Kafka's broker takes the directory offline and wants a restart. Here nothing is lost and nobody has to come: with
//! room the broker is unfenced, catches up and joins the ISRs again. One that is needed, because nobody else could lead
//! something, stays: it refuses records and serves readers.

use std::time::Duration;

use tokio::time::Instant;

use crate::ids::BrokerId;
use crate::metadata::{ClusterImage, PartitionRegistration};

/// How long a disk has to be full, or to have room, before the broker goes, or comes back. Retention often makes room
/// in less.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a broker lets others lead.
#[derive(Default)]
pub(super) struct Yielding {
    yields: bool,
    /// Since when it should be the other way round.
    other_way_since: Option<Instant>,
}

impl Yielding {
    /// Whether `me` wants to be fenced now.
    pub(super) fn wants_fence(&mut self, now: Instant, is_full: bool, image: &ClusterImage, me: BrokerId) -> bool {
        let should = is_full && can_be_spared(image, me);
        // Somebody waits for a leader, or for nothing at all: a broker that is needed comes back at once.
        let is_needed = self.yields && is_full && !should;
        if should == self.yields {
            self.other_way_since = None;
        } else if now - *self.other_way_since.get_or_insert(now) >= PATIENCE || is_needed {
            (self.yields, self.other_way_since) = (should, None);
            match should {
                true => tracing::warn!("the disk is full: this broker asks to be fenced, so that others lead"),
                false => tracing::info!(is_needed, "this broker may lead again"),
            }
        }
        self.yields
    }
}

/// Whether everything that `me` leads, or alone could lead, has another in sync.
fn can_be_spared(image: &ClusterImage, me: BrokerId) -> bool {
    let is_alive = |id: &BrokerId| {
        *id != me && image.brokers.by_id(*id).is_some_and(|broker| !broker.fenced && broker.shutting_down.is_none())
    };
    let needs_me = |partition: &PartitionRegistration| match partition.leader {
        Some(leader) => leader == me && !partition.isr.iter().any(is_alive),
        None => {
            let mut eligible = partition.isr.iter().chain(&partition.elr);
            eligible.clone().any(|id| *id == me) && !eligible.any(is_alive)
        }
    };
    let mut partitions = image.topics.iter().flat_map(|topic| &topic.partitions);
    image.brokers.iter().any(|broker| is_alive(&broker.id)) && !partitions.any(needs_me)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::env::Env;
    use crate::ids::KafkaUuid;
    use crate::metadata::{Broker, MetadataRecord};

    const ME: BrokerId = BrokerId(1);

    fn broker(id: i32, fenced: bool) -> MetadataRecord {
        MetadataRecord::RegisterBroker(Broker {
            id: BrokerId(id),
            epoch: 0,
            incarnation: KafkaUuid(1),
            rack: None,
            fenced,
            shutting_down: None,
            endpoints: Vec::new(),
            features: BTreeMap::new(),
            log_dirs: Vec::new(),
            cordoned_dirs: Vec::new(),
        })
    }

    /// A cluster of three brokers, the third fenced, with partitions of a leader and an ISR (or ELR without a leader).
    fn cluster(partitions: &[(Option<i32>, &[i32])]) -> ClusterImage {
        let mut records = vec![broker(1, false), broker(2, false), broker(3, true)];
        records.push(MetadataRecord::Topic { id: KafkaUuid(7), name: "orders".into() });
        for (index, (leader, in_sync)) in (0..).zip(partitions) {
            let ids: Vec<BrokerId> = in_sync.iter().copied().map(BrokerId).collect();
            let (isr, elr) = if leader.is_some() { (ids, Vec::new()) } else { (Vec::new(), ids) };
            let registration = PartitionRegistration {
                replicas: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
                isr,
                elr,
                leader: leader.map(BrokerId),
                ..PartitionRegistration::default()
            };
            records.push(MetadataRecord::Partition { topic: KafkaUuid(7), index, registration });
        }
        ClusterImage::default().replay(&records)
    }

    #[test]
    fn who_is_needed_cannot_be_spared() {
        assert!(can_be_spared(&cluster(&[]), ME));
        assert!(can_be_spared(&cluster(&[(Some(1), &[1, 2]), (Some(2), &[2])]), ME));
        assert!(!can_be_spared(&cluster(&[(Some(1), &[1, 2]), (Some(1), &[1, 3])]), ME), "3 is fenced");
        assert!(!can_be_spared(&cluster(&[(None, &[1])]), ME));
        assert!(can_be_spared(&cluster(&[(None, &[1, 2])]), ME));
        let alone = ClusterImage::default().replay(&[broker(1, false)]);
        assert!(!can_be_spared(&alone, ME));
        let last = ClusterImage::default().replay(&[broker(1, false), broker(2, true)]);
        assert!(!can_be_spared(&last, ME));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_waited_for_and_so_is_room() {
        let spared = cluster(&[(Some(1), &[1, 2])]);
        let mut yielding = Yielding::default();
        let began = Env::real().now();
        assert!(!yielding.wants_fence(began, true, &spared, ME));
        assert!(!yielding.wants_fence(began + PATIENCE / 2, false, &spared, ME), "retention made room");
        assert!(!yielding.wants_fence(began + PATIENCE, true, &spared, ME));
        assert!(yielding.wants_fence(began + PATIENCE * 2, true, &spared, ME));
        assert!(yielding.wants_fence(began + PATIENCE * 2, false, &spared, ME));
        assert!(!yielding.wants_fence(began + PATIENCE * 3, false, &spared, ME));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_needed_comes_back_at_once() {
        let mut yielding = Yielding { yields: true, other_way_since: None };
        assert!(!yielding.wants_fence(Env::real().now(), true, &cluster(&[(None, &[1, 3])]), ME));
    }
}
