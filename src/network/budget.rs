//! The memory that requests in flight may take together.
//!
//! A frame is charged as its bytes arrive, so that announcing much and sending little costs nothing, and until its
//! response was written. Small frames are charged and never wait: what they take is bounded by the number of
//! connections. Larger ones wait for room before each piece. Half-received frames could then hold all of the room while
//! each waits for more; so one frame at a time may overdraw. It is given little time, and gets through.
//!
//! Invariants: used = Σ charges; used ≤ limit + small frames + one piece per connection + one overdrawn frame. A charge
//! ends when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What all connections share. Cheap to clone: clones are one budget.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    limit: usize,
    used: AtomicUsize,
    /// One permit: the right to overdraw.
    overdraft: Arc<Semaphore>,
    freed: Notify,
}

/// What one request takes.
pub struct Charge {
    budget: Budget,
    bytes: usize,
    overdraft: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        let overdraft = Arc::new(Semaphore::new(1));
        Budget(Arc::new(Inner { limit, used: AtomicUsize::new(0), overdraft, freed: Notify::new() }))
    }

    /// Bytes charged now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Acquire)
    }

    /// A charge of nothing yet.
    pub fn charge(&self) -> Charge {
        Charge { budget: self.clone(), bytes: 0, overdraft: None }
    }
}

impl Charge {
    /// Raises the charge to `bytes`, at once.
    pub fn raise_to(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        self.budget.0.used.fetch_add(more, Ordering::AcqRel);
        self.bytes += more;
    }

    /// Raises the charge to `bytes` as soon as there is any room, or at once if this is the one that may overdraw.
    pub async fn grow_to(&mut self, bytes: usize) {
        let inner = Arc::clone(&self.budget.0);
        let more = bytes.saturating_sub(self.bytes);
        loop {
            // Made before the look at the room: what is freed in between wakes it all the same.
            let freed = inner.freed.notified();
            if self.overdraft.is_some() {
                return self.raise_to(bytes);
            }
            let grown = inner
                .used
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| (used < inner.limit).then_some(used + more));
            if grown.is_ok() {
                self.bytes += more;
                return;
            }
            match Arc::clone(&inner.overdraft).try_acquire_owned() {
                Ok(permit) => self.overdraft = Some(permit),
                Err(_) => freed.await,
            }
        }
    }

    /// True if it went beyond the limit, on the one right there is to do so.
    pub fn is_overdrawn(&self) -> bool {
        self.overdraft.is_some()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let inner = &self.budget.0;
        // The permit goes back before anyone is woken to look for it.
        let was_overdrawn = self.overdraft.take().is_some();
        let before = inner.used.fetch_sub(self.bytes, Ordering::AcqRel);
        // Nobody waits while there is room, so most charges end without a look at who does.
        if was_overdrawn || before >= inner.limit {
            inner.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_overdraws_and_the_others_wait_for_it() {
        let budget = Budget::new(100);
        let (mut first, mut second, mut third) = (budget.charge(), budget.charge(), budget.charge());
        assert!(first.grow_to(100).now_or_never().is_some());
        assert!(second.grow_to(50).now_or_never().is_some());
        assert!(second.is_overdrawn() && !first.is_overdrawn());
        assert!(third.grow_to(10).now_or_never().is_none());
        assert!(second.grow_to(80).now_or_never().is_some(), "it may go on");
        {
            let mut waiting = Box::pin(third.grow_to(10));
            assert!(waiting.as_mut().now_or_never().is_none());
            drop(second);
            assert!(waiting.as_mut().now_or_never().is_some());
        }
        assert!(third.is_overdrawn(), "the first still holds all of the room");
        assert_eq!(budget.used(), 110);
        drop((first, third));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn small_charges_never_wait() {
        let budget = Budget::new(10);
        let mut charge = budget.charge();
        charge.raise_to(25);
        charge.raise_to(5);
        assert_eq!(budget.used(), 25);
        assert!(!charge.is_overdrawn());
    }
}
