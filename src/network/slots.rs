//! Who is connected: a slot per connection, counted in all and by address.
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
    by_ip: BTreeMap<IpAddr, usize>,
}

/// The place of one connection.
pub struct Slot {
    slots: Slots,
    address: IpAddr,
}

impl Slots {
    /// Waits until fewer than `limit` connections are open.
    pub async fn below(&self, limit: usize) {
        loop {
            // Made before the look at the count: a release in between wakes it all the same.
            let released = self.0.released.notified();
            if self.0.open.lock().total < limit {
                return;
            }
            released.await;
        }
    }

    /// A slot for a connection from `address`, unless that address has `limit` of them.
    pub fn take(&self, address: IpAddr, limit: usize) -> Option<Slot> {
        let mut open = self.0.open.lock();
        let of_address = open.by_ip.get(&address).copied().unwrap_or(0);
        if of_address >= limit {
            return None;
        }
        open.by_ip.insert(address, of_address + 1);
        open.total += 1;
        Some(Slot { slots: self.clone(), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let inner = &self.slots.0;
        let mut open = inner.open.lock();
        open.total -= 1;
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
        let first = slots.take(one, 1).unwrap();
        assert!(slots.take(one, 1).is_none());
        let second = slots.take(other, 1).unwrap();
        let mut waiting = Box::pin(slots.below(2));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.as_mut().now_or_never().is_some());
        assert!(slots.take(one, 1).is_some(), "the place is free again");
        drop(second);
        assert!(slots.0.open.lock().by_ip.is_empty());
    }
}
