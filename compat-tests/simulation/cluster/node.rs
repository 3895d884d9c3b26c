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

use super::plan::{NODES, Plan};
use crate::net::SimulatedNet;
use crate::stage::Stage;
use crate::workload::WALL_START_MS;

/// What runs between a start and a crash.
#[derive(Clone)]
pub struct Process {
    pub env: Env,
    /// `None` until the node has become part of its cluster.
    pub services: Option<Arc<Services>>,
}

/// See the file's head.
pub struct Node {
    /// Where it stands in [`NODES`]; its id is one more.
    pub index: usize,
    pub disks: SimulatedDisks,
    life: Cell<u32>,
    process: RefCell<Option<Process>>,
}

impl Node {
    pub fn new(index: usize, cluster_id: KafkaUuid, directory_id: KafkaUuid) -> Node {
        let disks = SimulatedDisks::new(cluster_id, directory_id);
        Node { index, disks, life: Cell::new(0), process: RefCell::new(None) }
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

    /// What runs, if it is part of its cluster.
    pub fn services(&self) -> Option<Arc<Services>> {
        self.process.borrow().as_ref().and_then(|process| process.services.clone())
    }

    /// The process that runs, as far as it is.
    pub fn process(&self) -> Option<Process> {
        self.process.borrow().clone()
    }

    /// Its process is no more.
    pub fn forget_process(&self) {
        self.process.borrow_mut().take();
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

/// One life of a node: from its start until it is crashed. It never ends by itself.
pub async fn live(stage: Rc<Stage>, node: Rc<Node>, plan: Rc<Plan>, seed: u64) -> turmoil::Result {
    node.life.set(node.life.get() + 1);
    let (life, name) = (node.life.get(), node.name());
    // A crash may come with a wall clock that is set anew.
    let lot = seed ^ (u64::from(life) << 8) ^ (node.index as u64 + 1);
    let skew_ms = ChaCha12Rng::seed_from_u64(lot).random_range(-500..2_000);
    let wall_ms = WALL_START_MS + stage.now_ms() as i64 + skew_ms;
    let number = seed.wrapping_mul(1_000).wrapping_add(u64::from(life)).wrapping_mul(8) + node.index as u64;
    let env = Env::simulated(number, wall_ms, Arc::new(SimulatedNet));
    *node.process.borrow_mut() = Some(Process { env: env.clone(), services: None });
    let sources = Sources { overrides: node.settings(&plan), ..Sources::default() };
    let loaded = Config::load(sources)?;
    let start = Start { loaded, cluster_id: None, announce: false };
    let server = Server::start_simulated(env.clone(), start, &node.disks).await?;
    *node.process.borrow_mut() = Some(Process { env, services: Some(server.services().clone()) });
    stage.note(name, format_args!("is ready, life {life}"));
    Err(format!("{name} ended by itself: {}", server.failed().await).into())
}
