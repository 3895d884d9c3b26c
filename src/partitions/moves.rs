//! Moves of replicas between the data directories of this broker: who asks for one, and the tasks that carry them out
//! (KIP-113; Kafka's `ReplicaManager.alterReplicaLogDirs` and `ReplicaAlterLogDirsManager`).
//!
//! Invariants: of one partition at most one task carries out a move; a task stays with it until it has arrived, was
//! given up, or a disk failed. Wishes for partitions that are not here yet are kept in memory, the newest ones.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::log_dirs::absolute;
use super::partition::Moved;
use super::replicas::Millis;
use super::{Partition, Partitions};
use crate::config::Config;
use crate::env::Env;
use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, PartitionIndex, TopicIdPartition, TopicName};
use crate::storage::dirs::DataDir;

/// Most wishes for partitions that are not here yet; the oldest goes for a new one.
const WISHES_MAX: usize = 10_000;
/// How long a move waits for something that is about to happen, and for the rate.
const PAUSE: Duration = Duration::from_millis(50);
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// The pause between two times that space is given back.
const RECLAIM_PAUSE: Duration = Duration::from_secs(1);

/// The directories that partitions shall be begun in (Kafka's `LogManager.preferredLogDirs`), oldest first.
#[derive(Default)]
pub(super) struct Wishes(std::collections::VecDeque<(TopicName, PartitionIndex, KafkaUuid)>);

impl Wishes {
    fn wish(&mut self, topic: TopicName, index: PartitionIndex, directory: KafkaUuid) {
        self.take(&topic, index);
        if self.0.len() == WISHES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((topic, index, directory));
    }

    fn take(&mut self, topic: &TopicName, index: PartitionIndex) -> Option<KafkaUuid> {
        let at = self.0.iter().position(|(name, number, _)| name == topic && *number == index)?;
        self.0.remove(at).map(|(_, _, directory)| directory)
    }
}

impl Partitions {
    /// Has a replica move to the directory at `path`, or be begun there. Errors: `LogDirNotFound` if there is no such
    /// directory; `KafkaStorageError` if it is offline, or any other that may have a copy of the replica;
    /// `InvalidReplicaAssignment` if it is cordoned (KIP-1066); for a replica that is not here, `missing`.
    pub fn move_to(
        &self,
        (topic, index): (&TopicName, PartitionIndex),
        hosted: Result<Arc<Partition>, ErrorCode>,
        path: &str,
        cordoned: &[String],
    ) -> Result<(), ErrorCode> {
        let home = self.directory_at(path)?;
        if cordoned.iter().any(|one| one == "*" || one == path) {
            return Err(ErrorCode::InvalidReplicaAssignment);
        }
        let partition = hosted.inspect_err(|_| self.0.wishes.lock().wish(topic.clone(), index, home.id))?;
        let may_begin = if self.offline_directories().0 > 0 { Err(ErrorCode::KafkaStorageError) } else { Ok(()) };
        partition.move_to(home, may_begin)
    }

    fn directory_at(&self, path: &str) -> Result<&Arc<DataDir>, ErrorCode> {
        let path = Path::new(path);
        if self.0.lost.iter().any(|lost| absolute(&lost.path) == path) {
            return Err(ErrorCode::KafkaStorageError);
        }
        let mut directories = self.0.directories.iter();
        let home = directories.find(|directory| absolute(&directory.path) == path).ok_or(ErrorCode::LogDirNotFound)?;
        if home.engine().poison().is_some() { Err(ErrorCode::KafkaStorageError) } else { Ok(home) }
    }

    /// The directory that somebody wished a partition to be begun in.
    pub(super) fn take_wish(&self, topic: &TopicName, index: PartitionIndex) -> Option<KafkaUuid> {
        self.0.wishes.lock().take(topic, index)
    }

    /// While the permit is held, no copy takes the place of a log: whoever copies one directory after the other finds
    /// every log in one of them.
    pub async fn hold_moves(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        self.0.turn.clone().acquire_owned().await.ok()
    }
}

/// The tasks.
#[derive(Clone)]
pub struct Moves {
    pub env: Env,
    pub partitions: Partitions,
    pub config: Arc<ArcSwap<Config>>,
}

impl Moves {
    /// Moves for ever: as many replicas at a time as `num.replica.alter.log.dirs.threads`, or directories.
    pub async fn run(self) {
        let threads = self.config.load().broker().num_replica_alter_log_dirs_threads;
        let threads = threads.and_then(|threads| usize::try_from(threads).ok()).filter(|threads| *threads > 0);
        for _ in 0..threads.unwrap_or(self.partitions.0.directories.len()) {
            self.env.spawn(self.clone().move_some());
        }
        loop {
            self.partitions.neighbours().freed.notified().await;
            self.partitions.reclaim(&self.env).await;
            self.env.sleep(RECLAIM_PAUSE).await;
        }
    }

    async fn move_some(self) {
        loop {
            for id in self.partitions.neighbours().moving.take(1).await {
                self.carry_out(id).await;
            }
        }
    }

    async fn carry_out(&self, id: TopicIdPartition) {
        let Some(partition) = self.partitions.hosted(id).ok().filter(|partition| partition.begin_moving()) else {
            return;
        };
        let mut failing = false;
        loop {
            self.wait_for_rate().await;
            let outcome = partition.move_on(&self.partitions.0.turn).await;
            let bytes = match outcome {
                Ok(Moved::Ended) => return,
                Ok(Moved::On(bytes) | Moved::Arrived(bytes)) => bytes,
                Ok(Moved::Waiting) => {
                    self.env.sleep(PAUSE).await;
                    0
                }
                Err(why) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(
                            ?partition,
                            why,
                            "a move between directories does not go on; it is tried again"
                        );
                    }
                    self.env.sleep(RETRY).await;
                    continue;
                }
            };
            failing = false;
            self.partitions.neighbours().moves.copied(bytes, self.env.wall_ms() as Millis);
            if matches!(outcome, Ok(Moved::Arrived(_))) {
                return;
            }
        }
    }

    /// Waits while more was copied than may be (`replica.alter.log.dirs.io.max.bytes.per.second`).
    async fn wait_for_rate(&self) {
        let rate = &self.partitions.neighbours().moves;
        loop {
            rate.limit(self.config.load().broker().replica_alter_log_dirs_io_max_bytes_per_second);
            if !rate.is_exceeded(self.env.wall_ms() as Millis) {
                return;
            }
            self.env.sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_wishes_are_kept() {
        let mut wishes = Wishes::default();
        let name = TopicName::from("t");
        for index in 0..=WISHES_MAX as i32 {
            wishes.wish(name.clone(), index, KafkaUuid(1));
        }
        wishes.wish(name.clone(), 5, KafkaUuid(2));
        assert_eq!(wishes.take(&name, 0), None);
        assert_eq!(wishes.take(&name, 1), Some(KafkaUuid(1)));
        assert_eq!(wishes.take(&name, 5), Some(KafkaUuid(2)));
        assert_eq!(wishes.take(&name, 5), None);
    }
}
