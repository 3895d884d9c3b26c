//! Cases of the APIs that ask the controller to change the cluster: leaders, replicas, brokers, features.

use kafka_protocol::messages::add_raft_voter_request::Listener;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AddRaftVoterRequest, AlterPartitionReassignmentsRequest, ApiVersionsRequest, BrokerId, DescribeQuorumRequest,
    ElectLeadersRequest, ListPartitionReassignmentsRequest, RemoveRaftVoterRequest, UnregisterBrokerRequest,
    UpdateFeaturesRequest,
};
use uuid::Uuid;

use super::{Lab, hello};
use crate::asks::{Topic, code, text, topic_name};

/// ElectLeaders 43: nothing to elect on one broker.
pub fn elect_leaders(lab: &mut Lab, version: i16) {
    const NOT_NEEDED: i16 = 84;
    let topic = lab.topic(2);
    let asked = |topic: &Topic, indexes: &[i32]| {
        TopicPartitions::default().with_topic(topic.wire()).with_partitions(indexes.to_vec())
    };
    let named = ElectLeadersRequest::default()
        .with_topic_partitions(Some(vec![asked(&topic, &[0, 1, 2]), asked(&Topic::unknown(), &[0])]))
        .with_timeout_ms(30_000);
    let unknown = code::UNKNOWN_TOPIC_OR_PARTITION;
    for election in if version >= 1 { vec![0, 1] } else { vec![0] } {
        let response = lab.client.call(version, &named.clone().with_election_type(election));
        assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
        let codes: Vec<Vec<i16>> = response
            .replica_election_results
            .iter()
            .map(|topic| topic.partition_result.iter().map(|one| one.error_code).collect())
            .collect();
        assert_eq!(codes, [vec![NOT_NEEDED, NOT_NEEDED, unknown], vec![unknown]]);
        let missing = &response.replica_election_results[1].partition_result[0];
        assert_eq!(missing.error_message.as_deref(), Some("No such topic as nowhere"));
        let all = named.clone().with_topic_partitions(None).with_election_type(election);
        let response = lab.client.call(version, &all);
        assert_eq!(response.error_code, code::NONE);
        assert!(response.replica_election_results.iter().all(|topic| topic.partition_result.is_empty()));
    }
    if version >= 1 {
        let response = lab.client.call(version, &named.with_election_type(7));
        assert_eq!(response.error_code, code::INVALID_REQUEST);
        assert_eq!(response.replica_election_results[0].partition_result[0].error_code, code::INVALID_REQUEST);
    }
}

fn reassign(topic: &Topic, target: Option<&[i32]>) -> AlterPartitionReassignmentsRequest {
    let target = target.map(|ids| ids.iter().copied().map(BrokerId).collect());
    let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(target);
    let topic = ReassignableTopic::default().with_name(topic.wire()).with_partitions(vec![partition]);
    AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
}

/// A topic and where its partition shall go, then the error and message that answer.
type Move<'a> = (&'a Topic, Option<&'a [i32]>, i16, Option<&'a str>);

/// AlterPartitionReassignments 45: to where it is, to where nobody is, and back from nowhere.
pub fn alter_partition_reassignments(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1);
    let node = lab.broker.node();
    let unregistered = "The manual partition assignment includes broker 77, but no such broker is registered.";
    let table: [Move<'_>; 6] = [
        (&topic, Some(&[node]), code::NONE, None),
        (&topic, Some(&[77]), 39, Some(unregistered)),
        (&topic, Some(&[node, 77]), 39, Some(unregistered)),
        (&topic, Some(&[]), 39, Some("The manual partition assignment includes an empty replica list.")),
        (&topic, None, 85, None),
        (&Topic::unknown(), Some(&[node]), 3, Some("Unable to find a topic named nowhere.")),
    ];
    for (topic, target, error, message) in table {
        let response = lab.client.call(version, &reassign(topic, target));
        assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
        assert_eq!(response.error_message, None);
        assert!(response.allow_replication_factor_change);
        let partition = &response.responses[0].partitions[0];
        assert_eq!(response.responses[0].name, topic.wire());
        assert_eq!((partition.partition_index, partition.error_code), (0, error), "{target:?}");
        assert_eq!(partition.error_message.as_deref(), message);
    }
    if version >= 1 {
        let fixed = reassign(&topic, Some(&[node])).with_allow_replication_factor_change(false);
        let response = lab.client.call(version, &fixed);
        assert!(!response.allow_replication_factor_change);
        assert_eq!(response.responses[0].partitions[0].error_code, code::NONE);
    }
}

/// ListPartitionReassignments 46: nothing is under way.
pub fn list_partition_reassignments(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1);
    let node = lab.broker.node();
    lab.client.call(1, &reassign(&topic, Some(&[node])));
    let named = ListPartitionReassignmentsTopics::default().with_name(topic.wire()).with_partition_indexes(vec![0, 9]);
    let unknown = named.clone().with_name(topic_name("nowhere"));
    for topics in [None, Some(vec![named, unknown])] {
        let request = ListPartitionReassignmentsRequest::default().with_topics(topics).with_timeout_ms(30_000);
        let response = lab.client.call(version, &request);
        assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
        assert_eq!((response.error_message.as_ref(), response.topics.len()), (None, 0));
    }
}

/// DescribeQuorum 55: one voter, which leads and has everything.
pub fn describe_quorum(lab: &mut Lab, version: i16) {
    let asked = |name: &str| {
        let partition = PartitionData::default().with_partition_index(0);
        let topic = TopicData::default().with_topic_name(topic_name(name)).with_partitions(vec![partition]);
        DescribeQuorumRequest::default().with_topics(vec![topic])
    };
    let node = lab.broker.node();
    let response = lab.client.call(version, &asked("__cluster_metadata"));
    assert_eq!((response.error_code, response.error_message.as_deref()), (code::NONE, Some("")), "empty, not absent");
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.leader_id.0), (code::NONE, node));
    assert!(partition.leader_epoch >= 1 && partition.high_watermark > 0);
    assert_eq!(partition.observers.len(), 0);
    let [voter] = &partition.current_voters[..] else { panic!("one voter") };
    assert_eq!((voter.replica_id.0, voter.log_end_offset), (node, partition.high_watermark));
    assert_eq!(voter.last_fetch_timestamp > 0, version >= 1);
    assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1);
    assert_eq!(voter.replica_directory_id.is_nil(), version < 2, "voters are known by their directories");
    let ids: Vec<i32> = response.nodes.iter().map(|node| node.node_id.0).collect();
    assert_eq!(ids, if version >= 2 { vec![node] } else { vec![] });
    let refused = lab.client.call(version, &asked("orders"));
    assert_eq!((refused.error_code, refused.topics[0].partitions[0].error_code), (0, 3));
}

/// The node and directory id of the only voter.
fn own_voter(lab: &mut Lab) -> (i32, Uuid) {
    let partition = PartitionData::default().with_partition_index(0);
    let topic = TopicData::default().with_topic_name(topic_name("__cluster_metadata")).with_partitions(vec![partition]);
    let response = lab.client.call(2, &DescribeQuorumRequest::default().with_topics(vec![topic]));
    let voter = &response.topics[0].partitions[0].current_voters[0];
    (voter.replica_id.0, voter.replica_directory_id)
}

/// AddRaftVoter 80: what the leader refuses, and a voter that does not answer.
pub fn add_raft_voter(lab: &mut Lab, version: i16) {
    let (own, directory) = own_voter(lab);
    let stranger = Uuid::from_u128(77);
    let nobody = |port| Listener::default().with_name(text("CONTROLLER")).with_host(text("127.0.0.1")).with_port(port);
    let table = [
        (None, own, directory, vec![nobody(1)], 126, "is already part of the set of voters"),
        (None, own, stranger, vec![nobody(1)], 126, "is already part of the set of voters"),
        (None, 77, Uuid::nil(), vec![nobody(1)], 42, "has a directory id"),
        (None, 77, stranger, vec![], 42, "listens somewhere"),
        (None, 77, stranger, vec![nobody(1)], 7, "is not ready to receive requests"),
        (Some("elsewhere"), 77, stranger, vec![nobody(1)], 104, "not elsewhere"),
    ];
    for (cluster, id, directory, listeners, error, message) in table {
        let request = AddRaftVoterRequest::default()
            .with_cluster_id(cluster.map(text))
            .with_timeout_ms(1000)
            .with_voter_id(id)
            .with_voter_directory_id(directory)
            .with_listeners(listeners);
        let response = lab.client.call(version, &request);
        let said = response.error_message.as_deref().unwrap_or_default();
        assert_eq!((response.throttle_time_ms, response.error_code), (0, error), "{said}");
        assert!(said.contains(message), "{said}");
    }
}

/// RemoveRaftVoter 81: nobody it knows, another life of the voter, and the last one there is.
pub fn remove_raft_voter(lab: &mut Lab, version: i16) {
    let (own, directory) = own_voter(lab);
    let table = [
        (None, 77, directory, 127, "from the set of voters"),
        (None, own, Uuid::from_u128(77), 127, "from the set of voters"),
        (None, own, directory, 42, "is the only voter"),
        (Some("elsewhere"), own, directory, 104, "not elsewhere"),
    ];
    for (cluster, id, directory, error, message) in table {
        let request = RemoveRaftVoterRequest::default()
            .with_cluster_id(cluster.map(text))
            .with_voter_id(id)
            .with_voter_directory_id(directory);
        let response = lab.client.call(version, &request);
        let said = response.error_message.as_deref().unwrap_or_default();
        assert_eq!((response.throttle_time_ms, response.error_code), (0, error), "{said}");
        assert!(said.contains(message), "{said}");
    }
}

/// UpdateFeatures 57: dry runs, and what is refused; the levels that ApiVersions tells stay what they are.
pub fn update_features(lab: &mut Lab, version: i16) {
    const INVALID_UPDATE_VERSION: i16 = 95;
    let mut update = |name: &str, level: i16, kind: i8, validate_only: bool| {
        let mut key = FeatureUpdateKey::default().with_feature(text(name)).with_max_version_level(level);
        let mut request = UpdateFeaturesRequest::default().with_timeout_ms(30_000);
        if version >= 1 {
            key.upgrade_type = kind;
            request.validate_only = validate_only;
        }
        let response = lab.client.call(version, &request.with_feature_updates(vec![key]));
        assert_eq!(response.throttle_time_ms, 0);
        let results = if version <= 1 && response.error_code == code::NONE { 1 } else { 0 };
        assert_eq!(response.results.len(), results);
        assert!(response.results.iter().all(|one| one.error_code == code::NONE && one.feature.as_str() == name));
        (response.error_code, response.error_message.map(|text| text.to_string()).unwrap_or_default())
    };
    let (upgrade, safe, unsafe_) = (1, 2, 3);
    assert_eq!(update("metadata.version", 30, upgrade, false), (code::NONE, String::new()));
    let refused = |answer: (i16, String), end: &str| {
        assert_eq!(answer.0, INVALID_UPDATE_VERSION, "{}", answer.1);
        assert!(answer.1.ends_with(end), "{}", answer.1);
    };
    let node = lab.broker.node();
    refused(
        update("metadata.version", 31, upgrade, false),
        &format!("Local controller {node} only supports versions 7-30"),
    );
    let unknown = format!("feature no.such. Local controller {node} does not support this feature.");
    refused(update("no.such", 1, upgrade, true), &unknown);
    let untold = "without setting the upgrade type to either safe or unsafe downgrade.";
    refused(update("metadata.version", 29, upgrade, false), untold);
    if version >= 1 {
        assert_eq!(update("metadata.version", 30, upgrade, true), (code::NONE, String::new()));
        refused(update("metadata.version", 29, safe, false), "because it might delete metadata information.");
        refused(update("metadata.version", 29, unsafe_, true), "is not supported in this version.");
        refused(update("metadata.version", 30, 9, true), "does not support the given upgrade type.");
    }
    let told = lab.client.call::<ApiVersionsRequest>(4, &hello(4)).finalized_features;
    let level = told.iter().find(|feature| feature.name.as_str() == "metadata.version");
    assert_eq!(level.map(|feature| feature.max_version_level), Some(30));
}

/// UnregisterBroker 64: an unknown one, and the one that is alive and stays.
pub fn unregister_broker(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1);
    let epoch = lab.client.describe(&topic.name).partitions[0].leader_epoch;
    let unknown = UnregisterBrokerRequest::default().with_broker_id(BrokerId(77));
    let response = lab.client.call(version, &unknown);
    assert_eq!((response.throttle_time_ms, response.error_code), (0, 102));
    assert_eq!(response.error_message.as_deref(), Some("Broker ID 77 is not currently registered"));
    let node = BrokerId(lab.broker.node());
    let response = lab.client.call(version, &UnregisterBrokerRequest::default().with_broker_id(node));
    assert_eq!((response.error_code, response.error_message), (code::NONE, None));
    let partition = lab.client.describe(&topic.name).partitions[0].clone();
    assert_eq!((partition.error_code, partition.leader_id), (code::NONE, node));
    assert!(partition.leader_epoch > epoch, "it leads again, in a new epoch");
}
