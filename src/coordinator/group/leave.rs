//! How members go: LeaveGroup, sessions that end, ids that nobody came back with (pure).
//!
//! Invariants: leaving is answered per member and the group then rebalances once, however many left. A member that
//! waits for a rebalance or an assignment does not time out.

use super::asks::{GroupAnswer, LeaveAsk, Leaving, Left};
use super::turn::Turn;
use crate::coordinator::shard::AnswerId;
use crate::error::ErrorCode;

impl Turn {
    /// Decides a leave.
    pub(super) fn leave(&mut self, ask: LeaveAsk, id: AnswerId) {
        let members_before = self.group.members.len();
        let mut left = Vec::with_capacity(ask.members.len());
        for leaving in ask.members {
            let code = match self.leave_one(&leaving) {
                Ok(()) => ErrorCode::None,
                Err(code) => code,
            };
            left.push(Left { member_id: leaving.member_id, instance_id: leaving.instance_id, code });
        }
        self.answers.push((id, GroupAnswer::Leave(left)));
        if self.group.members.len() < members_before {
            self.rebalance();
        } else {
            // An id that was given out and is not waited for any more may have been the last one missing.
            self.complete_join_if_all_joined();
        }
    }

    fn leave_one(&mut self, leaving: &Leaving) -> Result<(), ErrorCode> {
        if self.remove_pending(&leaving.member_id) {
            return Ok(());
        }
        let group = &self.group;
        let member_id = if leaving.member_id.is_empty() {
            let owner = leaving.instance_id.as_ref().and_then(|instance| group.instances.get(instance));
            owner.ok_or(ErrorCode::UnknownMemberId)?.clone()
        } else {
            group.member(&leaving.member_id, leaving.instance_id.as_deref())?;
            leaving.member_id.clone()
        };
        self.remove_member(&member_id);
        Ok(())
    }

    /// A member's session ended.
    pub(super) fn expire_session(&mut self, member_id: &str) {
        if self.group.members.get(member_id).is_some_and(|member| !member.is_waiting()) {
            self.remove_member(member_id);
            self.rebalance();
        }
    }

    /// Nobody came back with an id that was given out.
    pub(super) fn expire_pending(&mut self, member_id: &str) {
        if self.remove_pending(member_id) {
            self.complete_join_if_all_joined();
        }
    }
}
