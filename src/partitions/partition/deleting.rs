//! The start of a log goes up: what lies before it is given up at once, and said to be gone once that is on disk.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::{Core, Partition};
use crate::env::BoxFuture;
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::storage::log::PartitionLog;

impl Partition {
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
    fn deleted_before(&self, offset: Offset) {
        let mut core = self.core.lock();
        let started = core.log.as_ref().map_or(0, PartitionLog::log_start);
        core.durable_start = core.durable_start.max(offset.min(started));
        core.waiters.wake_fetches();
    }
}
