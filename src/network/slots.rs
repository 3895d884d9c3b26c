//! Who is connected: a slot per connection, counted in all, by listener and by address.
//!
//! Invariant: a slot ends when it is dropped, so that no way of ending a connection leaks it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

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
    by_ip: BTreeMap<IpAddr, usize>,
}

/// The place of one connection.
pub struct Slot {
    slots: Slots,
    listener: Arc<str>,
    address: IpAddr,
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
        Some(Slot { slots: self.clone(), listener: Arc::clone(listener), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let inner = &self.slots.0;
        let mut open = inner.open.lock();
        open.total -= 1;
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
}
