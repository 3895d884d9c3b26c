//! The whole key space of a data directory on one page.
//!
//! | family | kind | key after the kind byte | value | absence means |
//! |---|---|---|---|---|
//! | State | `Format` | – | version u16, next log number u32 | a new directory |
//! | State | `Log` | log u32 | [`super::state::LogState`] | no such log |
//! | State | `Epochs` | log u32 | leader-epoch history | no epoch yet |
//! | State | `Chunk` | log u32, base offset i64 | one closed [`super::retention::Chunk`] | nothing closed yet |
//! | State | `Producer` | log u32, producer id i64 | sequence window of one producer | producer unknown |
//! | State | `Aborted` | log u32, last offset i64 | one aborted transaction | none aborted |
//! | State | `Cleaned` | log u32 | version u8, first offset that compaction has not seen i64 | never compacted |
//! | State | `BrokerEpoch` | – | broker epoch i64 | this broker never led anything |
//! | State | `Standing` | log u32 | [`super::state::Standing`] | the log is its partition's, and stays |
//! | State | `Position` | – | file u32, byte u64 of the value log | no group was flushed yet |
//! | Batches | – | log u32, base offset i64 | one record batch, verbatim | offset compacted, expired or not written |
//!
//! Invariants: integers are big-endian and non-negative, so byte order is numeric order; a log number is never given
//! twice, so rows that outlive their log (a crash between deletion and clean-up) can never be read as another log's.

use crate::ids::{Offset, ProducerId};

/// The number of a log within its data directory, given at creation, never reused.
pub type LogNumber = u32;

/// Which column family a row lives in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// Small rows that change with every append.
    State,
    /// Record batches; large values, written once.
    Batches,
}

/// The kind byte of a `State` row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Format = 1,
    Log = 2,
    Epochs = 3,
    Chunk = 4,
    Producer = 5,
    Aborted = 6,
    Position = 7,
    Cleaned = 8,
    BrokerEpoch = 9,
    Standing = 10,
}

const LONGEST: usize = 15;

/// A key, held in place: building one allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    bytes: [u8; LONGEST],
    length: u8,
}

impl Key {
    fn of(parts: &[&[u8]]) -> Key {
        let mut bytes = [0u8; LONGEST];
        let mut length = 0;
        for part in parts {
            bytes[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        Key { bytes, length: length as u8 }
    }

    /// The key with these bytes; `None` if no key is that long.
    pub fn from_slice(bytes: &[u8]) -> Option<Key> {
        (bytes.len() <= LONGEST).then(|| Key::of(&[bytes]))
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Key of the format row.
pub fn format() -> Key {
    Key::of(&[&[Kind::Format as u8]])
}

/// Key of the row with the epoch under which the broker was last registered.
pub fn broker_epoch() -> Key {
    Key::of(&[&[Kind::BrokerEpoch as u8]])
}

/// Key of the row that says which groups of the value log the flushed rows contain. The engine's own.
pub fn position() -> Key {
    Key::of(&[&[Kind::Position as u8]])
}

/// The range of every batch of every log.
pub fn all_batches() -> (Key, Key) {
    (Key::of(&[&0u32.to_be_bytes()]), Key::of(&[&[0xff; LONGEST]]))
}

/// Key of a row of which a log has exactly one (`Log`, `Epochs`, `Cleaned`, `Standing`).
pub fn of_log(kind: Kind, log: LogNumber) -> Key {
    Key::of(&[&[kind as u8], &log.to_be_bytes()])
}

/// Key of a row of which a log has many, ordered by `number` (`Chunk`, `Producer`, `Aborted`).
pub fn numbered(kind: Kind, log: LogNumber, number: i64) -> Key {
    Key::of(&[&[kind as u8], &log.to_be_bytes(), &(number as u64).to_be_bytes()])
}

/// Key of the producer row of `producer`.
pub fn producer(log: LogNumber, producer: ProducerId) -> Key {
    numbered(Kind::Producer, log, producer)
}

/// Key of the batch that starts at `base`.
pub fn batch(log: LogNumber, base: Offset) -> Key {
    Key::of(&[&log.to_be_bytes(), &(base as u64).to_be_bytes()])
}

/// First key after every batch of `log`.
pub fn batches_end(log: LogNumber) -> Key {
    Key::of(&[&log.wrapping_add(1).to_be_bytes()])
}

/// Smallest and first-too-large key of all rows of `kind`.
pub fn kind_range(kind: Kind) -> (Key, Key) {
    (Key::of(&[&[kind as u8]]), Key::of(&[&[kind as u8 + 1]]))
}

/// Smallest and first-too-large key of the rows of `kind` that belong to `log`.
pub fn log_range(kind: Kind, log: LogNumber) -> (Key, Key) {
    let end = match log.checked_add(1) {
        Some(next) => Key::of(&[&[kind as u8], &next.to_be_bytes()]),
        None => Key::of(&[&[kind as u8 + 1]]),
    };
    (Key::of(&[&[kind as u8], &log.to_be_bytes()]), end)
}

/// The base offset in a batch key of `log`; `None` if the key is another log's or malformed.
pub fn base_of_batch(log: LogNumber, key: &[u8]) -> Option<Offset> {
    let (number, base) = key.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*number) != log {
        return None;
    }
    Some(u64::from_be_bytes(base.try_into().ok()?) as Offset)
}

/// The log number in a `State` key that carries one.
pub fn log_of(key: &[u8]) -> Option<LogNumber> {
    Some(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?))
}

/// The number that follows the log in a `State` key of a numbered kind.
pub fn number_of(key: &[u8]) -> Option<i64> {
    Some(u64::from_be_bytes(key.get(5..13)?.try_into().ok()?) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_numeric_order() {
        assert!(batch(1, 255) < batch(1, 256));
        assert!(batch(1, i64::MAX) < batch(2, 0));
        assert!(batch(1, i64::MAX) < batches_end(1));
        assert!(batches_end(1) <= batch(2, 0));
        assert_eq!(base_of_batch(7, batch(7, 42).as_slice()), Some(42));
        assert_eq!(base_of_batch(8, batch(7, 42).as_slice()), None);
        let (from, to) = log_range(Kind::Chunk, 3);
        let row = numbered(Kind::Chunk, 3, 9);
        assert!(from <= row && row < to);
        assert_eq!((log_of(row.as_slice()), number_of(row.as_slice())), (Some(3), Some(9)));
    }
}
