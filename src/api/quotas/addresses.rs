//! How fast addresses may connect (KIP-612).
//!
//! Invariants: only an address with a quota is measured; at most [`ADDRESSES_MAX`] are. A host name in a quota stands
//! for the addresses it had when the quota was set or the broker started, as in Kafka.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use parking_lot::Mutex;

use super::window::{Samples, Windows};
use crate::metadata::{CONNECTION_CREATION_RATE, ClientQuotas, QuotaEntity};

/// Most addresses that are measured at a time.
const ADDRESSES_MAX: usize = 10_000;

/// What is set for addresses, in connections a second.
#[derive(Clone, Default, Debug)]
pub struct AddressLimits {
    by_address: HashMap<IpAddr, f64>,
    default: Option<f64>,
}

impl AddressLimits {
    /// What the cluster's quotas say, and the host names in them, whose addresses must be looked up.
    pub fn of(quotas: &ClientQuotas) -> (AddressLimits, BTreeMap<String, f64>) {
        let (mut limits, mut names) = (AddressLimits::default(), BTreeMap::new());
        for (entity, quotas) in quotas.iter() {
            let (QuotaEntity::Ip(name), Some(value)) = (entity, quotas.get(CONNECTION_CREATION_RATE)) else { continue };
            match name.as_ref().map(|name| (name, name.parse::<IpAddr>())) {
                None => limits.default = Some(value.0),
                Some((_, Ok(address))) => limits.add(address, value.0),
                Some((name, Err(_))) => drop(names.insert(name.clone(), value.0)),
            }
        }
        (limits, names)
    }

    /// Adds what is set for an address, unless something is already: the address itself comes before a host name.
    pub fn add(&mut self, address: IpAddr, rate: f64) {
        self.by_address.entry(address.to_canonical()).or_insert(rate);
    }

    /// True if nothing is set.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty() && self.default.is_none()
    }

    /// What holds for an address.
    pub fn bound(&self, address: IpAddr) -> Option<f64> {
        self.by_address.get(&address).copied().or(self.default)
    }
}

/// How often addresses connected lately.
#[derive(Default)]
pub struct AddressMeters {
    by_address: Mutex<HashMap<IpAddr, (Samples, u64)>>,
}

impl AddressMeters {
    /// Notes a connection; milliseconds that its address should have waited. Then it is not counted.
    pub fn connected(&self, address: IpAddr, windows: Windows, bound: f64, now_ms: u64) -> u64 {
        let mut by_address = self.by_address.lock();
        if by_address.len() >= ADDRESSES_MAX && !by_address.contains_key(&address) {
            let age_max_ms = windows.count as u64 * windows.window_ms;
            by_address.retain(|_, (_, used_ms)| now_ms.saturating_sub(*used_ms) < age_max_ms);
            if by_address.len() >= ADDRESSES_MAX {
                by_address.clear();
            }
        }
        let (samples, used_ms) = by_address.entry(address).or_default();
        *used_ms = now_ms;
        samples.record(windows, 1.0, now_ms);
        let wait_ms = samples.wait_ms(windows, bound, now_ms);
        if wait_ms > 0 {
            samples.record(windows, -1.0, now_ms);
        }
        wait_ms.min(windows.window_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 11, window_ms: 1000 };

    #[test]
    fn refused_connections_are_not_counted() {
        let meters = AddressMeters::default();
        let address = IpAddr::from([10, 0, 0, 1]);
        let waits: Vec<u64> = (0..22).map(|_| meters.connected(address, WINDOWS, 2.0, 0)).collect();
        // Ten whole windows of two a second, then 21 ÷ 10 s is too fast by 0.1 ÷ 2 × 10 s.
        assert_eq!(waits[..20], [0; 20]);
        assert_eq!(waits[20..], [500, 500]);
        assert_eq!(meters.connected(address, WINDOWS, 2.0, 500), 0, "after that it may");
        assert_eq!(meters.connected(IpAddr::from([10, 0, 0, 2]), WINDOWS, 2.0, 0), 0);
    }
}
