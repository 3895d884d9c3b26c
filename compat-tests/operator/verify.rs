//! `ottla verify` finds every changed byte, and nothing in what a broker leaves behind; nobody ever gets one to read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ottla::offline::{self, Report};
use ottla::records::BatchHeader;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::asks::{self, Topic};
use crate::batch::{Batch, Record, base_offset, batches};
use crate::broker::{Broker, now_ms, run, text};
use crate::client::Client;
use crate::groups;

/// Fills a broker with a bit of everything that is stored.
fn populate(broker: &Broker) {
    let mut client = broker.client();
    client.coordinator("group");
    let (first, second) = (client.topic("first", 3, &[]), client.topic("second", 1, &[("retention.ms", "1000000")]));
    let gone = client.topic("gone", 1, &[]);
    let producer = client.producer_id();
    for round in 0..12i16 {
        for partition in 0..3 {
            client.append(&first, partition, Batch { attributes: round % 5, ..Batch::of(&["a", "b"]) }.bytes());
        }
        client.append(&second, 0, Batch::sized(1000 * round as usize + 1).from(producer, 0, i32::from(round)).bytes());
        client.append(&gone, 0, Batch::sized(3000).bytes());
    }
    client.call(2, &asks::delete_records(&first, 1, 7));
    groups::commit(&mut client, "group", &first, 5);
}

/// Files in which a changed byte does nobody any harm: nothing ever reads them back (`docs/formats.md`).
fn is_live(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !(name.starts_with("LOG") || name.starts_with("OPTIONS-") || name == "IDENTITY")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).unwrap().len() > 0 && is_live(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A program that another test is just starting holds our locks until it is another program.
fn examine(directory: &Path) -> Report {
    loop {
        match offline::verify(&[directory.to_owned()]) {
            Err(why) if why.contains("in use") => std::thread::yield_now(),
            report => return report.unwrap(),
        }
    }
}

fn check(directory: &Path) {
    let found = examine(directory);
    assert!(!found.is_damaged(), "{:#?}", found.findings);
    assert!(found.counts.logs >= 6 && found.counts.batches > 60, "{:?}", found.counts);
    let flips = std::env::var("OTTLA_FLIPS").ok().and_then(|flips| flips.parse().ok()).unwrap_or(400);
    let mut random = StdRng::seed_from_u64(4);
    let files = files(directory);
    let mut missed = Vec::new();
    for _ in 0..flips {
        let path = &files[random.random_range(0..files.len())];
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let at = random.random_range(0..file.metadata().unwrap().len());
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        let changed = byte[0] ^ random.random_range(1..=255u8);
        file.write_all_at(&[changed], at).unwrap();
        if !examine(directory).is_damaged() {
            missed.push(format!("{} at {at}: {:#04x} became {changed:#04x}", path.display(), byte[0]));
        }
        file.write_all_at(&byte, at).unwrap();
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(!examine(directory).is_damaged(), "every byte was put back");
}

#[test]
fn any_changed_byte_of_a_stopped_broker_is_found() {
    let root = tempfile::tempdir().unwrap();
    let broker = Broker::start(root.path());
    populate(&broker);
    broker.stop();
    check(root.path());
}

#[test]
fn any_changed_byte_of_a_killed_broker_is_found() {
    let root = tempfile::tempdir().unwrap();
    let broker = Broker::start(root.path());
    populate(&broker);
    broker.stop();
    // Tables from the first life, logs and groups that are not flushed from the second.
    let broker = Broker::start(root.path());
    let mut client = broker.client();
    let topic = client.topic("third", 2, &[]);
    for size in [10, 600, 20_000] {
        client.append(&topic, 1, Batch::sized(size).bytes());
    }
    broker.kill();
    check(root.path());
}

/// A broker whose topics are compacted because its own settings say so; the directory does not know these.
#[test]
fn gaps_of_compaction_are_no_damage_whoever_asked_for_it() {
    const STEP_MS: i64 = 10_000;
    let settings = ["log.cleanup.policy=compact", "log.roll.ms=1000", "log.cleaner.backoff.ms=5"];
    let root = tempfile::tempdir().unwrap();
    let broker = Broker::with(root.path(), &[&settings[..], &["log.cleaner.min.cleanable.ratio=0"]].concat());
    let mut client = broker.client();
    let topic = client.topic("by-default", 1, &[]);
    let start = now_ms() - 1_000_000;
    for round in 0..20 {
        let record = Record { key: Some(b"k"), value: Some(vec![b'v'; 3000]), ..Record::default() };
        let batch = Batch { records: vec![record; 3], ..Batch::at(start + round * STEP_MS, &[]) };
        assert_eq!(client.append(&topic, 0, batch.bytes()), 3 * round);
    }
    // What is left once a pass has begun to write: less than was sent. It may or may not have ended when the kill
    // comes.
    while stored(&mut client, &topic, 0).len() == 20 {}
    broker.kill();
    let found = examine(root.path());
    assert!(!found.is_damaged(), "{:#?}", found.findings);
}

/// Every batch of a partition by its base offset, as consumers get it; what cannot be read is left out.
fn stored(client: &mut Client, topic: &Topic, partition: i32) -> BTreeMap<i64, Bytes> {
    let mut found = BTreeMap::new();
    // The start of the log; a partition that cannot tell it is not readable either.
    let (_, mut from, _) = client.offset_at(topic, partition, -2);
    loop {
        let answer = client.fetch(topic, partition, from);
        let batches = batches(&answer.records.unwrap_or_default());
        let Some(last) = batches.last() else { return found };
        let Ok(header) = BatchHeader::parse(last) else { panic!("{topic:?}-{partition}: no batch: {last:?}") };
        from = header.next_offset();
        found.extend(batches.into_iter().map(|batch| (base_offset(&batch), batch)));
    }
}

/// Whatever byte is changed while the broker is away, a consumer never gets other bytes than were stored: it gets
/// these, an error, or nothing, or the broker does not start.
#[test]
fn a_broker_on_changed_bytes_never_delivers_them() {
    let root = tempfile::tempdir().unwrap();
    let broker = Broker::start(root.path());
    populate(&broker);
    let mut client = broker.client();
    let asked = [("first", 3), ("second", 1), ("gone", 1)];
    let topics: Vec<(Topic, i32)> = asked
        .iter()
        .map(|(name, partitions)| {
            let topic = Topic { name: (*name).to_owned(), id: client.describe(name).topic_id };
            (topic, *partitions)
        })
        .collect();
    let sound: Vec<Vec<BTreeMap<i64, Bytes>>> = topics
        .iter()
        .map(|(topic, partitions)| (0..*partitions).map(|index| stored(&mut client, topic, index)).collect())
        .collect();
    assert!(sound.iter().flatten().map(BTreeMap::len).sum::<usize>() > 50);
    broker.kill();
    let flips = std::env::var("OTTLA_FLIPS").ok().and_then(|flips| flips.parse().ok()).unwrap_or(400) / 10;
    let mut random = StdRng::seed_from_u64(5);
    let files = files(root.path());
    let mut outcomes = BTreeMap::new();
    for flip in 0..flips {
        // Every file in turn: most bytes lie in one of them.
        let path = &files[flip % files.len()];
        let copy = tempfile::tempdir().unwrap();
        copy_folder(root.path(), copy.path());
        let changed = copy.path().join(path.strip_prefix(root.path()).unwrap());
        let mut bytes = fs::read(&changed).unwrap();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= random.random_range(1..=255u8);
        fs::write(&changed, bytes).unwrap();
        let outcome = match Broker::try_start(copy.path(), &[]) {
            None => "refused to start",
            Some(broker) => {
                let mut client = broker.client();
                let mut whole = true;
                for ((topic, partitions), sound) in topics.iter().zip(&sound) {
                    for index in 0..*partitions {
                        let sound = &sound[index as usize];
                        let found = stored(&mut client, topic, index);
                        let wrong = found.iter().find(|(base, batch)| sound.get(base) != Some(batch));
                        assert!(wrong.is_none(), "{} at {at}: {}-{index} {wrong:?}", path.display(), topic.name);
                        whole &= found.len() == sound.len();
                    }
                }
                broker.kill();
                if whole { "all was read" } else { "something was not read" }
            }
        };
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if entry.path().is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn the_program_says_what_it_found() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    let broker = Broker::start(root.path());
    populate(&broker);
    let refused = run(&["verify", path]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("is in use by a running broker"), "{}", text(&refused.stderr));
    broker.stop();
    let sound = run(&["verify", path]);
    assert_eq!((sound.status.code(), text(&sound.stdout).starts_with("sound: ")), (Some(0), true));
    let file = fs::OpenOptions::new().write(true).open(root.path().join("records/values/0000000001.values")).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(b"\xff\xfe", length / 2).unwrap();
    let damaged = run(&["verify", path, "--json"]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(text(&damaged.stdout).contains("0000000001.values"), "{}", text(&damaged.stdout));
    let missing = run(&["verify", "/nonexistent"]);
    assert_eq!(missing.status.code(), Some(2));
}
