//! What a connection does with requests that are new, old, wrong or strange.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use ottla::api::table;
use ottla::wire::generate::Generator;
use ottla::wire::schema;

use crate::asks::{self, code, metadata, text};
use crate::batch::Batch;
use crate::broker::Broker;
use crate::client::framed;
use crate::versions::hello;

/// Keys that existed once, that other listeners serve, that are not built, or that never were.
const UNKNOWN_KEYS: [i16; 9] = [4, 5, 6, 7, 52, 62, 1000, -1, i16::MIN];

#[test]
fn an_unknown_version_of_api_versions_is_told_the_known_ones() {
    let broker = Broker::start();
    let mut client = broker.client();
    for version in [5, 6, 99, i16::MAX, -1, i16::MIN] {
        // The header of a version nobody knows ends with the client id for us; the body is not looked at.
        let frame = client.frame_of(table::API_VERSIONS, version, 2, b"\xff\xff\xff\xff not a body");
        client.write(&frame).expect("the broker reads");
        let mut answer = client.read_frame().expect("an answer");
        answer.advance(4);
        // Version 0: error 35 and one key, 18 from 0 to 4; no throttle time, no tags.
        assert_eq!(&answer[..], &[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4], "v{version}");
    }
    assert_eq!(client.call(3, &hello(3)).error_code, code::NONE, "the client comes down on the same connection");
}

#[test]
fn the_header_of_an_api_versions_answer_never_has_tags() {
    let broker = Broker::start();
    let mut client = broker.client();
    for version in 0..=4 {
        let frame = client.frame(version, &hello(version));
        client.write(&frame).expect("the broker reads");
        let mut answer = client.read_frame().expect("an answer");
        answer.advance(4);
        assert_eq!(answer.get_i16(), code::NONE, "v{version}: the error follows the correlation id");
        let keys = if version >= 3 { i32::from(answer.get_u8()) - 1 } else { answer.get_i32() };
        assert_eq!(keys, table::served(false).count() as i32);
    }
}

#[test]
fn clients_name_themselves_in_letters_digits_dashes_and_dots() {
    let broker = Broker::start();
    let mut client = broker.client();
    let ask = |name: &str, version: &str| {
        ApiVersionsRequest::default().with_client_software_name(text(name)).with_client_software_version(text(version))
    };
    for version in [3, 4] {
        for (name, release) in [("apache-kafka-java", "4.3.1"), ("a", "1"), ("franz-go", "v1.18.0-rc.1")] {
            assert_eq!(client.call(version, &ask(name, release)).error_code, code::NONE, "{name} {release}");
        }
        let bad = [("", "1"), ("a", ""), ("-a", "1"), ("a-", "1"), ("a b", "1"), ("a", "1_0"), ("é", "1")];
        for (name, release) in bad {
            let refused = client.call(version, &ask(name, release));
            let seen = (refused.error_code, refused.api_keys.len());
            assert_eq!(seen, (code::INVALID_REQUEST, 0), "{name:?} {release:?}");
        }
    }
}

#[test]
fn unknown_keys_close_the_connection() {
    let broker = Broker::start();
    for key in UNKNOWN_KEYS {
        let mut client = broker.client();
        let frame = client.frame_of(key, 0, 1, &[0; 32]);
        client.write(&frame).expect("the broker reads");
        client.assert_closed(&format!("key {key}"));
    }
}

#[test]
fn a_body_that_ends_early_closes_the_connection_in_every_version() {
    let broker = Broker::start();
    for api in table::APIS {
        for version in api.versions.clone() {
            let shape = schema::request(api.key, version).expect("a shape");
            let mut generator = Generator::new(version as u64);
            let body = generator.body(shape);
            // ListGroups v0-2 and ApiVersions v0-2 have no body to cut; their header is cut instead.
            let mut client = broker.client();
            let whole = client.frame_of(api.key, version, shape.header_version, &body);
            client.write(&framed(&whole[4..whole.len() - 1])).expect("the broker reads");
            client.assert_closed(&format!("{} v{version}", api.name));
        }
    }
}

#[test]
fn headers_that_lie_close_the_connection() {
    let broker = Broker::start();
    let lies: [&[u8]; 6] = [
        b"",
        &[0, 3],
        &[0, 3, 0, 0, 0, 0, 0, 1],
        &[0, 3, 0, 0, 0, 0, 0, 1, 0x7f, 0xff],
        &[0, 3, 0, 9, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0, 3, 0, 9, 0, 0, 0, 1, 0, 0, 1, 5, 0x7f],
    ];
    for lie in lies {
        let mut client = broker.client();
        client.write(&framed(lie)).expect("the broker reads");
        client.assert_closed(&format!("{lie:?}"));
    }
}

#[test]
fn what_was_asked_before_a_mistake_is_still_answered() {
    let broker = Broker::start();
    let mut client = broker.client();
    let good = client.enqueue(9, &metadata(9, &["nowhere"]));
    let bad = client.frame_of(3, 99, 2, &[]);
    client.write(&[good, bad].concat()).expect("the broker reads");
    assert_eq!(client.receive::<MetadataRequest>().topics[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    client.assert_closed("a version of Metadata that does not exist");
}

#[test]
fn bytes_behind_the_body_and_unknown_tags_are_passed_over() {
    let broker = Broker::start();
    let mut client = broker.client();
    let name = "x".to_owned();
    for version in [4, 8, 9, 13] {
        let frame = client.enqueue(version, &metadata(version, &[&name]));
        client.write(&framed(&[&frame[4..], b"left over"].concat())).expect("the broker reads");
        client.receive::<MetadataRequest>();
    }
    let mut tagged = metadata(9, &[&name]);
    tagged.unknown_tagged_fields.insert(1000, Bytes::from_static(b"from the future"));
    assert_eq!(client.call(9, &tagged).error_code, code::NONE);
}

#[test]
fn a_client_may_have_no_name() {
    let broker = Broker::start();
    for name in [None, Some(""), Some("é")] {
        let mut client = broker.client().called(name);
        for version in [0, 4, 9, 13] {
            assert_eq!(client.call(version, &metadata(version, &[])).brokers.len(), 1, "{name:?} v{version}");
        }
    }
}

#[test]
fn acks_0_is_never_answered() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    for version in 3..=13 {
        let batch = Batch::of(&["silent"]).bytes();
        let frame = client.frame(version, &asks::produce(version, &topic, 0, &[(0, Some(batch))]));
        client.write(&frame).expect("the broker reads");
        // The next answer is that of the next request, which also sees what was written before it.
        assert_eq!(client.offset_at(&topic, 0, -3).0, code::NONE, "v{version}");
    }
    let last = client.append(&topic, 0, Batch::of(&["loud"]).bytes());
    assert_eq!(last, 11, "each was stored once");
}

#[test]
fn an_error_with_acks_0_closes_the_connection() {
    let broker = Broker::start();
    let topic = broker.client().topic("t", 1, &[]);
    let mut spoiled = Batch::of(&["x"]).bytes().to_vec();
    spoiled[65] ^= 1;
    for version in 3..=13 {
        let mut client = broker.client();
        let earlier = client.enqueue(9, &metadata(9, &[]));
        let wrong = [(9, Some(Batch::of(&["x"]).bytes())), (0, Some(spoiled.clone().into())), (0, None)];
        let wrong = wrong[usize::from(version as u16) % 3].clone();
        let produce = client.frame(version, &asks::produce(version, &topic, 0, &[wrong]));
        client.write(&[earlier, produce].concat()).expect("the broker reads");
        client.receive::<MetadataRequest>();
        client.assert_closed(&format!("Produce v{version}"));
    }
    assert_eq!(broker.client().offset_at(&topic, 0, -1).1, 0, "nothing was written");
}
