//! What this broker hosts: partitions by id, kept in step with the cluster image.
//!
//! The reconciler is the only one that creates, re-roles or deletes a partition; everyone else looks one up. News
//! travels upwards as [`PartitionEvent`]s, in order per partition. [`RetentionSweep`] and [`Cleaner`] take away what a
//! topic's policy says; [`Moves`] takes logs from one directory to another.

mod cleaner;
mod disk_watch;
mod fetcher;
mod found;
mod isr;
mod log_dirs;
mod moves;
mod neighbours;
mod partition;
mod placements;
mod producers;
mod reconciler;
mod replicas;
mod retention;
#[cfg(test)]
mod scene;
mod throttle;
mod waiters;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

pub use cleaner::{Cleaner, CleanerFigures};
pub use disk_watch::DiskWatch;
pub use fetcher::Fetchers;
pub use isr::{IsrChanges, shrink_isrs};
pub use log_dirs::{HostedLog, LogDir};
pub use moves::Moves;
pub use neighbours::{Neighbours, ReplicationFigures};
pub use partition::{
    AppendRefused, Assumed, Copying, Divergence, FetchPosition, FollowFailure, FromLeader, FutureLog, Isolation,
    LogOffsets, Meters, Origin, Partition, Read, ReadAsk,
};
pub use placements::Placements;
pub use producers::ActiveProducer;
pub use reconciler::Reconciler;
pub use replicas::{FollowerFetch, IsrProposal};
pub use retention::RetentionSweep;
pub use waiters::{Commit, FetchWait};

use crate::env::Env;
use crate::error::ErrorCode;
use crate::ids::{BrokerId, KafkaUuid, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition};
use crate::storage::dirs::{BrokerLife, DataDir, LockedDir};
use crate::storage::engine::Poisoned;

/// What changed about a hosted partition.
pub enum PartitionEvent {
    /// This broker leads it now, in this epoch.
    Leading(Arc<Partition>, LeaderEpoch),
    /// Another broker leads it in this epoch, or none: this one does not any more.
    Following(Arc<Partition>, LeaderEpoch),
    /// It is gone from this broker.
    Gone(Arc<Partition>),
}

/// A data directory that was not there at the start: its disk failed, or what is on it is damaged.
pub struct LostDir {
    /// Where it stands in `log.dirs`, from 0.
    pub index: usize,
    pub path: PathBuf,
    /// Held as long as this broker runs, if it could be had.
    pub lock: Option<LockedDir>,
}

/// The engine has reported what went wrong; without the note this life will not be trusted.
fn noted(directory: &DataDir, outcome: Result<(), Poisoned>) {
    if let Err(poison) = outcome {
        tracing::warn!(path = %directory.path.display(), %poison, "the life of the broker could not be noted");
    }
}

struct Inner {
    neighbours: Arc<Neighbours>,
    directories: Vec<Arc<DataDir>>,
    /// In the order of `log.dirs`.
    lost: Vec<LostDir>,
    hosted: RwLock<BTreeMap<TopicIdPartition, Arc<Partition>>>,
    /// Offset of the metadata record up to which the image was reconciled.
    reconciled: watch::Sender<Offset>,
    cleaner: CleanerFigures,
    wishes: Mutex<moves::Wishes>,
    /// Held while a copy takes the place of a log.
    turn: Arc<Semaphore>,
    /// The directories say of this life that it has done nothing.
    has_noted_life: AtomicBool,
    /// No data directory is left.
    all_failed: watch::Sender<bool>,
}

/// The partitions of this broker. Cheap to clone.
#[derive(Clone)]
pub struct Partitions(Arc<Inner>);

impl Partitions {
    /// Hosts nothing yet; a [`Reconciler`] fills it.
    pub fn new(neighbours: Arc<Neighbours>, directories: Vec<Arc<DataDir>>, lost: Vec<LostDir>) -> Partitions {
        let (reconciled, _) = watch::channel(-1);
        Partitions(Arc::new(Inner {
            neighbours,
            directories,
            lost,
            hosted: RwLock::default(),
            reconciled,
            cleaner: CleanerFigures::default(),
            wishes: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            has_noted_life: AtomicBool::new(false),
            all_failed: watch::Sender::new(false),
        }))
    }

    /// The partition, if it is hosted here.
    pub fn hosted(&self, id: TopicIdPartition) -> Result<Arc<Partition>, ErrorCode> {
        self.0.hosted.read().get(&id).cloned().ok_or(ErrorCode::NotLeaderOrFollower)
    }

    /// Every hosted partition, in no order.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.0.hosted.read().values().cloned().collect()
    }

    /// Every hosted partition of a topic, in order.
    pub fn of_topic(&self, topic: TopicId) -> Vec<Arc<Partition>> {
        let id = |partition| TopicIdPartition { topic, partition };
        let hosted = self.0.hosted.read();
        hosted.range(id(0)..=id(PartitionIndex::MAX)).map(|(_, partition)| partition.clone()).collect()
    }

    /// How many are hosted.
    pub fn len(&self) -> usize {
        self.0.hosted.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn node(&self) -> BrokerId {
        self.0.neighbours.node
    }

    /// The brokers around this one.
    pub fn neighbours(&self) -> &Arc<Neighbours> {
        &self.0.neighbours
    }

    /// The data directories: id and path.
    pub fn directories(&self) -> impl Iterator<Item = (KafkaUuid, &Path)> {
        self.0.directories.iter().map(|directory| (directory.id, directory.path.as_path()))
    }

    /// Data directories that failed, before or since the start, of all that `log.dirs` names.
    pub fn offline_directories(&self) -> (usize, usize) {
        let failed = self.0.directories.iter().filter(|directory| directory.engine().poison().is_some()).count();
        (failed + self.0.lost.len(), self.0.directories.len() + self.0.lost.len())
    }

    /// The ids of data directories that failed since the start.
    pub fn failed_directories(&self) -> Vec<KafkaUuid> {
        let failed = self.0.directories.iter().filter(|directory| directory.engine().poison().is_some());
        failed.map(|directory| directory.id).collect()
    }

    /// Waits until the last data directory has failed and its partitions are offline, and says so. The process must
    /// end then, as Kafka's does (`ReplicaManager.handleLogDirFailure`).
    pub async fn all_failed(&self) -> String {
        let mut all_failed = self.0.all_failed.subscribe();
        // The sender lives in `self`: waiting cannot fail.
        let _ = all_failed.wait_for(|&all| all).await;
        let paths: Vec<String> = self.directories().map(|(_, path)| path.display().to_string()).collect();
        format!("log.dirs: every data directory has failed ({})", paths.join(", "))
    }

    /// What every data directory remembers of the broker's life; `None` if they do not agree, one of them is lost, or
    /// none remembers any. Everything that was acknowledged until then is still there. Blocking.
    pub fn remembered_life(&self) -> Option<BrokerLife> {
        if !self.0.lost.is_empty() {
            return None;
        }
        let mut lives = self.0.directories.iter().map(|directory| directory.broker_life().ok().flatten());
        let first = lives.next()??;
        if first.begun.is_some() {
            self.0.has_noted_life.store(true, Ordering::Relaxed);
        }
        lives.all(|life| life == Some(first)).then_some(first)
    }

    /// Has every data directory note that a life begins, before it is registered. Not where there is no room: that
    /// would have to be waited for.
    pub async fn begin_life(&self, life: BrokerLife) {
        if !self.full_directories().is_empty() {
            return;
        }
        self.0.has_noted_life.store(true, Ordering::Relaxed);
        join_all(self.0.directories.iter().map(|directory| async move {
            noted(directory, directory.begin_broker_life(life).await);
        }))
        .await;
    }

    /// Has every data directory note the epoch under which this broker is registered: in the order of writes, so
    /// before anything that is acknowledged under it. If they say of this life that it has done nothing, this returns
    /// when they do not say so any more.
    pub async fn note_broker_epoch(&self, env: &Env, epoch: i64) {
        let note = |directory: Arc<DataDir>| {
            env.spawn(async move { noted(&directory, directory.note_broker_epoch(epoch).await) })
        };
        let notes = join_all(self.0.directories.iter().cloned().map(note));
        if self.0.has_noted_life.load(Ordering::Relaxed) {
            // A task that panicked has told of it.
            drop(notes.await);
        }
    }

    /// Offset of the metadata record below which every image took effect here.
    pub fn reconciled(&self) -> Offset {
        *self.0.reconciled.borrow()
    }

    /// Data directories in which records are refused for want of room.
    pub fn full_directories(&self) -> Vec<&Path> {
        let online = self.0.directories.iter().filter(|directory| directory.engine().poison().is_none());
        let full = online.filter(|directory| directory.is_full());
        full.map(|directory| directory.path.as_path()).collect()
    }

    /// Group commits (one sync each) since the start.
    pub fn group_commits(&self) -> u64 {
        self.0.directories.iter().map(|directory| directory.engine().groups()).sum()
    }

    /// What the cleaner tells of itself.
    pub fn cleaner(&self) -> &CleanerFigures {
        &self.0.cleaner
    }

    /// Waits until every metadata record below `offset` took effect here.
    pub async fn reconciled_to(&self, offset: Offset) {
        let mut reconciled = self.0.reconciled.subscribe();
        // The sender lives in `self`: waiting cannot fail.
        let _ = reconciled.wait_for(|&reached| reached >= offset).await;
    }

    /// Waits until producers may queue more bytes, in every directory.
    pub async fn room(&self) {
        for directory in &self.0.directories {
            directory.engine().room().await;
        }
    }

    /// Gives the disk space of deleted records back, in every directory, off the async workers.
    pub async fn reclaim(&self, env: &Env) {
        let partitions = self.clone();
        env.blocking(move || {
            for directory in &partitions.0.directories {
                if let Err(poison) = directory.reclaim() {
                    tracing::warn!(directory = %directory.path.display(), %poison, "cannot give disk space back");
                }
            }
        })
        .await;
    }

    /// Writes what is queued and closes the engines. Blocking.
    pub fn close(&self, wait: bool) {
        for directory in &self.0.directories {
            directory.engine().close(wait);
        }
    }
}
