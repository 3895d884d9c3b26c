//! DescribeQuorum (55): who leads the metadata quorum, and how far its voters are (KIP-595, KIP-836).
//!
//! v0: the first. v1: when voters last fetched and were last level with the leader. v2: directory ids, the voters'
//! endpoints, error messages (KIP-853). The quorum is that of one topic with one partition; any other gets 3. Directory
//! ids are zero below `kraft.version` 1, from which on voters are known by them.

use kafka_protocol::messages::describe_quorum_request::TopicData as AskedTopic;
use kafka_protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::{BrokerId as WireBrokerId, DescribeQuorumRequest, DescribeQuorumResponse};

use crate::api::translate::{text, topic_name};
use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::metadata::{ActiveController, ClusterImage};

const METADATA_TOPIC: &str = "__cluster_metadata";
const METADATA_PARTITION: i32 = 0;
const KRAFT_VERSION: &str = "kraft.version";
/// From this version on voters tell when they last fetched.
const TIMES: i16 = 1;
/// From this version on there are directory ids, endpoints and error messages.
const DIRECTORIES: i16 = 2;

/// Answers from the image: the only voter is the active controller, and has everything that is in it.
pub async fn handle(ctx: &Context, request: DescribeQuorumRequest) -> Reply<DescribeQuorumResponse> {
    let version = ctx.request.version;
    let image = ctx.services.metadata.image();
    if !asks_for_metadata(&request.topics) {
        return Reply::Now(refused(&request.topics));
    }
    let Some(controller) = image.controller else {
        return Reply::Now(DescribeQuorumResponse::default().with_error_code(ErrorCode::NotLeaderOrFollower.code()));
    };
    let voter = voter(version, &image, controller, ctx.services.env.wall_ms());
    let partition = PartitionData::default()
        .with_partition_index(METADATA_PARTITION)
        .with_error_message(None)
        .with_leader_id(WireBrokerId(controller.node.0))
        .with_leader_epoch(image.index.controller_epoch)
        .with_high_watermark(image.index.next_offset)
        .with_current_voters(vec![voter]);
    let topic = TopicData::default().with_topic_name(topic_name(METADATA_TOPIC)).with_partitions(vec![partition]);
    let response = DescribeQuorumResponse::default().with_error_message(None).with_topics(vec![topic]);
    Reply::Now(if version >= DIRECTORIES { response.with_nodes(vec![node(ctx, &image, controller)]) } else { response })
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
                .with_error_message(None)
        });
        TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions.collect())
    };
    DescribeQuorumResponse::default().with_error_message(None).with_topics(topics.iter().map(topic).collect())
}

fn voter(version: i16, image: &ClusterImage, controller: ActiveController, now_ms: i64) -> ReplicaState {
    let mut voter = ReplicaState::default()
        .with_replica_id(WireBrokerId(controller.node.0))
        .with_log_end_offset(image.index.next_offset);
    if version >= TIMES {
        voter = voter.with_last_fetch_timestamp(now_ms).with_last_caught_up_timestamp(now_ms);
    }
    if version >= DIRECTORIES && image.features.level(KRAFT_VERSION) >= 1 {
        voter = voter.with_replica_directory_id(controller.directory.into());
    }
    voter
}

/// Where the voter is reached: on the controller's listeners, or where it has none, on those it has as a broker.
fn node(ctx: &Context, image: &ClusterImage, controller: ActiveController) -> Node {
    let config = ctx.services.config.load();
    let own = config.listeners().iter().filter(|listener| listener.controller);
    let own = own.filter_map(|listener| Some((&*listener.name, listener.advertised.as_ref()?)));
    let mut listeners: Vec<Listener> = own.map(|(name, (host, port))| listener(name, host, *port)).collect();
    if listeners.is_empty() {
        let broker = image.brokers.by_id(controller.node);
        let endpoints = broker.iter().flat_map(|broker| &broker.endpoints);
        listeners = endpoints.map(|endpoint| listener(&endpoint.listener, &endpoint.host, endpoint.port)).collect();
    }
    Node::default().with_node_id(WireBrokerId(controller.node.0)).with_listeners(listeners)
}

fn listener(name: &str, host: &str, port: u16) -> Listener {
    Listener::default().with_name(text(name)).with_host(text(host)).with_port(port)
}
