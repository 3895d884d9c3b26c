//! What the cluster lacks, for people: brokers, leaders, replicas in sync, and why. Pure.

use std::collections::BTreeMap;

use crate::ids::BrokerId;
use crate::metadata::{ClusterImage, PartitionRegistration};

/// Partitions without a leader that `/health/ready` names; the others are counted.
const NAMED_MAX: usize = 10;

/// A partition that nobody leads.
pub struct Leaderless<'a> {
    pub topic: &'a str,
    pub index: usize,
    pub partition: &'a PartitionRegistration,
}

/// Every partition that nobody leads.
pub fn leaderless(image: &ClusterImage) -> impl Iterator<Item = Leaderless<'_>> {
    image.topics.iter().flat_map(move |topic| {
        let partitions = topic.partitions.iter().enumerate().filter(|(_, partition)| partition.leader.is_none());
        partitions.map(move |(index, partition)| Leaderless { topic: &topic.name, index, partition })
    })
}

/// How many replicas of what `node` leads are not in sync, by the broker that they are on.
pub fn out_of_sync(image: &ClusterImage, node: BrokerId) -> BTreeMap<BrokerId, usize> {
    let mut missing = BTreeMap::new();
    let partitions = image.topics.iter().flat_map(|topic| &topic.partitions);
    for partition in partitions.filter(|partition| partition.leader == Some(node)) {
        for replica in partition.replicas.iter().filter(|replica| !partition.isr.contains(replica)) {
            *missing.entry(*replica).or_default() += 1;
        }
    }
    missing
}

/// What whoever looks at `node` should know of the cluster, in lines; nothing if all is well.
pub fn in_lines(image: &ClusterImage, node: BrokerId) -> String {
    let mut lines = String::new();
    for broker in image.brokers.iter().filter(|broker| broker.fenced) {
        lines += &format!("broker {} is fenced\n", broker.id);
    }
    for (broker, count) in out_of_sync(image, node) {
        lines += &format!("{} of what this broker leads not in sync on broker {broker}\n", counted(count, "replica"));
    }
    let mut offline = leaderless(image);
    for Leaderless { topic, index, partition } in offline.by_ref().take(NAMED_MAX) {
        lines += &format!("{topic}-{index} has no leader: {}\n", why(image, partition));
    }
    if let more @ 1.. = offline.count() {
        lines += &format!("{} more without a leader\n", counted(more, "partition"));
    }
    lines
}

/// Who could lead a partition and why they do not, such as "broker 3 is fenced". Whoever is in the ISR or the ELR has
/// every committed record.
pub fn why(image: &ClusterImage, partition: &PartitionRegistration) -> String {
    let eligible: Vec<BrokerId> = partition.isr.iter().chain(&partition.elr).copied().collect();
    if eligible.is_empty() {
        let last = match partition.last_known_elr.first() {
            Some(last) => format!("; broker {last} led last"),
            None => String::new(),
        };
        return format!("no replica is known to have every record{last}");
    }
    let states: Vec<String> =
        eligible.iter().map(|id| format!("broker {id} {}", state(image, partition, *id))).collect();
    states.join(", ")
}

fn state(image: &ClusterImage, partition: &PartitionRegistration, id: BrokerId) -> &'static str {
    match image.brokers.by_id(id) {
        None => "is not registered",
        Some(broker) if broker.fenced => "is fenced",
        Some(broker) if broker.shutting_down.is_some() => "is shutting down",
        Some(broker) if !broker.has_online(partition.directory(id)) => "has lost the directory",
        Some(_) => "is about to lead",
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KafkaUuid;
    use crate::metadata::{Broker, MetadataRecord};

    fn broker(id: i32, fenced: bool) -> MetadataRecord {
        MetadataRecord::RegisterBroker(Broker {
            id: BrokerId(id),
            epoch: 0,
            incarnation: KafkaUuid(1),
            rack: None,
            fenced,
            shutting_down: None,
            endpoints: Vec::new(),
            features: BTreeMap::new(),
            log_dirs: Vec::new(),
            cordoned_dirs: Vec::new(),
        })
    }

    fn partition(index: i32, replicas: &[i32], isr: &[i32], elr: &[i32], leader: Option<i32>) -> MetadataRecord {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let registration = PartitionRegistration {
            replicas: ids(replicas),
            isr: ids(isr),
            elr: ids(elr),
            last_known_elr: if leader.is_none() { ids(&replicas[..1]) } else { Vec::new() },
            leader: leader.map(BrokerId),
            ..PartitionRegistration::default()
        };
        MetadataRecord::Partition { topic: KafkaUuid(7), index, registration }
    }

    fn cluster(partitions: Vec<MetadataRecord>) -> ClusterImage {
        let mut records = vec![broker(1, false), broker(2, false), broker(3, true)];
        records.push(MetadataRecord::Topic { id: KafkaUuid(7), name: "orders".into() });
        records.extend(partitions);
        ClusterImage::default().replay(&records)
    }

    #[test]
    fn a_node_that_is_gone_is_told_with_what_it_is_missed_for() {
        let image = cluster(vec![
            partition(0, &[1, 2, 3], &[1, 2], &[], Some(1)),
            partition(1, &[2, 3, 1], &[2, 1], &[], Some(2)),
            partition(2, &[3], &[3], &[], None),
            partition(3, &[3, 4], &[], &[3, 4], None),
            partition(4, &[3, 1], &[], &[], None),
        ]);
        let expected = "broker 3 is fenced\n\
                        1 replica of what this broker leads not in sync on broker 3\n\
                        orders-2 has no leader: broker 3 is fenced\n\
                        orders-3 has no leader: broker 3 is fenced, broker 4 is not registered\n\
                        orders-4 has no leader: no replica is known to have every record; broker 3 led last\n";
        assert_eq!(in_lines(&image, BrokerId(1)), expected);
    }

    #[test]
    fn of_many_partitions_a_few_are_named() {
        let image = cluster((0..14).map(|index| partition(index, &[3], &[3], &[], None)).collect());
        let lines = in_lines(&image, BrokerId(1));
        assert_eq!(lines.lines().count(), 1 + NAMED_MAX + 1, "{lines}");
        assert!(lines.ends_with("4 partitions more without a leader\n"), "{lines}");
    }

    #[test]
    fn nothing_is_told_while_nothing_is_missing() {
        let image = ClusterImage::default().replay(&[broker(1, false)]);
        assert_eq!(in_lines(&image, BrokerId(1)), "");
    }
}
