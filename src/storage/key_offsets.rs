//! The last offset of each key, in bounded memory: what compaction knows of the dirty part of a log (Kafka's
//! `SkimpyOffsetMap`). Pure.
//!
//! A key is 128 bits of hash: two keys with the same hash would be taken for one, which does not happen by chance (one
//! in 10^20 for a billion keys) and not on purpose (the hash is seeded). Invariant: memory, also while the table grows,
//! is at most what was asked for; when it is used up, [`KeyOffsets::put`] refuses.

use std::hash::{DefaultHasher, Hasher};

use crate::ids::Offset;

/// Hash and offset, as Kafka counts `log.cleaner.dedupe.buffer.size`.
const SLOT_BYTES: usize = 24;
/// Slots that the smallest table has.
const SLOTS_MIN: usize = 1024;

/// See the file's head.
pub struct KeyOffsets {
    /// Three numbers a slot: both halves of the hash, and the offset plus one; 0 there is a free slot.
    table: Vec<u64>,
    filled: usize,
    slots_max: usize,
    load_max: f64,
    seed: [u64; 2],
}

impl KeyOffsets {
    /// An empty map that takes at most `bytes_max` and fills its table up to `load_max` (a share of one).
    pub fn new(bytes_max: usize, load_max: f64, seed: [u64; 2]) -> KeyOffsets {
        // The last growth holds the table and one of half its size: three halves together.
        let slots_max = (bytes_max / SLOT_BYTES * 2 / 3).max(SLOTS_MIN);
        let mut slots = slots_max;
        while slots / 2 >= SLOTS_MIN {
            slots /= 2;
        }
        let load_max = if load_max > 0.0 { load_max.min(0.95) } else { 0.9 };
        KeyOffsets { table: vec![0; slots * 3], filled: 0, slots_max, load_max, seed }
    }

    /// Notes that `key` stands at `offset`, which is larger than every offset before. False if there is no room for it.
    pub fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let mut at = self.find(hash);
        if self.table[at + 2] == 0 {
            if self.filled + 1 > self.room() {
                if !self.grow() {
                    return false;
                }
                at = self.find(hash);
            }
            self.filled += 1;
        }
        self.table[at..at + 3].copy_from_slice(&[hash[0], hash[1], offset as u64 + 1]);
        true
    }

    /// The last offset of `key`.
    pub fn offset_of(&self, key: &[u8]) -> Option<Offset> {
        let at = self.find(self.hash(key));
        self.table[at + 2].checked_sub(1).map(|offset| offset as Offset)
    }

    /// Keys held.
    pub fn len(&self) -> usize {
        self.filled
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// How much of the memory allowed is in use, from 0 to 1.
    pub fn utilization(&self) -> f64 {
        self.filled as f64 / self.slots_max as f64
    }

    fn slots(&self) -> usize {
        self.table.len() / 3
    }

    /// Keys that the table takes. At least one slot stays free, so that a search ends.
    fn room(&self) -> usize {
        ((self.slots() as f64 * self.load_max) as usize).min(self.slots() - 1)
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|half| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(self.seed[half]);
            hasher.write_u64(half as u64);
            hasher.write(key);
            hasher.finish()
        })
    }

    /// Where the slot of this hash begins: the one that holds it, else the free one that would.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.slots();
        let mut slot = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        loop {
            let at = slot * 3;
            if self.table[at + 2] == 0 || self.table[at..at + 2] == hash {
                return at;
            }
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
    }

    fn grow(&mut self) -> bool {
        let slots = self.slots() * 2;
        if slots > self.slots_max {
            return false;
        }
        let old = std::mem::replace(&mut self.table, vec![0; slots * 3]);
        for slot in old.chunks_exact(3).filter(|slot| slot[2] != 0) {
            let at = self.find([slot[0], slot[1]]);
            self.table[at..at + 3].copy_from_slice(slot);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_counts() {
        let mut keys = KeyOffsets::new(1 << 20, 0.9, [1, 2]);
        for offset in 0..30_000i64 {
            assert!(keys.put(format!("key-{}", offset % 10_000).as_bytes(), offset));
        }
        assert_eq!(keys.len(), 10_000);
        for key in 0..10_000 {
            assert_eq!(keys.offset_of(format!("key-{key}").as_bytes()), Some(20_000 + key));
        }
        assert_eq!(keys.offset_of(b"another"), None);
        assert_eq!(keys.offset_of(b""), None);
    }

    #[test]
    fn memory_is_bounded_and_a_full_map_refuses_new_keys_only() {
        let bytes_max = 100_000;
        let mut keys = KeyOffsets::new(bytes_max, 0.5, [0, 0]);
        let mut held = 0;
        while keys.put(&i64::to_be_bytes(held), held) {
            held += 1;
            assert!(keys.table.capacity() * 8 * 3 / 2 <= bytes_max, "with the table it grew from");
        }
        assert_eq!(keys.len() as i64, held);
        assert!((1000..1400).contains(&held), "{held} of 2777 slots, half of which may be used");
        assert!(keys.put(&i64::to_be_bytes(0), 1_000_000));
        assert_eq!(keys.offset_of(&i64::to_be_bytes(0)), Some(1_000_000));
    }
}
