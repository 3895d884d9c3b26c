//! DescribeQuorum (55): who leads the metadata quorum, and how far its voters are (KIP-595, KIP-836).
//!
//! v0: the first. v1: when voters last fetched and were last level with the leader. v2: directory ids, the voters'
//! endpoints, error messages (KIP-853). The quorum is that of one topic with one partition; any other gets 3. Directory
//! ids are zero below `kraft.version` 1, from which on voters are known by them. Only the leader answers.

use kafka_protocol::messages::describe_quorum_request::TopicData as AskedTopic;
use kafka_protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::{BrokerId as WireBrokerId, DescribeQuorumRequest, DescribeQuorumResponse};

use crate::api::translate::{text, topic_name};
use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::ids::BrokerId;
use crate::metadata::{ClusterImage, MemberEndpoint, QuorumReplica};

const METADATA_TOPIC: &str = "__cluster_metadata";
const METADATA_PARTITION: i32 = 0;
const KRAFT_VERSION: &str = "kraft.version";
/// From this version on voters tell when they last fetched.
const TIMES: i16 = 1;
/// From this version on there are directory ids, endpoints and error messages.
const DIRECTORIES: i16 = 2;

/// `Errors.UNKNOWN_TOPIC_OR_PARTITION` in words. Where nothing is wrong the message is empty, not absent.
const NOT_HERE: &str = "This server does not host this topic-partition.";

/// Answers what this node knows as the leader.
pub async fn handle(ctx: &Context, request: DescribeQuorumRequest) -> Reply<DescribeQuorumResponse> {
    let version = ctx.request.version;
    let image = ctx.services.metadata.image();
    if !asks_for_metadata(&request.topics) {
        return Reply::Now(refused(&request.topics));
    }
    let Some(state) = ctx.services.metadata.quorum_state() else {
        return Reply::Now(DescribeQuorumResponse::default().with_error_code(ErrorCode::NotLeaderOrFollower.code()));
    };
    let replicas = |known: &[QuorumReplica]| known.iter().map(|known| replica(version, &image, known)).collect();
    let partition = PartitionData::default()
        .with_partition_index(METADATA_PARTITION)
        .with_leader_id(WireBrokerId(state.leader.0))
        .with_leader_epoch(state.leader_epoch)
        .with_high_watermark(state.high_watermark)
        .with_current_voters(replicas(&state.voters))
        .with_observers(replicas(&state.observers));
    let topic = TopicData::default().with_topic_name(topic_name(METADATA_TOPIC)).with_partitions(vec![partition]);
    let response = DescribeQuorumResponse::default().with_topics(vec![topic]);
    if version < DIRECTORIES {
        return Reply::Now(response);
    }
    let nodes = state.nodes.iter().map(|(id, endpoints)| node(ctx, &image, *id, endpoints));
    Reply::Now(response.with_nodes(nodes.collect()))
}

fn asks_for_metadata(topics: &[AskedTopic]) -> bool {
    let [topic] = topics else { return false };
    let [partition] = topic.partitions.as_slice() else { return false };
    topic.topic_name.as_str() == METADATA_TOPIC && partition.partition_index == METADATA_PARTITION
}

fn refused(topics: &[AskedTopic]) -> DescribeQuorumResponse {
    let topic = |topic: &AskedTopic| {
        let partitions = topic.partitions.iter().map(|partition| {
            PartitionData::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(ErrorCode::UnknownTopicOrPartition.code())
                .with_error_message(Some(text(NOT_HERE)))
        });
        TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions.collect())
    };
    DescribeQuorumResponse::default().with_topics(topics.iter().map(topic).collect())
}

fn replica(version: i16, image: &ClusterImage, known: &QuorumReplica) -> ReplicaState {
    let replica = ReplicaState::default().with_replica_id(WireBrokerId(known.id.0)).with_log_end_offset(known.log_end);
    if version < TIMES {
        return replica;
    }
    let replica = replica.with_last_fetch_timestamp(known.fetched_ms).with_last_caught_up_timestamp(known.caught_up_ms);
    if version < DIRECTORIES || image.features.level(KRAFT_VERSION) < 1 {
        return replica;
    }
    replica.with_replica_directory_id(known.directory.into())
}

/// Where a voter is reached: as the quorum says, else on the listeners of this controller, if it is this one, else on
/// those it has as a broker.
fn node(ctx: &Context, image: &ClusterImage, id: BrokerId, endpoints: &[MemberEndpoint]) -> Node {
    let known = endpoints.iter().map(|known| listener(&known.listener, &known.address.host, known.address.port));
    let mut listeners: Vec<Listener> = known.collect();
    if listeners.is_empty() && id == ctx.services.node {
        let config = ctx.services.config.load();
        let own = config.listeners().iter().filter(|listener| listener.controller);
        let own = own.filter_map(|listener| Some((&*listener.name, listener.advertised.as_ref()?)));
        listeners = own.map(|(name, (host, port))| listener(name, host, *port)).collect();
    }
    if listeners.is_empty() {
        let broker = image.brokers.by_id(id);
        let endpoints = broker.iter().flat_map(|broker| &broker.endpoints);
        listeners = endpoints.map(|endpoint| listener(&endpoint.listener, &endpoint.host, endpoint.port)).collect();
    }
    Node::default().with_node_id(WireBrokerId(id.0)).with_listeners(listeners)
}

fn listener(name: &str, host: &str, port: u16) -> Listener {
    Listener::default().with_name(text(name)).with_host(text(host)).with_port(port)
}
