//! What is said to a controller elsewhere, and what is made of its answer.

use super::*;

const ONE: KafkaUuid = KafkaUuid(101);
const OTHER: KafkaUuid = KafkaUuid(102);

fn change(topic: TopicId, index: PartitionIndex, isr: &[(i32, i64)]) -> AlterPartition {
    let isr = isr.iter().map(|&(id, epoch)| (BrokerId(id), epoch)).collect();
    AlterPartition { topic, index, leader_epoch: 3, partition_epoch: 5, isr, recovering: false }
}

#[test]
fn proposals_of_a_topic_go_together() {
    let asked = [change(OTHER, 4, &[(1, 10)]), change(ONE, 0, &[(1, 10), (2, -1)]), change(OTHER, 2, &[])];
    let said = proposals(&asked);
    let of = |at: usize| said[at].partitions.iter().map(|partition| partition.partition_index).collect::<Vec<_>>();
    assert_eq!((said.len(), said[0].topic_id, said[1].topic_id), (2, ONE.into(), OTHER.into()));
    assert_eq!((of(0), of(1)), (vec![0], vec![4, 2]));
    let first = &said[0].partitions[0];
    assert_eq!((first.leader_epoch, first.partition_epoch, first.leader_recovery_state), (3, 5, 0));
    let members: Vec<_> = first.new_isr_with_epochs.iter().map(|one| (one.broker_id.0, one.broker_epoch)).collect();
    assert_eq!(members, [(1, 10), (2, -1)]);
    let recovering = proposals(&[AlterPartition { recovering: true, ..change(ONE, 0, &[]) }]);
    assert_eq!(recovering[0].partitions[0].leader_recovery_state, 1);
}

#[test]
fn an_answer_is_a_partition_or_an_error() {
    let answered = alter_partition_response::PartitionData::default()
        .with_leader_id(WireBrokerId(2))
        .with_leader_epoch(7)
        .with_isr(vec![WireBrokerId(2), WireBrokerId(1)])
        .with_leader_recovery_state(1)
        .with_partition_epoch(9);
    let expected = AlteredPartition {
        leader: Some(BrokerId(2)),
        leader_epoch: 7,
        isr: vec![BrokerId(2), BrokerId(1)],
        recovering: true,
        partition_epoch: 9,
    };
    assert_eq!(altered(&answered), Ok(expected));
    let leaderless = answered.clone().with_leader_id(WireBrokerId(-1));
    assert_eq!(altered(&leaderless).map(|partition| partition.leader), Ok(None));
    let refused = answered.with_error_code(ErrorCode::FencedLeaderEpoch.code());
    assert_eq!(altered(&refused), Err(ErrorCode::FencedLeaderEpoch));
}

#[test]
fn replicas_of_a_directory_and_topic_go_together() {
    let asked = |directory, topic, index| DirectoryAssignment { topic, index, directory };
    let (here, there) = (KafkaUuid(1001), KafkaUuid(1002));
    let said = by_directory(&[asked(there, ONE, 1), asked(here, ONE, 0), asked(there, OTHER, 2), asked(there, ONE, 3)]);
    let told: Vec<_> = said
        .iter()
        .flat_map(|directory| directory.topics.iter().map(move |topic| (KafkaUuid::from(directory.id), topic)))
        .map(|(directory, topic)| {
            let indexes: Vec<_> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            (directory, KafkaUuid::from(topic.topic_id), indexes)
        })
        .collect();
    assert_eq!(told, [(here, ONE, vec![0]), (there, ONE, vec![1, 3]), (there, OTHER, vec![2])]);
}

#[test]
fn a_registration_says_all_there_is() {
    let endpoint = Endpoint { listener: "EXTERNAL".into(), host: "h".into(), port: 9, protocol: "SASL_SSL".into() };
    let registration = Registration {
        id: BrokerId(4),
        incarnation: ONE,
        rack: Some("r".into()),
        endpoints: vec![endpoint],
        features: BTreeMap::from([("metadata.version".to_owned(), (7, 30))]),
        log_dirs: vec![OTHER],
        previous_epoch: 77,
    };
    let said = registration_request(&registration, "cluster");
    assert_eq!((said.broker_id.0, said.cluster_id.as_str(), said.previous_broker_epoch), (4, "cluster", 77));
    assert_eq!((KafkaUuid::from(said.incarnation_id), said.rack), (ONE, Some(StrBytes::from_static_str("r"))));
    let [listener] = &said.listeners[..] else { panic!("one listener") };
    assert_eq!((listener.name.as_str(), listener.host.as_str(), listener.port), ("EXTERNAL", "h", 9));
    assert_eq!(protocol_name(listener.security_protocol), Some("SASL_SSL"));
    assert_eq!((protocol_name(4), protocol_name(-1)), (None, None));
    let [feature] = &said.features[..] else { panic!("one feature") };
    let levels = (feature.min_supported_version, feature.max_supported_version);
    assert_eq!((feature.name.as_str(), levels), ("metadata.version", (7, 30)));
    assert_eq!(said.log_dirs.iter().map(|id| KafkaUuid::from(*id)).collect::<Vec<_>>(), [OTHER]);
}

#[tokio::test]
async fn the_link_to_a_controller_is_kept_until_it_is_another() {
    let (env, link) = (Env::real(), Link::default());
    let address = |port| Address { host: "h".into(), port };
    let port = |peer: &Peer| peer.address().port;
    assert_eq!(port(&link.to(&env, address(1), "c")), 1);
    assert_eq!(port(&link.to(&env, address(2), "c")), 2);
    assert_eq!(link.0.lock().as_ref().map(port), Some(2));
}

#[test]
fn codes_are_refusals_but_for_none() {
    assert_eq!(refused(0), Ok(()));
    assert_eq!(refused(41).map_err(|refused| refused.code), Err(ErrorCode::NotController));
}
