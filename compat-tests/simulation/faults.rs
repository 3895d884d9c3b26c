//! What goes wrong, and when: drawn from the seed before the run begins.
//!
//! Invariants: every fault ends before the load ends, and the healing is part of the plan; on one host at most one
//! thing is wrong with the network at a time.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha12Rng;

/// The hosts that clients run on; the network of each fails on its own.
pub const HOSTS: [&str; 3] = ["north", "east", "south"];

/// Something that happens to the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Power cut: of the unsynced writes, this share of 256 survives on each disk.
    Crash {
        records_kept: u8,
        metadata_kept: u8,
    },
    /// The broker starts again.
    Restart,
    /// Every write and every sync takes up to this long from now on.
    DiskDelay(Duration),
    /// Bytes between the broker and the host are lost, and with them its connections.
    Cut(usize),
    /// Only those to the host, or only those to the broker, are.
    CutOneWay {
        host: usize,
        to_broker: bool,
    },
    Mend(usize),
    /// Bytes between the broker and the host wait.
    Hold(usize),
    /// They arrive after all.
    Release(usize),
}

/// The world of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub load_ends_ms: u64,
    /// The longest that a byte is under way.
    pub latency_max: Duration,
    pub disk_delay: Duration,
    pub tail_cache_bytes: u64,
    pub rebalance_delay_ms: u64,
    /// `events` takes the time of the append.
    pub append_time: bool,
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
        let load_ends_ms = rng.random_range(12_000..26_000);
        let disk_delay = Duration::from_millis(pick(rng, &[2, 8, 8, 25, 60]));
        let mut plan = Plan {
            load_ends_ms,
            latency_max: Duration::from_millis(pick(rng, &[3, 10, 10, 40])),
            disk_delay,
            tail_cache_bytes: pick(rng, &[0, 3_000, 40_000, 64 << 20]),
            rebalance_delay_ms: pick(rng, &[0, 50, 300]),
            append_time: rng.random_bool(0.5),
            faults: Vec::new(),
        };
        plan.draw_crashes(rng);
        plan.draw_slow_disks(rng);
        for host in 0..HOSTS.len() {
            plan.draw_network(rng, host);
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// When the last fault must be over.
    fn calm_from(&self) -> u64 {
        self.load_ends_ms - 1_000
    }

    fn draw_crashes(&mut self, rng: &mut ChaCha12Rng) {
        let mut at = rng.random_range(200..4_000);
        while at + 1_000 < self.calm_from() {
            let (records_kept, metadata_kept) = (kept(rng), kept(rng));
            self.faults.push((at, Fault::Crash { records_kept, metadata_kept }));
            at += rng.random_range(1..900);
            self.faults.push((at, Fault::Restart));
            // Now and then a broker does not live long enough to finish its start.
            at += if rng.random_bool(0.2) { rng.random_range(1..60) } else { rng.random_range(400..5_000) };
        }
    }

    fn draw_slow_disks(&mut self, rng: &mut ChaCha12Rng) {
        let mut at = rng.random_range(1_000..6_000);
        self.faults.push((0, Fault::DiskDelay(self.disk_delay)));
        while at + 3_000 < self.calm_from() {
            let slow = Duration::from_millis(rng.random_range(100..700));
            self.faults.push((at, Fault::DiskDelay(slow)));
            at += rng.random_range(200..3_000);
            self.faults.push((at, Fault::DiskDelay(self.disk_delay)));
            at += rng.random_range(1_000..8_000);
        }
    }

    fn draw_network(&mut self, rng: &mut ChaCha12Rng, host: usize) {
        let mut at = rng.random_range(500..8_000);
        while at + 2_500 < self.calm_from() {
            let (begin, end) = match rng.random_range(0..4) {
                0 => (Fault::Cut(host), Fault::Mend(host)),
                1 => (Fault::CutOneWay { host, to_broker: rng.random() }, Fault::Mend(host)),
                _ => (Fault::Hold(host), Fault::Release(host)),
            };
            self.faults.push((at, begin));
            at += rng.random_range(20..2_000);
            self.faults.push((at, end));
            at += rng.random_range(500..7_000);
        }
    }
}
