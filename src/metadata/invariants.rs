//! What must hold of every partition whatever happens (I12 to I14 and I26 of the replication rules), tried on random
//! sequences of events.

use proptest::prelude::*;

use crate::ids::BrokerId;
use crate::metadata::image::ClusterImage;
use crate::metadata::partition::PartitionRegistration;
use crate::metadata::partition_change::Terms;
use crate::metadata::record::MetadataRecord;
use crate::metadata::script::Runner;
use crate::metadata::tests::rules;

fn is_subset(some: &[BrokerId], all: &[BrokerId]) -> bool {
    some.iter().all(|id| all.contains(id))
}

/// What must hold of a partition at any time.
fn check_state(image: &ClusterImage, partition: &PartitionRegistration) {
    let PartitionRegistration { replicas, isr, elr, leader, directories, .. } = partition;
    assert!(!replicas.is_empty());
    assert_eq!(directories.len(), replicas.len());
    assert!(isr.iter().all(|id| !elr.contains(id)), "a member of the ISR is in the ELR too");
    assert!(is_subset(isr, replicas) && is_subset(elr, replicas), "only replicas are in the ISR and the ELR");
    assert!(is_subset(&partition.adding, replicas) && is_subset(&partition.removing, replicas));
    for id in isr {
        let alone = isr.len() == 1 && leader.is_none() && elr.is_empty();
        assert!(image.brokers.is_active(*id) || alone, "{id} is in the ISR and is not active");
    }
    if let Some(leader) = leader {
        assert!(isr.contains(leader), "the leader is not in the ISR");
        assert!(image.brokers.is_active(*leader), "the leader is not active");
        assert!(partition.last_known_elr.is_empty(), "the last leader is remembered beside a leader");
        return;
    }
    let candidates = if isr.is_empty() { elr } else { isr };
    let able = |id: &&BrokerId| {
        let broker = image.brokers.by_id(**id);
        image.brokers.is_active(**id) && broker.is_some_and(|broker| broker.has_online(partition.directory(**id)))
    };
    assert_eq!(candidates.iter().find(able), None, "it could lead, and nobody does");
}

/// What must hold of a change; `terms` are those that it was decided under.
fn check_change(terms: Terms, before: &PartitionRegistration, after: &PartitionRegistration) {
    if after.isr.len() >= terms.min_isr.max(1) {
        assert!(after.elr.is_empty(), "an ELR beside an ISR that is large enough");
    }
    assert!(!after.isr.is_empty() || before.isr.is_empty() || terms.elr, "an empty ISR without eligible leaders");
    assert!(after.leader_epoch >= before.leader_epoch && after.partition_epoch > before.partition_epoch);
    let lost_replica = !is_subset(&before.replicas, &after.replicas);
    if after.leader != before.leader || lost_replica {
        assert!(after.leader_epoch > before.leader_epoch, "another leader, or fewer replicas, in the same epoch");
    } else {
        assert_eq!(after.leader_epoch, before.leader_epoch, "a new epoch without a reason");
    }
}

/// What must hold of a reassignment that ends by itself.
fn check_completion(before: &PartitionRegistration, after: &PartitionRegistration) {
    if !before.adding.is_empty() && after.adding.is_empty() && is_subset(&before.adding, &after.replicas) {
        // An unclean election may follow at once, and empty the ISR that completed it.
        let in_sync = is_subset(&before.adding, &after.isr) || is_subset(&before.adding, &before.isr);
        assert!(in_sync, "a reassignment ended before its replicas were in sync");
    }
    let original = before.replicas.iter().filter(|id| !before.adding.contains(id)).count();
    let target = before.replicas.iter().filter(|id| !before.removing.contains(id)).count();
    if before.is_reassigning() && !after.is_reassigning() {
        assert!(after.replicas.len() >= original.min(target), "fewer replicas than before and than asked for");
    }
}

/// Checks what an ask has recorded, record by record, and what it has left behind.
fn check(event: &str, before: &ClusterImage, records: &[MetadataRecord]) {
    let mut image = before.clone();
    let settings_changed =
        |record: &MetadataRecord| matches!(record, MetadataRecord::Config { .. } | MetadataRecord::FeatureLevel { .. });
    // Other settings change what is right without changing partitions.
    let same_terms = !records.iter().any(settings_changed);
    for record in records {
        let next = image.replay(std::slice::from_ref(record));
        if let MetadataRecord::PartitionChange { topic, index, .. } = record
            && same_terms
        {
            let of = |image: &ClusterImage| image.topics.by_id(*topic).and_then(|t| t.partition(*index).cloned());
            let terms = rules().terms(before, before.topics.by_id(*topic).unwrap());
            let (was, is) = (of(&image).unwrap(), of(&next).unwrap());
            check_change(terms, &was, &is);
            // By the topic, by whoever asked for it, or for want of anybody but the last leader.
            let allowed = terms.unclean || event.contains("unclean") || terms.elr;
            assert!(!is.recovering || was.recovering || allowed, "an unclean election that nobody allowed");
            // Another target asks for other numbers.
            if !event.starts_with("reassign") {
                check_completion(&was, &is);
            }
        }
        if let MetadataRecord::RegisterBroker(broker) = record
            && before.brokers.by_id(broker.id).is_none_or(|earlier| earlier.epoch != broker.epoch)
        {
            let trusted = event.contains("clean") && before.brokers.by_id(broker.id).is_some();
            let in_elr = |p: &PartitionRegistration| p.elr.contains(&broker.id);
            let partitions = next.topics.iter().flat_map(|topic| topic.partitions.clone());
            let eligible = partitions.filter(in_elr).count();
            assert!(trusted || eligible == 0, "who may have lost something is an eligible leader");
        }
        image = next;
    }
    for partition in image.topics.iter().flat_map(|topic| &topic.partitions) {
        check_state(&image, partition);
    }
}

const PARTITIONS: &[&str] = &["a:0", "a:1", "b:0", "b:1", "b:2"];

fn event() -> impl Strategy<Value = String> {
    let partition = || prop::sample::select(PARTITIONS);
    let brokers = || prop::sample::subsequence(vec![1, 2, 3, 4], 1..=4).prop_shuffle();
    let list = |ids: Vec<i32>| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let beats = prop::sample::select(vec!["", "", "", "want-fence", "want-stop", "read=0"]);
    let settings = prop::sample::select(vec![
        "alter topic a min.insync.replicas=1",
        "alter topic a min.insync.replicas=2",
        "alter topic b min.insync.replicas=2",
        "alter broker \"\" min.insync.replicas=3",
        "alter topic a unclean.leader.election.enable=true",
        "alter topic a unclean.leader.election.enable=false",
        "features eligible.leader.replicas.version=0 safe",
        "features metadata.version=30 eligible.leader.replicas.version=1",
    ]);
    let clock = prop::sample::select(vec!["pass 10", "pass 10", "fence", "fence", "balance", "rescue", "elect all"]);
    prop_oneof![
        4 => (1..=4, beats).prop_map(|(id, what)| format!("beat {id} {what}")),
        3 => (1..=4, 1..1000, any::<bool>()).prop_map(|(id, life, clean)| {
            format!("register {id} life={life} {}", if clean { "clean" } else { "" })
        }),
        4 => (partition(), brokers()).prop_map(move |(at, ids)| format!("isr {at} to={}", list(ids))),
        2 => (partition(), brokers()).prop_map(move |(at, ids)| format!("reassign {at} to={}", list(ids))),
        1 => partition().prop_map(|at| format!("reassign {at}")),
        1 => (partition(), any::<bool>()).prop_map(|(at, unclean)| {
            format!("elect {at} {}", if unclean { "unclean" } else { "" })
        }),
        1 => (partition(), 1..=4, 0..2).prop_map(|(at, id, other)| format!("dir {at} of={id} in={}", id + 10 * other)),
        1 => (1..=4).prop_map(|id| format!("beat {id} offline={id}")),
        1 => (1..=4).prop_map(|id| format!("unregister {id}")),
        1 => settings.prop_map(str::to_owned),
        3 => clock.prop_map(str::to_owned),
    ]
}

/// Runs `events` over four brokers and two topics; every step keeps the rules, and replay gives the same.
fn try_events(elr: bool, events: &[impl AsRef<str>]) {
    let mut runner = Runner::default();
    for ask in ["claim", "join 1", "join 2", "join 3", "join 4", "create a assign=1,2,3/2,3,4"] {
        runner.ask(ask);
    }
    runner.ask("create b assign=1,2/3,4/4,1");
    if elr {
        runner.ask("features metadata.version=30 eligible.leader.replicas.version=1");
    }
    for event in events.iter().map(AsRef::as_ref) {
        let (before, seen) = (runner.image.clone(), runner.records.len());
        runner.transcript.push_str(&format!("> {event}\n"));
        runner.ask(event);
        let checked = std::panic::catch_unwind(|| check(event, &before, &runner.records[seen..]));
        assert!(checked.is_ok(), "{}", runner.transcript);
    }
    runner.check_replay();
}

#[test]
fn a_replica_that_leaves_a_lost_disk_may_name_another_directory_twice() {
    try_events(false, &["beat 2 offline=2", "dir b:0 of=1 in=11", "dir b:0 of=1 in=1"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_partitions_stay_sound(elr in any::<bool>(), events in prop::collection::vec(event(), 0..80)) {
        try_events(elr, &events);
    }
}
