//! A partition's life as follower: taking over what the leader has, parting from what it has not (KIP-101, KIP-279,
//! KIP-320; Kafka's `ReplicaFetcherThread` and `AbstractFetcherThread`).
//!
//! Invariants: what a leader sent takes effect only while the partition follows in the epoch, and stands at the offset,
//! for which it was fetched. A fetch is at the durable end: asking for what comes next acknowledges what came before.
//! The log is cut only where the leader's epochs say, never by a guess.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Assumed, Core, Divergence, Partition, Role, chunk_span};
use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::metadata::PartitionRegistration;
use crate::partitions::replicas::Millis;
use crate::partitions::throttle;
use crate::sabotage;
use crate::storage::engine::Poisoned;
use crate::storage::log::{CutPlan, FollowerBatches, FollowerRefused, PartitionLog};

/// Where a follower stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPosition {
    pub leader: BrokerId,
    pub epoch: LeaderEpoch,
    pub from: Offset,
    /// The newest epoch in its log; -1 if it has none.
    pub last_epoch: LeaderEpoch,
    pub log_start: Offset,
    pub high_watermark: Offset,
}

/// What a leader sent for a position.
#[derive(Clone, Debug)]
pub struct FromLeader {
    pub batches: Bytes,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// Why what a leader sent had no effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FollowFailure {
    /// The partition does not stand there any more: nothing is wrong.
    Moot,
    /// It makes no sense; says why. Fetched again it may.
    Unsound(String),
    /// The disk takes nothing.
    Storage(ErrorCode),
}

impl From<FollowerRefused> for FollowFailure {
    fn from(refused: FollowerRefused) -> FollowFailure {
        match refused {
            FollowerRefused::Unsound(why) => FollowFailure::Unsound(why),
            FollowerRefused::Overlap { base, log_end } => {
                FollowFailure::Unsound(format!("a batch begins at {base}, before the end of the log at {log_end}"))
            }
            FollowerRefused::Storage(code) => FollowFailure::Storage(code),
        }
    }
}

const OFFLINE: FollowFailure = FollowFailure::Storage(ErrorCode::KafkaStorageError);

impl Partition {
    pub(super) fn follow(&self, core: &mut Core, registration: &PartitionRegistration) -> Option<Assumed> {
        core.role = Role::Following(registration.leader_epoch);
        core.replicas = None;
        core.leader = registration.leader;
        core.leader_high_watermark = core.high_watermark;
        core.waiters.fail(ErrorCode::NotLeaderOrFollower);
        Some(Assumed::Following(registration.leader_epoch))
    }

    /// Whom this partition follows and in which epoch; `None` if it leads, is offline, or nobody leads.
    pub fn following(&self) -> Option<(BrokerId, LeaderEpoch)> {
        let core = self.core.lock();
        match core.role {
            Role::Following(epoch) => Some((core.leader?, epoch)),
            _ => None,
        }
    }

    /// What to fetch next; `None` as long as something appended, or a cut, is not on disk, and if there is nobody to
    /// fetch from.
    pub fn fetch_position(&self) -> Option<FetchPosition> {
        self.core.lock().fetch_position()
    }

    /// Resolves when everything appended so far is on stable storage, whoever appended it.
    pub async fn settled(&self) -> Result<(), ErrorCode> {
        let log_end = self.offsets_if_any().map_or(0, |offsets| offsets.log_end);
        self.synced(log_end).await
    }

    /// Records that the leader has committed and this follower has not fetched.
    pub fn lag(&self) -> Option<i64> {
        let core = self.core.lock();
        let log_end = core.log.as_ref()?.log_end();
        matches!(core.role, Role::Following(_)).then(|| (core.leader_high_watermark - log_end).max(0))
    }

    fn is_throttled(&self) -> bool {
        let named = &self.settings.load().follower_replication_throttled_replicas;
        throttle::names(named, self.id.partition, self.neighbours.node)
    }

    /// True if this replica has to wait because too much was copied: one that is named and behind.
    pub fn is_held_up(&self) -> bool {
        self.is_throttled()
            && self.lag() != Some(0)
            && self.neighbours.incoming.is_exceeded(self.env.wall_ms() as Millis)
    }

    /// Takes over what the leader sent. Returns when it is on stable storage.
    pub async fn take_over(self: &Arc<Self>, at: &FetchPosition, sent: FromLeader) -> Result<(), FollowFailure> {
        let batches = FollowerBatches::check(sent.batches, at.epoch)?;
        let (bytes, is_empty) = (batches.bytes(), batches.is_empty());
        let synced = {
            let mut core = self.core.lock();
            core.check_position(at)?;
            core.leader_high_watermark = sent.high_watermark;
            let durable = core.durable_end;
            core.advance(sent.high_watermark.min(durable));
            let Some(log) = core.log.as_mut() else { return Err(FollowFailure::Moot) };
            let chunk_ms_max = chunk_span(&self.settings.load());
            let now_ms = self.env.wall_ms();
            let partition = self.clone();
            let (end, directory) = (batches.end().unwrap_or(at.from), log.directory());
            let done = move |fate| partition.written(directory, Some(end), fate);
            log.append_follower(batches, (sent.high_watermark.max(0), now_ms, chunk_ms_max), done)?;
            (!is_empty).then(|| core.waiters.sync(end))
        };
        if let Some(synced) = synced {
            self.neighbours.figures.bytes_in.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
            if self.is_throttled() {
                self.neighbours.incoming.copied(bytes, self.env.wall_ms() as Millis);
            }
            if !sabotage::on("follower-acks-unsynced") {
                synced.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)).map_err(unsettled)?;
            }
        }
        self.follow_log_start(sent.log_start).await
    }

    /// What the leader has deleted goes here too.
    async fn follow_log_start(self: &Arc<Self>, log_start: Offset) -> Result<(), FollowFailure> {
        let done = {
            let mut core = self.core.lock();
            let own = core.log.as_ref().map_or(0, PartitionLog::log_start);
            let to = log_start.min(core.high_watermark);
            if to <= own || !matches!(core.role, Role::Following(_)) {
                return Ok(());
            }
            self.delete_before(&mut core, to).map_err(FollowFailure::Storage)?
        };
        done.await.map_err(FollowFailure::Storage)
    }

    /// Parts from what the leader does not have: `diverging` is what it said of the epoch of the last record here. May
    /// take several rounds, each with another fetch.
    pub async fn part(self: &Arc<Self>, at: &FetchPosition, diverging: Divergence) -> Result<(), FollowFailure> {
        let to = {
            let core = self.core.lock();
            core.check_position(at)?;
            let Some(log) = &core.log else { return Err(FollowFailure::Moot) };
            let log_end = log.log_end();
            match log.epochs().end_offset_for(diverging.epoch, log_end) {
                (-1, _) => diverging.end_offset.min(log_end),
                (epoch, end) if epoch == diverging.epoch => end.min(diverging.end_offset).min(log_end),
                // The leader does not know what this log has of that epoch: the next fetch asks for an older one.
                (_, end) => end.min(log_end),
            }
        };
        if sabotage::on("cut-too-far") {
            return self.cut_to(at, to.min(at.high_watermark - 1).max(0)).await;
        }
        self.cut_to(at, to.max(0)).await
    }

    /// Cuts the log so that it ends at `to`, or at the start of the batch that holds it.
    pub async fn cut_to(self: &Arc<Self>, at: &FetchPosition, to: Offset) -> Result<(), FollowFailure> {
        loop {
            let step = {
                let mut core = self.core.lock();
                core.check_position(at)?;
                let Some(log) = core.log.as_mut() else { return Err(FollowFailure::Moot) };
                if to >= log.log_end() {
                    let (told, done) = oneshot::channel();
                    log.drop_unused_epochs(move |fate| drop(told.send(fate))).map_err(|_| OFFLINE)?;
                    Step::Epochs(done)
                } else if to > log.log_start() {
                    Step::Cut(log.plan_cut(to))
                } else {
                    Step::Everything
                }
            };
            let plan = match step {
                Step::Cut(plan) => plan,
                Step::Epochs(done) => return on_disk(done).await,
                Step::Everything => return self.restart_at(at, to).await,
            };
            let cut = self.env.blocking(move || plan.prepare()).await.map_err(|poison| {
                tracing::error!(partition = %self.name(), %poison, "cannot read what is to be cut");
                OFFLINE
            })?;
            if cut.to() <= self.offsets_if_any().map_or(0, |offsets| offsets.log_start) {
                return self.restart_at(at, cut.to()).await;
            }
            let done = {
                let mut core = self.core.lock();
                core.check_position(at)?;
                let (told, done) = oneshot::channel();
                let partition = self.clone();
                let Some(log) = core.log.as_mut() else { return Err(FollowFailure::Moot) };
                let end = log.cut(cut, move |fate| partition.cut_written(fate, told)).map_err(|_| OFFLINE)?;
                end.map(|end| {
                    self.has_been_cut(&mut core, end);
                    done
                })
            };
            // Compaction or retention was faster: what was read is to be read again.
            let Some(done) = done else { continue };
            return on_disk(done).await;
        }
    }

    /// Gives up the whole log, to begin anew at `offset`: the leader no longer has what would come next.
    pub async fn restart_at(self: &Arc<Self>, at: &FetchPosition, offset: Offset) -> Result<(), FollowFailure> {
        let done = {
            let mut core = self.core.lock();
            core.check_position(at)?;
            let (told, done) = oneshot::channel();
            let partition = self.clone();
            let Some(log) = core.log.as_mut() else { return Err(FollowFailure::Moot) };
            let written = move |fate: Result<(), Poisoned>| {
                if fate.is_ok() {
                    partition.deleted_before(offset);
                }
                partition.cut_written(fate, told);
            };
            log.restart_at(offset, written).map_err(|_| OFFLINE)?;
            tracing::warn!(partition = %self.name(), at.from, offset, "the log begins anew where the leader's begins");
            core.durable_start = core.durable_start.min(offset);
            core.durable_end = offset;
            core.high_watermark = offset;
            core.cuts += 1;
            core.cuts_under_way += 1;
            done
        };
        on_disk(done).await
    }

    fn has_been_cut(&self, core: &mut Core, end: Offset) {
        if end < core.high_watermark {
            let high_watermark = core.high_watermark;
            tracing::warn!(partition = %self.name(), end, high_watermark, "committed records are cut: an unclean leader");
            core.high_watermark = end;
        } else {
            tracing::info!(partition = %self.name(), end, "records that the leader does not have are cut");
        }
        core.durable_end = core.durable_end.min(end);
        core.cuts += 1;
        core.cuts_under_way += 1;
    }

    /// The lane's news of a cut. Whoever waits for it hears after the partition.
    fn cut_written(&self, fate: Result<(), Poisoned>, told: oneshot::Sender<Result<(), Poisoned>>) {
        {
            let mut core = self.core.lock();
            core.cuts_under_way -= 1;
            if fate.is_err() {
                core.resign(ErrorCode::KafkaStorageError);
            }
        }
        // Nobody may be waiting any more.
        let _ = told.send(fate);
    }
}

/// What a cut comes to.
enum Step {
    /// Nothing was written behind it.
    Epochs(Told),
    Cut(CutPlan),
    /// Nothing is left before it.
    Everything,
}

type Told = oneshot::Receiver<Result<(), Poisoned>>;

async fn on_disk(done: Told) -> Result<(), FollowFailure> {
    if matches!(done.await, Ok(Ok(()))) { Ok(()) } else { Err(OFFLINE) }
}

/// A wait for the disk ended otherwise: the role changed, or the disk failed.
fn unsettled(code: ErrorCode) -> FollowFailure {
    if code == ErrorCode::KafkaStorageError { OFFLINE } else { FollowFailure::Moot }
}

impl Core {
    fn fetch_position(&self) -> Option<FetchPosition> {
        let (log, leader) = (self.log.as_ref()?, self.leader?);
        let Role::Following(epoch) = self.role else { return None };
        let settled = self.durable_end >= log.log_end() && self.cuts_under_way == 0;
        let settled = settled || sabotage::on("follower-acks-unsynced");
        settled.then(|| FetchPosition {
            leader,
            epoch,
            from: log.log_end(),
            last_epoch: log.epochs().latest().unwrap_or(-1),
            log_start: self.durable_start,
            high_watermark: self.high_watermark,
        })
    }

    fn check_position(&self, at: &FetchPosition) -> Result<(), FollowFailure> {
        let now = self.fetch_position();
        let stands = now.is_some_and(|now| (now.epoch, now.from, now.last_epoch) == (at.epoch, at.from, at.last_epoch));
        if stands { Ok(()) } else { Err(FollowFailure::Moot) }
    }
}
