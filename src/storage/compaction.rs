//! Compaction of one log: which part of it is dirty, and one pass over it (Kafka's `LogCleanerManager` and `Cleaner`).
//!
//! A pass *learns* the last offset of each key in the dirty part, chunk by chunk, then *rewrites* every chunk from the
//! log's start to the end of what it learnt. It only reads; the log's owner writes what it says, in order.
//!
//! Invariants: a record goes only because a later one of its key is in the log, or because it is a tombstone whose
//! horizon passed, and then everything older of its key went before. So a pass may end anywhere, in a crash too, and
//! the next one begins at the same dirty offset. Memory is that of the key table and of one chunk.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::engine::Engine;
use super::key_offsets::KeyOffsets;
use super::keys::{self, Family, LogNumber};
use super::log::sound_batch;
use super::retention::Chunk;
use crate::ids::{Offset, ProducerId, WallMillis};
use crate::records::clean::{self, Aborted, Cleaned, Horizon, Transactions};
use crate::records::{BatchError, BatchHeader};

/// Most of a log that is held in memory while transactions are looked for.
const LOOK_AHEAD_BYTES: usize = 1 << 20;

/// The settings of a topic that decide what is dirty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirtRules {
    /// `segment.bytes` and `segment.ms`: the newest records, up to as much, are Kafka's active segment, and never
    /// cleaned.
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// `min.compaction.lag.ms`.
    pub lag_ms_min: i64,
}

/// What could be cleaned of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dirt {
    /// The first offset that no pass has seen, and the first that no pass may see yet.
    pub from: Offset,
    pub up_to: Offset,
    pub clean_bytes: u64,
    pub dirty_bytes: u64,
}

impl Dirt {
    /// Share of the dirty bytes in all that could be cleaned; Kafka's cleanable ratio.
    pub fn ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes).max(1) as f64
    }
}

/// Finds the dirt in `chunks` (oldest first, the open one last). They are gathered into segments as Kafka would have
/// rolled them, counted from `cleaned_to`; the last segment is the active one. `stable` is the last stable offset.
pub fn dirt(
    chunks: impl IntoIterator<Item = Chunk>,
    rules: &DirtRules,
    cleaned_to: Offset,
    stable: Offset,
    now_ms: WallMillis,
) -> Dirt {
    let mut dirt = Dirt { from: cleaned_to, up_to: cleaned_to, clean_bytes: 0, dirty_bytes: 0 };
    let mut segment: Option<Segment> = None;
    for chunk in chunks {
        if chunk.next_offset <= cleaned_to {
            dirt.clean_bytes += chunk.bytes;
            continue;
        }
        if let Some(full) = segment.as_ref().filter(|segment| segment.is_full_before(&chunk, rules)) {
            let too_young = rules.lag_ms_min > 0 && full.largest_ms > now_ms.saturating_sub(rules.lag_ms_min);
            if too_young || chunk.base_offset > stable {
                break;
            }
            dirt.up_to = chunk.base_offset;
            dirt.dirty_bytes += full.bytes;
            segment = None;
        }
        let segment = segment.get_or_insert(Segment { began_ms: chunk.max_timestamp, largest_ms: -1, bytes: 0 });
        segment.largest_ms = segment.largest_ms.max(chunk.max_timestamp);
        segment.bytes += chunk.bytes;
    }
    dirt
}

/// A run of chunks that Kafka would have in one file.
struct Segment {
    /// Of its first record, or a little later: chunks know their largest timestamp only.
    began_ms: i64,
    largest_ms: i64,
    bytes: u64,
}

impl Segment {
    fn is_full_before(&self, next: &Chunk, rules: &DirtRules) -> bool {
        let spans = next.max_timestamp.saturating_sub(self.began_ms) > rules.segment_ms;
        self.bytes > 0 && (self.bytes + next.bytes > rules.segment_bytes || spans)
    }
}

/// What an active producer wrote last: the batch that holds it stays, if only as a header, because it has the last
/// sequence; or the marker, because it has the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastOfProducer {
    pub data_offset: Option<Offset>,
    pub epoch: i16,
}

/// What a pass is begun with.
pub struct PassStart {
    pub dirt: Dirt,
    pub log_start: Offset,
    /// Where every transaction that has data below `dirt.up_to` has its marker.
    pub stable: Offset,
    /// The chunks below `dirt.up_to`.
    pub chunks: VecDeque<Chunk>,
    pub producers: BTreeMap<ProducerId, LastOfProducer>,
}

/// What a chunk becomes.
#[derive(Debug)]
pub struct Rewrite {
    pub chunk: Chunk,
    /// Its bytes and its largest timestamp after the changes.
    pub bytes: u64,
    pub max_timestamp: i64,
    /// By base offset, rising: the batch anew, or `None` if it goes.
    pub changes: Vec<(Offset, Option<Bytes>)>,
}

impl Rewrite {
    /// Bytes that it makes the disk write.
    pub fn bytes_written(&self) -> u64 {
        self.changes.iter().filter_map(|(_, anew)| anew.as_ref()).map(|batch| batch.len() as u64).sum()
    }
}

/// One pass over one log.
pub struct Pass {
    engine: Engine,
    number: LogNumber,
    start: PassStart,
    horizon: Horizon,
    keys: KeyOffsets,
    /// The first offset behind what was learnt.
    learnt_to: Offset,
    full: bool,
    /// Read once a transactional batch was met.
    aborted: Option<Aborted>,
    transactions: Transactions,
}

impl Pass {
    pub fn new(engine: Engine, number: LogNumber, start: PassStart, horizon: Horizon, keys: KeyOffsets) -> Pass {
        let learnt_to = start.dirt.from;
        let (aborted, transactions) = (None, Transactions::default());
        Pass { engine, number, start, horizon, keys, learnt_to, full: false, aborted, transactions }
    }

    /// The chunks to learn from, in order.
    pub fn dirty_chunks(&self) -> Vec<Chunk> {
        self.start.chunks.iter().filter(|chunk| chunk.next_offset > self.start.dirt.from).copied().collect()
    }

    /// Takes note of the keys of one chunk. False once the key table is full: the pass ends in this chunk. Blocking.
    pub fn learn(&mut self, chunk: &Chunk) -> Result<bool, String> {
        for (header, batch) in self.batches(chunk)? {
            if header.next_offset() <= self.start.dirt.from {
                continue;
            }
            if header.is_transactional() && self.aborted.is_none() {
                self.aborted = Some(self.look_ahead(header.base_offset)?);
            }
            let aborted = self.aborted.as_ref().is_some_and(|aborted| aborted.has(&header));
            if !header.is_control() && !aborted {
                let (keys, full, from) = (&mut self.keys, &mut self.full, self.start.dirt.from);
                let read = clean::visit_keys(&batch, &mut |key, offset| {
                    *full |= offset >= from && !*full && !keys.put(key, offset);
                });
                read.map_err(|error| self.unreadable(&header, &error))?;
            }
            if self.full {
                return Ok(false);
            }
            self.learnt_to = header.next_offset();
        }
        self.learnt_to = self.learnt_to.max(chunk.next_offset.min(self.start.dirt.up_to));
        Ok(true)
    }

    /// The first offset that this pass learns from.
    pub fn begin(&self) -> Offset {
        self.start.dirt.from
    }

    /// The first offset that this pass leaves dirty, once everything is learnt.
    pub fn end(&self) -> Offset {
        self.learnt_to
    }

    /// How much of the key table is in use, from 0 to 1.
    pub fn utilization(&self) -> f64 {
        self.keys.utilization()
    }

    /// The chunks to rewrite, in order.
    pub fn chunks(&self) -> Vec<Chunk> {
        self.start.chunks.iter().filter(|chunk| chunk.base_offset < self.learnt_to).copied().collect()
    }

    /// Says what the next chunk becomes. Blocking.
    pub fn rewrite(&mut self, chunk: &Chunk) -> Result<Rewrite, String> {
        let mut rewrite = Rewrite { chunk: *chunk, bytes: 0, max_timestamp: -1, changes: Vec::new() };
        // A batch without a timestamp ages by the chunk's, which is the time of its arrival.
        let mut times_known = true;
        for (header, batch) in self.batches(chunk)? {
            let cleaned = self.clean(&header, &batch).map_err(|error| self.unreadable(&header, &error))?;
            let left = match &cleaned {
                Cleaned::Same => Some(&batch),
                Cleaned::Anew(anew) => Some(anew),
                Cleaned::Gone => None,
            };
            if let Some(left) = left {
                rewrite.bytes += left.len() as u64;
                let header = BatchHeader::parse(left).map_err(|error| self.unreadable(&header, &error))?;
                if header.records_count > 0 {
                    times_known &= header.max_timestamp >= 0;
                    rewrite.max_timestamp = rewrite.max_timestamp.max(header.max_timestamp);
                }
            }
            match cleaned {
                Cleaned::Same => {}
                Cleaned::Anew(anew) => rewrite.changes.push((header.base_offset, Some(anew))),
                Cleaned::Gone => rewrite.changes.push((header.base_offset, None)),
            }
        }
        if !times_known || rewrite.max_timestamp < 0 {
            rewrite.max_timestamp = chunk.max_timestamp;
        }
        Ok(rewrite)
    }

    fn clean(&mut self, header: &BatchHeader, batch: &Bytes) -> Result<Cleaned, BatchError> {
        if header.next_offset() <= self.start.log_start {
            return Ok(Cleaned::Gone);
        }
        let none = Aborted::default();
        let aborted = self.aborted.as_ref().unwrap_or(&none);
        let standing = self.transactions.standing(header, batch, aborted)?;
        if header.base_offset >= self.learnt_to {
            return Ok(Cleaned::Same);
        }
        let keys = &self.keys;
        let mut is_last = |key: &[u8], offset: Offset| keys.offset_of(key).is_none_or(|last| last <= offset);
        clean::clean(batch, standing, self.keeps_empty(header), self.horizon, &mut is_last)
    }

    /// True if the header has to stay without records: it holds the last sequence or epoch of a producer, or the last
    /// offset of the pass.
    fn keeps_empty(&self, header: &BatchHeader) -> bool {
        let of_producer = || {
            let last = self.start.producers.get(&header.producer_id)?;
            Some(match last.data_offset {
                Some(offset) => offset == header.last_offset(),
                None => header.is_control() && header.producer_epoch == last.epoch,
            })
        };
        header.next_offset() == self.start.dirt.up_to || (header.has_producer() && of_producer().unwrap_or(false))
    }

    /// Finds the aborted transactions from `from` on, up to the last stable offset: markers may lie behind the pass.
    fn look_ahead(&self, from: Offset) -> Result<Aborted, String> {
        let mut aborted = Aborted::default();
        let mut next = from;
        while next < self.start.stable {
            let batches = self.scan(next, self.start.stable, LOOK_AHEAD_BYTES)?;
            if batches.is_empty() {
                break;
            }
            for (header, batch) in batches {
                aborted.note(&header, &batch).map_err(|error| self.unreadable(&header, &error))?;
                next = header.next_offset();
            }
        }
        Ok(aborted)
    }

    fn batches(&self, chunk: &Chunk) -> Result<Vec<(BatchHeader, Bytes)>, String> {
        self.scan(chunk.base_offset, chunk.next_offset, usize::MAX)
    }

    fn scan(&self, from: Offset, to: Offset, bytes_max: usize) -> Result<Vec<(BatchHeader, Bytes)>, String> {
        let range = (keys::batch(self.number, from), keys::batch(self.number, to));
        let (mut found, mut bytes, mut broken) = (Vec::new(), 0, None);
        let visited = self.engine.scan(Family::Batches, range, &mut |key, value| {
            match sound_batch(self.number, key, &value) {
                Ok(header) => {
                    bytes += value.len();
                    found.push((header, value));
                }
                Err(reason) => broken = Some(reason),
            }
            broken.is_none() && bytes < bytes_max
        });
        visited.map_err(|poison| poison.0)?;
        broken.map_or(Ok(found), Err)
    }

    fn unreadable(&self, header: &BatchHeader, error: &BatchError) -> String {
        format!("log {}: batch at {}: {error}", self.number, header.base_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: DirtRules = DirtRules { segment_bytes: 250, segment_ms: 1000, lag_ms_min: 0 };

    /// Chunks of ten offsets and 100 bytes each, with these largest timestamps.
    fn chunks(times_ms: &[i64]) -> Vec<Chunk> {
        let chunk = |(index, &max_timestamp): (usize, &i64)| {
            let base_offset = index as Offset * 10;
            Chunk { base_offset, next_offset: base_offset + 10, bytes: 100, max_timestamp }
        };
        times_ms.iter().enumerate().map(chunk).collect()
    }

    fn up_to(times_ms: &[i64], rules: DirtRules, stable: Offset) -> Offset {
        dirt(chunks(times_ms), &rules, 0, stable, 10_000).up_to
    }

    #[test]
    fn segments_roll_by_size_and_time_and_the_last_is_active() {
        assert_eq!(up_to(&[], RULES, 100), 0);
        assert_eq!(up_to(&[0, 0], RULES, 100), 0, "all of it is active");
        assert_eq!(up_to(&[0, 0, 0], RULES, 100), 20);
        assert_eq!(up_to(&[0, 0, 0, 0, 0], RULES, 100), 40);
        assert_eq!(up_to(&[0, 1000], RULES, 100), 0, "not longer than segment.ms");
        assert_eq!(up_to(&[0, 1001], RULES, 100), 10);
        assert_eq!(up_to(&[0, 1001, 2002, 2100], RULES, 100), 20);
    }

    #[test]
    fn what_is_unstable_or_young_is_not_dirty_yet() {
        assert_eq!(up_to(&[0; 5], RULES, 39), 20);
        assert_eq!(up_to(&[0; 5], RULES, 40), 40);
        let lag = DirtRules { lag_ms_min: 1000, ..RULES };
        assert_eq!(up_to(&[8000, 9000, 9000, 9001, 9001], lag, 100), 20);
    }

    #[test]
    fn the_clean_part_counts_apart() {
        let found = dirt(chunks(&[0; 6]), &RULES, 20, 100, 10_000);
        assert_eq!(found, Dirt { from: 20, up_to: 40, clean_bytes: 200, dirty_bytes: 200 });
        assert_eq!(found.ratio(), 0.5);
        let nothing = dirt(chunks(&[0]), &RULES, 0, 100, 10_000);
        assert_eq!((nothing.dirty_bytes, nothing.ratio()), (0, 0.0));
    }
}
