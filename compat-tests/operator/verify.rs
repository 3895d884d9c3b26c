//! `ottla verify` finds every changed byte, and nothing in what a broker leaves behind.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ottla::offline::{self, Report};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::asks;
use crate::batch::Batch;
use crate::broker::{Broker, run, text};
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
