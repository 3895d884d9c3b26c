//! Requests that are well formed and beyond all measure. Each is refused whole or served, and while it is under way a
//! witness on another connection writes and reads as before.
//!
//! Invariants: what is refused leaves nothing behind; the process never has more than [`PEAK_BYTES_MAX`] more memory
//! than before the request. `--nocapture` shows how long each took, and the slowest round of the witness meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeProducersRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest,
    MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
};

use crate::asks::{self, FETCH, Topic, code, group_id, text, topic_name};
use crate::broker::Broker;
use crate::client::Client;
use crate::hostile::{Honest, peak_from_now, swollen_since};
use crate::members::{Member, join, sync};

/// How much more memory an absurd request may take for a moment: client and broker are one process here, and the
/// client holds request and answer as well.
const PEAK_BYTES_MAX: u64 = 1 << 30;

const MILLION: i32 = 1_000_000;
const NAMES: usize = 100_000;

/// Runs `absurd` while a witness works. The witness goes on afterwards.
#[allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "shows figures to whoever asks; asserts none of them"
)]
fn beside<T>(broker: &Broker, what: &str, absurd: impl FnOnce(&mut Client) -> T) -> T {
    let mut witness = Honest::new(broker, &format!("witness-{}", what.replace([' ', ','], "-")));
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut client = broker.client();
    let peak = peak_from_now();
    thread::scope(|scope| {
        let witness = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            loop {
                let last = over.load(Ordering::SeqCst);
                let began = Instant::now();
                witness.work();
                slowest = slowest.max(began.elapsed());
                rounds.fetch_add(1, Ordering::SeqCst);
                if last {
                    return slowest;
                }
            }
        });
        while rounds.load(Ordering::SeqCst) == 0 && !witness.is_finished() {
            thread::yield_now();
        }
        let began = Instant::now();
        let answer = absurd(&mut client);
        let taken = began.elapsed();
        over.store(true, Ordering::SeqCst);
        let slowest = witness.join().expect("the witness is served");
        let swollen = swollen_since(peak);
        let (taken, slowest) = (taken.as_millis(), slowest.as_millis());
        println!("{what}: {taken} ms; witness at most {slowest} ms; {} MiB more", swollen >> 20);
        assert!(swollen < PEAK_BYTES_MAX, "{what}: {} MiB more", swollen >> 20);
        answer
    })
}

/// A topic that is left to the broker's defaults.
fn plain(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(partitions).with_replication_factor(1)
}

/// The codes of a CreateTopics request, in its order; checks that nothing came of it.
fn create(broker: &Broker, what: &str, topics: Vec<CreatableTopic>) -> Vec<i16> {
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000);
    let before = broker.services().metadata.image().topics.partition_count() + 1;
    let response = beside(broker, what, |client| client.call(7, &request));
    assert_eq!(response.topics.len(), request.topics.len());
    let after = broker.services().metadata.image().topics.partition_count();
    assert_eq!(after, before, "{what}: only the topic of the witness was created");
    response.topics.iter().map(|topic| topic.error_code).collect()
}

fn assignment(index: i32, replicas: std::ops::Range<i32>) -> CreatableReplicaAssignment {
    CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(replicas.map(BrokerId).collect())
}

#[test]
fn topics_beyond_measure_are_refused_whole() {
    let broker = Broker::alone(&[]);
    let node = broker.node();
    assert_eq!(create(&broker, "a million partitions", vec![plain("t", MILLION)]), [code::POLICY_VIOLATION]);
    assert_eq!(create(&broker, "all partitions", vec![plain("t", i32::MAX)]), [code::POLICY_VIOLATION]);
    let many: Vec<_> = (0..100).map(|n| plain(&format!("t{n}"), 10_000)).collect();
    assert_eq!(create(&broker, "a million in a hundred topics", many), [code::POLICY_VIOLATION; 100]);
    let names: Vec<_> = (0..NAMES).map(|n| plain(&format!("t{n}"), 1)).collect();
    assert_eq!(create(&broker, "100000 topics", names), [code::POLICY_VIOLATION; NAMES]);
    let broken: Vec<_> = (0..NAMES).map(|n| plain(&format!("t{n}"), 0)).collect();
    assert_eq!(create(&broker, "100000 topics of nothing", broken), [code::INVALID_PARTITIONS; NAMES]);
    // A topic and its partitions are more records than one request may come to.
    assert_eq!(create(&broker, "10000 partitions", vec![plain("t", 10_000)]), [code::POLICY_VIOLATION]);
    let by_hand = || plain("t", -1).with_replication_factor(-1);
    let assignments = (0..90_000).map(|index| assignment(index, node..node + 1)).collect();
    let topic = by_hand().with_assignments(assignments);
    assert_eq!(create(&broker, "90000 assignments", vec![topic]), [code::POLICY_VIOLATION]);
    let replicas = plain("t", 1).with_replication_factor(10_000);
    assert_eq!(create(&broker, "10000 replicas", vec![replicas]), [code::INVALID_REPLICATION_FACTOR]);
    let topic = by_hand().with_assignments(vec![assignment(0, node..node + 10_000)]);
    assert_eq!(create(&broker, "10000 replicas by hand", vec![topic]), [code::INVALID_REPLICA_ASSIGNMENT]);
}

#[test]
fn growth_beyond_measure_is_refused_whole() {
    let broker = Broker::alone(&[]);
    let node = broker.node();
    let topic = broker.client().topic("t", 1, &[]);
    let grown = |count: i32| CreatePartitionsTopic::default().with_name(topic.wire()).with_count(count);
    let replica = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(node)]);
    let by_hand = grown(60_001).with_assignments(Some(vec![replica; 60_000]));
    for (what, growth) in [("to a million", grown(MILLION)), ("60000 assignments", by_hand)] {
        let request = CreatePartitionsRequest::default().with_topics(vec![growth.clone()]).with_timeout_ms(30_000);
        let response = beside(&broker, what, |client| client.call(3, &request));
        assert_eq!(response.results[0].error_code, code::POLICY_VIOLATION, "{what}");
        assert_eq!(broker.client().describe("t").partitions.len(), 1, "{what}");
    }
}

#[test]
fn deletions_beyond_measure_are_answered() {
    let broker = Broker::alone(&[]);
    let named = |n: usize| DeleteTopicState::default().with_name(Some(topic_name(&format!("t{n}"))));
    let topics = (0..NAMES).map(named).collect();
    let request = DeleteTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000);
    let response = beside(&broker, "100000 deletions", |client| client.call(6, &request));
    let codes = response.responses.iter().map(|topic| topic.error_code);
    assert!(codes.eq(std::iter::repeat_n(code::UNKNOWN_TOPIC_OR_PARTITION, NAMES)));
}

#[test]
fn metadata_of_a_hundred_thousand_topics_is_answered_and_creates_none() {
    let broker = Broker::alone(&[]);
    let names: Vec<String> = (0..NAMES).map(|n| format!("t{n}")).collect();
    let topic = |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    for (version, create) in [(12, false), (12, true), (1, true), (9, true)] {
        let request = MetadataRequest::default()
            .with_topics(Some(names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(create);
        let what = format!("metadata v{version} of 100000 topics, creating {create}");
        let response = beside(&broker, &what, |client| client.call(version, &request));
        assert_eq!(response.topics.len(), NAMES);
        assert!(response.topics.iter().all(|topic| topic.error_code == code::UNKNOWN_TOPIC_OR_PARTITION));
    }
    // Whatever was to be created in the background was asked for before this is.
    broker.client().topic("last", 1, &[]);
    let image = broker.services().metadata.image();
    assert!(image.topics.iter().all(|topic| topic.name.starts_with("witness") || &*topic.name == "last"));
}

#[test]
fn a_hundred_thousand_partitions_are_read_in_one_request() {
    let broker = Broker::alone(&[]);
    let topic = broker.client().topic("t", 10, &[]);
    let nowhere = Topic::unknown();
    let count = NAMES as i32;
    for (what, topic, known) in [("known", &topic, 10), ("unknown", &nowhere, 0)] {
        let wanted: Vec<_> = (0..count).map(|index| (index, 0)).collect();
        for version in [FETCH, 17] {
            let request = asks::fetch(version, topic, &wanted);
            let what = format!("fetch v{version} of 100000 {what} partitions");
            let response = beside(&broker, &what, |client| client.call(version, &request));
            let answers = response.responses.iter().map(|topic| topic.partitions.len()).sum::<usize>();
            assert_eq!(answers, NAMES, "{what}");
            let sound = response.responses.iter().flat_map(|topic| &topic.partitions);
            assert_eq!(sound.filter(|partition| partition.error_code == code::NONE).count(), known);
        }
        for timestamp in [-1, -2, -3, 5] {
            let partition =
                |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp);
            let asked = ListOffsetsTopic::default()
                .with_name(topic.wire())
                .with_partitions((0..count).map(partition).collect());
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
            let what = format!("list offsets {timestamp} of 100000 {what} partitions");
            let response = beside(&broker, &what, |client| client.call(10, &request));
            let answers = &response.topics[0].partitions;
            let sound = answers.iter().filter(|partition| partition.error_code == code::NONE).count();
            assert_eq!((answers.len(), sound), (NAMES, known));
        }
    }
}

#[test]
fn producers_of_a_partition_are_described_once() {
    let broker = Broker::alone(&[]);
    let topic = broker.client().topic("t", 1, &[]);
    let asked = TopicRequest::default().with_name(topic.wire()).with_partition_indexes(vec![0; NAMES]);
    let request = DescribeProducersRequest::default().with_topics(vec![asked]);
    let response = beside(&broker, "producers 100000 times", |client| client.call(0, &request));
    let codes: Vec<_> = response.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!((codes.len(), codes[0]), (NAMES, code::NONE));
    assert!(codes[1..].iter().all(|code| *code == code::INVALID_REQUEST));
}

#[test]
fn offsets_of_a_hundred_thousand_partitions_are_committed_or_refused_and_read() {
    let broker = Broker::alone(&[]);
    broker.client().coordinator("g");
    let topic = broker.client().topic("t", 9_000, &[]);
    let commit = |partitions: std::ops::Range<i32>, metadata: &str| {
        let partition = |index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(7)
                .with_committed_metadata(Some(text(metadata)))
        };
        let asked = OffsetCommitRequestTopic::default()
            .with_name(topic.wire())
            .with_partitions(partitions.map(partition).collect());
        OffsetCommitRequest::default().with_group_id(group_id("g")).with_topics(vec![asked])
    };
    let codes = |client: &mut Client, request: &OffsetCommitRequest| -> Vec<i16> {
        let response = client.call(8, request);
        response.topics[0].partitions.iter().map(|partition| partition.error_code).collect()
    };
    let request = commit(0..100_000, "");
    let answered = beside(&broker, "commit of 100000 partitions", |client| codes(client, &request));
    assert_eq!(answered.iter().filter(|code| **code == code::UNKNOWN_TOPIC_OR_PARTITION).count(), 91_000);
    let request = commit(0..1, &"x".repeat(4097));
    let answered = beside(&broker, "commit with long metadata", |client| codes(client, &request));
    assert_eq!(answered, [code::OFFSET_METADATA_TOO_LARGE]);
    // More than a batch can hold: refused whole, with what Kafka says to it.
    let request = commit(0..9_000, &"x".repeat(4000));
    let answered = beside(&broker, "commit of 36 MB", |client| codes(client, &request));
    assert_eq!(answered, [code::UNKNOWN_SERVER_ERROR; 9_000]);

    let indexes =
        OffsetFetchRequestTopics::default().with_name(topic.wire()).with_partition_indexes((0..NAMES as i32).collect());
    let group = OffsetFetchRequestGroup::default().with_group_id(group_id("g")).with_topics(Some(vec![indexes]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    let response = beside(&broker, "offsets of 100000 partitions", |client| client.call(8, &request));
    assert_eq!(response.groups[0].topics[0].partitions.len(), NAMES);

    let everything = OffsetFetchRequestGroup::default().with_group_id(group_id("g")).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![everything; NAMES]);
    let response = beside(&broker, "everything of a group 100000 times", |client| client.call(8, &request));
    assert_eq!((response.groups.len(), response.groups[0].error_code), (NAMES, code::NONE));
    assert!(response.groups[1..].iter().all(|group| group.error_code == code::INVALID_REQUEST));
}

#[test]
fn a_group_with_ten_megabytes_of_metadata_is_refused() {
    let broker = Broker::alone(&[]);
    broker.client().coordinator("g");
    let blob = Bytes::from(vec![b'x'; 10 << 20]);
    let ask = |member_id: &str| {
        let mut request = join("g", member_id, b"");
        request.protocols[0].metadata = blob.clone();
        request
    };
    let id = broker.client().call(9, &ask("")).member_id.to_string();
    let joined = beside(&broker, "join with 10 MB", |client| client.call(9, &ask(&id)));
    assert_eq!(joined.error_code, code::NONE, "it is the group's record that would be too large");
    let request = |member_id: &str| {
        sync("g", member_id, joined.generation_id)
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
    };
    let synced = beside(&broker, "sync with 10 MB", |client| client.call(5, &request(&id)));
    assert_eq!(synced.error_code, code::UNKNOWN_SERVER_ERROR);
    let share = SyncGroupRequestAssignment::default().with_member_id(text("m")).with_assignment(blob.clone());
    let request = request("m").with_assignments(vec![share]);
    let synced = beside(&broker, "assignment of 10 MB", |client| client.call(5, &request));
    assert_eq!(synced.error_code, code::UNKNOWN_MEMBER_ID);
    // Another group on the same shard is served as ever.
    let mut member = Member::new(&broker, "other", None);
    member.send_join();
    assert_eq!(member.joined().error_code, code::NONE);
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id("g"); NAMES]);
    let response = beside(&broker, "a group described 100000 times", |client| client.call(5, &request));
    assert_eq!((response.groups.len(), response.groups[0].error_code), (NAMES, code::NONE));
    assert!(response.groups[1..].iter().all(|group| group.error_code == code::INVALID_REQUEST));
}

#[test]
fn settings_beyond_measure_are_refused_whole() {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    const GROUP: i8 = 32;
    let broker = Broker::alone(&[]);
    broker.client().topic("t", 1, &[]);
    let node = broker.node().to_string();
    let describe = |kind: i8, name: &str| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    };
    let ask = |resources| {
        DescribeConfigsRequest::default()
            .with_resources(resources)
            .with_include_synonyms(true)
            .with_include_documentation(true)
    };
    for (what, resource) in [("a broker", describe(BROKER, &node)), ("a topic", describe(TOPIC, "t"))] {
        let request = ask(vec![resource; NAMES]);
        let what = format!("settings of {what} 100000 times");
        let response = beside(&broker, &what, |client| client.call(4, &request));
        assert!(response.results.iter().all(|result| result.error_code == code::INVALID_REQUEST), "{what}");
    }
    let groups: Vec<_> = (0..NAMES).map(|n| describe(GROUP, &format!("g{n}"))).collect();
    let response = beside(&broker, "settings of 100000 groups", |client| client.call(4, &ask(groups.clone())));
    assert!(response.results.iter().all(|result| result.error_code == code::INVALID_REQUEST));

    let set = |key: &str, operation: i8, value: &str| {
        AlterableConfig::default().with_name(text(key)).with_config_operation(operation).with_value(Some(text(value)))
    };
    let alter = |client: &mut Client, resources: Vec<AlterConfigsResource>| -> Vec<i16> {
        let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
        client.call(1, &request).responses.iter().map(|response| response.error_code).collect()
    };
    let resource = |kind: i8, name: &str, configs| {
        AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name)).with_configs(configs)
    };
    let timeout = || vec![set("consumer.session.timeout.ms", 0, "50000")];
    let groups: Vec<_> = (0..60_000).map(|n| resource(GROUP, &format!("g{n}"), timeout())).collect();
    let altered = beside(&broker, "settings of 60000 groups altered", |client| alter(client, groups));
    assert_eq!(altered, [code::POLICY_VIOLATION; 60_000]);
    let keys = (0..NAMES).map(|n| set(&format!("key{n}"), 0, "1")).collect();
    let altered =
        beside(&broker, "100000 settings of a topic", |client| alter(client, vec![resource(TOPIC, "t", keys)]));
    assert_eq!(altered, [code::INVALID_CONFIG]);
    let items: String = (0..5_000).map(|n| format!("{n},")).collect();
    let appended: Vec<_> = (0..3_000).map(|_| resource(TOPIC, "t", vec![set("cleanup.policy", 2, &items)])).collect();
    let altered = beside(&broker, "long lists extended", |client| alter(client, appended));
    assert!(altered.iter().all(|code| *code != code::NONE));
}

#[test]
fn a_string_beyond_measure_ends_the_connection() {
    let broker = Broker::alone(&[]);
    let mut client = broker.client();
    let frame = client.frame(9, &asks::metadata(9, &[&"t".repeat(32_768)]));
    client.write(&frame).expect("the broker reads");
    client.assert_closed("Kafka does not read such a string");
    let fits = broker.client().call(9, &asks::metadata(9, &[&"t".repeat(32_767)]));
    assert_eq!(fits.topics[0].error_code, code::INVALID_TOPIC);
}
