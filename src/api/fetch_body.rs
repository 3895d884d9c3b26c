//! The body of a Fetch answer, encoded by hand so that record batches are never copied: our own bytes, then slices of
//! theirs.
//!
//! Invariant: for every version the bytes equal what the protocol crate would encode; a test compares them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{BufMut, Bytes, BytesMut};

use super::fetch_session::FetchKey;
use super::redirects::Node;
use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::partitions::{Divergence, Partition};

/// From this version on an answer names the leaders of partitions that are led elsewhere (KIP-951).
pub const NAMES_LEADERS_SINCE: i16 = 16;

/// One partition's part.
pub struct FetchedPartition {
    pub key: FetchKey,
    pub error: ErrorCode,
    pub high_watermark: Offset,
    pub last_stable: Offset,
    pub log_start: Offset,
    /// Aborted transactions as (producer id, first offset); `None` unless read_committed.
    pub aborted: Option<Vec<(i64, Offset)>>,
    pub diverging: Option<Divergence>,
    /// Where a consumer should rather read (KIP-392).
    pub preferred: Option<BrokerId>,
    /// Who leads instead, and under which epoch (KIP-951).
    pub leader: Option<(BrokerId, LeaderEpoch)>,
    pub batches: Vec<Bytes>,
    /// Where the batches were read; `None` if they were not.
    pub source: Option<Arc<Partition>>,
}

impl FetchedPartition {
    /// The part of a partition that cannot be read.
    pub fn refused(key: FetchKey, error: ErrorCode) -> FetchedPartition {
        FetchedPartition {
            key,
            error,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            aborted: None,
            diverging: None,
            preferred: None,
            leader: None,
            batches: Vec::new(),
            source: None,
        }
    }

    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    /// Notes that its records are sent.
    pub fn count(&self) {
        if let Some(partition) = &self.source {
            partition.meters.bytes_out.fetch_add(self.bytes() as u64, Ordering::Relaxed);
        }
    }
}

/// A whole answer.
pub struct Fetched {
    pub throttle_time_ms: i32,
    pub error: ErrorCode,
    pub session_id: i32,
    /// Partitions in order; neighbours of the same topic are grouped.
    pub partitions: Vec<FetchedPartition>,
    /// The nodes of the leaders that partitions name.
    pub nodes: Vec<Node>,
}

struct Body {
    version: i16,
    done: Vec<Bytes>,
    current: BytesMut,
}

impl Fetched {
    /// Encodes the answer as consecutive slices.
    pub fn encode(self, version: i16) -> Vec<Bytes> {
        let mut body = Body { version, done: Vec::new(), current: BytesMut::with_capacity(256) };
        body.current.put_i32(self.throttle_time_ms);
        if version >= 7 {
            body.current.put_i16(self.error.code());
            body.current.put_i32(self.session_id);
        }
        let topics = group(self.partitions);
        body.count(topics.len());
        for partitions in topics {
            body.topic(partitions);
        }
        body.nodes(&self.nodes);
        body.finish()
    }
}

/// Splits into runs of the same topic.
fn group(partitions: Vec<FetchedPartition>) -> Vec<Vec<FetchedPartition>> {
    let mut topics: Vec<Vec<FetchedPartition>> = Vec::new();
    for partition in partitions {
        match topics.last_mut() {
            Some(run) if same_topic(&run[0].key, &partition.key) => run.push(partition),
            _ => topics.push(vec![partition]),
        }
    }
    topics
}

fn same_topic(one: &FetchKey, other: &FetchKey) -> bool {
    one.topic_id == other.topic_id && one.topic == other.topic
}

impl Body {
    fn flexible(&self) -> bool {
        self.version >= 12
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.current.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.current.put_u8(value as u8);
    }

    fn count(&mut self, length: usize) {
        if self.flexible() {
            self.varint(length as u32 + 1);
        } else {
            self.current.put_i32(length as i32);
        }
    }

    /// No tagged fields.
    fn tags(&mut self) {
        if self.flexible() {
            self.current.put_u8(0);
        }
    }

    fn topic(&mut self, partitions: Vec<FetchedPartition>) {
        let key = &partitions[0].key;
        if self.version >= 13 {
            self.current.put_slice(key.topic_id.as_bytes());
        } else {
            let name = key.topic.clone();
            if self.flexible() {
                self.varint(name.len() as u32 + 1);
            } else {
                self.current.put_i16(name.len() as i16);
            }
            self.current.put_slice(name.as_bytes());
        }
        self.count(partitions.len());
        for partition in partitions {
            self.partition(partition);
        }
        self.tags();
    }

    fn partition(&mut self, part: FetchedPartition) {
        self.current.put_i32(part.key.partition);
        self.current.put_i16(part.error.code());
        self.current.put_i64(part.high_watermark);
        self.current.put_i64(part.last_stable);
        if self.version >= 5 {
            self.current.put_i64(part.log_start);
        }
        self.aborted(part.aborted.as_deref());
        if self.version >= 11 {
            self.current.put_i32(part.preferred.map_or(-1, |id| id.0));
        }
        self.records(part.batches);
        if self.flexible() {
            let leader = part.leader.filter(|_| self.version >= NAMES_LEADERS_SINCE);
            self.current.put_u8(u8::from(part.diverging.is_some()) + u8::from(leader.is_some()));
            if let Some(diverging) = part.diverging {
                // Number 0, then its size (epoch, end offset, no tags of its own).
                self.current.put_slice(&[0, 13]);
                self.current.put_i32(diverging.epoch);
                self.current.put_i64(diverging.end_offset);
                self.current.put_u8(0);
            }
            if let Some((id, epoch)) = leader {
                // Number 1, then its size (leader, epoch, no tags of its own).
                self.current.put_slice(&[1, 9]);
                self.current.put_i32(id.0);
                self.current.put_i32(epoch);
                self.current.put_u8(0);
            }
        }
    }

    /// The tagged fields of the whole answer: the nodes, if there are any.
    fn nodes(&mut self, nodes: &[Node]) {
        if self.version < NAMES_LEADERS_SINCE || nodes.is_empty() {
            return self.tags();
        }
        let mut field = Body { version: self.version, done: Vec::new(), current: BytesMut::new() };
        field.count(nodes.len());
        for node in nodes {
            field.current.put_i32(node.id.0);
            field.string(Some(&node.host));
            field.current.put_i32(i32::from(node.port));
            field.string(node.rack.as_deref());
            field.tags();
        }
        // One field: number 0, then its size.
        self.current.put_slice(&[1, 0]);
        self.varint(field.current.len() as u32);
        self.current.put_slice(&field.current);
    }

    /// A string of the flexible versions, or null.
    fn string(&mut self, text: Option<&str>) {
        self.varint(text.map_or(0, |text| text.len() as u32 + 1));
        self.current.put_slice(text.unwrap_or_default().as_bytes());
    }

    fn aborted(&mut self, aborted: Option<&[(i64, Offset)]>) {
        match aborted {
            None if self.flexible() => self.current.put_u8(0),
            None => self.current.put_i32(-1),
            Some(transactions) => {
                self.count(transactions.len());
                for (producer, first) in transactions {
                    self.current.put_i64(*producer);
                    self.current.put_i64(*first);
                    self.tags();
                }
            }
        }
    }

    fn records(&mut self, batches: Vec<Bytes>) {
        let length: usize = batches.iter().map(Bytes::len).sum();
        if self.flexible() {
            self.varint(length as u32 + 1);
        } else {
            self.current.put_i32(length as i32);
        }
        for batch in batches {
            self.cut();
            self.done.push(batch);
        }
    }

    fn cut(&mut self) {
        if !self.current.is_empty() {
            self.done.push(self.current.split().freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.cut();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
    };
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use uuid::Uuid;

    fn part(topic: &str, partition: i32, version: i16) -> FetchedPartition {
        let topic_id = if version >= 13 { Uuid::from_u128(9) } else { Uuid::nil() };
        FetchedPartition {
            key: FetchKey { topic: topic.into(), topic_id, partition },
            error: ErrorCode::None,
            high_watermark: 10,
            last_stable: 9,
            log_start: 1,
            aborted: (partition == 1).then(|| vec![(5, 6), (7, 8)]),
            diverging: (partition == 2).then_some(Divergence { epoch: 3, end_offset: 4 }),
            preferred: (partition == 1).then_some(BrokerId(6)),
            leader: (partition != 1).then_some((BrokerId(300), 7)),
            batches: vec![Bytes::from_static(b"one"), Bytes::from(vec![7u8; 200])],
            source: None,
        }
    }

    fn nodes() -> Vec<Node> {
        let far = Node { id: BrokerId(301), host: "h".repeat(200), port: 65535, rack: None };
        vec![Node { id: BrokerId(300), host: "h".into(), port: 9092, rack: Some("r".into()) }, far]
    }

    fn endpoint(node: &Node) -> NodeEndpoint {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        NodeEndpoint::default()
            .with_node_id(node.id.0.into())
            .with_host(text(&node.host))
            .with_port(i32::from(node.port))
            .with_rack(node.rack.as_deref().map(text))
    }

    fn by_crate(version: i16) -> Bytes {
        let partitions = [0, 1, 2].map(|index| {
            let mut data = PartitionData::default()
                .with_partition_index(index)
                .with_high_watermark(10)
                .with_last_stable_offset(9)
                .with_preferred_read_replica((-1).into())
                .with_records(Some(Bytes::from([b"one".as_slice(), &[7u8; 200]].concat())));
            data.log_start_offset = if version >= 5 { 1 } else { -1 };
            let aborted = [(5, 6), (7, 8)].map(|(producer, first)| {
                AbortedTransaction::default().with_producer_id(producer.into()).with_first_offset(first)
            });
            data.aborted_transactions = (index == 1).then(|| aborted.to_vec());
            if index == 1 && version >= 11 {
                data.preferred_read_replica = 6.into();
            }
            if index == 2 && version >= 12 {
                data.diverging_epoch = EpochEndOffset::default().with_epoch(3).with_end_offset(4);
            }
            if index != 1 && version >= 16 {
                data.current_leader = LeaderIdAndEpoch::default().with_leader_id(300.into()).with_leader_epoch(7);
            }
            data
        });
        let mut topic = FetchableTopicResponse::default().with_partitions(partitions.to_vec());
        if version >= 13 {
            topic.topic_id = Uuid::from_u128(9);
        } else {
            topic.topic = StrBytes::from_static_str("t").into();
        }
        let mut response = FetchResponse::default().with_responses(vec![topic]).with_throttle_time_ms(8);
        if version >= 7 {
            response.session_id = 42;
        }
        if version >= 16 {
            response.node_endpoints = nodes().iter().map(endpoint).collect();
        }
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, version).unwrap();
        bytes.freeze()
    }

    #[test]
    fn every_version_equals_the_crates_encoding() {
        for version in 4..=18 {
            let partitions = (0..3).map(|index| part("t", index, version)).collect();
            let error = ErrorCode::None;
            let fetched = Fetched { throttle_time_ms: 8, error, session_id: 42, partitions, nodes: nodes() };
            assert_eq!(fetched.encode(version).concat(), by_crate(version), "version {version}");
        }
    }
}
