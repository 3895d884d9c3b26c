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
use crate::storage::engine::Engine;
use crate::storage::keys::Key;

/// Kafka's `LogManager.InitialTaskDelayMs`.
const FIRST_SWEEP: Duration = Duration::from_secs(30);

/// The periodic retention task.
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

    /// One pass over all partitions.
    pub async fn sweep(&self) {
        let idle_ms_max = i64::from(self.config.load().broker().producer_id_expiration_ms);
        let mut dead = Vec::new();
        for partition in self.partitions.all() {
            if let Some(range) = partition.expire(idle_ms_max).await {
                dead.push((partition.engine().clone(), range));
            }
        }
        reclaim(&self.env, dead).await;
    }
}

/// Gives the space of deleted ranges back, off the async workers: one pass per data directory.
pub(super) async fn reclaim(env: &Env, dead: Vec<(Engine, (Key, Key))>) {
    let mut directories: Vec<(Engine, Vec<(Key, Key)>)> = Vec::new();
    for (engine, range) in dead {
        match directories.iter_mut().find(|(known, _)| known.is(&engine)) {
            Some((_, ranges)) => ranges.push(range),
            None => directories.push((engine, vec![range])),
        }
    }
    if directories.is_empty() {
        return;
    }
    env.blocking(move || {
        for (engine, ranges) in directories {
            if let Err(poison) = engine.reclaim(&ranges) {
                tracing::warn!(%poison, "cannot give disk space back");
            }
        }
    })
    .await;
}
