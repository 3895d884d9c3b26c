//! The row changes that a group of the value log carries: RocksDB's write batch, written and read without RocksDB.
//!
//! A write batch is: sequence u64, count u32 (both little-endian), then for each change a tag, a family (varint) unless
//! the tag says the default one, and one or two strings with varint lengths. Invariants: pure; reading never panics;
//! only the changes that the engine writes are known.

use crate::storage::keys::Family;

const DELETION: u8 = 0x04;
const VALUE: u8 = 0x05;
const RANGE_DELETION: u8 = 0x0e;

/// The numbers RocksDB gives the families of a store: they are created in this order, after `default`.
const STATE: u64 = 1;
const BATCHES: u64 = 2;

const PREFIX_BYTES: usize = 12;

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowChange<'a> {
    Put(Family, &'a [u8], &'a [u8]),
    Delete(Family, &'a [u8]),
    DeleteRange(Family, &'a [u8], &'a [u8]),
}

/// A write batch in the making.
pub(super) struct RowChanges {
    bytes: Vec<u8>,
    count: u32,
}

impl RowChanges {
    /// No change yet; there is room for `bytes` bytes.
    pub(super) fn with_capacity(bytes: usize) -> RowChanges {
        let mut changes = RowChanges { bytes: Vec::with_capacity(PREFIX_BYTES + bytes), count: 0 };
        changes.bytes.resize(PREFIX_BYTES, 0);
        changes
    }

    /// A row becomes these pieces, one behind the other.
    pub(super) fn put(&mut self, family: Family, key: &[u8], pieces: &[&[u8]]) {
        self.begin(VALUE, family, key);
        self.put_varint(pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
    }

    pub(super) fn delete(&mut self, family: Family, key: &[u8]) {
        self.begin(DELETION, family, key);
    }

    /// Deletes `from ≤ key < to`.
    pub(super) fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) {
        self.begin(RANGE_DELETION, family, from);
        self.put_varint(to.len());
        self.bytes.extend_from_slice(to);
    }

    /// The bytes of the write batch.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[8..PREFIX_BYTES].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }

    fn begin(&mut self, tag: u8, family: Family, key: &[u8]) {
        self.count += 1;
        self.bytes.push(tag);
        self.put_varint(if family == Family::State { STATE as usize } else { BATCHES as usize });
        self.put_varint(key.len());
        self.bytes.extend_from_slice(key);
    }

    fn put_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// Every change of a write batch, in order. The error says what is wrong with the bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<RowChange<'_>>, &'static str> {
    let (prefix, mut rest) = bytes.split_at_checked(PREFIX_BYTES).ok_or("the row changes end early")?;
    let count = u32::from_le_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
    let mut changes = Vec::new();
    while let Some((&tag, after)) = rest.split_first() {
        rest = after;
        let family = match varint(&mut rest)? {
            STATE => Family::State,
            BATCHES => Family::Batches,
            _ => return Err("a row change names an unknown family"),
        };
        let key = string(&mut rest)?;
        changes.push(match tag {
            VALUE => RowChange::Put(family, key, string(&mut rest)?),
            DELETION => RowChange::Delete(family, key),
            RANGE_DELETION => RowChange::DeleteRange(family, key, string(&mut rest)?),
            _ => return Err("a row change of an unknown kind"),
        });
    }
    if changes.len() as u64 != u64::from(count) {
        return Err("the row changes are not as many as they say");
    }
    Ok(changes)
}

fn varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or("a row change ends early")?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a length in the row changes is too long")
}

fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let length = varint(rest)?;
    let (string, after) = rest.split_at_checked(length as usize).ok_or("a row change ends early")?;
    *rest = after;
    Ok(string)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn puts_deletions_and_ranges_are_read() {
        let mut bytes = vec![0; 8];
        bytes.extend(3u32.to_le_bytes());
        bytes.extend([VALUE, 1, 2, b'k', b'1', 1, b'v']);
        bytes.extend([DELETION, 2, 1, b'd']);
        bytes.extend([RANGE_DELETION, 2, 1, b'a', 1, b'z']);
        let expected = [
            RowChange::Put(Family::State, b"k1", b"v"),
            RowChange::Delete(Family::Batches, b"d"),
            RowChange::DeleteRange(Family::Batches, b"a", b"z"),
        ];
        assert_eq!(read(&bytes), Ok(expected.to_vec()));
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let long = vec![7; 70_000];
        let mut changes = RowChanges::with_capacity(0);
        changes.put(Family::State, b"key", &[b"a", &long]);
        changes.delete(Family::Batches, b"gone");
        changes.delete_range(Family::Batches, b"from", b"to");
        let bytes = changes.finish();
        let value = [b"a".as_slice(), &long].concat();
        let expected = [
            RowChange::Put(Family::State, b"key", &value),
            RowChange::Delete(Family::Batches, b"gone"),
            RowChange::DeleteRange(Family::Batches, b"from", b"to"),
        ];
        assert_eq!(read(&bytes), Ok(expected.to_vec()));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }
    }
}
