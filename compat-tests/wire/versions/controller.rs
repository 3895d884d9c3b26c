//! Cases of the APIs that brokers ask the active controller, on its own listener. The broker that is registered is the
//! node itself: its sessions and epochs are what the cases work with, beside brokers that are made up.

use bytes::Bytes;
use kafka_protocol::messages::alter_partition_request::{
    BrokerState, PartitionData as Proposal, TopicData as Proposals,
};
use kafka_protocol::messages::assign_replicas_to_dirs_request::{
    DirectoryData, PartitionData as Replica, TopicData as Replicas,
};
use kafka_protocol::messages::broker_registration_request::{Feature, Listener};
use kafka_protocol::messages::{
    AllocateProducerIdsRequest, AlterPartitionRequest, AlterPartitionResponse, AssignReplicasToDirsRequest,
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, BrokerId, BrokerRegistrationRequest, EnvelopeRequest,
    ListPartitionReassignmentsRequest, UnregisterBrokerRequest, UpdateRaftVoterRequest, update_raft_voter_request,
};
use ottla::ids::KafkaUuid;
use ottla::wire::bridge;
use uuid::Uuid;

use super::Lab;
use crate::asks::{Topic, code, text};

const FENCED_LEADER_EPOCH: i16 = 74;
const STALE_BROKER_EPOCH: i16 = 77;
const INVALID_UPDATE_VERSION: i16 = 95;
const UNKNOWN_TOPIC_ID: i16 = 100;
const DUPLICATE_BROKER_REGISTRATION: i16 = 101;
const INCONSISTENT_CLUSTER_ID: i16 = 104;
const INELIGIBLE_REPLICA: i16 = 107;
const INVALID_REGISTRATION: i16 = 119;
const NOT_CONTROLLER: i16 = 41;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const UNSUPPORTED_VERSION: i16 = 35;

/// The directory of the broker with this number.
fn directory(id: i32) -> Uuid {
    KafkaUuid(0xd1_0000 + id as u128).into()
}

/// A registration of a broker that is made up.
fn registration(lab: &Lab, version: i16, id: i32, life: u128) -> BrokerRegistrationRequest {
    let image = lab.broker.services().metadata.image();
    let listener = Listener::default().with_name(text("PLAINTEXT")).with_host(text("nowhere.invalid")).with_port(9092);
    let feature = |(name, min, max): (&'static str, i16, i16)| {
        Feature::default().with_name(text(name)).with_min_supported_version(min).with_max_supported_version(max)
    };
    let elr = feature(("eligible.leader.replicas.version", 0, 1));
    let request = BrokerRegistrationRequest::default()
        .with_broker_id(BrokerId(id))
        .with_cluster_id(text(&image.cluster_id.to_string()))
        .with_incarnation_id(KafkaUuid(life).into())
        .with_listeners(vec![listener])
        .with_features(vec![feature(("metadata.version", 7, 30)), feature(("kraft.version", 0, 1)), elr])
        .with_rack(Some(text("r")));
    if version >= 2 { request.with_log_dirs(vec![directory(id)]) } else { request }
}

fn beat(lab: &mut Lab, version: i16, id: i32, epoch: i64, want_fence: bool) -> BrokerHeartbeatResponse {
    let applied = lab.broker.services().metadata.image().index.next_offset - 1;
    let request = BrokerHeartbeatRequest::default()
        .with_broker_id(BrokerId(id))
        .with_broker_epoch(epoch)
        .with_current_metadata_offset(applied)
        .with_want_fence(want_fence);
    lab.client.call(version, &request)
}

fn registered(lab: &mut Lab, id: i32, life: u128) -> i64 {
    let request = registration(lab, 4, id, life);
    let response = lab.client.call(4, &request);
    assert_eq!(response.error_code, code::NONE);
    response.broker_epoch
}

fn unregister(lab: &mut Lab, id: i32) {
    let response = lab.client.call(0, &UnregisterBrokerRequest::default().with_broker_id(BrokerId(id)));
    assert_eq!(response.error_code, code::NONE);
}

/// BrokerRegistration 62: a new broker, the same again, another process under its number, and what is refused.
pub fn broker_registration(lab: &mut Lab, version: i16) {
    let id = 70 + i32::from(version);
    let asked = registration(lab, version, id, 1);
    let mut ask = |request: &BrokerRegistrationRequest| {
        let response = lab.client.call(version, request);
        assert_eq!(response.throttle_time_ms, 0);
        (response.error_code, response.broker_epoch)
    };
    if version < 2 {
        assert_eq!(ask(&asked), (INVALID_REGISTRATION, -1), "a broker without a directory");
        return;
    }
    let (error, epoch) = ask(&asked);
    assert_eq!(error, code::NONE);
    assert_eq!(ask(&asked), (code::NONE, epoch), "the same life amends what it said");
    assert_eq!(ask(&asked.clone().with_cluster_id(text("other"))), (INCONSISTENT_CLUSTER_ID, -1));
    let too_old = Feature::default().with_name(text("metadata.version")).with_max_supported_version(20);
    assert_eq!(ask(&asked.clone().with_features(vec![too_old])), (UNSUPPORTED_VERSION, -1));
    let taken = asked.clone().with_broker_id(BrokerId(99));
    assert_eq!(ask(&taken), (INVALID_REGISTRATION, -1), "the directory belongs to another broker");
    let next = asked.clone().with_incarnation_id(KafkaUuid(2).into());
    let (error, later) = ask(&next);
    assert_eq!((error, later > epoch), (code::NONE, true), "nobody has heard of the earlier life");
    let image = lab.broker.services().metadata.image();
    let broker = image.brokers.by_id(ottla::ids::BrokerId(id)).expect("it is registered");
    assert!(broker.fenced && broker.epoch == later && broker.rack.as_deref() == Some("r"));
    assert_eq!(broker.endpoints[0].protocol, "PLAINTEXT");

    assert!(!beat(lab, 1, id, later, false).is_fenced);
    let response = lab.client.call(version, &next.with_incarnation_id(KafkaUuid(3).into()));
    assert_eq!((response.error_code, response.broker_epoch), (DUPLICATE_BROKER_REGISTRATION, -1));
    unregister(lab, id);
}

/// BrokerHeartbeat 63: a broker catches up, is unfenced, is fenced, and goes.
pub fn broker_heartbeat(lab: &mut Lab, version: i16) {
    let id = 60 + i32::from(version);
    let unknown = beat(lab, version, id, 5, false);
    assert_eq!((unknown.error_code, unknown.throttle_time_ms), (STALE_BROKER_EPOCH, 0));
    let epoch = registered(lab, id, 1);
    assert_eq!(beat(lab, version, id, epoch + 1, false).error_code, STALE_BROKER_EPOCH);
    let behind = BrokerHeartbeatRequest::default().with_broker_id(BrokerId(id)).with_broker_epoch(epoch);
    let answer = lab.client.call(version, &behind.clone().with_current_metadata_offset(epoch - 1));
    assert_eq!((answer.error_code, answer.is_caught_up, answer.is_fenced), (code::NONE, false, true));
    let answer = beat(lab, version, id, epoch, true);
    assert_eq!((answer.is_caught_up, answer.is_fenced), (true, true));
    let answer = beat(lab, version, id, epoch, false);
    assert_eq!((answer.is_caught_up, answer.is_fenced, answer.should_shut_down), (true, false, false));
    if version >= 1 {
        let offline = behind.clone().with_current_metadata_offset(epoch).with_offline_log_dirs(vec![directory(id)]);
        assert_eq!(lab.client.call(version, &offline).error_code, code::NONE);
        let image = lab.broker.services().metadata.image();
        assert_eq!(image.brokers.by_id(ottla::ids::BrokerId(id)).map(|broker| broker.log_dirs.len()), Some(0));
    }
    if version >= 2 {
        let mut cordoned = behind.clone().with_current_metadata_offset(epoch);
        bridge::put_cordoned_dirs(&mut cordoned.unknown_tagged_fields, &[KafkaUuid(0xd1_0000 + id as u128)]);
        assert_eq!(lab.client.call(version, &cordoned).error_code, code::NONE);
        let image = lab.broker.services().metadata.image();
        assert_eq!(image.brokers.by_id(ottla::ids::BrokerId(id)).map(|broker| broker.cordoned_dirs.len()), Some(1));
    }
    let leaving = behind.with_current_metadata_offset(epoch).with_want_shut_down(true);
    let answer = lab.client.call(version, &leaving);
    assert_eq!((answer.error_code, answer.is_fenced, answer.should_shut_down), (code::NONE, true, true));
    unregister(lab, id);
}

/// A proposal of this node for the first partition of a topic.
fn propose(lab: &mut Lab, version: i16, topic: &Topic, change: impl FnOnce(&mut Proposal)) -> AlterPartitionResponse {
    let node = lab.broker.services().node;
    let (image, epoch) = (lab.broker.services().metadata.image(), lab.broker.services().metadata.broker_epoch());
    let partition = image.topics.by_name(&topic.name).and_then(|topic| topic.partition(0).cloned());
    let partition = partition.unwrap_or_default();
    let mut proposal =
        Proposal::default().with_leader_epoch(partition.leader_epoch).with_partition_epoch(partition.partition_epoch);
    proposal = if version >= 3 {
        let own = BrokerState::default().with_broker_id(BrokerId(node.0)).with_broker_epoch(epoch);
        proposal.with_new_isr_with_epochs(vec![own])
    } else {
        proposal.with_new_isr(vec![BrokerId(node.0)])
    };
    change(&mut proposal);
    let topics = vec![Proposals::default().with_topic_id(topic.id).with_partitions(vec![proposal])];
    let request = AlterPartitionRequest::default().with_broker_id(BrokerId(node.0)).with_broker_epoch(epoch);
    lab.client.call(version, &request.with_topics(topics))
}

/// AlterPartition 56: the ISR that is, and everything that is refused, in the order of the refusals.
pub fn alter_partition(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1);
    let node = lab.broker.node();
    let accepted = propose(lab, version, &topic, |_| {});
    assert_eq!((accepted.throttle_time_ms, accepted.error_code), (0, code::NONE));
    assert_eq!(accepted.topics[0].topic_id, topic.id);
    let partition = &accepted.topics[0].partitions[0];
    assert_eq!((partition.partition_index, partition.error_code), (0, code::NONE));
    assert_eq!((partition.leader_id, partition.leader_epoch), (BrokerId(node), 0));
    assert_eq!((partition.isr.clone(), partition.partition_epoch), (vec![BrokerId(node)], 0));
    assert_eq!(partition.leader_recovery_state, 0);

    let mut refused = |topic: &Topic, change: &dyn Fn(&mut Proposal)| {
        let response = propose(lab, version, topic, change);
        assert_eq!(response.error_code, code::NONE);
        response.topics[0].partitions[0].error_code
    };
    assert_eq!(refused(&Topic::unknown(), &|_| {}), UNKNOWN_TOPIC_ID);
    assert_eq!(refused(&topic, &|p| p.partition_index = 7), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(refused(&topic, &|p| p.leader_epoch = 9), NOT_CONTROLLER);
    assert_eq!(refused(&topic, &|p| p.partition_epoch = 9), NOT_CONTROLLER);
    assert_eq!(refused(&topic, &|p| p.leader_epoch = -1), FENCED_LEADER_EPOCH);
    assert_eq!(refused(&topic, &|p| p.partition_epoch = -1), INVALID_UPDATE_VERSION);
    let nobody = |p: &mut Proposal| {
        p.new_isr.clear();
        p.new_isr_with_epochs.clear();
    };
    assert_eq!(refused(&topic, &nobody), code::INVALID_REQUEST);
    assert_eq!(refused(&topic, &|p| p.leader_recovery_state = 1), code::INVALID_REQUEST);
    if version >= 3 {
        let earlier_life = |p: &mut Proposal| p.new_isr_with_epochs[0].broker_epoch = 1;
        assert_eq!(refused(&topic, &earlier_life), INELIGIBLE_REPLICA);
    }
    let stale = AlterPartitionRequest::default().with_broker_id(BrokerId(node)).with_broker_epoch(0);
    assert_eq!(lab.client.call(version, &stale).error_code, STALE_BROKER_EPOCH);
}

/// AllocateProducerIds 67: blocks follow one another.
pub fn allocate_producer_ids(lab: &mut Lab, version: i16) {
    let metadata = &lab.broker.services().metadata;
    let asked = AllocateProducerIdsRequest::default()
        .with_broker_id(BrokerId(lab.broker.node()))
        .with_broker_epoch(metadata.broker_epoch());
    let first = lab.client.call(version, &asked);
    assert_eq!((first.throttle_time_ms, first.error_code, first.producer_id_len), (0, code::NONE, 1000));
    let second = lab.client.call(version, &asked);
    assert_eq!(second.producer_id_start.0, first.producer_id_start.0 + 1000);
    let stale = lab.client.call(version, &asked.with_broker_epoch(-1));
    assert_eq!((stale.error_code, stale.producer_id_len), (STALE_BROKER_EPOCH, 0));
}

/// AssignReplicasToDirs 73: where a replica is, and replicas that are not there.
pub fn assign_replicas_to_dirs(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1);
    let metadata = &lab.broker.services().metadata;
    let known = metadata.image().topics.by_name(&topic.name).and_then(|topic| topic.partition(0).cloned());
    let known: Uuid = known.map(|partition| partition.directories[0]).unwrap_or_default().into();
    let replicas = |topic: &Topic, indexes: &[i32]| {
        let replica = |index: &i32| Replica::default().with_partition_index(*index);
        Replicas::default().with_topic_id(topic.id).with_partitions(indexes.iter().map(replica).collect())
    };
    let asked = AssignReplicasToDirsRequest::default()
        .with_broker_id(BrokerId(lab.broker.node()))
        .with_broker_epoch(metadata.broker_epoch())
        .with_directories(vec![
            DirectoryData::default()
                .with_id(known)
                .with_topics(vec![replicas(&topic, &[0, 5]), replicas(&Topic::unknown(), &[0])]),
        ]);
    let response = lab.client.call(version, &asked);
    assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
    assert_eq!((response.directories.len(), response.directories[0].id), (1, known));
    let codes: Vec<Vec<i16>> = response.directories[0]
        .topics
        .iter()
        .map(|topic| topic.partitions.iter().map(|one| one.error_code).collect())
        .collect();
    assert_eq!(codes, [vec![code::NONE, code::UNKNOWN_TOPIC_OR_PARTITION], vec![UNKNOWN_TOPIC_ID]]);
    assert_eq!(lab.client.call(version, &asked.with_broker_epoch(-1)).error_code, STALE_BROKER_EPOCH);

    // A broker that has no replica of it.
    let epoch = registered(lab, 80, 1);
    let other = AssignReplicasToDirsRequest::default().with_broker_id(BrokerId(80)).with_broker_epoch(epoch);
    let elsewhere = DirectoryData::default().with_id(directory(80)).with_topics(vec![replicas(&topic, &[0])]);
    let response = lab.client.call(version, &other.with_directories(vec![elsewhere]));
    assert_eq!(response.directories[0].topics[0].partitions[0].error_code, NOT_LEADER_OR_FOLLOWER);
    unregister(lab, 80);
}

/// Envelope 58: a request inside is answered inside; one that controllers do not decide is refused.
pub fn envelope(lab: &mut Lab, version: i16) {
    let inner = lab.client.frame(0, &ListPartitionReassignmentsRequest::default().with_timeout_ms(1000));
    let envelope = EnvelopeRequest::default()
        .with_request_data(Bytes::copy_from_slice(&inner[4..]))
        .with_request_principal(None)
        .with_client_host_address(Bytes::from_static(&[127, 0, 0, 1]));
    let response = lab.client.call(version, &envelope);
    assert_eq!(response.error_code, code::NONE);
    assert!(response.response_data.is_some_and(|data| data.len() > 4));
    let lost = envelope.with_client_host_address(Bytes::new());
    let response = lab.client.call(version, &lost);
    assert!(response.error_code != code::NONE && response.response_data.is_none());
}

/// UpdateRaftVoter 82: the only voter listens elsewhere from now on; others, and other epochs, are refused.
pub fn update_raft_voter(lab: &mut Lab, version: i16) {
    const UNKNOWN_LEADER_EPOCH: i16 = 75;
    const INVALID_REQUEST: i16 = 42;
    const VOTER_NOT_FOUND: i16 = 127;
    let state = lab.broker.services().metadata.quorum_state().expect("it leads");
    let (own, directory) = (state.leader.0, state.voters[0].directory.into());
    let request = |listener: &str, port: u16| {
        let listener = update_raft_voter_request::Listener::default()
            .with_name(text(listener))
            .with_host(text("127.0.0.1"))
            .with_port(port);
        let feature = update_raft_voter_request::KRaftVersionFeature::default()
            .with_min_supported_version(0)
            .with_max_supported_version(1);
        UpdateRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_current_leader_epoch(state.leader_epoch)
            .with_voter_id(own)
            .with_voter_directory_id(directory)
            .with_listeners(vec![listener])
            .with_k_raft_version_feature(feature)
    };
    let right = || request("CONTROLLER", 9999);
    let old = update_raft_voter_request::KRaftVersionFeature::default();
    let table = [
        (right().with_cluster_id(Some(text("elsewhere"))), INCONSISTENT_CLUSTER_ID),
        (right().with_current_leader_epoch(state.leader_epoch - 1), FENCED_LEADER_EPOCH),
        (right().with_current_leader_epoch(state.leader_epoch + 1), UNKNOWN_LEADER_EPOCH),
        (request("OTHER", 9999), INVALID_REQUEST),
        (right().with_k_raft_version_feature(old), INVALID_REQUEST),
        (right().with_voter_id(77), VOTER_NOT_FOUND),
        (right(), code::NONE),
    ];
    for (request, error) in table {
        let response = lab.client.call(version, &request);
        assert_eq!((response.throttle_time_ms, response.error_code), (0, error));
        assert_eq!(response.current_leader.leader_id.0, own);
    }
    let noted = || {
        let state = lab.broker.services().metadata.quorum_state();
        state.is_some_and(|state| state.nodes[0].1[0].address.port == 9999)
    };
    while !noted() {
        std::thread::yield_now();
    }
}
