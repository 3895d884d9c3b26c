//! Disks that fill up, fail and are damaged: what is refused, what goes on, and that it ends.

use std::fs;
use std::path::{Path, PathBuf};

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{DescribeLogDirsRequest, OffsetCommitRequest};
use ottla::ids::KafkaUuid;
use ottla::server::SimulatedDisks;
use ottla::storage::engine::MemoryDisk;
use ottla::storage::reserve::Space;
use tempfile::TempDir;

use crate::asks::{self, Topic, code, group_id};
use crate::batch::Batch;
use crate::broker::Broker;
use crate::client::Client;

const PARTITIONS: i32 = 6;
const RESERVE: &[(&str, &str)] = &[("ottla.disk.reserve.bytes", "1000000")];

fn disks() -> SimulatedDisks {
    SimulatedDisks::new(KafkaUuid(1), KafkaUuid(1000))
}

fn leave(disk: &MemoryDisk, usable_bytes: u64) {
    disk.set_space(Some(Space { total_bytes: 1 << 40, usable_bytes }));
}

fn produce(client: &mut Client, topic: &Topic, partition: i32) -> i16 {
    client.produce(topic, partition, Batch::of(&["x"]).bytes()).error_code
}

/// Produces until the answer is `code`, which some news of the disk brings.
fn produce_until(client: &mut Client, topic: &Topic, partition: i32, code: i16) {
    while produce(client, topic, partition) != code {}
}

fn commit(client: &mut Client, topic: &Topic, offset: i64) -> i16 {
    let partition =
        OffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_leader_epoch(-1);
    let of_topic = OffsetCommitRequestTopic::default().with_name(topic.wire()).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id("g"))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![of_topic]);
    client.call(8, &request).topics[0].partitions[0].error_code
}

/// The error of each directory, and the partitions of `topic` in it.
fn log_dirs(client: &mut Client, topic: &Topic) -> Vec<(i16, Vec<i32>)> {
    let answer = client.call(4, &DescribeLogDirsRequest::default().with_topics(None));
    let dirs = answer.results.iter().map(|dir| {
        let found = dir.topics.iter().filter(|found| found.name == topic.wire());
        let partitions = found.flat_map(|found| &found.partitions).map(|partition| partition.partition_index);
        (dir.error_code, partitions.collect())
    });
    dirs.collect()
}

#[test]
fn below_the_reserve_only_records_are_refused_and_it_ends_by_itself() {
    let disks = disks();
    let broker = Broker::on(&disks, RESERVE);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let end = 5 + client.append(&topic, 0, Batch::of(&["a", "b", "c", "d", "e"]).bytes());
    client.coordinator("g");
    let producer = client.producer_id();
    let sequence = |number: i32| Batch::of(&["i"]).from(producer, 0, number).bytes();
    client.append(&topic, 0, sequence(0));
    leave(&disks.records, 999_999);
    produce_until(&mut client, &topic, 0, code::KAFKA_STORAGE_ERROR);
    let high_watermark = client.fetch(&topic, 0, 0).high_watermark;
    assert!(high_watermark > end, "what is there is read");
    let repeated = client.produce(&topic, 0, sequence(0));
    assert_eq!((repeated.error_code, repeated.base_offset), (code::NONE, end), "a duplicate needs no room");
    for number in [1, 2] {
        // Not out of order: librdkafka would begin a new epoch, and repeat what it does not know the fate of.
        assert_eq!(client.produce(&topic, 0, sequence(number)).error_code, code::KAFKA_STORAGE_ERROR);
    }
    assert_eq!(commit(&mut client, &topic, 3), code::NONE);
    let deleted = client.call(2, &asks::delete_records(&topic, 0, 4));
    assert_eq!(deleted.topics[0].partitions[0].error_code, code::NONE);
    let other = client.topic("metadata-goes-on", 1, &[]);
    assert_eq!(produce(&mut client, &other, 0), code::KAFKA_STORAGE_ERROR);
    assert_eq!(client.fetch(&topic, 0, 4).high_watermark, high_watermark, "nothing refused was written");

    leave(&disks.records, 400_000);
    while commit(&mut client, &topic, 4) != code::COORDINATOR_NOT_AVAILABLE {}
    leave(&disks.records, 2_000_000);
    produce_until(&mut client, &topic, 0, code::NONE);
    assert_eq!(commit(&mut client, &topic, 4), code::NONE, "the group is where it was");
    assert_eq!(client.fetch(&topic, 0, 4).high_watermark, high_watermark + 1);
    assert_eq!(client.append(&topic, 0, sequence(1)), high_watermark + 1);
}

#[test]
fn a_write_that_finds_no_room_waits_for_it() {
    let disks = disks();
    // Without a reserve, so that producers get as far as the disk.
    let broker = Broker::on(&disks, &[("ottla.disk.reserve.bytes", "0")]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    assert_eq!(produce(&mut client, &topic, 0), code::NONE);
    leave(&disks.records, 0);
    let mut waiting = broker.client();
    waiting.send(asks::PRODUCE, &asks::produce(asks::PRODUCE, &topic, -1, &[(0, Some(Batch::of(&["w"]).bytes()))]));
    // Until the first write is on its way, others may be accepted behind it; each of them waits too.
    let partition = broker.services().partitions.all().into_iter().find(|hosted| **hosted.topic() == *topic.name);
    let partition = partition.expect("the partition is hosted");
    while partition.offsets().expect("it leads").log_end < 2
        || broker.services().partitions.full_directories().is_empty()
    {
        std::thread::yield_now();
    }
    assert_eq!(produce(&mut client, &topic, 0), code::KAFKA_STORAGE_ERROR);
    assert_eq!(client.fetch(&topic, 0, 0).high_watermark, 1, "what waits is not seen");
    leave(&disks.records, 1 << 30);
    let answer = waiting.receive::<kafka_protocol::messages::ProduceRequest>();
    let answer = &answer.responses[0].partition_responses[0];
    assert_eq!((answer.error_code, answer.base_offset), (code::NONE, 1));
    produce_until(&mut client, &topic, 0, code::NONE);
}

#[test]
fn a_disk_that_fails_takes_only_its_own_partitions_offline() {
    let mut disks = disks();
    let second = MemoryDisk::new();
    disks.more.push((KafkaUuid(1001), second.clone()));
    let broker = Broker::on(&disks, &[]);
    let mut client = broker.client();
    let topic = client.topic("t", PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        assert_eq!(produce(&mut client, &topic, partition), code::NONE);
    }
    let before = log_dirs(&mut client, &topic);
    let (kept, lost) = (before[0].1.clone(), before[1].1.clone());
    assert_eq!((kept.len(), lost.len()), (3, 3), "the emptier directory gets the next partition");

    second.break_with("input/output error");
    assert_eq!(produce(&mut client, &topic, lost[0]), code::KAFKA_STORAGE_ERROR);
    for &partition in &lost {
        while client.fetch(&topic, partition, 0).error_code != code::KAFKA_STORAGE_ERROR {}
        assert_eq!(produce(&mut client, &topic, partition), code::KAFKA_STORAGE_ERROR);
        assert_eq!(client.offset_at(&topic, partition, -1).0, code::KAFKA_STORAGE_ERROR);
    }
    for &partition in &kept {
        assert_eq!(client.fetch(&topic, partition, 0).error_code, code::NONE);
        assert_eq!(produce(&mut client, &topic, partition), code::NONE);
    }
    assert_eq!(log_dirs(&mut client, &topic), [(code::NONE, kept), (code::KAFKA_STORAGE_ERROR, Vec::new())]);
    assert_eq!(broker.services().partitions.offline_directories(), (1, 2));
    let later = client.topic("later", 4, &[]);
    for partition in 0..4 {
        assert_eq!(produce(&mut client, &later, partition), code::NONE, "new partitions go where they can live");
    }
}

#[test]
fn a_cordoned_directory_gets_no_new_partitions() {
    let root = tempfile::tempdir().expect("a directory");
    let [first, second] = ["a", "b"].map(|name| root.path().join(name).display().to_string());
    let broker = Broker::over(&format!("{first},{second}"), &[("cordoned.log.dirs", &first)]);
    let mut client = broker.client();
    let topic = client.topic("t", 3, &[]);
    assert_eq!(log_dirs(&mut client, &topic), [(code::NONE, vec![]), (code::NONE, vec![0, 1, 2])]);
}

/// Makes the records of a directory impossible to open; returns how to undo that.
fn damage(directory: &Path) -> impl FnOnce() {
    let (records, aside) = (directory.join("records"), directory.join("records.aside"));
    fs::rename(&records, &aside).expect("the broker is stopped");
    fs::write(&records, "no directory").expect("a file");
    move || {
        fs::remove_file(&records).expect("the file is there");
        fs::rename(&aside, &records).expect("the records are there");
    }
}

/// Two directories of a stopped broker, with a record in every partition of a topic.
struct Filled {
    root: TempDir,
    topic: Topic,
    /// What [`log_dirs`] told of the two.
    before: Vec<(i16, Vec<i32>)>,
}

impl Filled {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let broker = Broker::over(&log_dirs_below(&root), &[]);
        let mut client = broker.client();
        let topic = client.topic("t", PARTITIONS, &[]);
        for partition in 0..PARTITIONS {
            assert_eq!(produce(&mut client, &topic, partition), code::NONE);
        }
        let before = log_dirs(&mut client, &topic);
        drop((client, broker));
        Self { root, topic, before }
    }

    fn start(&self) -> Broker {
        Broker::over(&log_dirs_below(&self.root), &[])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn assert_whole(&self) {
        let broker = self.start();
        let mut client = broker.client();
        assert_eq!(log_dirs(&mut client, &self.topic), self.before);
        for partition in 0..PARTITIONS {
            assert_eq!(client.fetch(&self.topic, partition, 0).high_watermark, 1);
        }
    }
}

/// The value of `log.dirs`.
fn log_dirs_below(root: &TempDir) -> String {
    let [first, second] = ["a", "b"].map(|name| root.path().join(name).display().to_string());
    format!("{first},{second}")
}

#[test]
fn a_damaged_directory_does_not_stop_a_start_and_comes_back_whole() {
    let filled = Filled::new();
    for (index, damaged) in ["b", "a"].into_iter().enumerate() {
        let damaged = filled.path(damaged);
        let repair = damage(&damaged);
        let broker = filled.start();
        let mut client = broker.client();
        let (lost, kept) = (&filled.before[1 - index].1, &filled.before[index].1);
        for &partition in lost {
            assert_eq!(produce(&mut client, &filled.topic, partition), code::KAFKA_STORAGE_ERROR, "never begun anew");
            assert_eq!(client.fetch(&filled.topic, partition, 0).error_code, code::KAFKA_STORAGE_ERROR);
        }
        for &partition in kept {
            assert_eq!(client.fetch(&filled.topic, partition, 0).high_watermark, 1);
        }
        let dirs = log_dirs(&mut client, &filled.topic);
        assert_eq!(dirs[1 - index], (code::KAFKA_STORAGE_ERROR, Vec::new()));
        assert_eq!(dirs[index], filled.before[index]);
        let later = client.topic(&format!("later-{index}"), 2, &[]);
        assert_eq!(produce(&mut client, &later, 1), code::NONE);
        drop((client, broker));
        repair();
    }
    filled.assert_whole();
}

#[test]
fn the_only_copy_is_waited_for_if_its_disk_is_not_there() {
    let filled = Filled::new();
    // As if it were not mounted: the directory is there, and empty.
    let (second, aside) = (filled.path("b"), filled.path("aside"));
    fs::rename(&second, &aside).expect("the broker is stopped");
    let broker = filled.start();
    let mut client = broker.client();
    for &partition in &filled.before[1].1 {
        assert_eq!(produce(&mut client, &filled.topic, partition), code::KAFKA_STORAGE_ERROR, "never begun anew");
    }
    drop((client, broker));
    fs::remove_dir_all(&second).expect("the broker is stopped");
    fs::rename(&aside, &second).expect("the disk is there");
    filled.assert_whole();
}
