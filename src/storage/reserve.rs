//! The reserve of a data directory: the last part of its disk, which producers may not fill.
//!
//! A directory without room can do nothing, not even delete. So records of producers are refused below the reserve,
//! while everything that gives room back goes on; what coordinators write may use half of it.
//!
//! Invariants: a refusal comes before an offset exists; what was written since the last look at the disk counts as
//! room used. The state ends a little above where it began, so that it does not flicker.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::ErrorCode;

/// The room of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pub total_bytes: u64,
    /// What is left for those without privileges.
    pub usable_bytes: u64,
}

/// Who wants to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// A producer.
    Records,
    /// A coordinator of this broker: little, and it keeps groups going.
    Bookkeeping,
}

impl Claim {
    /// What a claim that finds no room hears. Producers try again after `KafkaStorageError`; to a coordinator it would
    /// mean that its journal is gone.
    pub fn refusal(self) -> ErrorCode {
        match self {
            Claim::Records => ErrorCode::KafkaStorageError,
            Claim::Bookkeeping => ErrorCode::NotEnoughReplicas,
        }
    }
}

/// `ottla.disk.reserve.bytes` that leaves it to the size of the volume.
pub const BY_VOLUME: i64 = -1;
/// The reserve then: at most this,
const RESERVE_BYTES_MAX: u64 = 1 << 30;
/// and at most this part of the volume.
const VOLUME_PARTS: u64 = 20;
/// The state ends when this part of the reserve is free on top of it.
const MARGIN_PARTS: u64 = 16;

/// What changed with a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Records are refused from now on.
    Began,
    Ended,
}

/// The reserve of one data directory.
pub struct Reserve {
    setting: i64,
    bytes: AtomicU64,
    /// What was free at the last look.
    free: AtomicU64,
    /// Bytes written since then.
    since: AtomicU64,
    low: AtomicBool,
}

impl Reserve {
    /// A reserve by `ottla.disk.reserve.bytes`. Until the first look there is room.
    pub fn new(setting: i64) -> Reserve {
        let (bytes, since) = (AtomicU64::new(0), AtomicU64::new(0));
        Reserve { setting, bytes, free: AtomicU64::new(u64::MAX), since, low: AtomicBool::new(false) }
    }

    /// Takes notice of how much room there is, while `queued_bytes` are still to be written.
    pub fn look(&self, space: Space, queued_bytes: u64) -> Option<Turn> {
        let bytes = reserve_bytes(self.setting, space.total_bytes);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.free.store(space.usable_bytes, Ordering::Relaxed);
        self.since.store(queued_bytes, Ordering::Relaxed);
        let was_low = self.low.load(Ordering::Relaxed);
        let low = is_low(self.left(), bytes, was_low);
        self.low.store(low, Ordering::Relaxed);
        match (was_low, low) {
            (false, true) => Some(Turn::Began),
            (true, false) => Some(Turn::Ended),
            _ => None,
        }
    }

    /// Counts what is about to be written.
    pub fn note(&self, bytes: u64) {
        self.since.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether there is room for what `claim` writes.
    pub fn admits(&self, claim: Claim) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        match claim {
            Claim::Records => bytes == 0 || (!self.is_low() && self.left() >= bytes),
            Claim::Bookkeeping => self.left() >= bytes / 2,
        }
    }

    /// Whether records are refused, as of the last look.
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Bytes kept back.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn left(&self) -> u64 {
        self.free.load(Ordering::Relaxed).saturating_sub(self.since.load(Ordering::Relaxed))
    }
}

fn reserve_bytes(setting: i64, total_bytes: u64) -> u64 {
    u64::try_from(setting).unwrap_or(RESERVE_BYTES_MAX.min(total_bytes / VOLUME_PARTS))
}

fn is_low(left: u64, reserve: u64, was_low: bool) -> bool {
    let margin = if was_low { reserve / MARGIN_PARTS } else { 0 };
    left < reserve.saturating_add(margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(usable_bytes: u64) -> Space {
        Space { total_bytes: 1000, usable_bytes }
    }

    fn admitted(reserve: &Reserve) -> (bool, bool) {
        (reserve.admits(Claim::Records), reserve.admits(Claim::Bookkeeping))
    }

    #[test]
    fn records_stop_at_the_reserve_and_bookkeeping_at_half_of_it() {
        let reserve = Reserve::new(160);
        assert_eq!(admitted(&reserve), (true, true), "nothing is known yet");
        for (free, turn, expected) in [
            (500, None, (true, true)),
            (160, None, (true, true)),
            (159, Some(Turn::Began), (false, true)),
            (80, None, (false, true)),
            (79, None, (false, false)),
            (169, None, (false, true)),
            (170, Some(Turn::Ended), (true, true)),
            (160, None, (true, true)),
        ] {
            assert_eq!(reserve.look(space(free), 0), turn, "{free}");
            assert_eq!(admitted(&reserve), expected, "{free}");
        }
    }

    #[test]
    fn what_is_written_between_two_looks_counts() {
        let reserve = Reserve::new(100);
        assert_eq!(reserve.look(space(300), 50), None);
        reserve.note(150);
        assert_eq!(admitted(&reserve), (true, true));
        reserve.note(1);
        assert_eq!(admitted(&reserve), (false, true));
        assert!(!reserve.is_low(), "a look decides what is said");
        reserve.note(60);
        assert_eq!(admitted(&reserve), (false, false));
        assert_eq!(reserve.look(space(300), 0), None, "most of it was given back");
        assert_eq!(admitted(&reserve), (true, true));
    }

    #[test]
    fn the_volume_sets_the_reserve_unless_a_setting_does() {
        assert_eq!(reserve_bytes(BY_VOLUME, 1000), 50);
        assert_eq!(reserve_bytes(BY_VOLUME, 1 << 40), 1 << 30);
        assert_eq!(reserve_bytes(7, 1 << 40), 7);
        let off = Reserve::new(0);
        assert_eq!(off.look(space(0), 0), None);
        assert_eq!(admitted(&off), (true, true));
    }
}
