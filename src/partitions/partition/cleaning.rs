//! Compaction of one partition: a pass, step by step, between everything else that happens to it.
//!
//! Invariants: reading and deciding run off the partition's lock and off the async workers; the lock is held for one
//! chunk's bookkeeping. A step is on disk before the next one begins, so producers never queue behind more than one.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Core, Isolation, Partition, segment_span};
use crate::ids::{Offset, WallMillis};
use crate::partitions::cleaner::{Pace, PassFigures};
use crate::records::{self, clean::Horizon};
use crate::storage::compaction::{Dirt, DirtRules, Pass, Rewrite};
use crate::storage::engine::Poisoned;
use crate::storage::key_offsets::KeyOffsets;
use crate::storage::log::{ColdRead, PartitionLog};

/// Why a pass ended early.
#[derive(Debug)]
pub enum PassEnd {
    /// The partition is gone, its disk failed, or its policy changed: nothing is wrong with the log.
    Moot,
    /// The log cannot be cleaned; says why.
    Uncleanable(String),
}

/// What could be cleaned of a partition, and whether it should be.
#[derive(Clone, Copy, Debug)]
pub struct Dirty {
    pub dirt: Dirt,
    /// Its oldest dirty record is older than `max.compaction.lag.ms`: by how much, in milliseconds.
    pub overdue_ms: i64,
    /// The dirty ratio is above the topic's, or it is overdue.
    pub due: bool,
}

impl Partition {
    /// What could be cleaned now; `None` if the topic is not compacted or nothing could.
    pub async fn dirty(&self) -> Option<Dirty> {
        let settings = self.settings();
        if !settings.cleanup_policy.compact {
            return None;
        }
        let now_ms = self.env.wall_ms();
        let (dirt, first) = {
            let core = self.core.lock();
            let (log, stable) = core.cleanable()?;
            let dirt = log.dirt(&self.dirt_rules(), stable, now_ms);
            if dirt.dirty_bytes == 0 {
                return None;
            }
            let lag_matters = settings.max_compaction_lag_ms < i64::MAX;
            (dirt, lag_matters.then(|| log.read(dirt.from, dirt.up_to, 0, true)))
        };
        let oldest_ms = match first {
            None => None,
            Some(Ok(batches)) => oldest_ms(&batches),
            Some(Err(cold)) => self.oldest_on_disk(cold).await,
        };
        let overdue_ms = oldest_ms.map_or(0, |oldest_ms| {
            now_ms.saturating_sub(settings.max_compaction_lag_ms).saturating_sub(oldest_ms).max(0)
        });
        let due = overdue_ms > 0 || dirt.ratio() > settings.min_cleanable_dirty_ratio;
        Some(Dirty { dirt, overdue_ms, due })
    }

    async fn oldest_on_disk(&self, cold: ColdRead) -> Option<WallMillis> {
        // A pass would meet the same failure and say so.
        self.env.blocking(move || cold.run()).await.ok().and_then(|batches| oldest_ms(&batches))
    }

    fn dirt_rules(&self) -> DirtRules {
        let settings = self.settings();
        DirtRules {
            segment_bytes: u64::try_from(settings.segment_bytes).unwrap_or(0),
            segment_ms: segment_span(&settings),
            lag_ms_min: settings.min_compaction_lag_ms,
        }
    }

    /// Cleans what is dirty now, at `pace`, with `keys` as the table of keys.
    pub async fn clean(self: &Arc<Self>, keys: KeyOffsets, pace: &Pace) -> Result<PassFigures, PassEnd> {
        let settings = self.settings();
        let horizon = Horizon { now_ms: self.env.wall_ms(), delete_retention_ms: settings.delete_retention_ms };
        let (mut pass, cuts) = {
            let core = self.core.lock();
            let (log, stable) = core.cleanable().ok_or(PassEnd::Moot)?;
            let dirt = log.dirt(&self.dirt_rules(), stable, horizon.now_ms);
            // Retention may have been faster.
            if dirt.dirty_bytes == 0 {
                return Err(PassEnd::Moot);
            }
            (log.pass(dirt, stable, horizon, keys), core.cuts)
        };
        let mut figures = PassFigures::default();
        for chunk in pass.dirty_chunks() {
            let (held, learnt) = self.step(pass, move |pass| pass.learn(&chunk)).await?;
            pass = held;
            figures.bytes_read += chunk.bytes;
            pace.moved(&self.env, chunk.bytes).await;
            if !learnt {
                break;
            }
        }
        figures.utilization = pass.utilization();
        if pass.end() <= pass.begin() {
            return Err(PassEnd::Uncleanable(
                "log.cleaner.dedupe.buffer.size does not hold the keys of a batch".into(),
            ));
        }
        for chunk in pass.chunks() {
            let (held, rewrite) = self.step(pass, move |pass| pass.rewrite(&chunk)).await?;
            pass = held;
            let written = rewrite.bytes_written();
            figures.bytes_read += chunk.bytes;
            figures.bytes_written += written;
            figures.bytes_freed += chunk.bytes.saturating_sub(rewrite.bytes) + written;
            self.replace(rewrite, cuts).await?;
            pace.moved(&self.env, chunk.bytes + written).await;
        }
        self.finish_pass(pass.end(), cuts).await?;
        Ok(figures)
    }

    /// Runs a step of a pass where it may block.
    async fn step<T: Send + 'static>(
        &self,
        mut pass: Pass,
        work: impl FnOnce(&mut Pass) -> Result<T, String> + Send + 'static,
    ) -> Result<(Pass, T), PassEnd> {
        if !self.settings().cleanup_policy.compact {
            return Err(PassEnd::Moot);
        }
        let (pass, outcome) = self
            .env
            .blocking(move || {
                let outcome = work(&mut pass);
                (pass, outcome)
            })
            .await;
        match outcome {
            Ok(outcome) => Ok((pass, outcome)),
            // The files of a deleted partition and of a failed disk cannot be read: that says nothing of the log.
            Err(_) if self.core.lock().cleanable().is_none() => Err(PassEnd::Moot),
            Err(reason) => Err(PassEnd::Uncleanable(reason)),
        }
    }

    async fn replace(&self, rewrite: Rewrite, cuts: u64) -> Result<(), PassEnd> {
        let settings = self.settings();
        let span_ms_max = if settings.cleanup_policy.delete { super::chunk_span(&settings) } else { i64::MAX };
        let (told, outcome) = oneshot::channel();
        let submitted = {
            let mut core = self.core.lock();
            let log = core.uncut(cuts)?;
            log.replace(rewrite, span_ms_max, tell(told)).map_err(|_| PassEnd::Moot)?
        };
        if submitted { on_disk(outcome).await } else { Ok(()) }
    }

    async fn finish_pass(&self, cleaned_to: Offset, cuts: u64) -> Result<(), PassEnd> {
        let (told, outcome) = oneshot::channel();
        {
            let mut core = self.core.lock();
            let log = core.uncut(cuts)?;
            log.finish_pass(cleaned_to, tell(told)).map_err(|_| PassEnd::Moot)?;
        }
        on_disk(outcome).await
    }
}

type Fate = Result<(), Poisoned>;

fn tell(told: oneshot::Sender<Fate>) -> impl FnOnce(Fate) + Send + 'static {
    // Nobody may be waiting any more.
    move |fate| drop(told.send(fate))
}

async fn on_disk(outcome: oneshot::Receiver<Fate>) -> Result<(), PassEnd> {
    match outcome.await {
        Ok(Ok(())) => Ok(()),
        _ => Err(PassEnd::Moot),
    }
}

fn oldest_ms(batches: &[bytes::Bytes]) -> Option<WallMillis> {
    let header = records::BatchHeader::parse(batches.first()?).ok()?;
    Some(header.max_timestamp).filter(|&timestamp| timestamp >= 0)
}

impl Core {
    /// The log, if it was not cut since there were `cuts`: what a pass has read may not be there any more.
    fn uncut(&mut self, cuts: u64) -> Result<&mut PartitionLog, PassEnd> {
        self.log.as_mut().filter(|_| self.cuts == cuts).ok_or(PassEnd::Moot)
    }

    /// The log and its last stable offset; `None` if the partition is gone, its disk failed, or it is moving.
    fn cleanable(&self) -> Option<(&PartitionLog, Offset)> {
        let log = self.log.as_ref().filter(|log| !log.is_offline() && self.moving.is_over())?;
        Some((log, self.offsets().ok()?.bound(Isolation::ReadCommitted)))
    }
}
