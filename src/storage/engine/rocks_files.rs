//! The files of a RocksDB, looked at from outside: what RocksDB itself takes on trust when it opens them.
//!
//! RocksDB checks the blocks of its tables whenever they are read. It does not check: records at the end of a log (a
//! write-ahead log or a manifest), which it takes for what a crash left behind; the padding and the checksum kind of a
//! table's footer. Invariants: nothing is written; formats as in RocksDB's `log_format.h` and `format.cc`.

use std::fs;
use std::io;
use std::path::Path;

use crate::storage::findings::Finding;

const BLOCK_BYTES: usize = 32 << 10;
/// Checksum u32, length u16, type u8.
const HEADER_BYTES: usize = 7;
/// A record of a recycled log names its log's number besides.
const RECYCLED_HEADER_BYTES: usize = 11;
/// Record types 5 to 8, 11 and 131 belong to recycled logs.
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];
const MASK_DELTA: u32 = 0xa282_ead8;

/// The checksum that tables are written with (`kXXH3`).
const TABLE_CHECKSUM: u8 = 4;
/// The last version whose footer has no checksum of its own.
const FOOTER_UNCHECKED_VERSION: u32 = 5;
const TABLE_MAGIC: u64 = 0x88e2_41b7_85f4_cff7;
const FOOTER_BYTES: usize = 53;

/// Looks at every file of the RocksDB in `folder`.
pub(super) fn examine(folder: &Path) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".log") || name.starts_with("MANIFEST-") {
            findings.extend(log(&fs::read(&path)?).map(|flaw| flaw.finding(&path)));
        } else if name.ends_with(".sst") {
            findings.extend(footer(&path)?.map(|what| Finding::damage(&path, None, what)));
        }
    }
    Ok(findings)
}

/// What is wrong with a log, and where.
#[derive(Debug, PartialEq, Eq)]
struct Flaw {
    at: usize,
    torn: bool,
}

impl Flaw {
    fn finding(&self, path: &Path) -> Finding {
        let at = Some(self.at as u64);
        if self.torn {
            return Finding::note(path, at, "the last record ends early (a crash does this)");
        }
        Finding::damage(path, at, "a record is damaged: RocksDB would drop it and all behind it")
    }
}

/// The first record of a log that is not as it was written.
fn log(bytes: &[u8]) -> Option<Flaw> {
    let mut at = 0;
    while at < bytes.len() {
        let block_end = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
        if block_end - at < HEADER_BYTES {
            let padding = &bytes[at..block_end.min(bytes.len())];
            if padding.iter().any(|&byte| byte != 0) {
                return Some(Flaw { at, torn: false });
            }
            at = block_end;
            continue;
        }
        let rest = &bytes[at..block_end.min(bytes.len())];
        match record(rest) {
            Some(length) => at += length,
            // Preallocated space behind the last record.
            None if bytes[at..].iter().all(|&byte| byte == 0) => return None,
            None => return Some(Flaw { at, torn: is_torn(rest, bytes.len() <= block_end) }),
        }
    }
    None
}

/// The length of the sound record at the start of `bytes`.
fn record(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER_BYTES)?;
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let end = header_bytes(header[6]) + length;
    (header[6] != 0 && is_sound(bytes.get(..end)?)).then_some(end)
}

fn header_bytes(kind: u8) -> usize {
    if RECYCLED.contains(&kind) { RECYCLED_HEADER_BYTES } else { HEADER_BYTES }
}

/// True if the checksum of a whole record is right. It covers everything from the type on.
fn is_sound(record: &[u8]) -> bool {
    let stored = u32::from_le_bytes([record[0], record[1], record[2], record[3]]);
    let unmasked = stored.wrapping_sub(MASK_DELTA).rotate_left(15);
    unmasked == crc32c::crc32c(&record[HEADER_BYTES - 1..])
}

/// A record that ends early at the end of the file is torn, unless it is whole once its length or type is mended.
fn is_torn(rest: &[u8], is_last_block: bool) -> bool {
    if !is_last_block {
        return false;
    }
    let Some(header) = rest.get(..HEADER_BYTES) else { return true };
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let ends_early = header_bytes(header[6]) + length > rest.len();
    ends_early && !was_whole(rest, length)
}

fn was_whole(rest: &[u8], length: usize) -> bool {
    let stored = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
    let stored = stored.wrapping_sub(MASK_DELTA).rotate_left(15);
    let mut sum = 0;
    let of_another_length = rest[HEADER_BYTES - 1..].iter().any(|byte| {
        sum = crc32c::crc32c_append(sum, &[*byte]);
        sum == stored
    });
    let ends = [HEADER_BYTES + length, RECYCLED_HEADER_BYTES + length];
    let bodies = || ends.iter().filter_map(|&end| rest.get(HEADER_BYTES..end));
    let of_another_type = |kind| bodies().any(|body| crc32c::crc32c_append(crc32c::crc32c(&[kind]), body) == stored);
    of_another_length || (0..=u8::MAX).any(of_another_type)
}

/// What is wrong with the footer of a table: checksum kind, two block handles as varints, zeros, version, magic.
fn footer(path: &Path) -> io::Result<Option<&'static str>> {
    let bytes = fs::read(path)?;
    let Some(footer) = bytes.len().checked_sub(FOOTER_BYTES).map(|from| &bytes[from..]) else {
        return Ok(Some("is too short for a table"));
    };
    let (front, back) = footer.split_at(FOOTER_BYTES - 12);
    let version = u32::from_le_bytes([back[0], back[1], back[2], back[3]]);
    let magic = back[4..].iter().rev().fold(0u64, |magic, &byte| magic << 8 | u64::from(byte));
    if magic != TABLE_MAGIC {
        return Ok(Some("does not end as a table does"));
    }
    if front[0] != TABLE_CHECKSUM {
        return Ok(Some("its footer names another kind of checksum"));
    }
    if version > FOOTER_UNCHECKED_VERSION {
        return Ok(None);
    }
    let handles = (0..4).try_fold(1, |at, _| varint_end(front, at));
    let padding_is_zero = handles.is_some_and(|at| front[at..].iter().all(|&byte| byte == 0));
    let sound = version == FOOTER_UNCHECKED_VERSION && padding_is_zero;
    Ok((!sound).then_some("its footer is damaged"))
}

fn varint_end(bytes: &[u8], from: usize) -> Option<usize> {
    let length = bytes.get(from..)?.iter().position(|byte| byte & 0x80 == 0)?;
    Some(from + length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(payload: &[u8]) -> Vec<u8> {
        let mut covered = vec![1];
        covered.extend(payload);
        let sum = crc32c::crc32c(&covered).rotate_right(15).wrapping_add(MASK_DELTA);
        let mut bytes = sum.to_le_bytes().to_vec();
        bytes.extend((payload.len() as u16).to_le_bytes());
        bytes.extend(covered);
        bytes
    }

    #[test]
    fn any_changed_byte_of_a_log_is_found() {
        let mut bytes = Vec::new();
        for payload in [&b"first"[..], b"second one", b"the last"] {
            bytes.extend(record_of(payload));
        }
        assert_eq!(log(&bytes), None);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(log(&changed).is_some_and(|flaw| !flaw.torn), "byte {at} bit {bit}: {:?}", log(&changed));
            }
        }
    }

    #[test]
    fn a_torn_end_is_no_damage() {
        let mut bytes = record_of(b"first");
        let whole = bytes.len();
        bytes.extend(record_of(b"second"));
        for length in whole + 1..bytes.len() {
            assert_eq!(log(&bytes[..length]), Some(Flaw { at: whole, torn: true }), "{length} bytes");
        }
        bytes.resize(bytes.len() + 100, 0);
        assert_eq!(log(&bytes), None, "space that was allocated ahead");
    }
}
