//! One member of a classic group, and what its subscription says (pure).
//!
//! Invariants: at most one join and one sync of a member are parked. A parked join or sync counts as a sign of life,
//! except the very first join of a member: its id has never reached the client, so nothing else could remove it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::asks::{DescribedMember, InstanceId, JoinAsk, JoinedMember, MemberId, Protocol};
use super::record::ClassicMemberValue;
use crate::coordinator::shard::AnswerId;
use crate::ids::TopicName;

/// A member of a classic group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<InstanceId>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    /// In order of preference. After a load only the one that was chosen is known.
    pub(super) protocols: Arc<[Protocol]>,
    pub(super) assignment: Bytes,
    /// The parked JoinGroup.
    pub(super) joining: Option<AnswerId>,
    /// The parked SyncGroup.
    pub(super) syncing: Option<AnswerId>,
    /// The member's first join has not been answered yet.
    pub(super) is_new: bool,
}

impl Member {
    /// A member whose first join is `ask`, parked as `id`.
    pub(super) fn joining(ask: JoinAsk, id: AnswerId) -> Member {
        Member {
            instance_id: ask.instance_id,
            client_id: ask.client_id,
            client_host: ask.client_host,
            session_timeout_ms: ask.session_timeout_ms,
            rebalance_timeout_ms: ask.rebalance_timeout_ms,
            protocols: ask.protocols,
            assignment: Bytes::new(),
            joining: Some(id),
            syncing: None,
            is_new: true,
        }
    }

    /// Joins again with what `ask` says, parked as `id`; returns the join that was parked before.
    pub(super) fn rejoin(&mut self, ask: JoinAsk, id: AnswerId) -> Option<AnswerId> {
        self.client_id = ask.client_id;
        self.client_host = ask.client_host;
        self.session_timeout_ms = ask.session_timeout_ms;
        self.rebalance_timeout_ms = ask.rebalance_timeout_ms;
        self.protocols = ask.protocols;
        self.joining.replace(id)
    }

    /// True if the session timeout does not count now.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// True if the member offers the protocol.
    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|offered| &*offered.name == protocol)
    }

    /// What the member says for a protocol; empty if it does not offer it.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let offered = self.protocols.iter().find(|offered| &*offered.name == protocol);
        offered.map(|offered| offered.metadata.clone()).unwrap_or_default()
    }

    /// As the leader of a group with this protocol sees the member.
    pub(super) fn as_joined(&self, member_id: &MemberId, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: member_id.clone(),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    /// As DescribeGroups shows the member; the metadata only where a protocol is given.
    pub(super) fn describe(&self, member_id: &MemberId, protocol: Option<&str>) -> DescribedMember {
        DescribedMember {
            member_id: member_id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: protocol.map(|protocol| self.metadata(protocol)).unwrap_or_default(),
            assignment: self.assignment.clone(),
        }
    }

    /// As the journal keeps the member.
    pub(super) fn to_value(&self, member_id: &MemberId, protocol: &str) -> ClassicMemberValue {
        ClassicMemberValue {
            member_id: member_id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// As the journal kept the member, in a group that chose `protocol`.
    pub(super) fn from_value(value: &ClassicMemberValue, protocol: &Arc<str>) -> Member {
        Member {
            instance_id: value.instance_id.clone(),
            client_id: value.client_id.clone(),
            client_host: value.client_host.clone(),
            session_timeout_ms: value.session_timeout_ms,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            protocols: Arc::from([Protocol { name: protocol.clone(), metadata: value.subscription.clone() }]),
            assignment: value.assignment.clone(),
            joining: None,
            syncing: None,
            is_new: false,
        }
    }
}

/// Adds the topics of a consumer's subscription (`ConsumerProtocolSubscription`) to `topics`; `None` if the bytes are
/// not one. Only the fields of version 0 are read: every later version begins with them.
pub(super) fn add_subscribed(metadata: &[u8], topics: &mut BTreeSet<TopicName>) -> Option<()> {
    let (version, rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (name, after) = after.split_at_checked(length)?;
        topics.insert(TopicName::from(std::str::from_utf8(name).ok()?));
        rest = after;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(metadata: &[u8]) -> Option<Vec<String>> {
        let mut topics = BTreeSet::new();
        add_subscribed(metadata, &mut topics)?;
        Some(topics.iter().map(|topic| topic.to_string()).collect())
    }

    #[test]
    fn subscriptions_of_any_version_are_read() {
        let v0 = b"\0\0\0\0\0\x02\0\x01b\0\x02aa\xff\xff\xff\xff";
        assert_eq!(topics(v0), Some(vec!["aa".to_owned(), "b".to_owned()]));
        let v3 = b"\0\x03\0\0\0\x01\0\x01b\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff";
        assert_eq!(topics(v3), Some(vec!["b".to_owned()]));
        assert_eq!(topics(b"\0\0\0\0\0\0"), Some(Vec::new()));
    }

    #[test]
    fn broken_subscriptions_are_no_subscriptions() {
        let whole = b"\0\0\0\0\0\x02\0\x01b\0\x02aa";
        for cut in 0..whole.len() {
            assert_eq!(topics(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(topics(b"\xff\xff\0\0\0\0"), None, "a negative version");
        assert_eq!(topics(b"\0\0\0\0\0\x01\xff\xff"), None, "a null name");
        assert_eq!(topics(b"\0\0\0\0\0\x01\0\x01\xff"), None, "not UTF-8");
    }
}
