//! A broker that is killed while a replica moves between its data directories.

use std::path::PathBuf;

use crate::asks::code;
use crate::batch::{Batch, base_offset, batches};
use crate::broker::{Broker, run, text};
use crate::replicas::{arrival, move_to, replicas};

const BATCHES: i64 = 12;

#[test]
fn a_move_survives_kills() {
    let root = tempfile::tempdir().expect("a directory");
    let paths = ["a", "b"].map(|name| root.path().join(name).display().to_string());
    let both = PathBuf::from(paths.join(","));
    let slow = "replica.alter.log.dirs.io.max.bytes.per.second=1";
    let broker = Broker::with(&both, &[slow]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    for _ in 0..BATCHES {
        client.append(&topic, 0, Batch::sized(500_000).bytes());
    }
    let from = replicas(&mut client, &topic, 0)[0].path.clone();
    let to = paths.iter().find(|path| **path != from).expect("another").clone();
    assert_eq!(move_to(&mut client, &topic, 0, &to), code::NONE);
    while replicas(&mut client, &topic, 0)[1].size == 0 {}
    broker.kill();
    // It goes on by itself, and is killed again somewhere near the end.
    let broker = Broker::with(&both, &[]);
    let mut client = broker.client();
    let end = client.append(&topic, 0, Batch::of(&["last"]).bytes()) + 1;
    broker.kill();
    let broker = Broker::with(&both, &[]);
    let mut client = broker.client();
    arrival(&mut client, &topic, 0, &to);
    let mut at = 0;
    while at < end {
        let answer = client.fetch(&topic, 0, at);
        assert_eq!((answer.error_code, answer.high_watermark), (code::NONE, end));
        for batch in batches(&answer.records.unwrap_or_default()) {
            assert_eq!(base_offset(&batch), at);
            at += 1;
        }
    }
    drop(client);
    broker.stop();
    for path in &paths {
        let verified = run(&["verify", path]);
        assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    }
}
