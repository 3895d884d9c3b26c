//! What a follower does to a log: takes over the leader's batches verbatim, gives up what the leader does not have, and
//! begins anew where the leader's log starts.
//!
//! Invariants: batches keep the leader's offsets and epochs, and neither of them ever falls; what does not fit is
//! refused before anything changes. A cut is one atomic write: batches, chunks, epochs, producers and log state. It is
//! prepared off the lock, because it reads, and takes effect only on the log it was prepared for.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{LogHome, PartitionLog};
use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, LeaderEpoch, Offset, ProducerId, WallMillis};
use crate::records::{self, BatchError, BatchHeader, EndMarker, MAGIC, NO_TIMESTAMP};
use crate::sabotage;
use crate::storage::engine::{Poisoned, Write};
use crate::storage::keys::{self, Family, Kind, LogNumber};
use crate::storage::producers::Producers;
use crate::storage::reserve::Claim;
use crate::storage::{retention::Chunk, state};

/// How far back batches are read again for the producers that wrote behind a cut. A producer that wrote nothing so far
/// back is known by what is left of its last batches, or taken for a new one.
const REPLAYED_BYTES_MAX: u64 = 64 << 20;

/// Why batches of a leader were not appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FollowerRefused {
    /// The bytes are damaged, or not what a leader may send; says what is wrong. Fetching them again may help.
    Unsound(String),
    /// They begin before the end of this log.
    Overlap { base: Offset, log_end: Offset },
    /// The directory has no room, or is offline.
    Storage(ErrorCode),
}

/// Whole batches of a leader, sound in themselves.
pub struct FollowerBatches(Vec<(BatchHeader, Bytes, Option<EndMarker>)>);

impl FollowerBatches {
    /// Splits and checks what was fetched. Batches of epochs after `epoch`, in which they were asked for, are left out
    /// (KAFKA-18723), and so is a last one that is not whole.
    pub fn check(fetched: Bytes, epoch: LeaderEpoch) -> Result<FollowerBatches, FollowerRefused> {
        let mut sound: Vec<(BatchHeader, Bytes, Option<EndMarker>)> = Vec::new();
        let (mut end, mut newest) = (0, 0);
        for batch in records::batches(fetched) {
            let (header, batch) = match batch {
                Ok(whole) => whole,
                Err(BatchError::Truncated) if !sound.is_empty() => break,
                Err(error) => return Err(FollowerRefused::Unsound(error.to_string())),
            };
            if header.leader_epoch > epoch {
                break;
            }
            let wrong = |what: &str| FollowerRefused::Unsound(format!("batch at {}: {what}", header.base_offset));
            if header.magic != MAGIC || header.base_offset < end || header.last_offset_delta < 0 {
                return Err(wrong("impossible offsets or format"));
            }
            if header.leader_epoch < newest {
                return Err(wrong("its epoch is older than the one before it"));
            }
            if !records::crc_matches(&batch) {
                return Err(wrong("its CRC is wrong"));
            }
            let marker = EndMarker::read(&batch).map_err(|error| wrong(&error.to_string()))?;
            (end, newest) = (header.next_offset(), header.leader_epoch);
            sound.push((header, batch, marker));
        }
        Ok(FollowerBatches(sound))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The offset after the last one.
    pub fn end(&self) -> Option<Offset> {
        self.0.last().map(|(header, ..)| header.next_offset())
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, batch, _)| batch.len() as u64).sum()
    }
}

fn note(producers: &mut Producers, header: &BatchHeader, marker: Option<EndMarker>, now_ms: WallMillis) {
    match marker {
        Some(marker) => drop(producers.note_marker(header, marker, header.base_offset, now_ms)),
        None if header.is_control() => {}
        None => {
            let appended = header.timestamp_type_is_append().then_some(header.max_timestamp);
            producers.note(header, header.base_offset, appended, now_ms);
        }
    }
}

/// Where a log is to be cut: what has to be read before it is.
pub struct CutPlan {
    home: LogHome,
    number: LogNumber,
    to: Offset,
    log_end: Offset,
    /// The last chunks that begin below `to`, closed or open: the newest, and the one before it.
    last: [Option<Chunk>; 2],
    /// Where the producers' batches are read again from.
    replay_from: Offset,
}

/// A cut that is ready.
pub struct Cut {
    /// The end of the log before it.
    log_end: Offset,
    /// The new end: `to`, or the start of the batch that holds it.
    to: Offset,
    found: Option<Chunk>,
    /// What is left of that chunk.
    rest: Option<Chunk>,
    touched: BTreeSet<ProducerId>,
    replayed: Producers,
}

impl PartitionLog {
    /// Appends what a leader sent and returns the new end. `high_watermark` is stored with it; `done` tells when it is
    /// on stable storage, and is not called if there is nothing to append.
    pub fn append_follower(
        &mut self,
        batches: FollowerBatches,
        (high_watermark, now_ms, chunk_ms_max): (Offset, WallMillis, i64),
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<Offset, FollowerRefused> {
        let Some((first, ..)) = batches.0.first() else { return Ok(self.state.log_end) };
        if self.home.engine.poison().is_some() {
            return Err(FollowerRefused::Storage(ErrorCode::KafkaStorageError));
        }
        self.check_fit(first)?;
        self.home.check_room(Claim::Records).map_err(FollowerRefused::Storage)?;
        let (mut write, mut producers, mut epochs_changed) = (Write::new(), BTreeSet::new(), false);
        for (header, batch, marker) in batches.0 {
            let (base, next) = (header.base_offset, header.next_offset());
            if !sabotage::on("producers-not-followed") {
                note(&mut self.producers, &header, marker, now_ms);
            }
            if header.has_producer() {
                producers.insert(header.producer_id);
            }
            epochs_changed |= self.epochs.assign(header.leader_epoch, base.max(self.state.log_start));
            let timestamp = if header.max_timestamp == NO_TIMESTAMP { now_ms } else { header.max_timestamp };
            // The leader may have compacted what was between: chunks are contiguous all the same.
            let span = (base.min(self.state.log_end), next);
            self.extend_chunk(span, batch.len() as u64, timestamp, chunk_ms_max, &mut write);
            self.state.log_end = next;
            self.home.reserve.note(batch.len() as u64);
            self.home.tail.push(self.number, base, next, batch.clone());
            write.put(Family::Batches, keys::batch(self.number, base), batch);
        }
        for producer in producers {
            self.put_producer(producer, &mut write);
        }
        if epochs_changed {
            self.put_epochs(&mut write);
        }
        self.state.high_watermark = high_watermark.min(self.state.log_end);
        self.put_state(&mut write);
        let submitted = self.home.engine.submit(write.when_done(done));
        submitted.map_err(|_| FollowerRefused::Storage(ErrorCode::KafkaStorageError))?;
        Ok(self.state.log_end)
    }

    fn check_fit(&mut self, first: &BatchHeader) -> Result<(), FollowerRefused> {
        let log_end = self.state.log_end;
        if self.epochs.latest().is_some_and(|latest| first.leader_epoch < latest) {
            let why = format!("epoch {} after {:?}", first.leader_epoch, self.epochs.latest());
            return Err(FollowerRefused::Unsound(why));
        }
        // An empty log may begin inside a batch: DeleteRecords moves the leader's start there.
        let begins_inside = self.state.log_start == log_end && first.next_offset() > log_end;
        if first.base_offset < log_end && !begins_inside {
            return Err(FollowerRefused::Overlap { base: first.base_offset, log_end });
        }
        if begins_inside {
            self.state.open.base_offset = self.state.open.base_offset.min(first.base_offset);
        }
        Ok(())
    }

    /// Takes note that everything below `high_watermark` is committed: transactions that ended there are stable.
    pub fn note_high_watermark(&mut self, high_watermark: Offset) {
        self.producers.release_completed(high_watermark);
    }

    /// Forgets epochs that began at the end of the log: nothing was written in them.
    pub fn drop_unused_epochs(
        &mut self,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), Poisoned> {
        let mut write = Write::new();
        if self.epochs.truncate_from_end(self.state.log_end) {
            self.put_epochs(&mut write);
        }
        self.home.engine.submit(write.when_done(done))
    }

    /// Prepares to cut the log so that it ends at `to`, which is above its start. Everything appended must be on disk.
    pub fn plan_cut(&self, to: Offset) -> CutPlan {
        let (mut replay_from, mut bytes) = (to, 0);
        for chunk in self.last_chunks(to) {
            bytes += chunk.bytes;
            if bytes > REPLAYED_BYTES_MAX {
                break;
            }
            replay_from = chunk.base_offset;
        }
        let last = [self.last_chunks(to).next(), self.last_chunks(to).nth(1)];
        let (home, number, log_end) = (self.home.clone(), self.number, self.state.log_end);
        CutPlan { home, number, to, log_end, last, replay_from }
    }

    /// The chunks that begin below `to`, closed or open, newest first.
    fn last_chunks(&self, to: Offset) -> impl Iterator<Item = Chunk> {
        self.closed.iter().chain([&self.state.open]).rev().filter(move |chunk| chunk.base_offset < to).copied()
    }

    /// Cuts the log; `done` tells when that is on disk. `None`, without a call of `done`, if the log is no longer what
    /// it was when this was planned. Else the new end.
    pub fn cut(
        &mut self,
        cut: Cut,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<Option<Offset>, Poisoned> {
        let Cut { log_end, to, found, rest, touched, replayed } = cut;
        let last = self.last_chunks(to).next();
        if self.state.log_end != log_end || last != found || to <= self.state.log_start {
            return Ok(None);
        }
        let mut write = Write::new();
        while let Some(chunk) = self.closed.pop_back_if(|chunk| chunk.base_offset >= to) {
            write.delete(Family::State, keys::numbered(Kind::Chunk, self.number, chunk.base_offset));
        }
        let whole = found.filter(|found| found.next_offset <= to);
        let stays_closed = whole.is_some() && self.closed.back().copied() == whole;
        self.state.open = match rest {
            Some(rest) if !stays_closed => {
                if self.closed.pop_back_if(|chunk| chunk.base_offset == rest.base_offset).is_some() {
                    write.delete(Family::State, keys::numbered(Kind::Chunk, self.number, rest.base_offset));
                }
                rest
            }
            _ => Chunk { base_offset: to, next_offset: to, bytes: 0, max_timestamp: -1 },
        };
        self.open_since = if self.state.open.bytes > 0 { self.state.open.max_timestamp } else { -1 };
        self.state.bytes = self.closed.iter().map(|chunk| chunk.bytes).sum::<u64>() + self.state.open.bytes;
        self.state.log_end = to;
        self.state.high_watermark = self.state.high_watermark.min(to);
        self.epochs.truncate_from_end(to);
        self.producers.rewind(to, &touched, replayed);
        for producer in touched {
            match self.producers.encode_one(producer) {
                Some(row) => write.put(Family::State, keys::producer(self.number, producer), row),
                None => write.delete(Family::State, keys::producer(self.number, producer)),
            }
        }
        self.forget_cleaned(to, &mut write);
        self.home.tail.forget(self.number);
        write.delete_range(Family::Batches, (keys::batch(self.number, to), keys::batches_end(self.number)));
        write.delete_range(Family::State, aborted_from(self.number, to));
        self.put_epochs(&mut write);
        self.put_state(&mut write);
        self.home.engine.submit(write.when_done(done))?;
        Ok(Some(to))
    }

    /// Gives up everything: the log is empty and begins at `offset` (Kafka's `truncateFullyAndStartAt`).
    pub fn restart_at(
        &mut self,
        offset: Offset,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), Poisoned> {
        let mut write = Write::new();
        for kind in [Kind::Chunk, Kind::Producer, Kind::Aborted] {
            write.delete_range(Family::State, keys::log_range(kind, self.number));
        }
        write.delete_range(Family::Batches, (keys::batch(self.number, 0), keys::batches_end(self.number)));
        let id = self.state.id;
        self.state = state::LogState::new(id);
        (self.state.log_start, self.state.log_end, self.state.high_watermark) = (offset, offset, offset);
        (self.state.open.base_offset, self.state.open.next_offset) = (offset, offset);
        self.closed.clear();
        self.open_since = -1;
        self.producers = Producers::default();
        self.epochs = super::Epochs::default();
        self.forget_cleaned(0, &mut write);
        self.home.tail.forget(self.number);
        self.put_epochs(&mut write);
        self.put_state(&mut write);
        self.home.engine.submit(write.when_done(done))
    }

    /// What compaction saw from `to` on is gone.
    fn forget_cleaned(&mut self, to: Offset, write: &mut Write) {
        if self.cleaned_to > to {
            self.cleaned_to = to;
            write.put(Family::State, keys::of_log(Kind::Cleaned, self.number), state::encode_cleaned(to));
        }
    }
}

fn aborted_from(number: LogNumber, to: Offset) -> (keys::Key, keys::Key) {
    (keys::numbered(Kind::Aborted, number, to), keys::log_range(Kind::Aborted, number).1)
}

impl Cut {
    /// Where the log will end.
    pub fn to(&self) -> Offset {
        self.to
    }
}

impl CutPlan {
    /// The directory of the log that it was made for.
    pub fn directory(&self) -> KafkaUuid {
        self.home.directory
    }

    /// Reads what the cut needs. Blocking.
    pub fn prepare(self) -> Result<Cut, Poisoned> {
        let to = self.batch_start()?;
        // A batch is in one chunk, so its start is at most that chunk's.
        let found = self.last.iter().flatten().find(|chunk| chunk.base_offset < to).copied();
        let rest = found.map(|chunk| self.rest_of(chunk, to)).transpose()?;
        let mut touched = BTreeSet::new();
        self.each(to, self.log_end, &mut |header, _| {
            if header.has_producer() {
                touched.insert(header.producer_id);
            }
        })?;
        let mut replayed = Producers::new();
        if !touched.is_empty() {
            let mut broken = None;
            self.each(self.replay_from, to, &mut |header, batch| match EndMarker::read(batch) {
                Ok(marker) => note(&mut replayed, header, marker, header.max_timestamp),
                Err(error) => broken = Some(Poisoned(format!("log {}: {error}", self.number))),
            })?;
            broken.map_or(Ok(()), Err)?;
        }
        Ok(Cut { log_end: self.log_end, to, found, rest, touched, replayed })
    }

    /// The start of the batch that holds `to`; `to` itself if that is between two batches.
    fn batch_start(&self) -> Result<Offset, Poisoned> {
        let Some(before) = self.to.checked_sub(1).filter(|&before| before >= 0) else { return Ok(self.to) };
        let (mut start, mut broken) = (self.to, None);
        let range = (keys::batch(self.number, 0), keys::batch(self.number, self.to));
        let at = keys::batch(self.number, before);
        self.home.engine.batches_from_floor(range, at, 1, &mut |_, batch| {
            match BatchHeader::parse(&batch) {
                Ok(header) if header.next_offset() > self.to => start = header.base_offset,
                Ok(_) => {}
                Err(error) => broken = Some(Poisoned(format!("log {}: {error}", self.number))),
            }
            false
        })?;
        broken.map_or(Ok(start), Err)
    }

    fn rest_of(&self, chunk: Chunk, to: Offset) -> Result<Chunk, Poisoned> {
        let mut rest = Chunk { next_offset: to, bytes: 0, max_timestamp: -1, ..chunk };
        self.each(chunk.base_offset, to, &mut |header, batch| {
            rest.bytes += batch.len() as u64;
            rest.max_timestamp = rest.max_timestamp.max(header.max_timestamp);
        })?;
        if rest.bytes > 0 && rest.max_timestamp < 0 {
            // Records without a timestamp: their arrival is not known any more, only that it was not later.
            rest.max_timestamp = chunk.max_timestamp;
        }
        Ok(rest)
    }

    fn each(&self, from: Offset, to: Offset, visit: &mut dyn FnMut(&BatchHeader, &Bytes)) -> Result<(), Poisoned> {
        let range = (keys::batch(self.number, from), keys::batch(self.number, to));
        let mut broken = None;
        self.home.engine.scan(Family::Batches, range, &mut |_, batch| {
            match BatchHeader::parse(&batch) {
                Ok(header) => visit(&header, &batch),
                Err(error) => broken = Some(Poisoned(format!("log {}: {error}", self.number))),
            }
            broken.is_none()
        })?;
        broken.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
