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
    let terms = rules.terms(image, topic);
    // The last one in sync stays: a log is begun anew only where another leads.
    let is_last = partition.isr == [broker.id] && !terms.elr;
    let mut plan = Plan::new(partition, terms);
    plan.put(broker.id, asked.directory);
    let mut electorate = Electorate::of(&image.brokers);
    if broker.has_online(asked.directory) {
        plan.election = Election::Online;
        if !is_last && !broker.has_online(partition.directory(broker.id)) {
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

    #[test]
    fn a_log_that_was_begun_anew_is_not_eligible_for_the_one_that_is_gone() {
        let replicas = vec![BrokerId(1), BrokerId(2)];
        let directories = vec![GONE, KafkaUuid(220)];
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
        let asked = DirectoryAssignment { topic: TOPIC, index: 0, directory: REPLACED_BY };
        let change = PartitionChange {
            elr: Some(vec![BrokerId(2)]),
            directories: Some(vec![REPLACED_BY, KafkaUuid(220)]),
            ..PartitionChange::default()
        };
        let record = MetadataRecord::PartitionChange { topic: TOPIC, index: 0, change };
        assert_eq!(decide_assign(&image, &rules(), &broker, &asked), Ok(Some(record)));
    }
}
