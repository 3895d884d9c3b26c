//! Clients above a quota: answered at once, told to wait, and not read for as long. Nobody else is disturbed.
//!
//! What a quota measures covers eleven seconds, so one request can be far above it, and a quota that nobody reaches in
//! a test is one of gigabytes.

use std::io::ErrorKind;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{CreatePartitionsRequest, DeleteTopicsRequest, FetchRequest, MetadataRequest};

use crate::asks::{self, FETCH, PRODUCE, Topic, code, metadata, topic_name};
use crate::batch::Batch;
use crate::broker::Broker;
use crate::client::Client;
use crate::versions::{alter_quotas, hello};

const THROTTLING_QUOTA_EXCEEDED: i16 = 89;

/// Bytes a second, and a batch that would need more than a minute of it.
const RATE: f64 = 1000.0;
const LARGE: usize = 80_000;

fn produce_large(client: &mut Client, topic: &Topic, acks: i16) -> i32 {
    let batch = Batch::sized(LARGE).bytes();
    let response = client.call(PRODUCE, &asks::produce(PRODUCE, topic, acks, &[(0, Some(batch))]));
    assert_eq!(response.responses[0].partition_responses[0].error_code, code::NONE);
    response.throttle_time_ms
}

/// Asks for something and checks that the answer does not come while another client is served.
fn assert_muted(muted: &mut Client, other: &mut Client, why: &str) {
    muted.send(12, &metadata(12, &[]));
    for _ in 0..20 {
        other.call(12, &metadata(12, &[]));
    }
    let mut byte = [0];
    muted.stream().set_nonblocking(true).expect("a socket");
    let peeked = muted.stream().peek(&mut byte);
    assert!(peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{why}: it was read");
}

#[test]
fn a_producer_above_its_rate_waits_and_others_do_not() {
    let broker = Broker::start();
    let (mut admin, mut other) = (broker.client(), broker.client());
    let topic = admin.topic("t", 1, &[]);
    alter_quotas(&mut admin, &[("client-id", Some("fast"))], &[("producer_byte_rate", Some(RATE))]);
    let mut fast = broker.client().called(Some("fast"));
    assert_eq!(fast.call(12, &metadata(12, &["t"])).throttle_time_ms, 0, "only producing counts");
    // 8 times the rate over 10 s: 7 × 10 s, and a little for what is around the records.
    let wait_ms = produce_large(&mut fast, &topic, -1);
    assert!((70_000..75_000).contains(&wait_ms), "{wait_ms}");
    assert_muted(&mut fast, &mut other, "the answer was given, now it waits");
    assert_eq!(produce_large(&mut other, &topic, -1), 0);
    let mut again = broker.client().called(Some("fast"));
    assert!(produce_large(&mut again, &topic, 1) > wait_ms, "its connections share the rate");
    let mut silent = broker.client().called(Some("fast"));
    let batch = Batch::of(&["x"]).bytes();
    let frame = silent.frame(PRODUCE, &asks::produce(PRODUCE, &topic, 0, &[(0, Some(batch))]));
    silent.write(&frame).expect("the broker reads");
    while other.offset_at(&topic, 0, -1).1 < 4 {}
    assert_muted(&mut silent, &mut other, "who expects no answer waits all the same");
}

#[test]
fn a_short_wait_ends() {
    let broker = Broker::start();
    let mut admin = broker.client();
    let topic = admin.topic("t", 1, &[]);
    // 1 % above the rate over ten seconds.
    let rate = (LARGE as f64 / 10.1).floor();
    alter_quotas(&mut admin, &[("user", None)], &[("producer_byte_rate", Some(rate))]);
    let wait_ms = produce_large(&mut admin, &topic, -1);
    assert!((1..1000).contains(&wait_ms), "{wait_ms}");
    assert_eq!(admin.call(12, &metadata(12, &["t"])).topics[0].error_code, code::NONE);
    alter_quotas(&mut admin, &[("user", None)], &[("producer_byte_rate", None)]);
    assert_eq!(produce_large(&mut admin, &topic, -1), 0, "a quota that is gone holds nobody");
}

#[test]
fn a_consumer_above_its_rate_gets_nothing_and_waits() {
    let broker = Broker::start();
    let mut admin = broker.client();
    let topic = admin.topic("t", 1, &[]);
    for _ in 0..30 {
        admin.append(&topic, 0, Batch::sized(900).bytes());
    }
    alter_quotas(&mut admin, &[("user", Some("ANONYMOUS"))], &[("consumer_byte_rate", Some(RATE))]);
    let mut consumer = broker.client();
    let request = asks::fetch(FETCH, &topic, &[(0, 0)]).with_session_id(0).with_session_epoch(0);
    let first = consumer.call(FETCH, &request);
    let records = first.responses[0].partitions[0].records.as_ref().map_or(0, bytes::Bytes::len);
    assert!((5_000..=10_000).contains(&records), "as much as ten seconds allow: {records}");
    assert_eq!((first.error_code, first.throttle_time_ms), (code::NONE, 0));
    let next = FetchRequest::default().with_session_id(first.session_id).with_session_epoch(1);
    let throttled = consumer.call(FETCH, &next);
    assert!(throttled.throttle_time_ms > 0, "{throttled:?}");
    assert_eq!(
        (throttled.error_code, throttled.session_id, throttled.responses.len()),
        (code::NONE, first.session_id, 0)
    );
    assert_muted(&mut consumer, &mut admin, "a consumer");
    let mut fresh = broker.client();
    let refused = fresh.call(FETCH, &request);
    assert!(refused.throttle_time_ms > 0 && refused.responses.is_empty());
    assert_eq!(refused.session_id, 0, "a session that nothing was told of ends");
    assert_eq!(broker.services().fetch_sessions.counts().0, 1);
    let sent = broker.services().partitions.all()[0].meters.bytes_out.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(sent, records as u64, "what was not sent is not counted");
}

#[test]
fn requests_that_take_more_time_than_they_may_are_told_in_every_answer() {
    let broker = Broker::start();
    let mut admin = broker.client();
    let topic = admin.topic("t", 1, &[]);
    alter_quotas(&mut admin, &[("client-id", Some("busy"))], &[("request_percentage", Some(1e-9))]);
    let client = || broker.client().called(Some("busy"));
    let batch = Batch::of(&["x"]).bytes();
    let waits_ms = [
        client().call(3, &hello(3)).throttle_time_ms,
        client().call(12, &metadata(12, &["t"])).throttle_time_ms,
        client().call(10, &asks::list_offsets(&topic, 0, -1)).throttle_time_ms,
        client().call(PRODUCE, &asks::produce(PRODUCE, &topic, -1, &[(0, Some(batch))])).throttle_time_ms,
        client().call(FETCH, &asks::fetch(FETCH, &topic, &[(0, 0)])).throttle_time_ms,
    ];
    assert_eq!(waits_ms, [1000; 5], "as far above as they are, never more than a window");
    let empty = client().call(FETCH, &asks::fetch(FETCH, &topic, &[(0, 0)]));
    assert!(empty.responses.is_empty());
    let old = client().call(1, &asks::list_offsets(&topic, 0, -1));
    assert_eq!(old.topics[0].partitions[0].error_code, code::NONE, "a version without the field is answered as ever");
    let mut muted = client();
    muted.call(12, &metadata(12, &[]));
    muted.send(12, &metadata(12, &[]));
    assert_eq!(muted.receive::<MetadataRequest>().throttle_time_ms, 1000, "it goes on after its wait");
    assert_eq!(admin.call(10, &asks::list_offsets(&topic, 0, -1)).throttle_time_ms, 0);
    assert_eq!(admin.call(3, &hello(3)).throttle_time_ms, 0);
}

#[test]
fn mutations_above_their_rate_are_refused_or_delayed() {
    let broker = Broker::start();
    let mut admin = broker.client().called(Some("admin"));
    admin.topic("before", 1, &[]);
    // Eleven seconds of it are not quite two partitions.
    alter_quotas(&mut admin, &[("user", None), ("client-id", None)], &[("controller_mutation_rate", Some(0.15))]);
    let client = || broker.client().called(Some("admin"));
    let burst = admin.call(7, &asks::create_topic("burst", 4, &[]));
    assert_eq!((burst.topics[0].error_code, burst.throttle_time_ms), (code::NONE, 0), "what passes the bound is taken");
    let refused = client().call(7, &asks::create_topic("refused", 1, &[]));
    assert_eq!(
        (refused.topics[0].error_code, refused.topics[0].error_message.as_ref()),
        (THROTTLING_QUOTA_EXCEEDED, None)
    );
    assert!(refused.throttle_time_ms > 1000, "{refused:?}");
    let states = vec![DeleteTopicState::default().with_name(Some(topic_name("burst")))];
    let delete = DeleteTopicsRequest::default().with_topics(states).with_timeout_ms(30_000);
    let refused = client().call(6, &delete);
    assert_eq!(refused.responses[0].error_code, THROTTLING_QUOTA_EXCEEDED);
    assert!(refused.throttle_time_ms > 0);
    let growth = CreatePartitionsTopic::default().with_name(topic_name("before")).with_count(2).with_assignments(None);
    let grow = CreatePartitionsRequest::default().with_topics(vec![growth]).with_timeout_ms(30_000);
    let refused = client().call(3, &grow);
    assert_eq!(refused.results[0].error_code, THROTTLING_QUOTA_EXCEEDED);
    assert!(refused.throttle_time_ms > 0);
    let invalid = client().call(7, &asks::create_topic("a b", 1, &[]));
    assert_eq!(invalid.topics[0].error_code, code::INVALID_TOPIC, "what is refused anyway is refused for that");
    let mut old = client();
    let delayed = old.call(2, &grow);
    assert_eq!(delayed.results[0].error_code, code::NONE, "older versions cannot be refused");
    assert!(delayed.throttle_time_ms > 1000, "{delayed:?}");
    let mut other = broker.client();
    assert_muted(&mut old, &mut other, "an old client");
    other.topic("of-another-account", 1, &[]);
}

#[test]
fn an_address_that_connects_too_fast_is_turned_away() {
    let broker = Broker::start();
    let mut admin = broker.client();
    alter_quotas(&mut admin, &[("ip", Some("localhost"))], &[("connection_creation_rate", Some(1e9))]);
    alter_quotas(&mut admin, &[("ip", Some("127.0.0.1"))], &[("connection_creation_rate", Some(1.0))]);
    let turned_away = (0..1000).find(|_| {
        let mut client = broker.client();
        let frame = client.frame(12, &metadata(12, &[]));
        // It may be closed before the request is written.
        let _ = client.write(&frame);
        client.read_frame().is_none()
    });
    assert!(turned_away.is_some_and(|served| served >= 10), "{turned_away:?}");
    admin.call(12, &metadata(12, &[]));
    alter_quotas(&mut admin, &[("ip", Some("127.0.0.1"))], &[("connection_creation_rate", None)]);
}
