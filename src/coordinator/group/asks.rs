//! What a group shard is asked and what it answers: plain types, nothing of the wire.
//!
//! Invariants: an ask is answered in kind (a `Join` ask by a `Join` answer) or with [`GroupAnswer::Refused`]. Member
//! ids that a decision may have to hand out come inside the ask, because a decision draws no chance. An empty member
//! id means "none".

use std::sync::Arc;

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName};

/// `group.id`.
pub type GroupId = Arc<str>;
/// The id the coordinator gave a member; empty for a member that has none yet.
pub type MemberId = Arc<str>;
/// `group.instance.id` of a static member (KIP-345).
pub type InstanceId = Arc<str>;

/// A request to the groups of one shard.
#[derive(Clone, Debug)]
pub enum GroupAsk {
    Join(JoinAsk),
    Sync(SyncAsk),
    Heartbeat(HeartbeatAsk),
    Leave(LeaveAsk),
    CommitOffsets(CommitAsk),
    FetchOffsets(FetchAsk),
    DescribeGroup(GroupId),
    ListGroups(ListAsk),
    DeleteGroup(GroupId),
    DeleteOffsets(DeleteOffsetsAsk),
    /// Everything that metrics tell of the shard's groups.
    Overview,
    /// Topics that the cluster deleted, by name and id; the offsets committed for them go.
    TopicsDeleted(Vec<(TopicName, TopicId)>),
}

/// One assignment strategy a member offers, with the member's own words for it (a subscription, for consumers).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    pub name: Arc<str>,
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct JoinAsk {
    pub group: GroupId,
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    /// The member id to hand out if the joining member has none.
    pub new_member_id: MemberId,
    pub client_id: Arc<str>,
    /// The address the client connected from, as Kafka prints it: `/10.0.0.1`.
    pub client_host: Arc<str>,
    pub session_timeout_ms: i32,
    /// How long the group waits for this member to rejoin.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, …
    pub protocol_type: Arc<str>,
    /// In the member's order of preference.
    pub protocols: Arc<[Protocol]>,
    /// The client can be told to come back with the id it is given (v4, KIP-394).
    pub takes_member_id_first: bool,
    /// The client understands `SkipAssignment` (v9, KIP-814).
    pub takes_skip_assignment: bool,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct SyncAsk {
    pub group: GroupId,
    pub generation: i32,
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    /// Checked if given.
    pub protocol_type: Option<Arc<str>>,
    /// Checked if given.
    pub protocol: Option<Arc<str>>,
    /// Who gets what; only the leader's counts.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct HeartbeatAsk {
    pub group: GroupId,
    pub generation: i32,
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
}

/// LeaveGroup.
#[derive(Clone, Debug)]
pub struct LeaveAsk {
    pub group: GroupId,
    pub members: Vec<Leaving>,
}

/// Who leaves: by member id, or by instance id alone if an administrator removes a static member.
#[derive(Clone, Debug)]
pub struct Leaving {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
}

/// OffsetCommit, of partitions that exist.
#[derive(Clone, Debug)]
pub struct CommitAsk {
    pub group: GroupId,
    /// -1 from clients that are in no group: a "simple" commit.
    pub generation: i32,
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    /// How long to keep the offsets, if the request says so (v2 to v4).
    pub retention_ms: Option<i64>,
    /// The client knows `GroupIdNotFound` (v9); others are told `IllegalGeneration`.
    pub knows_group_id_not_found: bool,
    pub topics: Vec<CommitTopic>,
}

/// The offsets committed for one topic.
#[derive(Clone, Debug)]
pub struct CommitTopic {
    pub name: TopicName,
    pub id: TopicId,
    pub partitions: Vec<CommitPartition>,
}

/// The offset committed for one partition.
#[derive(Clone, Debug)]
pub struct CommitPartition {
    pub index: PartitionIndex,
    pub offset: Offset,
    /// -1 if the client did not say.
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
}

/// OffsetFetch, for one group.
#[derive(Clone, Debug)]
pub struct FetchAsk {
    pub group: GroupId,
    /// `None`: everything the group committed.
    pub topics: Option<Vec<(TopicName, Vec<PartitionIndex>)>>,
}

/// ListGroups. An empty filter lets everything pass.
#[derive(Clone, Debug)]
pub struct ListAsk {
    /// Names of states, in any case.
    pub states: Vec<String>,
    /// Names of group types, in any case.
    pub types: Vec<String>,
}

/// OffsetDelete, of partitions that exist.
#[derive(Clone, Debug)]
pub struct DeleteOffsetsAsk {
    pub group: GroupId,
    pub topics: Vec<(TopicName, Vec<PartitionIndex>)>,
}

/// What a shard answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupAnswer {
    /// Nobody decided: the shard is loading, gone or cannot write. Any ask may be answered so.
    Refused(ErrorCode),
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, ErrorCode>),
    Heartbeat(Result<(), ErrorCode>),
    /// In the order of the ask.
    Leave(Vec<Left>),
    CommitOffsets(Result<Vec<TopicOutcome>, ErrorCode>),
    FetchOffsets(Vec<FetchedTopic>),
    /// `None`: there is no such group.
    DescribeGroup(Option<GroupDescription>),
    ListGroups(Vec<ListedGroup>),
    DeleteGroup(Result<(), ErrorCode>),
    DeleteOffsets(Result<Vec<TopicOutcome>, ErrorCode>),
    Overview(Vec<GroupOverview>),
    /// `more`: one batch could not hold all tombstones; ask again.
    TopicsDeleted {
        more: bool,
    },
}

/// A member is in the generation that has begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    pub member_id: MemberId,
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: MemberId,
    /// The leader is not to assign: what was assigned stays (KIP-814).
    pub skip_assignment: bool,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub metadata: Bytes,
}

/// A join that did not happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRefused {
    pub code: ErrorCode,
    /// With `MemberIdRequired` the id to come back with.
    pub member_id: MemberId,
}

/// What a member has to do in this generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synced {
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    /// The leader's words; empty if the leader forgot the member.
    pub assignment: Bytes,
}

/// How one member's leaving went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub code: ErrorCode,
}

/// A code for each partition of a topic, in the order of the ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicOutcome {
    pub topic: TopicName,
    pub partitions: Vec<(PartitionIndex, ErrorCode)>,
}

/// The committed offsets of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedTopic {
    pub topic: TopicName,
    pub partitions: Vec<FetchedOffset>,
}

/// A committed offset; -1 for offset and epoch if there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedOffset {
    pub index: PartitionIndex,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
}

/// The states of a classic group, by Kafka's names (`ClassicGroupState`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    /// Only ever shown: a dead group is one that is not there.
    Dead,
}

impl GroupState {
    /// The name tools print and filter by.
    pub const fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

/// A group as DescribeGroups shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    pub state: GroupState,
    /// Empty for a group that only stores offsets.
    pub protocol_type: Arc<str>,
    /// The protocol chosen; shown only while the group is stable.
    pub protocol: Option<Arc<str>>,
    pub members: Vec<DescribedMember>,
}

/// A member as DescribeGroups shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedMember {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// Its words for the protocol chosen; empty unless the group is stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// A group as ListGroups shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedGroup {
    pub group: GroupId,
    pub protocol_type: Arc<str>,
    pub state: GroupState,
}

/// A group as metrics show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupOverview {
    pub group: GroupId,
    pub state: GroupState,
    pub members: usize,
    /// Committed offsets.
    pub offsets: Vec<(TopicName, PartitionIndex, Offset)>,
}

/// A timer of a group shard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GroupTimer {
    /// A member was not heard of for its session timeout, or a new member's join was parked too long.
    Session(GroupId, MemberId),
    /// The join phase ends, or the initial delay of a new group.
    Join(GroupId),
    /// A member was given an id and did not come back with it.
    PendingMember(GroupId, MemberId),
    /// Members that joined did not ask for their assignment.
    PendingSync(GroupId),
    /// Time to look for expired offsets (`offsets.retention.check.interval.ms`).
    OffsetExpiry,
}

impl GroupAnswer {
    /// The answer to a `Join` ask.
    pub fn join(self) -> Result<Joined, JoinRefused> {
        match self {
            GroupAnswer::Join(outcome) => outcome,
            other => Err(JoinRefused { code: other.refusal(), member_id: "".into() }),
        }
    }

    /// The answer to a `Sync` ask.
    pub fn sync(self) -> Result<Synced, ErrorCode> {
        match self {
            GroupAnswer::Sync(outcome) => outcome,
            other => Err(other.refusal()),
        }
    }

    /// The answer to a `Heartbeat` ask.
    pub fn heartbeat(self) -> Result<(), ErrorCode> {
        match self {
            GroupAnswer::Heartbeat(outcome) => outcome,
            other => Err(other.refusal()),
        }
    }

    /// The answer to a `Leave` ask.
    pub fn leave(self) -> Result<Vec<Left>, ErrorCode> {
        match self {
            GroupAnswer::Leave(left) => Ok(left),
            other => Err(other.refusal()),
        }
    }

    /// The answer to a `CommitOffsets` ask.
    pub fn commit_offsets(self) -> Result<Vec<TopicOutcome>, ErrorCode> {
        match self {
            GroupAnswer::CommitOffsets(outcome) => outcome,
            other => Err(other.refusal()),
        }
    }

    /// The answer to a `FetchOffsets` ask.
    pub fn fetch_offsets(self) -> Result<Vec<FetchedTopic>, ErrorCode> {
        match self {
            GroupAnswer::FetchOffsets(topics) => Ok(topics),
            other => Err(other.refusal()),
        }
    }

    /// The answer to a `DescribeGroup` ask.
    pub fn describe_group(self) -> Result<Option<GroupDescription>, ErrorCode> {
        match self {
            GroupAnswer::DescribeGroup(description) => Ok(description),
            other => Err(other.refusal()),
        }
    }

    /// The answer to a `ListGroups` ask.
    pub fn list_groups(self) -> Result<Vec<ListedGroup>, ErrorCode> {
        match self {
            GroupAnswer::ListGroups(groups) => Ok(groups),
            other => Err(other.refusal()),
        }
    }

    /// The answer to a `DeleteGroup` ask.
    pub fn delete_group(self) -> Result<(), ErrorCode> {
        match self {
            GroupAnswer::DeleteGroup(outcome) => outcome,
            other => Err(other.refusal()),
        }
    }

    /// The answer to a `DeleteOffsets` ask.
    pub fn delete_offsets(self) -> Result<Vec<TopicOutcome>, ErrorCode> {
        match self {
            GroupAnswer::DeleteOffsets(outcome) => outcome,
            other => Err(other.refusal()),
        }
    }

    fn refusal(self) -> ErrorCode {
        match self {
            GroupAnswer::Refused(code) => code,
            other => unreachable!("an ask was answered out of kind: {other:?}"),
        }
    }
}
