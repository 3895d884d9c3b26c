//! Client quotas in force: who may use how much, who has used how much, and how long to wait (KIP-13, 124, 219, 546,
//! 599, 612).
//!
//! ```text
//! image ──► limits by resource ──► account of a client ──► its meter ──► milliseconds to wait
//! ```
//!
//! Whoever is above a quota is answered at once, is told the time, and is not read for as long (`api::throttling`).
//!
//! Invariants: where no quota is set for a resource nothing is measured: the only cost is a look at the limits.
//! Everything is measured on this broker alone.

mod addresses;
mod limits;
mod meters;
mod window;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::config::BrokerSettings;
use crate::env::Env;
use crate::metadata::{
    CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, ClientQuotas, PRODUCER_BYTE_RATE, REQUEST_PERCENTAGE,
};
use addresses::{AddressLimits, AddressMeters};
use limits::Limits;
use meters::{Meter, Meters};

pub use limits::Account;
pub use meters::Reading;
pub use window::Windows;

/// What a quota is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Bytes of Produce requests.
    Produce,
    /// Bytes of Fetch responses.
    Fetch,
    /// Time spent on requests, in percent of a thread.
    Request,
    /// Partitions created and deleted.
    ControllerMutation,
}

impl Resource {
    pub const ALL: [Resource; 4] =
        [Resource::Produce, Resource::Fetch, Resource::Request, Resource::ControllerMutation];

    /// The name in Kafka's metrics (`QuotaType`).
    pub const fn name(self) -> &'static str {
        match self {
            Resource::Produce => "Produce",
            Resource::Fetch => "Fetch",
            Resource::Request => "Request",
            Resource::ControllerMutation => "ControllerMutation",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Resource::Produce => PRODUCER_BYTE_RATE,
            Resource::Fetch => CONSUMER_BYTE_RATE,
            Resource::Request => REQUEST_PERCENTAGE,
            Resource::ControllerMutation => CONTROLLER_MUTATION_RATE,
        }
    }
}

/// What is set, as of one image.
#[derive(Default)]
struct InForce {
    quotas: ClientQuotas,
    by_resource: [Limits; 4],
    addresses: AddressLimits,
}

/// The quotas of a broker and what was measured for them.
pub struct Quotas {
    env: Env,
    born: Instant,
    windows: Windows,
    mutation_windows: Windows,
    in_force: ArcSwap<InForce>,
    meters: [Meters; 4],
    addresses: AddressMeters,
}

/// A client's meter and its bound.
pub struct Measured {
    meter: Arc<Meter>,
    bound: Option<f64>,
}

impl Quotas {
    /// No quotas yet.
    pub fn new(env: &Env, settings: &BrokerSettings) -> Arc<Quotas> {
        let windows = Windows::of(settings.quota_window_num, settings.quota_window_size_seconds);
        let mutation_windows =
            Windows::of(settings.controller_quota_window_num, settings.controller_quota_window_size_seconds);
        Arc::new(Quotas {
            env: env.clone(),
            born: env.now(),
            windows,
            mutation_windows,
            in_force: ArcSwap::default(),
            meters: Default::default(),
            addresses: AddressMeters::default(),
        })
    }

    /// Takes the quotas of an image into force. Host names among them follow when their addresses are known.
    pub fn follow(self: &Arc<Self>, quotas: &ClientQuotas) {
        if self.in_force.load().quotas.is_same(quotas) {
            return;
        }
        let (addresses, names) = AddressLimits::of(quotas);
        let by_resource = Resource::ALL.map(|resource| Limits::of(quotas, resource.key()));
        self.in_force.store(Arc::new(InForce { quotas: quotas.clone(), by_resource, addresses }));
        if names.is_empty() {
            return;
        }
        let (of_task, quotas) = (Arc::clone(self), quotas.clone());
        self.env.spawn(async move {
            for (name, rate) in names {
                match of_task.env.net().resolve(&name).await {
                    Ok(found) => of_task.add_addresses(&quotas, &found, rate),
                    Err(failure) => tracing::warn!(name, %failure, "the quota of this address has no effect"),
                }
            }
        });
    }

    /// Adds what a host name stands for, unless other quotas are in force by now.
    fn add_addresses(&self, quotas: &ClientQuotas, found: &[IpAddr], rate: f64) {
        let current = self.in_force.load();
        if !current.quotas.is_same(quotas) {
            return;
        }
        let mut addresses = current.addresses.clone();
        found.iter().for_each(|address| addresses.add(*address, rate));
        let by_resource = Resource::ALL.map(|resource| Limits::of(quotas, resource.key()));
        self.in_force.store(Arc::new(InForce { quotas: quotas.clone(), by_resource, addresses }));
    }

    /// True if any quota is set for this resource.
    pub fn watch(&self, resource: Resource) -> bool {
        !self.in_force.load().by_resource[resource as usize].is_empty()
    }

    /// The meter and the bound of a client; `None` if nothing is set for this resource.
    pub fn measured(&self, resource: Resource, user: &Arc<str>, client: &Arc<str>) -> Option<Measured> {
        let in_force = self.in_force.load();
        let limits = &in_force.by_resource[resource as usize];
        if limits.is_empty() {
            return None;
        }
        let account = limits.account(user, client);
        let bound = limits.bound(&account);
        Some(Measured { meter: self.meters[resource as usize].of(&account, self.now_ms()), bound })
    }

    /// Notes that a client has used `value`; milliseconds that it must wait.
    pub fn record(&self, resource: Resource, measured: &Measured, value: f64) -> u64 {
        let wait_ms = measured.meter.record(self.windows, value, measured.bound, self.now_ms());
        match resource {
            // Requests queue up meanwhile, so Kafka lets nobody wait longer than a window for these.
            Resource::Request => wait_ms.min(self.windows.window_ms),
            _ => wait_ms,
        }
    }

    /// Takes back what was recorded.
    pub fn take_back(&self, measured: &Measured, value: f64) {
        measured.meter.record(self.windows, -value, None, self.now_ms());
    }

    /// Notes that partitions are to be created or deleted; milliseconds to wait, in which a strict asker gets nothing.
    pub fn mutate(&self, measured: &Measured, partitions: usize, strict: bool) -> u64 {
        let Some(bound) = measured.bound else { return 0 };
        measured.meter.take(self.mutation_windows, partitions as f64, bound, strict, self.now_ms())
    }

    /// Notes that a client was told to wait.
    pub fn throttled(&self, measured: &Measured, wait_ms: u64) {
        measured.meter.throttled(wait_ms, self.now_ms());
    }

    /// The most that a client may use at once without having to wait for certain.
    pub fn burst(&self, measured: &Measured) -> Option<f64> {
        measured.bound.map(|bound| bound * self.windows.whole_seconds())
    }

    /// Notes a new connection; how long it comes too early, if it does.
    pub fn connected(&self, address: IpAddr) -> Option<Duration> {
        let in_force = self.in_force.load();
        if in_force.addresses.is_empty() {
            return None;
        }
        let bound = in_force.addresses.bound(address)?;
        let wait_ms = self.addresses.connected(address, self.windows, bound, self.now_ms());
        (wait_ms > 0).then(|| Duration::from_millis(wait_ms))
    }

    /// Every account of a resource and what was measured, in order.
    pub fn readings(&self, resource: Resource) -> Vec<(Account, Reading)> {
        let in_force = self.in_force.load();
        let limits = &in_force.by_resource[resource as usize];
        let windows = match resource {
            Resource::ControllerMutation => self.mutation_windows,
            _ => self.windows,
        };
        self.meters[resource as usize].read(windows, |account| limits.bound(account), self.now_ms())
    }

    fn now_ms(&self) -> u64 {
        (self.env.now() - self.born).as_millis() as u64
    }

    /// Takes one quota into force, for tests that have no image: connections a second from an address.
    #[cfg(test)]
    pub fn limit_address(self: &Arc<Self>, address: &str, rate: f64) {
        use crate::metadata::{CONNECTION_CREATION_RATE, ClusterImage, MetadataRecord, QuotaEntity, QuotaValue};
        let entity = QuotaEntity::Ip(Some(address.to_owned()));
        let (key, value) = (CONNECTION_CREATION_RATE.to_owned(), Some(QuotaValue(rate)));
        let image = ClusterImage::default().replay(&[MetadataRecord::ClientQuota { entity, key, value }]);
        self.follow(&image.client_quotas);
    }
}
