//! The brokers around this one, as every partition sees them; and the way of what a partition has to tell the
//! controller to the task that tells it.
//!
//! Invariant: a partition is in a queue at most once, so a queue is bounded by the partitions that are hosted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::replicas::{ActiveBrokers, Millis};
use super::throttle::Throttle;
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

/// Partitions that have something to tell.
#[derive(Default)]
pub struct IdQueue {
    ids: Mutex<BTreeSet<TopicIdPartition>>,
    added: Notify,
}

impl IdQueue {
    pub fn add(&self, id: TopicIdPartition) {
        self.ids.lock().insert(id);
        self.added.notify_one();
    }

    /// Waits for partitions and takes at most `count_max` of them.
    pub async fn take(&self, count_max: usize) -> Vec<TopicIdPartition> {
        loop {
            {
                let mut ids = self.ids.lock();
                let taken: Vec<_> = std::iter::from_fn(|| ids.pop_first()).take(count_max).collect();
                if !taken.is_empty() {
                    return taken;
                }
            }
            self.added.notified().await;
        }
    }
}

/// See the file's head.
pub struct Neighbours {
    pub node: BrokerId,
    /// `replica.lag.time.max.ms`.
    pub lag_ms_max: Millis,
    pub figures: ReplicationFigures,
    /// What followers copy from here, and what is copied from leaders.
    pub outgoing: Throttle,
    pub incoming: Throttle,
    /// What is copied between directories of this broker.
    pub moves: Throttle,
    active: ArcSwap<ActiveBrokers>,
    /// Partitions with an ISR change to propose.
    pub proposing: IdQueue,
    /// Partitions that are not in the directory in which the controller believes them.
    pub misplaced: IdQueue,
    /// Partitions that are to move to another directory.
    pub moving: IdQueue,
    /// A log was deleted: its space may come back.
    pub freed: Notify,
}

impl Neighbours {
    /// Knows nobody yet.
    pub fn new(node: BrokerId, lag: Duration) -> Arc<Neighbours> {
        Arc::new(Neighbours {
            node,
            lag_ms_max: lag.as_millis() as Millis,
            figures: ReplicationFigures::default(),
            outgoing: Throttle::default(),
            incoming: Throttle::default(),
            moves: Throttle::default(),
            active: ArcSwap::default(),
            proposing: IdQueue::default(),
            misplaced: IdQueue::default(),
            moving: IdQueue::default(),
            freed: Notify::new(),
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
}
