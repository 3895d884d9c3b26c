//! How fast replicas may be copied while they are moved (`leader.replication.throttled.rate` and its kin, KIP-73;
//! Kafka's `ReplicationQuotaManager`). Pure but for its mutex: time is an argument.
//!
//! Invariants: only replicas that are named count and are held up, and of these only those that are behind: one that is
//! in sync must stay so. The rate is that of the last [`WINDOWS`] seconds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::replicas::Millis;
use crate::ids::{BrokerId, PartitionIndex};

/// Seconds over which bytes are counted (`replication.quota.window.num` and `.size.seconds` as they are by default).
const WINDOWS: usize = 11;
const WINDOW_MS: Millis = 1000;

/// One direction of copying.
pub struct Throttle {
    bytes_per_second: AtomicU64,
    /// Number of the second, and bytes in it; oldest first.
    windows: Mutex<VecDeque<(u64, u64)>>,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle { bytes_per_second: AtomicU64::new(u64::MAX), windows: Mutex::default() }
    }
}

impl Throttle {
    /// From now on this much may be copied. Kafka's largest number stands for no limit.
    pub fn limit(&self, bytes_per_second: i64) {
        let limit = if bytes_per_second == i64::MAX { u64::MAX } else { bytes_per_second.max(0) as u64 };
        self.bytes_per_second.store(limit, Ordering::Relaxed);
    }

    /// Bytes of a throttled replica were copied.
    pub fn copied(&self, bytes: u64, now_ms: Millis) {
        let second = now_ms / WINDOW_MS;
        let mut windows = self.windows.lock();
        // The clock may have been set back.
        windows.retain(|(then, _)| *then <= second && *then + WINDOWS as u64 > second);
        match windows.back_mut().filter(|(last, _)| *last == second) {
            Some((_, sum)) => *sum += bytes,
            None => windows.push_back((second, bytes)),
        }
    }

    /// True if more was copied than may be.
    pub fn is_exceeded(&self, now_ms: Millis) -> bool {
        let limit = self.bytes_per_second.load(Ordering::Relaxed);
        if limit == u64::MAX {
            return false;
        }
        let second = now_ms / WINDOW_MS;
        let windows = self.windows.lock();
        let is_recent = |then: u64| then <= second && then + WINDOWS as u64 > second;
        let mut recent = windows.iter().filter(|(then, _)| is_recent(*then)).peekable();
        let Some((first, _)) = recent.peek() else { return limit == 0 };
        let elapsed_ms = now_ms.saturating_sub(first * WINDOW_MS).max(WINDOW_MS);
        let bytes: u64 = recent.map(|(_, bytes)| bytes).sum();
        u128::from(bytes) * u128::from(WINDOW_MS) > u128::from(limit) * u128::from(elapsed_ms)
    }
}

/// True if `replicas`, a topic's list of throttled ones, has the replica of `broker`: `*` or `partition:broker`.
pub fn names(replicas: &[String], partition: PartitionIndex, broker: BrokerId) -> bool {
    let is_this = |entry: &String| {
        let (one, other) = entry.split_once(':').unwrap_or((entry, ""));
        entry == "*" || (one.trim().parse() == Ok(partition) && other.trim().parse() == Ok(broker.0))
    };
    replicas.iter().any(is_this)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let throttle = Throttle::default();
        throttle.copied(1 << 40, 0);
        assert!(!throttle.is_exceeded(500), "there is no limit");
        throttle.limit(1000);
        assert!(throttle.is_exceeded(10_999));
        assert!(!throttle.is_exceeded(11_000), "that was too long ago");
        throttle.copied(5000, 20_000);
        assert!(throttle.is_exceeded(24_999));
        assert!(!throttle.is_exceeded(25_000), "five thousand in five seconds");
        assert!(!throttle.is_exceeded(19_999), "the clock was set back");
        throttle.limit(0);
        assert!(throttle.is_exceeded(99_000));
    }

    #[test]
    fn a_list_names_replicas() {
        let list = ["0:1".to_owned(), "2:3".to_owned()];
        assert!(names(&list, 0, BrokerId(1)) && names(&list, 2, BrokerId(3)));
        assert!(!names(&list, 0, BrokerId(3)) && !names(&[], 0, BrokerId(1)));
        assert!(names(&["*".to_owned()], 7, BrokerId(9)));
    }
}
