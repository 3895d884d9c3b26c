//! Where replicas are, and moving them (DescribeLogDirs, AlterReplicaLogDirs): also for the operator tests.

use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, DescribeLogDirsRequest};

use crate::asks::{Topic, text};
use crate::client::Client;

/// A replica, or a copy in the making of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replica {
    pub path: String,
    pub size: i64,
    pub lag: i64,
    pub is_future: bool,
}

/// Every replica of one partition, the one in use first.
pub fn replicas(client: &mut Client, topic: &Topic, partition: i32) -> Vec<Replica> {
    let answer = client.call(4, &DescribeLogDirsRequest::default().with_topics(None));
    let mut found = Vec::new();
    for directory in answer.results {
        let path = directory.log_dir.to_string();
        let partitions = directory.topics.into_iter().filter(|found| found.name == topic.wire());
        let partitions = partitions.flat_map(|found| found.partitions).filter(|one| one.partition_index == partition);
        found.extend(partitions.map(|one| Replica {
            path: path.clone(),
            size: one.partition_size,
            lag: one.offset_lag,
            is_future: one.is_future_key,
        }));
    }
    found.sort_by_key(|replica| replica.is_future);
    found
}

/// Asks for a replica in the directory at `path`; returns the error.
pub fn move_to(client: &mut Client, topic: &Topic, partition: i32, path: &str) -> i16 {
    let asked = AlterReplicaLogDirTopic::default().with_name(topic.wire()).with_partitions(vec![partition]);
    let directory = AlterReplicaLogDir::default().with_path(text(path)).with_topics(vec![asked]);
    let answer = client.call(2, &AlterReplicaLogDirsRequest::default().with_dirs(vec![directory]));
    answer.results[0].partitions[0].error_code
}

/// Waits until the replica is in the directory at `path` and nowhere else.
pub fn arrival(client: &mut Client, topic: &Topic, partition: i32, path: &str) {
    loop {
        let found = replicas(client, topic, partition);
        // The directories are asked one after the other, so that the old one may be without it already while the new
        // one has not switched yet.
        if found.len() == 1 && found[0].path == path && !found[0].is_future {
            return;
        }
    }
}
