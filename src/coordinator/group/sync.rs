//! SyncGroup, where the leader hands in what everybody gets, and Heartbeat (pure).
//!
//! Invariants: the assignment is in the journal before anybody hears of it. A member that waits for it counts as
//! alive; one that joined and never asks for it is removed when the rebalance timeout has passed once more.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::asks::{GroupAnswer, GroupTimer, HeartbeatAsk, MemberId, SyncAsk, Synced};
use super::classic::{ClassicGroup, Phase};
use super::members::Member;
use super::turn::Turn;
use crate::coordinator::shard::{AnswerId, TimerChange};
use crate::error::ErrorCode;

impl ClassicGroup {
    /// Refuses a sync that does not belong to this generation, or comes while the next one is being made.
    pub(super) fn check_sync(&self, ask: &SyncAsk) -> Result<(), ErrorCode> {
        self.member(&ask.member_id, ask.instance_id.as_deref())?;
        if ask.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let is_kind_wrong = ask.protocol_type.is_some() && ask.protocol_type != self.protocol_type;
        let is_protocol_wrong = ask.protocol.is_some() && ask.protocol != self.protocol;
        if is_kind_wrong || is_protocol_wrong {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::PreparingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    /// The member a heartbeat keeps alive.
    pub(super) fn check_heartbeat(&self, ask: &HeartbeatAsk) -> Result<&Member, ErrorCode> {
        let member = self.member(&ask.member_id, ask.instance_id.as_deref())?;
        if ask.generation == self.generation { Ok(member) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// What a live member is to know of the group.
    pub(super) fn heartbeat(&self) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::PreparingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }
}

impl Turn {
    /// Decides a sync that [`ClassicGroup::check_sync`] let pass.
    pub(super) fn sync(&mut self, ask: SyncAsk, id: AnswerId) {
        let Some(member) = self.group.members.get_mut(&ask.member_id) else { return };
        if self.group.phase == Phase::CompletingRebalance {
            if let Some(earlier) = member.syncing.replace(id) {
                self.answers.push((earlier, GroupAnswer::Sync(Err(ErrorCode::RebalanceInProgress))));
            }
        } else {
            let assignment = member.assignment.clone();
            self.answers.push((id, GroupAnswer::Sync(Ok(self.synced(assignment)))));
        }
        self.group.unsynced.remove(&ask.member_id);
        if self.group.unsynced.is_empty() {
            self.timers.push(TimerChange::Cancel(GroupTimer::PendingSync(self.id.clone())));
        }
        if self.group.phase == Phase::CompletingRebalance && self.group.is_leader(&ask.member_id) {
            self.assign(ask.assignments.into_iter().collect());
        }
    }

    /// Stores what the leader assigned and tells everybody who waits for it. Members the leader forgot get nothing.
    fn assign(&mut self, mut assignments: BTreeMap<MemberId, Bytes>) {
        for (member_id, member) in &mut self.group.members {
            member.assignment = assignments.remove(member_id).unwrap_or_default();
        }
        self.enter(Phase::Stable);
        self.push_group_record();
        let member_ids: Vec<MemberId> = self.group.members.keys().cloned().collect();
        for member_id in member_ids {
            let Some(member) = self.group.members.get_mut(&member_id) else { continue };
            let Some(parked) = member.syncing.take() else { continue };
            let assignment = member.assignment.clone();
            self.answers.push((parked, GroupAnswer::Sync(Ok(self.synced(assignment)))));
            // Its session may have run out unnoticed while it waited.
            self.set_session_timer(&member_id);
        }
    }

    /// Members joined this generation and never asked for their assignment.
    pub(super) fn expire_sync(&mut self) {
        if !matches!(self.group.phase, Phase::CompletingRebalance | Phase::Stable) || self.group.unsynced.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.group.unsynced) {
            self.remove_member(&member_id);
        }
        self.prepare_rebalance();
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        let (protocol_type, protocol) = (self.group.protocol_type.clone(), self.group.protocol.clone());
        Synced { protocol_type, protocol, assignment }
    }
}
