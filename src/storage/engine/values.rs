//! The value log: batches, written once, in groups; at the same time the write-ahead log of the rows that point to
//! them.
//!
//! A *group* is what one group commit writes: header, values, then the row changes (a RocksDB write batch) that belong
//! to them. One write, one sync, whole or not at all: a checksum covers all of it. RocksDB keeps the rows without a log
//! of its own; what its memtables lose in a crash is applied again from the groups behind the flushed position.
//!
//! Invariants: the lane is the only writer; a file is synced before the next one is begun, so only the last file can
//! have a torn end, which is cut off at the start; a group is written again only whole; positions of values never
//! change, except that `reclaim` writes living values anew and deletes the file they were in.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};

/// Number of a file of the log; files are numbered in the order of writing.
pub(super) type FileNumber = u32;

/// `OVL1`.
const MAGIC: u32 = 0x4f56_4c31;
/// Magic, length of the values, length of the rows, checksum.
const HEADER_BYTES: usize = 4 + 8 + 4 + 4;
/// A group larger than this was never written: a length that says so is damage.
const GROUP_BYTES_MAX: u64 = 1 << 31;
/// Slices per vectored write (`IOV_MAX` is 1024 on Linux).
const SLICES_MAX: usize = 512;

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

struct Active {
    number: FileNumber,
    file: File,
    end: u64,
}

/// The value log of one data directory.
pub(super) struct ValueLog {
    folder: PathBuf,
    file_bytes_max: u64,
    active: Mutex<Active>,
    /// Every file, also the active one, for readers.
    files: RwLock<BTreeMap<FileNumber, Arc<File>>>,
}

fn name_of(number: FileNumber) -> String {
    format!("{number:010}.values")
}

fn list(folder: &Path) -> io::Result<Vec<FileNumber>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".values"));
        numbers.extend(number.and_then(|number| number.parse::<FileNumber>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_file(folder: &Path, number: FileNumber) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).open(folder.join(name_of(number)))
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl ValueLog {
    /// Opens the log in `folder` and gives the rows of every whole group from `from` on to `apply`, in order. A torn
    /// end of the last file is cut off.
    pub(super) fn open(
        folder: &Path,
        file_bytes_max: u64,
        from: Option<Position>,
        apply: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<ValueLog> {
        fs::create_dir_all(folder)?;
        let mut numbers = list(folder)?;
        if numbers.is_empty() {
            numbers.push(1);
        }
        let last = *numbers.last().unwrap_or(&1);
        let mut files = BTreeMap::new();
        let mut end = 0;
        for number in numbers {
            let file = open_file(folder, number)?;
            let length = file.metadata()?.len();
            let begin = match from {
                Some(from) if number < from.file => length,
                Some(from) if number == from.file => from.at,
                _ => 0,
            };
            end = replay(&file, begin, length, apply)?;
            if end < length {
                if number != last {
                    return Err(damaged(format!("{} is damaged at byte {end}", name_of(number))));
                }
                tracing::warn!(file = name_of(number), from = end, to = length, "cutting off a torn group");
                file.set_len(end)?;
                file.sync_all()?;
            }
            files.insert(number, Arc::new(file));
        }
        File::open(folder)?.sync_all()?;
        let file = open_file(folder, last)?;
        // A killed process may have written groups that it did not sync. They count from now on, and a repeated batch
        // is answered as a duplicate without a write of its own: so they must be on disk before anybody is answered.
        file.sync_all()?;
        let active = Mutex::new(Active { number: last, file, end });
        Ok(ValueLog { folder: folder.to_owned(), file_bytes_max, active, files: RwLock::new(files) })
    }

    /// Where the next group goes; begins a new file when the current one is full.
    pub(super) fn next(&self) -> io::Result<Position> {
        let mut active = self.active.lock();
        if active.end >= self.file_bytes_max {
            active.file.sync_data()?;
            let number = active.number + 1;
            let file = open_file(&self.folder, number)?;
            File::open(&self.folder)?.sync_all()?;
            self.files.write().insert(number, Arc::new(file.try_clone()?));
            *active = Active { number, file, end: 0 };
        }
        Ok(Position { file: active.number, at: active.end })
    }

    /// Where the first value of a group at `position` lies.
    pub(super) fn first_value(position: Position) -> u64 {
        position.at + HEADER_BYTES as u64
    }

    /// Writes one group, and syncs it if asked to.
    pub(super) fn append(&self, values: &[Bytes], rows: &[u8], sync: bool) -> io::Result<u64> {
        let mut active = self.active.lock();
        let values_bytes: usize = values.iter().map(Bytes::len).sum();
        let mut header = BytesMut::with_capacity(HEADER_BYTES);
        header.put_u32(MAGIC);
        header.put_u64(values_bytes as u64);
        header.put_u32(rows.len() as u32);
        let mut sum = crc32c::crc32c(&header);
        for value in values {
            sum = crc32c::crc32c_append(sum, value);
        }
        header.put_u32(crc32c::crc32c_append(sum, rows));
        let mut slices: Vec<&[u8]> = Vec::with_capacity(values.len() + 2);
        slices.push(&header);
        slices.extend(values.iter().map(|value| &value[..]));
        slices.push(rows);
        write_all(&mut active.file, &slices)?;
        if sync {
            active.file.sync_data()?;
        }
        let bytes = (HEADER_BYTES + values_bytes + rows.len()) as u64;
        active.end += bytes;
        Ok(bytes)
    }

    /// Reads a value; `None` if its file is gone, because nothing living was in it.
    pub(super) fn read(&self, place: Place) -> io::Result<Option<Bytes>> {
        let Some(file) = self.files.read().get(&place.file).cloned() else { return Ok(None) };
        let mut value = BytesMut::zeroed(place.length as usize);
        file.read_exact_at(&mut value, place.at)?;
        Ok(Some(value.freeze()))
    }

    /// The file that is being written. Every group in an earlier one has been applied to the rows.
    pub(super) fn active(&self) -> FileNumber {
        self.active.lock().number
    }

    /// Number and size of every file before `limit`.
    pub(super) fn files_before(&self, limit: FileNumber) -> io::Result<Vec<(FileNumber, u64)>> {
        let files = self.files.read();
        files.range(..limit).map(|(&number, file)| Ok((number, file.metadata()?.len()))).collect()
    }

    /// Deletes a file in which nothing lives. Reads under way finish.
    pub(super) fn delete(&self, number: FileNumber) -> io::Result<()> {
        self.files.write().remove(&number);
        fs::remove_file(self.folder.join(name_of(number)))
    }
}

fn write_all(file: &mut File, slices: &[&[u8]]) -> io::Result<()> {
    let mut vectors: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
    let mut rest = &mut vectors[..];
    while !rest.is_empty() {
        let count = rest.len().min(SLICES_MAX);
        match file.write_vectored(&rest[..count]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // Empty slices at the front would look like a write that makes no progress.
        while rest.first().is_some_and(|slice| slice.is_empty()) {
            rest = &mut rest[1..];
        }
    }
    Ok(())
}

/// Applies whole groups from `begin` on; returns where they end.
fn replay(file: &File, begin: u64, length: u64, apply: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut at = begin.min(length);
    let mut group = Vec::new();
    while let Some((values_bytes, rows_bytes, sum)) = header_at(file, at, length)? {
        let body = (values_bytes + rows_bytes) as usize;
        group.resize(HEADER_BYTES + body, 0);
        file.read_exact_at(&mut group, at)?;
        let covered = crc32c::crc32c_append(crc32c::crc32c(&group[..16]), &group[HEADER_BYTES..]);
        if covered != sum {
            break;
        }
        apply(&group[HEADER_BYTES + values_bytes as usize..])?;
        at += group.len() as u64;
    }
    Ok(at)
}

/// Lengths and checksum of the group at `at`, if its header is sound and all of it is within the file.
fn header_at(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64, u32)>> {
    let left = length.saturating_sub(at);
    if left < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut header = [0u8; HEADER_BYTES];
    file.read_exact_at(&mut header, at)?;
    let mut fields = &header[..];
    let (magic, values, rows, sum) =
        (fields.get_u32(), fields.get_u64(), u64::from(fields.get_u32()), fields.get_u32());
    let sound = magic == MAGIC && values <= GROUP_BYTES_MAX && values + rows <= left - HEADER_BYTES as u64;
    Ok(sound.then_some((values, rows, sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, from: Option<Position>) -> (ValueLog, Vec<Vec<u8>>) {
        let mut rows = Vec::new();
        let log = ValueLog::open(folder, 1 << 20, from, &mut |group| {
            rows.push(group.to_vec());
            Ok(())
        });
        (log.unwrap(), rows)
    }

    #[test]
    fn groups_come_back_from_a_position_and_a_torn_end_is_cut() {
        let root = tempfile::tempdir().unwrap();
        let (log, rows) = open(root.path(), None);
        assert!(rows.is_empty());
        let mut starts = Vec::new();
        for group in 0..5u8 {
            let start = log.next().unwrap();
            starts.push(start);
            let values = [Bytes::from(vec![group; 100]), Bytes::new(), Bytes::from(vec![group; 7])];
            log.append(&values, &[group, group], group % 2 == 0).unwrap();
            let place = Place { file: start.file, at: ValueLog::first_value(start) + 100, length: 7 };
            assert_eq!(log.read(place).unwrap().unwrap(), vec![group; 7]);
        }
        drop(log);
        let (_, rows) = open(root.path(), Some(starts[2]));
        assert_eq!(rows, [[2, 2], [3, 3], [4, 4]]);

        let path = root.path().join(name_of(1));
        let length = fs::metadata(&path).unwrap().len();
        for cut in [1, 30, 120] {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(length - cut).unwrap();
            let (log, rows) = open(root.path(), Some(starts[2]));
            assert_eq!(rows, [[2, 2], [3, 3]], "the last group lost {cut} bytes");
            assert_eq!(log.next().unwrap(), starts[4]);
            let values = [Bytes::from(vec![4; 100]), Bytes::new(), Bytes::from(vec![4; 7])];
            log.append(&values, &[4, 4], true).unwrap();
        }
    }

    #[test]
    fn a_flipped_byte_ends_the_replay_before_its_group() {
        let root = tempfile::tempdir().unwrap();
        let (log, _) = open(root.path(), None);
        for group in 0..3u8 {
            log.append(&[Bytes::from(vec![group; 50])], &[group], true).unwrap();
        }
        drop(log);
        let path = root.path().join(name_of(1));
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (_, rows) = open(root.path(), None);
        assert_eq!(rows, [[0]]);
    }
}
