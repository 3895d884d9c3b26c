//! A log's move to another directory of the same broker (KIP-113): a future log becomes what the log is, and takes its
//! place.
//!
//! Invariants: the future log is a prefix of the log it copies, or says by its epochs where it is not. It holds the
//! log's batches verbatim, in chunks of its own; what no batch tells (producers, epochs without records, what
//! compaction has seen) it takes over when it takes the log's place. That is one atomic write, behind every batch it
//! has: before it is on disk the log counts, after it the future log. Reading goes on off the lock; what was read
//! counts only if the log is still what it was.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::reading::ReadFailure;
use super::{Batches, CHUNK_BYTES, ColdRead, LogHome, PartitionLog};
use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, Offset, ProducerId, TopicIdPartition, WallMillis};
use crate::records::{BatchHeader, NO_TIMESTAMP};
use crate::storage::engine::{Poisoned, Write};
use crate::storage::epochs::Epochs;
use crate::storage::keys::{self, Family, Kind, LogNumber};
use crate::storage::reserve::Claim;
use crate::storage::state::Standing;

/// Bytes that are copied in one step.
const STEP_BYTES: usize = 1 << 20;
/// Bytes that may be copied under the partition's lock: the end of a log that is written to all the time.
const REST_BYTES_MAX: usize = 1 << 20;

/// What a copy has to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyStep {
    /// Begin anew, here: nothing that it has is in the log.
    Restart(Offset),
    /// Give up what lies below, as the log did.
    Raise(Offset),
    /// Give up what follows: it is not in the log any more.
    Cut(Offset),
    /// Copy what follows.
    Copy(Offset),
    /// Nothing: it is what the log is.
    Level,
}

/// From where to where a log goes, and in which epochs.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    pub start: Offset,
    pub end: Offset,
    pub epochs: &'a Epochs,
}

/// Decides what brings `copy` nearer to `log`. Pure.
pub fn next_step(log: Extent<'_>, copy: Extent<'_>) -> CopyStep {
    let is_empty_there = copy.start == copy.end && copy.end == log.start;
    if log.start < copy.start || (copy.end <= log.start && !is_empty_there) {
        return CopyStep::Restart(log.start);
    }
    let common = log.epochs.agree_up_to(copy.epochs, log.start, log.end.min(copy.end));
    if common < copy.end {
        return if common <= log.start { CopyStep::Restart(log.start) } else { CopyStep::Cut(common) };
    }
    if copy.start < log.start {
        return CopyStep::Raise(log.start);
    }
    if copy.end < log.end { CopyStep::Copy(copy.end) } else { CopyStep::Level }
}

/// Batches that were read from a log to be copied.
pub struct Copied {
    /// What the log must still have, and what the copy must end at.
    from: Offset,
    /// Where the copy ends with them: the end of the last one, or behind a gap.
    to: Offset,
    batches: Vec<(BatchHeader, Bytes)>,
}

impl Copied {
    fn of(from: Offset, to: Offset, batches: Batches) -> Result<Copied, ReadFailure> {
        let parsed = |batch: Bytes| BatchHeader::parse(&batch).map(|header| (header, batch));
        let batches: Result<Vec<_>, _> = batches.into_iter().map(parsed).collect();
        let batches = batches.map_err(|error| ReadFailure::Corrupt(format!("batch at {from} or later: {error}")))?;
        Ok(Copied { from, to, batches })
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.batches.iter().map(|(_, batch)| batch.len() as u64).sum()
    }
}

/// A step of copying, to be run off the lock.
pub struct CopyRead {
    home: LogHome,
    number: LogNumber,
    epochs: Epochs,
    from: Offset,
    up_to: Offset,
}

impl CopyRead {
    /// Reads whole batches. Blocking.
    pub fn run(self) -> Result<Copied, ReadFailure> {
        let CopyRead { home, number, epochs, from, up_to } = self;
        let (mut batches, mut bytes, mut to) = (Batches::new(), 0, from);
        while to < up_to && bytes < STEP_BYTES {
            let (home, epochs, bytes_max) = (home.clone(), epochs.clone(), STEP_BYTES - bytes);
            let found = ColdRead { home, number, epochs, from: to, up_to, bytes_max, at_least_one: true }.run()?;
            let Some(last) = found.last() else {
                // Compaction left nothing here.
                to = up_to;
                break;
            };
            let last = BatchHeader::parse(last).map_err(|error| ReadFailure::Corrupt(error.to_string()))?;
            to = last.next_offset();
            bytes += found.iter().map(Bytes::len).sum::<usize>();
            batches.extend(found);
        }
        Copied::of(from, to, batches)
    }
}

impl PartitionLog {
    /// Creates an empty future log under a number never used before, to copy the one in the directory `from`.
    pub fn create_future(
        home: LogHome,
        number: LogNumber,
        id: TopicIdPartition,
        from: KafkaUuid,
        write: &mut Write,
    ) -> PartitionLog {
        let mut log = PartitionLog::create(home, number, id, write);
        log.standing = Standing::Future { from };
        log.put_standing(write);
        log
    }

    /// What it is to its partition.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    pub fn extent(&self) -> Extent<'_> {
        Extent { start: self.state.log_start, end: self.state.log_end, epochs: &self.epochs }
    }

    /// From now on a settled log in the directory `to` counts, as soon as there is one.
    pub fn leave(
        &mut self,
        to: KafkaUuid,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), Poisoned> {
        self.stand(Standing::Leaving { to }, done)
    }

    /// It is the partition's log, whatever there is elsewhere.
    pub fn settle(&mut self, done: impl FnOnce(Result<(), Poisoned>) + Send + 'static) -> Result<(), Poisoned> {
        self.stand(Standing::Settled, done)
    }

    fn stand(
        &mut self,
        standing: Standing,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), Poisoned> {
        self.standing = standing;
        let mut write = Write::new();
        self.put_standing(&mut write);
        self.home.engine.submit(write.when_done(done))
    }

    fn put_standing(&self, write: &mut Write) {
        let key = keys::of_log(Kind::Standing, self.number);
        match self.standing.encode() {
            Some(row) => write.put(Family::State, key, row),
            None => write.delete(Family::State, key),
        }
    }

    /// Prepares to read what a copy lacks from `from` on, below `up_to`, which is on disk.
    pub fn plan_copy(&self, from: Offset, up_to: Offset) -> CopyRead {
        CopyRead { home: self.home.clone(), number: self.number, epochs: self.epochs.clone(), from, up_to }
    }

    /// Everything that a copy lacks from `from` on, if it is little and in memory.
    pub fn rest(&self, from: Offset) -> Option<Copied> {
        let (to, mut bytes) = (self.state.log_end, 0);
        // Whoever looks for what is not in memory makes it keep more: not for a copy that is far behind.
        for chunk in self.closed.iter().chain([&self.state.open]).rev().take_while(|chunk| chunk.next_offset > from) {
            bytes += chunk.bytes;
            if bytes > REST_BYTES_MAX as u64 + 2 * CHUNK_BYTES {
                return None;
            }
        }
        let rest = Copied::of(from, to, self.read(from, to, REST_BYTES_MAX, true).ok()?).ok()?;
        let reached = rest.batches.last().map_or(from, |(header, _)| header.next_offset());
        (reached == to).then_some(rest)
    }

    /// Appends what was read of `log` to this copy of it; `done` tells when that is on disk. False, without a call of
    /// `done`, if one of the two is no longer what it was. With `hot`, somebody may want to read it at once.
    pub fn append_copied(
        &mut self,
        log: &PartitionLog,
        copied: Copied,
        (chunk_ms_max, hot): (i64, bool),
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<bool, ErrorCode> {
        let Copied { from, to, batches } = copied;
        if self.state.log_end != from || log.state.log_start > from || log.state.log_end < to {
            return Ok(false);
        }
        self.home.check_room(Claim::Records)?;
        let mut write = Write::new();
        if log.compacted && !self.compacted {
            self.put_cleaned(&mut write);
        }
        if hot {
            self.home.tail.forget(self.number);
        }
        if let Some((first, _)) = batches.first().filter(|_| self.state.log_start == from) {
            // The log may begin inside a batch.
            self.state.open.base_offset = self.state.open.base_offset.min(first.base_offset);
        }
        for (header, batch) in batches {
            let (base, next) = (header.base_offset, header.next_offset());
            let known = (header.max_timestamp != NO_TIMESTAMP).then_some(header.max_timestamp);
            let timestamp = known.unwrap_or_else(|| log.arrival_of(base));
            let span = (base.min(self.state.log_end), next);
            self.extend_chunk(span, batch.len() as u64, timestamp, chunk_ms_max, &mut write);
            self.state.log_end = next;
            self.home.reserve.note(batch.len() as u64);
            if hot {
                self.home.tail.push(self.number, base, next, batch.clone());
            }
            // Its CRC was compared when it was read, or when it arrived.
            write.put_checked(keys::batch(self.number, base), batch);
        }
        self.state.log_end = self.state.log_end.max(to);
        self.state.open.next_offset = self.state.open.next_offset.max(self.state.log_end);
        self.state.high_watermark = log.state.high_watermark.min(self.state.log_end);
        self.epochs = log.epochs.clone();
        self.epochs.truncate_from_end(self.state.log_end);
        self.put_epochs(&mut write);
        self.put_state(&mut write);
        let submitted = self.home.engine.submit(write.when_done(done));
        submitted.map(|()| true).map_err(|_| ErrorCode::KafkaStorageError)
    }

    /// The time of arrival of a batch whose records have none.
    fn arrival_of(&self, base: Offset) -> WallMillis {
        let after = self.closed.partition_point(|chunk| chunk.next_offset <= base);
        self.closed.get(after).map_or(self.state.open.max_timestamp, |chunk| chunk.max_timestamp)
    }

    /// Makes the producers of this copy those of `log`. Done ahead, it leaves little to be written later.
    pub fn adopt_producers(
        &mut self,
        log: &PartitionLog,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), Poisoned> {
        let mut write = Write::new();
        self.put_producers_of(log, &mut write);
        self.home.engine.submit(write.when_done(done))
    }

    fn put_producers_of(&mut self, log: &PartitionLog, write: &mut Write) {
        let is_known = |id: ProducerId| self.producers.by_id(id) == log.producers.by_id(id);
        let ids = self.producers.iter().chain(log.producers.iter()).map(|(id, _)| id);
        let differing: BTreeSet<ProducerId> = ids.filter(|id| !is_known(*id)).collect();
        self.producers = log.producers.clone();
        for id in differing {
            match self.producers.encode_one(id) {
                Some(row) => write.put(Family::State, keys::producer(self.number, id), row),
                None => write.delete(Family::State, keys::producer(self.number, id)),
            }
        }
    }

    /// Takes the place of `log`, of which this is a copy to the end; `done` tells when that is on disk.
    pub fn take_place_of(
        &mut self,
        log: &PartitionLog,
        high_watermark: Offset,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), Poisoned> {
        assert_eq!(self.state.log_end, log.state.log_end, "only a whole copy may take the place of a log");
        let mut write = Write::new();
        if log.state.log_start > self.state.log_start {
            self.state.log_start = log.state.log_start;
            self.drop_chunks(&mut write);
        }
        self.state.high_watermark = high_watermark;
        self.epochs = log.epochs.clone();
        self.put_epochs(&mut write);
        self.put_producers_of(log, &mut write);
        if log.compacted {
            self.cleaned_to = log.cleaned_to;
            self.put_cleaned(&mut write);
        }
        self.standing = Standing::Settled;
        self.put_standing(&mut write);
        self.put_state(&mut write);
        self.home.engine.submit(write.when_done(done))
    }
}

#[cfg(test)]
mod tests;
