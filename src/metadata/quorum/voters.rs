//! Changes of the voters while the quorum works (KIP-853): one is added, removed, or listens elsewhere.
//!
//! Kafka's order of checks: this node leads and its leadership is committed; voters are in the log (`kraft.version` 1);
//! no other change is under way; then whatever the change itself demands. Invariants: one change at a time; a voter is
//! added only once it has everything; a change that was begun goes on even if nobody waits for it any more, and a new
//! leader brings it to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics};
use tokio::sync::OwnedMutexGuard;

use crate::error::{ApiError, ErrorCode};
use crate::ids::KafkaUuid;
use crate::metadata::quorum::Quorum;
use crate::metadata::quorum::types::{Member, QuorumTypes, VoterId};

/// The longest that a new voter may take to have everything.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(30);
const CATCH_UP_PAUSE: Duration = Duration::from_millis(20);

/// What shall become of a voter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VoterChange {
    /// It votes from now on.
    Add(Member),
    /// It votes no more.
    Remove,
    /// It listens elsewhere.
    Update(Member),
}

/// What a change is decided from.
#[derive(Clone, Debug)]
pub struct VoterFacts {
    /// The finalized level of `kraft.version`.
    pub kraft_version: i16,
    /// The newest membership is committed, and consists of one set of voters.
    pub settled: bool,
    pub voters: BTreeMap<VoterId, Member>,
}

fn timed_out(why: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::RequestTimedOut, why)
}

/// Refuses a change that must not be; pure.
pub fn check_change(facts: &VoterFacts, id: VoterId, change: &VoterChange) -> Result<(), ApiError> {
    if facts.kraft_version < 1 {
        let what = match change {
            VoterChange::Add(_) => "adding",
            VoterChange::Remove => "removing",
            VoterChange::Update(_) => "updating",
        };
        let why = format!(
            "Cluster doesn't support {what} voter because the kraft.version feature is {}",
            facts.kraft_version
        );
        return Err(ApiError::new(ErrorCode::UnsupportedVersion, why));
    }
    if !facts.settled {
        return Err(timed_out("The latest change of the voters is not committed yet."));
    }
    let named = || facts.voters.keys().map(replica_key).collect::<Vec<_>>().join(", ");
    match change {
        VoterChange::Add(_) if facts.voters.keys().any(|voter| voter.node == id.node) => {
            let who = replica_key(&id);
            let why = format!("The voter id for {who} is already part of the set of voters [{}].", named());
            Err(ApiError::new(ErrorCode::DuplicateVoter, why))
        }
        VoterChange::Remove if !facts.voters.contains_key(&id) => {
            let why = format!("Cannot remove voter {} from the set of voters [{}]", replica_key(&id), named());
            Err(ApiError::new(ErrorCode::VoterNotFound, why))
        }
        VoterChange::Update(_) if !facts.voters.contains_key(&id) => {
            let why = format!("{} is not part of the set of voters [{}].", replica_key(&id), named());
            Err(ApiError::new(ErrorCode::VoterNotFound, why))
        }
        VoterChange::Remove if facts.voters.len() == 1 => {
            let why = format!("{id} is the only voter: a quorum of nobody could decide nothing.");
            Err(ApiError::new(ErrorCode::InvalidRequest, why))
        }
        VoterChange::Add(member) | VoterChange::Update(member) if member.endpoints.is_empty() => {
            Err(ApiError::new(ErrorCode::InvalidRequest, "A voter listens somewhere."))
        }
        VoterChange::Add(_) | VoterChange::Remove | VoterChange::Update(_) => Ok(()),
    }
}

/// A voter in the words of Kafka's tools (`ReplicaKey`).
fn replica_key(id: &VoterId) -> String {
    format!("ReplicaKey(id={}, directoryId={})", id.node, KafkaUuid(id.directory))
}

impl Quorum {
    /// The voters and their endpoints, by the newest membership.
    pub fn voters(&self) -> BTreeMap<VoterId, Member> {
        voters_of(&self.raft.metrics().borrow_watched())
    }

    /// The same, or what was heard of them while this node is no member.
    pub fn known_voters(&self) -> BTreeMap<VoterId, Member> {
        if self.is_member() { self.voters() } else { self.sender.roster.members() }
    }

    fn facts(&self) -> VoterFacts {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let committed = now.committed_membership_config.log_id() == now.membership_config.log_id();
        VoterFacts {
            kraft_version: self.image().features.level("kraft.version"),
            settled: committed && now.membership_config.get_joint_config().len() == 1,
            voters: voters_of(&now),
        }
    }

    /// Refuses a change that would be refused now: a new voter is asked what it supports in between.
    pub fn would_change(&self, id: VoterId, change: &VoterChange) -> Result<(), ApiError> {
        if self.changing.try_lock().is_err() {
            return Err(timed_out("Another change of the voters is under way."));
        }
        check_change(&self.facts(), id, change)
    }

    /// Changes a voter. Returns once the change is committed or, without `until_committed`, once nothing stands in its
    /// way any more. `REQUEST_TIMED_OUT`: ask again.
    pub async fn change_voter(
        &self,
        id: VoterId,
        change: VoterChange,
        patience: Duration,
        until_committed: bool,
    ) -> Result<(), ApiError> {
        if !self.leads() {
            return Err(ApiError::new(ErrorCode::NotLeaderOrFollower, "This node does not lead the quorum."));
        }
        let changing = Arc::clone(&self.changing).try_lock_owned();
        let changing = changing.map_err(|_| timed_out("Another change of the voters is under way."))?;
        check_change(&self.facts(), id, &change)?;
        let change = match change {
            VoterChange::Add(member) => {
                self.teach(id, member, patience.min(CATCH_UP_PATIENCE)).await?;
                ChangeMembers::AddVoterIds(BTreeSet::from([id]))
            }
            VoterChange::Remove => ChangeMembers::RemoveVoters(BTreeSet::from([id])),
            VoterChange::Update(member) => ChangeMembers::SetNodes(BTreeMap::from([(id, member)])),
        };
        let changed = self.env.spawn(self.clone().change_membership(change, changing));
        if !until_committed {
            return Ok(());
        }
        match self.env.timeout(patience, changed).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(timed_out("This node is ending.")),
            None => Err(timed_out("The change of the voters was not committed in time.")),
        }
    }

    /// Runs by itself, so that it comes to its end whoever waits.
    async fn change_membership(
        self,
        change: ChangeMembers<VoterId, Member>,
        _changing: OwnedMutexGuard<()>,
    ) -> Result<(), ApiError> {
        let changed = self.raft.change_membership(change, false).await;
        changed.map(drop).map_err(|error| refusal(&error))
    }

    /// Has a node get the log without a vote, until it has everything. If it takes too long, it is left as it was.
    async fn teach(&self, id: VoterId, member: Member, patience: Duration) -> Result<(), ApiError> {
        let known = self.raft.metrics().borrow_watched().membership_config.get_node(&id).cloned();
        let begun = match known {
            Some(known) if known == member => Ok(()),
            Some(_) => {
                let moved = ChangeMembers::SetNodes(BTreeMap::from([(id, member)]));
                self.raft.change_membership(moved, false).await.map(drop)
            }
            None => self.raft.add_learner(id, member, false).await.map(drop),
        };
        begun.map_err(|error| refusal(&error))?;
        let deadline = self.env.now() + patience;
        while !self.has_everything(id) {
            if self.env.now() >= deadline || !self.leads() {
                let stranger = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
                if let Err(error) = self.raft.change_membership(stranger, false).await {
                    tracing::info!(%error, voter = %id, "cannot forget who did not become a voter");
                }
                return Err(timed_out(format!("{id} is lagging behind, or does not answer.")));
            }
            self.env.sleep(CATCH_UP_PAUSE).await;
        }
        Ok(())
    }

    fn has_everything(&self, id: VoterId) -> bool {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let has = now.replication.as_ref().and_then(|others| others.get(&id).copied().flatten());
        has.is_some_and(|has| Some(has.index) >= now.last_log_index)
    }
}

fn voters_of(metrics: &RaftMetrics<QuorumTypes>) -> BTreeMap<VoterId, Member> {
    let membership = &metrics.membership_config;
    membership.voter_ids().map(|id| (id, membership.get_node(&id).cloned().unwrap_or_default())).collect()
}

fn refusal(error: &RaftError<QuorumTypes, ClientWriteError<QuorumTypes>>) -> ApiError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
            ApiError::new(ErrorCode::NotLeaderOrFollower, "This node does not lead the quorum.")
        }
        other => timed_out(format!("The voters were not changed: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::quorum::types::MemberEndpoint;
    use crate::peer::Address;

    fn voter(node: i32, directory: u128) -> VoterId {
        VoterId { node, directory }
    }

    fn member() -> Member {
        let address = Address { host: "kafka".into(), port: 9093 };
        Member { endpoints: vec![MemberEndpoint { listener: "CONTROLLER".into(), address }] }
    }

    fn facts() -> VoterFacts {
        let voters = [1, 2].map(|node| (voter(node, 10), member())).into();
        VoterFacts { kraft_version: 1, settled: true, voters }
    }

    #[test]
    fn a_change_is_refused_for_the_first_reason_there_is() {
        let check = |facts: &VoterFacts, id, change| check_change(facts, id, &change).map_err(|refused| refused.code);
        let static_voters = VoterFacts { kraft_version: 0, settled: false, ..facts() };
        let unsettled = VoterFacts { settled: false, ..facts() };
        let adds = |facts: &VoterFacts, id| check(facts, id, VoterChange::Add(member()));
        assert_eq!(adds(&static_voters, voter(1, 10)), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(adds(&unsettled, voter(1, 10)), Err(ErrorCode::RequestTimedOut));
        assert_eq!(adds(&facts(), voter(1, 10)), Err(ErrorCode::DuplicateVoter));
        assert_eq!(adds(&facts(), voter(1, 99)), Err(ErrorCode::DuplicateVoter), "the id counts, not the directory");
        assert_eq!(adds(&facts(), voter(3, 10)), Ok(()));
        let nowhere = VoterChange::Add(Member::default());
        assert_eq!(check(&facts(), voter(3, 10), nowhere), Err(ErrorCode::InvalidRequest));

        let removes = |facts: &VoterFacts, id| check(facts, id, VoterChange::Remove);
        assert_eq!(removes(&facts(), voter(1, 99)), Err(ErrorCode::VoterNotFound), "another life of it");
        assert_eq!(removes(&facts(), voter(1, 10)), Ok(()));
        let last = VoterFacts { voters: [(voter(1, 10), member())].into(), ..facts() };
        assert_eq!(removes(&last, voter(1, 10)), Err(ErrorCode::InvalidRequest));

        let updates = |id| check(&facts(), id, VoterChange::Update(member()));
        assert_eq!(updates(voter(3, 10)), Err(ErrorCode::VoterNotFound));
        assert_eq!(updates(voter(2, 10)), Ok(()));
    }
}
