//! A log gives up its beginning: by retention, because DeleteRecords asks for it, or because its leader has.
//!
//! Invariant: nobody hears of a log start before it is on stable storage, so no crash takes back what was told.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::{Core, Partition};
use crate::env::BoxFuture;
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::storage::log::PartitionLog;
use crate::storage::retention::RetentionSettings;

impl Partition {
    /// Applies retention by time and size.
    pub async fn expire(self: &Arc<Self>) {
        let settings = self.settings();
        let rules = RetentionSettings {
            retention_ms: settings.retention_ms,
            retention_bytes: settings.retention_bytes,
            delete: settings.cleanup_policy.delete,
        };
        let done = {
            let mut core = self.core.lock();
            let now_ms = self.env.wall_ms();
            let high_watermark = core.high_watermark;
            let Some(log) = core.log.as_mut() else { return };
            let Some(start) = log.retention_plan(&rules, now_ms, high_watermark) else { return };
            tracing::info!(partition = %self.name(), log_start = start, "retention deletes old records");
            self.delete_before(&mut core, start)
        };
        if let Ok(done) = done {
            // A failure poisons the directory, and its lane says so.
            let _ = done.await;
        }
    }

    /// Raises the log start; the future tells when that is on disk, and then readers hear of it.
    pub(super) fn delete_before(
        self: &Arc<Self>,
        core: &mut MutexGuard<'_, Core>,
        offset: Offset,
    ) -> Result<BoxFuture<'static, Result<(), ErrorCode>>, ErrorCode> {
        let (told, outcome) = tokio::sync::oneshot::channel();
        let log = core.log.as_mut().ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let partition = self.clone();
        log.delete_before(offset, move |fate| {
            if fate.is_ok() {
                partition.deleted_before(offset);
            }
            // Nobody may be waiting any more.
            let _ = told.send(fate.is_ok());
        })
        .map_err(|_| ErrorCode::KafkaStorageError)?;
        Ok(Box::pin(async move {
            match outcome.await {
                Ok(true) => Ok(()),
                _ => Err(ErrorCode::KafkaStorageError),
            }
        }))
    }

    /// The lane's news: the log starts at `offset`, or later, on stable storage.
    pub(super) fn deleted_before(&self, offset: Offset) {
        let mut core = self.core.lock();
        let started = core.log.as_ref().map_or(0, PartitionLog::log_start);
        core.durable_start = core.durable_start.max(offset.min(started));
        core.waiters.wake_fetches();
    }
}
