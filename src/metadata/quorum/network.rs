//! How raft messages reach other voters: not at all yet.
//!
//! A quorum has exactly one voter today (`Quorum::start` refuses any other), so openraft never sends a message. Should
//! one be sent nevertheless, it is answered with "unreachable", which raft survives by design: nothing is pretended.

use std::future::Future;

use bytes::Bytes;
use openraft::alias::SnapshotOf;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{EmptyNode, OptionalSend};

use crate::metadata::quorum::types::{QuorumTypes, Vote, VoterId};

/// Makes connections that lead nowhere.
pub struct NoPeers;

/// A connection to a voter that cannot be reached.
pub struct NoPeer {
    target: VoterId,
}

impl NoPeer {
    fn unreachable(&self) -> Unreachable<QuorumTypes> {
        Unreachable::from_string(format!(
            "a quorum of several voters is not supported yet: {} is unreachable",
            self.target
        ))
    }
}

impl RaftNetworkFactory<QuorumTypes> for NoPeers {
    type Network = NoPeer;

    async fn new_client(&mut self, target: VoterId, _node: &EmptyNode) -> NoPeer {
        NoPeer { target }
    }
}

impl RaftNetworkV2<QuorumTypes> for NoPeer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<QuorumTypes>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<QuorumTypes>, RPCError<QuorumTypes>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<QuorumTypes>,
        _option: RPCOption,
    ) -> Result<VoteResponse<QuorumTypes>, RPCError<QuorumTypes>> {
        Err(self.unreachable().into())
    }

    // The library's own version grants every pre-vote, which an unreachable peer must not.
    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<QuorumTypes>,
        _option: RPCOption,
    ) -> Result<VoteResponse<QuorumTypes>, RPCError<QuorumTypes>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: SnapshotOf<QuorumTypes, Bytes>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<QuorumTypes>, StreamingError<QuorumTypes>> {
        Err(self.unreachable().into())
    }
}
