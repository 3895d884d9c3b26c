//! Value files as they lie on the disk: read group by group, by a start and by who examines a directory that no broker
//! has open.
//!
//! Invariants: nothing is written. A walk leaves nothing out: every byte of a file is in its header, under the checksum
//! of a group, or a zero behind the last group, or it is reported. A group that ends early at the end of the last file
//! is what a crash leaves behind and a note, unless it is whole once a byte of its header is mended: then that byte was
//! changed afterwards.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Buf;

use super::direct::BLOCK;
use super::row_changes;
use super::values::{
    self, FILE_HEADER_BYTES, FileNumber, GROUP_BYTES_MAX, GROUP_MAGIC, HEADER_BYTES, SUMMED_HEADER_BYTES, SYNCED,
};
use crate::storage::findings::Finding;

/// Where a whole group lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Group {
    pub at: u64,
    pub values_bytes: u64,
    pub rows_bytes: u64,
    /// It was synced before the next one was written.
    pub synced: bool,
}

impl Group {
    pub(super) fn values(&self) -> Range<u64> {
        let from = self.at + HEADER_BYTES as u64;
        from..from + self.values_bytes
    }

    pub(super) fn end(&self) -> u64 {
        self.values().end + self.rows_bytes
    }

    /// Reads a header that says it lies at `at`; `None` if it is none, or of a group larger than any.
    fn of_header(header: &[u8], at: u64) -> Option<Group> {
        let mut fields = header.get(..HEADER_BYTES)?;
        let (magic, flags, place) = (fields.get_u32(), fields.get_u8(), fields.get_u64());
        let (values_bytes, rows_bytes) = (fields.get_u64(), u64::from(fields.get_u32()));
        let sound = magic == GROUP_MAGIC && place == at && values_bytes <= GROUP_BYTES_MAX;
        sound.then_some(Group { at, values_bytes, rows_bytes, synced: flags & SYNCED != 0 })
    }
}

/// A file of the value log that nobody writes.
pub(super) struct StoredFile {
    pub number: FileNumber,
    pub path: PathBuf,
    pub length: u64,
    file: File,
}

/// The files of a value log, in order.
pub(super) fn files(folder: &Path) -> io::Result<Vec<StoredFile>> {
    values::list(folder)?.into_iter().map(|number| StoredFile::open(folder, number)).collect()
}

/// Reads every group in the value files of `folder`, whole groups with their row changes, and reports what is wrong.
/// For tests: who examines a data directory needs its rows as well and goes through [`super::Frozen`].
pub fn examine_values(folder: &Path) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let files = files(folder)?;
    let last = files.last().map(|file| file.number);
    for file in files {
        let mut wrong = Vec::new();
        findings.extend(file.walk(0, last == Some(file.number), &mut |group, rows| {
            if let Err(what) = row_changes::read(rows) {
                wrong.push(Finding::damage(&file.path, Some(group.at), what));
            }
            Ok(())
        })?);
        findings.append(&mut wrong);
    }
    Ok(findings)
}

/// What a walk is told: a whole group with its rows.
pub(super) type Visit<'a> = dyn FnMut(&Group, &[u8]) -> io::Result<()> + 'a;

impl StoredFile {
    fn open(folder: &Path, number: FileNumber) -> io::Result<StoredFile> {
        let path = folder.join(values::name_of(number));
        let file = File::open(&path)?;
        Ok(StoredFile { number, length: file.metadata()?.len(), path, file })
    }

    pub(super) fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Visits every whole group from `begin` on and reports what lies between them.
    pub(super) fn walk(&self, begin: u64, is_last: bool, visit: &mut Visit<'_>) -> io::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let Some(salt) = self.salt()? else {
            // A file that was created and never written has no header.
            if !is_last || !self.is_zero_from(0)? {
                let what = "the header of the file is damaged: none of its groups can be read";
                findings.push(Finding::damage(&self.path, Some(0), what));
            }
            return Ok(findings);
        };
        let mut at = begin.clamp(FILE_HEADER_BYTES as u64, self.length.max(FILE_HEADER_BYTES as u64));
        while at < self.length {
            if let Some((group, rows)) = self.whole_group(at, salt)? {
                visit(&group, &rows)?;
                at = group.end();
                continue;
            }
            if self.is_zero_from(at)? {
                break;
            }
            let next = self.next_group(at + 1, salt, &|_| true)?;
            findings.push(self.explain(at, next, is_last, salt)?);
            at = next.unwrap_or(self.length);
        }
        Ok(findings)
    }

    /// The salt in the file's header; `None` if there is no sound header.
    pub(super) fn salt(&self) -> io::Result<Option<u32>> {
        let header = self.read(0, self.length.min(FILE_HEADER_BYTES as u64) as usize)?;
        let Some(salt) = header.get(8..12) else { return Ok(None) };
        let salt = u32::from_be_bytes([salt[0], salt[1], salt[2], salt[3]]);
        Ok((header == values::file_header(self.number, salt)).then_some(salt))
    }

    /// The group at `at` and its rows, if its checksum is right.
    pub(super) fn whole_group(&self, at: u64, salt: u32) -> io::Result<Option<(Group, Vec<u8>)>> {
        let header = self.read(at, (self.length - at).min(HEADER_BYTES as u64) as usize)?;
        let Some(group) = Group::of_header(&header, at).filter(|group| group.end() <= self.length) else {
            return Ok(None);
        };
        let mut bytes = self.read(at, (group.end() - at) as usize)?;
        if !is_whole(&bytes[..HEADER_BYTES], &bytes[HEADER_BYTES..], salt) {
            return Ok(None);
        }
        Ok(Some((group, bytes.split_off(HEADER_BYTES + group.values_bytes as usize))))
    }

    /// Where the next whole group at or after `from` begins that is `wanted`.
    pub(super) fn next_group(&self, from: u64, salt: u32, wanted: &dyn Fn(&Group) -> bool) -> io::Result<Option<u64>> {
        const WINDOW: u64 = 1 << 20;
        let magic = GROUP_MAGIC.to_be_bytes();
        let mut at = from;
        while at + (magic.len() as u64) < self.length {
            let bytes = self.read(at, (self.length - at).min(WINDOW) as usize)?;
            for (offset, _) in bytes.windows(magic.len()).enumerate().filter(|(_, window)| *window == magic) {
                let candidate = at + offset as u64;
                if self.whole_group(candidate, salt)?.is_some_and(|(group, _)| wanted(&group)) {
                    return Ok(Some(candidate));
                }
            }
            at += (bytes.len() - magic.len() + 1) as u64;
        }
        Ok(None)
    }

    /// True if nothing but zeros lies from `at` to the end.
    pub(super) fn is_zero_from(&self, mut at: u64) -> io::Result<bool> {
        const WINDOW: u64 = 1 << 20;
        while at < self.length {
            let bytes = self.read(at, (self.length - at).min(WINDOW) as usize)?;
            if bytes.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    fn explain(&self, at: u64, next: Option<u64>, is_last: bool, salt: u32) -> io::Result<Finding> {
        let left = self.length - at;
        let damage = |what: String| Ok(Finding::damage(&self.path, Some(at), what));
        if let Some(next) = next {
            return damage(format!("{} bytes are no group, or one whose checksum is wrong", next - at));
        }
        let header = self.read(at, left.min(HEADER_BYTES as u64) as usize)?;
        let begins = header.iter().zip(GROUP_MAGIC.to_be_bytes()).all(|(byte, magic)| *byte == magic);
        let group = Group::of_header(&header, at);
        if !is_last {
            return damage("a group ends early, or its checksum is wrong".into());
        }
        if group.is_some_and(|group| group.end() <= self.length) {
            return damage("the checksum of the last group is wrong".into());
        }
        let is_torn = group.is_some() || (left < HEADER_BYTES as u64 && begins);
        if !is_torn || self.was_whole(at, salt)? {
            return damage("the header of the last group was changed, or bytes behind it".into());
        }
        let what = format!("a group ends early: {left} bytes that the next start cuts off (a crash does this)");
        Ok(Finding::note(&self.path, Some(at), what))
    }

    /// True if there is a whole group at `at`, the last of the file, once one byte of its header is mended.
    fn was_whole(&self, at: u64, salt: u32) -> io::Result<bool> {
        let bytes = self.read(at, (self.length - at) as usize)?;
        let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(false) };
        let used = HEADER_BYTES + body.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let mut mended = header.to_vec();
        for (place, original) in header.iter().enumerate() {
            for byte in 0..=u8::MAX {
                mended[place] = byte;
                let end = Group::of_header(&mended, at).map_or(0, |group| (group.end() - at) as usize);
                let fits = used <= end && end <= bytes.len() && bytes.len() - end < BLOCK;
                if fits && is_whole(&mended, &bytes[HEADER_BYTES..end], salt) {
                    return Ok(true);
                }
            }
            mended[place] = *original;
        }
        Ok(false)
    }
}

/// True if the checksum at the end of the header is that of the rest of it and the body.
fn is_whole(header: &[u8], body: &[u8], salt: u32) -> bool {
    let (summed, sum) = header.split_at(SUMMED_HEADER_BYTES);
    sum == crc32c::crc32c_append(crc32c::crc32c_append(salt, summed), body).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;

    use super::super::values::{Value, ValueLog, ValueSettings};
    use super::*;
    use crate::env::Env;
    use crate::storage::findings::Severity;

    /// Writes three groups and gives the path of their file and where they end.
    fn three_groups(root: &Path) -> (PathBuf, u64) {
        let settings = ValueSettings { file_bytes_max: 1 << 20, direct: false, read_cache_bytes: 1 << 20 };
        let log = ValueLog::open(&Env::real(), root, settings, None, &mut |_| Ok(())).unwrap();
        for group in 1..=3u8 {
            log.append(&[Value::unchecked(&Bytes::from(vec![group; 40]))], &[group, 0], true).unwrap();
        }
        (root.join(values::name_of(1)), log.next().unwrap().at)
    }

    fn findings(root: &Path) -> Vec<Finding> {
        let mut found = Vec::new();
        for file in files(root).unwrap() {
            found.extend(file.walk(0, true, &mut |_, _| Ok(())).unwrap());
        }
        found
    }

    #[test]
    fn any_changed_byte_is_found() {
        let root = tempfile::tempdir().unwrap();
        let (path, _) = three_groups(root.path());
        assert_eq!(findings(root.path()), []);
        let sound = fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut changed = sound.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, changed).unwrap();
            let found = findings(root.path());
            assert!(found.iter().any(|finding| finding.severity == Severity::Damage), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn what_a_crash_leaves_is_a_note() {
        let root = tempfile::tempdir().unwrap();
        let (path, end) = three_groups(root.path());
        let sound = fs::read(&path).unwrap();
        for lost in 1..60 {
            fs::write(&path, &sound[..end as usize - lost]).unwrap();
            let found = findings(root.path());
            assert!(found.len() == 1 && found[0].severity == Severity::Note, "{lost} bytes lost: {found:?}");
        }
    }
}
