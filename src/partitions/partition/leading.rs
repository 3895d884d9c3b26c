//! A partition's life as leader: taking office, serving followers, the in-sync replicas, and what they make committed.
//!
//! Invariants: the epoch is in the log's history, on its way to the disk, before anything is appended in it. A follower
//! is answered from what is appended, synced here or not: it may be on more disks than this one when it counts. What
//! this leader itself votes for is what is on its disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[cfg(test)]
use super::Read;
use super::{Core, LogOffsets, Partition, Planned, ReadAsk, Role};
use crate::env::BoxFuture;
use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::metadata::{Altered, PartitionRegistration};
use crate::partitions::replicas::{FollowerFetch, IsrProposal, Millis, Replicas, Settled, Terms};
use crate::partitions::throttle;
use crate::partitions::waiters::{Commit, FetchWait};
use crate::sabotage;
use crate::storage::log::PartitionLog;

/// Whether what a follower copies is limited (`leader.replication.throttled.replicas`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copying {
    Free,
    /// It counts against the rate.
    Counted,
    /// The rate is exceeded, and the follower is not in sync: it gets no records now.
    HeldUp,
}

impl Copying {
    /// What is asked for, as far as the limit allows it.
    pub fn limit(self, ask: ReadAsk) -> ReadAsk {
        match self {
            Copying::HeldUp => ReadAsk { bytes_max: 0, at_least_one: false, ..ask },
            Copying::Free | Copying::Counted => ask,
        }
    }
}

/// The role that a partition has just taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assumed {
    Leading(LeaderEpoch),
    Following(LeaderEpoch),
}

impl Partition {
    /// Does what the image says of this partition. Says which role is new. An image that is older than what is known
    /// already is passed over.
    pub fn assume(self: &Arc<Self>, registration: &PartitionRegistration) -> Option<Assumed> {
        let mut core = self.core.lock();
        let offline = core.log.as_ref().is_none_or(|log| log.is_offline());
        if offline || registration.partition_epoch < core.partition_epoch {
            return None;
        }
        core.partition_epoch = registration.partition_epoch;
        match (registration.leader, core.role) {
            (Some(leader), Role::Leading(held))
                if leader == self.neighbours.node && held >= registration.leader_epoch =>
            {
                if let Some(replicas) = &mut core.replicas {
                    replicas.adopt(registration);
                }
                self.propose_recovered(&mut core);
                self.reconsider(&mut core);
                None
            }
            (Some(leader), _) if leader == self.neighbours.node => self.lead(&mut core, registration),
            (leader, Role::Following(held)) if held == registration.leader_epoch && leader == core.leader => None,
            _ => self.follow(&mut core, registration),
        }
    }

    fn lead(self: &Arc<Self>, core: &mut Core, registration: &PartitionRegistration) -> Option<Assumed> {
        let epoch = registration.leader_epoch;
        let partition = self.clone();
        let log = core.log.as_mut()?;
        let (log_end, directory) = (log.log_end(), log.directory());
        if !sabotage::on("epoch-not-begun")
            && log.begin_epoch(epoch, move |fate| partition.written(directory, None, fate)).is_err()
        {
            core.resign(ErrorCode::KafkaStorageError);
            return None;
        }
        if core.leading().is_err() {
            core.leading_since = epoch;
        }
        core.role = Role::Leading(epoch);
        core.replicas = Some(Replicas::new(self.neighbours.node, registration, log_end, self.now_ms()));
        core.leader = None;
        self.propose_recovered(core);
        self.reconsider(core);
        core.waiters.wake_fetches();
        Some(Assumed::Leading(epoch))
    }

    fn now_ms(&self) -> Millis {
        self.env.now().duration_since(self.born).as_millis() as Millis
    }

    /// Everything below `end` is on stable storage.
    pub(super) fn stored(&self, core: &mut Core, end: Offset) {
        let Some(log) = &core.log else { return };
        core.durable_end = core.durable_end.max(end.min(log.log_end()));
        let durable = core.durable_end;
        core.waiters.synced(durable);
        match core.role {
            Role::Leading(_) => self.reconsider(core),
            Role::Following(_) => core.advance(core.leader_high_watermark.min(durable)),
            Role::Offline(_) => {}
        }
    }

    /// Computes anew what is committed.
    fn reconsider(&self, core: &mut Core) {
        let (Some(log), Some(replicas)) = (&core.log, &core.replicas) else { return };
        let committed = match replicas.is_alone() {
            true => core.durable_end,
            false => {
                let (current, durable, end) = (core.high_watermark, core.durable_end, log.log_end());
                self.on_terms(|terms| replicas.high_watermark(current, durable, end, terms))
            }
        };
        core.advance(committed);
    }

    fn on_terms<T>(&self, decide: impl FnOnce(&Terms<'_>) -> T) -> T {
        let active = self.neighbours.active();
        let min_isr = self.settings.load().min_insync_replicas.max(1) as usize;
        decide(&Terms { now_ms: self.now_ms(), active: &active, lag_ms_max: self.neighbours.lag_ms_max, min_isr })
    }

    /// Looks at a follower's fetch, and, with `first`, takes it for the acknowledgement of everything before it.
    /// Kafka's order: the leader's epoch, who asks, where the logs part, the offset.
    pub fn admit_follower(&self, ask: &ReadAsk, fetch: &FollowerFetch, first: bool) -> Result<Copying, ErrorCode> {
        let throttled = {
            let named = &self.settings.load().leader_replication_throttled_replicas;
            throttle::names(named, self.id.partition, self.neighbours.node)
        };
        let mut core = self.core.lock();
        core.check_epoch(ask.leader_epoch, true)?;
        let replicas = core.replicas.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
        replicas.check_fetch(fetch, ask.leader_epoch >= 0)?;
        let in_sync = replicas.isr().contains(&fetch.id);
        let without_records = ReadAsk { bytes_max: 0, at_least_one: false, ..*ask };
        if first && !matches!(core.plan_read(&without_records)?, Planned::Diverges(..)) {
            self.note_fetch(&mut core, fetch);
        }
        Ok(match throttled {
            false => Copying::Free,
            true if !in_sync && self.neighbours.outgoing.is_exceeded(self.env.wall_ms() as Millis) => Copying::HeldUp,
            true => Copying::Counted,
        })
    }

    /// Counts what a follower is given of a partition whose copying is limited.
    pub fn count_copied(&self, bytes: u64) {
        self.neighbours.outgoing.copied(bytes, self.env.wall_ms() as Millis);
    }

    /// Reads for a follower whose fetch is an acknowledgement.
    #[cfg(test)]
    pub async fn replicate(
        self: &Arc<Self>,
        ask: ReadAsk,
        fetch: FollowerFetch,
        first: bool,
    ) -> Result<Read, ErrorCode> {
        let copying = self.admit_follower(&ask, &fetch, first)?;
        let read = self.read(copying.limit(ask)).await?;
        if copying != Copying::Free {
            self.count_copied(read.batches.iter().map(|batch| batch.len() as u64).sum());
        }
        Ok(read)
    }

    fn note_fetch(&self, core: &mut Core, fetch: &FollowerFetch) {
        let (Some(log), Some(replicas)) = (&core.log, &mut core.replicas) else { return };
        replicas.note_fetch(fetch, log.log_end(), self.now_ms());
        let high_watermark = core.high_watermark;
        if self.on_terms(|terms| replicas.propose_joining(fetch.id, high_watermark, terms)) {
            tracing::debug!(partition = %self.name(), follower = %fetch.id, "a follower has caught up and is to join the ISR");
            self.neighbours.proposing.add(self.id);
        }
        self.reconsider(core);
        self.reconsider_deletions(core);
    }

    /// Has the controller hear that an unclean leader has nothing to recover.
    fn propose_recovered(&self, core: &mut Core) {
        let Some(replicas) = &mut core.replicas else { return };
        if self.on_terms(|terms| replicas.propose_recovered(terms)) {
            tracing::info!(partition = %self.name(), "elected uncleanly, this leader goes on with what it has");
            self.neighbours.proposing.add(self.id);
        }
    }

    /// Proposes to go on without the followers that lag.
    pub fn shrink_isr(&self) {
        let mut core = self.core.lock();
        let Core { log: Some(log), replicas: Some(replicas), .. } = &mut *core else { return };
        let leaving = self.on_terms(|terms| replicas.propose_leaving(log.log_end(), terms));
        if !leaving.is_empty() {
            let log_end = log.log_end();
            tracing::info!(partition = %self.name(), ?leaving, log_end, "followers lag and are to leave the ISR");
            self.neighbours.proposing.add(self.id);
        }
        self.propose_recovered(&mut core);
        // One that was caught up within the lag time no longer is, or a broker was fenced: neither is waited for.
        self.reconsider(&mut core);
        self.reconsider_deletions(&mut core);
    }

    /// The ISR change to ask the controller for, if this broker leads and there is one.
    pub fn isr_proposal(&self) -> Option<IsrProposal> {
        self.core.lock().replicas.as_ref()?.proposal().cloned()
    }

    /// Hears what the controller made of a proposal. True if it is to be sent again.
    pub fn isr_answered(&self, proposal: &IsrProposal, answer: &Altered) -> bool {
        let mut core = self.core.lock();
        let Some(replicas) = &mut core.replicas else { return false };
        let members = replicas.isr().len();
        let settled = replicas.answered(proposal, answer);
        let figures = &self.neighbours.figures;
        match (settled, answer) {
            (Settled::Adopted, Ok(answer)) => {
                core.partition_epoch = core.partition_epoch.max(answer.partition_epoch);
                let count = match answer.isr.len().cmp(&members) {
                    std::cmp::Ordering::Less => Some(&figures.isr_shrinks),
                    std::cmp::Ordering::Greater => Some(&figures.isr_expands),
                    std::cmp::Ordering::Equal => None,
                };
                if let Some(count) = count {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                tracing::info!(partition = %self.name(), isr = ?answer.isr, epoch = answer.partition_epoch, "ISR changed");
            }
            (Settled::Dropped | Settled::Unknown, Err(code)) => {
                figures.failed_isr_updates.fetch_add(1, Ordering::Relaxed);
                tracing::info!(partition = %self.name(), %code, ?proposal, "an ISR change was refused");
            }
            _ => {}
        }
        self.reconsider(&mut core);
        settled == Settled::Again
    }

    /// `NotEnoughReplicas` if acks=all cannot be promised now; also if this broker does not lead.
    pub fn check_in_sync(&self) -> Result<(), ErrorCode> {
        let core = self.core.lock();
        core.leading()?;
        let enough = |replicas: &Replicas| replicas.is_alone() || self.on_terms(|terms| replicas.has_enough(terms));
        if core.replicas.as_ref().is_some_and(enough) { Ok(()) } else { Err(ErrorCode::NotEnoughReplicas) }
    }

    /// Resolves when everything below `end` is on this leader's stable storage.
    pub fn synced(&self, end: Offset) -> BoxFuture<'static, Commit> {
        let mut core = self.core.lock();
        if core.durable_end >= end {
            return Box::pin(std::future::ready(Ok(())));
        }
        if let Role::Offline(code) = core.role {
            return Box::pin(std::future::ready(Err(code)));
        }
        let outcome = core.waiters.sync(end);
        Box::pin(async move { outcome.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)) })
    }

    /// Resolves when a producer may be told of its batch, which ended at `end` in `epoch`: with `all`, when the in-sync
    /// replicas have it, else when this leader's disk does. `REQUEST_TIMED_OUT` after `timeout`; the record stays in
    /// the log.
    pub fn acknowledged(
        self: &Arc<Self>,
        (epoch, end): (LeaderEpoch, Offset),
        all: bool,
        timeout: Duration,
    ) -> BoxFuture<'static, Commit> {
        let (partition, env) = (self.clone(), self.env.clone());
        // Registered before this returns, so that the wait cannot miss what it waits for.
        let all = all && !sabotage::on("acks-all-of-one");
        let reached = if all { self.committed(epoch, end) } else { self.synced(end) };
        Box::pin(async move {
            env.timeout(timeout, reached).await.unwrap_or(Err(ErrorCode::RequestTimedOut))?;
            if all { partition.check_had_enough() } else { Ok(()) }
        })
    }

    /// The ISR may have shrunk below its minimum while the record was on its way.
    fn check_had_enough(&self) -> Result<(), ErrorCode> {
        let core = self.core.lock();
        let enough = |replicas: &Replicas| replicas.is_alone() || self.on_terms(|terms| replicas.had_enough(terms));
        match &core.replicas {
            Some(replicas) if !enough(replicas) => Err(ErrorCode::NotEnoughReplicasAfterAppend),
            _ => Ok(()),
        }
    }

    /// Wakes `wait` once, with the next batch or other news of this partition: for those who see what is not committed.
    pub fn watch_end(&self, wait: &Arc<FetchWait>) {
        self.core.lock().waiters.follow(wait);
    }

    /// True if a follower that has everything below `end`, and has heard of this much, should hear more at once, though
    /// there are no records. Of what is committed behind its end it makes no use.
    pub fn has_news_for(&self, end: Offset, high_watermark: Offset, log_start: Offset) -> bool {
        let core = self.core.lock();
        let news =
            |offsets: LogOffsets| offsets.high_watermark.min(end) > high_watermark || offsets.log_start > log_start;
        core.offsets().is_ok_and(news)
    }

    /// The follower that a consumer at `offset` is best served by, of `candidates`; `None` if this broker does not lead
    /// or none of them has what the consumer wants.
    pub fn best_follower(&self, candidates: &[BrokerId], offset: Offset) -> Option<BrokerId> {
        if candidates.is_empty() {
            return None;
        }
        self.core.lock().replicas.as_ref()?.best_follower(candidates, offset)
    }

    /// Raises the log start (DeleteRecords); -1 means the high watermark. Returns the low watermark once every replica
    /// that is there has given up what lies below.
    pub async fn delete_records(self: &Arc<Self>, before: Offset) -> Result<Offset, ErrorCode> {
        let (done, reached, low_watermark) = {
            let mut core = self.core.lock();
            core.leading()?;
            let high_watermark = core.high_watermark;
            let before = if before == -1 { high_watermark } else { before };
            if before < 0 || before > high_watermark {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            let done = self.delete_before(&mut core, before)?;
            let low_watermark = core.log.as_ref().map_or(before, PartitionLog::log_start);
            let reached = core.waiters.deletion(low_watermark);
            self.reconsider_deletions(&mut core);
            (done, reached, low_watermark)
        };
        done.await?;
        reached.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))?;
        Ok(low_watermark)
    }

    fn reconsider_deletions(&self, core: &mut Core) {
        if !core.waiters.has_deletions() {
            return;
        }
        let (Some(log), Some(replicas)) = (&core.log, &core.replicas) else { return };
        let low_watermark = replicas.low_watermark(log.log_start(), &self.neighbours.active());
        core.waiters.deleted(low_watermark);
    }
}
