//! The brokers around this one, as every partition sees them; and the way of an ISR change from a partition to the
//! task that sends it.
//!
//! Invariant: a partition is in the queue at most once, so the queue is bounded by the partitions that are hosted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::replicas::{ActiveBrokers, Millis};
use crate::ids::{BrokerId, TopicIdPartition};

/// What replication tells of itself, for metrics; each as the metric of its name.
#[derive(Default)]
pub struct ReplicationFigures {
    pub isr_shrinks: AtomicU64,
    pub isr_expands: AtomicU64,
    pub failed_isr_updates: AtomicU64,
    /// Partitions whose fetches from their leader fail.
    pub failed_partitions: AtomicU64,
    /// Bytes of records fetched from leaders, and sent to followers.
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

/// See the file's head.
pub struct Neighbours {
    pub node: BrokerId,
    /// `replica.lag.time.max.ms`.
    pub lag_ms_max: Millis,
    pub figures: ReplicationFigures,
    active: ArcSwap<ActiveBrokers>,
    changing: Mutex<BTreeSet<TopicIdPartition>>,
    changed: Notify,
}

impl Neighbours {
    /// Knows nobody yet.
    pub fn new(node: BrokerId, lag: Duration) -> Arc<Neighbours> {
        Arc::new(Neighbours {
            node,
            lag_ms_max: lag.as_millis() as Millis,
            figures: ReplicationFigures::default(),
            active: ArcSwap::default(),
            changing: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// The brokers that may be in an ISR.
    pub fn active(&self) -> arc_swap::Guard<Arc<ActiveBrokers>> {
        self.active.load()
    }

    /// Takes note of a newer image.
    pub fn set_active(&self, active: ActiveBrokers) {
        if **self.active.load() != active {
            self.active.store(Arc::new(active));
        }
    }

    /// The partition has an ISR change to propose.
    pub fn propose(&self, id: TopicIdPartition) {
        self.changing.lock().insert(id);
        self.changed.notify_one();
    }

    /// Waits for ISR changes and takes at most `count_max` of them.
    pub async fn proposals(&self, count_max: usize) -> Vec<TopicIdPartition> {
        loop {
            let taken: Vec<_> = {
                let mut changing = self.changing.lock();
                let mut taken = Vec::new();
                while let Some(id) = if taken.len() < count_max { changing.pop_first() } else { None } {
                    taken.push(id);
                }
                taken
            };
            if !taken.is_empty() {
                return taken;
            }
            self.changed.notified().await;
        }
    }
}
