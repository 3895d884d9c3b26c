//! The library with the settings of these checks, and what every check does with it.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::Checked;
use crate::report::require;
use crate::samples::{Received, Record, number};

pub const LIMIT: Duration = Duration::from_secs(60);
pub const PARTITIONS: usize = 3;

fn settings(more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", std::env::var("OTTLA_BOOTSTRAP").expect("run this through compat-tests/run.py"));
    config.set("reconnect.backoff.max.ms", "500");
    for (key, value) in more {
        config.set(*key, *value);
    }
    config
}

/// The administrator's side.
pub struct Admin(AdminClient<DefaultClientContext>);

/// The first refusal in an answer that has one result for each thing asked for.
fn refused(answer: Vec<Result<String, (String, Code)>>) -> Checked {
    match answer.into_iter().find_map(Result::err) {
        Some((name, code)) => Err(format!("{name}: {code}").into()),
        None => Ok(()),
    }
}

impl Admin {
    pub fn new() -> Checked<Admin> {
        Ok(Admin(settings(&[]).create()?))
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(LIMIT))
    }

    /// False when the topic exists.
    pub fn create(&self, topic: &str, partitions: usize, values: &[(&str, &str)]) -> Checked<bool> {
        let mut wanted = NewTopic::new(topic, i32::try_from(partitions)?, TopicReplication::Fixed(1));
        for (key, value) in values {
            wanted = wanted.set(key, value);
        }
        let answer = block_on(self.0.create_topics([&wanted], &Self::options()))?;
        if matches!(answer.as_slice(), [Err((_, Code::TopicAlreadyExists))]) {
            return Ok(false);
        }
        refused(answer)?;
        Ok(true)
    }

    pub fn grow(&self, topic: &str, partitions: usize) -> Checked {
        refused(block_on(self.0.create_partitions([&NewPartitions::new(topic, partitions)], &Self::options()))?)
    }

    /// The library knows only the old AlterConfigs.
    pub fn alter(&self, topic: &str, key: &str, value: &str) -> Checked {
        let wanted = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let answer = block_on(self.0.alter_configs([&wanted], &Self::options()))?;
        match answer.into_iter().find_map(Result::err) {
            Some((_, code)) => Err(code.into()),
            None => Ok(()),
        }
    }

    pub fn setting(&self, topic: &str, key: &str) -> Checked<Option<String>> {
        let resource = ResourceSpecifier::Topic(topic);
        let answer = block_on(self.0.describe_configs([&resource], &Self::options()))?;
        let found = answer.into_iter().next().ok_or("no answer")??;
        Ok(found.get(key).and_then(|entry| entry.value.clone()))
    }

    pub fn exists(&self, topic: &str) -> Checked<bool> {
        let all = self.0.inner().fetch_metadata(None, LIMIT)?;
        Ok(all.topics().iter().any(|t| t.name() == topic))
    }

    /// How many partitions a topic has, as one of the brokers knows it.
    pub fn partitions(&self, topic: &str) -> Checked<usize> {
        let all = self.0.inner().fetch_metadata(Some(topic), LIMIT)?;
        Ok(all.topics().iter().map(|t| t.partitions().len()).sum())
    }

    pub fn delete(&self, topic: &str) -> Checked {
        refused(block_on(self.0.delete_topics(&[topic], &Self::options()))?)
    }

    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Checked {
        let wanted = places(topic, &[(partition, before)])?;
        for answer in block_on(self.0.delete_records(&wanted, &Self::options()))?.elements() {
            answer.error()?;
        }
        Ok(())
    }

    pub fn delete_group(&self, group: &str) -> Checked {
        refused(block_on(self.0.delete_groups(&[group], &Self::options()))?)
    }
}

fn places(topic: &str, offsets: &[(i32, i64)]) -> Checked<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

/// What became of one record: where it went, or why not; `None` while that is open.
type Slot = Option<Result<(i32, i64), KafkaError>>;

/// Notes deliveries in the order of sending.
struct Deliveries(Arc<Mutex<Vec<Slot>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: usize) {
        let outcome = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().expect("nobody panics with it")[slot] = Some(outcome);
    }
}

/// A producer that remembers where each record went.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
    slots: Arc<Mutex<Vec<Slot>>>,
    unacknowledged_max: i32,
}

impl Producer {
    pub fn new(codec: &str, idempotent: bool) -> Checked<Producer> {
        // Without idempotence a retried batch would land behind its successors, and order is checked. With it, batches
        // are small and unacknowledged records few, so that a crash meets a stream and not a queue.
        let (idempotence, in_flight, batch, unacknowledged_max) =
            if idempotent { ("true", "5", "50", 500) } else { ("false", "1", "10000", 10_000) };
        let slots = Arc::new(Mutex::new(Vec::new()));
        let config = settings(&[
            ("compression.type", codec),
            ("acks", "all"),
            ("linger.ms", "5"),
            ("retry.backoff.ms", "50"),
            ("enable.idempotence", idempotence),
            ("max.in.flight", in_flight),
            ("batch.num.messages", batch),
        ]);
        Ok(Producer { inner: config.create_with_context(Deliveries(slots.clone()))?, slots, unacknowledged_max })
    }

    pub fn send(&self, topic: &str, partition: i32, record: &Record) -> Checked {
        let deadline = Instant::now() + LIMIT;
        while self.inner.in_flight_count() >= self.unacknowledged_max {
            require(Instant::now() < deadline, || "nothing is acknowledged".to_owned())?;
            self.inner.poll(Duration::from_millis(100));
        }
        let slot = {
            let mut slots = self.slots.lock().expect("nobody panics with it");
            slots.push(None);
            slots.len() - 1
        };
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut wanted: BaseRecord<'_, Vec<u8>, Vec<u8>, usize> = BaseRecord::with_opaque_to(topic, slot)
            .partition(partition)
            .timestamp(record.timestamp_ms)
            .headers(headers);
        wanted.key = record.key.as_ref();
        wanted.payload = record.value.as_ref();
        self.inner.send(wanted).map_err(|(error, _)| error)?;
        self.inner.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits for every acknowledgement; gives where the records went, in the order of sending.
    pub fn flush(&self) -> Checked<Vec<(i32, i64)>> {
        self.inner.flush(LIMIT)?;
        let slots = std::mem::take(&mut *self.slots.lock().expect("nobody panics with it"));
        let mut placed = Vec::new();
        for slot in slots {
            placed.push(slot.ok_or("a record is still unacknowledged")??);
        }
        Ok(placed)
    }

    /// Sends the numbers as values, round robin over the partitions, and waits for every acknowledgement.
    pub fn send_numbers(&self, topic: &str, partitions: usize, numbers: Range<usize>) -> Checked {
        for n in numbers {
            self.send(topic, i32::try_from(n % partitions)?, &number(n))?;
        }
        self.flush().map(drop)
    }
}

/// Sends the numbers below `count` with a producer of its own.
pub fn fill(topic: &str, partitions: usize, count: usize) -> Checked {
    Producer::new("none", false)?.send_numbers(topic, partitions, 0..count)
}

/// A consumer, with a group or without; it leaves its group when it is dropped.
pub struct Consumer(BaseConsumer);

impl Consumer {
    /// A member of a group.
    pub fn member(group: &str, topic: &str) -> Checked<Consumer> {
        let consumer = Consumer::new(group)?;
        consumer.0.subscribe(&[topic])?;
        Ok(consumer)
    }

    /// A consumer without a group that has nothing assigned yet.
    pub fn alone() -> Checked<Consumer> {
        Consumer::new("no-group")
    }

    fn new(group: &str) -> Checked<Consumer> {
        let config = settings(&[
            ("group.id", group),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "500"),
            ("fetch.wait.max.ms", "100"),
        ]);
        Ok(Consumer(config.create()?))
    }

    /// Reads these partitions from these offsets.
    pub fn assign(&self, topic: &str, offsets: &[(i32, i64)]) -> Checked {
        Ok(self.0.assign(&places(topic, offsets)?)?)
    }

    /// What is there, after waiting at most this long for the first record.
    pub fn poll(&self, wait: Duration) -> Checked<Vec<Received>> {
        let mut got = Vec::new();
        let mut wait = wait;
        while let Some(next) = self.0.poll(wait) {
            match next {
                Ok(message) => got.push(received(&message)),
                // librdkafka tells of lost connections here and mends them itself.
                Err(error) if passes(&error) => {}
                Err(error) => return Err(error.into()),
            }
            if got.len() >= 500 {
                break;
            }
            wait = Duration::ZERO;
        }
        Ok(got)
    }

    /// Polls until that many records are there; a deadline, not a pause, ends a wait for records that never come.
    pub fn read(&self, count: usize) -> Checked<Vec<Received>> {
        let (mut got, deadline) = (Vec::new(), Instant::now() + LIMIT);
        while got.len() < count {
            require(Instant::now() < deadline, || format!("{} of {count} records after {LIMIT:?}", got.len()))?;
            got.extend(self.poll(Duration::from_millis(500))?);
        }
        Ok(got)
    }

    pub fn assignment(&self) -> Checked<Vec<i32>> {
        Ok(self.0.assignment()?.elements().iter().map(|e| e.partition()).collect())
    }

    /// A commit of everything polled, which a rebalance may refuse; the next owner then reads it again.
    pub fn commit_if_possible(&self) -> Checked {
        const ALLOWED: [Code; 7] = [
            Code::NoOffset,
            Code::IllegalGeneration,
            Code::UnknownMemberId,
            Code::RebalanceInProgress,
            Code::NotCoordinator,
            Code::CoordinatorNotAvailable,
            Code::CoordinatorLoadInProgress,
        ];
        match self.0.commit_consumer_state(CommitMode::Sync) {
            Err(error) if error.rdkafka_error_code().is_some_and(|code| ALLOWED.contains(&code)) => Ok(()),
            done => Ok(done?),
        }
    }

    pub fn commit(&self, topic: &str, offsets: &[(i32, i64)]) -> Checked {
        Ok(self.0.commit(&places(topic, offsets)?, CommitMode::Sync)?)
    }

    /// The committed offsets of the first partitions; 0 where there is none.
    pub fn committed(&self, topic: &str, partitions: usize) -> Checked<Vec<i64>> {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(topic, 0, i32::try_from(partitions)? - 1);
        let found = self.0.committed_offsets(wanted, LIMIT)?;
        Ok(found.elements().iter().map(|e| e.offset().to_raw().unwrap_or(0).max(0)).collect())
    }

    pub fn seek(&self, topic: &str, partition: i32, offset: i64) -> Checked {
        Ok(self.0.seek(topic, partition, Offset::Offset(offset), LIMIT)?)
    }

    /// `None` when no record is that late.
    pub fn offset_for_time(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Checked<Option<i64>> {
        let found = self.0.offsets_for_times(places(topic, &[(partition, timestamp_ms)])?, LIMIT)?;
        match found.elements().first().ok_or("no answer")?.offset() {
            Offset::Offset(offset) => Ok(Some(offset)),
            _ => Ok(None),
        }
    }

    pub fn end_offset(&self, topic: &str, partition: i32) -> Checked<i64> {
        Ok(self.0.fetch_watermarks(topic, partition, LIMIT)?.1)
    }
}

fn passes(error: &KafkaError) -> bool {
    use Code::*;
    matches!(
        error.rdkafka_error_code(),
        Some(
            BrokerTransportFailure
                | AllBrokersDown
                | NotCoordinator
                | CoordinatorNotAvailable
                | CoordinatorLoadInProgress
        )
    )
}

fn received(message: &BorrowedMessage<'_>) -> Received {
    let mut headers = Vec::new();
    for header in message.headers().iter().flat_map(|all| all.iter()) {
        headers.push((header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
    }
    let record = Record {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
    };
    Received { partition: message.partition(), offset: message.offset(), record }
}

/// Every record of a topic, by partition, from the first offset to the end as it is now.
pub fn read_all(topic: &str, partitions: usize) -> Checked<Vec<Vec<Received>>> {
    let consumer = Consumer::alone()?;
    let (mut total, mut starts) = (0, Vec::new());
    for partition in 0..i32::try_from(partitions)? {
        total += usize::try_from(consumer.end_offset(topic, partition)?)?;
        starts.push((partition, 0));
    }
    consumer.assign(topic, &starts)?;
    let mut by_partition: Vec<Vec<Received>> = (0..partitions).map(|_| Vec::new()).collect();
    for r in consumer.read(total)? {
        let before = &mut by_partition[usize::try_from(r.partition)?];
        require(r.offset == before.len() as i64, || format!("{topic}-{}: offset {}", r.partition, r.offset))?;
        before.push(r);
    }
    Ok(by_partition)
}
