//! Answers leave in the order of their requests, whatever each of them has to wait for.

use std::thread;

use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeGroupsRequest, FetchRequest, HeartbeatRequest, InitProducerIdRequest,
    JoinGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetFetchRequest, ProduceRequest,
};
use kafka_protocol::protocol::Request;

use crate::asks::{self, Topic, code, group_id, list_offsets, metadata, only_partition};
use crate::batch::{Batch, batches};
use crate::broker::Broker;
use crate::client::Client;
use crate::members::{Member, heartbeat};

/// How long a fetch is willing to wait: longer than any test.
const TEN_MINUTES_MS: i32 = 600_000;

/// Puts a request in the queue, and takes its answer.
type Step = (fn(&mut Client, &Topic) -> Vec<u8>, fn(&mut Client));

fn take<Q: Request>(client: &mut Client) {
    client.receive::<Q>();
}

const STEPS: [Step; 10] = [
    (|client, topic| client.enqueue(13, &metadata(13, &[&topic.name])), take::<MetadataRequest>),
    (|client, topic| client.enqueue(9, &produce(topic)), take::<ProduceRequest>),
    (|client, topic| client.enqueue(1, &list_offsets(topic, 0, -1)), take::<ListOffsetsRequest>),
    (|client, _| client.enqueue(2, &heartbeat("nobody", "m", 1)), take::<HeartbeatRequest>),
    (|client, _| client.enqueue(1, &DescribeClusterRequest::default()), take::<DescribeClusterRequest>),
    (|client, topic| client.enqueue(11, &asks::fetch(11, topic, &[(0, 0)])), take::<FetchRequest>),
    (|client, _| client.enqueue(5, &ListGroupsRequest::default()), take::<ListGroupsRequest>),
    (|client, _| client.enqueue(7, &offset_fetch()), take::<OffsetFetchRequest>),
    (|client, _| client.enqueue(4, &producer_id()), take::<InitProducerIdRequest>),
    (|client, topic| client.enqueue(0, &metadata(0, &[&topic.name])), take::<MetadataRequest>),
];

fn produce(topic: &Topic) -> ProduceRequest {
    asks::produce(9, topic, -1, &[(0, Some(Batch::of(&["x"]).bytes()))])
}

fn offset_fetch() -> OffsetFetchRequest {
    OffsetFetchRequest::default().with_group_id(group_id("group")).with_topics(None)
}

fn producer_id() -> InitProducerIdRequest {
    InitProducerIdRequest::default().with_transactional_id(None)
}

/// A fetch that is answered when there is something to read.
fn long_poll(topic: &Topic) -> FetchRequest {
    asks::fetch(12, topic, &[(0, 0)]).with_min_bytes(1).with_max_wait_ms(TEN_MINUTES_MS)
}

#[test]
fn fifty_requests_at_once_are_answered_in_order_around_a_long_poll() {
    let broker = Broker::start();
    let mut other = broker.client();
    other.coordinator("group");
    let (busy, quiet) = (other.topic("busy", 1, &[]), other.topic("quiet", 1, &[]));
    let mut client = broker.client();
    let mut burst = Vec::new();
    for place in 0..50 {
        if place == 25 {
            burst.extend(client.enqueue(12, &long_poll(&quiet)));
        }
        burst.extend(STEPS[place % STEPS.len()].0(&mut client, &busy));
    }
    client.write(&burst).expect("the broker reads");
    for place in 0..25 {
        STEPS[place % STEPS.len()].1(&mut client);
    }
    let batch = Batch::of(&["awake"]).bytes();
    assert_eq!(other.append(&quiet, 0, batch), 0);
    let woken = client.receive::<FetchRequest>();
    assert_eq!(batches(only_partition(&woken).records.as_ref().expect("records")).len(), 1);
    for place in 25..50 {
        STEPS[place % STEPS.len()].1(&mut client);
    }
    assert_eq!(other.offset_at(&busy, 0, -1).1, 5, "the produce requests behind the long poll were not lost");
}

#[test]
fn produced_records_keep_the_order_of_their_connection() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let mut burst = Vec::new();
    for _ in 0..200 {
        burst.extend(client.enqueue(9, &produce(&topic)));
    }
    thread::scope(|scope| {
        // The answers may have to be read before all of the requests are.
        let mut writer = client.stream().try_clone().expect("a socket");
        scope.spawn(move || std::io::Write::write_all(&mut writer, &burst).expect("the broker reads"));
        for place in 0..200 {
            let answer = client.receive::<ProduceRequest>().responses[0].partition_responses[0].clone();
            assert_eq!((answer.error_code, answer.base_offset), (code::NONE, place));
        }
    });
}

#[test]
fn a_parked_join_is_answered_before_what_came_after_it() {
    let broker = Broker::start();
    broker.client().coordinator("group");
    let mut first = Member::new(&broker, "group", None);
    first.send_join();
    first.joined();
    first.send_sync(&[]);
    first.synced();
    let mut second = Member::new(&broker, "group", None);
    second.send_join();
    let behind = heartbeat("nobody", "m", 1);
    second.client.send(0, &behind);
    second.client.send(9, &metadata(9, &[]));
    // Handled although it is not answered: the second member's join is there, so the group rebalances.
    while first.heartbeat() == code::NONE {}
    first.send_join();
    first.joined();
    assert_eq!(second.client.receive::<JoinGroupRequest>().generation_id, 2);
    assert_eq!(second.client.receive::<HeartbeatRequest>().error_code, code::UNKNOWN_MEMBER_ID);
    assert_eq!(second.client.receive::<MetadataRequest>().brokers.len(), 1);
}

#[test]
fn correlation_ids_are_given_back_as_they_came() {
    let broker = Broker::start();
    let mut client = broker.client();
    let frame = client.frame(1, &metadata(1, &[]));
    for id in [0, 7, 7, -1, i32::MIN, i32::MAX] {
        let mut frame = frame.clone();
        frame[8..12].copy_from_slice(&id.to_be_bytes());
        client.write(&frame).expect("the broker reads");
        let answer = client.read_frame().expect("an answer");
        assert_eq!(answer[..4], id.to_be_bytes());
    }
}

#[test]
fn what_is_in_flight_is_answered_when_the_client_has_said_its_last_word() {
    let broker = Broker::start();
    let mut other = broker.client();
    let topic = other.topic("t", 1, &[]);
    let mut client = broker.client();
    client.send(12, &long_poll(&topic));
    let describe = DescribeGroupsRequest::default();
    client.send(5, &describe);
    client.finish();
    other.append(&topic, 0, Batch::of(&["x"]).bytes());
    assert!(only_partition(&client.receive::<FetchRequest>()).records.is_some());
    client.receive::<DescribeGroupsRequest>();
    client.assert_closed("both sides are done");
}
