//! Groups: the shard of `__consumer_offsets` that decides for the classic groups it owns and keeps their offsets.
//!
//! ```text
//!  asks      what is asked and answered       turn   one decision about one group in the making; the rebalance
//!  classic   one group and its questions      join · sync · leave · commits   what each ask leads to
//!  members   one member of it                 record · offsets   the journal's records, the offsets they add up to
//! ```
//!
//! Invariants: hard state is what `replay` builds: per group the last value the journal holds, and the committed
//! offsets. Soft state is the living group: `replay` sets it to what the record says, `adopt` then puts back what is
//! only soft (who is joining, who waits, ids given out). So a decision that writes a group's value also brings the
//! group's next value. A living group that is stable or empty is what its value says. A group that nobody is in, that
//! the journal does not know and that has no offsets is forgotten.
//!
//! The machine is pure: no clock, no chance, no IO. Its scripts lie in `scripts/`.

mod asks;
mod classic;
mod commits;
mod join;
mod leave;
mod limits;
mod members;
pub mod offsets;
pub mod record;
#[cfg(test)]
mod script;
mod sync;
mod turn;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use self::asks::*;
use self::classic::ClassicGroup;
pub use self::limits::GroupLimits;
use self::limits::after;
use self::offsets::{Committed, Offsets};
use self::record::{ClassicGroupValue, GroupRecord};
use self::turn::Turn;
use super::shard::{AnswerId, Decision, Shard, TimerChange};
use crate::error::ErrorCode;
use crate::ids::{Offset, PartitionIndex, TopicName, WallMillis};
use crate::metadata::ClusterImage;

/// The groups whose ids fall to one partition of `__consumer_offsets`.
pub struct GroupShard {
    limits: GroupLimits,
    groups: BTreeMap<GroupId, Entry>,
    offsets: Offsets,
}

/// A group of the shard.
struct Entry {
    /// The group as the journal has it; `None` if it has only offsets, or nothing yet.
    stored: Option<ClassicGroupValue>,
    /// The group as it lives.
    group: ClassicGroup,
}

/// The next value of one living group.
pub struct SoftGroup {
    id: GroupId,
    group: ClassicGroup,
}

impl GroupShard {
    /// A shard without groups.
    pub fn new(limits: GroupLimits) -> GroupShard {
        GroupShard { limits, groups: BTreeMap::new(), offsets: Offsets::default() }
    }

    /// A turn of the group, which may be a new one.
    fn turn(&self, now: WallMillis, id: &GroupId) -> Turn {
        let group = self.groups.get(id).map_or_else(ClassicGroup::new, |entry| entry.group.clone());
        Turn::new(id.clone(), now, self.limits, group)
    }

    fn join(&self, now: WallMillis, ask: JoinAsk, id: AnswerId) -> Decision<GroupShard> {
        let code = if ask.session_timeout_ms < self.limits.min_session_ms
            || ask.session_timeout_ms > self.limits.max_session_ms
        {
            ErrorCode::InvalidSessionTimeout
        } else if !ask.fits_a_record() {
            ErrorCode::InvalidRequest
        } else if !ask.member_id.is_empty() && !self.groups.contains_key(&ask.group) {
            ErrorCode::UnknownMemberId
        } else {
            let mut turn = self.turn(now, &ask.group);
            turn.join(ask, id);
            return turn.done();
        };
        let refused = JoinRefused { code, member_id: ask.member_id };
        Decision::answer(id, GroupAnswer::Join(Err(refused)))
    }

    fn sync(&self, now: WallMillis, ask: SyncAsk, id: AnswerId) -> Decision<GroupShard> {
        let entry = self.groups.get(&ask.group).ok_or(ErrorCode::UnknownMemberId);
        if let Err(code) = entry.and_then(|entry| entry.group.check_sync(&ask)) {
            return Decision::answer(id, GroupAnswer::Sync(Err(code)));
        }
        let mut turn = self.turn(now, &ask.group);
        turn.sync(ask, id);
        turn.done()
    }

    fn heartbeat(&self, now: WallMillis, ask: HeartbeatAsk, id: AnswerId) -> Decision<GroupShard> {
        let entry = self.groups.get(&ask.group).ok_or(ErrorCode::UnknownMemberId);
        let alive = entry.and_then(|entry| Ok((entry.group.heartbeat(), entry.group.check_heartbeat(&ask)?)));
        let (outcome, member) = match alive {
            Ok(alive) => alive,
            Err(code) => return Decision::answer(id, GroupAnswer::Heartbeat(Err(code))),
        };
        let deadline = after(now, member.session_timeout_ms);
        let timers = vec![TimerChange::Set(GroupTimer::Session(ask.group, ask.member_id), deadline)];
        Decision { timers, ..Decision::answer(id, GroupAnswer::Heartbeat(outcome)) }
    }

    fn leave(&self, now: WallMillis, ask: LeaveAsk, id: AnswerId) -> Decision<GroupShard> {
        let mut turn = self.turn(now, &ask.group);
        turn.leave(ask, id);
        turn.done()
    }

    fn list(&self, ask: &ListAsk, id: AnswerId) -> Decision<GroupShard> {
        let is_type_wanted = ask.types.is_empty() || ask.types.iter().any(|kind| kind.eq_ignore_ascii_case("classic"));
        let is_state_wanted = |state: GroupState| {
            ask.states.is_empty() || ask.states.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(state.name()))
        };
        let listed = |(id, entry): (&GroupId, &Entry)| ListedGroup {
            group: id.clone(),
            protocol_type: entry.group.protocol_type.clone().unwrap_or_default(),
            state: entry.group.state(),
        };
        let groups = self.groups.iter().map(listed).filter(|listed| is_type_wanted && is_state_wanted(listed.state));
        Decision::answer(id, GroupAnswer::ListGroups(groups.collect()))
    }

    fn overview(&self) -> Vec<GroupOverview> {
        let overview = |(id, entry): (&GroupId, &Entry)| {
            let committed = |(topic, index, committed): (&TopicName, PartitionIndex, &Committed)| {
                (topic.clone(), index, committed.offset)
            };
            GroupOverview {
                group: id.clone(),
                state: entry.group.state(),
                members: entry.group.members.len(),
                offsets: self.offsets.of_group(id).map(committed).collect(),
            }
        };
        self.groups.iter().map(overview).collect()
    }

    fn delete(&self, group_id: GroupId, id: AnswerId) -> Decision<GroupShard> {
        let refuse = |code| Decision::<GroupShard>::answer(id, GroupAnswer::DeleteGroup(Err(code)));
        let Some(entry) = self.groups.get(&group_id) else { return refuse(ErrorCode::GroupIdNotFound) };
        if entry.group.state() != GroupState::Empty {
            return refuse(ErrorCode::NonEmptyGroup);
        }
        let forget = |member_id: &MemberId| GroupTimer::PendingMember(group_id.clone(), member_id.clone());
        let timers = entry.group.pending.iter().map(forget).map(TimerChange::Cancel).collect();
        let mut records = self.offsets.tombstones_of_group(&group_id);
        records.push(GroupRecord::ClassicGroup(group_id.clone(), None));
        Decision { records, timers, ..Decision::answer(id, GroupAnswer::DeleteGroup(Ok(()))) }
    }

    /// Replays the value of a group. Its soft part starts anew; `adopt` follows if there is more to know.
    fn replay_group(&mut self, id: GroupId, value: Option<ClassicGroupValue>) {
        if let Some(value) = value {
            let group = ClassicGroup::from_value(&value);
            self.groups.insert(id, Entry { stored: Some(value), group });
            return;
        }
        self.groups.remove(&id);
        if self.offsets.has_group(&id) {
            self.groups.insert(id, Entry::unknown());
        }
    }
}

impl Entry {
    /// A group that the journal says nothing of.
    fn unknown() -> Entry {
        Entry { stored: None, group: ClassicGroup::new() }
    }
}

impl Shard for GroupShard {
    type Ask = GroupAsk;
    type Answer = GroupAnswer;
    type Record = GroupRecord;
    type Soft = SoftGroup;
    type Timer = GroupTimer;

    fn decide(&self, now: WallMillis, _image: &ClusterImage, ask: GroupAsk, id: AnswerId) -> Decision<GroupShard> {
        match ask {
            GroupAsk::Join(ask) => self.join(now, ask, id),
            GroupAsk::Sync(ask) => self.sync(now, ask, id),
            GroupAsk::Heartbeat(ask) => self.heartbeat(now, ask, id),
            GroupAsk::Leave(ask) => self.leave(now, ask, id),
            GroupAsk::CommitOffsets(ask) => self.commit_offsets(now, ask, id),
            GroupAsk::FetchOffsets(ask) => self.fetch_offsets(ask, id),
            GroupAsk::DescribeGroup(group) => {
                let description = self.groups.get(&group).map(|entry| entry.group.describe());
                Decision::answer(id, GroupAnswer::DescribeGroup(description))
            }
            GroupAsk::ListGroups(ask) => self.list(&ask, id),
            GroupAsk::Overview => Decision::answer(id, GroupAnswer::Overview(self.overview())),
            GroupAsk::DeleteGroup(group) => self.delete(group, id),
            GroupAsk::DeleteOffsets(ask) => self.delete_offsets(ask, id),
            GroupAsk::TopicsDeleted(topics) => self.delete_topics(&topics, id),
        }
    }

    fn expire(&self, now: WallMillis, _image: &ClusterImage, timer: &GroupTimer) -> Decision<GroupShard> {
        let group = match timer {
            GroupTimer::OffsetExpiry => return self.expire_offsets(now),
            GroupTimer::Session(group, _) | GroupTimer::PendingMember(group, _) => group,
            GroupTimer::Join(group) | GroupTimer::PendingSync(group) => group,
        };
        if !self.groups.contains_key(group) {
            return Decision::nothing();
        }
        let mut turn = self.turn(now, group);
        match timer {
            GroupTimer::Session(_, member_id) => turn.expire_session(member_id),
            GroupTimer::PendingMember(_, member_id) => turn.expire_pending(member_id),
            GroupTimer::Join(_) => turn.expire_join(),
            GroupTimer::PendingSync(_) => turn.expire_sync(),
            GroupTimer::OffsetExpiry => {}
        }
        turn.done()
    }

    fn replay(&mut self, offset: Offset, record: GroupRecord) {
        match record {
            GroupRecord::ClassicGroup(id, value) => self.replay_group(id, value),
            GroupRecord::Offset(key, value) => {
                if value.is_some() {
                    self.groups.entry(key.group.clone()).or_insert_with(Entry::unknown);
                }
                self.offsets.replay(offset, key, value);
            }
        }
    }

    fn adopt(&mut self, next: SoftGroup) {
        let SoftGroup { id, group } = next;
        let entry = self.groups.entry(id.clone()).or_insert_with(Entry::unknown);
        if entry.group.state() != group.state() {
            let (state, generation, members) = (group.state().name(), group.generation, group.members.len());
            tracing::info!(group = &*id, state, generation, members, "group changed state");
        }
        let is_known = entry.stored.is_some() || self.offsets.has_group(&id);
        let is_deserted = group.is_deserted();
        entry.group = group;
        if is_deserted && !is_known {
            self.groups.remove(&id);
        }
    }

    fn loaded(&self, now: WallMillis) -> Vec<TimerChange<GroupTimer>> {
        let first_expiry = after(now, self.limits.expiry_interval_ms);
        let mut timers = vec![TimerChange::Set(GroupTimer::OffsetExpiry, first_expiry)];
        for (id, entry) in &self.groups {
            for (member_id, member) in &entry.group.members {
                let timer = GroupTimer::Session(id.clone(), member_id.clone());
                timers.push(TimerChange::Set(timer, after(now, member.session_timeout_ms)));
            }
            if entry.group.members.len() > self.limits.max_size {
                timers.push(TimerChange::Set(GroupTimer::Join(id.clone()), now));
            }
        }
        timers
    }

    fn refuse(code: ErrorCode) -> GroupAnswer {
        GroupAnswer::Refused(match code {
            // What a journal may say, in words that clients of groups know (`CoordinatorOperationExceptionHelper`).
            ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas | ErrorCode::RequestTimedOut => {
                ErrorCode::CoordinatorNotAvailable
            }
            ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
                ErrorCode::UnknownServerError
            }
            code => code,
        })
    }

    fn encode(record: &GroupRecord) -> (Bytes, Option<Bytes>) {
        record.encode()
    }

    fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<GroupRecord>, String> {
        GroupRecord::decode(&key, value.as_deref())
    }
}
