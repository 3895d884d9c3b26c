//! The engine over RocksDB: the only file that names it.
//!
//! Rows live in RocksDB; batches live in the value log ([`super::values`]), which is also the write-ahead log of the
//! rows: one write and one sync per group commit, and a batch is written once. A row of a batch is a tag and either the
//! batch itself (small ones) or its place in the value log. Rows wait for each other on their way into the memtables
//! ([`super::pending`]); whoever reads rows pours what waits first. Both families are flushed together, with the
//! position up to which groups are contained, so that a start applies again only what came after.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, FlushOptions, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::full::{Failure, Fullness, patiently};
use super::pending::{self, Held, Pending, is_puts, place_of};
use super::values::{FileNumber, Place, Position, ValueLog, ValueSettings};
use super::{EngineOptions, Op, Poisoned, Write};
use crate::env::Env;
use crate::storage::keys::{self, Family, Key};

const STATE: &str = "state";
const BATCHES: &str = "batches";

/// Bytes of groups after which rows are flushed: what a start may have to read again.
const UNFLUSHED_BYTES_MAX: u64 = 256 << 20;
/// Bytes of rows after which they are flushed if groups are not synced: RocksDB flushes a full memtable by itself, and
/// rows that survive a power cut must not point to batches that do not. A row takes two to three times its size there.
const UNSYNCED_ROW_BYTES_MAX: u64 = MEMTABLE_BYTES as u64 / 4;
/// Bytes of a memtable.
const MEMTABLE_BYTES: usize = 8 << 20;
/// Files of rows of batches that are merged at a time.
const L0_FILES: i32 = 12;
/// Share of dead bytes, in percent of all, above which living batches are written anew so that files can go.
const GARBAGE_PERCENT_MAX: u64 = 10;
/// Bytes of batches that a scan reads at first in one go, and at most.
const SCAN_BYTES_MIN: usize = 64 << 10;
const SCAN_BYTES_MAX: usize = 4 << 20;
/// How far apart the batches of one read from the floor lie at most: so that consumers that read interleaved partitions
/// side by side find the chunks that their neighbours have read.
const READ_SPAN_MAX: u64 = 8 << 20;
/// What such a read gives in any case. The first batch may lie before what was asked for, so there is a second.
const SPAN_ROWS_MIN: usize = 2;
const SPAN_BYTES_MIN: usize = 64 << 10;
/// Bytes moved per write by a reclaim: what producers may have to wait behind.
const MOVE_BYTES_MAX: usize = 1 << 20;

fn failed(context: &str) -> impl Fn(rocksdb::Error) -> Poisoned + '_ {
    move |failure| Poisoned(format!("{context}: {failure}"))
}

fn shared_options(background_jobs: i32) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(background_jobs);
    options.set_keep_log_file_num(4);
    options.set_max_open_files(1024);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options
}

fn small_tables(cache: &Cache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables.set_block_size(16 << 10);
    tables.set_format_version(5);
    tables
}

fn state_options(cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(&small_tables(cache));
    options
}

fn batches_options(cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&small_tables(cache));
    // Every file of level 0 spans all partitions, so that merging one rewrites all of level 1: rather seldom.
    options.set_level_zero_file_num_compaction_trigger(L0_FILES);
    options.set_level_zero_slowdown_writes_trigger(4 * L0_FILES);
    options.set_level_zero_stop_writes_trigger(6 * L0_FILES);
    options
}

struct Inner {
    rows: DB,
    values: ValueLog,
    pending: Mutex<Pending>,
    unflushed: AtomicU64,
    unflushed_rows: AtomicU64,
    /// Groups are synced by themselves.
    sync: bool,
}

/// One open data directory. Cheap to clone.
#[derive(Clone)]
pub(super) struct Store(Arc<Inner>);

fn io_failed(context: &str) -> impl Fn(io::Error) -> Poisoned + '_ {
    move |failure| Poisoned(format!("{context}: {failure}"))
}

/// A failure of RocksDB. From a full disk it recovers by itself when there is room: until then it takes no writes and
/// says so (its `ErrorHandler`, with the `SstFileManager` that every database has).
fn failure(context: &str) -> impl Fn(rocksdb::Error) -> Failure + '_ {
    move |failure| match failure.as_ref().contains("No space left on device") {
        true => Failure::NoRoom(format!("{context}: {failure}")),
        false => Failure::Final(failed(context)(failure)),
    }
}

fn unlogged() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

impl Store {
    /// Opens the rows, then applies the groups that they lack.
    pub(super) fn open(env: &Env, directory: &Path, settings: &EngineOptions) -> Result<Store, Poisoned> {
        let mut options = shared_options(2);
        options.set_atomic_flush(true);
        options.set_bytes_per_sync(1 << 20);
        let cache = Cache::new_lru_cache(16 << 20);
        let families = [
            ColumnFamilyDescriptor::new("default", Options::default()),
            ColumnFamilyDescriptor::new(STATE, state_options(&cache)),
            ColumnFamilyDescriptor::new(BATCHES, batches_options(&cache)),
        ];
        let rows = DB::open_cf_descriptors(&options, directory.join("rows"), families).map_err(failed("open"))?;
        let state = rows.cf_handle(STATE).ok_or_else(|| Poisoned("column family state is missing".into()))?;
        let flushed = rows.get_cf(state, keys::position()).map_err(failed("read"))?;
        let from = match flushed {
            None => None,
            Some(row) => Some(Position::decode(&row).ok_or_else(|| Poisoned("malformed position row".into()))?),
        };
        let mut unflushed = 0;
        let value_settings = ValueSettings {
            file_bytes_max: settings.value_file_bytes_max,
            direct: settings.direct,
            read_cache_bytes: settings.read_cache_bytes,
        };
        let values = ValueLog::open(env, &directory.join("values"), value_settings, from, &mut |group| {
            unflushed += group.len() as u64;
            rows.write_opt(WriteBatch::from_data(group), &unlogged()).map_err(io::Error::other)
        });
        let values = values.map_err(io_failed("value log"))?;
        let unflushed = AtomicU64::new(unflushed);
        let pending = Mutex::default();
        Ok(Store(Arc::new(Inner {
            rows,
            values,
            pending,
            unflushed,
            unflushed_rows: AtomicU64::new(0),
            sync: settings.sync,
        })))
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, Poisoned> {
        let name = match family {
            Family::State => STATE,
            Family::Batches => BATCHES,
        };
        self.0.rows.cf_handle(name).ok_or_else(|| Poisoned(format!("column family {name} is missing")))
    }

    /// Writes a group: values and row changes into the value log, with one sync; the rows follow later, all at once, if
    /// nothing is against it. `wait` is called while there is no room on the disk: it returns after a moment, with
    /// whether to go on.
    pub(super) fn write(&self, group: &mut [Write], sync: bool, wait: &dyn Fn(&str) -> bool) -> Result<(), Poisoned> {
        let may_wait = is_puts(group);
        if !may_wait {
            patiently(wait, || self.pour())?;
        }
        let moved = |key: &Key, from: Place| self.moved(key, from);
        let (position, rows, written) = patiently(wait, || {
            let position = self.0.values.next()?;
            let (values, rows) = pending::compose(position, group, &moved)?;
            let written = self.0.values.append(&values, &rows, sync)?;
            Ok((position, rows, written))
        })?;
        if may_wait {
            let is_full = {
                let mut pending = self.0.pending.lock();
                pending.add(group, position);
                pending.is_full()
            };
            if is_full {
                patiently(wait, || self.pour())?;
            }
        } else {
            let write = || self.0.rows.write_opt(WriteBatch::from_data(&rows), &unlogged());
            patiently(wait, || write().map_err(failure("write")))?;
        }
        let row_bytes = rows.len() as u64;
        let row_bytes = self.0.unflushed_rows.fetch_add(row_bytes, Ordering::Relaxed) + row_bytes;
        let many = self.0.unflushed.fetch_add(written, Ordering::Relaxed) + written > UNFLUSHED_BYTES_MAX;
        if many || (!self.0.sync && row_bytes > UNSYNCED_ROW_BYTES_MAX) {
            match self.try_flush(false) {
                // RocksDB flushes them itself once it can, and a start needs only what is in the value log.
                Err(Failure::NoRoom(why)) => tracing::warn!(why, "rows stay in memory until the disk has room"),
                flushed => flushed?,
            }
        }
        Ok(())
    }

    /// Puts the rows that wait into the memtables. The lock is not held while anybody waits for room.
    fn pour(&self) -> Result<(), Failure> {
        let mut pending = self.0.pending.lock();
        if let Some(rows) = pending.rows() {
            self.0.rows.write_opt(WriteBatch::from_data(&rows), &unlogged()).map_err(failure("write"))?;
            pending.clear();
        }
        Ok(())
    }

    /// As [`Store::pour`], for a reader.
    fn pour_for(&self, family: Family) -> Result<(), Poisoned> {
        match self.pour() {
            // As long as RocksDB takes nothing for want of room, a reader of batches finds the older ones.
            Err(Failure::NoRoom(_)) if family == Family::Batches => Ok(()),
            poured => Ok(poured?),
        }
    }

    /// The batch of `key`, if its row says that it lies at `from`.
    fn moved(&self, key: &Key, from: Place) -> Result<Option<Bytes>, Poisoned> {
        let held = self.0.rows.get_pinned_cf(self.family(Family::Batches)?, key).map_err(failed("read"))?;
        if held.is_none_or(|row| pending::place_of(&row) != Some(from)) {
            return Ok(None);
        }
        self.read_one(from)?.map(Some).ok_or_else(|| Poisoned("a living value is gone".into()))
    }

    /// Flushes the rows of both families, together.
    pub(super) fn flush(&self, wait: bool) -> Result<(), Poisoned> {
        Ok(self.try_flush(wait)?)
    }

    fn try_flush(&self, wait: bool) -> Result<(), Failure> {
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        self.pour()?;
        self.0.unflushed.store(0, Ordering::Relaxed);
        self.0.unflushed_rows.store(0, Ordering::Relaxed);
        if !self.0.sync {
            // Rows that survive a power cut must not point to batches that do not.
            self.0.values.sync().map_err(io_failed("value log"))?;
        }
        let families = [self.family(Family::State)?, self.family(Family::Batches)?];
        self.0.rows.flush_cfs_opt(&[&families[0], &families[1]], &options).map_err(failure("flush"))
    }

    /// Flushes for the last time and makes compactions under way return at once.
    pub(super) fn finish(&self) -> Result<(), Poisoned> {
        let flushed = self.flush(true);
        self.0.rows.cancel_all_background_work(true);
        flushed
    }

    fn read_one(&self, place: Place) -> Result<Option<Bytes>, Poisoned> {
        let mut found = self.0.values.read(&[place]).map_err(io_failed("read a batch"))?;
        Ok(found.pop().flatten())
    }

    /// Puts a copy of everything written so far into the folder `to`. No file of the value log may be deleted
    /// meanwhile.
    pub(super) fn back_up(&self, to: &Path) -> Result<(), Poisoned> {
        let values = to.join("values");
        std::fs::create_dir_all(&values).map_err(io_failed("backup"))?;
        checkpoint(&self.0.rows, &to.join("rows"))?;
        // Groups behind the position of the rows are applied at the next start: what came since then may be left out.
        self.0.values.back_up(&values).map_err(io_failed("backup of the value log"))
    }

    /// The batch behind a row; `None` if its file is gone: the row was deleted while it was being read.
    fn resolve(&self, row: &[u8]) -> Result<Option<Bytes>, Poisoned> {
        match Held::of(row)? {
            Held::Inline(batch) => Ok(Some(batch)),
            Held::At(place) => self.read_one(place),
        }
    }

    pub(super) fn value(&self, family: Family, key: &Key) -> Result<Option<Bytes>, Poisoned> {
        self.pour_for(family)?;
        let row = self.0.rows.get_cf(self.family(family)?, key).map_err(failed("read"))?;
        match (family, row) {
            (_, None) => Ok(None),
            (Family::State, Some(row)) => Ok(Some(Bytes::from(row))),
            (Family::Batches, Some(row)) => self.resolve(&row),
        }
    }

    pub(super) fn scan(
        &self,
        family: Family,
        range: (Key, Key),
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Poisoned> {
        match family {
            Family::State => {
                self.visit_rows(family, range, None, &mut |key, row| visit(key, Bytes::copy_from_slice(row)))
            }
            Family::Batches => self.visit_batches(range, None, (SCAN_BYTES_MIN, u64::MAX), visit),
        }
    }

    pub(super) fn batches_from_floor(
        &self,
        range: (Key, Key),
        at: Key,
        bytes: usize,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Poisoned> {
        self.visit_batches(range, Some(at), (bytes.clamp(1, SCAN_BYTES_MAX), READ_SPAN_MAX), visit)
    }

    /// Collects rows for `bytes` of batches, reads these batches together and shows them; then twice as many.
    fn visit_batches(
        &self,
        range: (Key, Key),
        floor_of: Option<Key>,
        (bytes_max, span_max): (usize, u64),
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Poisoned> {
        let outcome = Ok(true);
        let (rows, begin, seen) = (Vec::new(), None, (0, 0));
        let mut ahead = Ahead { store: self, rows, bytes: 0, bytes_max, span_max, begin, seen, visit, outcome };
        self.visit_rows(Family::Batches, range, floor_of, &mut |key, row| ahead.row(key, row))?;
        ahead.show();
        ahead.outcome.map(drop)
    }

    fn visit_rows(
        &self,
        family: Family,
        (from, to): (Key, Key),
        floor_of: Option<Key>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Poisoned> {
        self.pour_for(family)?;
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from.as_slice());
        options.set_iterate_upper_bound(to.as_slice());
        let mut rows = self.0.rows.raw_iterator_cf_opt(self.family(family)?, options);
        match floor_of {
            None => rows.seek_to_first(),
            Some(at) => {
                // A consumer goes on where a batch begins: an iterator that never turns round is quicker.
                rows.seek(at);
                if rows.key() != Some(at.as_slice()) {
                    rows.status().map_err(failed("seek"))?;
                    rows.seek_for_prev(at);
                }
                if !rows.valid() {
                    rows.status().map_err(failed("seek"))?;
                    rows.seek(at);
                }
            }
        }
        while let Some((key, row)) = rows.item() {
            if !visit(key, row) {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(failed("scan"))
    }

    /// Lets compaction eat the tombstones of `ranges`.
    pub(super) fn compact(&self, ranges: &[(Key, Key)]) -> Result<(), Poisoned> {
        let batches = self.family(Family::Batches)?;
        self.flush(true)?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for (from, to) in ranges {
            self.0.rows.compact_range_cf_opt(batches, Some(from), Some(to), &options);
        }
        Ok(())
    }

    /// Deletes value files in which nothing lives, and says which batches to move so that more files can go: those that
    /// share a file with the dead, if the dead are too many. They fit into `room` bytes; true if there are more.
    pub(super) fn reclaim(&self, room: u64) -> Result<(Vec<Vec<Op>>, bool), Poisoned> {
        let closed = self.flushed_files()?;
        let living = self.living()?;
        let (mut all, mut dead, mut mixed) = (0, 0, Vec::new());
        for (number, size) in closed {
            match living.get(&number) {
                None => self.0.values.delete(number).map_err(io_failed("delete a value file"))?,
                Some(&bytes) => {
                    all += size;
                    dead += size.saturating_sub(bytes);
                    let garbage = size.saturating_sub(bytes);
                    mixed.push((garbage * 100 / size.max(1), number, size, garbage));
                }
            }
        }
        mixed.sort_unstable();
        let (mut victims, mut moved) = (Vec::new(), 0);
        while dead * 100 > all * GARBAGE_PERCENT_MAX
            && let Some((_, number, size, garbage)) = mixed.pop()
        {
            moved += size - garbage;
            if moved > room {
                let more = !victims.is_empty();
                return Ok((self.moves(&victims)?, more));
            }
            (all, dead) = (all - size, dead - garbage);
            victims.push(number);
        }
        Ok((self.moves(&victims)?, false))
    }

    /// Number and size of the value files that no start will read groups from: what is flushed before they are looked
    /// at contains them whole.
    fn flushed_files(&self) -> Result<Vec<(FileNumber, u64)>, Poisoned> {
        let active = self.0.values.active();
        self.flush(true)?;
        self.0.values.files_before(active).map_err(io_failed("value log"))
    }

    /// Deletes every such file in which nothing lives.
    pub(super) fn drop_dead_files(&self) -> Result<(), Poisoned> {
        let closed = self.flushed_files()?;
        let living = self.living()?;
        for (number, _) in closed.into_iter().filter(|(number, _)| !living.contains_key(number)) {
            self.0.values.delete(number).map_err(io_failed("delete a value file"))?;
        }
        Ok(())
    }

    /// Bytes of living batches by value file. What they have superseded may be deleted: they are on stable storage.
    fn living(&self) -> Result<BTreeMap<FileNumber, u64>, Poisoned> {
        let mut living = BTreeMap::new();
        self.visit_rows(Family::Batches, keys::all_batches(), None, &mut |_, row| {
            if let Some(place) = place_of(row) {
                *living.entry(place.file).or_default() += u64::from(place.length);
            }
            true
        })?;
        if !self.0.sync {
            self.0.values.sync().map_err(io_failed("value log"))?;
        }
        Ok(living)
    }

    fn moves(&self, victims: &[FileNumber]) -> Result<Vec<Vec<Op>>, Poisoned> {
        let mut moves: Vec<Vec<Op>> = Vec::new();
        let mut bytes = MOVE_BYTES_MAX;
        if victims.is_empty() {
            return Ok(moves);
        }
        self.visit_rows(Family::Batches, keys::all_batches(), None, &mut |key, row| {
            if let (Some(key), Some(place)) = (Key::from_slice(key), place_of(row))
                && victims.contains(&place.file)
            {
                if bytes >= MOVE_BYTES_MAX {
                    moves.push(Vec::new());
                    bytes = 0;
                }
                bytes += place.length as usize;
                if let Some(write) = moves.last_mut() {
                    write.push(Op::Move(key, place));
                }
            }
            true
        })?;
        Ok(moves)
    }
}

/// Rows of batches on their way to `visit`, so that their values are read together.
struct Ahead<'a> {
    store: &'a Store,
    rows: Vec<(Key, Held)>,
    bytes: usize,
    bytes_max: usize,
    /// How far from `begin` it may go, once there is [`SPAN_ROWS_MIN`] and [`SPAN_BYTES_MIN`].
    span_max: u64,
    begin: Option<Place>,
    /// Rows and bytes, all told.
    seen: (usize, usize),
    visit: &'a mut dyn FnMut(&[u8], Bytes) -> bool,
    /// Whether to go on.
    outcome: Result<bool, Poisoned>,
}

impl Ahead<'_> {
    fn row(&mut self, key: &[u8], row: &[u8]) -> bool {
        match (Key::from_slice(key), Held::of(row)) {
            (Some(key), Ok(held)) => {
                if self.is_too_far(&held) {
                    return false;
                }
                self.bytes += held.bytes();
                self.seen = (self.seen.0 + 1, self.seen.1 + held.bytes());
                self.rows.push((key, held));
            }
            (None, _) => self.outcome = Err(Poisoned("malformed key of a batch".into())),
            (_, Err(poison)) => self.outcome = Err(poison),
        }
        if self.outcome.is_ok() && self.bytes >= self.bytes_max {
            self.show();
            self.bytes_max = (self.bytes_max * 2).min(SCAN_BYTES_MAX);
        }
        self.outcome == Ok(true)
    }

    fn is_too_far(&mut self, held: &Held) -> bool {
        let Held::At(place) = held else { return false };
        let begin = *self.begin.get_or_insert(*place);
        let far = begin.file != place.file || place.at.abs_diff(begin.at) > self.span_max;
        self.span_max < u64::MAX && far && self.seen.0 >= SPAN_ROWS_MIN && self.seen.1 >= SPAN_BYTES_MIN
    }

    fn show(&mut self) {
        if self.outcome == Ok(true) {
            self.outcome = self.try_show();
        }
        self.rows.clear();
        self.bytes = 0;
    }

    fn try_show(&mut self) -> Result<bool, Poisoned> {
        let placed = self.rows.iter().filter_map(|(_, held)| match held {
            Held::At(place) => Some(*place),
            Held::Inline(_) => None,
        });
        let places: Vec<Place> = placed.collect();
        let mut read = self.store.0.values.read(&places).map_err(io_failed("read a batch"))?.into_iter();
        for (key, held) in self.rows.drain(..) {
            let value = match held {
                Held::Inline(batch) => Some(batch),
                // If the file went after the rows were read, the batch was moved meanwhile, or deleted.
                Held::At(_) => match read.next().flatten() {
                    Some(value) => Some(value),
                    None => self.store.value(Family::Batches, &key)?,
                },
            };
            if let Some(value) = value
                && !(self.visit)(key.as_slice(), value)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn checkpoint(rows: &DB, to: &Path) -> Result<(), Poisoned> {
    Checkpoint::new(rows).and_then(|checkpoint| checkpoint.create_checkpoint(to)).map_err(failed("backup of the rows"))
}

/// Key and value.
type Row = (Vec<u8>, Vec<u8>);

/// A small ordered store with synced writes, for the metadata quorum's own log. Cheap to clone.
#[derive(Clone)]
pub struct SmallStore(Arc<DB>);

impl SmallStore {
    /// Opens or creates it in `directory`.
    pub fn open(directory: &Path) -> Result<SmallStore, Poisoned> {
        let mut options = shared_options(1);
        options.set_write_buffer_size(4 << 20);
        options.set_max_total_wal_size(16 << 20);
        let cache = Cache::new_lru_cache(1 << 20);
        options.set_block_based_table_factory(&small_tables(&cache));
        let db = DB::open(&options, directory).map_err(failed("open metadata store"))?;
        Ok(SmallStore(Arc::new(db)))
    }

    /// Writes all rows as one; `None` deletes. With `sync`, returns once they are on stable storage. Blocking; if the
    /// disk is full, waits for room.
    pub fn put_many(&self, rows: Vec<(Vec<u8>, Option<Vec<u8>>)>, sync: bool) -> Result<(), Poisoned> {
        let mut batch = WriteBatch::default();
        for (key, value) in rows {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let data = batch.data().to_vec();
        let mut batch = Some(batch);
        let fullness = Fullness::default();
        patiently(&|why| fullness.wait(why), || {
            let batch = batch.take().unwrap_or_else(|| WriteBatch::from_data(&data));
            self.0.write_opt(batch, &options).map_err(failure("write metadata"))
        })?;
        fullness.passed();
        Ok(())
    }

    /// Puts a copy of every row into the folder `to`, which must not exist.
    pub fn back_up(&self, to: &Path) -> Result<(), Poisoned> {
        checkpoint(&self.0, to)
    }

    /// The value of one row.
    pub fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Poisoned> {
        self.0.get(key).map_err(failed("read metadata"))
    }

    /// Rows with `from ≤ key < to`, in order.
    pub fn rows(&self, from: &[u8], to: &[u8]) -> Result<Vec<Row>, Poisoned> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let mode = IteratorMode::From(from, rocksdb::Direction::Forward);
        let rows = self.0.iterator_opt(mode, options);
        rows.map(|row| row.map(|(key, value)| (key.into_vec(), value.into_vec())).map_err(failed("scan metadata")))
            .collect()
    }
}
