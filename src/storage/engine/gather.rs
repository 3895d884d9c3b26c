//! When a group commit waits a moment for more writes.
//!
//! Clients keep so many requests under way. Those that one group has answered come back while the next one, of the
//! others, is on its way to the disk: two half groups take turns, each with a sync and its wake-ups. So a group waits
//! for as many writes as there were of late, or for a few, no longer than a group takes anyway; if they do not come, as
//! from clients that send at a rate of their own, it soon stops waiting, and only tries again now and then.

use std::time::Duration;

/// Longest wait: a slow disk makes no use of a longer one.
const PAUSE_MAX: Duration = Duration::from_millis(1);
/// Queued bytes that are worth a sync of their own: to write them takes more than the sync does.
const ENOUGH_BYTES: usize = 128 << 10;
/// Queued writes that are worth one: shared by so many it costs each of them little, and a wait costs all of them.
const ENOUGH_WRITES: usize = 24;
/// Groups that begin at once after waits in vain, at most.
const SKIPPED_MAX: u32 = 64;

/// What the lane knows of its writers.
#[derive(Default)]
pub(super) struct Gather {
    /// Writes that were under way when the last group was done: its own, and those that waited behind it.
    under_way: usize,
    /// What a group takes, smoothed.
    commit: Duration,
    /// Groups that are still to begin at once.
    skipped: u32,
    /// How many the next wait in vain will cost.
    penalty: u32,
}

impl Gather {
    /// How many writes to wait for, and how long, if `queued` writes of `bytes` wait for the next group.
    pub(super) fn wish(&mut self, queued: usize, bytes: usize) -> Option<(usize, Duration)> {
        let enough = self.under_way.min(ENOUGH_WRITES);
        if queued >= enough || bytes >= ENOUGH_BYTES {
            return None;
        }
        if self.skipped > 0 {
            self.skipped -= 1;
            return None;
        }
        Some((enough, self.commit.min(PAUSE_MAX)))
    }

    /// A wait with `before` writes has ended with `after`.
    pub(super) fn waited(&mut self, before: usize, after: usize) {
        if after > before {
            self.penalty = 0;
        } else {
            self.penalty = (self.penalty * 2).clamp(1, SKIPPED_MAX);
            self.skipped = self.penalty;
        }
    }

    /// A group of `written` writes took `commit`; `left` wait behind it.
    pub(super) fn committed(&mut self, written: usize, left: usize, commit: Duration) {
        self.under_way = written + left;
        self.commit = (self.commit * 7 + commit) / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_micros(100);

    #[test]
    fn a_group_waits_for_as_many_writes_as_there_were() {
        let mut gather = Gather::default();
        assert_eq!(gather.wish(1, 100), None, "nothing is known");
        gather.committed(2, 3, COMMIT);
        let (writes, pause) = gather.wish(3, 100).unwrap();
        assert!(writes == 5 && pause < COMMIT);
        assert_eq!(gather.wish(5, 100), None, "all are there");
        assert_eq!(gather.wish(3, ENOUGH_BYTES), None, "a sync is worth it");
        gather.committed(40, 24, COMMIT);
        assert_eq!(gather.wish(ENOUGH_WRITES, 100), None, "so many share it");
        assert_eq!(gather.wish(1, 100).unwrap().0, ENOUGH_WRITES);
        gather.committed(1, 0, COMMIT);
        assert_eq!(gather.wish(1, 100), None, "one at a time");
        (0..1000).for_each(|_| gather.committed(5, 0, Duration::from_secs(1)));
        assert_eq!(gather.wish(1, 100), Some((5, PAUSE_MAX)));
    }

    #[test]
    fn who_waits_in_vain_does_so_less_and_less() {
        let mut gather = Gather::default();
        let mut waits = 0;
        for _ in 0..1000 {
            gather.committed(2, 0, COMMIT);
            if gather.wish(1, 100).is_some() {
                waits += 1;
                gather.waited(1, 1);
            }
        }
        assert!((10..30).contains(&waits), "{waits}");
        while gather.wish(1, 100).is_none() {}
        gather.waited(1, 2);
        assert!(gather.wish(1, 100).is_some(), "they come");
    }
}
