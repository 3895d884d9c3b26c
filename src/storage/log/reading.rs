//! What a log reads from disk, off the partition's lock: batches for a fetch, records by their timestamps.
//!
//! Invariants: a batch leaves here only if it is, byte for byte, the one that was appended under its key: its CRC
//! covers what the producer wrote; its base offset is compared with the key, its length with the row, its leader epoch
//! with the history. A batch that is not is told as corrupt, each time that it is read, and is never given out.

use bytes::Bytes;

use super::{Batches, LogHome};
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, WallMillis};
use crate::records::{self, BatchHeader};
use crate::storage::engine::Poisoned;
use crate::storage::epochs::Epochs;
use crate::storage::keys::{self, Family, LogNumber};
use crate::storage::retention::Chunk;

/// Why a read gave nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadFailure {
    /// The disk does not give the bytes.
    Offline(Poisoned),
    /// The bytes are not those that were written; says which.
    Corrupt(String),
}

impl ReadFailure {
    /// What a client is told. Kafka's consumer ends with an exception at the first (`FetchCollector`), as it does if it
    /// finds a wrong CRC itself, and tries again after the other.
    pub fn code(&self) -> ErrorCode {
        match self {
            ReadFailure::Corrupt(_) => ErrorCode::CorruptMessage,
            ReadFailure::Offline(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl std::fmt::Display for ReadFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadFailure::Offline(poison) => poison.fmt(f),
            ReadFailure::Corrupt(what) => f.write_str(what),
        }
    }
}

impl From<Poisoned> for ReadFailure {
    fn from(poison: Poisoned) -> ReadFailure {
        ReadFailure::Offline(poison)
    }
}

/// The rest of a read, when it has to go to disk: run it off the lock and off the async workers.
pub struct ColdRead {
    pub(super) home: LogHome,
    pub(super) number: LogNumber,
    pub(super) epochs: Epochs,
    pub(super) from: Offset,
    pub(super) up_to: Offset,
    pub(super) bytes_max: usize,
    pub(super) at_least_one: bool,
}

/// A record found by its timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundRecord {
    pub offset: Offset,
    pub timestamp: WallMillis,
    pub epoch: LeaderEpoch,
}

/// A lookup by timestamp, to be run off the lock.
pub struct TimestampLookup {
    pub(super) home: LogHome,
    pub(super) number: LogNumber,
    pub(super) chunks: Vec<Chunk>,
    pub(super) log_start: Offset,
    pub(super) up_to: Offset,
}

impl ColdRead {
    /// Reads from disk. Blocking.
    pub fn run(self) -> Result<Batches, ReadFailure> {
        let range = (keys::batch(self.number, 0), keys::batch(self.number, self.up_to));
        let mut found: Batches = Vec::new();
        let (mut bytes, mut broken) = (0, None);
        let at = keys::batch(self.number, self.from);
        self.home.engine.batches_from_floor(range, at, self.bytes_max, &mut |key, value| {
            // It costs least here: the bytes go to the socket next.
            let header = match self.check(key, &value) {
                Ok(header) => header,
                Err(reason) => {
                    broken = Some(reason);
                    return false;
                }
            };
            if header.next_offset() <= self.from {
                return true;
            }
            let fits = bytes + value.len() <= self.bytes_max || (found.is_empty() && self.at_least_one);
            if fits {
                bytes += value.len();
                found.push(value);
            }
            fits
        })?;
        match broken {
            Some(reason) if found.is_empty() => Err(ReadFailure::Corrupt(reason)),
            _ => Ok(found),
        }
    }

    fn check(&self, key: &[u8], value: &[u8]) -> Result<BatchHeader, String> {
        let header = sound_batch(self.number, key, value)?;
        // The history begins with the log, perhaps in the middle of its first batch.
        match self.epochs.epoch_of(header.last_offset()) {
            Some(epoch) if epoch != header.leader_epoch => {
                let (base, found) = (header.base_offset, header.leader_epoch);
                Err(format!("log {}: the batch at {base} has leader epoch {found} instead of {epoch}", self.number))
            }
            _ => Ok(header),
        }
    }
}

/// Checks that a stored value is the batch its key says, with every byte that its producer wrote. The leader epoch is
/// not covered: see [`Epochs`].
pub(in crate::storage) fn sound_batch(number: LogNumber, key: &[u8], value: &[u8]) -> Result<BatchHeader, String> {
    let base = keys::base_of_batch(number, key).ok_or_else(|| format!("log {number}: malformed batch key"))?;
    let header = BatchHeader::parse(value).map_err(|_| format!("log {number}: malformed batch at {base}"))?;
    if header.base_offset != base || header.size_bytes() != value.len() || header.magic != records::MAGIC {
        return Err(format!("log {number}: batch at {base} is not the one its key names"));
    }
    if !records::crc_matches(value) {
        return Err(format!("log {number}: the CRC of the batch at {base} is wrong"));
    }
    Ok(header)
}

impl TimestampLookup {
    /// The first record at or after the log start whose timestamp is at least `target`. Blocking.
    pub fn at_or_after(&self, target: WallMillis) -> Result<Option<FoundRecord>, ReadFailure> {
        for chunk in self.chunks.iter().filter(|chunk| chunk.max_timestamp >= target) {
            let mut found = None;
            self.scan_chunk(chunk, &mut |header, batch| {
                if header.max_timestamp >= target
                    && let Ok(Some((offset, timestamp))) = records::find_timestamp(batch, target, self.log_start)
                {
                    found = Some(FoundRecord { offset, timestamp, epoch: header.leader_epoch });
                }
                found.is_none()
            })?;
            if found.is_some() {
                return Ok(found.filter(|record| record.offset < self.up_to));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp (KIP-734). Blocking.
    ///
    /// What a chunk says of itself is an upper bound: the record it is of may lie below the log start, or be gone.
    pub fn largest(&self) -> Result<Option<FoundRecord>, ReadFailure> {
        let mut chunks: Vec<&Chunk> = self.chunks.iter().filter(|chunk| chunk.max_timestamp >= 0).collect();
        chunks.sort_by_key(|chunk| (std::cmp::Reverse(chunk.max_timestamp), chunk.base_offset));
        let mut largest: Option<FoundRecord> = None;
        for chunk in chunks {
            match largest {
                Some(held) if held.timestamp > chunk.max_timestamp => break,
                Some(held) if held.timestamp == chunk.max_timestamp && held.offset < chunk.base_offset => continue,
                _ => {}
            }
            self.scan_chunk(chunk, &mut |header, batch| {
                if header.max_timestamp < largest.map_or(0, |held| held.timestamp) {
                    return true;
                }
                if let Ok(Some((offset, timestamp))) = records::max_timestamp_record(batch, self.log_start) {
                    let beats = |held: FoundRecord| (timestamp, held.offset) > (held.timestamp, offset);
                    if offset < self.up_to && largest.is_none_or(beats) {
                        largest = Some(FoundRecord { offset, timestamp, epoch: header.leader_epoch });
                    }
                }
                let is_it =
                    |held: FoundRecord| held.timestamp == chunk.max_timestamp && held.offset >= chunk.base_offset;
                !largest.is_some_and(is_it)
            })?;
        }
        Ok(largest)
    }

    fn scan_chunk(
        &self,
        chunk: &Chunk,
        visit: &mut dyn FnMut(&BatchHeader, &Bytes) -> bool,
    ) -> Result<(), ReadFailure> {
        let range = (keys::batch(self.number, chunk.base_offset), keys::batch(self.number, chunk.next_offset));
        let mut broken = None;
        self.home.engine.scan(
            Family::Batches,
            range,
            &mut |key, value| match sound_batch(self.number, key, &value) {
                Ok(header) if header.next_offset() <= self.log_start => true,
                Ok(header) => visit(&header, &value),
                Err(reason) => {
                    broken = Some(reason);
                    false
                }
            },
        )?;
        broken.map_or(Ok(()), |reason| Err(ReadFailure::Corrupt(reason)))
    }
}

#[cfg(test)]
mod tests;
