//! One node of the cluster: its disks, which outlive its process, and the process that runs at the moment.
//!
//! Invariant: what the checkers look at is the running process's own state, and they only read it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ottla::api::Services;
use ottla::config::{Config, Sources};
use ottla::env::Env;
use ottla::ids::KafkaUuid;
use ottla::server::{Server, SimulatedDisks, Start};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tokio::sync::Notify;

use super::plan::{NODES, Plan};
use crate::net::SimulatedNet;
use crate::stage::Stage;
use crate::workload::WALL_START_MS;

/// What runs between a start and a crash.
#[derive(Clone)]
pub struct Process {
    pub env: Env,
    /// `None` until there is anything to look at.
    pub services: Option<Arc<Services>>,
    /// The node has become part of its cluster.
    is_ready: bool,
    stop: Rc<Notify>,
}

/// See the file's head.
pub struct Node {
    /// Where it stands in [`NODES`]; its id is one more.
    pub index: usize,
    cluster_id: KafkaUuid,
    snapshot_log_bytes: u64,
    disks: RefCell<Rc<SimulatedDisks>>,
    life: Cell<u32>,
    has_stopped: Cell<bool>,
    process: RefCell<Option<Process>>,
}

impl Node {
    /// A node with empty disks; their ids come from `lot`.
    pub fn new(index: usize, plan: &Plan, cluster_id: KafkaUuid, lot: u64) -> Node {
        let node = Node {
            index,
            cluster_id,
            snapshot_log_bytes: plan.snapshot_log_bytes,
            disks: RefCell::new(Rc::new(SimulatedDisks::new(cluster_id, KafkaUuid::ZERO))),
            life: Cell::new(0),
            has_stopped: Cell::new(false),
            process: RefCell::new(None),
        };
        node.wipe(lot);
        node.disks().set_delay_max(plan.disk_delay);
        node
    }

    /// Its disks are replaced by empty ones.
    pub fn wipe(&self, lot: u64) {
        let id = (u128::from(lot) << 32) | ((self.index as u128 + 1) << 16) | (u128::from(self.life()) + 1_000);
        let mut disks = SimulatedDisks::new(self.cluster_id, KafkaUuid(id));
        disks.snapshot_log_bytes = self.snapshot_log_bytes;
        *self.disks.borrow_mut() = Rc::new(disks);
    }

    pub fn disks(&self) -> Rc<SimulatedDisks> {
        self.disks.borrow().clone()
    }

    pub fn id(&self) -> i32 {
        self.index as i32 + 1
    }

    pub fn name(&self) -> &'static str {
        NODES[self.index]
    }

    /// How many times it was started.
    pub fn life(&self) -> u32 {
        self.life.get()
    }

    /// Whether it is part of its cluster.
    pub fn is_ready(&self) -> bool {
        self.process.borrow().as_ref().is_some_and(|process| process.is_ready)
    }

    /// What runs, be it part of its cluster yet or not.
    pub fn services(&self) -> Option<Arc<Services>> {
        self.process.borrow().as_ref().and_then(|process| process.services.clone())
    }

    /// The process that runs, as far as it is.
    pub fn process(&self) -> Option<Process> {
        self.process.borrow().clone()
    }

    /// Tells its process to stop in good order.
    pub fn stop(&self) {
        if let Some(process) = self.process() {
            process.stop.notify_one();
        }
    }

    /// True once the process has done what it does before it exits.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped.get()
    }

    /// Its process is no more.
    pub fn forget_process(&self) {
        self.process.borrow_mut().take();
        self.has_stopped.set(false);
    }

    /// The world ends the process, and its connections with it.
    async fn exit(&self) -> turmoil::Result {
        self.has_stopped.set(true);
        std::future::pending().await
    }

    /// Its settings.
    fn settings(&self, plan: &Plan) -> Vec<(String, String)> {
        let name = self.name();
        let roles = plan.roles[self.index];
        let voters = plan.controllers().map(|index| format!("{}@{}:9093", index + 1, NODES[index]));
        let mut settings = vec![
            ("node.id", self.id().to_string()),
            ("process.roles", roles.text().to_owned()),
            ("controller.quorum.voters", voters.collect::<Vec<_>>().join(",")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("listeners", roles.listeners().to_owned()),
            ("initial.broker.registration.timeout.ms", "600000".to_owned()),
            ("broker.heartbeat.interval.ms", "500".to_owned()),
            ("broker.session.timeout.ms", "3000".to_owned()),
            ("controller.quorum.fetch.timeout.ms", plan.fetch_timeout_ms.to_string()),
            ("replica.lag.time.max.ms", "3000".to_owned()),
            ("replica.socket.timeout.ms", "3000".to_owned()),
            ("leader.imbalance.check.interval.seconds", "20".to_owned()),
            ("min.insync.replicas", plan.min_isr.to_string()),
            ("default.replication.factor", "3".to_owned()),
            ("auto.create.topics.enable", "false".to_owned()),
            ("offsets.topic.num.partitions", "2".to_owned()),
            ("offsets.topic.replication.factor", "3".to_owned()),
            ("group.initial.rebalance.delay.ms", "50".to_owned()),
            ("group.min.session.timeout.ms", "1000".to_owned()),
            ("ottla.metrics.listener", String::new()),
            ("ottla.tail.cache.bytes", plan.tail_cache_bytes.to_string()),
        ];
        if roles.broker {
            settings.push(("advertised.listeners", format!("PLAINTEXT://{name}:9092")));
        }
        settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// One life of a node: from its start until it is crashed, or has stopped because it was told to.
pub async fn live(stage: Rc<Stage>, node: Rc<Node>, plan: Rc<Plan>, seed: u64) -> turmoil::Result {
    node.life.set(node.life.get() + 1);
    stage.count_start();
    let (life, name) = (node.life.get(), node.name());
    // A crash may come with a wall clock that is set anew.
    let lot = seed ^ (u64::from(life) << 8) ^ (node.index as u64 + 1);
    let skew_ms = ChaCha12Rng::seed_from_u64(lot).random_range(-500..2_000);
    let wall_ms = WALL_START_MS + stage.now_ms() as i64 + skew_ms;
    let number = seed.wrapping_mul(1_000).wrapping_add(u64::from(life)).wrapping_mul(8) + node.index as u64;
    let env = Env::simulated(number, wall_ms, Arc::new(SimulatedNet));
    let stop = Rc::new(Notify::new());
    *node.process.borrow_mut() =
        Some(Process { env: env.clone(), services: None, is_ready: false, stop: stop.clone() });
    let of_process = |change: &dyn Fn(&mut Process)| node.process.borrow_mut().iter_mut().for_each(change);
    let sources = Sources { overrides: node.settings(&plan), ..Sources::default() };
    let loaded = Config::load(sources)?;
    let start = Start { loaded, cluster_id: None, announce: false };
    let disks = node.disks();
    let server = tokio::select! {
        biased;
        server = Server::start_simulated(env, start, &disks, |services| {
            of_process(&|process| process.services = Some(services.clone()));
        }) => server?,
        () = stop.notified() => {
            stage.note(name, format_args!("is stopped before it was ready, life {life}"));
            return node.exit().await;
        }
    };
    of_process(&|process| process.is_ready = true);
    stage.note(name, format_args!("is ready, life {life}"));
    tokio::select! {
        biased;
        why = server.failed() => return Err(format!("{name} ended by itself: {why}").into()),
        () = stop.notified() => {}
    }
    server.stop().await;
    stage.note(name, format_args!("has stopped, life {life}"));
    node.exit().await
}
