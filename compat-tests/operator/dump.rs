//! `ottla dump` prints what was written, for people and for programs.

use crate::batch::Batch;
use crate::broker::{Broker, run, text};
use crate::groups::commit;

#[test]
fn batches_records_offsets_and_metadata() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    let broker = Broker::start(root.path());
    let mut client = broker.client();
    client.coordinator("group");
    let topic = client.topic("t", 2, &[("retention.ms", "777")]);
    client.append(&topic, 1, Batch::of(&["first", "second"]).bytes());
    client.append(&topic, 1, Batch { attributes: 4, ..Batch::of(&["third"]) }.bytes());
    commit(&mut client, "group", &topic, 0);
    broker.stop();
    let dump = |more: &[&str]| {
        let output = run(&[&["dump", path], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let batches = dump(&["--topic", "t", "--partition", "1"]);
    assert!(batches.starts_with("Dumping t-1 (topic id "), "{batches}");
    assert!(batches.contains("baseOffset: 0 lastOffset: 1 count: 2 baseSequence: -1"), "{batches}");
    assert!(batches.contains("compresscodec: zstd") && !batches.contains("isvalid: false"), "{batches}");
    let records = dump(&["--topic", "t", "--records", "--offsets", "1..2"]);
    assert!(records.contains("| offset: 1 ") && records.contains("key: null payload: second"), "{records}");
    assert!(!records.contains("payload: first") && !records.contains("third"), "{records}");
    let groups = dump(&["--topic", "__consumer_offsets", "--records"]);
    assert!(groups.contains("Offset(OffsetKey { group: \"group\", topic: \"t\", partition: 0 }"), "{groups}");
    let metadata = dump(&["--metadata"]);
    assert!(metadata.contains("Topic { id: ") && metadata.contains("value: Some(\"777\")"), "{metadata}");
    for arguments in [&["--json", "--records"][..], &["--json", "--metadata"]] {
        for line in dump(arguments).lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(object.get("kind").is_some(), "{line}");
        }
    }
    assert_eq!(run(&["dump", path, "--offsets", "x"]).status.code(), Some(2));
}
