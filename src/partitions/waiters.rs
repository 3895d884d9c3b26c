//! Who waits on a partition: produces for the high watermark, fetches for news. Waits live on the object they wait for.
//!
//! Invariants: a committed-wait is answered exactly once, when the high watermark reaches its offset or the partition
//! stops leading; a fetch is woken at most once per registration and then looks for itself. Both lists are bounded by
//! the requests in flight, which the network's budget bounds.

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

/// The waits on one partition.
#[derive(Default)]
pub struct Waiters {
    commits: BTreeMap<(Offset, u64), oneshot::Sender<Commit>>,
    next: u64,
    fetches: Vec<Arc<FetchWait>>,
}

impl Waiters {
    /// Registers a wait for the high watermark to reach `end`.
    pub fn commit(&mut self, end: Offset) -> oneshot::Receiver<Commit> {
        let (told, outcome) = oneshot::channel();
        self.next += 1;
        self.commits.insert((end, self.next), told);
        outcome
    }

    /// Registers a fetch; it is woken once.
    pub fn fetch(&mut self, wait: &Arc<FetchWait>) {
        // A fetch that has gone leaves only this reference behind: drop those before the list grows.
        if self.fetches.len() >= 16 && self.fetches.len().is_power_of_two() {
            self.fetches.retain(|fetch| Arc::strong_count(fetch) > 1);
        }
        self.fetches.push(wait.clone());
    }

    /// The high watermark is now `high_watermark`: answers those who waited for it and wakes every fetch.
    pub fn advanced(&mut self, high_watermark: Offset) {
        while let Some(first) = self.commits.first_entry() {
            if first.key().0 > high_watermark {
                break;
            }
            // The asker may have timed out and gone.
            let _ = first.remove().send(Ok(()));
        }
        self.wake_fetches();
    }

    /// The partition stops leading: everyone learns why.
    pub fn fail(&mut self, code: ErrorCode) {
        for (_, told) in std::mem::take(&mut self.commits) {
            let _ = told.send(Err(code));
        }
        self.wake_fetches();
    }

    fn wake_fetches(&mut self) {
        for fetch in self.fetches.drain(..) {
            fetch.wake();
        }
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
