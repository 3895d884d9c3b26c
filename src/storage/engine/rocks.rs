//! The engine over RocksDB: the only file that names it.
//!
//! Batches live in blob files (written once at flush, in key order, so that the batches of a partition lie together);
//! small rows stay in the tables. One write-ahead log for both families makes a write atomic. Options follow what was
//! measured: recycled log files, bounded log to replay, blobs collected when most of a file is dead.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{EngineOptions, Op, Poisoned, Write};
use crate::storage::keys::{Family, Key};

const STATE: &str = "state";
const BATCHES: &str = "batches";

/// Values at least this long go to blob files; smaller ones are cheaper in the tables (measured).
const BLOB_BYTES_MIN: u64 = 2048;
/// Dead bytes in blob files below which rewriting the living is not worth it.
const GARBAGE_BYTES_MIN: u64 = 64 << 20;
/// Share of dead bytes, in percent, above which the living are rewritten so that the files can go.
const GARBAGE_PERCENT_MAX: u64 = 10;
/// Write-ahead log that a start may have to replay.
const LOG_BYTES_MAX: u64 = 192 << 20;

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
    options.set_write_buffer_size(8 << 20);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(&small_tables(cache));
    options
}

fn batches_options(cache: &Cache, write_buffer_bytes: usize) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(write_buffer_bytes);
    options.set_max_write_buffer_number(3);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&small_tables(cache));
    options.set_enable_blob_files(true);
    options.set_min_blob_size(BLOB_BYTES_MIN);
    options.set_blob_file_size(256 << 20);
    // Collection stays off in the steady state: a log dies from its head, so old blob files empty by themselves. What
    // mixed retention leaves behind is collected by `reclaim`.
    options.set_enable_blob_gc(false);
    options.set_blob_gc_age_cutoff(1.0);
    options
}

/// One open RocksDB. Cheap to clone.
#[derive(Clone)]
pub(super) struct Store(Arc<DB>);

impl Store {
    pub(super) fn open(directory: &Path, settings: &EngineOptions) -> Result<Store, Poisoned> {
        let mut options = shared_options(2);
        options.set_max_total_wal_size(LOG_BYTES_MAX);
        options.set_recycle_log_file_num(4);
        options.set_wal_bytes_per_sync(1 << 20);
        options.set_bytes_per_sync(1 << 20);
        let cache = Cache::new_lru_cache(16 << 20);
        let families = [
            ColumnFamilyDescriptor::new("default", Options::default()),
            ColumnFamilyDescriptor::new(STATE, state_options(&cache)),
            ColumnFamilyDescriptor::new(BATCHES, batches_options(&cache, settings.write_buffer_bytes)),
        ];
        let db = DB::open_cf_descriptors(&options, directory, families).map_err(failed("open"))?;
        Ok(Store(Arc::new(db)))
    }

    fn family(&self, family: Family) -> Result<&rocksdb::ColumnFamily, Poisoned> {
        let name = match family {
            Family::State => STATE,
            Family::Batches => BATCHES,
        };
        self.0.cf_handle(name).ok_or_else(|| Poisoned(format!("column family {name} is missing")))
    }

    /// Writes a group as one batch: one log record, one sync.
    pub(super) fn write(&self, group: &[Write], sync: bool) -> Result<(), Poisoned> {
        let bytes: usize = group.iter().map(|write| write.bytes + 24 * write.ops.len()).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes + 64);
        let (state, batches) = (self.family(Family::State)?, self.family(Family::Batches)?);
        let handle = |family: Family| if family == Family::State { state } else { batches };
        for op in group.iter().flat_map(|write| &write.ops) {
            match op {
                Op::Put(family, key, value) => batch.put_cf(handle(*family), key, value),
                Op::Delete(family, key) => batch.delete_cf(handle(*family), key),
                Op::DeleteRange(family, from, to) => batch.delete_range_cf(handle(*family), from, to),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.0.write_opt(batch, &options).map_err(failed("write"))
    }

    pub(super) fn value(&self, family: Family, key: &Key) -> Result<Option<Bytes>, Poisoned> {
        let value = self.0.get_cf(self.family(family)?, key).map_err(failed("read"))?;
        Ok(value.map(Bytes::from))
    }

    pub(super) fn scan(
        &self,
        family: Family,
        range: (Key, Key),
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Poisoned> {
        self.visit(family, range, None, visit)
    }

    pub(super) fn scan_from_floor(
        &self,
        family: Family,
        range: (Key, Key),
        at: Key,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Poisoned> {
        self.visit(family, range, Some(at), visit)
    }

    fn visit(
        &self,
        family: Family,
        (from, to): (Key, Key),
        floor_of: Option<Key>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Poisoned> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from.as_slice());
        options.set_iterate_upper_bound(to.as_slice());
        let mut rows = self.0.raw_iterator_cf_opt(self.family(family)?, options);
        match floor_of {
            None => rows.seek_to_first(),
            Some(at) => {
                rows.seek_for_prev(at);
                if !rows.valid() {
                    rows.status().map_err(failed("seek"))?;
                    rows.seek(at);
                }
            }
        }
        while let Some((key, value)) = rows.item() {
            if !visit(key, value) {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(failed("scan"))
    }

    /// Drops whole files, lets compaction eat the tombstones of `range`, and rewrites what shares files with the dead
    /// only if the dead are more than [`GARBAGE_PERCENT_MAX`] of the family's bytes.
    pub(super) fn reclaim(&self, family: Family, (from, to): (Key, Key)) -> Result<(), Poisoned> {
        let handle = self.family(family)?;
        self.0.delete_file_in_range_cf(handle, from, to).map_err(failed("delete files"))?;
        self.compact(handle, Some(from), Some(to));
        let number = |name: &str| self.0.property_int_value_cf(handle, name).ok().flatten().unwrap_or(0);
        let (all, dead) = (number("rocksdb.total-blob-file-size"), number("rocksdb.live-blob-file-garbage-size"));
        if dead >= GARBAGE_BYTES_MIN && dead * 100 > all * GARBAGE_PERCENT_MAX {
            let collect = |on: &str| {
                let switched = self.0.set_options_cf(handle, &[("enable_blob_garbage_collection", on)]);
                switched.map_err(failed("switch blob collection"))
            };
            collect("true")?;
            self.compact(handle, None, None);
            collect("false")?;
        }
        Ok(())
    }

    fn compact(&self, handle: &rocksdb::ColumnFamily, from: Option<Key>, to: Option<Key>) {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.0.compact_range_cf_opt(handle, from, to, &options);
    }
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

    /// Writes all rows as one; `None` deletes. With `sync`, returns once they are on stable storage.
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
        self.0.write_opt(batch, &options).map_err(failed("write metadata"))
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
