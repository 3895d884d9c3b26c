//! Where clients are sent that asked a broker which does not lead: to the leader, with its address, so that they need
//! not ask for metadata first (KIP-951).
//!
//! Invariants: pure. Only leaders are named that are alive and have an address on the caller's listener; the node of
//! each is told once, in the order of ids.

use std::collections::BTreeSet;

use crate::api::endpoints;
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use crate::metadata::ClusterImage;

/// The leaders that one answer names.
pub struct Redirects<'a> {
    image: &'a ClusterImage,
    listener: &'a str,
    leaders: BTreeSet<BrokerId>,
}

/// Where a leader is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

impl<'a> Redirects<'a> {
    /// None yet, for a caller that came in by `listener`.
    pub fn new(image: &'a ClusterImage, listener: &'a str) -> Redirects<'a> {
        Redirects { image, listener, leaders: BTreeSet::new() }
    }

    /// Who leads a partition now, and under which epoch; its node will be among [`Redirects::nodes`].
    pub fn leader(&mut self, topic: TopicId, index: PartitionIndex) -> Option<(BrokerId, LeaderEpoch)> {
        let partition = self.image.topics.by_id(topic)?.partition(index)?;
        let leader = partition.leader.filter(|id| endpoints::is_reachable(self.image, *id, self.listener))?;
        self.leaders.insert(leader);
        Some((leader, partition.leader_epoch))
    }

    /// The nodes of all leaders that were named.
    pub fn nodes(&self) -> Vec<Node> {
        let node = |id: &BrokerId| {
            let broker = self.image.brokers.by_id(*id)?;
            let endpoint = endpoints::endpoint(broker, self.listener)?;
            Some(Node { id: *id, host: endpoint.host.clone(), port: endpoint.port, rack: broker.rack.clone() })
        };
        self.leaders.iter().filter_map(node).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ids::KafkaUuid;
    use crate::metadata::{Broker, Endpoint, MetadataRecord, PartitionRegistration};

    fn broker(id: i32, listener: &str, fenced: bool) -> MetadataRecord {
        let (host, protocol) = (format!("h{id}"), "PLAINTEXT".to_owned());
        let endpoint = Endpoint { listener: listener.to_owned(), host, port: 9092, protocol };
        MetadataRecord::RegisterBroker(Broker {
            id: BrokerId(id),
            epoch: i64::from(id),
            incarnation: KafkaUuid(1),
            rack: Some("r".to_owned()),
            fenced,
            shutting_down: None,
            endpoints: vec![endpoint],
            features: BTreeMap::new(),
            log_dirs: Vec::new(),
            cordoned_dirs: Vec::new(),
        })
    }

    #[test]
    fn leaders_are_named_where_they_can_be_reached() {
        let topic = KafkaUuid(7);
        let mut records = vec![
            broker(1, "CLIENTS", false),
            broker(2, "CLIENTS", true),
            broker(3, "OTHERS", false),
            MetadataRecord::Topic { id: topic, name: "t".to_owned() },
        ];
        for (index, leader) in [Some(1), Some(2), Some(3), None, Some(1)].into_iter().enumerate() {
            let registration = PartitionRegistration {
                replicas: [1, 2, 3].map(BrokerId).to_vec(),
                isr: [1, 2, 3].map(BrokerId).to_vec(),
                leader: leader.map(BrokerId),
                leader_epoch: 5,
                ..PartitionRegistration::default()
            };
            records.push(MetadataRecord::Partition { topic, index: index as i32, registration });
        }
        let image = ClusterImage::default().replay(&records);
        let mut redirects = Redirects::new(&image, "CLIENTS");
        assert!(redirects.nodes().is_empty());
        let leaders: Vec<_> = (0..6).map(|index| redirects.leader(topic, index)).collect();
        let first = Some((BrokerId(1), 5));
        assert_eq!(leaders, [first, None, None, None, first, None]);
        assert_eq!(redirects.leader(KafkaUuid(8), 0), None);
        let node = Node { id: BrokerId(1), host: "h1".into(), port: 9092, rack: Some("r".into()) };
        assert_eq!(redirects.nodes(), [node]);
    }
}
