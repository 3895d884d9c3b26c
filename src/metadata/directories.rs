//! Where replicas are: brokers tell which directory they put a replica into (AssignReplicasToDirs, KIP-858).
//!
//! Invariants: a replica that is put into a directory that is not online leaves the ISR. One that was in a directory
//! that is not there any more was begun anew: it is neither in sync nor eligible, whatever it was. Pure.

use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, PartitionIndex, TopicId};
use crate::metadata::brokers::Broker;
use crate::metadata::image::ClusterImage;
use crate::metadata::partition_change::{Election, Electorate, Plan};
use crate::metadata::record::MetadataRecord;
use crate::metadata::rules::Rules;

/// A replica of the broker that says so is in `directory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectoryAssignment {
    pub topic: TopicId,
    pub index: PartitionIndex,
    pub directory: KafkaUuid,
}

/// Decides one assignment of `broker`.
pub fn decide_assign(
    image: &ClusterImage,
    rules: &Rules,
    broker: &Broker,
    asked: &DirectoryAssignment,
) -> Result<Option<MetadataRecord>, ErrorCode> {
    let topic = image.topics.by_id(asked.topic).ok_or(ErrorCode::UnknownTopicId)?;
    let partition = topic.partition(asked.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !partition.replicas.contains(&broker.id) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let mut plan = Plan::new(partition, rules.terms(image, topic));
    plan.put(broker.id, asked.directory);
    let mut electorate = Electorate::of(&image.brokers);
    if broker.has_online(asked.directory) {
        plan.election = Election::Online;
        let counts = partition.isr.contains(&broker.id) || partition.elr.contains(&broker.id);
        // The only replica is all there is of a partition, empty or not.
        if counts && partition.replicas.len() > 1 && !broker.has_online(partition.directory(broker.id)) {
            plan.isr.retain(|id| *id != broker.id);
            plan.lossy = Some(broker.id);
        }
    } else {
        plan.isr.retain(|id| *id != broker.id);
        electorate.leaving = Some(broker.id);
    }
    let record = |change| MetadataRecord::PartitionChange { topic: topic.id, index: asked.index, change };
    Ok(plan.decide(&electorate).map(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BrokerId;
    use crate::metadata::partition::{PartitionChange, PartitionRegistration};
    use crate::metadata::tests::rules;

    const TOPIC: TopicId = KafkaUuid(5);
    const GONE: KafkaUuid = KafkaUuid(110);
    const REPLACED_BY: KafkaUuid = KafkaUuid(111);

    /// Broker 1 has a new disk, and says that its replica is there.
    fn after_a_replacement(replicas: &[i32]) -> PartitionChange {
        let replicas: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
        let directories = replicas.iter().map(|id| KafkaUuid(id.0 as u128 * 110)).collect();
        let registration = PartitionRegistration {
            elr: replicas.clone(),
            replicas,
            directories,
            leader: None,
            ..PartitionRegistration::default()
        };
        let broker = Broker { log_dirs: vec![REPLACED_BY], ..Broker::plain(1) };
        let image = ClusterImage::default().replay(&[
            MetadataRecord::FeatureLevel { name: "eligible.leader.replicas.version".into(), level: 1 },
            MetadataRecord::RegisterBroker(broker.clone()),
            MetadataRecord::Topic { id: TOPIC, name: "t".into() },
            MetadataRecord::Partition { topic: TOPIC, index: 0, registration },
        ]);
        assert_eq!(image.topics.by_id(TOPIC).unwrap().partitions[0].directory(BrokerId(1)), GONE);
        let asked = DirectoryAssignment { topic: TOPIC, index: 0, directory: REPLACED_BY };
        match decide_assign(&image, &rules(), &broker, &asked).unwrap().unwrap() {
            MetadataRecord::PartitionChange { change, .. } => change,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_log_that_was_begun_anew_is_not_eligible_for_the_one_that_is_gone() {
        let change = after_a_replacement(&[1, 2]);
        assert_eq!((change.leader, change.elr), (None, Some(vec![BrokerId(2)])));
        assert_eq!(change.directories, Some(vec![REPLACED_BY, KafkaUuid(220)]));
    }

    #[test]
    fn the_only_replica_goes_on_empty() {
        assert_eq!(after_a_replacement(&[1]).leader, Some(Some(BrokerId(1))));
    }
}
