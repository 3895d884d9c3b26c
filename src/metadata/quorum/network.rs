//! How raft messages reach other members: over the private API, one connection per purpose.
//!
//! Invariants: every message has a deadline, because an answer that is lost for ever would stop replication to that
//! member for ever; a promise of another voter counts only after this node has noted, durably, that it was heard of.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::alias::SnapshotOf;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use crate::env::Env;
use crate::ids::KafkaUuid;
use crate::metadata::quorum::messages::{self, Answer, Envelope, Question, SnapshotPart};
use crate::metadata::quorum::published::Published;
use crate::metadata::quorum::roster::Roster;
use crate::metadata::quorum::types::{Member, QuorumTypes, Vote, VoterId};
use crate::peer::{Address, Peer};
use crate::wire::PRIVATE_API;

/// How long an append with entries may take: the other side syncs its disk.
const APPEND_PATIENCE: Duration = Duration::from_secs(2);

/// How long one piece of a snapshot may take; the last one is written to disk.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a snapshot that are sent at once.
const SNAPSHOT_PART_BYTES: usize = 1 << 20;

/// Makes messages of this node.
#[derive(Clone)]
pub struct Sender {
    pub env: Env,
    pub me: VoterId,
    /// The cluster this node was told to belong to; zero if it was told none.
    pub cluster_id: KafkaUuid,
    pub published: Arc<Published>,
    pub roster: Arc<Roster>,
}

impl Sender {
    /// The cluster this node belongs to, as far as it knows.
    pub fn cluster_id(&self) -> KafkaUuid {
        let known = self.published.image().cluster_id;
        if known.is_zero() { self.cluster_id } else { known }
    }

    /// A connection to an address.
    pub fn peer(&self, address: Address) -> Peer {
        Peer::new(&self.env, address, &format!("quorum-{}", self.me.node))
    }

    /// Asks `peer`; the error is a sentence for the log.
    pub async fn ask(
        &self,
        peer: &Peer,
        to: Option<VoterId>,
        question: &Question,
        patience: Duration,
    ) -> Result<Answer, String> {
        let envelope = Envelope { cluster_id: self.cluster_id(), from: self.me, to };
        let body = messages::encode_question(&envelope, question);
        let answer = peer.call_raw(PRIVATE_API, 0, body, patience).await.map_err(|failed| failed.to_string())?;
        let answer =
            messages::decode_answer(&answer).map_err(|malformed| format!("{}: {malformed}", peer.address()))?;
        answer.map_err(|why| format!("{}: {why}", peer.address()))
    }
}

/// Makes connections to members.
pub struct Connections(pub Sender);

impl RaftNetworkFactory<QuorumTypes> for Connections {
    type Network = Connection;

    async fn new_client(&mut self, target: VoterId, member: &Member) -> Connection {
        let known = member.endpoints.first().map(|endpoint| endpoint.address.clone());
        Connection { sender: self.0.clone(), target, known, peer: None }
    }
}

/// A connection to one member, for one purpose.
pub struct Connection {
    sender: Sender,
    target: VoterId,
    /// Where it listened when the connection was made.
    known: Option<Address>,
    peer: Option<Peer>,
}

type Failed = Unreachable<QuorumTypes>;

impl Connection {
    async fn ask(&mut self, question: Question, patience: Duration) -> Result<Answer, Failed> {
        let unreachable = |why: String| Failed::from_string(format!("{}: {why}", self.target));
        let address = self.sender.roster.address(&self.target).or_else(|| self.known.clone());
        let address = address.ok_or_else(|| unreachable("nobody knows where it listens".into()))?;
        let peer = match self.peer.take() {
            Some(peer) if *peer.address() == address => peer,
            _ => self.sender.peer(address),
        };
        let answer = self.sender.ask(&peer, Some(self.target), &question, patience).await;
        self.peer = Some(peer);
        answer.map_err(unreachable)
    }

    /// Notes that the target has promised something.
    async fn hear(&self) -> Result<(), Failed> {
        self.sender.roster.hear_of(self.target).await.map_err(Failed::from_string)
    }

    async fn ask_for_vote(&mut self, question: Question, option: RPCOption) -> Result<VoteAnswer, Failed> {
        let Answer::Vote(answer) = self.ask(question, option.hard_ttl()).await? else { return Err(self.nonsense()) };
        Ok(answer)
    }

    fn nonsense(&self) -> Failed {
        Failed::from_string(format!("{}: answers something else than it was asked", self.target))
    }

    async fn send_snapshot(&mut self, vote: Vote, snapshot: Snapshot) -> Result<Vote, Failed> {
        let total_bytes = snapshot.snapshot.len() as u64;
        let mut rest = snapshot.snapshot;
        loop {
            let at = total_bytes - rest.len() as u64;
            let bytes = rest.split_to(rest.len().min(SNAPSHOT_PART_BYTES));
            let part = SnapshotPart { vote, meta: snapshot.meta.clone(), total_bytes, at, bytes };
            let answer = self.ask(Question::Snapshot(part), SNAPSHOT_PATIENCE).await?;
            let Answer::Snapshot(theirs) = answer else { return Err(self.nonsense()) };
            if rest.is_empty() || theirs > vote {
                return Ok(theirs);
            }
        }
    }
}

type VoteAnswer = VoteResponse<QuorumTypes>;
type Snapshot = SnapshotOf<QuorumTypes, Bytes>;

impl RaftNetworkV2<QuorumTypes> for Connection {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<QuorumTypes>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<QuorumTypes>, RPCError<QuorumTypes>> {
        let patience = if request.entries.is_empty() { option.hard_ttl() } else { APPEND_PATIENCE };
        let Answer::Append(answer) = self.ask(Question::Append(request), patience).await? else {
            return Err(self.nonsense().into());
        };
        if matches!(answer, AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)) {
            self.hear().await?;
        }
        Ok(answer)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<QuorumTypes>,
        option: RPCOption,
    ) -> Result<VoteAnswer, RPCError<QuorumTypes>> {
        let answer = self.ask_for_vote(Question::Vote(request), option).await?;
        if answer.vote_granted {
            self.hear().await?;
        }
        Ok(answer)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<QuorumTypes>,
        option: RPCOption,
    ) -> Result<VoteAnswer, RPCError<QuorumTypes>> {
        Ok(self.ask_for_vote(Question::PreVote(request), option).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<QuorumTypes>, StreamingError<QuorumTypes>> {
        let target = self.target;
        let theirs = tokio::select! {
            biased;
            closed = pin!(cancel) => return Err(closed.into()),
            theirs = self.send_snapshot(vote, snapshot) => theirs?,
        };
        tracing::info!(%target, "a member that was far behind has the snapshot");
        Ok(SnapshotResponse::new(theirs))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<QuorumTypes>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<QuorumTypes>, RPCError<QuorumTypes>> {
        match self.ask(Question::Transfer(request), option.hard_ttl()).await? {
            Answer::Transfer(true) => Ok(Ok(())),
            Answer::Transfer(false) => {
                Err(Failed::from_string(format!("{}: does not take over leadership now", self.target)).into())
            }
            _ => Err(self.nonsense().into()),
        }
    }
}
