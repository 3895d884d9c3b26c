//! The rows and batches of one data directory, checked against each other.
//!
//! What must hold is what `docs/formats.md` says and `storage/` relies on: every row decodes; a batch is the one its
//! row names, with the right checksums and records that can be read; batches follow each other from the log's start to
//! its end (with gaps only where keys are compacted), each in the leader epoch that the history names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::Names;
use super::verify::Counts;
use crate::ids::Offset;
use crate::records::{self, BatchHeader};
use crate::storage::dirs::FORMAT_VERSION;
use crate::storage::engine::{Batch, Frozen, Poisoned};
use crate::storage::epochs::Epochs;
use crate::storage::findings::Finding;
use crate::storage::keys::{self, Family, Kind, LogNumber};
use crate::storage::producers::Producers;
use crate::storage::retention::Chunk;
use crate::storage::state::{self, LogState, Standing};

/// A log as its small rows describe it.
struct Log {
    number: LogNumber,
    state: LogState,
    name: String,
    epochs: Epochs,
    chunks: Vec<Chunk>,
    /// Offsets may be missing between batches, because keys are compacted or were once.
    compacted: bool,
}

/// Checks everything below the `records` folder that is not RocksDB's or the value log's own business.
pub(super) struct LogCheck<'a> {
    pub frozen: &'a Frozen,
    /// The folder that rows are in.
    pub rows: PathBuf,
    pub names: &'a Names,
    pub findings: &'a mut Vec<Finding>,
    pub counts: &'a mut Counts,
}

impl LogCheck<'_> {
    pub(super) fn run(mut self) -> Result<(), Poisoned> {
        let logs = self.logs()?;
        for log in logs.values() {
            self.counts.logs += 1;
            self.small_rows(log);
            self.batches(log)?;
        }
        let known: BTreeSet<LogNumber> = logs.keys().copied().collect();
        self.leftovers(&known)
    }

    fn damage(&mut self, what: impl Into<String>) {
        self.findings.push(Finding::damage(&self.rows, None, what));
    }

    fn of_log(&mut self, log: &Log, offsets: Option<(Offset, Offset)>, what: impl Into<String>) {
        let finding = Finding::damage(&self.rows, None, what).of_partition(&log.name, offsets);
        self.findings.push(finding);
    }

    /// Every log with its small rows; rows that do not decode are reported.
    fn logs(&mut self) -> Result<BTreeMap<LogNumber, Log>, Poisoned> {
        let mut logs = BTreeMap::new();
        let mut broken = Vec::new();
        self.frozen.scan(Family::State, keys::kind_range(Kind::Log), &mut |row| {
            match (keys::log_of(row.key), LogState::decode(row.value)) {
                (Some(number), Some(state)) => {
                    let (name, compacted) = (self.names.of(state.id), self.names.is_compacted(state.id));
                    let (epochs, chunks) = (Epochs::default(), Vec::new());
                    logs.insert(number, Log { number, state, name, epochs, chunks, compacted });
                }
                (number, _) => broken.push(format!("the state row of log {number:?} is malformed")),
            }
            true
        })?;
        self.frozen.scan(Family::State, keys::kind_range(Kind::Epochs), &mut |row| {
            let log = keys::log_of(row.key).and_then(|number| logs.get_mut(&number));
            match (log, Epochs::decode(row.value)) {
                (Some(log), Some(epochs)) => log.epochs = epochs,
                (None, Some(_)) => {}
                (_, None) => broken.push(format!("the epochs row {:?} is malformed", row.key)),
            }
            true
        })?;
        self.frozen.scan(Family::State, keys::kind_range(Kind::Chunk), &mut |row| {
            let log = keys::log_of(row.key).and_then(|number| logs.get_mut(&number));
            match (log, state::decode_chunk(row.value)) {
                (Some(log), Some(chunk)) if keys::number_of(row.key) == Some(chunk.base_offset) => {
                    log.chunks.push(chunk);
                }
                (None, Some(_)) => {}
                _ => broken.push(format!("the chunk row {:?} is malformed", row.key)),
            }
            true
        })?;
        self.frozen.scan(Family::State, keys::kind_range(Kind::Cleaned), &mut |row| {
            let log = keys::log_of(row.key).and_then(|number| logs.get_mut(&number));
            match (log, state::decode_cleaned(row.value)) {
                (Some(log), Some(_)) => log.compacted = true,
                (None, Some(_)) => {}
                (_, None) => broken.push(format!("the cleaned row {:?} is malformed", row.key)),
            }
            true
        })?;
        self.frozen.scan(Family::State, keys::kind_range(Kind::Standing), &mut |row| {
            if Standing::decode(row.value).is_none() {
                broken.push(format!("the standing row {:?} is malformed", row.key));
            }
            true
        })?;
        self.frozen.scan(Family::State, keys::kind_range(Kind::Producer), &mut |row| {
            let id = Producers::default().decode_one(row.value);
            if id.ok() != keys::number_of(row.key) {
                broken.push(format!("the producer row {:?} is malformed", row.key));
            }
            true
        })?;
        let next = self.format_row(&mut broken)?;
        if let (Some(next), Some((last, _))) = (next, logs.last_key_value())
            && *last >= next
        {
            broken.push(format!("log {last} exists, and the next number to be given is {next}"));
        }
        for what in broken {
            self.damage(what);
        }
        Ok(logs)
    }

    /// The number that the next log gets.
    fn format_row(&self, broken: &mut Vec<String>) -> Result<Option<LogNumber>, Poisoned> {
        let mut next = None;
        self.frozen.scan(Family::State, keys::kind_range(Kind::Format), &mut |row| {
            match row.value.split_at_checked(2).map(|(version, number)| (version, <[u8; 4]>::try_from(number))) {
                Some((version, Ok(number))) if version == FORMAT_VERSION.to_be_bytes() => {
                    next = Some(u32::from_be_bytes(number));
                }
                _ => broken.push(format!("the format row is malformed or of another version: {:?}", row.value)),
            }
            true
        })?;
        Ok(next)
    }

    fn small_rows(&mut self, log: &Log) {
        let state = &log.state;
        if log.epochs.entries().last().is_some_and(|last| last.start > state.log_end) {
            self.of_log(log, None, format!("an epoch begins behind the log's end {}", state.log_end));
        }
        let all: Vec<&Chunk> = log.chunks.iter().chain([&state.open]).collect();
        for pair in all.windows(2) {
            let gap = if log.compacted {
                pair[0].next_offset > pair[1].base_offset
            } else {
                pair[0].next_offset != pair[1].base_offset
            };
            if gap {
                let what = format!("chunks {}.. and {}.. do not meet", pair[0].base_offset, pair[1].base_offset);
                self.of_log(log, None, what);
            }
        }
        if state.open.next_offset != state.log_end {
            let what = format!("the open chunk ends at {}, the log at {}", state.open.next_offset, state.log_end);
            self.of_log(log, None, what);
        }
    }

    fn batches(&mut self, log: &Log) -> Result<(), Poisoned> {
        let range = (keys::batch(log.number, 0), keys::batches_end(log.number));
        let mut next = None;
        let mut found = Vec::new();
        let (frozen, counts) = (self.frozen, &mut *self.counts);
        let rows = &self.rows;
        frozen.scan(Family::Batches, range, &mut |row| {
            let Some(base) = keys::base_of_batch(log.number, row.key) else {
                found
                    .push(Finding::damage(rows, None, "a batch row has a malformed key").of_partition(&log.name, None));
                return true;
            };
            let Some(batch) = row.batch() else {
                let finding = Finding::damage(rows, None, "the row of a batch is malformed");
                found.push(finding.of_partition(&log.name, Some((base, base))));
                return true;
            };
            counts.batches += 1;
            let (path, at) = frozen.place(batch);
            let mut report = |offsets: (Offset, Offset), what: String| {
                found.push(Finding::damage(&path, at, what).of_partition(&log.name, Some(offsets)));
            };
            match sound(frozen, batch, base) {
                Err(what) => {
                    report((base, base), what);
                    next = None;
                }
                Ok(header) => {
                    counts.records += u64::from(header.records_count.max(0).unsigned_abs());
                    counts.bytes += header.size_bytes() as u64;
                    let offsets = (base, header.last_offset());
                    for what in out_of_place(log, &header, next) {
                        report(offsets, what);
                    }
                    next = Some(header.next_offset());
                }
            }
            true
        })?;
        let state = &log.state;
        let reached = next.unwrap_or(state.log_start);
        // A log whose records are all deleted has no batch; after a damaged one nothing is known.
        if found.is_empty() && reached < state.log_end && !log.compacted {
            let missing = (reached.max(state.log_start), state.log_end - 1);
            let finding = Finding::damage(rows, None, "no batch holds these offsets");
            found.push(finding.of_partition(&log.name, Some(missing)));
        }
        self.findings.append(&mut found);
        Ok(())
    }

    /// Batches of logs that are gone: harmless, and worth a note.
    fn leftovers(&mut self, known: &BTreeSet<LogNumber>) -> Result<(), Poisoned> {
        let mut left: BTreeMap<LogNumber, u64> = BTreeMap::new();
        self.frozen.scan(Family::Batches, keys::all_batches(), &mut |row| {
            let number = row.key.first_chunk::<4>().map(|number| u32::from_be_bytes(*number));
            if let Some(number) = number.filter(|number| !known.contains(number)) {
                *left.entry(number).or_default() += 1;
            }
            true
        })?;
        for (number, batches) in left {
            let what = format!("{batches} batches of log {number}, which does not exist any more");
            self.findings.push(Finding::note(&self.rows, None, what));
        }
        Ok(())
    }
}

/// Reads a batch and checks that it is one, and the one its row names.
fn sound(frozen: &Frozen, batch: Batch<'_>, base: Offset) -> Result<BatchHeader, String> {
    if !frozen.is_within_a_group(batch) {
        return Err("its row points to a place that is in no whole group".into());
    }
    let bytes = frozen.read(batch)?;
    check_batch(&bytes, base)
}

/// Checks one batch from its first to its last byte.
pub(super) fn check_batch(bytes: &Bytes, base: Offset) -> Result<BatchHeader, String> {
    let header = BatchHeader::parse(bytes).map_err(|error| error.to_string())?;
    if header.base_offset != base || header.size_bytes() != bytes.len() {
        let (offset, size) = (header.base_offset, header.size_bytes());
        return Err(format!("a batch of {size} bytes at offset {offset} lies where its row names one at {base}"));
    }
    if !records::crc_matches(bytes) {
        return Err("the checksum of the batch is wrong".into());
    }
    if header.magic != records::MAGIC {
        return Err(format!("the batch has format {}", header.magic));
    }
    let held = records::records(bytes).map_err(|error| error.to_string())?;
    let mut before = -1;
    for record in &held {
        if record.offset_delta <= before || record.offset_delta > header.last_offset_delta {
            return Err(format!("record {} of the batch is out of order", record.offset_delta));
        }
        before = record.offset_delta;
    }
    Ok(header)
}

/// What is wrong with where a sound batch stands in its log, after one that ended before `next`.
fn out_of_place(log: &Log, header: &BatchHeader, next: Option<Offset>) -> Vec<String> {
    let state = &log.state;
    let mut wrong = Vec::new();
    if header.next_offset() > state.log_end {
        wrong.push(format!("the batch lies behind the log's end {}", state.log_end));
    }
    let base = header.base_offset;
    match next {
        Some(next) if base < next => wrong.push(format!("the batch before it reaches to {}", next - 1)),
        Some(next) if base > next && base > state.log_start && !log.compacted => {
            wrong.push(format!("offsets {}..{} before it are missing", next.max(state.log_start), base - 1));
        }
        None if base > state.log_start && !log.compacted => {
            wrong.push(format!("offsets {}..{} before it are missing", state.log_start, base - 1));
        }
        _ => {}
    }
    let live = header.next_offset() > state.log_start;
    let at = base.max(state.log_start);
    if let Some(epoch) = log.epochs.epoch_of(at).filter(|&epoch| live && epoch != header.leader_epoch) {
        wrong.push(format!("its leader epoch is {}, the history says {epoch}", header.leader_epoch));
    }
    wrong
}

/// Where the rows of `directory` are.
pub(super) fn rows_folder(directory: &Path) -> PathBuf {
    directory.join("records").join("rows")
}
