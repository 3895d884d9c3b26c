//! Replicas that move between the data directories of a broker (KIP-113): they go on serving, and all moves along.

use ottla::ids::{BrokerId, KafkaUuid};
use ottla::server::SimulatedDisks;
use ottla::storage::engine::MemoryDisk;
use tempfile::TempDir;

use crate::asks::{self, Topic, code};
use crate::batch::{Batch, base_offset, batches};
use crate::broker::Broker;
use crate::client::Client;
use crate::replicas::{Replica, arrival, move_to, replicas};

/// Slow enough that no move of [`BATCHES`] ends.
const SLOW: (&str, &str) = ("replica.alter.log.dirs.io.max.bytes.per.second", "1");
const BATCHES: i64 = 20;
const BATCH_BYTES: usize = 500_000;

struct Directories {
    _root: TempDir,
    paths: Vec<String>,
}

impl Directories {
    fn new(count: usize) -> Directories {
        let root = tempfile::tempdir().expect("a directory");
        let paths = (0..count).map(|number| root.path().join(format!("d{number}")).display().to_string()).collect();
        Directories { _root: root, paths }
    }

    fn start(&self, settings: &[(&str, &str)]) -> Broker {
        Broker::over(&self.paths.join(","), settings)
    }

    fn others(&self, path: &str) -> Vec<String> {
        self.paths.iter().filter(|other| *other != path).cloned().collect()
    }
}

fn home(client: &mut Client, topic: &Topic) -> String {
    let found = replicas(client, topic, 0);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].path.clone()
}

/// The base offsets of everything that can be read.
fn offsets(client: &mut Client, topic: &Topic, from: i64) -> Vec<i64> {
    let (mut found, mut at) = (Vec::new(), from);
    loop {
        let answer = client.fetch(topic, 0, at);
        assert_eq!(answer.error_code, code::NONE);
        let read: Vec<i64> =
            batches(&answer.records.unwrap_or_default()).iter().map(|batch| base_offset(batch)).collect();
        match read.last() {
            Some(last) => at = last + 1,
            None if at >= answer.high_watermark => return found,
            None => {}
        }
        found.extend(read);
    }
}

fn fill(client: &mut Client, topic: &Topic) {
    for _ in 0..BATCHES {
        client.append(topic, 0, Batch::sized(BATCH_BYTES).bytes());
    }
}

#[test]
fn a_replica_moves_with_all_that_it_is() {
    let directories = Directories::new(2);
    let broker = directories.start(&[]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let from = home(&mut client, &topic);
    let to = directories.others(&from)[0].clone();
    fill(&mut client, &topic);
    let producer = client.producer_id();
    let sequence = |number: i32| Batch::of(&["x"]).from(producer, 0, number).bytes();
    for number in 0..5 {
        assert_eq!(client.append(&topic, 0, sequence(number)), BATCHES + i64::from(number));
    }
    let deleted = client.call(2, &asks::delete_records(&topic, 0, 3));
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 3);
    assert_eq!(move_to(&mut client, &topic, 0, &to), code::NONE);
    // Meanwhile it takes records, and gives them out.
    let mut number = 5;
    let has_moved = |found: Vec<Replica>| found.len() == 1 && found[0].path == to;
    while !has_moved(replicas(&mut client, &topic, 0)) || number < 20 {
        assert_eq!(client.append(&topic, 0, sequence(number)), BATCHES + i64::from(number));
        assert_eq!(client.fetch(&topic, 0, 3).error_code, code::NONE);
        number += 1;
    }
    arrival(&mut client, &topic, 0, &to);
    let end = BATCHES + i64::from(number);
    let check = |client: &mut Client| {
        assert_eq!(offsets(client, &topic, 3), (3..end).collect::<Vec<_>>());
        assert_eq!(client.fetch(&topic, 0, 2).error_code, code::OFFSET_OUT_OF_RANGE);
        assert_eq!(client.offset_at(&topic, 0, -2).1, 3);
        let repeated = client.produce(&topic, 0, sequence(number - 1));
        assert_eq!((repeated.error_code, repeated.base_offset), (code::NONE, end - 1), "a duplicate is known");
        assert_eq!(client.produce(&topic, 0, sequence(number + 3)).error_code, code::OUT_OF_ORDER_SEQUENCE);
    };
    check(&mut client);
    // The controller knows.
    let services = broker.services();
    let there = services.partitions.directories().find(|(_, path)| path.display().to_string() == to).expect("it is").0;
    loop {
        let image = services.metadata.image();
        let known = image.topics.by_name("t").and_then(|found| found.partition(0)).expect("it is there");
        if known.directory(BrokerId(broker.node())) == there {
            break;
        }
    }
    drop((client, broker));
    let broker = directories.start(&[]);
    let mut client = broker.client();
    assert_eq!(home(&mut client, &topic), to);
    check(&mut client);
    // And back: under another number than before.
    assert_eq!(move_to(&mut client, &topic, 0, &from), code::NONE);
    arrival(&mut client, &topic, 0, &from);
    check(&mut client);
}

#[test]
fn a_move_is_seen_replaced_given_up_and_goes_on_after_a_stop() {
    let directories = Directories::new(3);
    let broker = directories.start(&[SLOW]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let from = home(&mut client, &topic);
    let [one, other] = &directories.others(&from)[..] else { panic!("three directories") };
    fill(&mut client, &topic);
    let bytes = replicas(&mut client, &topic, 0)[0].size;
    let under_way = |client: &mut Client, to: &str| loop {
        let found = replicas(client, &topic, 0);
        assert_eq!((found.len(), &found[0].path, found[0].is_future), (2, &from, false), "{found:?}");
        assert_eq!((&*found[1].path, found[1].is_future), (to, true), "{found:?}");
        // A part of it comes at once; the rate counts afterwards.
        if found[1].size > 0 {
            assert!(found[1].lag > 0 && found[1].lag < BATCHES && found[1].size < bytes, "{found:?}");
            return;
        }
    };
    assert_eq!(move_to(&mut client, &topic, 0, one), code::NONE);
    under_way(&mut client, one);
    assert_eq!(move_to(&mut client, &topic, 0, one), code::NONE, "it is on its way there");
    under_way(&mut client, one);
    assert_eq!(move_to(&mut client, &topic, 0, &from), code::NONE);
    assert_eq!(home(&mut client, &topic), from, "given up");
    assert_eq!(move_to(&mut client, &topic, 0, one), code::NONE);
    assert_eq!(move_to(&mut client, &topic, 0, other), code::NONE);
    let found = replicas(&mut client, &topic, 0);
    assert_eq!((found.len(), &found[1].path), (2, other), "{found:?}");
    assert_eq!(offsets(&mut client, &topic, 0), (0..BATCHES).collect::<Vec<_>>());
    drop((client, broker));
    let broker = directories.start(&[]);
    let mut client = broker.client();
    arrival(&mut client, &topic, 0, other);
    assert_eq!(offsets(&mut client, &topic, 0), (0..BATCHES).collect::<Vec<_>>());
}

#[test]
fn what_cannot_move_says_why() {
    let directories = Directories::new(2);
    let broker = directories.start(&[("cordoned.log.dirs", &directories.paths[0])]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    assert_eq!(home(&mut client, &topic), directories.paths[1]);
    assert_eq!(move_to(&mut client, &topic, 0, "/nowhere"), 57);
    assert_eq!(move_to(&mut client, &topic, 0, &directories.paths[0]), 39, "cordoned");
    assert_eq!(move_to(&mut client, &topic, 1, &directories.paths[1]), code::UNKNOWN_TOPIC_OR_PARTITION);
    // What comes later is begun where it was asked for.
    let wished = Topic { name: "wished".to_owned(), ..Topic::unknown() };
    assert_eq!(move_to(&mut client, &wished, 0, &directories.paths[1]), code::UNKNOWN_TOPIC_OR_PARTITION);
    let wished = client.topic("wished", 1, &[]);
    assert_eq!(home(&mut client, &wished), directories.paths[1]);
}

#[test]
fn a_disk_that_fails_ends_the_moves_to_it() {
    let mut disks = SimulatedDisks::new(KafkaUuid(1), KafkaUuid(1000));
    let second = MemoryDisk::new();
    disks.more.push((KafkaUuid(1001), second.clone()));
    let broker = Broker::on(&disks, &[SLOW]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let filler = client.topic("filler", 1, &[]);
    assert_eq!(home(&mut client, &topic), "/memory-1");
    fill(&mut client, &topic);
    assert_eq!(move_to(&mut client, &topic, 0, "/memory-2"), code::NONE);
    while replicas(&mut client, &topic, 0)[1].size == 0 {}
    second.break_with("input/output error");
    while client.produce(&filler, 0, Batch::of(&["x"]).bytes()).error_code != code::KAFKA_STORAGE_ERROR {}
    assert_eq!(client.append(&topic, 0, Batch::of(&["x"]).bytes()), BATCHES);
    assert_eq!(move_to(&mut client, &topic, 0, "/memory-2"), code::KAFKA_STORAGE_ERROR);
    assert_eq!(move_to(&mut client, &filler, 0, "/memory-1"), code::KAFKA_STORAGE_ERROR, "it is offline");
    assert_eq!(move_to(&mut client, &topic, 0, "/memory-1"), code::NONE);
    assert_eq!(home(&mut client, &topic), "/memory-1");
}
