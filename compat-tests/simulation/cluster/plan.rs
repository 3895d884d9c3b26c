//! What a seed makes of a cluster: who is in it, how fast everything is, what goes wrong and when.
//!
//! Faults come in episodes, each with its own end; episodes overlap as they will. Invariant: when the load ends
//! everything is healed, whatever the episodes left behind.

use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;

/// Every node that there may be; its id is its place, from 1.
pub const NODES: [&str; 6] = ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6"];
/// The hosts that clients run on.
pub const HOSTS: [&str; 3] = ["north", "east", "south"];

/// What a node is (`process.roles`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles {
    pub controller: bool,
    pub broker: bool,
}

const BOTH: Roles = Roles { controller: true, broker: true };
const CONTROLLER: Roles = Roles { controller: true, broker: false };
const BROKER: Roles = Roles { controller: false, broker: true };

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

/// Whom a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Node(usize),
    /// The active controller, if there is one.
    Controller,
    /// Whoever leads the quorum, whether or not it has become the active controller.
    Quorum,
    /// Whoever leads the first partition.
    Leader,
}

/// Something that happens to the world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Power cut: of the unsynced writes, this share of 256 survives on each disk.
    Crash { target: Target, records_kept: u8, metadata_kept: u8 },
    /// Its disks are replaced by empty ones: only for a node that does not vote.
    Wipe(usize),
    /// It is told to stop, and takes its time.
    Stop(Target),
    /// The node that has been down for longest starts again.
    Restart,
    /// It does nothing any more, as after SIGSTOP.
    Pause(Target),
    /// The node that has been paused for longest goes on.
    Resume,
    /// Every write and every sync takes up to this long from now on.
    DiskDelay(Target, Duration),
    /// All disks are as fast as usual.
    DisksAsUsual,
    /// Bytes between two hosts are lost, and with them connections.
    Cut(&'static str, &'static str),
    /// Only those that go from the first to the second.
    CutOneWay(&'static str, &'static str),
    /// Bytes between two hosts wait.
    Hold(&'static str, &'static str),
    /// Bytes between two hosts take up to this long.
    Slow(&'static str, &'static str, Duration),
    /// The leader of a partition reaches no other node, and clients reach it.
    Isolate(usize),
    /// Who was isolated is not any more.
    Rejoin,
    /// Everything is well between two hosts.
    Mend(&'static str, &'static str),
    /// Everything is well everywhere.
    Heal,
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
    pub snapshot_log_bytes: u64,
    pub min_isr: usize,
    /// From then on nobody writes to one of the partitions: whatever is left undone there stays undone.
    pub silence: Option<(usize, u64)>,
    /// Nothing goes wrong, so nothing may be seen to.
    pub is_quiet: bool,
    /// At the end all nodes are told to stop at once, instead of a power cut.
    pub stops_at_once: bool,
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
        let roles = match rng.random_range(0..10) {
            0..6 => vec![BOTH; 3],
            6..9 => vec![BOTH, BOTH, BOTH, BROKER],
            _ => vec![CONTROLLER, CONTROLLER, CONTROLLER, BROKER, BROKER, BROKER],
        };
        let mut plan = Plan {
            roles,
            load_ends_ms: rng.random_range(48_000..58_000),
            tick: Duration::from_millis(pick(rng, &[1, 2, 3])),
            latency_max: Duration::from_millis(pick(rng, &[3, 10, 10, 40])),
            disk_delay: Duration::from_millis(pick(rng, &[2, 8, 8, 25])),
            tail_cache_bytes: pick(rng, &[0, 3_000, 40_000, 64 << 20]),
            fetch_timeout_ms: pick(rng, &[1_000, 2_000]),
            snapshot_log_bytes: pick(rng, &[3_000, 20_000, 1 << 20]),
            min_isr: 2,
            silence: rng.random_bool(0.5).then(|| (rng.random_range(0..3), rng.random_range(12_000..44_000))),
            is_quiet: rng.random_bool(0.05),
            stops_at_once: rng.random(),
            faults: Vec::new(),
        };
        let mut at = rng.random_range(4_000..8_000);
        let pause_max = pick(rng, &[1_500, 4_000, 10_000]);
        while at + 1_000 < plan.calm_from() && !plan.is_quiet {
            plan.draw_episode(rng, at);
            at += rng.random_range(100..pause_max);
        }
        if let Some((spot, from_ms)) = plan.silence.filter(|_| !plan.is_quiet) {
            // What its leader takes at the last has to be cut once somebody else leads.
            plan.faults.push((from_ms.saturating_sub(rng.random_range(100..1_000)), Fault::Isolate(spot)));
            plan.faults.push((from_ms + rng.random_range(4_000..8_000), Fault::Rejoin));
        }
        let calm_from = plan.calm_from();
        plan.faults.retain(|(at, _)| *at < calm_from);
        plan.faults.push((calm_from, Fault::Heal));
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

    fn target(&self, rng: &mut ChaCha12Rng) -> Target {
        match rng.random_range(0..5) {
            0 => Target::Controller,
            1 => Target::Leader,
            2 => Target::Quorum,
            _ => Target::Node(rng.random_range(0..self.roles.len())),
        }
    }

    /// Everybody else that `host` speaks to.
    fn others(&self, host: &str, with_clients: bool) -> Vec<&'static str> {
        let nodes = NODES[..self.roles.len()].iter().filter(|name| **name != host);
        nodes.chain(HOSTS.iter().filter(|_| with_clients)).copied().collect()
    }

    fn crash(&mut self, rng: &mut ChaCha12Rng, at: u64, target: Target, down_ms: u64) {
        let (records_kept, metadata_kept) = (kept(rng), kept(rng));
        self.faults.push((at, Fault::Crash { target, records_kept, metadata_kept }));
        self.faults.push((at + down_ms, Fault::Restart));
    }

    fn slow_disk(&mut self, rng: &mut ChaCha12Rng, at: u64, target: Target) {
        let slow = Duration::from_millis(rng.random_range(100..1_500));
        self.faults.push((at, Fault::DiskDelay(target, slow)));
    }

    fn draw_episode(&mut self, rng: &mut ChaCha12Rng, at: u64) {
        let node = rng.random_range(0..self.roles.len());
        let target = self.target(rng);
        match rng.random_range(0..100) {
            0..18 => {
                let down_ms = pick(rng, &[20, 300, 1_500, 5_000, 9_000]);
                self.crash(rng, at, target, down_ms);
            }
            // Everybody at once, or almost; back in any order.
            18..24 => {
                let mut all: Vec<usize> = (0..self.roles.len()).collect();
                all.shuffle(rng);
                all.truncate(rng.random_range(2..=all.len()));
                for node in all {
                    let down_ms = rng.random_range(50..4_000);
                    self.crash(rng, at, Target::Node(node), down_ms);
                }
            }
            24..30 => {
                self.faults.push((at, Fault::Stop(target)));
                self.faults.push((at + rng.random_range(500..6_000), Fault::Restart));
            }
            30..33 => {
                if let Some(node) = (0..self.roles.len()).find(|node| !self.roles[*node].controller) {
                    self.crash(rng, at, Target::Node(node), 2_000);
                    self.faults.push((at + 1, Fault::Wipe(node)));
                }
            }
            33..44 => {
                self.faults.push((at, Fault::Pause(target)));
                self.faults.push((at + pick(rng, &[100, 1_000, 4_000, 8_000]), Fault::Resume));
            }
            44..50 => {
                self.slow_disk(rng, at, target);
                self.faults.push((at + rng.random_range(500..6_000), Fault::DisksAsUsual));
            }
            // A disk gets slow, and then its node loses its power: much of what others have is not on it.
            50..54 => {
                self.slow_disk(rng, at, target);
                let until = at + rng.random_range(100..1_500);
                let down_ms = pick(rng, &[20, 100, 300, 1_500]);
                self.crash(rng, until, target, down_ms);
                self.faults.push((until, Fault::DisksAsUsual));
            }
            // The leaders of the quorum fall one after the other, before much of what they write is on any disk.
            54..57 => {
                (0..self.roles.len()).for_each(|node| self.slow_disk(rng, at, Target::Node(node)));
                let mut until = at;
                for _ in 0..rng.random_range(2..5) {
                    until += rng.random_range(200..1_500);
                    let down_ms = rng.random_range(20..2_000);
                    self.crash(rng, until, Target::Quorum, down_ms);
                }
                self.faults.push((until, Fault::DisksAsUsual));
            }
            _ => self.draw_network(rng, at, node),
        }
    }

    /// Something between one node and another, all others, or a client.
    fn draw_network(&mut self, rng: &mut ChaCha12Rng, at: u64, node: usize) {
        let (name, until) = (NODES[node], at + pick(rng, &[200, 1_500, 4_000, 8_000]));
        let mut others = match rng.random_range(0..8) {
            0 => self.others(name, true),
            1 | 2 => self.others(name, false),
            3 | 4 => HOSTS.to_vec(),
            _ => self.others(name, false),
        };
        if rng.random_range(0..8) >= 4 {
            others.shuffle(rng);
            others.truncate(1);
        }
        let (kind, outwards) = (rng.random_range(0..10), rng.random());
        let slow = Duration::from_millis(rng.random_range(50..600));
        for other in others {
            let fault = match kind {
                0..4 => Fault::Cut(name, other),
                4..7 if outwards => Fault::CutOneWay(name, other),
                4..7 => Fault::CutOneWay(other, name),
                7 | 8 => Fault::Hold(name, other),
                _ => Fault::Slow(name, other, slow),
            };
            self.faults.push((at, fault));
            self.faults.push((until, Fault::Mend(name, other)));
        }
    }
}
