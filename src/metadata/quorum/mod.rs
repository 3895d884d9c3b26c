//! The only door to raft: start the quorum, propose a round, watch who leads.
//!
//! A quorum has one voter for now; several voters are the same code with a network behind it. Invariants: nothing
//! outside this folder names openraft; a proposal whose fate is not known is `Unknown`, never a failure; library
//! randomness comes from the seed drawn from `Env` at start.

mod format;
mod log_store;
mod network;
pub mod rocks_store;
mod state_machine;
pub mod store;
pub mod stored;
mod types;
mod writer;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Config, EmptyNode, Raft, ReadPolicy, ServerState, SnapshotPolicy};
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use tokio::sync::watch;

use crate::env::Env;
use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::image::{ClusterImage, ImageIndex};
use crate::metadata::quorum::format::Proposal;
use crate::metadata::quorum::log_store::LogStore;
use crate::metadata::quorum::network::NoPeers;
use crate::metadata::quorum::state_machine::{Machine, Published};
use crate::metadata::quorum::store::MetaStore;
use crate::metadata::quorum::types::{Outcome, QuorumTypes, VoterId};
use crate::metadata::quorum::writer::Writer;
use crate::metadata::record::MetadataRecord;

/// How long a proposal may take before its fate counts as unknown.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Raft timing for voters on one network (replication.md 6.2).
const HEARTBEAT_MS: u64 = 200;
const ELECTION_TIMEOUT_MS: (u64, u64) = (800, 1600);

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

/// A member of the metadata quorum. Cheap to clone.
#[derive(Clone)]
pub struct Quorum {
    raft: Library,
    env: Env,
    published: Arc<Published>,
    snapshot_log_bytes: u64,
}

/// What a quorum is started with.
pub struct QuorumOptions {
    pub store: Arc<dyn MetaStore>,
    pub node: BrokerId,
    /// The id of the directory the store is in.
    pub directory: KafkaUuid,
    /// The log is replaced by a snapshot when it is heavier than this, and than the last snapshot.
    pub snapshot_log_bytes: u64,
}

impl Quorum {
    /// Starts this node as the only voter, on a fresh store or on the one it left, and waits until it leads.
    pub async fn start(env: &Env, options: QuorumOptions) -> Result<Quorum, StartError> {
        let voter = VoterId::new(options.node, options.directory);
        let writer = Writer::start(env, options.store.clone());
        let opening = (env.clone(), options.store, writer);
        let (log, machine) = env.blocking(move || open(opening)).await?;
        let published = machine.published();
        let raft = scoped(env, Raft::new(voter, Arc::new(config()?), NoPeers, log, machine));
        let raft: Library = raft.await.map_err(quorum_error)?;
        let quorum = Quorum { raft, env: env.clone(), published, snapshot_log_bytes: options.snapshot_log_bytes };
        if let Err(error) = scoped(env, quorum.lead_alone(voter)).await {
            quorum.shutdown().await;
            return Err(error);
        }
        Ok(quorum)
    }

    async fn lead_alone(&self, voter: VoterId) -> Result<(), StartError> {
        // The core answers only after it has published who votes and who leads, so the metrics read below are true.
        if self.raft.is_initialized().await.map_err(quorum_error)? {
            let voters: Vec<VoterId> = self.raft.voter_ids().collect();
            if voters != [voter] {
                let voters: Vec<String> = voters.iter().map(VoterId::to_string).collect();
                return Err(StartError::Identity(format!("its voters are [{}], this is {voter}", voters.join(", "))));
            }
            if !self.raft.is_leader() {
                // It crashed between joining and voting. Nobody else can lead: no need to wait for a timeout.
                self.raft.trigger().elect(false).await.map_err(quorum_error)?;
            }
        } else {
            let alone = BTreeMap::from([(voter, EmptyNode::new())]);
            self.raft.initialize(alone).await.map_err(quorum_error)?;
        }
        self.leading().await.map_err(StartError::Quorum)
    }

    /// The newest image.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.published.image()
    }

    /// Hears of every newer image; images in between may be skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.published.watch()
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
            if leads && self.caught_up().await? {
                return Ok(());
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
        // A leader that restarts resumes its term, and its read index knows only the commit point it managed to write
        // down. What it answered since then lies behind that in the log, until another entry commits it (issue 1511).
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

    /// Proposes records that were decided from the image with the index `stamp`, and waits for their fate.
    pub async fn propose(&self, stamp: ImageIndex, records: Vec<MetadataRecord>) -> Proposed {
        let round = Proposal { stamp, wall_ms: self.env.wall_ms(), records }.encode();
        let written = self.env.timeout(PROPOSAL_TIMEOUT, self.raft.client_write(round)).await;
        let outcome = match written {
            None => return Proposed::Unknown(format!("no answer within {PROPOSAL_TIMEOUT:?}")),
            Some(Ok(response)) => response.data,
            Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => return Proposed::NotLeader,
            Some(Err(other)) => return Proposed::Unknown(other.to_string()),
        };
        if self.published.snapshot_is_due(self.snapshot_log_bytes) {
            // An error here means that raft has ended, which `ended` tells whom it concerns.
            let _ = self.raft.trigger().snapshot().await;
        }
        match outcome {
            Outcome::Applied { next } => Proposed::Applied { next },
            Outcome::Stale => Proposed::Stale,
            Outcome::NotARound => Proposed::Unknown("a round was applied as something else".into()),
        }
    }

    /// Waits until raft has ended and says why: a disk that failed, an entry that does not fit, a shutdown.
    pub async fn ended(&self) -> String {
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

    /// Ends raft in good order.
    pub async fn shutdown(&self) {
        // It fails only if the core task has panicked, and then it has ended, too.
        let _ = self.raft.shutdown().await;
    }
}

fn open((env, store, writer): (Env, Arc<dyn MetaStore>, Writer)) -> io::Result<(LogStore, Machine)> {
    let log = LogStore::open(&*store, writer.clone())?;
    let machine = Machine::open(&env, store, writer)?;
    Ok((log, machine))
}

/// Runs library code that spawns, with random numbers that come from `env`.
fn scoped<F: Future>(env: &Env, future: F) -> impl Future<Output = F::Output> {
    DeterministicRng::<TokioRuntime>::scope(env.random_u64(), future)
}

fn config() -> Result<Config, StartError> {
    let (election_timeout_min, election_timeout_max) = ELECTION_TIMEOUT_MS;
    let config = Config {
        cluster_name: "metadata".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min,
        election_timeout_max,
        enable_pre_vote: Some(true),
        // Off by default in the library; without it a leader without quorum can block an election (issue 2080).
        quorum_loss_probe_interval: Some(2 * election_timeout_max),
        // We decide by weight: see `Published::snapshot_is_due`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    };
    config.validate().map_err(quorum_error)
}
