//! Producers: idempotent ones that repeat what was not answered at whoever leads now, plain ones with acks=all, and
//! careless ones with acks=1, whose records may get lost and must do no other harm.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceResponse};
use rand::Rng;

use crate::checkers::Spot;
use crate::checkers::log::Kind;
use crate::cluster::DRAIN_MS;
use crate::cluster::caller::{Caller, ELSEWHERE};
use crate::cluster::plan::NODES;
use crate::requests::{self, code, version};
use crate::stage::note;
use crate::workload::PATIENCE;

/// A batch under way.
#[derive(Clone)]
struct Batch {
    bytes: Bytes,
    values: Vec<Bytes>,
    /// Its place among the batches of its lane.
    number: u64,
}

/// What a producer knows of one partition.
#[derive(Default)]
struct Lane {
    next_number: u64,
    next_sequence: i32,
    pending: VecDeque<Batch>,
    last: Option<Batch>,
    /// The end of what was acknowledged last.
    acknowledged_end: i64,
}

/// The answer about one batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    At(i64),
    Refused(i16),
    Lost,
}

fn answer(response: Option<ProduceResponse>) -> Answer {
    let Some(response) = response else { return Answer::Lost };
    let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
    match partition.map(|partition| (partition.error_code, partition.base_offset)) {
        Some((code::NONE, base)) => Answer::At(base),
        Some((code, _)) => Answer::Refused(code),
        None => Answer::Refused(-1),
    }
}

/// Errors after which a batch is sent again.
fn retriable() -> Vec<i16> {
    let own = [code::REQUEST_TIMED_OUT, code::NOT_ENOUGH_REPLICAS, code::NOT_ENOUGH_AFTER_APPEND];
    [&ELSEWHERE[..], &own].concat()
}

/// What producers of all kinds do.
struct Producer {
    caller: Caller,
    sent: u64,
}

impl Producer {
    fn new(caller: Caller) -> Producer {
        Producer { caller, sent: 0 }
    }

    /// Up to five values, each unique.
    fn values(&mut self, spot: Spot, kind: Kind) -> Vec<Bytes> {
        let mut values = Vec::new();
        for _ in 0..self.caller.rng.random_range(1..=5) {
            self.sent += 1;
            let padding = match self.caller.rng.random_range(0..20) {
                0 => self.caller.rng.random_range(0..6_000),
                _ => self.caller.rng.random_range(0..200),
            };
            let value = Bytes::from(format!("{}:{}.{}", self.caller.name, self.sent, "x".repeat(padding)));
            self.caller.stage.ledger().log(spot).attempt(value.clone(), kind);
            values.push(value);
        }
        values
    }

    fn acknowledged(&self, spot: Spot, base: i64, batch: &Batch) {
        let Caller { cluster, stage, name, .. } = &self.caller;
        let count = batch.values.len();
        note!(self.caller, "{spot:?} has {count} at {base}");
        let verdict = stage.ledger().log(spot).acknowledge(base, &batch.values, None);
        let end = base + count as i64;
        let verdict = verdict.and_then(|()| cluster.lookout.borrow_mut().acknowledged(cluster, spot, end));
        stage.judge(name, verdict.map_err(|sentence| format!("{spot:?}: {sentence}")));
    }

    /// Sends one batch to whoever leads and waits for its answer.
    async fn send(&mut self, spot: Spot, acks: i16, batch: &Batch) -> Answer {
        let Some(node) = self.caller.leader(spot).await else { return Answer::Lost };
        let topic = self.caller.named(spot.0);
        let request = requests::produce(topic, spot.1, acks, batch.bytes.clone());
        let answer = answer(self.caller.ask(node, topic.produce_version(), request).await);
        self.heed(answer).await;
        answer
    }

    /// Asks anew who leads if an answer says that it is somebody else, or does not come.
    async fn heed(&mut self, answer: Answer) {
        match answer {
            Answer::At(_) => {}
            Answer::Refused(code) if !ELSEWHERE.contains(&code) => {}
            Answer::Refused(_) | Answer::Lost => self.caller.refresh().await,
        }
    }
}

/// Runs a producer without an id and with acks=all. It repeats a batch at most once, and both may be appended.
pub async fn run_plain(caller: Caller) {
    let mut producer = Producer::new(caller);
    if !producer.caller.topics_exist().await {
        return;
    }
    while producer.caller.stage.is_loading() {
        let spot = producer.caller.spot_to_write();
        let values = producer.values(spot, Kind::Plain);
        let bytes = requests::batch(producer.caller.wall_ms(), None, &values);
        let batch = Batch { bytes, values, number: 0 };
        for _ in 0..producer.caller.rng.random_range(1..=2) {
            match producer.send(spot, -1, &batch).await {
                Answer::At(base) => {
                    producer.acknowledged(spot, base, &batch);
                    break;
                }
                Answer::Refused(code) => producer.caller.expect("a plain batch", code, &retriable()),
                Answer::Lost => {}
            }
        }
        producer.caller.rest(150).await;
    }
}

/// Runs a producer with acks=1: what it is told counts for nothing.
pub async fn run_weak(caller: Caller) {
    let mut producer = Producer::new(caller);
    if !producer.caller.topics_exist().await {
        return;
    }
    while producer.caller.stage.is_loading() {
        let spot = producer.caller.spot_to_write();
        let values = producer.values(spot, Kind::Plain);
        let bytes = requests::batch(producer.caller.wall_ms(), None, &values);
        match producer.send(spot, 1, &Batch { bytes, values, number: 0 }).await {
            Answer::Refused(code) => producer.caller.expect("a batch with acks=1", code, &retriable()),
            Answer::At(_) | Answer::Lost => {}
        }
        producer.caller.rest(150).await;
    }
}

/// An idempotent producer.
struct Sure {
    producer: Producer,
    id: i64,
    lanes: BTreeMap<Spot, Lane>,
}

/// Runs an idempotent producer.
pub async fn run_idempotent(caller: Caller) {
    let mut sure = Sure { producer: Producer::new(caller), id: -1, lanes: BTreeMap::new() };
    if !sure.producer.caller.topics_exist().await {
        return;
    }
    while sure.producer.caller.stage.is_loading() {
        match sure.id {
            -1 => sure.begin().await,
            _ => sure.act().await,
        }
        sure.producer.caller.rest(120).await;
    }
    sure.drain().await;
}

impl Sure {
    /// Gets an id, and with it new sequences.
    async fn begin(&mut self) {
        let caller = &mut self.producer.caller;
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let node = caller.somebody();
        let Some(answer) = caller.ask(node, version::INIT_PRODUCER_ID, request).await else { return };
        if answer.error_code != code::NONE {
            let allowed = [code::COORDINATOR_LOADING, code::REQUEST_TIMED_OUT, code::COORDINATOR_NOT_AVAILABLE];
            return caller.expect("InitProducerId", answer.error_code, &allowed);
        }
        self.id = answer.producer_id.0;
        note!(caller, "is producer {}", self.id);
        let verdict = caller.stage.ledger().producer_id(self.id);
        caller.stage.judge(&caller.name, verdict);
        self.lanes.clear();
    }

    async fn act(&mut self) {
        let spot = self.producer.caller.spot_to_write();
        let lane = self.lanes.entry(spot).or_default();
        let last = lane.last.clone().filter(|_| lane.pending.is_empty());
        match (self.producer.caller.rng.random_range(0..100), last) {
            (0..8, Some(last)) => self.send_again(spot, last).await,
            (8..10, _) if self.lanes.values().all(|lane| lane.pending.is_empty()) => self.id = -1,
            _ => {
                for _ in 0..self.producer.caller.rng.random_range(1..=3) {
                    self.add(spot);
                }
                self.flush(spot).await;
            }
        }
    }

    /// Adds a batch to what is under way, if there is room. Brokers know the last five of a producer: one that is not
    /// answered must not fall out of those.
    fn add(&mut self, spot: Spot) {
        let lane = self.lanes.entry(spot).or_default();
        let since = lane.pending.front().map_or(0, |oldest| lane.next_number - oldest.number);
        if lane.pending.len() >= 3 || since >= 5 {
            return;
        }
        let values = self.producer.values(spot, Kind::Idempotent);
        let lane = self.lanes.entry(spot).or_default();
        let bytes = requests::batch(self.producer.caller.wall_ms(), Some((self.id, lane.next_sequence)), &values);
        lane.next_sequence += values.len() as i32;
        lane.pending.push_back(Batch { bytes, values, number: lane.next_number });
        lane.next_number += 1;
    }

    /// Sends everything under way in order, without waiting in between, and then reads the answers.
    ///
    /// A broker that knows nothing of a producer takes any sequence for its first, as Kafka's do: as long as that may be
    /// so only one batch is sent at a time, or the second may come in before the first.
    async fn flush(&mut self, spot: Spot) {
        let Some(node) = self.producer.caller.leader(spot).await else { return };
        let deleted_to = self.producer.caller.stage.ledger().log(spot).delete_asked();
        let lane = self.lanes.entry(spot).or_default();
        let at_once = if lane.acknowledged_end > deleted_to { lane.pending.len() } else { 1 };
        let batches: Vec<Batch> = lane.pending.iter().take(at_once).cloned().collect();
        let topic = self.producer.caller.named(spot.0);
        let link = self.producer.caller.link(node);
        let mut tickets = Vec::new();
        for batch in &batches {
            let request = requests::produce(topic, spot.1, -1, batch.bytes.clone());
            match link.send(topic.produce_version(), &request, PATIENCE).await {
                Some(ticket) => tickets.push(ticket),
                None => return self.producer.heed(Answer::Lost).await,
            }
        }
        let mut answers = Vec::new();
        for ticket in tickets {
            let answer = answer(link.receive(ticket, PATIENCE).await);
            answers.push(answer);
            if answer == Answer::Lost {
                break;
            }
        }
        answers.resize(batches.len(), Answer::Lost);
        let mut unsettled: VecDeque<Batch> = VecDeque::new();
        for (batch, answer) in batches.into_iter().zip(&answers) {
            match *answer {
                Answer::At(base) => {
                    self.producer.acknowledged(spot, base, &batch);
                    let lane = self.lanes.entry(spot).or_default();
                    lane.acknowledged_end = lane.acknowledged_end.max(base + batch.values.len() as i64);
                    lane.last = Some(batch);
                }
                Answer::Refused(code) => {
                    let mut allowed = retriable();
                    // Only behind one that was not appended may there be a gap; and one that leads no more, and has not
                    // heard of it, may lack what was acknowledged since.
                    if !unsettled.is_empty() || !self.producer.caller.leads(node, spot) {
                        allowed.push(code::OUT_OF_ORDER);
                    }
                    let what = format!("batch {} in sequence for {spot:?} at {}", batch.number, NODES[node]);
                    self.producer.caller.expect(&what, code, &allowed);
                    unsettled.push_back(batch);
                }
                Answer::Lost => unsettled.push_back(batch),
            }
        }
        let lane = self.lanes.entry(spot).or_default();
        lane.pending.drain(..answers.len());
        unsettled.append(&mut lane.pending);
        lane.pending = unsettled;
        if let Some(refused) = answers.into_iter().find(|answer| !matches!(answer, Answer::At(_))) {
            self.producer.heed(refused).await;
        }
    }

    /// The same batch once more must get the same offset once more, whoever leads now.
    async fn send_again(&mut self, spot: Spot, last: Batch) {
        match self.producer.send(spot, -1, &last).await {
            Answer::At(base) => self.producer.acknowledged(spot, base, &last),
            Answer::Refused(code) => self.producer.caller.expect("a repeated batch", code, &retriable()),
            Answer::Lost => {}
        }
    }

    /// Everything is answered in the end.
    async fn drain(&mut self) {
        let began_ms = self.producer.caller.stage.now_ms();
        let open = |lanes: &BTreeMap<Spot, Lane>| {
            lanes.iter().find(|(_, lane)| !lane.pending.is_empty()).map(|(spot, _)| *spot)
        };
        while self.id >= 0 && self.producer.caller.stage.broken().is_none() {
            let Some(spot) = open(&self.lanes) else { return };
            self.flush(spot).await;
            self.producer.caller.rest(50).await;
            let Caller { name, stage, cluster, .. } = &self.producer.caller;
            if stage.now_ms() > began_ms + DRAIN_MS / 2 {
                if cluster.lookout.borrow().is_lost(spot) {
                    self.lanes.remove(&spot);
                    continue;
                }
                let registration = cluster.lookout.borrow().registration(spot);
                let sentence = "the faults are over, and a batch is still not acknowledged";
                stage.judge(name, Err(format!("{spot:?}: {sentence}; it is {registration:?}")));
            }
        }
    }
}
