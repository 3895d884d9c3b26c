//! Where a log starts and ends, and who may ask for what: DeleteRecords, offsets out of range, leader epochs.

use crate::asks::{self, FETCH, code, only_partition};
use crate::batch::{Batch, base_offset, batches};
use crate::broker::{Broker, now_ms};

#[test]
fn the_log_start_moves_for_everybody() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    for _ in 0..3 {
        client.append(&topic, 0, Batch::of(&["a", "b", "c"]).bytes());
    }
    let deleted = client.call(2, &asks::delete_records(&topic, 0, 4));
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 4);
    assert_eq!(client.offset_at(&topic, 0, -2).1, 4);
    assert_eq!(client.offset_at(&topic, 0, 0).1, 4, "no record below it is found by its timestamp");
    for version in 4..=18 {
        for (offset, expected) in [(3, code::OFFSET_OUT_OF_RANGE), (4, code::NONE), (9, code::NONE), (10, 1)] {
            let response = client.call(version, &asks::fetch(version, &topic, &[(0, offset)]));
            let part = only_partition(&response);
            assert_eq!(part.error_code, expected, "v{version} offset {offset}");
            if expected == code::NONE && version >= 5 {
                assert_eq!((part.log_start_offset, part.high_watermark), (4, 9));
            }
        }
    }
    let first = batches(&client.fetch(&topic, 0, 4).records.expect("records"));
    assert_eq!(first.iter().map(|batch| base_offset(batch)).collect::<Vec<_>>(), [3, 6], "batches stay whole");
    let answer = client.produce(&topic, 0, Batch::of(&["d"]).bytes());
    assert_eq!((answer.base_offset, answer.log_start_offset), (9, 4));
    client.call(2, &asks::delete_records(&topic, 0, -1));
    assert_eq!((client.offset_at(&topic, 0, -2).1, client.offset_at(&topic, 0, -1).1), (10, 10));
    assert_eq!(client.offset_at(&topic, 0, -3), (code::NONE, -1, -1), "nothing is left");
    assert_eq!(client.append(&topic, 0, Batch::of(&["e"]).bytes()), 10, "offsets go on");
}

#[test]
fn compacted_and_internal_topics_keep_their_records() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.coordinator("group");
    let compacted = client.topic("compacted", 1, &[("cleanup.policy", "compact")]);
    let both = client.topic("both", 1, &[("cleanup.policy", "compact,delete")]);
    let internal = asks::Topic { name: "__consumer_offsets".to_owned(), ..compacted.clone() };
    for (topic, expected) in [(compacted, 44), (both, code::NONE), (internal, code::INVALID_TOPIC)] {
        let answer = client.call(2, &asks::delete_records(&topic, 0, 0)).topics[0].partitions[0].clone();
        assert_eq!(answer.error_code, expected, "{}", topic.name);
    }
}

#[test]
fn timestamps_find_the_first_record_that_is_not_older() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let start = now_ms() - 100_000;
    for codec in 0..5 {
        let batch = Batch { attributes: codec, ..Batch::at(start + 100 * i64::from(codec), &["a", "b", "c"]) };
        client.append(&topic, 0, batch.bytes());
    }
    for (asked, offset, timestamp) in [
        (0, 0, start),
        (start, 0, start),
        (start + 1, 1, start + 1),
        (start + 3, 3, start + 100),
        (start + 202, 8, start + 202),
        (start + 203, 9, start + 300),
        (start + 402, 14, start + 402),
        (start + 403, -1, -1),
    ] {
        assert_eq!(client.offset_at(&topic, 0, asked), (code::NONE, offset, timestamp), "{}", asked - start);
    }
    assert_eq!(client.offset_at(&topic, 0, -3), (code::NONE, 14, start + 402));
}

#[test]
fn a_fetch_inside_a_batch_gets_the_whole_batch() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    client.append(&topic, 0, Batch::of(&["a", "b", "c", "d"]).bytes());
    client.append(&topic, 0, Batch::of(&["e"]).bytes());
    for offset in 0..4 {
        let response = client.call(FETCH, &asks::fetch(FETCH, &topic, &[(0, offset)]));
        let found = batches(only_partition(&response).records.as_ref().expect("records"));
        assert_eq!(found.iter().map(|batch| base_offset(batch)).collect::<Vec<_>>(), [0, 4], "from {offset}");
    }
    assert!(client.fetch(&topic, 0, 5).records.is_none_or(|records| records.is_empty()));
}

#[test]
fn a_reader_with_a_wrong_leader_epoch_is_refused() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    client.append(&topic, 0, Batch::of(&["a"]).bytes());
    let epoch = client.describe("t").partitions[0].leader_epoch;
    let mut known = vec![(-1, code::NONE), (epoch, code::NONE), (epoch + 1, code::UNKNOWN_LEADER_EPOCH)];
    if epoch > 0 {
        known.push((epoch - 1, 74));
    }
    for (epoch, expected) in known {
        for version in 9..=18 {
            let mut request = asks::fetch(version, &topic, &[(0, 0)]);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            assert_eq!(only_partition(&client.call(version, &request)).error_code, expected, "v{version}");
        }
        for version in 4..=10 {
            let mut request = asks::list_offsets(&topic, 0, -1);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            let answer = client.call(version, &request).topics[0].partitions[0].error_code;
            assert_eq!(answer, expected, "v{version}");
        }
    }
}

#[test]
fn a_broker_that_is_no_replica_is_not_served() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    for version in 4..=18 {
        // It names the leader's epoch: it may have heard of its assignment before the leader.
        for (epoch, expected) in [(-1, code::NOT_LEADER_OR_FOLLOWER), (0, code::UNKNOWN_LEADER_EPOCH)] {
            if version < 9 && epoch >= 0 {
                continue;
            }
            let mut request = asks::fetch(version, &topic, &[(0, 0)]);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            if version >= 15 {
                request.replica_state.replica_id = 2.into();
            } else {
                request.replica_id = 2.into();
            }
            let response = client.call(version, &request);
            let partition = &response.responses[0].partitions[0];
            assert_eq!(partition.error_code, expected, "v{version}");
            // Whoever asks the wrong broker is told who leads (KIP-951).
            let named = version >= 16 && expected == code::NOT_LEADER_OR_FOLLOWER;
            let leader = if named { broker.node() } else { -1 };
            assert_eq!(partition.current_leader.leader_id.0, leader, "v{version}");
            assert_eq!(partition.current_leader.leader_epoch, if named { 0 } else { -1 }, "v{version}");
            let ports: Vec<i32> = response.node_endpoints.iter().map(|node| node.port).collect();
            let expected = if named { vec![i32::from(broker.address().port())] } else { vec![] };
            assert_eq!(ports, expected, "v{version}");
        }
    }
}
