//! A data directory that no broker has open, as the next start would find it. Nothing is written.
//!
//! What a start would apply again from the value log lies over the rows in memory. Invariants: RocksDB is opened for
//! reading only and writes no log of its own; the caller holds the directory's lock.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, InfoLogger, LogLevel, Options, ReadOptions,
};

use super::groups::{self, Group, StoredFile};
use super::rocks_files;
use super::row_changes::{self, RowChange};
use super::values::{FileNumber, Position};
use super::{Poisoned, pending};
use crate::storage::findings::Finding;
use crate::storage::keys::{self, Family, Key};

/// Rows of one family that a start would change: what they become, `None` for those that go.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Changes over the rows of one family.
#[derive(Default)]
struct Overlay {
    changes: Changes,
    /// Deleted ranges, start to end, that do not overlap.
    deleted: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Overlay {
    fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        let (mut from, mut to) = (from.to_vec(), to.to_vec());
        let inside: Vec<Vec<u8>> = self.changes.range(from.clone()..to.clone()).map(|(key, _)| key.clone()).collect();
        for key in inside {
            self.changes.remove(&key);
        }
        let touching = self.deleted.range(..=to.clone()).filter(|(_, end)| **end >= from);
        let touching: Vec<Vec<u8>> = touching.map(|(start, _)| start.clone()).collect();
        for start in touching {
            if let Some(end) = self.deleted.remove(&start) {
                (from, to) = (from.min(start), to.max(end));
            }
        }
        self.deleted.insert(from, to);
    }

    fn is_deleted(&self, key: &[u8]) -> bool {
        let before = (Bound::Unbounded, Bound::Included(key));
        self.deleted.range::<[u8], _>(before).next_back().is_some_and(|(_, end)| key < end.as_slice())
    }
}

/// A row of the `Batches` family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Batch<'a> {
    /// The batch is in the row.
    Inline(&'a [u8]),
    /// File number, byte and length in the value log.
    Placed(u32, u64, u32),
}

/// A row as it is stored.
pub struct Row<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl Row<'_> {
    /// The row read as one of the `Batches` family; `None` if it is malformed.
    pub fn batch(&self) -> Option<Batch<'_>> {
        match self.value.split_first() {
            Some((&pending::INLINE, batch)) => Some(Batch::Inline(batch)),
            _ => pending::place_of(self.value).map(|place| Batch::Placed(place.file, place.at, place.length)),
        }
    }
}

/// The `records` folder of a data directory.
pub struct Frozen {
    folder: PathBuf,
    rows: DB,
    files: BTreeMap<FileNumber, StoredFile>,
    groups: BTreeMap<FileNumber, Vec<Group>>,
    position: Option<Position>,
    state: Overlay,
    batches: Overlay,
}

fn failed(context: &str) -> impl Fn(rocksdb::Error) -> Poisoned + '_ {
    move |failure| Poisoned(format!("{context}: {failure}"))
}

fn quiet_options() -> Options {
    let mut options = Options::default();
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options.set_max_open_files(256);
    options.set_skip_stats_update_on_db_open(true);
    options.set_paranoid_checks(true);
    // Every version of a row is read, also those behind a newer one.
    options.set_max_sequential_skip_in_iterations(u64::MAX);
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&Cache::new_lru_cache(8 << 20));
    options.set_block_based_table_factory(&tables);
    options
}

impl Frozen {
    /// Opens the `records` folder and reads what a start would apply again. With `thorough`, every group of the value
    /// log is checked, not only those.
    pub fn open(folder: &Path, thorough: bool, findings: &mut Vec<Finding>) -> Result<Frozen, Poisoned> {
        let options = quiet_options();
        let families = ["default", "state", "batches"].map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
        let rows = folder.join("rows");
        let db = DB::open_cf_descriptors_read_only(&options, &rows, families, false);
        let db = db.map_err(|failure| Poisoned(format!("{}: {failure}", rows.display())))?;
        let files = groups::files(&folder.join("values")).map_err(|e| Poisoned(format!("value log: {e}")))?;
        let mut frozen = Frozen {
            folder: folder.to_owned(),
            rows: db,
            files: BTreeMap::new(),
            groups: BTreeMap::new(),
            position: None,
            state: Overlay::default(),
            batches: Overlay::default(),
        };
        let row = frozen.rows.get_cf(frozen.family(Family::State)?, keys::position()).map_err(failed("read"))?;
        if let Some(row) = row {
            frozen.position = Position::decode(&row);
            if frozen.position.is_none() {
                findings.push(Finding::damage(&rows, None, "the position row is malformed"));
            }
        }
        frozen.read_groups(files, thorough, findings).map_err(|e| Poisoned(format!("value log: {e}")))?;
        Ok(frozen)
    }

    /// Number, path and size of every file of the value log.
    pub fn value_files(&self) -> impl Iterator<Item = (u32, &Path, u64)> {
        self.files.values().map(|file| (file.number, file.path.as_path(), file.length))
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, Poisoned> {
        let name = if family == Family::State { "state" } else { "batches" };
        self.rows.cf_handle(name).ok_or_else(|| Poisoned(format!("column family {name} is missing")))
    }

    fn read_groups(&mut self, files: Vec<StoredFile>, thorough: bool, findings: &mut Vec<Finding>) -> io::Result<()> {
        let last = files.last().map(|file| file.number);
        let flushed = self.position;
        let mut met = flushed.is_none();
        for file in files {
            let begin = match flushed {
                Some(position) if !thorough && file.number < position.file => file.length,
                Some(position) if !thorough && file.number == position.file => position.at,
                _ => 0,
            };
            let mut groups = Vec::new();
            let (state, batches) = (&mut self.state, &mut self.batches);
            let mut broken = Vec::new();
            let found = file.walk(begin, Some(file.number) == last, &mut |group, rows| {
                let here = Position { file: file.number, at: group.at };
                match row_changes::read(rows) {
                    Err(what) => broken.push(Finding::damage(&file.path, Some(group.values().end), what)),
                    Ok(changes) if flushed.is_none_or(|position| here >= position) => apply(state, batches, &changes),
                    Ok(_) => {}
                }
                met |= flushed == Some(here);
                groups.push(*group);
                Ok(())
            })?;
            findings.extend(found);
            findings.append(&mut broken);
            self.groups.insert(file.number, groups);
            self.files.insert(file.number, file);
        }
        if let (false, Some(position)) = (met, flushed) {
            let what = format!(
                "the rows contain everything up to byte {} of file {}, where no whole group is",
                position.at, position.file
            );
            findings.push(Finding::damage(&self.folder.join("values"), None, what));
        }
        Ok(())
    }

    /// Reads every block of every table, also those whose rows are deleted or superseded.
    pub fn check_tables(&self, findings: &mut Vec<Finding>) -> Result<(), Poisoned> {
        for family in [Family::State, Family::Batches] {
            let mut rows = self.rows.raw_iterator_cf_opt(self.family(family)?, everything());
            rows.seek_to_first();
            while rows.valid() {
                rows.next();
            }
            if let Err(failure) = rows.status() {
                findings.push(Finding::damage(&self.folder.join("rows"), None, failure.to_string()));
            }
        }
        findings.extend(examine(&self.folder.join("rows"))?);
        Ok(())
    }

    /// Visits rows `from ≤ key < to` in order, as a start would find them, until `visit` returns false.
    pub fn scan(
        &self,
        family: Family,
        range: (Key, Key),
        visit: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<(), Poisoned> {
        let overlay = if family == Family::State { &self.state } else { &self.batches };
        let (from, to) = (range.0.as_slice(), range.1.as_slice());
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        options.fill_cache(false);
        let mut rows = self.rows.raw_iterator_cf_opt(self.family(family)?, options);
        rows.seek_to_first();
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let mut changes = overlay.changes.range::<[u8], _>(bounds).peekable();
        loop {
            let held = rows.item();
            let change = changes.peek().map(|(key, value)| (key.as_slice(), value.as_deref()));
            let (row, next_held, next_change) = match (held, change) {
                (None, None) => break,
                (Some((key, value)), other) if other.is_none_or(|(changed, _)| key < changed) => {
                    ((!overlay.is_deleted(key)).then_some(Row { key, value }), true, false)
                }
                (held, Some((key, value))) => {
                    (value.map(|value| Row { key, value }), held.is_some_and(|(old, _)| old == key), true)
                }
                (Some(_), None) => unreachable!("the first arm takes every row that no change precedes"),
            };
            if row.is_some_and(|row| !visit(row)) {
                return Ok(());
            }
            if next_held {
                rows.next();
            }
            if next_change {
                changes.next();
            }
        }
        rows.status().map_err(failed("scan"))
    }

    /// The bytes of a batch. The error says why they cannot be read.
    pub fn read(&self, batch: Batch<'_>) -> Result<Bytes, String> {
        match batch {
            Batch::Inline(bytes) => Ok(Bytes::copy_from_slice(bytes)),
            Batch::Placed(file, at, length) => {
                let file = self.files.get(&file).ok_or_else(|| format!("its value file {file} is not there"))?;
                if at.saturating_add(u64::from(length)) > file.length {
                    return Err(format!("it lies behind the end of {}", file.path.display()));
                }
                file.read(at, length as usize).map(Bytes::from).map_err(|e| e.to_string())
            }
        }
    }

    /// True if the place lies within the values of a whole group. Only after a thorough opening.
    pub fn is_within_a_group(&self, batch: Batch<'_>) -> bool {
        let Batch::Placed(file, at, length) = batch else { return true };
        let Some(groups) = self.groups.get(&file) else { return false };
        let after = groups.partition_point(|group| group.at <= at);
        let group = after.checked_sub(1).and_then(|index| groups.get(index));
        group.is_some_and(|group| group.values().start <= at && at + u64::from(length) <= group.values().end)
    }

    /// The file and byte where a batch lies.
    pub fn place(&self, batch: Batch<'_>) -> (PathBuf, Option<u64>) {
        match batch {
            Batch::Inline(_) => (self.folder.join("rows"), None),
            Batch::Placed(file, at, _) => {
                let path = self.files.get(&file).map(|file| file.path.clone());
                (path.unwrap_or_else(|| self.folder.join("values")), Some(at))
            }
        }
    }
}

fn apply(state: &mut Overlay, batches: &mut Overlay, changes: &[RowChange<'_>]) {
    let mut of = |family: Family, change: &dyn Fn(&mut Overlay)| match family {
        Family::State => change(state),
        Family::Batches => change(batches),
    };
    for change in changes {
        match *change {
            RowChange::Put(family, key, value) => {
                of(family, &|overlay| drop(overlay.changes.insert(key.to_vec(), Some(value.to_vec()))));
            }
            RowChange::Delete(family, key) => {
                of(family, &|overlay| drop(overlay.changes.insert(key.to_vec(), None)));
            }
            RowChange::DeleteRange(family, from, to) => of(family, &|overlay| overlay.delete_range(from, to)),
        }
    }
}

/// Reads with checksums, past deletions, without filling the cache.
#[allow(deprecated, reason = "there is no other way to read blocks whose rows are all deleted")]
fn everything() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.set_ignore_range_deletions(true);
    options.fill_cache(false);
    options
}

fn examine(folder: &Path) -> Result<Vec<Finding>, Poisoned> {
    rocks_files::examine(folder).map_err(|e| Poisoned(format!("{}: {e}", folder.display())))
}

type KeyAndValue = (Vec<u8>, Vec<u8>);

/// A small store (see [`super::SmallStore`]) that nobody has open.
pub struct FrozenStore {
    folder: PathBuf,
    rows: DB,
}

impl FrozenStore {
    pub fn open(folder: &Path) -> Result<FrozenStore, Poisoned> {
        let rows = DB::open_for_read_only(&quiet_options(), folder, false);
        let rows = rows.map_err(|failure| Poisoned(format!("{}: {failure}", folder.display())))?;
        Ok(FrozenStore { folder: folder.to_owned(), rows })
    }

    /// Every row, in order.
    pub fn rows(&self) -> Result<Vec<KeyAndValue>, Poisoned> {
        let mut found = Vec::new();
        let mut rows = self.rows.raw_iterator_opt(everything());
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            found.push((key.to_vec(), value.to_vec()));
            rows.next();
        }
        rows.status().map_err(failed("read"))?;
        Ok(found)
    }

    /// Looks at the files that RocksDB takes on trust.
    pub fn check_files(&self, findings: &mut Vec<Finding>) -> Result<(), Poisoned> {
        findings.extend(examine(&self.folder)?);
        Ok(())
    }
}
