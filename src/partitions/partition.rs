//! One hosted partition: its role, its log, its high watermark, and who waits on them.
//!
//! Invariants: `log_start ≤ last_stable ≤ high_watermark ≤ durable_end ≤ log_end`. The high watermark never moves back
//! (but with a cut of what was committed, after an unclean election) and never passes what is on stable storage here,
//! so no consumer sees a record that a power cut can take away. (While a log that has just moved to another directory
//! is written down there, `durable_end` may be less: the old one has the rest.) One short mutex per partition, never
//! held across an await; offsets are assigned and writes queued under it, so the lane's order is the order of offsets.

mod cleaning;
mod deleting;
mod following;
mod leading;
mod moving;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use cleaning::{Dirty, PassEnd};
pub use following::{FetchPosition, FollowFailure, FromLeader};
pub use leading::{Assumed, Copying};
pub use moving::{FutureLog, Moved};

use arc_swap::ArcSwap;
use bytes::Bytes;
use moving::Moving;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::neighbours::Neighbours;
use super::producers::ActiveProducer;
use super::replicas::Replicas;
use super::waiters::{Commit, FetchWait, Waiters};
use crate::config::{CompressionType, TimestampType, TopicSettings};
use crate::env::{BoxFuture, Env};
use crate::error::ErrorCode;
use crate::ids::{
    BrokerId, KafkaUuid, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition, TopicName, WallMillis,
};
use crate::records::{self, BatchHeader, Checked, Compression, ProduceRefused, ProduceRules, Timestamps};
use crate::sabotage;
use crate::storage::engine::Poisoned;
use crate::storage::log::{
    Appended, Batches, ColdRead, FoundRecord, Incoming, PartitionLog, ReadFailure, TimestampLookup,
};
use crate::storage::reserve::Claim;

/// Who appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A producer: every rule of Produce applies.
    Client,
    /// A coordinator of this broker, writing its own internal topic as long as that is led in this epoch.
    Coordinator(LeaderEpoch),
}

/// Why an append was refused; no offset was assigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendRefused {
    pub code: ErrorCode,
    pub message: String,
    /// Records at fault: index in the batch and what is wrong with it (KIP-467).
    pub records: Vec<(i32, Option<String>)>,
}

impl From<ErrorCode> for AppendRefused {
    fn from(code: ErrorCode) -> AppendRefused {
        AppendRefused { code, message: String::new(), records: Vec::new() }
    }
}

impl From<ProduceRefused> for AppendRefused {
    fn from(refused: ProduceRefused) -> AppendRefused {
        AppendRefused { code: refused.code, message: refused.message, records: refused.records }
    }
}

/// Largest batch that is encoded anew on the async worker that has it.
const ENCODED_AT_ONCE_BYTES: usize = 64 * 1024;

/// A batch that may be appended.
struct Judged {
    batch: Bytes,
    checked: Checked,
    now_ms: WallMillis,
    origin: Origin,
}

/// Which records a reader may see (KIP-98 and Fetch's replica id).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset.
    ReadCommitted,
    /// Up to the log end: followers and the debugging consumer.
    LogEnd,
}

/// The offsets that answers carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOffsets {
    pub log_start: Offset,
    pub last_stable: Offset,
    pub high_watermark: Offset,
    pub log_end: Offset,
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadAsk {
    pub from: Offset,
    pub bytes_max: usize,
    /// Return the first batch whole even if it is larger than `bytes_max`.
    pub at_least_one: bool,
    pub isolation: Isolation,
    /// The leader epoch the reader knows, -1 to skip the check (KIP-320).
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the last record the reader has, -1 to skip the check (KIP-595).
    pub last_fetched_epoch: LeaderEpoch,
    /// Only the leader may answer (KIP-392).
    pub leader_only: bool,
}

/// Where a reader's log and ours part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Divergence {
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}

/// What was read.
#[derive(Debug)]
pub struct Read {
    pub batches: Batches,
    pub offsets: LogOffsets,
    pub diverging: Option<Divergence>,
}

/// Counters of one partition since the start, for metrics.
#[derive(Default)]
pub struct Meters {
    pub messages_in: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub produce_requests: AtomicU64,
    pub fetch_requests: AtomicU64,
    pub failed_produce: AtomicU64,
    pub failed_fetch: AtomicU64,
    pub corrupt_reads: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Leading(LeaderEpoch),
    /// Somebody else leads in this epoch, or nobody.
    Following(LeaderEpoch),
    /// Why requests are refused.
    Offline(ErrorCode),
}

struct Core {
    role: Role,
    /// `None` once the partition is deleted, and if its directory was lost before the start.
    log: Option<PartitionLog>,
    durable_end: Offset,
    /// Where the log starts on stable storage: what is told, since a crash cannot take it back. For as long as a write
    /// takes the log itself may start later.
    durable_start: Offset,
    high_watermark: Offset,
    waiters: Waiters,
    /// Of the newest registration that was taken into effect.
    partition_epoch: i32,
    /// What a leader knows of its replicas; `None` for a follower.
    replicas: Option<Replicas>,
    /// The first epoch since which a leader has led without a break: what it had in the log then was not cut.
    leading_since: LeaderEpoch,
    /// Whom a follower follows, and what that leader last said is committed.
    leader: Option<BrokerId>,
    leader_high_watermark: Offset,
    /// Cuts so far, and moves: what was read of the log before one says nothing of it any more.
    cuts: u64,
    /// Those of them that are not on disk: a crash would take them back, and the end of the log with them.
    cuts_under_way: u32,
    moving: Moving,
}

/// A partition that this broker hosts.
pub struct Partition {
    id: TopicIdPartition,
    topic: TopicName,
    env: Env,
    neighbours: Arc<Neighbours>,
    /// The origin of the times in `replicas`.
    born: Instant,
    settings: ArcSwap<TopicSettings>,
    core: Mutex<Core>,
    pub meters: Meters,
}

impl Partition {
    /// Hosts `log`, offline until it is told its role.
    pub fn host(
        env: &Env,
        neighbours: &Arc<Neighbours>,
        topic: TopicName,
        log: PartitionLog,
        settings: Arc<TopicSettings>,
    ) -> Partition {
        let id = log.id();
        let high_watermark = log.stored_high_watermark().max(log.log_start());
        let (durable_start, durable_end) = (log.log_start(), log.log_end());
        let core = Core {
            log: Some(log),
            durable_end,
            durable_start,
            high_watermark,
            leader_high_watermark: high_watermark,
            ..Core::without_log(ErrorCode::NotLeaderOrFollower)
        };
        Partition::with(env, neighbours, (id, topic), settings, core)
    }

    /// Stands for a partition whose log lies in a directory that is lost, or has no directory to lie in: every request
    /// is refused.
    pub fn lost(
        env: &Env,
        neighbours: &Arc<Neighbours>,
        id: TopicIdPartition,
        topic: TopicName,
        settings: Arc<TopicSettings>,
    ) -> Partition {
        let core = Core::without_log(ErrorCode::KafkaStorageError);
        Partition::with(env, neighbours, (id, topic), settings, core)
    }

    fn with(
        env: &Env,
        neighbours: &Arc<Neighbours>,
        (id, topic): (TopicIdPartition, TopicName),
        settings: Arc<TopicSettings>,
        core: Core,
    ) -> Partition {
        Partition {
            id,
            topic,
            env: env.clone(),
            neighbours: neighbours.clone(),
            born: env.now(),
            settings: ArcSwap::new(settings),
            core: Mutex::new(core),
            meters: Meters::default(),
        }
    }

    pub fn id(&self) -> TopicIdPartition {
        self.id
    }

    pub fn topic_id(&self) -> TopicId {
        self.id.topic
    }

    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub fn index(&self) -> PartitionIndex {
        self.id.partition
    }

    /// The topic's settings now.
    pub fn settings(&self) -> Arc<TopicSettings> {
        self.settings.load_full()
    }

    /// Replaces the topic's settings.
    pub fn configure(&self, settings: Arc<TopicSettings>) {
        self.settings.store(settings);
    }

    /// The epoch in which this broker leads the partition.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        match self.core.lock().role {
            Role::Leading(epoch) => Some(epoch),
            Role::Following(_) | Role::Offline(_) => None,
        }
    }

    /// The leader epoch that this replica is in, whoever leads; `None` if it is offline. For whoever looks in from
    /// outside.
    pub fn epoch(&self) -> Option<LeaderEpoch> {
        match self.core.lock().role {
            Role::Leading(epoch) | Role::Following(epoch) => Some(epoch),
            Role::Offline(_) => None,
        }
    }

    /// True if this replica answers readers: as leader, or as follower if that is allowed.
    pub fn serves(&self, leader_only: bool) -> bool {
        self.core.lock().check_epoch(-1, leader_only).is_ok()
    }

    /// Appends one batch. Refuses before an offset is assigned, or assigns and queues the write;
    /// [`Partition::committed`] tells when it counts.
    pub fn append_as_leader(self: &Arc<Self>, batch: Bytes, origin: Origin) -> Result<Appended, AppendRefused> {
        let judged = self.judge(batch, origin)?;
        self.append_judged(judged)
    }

    /// As [`Partition::append_as_leader`] for what a producer sent, but a large batch that has to be encoded anew does
    /// not hold up the async workers meanwhile.
    pub async fn append_produced(self: &Arc<Self>, batch: Bytes) -> Result<Appended, AppendRefused> {
        let heavy =
            batch.len() > ENCODED_AT_ONCE_BYTES && self.settings.load().compression_type != CompressionType::Producer;
        if !heavy {
            return self.append_as_leader(batch, Origin::Client);
        }
        let partition = self.clone();
        let judged = self.env.blocking(move || partition.judge(batch, Origin::Client)).await?;
        self.append_judged(judged)
    }

    /// Checks a batch, and encodes it anew if the topic wants it so. Takes no lock.
    fn judge(&self, batch: Bytes, origin: Origin) -> Result<Judged, AppendRefused> {
        let settings = self.settings.load();
        let now_ms = self.env.wall_ms();
        let (batch, checked) = check(batch, origin, &settings, now_ms)?;
        Ok(Judged { batch, checked, now_ms, origin })
    }

    fn append_judged(self: &Arc<Self>, judged: Judged) -> Result<Appended, AppendRefused> {
        let settings = self.settings.load();
        let Judged { batch, checked, now_ms, origin } = judged;
        let (count, bytes) = (u64::try_from(checked.header.records_count).unwrap_or(0), batch.len() as u64);
        let chunk_ms_max = chunk_span(&settings);
        let mut core = self.core.lock();
        let core = &mut *core;
        let epoch = core.leading()?;
        let claim = match origin {
            Origin::Client => Claim::Records,
            Origin::Coordinator(term) if term == epoch => Claim::Bookkeeping,
            Origin::Coordinator(_) => return Err(ErrorCode::NotLeaderOrFollower.into()),
        };
        let high_watermark = core.high_watermark;
        let log = core.log.as_mut().ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let end = log.log_end() + i64::from(checked.header.last_offset_delta) + 1;
        let incoming = Incoming { batch, checked, now_ms, epoch, chunk_ms_max, claim };
        let (partition, directory) = (self.clone(), log.directory());
        let done = move |fate| partition.written(directory, Some(end), fate);
        let appended = log.append_leader(incoming, high_watermark, done)?;
        if !appended.duplicate {
            self.meters.messages_in.fetch_add(count, Ordering::Relaxed);
            self.meters.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        }
        core.waiters.appended();
        if sabotage::on("high-watermark-ahead") {
            core.advance(appended.end_offset);
        }
        Ok(appended)
    }

    /// The lane's news: everything below `end` is on stable storage, or `directory` is offline.
    fn written(&self, directory: KafkaUuid, end: Option<Offset>, fate: Result<(), Poisoned>) {
        let mut core = self.core.lock();
        if core.log.as_ref().is_some_and(|log| log.directory() != directory) {
            // The log has moved since, and what was written with it: its new directory tells.
            return;
        }
        match (fate, end) {
            (Ok(()), Some(end)) => self.stored(&mut core, end),
            (Ok(()), None) => {}
            (Err(_), _) => core.resign(ErrorCode::KafkaStorageError),
        }
    }

    /// Resolves when the high watermark is at least `end`, an offset that the log had in `epoch`. Fails if the
    /// partition stops leading first, or has done so since then: what is there now may be something else.
    pub fn committed(&self, epoch: LeaderEpoch, end: Offset) -> BoxFuture<'static, Commit> {
        let mut core = self.core.lock();
        let told = match core.leading_since(epoch) {
            _ if sabotage::on("ack-before-write") => Some(Ok(())),
            Ok(()) if core.high_watermark < end => None,
            outcome => Some(outcome),
        };
        if let Some(outcome) = told {
            return Box::pin(std::future::ready(outcome));
        }
        let outcome = core.waiters.commit(end);
        Box::pin(async move { outcome.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)) })
    }

    /// Start, stable, committed and end offsets; an error if this broker does not lead.
    pub fn offsets(&self) -> Result<LogOffsets, ErrorCode> {
        let core = self.core.lock();
        core.leading()?;
        core.offsets()
    }

    /// The same without regard to the role: for metrics.
    pub fn offsets_if_any(&self) -> Option<LogOffsets> {
        self.core.lock().offsets().ok()
    }

    /// Everything below is on this replica's stable storage, whatever its role; for whoever looks in from outside.
    pub fn durable_end(&self) -> Offset {
        self.core.lock().durable_end
    }

    /// Bytes and chunks of the log, for metrics and DescribeLogDirs.
    pub fn size(&self) -> (u64, usize) {
        self.core.lock().log.as_ref().map_or((0, 0), |log| (log.bytes(), log.chunks()))
    }

    /// The id of the data directory it lies in; `None` once it is deleted, and if the directory is not known.
    pub fn directory(&self) -> Option<KafkaUuid> {
        self.core.lock().log.as_ref().map(PartitionLog::directory)
    }

    /// Every producer the log knows, in the order of ids.
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        let core = self.core.lock();
        let producers = core.log.iter().flat_map(|log| log.producers().iter());
        producers.map(|(id, producer)| ActiveProducer::new(id, producer)).collect()
    }

    /// Active idempotent producers, for metrics.
    pub fn producer_count(&self) -> usize {
        self.core.lock().log.as_ref().map_or(0, |log| log.producers().len())
    }

    /// Reads whole batches below the isolation's bound.
    pub async fn read(self: &Arc<Self>, ask: ReadAsk) -> Result<Read, ErrorCode> {
        if let Some(read) = self.read_now(&ask) {
            return read;
        }
        let partition = self.clone();
        self.env.blocking(move || partition.read_blocking(&ask)).await
    }

    fn plan_read(&self, ask: &ReadAsk) -> Result<Planned, ErrorCode> {
        let core = self.core.lock();
        core.check_epoch(ask.leader_epoch, ask.leader_only)?;
        core.plan_read(ask)
    }

    /// The same, if the disk is not needed for it.
    pub fn read_now(&self, ask: &ReadAsk) -> Option<Result<Read, ErrorCode>> {
        match self.plan_read(ask) {
            Ok(Planned::Cold(..)) => None,
            Ok(Planned::Diverges(offsets, diverging)) => {
                Some(Ok(Read { batches: Vec::new(), offsets, diverging: Some(diverging) }))
            }
            Ok(Planned::Found(offsets, batches)) => Some(Ok(Read { batches, offsets, diverging: None })),
            Err(code) => Some(Err(code)),
        }
    }

    /// The same, from the disk if need be. Blocking.
    pub fn read_blocking(&self, ask: &ReadAsk) -> Result<Read, ErrorCode> {
        let read = |offsets, batches, diverging| Ok(Read { batches, offsets, diverging });
        loop {
            let directory = self.directory();
            match self.plan_read(ask)? {
                Planned::Found(offsets, batches) => return read(offsets, batches, None),
                Planned::Diverges(offsets, diverging) => return read(offsets, Vec::new(), Some(diverging)),
                Planned::Cold(offsets, work) => {
                    let batches = work.run().map_err(|failure| self.unreadable(&failure))?;
                    // Unless the log has moved meanwhile, and was deleted where it is read.
                    if !batches.is_empty() || self.directory() == directory {
                        return read(offsets, batches, None);
                    }
                }
            }
        }
    }

    /// Bytes that a read would give now, at most `bytes_max`; 0 if it would fail.
    pub fn readable_bytes(&self, from: Offset, bytes_max: usize, isolation: Isolation) -> usize {
        let core = self.core.lock();
        match (core.offsets(), &core.log) {
            (Ok(offsets), Some(log)) => log.readable_bytes(from, offsets.bound(isolation), bytes_max),
            _ => 0,
        }
    }

    /// Wakes `wait` once, with the next news of this partition.
    pub fn watch(&self, wait: &Arc<FetchWait>) {
        self.core.lock().waiters.fetch(wait);
    }

    /// The first record with a timestamp of at least `target`, below the isolation's bound.
    pub async fn offset_for_timestamp(
        &self,
        target: WallMillis,
        isolation: Isolation,
        leader_epoch: LeaderEpoch,
    ) -> Result<Option<FoundRecord>, ErrorCode> {
        self.look_up(isolation, leader_epoch, move |lookup| lookup.at_or_after(target)).await
    }

    /// The first record with the largest timestamp (KIP-734).
    pub async fn offset_of_max_timestamp(
        &self,
        isolation: Isolation,
        leader_epoch: LeaderEpoch,
    ) -> Result<Option<FoundRecord>, ErrorCode> {
        self.look_up(isolation, leader_epoch, TimestampLookup::largest).await
    }

    async fn look_up(
        &self,
        isolation: Isolation,
        leader_epoch: LeaderEpoch,
        look: impl Fn(&TimestampLookup) -> Result<Option<FoundRecord>, ReadFailure> + Clone + Send + 'static,
    ) -> Result<Option<FoundRecord>, ErrorCode> {
        loop {
            let directory = self.directory();
            let lookup = self.timestamps(isolation, leader_epoch)?;
            let look = look.clone();
            let found = self.env.blocking(move || look(&lookup)).await;
            // A log that has moved meanwhile may have been deleted where it was looked into.
            if self.directory() == directory {
                return found.map_err(|failure| self.unreadable(&failure));
            }
        }
    }

    /// Tells of a read that gave nothing; what the client is told.
    fn unreadable(&self, failure: &ReadFailure) -> ErrorCode {
        if matches!(failure, ReadFailure::Corrupt(_)) {
            self.meters.corrupt_reads.fetch_add(1, Ordering::Relaxed);
        }
        tracing::error!(partition = %self.name(), %failure, "cannot read from disk");
        failure.code()
    }

    fn timestamps(&self, isolation: Isolation, leader_epoch: LeaderEpoch) -> Result<TimestampLookup, ErrorCode> {
        let core = self.core.lock();
        core.check_epoch(leader_epoch, true)?;
        let up_to = core.offsets()?.bound(isolation);
        core.log.as_ref().map(|log| log.timestamps(up_to)).ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// The epoch that holds `offset - 1`'s place in the history: what ListOffsets returns beside an offset.
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let core = self.core.lock();
        core.log.as_ref().map_or(-1, |log| log.epochs().epoch_of(offset).unwrap_or(-1))
    }

    /// The largest known epoch up to `epoch` and where it ends (OffsetForLeaderEpoch); (-1, -1) if unknown.
    pub fn offset_for_epoch(
        &self,
        epoch: LeaderEpoch,
        current: LeaderEpoch,
    ) -> Result<(LeaderEpoch, Offset), ErrorCode> {
        let core = self.core.lock();
        core.check_epoch(current, true)?;
        let log = core.log.as_ref().ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok(log.epochs().end_offset_for(epoch, log.log_end()))
    }

    /// Forgets producers that were idle too long.
    pub fn forget_producers(&self, idle_ms_max: i64) {
        let now_ms = self.env.wall_ms();
        if let Some(log) = self.core.lock().log.as_mut() {
            // A refused write means a poisoned directory, which its own path reports.
            let _ = log.expire_producers(now_ms, idle_ms_max);
        }
    }

    /// Refuses every request from now on: the disk failed.
    pub fn take_offline(&self) {
        self.core.lock().resign(ErrorCode::KafkaStorageError);
    }

    /// Deletes the partition with its log.
    pub fn destroy(&self) {
        let mut core = self.core.lock();
        core.resign(ErrorCode::UnknownTopicOrPartition);
        let all: Vec<PartitionLog> = core.log.take().into_iter().chain(core.moving.take_all()).collect();
        for poison in all.into_iter().filter_map(|log| log.destroy().err()) {
            tracing::warn!(partition = %self.name(), %poison, "the log of a deleted partition stays until the next start");
        }
    }

    fn name(&self) -> String {
        format!("{}-{}", self.topic, self.id.partition)
    }
}

enum Planned {
    Found(LogOffsets, Batches),
    Cold(LogOffsets, ColdRead),
    Diverges(LogOffsets, Divergence),
}

impl LogOffsets {
    /// The first offset that a reader of this isolation may not see.
    pub fn bound(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable,
            Isolation::LogEnd => self.log_end,
        }
    }
}

impl Core {
    fn without_log(code: ErrorCode) -> Core {
        Core {
            role: Role::Offline(code),
            log: None,
            durable_end: 0,
            durable_start: 0,
            high_watermark: 0,
            waiters: Waiters::default(),
            partition_epoch: -1,
            replicas: None,
            leading_since: -1,
            leader: None,
            leader_high_watermark: 0,
            cuts: 0,
            cuts_under_way: 0,
            moving: Moving::default(),
        }
    }

    fn leading(&self) -> Result<LeaderEpoch, ErrorCode> {
        match self.role {
            Role::Leading(epoch) => Ok(epoch),
            Role::Following(_) => Err(ErrorCode::NotLeaderOrFollower),
            Role::Offline(code) => Err(code),
        }
    }

    /// Fails unless this replica leads and has done so without a break since `epoch`.
    fn leading_since(&self, epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        self.leading()?;
        if self.leading_since <= epoch { Ok(()) } else { Err(ErrorCode::NotLeaderOrFollower) }
    }

    /// Checks the leader epoch that a reader knows against this replica's (`Partition.checkCurrentLeaderEpoch`).
    fn check_epoch(&self, known: LeaderEpoch, leader_only: bool) -> Result<(), ErrorCode> {
        let epoch = match self.role {
            Role::Leading(epoch) | Role::Following(epoch) => epoch,
            Role::Offline(code) => return Err(code),
        };
        match known {
            _ if sabotage::on("epoch-not-fenced") => Ok(()),
            -1 => Ok(()),
            older if older < epoch => Err(ErrorCode::FencedLeaderEpoch),
            newer if newer > epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }?;
        if leader_only { self.leading().map(drop) } else { Ok(()) }
    }

    fn plan_read(&self, ask: &ReadAsk) -> Result<Planned, ErrorCode> {
        let offsets = self.offsets()?;
        let log = self.log.as_ref().ok_or(ErrorCode::UnknownTopicOrPartition)?;
        // Before the offset is looked at: a reader whose log is longer than this one must learn where they part.
        if ask.last_fetched_epoch >= 0 && !sabotage::on("divergence-ignored") {
            let (epoch, end_offset) = log.epochs().end_offset_for(ask.last_fetched_epoch, offsets.log_end);
            if epoch < 0 || end_offset < 0 {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            if epoch < ask.last_fetched_epoch || end_offset < ask.from {
                return Ok(Planned::Diverges(offsets, Divergence { epoch, end_offset }));
            }
        }
        if ask.from < offsets.log_start || ask.from > offsets.log_end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if ask.from < log.log_start() {
            // It is given up, and a crash may still bring it back.
            return Err(ErrorCode::OffsetNotAvailable);
        }
        match log.read(ask.from, offsets.bound(ask.isolation), ask.bytes_max, ask.at_least_one) {
            Ok(batches) => Ok(Planned::Found(offsets, batches)),
            Err(work) => Ok(Planned::Cold(offsets, work)),
        }
    }

    fn offsets(&self) -> Result<LogOffsets, ErrorCode> {
        let log = self.log.as_ref().ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let high_watermark = self.high_watermark;
        let last_stable = log.first_unstable().map_or(high_watermark, |first| first.min(high_watermark));
        Ok(LogOffsets { log_start: self.durable_start, last_stable, high_watermark, log_end: log.log_end() })
    }

    /// Moves the high watermark forward and tells who waited for it.
    fn advance(&mut self, to: Offset) {
        if to > self.high_watermark {
            self.high_watermark = to;
            if let Some(log) = &mut self.log {
                log.note_high_watermark(to);
            }
            self.waiters.advanced(to);
        }
    }

    fn resign(&mut self, code: ErrorCode) {
        self.role = Role::Offline(code);
        self.replicas = None;
        self.waiters.fail(code);
    }
}

/// Checks a batch by the rules of its origin. Returns it, re-encoded only where the topic's codec asks for it.
fn check(
    batch: Bytes,
    origin: Origin,
    settings: &TopicSettings,
    now_ms: WallMillis,
) -> Result<(Bytes, Checked), AppendRefused> {
    if let Origin::Coordinator(_) = origin {
        let header = BatchHeader::parse(&batch).map_err(|_| AppendRefused::from(ErrorCode::CorruptMessage))?;
        let (max_timestamp, timestamps) = (header.max_timestamp, Timestamps::Keep);
        return Ok((batch, Checked { header, max_timestamp, timestamps, rebuild: None }));
    }
    let rules = ProduceRules {
        max_message_bytes: settings.max_message_bytes,
        segment_bytes: settings.segment_bytes,
        compacted: settings.cleanup_policy.compact,
        log_append_time: settings.message_timestamp_type == TimestampType::LogAppendTime,
        timestamp_before_max_ms: settings.message_timestamp_before_max_ms,
        timestamp_after_max_ms: settings.message_timestamp_after_max_ms,
        now_ms,
        compression: compression(settings),
    };
    let checked = records::check_produced(&batch, &rules)?;
    Ok(records::conform(batch, checked, &rules)?)
}

fn compression(settings: &TopicSettings) -> Option<Compression> {
    let (codec, level) = match settings.compression_type {
        CompressionType::Producer => return None,
        CompressionType::Uncompressed => (records::Codec::None, None),
        CompressionType::Gzip => {
            (records::Codec::Gzip, Some(settings.compression_gzip_level).filter(|&level| level >= 0))
        }
        CompressionType::Snappy => (records::Codec::Snappy, None),
        CompressionType::Lz4 => (records::Codec::Lz4, Some(settings.compression_lz4_level)),
        CompressionType::Zstd => (records::Codec::Zstd, Some(settings.compression_zstd_level)),
    };
    Some(Compression { codec, level })
}

/// How long the records of one chunk may span: a chunk expires as a whole, so it must be short against the retention,
/// and the chunk being filled is not compacted.
fn chunk_span(settings: &TopicSettings) -> i64 {
    let by_retention = if settings.retention_ms > 0 { (settings.retention_ms / 8).max(1000) } else { i64::MAX };
    segment_span(settings).min(by_retention)
}

/// How long Kafka's active segment may span (`UnifiedLog.maxSegmentMs`).
fn segment_span(settings: &TopicSettings) -> i64 {
    let by_lag = if settings.cleanup_policy.compact { settings.max_compaction_lag_ms } else { i64::MAX };
    settings.segment_ms.min(by_lag)
}
