//! Producers: idempotent ones that repeat what was not answered, and plain ones.
//!
//! An idempotent producer keeps up to three batches in flight and repeats them in order until they are answered. On
//! purpose it also sends a batch a second time that was acknowledged, and one beyond a gap in its sequence. After a
//! gap without an answer it takes a new id: the request may arrive when the gap is closed, and would then be in
//! sequence.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceResponse};
use rand::Rng;

use super::{Actor, DRAIN_MS, PATIENCE};
use crate::checkers::Spot;
use crate::checkers::log::Kind;
use crate::requests::{self, code, version};
use crate::stage::note;

/// A batch under way.
#[derive(Clone)]
struct Batch {
    bytes: Bytes,
    values: Vec<Bytes>,
    /// The life of the broker in which it was first sent.
    first_sent: Option<u32>,
}

/// What a producer knows of one partition.
#[derive(Default)]
struct Lane {
    next_sequence: i32,
    pending: VecDeque<Batch>,
    last: Option<Batch>,
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

/// What producers of both kinds do.
struct Producer {
    actor: Actor,
    sent: u64,
}

impl Producer {
    /// Up to five values, each unique.
    fn values(&mut self, spot: Spot, kind: Kind) -> Vec<Bytes> {
        let mut values = Vec::new();
        for _ in 0..self.actor.rng.random_range(1..=5) {
            self.sent += 1;
            let padding = match self.actor.rng.random_range(0..20) {
                0 => self.actor.rng.random_range(0..12_000),
                _ => self.actor.rng.random_range(0..300),
            };
            let value = format!("{}:{}.{}", self.actor.client.name, self.sent, "x".repeat(padding));
            let value = Bytes::from(value);
            self.actor.stage.ledger().log(spot).attempt(value.clone(), kind);
            values.push(value);
        }
        values
    }

    fn acknowledged(&self, spot: Spot, base: i64, batch: &Batch, life: Option<u32>) {
        let Actor { client, stage, .. } = &self.actor;
        note!(client, "{spot:?} has {} at {base}", batch.values.len());
        let verdict = stage.ledger().log(spot).acknowledge(base, &batch.values, life);
        stage.judge(&client.name, verdict);
    }

    /// Sends one batch and waits for its answer.
    async fn send(&mut self, spot: Spot, acks: i16, batch: &Batch) -> Answer {
        let topic = self.actor.named(spot.0);
        let request = requests::produce(topic, spot.1, acks, batch.bytes.clone());
        answer(self.actor.client.ask(topic.produce_version(), request, PATIENCE).await)
    }
}

/// Runs a producer without an id. It repeats a batch at most once, and both may be appended.
pub async fn run_plain(actor: Actor) {
    let mut producer = Producer { actor, sent: 0 };
    if !producer.actor.topics_exist().await {
        return;
    }
    while producer.actor.stage.is_loading() {
        let spot = producer.actor.spot();
        let values = producer.values(spot, Kind::Plain);
        let bytes = requests::batch(producer.actor.wall_ms(), None, &values);
        let mut batch = Batch { bytes, values, first_sent: None };
        let acks = if producer.actor.rng.random() { 1 } else { -1 };
        for _ in 0..producer.actor.rng.random_range(1..=2) {
            let life = producer.actor.stage.life();
            let is_first = batch.first_sent.replace(life).is_none();
            match producer.send(spot, acks, &batch).await {
                Answer::At(base) => {
                    let life = (is_first && life == producer.actor.stage.life()).then_some(life);
                    producer.acknowledged(spot, base, &batch, life);
                    break;
                }
                Answer::Refused(code) => {
                    producer.actor.expect("a plain batch", code, &[code::NOT_LEADER, code::REQUEST_TIMED_OUT]);
                }
                Answer::Lost => {}
            }
        }
        producer.actor.rest(60).await;
    }
}

/// An idempotent producer.
struct Sure {
    producer: Producer,
    id: i64,
    lanes: BTreeMap<Spot, Lane>,
}

/// Runs an idempotent producer.
pub async fn run_idempotent(actor: Actor) {
    let mut sure = Sure { producer: Producer { actor, sent: 0 }, id: -1, lanes: BTreeMap::new() };
    if !sure.producer.actor.topics_exist().await {
        return;
    }
    while sure.producer.actor.stage.is_loading() {
        if sure.id < 0 {
            sure.begin().await;
        } else {
            sure.act().await;
        }
        sure.producer.actor.rest(50).await;
    }
    sure.drain().await;
}

impl Sure {
    /// Gets an id, and with it new sequences.
    async fn begin(&mut self) {
        let Actor { client, stage, .. } = &mut self.producer.actor;
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let Some(answer) = client.ask(version::INIT_PRODUCER_ID, request, PATIENCE).await else { return };
        if answer.error_code != code::NONE {
            let allowed = [code::COORDINATOR_LOADING, code::REQUEST_TIMED_OUT];
            return self.producer.actor.expect("InitProducerId", answer.error_code, &allowed);
        }
        self.id = answer.producer_id.0;
        note!(client, "is producer {}", self.id);
        let verdict = stage.ledger().producer_id(self.id);
        stage.judge(&client.name, verdict);
        self.lanes.clear();
    }

    async fn act(&mut self) {
        let spot = self.producer.actor.spot();
        let lane = self.lanes.entry(spot).or_default();
        let settled = lane.pending.is_empty();
        let last = lane.last.clone().filter(|_| settled);
        match (self.producer.actor.rng.random_range(0..100), last) {
            (0..6, Some(_)) => self.send_beyond_gap(spot).await,
            (6..14, Some(last)) => self.send_again(spot, last).await,
            (14..16, _) => self.id = -1,
            _ => {
                for _ in 0..self.producer.actor.rng.random_range(1..=3) {
                    self.add(spot);
                }
                self.flush(spot).await;
            }
        }
    }

    /// Adds a batch to what is under way, if there is room.
    fn add(&mut self, spot: Spot) {
        if self.lanes.entry(spot).or_default().pending.len() >= 3 {
            return;
        }
        let values = self.producer.values(spot, Kind::Idempotent);
        let lane = self.lanes.entry(spot).or_default();
        let bytes = requests::batch(self.producer.actor.wall_ms(), Some((self.id, lane.next_sequence)), &values);
        lane.next_sequence += values.len() as i32;
        lane.pending.push_back(Batch { bytes, values, first_sent: None });
    }

    /// Sends everything under way in order, without waiting in between, and then reads the answers.
    async fn flush(&mut self, spot: Spot) {
        let life = self.producer.actor.stage.life();
        let lane = self.lanes.entry(spot).or_default();
        let batches = lane.pending.make_contiguous();
        let were_new: Vec<bool> = batches.iter_mut().map(|batch| batch.first_sent.replace(life).is_none()).collect();
        let batches: Vec<Batch> = batches.to_vec();
        let topic = self.producer.actor.named(spot.0);
        let mut tickets = Vec::new();
        for batch in &batches {
            let request = requests::produce(topic, spot.1, -1, batch.bytes.clone());
            match self.producer.actor.client.send(topic.produce_version(), &request, PATIENCE).await {
                Some(ticket) => tickets.push(ticket),
                None => return,
            }
        }
        let mut answers = Vec::new();
        for ticket in tickets {
            let answer = answer(self.producer.actor.client.receive(ticket, PATIENCE).await);
            answers.push(answer);
            if answer == Answer::Lost {
                break;
            }
        }
        answers.resize(batches.len(), Answer::Lost);
        let mut unsettled = VecDeque::new();
        for ((batch, answer), was_new) in batches.into_iter().zip(answers).zip(were_new) {
            match answer {
                Answer::At(base) => {
                    let life = (was_new && life == self.producer.actor.stage.life()).then_some(life);
                    self.producer.acknowledged(spot, base, &batch, life);
                    self.lanes.entry(spot).or_default().last = Some(batch);
                }
                Answer::Refused(code) => {
                    let mut allowed = vec![code::NOT_LEADER, code::REQUEST_TIMED_OUT];
                    // Only behind one that was not appended may there be a gap.
                    if !unsettled.is_empty() {
                        allowed.push(code::OUT_OF_ORDER);
                    }
                    self.producer.actor.expect("a batch in sequence", code, &allowed);
                    unsettled.push_back(batch);
                }
                Answer::Lost => unsettled.push_back(batch),
            }
        }
        self.lanes.entry(spot).or_default().pending = unsettled;
    }

    /// The same batch once more must get the same offset once more.
    async fn send_again(&mut self, spot: Spot, last: Batch) {
        match self.producer.send(spot, -1, &last).await {
            Answer::At(base) => self.producer.acknowledged(spot, base, &last, None),
            Answer::Refused(code) => {
                let allowed = [code::NOT_LEADER, code::REQUEST_TIMED_OUT];
                self.producer.actor.expect("a repeated batch", code, &allowed);
            }
            Answer::Lost => {}
        }
    }

    async fn send_beyond_gap(&mut self, spot: Spot) {
        let values = self.producer.values(spot, Kind::Forbidden);
        let gap = self.producer.actor.rng.random_range(1..4);
        let sequence = self.lanes.entry(spot).or_default().next_sequence + gap;
        let bytes = requests::batch(self.producer.actor.wall_ms(), Some((self.id, sequence)), &values);
        let batch = Batch { bytes, values, first_sent: None };
        match self.producer.send(spot, -1, &batch).await {
            Answer::At(base) => self.producer.acknowledged(spot, base, &batch, None),
            Answer::Refused(code) => {
                self.producer.actor.expect("a batch beyond a gap", code, &[code::OUT_OF_ORDER, code::NOT_LEADER]);
            }
            Answer::Lost => self.id = -1,
        }
    }

    /// Everything is answered in the end.
    async fn drain(&mut self) {
        let began_ms = self.producer.actor.stage.now_ms();
        let open = |lanes: &BTreeMap<Spot, Lane>| {
            lanes.iter().find(|(_, lane)| !lane.pending.is_empty()).map(|(spot, _)| *spot)
        };
        while self.id >= 0 && self.producer.actor.stage.broken().is_none() {
            let Some(spot) = open(&self.lanes) else { return };
            self.flush(spot).await;
            let Actor { client, stage, .. } = &self.producer.actor;
            if stage.now_ms() > began_ms + DRAIN_MS {
                stage.judge(&client.name, Err("the faults are over, and a batch is still not acknowledged".into()));
            }
        }
    }
}
