//! Rows on their way to RocksDB: their groups are in the value log, they are in no memtable yet.
//!
//! Nearly every append writes its log's state anew, and the rows of one log's batches come in order. Kept for a moment,
//! the first go into a memtable once for many groups, and the second sorted, side by side, which is when RocksDB's skip
//! list is quick.
//!
//! Invariants: what waits is all rows of the groups behind the last pour, with the position of the newest of them. They
//! are poured together, so that RocksDB always holds the rows of all groups up to one position. Only puts wait: a group
//! that deletes, or looks at a row, comes after a pour. A crash loses nothing: what waited is in the value log.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::row_changes::RowChanges;
use super::values::{Place, Position, Value, ValueLog};
use super::{Op, Poisoned, Write};
use crate::storage::keys::{self, Family, Key};

/// Batches shorter than this stay in their row.
const VALUE_BYTES_MIN: usize = 512;
/// Tag of a row that holds its batch.
pub(super) const INLINE: u8 = 0;
/// Tag of a row that says where its batch lies.
const PLACED: u8 = 1;
/// Rows of batches, and bytes of all rows, above which they are poured: what the lane, or a reader, may have to do in
/// one go.
const WAITING_BATCHES_MAX: usize = 1024;
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The row of a batch.
enum BatchRow {
    Inline(Bytes),
    At(Place),
}

/// See the module.
#[derive(Default)]
pub(super) struct Pending {
    state: HashMap<Key, Bytes>,
    batches: Vec<(Key, BatchRow)>,
    bytes: usize,
    /// Of the newest group; `None` if nothing waits.
    position: Option<Position>,
}

impl Pending {
    /// Takes the rows of a group of puts that is at `position` now. They are moved out of it.
    pub(super) fn add(&mut self, group: &mut [Write], position: Position) {
        let mut places = Places::from(position);
        for op in group.iter_mut().flat_map(|write| &mut write.ops) {
            match op {
                Op::Put(Family::State, key, value) => {
                    self.bytes += value.len();
                    self.state.insert(*key, std::mem::take(value));
                }
                Op::Put(Family::Batches, key, value) | Op::PutChecked(key, value) => {
                    let row = match places.next(value.len()) {
                        Some(place) => BatchRow::At(place),
                        None => BatchRow::Inline(value.clone()),
                    };
                    self.bytes += if matches!(row, BatchRow::At(_)) { Place::BYTES } else { value.len() };
                    self.batches.push((*key, row));
                }
                Op::Delete(..) | Op::DeleteRange(..) | Op::Move(..) => unreachable!("not of a group of puts"),
            }
        }
        self.position = Some(position);
    }

    /// True if no more should wait.
    pub(super) fn is_full(&self) -> bool {
        self.batches.len() >= WAITING_BATCHES_MAX || self.bytes >= WAITING_BYTES_MAX
    }

    /// Everything that waits, as one write batch; `None` if nothing does. It waits on until [`Pending::clear`].
    pub(super) fn rows(&mut self) -> Option<Vec<u8>> {
        let position = self.position?;
        let mut rows = RowChanges::with_capacity(self.bytes + (self.batches.len() + self.state.len()) * 32);
        // Stable: of two rows of one batch the newer one stays behind.
        self.batches.sort_by_key(|(key, _)| *key);
        for (key, row) in &self.batches {
            match row {
                BatchRow::At(place) => rows.put(Family::Batches, key.as_slice(), &[&placed_row(*place)]),
                BatchRow::Inline(batch) => rows.put(Family::Batches, key.as_slice(), &[&[INLINE], batch]),
            }
        }
        let mut states: Vec<(&Key, &Bytes)> = self.state.iter().collect();
        states.sort_unstable_by_key(|(key, _)| **key);
        for (key, value) in states {
            rows.put(Family::State, key.as_slice(), &[value]);
        }
        rows.put(Family::State, keys::position().as_slice(), &[&position.encode()]);
        Some(rows.finish())
    }

    /// What waited is in the memtables.
    pub(super) fn clear(&mut self) {
        self.state.clear();
        self.batches.clear();
        self.bytes = 0;
        self.position = None;
    }
}

/// True if nothing in the group deletes or looks at a row.
pub(super) fn is_puts(group: &[Write]) -> bool {
    let mut ops = group.iter().flat_map(|write| &write.ops);
    ops.all(|op| matches!(op, Op::Put(..) | Op::PutChecked(..)))
}

/// Where the values of a group go, one after the other.
struct Places {
    position: Position,
    at: u64,
}

impl Places {
    fn from(position: Position) -> Places {
        Places { position, at: ValueLog::first_value(position) }
    }

    /// The place of a batch of `bytes` bytes, if it does not stay in its row.
    fn next(&mut self, bytes: usize) -> Option<Place> {
        if bytes < VALUE_BYTES_MIN {
            return None;
        }
        let place = Place { file: self.position.file, at: self.at, length: bytes as u32 };
        self.at += bytes as u64;
        Some(place)
    }
}

/// Reads a batch that is to be written anew; `None` if its row no longer says that it lies in this place.
pub(super) type Moved<'a> = dyn Fn(&Key, Place) -> Result<Option<Bytes>, Poisoned> + 'a;

/// The values and the row changes of a group that goes to `position`.
pub(super) fn compose<'a>(
    position: Position,
    group: &'a [Write],
    moved: &Moved<'_>,
) -> Result<(Vec<Value<'a>>, Vec<u8>), Poisoned> {
    let mut places = Places::from(position);
    let mut values = Vec::new();
    let mut rows = RowChanges::with_capacity(group.len() * 256);
    let mut put_batch = |rows: &mut RowChanges, key: &Key, value: Value<'a>| match places.next(value.bytes.len()) {
        Some(place) => {
            rows.put(Family::Batches, key.as_slice(), &[&placed_row(place)]);
            values.push(value);
        }
        None => rows.put(Family::Batches, key.as_slice(), &[&[INLINE], &value.bytes]),
    };
    let mut touched = Touched::in_group(group);
    for (op, superseded) in latest(group) {
        match op {
            _ if superseded => {}
            Op::Put(Family::Batches, key, value) => put_batch(&mut rows, key, Value::unchecked(value)),
            Op::PutChecked(key, batch) => put_batch(&mut rows, key, Value::checked(batch)),
            Op::Put(family, key, value) => rows.put(*family, key.as_slice(), &[value]),
            Op::Delete(family, key) => rows.delete(*family, key.as_slice()),
            Op::DeleteRange(family, from, to) => rows.delete_range(*family, from.as_slice(), to.as_slice()),
            // The row that would be read is the one from before the group.
            Op::Move(key, _) if touched.has(key) => {}
            Op::Move(key, from) => {
                if let Some(value) = moved(key, *from)? {
                    put_batch(&mut rows, key, Value::owned(value.to_vec()));
                }
            }
        }
        touched.note(op);
    }
    rows.put(Family::State, keys::position().as_slice(), &[&position.encode()]);
    Ok((values, rows.finish()))
}

/// The batches that a group has put, deleted or moved so far, if it moves any: such a batch no longer lies where a
/// later move of the same group takes it for living.
#[derive(Default)]
struct Touched<'a> {
    wanted: bool,
    keys: HashSet<&'a Key>,
    ranges: Vec<(&'a Key, &'a Key)>,
}

impl<'a> Touched<'a> {
    fn in_group(group: &[Write]) -> Touched<'a> {
        let wanted = group.iter().flat_map(|write| &write.ops).any(|op| matches!(op, Op::Move(..)));
        Touched { wanted, ..Touched::default() }
    }

    fn note(&mut self, op: &'a Op) {
        match op {
            _ if !self.wanted => {}
            Op::Put(Family::Batches, key, _)
            | Op::PutChecked(key, _)
            | Op::Delete(Family::Batches, key)
            | Op::Move(key, _) => {
                self.keys.insert(key);
            }
            Op::DeleteRange(Family::Batches, from, to) => self.ranges.push((from, to)),
            Op::Put(..) | Op::Delete(..) | Op::DeleteRange(..) => {}
        }
    }

    fn has(&self, key: &Key) -> bool {
        self.keys.contains(key) || self.ranges.iter().any(|(from, to)| (*from..*to).contains(&key))
    }
}

/// The ops of `group`, each with whether a later one of the group writes the same small row: partitions that append
/// several times in one group write their state once.
fn latest(group: &[Write]) -> impl Iterator<Item = (&Op, bool)> {
    let ops = || group.iter().flat_map(|write| &write.ops);
    let mut last: HashMap<&Key, usize> = HashMap::new();
    // A deletion between two writes of a row would be lost with the first of them; it is rare.
    if group.len() > 1 && is_puts(group) {
        last.extend(ops().enumerate().filter_map(|(index, op)| match op {
            Op::Put(Family::State, key, _) => Some((key, index)),
            _ => None,
        }));
    }
    ops().enumerate().map(move |(index, op)| match op {
        Op::Put(Family::State, key, _) => (op, last.get(key).is_some_and(|&last| last != index)),
        _ => (op, false),
    })
}

fn placed_row(place: Place) -> [u8; 1 + Place::BYTES] {
    let mut row = [PLACED; 1 + Place::BYTES];
    place.put(&mut &mut row[1..]);
    row
}

/// What a row of a batch holds.
pub(super) enum Held {
    Inline(Bytes),
    At(Place),
}

impl Held {
    pub(super) fn of(row: &[u8]) -> Result<Held, Poisoned> {
        match row.split_first() {
            Some((&INLINE, batch)) => Ok(Held::Inline(Bytes::copy_from_slice(batch))),
            Some((&PLACED, place)) => {
                Place::read(place).map(Held::At).ok_or_else(|| Poisoned("malformed place of a batch".into()))
            }
            _ => Err(Poisoned("malformed row of a batch".into())),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Held::Inline(batch) => batch.len(),
            Held::At(place) => place.length as usize,
        }
    }
}

/// The place that a row names, if it names one.
pub(super) fn place_of(row: &[u8]) -> Option<Place> {
    row.strip_prefix(&[PLACED]).and_then(Place::read)
}

#[cfg(test)]
mod tests {
    use super::super::row_changes::{self, RowChange};
    use super::*;

    /// What a group does to the row of `key` in the end: `Some(true)` if it puts it. A move finds the row in its place.
    fn last_of(ops: Vec<Op>, key: &Key) -> Option<bool> {
        let group = [Write { ops, ..Write::default() }];
        let living = Bytes::from(vec![9; VALUE_BYTES_MIN]);
        let (_, rows) = compose(Position { file: 2, at: 16 }, &group, &|_, _| Ok(Some(living.clone()))).unwrap();
        let of_key = |change: &RowChange<'_>| match change {
            RowChange::Put(Family::Batches, put, _) if *put == key.as_slice() => Some(true),
            RowChange::Delete(Family::Batches, deleted) if *deleted == key.as_slice() => Some(false),
            RowChange::DeleteRange(Family::Batches, from, to) if (*from..*to).contains(&key.as_slice()) => Some(false),
            _ => None,
        };
        row_changes::read(&rows).unwrap().iter().filter_map(of_key).next_back()
    }

    #[test]
    fn what_its_group_has_deleted_or_written_anew_is_not_moved() {
        let key = keys::batch(1, 5);
        let from = Place { file: 1, at: 16, length: VALUE_BYTES_MIN as u32 };
        let delete = Op::Delete(Family::Batches, key);
        let delete_range = Op::DeleteRange(Family::Batches, keys::batch(1, 0), keys::batch(1, 9));
        assert_eq!(last_of(vec![Op::Move(key, from)], &key), Some(true));
        assert_eq!(last_of(vec![delete.clone(), Op::Move(key, from)], &key), Some(false));
        assert_eq!(last_of(vec![delete_range.clone(), Op::Move(key, from)], &key), Some(false));
        assert_eq!(last_of(vec![Op::Move(key, from), delete_range.clone()], &key), Some(false));
        let elsewhere = keys::batch(1, 9);
        assert_eq!(last_of(vec![delete_range, Op::Move(elsewhere, from)], &elsewhere), Some(true));
    }

    #[test]
    fn a_batch_that_its_group_has_put_stays_as_it_was_put() {
        let (key, anew) = (keys::batch(1, 5), Bytes::from(vec![1; VALUE_BYTES_MIN]));
        let from = Place { file: 1, at: 16, length: VALUE_BYTES_MIN as u32 };
        let group = [Write { ops: vec![Op::Put(Family::Batches, key, anew), Op::Move(key, from)], ..Write::default() }];
        let (values, _) = compose(Position { file: 2, at: 16 }, &group, &|_, _| Ok(Some(Bytes::new()))).unwrap();
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].bytes[0], 1);
    }
}
