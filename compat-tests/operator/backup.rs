//! A backup of a broker under load, restored elsewhere: nothing acknowledged before it is missing, groups go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::asks::Topic;
use crate::batch::{Batch, base_offset, batches};
use crate::broker::{Broker, run, text};
use crate::client::Client;
use crate::groups::{commit, committed};

/// Appends until it is told to stop; gives the offsets that were acknowledged.
fn load(address: SocketAddr, topic: Topic, partition: i32, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<i64> {
    std::thread::spawn(move || {
        let mut client = Client::connect(address);
        let mut last = -1;
        while !stop.load(Ordering::Relaxed) {
            last = client.append(&topic, partition, Batch::sized(2000).bytes());
        }
        last
    })
}

fn read_all(client: &mut Client, topic: &Topic, partition: i32) -> i64 {
    let mut next = 0;
    loop {
        let records = client.fetch(topic, partition, next).records.unwrap_or_default();
        let found = batches(&records);
        if found.is_empty() {
            return next;
        }
        for batch in found {
            assert_eq!(base_offset(&batch), next, "one record per batch, without a gap");
            next += 1;
        }
    }
}

#[test]
fn a_backup_under_load_has_everything_acknowledged_before_it() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let broker = Broker::start(&root.path().join("data"));
    let mut client = broker.client();
    client.coordinator("group");
    let topic = client.topic("t", 2, &[("retention.ms", "123456789")]);
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..2).map(|p| load(broker.address(), topic.clone(), p, stop.clone())).collect();
    let mut before = Vec::new();
    for (round, option) in ["--", "--copy"].into_iter().enumerate() {
        commit(&mut client, "group", &topic, 40 + round as i64);
        let ends: Vec<i64> = (0..2).map(|partition| client.offset_at(&topic, partition, -1).1).collect();
        let mut arguments = vec!["backup", "--data-dir"];
        let (data, name) = (at("data"), at(&format!("backup-{round}")));
        arguments.push(&data);
        if option != "--" {
            arguments.push(option);
        }
        arguments.push(&name);
        let made = run(&arguments);
        assert!(made.status.success(), "{}", text(&made.stderr));
        before.push(ends);
    }
    stop.store(true, Ordering::Relaxed);
    let last: Vec<i64> = loads.into_iter().map(|load| load.join().unwrap()).collect();
    assert!(last.iter().all(|last| *last > 0));
    let again = run(&["backup", "--data-dir", &at("data"), &at("backup-0")]);
    assert!(!again.status.success() && text(&again.stderr).contains("is not empty"), "{}", text(&again.stderr));
    broker.kill();

    for (round, ends) in before.iter().enumerate() {
        let (backup, restored) = (at(&format!("backup-{round}")), at(&format!("restored-{round}")));
        let verified = run(&["verify", &backup]);
        assert_eq!(verified.status.code(), Some(0), "{}{}", text(&verified.stdout), text(&verified.stderr));
        let done = run(&["restore", &backup, &restored]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let refused = run(&["restore", &backup, &restored]);
        assert!(!refused.status.success() && text(&refused.stderr).contains("is not empty"));
        let broker = Broker::start(restored.as_ref());
        let mut client = broker.client();
        client.coordinator("group");
        assert_eq!(committed(&mut client, "group", &topic), 40 + round as i64);
        for (partition, end) in ends.iter().enumerate() {
            let read = read_all(&mut client, &topic, partition as i32);
            assert!(read >= *end, "partition {partition}: {read} of {end}");
            assert_eq!(client.append(&topic, partition as i32, Batch::of(&["on"]).bytes()), read, "it goes on");
        }
        broker.stop();
        assert_eq!(run(&["verify", &backup]).status.code(), Some(0), "the backup stays as it was");
    }
}

#[test]
fn nobody_to_ask_is_said() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    let asked = run(&["backup", "--data-dir", path, "/nonexistent/backup"]);
    assert_eq!(asked.status.code(), Some(2));
    assert!(text(&asked.stderr).contains("no broker answers at"), "{}", text(&asked.stderr));
}
