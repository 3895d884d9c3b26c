//! `ottla doctor` on a broker of our own.

use std::net::TcpListener;

use crate::broker::{Broker, run, text};

#[test]
fn a_healthy_broker_behaves_as_kafka_does() {
    let root = tempfile::tempdir().unwrap();
    let broker = Broker::start(root.path());
    let address = broker.address().to_string();
    let looked = run(&["doctor", &address]);
    let said = text(&looked.stdout);
    assert!(said.contains(&address) && said.contains("ApiVersions") && said.contains("metadata.version"), "{said}");
    let written = run(&["doctor", "--write", &address]);
    let said = text(&written.stdout);
    for line in said.lines().skip_while(|line| *line != "Behaviours").skip(1).take_while(|line| !line.is_empty()) {
        assert!(line.starts_with("  ok "), "{line}");
    }
    for probe in ["Produce and Fetch, Zstd", "Idempotent producer", "DeleteTopics"] {
        assert!(said.contains(probe), "{said}");
    }
    let missing = said.contains("missing\n") || said.contains("differs\n");
    assert_eq!(written.status.code(), Some(i32::from(missing)), "the exit code says what the table says");
}

#[test]
fn what_is_no_broker_is_said() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = run(&["doctor", &nobody]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(run(&["doctor", "nonsense"]).status.code(), Some(2));
}
