//! Offsets as groups commit, read, delete and outlive them (pure).
//!
//! Invariants: who may commit is decided by the group, what is committed is only recorded. A commit creates the group
//! it names, if it comes from nobody's member. Offsets go with a tombstone each; a group that nobody is in goes with
//! its last.

use super::GroupShard;
use super::asks::{
    CommitAsk, CommitPartition, CommitTopic, DeleteOffsetsAsk, FetchAsk, FetchedOffset, FetchedTopic, GroupAnswer,
    GroupTimer, TopicOutcome,
};
use super::classic::{ClassicGroup, Phase};
use super::limits::after;
use super::members::Member;
use super::offsets::Committed;
use super::record::{GroupRecord, OffsetKey, OffsetValue, STRING_BYTES_MAX};
use crate::coordinator::shard::{AnswerId, Decision, TimerChange};
use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, PartitionIndex, TopicId, TopicName, WallMillis};

/// Bytes of tombstones in one decision: well below the largest batch of `__consumer_offsets` (1 MiB).
const TOMBSTONE_BYTES_MAX: usize = 512 * 1024;

/// What a tombstone takes in a batch besides the names in its key.
const TOMBSTONE_BYTES: usize = 64;

impl ClassicGroup {
    /// Refuses a commit of somebody who is not in this generation. The member it keeps alive, if it comes from one.
    fn check_commit(&self, ask: &CommitAsk) -> Result<Option<&Member>, ErrorCode> {
        if ask.generation < 0 && self.phase == Phase::Empty {
            return Ok(None);
        }
        if ask.generation < 0 && ask.member_id.is_empty() && ask.instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        let member = self.member(&ask.member_id, ask.instance_id.as_deref())?;
        if ask.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.phase == Phase::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(Some(member))
    }
}

impl GroupShard {
    /// OffsetCommit.
    pub(super) fn commit_offsets(&self, now: WallMillis, ask: CommitAsk, id: AnswerId) -> Decision<GroupShard> {
        let session_timeout_ms = match self.check_commit(&ask) {
            Ok(member) => member.map(|member| member.session_timeout_ms),
            Err(code) => return Decision::answer(id, GroupAnswer::CommitOffsets(Err(code))),
        };
        let mut records = Vec::new();
        let mut outcomes = Vec::with_capacity(ask.topics.len());
        for topic in &ask.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let is_wordy = !self.takes_metadata(&partition.metadata);
                if !is_wordy {
                    records.push(committed(&ask, topic, partition, now));
                }
                let code = if is_wordy { ErrorCode::OffsetMetadataTooLarge } else { ErrorCode::None };
                partitions.push((partition.index, code));
            }
            outcomes.push(TopicOutcome { topic: topic.name.clone(), partitions });
        }
        let mut timers = Vec::new();
        if let Some(timeout_ms) = session_timeout_ms {
            let timer = GroupTimer::Session(ask.group.clone(), ask.member_id.clone());
            timers.push(TimerChange::Set(timer, after(now, timeout_ms)));
        }
        let answers = vec![(id, GroupAnswer::CommitOffsets(Ok(outcomes)))];
        Decision { records, answers, timers, ..Decision::nothing() }
    }

    fn check_commit(&self, ask: &CommitAsk) -> Result<Option<&Member>, ErrorCode> {
        // A record could not hold the name. Kafka does not even parse such a request.
        if ask.group.len() > STRING_BYTES_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        match self.groups.get(&ask.group) {
            Some(entry) => entry.group.check_commit(ask),
            None if ask.generation < 0 => Ok(None),
            None if ask.knows_group_id_not_found => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn takes_metadata(&self, metadata: &str) -> bool {
        // Almost always short, and never more UTF-16 units than bytes.
        metadata.len() <= self.limits.offset_metadata_max_bytes
            || metadata.encode_utf16().count() <= self.limits.offset_metadata_max_bytes
    }

    /// OffsetFetch. What a member id in the request says does not matter to a classic group.
    pub(super) fn fetch_offsets(&self, ask: FetchAsk, id: AnswerId) -> Decision<GroupShard> {
        let topics = match ask.topics {
            None => self.all_offsets(&ask.group),
            Some(topics) => topics.into_iter().map(|topic| self.some_offsets(&ask.group, topic)).collect(),
        };
        Decision::answer(id, GroupAnswer::FetchOffsets(topics))
    }

    fn all_offsets(&self, group: &str) -> Vec<FetchedTopic> {
        let mut topics: Vec<FetchedTopic> = Vec::new();
        for (topic, index, committed) in self.offsets.of_group(group) {
            let offset = fetched(index, Some(committed));
            match topics.last_mut() {
                Some(last) if last.topic == *topic => last.partitions.push(offset),
                _ => topics.push(FetchedTopic { topic: topic.clone(), partitions: vec![offset] }),
            }
        }
        topics
    }

    fn some_offsets(&self, group: &str, (topic, indexes): (TopicName, Vec<PartitionIndex>)) -> FetchedTopic {
        let of = |index| fetched(index, self.offsets.of_partition(group, &topic, index));
        let partitions = indexes.into_iter().map(of).collect();
        FetchedTopic { topic, partitions }
    }

    /// OffsetDelete.
    pub(super) fn delete_offsets(&self, ask: DeleteOffsetsAsk, id: AnswerId) -> Decision<GroupShard> {
        let refuse = |code| Decision::<GroupShard>::answer(id, GroupAnswer::DeleteOffsets(Err(code)));
        let Some(entry) = self.groups.get(&ask.group) else { return refuse(ErrorCode::GroupIdNotFound) };
        let group = &entry.group;
        if group.phase != Phase::Empty && !group.is_of_consumers() {
            return refuse(ErrorCode::NonEmptyGroup);
        }
        let subscribed = group.subscribed_topics();
        let mut records = Vec::new();
        let mut outcomes = Vec::with_capacity(ask.topics.len());
        for (topic, indexes) in ask.topics {
            // Consumers whose subscription cannot be read may read anything.
            let is_in_use = subscribed.as_ref().map_or(group.is_of_consumers(), |topics| topics.contains(&topic));
            let code = if is_in_use { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
            for index in &indexes {
                if !is_in_use && self.offsets.of_partition(&ask.group, &topic, *index).is_some() {
                    records.push(GroupRecord::offset_tombstone(&ask.group, &topic, *index));
                }
            }
            let partitions = indexes.into_iter().map(|index| (index, code)).collect();
            outcomes.push(TopicOutcome { topic, partitions });
        }
        let answers = vec![(id, GroupAnswer::DeleteOffsets(Ok(outcomes)))];
        Decision { records, answers, ..Decision::nothing() }
    }

    /// Topics are gone from the cluster, and what was committed for them goes too.
    pub(super) fn delete_topics(&self, topics: &[(TopicName, TopicId)], id: AnswerId) -> Decision<GroupShard> {
        let mut tombstones = Tombstones::default();
        for (topic, topic_id) in topics {
            self.offsets.tombstones_of_topic(topic, *topic_id).into_iter().for_each(|record| tombstones.push(record));
        }
        let answers = vec![(id, GroupAnswer::TopicsDeleted { more: tombstones.is_full })];
        Decision { records: tombstones.records, answers, ..Decision::nothing() }
    }

    /// Forgets offsets that were kept long enough, and groups that nobody is in and that have none.
    pub(super) fn expire_offsets(&self, now: WallMillis) -> Decision<GroupShard> {
        let mut tombstones = Tombstones::default();
        for (group_id, entry) in &self.groups {
            let topics = entry.group.subscribed_topics();
            let Some(rule) = entry.group.expiry(topics.as_ref()) else { continue };
            let expired = self.offsets.expired(group_id, rule, now, self.limits.offsets_retention_ms);
            expired.tombstones.into_iter().for_each(|record| tombstones.push(record));
            if expired.all && entry.group.is_deserted() {
                tombstones.push(GroupRecord::ClassicGroup(group_id.clone(), None));
            }
            if tombstones.is_full {
                break;
            }
        }
        let pause_ms = if tombstones.is_full { 0 } else { self.limits.expiry_interval_ms };
        let timers = vec![TimerChange::Set(GroupTimer::OffsetExpiry, after(now, pause_ms))];
        Decision { records: tombstones.records, timers, ..Decision::nothing() }
    }
}

/// Tombstones for one batch; those that do not fit any more are left for the next.
#[derive(Default)]
struct Tombstones {
    records: Vec<GroupRecord>,
    bytes: usize,
    is_full: bool,
}

impl Tombstones {
    fn push(&mut self, record: GroupRecord) {
        let names = match &record {
            GroupRecord::Offset(key, _) => key.group.len() + key.topic.len(),
            GroupRecord::ClassicGroup(group, _) => group.len(),
        };
        self.is_full = self.is_full || self.bytes + names + TOMBSTONE_BYTES > TOMBSTONE_BYTES_MAX;
        if !self.is_full {
            self.bytes += names + TOMBSTONE_BYTES;
            self.records.push(record);
        }
    }
}

fn committed(ask: &CommitAsk, topic: &CommitTopic, partition: &CommitPartition, now: WallMillis) -> GroupRecord {
    let key = OffsetKey { group: ask.group.clone(), topic: topic.name.clone(), partition: partition.index };
    let expire_ms = ask.retention_ms.map(|retention_ms| after(now, retention_ms));
    // A value with an expiry of its own has no room for the rest; live state must not know more than the journal.
    let (leader_epoch, topic_id) =
        if expire_ms.is_some() { (-1, KafkaUuid::ZERO) } else { (partition.leader_epoch, topic.id) };
    let metadata = partition.metadata.clone();
    let value = OffsetValue { offset: partition.offset, leader_epoch, metadata, commit_ms: now, expire_ms, topic_id };
    GroupRecord::Offset(key, Some(value))
}

fn fetched(index: PartitionIndex, committed: Option<&Committed>) -> FetchedOffset {
    match committed {
        Some(at) => {
            let metadata = at.metadata.clone();
            FetchedOffset { index, offset: at.offset, leader_epoch: at.leader_epoch, metadata }
        }
        None => FetchedOffset { index, offset: -1, leader_epoch: -1, metadata: "".into() },
    }
}
