//! One run: a world made from a seed, the broker in it, and what the seed does to it.
//!
//! A run has three parts: load with faults; calm, in which everything is read and written down; a power cut when
//! nothing is going on, after which everything is read and written down again.
//!
//! Invariants: the disks are all that outlives the broker's process; the world is driven from outside, step by
//! step, and between two steps nothing runs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime};

use ottla::config::{Config, Sources};
use ottla::env::Env;
use ottla::ids::KafkaUuid;
use ottla::server::{Server, SimulatedDisks, Start};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use turmoil::Sim;

use crate::faults::{Fault, HOSTS, Plan};
use crate::net::SimulatedNet;
use crate::stage::Stage;
use crate::workload::auditor::{Description, audit};
use crate::workload::{self, WALL_START_MS};

const BROKER: &str = "broker";
/// Everything must have come to an end this long after the load.
const LIMIT_MS: u64 = 120_000;

/// What a run without a broken invariant leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub events: u64,
    /// Of every event with its time.
    pub hash: u64,
    pub simulated_ms: u64,
    pub starts: u32,
    pub acknowledged: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { events, hash, simulated_ms, starts, acknowledged } = self;
        write!(f, "events={events} hash={hash} simulated_ms={simulated_ms} starts={starts} acknowledged={acknowledged}")
    }
}

impl FromStr for Report {
    type Err = String;

    fn from_str(line: &str) -> Result<Report, String> {
        let mut numbers =
            line.split(' ').map(|field| field.split_once('=').and_then(|(_, number)| number.parse().ok()));
        let mut next = || numbers.next().flatten().ok_or_else(|| format!("not a report: {line}"));
        let (events, hash, simulated_ms, starts, acknowledged): (u64, u64, u64, u64, u64) =
            (next()?, next()?, next()?, next()?, next()?);
        Ok(Report { events, hash, simulated_ms, starts: starts as u32, acknowledged: acknowledged as usize })
    }
}

/// A broken invariant.
#[derive(Debug)]
pub struct Broken {
    test: &'static str,
    pub seed: u64,
    pub sentence: String,
    pub last_lines: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Broken { test, seed, sentence, last_lines } = self;
        write!(
            f,
            "{last_lines}seed {seed}: {sentence}\nonce more, with the whole trace:\n  OTTLA_SEED={seed} cargo test \
             --release --test simulation {test} -- --nocapture"
        )
    }
}

thread_local! {
    static IS_SIMULATING: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of a simulated world are kept instead of printed: a runtime swallows what its tasks had to say.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_SIMULATING.get() {
                PANIC.with_borrow_mut(|kept| _ = kept.get_or_insert(panic.to_string()));
            } else {
                print(panic);
            }
        }));
    });
}

/// The first panic of this thread's world.
pub fn panicked() -> Option<String> {
    PANIC.with_borrow(Clone::clone)
}

/// Plays one seed to its end. With `is_told` the trace is printed.
pub fn run(seed: u64, is_told: bool) -> Result<Report, Broken> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let plan = Plan::draw(&mut rng);
    let stage = Rc::new(Stage::new(plan.load_ends_ms, is_told));
    enact("a_thousand_seeds", seed, &stage, || World::new(seed, plan, stage.clone(), rng).play())
}

/// Has a world play, and says what came of it. `test` is the beginning of the test that plays this seed alone.
pub fn enact(
    test: &'static str,
    seed: u64,
    stage: &Stage,
    play: impl FnOnce() -> Result<u64, String>,
) -> Result<Report, Broken> {
    keep_panics();
    IS_SIMULATING.set(true);
    let played = std::panic::catch_unwind(AssertUnwindSafe(play));
    IS_SIMULATING.set(false);
    let outcome = match (PANIC.take(), played) {
        (Some(panic), _) => Err(format!("panic: {panic}")),
        (None, Ok(outcome)) => outcome,
        (None, Err(_)) => Err("panic without a word".to_owned()),
    };
    match outcome {
        Ok(simulated_ms) => {
            let (events, hash) = stage.fingerprint();
            let acknowledged = stage.ledger().logs.values().map(|log| log.acknowledged_count()).sum();
            Ok(Report { events, hash, simulated_ms, starts: stage.starts(), acknowledged })
        }
        Err(sentence) => Err(Broken { test, seed, sentence, last_lines: stage.last_lines() }),
    }
}

/// The settings of the broker under test.
fn settings(plan: &Plan) -> Vec<(String, String)> {
    let settings = [
        ("listeners", "PLAINTEXT://0.0.0.0:9092".to_owned()),
        ("advertised.listeners", format!("PLAINTEXT://{BROKER}:9092")),
        ("auto.create.topics.enable", "false".to_owned()),
        ("offsets.topic.num.partitions", "2".to_owned()),
        ("group.initial.rebalance.delay.ms", plan.rebalance_delay_ms.to_string()),
        ("group.min.session.timeout.ms", "1000".to_owned()),
        ("ottla.metrics.listener", String::new()),
        ("ottla.tail.cache.bytes", plan.tail_cache_bytes.to_string()),
    ];
    settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// One life of the broker: from its start until it is crashed. It never ends by itself.
async fn live(stage: Rc<Stage>, disks: Rc<SimulatedDisks>, plan: Plan, seed: u64) -> turmoil::Result {
    let life = stage.begin_life();
    // A crash may come with a wall clock that is set anew.
    let skew_ms = ChaCha12Rng::seed_from_u64(seed ^ u64::from(life)).random_range(-500..2_000);
    let wall_ms = WALL_START_MS + stage.now_ms() as i64 + skew_ms;
    let env = Env::simulated(seed.wrapping_mul(1_000).wrapping_add(u64::from(life)), wall_ms, Arc::new(SimulatedNet));
    let sources = Sources { overrides: settings(&plan), ..Sources::default() };
    let loaded = Config::load(sources)?;
    let start = Start { loaded, cluster_id: None, announce: false };
    let server = Server::start_simulated(env, start, &disks, |_| {}).await?;
    stage.note(BROKER, format_args!("is ready, life {life}"));
    Err(format!("the broker ended by itself: {}", server.failed().await).into())
}

struct World {
    sim: Sim<'static>,
    seed: u64,
    stage: Rc<Stage>,
    disks: Rc<SimulatedDisks>,
    faults: VecDeque<(u64, Fault)>,
    append_time: bool,
    limit_ms: u64,
}

impl World {
    fn new(seed: u64, plan: Plan, stage: Rc<Stage>, mut rng: ChaCha12Rng) -> World {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_millis(WALL_START_MS.unsigned_abs()))
            .tick_duration(Duration::from_millis(1))
            .simulation_duration(Duration::from_secs(24 * 3600))
            .max_message_latency(plan.latency_max)
            .tcp_capacity(4096)
            .build();
        let (cluster_id, directory_id) = (KafkaUuid(rng.random()), KafkaUuid(rng.random()));
        let disks = Rc::new(SimulatedDisks::new(cluster_id, directory_id));
        let faults = plan.faults.iter().copied().collect();
        let (append_time, limit_ms) = (plan.append_time, plan.load_ends_ms + LIMIT_MS);
        let (of_broker, its_disks) = (stage.clone(), disks.clone());
        sim.host(BROKER, move || live(of_broker.clone(), its_disks.clone(), plan.clone(), seed));
        World { sim, seed, stage, disks, faults, append_time, limit_ms }
    }

    /// The simulated time it took, in milliseconds, or the first broken invariant.
    fn play(&mut self) -> Result<u64, String> {
        for (index, host) in HOSTS.into_iter().enumerate() {
            self.sim.client(host, workload::play(self.stage.clone(), self.seed, index, self.append_time));
        }
        self.until_done()?;
        let before = self.describe("auditor-1")?;
        let nothing_kept = Fault::Crash { records_kept: 0, metadata_kept: 0 };
        let now_ms = self.stage.now_ms();
        self.faults = VecDeque::from([(now_ms, nothing_kept), (now_ms + 100, Fault::Restart)]);
        let after = self.describe("auditor-2")?;
        before.compare(&after)?;
        Ok(self.stage.now_ms())
    }

    fn describe(&mut self, auditor: &'static str) -> Result<Description, String> {
        let out = Rc::new(RefCell::new(None));
        self.sim.client(auditor, audit(self.stage.clone(), auditor, out.clone()));
        self.until_done()?;
        out.take().ok_or_else(|| format!("{auditor} wrote nothing down"))
    }

    /// Steps until every client has come to its end.
    fn until_done(&mut self) -> Result<(), String> {
        loop {
            let now_ms = self.sim.elapsed().as_millis() as u64;
            self.stage.set_now_ms(now_ms);
            while let Some(&(at, fault)) = self.faults.front()
                && at <= now_ms
            {
                self.faults.pop_front();
                self.strike(fault);
            }
            let is_done = self.sim.step().map_err(|failure| failure.to_string())?;
            if let Some(panic) = panicked() {
                return Err(format!("panic: {panic}"));
            }
            if let Some(sentence) = self.stage.broken() {
                return Err(sentence);
            }
            if is_done {
                return Ok(());
            }
            if now_ms > self.limit_ms {
                return Err("the clients do not come to an end".to_owned());
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        let unsynced = self.disks.unsynced();
        self.stage.note("world", format_args!("{fault:?}, unsynced {unsynced:?}"));
        match fault {
            Fault::Crash { records_kept, metadata_kept } => {
                self.sim.crash(BROKER);
                let share = |count: usize, kept: u8| (count * usize::from(kept)).div_ceil(255);
                self.disks.crash(share(unsynced.0, records_kept), share(unsynced.1, metadata_kept));
            }
            Fault::Restart => self.sim.bounce(BROKER),
            Fault::DiskDelay(most) => self.disks.records.set_delay_max(most),
            Fault::Cut(host) => self.sim.partition(BROKER, HOSTS[host]),
            Fault::CutOneWay { host, to_broker: true } => self.sim.partition_oneway(HOSTS[host], BROKER),
            Fault::CutOneWay { host, to_broker: false } => self.sim.partition_oneway(BROKER, HOSTS[host]),
            Fault::Mend(host) => self.sim.repair(BROKER, HOSTS[host]),
            Fault::Hold(host) => self.sim.hold(BROKER, HOSTS[host]),
            Fault::Release(host) => self.sim.release(BROKER, HOSTS[host]),
        }
    }
}
