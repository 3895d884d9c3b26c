//! What clients may take of the network.
//!
//! Invariant: a limit is a number here and nowhere else; the settings it comes from are named at its field.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Config;

/// Bytes of requests in flight when `queued.max.request.bytes` is not set; Kafka then has no limit.
const IN_FLIGHT_BYTES_DEFAULT: usize = 512 << 20;

/// The limits in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// `max.connections`: no more are accepted until one ends. Each listener may be one connection beyond it. When it
    /// shrinks, those that have been silent longest are closed.
    pub connections_max: usize,
    /// The listener whose connections are not closed for the sake of `max.connections`: that of brokers among
    /// themselves, if clients have another (KIP-402).
    pub protected: Option<String>,
    /// `max.connections.per.ip`: the next one from the same address is closed at once.
    pub connections_per_ip_max: usize,
    /// `max.connections.per.ip.overrides`.
    pub connections_per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// `max.connection.creation.rate`: the listeners together accept no faster.
    pub connections_per_second_max: u32,
    /// `listener.name.<name>.max.connections` and `….max.connection.creation.rate`, by name; these hold as well.
    pub by_listener: BTreeMap<String, ListenerLimits>,
    /// `connections.max.idle.ms`: a connection on which nothing moves for so long is closed; `None` keeps it for ever.
    pub idle_max: Option<Duration>,
    /// `socket.request.max.bytes`: a larger frame closes the connection.
    pub frame_bytes_max: usize,
    /// `queued.max.request.bytes`: larger frames wait when requests in flight hold as much. Read once, at the start.
    pub in_flight_bytes_max: usize,
}

/// What one listener may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerLimits {
    pub connections_max: usize,
    pub connections_per_second_max: u32,
}

impl ListenerLimits {
    const NONE: ListenerLimits = ListenerLimits { connections_max: usize::MAX, connections_per_second_max: u32::MAX };
}

impl Limits {
    /// The limits that the settings ask for.
    pub fn of(config: &Config) -> Limits {
        let settings = config.broker();
        let count = |setting: i32| usize::try_from(setting).unwrap_or(0);
        let by_listener = config.listeners().iter().map(|listener| {
            let limit = |key: &str| config.of_listener(&listener.name, key);
            let none = ListenerLimits::NONE;
            let limits = ListenerLimits {
                connections_max: limit("max.connections").map_or(none.connections_max, count),
                connections_per_second_max: limit("max.connection.creation.rate")
                    .map_or(none.connections_per_second_max, |rate: i32| rate.max(0) as u32),
            };
            (listener.name.clone(), limits)
        });
        let several = config.listeners().iter().filter(|listener| !listener.controller).count() > 1;
        Limits {
            protected: several.then(|| config.inter_broker_listener()),
            connections_max: count(settings.max_connections),
            connections_per_ip_max: count(settings.max_connections_per_ip),
            connections_per_ip_overrides: overrides(&settings.max_connections_per_ip_overrides),
            connections_per_second_max: settings.max_connection_creation_rate.max(0) as u32,
            by_listener: by_listener.collect(),
            idle_max: u64::try_from(settings.connections_max_idle_ms).ok().map(Duration::from_millis),
            frame_bytes_max: count(settings.socket_request_max_bytes),
            in_flight_bytes_max: match settings.queued_max_request_bytes {
                bytes if bytes > 0 => bytes as usize,
                _ => IN_FLIGHT_BYTES_DEFAULT,
            },
        }
    }

    /// What a listener may take of its own.
    pub fn of_listener(&self, name: &str) -> ListenerLimits {
        self.by_listener.get(name).copied().unwrap_or(ListenerLimits::NONE)
    }

    /// The most connections that `address` may have at a time.
    pub fn per_ip(&self, address: IpAddr) -> usize {
        self.connections_per_ip_overrides.get(&address).copied().unwrap_or(self.connections_per_ip_max)
    }
}

/// Parses `address:count,...`. A host name is not resolved, because an address that moves would silently lift its
/// limit.
fn overrides(text: &str) -> BTreeMap<IpAddr, usize> {
    let mut overrides = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let parsed = entry.rsplit_once(':').and_then(|(host, count)| {
            let address: IpAddr = host.trim().trim_start_matches('[').trim_end_matches(']').parse().ok()?;
            Some((address.to_canonical(), count.trim().parse().ok()?))
        });
        match parsed {
            Some((address, count)) => drop(overrides.insert(address, count)),
            None => tracing::warn!(entry, "max.connections.per.ip.overrides: not an address and a count, ignored"),
        }
    }
    overrides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_take_addresses_and_leave_the_rest() {
        let parsed = overrides("10.0.0.1:5, [::1]:7,fe80::1:9,localhost:3,10.0.0.2,10.0.0.3:x");
        let expected = [("10.0.0.1", 5), ("::1", 7), ("fe80::1", 9)];
        assert!(parsed.iter().map(|(ip, n)| (ip.to_string(), *n)).eq(expected.map(|(ip, n)| (ip.to_owned(), n))));
        assert!(overrides("").is_empty());
    }
}
