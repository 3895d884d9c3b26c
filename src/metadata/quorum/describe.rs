//! What the leader can say of the quorum: who votes, who follows, and how far each of them is.
//!
//! Positions are those of the raft log: an offset here counts entries, not metadata records.

use std::collections::BTreeMap;

use openraft::Instant as _;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;

use crate::ids::{BrokerId, KafkaUuid, Offset, WallMillis};
use crate::metadata::quorum::Quorum;
use crate::metadata::quorum::types::{Member, MemberEndpoint, VoterId};

/// The quorum as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumState {
    pub leader: BrokerId,
    pub leader_epoch: i32,
    pub high_watermark: Offset,
    pub voters: Vec<QuorumReplica>,
    /// Brokers outside the quorum, and controllers that do not vote.
    pub observers: Vec<QuorumReplica>,
    /// Where the voters listen, as far as the quorum itself knows.
    pub nodes: Vec<(BrokerId, Vec<MemberEndpoint>)>,
}

/// A voter or an observer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuorumReplica {
    pub id: BrokerId,
    /// Zero for static voters.
    pub directory: KafkaUuid,
    /// The first entry that it does not have; -1 if that is not known.
    pub log_end: Offset,
    /// When it was last heard; -1 if never.
    pub fetched_ms: WallMillis,
    /// When it last had everything; -1 if never.
    pub caught_up_ms: WallMillis,
}

/// When other members last had everything, as far as this node saw while it led.
#[derive(Default)]
pub struct CaughtUp(Mutex<BTreeMap<VoterId, WallMillis>>);

impl Quorum {
    /// The quorum as this node sees it if it leads.
    pub fn describe(&self) -> Option<QuorumState> {
        let now_ms = self.env.wall_ms();
        let now = self.raft.metrics().borrow_watched().clone();
        if now.state != ServerState::Leader {
            return None;
        }
        let me = self.sender.me;
        let end = now.last_log_index.map_or(0, |last| last + 1);
        let replica = |id: VoterId| {
            let (log_end, fetched_ms) = if id == me {
                (Some(end), Some(now_ms))
            } else {
                let has = now.replication.as_ref().and_then(|others| others.get(&id).copied().flatten());
                let acked = now.heartbeat.as_ref().and_then(|others| others.get(&id).copied().flatten());
                let acked_ms = acked.map(|acked| now_ms - i64::try_from(acked.elapsed().as_millis()).unwrap_or(now_ms));
                (has.map(|has| has.index + 1), acked_ms)
            };
            let caught_up_ms = match fetched_ms {
                Some(fetched_ms) if log_end == Some(end) => self.caught_up.note(id, fetched_ms),
                _ => self.caught_up.of(id),
            };
            QuorumReplica {
                id: BrokerId(id.node),
                directory: KafkaUuid(id.directory),
                log_end: log_end.map_or(-1, |end| end as i64),
                fetched_ms: fetched_ms.unwrap_or(-1),
                caught_up_ms,
            }
        };
        let membership = &now.membership_config;
        let members: Vec<VoterId> = membership.nodes().map(|(id, _)| *id).collect();
        let (voters, learners): (Vec<VoterId>, Vec<VoterId>) =
            members.iter().partition(|id| membership.voter_ids().any(|voter| voter == **id));
        let pulling = self.conversations.observers(now_ms).into_iter().filter(|(id, _)| !members.contains(id));
        let pulling = pulling.map(|(id, seen)| QuorumReplica {
            id: BrokerId(id.node),
            directory: KafkaUuid(id.directory),
            log_end: seen.next_entry as i64,
            fetched_ms: seen.pulled_ms,
            // It may have been a voter before.
            caught_up_ms: seen.caught_up_ms.max(self.caught_up.of(id)),
        });
        Some(QuorumState {
            leader: BrokerId(me.node),
            leader_epoch: i32::try_from(now.current_term).unwrap_or(i32::MAX),
            high_watermark: now.cluster_committed.map_or(0, |id| id.index as i64 + 1),
            nodes: self.controllers(),
            voters: voters.iter().map(|id| replica(*id)).collect(),
            observers: learners.into_iter().map(replica).chain(pulling).collect(),
        })
    }
}

impl Quorum {
    /// The voters and where they listen, as far as this node knows.
    pub fn controllers(&self) -> Vec<(BrokerId, Vec<MemberEndpoint>)> {
        let endpoints = |(id, member): (VoterId, Member)| match self.sender.roster.address(&id) {
            // A static voter listens where the settings say, on the listener that all of them have.
            Some(address) if member.endpoints.is_empty() => {
                (BrokerId(id.node), vec![MemberEndpoint { listener: self.listener.to_string(), address }])
            }
            _ => (BrokerId(id.node), member.endpoints),
        };
        self.known_voters().into_iter().map(endpoints).collect()
    }
}

impl CaughtUp {
    fn note(&self, id: VoterId, at_ms: WallMillis) -> WallMillis {
        let mut known = self.0.lock();
        let newest = known.entry(id).or_insert(at_ms);
        *newest = (*newest).max(at_ms);
        *newest
    }

    fn of(&self, id: VoterId) -> WallMillis {
        self.0.lock().get(&id).copied().unwrap_or(-1)
    }
}
