//! Which partitions of a fetcher pause, and until when. Pure.
//!
//! Invariant: a pause is of one leader epoch: the next one ends it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::ids::{LeaderEpoch, TopicIdPartition};

/// The first pause after a failure; each further one is twice as long. A new leader often knows of its leadership only
/// a moment after its followers do.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The pause after so many failures in a row.
pub(super) fn length(failures: u32, most: Duration) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most)
}

#[derive(Debug)]
struct Pause {
    epoch: LeaderEpoch,
    failures: u32,
    /// `None`: until the next epoch.
    until: Option<Instant>,
}

/// See the file's head.
#[derive(Default, Debug)]
pub(super) struct Pauses(BTreeMap<TopicIdPartition, Pause>);

impl Pauses {
    /// Forgets the pauses of partitions that are not there any more, or in another epoch.
    pub(super) fn keep<T>(&mut self, partitions: &BTreeMap<TopicIdPartition, (T, LeaderEpoch)>) {
        self.0.retain(|id, pause| partitions.get(id).is_some_and(|(_, epoch)| *epoch == pause.epoch));
    }

    pub(super) fn holds(&self, id: TopicIdPartition, now: Instant) -> bool {
        self.0.get(&id).is_some_and(|pause| pause.until.is_none_or(|until| until > now))
    }

    /// When the first pause ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|pause| pause.until).min()
    }

    /// A fetch of the partition failed. True if it is the first in a row.
    pub(super) fn fail(&mut self, id: TopicIdPartition, epoch: LeaderEpoch, now: Instant, most: Duration) -> bool {
        let failures = self.0.get(&id).map_or(0, |pause| pause.failures) + 1;
        self.0.insert(id, Pause { epoch, failures, until: Some(now + length(failures, most)) });
        failures == 1
    }

    /// The partition is not ready, though nothing failed.
    pub(super) fn briefly(&mut self, id: TopicIdPartition, epoch: LeaderEpoch, now: Instant) {
        let failures = self.0.get(&id).map_or(0, |pause| pause.failures);
        self.0.insert(id, Pause { epoch, failures, until: Some(now + PAUSE_MIN) });
    }

    pub(super) fn until_next_epoch(&mut self, id: TopicIdPartition, epoch: LeaderEpoch) {
        self.0.insert(id, Pause { epoch, failures: 1, until: None });
    }

    pub(super) fn end(&mut self, id: TopicIdPartition) {
        self.0.remove(&id);
    }

    /// Partitions whose last fetch failed.
    pub(super) fn failed(&self) -> u64 {
        self.0.values().filter(|pause| pause.failures > 0).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::ids::KafkaUuid;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end_with_the_epoch() {
        let id = TopicIdPartition { topic: KafkaUuid(1), partition: 0 };
        let (now, most) = (Env::real().now(), Duration::from_millis(100));
        let mut pauses = Pauses::default();
        assert!(pauses.fail(id, 3, now, most));
        assert!(!pauses.fail(id, 3, now, most));
        assert!(pauses.holds(id, now + 2 * PAUSE_MIN - Duration::from_millis(1)));
        assert!(!pauses.holds(id, now + 2 * PAUSE_MIN));
        assert_eq!((length(3, most), length(99, most)), (4 * PAUSE_MIN, most));
        pauses.until_next_epoch(id, 3);
        assert_eq!(pauses.next(), None);
        assert!(pauses.holds(id, now + Duration::from_secs(1000)));
        pauses.keep(&BTreeMap::from([(id, ((), 4))]));
        assert!(!pauses.holds(id, now));
    }
}
