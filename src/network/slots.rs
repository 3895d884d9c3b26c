//! Who is connected: a slot per connection, counted in all, by listener and by address.
//!
//! Invariant: a slot ends when it is dropped, so that no way of ending a connection leaks it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The connections that are open. Cheap to clone: clones are one set.
#[derive(Clone, Default)]
pub struct Slots(Arc<Inner>);

#[derive(Default)]
struct Inner {
    open: Mutex<Open>,
    released: Notify,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_listener: BTreeMap<Arc<str>, usize>,
    seats: BTreeMap<u64, Seat>,
    next_seat: u64,
    by_ip: BTreeMap<IpAddr, usize>,
}

/// The place of one connection.
pub struct Slot {
    slots: Slots,
    seat: u64,
    listener: Arc<str>,
    address: IpAddr,
    used: Arc<Use>,
}

/// What is known of a connection that might have to go.
struct Seat {
    listener: Arc<str>,
    used: Arc<Use>,
}

/// How a connection is used, and how it is told to go. The connection shares it.
#[derive(Default)]
pub struct Use {
    /// When its last request came; relaxed, because the order only has to be about right.
    last: AtomicU64,
    leave: Notify,
}

impl Use {
    /// Notes a request; `now` grows.
    pub fn touch(&self, now: u64) {
        self.last.store(now, Ordering::Relaxed);
    }

    /// Waits until the connection has to go.
    pub async fn must_leave(&self) {
        self.leave.notified().await;
    }
}

impl Slots {
    /// Waits until fewer connections are open than there may be; `limits` says how many in all, and of this listener.
    /// It is asked again whenever a connection has ended or [`Slots::reconsider`] was called.
    pub async fn below(&self, listener: &str, limits: impl Fn() -> (usize, usize)) {
        loop {
            // Made before the look at the count: a release in between wakes it all the same.
            let released = self.0.released.notified();
            let (total_max, listener_max) = limits();
            {
                let open = self.0.open.lock();
                if open.total < total_max && open.by_listener.get(listener).copied().unwrap_or(0) < listener_max {
                    return;
                }
            }
            released.await;
        }
    }

    /// Wakes everybody who waits: the limits have changed.
    pub fn reconsider(&self) {
        self.0.released.notify_waiters();
    }

    /// Tells the connections beyond `limit` to go, those first that have been silent longest; never those of the
    /// listener `protected`.
    pub fn shrink_to(&self, limit: usize, protected: Option<&str>) {
        let open = self.0.open.lock();
        let excess = open.total.saturating_sub(limit);
        if excess == 0 {
            return;
        }
        let may_go = open.seats.values().filter(|seat| Some(&*seat.listener) != protected);
        let mut by_use: Vec<(u64, &Arc<Use>)> =
            may_go.map(|seat| (seat.used.last.load(Ordering::Relaxed), &seat.used)).collect();
        by_use.sort_by_key(|(last, _)| *last);
        for (_, used) in by_use.into_iter().take(excess) {
            used.leave.notify_one();
        }
    }

    /// A slot for a connection from `address`, unless that address has `limit` of them.
    pub fn take(&self, listener: &Arc<str>, address: IpAddr, limit: usize) -> Option<Slot> {
        let mut open = self.0.open.lock();
        let of_address = open.by_ip.get(&address).copied().unwrap_or(0);
        if of_address >= limit {
            return None;
        }
        open.by_ip.insert(address, of_address + 1);
        *open.by_listener.entry(Arc::clone(listener)).or_default() += 1;
        open.total += 1;
        let seat = open.next_seat;
        open.next_seat += 1;
        let used = Arc::new(Use::default());
        open.seats.insert(seat, Seat { listener: Arc::clone(listener), used: Arc::clone(&used) });
        Some(Slot { slots: self.clone(), seat, listener: Arc::clone(listener), address, used })
    }
}

impl Slot {
    /// How its connection is used.
    pub fn used(&self) -> Arc<Use> {
        Arc::clone(&self.used)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let inner = &self.slots.0;
        let mut open = inner.open.lock();
        open.total -= 1;
        open.seats.remove(&self.seat);
        if let Some(count) = open.by_listener.get_mut(&self.listener) {
            *count -= 1;
        }
        let of_address = open.by_ip.get(&self.address).copied().unwrap_or(0);
        if of_address > 1 {
            open.by_ip.insert(self.address, of_address - 1);
        } else {
            open.by_ip.remove(&self.address);
        }
        drop(open);
        inner.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn slots_are_counted_by_address_and_in_all() {
        let slots = Slots::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let listener: Arc<str> = Arc::from("L");
        let first = slots.take(&listener, one, 1).unwrap();
        assert!(slots.take(&listener, one, 1).is_none());
        let second = slots.take(&listener, other, 1).unwrap();
        let mut waiting = Box::pin(slots.below("L", || (2, usize::MAX)));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.as_mut().now_or_never().is_some());
        assert!(slots.take(&listener, one, 1).is_some(), "the place is free again");
        drop(second);
        assert!(slots.0.open.lock().by_ip.is_empty());
    }

    #[test]
    fn a_listener_has_a_limit_of_its_own_and_limits_change() {
        let slots = Slots::default();
        let (listener, other): (Arc<str>, Arc<str>) = (Arc::from("L"), Arc::from("M"));
        let address = IpAddr::from([10, 0, 0, 1]);
        let _held = slots.take(&listener, address, 9).unwrap();
        let limit = std::cell::Cell::new(1);
        let mut waiting = Box::pin(slots.below(&listener, || (9, limit.get())));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(slots.below(&other, || (9, 1)).now_or_never().is_some(), "the other listener has room");
        limit.set(2);
        slots.reconsider();
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[test]
    fn the_connections_silent_longest_go_first() {
        let slots = Slots::default();
        let (listener, safe): (Arc<str>, Arc<str>) = (Arc::from("L"), Arc::from("SAFE"));
        let take = |listener, last| {
            let slot = slots.take(listener, IpAddr::from([10, 0, 0, 1]), 9).unwrap();
            slot.used().touch(last);
            slot
        };
        let held = [take(&listener, 7), take(&listener, 3), take(&safe, 1), take(&listener, 5)];
        slots.shrink_to(4, Some("SAFE"));
        let told = || held.iter().map(|slot| slot.used().must_leave().now_or_never().is_some()).collect::<Vec<_>>();
        assert_eq!(told(), [false; 4], "there is room for all");
        slots.shrink_to(2, Some("SAFE"));
        assert_eq!(told(), [false, true, false, true]);
    }
}
