//! One decision about one classic group in the making: a working copy of the group, and what is to happen (pure).
//!
//! Invariants: a turn changes its own copy only; the shard adopts it, or drops it whole if the journal refuses.
//! Whatever changes the value of the group as the journal keeps it pushes the record that says so. Whoever is taken
//! out of the group while it waits gets an answer.
//!
//! The rebalance itself is here: `Empty → PreparingRebalance → CompletingRebalance → Stable`, and back to
//! `PreparingRebalance` from anywhere.

use std::sync::Arc;

use bytes::Bytes;

use super::asks::{GroupAnswer, GroupId, GroupTimer, JoinRefused, Joined, MemberId};
use super::classic::{ClassicGroup, InitialDelay, Phase, next_generation};
use super::limits::{GroupLimits, after};
use super::record::GroupRecord;
use super::{GroupShard, SoftGroup};
use crate::coordinator::shard::{AnswerId, Decision, TimerChange};
use crate::error::ErrorCode;
use crate::ids::WallMillis;

/// A decision about one group in the making.
pub(super) struct Turn {
    pub(super) id: GroupId,
    pub(super) now: WallMillis,
    pub(super) limits: GroupLimits,
    /// The group as it will be.
    pub(super) group: ClassicGroup,
    pub(super) records: Vec<GroupRecord>,
    pub(super) answers: Vec<(AnswerId, GroupAnswer)>,
    pub(super) timers: Vec<TimerChange<GroupTimer>>,
}

impl Turn {
    /// Begins a turn of the group called `id`, which is now as `group`.
    pub(super) fn new(id: GroupId, now: WallMillis, limits: GroupLimits, group: ClassicGroup) -> Turn {
        Turn { id, now, limits, group, records: Vec::new(), answers: Vec::new(), timers: Vec::new() }
    }

    /// The decision.
    pub(super) fn done(self) -> Decision<GroupShard> {
        let next = Some(SoftGroup { id: self.id, group: self.group });
        Decision { records: self.records, next, answers: self.answers, timers: self.timers }
    }

    /// Starts a rebalance unless one is in its join phase; then ends that phase if nobody is missing any more.
    pub(super) fn rebalance(&mut self) {
        match self.group.phase {
            Phase::PreparingRebalance(_) => self.complete_join_if_all_joined(),
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => self.prepare_rebalance(),
        }
    }

    /// Starts the join phase.
    pub(super) fn prepare_rebalance(&mut self) {
        if self.group.phase == Phase::CompletingRebalance {
            self.abandon_assignment();
        }
        self.group.unsynced.clear();
        self.timers.push(TimerChange::Cancel(GroupTimer::PendingSync(self.id.clone())));
        if self.group.phase == Phase::Empty {
            let delay_ms = self.limits.initial_rebalance_delay_ms;
            let remaining_ms = (self.group.rebalance_timeout_ms() - delay_ms).max(0);
            let delay = InitialDelay { delay_ms, remaining_ms, was_joined: false };
            self.enter(Phase::PreparingRebalance(Some(delay)));
            self.set_join_timer(delay_ms);
            return;
        }
        self.enter(Phase::PreparingRebalance(None));
        if self.group.all_joined() {
            self.complete_join();
        } else {
            self.set_join_timer(self.group.rebalance_timeout_ms());
        }
    }

    /// Ends the join phase if nobody is missing; an initial delay is always waited for.
    pub(super) fn complete_join_if_all_joined(&mut self) {
        if self.group.phase == Phase::PreparingRebalance(None) && self.group.all_joined() {
            self.complete_join();
        }
    }

    /// The timer of the join phase fired.
    pub(super) fn expire_join(&mut self) {
        match self.group.phase {
            Phase::PreparingRebalance(Some(delay)) if delay.was_joined && delay.remaining_ms > 0 => {
                let delay_ms = self.limits.initial_rebalance_delay_ms.min(delay.remaining_ms);
                let remaining_ms = (delay.remaining_ms - delay.delay_ms).max(0);
                let delay = InitialDelay { delay_ms, remaining_ms, was_joined: false };
                self.group.phase = Phase::PreparingRebalance(Some(delay));
                self.set_join_timer(delay_ms);
            }
            Phase::PreparingRebalance(_) => self.complete_join(),
            // Set at load, for a group that is larger than the limit has become since.
            Phase::Stable if self.group.members.len() > self.limits.max_size => self.prepare_rebalance(),
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => {}
        }
    }

    /// Ends the join phase: whoever came is in the next generation. Static members need not come; their session
    /// decides.
    fn complete_join(&mut self) {
        self.timers.push(TimerChange::Cancel(GroupTimer::Join(self.id.clone())));
        let is_missing = |id: &MemberId| {
            let member = &self.group.members[id];
            member.joining.is_none() && member.instance_id.is_none()
        };
        let missing: Vec<MemberId> = self.group.members.keys().filter(|id| is_missing(id)).cloned().collect();
        for member_id in missing {
            self.remove_member(&member_id);
        }
        let has_leader = self.elect_leader();
        if !has_leader && !self.group.members.is_empty() {
            // Only static members are left and none of them came. Wait until they do or their sessions end.
            self.group.phase = Phase::PreparingRebalance(None);
            self.set_join_timer(self.group.rebalance_timeout_ms());
            return;
        }
        self.group.generation = next_generation(self.group.generation);
        if has_leader { self.complete_rebalance() } else { self.become_empty() }
    }

    /// Makes sure that the leader has joined. False if nobody has.
    fn elect_leader(&mut self) -> bool {
        let group = &mut self.group;
        let has_joined = |id: &MemberId| group.members.get(id).is_some_and(|member| member.joining.is_some());
        if group.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let first = group.members.keys().find(|id| has_joined(id)).cloned();
        let is_found = first.is_some();
        if is_found {
            group.leader = first;
        }
        is_found
    }

    /// The generation begins: everybody learns who leads it, and the leader who is in it.
    fn complete_rebalance(&mut self) {
        self.group.protocol = self.group.vote();
        self.enter(Phase::CompletingRebalance);
        let member_ids: Vec<MemberId> = self.group.members.keys().cloned().collect();
        for member_id in member_ids {
            let Some(member) = self.group.members.get_mut(&member_id) else { continue };
            member.is_new = false;
            if let Some(parked) = member.joining.take() {
                let joined = self.joined(&member_id);
                self.answers.push((parked, GroupAnswer::Join(Ok(joined))));
            }
            self.set_session_timer(&member_id);
            self.group.unsynced.insert(member_id);
        }
        let deadline = after(self.now, self.group.rebalance_timeout_ms());
        self.timers.push(TimerChange::Set(GroupTimer::PendingSync(self.id.clone()), deadline));
    }

    /// The last member has gone; the generation without members is a fact like any other.
    fn become_empty(&mut self) {
        self.group.protocol = None;
        self.group.leader = None;
        self.enter(Phase::Empty);
        self.push_group_record();
    }

    /// What is being assigned counts no longer; whoever waits for it has to rejoin.
    fn abandon_assignment(&mut self) {
        let member_ids: Vec<MemberId> = self.group.members.keys().cloned().collect();
        for member_id in member_ids {
            let Some(member) = self.group.members.get_mut(&member_id) else { continue };
            member.assignment = Bytes::new();
            if let Some(parked) = member.syncing.take() {
                self.answers.push((parked, GroupAnswer::Sync(Err(ErrorCode::RebalanceInProgress))));
                self.set_session_timer(&member_id);
            }
        }
    }

    /// Takes a member out. Whatever it has parked is answered with `UnknownMemberId`, so that a client that is alive
    /// after all joins anew.
    pub(super) fn remove_member(&mut self, member_id: &str) {
        let group = &mut self.group;
        let Some((member_id, member)) = group.members.remove_entry(member_id) else { return };
        if let Some(instance) = &member.instance_id {
            group.instances.remove(instance);
        }
        group.unsynced.remove(&member_id);
        if group.is_leader(&member_id) {
            group.leader = group.members.keys().next().cloned();
        }
        if let Some(parked) = member.joining {
            self.refuse_join(parked, ErrorCode::UnknownMemberId, "");
        }
        if let Some(parked) = member.syncing {
            self.answers.push((parked, GroupAnswer::Sync(Err(ErrorCode::UnknownMemberId))));
        }
        self.timers.push(TimerChange::Cancel(GroupTimer::Session(self.id.clone(), member_id)));
    }

    /// Forgets an id that was given out; false if it was not.
    pub(super) fn remove_pending(&mut self, member_id: &str) -> bool {
        let Some(member_id) = self.group.pending.take(member_id) else { return false };
        self.timers.push(TimerChange::Cancel(GroupTimer::PendingMember(self.id.clone(), member_id)));
        true
    }

    /// What a member of the current generation is told; the leader also who else is in it.
    pub(super) fn joined(&self, member_id: &MemberId) -> Joined {
        let group = &self.group;
        Joined {
            member_id: member_id.clone(),
            generation: group.generation,
            protocol_type: group.protocol_type.clone(),
            protocol: group.protocol.clone(),
            leader: group.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: if group.is_leader(member_id) { group.roster() } else { Vec::new() },
        }
    }

    /// Answers a join with a refusal.
    pub(super) fn refuse_join(&mut self, id: AnswerId, code: ErrorCode, member_id: &str) {
        let refused = JoinRefused { code, member_id: Arc::from(member_id) };
        self.answers.push((id, GroupAnswer::Join(Err(refused))));
    }

    /// Starts the member's session anew.
    pub(super) fn set_session_timer(&mut self, member_id: &MemberId) {
        let Some(member) = self.group.members.get(member_id) else { return };
        let deadline = after(self.now, member.session_timeout_ms);
        let timer = GroupTimer::Session(self.id.clone(), member_id.clone());
        self.timers.push(TimerChange::Set(timer, deadline));
    }

    fn set_join_timer(&mut self, delay_ms: i64) {
        let timer = GroupTimer::Join(self.id.clone());
        self.timers.push(TimerChange::Set(timer, after(self.now, delay_ms)));
    }

    /// The phase begins now.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.group.phase = phase;
        self.group.since_ms = Some(self.now);
    }

    /// Puts the group as it now is into the journal.
    pub(super) fn push_group_record(&mut self) {
        self.records.push(GroupRecord::ClassicGroup(self.id.clone(), Some(self.group.to_value())));
    }
}
