//! Topics and partitions as Metadata shows them.
//!
//! Invariants: pure. The answer depends on three things only: the image, the listener the caller came in by, and the
//! version of its request.

use kafka_protocol::messages::BrokerId as WireBrokerId;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

use crate::api::endpoints;
use crate::api::translate::{broker_ids, topic_name};
use crate::error::ErrorCode;
use crate::ids::check_topic_name;
use crate::ids::internal_topics::is_internal;
use crate::metadata::{ClusterImage, PartitionRegistration, Topic};

/// The image as a caller on one listener sees it through one version.
pub struct TopicView<'a> {
    pub image: &'a ClusterImage,
    pub listener: &'a str,
    /// Version of the Metadata request.
    pub version: i16,
}

impl TopicView<'_> {
    /// The topic called `name`, or why there is none: unknown or not a legal name.
    pub fn named(&self, name: &str) -> MetadataResponseTopic {
        if let Some(topic) = self.image.topics.by_name(name) {
            return self.topic(topic);
        }
        let code = match check_topic_name(name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(_) => ErrorCode::InvalidTopicException,
        };
        MetadataResponseTopic::default()
            .with_error_code(code.code())
            .with_name(Some(topic_name(name)))
            .with_is_internal(is_internal(name))
    }

    /// A topic that exists.
    pub fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| self.partition(index, partition));
        MetadataResponseTopic::default()
            .with_name(Some(topic_name(&topic.name)))
            .with_topic_id(topic.id.into())
            .with_is_internal(is_internal(&topic.name))
            .with_partitions(partitions.collect())
    }

    fn partition(&self, index: i32, partition: &PartitionRegistration) -> MetadataResponsePartition {
        let mut replicas = partition.replicas.clone();
        let mut isr = partition.isr.clone();
        if self.version == 0 {
            replicas.retain(|id| endpoints::is_reachable(self.image, *id, self.listener));
            isr.retain(|id| endpoints::is_reachable(self.image, *id, self.listener));
        }
        let hidden = replicas.len() < partition.replicas.len() || isr.len() < partition.isr.len();
        let (leader, code) = match endpoints::visible_leader(self.image, partition, self.listener) {
            Ok(leader) if hidden => (leader.0, ErrorCode::ReplicaNotAvailable),
            Ok(leader) => (leader.0, ErrorCode::None),
            Err(ErrorCode::ListenerNotFound) if self.version < 6 => (-1, ErrorCode::LeaderNotAvailable),
            Err(code) => (-1, code),
        };
        let offline = endpoints::offline_replicas(self.image, partition, self.listener);
        MetadataResponsePartition::default()
            .with_error_code(code.code())
            .with_partition_index(index)
            .with_leader_id(WireBrokerId(leader))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(broker_ids(&replicas))
            .with_isr_nodes(broker_ids(&isr))
            .with_offline_replicas(broker_ids(&offline))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ids::{BrokerId, KafkaUuid};
    use crate::metadata::{Broker, Endpoint, MetadataRecord};

    fn broker(id: i32, listener: &str, fenced: bool) -> MetadataRecord {
        let endpoint =
            Endpoint { listener: listener.into(), host: "h".into(), port: 9092, protocol: "PLAINTEXT".into() };
        MetadataRecord::RegisterBroker(Broker {
            id: BrokerId(id),
            epoch: i64::from(id),
            incarnation: KafkaUuid(1),
            rack: None,
            fenced,
            shutting_down: None,
            endpoints: vec![endpoint],
            features: BTreeMap::new(),
            log_dirs: Vec::new(),
            cordoned_dirs: vec![],
        })
    }

    /// Brokers 1 (well), 2 (fenced) and 3 (on another listener only), and topic `t` whose partition led by `leader` has
    /// replicas 1, 2, 3 and ISR 1, 3.
    fn image(leader: Option<i32>) -> ClusterImage {
        let registration = PartitionRegistration {
            replicas: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
            isr: vec![BrokerId(1), BrokerId(3)],
            leader: leader.map(BrokerId),
            leader_epoch: 5,
            ..PartitionRegistration::default()
        };
        let id = KafkaUuid(7);
        ClusterImage::default().replay(&[
            broker(1, "CLIENTS", false),
            broker(2, "CLIENTS", true),
            broker(3, "OTHERS", false),
            MetadataRecord::Topic { id, name: "t".to_owned() },
            MetadataRecord::Partition { topic: id, index: 0, registration },
        ])
    }

    fn partition(leader: Option<i32>, version: i16) -> MetadataResponsePartition {
        let image = image(leader);
        let view = TopicView { image: &image, listener: "CLIENTS", version };
        view.named("t").partitions.remove(0)
    }

    #[test]
    fn a_leader_must_exist_and_be_reachable() {
        let check = |leader: Option<i32>, version: i16, shown: i32, code: ErrorCode| {
            let partition = partition(leader, version);
            assert_eq!((partition.leader_id.0, partition.error_code), (shown, code.code()), "{leader:?} v{version}");
            assert_eq!(partition.leader_epoch, 5);
        };
        check(Some(1), 9, 1, ErrorCode::None);
        check(None, 9, -1, ErrorCode::LeaderNotAvailable);
        check(Some(3), 6, -1, ErrorCode::ListenerNotFound);
        check(Some(3), 5, -1, ErrorCode::LeaderNotAvailable);
        check(Some(1), 0, 1, ErrorCode::ReplicaNotAvailable);
    }

    #[test]
    fn unreachable_replicas_are_offline_and_hidden_from_version_0() {
        let newer = partition(Some(1), 5);
        assert_eq!(newer.replica_nodes, [1, 2, 3]);
        assert_eq!(newer.isr_nodes, [1, 3]);
        assert_eq!(newer.offline_replicas, [2, 3]);
        let oldest = partition(Some(1), 0);
        assert_eq!(oldest.replica_nodes, [1]);
        assert_eq!(oldest.isr_nodes, [1]);
    }

    #[test]
    fn a_replica_in_a_failed_directory_is_offline() {
        let (well, failed) = (KafkaUuid(0xd1), KafkaUuid(0xd2));
        let broker = |id: i32| match broker(id, "CLIENTS", false) {
            MetadataRecord::RegisterBroker(broker) => {
                MetadataRecord::RegisterBroker(Broker { log_dirs: vec![well], ..broker })
            }
            other => other,
        };
        let registration = PartitionRegistration {
            replicas: vec![BrokerId(1), BrokerId(2)],
            directories: vec![well, failed],
            isr: vec![BrokerId(1)],
            leader: Some(BrokerId(1)),
            ..PartitionRegistration::default()
        };
        let id = KafkaUuid(7);
        let image = ClusterImage::default().replay(&[
            broker(1),
            broker(2),
            MetadataRecord::Topic { id, name: "t".to_owned() },
            MetadataRecord::Partition { topic: id, index: 0, registration },
        ]);
        let view = TopicView { image: &image, listener: "CLIENTS", version: 12 };
        assert_eq!(view.named("t").partitions[0].offline_replicas, [2]);
    }

    #[test]
    fn names_that_lead_nowhere() {
        let image = image(None);
        let view = TopicView { image: &image, listener: "CLIENTS", version: 12 };
        assert_eq!(view.named("u").error_code, 3);
        assert_eq!(view.named("u v").error_code, 17);
        assert!(view.named("__consumer_offsets").is_internal);
    }
}
