//! What a seed makes of a cluster: who is in it, how fast everything is, what goes wrong and when.
//!
//! Invariants: every fault ends before the load ends, and the healing is part of the plan.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha12Rng;

/// Every node that there may be; its id is its place, from 1.
pub const NODES: [&str; 6] = ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6"];

/// What a node is (`process.roles`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles {
    pub controller: bool,
    pub broker: bool,
}

impl Roles {
    pub fn text(self) -> &'static str {
        match (self.controller, self.broker) {
            (true, true) => "broker,controller",
            (true, false) => "controller",
            _ => "broker",
        }
    }

    pub fn listeners(self) -> &'static str {
        match (self.controller, self.broker) {
            (true, true) => "PLAINTEXT://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093",
            (true, false) => "CONTROLLER://0.0.0.0:9093",
            _ => "PLAINTEXT://0.0.0.0:9092",
        }
    }
}

/// Something that happens to the world. Nodes are named by their index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Power cut: of the unsynced writes, this share of 256 survives on each disk.
    Crash {
        node: usize,
        records_kept: u8,
        metadata_kept: u8,
    },
    Restart(usize),
}

/// The world of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub roles: Vec<Roles>,
    pub load_ends_ms: u64,
    pub tick: Duration,
    /// The longest that a byte is under way.
    pub latency_max: Duration,
    pub disk_delay: Duration,
    pub tail_cache_bytes: u64,
    pub fetch_timeout_ms: u64,
    pub min_isr: usize,
    /// What happens at which millisecond, in order.
    pub faults: Vec<(u64, Fault)>,
}

fn pick<T: Copy>(rng: &mut ChaCha12Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

/// Nothing, everything, or something of what was not synced.
fn kept(rng: &mut ChaCha12Rng) -> u8 {
    let something = rng.random();
    pick(rng, &[0, 0, 255, something])
}

impl Plan {
    pub fn draw(rng: &mut ChaCha12Rng) -> Plan {
        let both = Roles { controller: true, broker: true };
        let mut plan = Plan {
            roles: vec![both; 3],
            load_ends_ms: rng.random_range(30_000..40_000),
            tick: Duration::from_millis(1),
            latency_max: Duration::from_millis(pick(rng, &[3, 10, 10, 40])),
            disk_delay: Duration::from_millis(pick(rng, &[2, 8, 8, 25])),
            tail_cache_bytes: pick(rng, &[0, 3_000, 40_000, 64 << 20]),
            fetch_timeout_ms: pick(rng, &[1_000, 2_000]),
            min_isr: 2,
            faults: Vec::new(),
        };
        plan.draw_crashes(rng);
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// The nodes that vote.
    pub fn controllers(&self) -> impl Iterator<Item = usize> {
        self.roles.iter().enumerate().filter(|(_, roles)| roles.controller).map(|(index, _)| index)
    }

    /// The nodes that clients speak to.
    pub fn brokers(&self) -> impl Iterator<Item = usize> {
        self.roles.iter().enumerate().filter(|(_, roles)| roles.broker).map(|(index, _)| index)
    }

    /// When the last fault must be over.
    fn calm_from(&self) -> u64 {
        self.load_ends_ms - 1_000
    }

    fn draw_crashes(&mut self, rng: &mut ChaCha12Rng) {
        let mut at = rng.random_range(3_000..12_000);
        while at + 3_000 < self.calm_from() {
            let node = rng.random_range(0..self.roles.len());
            let (records_kept, metadata_kept) = (kept(rng), kept(rng));
            self.faults.push((at, Fault::Crash { node, records_kept, metadata_kept }));
            at += pick(rng, &[50, 400, 2_000, 5_000]);
            self.faults.push((at.min(self.calm_from()), Fault::Restart(node)));
            at += rng.random_range(1_000..8_000);
        }
    }
}
