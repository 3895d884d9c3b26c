//! Clients that take too much: large frames, many connections, long silences, answers that nobody reads.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{DescribeConfigsRequest, FetchRequest, MetadataRequest};

use crate::asks::{self, FETCH, code, metadata, only_partition, text};
use crate::batch::Batch;
use crate::broker::Broker;
use crate::client::{Client, framed, is_end};
use crate::versions::alter;

/// The key of DescribeConfigs.
const DESCRIBE_CONFIGS: i16 = 32;

#[test]
fn a_frame_above_the_limit_closes_the_connection() {
    let broker = Broker::with(&[("socket.request.max.bytes", "1000")]);
    let mut client = broker.client();
    let frame = client.enqueue(1, &metadata(1, &[]));
    let padded = |bytes: usize| framed(&[&frame[4..], &vec![0; bytes + 4 - frame.len()]].concat());
    assert_eq!(padded(1000).len(), 1004);
    client.write(&padded(1000)).expect("the broker reads");
    client.receive::<MetadataRequest>();
    for announced in [1001, 1 << 20, i32::MAX, -1, i32::MIN] {
        let mut client = broker.client();
        // The size alone is enough: nobody waits for the rest.
        client.write(&announced.to_be_bytes()).expect("the broker reads");
        client.assert_closed(&format!("a frame of {announced} bytes"));
    }
}

#[test]
fn large_frames_below_the_limit_are_taken() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[("max.message.bytes", "20000000")]);
    for round in 0..3 {
        assert_eq!(client.append(&topic, 0, Batch::sized(16 << 20).bytes()), round);
    }
}

#[test]
fn silent_connections_are_closed_and_waiting_ones_are_not() {
    let broker = Broker::with(&[("connections.max.idle.ms", "400")]);
    let (silent, mut stuck, mut poll) = (broker.client(), broker.client(), broker.client());
    stuck.write(&[0, 0, 0, 40, 0, 3]).expect("the broker reads");
    let topic = poll.topic("t", 1, &[]);
    // Waits longer than a connection may be idle, for something that does not come.
    let waiting = asks::fetch(FETCH, &topic, &[(0, 0)]).with_min_bytes(1).with_max_wait_ms(1000);
    poll.send(FETCH, &waiting);
    silent.assert_closed("nothing was ever said");
    stuck.assert_closed("a frame that does not go on");
    let response = poll.receive::<FetchRequest>();
    assert_eq!(only_partition(&response).error_code, code::NONE, "waiting for an answer is not idle");
}

/// Opens connections until one is served: the broker may not have noticed yet that an earlier one has ended.
fn served(address: SocketAddr) -> Client {
    loop {
        let mut client = Client::connect(address);
        let frame = client.frame(1, &metadata(1, &[]));
        if client.write(&frame).is_ok() && client.read_frame().is_some() {
            return client;
        }
    }
}

#[test]
fn one_address_has_only_so_many_connections() {
    let broker = Broker::with(&[("max.connections.per.ip", "2")]);
    let (mut first, mut second) = (broker.client(), broker.client());
    for client in [&mut first, &mut second] {
        client.call(1, &metadata(1, &[]));
    }
    for _ in 0..5 {
        broker.client().assert_closed("one connection too many");
    }
    first.call(1, &metadata(1, &[]));
    drop(second);
    served(broker.address()).call(1, &metadata(1, &[]));
}

#[test]
fn limits_change_without_a_restart() {
    const BROKER: i8 = 4;
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    let broker = Broker::start();
    let mut admin = broker.client();
    let mut change = |name: &str, key: &str, operation: i8, value: Option<&str>| {
        assert_eq!(alter(&mut admin, 1, (BROKER, name), &[(key, operation, value)], false), code::NONE);
    };
    let is_served = || {
        let mut client = broker.client();
        let frame = client.frame(1, &metadata(1, &[]));
        client.write(&frame).is_ok() && client.read_frame().is_some()
    };
    let node = broker.node().to_string();
    for name in ["", &*node] {
        change(name, "max.connections.per.ip", SET, Some("1"));
        while is_served() {}
        change(name, "max.connections.per.ip", DELETE, None);
        while !is_served() {}
        change(name, "max.connections.per.ip.overrides", SET, Some("127.0.0.1:1"));
        while is_served() {}
        change(name, "max.connections.per.ip.overrides", DELETE, None);
        while !is_served() {}
    }
    // With no place left a connection waits, and is served when there is one again.
    change(&node, "listener.name.plaintext.max.connections", SET, Some("1"));
    let mut waiting = broker.client();
    waiting.send(1, &metadata(1, &[]));
    change(&node, "listener.name.plaintext.max.connections", SET, Some("5"));
    waiting.receive::<MetadataRequest>();
}

#[test]
fn an_override_is_for_its_address_alone() {
    let settings = [("max.connections.per.ip", "100"), ("max.connections.per.ip.overrides", "127.0.0.1:1,10.0.0.1:50")];
    let broker = Broker::with(&settings);
    let mut first = broker.client();
    first.call(1, &metadata(1, &[]));
    broker.client().assert_closed("the only place is taken");
    first.call(1, &metadata(1, &[]));
}

#[test]
fn above_the_limit_of_all_connections_new_ones_wait() {
    let broker = Broker::with(&[("max.connections", "1")]);
    let mut first = broker.client();
    first.call(1, &metadata(1, &[]));
    // The kernel takes the connections, and the broker as many as it may, one after the other.
    let mut others: Vec<Client> = (0..3).map(|_| broker.client()).collect();
    for other in &mut others {
        other.send(1, &metadata(1, &[]));
    }
    first.call(1, &metadata(1, &[]));
    drop(first);
    for mut other in others {
        other.receive::<MetadataRequest>();
    }
}

#[test]
fn a_slow_sender_disturbs_nobody_and_is_answered_in_the_end() {
    let broker = Broker::start();
    let (mut slow, mut other) = (broker.client(), broker.client());
    let topic = other.topic("t", 1, &[]);
    let batch = Batch::of(&["byte by byte"]).bytes();
    let frame = slow.enqueue(9, &asks::produce(9, &topic, -1, &[(0, Some(batch))]));
    let behind = slow.enqueue(12, &metadata(12, &["t"]));
    let bytes = [frame, behind].concat();
    for (count, byte) in bytes.iter().enumerate() {
        slow.write(&[*byte]).expect("the broker reads");
        if count % 8 == 0 {
            other.append(&topic, 0, Batch::of(&["meanwhile"]).bytes());
        }
    }
    let answer = slow.receive::<kafka_protocol::messages::ProduceRequest>();
    assert_eq!(answer.responses[0].partition_responses[0].error_code, code::NONE);
    assert_eq!(slow.receive::<MetadataRequest>().topics[0].error_code, code::NONE);
}

/// A request whose answer is far larger than itself: every setting of the broker, explained.
fn long_story(node: i32) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(text(&node.to_string()))
        .with_configuration_keys(None);
    DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true)
}

#[test]
fn a_client_that_never_reads_is_not_served_for_ever() {
    const REQUESTS: u64 = 20_000;
    // What fits into the sockets' buffers, the connection's own, and the queue of replies: far from everything.
    const HANDLED_MAX: u64 = REQUESTS / 4;
    let broker = Broker::start();
    let mut greedy = broker.client();
    let request = long_story(broker.node());
    let answer_bytes = {
        let mut probe = broker.client();
        let frame = probe.frame(4, &request);
        probe.write(&frame).expect("the broker reads");
        probe.read_frame().expect("an answer").len()
    };
    assert!(answer_bytes > 20_000, "{answer_bytes}");
    let frame = greedy.frame(4, &request);
    greedy.stream().set_nonblocking(true).expect("a socket");
    let mut sent = 0;
    while sent < REQUESTS && write_some(greedy.stream(), &frame) {
        sent += 1;
    }
    let mut other = broker.client();
    let topic = other.topic("t", 1, &[]);
    for _ in 0..200 {
        other.append(&topic, 0, Batch::of(&["x"]).bytes());
    }
    let handled = broker.services().api_stats.read(DESCRIBE_CONFIGS).requests;
    assert!(handled < HANDLED_MAX, "{handled} of {sent} requests were handled, of {answer_bytes} bytes each");
    drop(greedy);
    other.append(&topic, 0, Batch::of(&["still here"]).bytes());
}

/// Writes one frame whole or not at all; false if there is no room for it.
fn write_some(stream: &TcpStream, frame: &[u8]) -> bool {
    use std::io::Write;
    let (mut stream, mut rest) = (stream, frame);
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{}: {error}", if is_end(&error) { "closed" } else { "broken" }),
        }
    }
    true
}
