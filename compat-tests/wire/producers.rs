//! Idempotent producers: duplicates are told the same again, gaps are refused, epochs are fenced (KIP-98).

use kafka_protocol::messages::DescribeProducersRequest;
use kafka_protocol::messages::describe_producers_request::TopicRequest;

use crate::asks::{self, Topic, code};
use crate::batch::Batch;
use crate::broker::Broker;
use crate::client::Client;

/// How many batches of a producer are remembered.
const BATCHES_KEPT: i32 = 5;

/// A producer of one partition.
struct Producer {
    client: Client,
    topic: Topic,
    id: i64,
    epoch: i16,
}

impl Producer {
    fn new(broker: &Broker) -> Producer {
        let mut client = broker.client();
        let topic = client.topic("t", 2, &[]);
        let id = client.producer_id();
        Producer { client, topic, id, epoch: 0 }
    }

    /// Error and offset of a batch of `count` records from `sequence` on.
    fn send(&mut self, sequence: i32, count: usize) -> (i16, i64) {
        let batch = Batch::of(&vec!["x"; count]).from(self.id, self.epoch, sequence);
        let answer = self.client.produce(&self.topic, 0, batch.bytes());
        (answer.error_code, answer.base_offset)
    }

    fn end(&mut self) -> i64 {
        self.client.offset_at(&self.topic, 0, -1).1
    }
}

#[test]
fn producers_in_disuse_are_forgotten() {
    let broker =
        Broker::with(&[("producer.id.expiration.ms", "1"), ("producer.id.expiration.check.interval.ms", "10")]);
    let mut producer = Producer::new(&broker);
    assert_eq!(producer.send(0, 1), (code::NONE, 0));
    let asked = TopicRequest::default().with_name(producer.topic.wire()).with_partition_indexes(vec![0]);
    let describe = DescribeProducersRequest::default().with_topics(vec![asked]);
    while !producer.client.call(0, &describe).topics[0].partitions[0].active_producers.is_empty() {}
    assert_eq!(producer.send(0, 1), (code::NONE, 1), "nobody knows that it is sent again");
}

#[test]
fn a_duplicate_of_the_last_batches_is_told_the_same_again() {
    let broker = Broker::start();
    let mut producer = Producer::new(&broker);
    for place in 0..BATCHES_KEPT {
        assert_eq!(producer.send(2 * place, 2), (code::NONE, i64::from(2 * place)));
    }
    for place in 0..BATCHES_KEPT {
        assert_eq!(producer.send(2 * place, 2), (code::NONE, i64::from(2 * place)), "the {place}. again");
    }
    assert_eq!(producer.end(), 10, "nothing was written twice");
    assert_eq!(producer.send(10, 1), (code::NONE, 10));
    assert_eq!(producer.send(0, 2), (code::OUT_OF_ORDER_SEQUENCE, -1), "too long ago to be remembered");
    assert_eq!(producer.send(8, 1), (code::OUT_OF_ORDER_SEQUENCE, -1), "half of a batch is no duplicate");
    assert_eq!(producer.end(), 11);
}

#[test]
fn duplicates_are_recognised_in_every_version() {
    let broker = Broker::start();
    let mut producer = Producer::new(&broker);
    assert_eq!(producer.send(0, 3), (code::NONE, 0));
    let batch = Batch::of(&["x", "x", "x"]).from(producer.id, 0, 0).bytes();
    for version in 3..=13 {
        let request = asks::produce(version, &producer.topic, -1, &[(0, Some(batch.clone()))]);
        let answer = producer.client.call(version, &request).responses[0].partition_responses[0].clone();
        assert_eq!((answer.error_code, answer.base_offset), (code::NONE, 0), "v{version}");
    }
    assert_eq!(producer.end(), 3);
}

#[test]
fn a_gap_is_refused_and_the_right_sequence_taken_after_it() {
    let broker = Broker::start();
    let mut producer = Producer::new(&broker);
    assert_eq!(producer.send(0, 2), (code::NONE, 0));
    for sequence in [3, 4, 1, i32::MAX] {
        assert_eq!(producer.send(sequence, 2), (code::OUT_OF_ORDER_SEQUENCE, -1), "{sequence}");
    }
    assert_eq!(producer.send(2, 2), (code::NONE, 2));
}

#[test]
fn pipelined_batches_behind_a_gap_are_all_refused() {
    let broker = Broker::start();
    let mut producer = Producer::new(&broker);
    let mut burst = Vec::new();
    for sequence in [0, 2, 4, 1] {
        let batch = Batch::of(&["x"]).from(producer.id, 0, sequence).bytes();
        burst.extend(producer.client.enqueue(9, &asks::produce(9, &producer.topic, -1, &[(0, Some(batch))])));
    }
    producer.client.write(&burst).expect("the broker reads");
    let gap = code::OUT_OF_ORDER_SEQUENCE;
    for expected in [code::NONE, gap, gap, code::NONE] {
        let response = producer.client.receive::<kafka_protocol::messages::ProduceRequest>();
        assert_eq!(response.responses[0].partition_responses[0].error_code, expected);
    }
}

#[test]
fn a_new_epoch_starts_at_0_and_fences_the_old_one() {
    let broker = Broker::start();
    let mut producer = Producer::new(&broker);
    assert_eq!(producer.send(0, 1), (code::NONE, 0));
    producer.epoch = 1;
    assert_eq!(producer.send(1, 1), (code::OUT_OF_ORDER_SEQUENCE, -1));
    assert_eq!(producer.send(0, 1), (code::NONE, 1));
    producer.epoch = 0;
    assert_eq!(producer.send(1, 1), (code::INVALID_PRODUCER_EPOCH, -1));
    assert_eq!(producer.send(0, 1), (code::INVALID_PRODUCER_EPOCH, -1), "not even as a duplicate");
    producer.epoch = 1;
    assert_eq!(producer.send(1, 1), (code::NONE, 2));
}

#[test]
fn sequences_wrap_to_0() {
    let broker = Broker::start();
    let mut producer = Producer::new(&broker);
    // Whoever is not known here may start anywhere: what was known may have expired.
    assert_eq!(producer.send(i32::MAX - 1, 2), (code::NONE, 0));
    assert_eq!(producer.send(0, 1), (code::NONE, 2));
    producer.id = producer.client.producer_id();
    assert_eq!(producer.send(i32::MAX, 3), (code::NONE, 3), "a batch across the end");
    assert_eq!(producer.send(i32::MAX, 3), (code::NONE, 3), "is recognised again");
    assert_eq!(producer.send(2, 1), (code::NONE, 6));
}

#[test]
fn partitions_and_producers_do_not_mix() {
    let broker = Broker::start();
    let mut producer = Producer::new(&broker);
    assert_eq!(producer.send(0, 1), (code::NONE, 0));
    let elsewhere = Batch::of(&["x"]).from(producer.id, 0, 0).bytes();
    assert_eq!(producer.client.append(&producer.topic, 1, elsewhere), 0, "each partition counts for itself");
    let other = producer.client.producer_id();
    assert_ne!(other, producer.id);
    let batches = [(producer.id, 0), (other, 1)]
        .map(|(id, partition)| (partition, Some(Batch::of(&["x"]).from(id, 0, 1).bytes())));
    let response = producer.client.call(9, &asks::produce(9, &producer.topic, -1, &batches));
    let codes = response.responses[0].partition_responses.iter().map(|answer| answer.error_code);
    assert!(codes.eq([49, 49]), "two producers in one request");
    assert_eq!(producer.end(), 1);
}
