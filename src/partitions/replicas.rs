//! What a leader knows of its replicas: how far each follower is, who is in sync, and what that makes committed
//! (Kafka's `Partition` and `Replica`, KIP-497, KIP-903, KIP-966). Pure: time and the state of brokers are arguments.
//!
//! Invariants: the high watermark is at most the position of every member of the *maximal* ISR, which contains every
//! set that the controller may believe in; it does not move while the ISR that the controller confirmed is below its
//! minimum. At most one change of the ISR is under way. A follower joins only after a fetch in this leader epoch that
//! reached both the high watermark and the start of the epoch.

use std::collections::BTreeMap;

use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::metadata::{Altered, PartitionRegistration};
use crate::sabotage;

/// Monotonic milliseconds, from any origin.
pub type Millis = u64;

/// Brokers that may be in an ISR (registered, not fenced, not shutting down), each with its epoch.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ActiveBrokers(BTreeMap<BrokerId, i64>);

impl ActiveBrokers {
    pub fn new(brokers: impl IntoIterator<Item = (BrokerId, i64)>) -> ActiveBrokers {
        ActiveBrokers(brokers.into_iter().collect())
    }

    pub fn contains(&self, id: BrokerId) -> bool {
        self.0.contains_key(&id)
    }

    pub fn epoch(&self, id: BrokerId) -> Option<i64> {
        self.0.get(&id).copied()
    }
}

/// What holds for a decision: the time, the brokers, the settings.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub now_ms: Millis,
    pub active: &'a ActiveBrokers,
    /// `replica.lag.time.max.ms`.
    pub lag_ms_max: Millis,
    /// `min.insync.replicas`.
    pub min_isr: usize,
}

/// A follower's fetch, as far as it says how far the follower is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerFetch {
    pub id: BrokerId,
    /// The epoch of the follower's registration; -1 if the request is too old to say.
    pub broker_epoch: i64,
    /// Everything below is on the follower's stable storage.
    pub offset: Offset,
    pub log_start: Offset,
}

/// What is known of a follower since the leader took its epoch.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Follower {
    /// `None` until its first fetch.
    offset: Option<Offset>,
    log_start: Offset,
    broker_epoch: Option<i64>,
    fetched_ms: Millis,
    /// The leader's end at that fetch.
    end_then: Option<Offset>,
    /// When it last had all that the leader had; `None`: never.
    caught_up_ms: Option<Millis>,
}

impl Follower {
    fn is_caught_up(&self, log_end: Offset, terms: &Terms<'_>) -> bool {
        let lately = self.caught_up_ms.is_some_and(|then| terms.now_ms.saturating_sub(then) <= terms.lag_ms_max);
        self.offset == Some(log_end) || lately
    }

    fn note(&mut self, fetch: &FollowerFetch, log_end: Offset, now_ms: Millis) {
        if fetch.offset >= log_end {
            self.caught_up_ms = Some(now_ms);
        } else if self.end_then.is_some_and(|end| fetch.offset >= end) {
            // It has all that there was when it last asked.
            self.caught_up_ms = self.caught_up_ms.max(Some(self.fetched_ms));
        }
        self.offset = Some(fetch.offset);
        self.log_start = fetch.log_start;
        self.broker_epoch = (fetch.broker_epoch >= 0).then_some(fetch.broker_epoch).or(self.broker_epoch);
        self.fetched_ms = now_ms;
        self.end_then = Some(log_end);
    }
}

/// A change of the ISR that the controller is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrProposal {
    /// Tells it from the others of this leader epoch.
    pub number: u64,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    /// With the broker epoch under which each member is known; -1 if it is not.
    pub isr: Vec<(BrokerId, i64)>,
}

/// What follows from an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// The ISR is what the controller says.
    Adopted,
    /// Nothing changed; a new proposal may be made.
    Dropped,
    /// What became of it is not known: the next image tells.
    Unknown,
    /// The same proposal is to be sent again.
    Again,
    /// The answer is not about the present proposal.
    Late,
}

/// See the file's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replicas {
    me: BrokerId,
    epoch: LeaderEpoch,
    /// The end of the leader's log when it took the epoch.
    epoch_start: Offset,
    partition_epoch: i32,
    /// The ISR as the controller last confirmed it, the leader included.
    isr: Vec<BrokerId>,
    /// The controller has it that this leader was elected uncleanly and has not recovered yet.
    recovering: bool,
    proposed: Option<IsrProposal>,
    proposals: u64,
    followers: BTreeMap<BrokerId, Follower>,
}

impl Replicas {
    /// `me` has just taken leadership, with a log that ends at `log_end`.
    pub fn new(me: BrokerId, registration: &PartitionRegistration, log_end: Offset, now_ms: Millis) -> Replicas {
        let mut replicas = Replicas {
            me,
            epoch: registration.leader_epoch,
            epoch_start: log_end,
            partition_epoch: registration.partition_epoch,
            isr: registration.isr.clone(),
            recovering: registration.recovering,
            proposed: None,
            proposals: 0,
            followers: BTreeMap::new(),
        };
        replicas.settle_followers(registration);
        for (id, follower) in &mut replicas.followers {
            // Who is in sync has the lag time to fetch; who is not must not hold the high watermark back.
            follower.caught_up_ms = replicas.isr.contains(id).then_some(now_ms);
        }
        replicas
    }

    fn settle_followers(&mut self, registration: &PartitionRegistration) {
        self.followers.retain(|id, _| registration.replicas.contains(id));
        for &id in registration.replicas.iter().filter(|&&id| id != self.me) {
            self.followers.entry(id).or_default();
        }
    }

    /// Takes over what the image says, in the same leader epoch. An image that is older than what the controller
    /// answered is passed over; a newer one ends whatever is proposed.
    pub fn adopt(&mut self, registration: &PartitionRegistration) {
        if registration.partition_epoch <= self.partition_epoch {
            return;
        }
        self.partition_epoch = registration.partition_epoch;
        self.isr.clone_from(&registration.isr);
        self.recovering = registration.recovering;
        self.proposed = None;
        self.settle_followers(registration);
    }

    /// True if there is no follower: what is on the leader's disk is committed.
    pub fn is_alone(&self) -> bool {
        self.followers.is_empty()
    }

    /// The ISR that the controller confirmed.
    pub fn isr(&self) -> &[BrokerId] {
        &self.isr
    }

    fn in_maximal_isr(&self, id: BrokerId) -> bool {
        if sabotage::on("isr-unconfirmed") {
            return self
                .proposed
                .as_ref()
                .map_or(self.isr.contains(&id), |next| next.isr.iter().any(|one| one.0 == id));
        }
        self.isr.contains(&id) || self.proposed.iter().any(|next| next.isr.iter().any(|(member, _)| *member == id))
    }

    fn maximal_isr_len(&self) -> usize {
        let joining = self.proposed.iter().flat_map(|next| &next.isr).filter(|(id, _)| !self.isr.contains(id));
        self.isr.len() + joining.count()
    }

    fn min_isr(&self, terms: &Terms<'_>) -> usize {
        terms.min_isr.clamp(1, self.followers.len() + 1)
    }

    /// True if acks=all may be promised.
    pub fn has_enough(&self, terms: &Terms<'_>) -> bool {
        self.isr.len() >= self.min_isr(terms)
    }

    /// True if what reached the high watermark is on as many replicas as were asked for.
    pub fn had_enough(&self, terms: &Terms<'_>) -> bool {
        self.maximal_isr_len() >= self.min_isr(terms)
    }

    /// Whether a fetch may be served. Not one of somebody who is no replica (6; 75 if the request `knows_epoch`, the
    /// leader's), and not one from an earlier life of the follower (6).
    pub fn check_fetch(&self, fetch: &FollowerFetch, knows_epoch: bool) -> Result<(), ErrorCode> {
        let Some(follower) = self.followers.get(&fetch.id) else {
            // It agrees on the epoch, so perhaps it has heard of its assignment before the leader.
            return Err(if knows_epoch { ErrorCode::UnknownLeaderEpoch } else { ErrorCode::NotLeaderOrFollower });
        };
        let earlier = fetch.broker_epoch >= 0 && follower.broker_epoch.is_some_and(|known| known > fetch.broker_epoch);
        if earlier { Err(ErrorCode::NotLeaderOrFollower) } else { Ok(()) }
    }

    /// Takes note of a fetch that was in order and did not diverge. `log_end` is the leader's.
    pub fn note_fetch(&mut self, fetch: &FollowerFetch, log_end: Offset, now_ms: Millis) {
        if let Some(follower) = self.followers.get_mut(&fetch.id) {
            follower.note(fetch, log_end, now_ms);
        }
    }

    /// What is committed, given what is: at least `current`. `durable_end` is the leader's own vote.
    pub fn high_watermark(&self, current: Offset, durable_end: Offset, log_end: Offset, terms: &Terms<'_>) -> Offset {
        if !self.has_enough(terms) && !sabotage::on("below-min-isr") {
            return current;
        }
        if sabotage::on("high-watermark-ahead-of-isr") {
            return durable_end.max(current);
        }
        let mut lowest = durable_end;
        for (&id, follower) in &self.followers {
            let counts = self.in_maximal_isr(id)
                // One that is about to join: waiting for it lets it.
                || (follower.offset.is_some() && follower.is_caught_up(log_end, terms) && self.may_join(id, terms));
            if counts {
                lowest = lowest.min(follower.offset.unwrap_or(-1));
            }
        }
        lowest.max(current)
    }

    fn may_join(&self, id: BrokerId, terms: &Terms<'_>) -> bool {
        let Some(registered) = terms.active.epoch(id) else { return false };
        let known = self.followers.get(&id).and_then(|follower| follower.broker_epoch);
        known.is_none_or(|known| known == registered)
    }

    /// Proposes that `id` joins, if it may. True if there is a new proposal.
    pub fn propose_joining(&mut self, id: BrokerId, high_watermark: Offset, terms: &Terms<'_>) -> bool {
        let offset = self.followers.get(&id).and_then(|follower| follower.offset);
        let reached = offset.is_some_and(|offset| offset >= high_watermark && offset >= self.epoch_start)
            || (offset.is_some() && sabotage::on("joins-too-early"));
        if self.proposed.is_some() || self.isr.contains(&id) || !reached || !self.may_join(id, terms) {
            return false;
        }
        // It has what is committed, if not all that there is: the lag time to get that begins now. Else it would leave
        // as soon as it has joined.
        if let Some(follower) = self.followers.get_mut(&id) {
            follower.caught_up_ms = Some(terms.now_ms);
        }
        let mut next = self.isr.clone();
        next.push(id);
        self.propose(next, terms);
        true
    }

    /// Proposes that those leave who were not caught up for too long. Returns who, if there is a new proposal.
    pub fn propose_leaving(&mut self, log_end: Offset, terms: &Terms<'_>) -> Vec<BrokerId> {
        if self.proposed.is_some() {
            return Vec::new();
        }
        let lags =
            |id: &BrokerId| self.followers.get(id).is_some_and(|follower| !follower.is_caught_up(log_end, terms));
        let (leaving, staying): (Vec<BrokerId>, Vec<BrokerId>) = self.isr.iter().copied().partition(lags);
        if !leaving.is_empty() {
            self.propose(staying, terms);
        }
        leaving
    }

    /// Proposes the ISR as it is, if this leader was elected uncleanly: there is nothing to recover, it has what it has
    /// (KIP-704). Every proposal says so. True if there is a new one.
    pub fn propose_recovered(&mut self, terms: &Terms<'_>) -> bool {
        let proposes = self.recovering && self.proposed.is_none();
        if proposes {
            self.propose(self.isr.clone(), terms);
        }
        proposes
    }

    fn propose(&mut self, isr: Vec<BrokerId>, terms: &Terms<'_>) {
        let epoch_of = |id: BrokerId| match self.followers.get(&id) {
            Some(follower) => follower.broker_epoch.unwrap_or(-1),
            None => terms.active.epoch(id).unwrap_or(-1),
        };
        self.proposals += 1;
        self.proposed = Some(IsrProposal {
            number: self.proposals,
            leader_epoch: self.epoch,
            partition_epoch: self.partition_epoch,
            isr: isr.into_iter().map(|id| (id, epoch_of(id))).collect(),
        });
    }

    /// What the controller is to be asked for.
    pub fn proposal(&self) -> Option<&IsrProposal> {
        self.proposed.as_ref()
    }

    /// Hears what the controller made of a proposal.
    pub fn answered(&mut self, proposal: &IsrProposal, answer: &Altered) -> Settled {
        if self.proposed.as_ref() != Some(proposal) {
            return Settled::Late;
        }
        match answer {
            Ok(answer) if answer.leader_epoch != self.epoch || answer.partition_epoch < self.partition_epoch => {
                Settled::Unknown
            }
            Ok(answer) => {
                self.partition_epoch = answer.partition_epoch;
                self.isr.clone_from(&answer.isr);
                self.recovering = answer.recovering;
                self.proposed = None;
                Settled::Adopted
            }
            Err(ErrorCode::OperationNotAttempted | ErrorCode::IneligibleReplica) => {
                self.proposed = None;
                Settled::Dropped
            }
            // The controller may have applied it, or knows more than this leader: only metadata can tell.
            Err(
                ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::InvalidUpdateVersion
                | ErrorCode::InvalidRequest
                | ErrorCode::NewLeaderElected,
            ) => Settled::Unknown,
            Err(_) => Settled::Again,
        }
    }

    /// The smallest log start of the replicas that are there: below it, nobody has anything any more.
    pub fn low_watermark(&self, log_start: Offset, active: &ActiveBrokers) -> Offset {
        let there = self.followers.iter().filter(|(id, _)| active.contains(**id));
        there
            .map(|(_, follower)| if follower.offset.is_some() { follower.log_start } else { -1 })
            .fold(log_start, Offset::min)
    }

    /// The follower, of those in `candidates`, that a consumer at `offset` is best served by: the one that has most, of
    /// equals the one that was caught up last (Kafka's `ReplicaView.comparator`).
    pub fn best_follower(&self, candidates: &[BrokerId], offset: Offset) -> Option<BrokerId> {
        let serves =
            |follower: &Follower| follower.offset.is_some_and(|end| end >= offset) && follower.log_start <= offset;
        let able = self.followers.iter().filter(|(id, follower)| candidates.contains(id) && serves(follower));
        able.max_by_key(|(id, follower)| (follower.offset, follower.caught_up_ms, **id)).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests;
