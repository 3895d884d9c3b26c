//! What openraft is told about us: who votes, what an entry carries, what applying it answers, which runtime runs it.

use std::fmt;

use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;

use crate::ids::{BrokerId, KafkaUuid};
use crate::peer::Address;

/// A voter: a node *and* its metadata directory. A node that lost its disk comes back as a stranger, so that it cannot
/// vote again in a term in which its earlier life has voted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct VoterId {
    pub node: i32,
    pub directory: u128,
}

impl VoterId {
    pub fn new(node: BrokerId, directory: KafkaUuid) -> VoterId {
        VoterId { node: node.0, directory: directory.0 }
    }
}

/// The library's conformance suite numbers its nodes.
#[cfg(test)]
impl From<u64> for VoterId {
    fn from(node: u64) -> VoterId {
        VoterId { node: node as i32, directory: 0 }
    }
}

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, KafkaUuid(self.directory))
    }
}

/// What the membership says of a member: where it listens. Static voters have nothing here, because their addresses are
/// a setting of every node.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// In the order of the member's own `controller.listener.names`: others use the first.
    pub endpoints: Vec<MemberEndpoint>,
}

/// One listener of a controller.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct MemberEndpoint {
    /// The name of the listener, e.g. `CONTROLLER`.
    pub listener: String,
    pub address: Address,
}

/// A round as the log carries it: the bytes of a `Proposal`.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EncodedRound(pub Vec<u8>);

impl fmt::Debug for EncodedRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round of {} bytes", self.0.len())
    }
}

impl fmt::Display for EncodedRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    /// The round's records are part of the image; the next one will have the offset `next`.
    Applied { next: i64 },
    /// The round was stamped with another index than the image had: it had no effect.
    Stale,
    /// The entry was openraft's own.
    NotARound,
}

openraft::declare_raft_types!(
    /// The types of the metadata quorum. Random numbers come from the seed of the scope that started it (`Env`'s).
    pub QuorumTypes:
        D = EncodedRound,
        R = Outcome,
        NodeId = VoterId,
        Node = Member,
        AsyncRuntime = DeterministicRng<TokioRuntime>,
);

pub type Entry = EntryOf<QuorumTypes>;
pub type Membership = openraft::Membership<VoterId, Member>;
pub type LogId = LogIdOf<QuorumTypes>;
pub type Vote = VoteOf<QuorumTypes>;
pub type StoredMembership = StoredMembershipOf<QuorumTypes>;
pub type SnapshotMeta = SnapshotMetaOf<QuorumTypes>;
