//! One classic group: who is in it, which generation it is in, and the questions that can be asked of it (pure).
//!
//! Invariants: `instances` maps exactly the members that have an instance id. `pending` and `members` are disjoint.
//! `Phase::Empty` ⇒ no members; `Phase::Stable` ⇒ the value of the group is what the journal says. Joins are parked
//! only in `PreparingRebalance`, syncs only in `CompletingRebalance`. A dead group is one that is not there. The
//! transitions are in `turn.rs`, `join.rs`, `sync.rs` and `leave.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::asks::{GroupDescription, GroupState, InstanceId, JoinedMember, MemberId, Protocol};
use super::members::{Member, add_subscribed};
use super::offsets::Expiry;
use super::record::ClassicGroupValue;
use crate::error::ErrorCode;
use crate::ids::{TopicName, WallMillis};

/// The protocol type of Kafka's consumers; the coordinator understands the metadata of these only.
const CONSUMER_PROTOCOL: &str = "consumer";

/// Where a group is in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Nobody is in it; it may hold offsets.
    Empty,
    /// Members are joining. The delay is there if the group was empty before.
    PreparingRebalance(Option<InitialDelay>),
    /// The leader is assigning.
    CompletingRebalance,
    /// Everybody can have its assignment.
    Stable,
}

/// A group that was empty waits a little for more members before it begins (KIP-134).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InitialDelay {
    /// The wait under way.
    pub(super) delay_ms: i64,
    /// How much longer the group may wait after that.
    pub(super) remaining_ms: i64,
    /// Somebody joined during the wait under way.
    pub(super) was_joined: bool,
}

/// A classic group, hard and soft parts together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ClassicGroup {
    pub(super) phase: Phase,
    /// When the phase began; `None` if an old record did not say, or if nothing ever happened.
    pub(super) since_ms: Option<WallMillis>,
    pub(super) generation: i32,
    /// `None` for a group that only stores offsets.
    pub(super) protocol_type: Option<Arc<str>>,
    /// The protocol chosen for this generation.
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) instances: BTreeMap<InstanceId, MemberId>,
    /// Ids given out that have not joined yet.
    pub(super) pending: BTreeSet<MemberId>,
    /// Members that have not asked for their assignment in this generation.
    pub(super) unsynced: BTreeSet<MemberId>,
}

impl ClassicGroup {
    /// A group nobody has joined.
    pub(super) fn new() -> ClassicGroup {
        ClassicGroup {
            phase: Phase::Empty,
            since_ms: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeSet::new(),
            unsynced: BTreeSet::new(),
        }
    }

    /// The group as the journal left it. Whoever was joining has to do so again.
    pub(super) fn from_value(value: &ClassicGroupValue) -> ClassicGroup {
        let mut group = ClassicGroup::new();
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in &value.members {
            if let Some(instance) = &member.instance_id {
                group.instances.insert(instance.clone(), member.member_id.clone());
            }
            group.members.insert(member.member_id.clone(), Member::from_value(member, &protocol));
        }
        group.phase = if group.members.is_empty() { Phase::Empty } else { Phase::Stable };
        group.since_ms = value.state_since_ms;
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type.clone()).filter(|kind| !kind.is_empty());
        group.protocol = value.protocol.clone();
        group.leader = value.leader.clone();
        group
    }

    /// The group as the journal keeps it.
    pub(super) fn to_value(&self) -> ClassicGroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        ClassicGroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.since_ms,
            members: self.members.iter().map(|(id, member)| member.to_value(id, protocol)).collect(),
        }
    }

    /// The phase by Kafka's name.
    pub(super) fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::PreparingRebalance(_) => GroupState::PreparingRebalance,
            Phase::CompletingRebalance => GroupState::CompletingRebalance,
            Phase::Stable => GroupState::Stable,
        }
    }

    /// True if nobody is in the group or about to be.
    pub(super) fn is_deserted(&self) -> bool {
        self.phase == Phase::Empty && self.pending.is_empty()
    }

    /// The member with this id, if its instance id (where one is given) is its own.
    pub(super) fn member(&self, member_id: &str, instance_id: Option<&str>) -> Result<&Member, ErrorCode> {
        if let Some(instance) = instance_id {
            let owner = self.instances.get(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if &**owner != member_id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)
    }

    /// True if a member with these protocols can be in the group.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|offered| self.is_common(&offered.name))
    }

    fn is_common(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.supports(protocol))
    }

    /// The protocol the next generation would use: of those all members offer, the one most of them prefer. A draw is
    /// decided by the leader's order, where Kafka lets the order of a hash map decide.
    pub(super) fn vote(&self) -> Option<Arc<str>> {
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let leader = leader.or_else(|| self.members.values().next())?;
        let common: Vec<&Arc<str>> =
            leader.protocols.iter().map(|offered| &offered.name).filter(|name| self.is_common(name)).collect();
        let mut votes = vec![0usize; common.len()];
        for member in self.members.values() {
            let place = |offered: &Protocol| common.iter().position(|name| **name == offered.name);
            if let Some(index) = member.protocols.iter().find_map(place) {
                votes[index] += 1;
            }
        }
        let most = votes.iter().copied().max()?;
        let winner = votes.iter().position(|count| *count == most)?;
        common.get(winner).map(|name| Arc::clone(name))
    }

    /// How many members have a join parked.
    pub(super) fn joining_count(&self) -> usize {
        self.members.values().filter(|member| member.joining.is_some()).count()
    }

    /// True if nobody is missing for the next generation.
    pub(super) fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    /// The longest time a member wants to have for rejoining.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    /// True if `member_id` may join a group of at most `size_max` members. While members are joining, those that have
    /// joined count, not those known: so a limit that was lowered throws out whoever comes last.
    pub(super) fn has_room_for(&self, member_id: &str, size_max: usize) -> bool {
        let known = self.members.get(member_id);
        match self.phase {
            Phase::Empty => true,
            Phase::PreparingRebalance(_) => {
                known.is_some_and(|member| member.joining.is_some()) || self.joining_count() < size_max
            }
            Phase::CompletingRebalance | Phase::Stable => known.is_some() || self.members.len() < size_max,
        }
    }

    /// True if `member_id` leads.
    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The members as the leader sees them.
    pub(super) fn roster(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members.iter().map(|(id, member)| member.as_joined(id, protocol)).collect()
    }

    /// The group as DescribeGroups shows it: the protocol and what members say of it only in a stable group.
    pub(super) fn describe(&self) -> GroupDescription {
        let protocol = self.protocol.clone().filter(|_| self.phase == Phase::Stable);
        GroupDescription {
            state: self.state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: self.members.iter().map(|(id, member)| member.describe(id, protocol.as_deref())).collect(),
            protocol,
        }
    }

    /// True if the members are Kafka's consumers.
    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    /// The topics the members consume; `None` if the coordinator cannot know.
    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<TopicName>> {
        if !self.is_of_consumers() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            add_subscribed(&member.metadata(self.protocol.as_deref()?), &mut topics)?;
        }
        Some(topics)
    }

    /// When the group's offsets expire; `None`: not as things are. `topics` are those the members consume.
    pub(super) fn expiry<'a>(&self, topics: Option<&'a BTreeSet<TopicName>>) -> Option<Expiry<'a>> {
        match (&self.protocol_type, &self.phase, topics) {
            (None, _, _) => Some(Expiry::Simple),
            (Some(_), Phase::Empty, _) => Some(Expiry::Empty { since_ms: self.since_ms }),
            (Some(_), Phase::Stable, Some(topics)) => Some(Expiry::Subscribed { topics }),
            _ => None,
        }
    }
}

/// The generation after `generation`. It wraps to 1: negative generations mean "none", and 0 is a group before its
/// first.
pub(super) fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn member(protocols: &[&str]) -> Member {
        let offered = |name: &&str| Protocol { name: Arc::from(*name), metadata: Bytes::new() };
        Member {
            instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocols: protocols.iter().map(offered).collect(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: false,
        }
    }

    fn vote(leader: &str, members: &[(&str, &[&str])]) -> Option<String> {
        let mut group = ClassicGroup::new();
        group.leader = Some(leader.into());
        group.members = members.iter().map(|(id, protocols)| (MemberId::from(*id), member(protocols))).collect();
        group.vote().map(|protocol| protocol.to_string())
    }

    #[test]
    fn the_most_preferred_common_protocol_wins() {
        assert_eq!(vote("a", &[]), None);
        assert_eq!(vote("a", &[("a", &["x"]), ("b", &["y"])]), None);
        assert_eq!(vote("a", &[("a", &["x", "y"]), ("b", &["z", "y"])]).as_deref(), Some("y"));
        let three: [(&str, &[&str]); 3] = [("a", &["x", "y"]), ("b", &["y", "x"]), ("c", &["y", "x"])];
        assert_eq!(vote("a", &three).as_deref(), Some("y"));
        let draw: [(&str, &[&str]); 2] = [("a", &["x", "y"]), ("b", &["y", "x"])];
        assert_eq!(vote("a", &draw).as_deref(), Some("x"));
        assert_eq!(vote("b", &draw).as_deref(), Some("y"));
    }

    #[test]
    fn generations_wrap_to_one() {
        assert_eq!(next_generation(0), 1);
        assert_eq!(next_generation(i32::MAX), 1);
    }

    #[test]
    fn a_value_survives_the_way_into_a_group_and_back() {
        let mut group = ClassicGroup::new();
        group.members.insert("m".into(), Member { instance_id: Some("i".into()), ..member(&["range"]) });
        group.instances.insert("i".into(), "m".into());
        group.phase = Phase::Stable;
        group.generation = 7;
        group.protocol_type = Some("consumer".into());
        group.protocol = Some("range".into());
        group.leader = Some("m".into());
        group.since_ms = Some(5);
        assert_eq!(ClassicGroup::from_value(&group.to_value()), group);
        let empty = ClassicGroup { since_ms: Some(9), ..ClassicGroup::new() };
        assert_eq!(ClassicGroup::from_value(&empty.to_value()), empty);
    }
}
