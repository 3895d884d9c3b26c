//! The row changes that a group of the value log carries: RocksDB's write batch, read without RocksDB.
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

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }
    }
}
