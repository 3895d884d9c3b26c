//! The sweep that applies retention to every hosted partition and gives disk space back.
//!
//! Invariant: at most one reclaim runs per sweep, after all partitions were looked at, so that space comes back in one
//! pass over the files instead of one per partition.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Partitions;
use crate::config::Config;
use crate::env::Env;

/// Kafka's `LogManager.InitialTaskDelayMs`.
const FIRST_SWEEP: Duration = Duration::from_secs(30);

/// The periodic retention task.
#[derive(Clone)]
pub struct RetentionSweep {
    pub env: Env,
    pub partitions: Partitions,
    pub config: Arc<ArcSwap<Config>>,
}

impl RetentionSweep {
    /// Sweeps every `log.retention.check.interval.ms`, for ever.
    pub async fn run(self) {
        let interval =
            |config: &Config| Duration::from_millis(config.broker().log_retention_check_interval_ms.max(1) as u64);
        self.env.sleep(FIRST_SWEEP.min(interval(&self.config.load()))).await;
        loop {
            self.sweep().await;
            self.env.sleep(interval(&self.config.load())).await;
        }
    }

    /// Has every partition forget idle producers, every `producer.id.expiration.check.interval.ms`, for ever.
    pub async fn forget_producers(self) {
        loop {
            let interval_ms = self.config.load().broker().producer_id_expiration_check_interval_ms.max(1) as u64;
            self.env.sleep(Duration::from_millis(interval_ms)).await;
            let idle_ms_max = i64::from(self.config.load().broker().producer_id_expiration_ms);
            for partition in self.partitions.all() {
                partition.forget_producers(idle_ms_max);
            }
        }
    }

    /// One pass over all partitions.
    pub async fn sweep(&self) {
        for partition in self.partitions.all() {
            partition.expire().await;
        }
        self.partitions.reclaim(&self.env).await;
    }
}
