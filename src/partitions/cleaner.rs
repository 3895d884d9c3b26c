//! The cleaner: looks for dirty logs of compacted topics and cleans them, the dirtiest first (Kafka's `LogCleaner`).
//!
//! Invariants: of one partition at most one pass runs; at most `log.cleaner.threads` run at a time and share the memory
//! for keys and the pace. A partition whose pass fails is set aside until the next start, alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::partition::{Dirty, PassEnd};
use super::{Partition, Partitions};
use crate::config::{BrokerSettings, Config};
use crate::env::Env;
use crate::ids::TopicIdPartition;
use crate::storage::key_offsets::KeyOffsets;

/// Superseded bytes after which disk space is given back at once, instead of with the next sweep of retention.
const GARBAGE_BYTES_MAX: u64 = 512 << 20;
/// While there are no threads, how often the setting is looked at again.
const IDLE: Duration = Duration::from_secs(15);

/// What one pass did.
#[derive(Clone, Copy, Default, Debug)]
pub struct PassFigures {
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Bytes on disk that are dead now.
    pub bytes_freed: u64,
    /// How much of the table of keys was in use, from 0 to 1.
    pub utilization: f64,
}

/// What the cleaner tells of itself, for metrics; each as the metric of its name.
#[derive(Default)]
pub struct CleanerFigures {
    pub max_dirty_percent: AtomicU64,
    pub max_clean_time_secs: AtomicU64,
    pub max_buffer_utilization_percent: AtomicU64,
    pub max_compaction_delay_secs: AtomicU64,
    pub recopy_percent: AtomicU64,
    /// Wall-clock milliseconds.
    pub last_run_ms: AtomicI64,
    /// Logs set aside.
    uncleanable: Mutex<BTreeSet<TopicIdPartition>>,
}

impl CleanerFigures {
    /// Partitions whose pass failed.
    pub fn uncleanable(&self) -> BTreeSet<TopicIdPartition> {
        self.uncleanable.lock().clone()
    }
}

/// Spreads what passes read and write over time (`log.cleaner.io.max.bytes.per.second`; Kafka's `Throttler`).
pub struct Pace {
    bytes_per_second: f64,
    /// When what was moved so far is paid for.
    paid_at: Mutex<Instant>,
}

impl Pace {
    fn new(env: &Env, bytes_per_second: f64) -> Pace {
        Pace { bytes_per_second, paid_at: Mutex::new(env.now()) }
    }

    /// Waits until `bytes` more may have been moved.
    pub async fn moved(&self, env: &Env, bytes: u64) {
        let seconds = bytes as f64 / self.bytes_per_second;
        // Also false for a rate of 0 or below, which Kafka takes for no limit as well.
        if !(seconds > 1e-6 && seconds.is_finite()) {
            return;
        }
        let until = {
            let mut paid_at = self.paid_at.lock();
            *paid_at = (*paid_at).max(env.now()) + Duration::from_secs_f64(seconds.min(3600.0));
            *paid_at
        };
        env.sleep_until(until).await;
    }
}

/// The task.
pub struct Cleaner {
    pub env: Env,
    pub partitions: Partitions,
    pub config: Arc<ArcSwap<Config>>,
}

impl Cleaner {
    /// Cleans for ever: what is due, then a pause of `log.cleaner.backoff.ms`.
    pub async fn run(self) {
        let mut garbage_bytes = 0;
        loop {
            let config = self.config.load_full();
            let broker = config.broker();
            if broker.log_cleaner_threads <= 0 {
                self.env.sleep(IDLE).await;
                continue;
            }
            let due = self.due().await;
            self.partitions.cleaner().last_run_ms.store(self.env.wall_ms(), Ordering::Relaxed);
            if due.is_empty() {
                self.env.sleep(Duration::from_millis(broker.log_cleaner_backoff_ms.max(1) as u64)).await;
                continue;
            }
            garbage_bytes += self.clean_all(due, broker).await;
            if garbage_bytes > GARBAGE_BYTES_MAX {
                self.partitions.reclaim(&self.env).await;
                garbage_bytes = 0;
            }
        }
    }

    /// The partitions to clean: overdue ones first, then the dirtiest.
    async fn due(&self) -> Vec<Arc<Partition>> {
        let figures = self.partitions.cleaner();
        figures.uncleanable.lock().retain(|&id| self.partitions.hosted(id).is_ok());
        let aside = figures.uncleanable();
        let mut due: Vec<(Dirty, Arc<Partition>)> = Vec::new();
        let (mut dirtiest, mut latest_ms) = (0.0f64, 0);
        for partition in self.partitions.all() {
            if aside.contains(&partition.id()) {
                continue;
            }
            let Some(dirty) = partition.dirty().await else { continue };
            dirtiest = dirtiest.max(dirty.dirt.ratio());
            latest_ms = latest_ms.max(dirty.overdue_ms);
            if dirty.due {
                due.push((dirty, partition));
            }
        }
        figures.max_dirty_percent.store((dirtiest * 100.0) as u64, Ordering::Relaxed);
        figures.max_compaction_delay_secs.store(latest_ms as u64 / 1000, Ordering::Relaxed);
        due.sort_by(|(one, _), (other, _)| {
            let by_ratio = other.dirt.ratio().total_cmp(&one.dirt.ratio());
            (other.overdue_ms > 0).cmp(&(one.overdue_ms > 0)).then(by_ratio)
        });
        due.into_iter().map(|(_, partition)| partition).collect()
    }

    /// Cleans each of `due`, as many at a time as there are threads. Returns the bytes on disk that died of it.
    async fn clean_all(&self, due: Vec<Arc<Partition>>, broker: &BrokerSettings) -> u64 {
        let threads = broker.log_cleaner_threads.max(1) as usize;
        let figures = self.partitions.cleaner();
        let pace = Arc::new(Pace::new(&self.env, broker.log_cleaner_io_max_bytes_per_second));
        let (mut freed, mut slowest, mut fullest) = (0, Duration::ZERO, 0.0f64);
        for group in due.chunks(threads) {
            let mut passes = Vec::new();
            for partition in group {
                let keys_bytes = usize::try_from(broker.log_cleaner_dedupe_buffer_size).unwrap_or(0) / threads;
                let seed = [self.env.random_u64(), self.env.random_u64()];
                let keys = KeyOffsets::new(keys_bytes, broker.log_cleaner_io_buffer_load_factor, seed);
                let (partition, pace, began) = (partition.clone(), pace.clone(), self.env.now());
                let id = partition.id();
                // A task of its own: not even a panic stops the others.
                let pass = self.env.spawn(async move { partition.clean(keys, &pace).await });
                passes.push((id, began, pass));
            }
            for (id, began, pass) in passes {
                match pass.await {
                    Ok(Ok(done)) => {
                        freed += done.bytes_freed;
                        slowest = slowest.max(self.env.now().duration_since(began));
                        fullest = fullest.max(done.utilization);
                        let recopied = done.bytes_written * 100 / done.bytes_read.max(1);
                        figures.recopy_percent.store(recopied, Ordering::Relaxed);
                        tracing::debug!(partition = ?id, ?done, "compacted");
                    }
                    Ok(Err(PassEnd::Moot)) => {}
                    Ok(Err(PassEnd::Uncleanable(reason))) => self.set_aside(id, &reason),
                    Err(failure) => self.set_aside(id, &failure.to_string()),
                }
            }
        }
        figures.max_clean_time_secs.store(slowest.as_secs(), Ordering::Relaxed);
        figures.max_buffer_utilization_percent.store((fullest * 100.0) as u64, Ordering::Relaxed);
        freed
    }

    fn set_aside(&self, id: TopicIdPartition, reason: &str) {
        tracing::error!(partition = ?id, reason, "cannot be compacted and is set aside until the next start");
        self.partitions.cleaner().uncleanable.lock().insert(id);
    }
}
