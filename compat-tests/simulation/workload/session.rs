//! A consumer that follows every partition in one fetch session (KIP-227): it repeats only what changed, and is
//! told only what changed.

use std::collections::BTreeMap;

use rand::Rng;

use super::{Actor, PATIENCE};
use crate::checkers::log::{FetchAnswer, FetchAsked, Floor};
use crate::checkers::{Spot, spots};
use crate::requests::{self, FetchHow, Named, code};
use crate::stage::note;

/// A session from the client's side.
struct Session {
    /// 0 before there is one.
    id: i32,
    epoch: i32,
    /// A session names its topics in one way only.
    by_id: bool,
    positions: BTreeMap<Spot, i64>,
    /// The positions that the broker knows of.
    told: BTreeMap<Spot, i64>,
}

/// Runs until the load is over.
pub async fn run(mut actor: Actor) {
    if !actor.topics_exist().await {
        return;
    }
    let positions = spots().map(|spot| (spot, 0)).collect();
    let mut session = Session { id: 0, epoch: 0, by_id: false, positions, told: BTreeMap::new() };
    while actor.stage.is_loading() {
        poll(&mut actor, &mut session).await;
        actor.rest(60).await;
    }
}

impl Session {
    /// The next request opens a new session in place of this one.
    fn reset(&mut self, actor: &mut Actor) {
        self.epoch = 0;
        self.told.clear();
        self.by_id = actor.rng.random();
    }

    fn news(&self, actor: &Actor) -> Vec<(Named, i32, i64)> {
        let changed = self.positions.iter().filter(|(spot, from)| self.told.get(spot) != Some(from));
        let ledger = actor.stage.ledger();
        let named = |topic| {
            let id = ledger.topics.known(topic).map_or_else(uuid::Uuid::nil, |topic| topic.id);
            Named { name: topic, id, by_id: self.by_id }
        };
        changed.map(|(spot, from)| (named(spot.0), spot.1, *from)).collect()
    }
}

async fn poll(actor: &mut Actor, session: &mut Session) {
    let how = FetchHow {
        wait_ms: actor.rng.random_range(0..400),
        bytes_max: [2_000, 30_000, 500_000][actor.rng.random_range(0..3)],
        isolation: 0,
        session: (session.id, session.epoch),
        leader_epoch: -1,
    };
    let asked = session.news(actor);
    let floors: BTreeMap<Spot, Floor> = {
        let ledger = actor.stage.ledger();
        ledger.logs.iter().map(|(spot, log)| (*spot, log.floor())).collect()
    };
    let version = if session.by_id { 17 } else { 12 };
    let Some(answer) = actor.client.ask(version, requests::fetch(how, &asked), PATIENCE).await else {
        return session.reset(actor);
    };
    if answer.error_code != code::NONE {
        let allowed = [code::FETCH_SESSION_NOT_FOUND, code::FETCH_SESSION_EPOCH];
        actor.expect("a fetch in a session", answer.error_code, &allowed);
        return session.reset(actor);
    }
    session.told = session.positions.clone();
    session.id = answer.session_id;
    session.epoch = if answer.session_id == 0 { 0 } else { session.epoch + 1 };
    note!(actor.client, "session {} changes {}", session.id, answer.responses.len());
    for topic in answer.responses {
        for partition in topic.partitions {
            let id_of = |name: &'static str| actor.stage.ledger().topics.known(name).map(|topic| topic.id);
            let is_named = |name: &'static str| {
                if session.by_id { id_of(name) == Some(topic.topic_id) } else { name == topic.topic.as_str() }
            };
            let spot = spots().find(|&(name, index)| is_named(name) && index == partition.partition_index);
            let Some(spot) = spot else {
                actor.stage.judge(&actor.client.name, Err("a session answered a partition nobody asked for".into()));
                return;
            };
            let asked = FetchAsked { from: session.positions[&spot], floor: floors[&spot], alone: false };
            let next = take(actor, spot, asked, partition);
            session.positions.insert(spot, next);
        }
    }
}

/// Judges one partition of an answer and returns where to go on.
fn take(
    actor: &Actor,
    spot: Spot,
    asked: FetchAsked,
    partition: kafka_protocol::messages::fetch_response::PartitionData,
) -> i64 {
    let Actor { client, stage, .. } = actor;
    let verdict = match partition.error_code {
        code::NONE => requests::records(partition.records.unwrap_or_default()).and_then(|records| {
            let answer = FetchAnswer {
                high_watermark: partition.high_watermark,
                last_stable: partition.last_stable_offset,
                log_start: partition.log_start_offset,
                records,
            };
            let next = answer.records.last().map_or(asked.from, |last| last.offset + 1);
            note!(client, "{spot:?} read {}..{next} below {}", asked.from, answer.high_watermark);
            stage.ledger().log(spot).fetched(asked, &answer).map(|()| next)
        }),
        code::OFFSET_OUT_OF_RANGE => {
            let mut ledger = stage.ledger();
            let next = ledger.log(spot).delete_asked();
            ledger.log(spot).out_of_range(asked).map(|()| next)
        }
        code => {
            actor.expect("a partition of a session", code, &[code::NOT_LEADER, code::OFFSET_NOT_AVAILABLE]);
            Ok(asked.from)
        }
    };
    match verdict {
        Ok(next) => next,
        Err(sentence) => {
            stage.judge(&client.name, Err(format!("{spot:?}: {sentence}")));
            asked.from
        }
    }
}
