//! Who waits on a partition: produces for the high watermark or the leader's disk, deletions for the low watermark,
//! fetches for news. Waits live on the object they wait for.
//!
//! Invariants: a wait for an offset is answered exactly once, when the offset is reached or the partition changes its
//! role; a fetch is woken at most once per registration and then looks for itself. The lists are bounded by the
//! requests in flight, which the network's budget bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use crate::error::ErrorCode;
use crate::ids::Offset;

/// Fate of a wait for the high watermark.
pub type Commit = Result<(), ErrorCode>;

/// A fetch that waits for any of its partitions.
#[derive(Default)]
pub struct FetchWait {
    news: Notify,
}

impl FetchWait {
    pub fn new() -> Arc<FetchWait> {
        Arc::default()
    }

    /// Waits for the next news. News that came since the last call count.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn wake(&self) {
        self.news.notify_one();
    }
}

/// Waits for one kind of offset to be reached.
#[derive(Default)]
struct OffsetWaits {
    waits: BTreeMap<(Offset, u64), oneshot::Sender<Commit>>,
    next: u64,
}

impl OffsetWaits {
    fn register(&mut self, end: Offset) -> oneshot::Receiver<Commit> {
        let (told, outcome) = oneshot::channel();
        self.next += 1;
        self.waits.insert((end, self.next), told);
        outcome
    }

    fn reached(&mut self, offset: Offset) {
        while let Some(first) = self.waits.first_entry() {
            if first.key().0 > offset {
                break;
            }
            // The asker may have timed out and gone.
            let _ = first.remove().send(Ok(()));
        }
    }

    fn fail(&mut self, code: ErrorCode) {
        for (_, told) in std::mem::take(&mut self.waits) {
            let _ = told.send(Err(code));
        }
    }
}

/// The waits on one partition.
#[derive(Default)]
pub struct Waiters {
    /// For the high watermark.
    commits: OffsetWaits,
    /// For this replica's stable storage.
    syncs: OffsetWaits,
    /// For the low watermark.
    deletions: OffsetWaits,
    fetches: Vec<Arc<FetchWait>>,
    /// Fetches that also see what is not committed.
    followers: Vec<Arc<FetchWait>>,
}

impl Waiters {
    /// Registers a wait for the high watermark to reach `end`.
    pub fn commit(&mut self, end: Offset) -> oneshot::Receiver<Commit> {
        self.commits.register(end)
    }

    /// Registers a wait for everything below `end` to be on stable storage here.
    pub fn sync(&mut self, end: Offset) -> oneshot::Receiver<Commit> {
        self.syncs.register(end)
    }

    /// Registers a wait for the low watermark to reach `start`.
    pub fn deletion(&mut self, start: Offset) -> oneshot::Receiver<Commit> {
        self.deletions.register(start)
    }

    /// True if somebody waits for the low watermark.
    pub fn has_deletions(&self) -> bool {
        !self.deletions.waits.is_empty()
    }

    /// Registers a fetch; it is woken once.
    pub fn fetch(&mut self, wait: &Arc<FetchWait>) {
        register(&mut self.fetches, wait);
    }

    /// Registers a fetch that is woken once by what is appended, too.
    pub fn follow(&mut self, wait: &Arc<FetchWait>) {
        register(&mut self.followers, wait);
    }

    /// Something was appended.
    pub fn appended(&mut self) {
        wake(&mut self.followers);
    }

    /// The high watermark is now `high_watermark`: answers those who waited for it and wakes every fetch.
    pub fn advanced(&mut self, high_watermark: Offset) {
        self.commits.reached(high_watermark);
        self.wake_fetches();
    }

    /// Everything below `end` is on stable storage here.
    pub fn synced(&mut self, end: Offset) {
        self.syncs.reached(end);
    }

    /// Every replica has given up what lies below `low_watermark`.
    pub fn deleted(&mut self, low_watermark: Offset) {
        self.deletions.reached(low_watermark);
    }

    /// The partition changes its role: everyone learns why.
    pub fn fail(&mut self, code: ErrorCode) {
        for waits in [&mut self.commits, &mut self.syncs, &mut self.deletions] {
            waits.fail(code);
        }
        self.wake_fetches();
    }

    /// Something changed that fetches may want to know.
    pub fn wake_fetches(&mut self) {
        wake(&mut self.fetches);
        wake(&mut self.followers);
    }
}

fn register(list: &mut Vec<Arc<FetchWait>>, wait: &Arc<FetchWait>) {
    // A fetch that has gone leaves only its references in such lists behind: drop those before the list grows.
    if list.len() >= 16 && list.len().is_power_of_two() {
        list.retain(|fetch| Arc::strong_count(fetch) > 1);
    }
    list.push(wait.clone());
}

fn wake(list: &mut Vec<Arc<FetchWait>>) {
    for fetch in list.drain(..) {
        fetch.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_answered_in_order_of_offsets() {
        let mut waiters = Waiters::default();
        let mut late = waiters.commit(10);
        let mut early = waiters.commit(5);
        waiters.advanced(7);
        assert_eq!(early.try_recv(), Ok(Ok(())));
        assert!(late.try_recv().is_err());
        waiters.fail(ErrorCode::NotLeaderOrFollower);
        assert_eq!(late.try_recv(), Ok(Err(ErrorCode::NotLeaderOrFollower)));
    }

    #[tokio::test]
    async fn a_fetch_is_woken_even_if_the_news_came_first() {
        let mut waiters = Waiters::default();
        let wait = FetchWait::new();
        waiters.fetch(&wait);
        waiters.advanced(1);
        wait.news().await;
    }
}
