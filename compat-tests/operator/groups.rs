//! Committed offsets, as a consumer without a group membership has them.

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};

use crate::asks::{Topic, code, group_id};
use crate::client::Client;

/// Commits an offset of partition 0.
pub fn commit(client: &mut Client, group: &str, topic: &Topic, offset: i64) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let wanted = OffsetCommitRequestTopic::default().with_name(topic.wire()).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default().with_group_id(group_id(group)).with_topics(vec![wanted]);
    let answer = client.call(7, &request.with_generation_id_or_member_epoch(-1));
    assert_eq!(answer.topics[0].partitions[0].error_code, code::NONE);
}

/// The committed offset of partition 0.
pub fn committed(client: &mut Client, group: &str, topic: &Topic) -> i64 {
    let wanted = OffsetFetchRequestTopics::default().with_name(topic.wire()).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(Some(vec![wanted]));
    let answer = client.call(8, &OffsetFetchRequest::default().with_groups(vec![group]));
    answer.groups[0].topics[0].partitions[0].committed_offset
}
