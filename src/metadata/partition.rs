//! One partition as the controller knows it, and the change that a record brings.
//!
//! Invariants: `directories` is empty or has one entry per replica; every change raises the partition epoch by one,
//! and the leader epoch by one exactly if it names a leader. What a change may be is decided in `partition_change.rs`.
//! Pure.

use crate::ids::{BrokerId, KafkaUuid, LeaderEpoch};

/// Stands for the directory of a replica (`DirectoryId`, KIP-858).
pub mod directory {
    use crate::ids::KafkaUuid;

    /// The broker has not said yet where it put the replica.
    pub const UNASSIGNED: KafkaUuid = KafkaUuid(0);
    /// The replica was in a directory that is gone.
    pub const LOST: KafkaUuid = KafkaUuid(1);
    /// The replica is older than the knowledge of directories.
    pub const MIGRATING: KafkaUuid = KafkaUuid(2);

    /// True for an id that no directory may have.
    pub fn is_reserved(id: KafkaUuid) -> bool {
        id.0 < 100
    }
}

/// What the controller knows of one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionRegistration {
    /// Every replica; the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// Where each replica is, in the order of `replicas`; empty if nobody has ever said.
    pub directories: Vec<KafkaUuid>,
    /// The in-sync replicas.
    pub isr: Vec<BrokerId>,
    /// Eligible leaders outside the ISR: they have everything below the high watermark (KIP-966).
    pub elr: Vec<BrokerId>,
    /// The last leader, while nobody leads (KIP-966).
    pub last_known_elr: Vec<BrokerId>,
    /// Replicas a reassignment adds.
    pub adding: Vec<BrokerId>,
    /// Replicas a reassignment removes.
    pub removing: Vec<BrokerId>,
    pub leader: Option<BrokerId>,
    /// Rises by one with every record that names a leader.
    pub leader_epoch: LeaderEpoch,
    /// Rises by one with every change.
    pub partition_epoch: i32,
    /// The leader was elected uncleanly and has not recovered yet.
    pub recovering: bool,
}

/// What changes in a partition; what is `None` stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionChange {
    pub replicas: Option<Vec<BrokerId>>,
    pub directories: Option<Vec<KafkaUuid>>,
    pub isr: Option<Vec<BrokerId>>,
    pub elr: Option<Vec<BrokerId>>,
    pub last_known_elr: Option<Vec<BrokerId>>,
    pub adding: Option<Vec<BrokerId>>,
    pub removing: Option<Vec<BrokerId>>,
    /// The leader from now on (`Some(None)`: nobody). This starts a new leader epoch, even if it is the same broker.
    pub leader: Option<Option<BrokerId>>,
    pub recovering: Option<bool>,
}

impl PartitionRegistration {
    /// Where the replica of `broker` is; [`directory::UNASSIGNED`] if the broker has none here.
    pub fn directory(&self, broker: BrokerId) -> KafkaUuid {
        match self.replicas.iter().position(|id| *id == broker) {
            Some(at) => self.directories.get(at).copied().unwrap_or(directory::MIGRATING),
            None => directory::UNASSIGNED,
        }
    }

    /// True while a reassignment adds or removes replicas.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// This partition after `change`.
    pub(super) fn changed(&self, change: &PartitionChange) -> PartitionRegistration {
        let mut next = self.clone();
        next.apply(change);
        next
    }

    pub(super) fn apply(&mut self, change: &PartitionChange) {
        fn set<T: Clone>(place: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                place.clone_from(value);
            }
        }
        set(&mut self.replicas, &change.replicas);
        set(&mut self.directories, &change.directories);
        set(&mut self.isr, &change.isr);
        set(&mut self.elr, &change.elr);
        set(&mut self.last_known_elr, &change.last_known_elr);
        set(&mut self.adding, &change.adding);
        set(&mut self.removing, &change.removing);
        set(&mut self.recovering, &change.recovering);
        if let Some(leader) = change.leader {
            self.leader = leader;
            self.leader_epoch += 1;
        }
        self.partition_epoch += 1;
    }
}
