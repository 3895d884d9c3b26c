//! JoinGroup: who gets in, who is told what at once, and who is parked until the join phase ends (pure).
//!
//! Invariants: every join is answered in the decision that took it or parked at its member; a second join of a member
//! answers the first with `RebalanceInProgress`. An instance id belongs to one member at a time; whoever had it
//! before is fenced.

use super::asks::{GroupAnswer, GroupTimer, JoinAsk, MemberId};
use super::classic::Phase;
use super::limits::after;
use super::members::Member;
use super::record::STRING_BYTES_MAX;
use super::turn::Turn;
use crate::coordinator::shard::{AnswerId, TimerChange};
use crate::error::ErrorCode;

/// How long the first join of a member may be parked. Its client does not know its id yet and may have given up and
/// come back as somebody else (`GroupCoordinatorConfig.CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`).
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;

impl JoinAsk {
    /// True if no string is longer than a group record can hold. Requests of the flexible versions can carry longer
    /// ones.
    pub(super) fn fits_a_record(&self) -> bool {
        let names = self.protocols.iter().map(|protocol| &*protocol.name);
        let instance = self.instance_id.as_deref();
        [&*self.group, &*self.new_member_id, &*self.client_id, &*self.client_host, &*self.protocol_type]
            .into_iter()
            .chain(instance)
            .chain(names)
            .all(|text| text.len() <= STRING_BYTES_MAX)
    }
}

impl Turn {
    /// Decides a join.
    pub(super) fn join(&mut self, ask: JoinAsk, id: AnswerId) {
        if !self.group.has_room_for(&ask.member_id, self.limits.max_size) {
            self.remove_member(&ask.member_id);
            self.remove_pending(&ask.member_id);
            self.refuse_join(id, ErrorCode::GroupMaxSizeReached, "");
            return self.complete_join_if_all_joined();
        }
        if !self.group.supports(&ask.protocol_type, &ask.protocols) {
            return self.refuse_join(id, ErrorCode::InconsistentGroupProtocol, &ask.member_id);
        }
        if ask.member_id.is_empty() {
            self.join_new(ask, id);
        } else if ask.instance_id.is_none() && self.remove_pending(&ask.member_id) {
            self.add_member(ask.member_id.clone(), ask, id);
        } else if let Err(code) = self.group.member(&ask.member_id, ask.instance_id.as_deref()) {
            self.refuse_join(id, code, &ask.member_id);
        } else {
            self.join_known(ask, id);
        }
    }

    /// A member without an id joins.
    fn join_new(&mut self, ask: JoinAsk, id: AnswerId) {
        let member_id = ask.new_member_id.clone();
        let Some(instance) = &ask.instance_id else {
            if !ask.takes_member_id_first {
                return self.add_member(member_id, ask, id);
            }
            let timer = GroupTimer::PendingMember(self.id.clone(), member_id.clone());
            self.timers.push(TimerChange::Set(timer, after(self.now, ask.session_timeout_ms)));
            self.refuse_join(id, ErrorCode::MemberIdRequired, &member_id);
            self.group.pending.insert(member_id);
            return;
        };
        match self.group.instances.get(instance).cloned() {
            Some(old_id) => self.replace_static(old_id, ask, id),
            None => self.add_member(member_id, ask, id),
        }
    }

    /// A member of the group joins again.
    fn join_known(&mut self, ask: JoinAsk, id: AnswerId) {
        let Some(member) = self.group.members.get(&ask.member_id) else { return };
        let is_unchanged = member.protocols == ask.protocols;
        let is_current = match self.group.phase {
            Phase::Empty | Phase::PreparingRebalance(_) => false,
            // The answer to its join may have been lost.
            Phase::CompletingRebalance => is_unchanged,
            // A leader that joins again wants to assign anew, for reasons its metadata may not show.
            Phase::Stable => is_unchanged && !self.group.is_leader(&ask.member_id),
        };
        if is_current {
            let joined = self.joined(&ask.member_id);
            self.answers.push((id, GroupAnswer::Join(Ok(joined))));
            return;
        }
        let member_id = ask.member_id.clone();
        self.rejoin(&member_id, ask, id);
        self.rebalance();
    }

    fn add_member(&mut self, member_id: MemberId, ask: JoinAsk, id: AnswerId) {
        let group = &mut self.group;
        if let Phase::PreparingRebalance(Some(delay)) = &mut group.phase {
            delay.was_joined = true;
        }
        if group.members.is_empty() {
            group.protocol_type = Some(ask.protocol_type.clone());
        }
        if group.leader.is_none() {
            group.leader = Some(member_id.clone());
        }
        if let Some(instance) = &ask.instance_id {
            group.instances.insert(instance.clone(), member_id.clone());
        }
        group.members.insert(member_id.clone(), Member::joining(ask, id));
        let timer = GroupTimer::Session(self.id.clone(), member_id);
        self.timers.push(TimerChange::Set(timer, after(self.now, NEW_MEMBER_JOIN_TIMEOUT_MS)));
        self.rebalance();
    }

    /// Parks the join of a member.
    fn rejoin(&mut self, member_id: &MemberId, ask: JoinAsk, id: AnswerId) {
        let Some(member) = self.group.members.get_mut(member_id) else { return };
        if let Some(earlier) = member.rejoin(ask, id) {
            self.refuse_join(earlier, ErrorCode::RebalanceInProgress, member_id);
        }
    }

    /// A static member has restarted: it takes its own place under a new id (KIP-345).
    fn replace_static(&mut self, old_id: MemberId, ask: JoinAsk, id: AnswerId) {
        let new_id = ask.new_member_id.clone();
        let old_leader = self.group.leader.clone();
        let takes_skip_assignment = ask.takes_skip_assignment;
        self.rename_static(&old_id, &new_id);
        self.rejoin(&new_id, ask, id);
        self.set_session_timer(&new_id);
        match self.group.phase {
            Phase::Stable if self.group.vote() == self.group.protocol => {
                if let Some(member) = self.group.members.get_mut(&new_id) {
                    member.joining = None;
                }
                self.push_group_record();
                let mut joined = self.joined(&new_id);
                if takes_skip_assignment {
                    joined.skip_assignment = self.group.is_leader(&new_id);
                } else {
                    // The client must not take itself for the leader: it would assign, and nobody would hear of it.
                    joined.leader = old_leader.unwrap_or_default();
                    joined.members = Vec::new();
                }
                self.answers.push((id, GroupAnswer::Join(Ok(joined))));
            }
            // The leader may be assigning to the old id already.
            Phase::Stable | Phase::CompletingRebalance => self.prepare_rebalance(),
            // An empty group has no instances, so it cannot be here.
            Phase::PreparingRebalance(_) | Phase::Empty => self.complete_join_if_all_joined(),
        }
    }

    /// Gives a static member's place to `new_id`, and fences whatever waits under `old_id`.
    fn rename_static(&mut self, old_id: &MemberId, new_id: &MemberId) {
        let group = &mut self.group;
        let Some(mut member) = group.members.remove(old_id) else { return };
        let (joining, syncing) = (member.joining.take(), member.syncing.take());
        member.is_new = false;
        if let Some(instance) = &member.instance_id {
            group.instances.insert(instance.clone(), new_id.clone());
        }
        if group.unsynced.remove(old_id) {
            group.unsynced.insert(new_id.clone());
        }
        if group.is_leader(old_id) {
            group.leader = Some(new_id.clone());
        }
        group.members.insert(new_id.clone(), member);
        if let Some(parked) = joining {
            self.refuse_join(parked, ErrorCode::FencedInstanceId, old_id);
        }
        if let Some(parked) = syncing {
            self.answers.push((parked, GroupAnswer::Sync(Err(ErrorCode::FencedInstanceId))));
        }
        self.timers.push(TimerChange::Cancel(GroupTimer::Session(self.id.clone(), old_id.clone())));
    }
}
