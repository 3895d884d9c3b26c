//! The committed offsets of the groups of one shard (pure).
//!
//! Invariants: `replay` is the only writer. Of two commits for a partition the one with the higher journal offset
//! stays, whichever is replayed first: the records of a transaction are replayed late, at its marker. A group without
//! offsets has no entry, and a topic without offsets has none in its group; `count` is the number of offsets held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::coordinator::group::record::{GroupRecord, OffsetKey, OffsetValue};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName, WallMillis};

/// One committed offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The next offset to consume.
    pub offset: Offset,
    /// Leader epoch of the last record consumed; -1 if the client did not say.
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
    pub commit_ms: WallMillis,
    /// Expiry asked for by the request; the group's own rule applies where there is none.
    pub expire_ms: Option<WallMillis>,
    /// The topic committed for; zero if it was not known.
    pub topic_id: TopicId,
    /// Where in the journal the commit stands.
    pub record_offset: Offset,
}

impl Committed {
    /// False if the commit was made for another topic of the same name, deleted since. An unknown id (zero) on either
    /// side proves nothing.
    pub fn is_for(&self, topic_id: TopicId) -> bool {
        topic_id.is_zero() || self.topic_id.is_zero() || self.topic_id == topic_id
    }
}

/// When the offsets of a group expire (KIP-211). A group that fits none of these keeps all of its offsets.
#[derive(Clone, Copy, Debug)]
pub enum Expiry<'a> {
    /// A group with a protocol type and no members: counted from the time it became empty, or from each commit if that
    /// time is not known.
    Empty { since_ms: Option<WallMillis> },
    /// A stable group of consumers: counted from the commit, for topics none of them subscribes to.
    Subscribed { topics: &'a BTreeSet<TopicName> },
    /// A group without protocol type, which only stores offsets: counted from the commit.
    Simple,
}

/// What expired in one group.
#[derive(Debug)]
pub struct Expired {
    /// One tombstone per offset.
    pub tombstones: Vec<GroupRecord>,
    /// Nothing is left once they are appended; an empty group then gets a tombstone of its own.
    pub all: bool,
}

type Partitions = BTreeMap<PartitionIndex, Committed>;
type Topics = BTreeMap<TopicName, Partitions>;

/// Committed offsets by group, topic and partition.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Offsets {
    groups: BTreeMap<Arc<str>, Topics>,
    count: usize,
}

impl Offsets {
    /// Applies an offset record that stands at `record_offset`; no value forgets the offset.
    pub fn replay(&mut self, record_offset: Offset, key: OffsetKey, value: Option<OffsetValue>) {
        match value {
            Some(value) => self.put(record_offset, key, value),
            None => self.remove(record_offset, &key),
        }
    }

    fn put(&mut self, record_offset: Offset, key: OffsetKey, value: OffsetValue) {
        let OffsetValue { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id } = value;
        let next = Committed { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id, record_offset };
        let partitions = self.groups.entry(key.group).or_default().entry(key.topic).or_default();
        if partitions.get(&key.partition).is_some_and(|current| current.record_offset > record_offset) {
            return;
        }
        if partitions.insert(key.partition, next).is_none() {
            self.count += 1;
        }
    }

    fn remove(&mut self, record_offset: Offset, key: &OffsetKey) {
        let Some(topics) = self.groups.get_mut(&key.group) else { return };
        let Some(partitions) = topics.get_mut(&key.topic) else { return };
        if partitions.get(&key.partition).is_none_or(|current| current.record_offset > record_offset) {
            return;
        }
        partitions.remove(&key.partition);
        self.count -= 1;
        if partitions.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.groups.remove(&key.group);
        }
    }

    /// The committed offset of one partition.
    pub fn of_partition(&self, group: &str, topic: &str, partition: PartitionIndex) -> Option<&Committed> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    /// Everything a group committed, by topic and partition.
    pub fn of_group<'a>(
        &'a self,
        group: &str,
    ) -> impl Iterator<Item = (&'a TopicName, PartitionIndex, &'a Committed)> + use<'a> {
        self.groups.get(group).into_iter().flat_map(of_topics)
    }

    /// Everything committed, by group, topic and partition: what lag is computed from.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &TopicName, PartitionIndex, &Committed)> {
        self.groups.iter().flat_map(|(group, topics)| {
            of_topics(topics).map(move |(topic, partition, committed)| (group, topic, partition, committed))
        })
    }

    /// The groups that have offsets, in the order of their names.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    /// True if the group has any offset.
    pub fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// How many offsets are held (`kafka.server:type=GroupMetadataManager,name=NumOffsets`).
    pub fn count(&self) -> usize {
        self.count
    }

    /// What has expired in `group` at `now`, with offsets kept for `retention_ms` (`offsets.retention.minutes`).
    pub fn expired(&self, group: &str, rule: Expiry<'_>, now: WallMillis, retention_ms: i64) -> Expired {
        let Some((group, topics)) = self.groups.get_key_value(group) else {
            return Expired { tombstones: Vec::new(), all: true };
        };
        let mut all = true;
        let mut tombstones = Vec::new();
        for (topic, partition, committed) in of_topics(topics) {
            if is_expired(topic, committed, rule, now, retention_ms) {
                tombstones.push(GroupRecord::offset_tombstone(group, topic, partition));
            } else {
                all = false;
            }
        }
        Expired { tombstones, all }
    }

    /// Tombstones for all offsets of a group: for DeleteGroups.
    pub fn tombstones_of_group(&self, group: &str) -> Vec<GroupRecord> {
        let Some((group, topics)) = self.groups.get_key_value(group) else { return Vec::new() };
        of_topics(topics).map(|(topic, partition, _)| GroupRecord::offset_tombstone(group, topic, partition)).collect()
    }

    /// Tombstones for the offsets of a deleted topic in every group. Commits for a later topic of that name stay.
    pub fn tombstones_of_topic(&self, topic: &str, topic_id: TopicId) -> Vec<GroupRecord> {
        let mut tombstones = Vec::new();
        for (group, topics) in &self.groups {
            let Some((topic, partitions)) = topics.get_key_value(topic) else { continue };
            for (partition, committed) in partitions {
                if committed.is_for(topic_id) {
                    tombstones.push(GroupRecord::offset_tombstone(group, topic, *partition));
                }
            }
        }
        tombstones
    }
}

fn of_topics(topics: &Topics) -> impl Iterator<Item = (&TopicName, PartitionIndex, &Committed)> {
    topics
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(move |(index, committed)| (topic, *index, committed)))
}

fn is_expired(topic: &TopicName, committed: &Committed, rule: Expiry<'_>, now: WallMillis, retention_ms: i64) -> bool {
    let since_ms = match rule {
        Expiry::Empty { since_ms } => since_ms.unwrap_or(committed.commit_ms),
        Expiry::Subscribed { topics } if topics.contains(topic) => return false,
        Expiry::Subscribed { .. } | Expiry::Simple => committed.commit_ms,
    };
    match committed.expire_ms {
        Some(expire_ms) => now >= expire_ms,
        // Saturating, because times in the journal are not to be trusted more than any other byte on the disk.
        None => now.saturating_sub(since_ms) >= retention_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KafkaUuid;

    fn key(group: &str, topic: &str, partition: PartitionIndex) -> OffsetKey {
        OffsetKey { group: group.into(), topic: topic.into(), partition }
    }

    fn value(offset: Offset, commit_ms: WallMillis) -> OffsetValue {
        let (metadata, topic_id) = ("".into(), KafkaUuid::ZERO);
        OffsetValue { offset, leader_epoch: -1, metadata, commit_ms, expire_ms: None, topic_id }
    }

    fn sample() -> Offsets {
        let mut offsets = Offsets::default();
        offsets.replay(0, key("a", "t", 0), Some(value(10, 100)));
        offsets.replay(1, key("a", "t", 1), Some(value(11, 200)));
        offsets.replay(2, key("a", "u", 0), Some(value(12, 300)));
        offsets.replay(3, key("b", "t", 0), Some(value(13, 400)));
        offsets
    }

    fn forget(offsets: &mut Offsets, tombstones: Vec<GroupRecord>) {
        for (record_offset, record) in (100..).zip(tombstones) {
            let GroupRecord::Offset(key, None) = record else { panic!("not an offset tombstone: {record:?}") };
            offsets.replay(record_offset, key, None);
        }
    }

    fn view(offsets: &Offsets) -> Vec<String> {
        offsets.iter().map(|(group, topic, index, at)| format!("{group} {topic}-{index} {}", at.offset)).collect()
    }

    #[test]
    fn commits_and_tombstones_are_replayed() {
        let mut offsets = sample();
        assert_eq!(view(&offsets), ["a t-0 10", "a t-1 11", "a u-0 12", "b t-0 13"]);
        assert_eq!(offsets.of_partition("a", "t", 1).map(|at| (at.offset, at.record_offset)), Some((11, 1)));
        assert_eq!(offsets.of_partition("a", "t", 2), None);
        assert_eq!(offsets.of_group("a").map(|(_, _, at)| at.offset).collect::<Vec<_>>(), [10, 11, 12]);
        assert_eq!(offsets.of_group("c").count(), 0);
        assert_eq!(offsets.count(), 4);

        offsets.replay(4, key("a", "t", 0), Some(value(20, 500)));
        assert_eq!(offsets.count(), 4, "a second commit replaces the first");
        offsets.replay(5, key("b", "t", 0), None);
        offsets.replay(6, key("b", "t", 0), None);
        assert_eq!(view(&offsets), ["a t-0 20", "a t-1 11", "a u-0 12"]);
        assert_eq!(offsets.count(), 3);
        assert!(!offsets.has_group("b"), "a group without offsets has no entry");
        assert_eq!(offsets.groups().map(|group| &**group).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn the_later_record_stays_whichever_comes_first() {
        let mut offsets = sample();
        offsets.replay(9, key("a", "t", 0), Some(value(90, 0)));
        offsets.replay(8, key("a", "t", 0), Some(value(80, 0)));
        offsets.replay(8, key("a", "t", 0), None);
        assert_eq!(offsets.of_partition("a", "t", 0).map(|at| at.offset), Some(90));
    }

    #[test]
    fn an_empty_group_expires_from_the_time_it_became_empty() {
        let offsets = sample();
        let rule = Expiry::Empty { since_ms: Some(1000) };
        let expired = offsets.expired("a", rule, 1499, 500);
        assert!(expired.tombstones.is_empty() && !expired.all);
        let expired = offsets.expired("a", rule, 1500, 500);
        assert!(expired.tombstones.len() == 3 && expired.all);

        let unknown = offsets.expired("a", Expiry::Empty { since_ms: None }, 700, 500);
        assert_eq!(unknown.tombstones.len(), 2);
        assert!(!unknown.all);
        assert!(offsets.expired("nobody", rule, 0, 500).all);
    }

    #[test]
    fn a_stable_group_keeps_what_it_subscribes_to() {
        let mut offsets = sample();
        let topics: BTreeSet<TopicName> = BTreeSet::from(["t".into()]);
        let expired = offsets.expired("a", Expiry::Subscribed { topics: &topics }, i64::MAX, 500);
        assert_eq!(expired.tombstones, [GroupRecord::offset_tombstone(&"a".into(), &"u".into(), 0)]);
        assert!(!expired.all);
        forget(&mut offsets, expired.tombstones);
        assert_eq!(view(&offsets), ["a t-0 10", "a t-1 11", "b t-0 13"]);
    }

    #[test]
    fn a_simple_group_expires_from_each_commit_unless_the_commit_said_when() {
        let mut offsets = sample();
        offsets.replay(4, key("a", "t", 0), Some(OffsetValue { expire_ms: Some(9000), ..value(1, 0) }));
        let expired = offsets.expired("a", Expiry::Simple, 750, 500);
        assert_eq!(expired.tombstones, [GroupRecord::offset_tombstone(&"a".into(), &"t".into(), 1)]);
        assert_eq!(offsets.expired("a", Expiry::Simple, 9000, 500).tombstones.len(), 3);
    }

    #[test]
    fn groups_and_topics_are_forgotten_whole() {
        let mut offsets = sample();
        let (old, new) = (KafkaUuid(1), KafkaUuid(2));
        offsets.replay(4, key("b", "t", 1), Some(OffsetValue { topic_id: new, ..value(1, 0) }));
        assert_eq!(offsets.tombstones_of_topic("t", old).len(), 3, "the new topic's offset stays");
        assert_eq!(offsets.tombstones_of_topic("t", new).len(), 4);
        assert!(offsets.tombstones_of_group("nobody").is_empty());

        let tombstones = offsets.tombstones_of_group("a");
        forget(&mut offsets, tombstones);
        assert_eq!(view(&offsets), ["b t-0 13", "b t-1 1"]);
    }
}
