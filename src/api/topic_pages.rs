//! Pages of topics as DescribeTopicPartitions shows them (KIP-966).
//!
//! Invariants: pure. Topics come in the order of their names. A page holds at most its limit of partitions, and its
//! cursor is where the next page starts; without a cursor it was the last.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId as WireBrokerId, DescribeTopicPartitionsResponse};

use crate::api::translate::{broker_ids, topic_name};
use crate::api::{endpoints, operations};
use crate::error::ErrorCode;
use crate::ids::check_topic_name;
use crate::ids::internal_topics::is_internal;
use crate::metadata::{ClusterImage, PartitionRegistration, Topic};

/// Where a page starts: topics before this one are left out, and of it the partitions before this one.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    pub topic: &'a str,
    pub partition: usize,
}

/// What a page is made from.
pub struct Page<'a> {
    pub image: &'a ClusterImage,
    pub listener: &'a str,
    /// The names are those of the image: one that is missing is not an error.
    pub all: bool,
}

impl Page<'_> {
    /// The topics called `names` from `start` on, with at most `limit` partitions in all (at least 1).
    pub fn response(&self, names: &BTreeSet<&str>, start: Start<'_>, limit: usize) -> DescribeTopicPartitionsResponse {
        let mut topics = Vec::new();
        let mut left = limit;
        for name in names.range::<&str, _>(start.topic..).copied() {
            if left == 0 {
                return page(topics, Some((name, 0)));
            }
            let Some(topic) = self.image.topics.by_name(name) else {
                if !self.all {
                    topics.push(missing(name));
                }
                continue;
            };
            let first = if name == start.topic { start.partition } else { 0 };
            let partitions: Vec<_> = topic.partitions.iter().enumerate().skip(first).take(left).collect();
            let next = first.saturating_add(left).min(topic.partitions.len());
            left -= partitions.len();
            topics.push(self.topic(topic, &partitions));
            if next < topic.partitions.len() {
                return page(topics, Some((name, next)));
            }
        }
        page(topics, None)
    }

    fn topic(
        &self,
        topic: &Topic,
        partitions: &[(usize, &PartitionRegistration)],
    ) -> DescribeTopicPartitionsResponseTopic {
        let partitions = partitions.iter().map(|(index, partition)| self.partition(*index, partition));
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(topic_name(&topic.name)))
            .with_topic_id(topic.id.into())
            .with_is_internal(is_internal(&topic.name))
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(operations::TOPIC)
    }

    fn partition(&self, index: usize, partition: &PartitionRegistration) -> DescribeTopicPartitionsResponsePartition {
        let leader = endpoints::visible_leader(self.image, partition, self.listener).map_or(-1, |leader| leader.0);
        let offline = endpoints::offline_replicas(self.image, partition, self.listener);
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index as i32)
            .with_leader_id(WireBrokerId(leader))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(broker_ids(&partition.replicas))
            .with_isr_nodes(broker_ids(&partition.isr))
            .with_eligible_leader_replicas(Some(broker_ids(&partition.elr)))
            .with_last_known_elr(Some(broker_ids(&partition.last_known_elr)))
            .with_offline_replicas(broker_ids(&offline))
    }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match check_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(topic_name(name)))
        .with_is_internal(is_internal(name))
        .with_topic_authorized_operations(operations::TOPIC)
}

fn page(
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<(&str, usize)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = next.map(|(name, partition)| {
        Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition as i32)
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KafkaUuid;
    use crate::metadata::MetadataRecord;

    /// A cluster with topics of these numbers of partitions.
    fn image(topics: &[(&str, i32)]) -> ClusterImage {
        let mut records = Vec::new();
        for (number, (name, partitions)) in topics.iter().enumerate() {
            let id = KafkaUuid(number as u128 + 1);
            records.push(MetadataRecord::Topic { id, name: (*name).to_owned() });
            for index in 0..*partitions {
                let registration = PartitionRegistration::default();
                records.push(MetadataRecord::Partition { topic: id, index, registration });
            }
        }
        ClusterImage::default().replay(&records)
    }

    /// One page as text: each topic with its partitions or its error, then the cursor.
    fn check(image: &ClusterImage, names: Option<&[&str]>, start: (&str, usize), limit: usize, expected: &str) {
        let all = names.is_none();
        let names: BTreeSet<&str> = match names {
            Some(names) => names.iter().copied().collect(),
            None => image.topics.iter().map(|topic| &*topic.name).collect(),
        };
        let page = Page { image, listener: "PLAINTEXT", all };
        let response = page.response(&names, Start { topic: start.0, partition: start.1 }, limit);
        let mut shown = Vec::new();
        for topic in &response.topics {
            let name = topic.name.as_ref().map_or("", |name| name.as_str());
            let partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            let part = if topic.error_code == 0 { format!("{partitions:?}") } else { topic.error_code.to_string() };
            shown.push(format!("{name}{part}"));
        }
        if let Some(next) = &response.next_cursor {
            shown.push(format!("next {}-{}", next.topic_name.as_str(), next.partition_index));
        }
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn pages_end_at_their_limit_and_go_on_where_they_ended() {
        let image = image(&[("c", 1), ("a", 3), ("b", 2)]);
        check(&image, None, ("", 0), 100, "a[0, 1, 2] b[0, 1] c[0]");
        check(&image, None, ("", 0), 2, "a[0, 1] next a-2");
        check(&image, None, ("a", 2), 2, "a[2] b[0] next b-1");
        check(&image, None, ("b", 1), 2, "b[1] c[0]");
        // A topic that is full to the limit: the cursor names the next one.
        check(&image, None, ("", 0), 3, "a[0, 1, 2] next b-0");
        // The cursor's topic has lost partitions, or is gone.
        check(&image, None, ("b", 9), 100, "b[] c[0]");
        check(&image, None, ("bb", 1), 100, "c[0]");
    }

    #[test]
    fn a_list_may_name_what_is_not_there() {
        let image = image(&[("a", 1), ("c", 1)]);
        check(&image, Some(&["c", "b!", "b", "a"]), ("", 0), 100, "a[0] b3 b!17 c[0]");
        check(&image, Some(&["a", "b"]), ("", 0), 1, "a[0] next b-0");
    }
}
