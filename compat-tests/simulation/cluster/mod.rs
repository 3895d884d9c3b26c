//! A whole cluster from one seed in one process: nodes that replicate, their disks, their network, their clients, and
//! what the seed does to them.
//!
//! A run has four parts: load with faults; healing, in which the cluster must find back to full strength by itself
//! within a bound; calm, in which everything is read through the protocol; a power cut of all nodes at once, after which
//! it must find back once more, and everything must be as it was.
//!
//! Invariants: the disks are all that outlives a node's process; the world is driven from outside, step by step, and
//! between two steps nothing runs: that is when the lookout looks.

mod caller;
mod lookout;
mod node;
mod plan;
mod workload;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use ottla::ids::{KafkaUuid, TopicIdPartition};
use ottla::partitions::Partition;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use turmoil::Sim;

use crate::checkers::settings::GivenSettings;
use crate::checkers::{Spot, TOPICS, spots};
use crate::stage::Stage;
use crate::workload::WALL_START_MS;
use crate::world::{Broken, Report, enact, panicked};
use lookout::Lookout;
use node::{Node, Process};
use plan::{Fault, HOSTS, Plan, Target};
use workload::auditor::{Description, audit};

/// The clients must have come to their end this long after the load.
const DRAIN_MS: u64 = 60_000;
/// The cluster must be at full strength this long after the last fault (L1).
const HEAL_MS: u64 = 60_000;
/// All nodes, told to stop at once, must have done so after this long.
const STOP_MS: u64 = 10_000;
/// How often the logs are looked at.
const LOOK_MS: u64 = 20;

/// What everybody in one run shares.
pub struct Cluster {
    pub stage: Rc<Stage>,
    pub plan: Rc<Plan>,
    pub nodes: Vec<Rc<Node>>,
    pub lookout: RefCell<Lookout>,
    pub settings: RefCell<GivenSettings>,
}

impl Cluster {
    /// The replica that a node has of a partition now; nobody's if it has none.
    pub fn replica(&self, node: usize, spot: Spot) -> Weak<Partition> {
        let known = self.stage.ledger().topics.known(spot.0);
        let id = known.map(|topic| TopicIdPartition { topic: topic.id.into(), partition: spot.1 });
        let services = self.nodes[node].services();
        let hosted = id.zip(services).and_then(|(id, services)| services.partitions.hosted(id).ok());
        hosted.map_or_else(Weak::new, |hosted| Arc::downgrade(&hosted))
    }
}

/// Plays one seed to its end. With `is_told` the trace is printed.
pub fn run(seed: u64, is_told: bool) -> Result<Report, Broken> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x00c1_057e_0000);
    let plan = Plan::draw(&mut rng);
    let stage = Rc::new(Stage::new(plan.load_ends_ms, is_told));
    stage.ledger().logs.values_mut().for_each(|log| log.forgets_deleted = true);
    enact("a_thousand_clusters", seed, &stage, || World::new(seed, plan, stage.clone(), rng).play())
}

struct World {
    sim: Sim<'static>,
    seed: u64,
    cluster: Rc<Cluster>,
    faults: VecDeque<(u64, Fault)>,
    looked_ms: u64,
    /// Nodes that are down, the first for longest.
    down: VecDeque<usize>,
    /// Processes that are paused, the first for longest.
    paused: VecDeque<Process>,
    /// Nodes that reach no other.
    isolated: Vec<usize>,
}

impl World {
    fn new(seed: u64, plan: Plan, stage: Rc<Stage>, mut rng: ChaCha12Rng) -> World {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_millis(WALL_START_MS.unsigned_abs()))
            .tick_duration(plan.tick)
            .simulation_duration(Duration::from_secs(24 * 3600))
            .max_message_latency(plan.latency_max)
            .tcp_capacity(4096)
            .build();
        let cluster_id = KafkaUuid(rng.random());
        let plan = Rc::new(plan);
        let node = |index| Rc::new(Node::new(index, &plan, cluster_id, rng.random()));
        let nodes: Vec<Rc<Node>> = (0..plan.roles.len()).map(node).collect();
        for node in &nodes {
            let (stage, node, plan) = (stage.clone(), node.clone(), plan.clone());
            sim.host(node.name(), move || node::live(stage.clone(), node.clone(), plan.clone(), seed));
        }
        let faults = plan.faults.iter().cloned().collect();
        let lookout = RefCell::new(Lookout::new(&plan));
        let cluster = Rc::new(Cluster { stage, plan, nodes, lookout, settings: RefCell::default() });
        let weak = Rc::downgrade(&cluster);
        cluster.stage.set_authority(Box::new(move |node, group| {
            let cluster = weak.upgrade()?;
            cluster.lookout.borrow().coordinates(&cluster, node, group)
        }));
        World {
            sim,
            seed,
            cluster,
            faults,
            looked_ms: 0,
            down: VecDeque::new(),
            paused: VecDeque::new(),
            isolated: Vec::new(),
        }
    }

    /// The simulated time it took, in milliseconds, or the first broken invariant.
    fn play(&mut self) -> Result<u64, String> {
        for (index, host) in HOSTS.into_iter().enumerate() {
            self.sim.client(host, workload::play(self.cluster.clone(), self.seed, index));
        }
        let load_ends_ms = self.cluster.plan.load_ends_ms;
        self.until(load_ends_ms + DRAIN_MS, "the clients do not come to an end", |_, done| Ok(done))?;
        self.heal()?;
        let before = self.describe("auditor-1")?;
        self.cluster.lookout.borrow_mut().expect_faults();
        if self.cluster.plan.stops_at_once {
            self.stop_all()?
        } else {
            self.power_cut()?
        }
        self.heal()?;
        let after = self.describe("auditor-2")?;
        before.compare(&after)?;
        Ok(self.cluster.stage.now_ms())
    }

    /// Steps until every node is back and has everything.
    fn heal(&mut self) -> Result<(), String> {
        let mut why = String::new();
        let limit_ms = self.cluster.stage.now_ms() + HEAL_MS;
        let healed = self.until(limit_ms, "", |world, _| {
            let settled = world.cluster.lookout.borrow().settled(&world.cluster);
            Ok(settled.map_err(|reason| why = reason).is_ok())
        });
        healed.map_err(|sentence| match sentence.is_empty() {
            true => format!("the faults are over, and after {HEAL_MS} ms still: {why}"),
            false => sentence,
        })?;
        self.cluster.lookout.borrow_mut().compare_replicas(&self.cluster)?;
        self.cluster.stage.note("world", format_args!("the cluster is at full strength"));
        Ok(())
    }

    /// Everybody is told to stop at once, when there is nobody left to hand over to.
    fn stop_all(&mut self) -> Result<(), String> {
        self.cluster.stage.note("world", format_args!("all are told to stop"));
        for node in &self.cluster.nodes {
            node.stop();
            self.down.push_back(node.index);
        }
        let limit_ms = self.cluster.stage.now_ms() + STOP_MS;
        let all_gone = |world: &World, _| Ok(world.cluster.nodes.iter().all(|node| node.process().is_none()));
        self.until(limit_ms, "all were told to stop, and some are still there", all_gone)?;
        self.heal_all()
    }

    fn power_cut(&mut self) -> Result<(), String> {
        for node in self.cluster.nodes.clone() {
            self.crash(&node, 0, 0)?;
        }
        self.cluster.stage.note("world", format_args!("power cut"));
        let limit_ms = self.cluster.stage.now_ms() + 100;
        self.until(limit_ms + 10, "time stands still", |world, _| Ok(world.cluster.stage.now_ms() >= limit_ms))?;
        self.heal_all()
    }

    fn describe(&mut self, auditor: &'static str) -> Result<Description, String> {
        let out = Rc::new(RefCell::new(None));
        self.sim.client(auditor, audit(self.cluster.clone(), auditor, out.clone()));
        let limit_ms = self.cluster.stage.now_ms() + DRAIN_MS;
        self.until(limit_ms, "the auditor does not come to an end", |_, done| Ok(done))?;
        out.take().ok_or_else(|| format!("{auditor} wrote nothing down"))
    }

    /// Steps until `is_over`, which is told whether every client has come to its end. Later than `limit_ms`, that is
    /// an error.
    fn until(
        &mut self,
        limit_ms: u64,
        otherwise: &str,
        mut is_over: impl FnMut(&World, bool) -> Result<bool, String>,
    ) -> Result<(), String> {
        loop {
            let now_ms = self.sim.elapsed().as_millis() as u64;
            let stage = self.cluster.stage.clone();
            stage.set_now_ms(now_ms);
            while self.faults.front().is_some_and(|(at, _)| *at <= now_ms)
                && let Some((_, fault)) = self.faults.pop_front()
            {
                self.strike(fault)?;
            }
            self.bury();
            let is_done = self.sim.step().map_err(|failure| failure.to_string())?;
            if let Some(panic) = panicked() {
                return Err(format!("panic: {panic}"));
            }
            let looks = now_ms >= self.looked_ms + LOOK_MS;
            if looks {
                self.looked_ms = now_ms;
            }
            self.cluster.lookout.borrow_mut().look(&self.cluster, looks)?;
            if let Some(sentence) = stage.broken() {
                return Err(sentence);
            }
            if is_over(self, is_done)? {
                return Ok(());
            }
            if now_ms > limit_ms {
                return Err(otherwise.to_owned());
            }
        }
    }

    /// The node that a fault strikes now.
    fn node(&self, target: Target) -> Option<Rc<Node>> {
        let leads = |node: &&Rc<Node>| {
            let services = node.services();
            let partition = services.and_then(|services| {
                let topic = services.metadata.image().topics.by_name(TOPICS[0].0)?.id;
                services.partitions.of_topic(topic).first().cloned()
            });
            partition.is_some_and(|partition| partition.leader_epoch().is_some())
        };
        let is_active = |node: &&Rc<Node>| node.services().is_some_and(|services| services.metadata.is_active());
        let leads_quorum =
            |node: &&Rc<Node>| node.services().is_some_and(|services| services.metadata.quorum_state().is_some());
        let mut nodes = self.cluster.nodes.iter();
        match target {
            Target::Node(index) => nodes.nth(index).cloned(),
            Target::Controller => nodes.find(is_active).cloned(),
            Target::Quorum => nodes.find(leads_quorum).cloned(),
            Target::Leader => nodes.find(leads).cloned(),
        }
    }

    fn strike(&mut self, fault: Fault) -> Result<(), String> {
        self.cluster.stage.note("world", format_args!("{fault:?}"));
        match fault {
            Fault::Crash { target, records_kept, metadata_kept } => {
                if let Some(node) = self.node(target).filter(|node| !self.down.contains(&node.index)) {
                    self.crash(&node, records_kept, metadata_kept)?;
                }
            }
            Fault::Wipe(node) => {
                // One that was told to stop may still be about it.
                if self.down.contains(&node) && self.cluster.nodes[node].process().is_none() {
                    self.cluster.nodes[node].wipe(self.seed);
                    self.cluster.lookout.borrow_mut().wiped(node);
                }
            }
            Fault::Stop(target) => {
                if let Some(node) = self.node(target).filter(|node| !self.down.contains(&node.index)) {
                    self.down.push_back(node.index);
                    node.stop();
                }
            }
            Fault::Restart => {
                if let Some(node) = self.down.pop_front() {
                    self.restart(node)?;
                }
            }
            Fault::Pause(target) => {
                if let Some(process) = self.node(target).and_then(|node| node.process()) {
                    process.env.pause();
                    self.paused.push_back(process);
                }
            }
            Fault::Resume => self.paused.pop_front().into_iter().for_each(|process| process.env.resume()),
            Fault::DiskDelay(target, most) => {
                if let Some(node) = self.node(target) {
                    node.disks().set_delay_max(most);
                }
            }
            Fault::DisksAsUsual => self.mend_disks(),
            Fault::Cut(a, b) => self.sim.partition(a, b),
            Fault::CutOneWay(from, to) => self.sim.partition_oneway(from, to),
            Fault::Hold(a, b) => self.sim.hold(a, b),
            Fault::Slow(a, b, most) => self.sim.set_link_max_message_latency(a, b, most),
            Fault::Isolate(index) => self.isolate(index),
            Fault::Rejoin => self.rejoin(),
            Fault::Mend(a, b) => self.mend(a, b),
            Fault::Heal => self.heal_all()?,
        }
        Ok(())
    }

    fn crash(&mut self, node: &Node, records_kept: u8, metadata_kept: u8) -> Result<(), String> {
        self.cluster.lookout.borrow_mut().before_end(&self.cluster, node.index)?;
        self.sim.crash(node.name());
        node.forget_process();
        let (disks, share) = (node.disks(), |count: usize, kept: u8| (count * usize::from(kept)).div_ceil(255));
        let unsynced = disks.unsynced();
        disks.crash(share(unsynced.0, records_kept), share(unsynced.1, metadata_kept));
        self.down.push_back(node.index);
        Ok(())
    }

    /// Ends the processes that have stopped.
    fn bury(&mut self) {
        for node in self.cluster.nodes.clone().iter().filter(|node| node.has_stopped()) {
            self.sim.crash(node.name());
            node.forget_process();
            self.cluster.lookout.borrow_mut().forget_images(node.index);
        }
    }

    fn restart(&mut self, node: usize) -> Result<(), String> {
        let node = self.cluster.nodes[node].clone();
        // One that was told to stop and is still about it is killed.
        self.cluster.lookout.borrow_mut().before_end(&self.cluster, node.index)?;
        node.forget_process();
        self.sim.bounce(node.name());
        Ok(())
    }

    /// What waited on the way arrives, as far as it was not lost.
    fn mend(&mut self, a: &'static str, b: &'static str) {
        self.sim.release(a, b);
        self.sim.set_link_max_message_latency(a, b, self.cluster.plan.latency_max);
    }

    /// Cuts the leader of a partition off from the other nodes.
    fn isolate(&mut self, index: usize) {
        let Some((topic, partition)) = spots().nth(index) else { return };
        let leads = |node: &&Rc<Node>| {
            let services = node.services();
            let hosted = services.and_then(|services| {
                let topic = services.metadata.image().topics.by_name(topic)?.id;
                services.partitions.hosted(TopicIdPartition { topic, partition }).ok()
            });
            hosted.is_some_and(|hosted| hosted.leader_epoch().is_some())
        };
        let nodes = &self.cluster.nodes;
        let Some(leader) = nodes.iter().find(leads) else { return };
        for other in nodes.iter().filter(|node| node.index != leader.index) {
            self.sim.partition(leader.name(), other.name());
        }
        self.isolated.push(leader.index);
    }

    fn rejoin(&mut self) {
        let names: Vec<&'static str> = self.cluster.nodes.iter().map(|node| node.name()).collect();
        for node in std::mem::take(&mut self.isolated) {
            names.iter().filter(|name| **name != names[node]).for_each(|other| self.mend(names[node], other));
        }
    }

    fn mend_disks(&self) {
        let usual = self.cluster.plan.disk_delay;
        self.cluster.nodes.iter().for_each(|node| node.disks().set_delay_max(usual));
    }

    fn heal_all(&mut self) -> Result<(), String> {
        while let Some(node) = self.down.pop_front() {
            self.restart(node)?;
        }
        self.paused.drain(..).for_each(|process| process.env.resume());
        let names: Vec<&'static str> = self.cluster.nodes.iter().map(|node| node.name()).collect();
        self.mend_disks();
        for (index, &name) in names.iter().enumerate() {
            for &other in names[index + 1..].iter().chain(&HOSTS) {
                self.mend(name, other);
            }
        }
        Ok(())
    }
}
