//! Nodes as controllers: for brokers that ask on, and without being a broker.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, EnvelopeRequest, IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::Decodable;
use std::net::TcpListener;

use crate::asks::{code, text, topic_name};
use crate::broker::Broker;

/// How long the controller may take by what the client says: far longer than it needs.
const TIMEOUT_MS: i32 = 5000;

#[test]
fn what_is_forwarded_to_a_controller_that_hosts_nothing_is_answered() {
    // The quorum is named by port before it listens; the port is free again once it is known.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr()).expect("a free port").port();
    let (listener, voters) = (format!("CONTROLLER://127.0.0.1:{port}"), format!("1@127.0.0.1:{port}"));
    let controller = Broker::with(&[
        ("process.roles", "controller"),
        ("node.id", "1"),
        ("listeners", &listener),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT"),
        ("controller.quorum.voters", &voters),
    ]);
    let mut client = controller.client();
    let topic = CreatableTopic::default().with_name(topic_name("nowhere")).with_num_partitions(1);
    let create =
        CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(1)]).with_timeout_ms(TIMEOUT_MS);
    let inner = client.frame(7, &create);
    let envelope = EnvelopeRequest::default()
        .with_request_data(Bytes::copy_from_slice(&inner[4..]))
        .with_request_principal(None)
        .with_client_host_address(Bytes::from_static(&[127, 0, 0, 1]));
    let response = client.call(0, &envelope);
    assert_eq!(response.error_code, code::NONE);
    let mut answer = response.response_data.expect("an answer inside");
    // Correlation id and no tags: the header.
    answer.advance(5);
    let answer = CreateTopicsResponse::decode(&mut answer, 7).expect("of its shape");
    // There is no broker to put a replica on: decided, not timed out.
    assert_eq!(answer.topics[0].error_code, code::INVALID_REPLICATION_FACTOR, "{:?}", answer.topics[0].error_message);
}

#[test]
fn a_controller_takes_the_settings_of_any_node_and_a_broker_only_its_own() {
    const BROKER: i8 = 4;
    const BROKER_ID_NOT_REGISTERED: i16 = 102;
    let broker = Broker::as_controller();
    let alter = |name: &str| {
        let set = AlterableConfig::default().with_name(text("log.retention.ms")).with_value(Some(text("86400000")));
        let resource = AlterConfigsResource::default().with_resource_type(BROKER).with_resource_name(text(name));
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![set])])
    };
    let (own, other) = (broker.node().to_string(), (broker.node() + 1).to_string());
    for (mut client, name, code) in [
        (broker.client(), &own, code::NONE),
        (broker.client(), &other, code::INVALID_REQUEST),
        (broker.controller_client(), &own, code::NONE),
        (broker.controller_client(), &other, BROKER_ID_NOT_REGISTERED),
    ] {
        let response = client.call(1, &alter(name)).responses.remove(0);
        assert_eq!(response.error_code, code, "{name}: {:?}", response.error_message);
    }
}
