//! One partition's log: batches, where it starts and ends, its producers, its leader epochs, its chunks.
//!
//! Invariants: `log_start ≤ log_end`; batches are contiguous from `log_start`'s batch to `log_end`; an append refuses
//! before it assigns an offset, or its batch, log state, producer row and epoch row go into one atomic write. Nothing
//! here awaits
//! or takes a lock of its own: the owner's mutex orders appends, and the engine's lane keeps that order.

mod cleaning;
mod following;
mod moving;
mod reading;
mod stored;

use std::collections::VecDeque;
use std::sync::Arc;

pub use following::{Cut, CutPlan, FollowerBatches, FollowerRefused};
pub use moving::{Copied, CopyRead, CopyStep, Extent, next_step};
pub(super) use reading::sound_batch;
pub use reading::{ColdRead, FoundRecord, ReadFailure, TimestampLookup};

use bytes::Bytes;

use super::engine::{Engine, Poisoned, Write};
use super::epochs::Epochs;
use super::keys::{self, Family, Kind, LogNumber};
use super::producers::{Producers, Sequence};
use super::reserve::{Claim, Reserve};
use super::retention::{self, Chunk};
use super::state::{self, LogState, Standing};
use super::tail::{Tail, TailCache};
use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, LeaderEpoch, Offset, ProducerId, TopicIdPartition, WallMillis};
use crate::records::{self, BatchHeader, Checked, Timestamps};
use crate::sabotage;

/// Bytes after which a chunk of the time index is closed: what a lookup by timestamp may have to scan.
const CHUNK_BYTES: u64 = 1 << 20;

/// What a log shares with the others of its directory.
#[derive(Clone)]
pub struct LogHome {
    /// The id of the directory.
    pub directory: KafkaUuid,
    pub engine: Engine,
    pub tail: Arc<TailCache>,
    pub reserve: Arc<Reserve>,
}

impl LogHome {
    /// Refuses what there is no room for.
    fn check_room(&self, claim: Claim) -> Result<(), ErrorCode> {
        match !self.engine.is_full() && self.reserve.admits(claim) {
            true => Ok(()),
            false => Err(claim.refusal()),
        }
    }
}

/// A batch that passed validation, about to be appended by the leader. Its CRC was compared with it: what covers the
/// batch on the disk is computed from that.
pub struct Incoming {
    pub batch: Bytes,
    pub checked: Checked,
    pub now_ms: WallMillis,
    pub epoch: LeaderEpoch,
    /// `segment.ms`: a chunk is closed when its records span as much.
    pub chunk_ms_max: i64,
    pub claim: Claim,
}

/// Where a batch went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub base_offset: Offset,
    pub end_offset: Offset,
    /// The append time that replaced the records' own, or -1.
    pub append_time_ms: WallMillis,
    /// True if the batch was in the log already: nothing was written (idempotent producer).
    pub duplicate: bool,
    /// The leader epoch in which it was there.
    pub epoch: LeaderEpoch,
}

/// Batches of one read, each whole.
pub type Batches = Vec<Bytes>;

/// One partition's log.
pub struct PartitionLog {
    home: LogHome,
    number: LogNumber,
    state: LogState,
    epochs: Epochs,
    producers: Producers,
    closed: VecDeque<Chunk>,
    /// Timestamp of the open chunk's first batch, for `chunk_ms_max`; -1 while it is empty, its largest timestamp after
    /// a restart.
    open_since: WallMillis,
    /// The first offset that compaction has not seen.
    cleaned_to: Offset,
    /// Compaction may have left gaps: there is a `Cleaned` row.
    compacted: bool,
    standing: Standing,
}

impl PartitionLog {
    /// Creates an empty log under a number never used before; its row is in `write`.
    pub fn create(home: LogHome, number: LogNumber, id: TopicIdPartition, write: &mut Write) -> PartitionLog {
        let log = PartitionLog {
            home,
            number,
            state: LogState::new(id),
            epochs: Epochs::default(),
            producers: Producers::default(),
            closed: VecDeque::new(),
            open_since: -1,
            cleaned_to: 0,
            compacted: false,
            standing: Standing::Settled,
        };
        log.put_state(write);
        log
    }

    pub fn id(&self) -> TopicIdPartition {
        self.state.id
    }

    /// The id of the directory it lies in.
    pub fn directory(&self) -> KafkaUuid {
        self.home.directory
    }

    /// First readable offset.
    pub fn log_start(&self) -> Offset {
        self.state.log_start
    }

    /// Offset that the next record gets.
    pub fn log_end(&self) -> Offset {
        self.state.log_end
    }

    /// The high watermark that the last write stored: a lower bound of the real one.
    pub fn stored_high_watermark(&self) -> Offset {
        self.state.high_watermark
    }

    /// Bytes of the log's batches.
    pub fn bytes(&self) -> u64 {
        self.state.bytes
    }

    /// Time-index chunks, closed and open: what Kafka's tools see as segments.
    pub fn chunks(&self) -> usize {
        self.closed.len() + 1
    }

    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// First offset of the oldest open transaction, if any.
    pub fn first_unstable(&self) -> Option<Offset> {
        self.producers.first_unstable()
    }

    /// Enters `epoch` in the history at the log's end: done when leadership is taken, before the first append of the
    /// epoch (KAFKA-7415). `done` tells when it is on disk.
    pub fn begin_epoch(
        &mut self,
        epoch: LeaderEpoch,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), Poisoned> {
        let mut write = Write::new();
        if self.epochs.assign(epoch, self.state.log_end) && !sabotage::on("lost-epoch") {
            self.put_epochs(&mut write);
        }
        self.home.engine.submit(write.when_done(done))
    }

    /// Appends one batch as leader. `high_watermark` is stored with it; `done` is called when it is on stable storage,
    /// and not at all for a duplicate or a refusal.
    pub fn append_leader(
        &mut self,
        incoming: Incoming,
        high_watermark: Offset,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<Appended, ErrorCode> {
        if self.home.engine.poison().is_some() {
            return Err(ErrorCode::KafkaStorageError);
        }
        let Incoming { batch, checked, now_ms, epoch, chunk_ms_max, claim } = incoming;
        let header = checked.header;
        let sequence = self.check_sequence(&header);
        if let Ok(Sequence::Duplicate { base_offset, last_offset, append_time_ms }) = sequence {
            let end_offset = last_offset + 1;
            return Ok(Appended { base_offset, end_offset, append_time_ms, duplicate: true, epoch });
        }
        // Between the two: a duplicate needs no room; and what follows a batch that found none is not out of order.
        self.home.check_room(claim)?;
        sequence?;
        let base = match self.state.log_end {
            end if sabotage::on("offset-reused") && end % 7 == 3 => end - 1,
            end => end,
        };
        let next = base + i64::from(header.last_offset_delta) + 1;
        let stamped = records::stamp(batch, base, epoch, checked.timestamps);
        let mut write = Write::new();
        let append_time_ms = match checked.timestamps {
            Timestamps::Appended(now_ms) => Some(now_ms),
            Timestamps::Keep | Timestamps::Created { .. } => None,
        };
        self.producers.note(&header, base, append_time_ms, now_ms);
        self.put_producer(header.producer_id, &mut write);
        if self.epochs.assign(epoch, base) {
            self.put_epochs(&mut write);
        }
        // Records without a timestamp age from their arrival, else they would never expire.
        let timestamp = if checked.max_timestamp < 0 { now_ms } else { checked.max_timestamp };
        self.extend_chunk((base, next), stamped.len() as u64, timestamp, chunk_ms_max, &mut write);
        self.state.log_end = next;
        self.state.high_watermark = high_watermark;
        self.home.reserve.note(stamped.len() as u64);
        self.home.tail.push(self.number, base, next, stamped.clone());
        write.put_checked(keys::batch(self.number, base), stamped);
        self.put_state(&mut write);
        self.home.engine.submit(write.when_done(done)).map_err(|_| ErrorCode::KafkaStorageError)?;
        let append_time_ms = append_time_ms.unwrap_or(records::NO_TIMESTAMP);
        Ok(Appended { base_offset: base, end_offset: next, append_time_ms, duplicate: false, epoch })
    }

    fn check_sequence(&self, header: &BatchHeader) -> Result<Sequence, ErrorCode> {
        match self.producers.check(header) {
            Ok(Sequence::Duplicate { .. }) if sabotage::on("duplicate-accepted") => Ok(Sequence::New),
            Err(_) if sabotage::on("gap-accepted") => Ok(Sequence::New),
            verdict => verdict,
        }
    }

    fn put_producer(&self, producer: ProducerId, write: &mut Write) {
        if sabotage::on("producer-state-lost") {
            return;
        }
        if let Some(row) = self.producers.encode_one(producer) {
            write.put(Family::State, keys::producer(self.number, producer), row);
        }
    }

    fn extend_chunk(
        &mut self,
        (base, next): (Offset, Offset),
        bytes: u64,
        timestamp: WallMillis,
        span_max: i64,
        write: &mut Write,
    ) {
        let open = &mut self.state.open;
        let spans = self.open_since >= 0 && timestamp.saturating_sub(self.open_since) > span_max;
        if open.bytes > 0 && (open.bytes + bytes > CHUNK_BYTES || spans) {
            let closed =
                std::mem::replace(open, Chunk { base_offset: base, next_offset: base, bytes: 0, max_timestamp: -1 });
            let key = keys::numbered(Kind::Chunk, self.number, closed.base_offset);
            write.put(Family::State, key, state::encode_chunk(&closed));
            self.closed.push_back(closed);
            self.open_since = -1;
        }
        if self.open_since < 0 {
            self.open_since = timestamp;
        }
        open.next_offset = next;
        open.bytes += bytes;
        open.max_timestamp = open.max_timestamp.max(timestamp);
        self.state.bytes += bytes;
    }

    fn put_state(&self, write: &mut Write) {
        write.put(Family::State, keys::of_log(Kind::Log, self.number), self.state.encode());
    }

    fn put_epochs(&self, write: &mut Write) {
        write.put(Family::State, keys::of_log(Kind::Epochs, self.number), self.epochs.encode());
    }

    /// Reads whole batches from the one that holds `from`, below `up_to`: at once if they are in memory, else as work
    /// to do.
    pub fn read(&self, from: Offset, up_to: Offset, bytes_max: usize, at_least_one: bool) -> Result<Batches, ColdRead> {
        if from >= up_to {
            return Ok(Vec::new());
        }
        match self.home.tail.read(self.number, from, up_to, bytes_max, at_least_one) {
            Tail::Hit(mut batches) => {
                if sabotage::on("truncated-fetch") && batches.len() > 2 {
                    batches.remove(1);
                }
                Ok(batches)
            }
            Tail::Miss => {
                let (home, number, epochs) = (self.home.clone(), self.number, self.epochs.clone());
                Err(ColdRead { home, number, epochs, from, up_to, bytes_max, at_least_one })
            }
        }
    }

    /// Bytes that a read of `from..up_to` would give, at most `bytes_max`; on disk counts as plenty.
    pub fn readable_bytes(&self, from: Offset, up_to: Offset, bytes_max: usize) -> usize {
        if from >= up_to {
            return 0;
        }
        self.home.tail.readable_bytes(self.number, from, up_to, bytes_max).unwrap_or(bytes_max)
    }

    /// Prepares a lookup by timestamp among the records below `up_to`.
    pub fn timestamps(&self, up_to: Offset) -> TimestampLookup {
        let open = std::iter::once(&self.state.open);
        let chunks = self.closed.iter().chain(open).filter(|chunk| chunk.next_offset > self.state.log_start).copied();
        TimestampLookup {
            home: self.home.clone(),
            number: self.number,
            chunks: chunks.collect(),
            log_start: self.state.log_start,
            up_to,
        }
    }

    /// The new log start that retention asks for, if it moves.
    pub fn retention_plan(
        &self,
        rules: &retention::RetentionSettings,
        now_ms: WallMillis,
        high_watermark: Offset,
    ) -> Option<Offset> {
        let mut chunks: Vec<Chunk> = self.closed.iter().copied().collect();
        if self.state.open.bytes > 0 {
            chunks.push(self.state.open);
        }
        retention::plan(&chunks, rules, now_ms, high_watermark, self.state.log_start)
    }

    /// Raises the log start to `offset` (never above the log's end) and deletes what lies wholly below it.
    pub fn delete_before(
        &mut self,
        offset: Offset,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), Poisoned> {
        let mut write = Write::new();
        if offset > self.state.log_start {
            self.state.log_start = offset.min(self.state.log_end);
            self.drop_chunks(&mut write);
            self.epochs.truncate_from_start(self.state.log_start);
            self.put_epochs(&mut write);
            self.put_state(&mut write);
        }
        self.home.engine.submit(write.when_done(done))
    }

    fn drop_chunks(&mut self, write: &mut Write) {
        let log_start = self.state.log_start;
        let mut kept_from = None;
        while let Some(chunk) = self.closed.front().copied() {
            if chunk.next_offset > log_start {
                kept_from = Some(chunk.base_offset);
                break;
            }
            write.delete(Family::State, keys::numbered(Kind::Chunk, self.number, chunk.base_offset));
            self.state.bytes = self.state.bytes.saturating_sub(chunk.bytes);
            self.closed.pop_front();
        }
        let open = &mut self.state.open;
        if kept_from.is_none() && open.next_offset <= log_start {
            self.state.bytes = self.state.bytes.saturating_sub(open.bytes);
            let end = self.state.log_end;
            *open = Chunk { base_offset: end, next_offset: end, bytes: 0, max_timestamp: -1 };
            self.open_since = -1;
        }
        let end = kept_from.unwrap_or(self.state.open.base_offset);
        // One tombstone per log, always from its beginning: old ones below it vanish with the next compaction.
        if end > 0 {
            write.delete_range(Family::Batches, (keys::batch(self.number, 0), keys::batch(self.number, end)));
        }
    }

    /// Forgets producers that were idle too long (`producer.id.expiration.ms`).
    pub fn expire_producers(&mut self, now_ms: WallMillis, idle_ms_max: i64) -> Result<(), Poisoned> {
        let expired = self.producers.expire(now_ms, idle_ms_max);
        if expired.is_empty() {
            return Ok(());
        }
        let mut write = Write::new();
        for producer in expired {
            write.delete(Family::State, keys::producer(self.number, producer));
        }
        self.home.engine.submit(write)
    }

    /// Deletes the log. Its number is never used again.
    pub fn destroy(self) -> Result<(), Poisoned> {
        self.destroy_and_tell(|_| {})
    }

    /// The same; `done` tells when that is on disk.
    pub fn destroy_and_tell(self, done: impl FnOnce(Result<(), Poisoned>) + Send + 'static) -> Result<(), Poisoned> {
        self.home.tail.forget(self.number);
        self.home.engine.submit(deletion(self.number).when_done(done))
    }
}

/// Deletes every row of log `number`.
fn deletion(number: LogNumber) -> Write {
    let mut write = Write::new();
    for kind in [Kind::Log, Kind::Epochs, Kind::Cleaned, Kind::Standing] {
        write.delete(Family::State, keys::of_log(kind, number));
    }
    for kind in [Kind::Chunk, Kind::Producer, Kind::Aborted] {
        write.delete_range(Family::State, keys::log_range(kind, number));
    }
    write.delete_range(Family::Batches, (keys::batch(number, 0), keys::batches_end(number)));
    write
}
