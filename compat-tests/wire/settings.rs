//! Settings that change while the broker runs, and what they change: sizes that are accepted, codecs of what is stored.

use ottla::records::{BatchHeader, Codec, records};

use crate::asks::{PRODUCE, Topic, code, produce};
use crate::batch::{Batch, batches, crc_is_right};
use crate::broker::Broker;
use crate::client::Client;
use crate::versions::alter;
use kafka_protocol::messages::ProduceRequest;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;

fn change(client: &mut Client, resource: (i8, &str), key: &str, value: Option<&str>) {
    let operation = if value.is_some() { SET } else { DELETE };
    assert_eq!(alter(client, 1, resource, &[(key, operation, value)], false), code::NONE, "{key}");
}

#[test]
fn sizes_change_for_all_topics_and_for_one() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let accepted = |client: &mut Client| client.produce(&topic, 0, Batch::sized(1000).bytes()).error_code == code::NONE;
    assert!(accepted(&mut client));
    let node = broker.node().to_string();
    for name in ["", &*node] {
        // The change is in the metadata when it is answered; partitions follow a moment later.
        change(&mut client, (BROKER, name), "message.max.bytes", Some("500"));
        while accepted(&mut client) {}
        change(&mut client, (TOPIC, "t"), "max.message.bytes", Some("5000"));
        while !accepted(&mut client) {}
        change(&mut client, (TOPIC, "t"), "max.message.bytes", None);
        while accepted(&mut client) {}
        change(&mut client, (BROKER, name), "message.max.bytes", None);
        while !accepted(&mut client) {}
    }
}

/// A broker judges what is about itself before it forwards anything, so a controller takes the settings of any broker
/// that is registered.
#[test]
fn a_broker_speaks_for_itself_and_a_controller_for_all() {
    const BROKER_ID_NOT_REGISTERED: i16 = 102;
    let broker = Broker::as_controller();
    let node = broker.node().to_string();
    let change = [("log.retention.ms", SET, Some("86400000"))];
    let mut client = broker.client();
    assert_eq!(alter(&mut client, 1, (BROKER, "77"), &change, true), code::INVALID_REQUEST);
    let mut client = broker.controller_client();
    assert_eq!(alter(&mut client, 1, (BROKER, "77"), &change, true), BROKER_ID_NOT_REGISTERED);
    assert_eq!(alter(&mut client, 1, (BROKER, "x"), &change, true), code::INVALID_REQUEST);
    assert_eq!(alter(&mut client, 1, (BROKER, &*node), &change, true), code::NONE);
    let cordon = [("cordoned.log.dirs", SET, Some("/d"))];
    assert_eq!(alter(&mut client, 1, (BROKER, &*node), &cordon, true), code::INVALID_CONFIG);
    // What no broker would have taken does not keep it from what it takes.
    let fixed = [("num.partitions", SET, Some("9"))];
    assert_eq!(alter(&mut client, 1, (BROKER, &*node), &fixed, false), code::NONE);
    let mut client = broker.client();
    assert_eq!(alter(&mut client, 1, (BROKER, &*node), &fixed, true), code::INVALID_REQUEST);
    assert_eq!(alter(&mut client, 1, (BROKER, &*node), &change, true), code::NONE);
}

/// What is stored at an offset.
fn stored(client: &mut Client, topic: &Topic, offset: i64) -> bytes::Bytes {
    let found = client.fetch(topic, 0, offset);
    batches(found.records.as_ref().expect("records")).remove(0)
}

#[test]
fn what_is_stored_has_the_codec_of_its_topic() {
    let broker = Broker::start();
    let mut client = broker.client();
    for (codec, word, levels) in [
        (Codec::Gzip, "gzip", &["1", "9"][..]),
        (Codec::Lz4, "lz4", &["1", "17"]),
        (Codec::Zstd, "zstd", &["-5", "19"]),
        (Codec::Snappy, "snappy", &[]),
    ] {
        let topic = client.topic(word, 1, &[("compression.type", word)]);
        let sent = Batch::of(&["one one one one", "two two two two", "three"]).bytes();
        assert_eq!(client.append(&topic, 0, sent.clone()), 0);
        let first = stored(&mut client, &topic, 0);
        let header = BatchHeader::parse(&first).expect("a batch");
        assert_eq!((header.codec(), crc_is_right(&first)), (Ok(codec), true), "{word}");
        assert_eq!(records(&first), records(&sent), "{word}");
        // As it came, if it has the codec already.
        let again = crate::batch::as_sent(&first);
        assert_eq!(client.append(&topic, 0, again.clone()), 3);
        assert_eq!(crate::batch::as_sent(&stored(&mut client, &topic, 3)), again, "{word}");
        let mut end = 6;
        for level in levels {
            change(&mut client, (TOPIC, word), &format!("compression.{word}.level"), Some(level));
            assert_eq!(client.append(&topic, 0, sent.clone()), end);
            assert_eq!(records(&stored(&mut client, &topic, end)), records(&sent), "{word} at {level}");
            end += 3;
        }
    }
}

#[test]
fn large_batches_are_encoded_in_their_order() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[("compression.type", "zstd"), ("max.message.bytes", "2000000")]);
    // Large ones are encoded elsewhere; the small ones behind them must not pass them.
    for words in [200_000, 1, 100_000, 1, 1] {
        let batch = Batch::of(&[&"word ".repeat(words)]).bytes();
        client.send(PRODUCE, &produce(PRODUCE, &topic, -1, &[(0, Some(batch))]));
    }
    let offsets: Vec<i64> =
        (0..5).map(|_| client.receive::<ProduceRequest>().responses[0].partition_responses[0].base_offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
    assert!(stored(&mut client, &topic, 0).len() < 1_000_000);
}
