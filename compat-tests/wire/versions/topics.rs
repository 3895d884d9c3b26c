//! Cases of the APIs that show, create, grow and delete topics.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeTopicPartitionsRequest,
    MetadataRequest, MetadataResponse,
};
use uuid::Uuid;

use super::Lab;
use crate::asks::{self, Topic, code, text, topic_name};

/// Metadata 3: brokers, topics by name and by id, all, none, and those that are not there.
pub fn metadata(lab: &mut Lab, version: i16) {
    let topic = lab.topic(2);
    let node = lab.broker.node();
    let response = lab.client.call(version, &asks::metadata(version, &[&topic.name, &topic.name, "a b"]));
    assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
    let [broker] = &response.brokers[..] else { panic!("one broker") };
    assert_eq!((broker.node_id.0, broker.host.as_str()), (node, "127.0.0.1"));
    assert_eq!(broker.port, i32::from(lab.broker.address().port()));
    assert_eq!(response.controller_id.0, if version >= 1 { node } else { -1 });
    assert_eq!(response.cluster_id.as_ref().map(|id| id.len()), if version >= 2 { Some(22) } else { None });
    assert_eq!(response.cluster_authorized_operations, i32::MIN);
    assert_eq!(response.topics.len(), 2, "a topic that is named twice is told of once");
    check_topic(by_name(&response, &topic.name), &topic, version, node);
    assert_eq!(by_name(&response, "a b").error_code, code::INVALID_TOPIC);
    check_lists(lab, version, &topic);
    check_ids(lab, version, &topic);
    if version >= 4 {
        let missing = lab.client.call(version, &asks::metadata(version, &["nowhere"]));
        let missing = by_name(&missing, "nowhere");
        assert_eq!((missing.error_code, missing.partitions.len()), (code::UNKNOWN_TOPIC_OR_PARTITION, 0));
        assert_eq!(missing.topic_id, Uuid::nil());
    }
    let name = lab.name("automatic");
    // Versions below 4 cannot forbid the creation; the others have to allow it.
    let creating = asks::metadata(version, &[&name]).with_allow_auto_topic_creation(true);
    let first = lab.client.call(version, &creating);
    assert_eq!(by_name(&first, &name).error_code, code::UNKNOWN_TOPIC_OR_PARTITION, "it is created in the background");
    while by_name(&lab.client.call(version, &creating), &name).partitions.is_empty() {}
}

fn by_name<'a>(response: &'a MetadataResponse, name: &str) -> &'a MetadataResponseTopic {
    let found = response.topics.iter().find(|topic| topic.name.as_ref().is_some_and(|have| have.as_str() == name));
    found.unwrap_or_else(|| panic!("{name} is not in {:?}", response.topics))
}

fn check_topic(shown: &MetadataResponseTopic, topic: &Topic, version: i16, node: i32) {
    assert_eq!((shown.error_code, shown.is_internal), (code::NONE, false));
    assert_eq!(shown.topic_id, if version >= 10 { topic.id } else { Uuid::nil() });
    assert_eq!(shown.topic_authorized_operations, i32::MIN);
    assert_eq!(shown.partitions.len(), 2);
    for (index, partition) in shown.partitions.iter().enumerate() {
        assert_eq!((partition.error_code, partition.partition_index), (code::NONE, index as i32));
        assert_eq!(partition.leader_id.0, node);
        assert_eq!(partition.leader_epoch >= 0, version >= 7, "leader epoch {}", partition.leader_epoch);
        assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![BrokerId(node)], &vec![BrokerId(node)]));
        assert!(partition.offline_replicas.is_empty());
    }
}

/// All topics, no topics, and what a caller may do.
fn check_lists(lab: &mut Lab, version: i16, topic: &Topic) {
    let all = if version == 0 { Some(Vec::new()) } else { None };
    let mut request = MetadataRequest::default().with_topics(all);
    if version >= 8 {
        request.include_topic_authorized_operations = true;
        request.include_cluster_authorized_operations = version <= 10;
    }
    let response = lab.client.call(version, &request);
    let shown = by_name(&response, &topic.name);
    assert_eq!(shown.topic_authorized_operations, if version >= 8 { 3576 } else { i32::MIN });
    let of_cluster = if (8..=10).contains(&version) { 8096 } else { i32::MIN };
    assert_eq!(response.cluster_authorized_operations, of_cluster);
    if version >= 1 {
        let none = lab.client.call(version, &MetadataRequest::default().with_topics(Some(Vec::new())));
        assert_eq!((none.topics.len(), none.brokers.len()), (0, 1));
    }
}

/// Topics by id, from version 12 on; versions 10 and 11 have the field and refuse it.
fn check_ids(lab: &mut Lab, version: i16, topic: &Topic) {
    if version < 10 {
        return;
    }
    let by_id = |id: Uuid| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    let ids = vec![by_id(topic.id), by_id(Uuid::from_u128(5))];
    let request = MetadataRequest::default().with_topics(Some(ids));
    let response = lab.client.call(version, &request);
    if version < 12 {
        assert!(response.topics.iter().all(|topic| topic.error_code == code::INVALID_REQUEST));
        assert_eq!(response.topics.len(), 2);
        return;
    }
    let unknown = response.topics.iter().find(|shown| shown.name.is_none()).expect("a topic that nobody knows");
    assert_eq!((unknown.error_code, unknown.topic_id), (code::UNKNOWN_TOPIC_ID, Uuid::from_u128(5)));
    check_topic(by_name(&response, &topic.name), topic, version, lab.broker.node());
}

/// CreateTopics 19: what is created, what is shown of it, and every way to be refused.
pub fn create_topics(lab: &mut Lab, version: i16) {
    let name = lab.name("made");
    let mut create = |request: &CreateTopicsRequest| -> CreatableTopicResult {
        let response = lab.client.call(version, request);
        assert_eq!((response.throttle_time_ms, response.topics.len()), (0, 1));
        response.topics[0].clone()
    };
    let request = asks::create_topic(&name, 3, &[("retention.ms", "60000")]);
    let tried = create(&request.clone().with_validate_only(true));
    assert_eq!((tried.error_code, tried.error_message), (code::NONE, None));
    let made = create(&request);
    assert_eq!((made.name.as_str(), made.error_code, made.error_message), (&*name, code::NONE, None));
    assert_eq!(made.topic_id.is_nil(), version < 7);
    assert_eq!(made.topic_config_error_code, code::NONE);
    if version >= 5 {
        assert_eq!((made.num_partitions, made.replication_factor), (3, 1));
        let configs = made.configs.expect("configs");
        let retention = configs.iter().find(|config| config.name.as_str() == "retention.ms").expect("a setting");
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("60000"), 1));
        assert!(configs.iter().any(|config| config.name.as_str() == "max.message.bytes" && config.config_source == 5));
    }
    let again = create(&request);
    let message = format!("Topic '{name}' already exists.");
    assert_eq!((again.error_code, again.error_message.as_deref()), (36, Some(&*message)));
    let refusals = [
        (asks::create_topic("a b", 1, &[]), code::INVALID_TOPIC),
        (asks::create_topic("zero", 0, &[]), 37),
        (asks::create_topic("many", 10_001, &[]), 44),
        (asks::create_topic("odd", 1, &[("no.such.setting", "1")]), 40),
        (asks::create_topic("odd", 1, &[("retention.ms", "soon")]), 40),
    ];
    for (request, expected) in refusals {
        let refused = create(&request);
        assert_eq!(refused.error_code, expected, "{}", refused.name.as_str());
        assert!(refused.error_message.is_some(), "{}", refused.name.as_str());
    }
    let mut replicated = asks::create_topic("replicated", 1, &[]);
    replicated.topics[0].replication_factor = 2;
    assert_eq!(create(&replicated).error_code, 38);
    let mut twice = asks::create_topic("twice", 1, &[]);
    twice.topics.push(twice.topics[0].clone());
    assert_eq!(create(&twice).error_code, code::INVALID_REQUEST);
    check_assignments(lab, version);
    assert_eq!(lab.client.describe(&name).partitions.len(), 3);
    assert_eq!(lab.client.describe("twice").error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

/// Defaults, and replicas that the client places.
fn check_assignments(lab: &mut Lab, version: i16) {
    let (by_default, by_hand, nowhere) = (lab.name("default"), lab.name("placed"), lab.name("nowhere"));
    let node = lab.broker.node();
    let mut request = asks::create_topic(&by_default, -1, &[]);
    request.topics[0].replication_factor = -1;
    assert_eq!(lab.client.call(version, &request).topics[0].error_code, code::NONE);
    assert_eq!(lab.client.describe(&by_default).partitions.len(), 1, "num.partitions");
    for (name, replica, expected) in [(&by_hand, node, code::NONE), (&nowhere, node + 1, 39)] {
        let place = |index| {
            CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(vec![BrokerId(replica)])
        };
        let mut request = asks::create_topic(name, -1, &[]);
        request.topics[0].replication_factor = -1;
        request.topics[0].assignments = vec![place(0), place(1)];
        assert_eq!(lab.client.call(version, &request).topics[0].error_code, expected, "{name}");
    }
    assert_eq!(lab.client.describe(&by_hand).partitions.len(), 2);
}

/// DeleteTopics 20: by name, from version 6 on also by id.
pub fn delete_topics(lab: &mut Lab, version: i16) {
    let (one, other) = (lab.topic(1), lab.topic(1));
    let names = |names: &[&str]| -> DeleteTopicsRequest {
        let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
        let names = names.iter().map(|name| topic_name(name));
        if version < 6 {
            return request.with_topic_names(names.collect());
        }
        let by_name = |name| DeleteTopicState::default().with_name(Some(name));
        request.with_topics(names.map(by_name).collect())
    };
    let response = lab.client.call(version, &names(&[&one.name, "nowhere"]));
    assert_eq!((response.throttle_time_ms, response.responses.len()), (0, 2));
    for answer in &response.responses {
        let is_known = answer.name.as_ref().is_some_and(|name| name.as_str() == one.name);
        let expected = if is_known { code::NONE } else { code::UNKNOWN_TOPIC_OR_PARTITION };
        assert_eq!(answer.error_code, expected);
        assert_eq!(answer.topic_id, if is_known && version >= 6 { one.id } else { Uuid::nil() });
    }
    assert_eq!(lab.client.describe(&one.name).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    let twice = lab.client.call(version, &names(&[&other.name, &other.name]));
    assert!(twice.responses.iter().all(|answer| answer.error_code == code::INVALID_REQUEST), "{twice:?}");
    if version >= 6 {
        let state =
            |name: Option<&str>, id| DeleteTopicState::default().with_name(name.map(topic_name)).with_topic_id(id);
        let states = vec![state(None, other.id), state(None, one.id), state(Some("x"), Uuid::from_u128(9))];
        let request = DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topics(states);
        let mut answers: Vec<_> = lab.client.call(version, &request).responses;
        answers.sort_by_key(|answer| answer.error_code);
        let codes: Vec<i16> = answers.iter().map(|answer| answer.error_code).collect();
        assert_eq!(codes, [code::NONE, code::INVALID_REQUEST, code::UNKNOWN_TOPIC_ID]);
        assert_eq!(answers[0].name.as_ref().map(|name| name.as_str()), Some(&*other.name), "the name is filled in");
        assert_eq!(lab.client.describe(&other.name).error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    }
}

/// CreatePartitions 37: a topic grows, and never shrinks.
pub fn create_partitions(lab: &mut Lab, version: i16) {
    let topic = lab.topic(1);
    let node = lab.broker.node();
    let mut grow = |name: &str, count: i32, replica: Option<i32>, validate_only: bool| -> i16 {
        let place = |id| vec![CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(id)])];
        let growth = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(replica.map(place));
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![growth])
            .with_timeout_ms(30_000)
            .with_validate_only(validate_only);
        let response = lab.client.call(version, &request);
        let answer = &response.results[0];
        assert_eq!((response.throttle_time_ms, answer.name.as_str()), (0, name));
        assert_eq!(answer.error_message.is_some(), answer.error_code != code::NONE, "{:?}", answer.error_message);
        answer.error_code
    };
    assert_eq!(grow(&topic.name, 4, None, true), code::NONE);
    assert_eq!(grow(&topic.name, 3, None, false), code::NONE);
    assert_eq!(grow(&topic.name, 4, Some(node), false), code::NONE);
    assert_eq!(grow(&topic.name, 4, None, false), 37, "it has as many already");
    assert_eq!(grow(&topic.name, 2, None, false), 37, "it cannot shrink");
    assert_eq!(grow(&topic.name, 6, Some(node), false), 39, "one place for two partitions");
    assert_eq!(grow(&topic.name, 5, Some(node + 1), false), 39, "no such broker");
    assert_eq!(grow("nowhere", 2, None, false), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(lab.client.describe(&topic.name).partitions.len(), 4);
    let batch = crate::batch::Batch::of(&["x"]).bytes();
    assert_eq!(lab.client.append(&topic, 3, batch), 0, "a new partition takes records at once");
}

/// DescribeTopicPartitions 75: pages in the order of names, with a cursor between them.
pub fn describe_topic_partitions(lab: &mut Lab, version: i16) {
    let (one, other) = (lab.topic(2), lab.topic(2));
    let mut ask = |names: &[&str], limit: i32, cursor: Option<(&str, i32)>| {
        let topic = |name: &&str| TopicRequest::default().with_name(topic_name(name));
        let cursor = cursor.map(|(topic, partition)| {
            Cursor::default().with_topic_name(topic_name(topic)).with_partition_index(partition)
        });
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(names.iter().map(topic).collect())
            .with_response_partition_limit(limit)
            .with_cursor(cursor);
        lab.client.call(version, &request)
    };
    let whole = ask(&[&other.name, &one.name, "nowhere"], 2000, None);
    assert_eq!(whole.next_cursor, None);
    let names: Vec<_> = whole.topics.iter().map(|topic| (topic.name.clone(), topic.error_code)).collect();
    let known = |topic: &Topic| (Some(topic.wire()), code::NONE);
    let missing = (Some(topic_name("nowhere")), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(names, [missing, known(&one), known(&other)], "sorted by name");
    let shown = &whole.topics[1];
    assert_eq!((shown.topic_id, shown.is_internal, shown.topic_authorized_operations), (one.id, false, 3576));
    let partition = &shown.partitions[1];
    assert_eq!((partition.error_code, partition.partition_index), (code::NONE, 1));
    assert_eq!((partition.replica_nodes.len(), partition.isr_nodes.len()), (1, 1));
    assert_eq!(partition.leader_id, partition.replica_nodes[0]);
    assert_eq!((&partition.eligible_leader_replicas, &partition.last_known_elr), (&Some(vec![]), &Some(vec![])));
    let page = ask(&[], 3, None);
    assert_eq!(page.topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>(), [2, 1]);
    let cursor = page.next_cursor.expect("there is more");
    assert_eq!((cursor.topic_name.clone(), cursor.partition_index), (other.wire(), 1));
    let rest = ask(&[], 3, Some((&other.name, 1)));
    assert_eq!(rest.topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>(), [1]);
    assert_eq!((rest.topics[0].partitions[0].partition_index, rest.next_cursor), (1, None));
    let astray = ask(&[&one.name], 3, Some((&other.name, 0)));
    assert_eq!(astray.topics[0].error_code, code::INVALID_REQUEST, "the cursor is not on the list");
    let negative = ask(&[&one.name], 3, Some((&one.name, -1)));
    assert_eq!(negative.topics[0].error_code, code::INVALID_REQUEST);
    assert_eq!(whole.topics[0].name.as_ref().map(|name| name.as_str()), Some(text("nowhere").as_str()));
}
