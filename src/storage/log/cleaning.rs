//! What compaction does to a log: the writes; see [`crate::storage::compaction`] for the reading.
//!
//! Invariants: only closed chunks are rewritten, so an append never meets a rewrite; batches, chunk rows and log state
//! change in one atomic write, in the order of the lane. A rewrite of a chunk that was deleted meanwhile is dropped.

use std::collections::BTreeMap;

use super::{CHUNK_BYTES, PartitionLog};
use crate::ids::{Offset, WallMillis};
use crate::records::clean::Horizon;
use crate::storage::compaction::{self, Dirt, DirtRules, LastOfProducer, Pass, PassStart, Rewrite};
use crate::storage::engine::{Poisoned, Write};
use crate::storage::key_offsets::KeyOffsets;
use crate::storage::keys::{self, Family, Kind};
use crate::storage::{retention::Chunk, state};

impl PartitionLog {
    /// What could be cleaned now; `stable` is the last stable offset.
    pub fn dirt(&self, rules: &DirtRules, stable: Offset, now_ms: WallMillis) -> Dirt {
        let from = if self.cleaned_to > self.state.log_end { 0 } else { self.cleaned_to };
        let live = self.closed.iter().chain([&self.state.open]).filter(|chunk| chunk.bytes > 0);
        compaction::dirt(live.copied(), rules, from.max(self.state.log_start), stable, now_ms)
    }

    /// Begins a pass over `dirt`, which [`PartitionLog::dirt`] has just found.
    pub fn pass(&self, dirt: Dirt, stable: Offset, horizon: Horizon, keys: KeyOffsets) -> Pass {
        let chunks = self.closed.iter().filter(|chunk| chunk.next_offset <= dirt.up_to).copied().collect();
        let producers: BTreeMap<_, _> = self
            .producers
            .iter()
            .map(|(id, producer)| (id, LastOfProducer { data_offset: producer.last_offset(), epoch: producer.epoch }))
            .collect();
        let start = PassStart { dirt, log_start: self.state.log_start, stable, chunks, producers };
        Pass::new(self.home.engine.clone(), self.number, start, horizon, keys)
    }

    /// Writes what a chunk becomes; `done` tells when it is on disk. A small chunk joins the one before it, if together
    /// their records span at most `span_ms_max`. False, without a call of `done`, if there is nothing to write.
    pub fn replace(
        &mut self,
        rewrite: Rewrite,
        span_ms_max: i64,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<bool, Poisoned> {
        let base = rewrite.chunk.base_offset;
        let Ok(at) = self.closed.binary_search_by_key(&base, |chunk| chunk.base_offset) else { return Ok(false) };
        let old = self.closed[at];
        let new = Chunk { bytes: rewrite.bytes, max_timestamp: rewrite.max_timestamp, ..old };
        let joined = at.checked_sub(1).and_then(|before| joined(&self.closed[before], &new, span_ms_max));
        if rewrite.changes.is_empty() && joined.is_none() {
            return Ok(false);
        }
        let mut write = Write::new();
        // From the first gap on the log says that it may have some, also if this pass never ends.
        self.put_cleaned(&mut write);
        for (base, anew) in rewrite.changes {
            match anew {
                Some(batch) => write.put(Family::Batches, keys::batch(self.number, base), batch),
                None => write.delete(Family::Batches, keys::batch(self.number, base)),
            }
        }
        match joined {
            Some(joined) => {
                self.closed.remove(at);
                self.closed[at - 1] = joined;
                write.delete(Family::State, keys::numbered(Kind::Chunk, self.number, base));
                self.put_chunk(&joined, &mut write);
            }
            None => {
                self.closed[at] = new;
                self.put_chunk(&new, &mut write);
            }
        }
        // Before it is written: no reader finds the batches of before once another has found those of after.
        self.home.tail.forget_below(self.number, old.next_offset);
        self.state.bytes = (self.state.bytes + new.bytes).saturating_sub(old.bytes);
        self.put_state(&mut write);
        self.home.engine.submit(write.when_done(done))?;
        Ok(true)
    }

    fn put_chunk(&self, chunk: &Chunk, write: &mut Write) {
        let key = keys::numbered(Kind::Chunk, self.number, chunk.base_offset);
        write.put(Family::State, key, state::encode_chunk(chunk));
    }

    /// A pass has ended at `cleaned_to`: the next one begins here.
    pub fn finish_pass(
        &mut self,
        cleaned_to: Offset,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), Poisoned> {
        self.cleaned_to = cleaned_to;
        self.home.engine.note_garbage((keys::batch(self.number, 0), keys::batch(self.number, cleaned_to)));
        let mut write = Write::new();
        self.put_cleaned(&mut write);
        self.home.engine.submit(write.when_done(done))
    }

    pub(super) fn put_cleaned(&mut self, write: &mut Write) {
        self.compacted = true;
        write.put(Family::State, keys::of_log(Kind::Cleaned, self.number), state::encode_cleaned(self.cleaned_to));
    }

    /// True if the disk of this log failed.
    pub fn is_offline(&self) -> bool {
        self.home.engine.poison().is_some()
    }
}

/// Both chunks as one, if that is small and short enough. An empty one always fits.
fn joined(before: &Chunk, chunk: &Chunk, span_ms_max: i64) -> Option<Chunk> {
    let bytes = before.bytes + chunk.bytes;
    let apart_ms = chunk.max_timestamp.saturating_sub(before.max_timestamp).saturating_abs();
    let times_known = before.max_timestamp >= 0 && chunk.max_timestamp >= 0;
    let fits = bytes <= CHUNK_BYTES && times_known && apart_ms <= span_ms_max;
    if before.next_offset != chunk.base_offset || !(fits || chunk.bytes == 0) {
        return None;
    }
    let max_timestamp =
        if chunk.bytes == 0 { before.max_timestamp } else { before.max_timestamp.max(chunk.max_timestamp) };
    Some(Chunk { next_offset: chunk.next_offset, bytes, max_timestamp, ..*before })
}

#[cfg(test)]
mod tests;
