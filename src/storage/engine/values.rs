//! The value log: batches, written once, in groups; at the same time the write-ahead log of the rows that point to
//! them.
//!
//! A *group* is what one group commit writes: header, values, then the row changes (a RocksDB write batch) that belong
//! to them. One write, one sync, whole or not at all: a checksum covers all of it. RocksDB keeps the rows without a log
//! of its own; what its memtables lose in a crash is applied again from the groups behind the flushed position.
//!
//! Files are written in whole blocks (direct I/O). Behind the last group its block is filled with zeros; the next group
//! begins right behind the last one, and writes that block again: its first bytes stay what they were.
//!
//! Invariants: the lane is the only writer; a file is synced before the next one is begun, so only the last file can
//! have a torn end, which is cut off at the start; a group is written again only whole; positions of values never
//! change, except that `reclaim` writes living values anew and deletes the file they were in. A broken group with whole
//! synced ones behind it is not torn but damaged: the directory does not open.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes};
use parking_lot::{Mutex, RwLock};

use super::Poisoned;
use super::direct::{self, Aligned, BLOCK};
use super::full::Failure;
use super::groups::{self, StoredFile};
use super::reads::ReadCache;
use crate::env::Env;
use crate::records::checksum::continued_over_batch;
use crate::storage::backups;

/// Number of a file of the log; files are numbered in the order of writing.
pub(super) type FileNumber = u32;

/// `OVF2`: the first bytes of a file.
const FILE_MAGIC: u32 = 0x4f56_4632;
/// Magic, number, salt, checksum of these.
pub(super) const FILE_HEADER_BYTES: usize = 4 + 4 + 4 + 4;
/// `OVG2`: the first bytes of a group.
pub(super) const GROUP_MAGIC: u32 = 0x4f56_4732;
/// Magic, flags, place in the file, length of the values, length of the rows; then the checksum.
pub(super) const SUMMED_HEADER_BYTES: usize = 4 + 1 + 8 + 8 + 4;
pub(super) const HEADER_BYTES: usize = SUMMED_HEADER_BYTES + 4;
/// Flag of a group that was synced before the next one was written.
pub(super) const SYNCED: u8 = 1;
/// Bytes that are written with one call.
const WRITE_BYTES: usize = 1 << 20;
/// A group larger than this was never written: a length that says so is damage.
pub(super) const GROUP_BYTES_MAX: u64 = 1 << 31;

/// Where a value lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub file: FileNumber,
    pub at: u64,
    pub length: u32,
}

impl Place {
    pub(super) const BYTES: usize = 16;

    pub(super) fn put(&self, out: &mut impl BufMut) {
        out.put_u32(self.file);
        out.put_u64(self.at);
        out.put_u32(self.length);
    }

    pub(super) fn read(mut bytes: &[u8]) -> Option<Place> {
        if bytes.len() != Place::BYTES {
            return None;
        }
        Some(Place { file: bytes.get_u32(), at: bytes.get_u64(), length: bytes.get_u32() })
    }
}

/// The start of a group: from here on groups are applied again after a crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    pub file: FileNumber,
    pub at: u64,
}

impl Position {
    pub(super) fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.file.to_be_bytes());
        bytes[4..].copy_from_slice(&self.at.to_be_bytes());
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Position> {
        (bytes.len() == 12).then(|| Position { file: bytes.get_u32(), at: bytes.get_u64() })
    }
}

/// A value on its way into the log.
pub(super) struct Value<'a> {
    pub bytes: Cow<'a, [u8]>,
    /// It is a batch whose CRC was compared with it since it is in memory.
    pub is_checked: bool,
}

impl<'a> Value<'a> {
    /// Any bytes.
    pub(super) fn unchecked(bytes: &'a Bytes) -> Value<'a> {
        Value { bytes: Cow::Borrowed(bytes), is_checked: false }
    }

    /// A batch whose CRC is known to be right.
    pub(super) fn checked(batch: &'a Bytes) -> Value<'a> {
        Value { bytes: Cow::Borrowed(batch), is_checked: true }
    }

    /// Any bytes, kept here.
    pub(super) fn owned(bytes: Vec<u8>) -> Value<'a> {
        Value { bytes: Cow::Owned(bytes), is_checked: false }
    }

    /// Continues the checksum of a group over it. A batch is covered by its own CRC: to read it once more, on this
    /// core, would cost more than to write it.
    fn summed(&self, sum: u32) -> u32 {
        match self.is_checked {
            true => continued_over_batch(sum, &self.bytes),
            false => crc32c::crc32c_append(sum, &self.bytes),
        }
    }
}

/// A file of the log, for readers.
pub(super) struct ValueFile {
    pub number: FileNumber,
    pub file: File,
    written: AtomicU64,
}

impl ValueFile {
    /// Bytes of whole groups.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

/// The file that is being written: whole blocks are on the disk, the rest waits in `buffer`.
struct Active {
    target: Arc<ValueFile>,
    salt: u32,
    /// Where `buffer` goes.
    at: u64,
    buffer: Aligned,
    filled: usize,
    /// The start of `buffer` before the group that is being written: a group for which there is no room is undone.
    kept: Aligned,
}

/// How a log is set up.
pub(super) struct ValueSettings {
    /// Size at which a file is closed.
    pub file_bytes_max: u64,
    /// Go past the page cache.
    pub direct: bool,
    /// Memory for reads.
    pub read_cache_bytes: usize,
}

/// The value log of one data directory.
pub(super) struct ValueLog {
    env: Env,
    folder: PathBuf,
    settings: ValueSettings,
    active: Mutex<Active>,
    /// Every file, also the active one, for readers.
    files: RwLock<BTreeMap<FileNumber, Arc<ValueFile>>>,
    cache: ReadCache,
}

pub(super) fn name_of(number: FileNumber) -> String {
    format!("{number:010}.values")
}

pub(super) fn list(folder: &Path) -> io::Result<Vec<FileNumber>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".values"));
        numbers.extend(number.and_then(|number| number.parse::<FileNumber>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// True if nothing but the size of the disk, or of somebody's share of it, is in the way.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn failure(error: io::Error) -> Failure {
    match is_full(&error) {
        true => Failure::NoRoom(format!("value log: {error}")),
        false => broken(error),
    }
}

/// What does not get better by itself: a failed sync says nothing about what is on the disk, whatever its reason.
fn broken(error: io::Error) -> Failure {
    Failure::Final(Poisoned(format!("value log: {error}")))
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

pub(super) fn file_header(number: FileNumber, salt: u32) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..4].copy_from_slice(&FILE_MAGIC.to_be_bytes());
    header[4..8].copy_from_slice(&number.to_be_bytes());
    header[8..12].copy_from_slice(&salt.to_be_bytes());
    let sum = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&sum.to_be_bytes());
    header
}

impl Active {
    /// An empty file; its header waits for the first group.
    fn begin(target: Arc<ValueFile>, salt: u32, buffer: Aligned) -> io::Result<Active> {
        let header = file_header(target.number, salt);
        target.written.store(header.len() as u64, Ordering::Release);
        let mut active = Active { target, salt, at: 0, buffer, filled: 0, kept: Aligned::zeroed(BLOCK) };
        active.put(&header)?;
        Ok(active)
    }

    /// A file that ends at `end` with whole groups.
    fn resume(target: Arc<ValueFile>, salt: u32, end: u64, mut buffer: Aligned) -> io::Result<Active> {
        let at = direct::block_start(end);
        let filled = (end - at) as usize;
        if filled > 0 && direct::read_blocks(&target.file, &mut buffer.as_mut_slice()[..BLOCK], at)? < filled {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Active { target, salt, at, buffer, filled, kept: Aligned::zeroed(BLOCK) })
    }

    fn end(&self) -> u64 {
        self.at + self.filled as u64
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = &mut self.buffer.as_mut_slice()[self.filled..];
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.filled += count;
            if self.filled == self.buffer.as_ref().len() {
                self.target.file.write_all_at(self.buffer.as_ref(), self.at)?;
                self.at += self.filled as u64;
                self.filled = 0;
            }
        }
        Ok(())
    }

    /// Writes what waits, its last block filled up with zeros, and keeps that block.
    fn flush(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let whole = self.filled.next_multiple_of(BLOCK);
        let kept = self.filled % BLOCK;
        let buffer = self.buffer.as_mut_slice();
        buffer[self.filled..whole].fill(0);
        self.target.file.write_all_at(&buffer[..whole], self.at)?;
        buffer.copy_within(self.filled - kept..self.filled, 0);
        self.at += (self.filled - kept) as u64;
        self.filled = kept;
        Ok(())
    }

    /// Remembers how things are before a group. Then less than a block waits.
    fn keep(&mut self) -> (u64, usize) {
        let filled = self.filled;
        self.kept.as_mut_slice()[..filled].copy_from_slice(&self.buffer.as_ref()[..filled]);
        (self.at, filled)
    }

    /// Takes back what was written of a group since `keep`, in memory and in the file.
    fn undo(&mut self, (at, filled): (u64, usize)) -> io::Result<()> {
        (self.at, self.filled) = (at, filled);
        self.buffer.as_mut_slice()[..filled].copy_from_slice(&self.kept.as_ref()[..filled]);
        if self.end() == FILE_HEADER_BYTES as u64 {
            // The header of the file goes with the first group.
            return self.target.file.set_len(0);
        }
        let whole = filled.next_multiple_of(BLOCK);
        let buffer = self.buffer.as_mut_slice();
        buffer[filled..whole].fill(0);
        self.target.file.set_len(at + whole as u64)?;
        self.target.file.write_all_at(&buffer[..whole], at)
    }
}

impl ValueLog {
    /// Opens the log in `folder` and gives the rows of every whole group from `from` on to `apply`, in order. A torn
    /// end of the last file is cut off.
    pub(super) fn open(
        env: &Env,
        folder: &Path,
        settings: ValueSettings,
        from: Option<Position>,
        apply: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<ValueLog> {
        fs::create_dir_all(folder)?;
        let stored = groups::files(folder)?;
        let last = stored.last().map(|file| file.number);
        let mut files = BTreeMap::new();
        let mut resumed = None;
        for stored in stored {
            let (number, is_last) = (stored.number, last == Some(stored.number));
            if is_last {
                // A killed process may have written groups that it did not sync. They count from now on, and a repeated
                // batch is answered as a duplicate without a write of its own: so they must be on disk before anybody
                // is answered. And before they are applied: RocksDB may put the rows on disk at any moment.
                File::open(&stored.path)?.sync_all()?;
            }
            let salt = salt_of(&stored, is_last)?;
            let end = match from {
                Some(from) if number < from.file => stored.length,
                Some(from) if number == from.file => replay(&stored, salt, from.at, is_last, apply)?,
                _ => replay(&stored, salt, 0, is_last, apply)?,
            };
            if is_last {
                resumed = Some((salt, end));
            }
            let file = direct::open(&stored.path, settings.direct)?;
            files.insert(number, Arc::new(ValueFile { number, file, written: AtomicU64::new(end) }));
        }
        let number = last.unwrap_or(1);
        let target = match files.get(&number) {
            Some(file) => file.clone(),
            None => {
                let file = direct::open(&folder.join(name_of(number)), settings.direct)?;
                Arc::new(ValueFile { number, file, written: AtomicU64::new(0) })
            }
        };
        files.insert(number, target.clone());
        File::open(folder)?.sync_all()?;
        let active = match resumed {
            Some((Some(salt), end)) => Active::resume(target, salt, end, Aligned::zeroed(WRITE_BYTES))?,
            _ => Active::begin(target, env.random_u64() as u32, Aligned::zeroed(WRITE_BYTES))?,
        };
        Ok(ValueLog {
            env: env.clone(),
            folder: folder.to_owned(),
            cache: ReadCache::new(settings.read_cache_bytes),
            settings,
            active: Mutex::new(active),
            files: RwLock::new(files),
        })
    }

    /// Where the next group goes; begins a new file when the current one is full.
    pub(super) fn next(&self) -> Result<Position, Failure> {
        let mut active = self.active.lock();
        if active.end() >= self.settings.file_bytes_max {
            active.target.file.sync_data().map_err(broken)?;
            let number = active.target.number + 1;
            let file = direct::open(&self.folder.join(name_of(number)), self.settings.direct).map_err(failure)?;
            File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(broken)?;
            let target = Arc::new(ValueFile { number, file, written: AtomicU64::new(0) });
            self.files.write().insert(number, target.clone());
            let buffer = std::mem::replace(&mut active.buffer, Aligned::zeroed(0));
            *active = Active::begin(target, self.env.random_u64() as u32, buffer).map_err(broken)?;
        }
        Ok(Position { file: active.target.number, at: active.end() })
    }

    /// Where the first value of a group at `position` lies.
    pub(super) fn first_value(position: Position) -> u64 {
        position.at + HEADER_BYTES as u64
    }

    /// Writes one group, and syncs it if asked to. If there is no room for it, everything is as before.
    pub(super) fn append(&self, values: &[Value<'_>], rows: &[u8], sync: bool) -> Result<u64, Failure> {
        let mut active = self.active.lock();
        let before = active.keep();
        let values_bytes: usize = values.iter().map(|value| value.bytes.len()).sum();
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.put_u32(GROUP_MAGIC);
        header.put_u8(if sync { SYNCED } else { 0 });
        header.put_u64(active.end());
        header.put_u64(values_bytes as u64);
        header.put_u32(rows.len() as u32);
        let mut sum = crc32c::crc32c_append(active.salt, &header);
        for value in values {
            sum = value.summed(sum);
        }
        header.put_u32(crc32c::crc32c_append(sum, rows));
        let pieces =
            std::iter::once(header.as_slice()).chain(values.iter().map(|value| value.bytes.as_ref())).chain([rows]);
        let written = pieces.into_iter().try_for_each(|piece| active.put(piece)).and_then(|()| active.flush());
        if let Err(error) = written {
            if is_full(&error) {
                active.undo(before).map_err(broken)?;
            }
            return Err(failure(error));
        }
        if sync {
            active.target.file.sync_data().map_err(broken)?;
        }
        active.target.written.store(active.end(), Ordering::Release);
        Ok((HEADER_BYTES + values_bytes + rows.len()) as u64)
    }

    /// Makes what was written without a sync outlive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.active.lock().target.file.sync_data()
    }

    /// Reads values; `None` for those whose file is gone, because nothing living was in it.
    pub(super) fn read(&self, places: &[Place]) -> io::Result<Vec<Option<Bytes>>> {
        self.cache.read(places, |number| self.files.read().get(&number).cloned())
    }

    /// The file that is being written. Every group in an earlier one has been applied to the rows.
    pub(super) fn active(&self) -> FileNumber {
        self.active.lock().target.number
    }

    /// Where the log ends: file and byte.
    pub(super) fn end(&self) -> Position {
        let active = self.active.lock();
        Position { file: active.target.number, at: active.end() }
    }

    /// Number and size of every file before `limit`.
    pub(super) fn files_before(&self, limit: FileNumber) -> io::Result<Vec<(FileNumber, u64)>> {
        let files = self.files.read();
        files.range(..limit).map(|(&number, file)| Ok((number, file.file.metadata()?.len()))).collect()
    }

    /// Links every closed file into the folder `to`, or copies it to another file system; copies the active one as far
    /// as it is written.
    pub(super) fn back_up(&self, to: &Path) -> io::Result<()> {
        let end = self.end();
        for (number, _) in self.files_before(end.file)? {
            let name = name_of(number);
            backups::link_or_copy(&self.folder.join(&name), &to.join(&name))?;
        }
        if end.at <= FILE_HEADER_BYTES as u64 {
            // No group is in it, so perhaps nothing at all is on the disk.
            return Ok(());
        }
        let name = name_of(end.file);
        backups::copy_start(&self.folder.join(&name), &to.join(&name), end.at)
    }

    /// Deletes a file in which nothing lives. Reads under way finish.
    pub(super) fn delete(&self, number: FileNumber) -> io::Result<()> {
        self.files.write().remove(&number);
        self.cache.forget(number);
        fs::remove_file(self.folder.join(name_of(number)))
    }
}

/// Applies whole groups from `begin` on; returns where they end, and cuts off what is torn behind them.
fn replay(
    file: &StoredFile,
    salt: Option<u32>,
    begin: u64,
    is_last: bool,
    apply: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let name = name_of(file.number);
    if begin > file.length {
        return Err(damaged(format!("{name} is shorter than what was flushed, {begin} bytes")));
    }
    let Some(salt) = salt else { return Ok(0) };
    let mut at = begin.max(FILE_HEADER_BYTES as u64);
    while let Some((group, rows)) = file.whole_group(at, salt)? {
        apply(&rows)?;
        at = group.end();
    }
    if file.is_zero_from(at)? {
        return Ok(at);
    }
    if !is_last {
        return Err(damaged(format!("{name} is damaged at byte {at}")));
    }
    if let Some(later) = file.next_group(at + 1, salt, &|group| group.synced)? {
        return Err(damaged(format!("{name} is damaged at byte {at}: the group at byte {later} is whole")));
    }
    tracing::warn!(file = name, from = at, to = file.length, "cutting off a torn group");
    let torn = OpenOptions::new().write(true).open(&file.path)?;
    torn.set_len(at)?;
    torn.sync_all()?;
    Ok(at)
}

/// The file's salt; `None` for the last file if not even its header was written.
fn salt_of(file: &StoredFile, is_last: bool) -> io::Result<Option<u32>> {
    let salt = file.salt()?;
    if salt.is_none() && !(is_last && file.is_zero_from(0)?) {
        return Err(damaged(format!("{}: this is not the header of a value file", name_of(file.number))));
    }
    Ok(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(log: &ValueLog, values: &[Bytes], rows: &[u8], sync: bool) -> Result<u64, Failure> {
        log.append(&values.iter().map(Value::unchecked).collect::<Vec<_>>(), rows, sync)
    }

    const EMPTY_BLOCK_ROOM: u64 = BLOCK as u64;

    fn try_open(folder: &Path, from: Option<Position>, direct: bool) -> io::Result<(ValueLog, Vec<Vec<u8>>)> {
        let mut rows = Vec::new();
        let settings = ValueSettings { file_bytes_max: 1 << 20, direct, read_cache_bytes: 4 << 20 };
        let log = ValueLog::open(&Env::real(), folder, settings, from, &mut |group| {
            rows.push(group.to_vec());
            Ok(())
        })?;
        Ok((log, rows))
    }

    fn open(folder: &Path, from: Option<Position>) -> (ValueLog, Vec<Vec<u8>>) {
        try_open(folder, from, true).unwrap()
    }

    fn path(root: &Path) -> PathBuf {
        root.join(name_of(1))
    }

    fn cut(root: &Path, length: u64) {
        OpenOptions::new().write(true).open(path(root)).unwrap().set_len(length).unwrap();
    }

    fn values_of(group: u8) -> [Bytes; 3] {
        [Bytes::from(vec![group + 1; 100]), Bytes::new(), Bytes::from(vec![group + 1; 7])]
    }

    #[test]
    fn groups_come_back_from_a_position_and_a_torn_end_is_cut() {
        for direct in [true, false] {
            let root = tempfile::tempdir().unwrap();
            let (log, rows) = try_open(root.path(), None, direct).unwrap();
            assert!(rows.is_empty());
            let mut starts = Vec::new();
            for group in 0..5u8 {
                let start = log.next().unwrap();
                starts.push(start);
                append(&log, &values_of(group), &[group, group], group % 2 == 0).unwrap();
                let place = Place { file: start.file, at: ValueLog::first_value(start) + 100, length: 7 };
                assert_eq!(log.read(&[place]).unwrap(), [Some(Bytes::from(vec![group + 1; 7]))]);
            }
            let end = log.next().unwrap().at;
            drop(log);
            assert_eq!(fs::metadata(path(root.path())).unwrap().len(), EMPTY_BLOCK_ROOM, "whole blocks");
            let (log, rows) = open(root.path(), Some(starts[2]));
            assert_eq!(rows, [[2, 2], [3, 3], [4, 4]]);
            assert_eq!(log.next().unwrap().at, end, "zeros behind the last group are not torn");
            drop(log);
            for lost in [1, 30, 120] {
                cut(root.path(), end - lost);
                let (log, rows) = open(root.path(), Some(starts[2]));
                assert_eq!(rows, [[2, 2], [3, 3]], "the last group lost {lost} bytes");
                assert_eq!(log.next().unwrap(), starts[4]);
                append(&log, &values_of(4), &[4, 4], true).unwrap();
            }
            let (_, rows) = open(root.path(), Some(starts[2]));
            assert_eq!(rows, [[2, 2], [3, 3], [4, 4]]);
        }
    }

    #[test]
    fn groups_of_any_size_are_read_back() {
        let root = tempfile::tempdir().unwrap();
        let (log, _) = open(root.path(), None);
        let mut written = Vec::new();
        for (number, size) in [1usize, 4000, 4096, 5000, 1 << 20, 3 << 20, 12, 600_000, 17].into_iter().enumerate() {
            let start = log.next().unwrap();
            let value = Bytes::from((0..size).map(|at| (at * 7 + number) as u8).collect::<Vec<u8>>());
            append(&log, std::slice::from_ref(&value), &[number as u8], true).unwrap();
            let place = Place { file: start.file, at: ValueLog::first_value(start), length: size as u32 };
            written.push((place, value));
        }
        let check = |log: &ValueLog| {
            let places: Vec<Place> = written.iter().map(|(place, _)| *place).collect();
            for (found, (_, value)) in log.read(&places).unwrap().iter().zip(&written) {
                assert_eq!(found.as_ref(), Some(value));
            }
            for (place, value) in &written {
                assert_eq!(log.read(&[*place]).unwrap(), [Some(value.clone())]);
            }
        };
        check(&log);
        drop(log);
        let (log, rows) = open(root.path(), None);
        assert_eq!(rows.len(), written.len());
        check(&log);
    }

    #[test]
    fn a_file_that_grows_is_read_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        let (log, _) = open(root.path(), None);
        for number in 0..200u8 {
            let start = log.next().unwrap();
            let value = Bytes::from(vec![number; 5000]);
            append(&log, std::slice::from_ref(&value), &[], false).unwrap();
            let at = ValueLog::first_value(start);
            // The same small piece many times over: enough of the chunk is wanted for it to be read whole.
            let places = vec![Place { file: start.file, at, length: 5000 }; 7];
            assert!(log.read(&places).unwrap().iter().all(|found| found.as_ref() == Some(&value)));
        }
    }

    #[test]
    fn a_group_without_room_is_undone() {
        for groups in 0..4u8 {
            let root = tempfile::tempdir().unwrap();
            let (log, _) = open(root.path(), None);
            let write = |log: &ValueLog, group: u8| {
                let values = [Bytes::from(vec![group + 1; 1500])];
                append(log, &values, &[group], true).unwrap();
            };
            (0..groups).for_each(|group| write(&log, group));
            let end = log.next().unwrap();
            for size in [10, BLOCK, 3 << 20] {
                // As far as the disk has room: whole buffers, or the last one too.
                for flushed in [false, true] {
                    let mut active = log.active.lock();
                    let before = active.keep();
                    active.put(&vec![0xEE; size]).unwrap();
                    if flushed {
                        active.flush().unwrap();
                    }
                    active.undo(before).unwrap();
                }
                assert_eq!(log.next().unwrap(), end);
                let length = fs::metadata(path(root.path())).unwrap().len();
                let whole = if groups == 0 { 0 } else { end.at.next_multiple_of(BLOCK as u64) };
                assert_eq!(length, whole, "the room it took is free again");
                let copy = tempfile::tempdir().unwrap();
                fs::copy(path(root.path()), path(copy.path())).unwrap();
                let (_, rows) = open(copy.path(), None);
                assert_eq!(rows, (0..groups).map(|group| vec![group]).collect::<Vec<_>>(), "a start finds the others");
            }
            write(&log, groups);
            drop(log);
            assert_eq!(open(root.path(), None).1, (0..=groups).map(|group| vec![group]).collect::<Vec<_>>());
        }
    }

    fn flip(root: &Path, at: u64) {
        let mut bytes = fs::read(path(root)).unwrap();
        bytes[at as usize] ^= 1;
        fs::write(path(root), bytes).unwrap();
    }

    fn three_groups(root: &Path, sync: bool) -> Vec<u64> {
        let (log, _) = open(root, None);
        let starts = (0..3u8).map(|group| {
            let start = log.next().unwrap().at;
            append(&log, &[Bytes::from(vec![group; 50])], &[group], sync).unwrap();
            start
        });
        starts.collect()
    }

    #[test]
    fn a_broken_group_before_a_synced_one_is_damage() {
        for group in 0..2 {
            let root = tempfile::tempdir().unwrap();
            let starts = three_groups(root.path(), true);
            flip(root.path(), starts[group] + 40);
            let refused = try_open(root.path(), None, true).err().unwrap().to_string();
            assert!(refused.contains(&format!("damaged at byte {}", starts[group])), "{refused}");
        }
    }

    #[test]
    fn a_broken_group_at_the_end_or_unsynced_is_torn() {
        let root = tempfile::tempdir().unwrap();
        let starts = three_groups(root.path(), true);
        flip(root.path(), starts[2] + 40);
        assert_eq!(open(root.path(), None).1, [[0], [1]]);
        let root = tempfile::tempdir().unwrap();
        let starts = three_groups(root.path(), false);
        flip(root.path(), starts[1] + 40);
        assert_eq!(open(root.path(), None).1, [[0]]);
    }

    #[test]
    fn a_damaged_header_of_a_file_is_told() {
        let root = tempfile::tempdir().unwrap();
        three_groups(root.path(), true);
        flip(root.path(), 9);
        assert!(try_open(root.path(), None, true).err().unwrap().to_string().contains("header"));
        let root = tempfile::tempdir().unwrap();
        fs::write(path(root.path()), vec![0; BLOCK]).unwrap();
        let (log, rows) = open(root.path(), None);
        assert!(rows.is_empty(), "a file that was created and never written");
        append(&log, &values_of(1), &[1], true).unwrap();
        drop(log);
        assert_eq!(open(root.path(), None).1, [[1]]);
    }
}
