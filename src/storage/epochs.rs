//! The leader epochs of one partition and where each began (KIP-101, KIP-279; Kafka's `LeaderEpochFileCache`). Pure.
//!
//! Invariant: epochs and start offsets both rise strictly from entry to entry.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::{LeaderEpoch, Offset};

/// Answer for an epoch that is not known: epoch and offset -1 (`UNDEFINED_EPOCH`, `UNDEFINED_EPOCH_OFFSET`).
pub const UNDEFINED: (LeaderEpoch, Offset) = (-1, -1);

/// Where an epoch began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    pub epoch: LeaderEpoch,
    pub start: Offset,
}

/// The history, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Epochs {
    entries: Vec<EpochStart>,
}

impl Epochs {
    pub fn new() -> Epochs {
        Epochs::default()
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Every entry, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The epoch of the record at `offset`; `None` before the first entry.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start <= offset);
        Some(self.entries.get(after.checked_sub(1)?)?.epoch)
    }

    /// Takes note that `epoch` began at `start`: a new leader at its log end, or a batch with a new epoch. Entries
    /// that the new one contradicts go. True if anything changed; negative numbers and what is already known change
    /// nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        let known = self.entries.last().is_some_and(|last| last.epoch == epoch && last.start <= start);
        if known || epoch < 0 || start < 0 {
            return false;
        }
        while self.entries.pop_if(|last| last.epoch >= epoch || last.start >= start).is_some() {}
        self.entries.push(EpochStart { epoch, start });
        true
    }

    /// The log now ends at `end`: entries that began there or later go. True if anything changed.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let kept = self.entries.partition_point(|entry| entry.start < end);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// The log now starts at `start`: the epoch of that place begins there, earlier ones go. True if anything changed.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let passed = self.entries.partition_point(|entry| entry.start <= start);
        let Some(current) = passed.checked_sub(1) else {
            return false;
        };
        let changed = current > 0 || self.entries.first().is_some_and(|first| first.start != start);
        self.entries.drain(..current);
        if let Some(first) = self.entries.first_mut() {
            first.start = start;
        }
        changed
    }

    /// The largest epoch not above `epoch` and where it ended: the start of the next one, or `log_end` for the
    /// newest. Below the oldest entry: `epoch` itself and the start of the oldest. [`UNDEFINED`] for -1 and for
    /// epochs above the newest.
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        if epoch < 0 {
            return UNDEFINED;
        }
        if self.latest() == Some(epoch) {
            return (epoch, log_end);
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let Some(next) = self.entries.get(higher) else {
            return UNDEFINED;
        };
        let floor = higher.checked_sub(1).and_then(|index| self.entries.get(index));
        (floor.map_or(epoch, |entry| entry.epoch), next.start)
    }

    /// The first offset in `from..up_to` that this history and `other` give to different epochs; `up_to` if they agree.
    /// An offset and its epoch name one record, so up to here logs with these histories are the same.
    pub fn agree_up_to(&self, other: &Epochs, from: Offset, up_to: Offset) -> Offset {
        let starts = self.entries.iter().chain(&other.entries).map(|entry| entry.start);
        let within = starts.filter(|start| (from..up_to).contains(start));
        let differs = |offset: &Offset| self.epoch_of(*offset) != other.epoch_of(*offset);
        std::iter::once(from).chain(within).filter(differs).fold(up_to, Offset::min)
    }

    /// The history as a row for the store.
    pub fn encode(&self) -> Bytes {
        let mut row = BytesMut::with_capacity(5 + self.entries.len() * ENTRY_BYTES);
        row.put_u8(ROW_VERSION);
        row.put_u32(self.entries.len() as u32);
        for entry in &self.entries {
            row.put_i32(entry.epoch);
            row.put_i64(entry.start);
        }
        row.freeze()
    }

    /// Reads a row; `None` if it is malformed or breaks the invariant.
    pub fn decode(mut row: &[u8]) -> Option<Epochs> {
        if row.try_get_u8().ok()? != ROW_VERSION {
            return None;
        }
        let count = row.try_get_u32().ok()?;
        let mut epochs = Epochs::new();
        for _ in 0..count {
            let entry = EpochStart { epoch: row.try_get_i32().ok()?, start: row.try_get_i64().ok()? };
            let rises = epochs.entries.last().is_none_or(|last| last.epoch < entry.epoch && last.start < entry.start);
            if !rises || entry.epoch < 0 || entry.start < 0 {
                return None;
            }
            epochs.entries.push(entry);
        }
        (!row.has_remaining()).then_some(epochs)
    }
}

const ROW_VERSION: u8 = 0;
const ENTRY_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epochs(entries: &[(LeaderEpoch, Offset)]) -> Epochs {
        let mut epochs = Epochs::new();
        for &(epoch, start) in entries {
            assert!(epochs.assign(epoch, start));
        }
        epochs
    }

    fn pairs(epochs: &Epochs) -> Vec<(LeaderEpoch, Offset)> {
        epochs.entries().iter().map(|entry| (entry.epoch, entry.start)).collect()
    }

    #[test]
    fn assigning_keeps_the_history_rising() {
        let mut history = epochs(&[(1, 0), (3, 10), (5, 20)]);
        assert!(!history.assign(5, 20) && !history.assign(5, 25), "batches of the current epoch");
        assert!(!history.assign(-1, 30) && !history.assign(6, -1));
        assert_eq!(pairs(&history), [(1, 0), (3, 10), (5, 20)]);
        assert!(history.assign(6, 20));
        assert_eq!(pairs(&history), [(1, 0), (3, 10), (6, 20)], "epoch 5 wrote nothing");
        assert!(history.assign(4, 30));
        assert_eq!(pairs(&history), [(1, 0), (3, 10), (4, 30)]);
        assert!(history.assign(4, 5));
        assert_eq!(pairs(&history), [(1, 0), (4, 5)]);
    }

    #[test]
    fn truncates_from_the_end() {
        let full = epochs(&[(1, 0), (3, 10), (5, 20)]);
        for (end, kept) in [(21, 3), (20, 2), (11, 2), (10, 1), (0, 0)] {
            let mut history = full.clone();
            assert_eq!(history.truncate_from_end(end), kept < 3);
            assert_eq!(pairs(&history), pairs(&full)[..kept], "end {end}");
        }
    }

    #[test]
    fn truncates_from_the_start() {
        let full = epochs(&[(1, 4), (3, 10), (5, 20)]);
        let cases: [(Offset, &[(LeaderEpoch, Offset)]); 6] = [
            (0, &[(1, 4), (3, 10), (5, 20)]),
            (4, &[(1, 4), (3, 10), (5, 20)]),
            (7, &[(1, 7), (3, 10), (5, 20)]),
            (10, &[(3, 10), (5, 20)]),
            (12, &[(3, 12), (5, 20)]),
            (99, &[(5, 99)]),
        ];
        for (start, expected) in cases {
            let mut history = full.clone();
            assert_eq!(history.truncate_from_start(start), expected != pairs(&full));
            assert_eq!(pairs(&history), expected, "start {start}");
        }
    }

    #[test]
    fn tells_where_an_epoch_ended() {
        let history = epochs(&[(2, 5), (4, 10), (7, 20)]);
        let cases = [
            (-1, UNDEFINED),
            (0, (0, 5)),
            (1, (1, 5)),
            (2, (2, 10)),
            (3, (2, 10)),
            (4, (4, 20)),
            (6, (4, 20)),
            (7, (7, 33)),
            (8, UNDEFINED),
        ];
        for (epoch, expected) in cases {
            assert_eq!(history.end_offset_for(epoch, 33), expected, "epoch {epoch}");
        }
        assert_eq!(Epochs::new().end_offset_for(0, 33), UNDEFINED);
    }

    #[test]
    fn tells_the_epoch_of_an_offset() {
        let history = epochs(&[(2, 5), (4, 10)]);
        let found: Vec<_> = [4, 5, 9, 10, 99].iter().map(|&offset| history.epoch_of(offset)).collect();
        assert_eq!(found, [None, Some(2), Some(2), Some(4), Some(4)]);
        assert_eq!(Epochs::new().epoch_of(0), None);
    }

    #[test]
    fn tells_how_far_two_histories_agree() {
        let one = epochs(&[(2, 0), (4, 10), (7, 20)]);
        type Case<'a> = (&'a [(LeaderEpoch, Offset)], Offset, Offset);
        let cases: [Case<'_>; 6] = [
            (&[(2, 0), (4, 10), (7, 20)], 0, 30),
            (&[(2, 0), (4, 10), (6, 18)], 0, 18),
            (&[(2, 0), (3, 5), (4, 10), (7, 20)], 0, 5),
            (&[(2, 0), (3, 5), (4, 10), (7, 20)], 10, 30),
            (&[(5, 10)], 10, 10),
            (&[], 0, 0),
        ];
        for (other, from, expected) in cases {
            assert_eq!(one.agree_up_to(&epochs(other), from, 30), expected, "{other:?}");
            assert_eq!(epochs(other).agree_up_to(&one, from, 30), expected, "{other:?}");
        }
        assert_eq!(one.agree_up_to(&one, 20, 20), 20, "nothing to differ in");
    }

    #[test]
    fn a_golden_row_is_read() {
        let row = [0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 10];
        let history = epochs(&[(1, 0), (3, 10)]);
        assert_eq!(history.encode()[..], row);
        assert_eq!(Epochs::decode(&row), Some(history));
        for cut in 0..row.len() {
            assert_eq!(Epochs::decode(&row[..cut]), None, "{cut} bytes");
        }
    }

    proptest! {
        #[test]
        fn the_history_rises_whatever_is_assigned(
            steps in prop::collection::vec((0u8..5, -1i32..12, -1i64..40), 0..40),
        ) {
            let mut history = Epochs::new();
            for (kind, epoch, offset) in steps {
                match kind {
                    0 => history.truncate_from_end(offset),
                    1 => history.truncate_from_start(offset.max(0)),
                    _ => history.assign(epoch, offset),
                };
                let rises = |pair: &[EpochStart]| pair[0].epoch < pair[1].epoch && pair[0].start < pair[1].start;
                prop_assert!(history.entries().windows(2).all(rises));
            }
            prop_assert_eq!(Epochs::decode(&history.encode()), Some(history));
        }

        #[test]
        fn decoding_never_panics(row in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Epochs::decode(&row);
        }
    }
}
