//! The only door to raft: start the quorum, propose a round, watch who leads.
//!
//! A quorum of one voter is the same code as one of many, but for its start: it elects itself without waiting. Voters
//! are *static* (every node has the same list of them in its settings, and begins with it) or *dynamic* (they are in
//! the log, and change by requests; KIP-853). Invariants: nothing outside this folder names openraft; a proposal whose
//! fate is not known is `Unknown`, never a failure; library randomness comes from the seed drawn from `Env` at start.

mod describe;
mod format;
mod founding;
mod keeper;
mod log_store;
mod messages;
mod network;
mod outside;
mod published;
mod pull;
pub mod rocks_store;
mod roster;
mod serve;
mod settings;
mod state_machine;
pub mod store;
pub mod stored;
mod types;
mod voters;
mod watchdog;
mod writer;

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Config, Instant as _, Raft, ReadPolicy, ServerState, SnapshotPolicy};
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

pub use describe::{QuorumReplica, QuorumState};
pub use founding::Founding;
pub use outside::Outside;
pub use published::Published;
pub use settings::QuorumSettings;
pub use types::{Member, MemberEndpoint, VoterId};
pub use voters::VoterChange;

use crate::env::Env;
use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::image::{ClusterImage, ImageIndex};
use crate::metadata::quorum::describe::CaughtUp;
use crate::metadata::quorum::format::Proposal;
use crate::metadata::quorum::keeper::Keeper;
use crate::metadata::quorum::log_store::LogStore;
use crate::metadata::quorum::network::{Connections, Sender};
use crate::metadata::quorum::pull::{LeaderHint, Puller};
use crate::metadata::quorum::roster::Roster;
use crate::metadata::quorum::serve::Conversations;
use crate::metadata::quorum::state_machine::Machine;
use crate::metadata::quorum::store::MetaStore;
use crate::metadata::quorum::types::{Outcome, QuorumTypes};
use crate::metadata::quorum::writer::Writer;
use crate::metadata::record::MetadataRecord;
use crate::peer::Address;
use crate::sabotage;

/// How long a proposal may take before its fate counts as unknown.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause before a leader that could not confirm that it leads looks again.
const LEADING_PAUSE: Duration = Duration::from_millis(20);

/// How fast voters notice that one of them is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    pub heartbeat_ms: u64,
    /// A voter that hears nothing for this long, drawn anew each time, stands for election.
    pub election_ms: (u64, u64),
}

impl Default for Timing {
    /// For voters on one network (replication.md 6.2).
    fn default() -> Timing {
        Timing { heartbeat_ms: 200, election_ms: (800, 1600) }
    }
}

impl Timing {
    /// The timing with which a leader that is gone is noticed within `fetch_timeout_ms`
    /// (`controller.quorum.fetch.timeout.ms`).
    pub fn noticing_within(fetch_timeout_ms: u64) -> Timing {
        let longest = (fetch_timeout_ms * 4 / 5).max(100);
        Timing { heartbeat_ms: longest / 8, election_ms: (longest / 2, longest) }
    }
}

type Library = Raft<QuorumTypes, Machine>;

/// Why the quorum cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The store cannot be read or written, or holds what we cannot read.
    Store(io::Error),
    /// The store belongs to another node, directory or cluster.
    Identity(String),
    /// Raft, or the first round of the new controller, failed.
    Quorum(String),
}

impl Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Store(error) => write!(f, "the metadata store: {error}"),
            StartError::Identity(why) => write!(f, "the metadata store is not ours: {why}"),
            StartError::Quorum(why) => write!(f, "the metadata quorum: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError::Store(error)
    }
}

fn quorum_error(error: impl Display) -> StartError {
    StartError::Quorum(error.to_string())
}

/// What became of a proposal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proposed {
    /// It is part of the image; the next record will have the offset `next`.
    Applied { next: i64 },
    /// It had no effect: the image was not the one it was decided from.
    Stale,
    /// It was not proposed: this node does not lead.
    NotLeader,
    /// It may or may not take effect some time.
    Unknown(String),
}

/// A member of the metadata quorum, or one that may become it. Cheap to clone.
#[derive(Clone)]
pub struct Quorum {
    raft: Library,
    env: Env,
    published: Arc<Published>,
    sender: Sender,
    conversations: Arc<Conversations>,
    /// The leader that others name while this node is no member.
    hint: LeaderHint,
    /// When a leader last brought something, if only that it is there.
    led: Arc<Mutex<Instant>>,
    timing: Timing,
    snapshot_log_bytes: u64,
    /// False as long as it is not known whether this node may vote at all.
    admitted: Arc<AtomicBool>,
    /// Why this node must not go on, as soon as there is a reason.
    verdict: Arc<watch::Sender<Option<String>>>,
    /// Held while the voters change.
    changing: Arc<tokio::sync::Mutex<()>>,
    caught_up: Arc<CaughtUp>,
    /// The listener at which every controller is found.
    listener: Arc<str>,
}

/// What a quorum is started with.
pub struct QuorumOptions {
    pub store: Arc<dyn MetaStore>,
    pub node: BrokerId,
    /// The id of the directory the store is in.
    pub directory: KafkaUuid,
    /// The cluster this node was told to belong to; zero if it was told none.
    pub cluster_id: KafkaUuid,
    pub founding: Founding,
    /// What the membership shall say of this node.
    pub member: Member,
    /// This controller has itself added to the voters.
    pub auto_join: bool,
    /// Where other controllers may be found, by the settings.
    pub seeds: Vec<Address>,
    pub timing: Timing,
    /// The log is replaced by a snapshot when it is heavier than this, and than the last snapshot.
    pub snapshot_log_bytes: u64,
}

impl Quorum {
    /// Starts this node on a fresh store or on the one it left. The only voter of its quorum leads when this returns;
    /// one of several has just begun to look for the others.
    pub async fn start(env: &Env, options: QuorumOptions) -> Result<Quorum, StartError> {
        let QuorumOptions { founding, member, timing, snapshot_log_bytes, .. } = options;
        let is_dynamic = !matches!(founding, Founding::Static { .. });
        let me = founding.voter_id(options.node, options.directory);
        let writer = Writer::start(env, options.store.clone());
        let opening = Opening { env: env.clone(), store: options.store, writer: writer.clone(), founding };
        let (log, machine, sender, founding) = env.blocking(move || opening.open(me, options.cluster_id)).await?;
        let published = sender.published.clone();
        let config = Arc::new(config(timing)?);
        let raft = scoped(env, Raft::new(me, config, Connections(sender.clone()), log, machine));
        let quorum = Quorum {
            raft: raft.await.map_err(quorum_error)?,
            env: env.clone(),
            published,
            sender,
            conversations: Arc::default(),
            hint: LeaderHint::default(),
            led: Arc::new(Mutex::new(env.now())),
            timing,
            snapshot_log_bytes,
            admitted: Arc::new(AtomicBool::new(false)),
            verdict: Arc::new(watch::Sender::new(None)),
            changing: Arc::default(),
            caught_up: Arc::default(),
            listener: member.endpoints.first().map_or("CONTROLLER", |endpoint| &endpoint.listener).into(),
        };
        if let Err(error) = scoped(env, quorum.found(founding, member.clone())).await {
            quorum.shutdown().await;
            return Err(error);
        }
        env.spawn(watchdog::watch(quorum.clone(), writer));
        if is_dynamic {
            env.spawn(Keeper { quorum: quorum.clone(), member, auto_join: options.auto_join }.run());
            let puller = Puller::new(quorum.sender.clone(), options.seeds, quorum.hint.clone());
            let of_puller = quorum.clone();
            env.spawn(puller.run(move || !of_puller.is_member()));
        }
        Ok(quorum)
    }

    /// True if this node may vote and be counted.
    fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// True if this node is the only voter: nobody else can lead, and nothing needs to be waited for.
    pub fn is_alone(&self) -> bool {
        self.raft.voter_ids().eq([self.sender.me])
    }

    /// True if this node votes, or is about to.
    pub fn is_member(&self) -> bool {
        let listed = self.raft.metrics().borrow_watched().membership_config.get_node(&self.sender.me).is_some();
        listed && !self.is_left_alone()
    }

    /// True if no leader has been heard for long, and this node is none. A voter that is removed is not told: the entry
    /// that says so is no longer brought to it.
    fn is_left_alone(&self) -> bool {
        let silence = Duration::from_millis(2 * self.timing.election_ms.1);
        !self.leads() && self.env.now().saturating_duration_since(*self.led.lock()) > silence
    }

    fn note_leader(&self) {
        *self.led.lock() = self.env.now();
    }

    /// Where images are published.
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// The newest image.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.published.image()
    }

    /// Waits until this node leads and has applied everything that was ever answered; an error is final.
    pub async fn leading(&self) -> Result<(), String> {
        let mut metrics = self.raft.metrics();
        loop {
            let (leads, running) = {
                let now = metrics.borrow_watched();
                (now.state == ServerState::Leader, now.running_state.clone())
            };
            running.map_err(|fatal| fatal.to_string())?;
            if leads {
                if self.caught_up().await? {
                    return Ok(());
                }
                // It is handing over, or has lost the others: asking whether it leads is an event in itself.
                self.env.sleep(LEADING_PAUSE).await;
                continue;
            }
            metrics.changed().await.map_err(|_| "raft has ended".to_owned())?;
        }
    }

    /// Applies the whole log; `false` if leadership was lost meanwhile.
    async fn caught_up(&self) -> Result<bool, String> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => {}
            Err(RaftError::Fatal(fatal)) => return Err(fatal.to_string()),
            Err(RaftError::APIError(_)) => return Ok(false),
        }
        // The read index of a leader that restarted knows only the commit point it managed to write down. What it
        // answered since then lies behind that in the log, until another entry commits it (issue 1511).
        let behind = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            now.last_applied.map(|id| id.index) < now.last_log_index
        };
        if !behind {
            return Ok(true);
        }
        match self.raft.write_blank().await {
            Ok(_) => Ok(true),
            Err(RaftError::Fatal(fatal)) => Err(fatal.to_string()),
            Err(RaftError::APIError(_)) => Ok(false),
        }
    }

    /// Brings a change of voters that was interrupted to its end: raft itself waits for somebody to do so.
    pub async fn finish_change(&self) -> Result<(), String> {
        let is_joint = self.raft.metrics().borrow_watched().membership_config.get_joint_config().len() > 1;
        if !is_joint {
            return Ok(());
        }
        tracing::info!("a change of voters that was interrupted is brought to its end");
        let nobody = ChangeMembers::AddVoterIds(Default::default());
        self.raft.change_membership(nobody, false).await.map(drop).map_err(|error| error.to_string())
    }

    /// True while raft follows this node, as far as it can know: most voters have answered it of late.
    fn leads(&self) -> bool {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        if now.state != ServerState::Leader || now.running_state.is_err() {
            return false;
        }
        let lease = Duration::from_millis(2 * self.timing.election_ms.1);
        now.membership_config.voter_ids().nth(1).is_none()
            || now.last_quorum_acked.is_none_or(|acked| acked.elapsed() < lease)
    }

    /// Waits until this node does not lead any more.
    pub async fn deposed(&self) {
        let mut metrics = self.raft.metrics();
        while self.leads() {
            // That the others are silent is no event.
            let patience = Duration::from_millis(self.timing.heartbeat_ms);
            if let Some(Err(_)) = self.env.timeout(patience, metrics.changed()).await {
                return;
            }
        }
    }

    /// Proposes records that were decided from the image with the index `stamp`, and waits for their fate.
    pub async fn propose(&self, stamp: ImageIndex, records: Vec<MetadataRecord>) -> Proposed {
        let round = Proposal { stamp, wall_ms: self.env.wall_ms(), records }.encode();
        let written = tokio::select! {
            biased;
            written = self.raft.client_write(round) => written,
            () = self.env.sleep(PROPOSAL_TIMEOUT) => {
                return Proposed::Unknown(format!("no answer within {PROPOSAL_TIMEOUT:?}"));
            }
            () = self.deposed() => return Proposed::Unknown("this node does not lead any more".into()),
        };
        let outcome = match written {
            Ok(response) => response.data,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => return Proposed::NotLeader,
            Err(other) => return Proposed::Unknown(other.to_string()),
        };
        self.snapshot_if_due().await;
        match outcome {
            Outcome::Applied { next } => Proposed::Applied { next },
            Outcome::Stale => Proposed::Stale,
            Outcome::NotARound => Proposed::Unknown("a round was applied as something else".into()),
        }
    }

    /// Has the log of this node replaced by a snapshot once it is heavy enough, whether it leads or not.
    async fn snapshot_if_due(&self) {
        if self.published.snapshot_is_due(self.snapshot_log_bytes) {
            // An error here means that raft has ended, which `ended` tells whom it concerns.
            let _ = self.raft.trigger().snapshot().await;
        }
    }

    /// Waits until this node can no longer take part, and says why: a disk that failed or hangs, an entry that does not
    /// fit, an identity that was lost, a shutdown.
    pub async fn ended(&self) -> String {
        let mut verdict = self.verdict.subscribe();
        tokio::select! {
            biased;
            reason = self.raft_ended() => reason,
            Ok(reason) = verdict.wait_for(Option::is_some) => reason.clone().unwrap_or_default(),
        }
    }

    async fn raft_ended(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "raft has ended".into();
            }
        }
    }

    /// Ends this node's part in the quorum for `reason`.
    fn condemn(&self, reason: String) {
        tracing::error!(reason, "this node must not go on");
        self.verdict.send_replace(Some(reason));
    }

    /// Ends raft in good order.
    pub async fn shutdown(&self) {
        // It fails only if the core task has panicked, and then it has ended, too.
        let _ = self.raft.shutdown().await;
    }
}

/// What is read from disk before raft starts.
struct Opening {
    env: Env,
    store: Arc<dyn MetaStore>,
    writer: Writer,
    founding: Founding,
}

impl Opening {
    fn open(self, me: VoterId, cluster_id: KafkaUuid) -> io::Result<(LogStore, Machine, Sender, Founding)> {
        let Opening { env, store, writer, founding } = self;
        let roster = Arc::new(Roster::open(founding.fixed_addresses(), &*store, writer.clone())?);
        let log = LogStore::open(&*store, writer.clone())?;
        let machine = Machine::open(&env, store, writer, roster.clone())?;
        let sender = Sender { env, me, cluster_id, published: machine.published(), roster };
        Ok((log, machine, sender, founding))
    }
}

/// Runs library code that spawns, with random numbers that come from `env`.
fn scoped<F: Future>(env: &Env, future: F) -> impl Future<Output = F::Output> {
    DeterministicRng::<TokioRuntime>::scope(env.random_u64(), future)
}

fn config(timing: Timing) -> Result<Config, StartError> {
    let (election_timeout_min, election_timeout_max) = timing.election_ms;
    let config = Config {
        cluster_name: "metadata".into(),
        heartbeat_interval: timing.heartbeat_ms,
        election_timeout_min,
        election_timeout_max,
        // Of the whole; each piece has a deadline of its own.
        install_snapshot_timeout: 120_000,
        enable_pre_vote: Some(true),
        // On by default in the library. A leader sends entries before they are on its own disk, so the others may
        // commit what a crash takes from it: in the same term again it would put other entries under the same log ids.
        enable_leader_restore: Some(sabotage::on("term-resumed")),
        // Off by default in the library. A voter whose lost disk was replaced by one that its owner has formatted
        // begins with nothing and is brought everything anew; one that nobody formatted does not begin (`founding.rs`).
        // Only what the leader believes of that voter goes back, nothing that is committed. That it may have voted
        // before is the risk of whoever formats it, as with Kafka's static voters.
        allow_log_reversion: Some(true),
        // Off by default in the library; without it a leader without quorum can block an election (issue 2080).
        quorum_loss_probe_interval: Some(2 * election_timeout_max),
        // We decide by weight: see `Published::snapshot_is_due`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    };
    config.validate().map_err(quorum_error)
}
