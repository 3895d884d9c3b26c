//! Recently appended batches in memory, shared by every log of a directory and by every consumer at the tail.
//!
//! How much is kept follows the readers: twice as far back as the slowest of late, at least `KEPT_BYTES_MIN` and at
//! most the cache's bound. Memory that nobody reads is not only wasted: to fill 64 MiB over and over goes past the
//! caches of the processor, and made a produce a tenth dearer.
//!
//! Invariants: the batches of one log are contiguous and end at its log end; the total stays within the bound, the
//! oldest append of the whole directory goes first. A batch may be here before it is on disk: readers are bounded by
//! the high watermark, which is not.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use super::keys::LogNumber;
use crate::ids::Offset;

/// What is kept if nobody reads: consumers that keep up are never further behind.
const KEPT_BYTES_MIN: usize = 4 << 20;

struct Cached {
    /// Bytes that were appended to the directory before it.
    at: u64,
    base: Offset,
    next: Offset,
    batch: Bytes,
}

#[derive(Default)]
struct State {
    logs: HashMap<LogNumber, VecDeque<Cached>>,
    /// Logs in the order of their appends; one entry per cached batch.
    order: VecDeque<LogNumber>,
    bytes: usize,
    /// Bytes that were ever appended.
    appended: u64,
    reach: Reach,
}

/// How far back readers reach: the newest batch is at 0.
#[derive(Default)]
struct Reach {
    /// What is to be kept now.
    kept_bytes: usize,
    /// The furthest since `since`, in bytes appended.
    furthest: usize,
    since: u64,
}

/// The tail cache of one data directory.
pub struct TailCache {
    state: Mutex<State>,
    bytes_max: usize,
}

/// What a read finds here.
pub enum Tail {
    /// Batches that begin with the one that holds the offset asked for.
    Hit(Vec<Bytes>),
    /// The offset is older than what is kept.
    Miss,
}

impl TailCache {
    /// A cache of at most `bytes_max` bytes of batches.
    pub fn new(bytes_max: usize) -> TailCache {
        let mut state = State::default();
        state.reach.kept_bytes = KEPT_BYTES_MIN.min(bytes_max);
        TailCache { state: Mutex::new(state), bytes_max }
    }

    /// Adds the batch `base..next`, the newest of `log`.
    pub fn push(&self, log: LogNumber, base: Offset, next: Offset, batch: Bytes) {
        if batch.len() > self.bytes_max {
            return self.forget(log);
        }
        let mut state = self.state.lock();
        let at = state.appended;
        state.appended += batch.len() as u64;
        state.bytes += batch.len();
        state.order.push_back(log);
        state.logs.entry(log).or_default().push_back(Cached { at, base, next, batch });
        let appended = state.appended;
        let kept_bytes = state.reach.appended(appended, self.bytes_max);
        while state.bytes > kept_bytes {
            let Some(oldest) = state.order.pop_front() else { break };
            state.drop_oldest(oldest);
        }
    }

    /// Reads whole batches from the one that holds `from`, up to the batch that starts at `up_to`. Stops before
    /// `bytes_max` is passed, but returns the first batch in any case if `at_least_one`.
    pub fn read(&self, log: LogNumber, from: Offset, up_to: Offset, bytes_max: usize, at_least_one: bool) -> Tail {
        let mut state = self.state.lock();
        let state = &mut *state;
        let batches = match state.logs.get(&log) {
            Some(batches) if batches.front().is_some_and(|first| first.base <= from) => batches,
            _ => {
                // It may catch up.
                state.reach.read(self.bytes_max, self.bytes_max);
                return Tail::Miss;
            }
        };
        let start = batches.partition_point(|cached| cached.next <= from);
        let mut found = Vec::new();
        let mut bytes = 0;
        for cached in batches.range(start..) {
            let fits = bytes + cached.batch.len() <= bytes_max || (found.is_empty() && at_least_one);
            if cached.base >= up_to || !fits {
                break;
            }
            bytes += cached.batch.len();
            found.push(cached.batch.clone());
        }
        if let Some(first) = batches.get(start) {
            state.reach.read((state.appended - first.at) as usize, self.bytes_max);
        }
        Tail::Hit(found)
    }

    /// Bytes that a read of `from..up_to` would give, at most `bytes_max`; `None` if the offset is older than what is
    /// kept.
    pub fn readable_bytes(&self, log: LogNumber, from: Offset, up_to: Offset, bytes_max: usize) -> Option<usize> {
        let state = self.state.lock();
        let batches = state.logs.get(&log)?;
        if batches.front()?.base > from {
            return None;
        }
        let start = batches.partition_point(|cached| cached.next <= from);
        let mut bytes = 0;
        for cached in batches.range(start..).take_while(|cached| cached.base < up_to) {
            bytes += cached.batch.len();
            if bytes >= bytes_max {
                return Some(bytes_max);
            }
        }
        Some(bytes)
    }

    /// Drops everything of `log`: it was deleted or truncated.
    pub fn forget(&self, log: LogNumber) {
        let mut state = self.state.lock();
        if let Some(batches) = state.logs.remove(&log) {
            state.bytes -= batches.iter().map(|cached| cached.batch.len()).sum::<usize>();
            state.order.retain(|&other| other != log);
        }
    }

    /// Drops the batches of `log` below `offset`: what is on disk now is not what was appended.
    pub fn forget_below(&self, log: LogNumber, offset: Offset) {
        let mut state = self.state.lock();
        let Some(batches) = state.logs.get_mut(&log) else { return };
        let count = batches.partition_point(|cached| cached.base < offset);
        if count == 0 {
            return;
        }
        let bytes: usize = batches.drain(..count).map(|cached| cached.batch.len()).sum();
        if batches.is_empty() {
            state.logs.remove(&log);
        }
        state.bytes -= bytes;
        let mut left = count;
        state.order.retain(|&other| {
            let goes = other == log && left > 0;
            left -= usize::from(goes);
            !goes
        });
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

impl Reach {
    /// Somebody has read `back` bytes from the end.
    fn read(&mut self, back: usize, bytes_max: usize) {
        self.furthest = self.furthest.max(back);
        self.kept_bytes = self.kept_bytes.max(wanted(back, bytes_max));
    }

    /// The directory's appends have come to `appended` bytes. Returns how much of them to keep.
    fn appended(&mut self, appended: u64, bytes_max: usize) -> usize {
        if appended - self.since >= bytes_max as u64 {
            self.kept_bytes = wanted(self.furthest, bytes_max);
            (self.furthest, self.since) = (0, appended);
        }
        self.kept_bytes
    }
}

/// What is kept for a reader who is `back` bytes from the end.
fn wanted(back: usize, bytes_max: usize) -> usize {
    back.saturating_mul(2).max(KEPT_BYTES_MIN).min(bytes_max)
}

impl State {
    fn drop_oldest(&mut self, log: LogNumber) {
        let Some(batches) = self.logs.get_mut(&log) else { return };
        if let Some(cached) = batches.pop_front() {
            self.bytes -= cached.batch.len();
        }
        if batches.is_empty() {
            self.logs.remove(&log);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(
        cache: &TailCache,
        log: LogNumber,
        from: Offset,
        up_to: Offset,
        max: usize,
        one: bool,
    ) -> Option<Vec<usize>> {
        match cache.read(log, from, up_to, max, one) {
            Tail::Hit(batches) => Some(batches.iter().map(Bytes::len).collect()),
            Tail::Miss => None,
        }
    }

    #[test]
    fn reads_whole_batches_within_bounds() {
        let cache = TailCache::new(1000);
        for (base, length) in [(0, 10), (5, 20), (8, 30)] {
            cache.push(1, base, base + 3, Bytes::from(vec![0; length]));
        }
        assert_eq!(hit(&cache, 1, 6, 11, 1000, true), Some(vec![20, 30]));
        assert_eq!(hit(&cache, 1, 0, 8, 1000, true), Some(vec![10, 20]));
        assert_eq!(hit(&cache, 1, 0, 11, 5, true), Some(vec![10]));
        assert_eq!(hit(&cache, 1, 0, 11, 5, false), Some(vec![]));
        assert_eq!(hit(&cache, 2, 0, 11, 5, true), None);
        assert_eq!(cache.readable_bytes(1, 5, 11, 1000), Some(50));
        assert_eq!(cache.readable_bytes(1, 5, 11, 25), Some(25));
    }

    #[test]
    fn the_oldest_append_goes_first() {
        let cache = TailCache::new(100);
        cache.push(1, 0, 1, Bytes::from(vec![0; 60]));
        cache.push(2, 0, 1, Bytes::from(vec![0; 30]));
        cache.push(2, 1, 2, Bytes::from(vec![0; 30]));
        assert_eq!(hit(&cache, 1, 0, 1, 100, true), None);
        assert_eq!(hit(&cache, 2, 0, 2, 100, true), Some(vec![30, 30]));
        assert_eq!(cache.bytes(), 60);
        cache.push(2, 2, 3, Bytes::from(vec![0; 200]));
        assert_eq!(hit(&cache, 2, 0, 3, 100, true), None, "too large to keep: later reads go to disk");
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn what_is_kept_follows_the_readers() {
        const MIB: usize = 1 << 20;
        let cache = TailCache::new(32 * MIB);
        let mut next = 0;
        let mut append = |count: usize| {
            for _ in 0..count {
                cache.push(1, next, next + 1, Bytes::from(vec![0; MIB]));
                next += 1;
            }
            next
        };
        append(100);
        assert_eq!(cache.bytes(), KEPT_BYTES_MIN, "nobody reads");
        assert_eq!(hit(&cache, 1, 0, 100, MIB, true), None);
        let end = append(31);
        assert_eq!(cache.bytes(), 32 * MIB, "somebody may catch up");
        assert_eq!(hit(&cache, 1, end - 6, end, MIB, true), Some(vec![MIB]));
        let end = append(32);
        assert_eq!(cache.bytes(), 12 * MIB, "twice as far back as the slowest was");
        assert_eq!(hit(&cache, 1, end - 3, end, MIB, true), Some(vec![MIB]));
        append(64);
        assert_eq!(cache.bytes(), KEPT_BYTES_MIN);
    }

    #[test]
    fn what_was_rewritten_is_forgotten() {
        let cache = TailCache::new(100);
        for base in 0..3 {
            cache.push(1, base, base + 1, Bytes::from(vec![0; 10]));
            cache.push(2, base, base + 1, Bytes::from(vec![0; 20]));
        }
        cache.forget_below(1, 2);
        assert_eq!(hit(&cache, 1, 1, 3, 100, true), None);
        assert_eq!(hit(&cache, 1, 2, 3, 100, true), Some(vec![10]));
        assert_eq!(cache.bytes(), 70);
        cache.push(3, 0, 1, Bytes::from(vec![0; 50]));
        assert_eq!(hit(&cache, 1, 2, 3, 100, true), Some(vec![10]), "the other log's oldest went, as it is older");
        assert_eq!(hit(&cache, 2, 0, 3, 100, true), None);
        cache.forget_below(1, 9);
        cache.forget_below(9, 9);
        assert_eq!(hit(&cache, 1, 2, 3, 100, true), None);
    }
}
