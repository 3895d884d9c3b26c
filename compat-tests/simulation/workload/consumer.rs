//! A consumer that follows the log, jumps back into it, and asks where things are.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{BrokerId, OffsetForLeaderEpochRequest};
use rand::Rng;

use super::{Actor, PATIENCE};
use crate::checkers::Spot;
use crate::checkers::log::{FetchAnswer, FetchAsked};
use crate::requests::{self, FetchHow, code, topic_name, version};
use crate::stage::note;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Runs until the load is over.
pub async fn run(mut actor: Actor) {
    if !actor.topics_exist().await {
        return;
    }
    let mut positions: BTreeMap<Spot, i64> = BTreeMap::new();
    while actor.stage.is_loading() {
        let spot = actor.spot();
        match actor.rng.random_range(0..100) {
            0..60 => {
                let from = positions.get(&spot).copied().unwrap_or(0);
                let next = fetch(&mut actor, spot, from).await;
                positions.insert(spot, next);
            }
            60..76 => {
                let end = actor.stage.ledger().log(spot).floor().high_watermark;
                let from = actor.rng.random_range(0..=end);
                fetch(&mut actor, spot, from).await;
            }
            76..84 => list(&mut actor, spot).await,
            84..88 => look_up(&mut actor, spot).await,
            _ => ask_epoch_end(&mut actor, spot).await,
        }
        actor.rest(40).await;
    }
}

/// Fetches one partition and returns where to go on.
async fn fetch(actor: &mut Actor, spot: Spot, from: i64) -> i64 {
    let topic = actor.named(spot.0);
    let bytes_max = [1, 400, 5_000, 200_000][actor.rng.random_range(0..4)];
    let (wait_ms, isolation) = (actor.rng.random_range(0..300), actor.rng.random_range(0..=1));
    let how = FetchHow { wait_ms, bytes_max, isolation, session: (0, -1), leader_epoch: -1 };
    let floor = actor.stage.ledger().log(spot).floor();
    let asked = FetchAsked { from, floor, alone: true };
    let request = requests::fetch(how, &[(topic, spot.1, from)]);
    let Some(answer) = actor.client.ask(topic.fetch_version(), request, PATIENCE).await else { return from };
    actor.expect("a fetch", answer.error_code, &[code::NONE]);
    let Some(partition) = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next())
    else {
        actor.stage.judge(&actor.client.name, Err("a fetch of one partition was answered with none".into()));
        return from;
    };
    let Actor { client, stage, .. } = &*actor;
    match partition.error_code {
        code::NONE => {}
        code::OFFSET_OUT_OF_RANGE => {
            note!(client, "{spot:?} from {from} is out of range");
            let mut ledger = stage.ledger();
            let verdict = ledger.log(spot).out_of_range(asked);
            let next = ledger.log(spot).delete_asked();
            drop(ledger);
            stage.judge(&client.name, verdict);
            return next;
        }
        code => {
            // What is asked for may be about to be deleted.
            actor.expect("a fetch of a partition", code, &[code::NOT_LEADER, code::OFFSET_NOT_AVAILABLE]);
            return from;
        }
    }
    let records = match requests::records(partition.records.unwrap_or_default()) {
        Ok(records) => records,
        Err(reason) => {
            stage.judge(&client.name, Err(format!("{spot:?} from {from}: {reason}")));
            return from;
        }
    };
    let answer = FetchAnswer {
        high_watermark: partition.high_watermark,
        last_stable: partition.last_stable_offset,
        log_start: partition.log_start_offset,
        records,
    };
    let next = answer.records.last().map_or(from, |last| last.offset + 1);
    note!(client, "{spot:?} read {from}..{next} below {}", answer.high_watermark);
    let verdict = stage.ledger().log(spot).fetched(asked, &answer);
    stage.judge(&client.name, verdict.map_err(|sentence| format!("{spot:?}: {sentence}")));
    next
}

/// Asks one partition for the offset of `timestamp`; the answer is offset, timestamp and leader epoch.
async fn offset_of(actor: &mut Actor, spot: Spot, timestamp: i64) -> Option<(i64, i64, i32)> {
    let request = requests::list_offsets(spot, timestamp);
    let answer = actor.client.ask(version::LIST_OFFSETS, request, PATIENCE).await?;
    let partition = answer.topics.first().and_then(|topic| topic.partitions.first())?;
    if partition.error_code != code::NONE {
        actor.expect("ListOffsets", partition.error_code, &[code::NOT_LEADER, code::OFFSET_NOT_AVAILABLE]);
        return None;
    }
    note!(actor.client, "{spot:?} at time {timestamp} has {}", partition.offset);
    Some((partition.offset, partition.timestamp, partition.leader_epoch))
}

async fn list(actor: &mut Actor, spot: Spot) {
    let timestamp = if actor.rng.random() { LATEST } else { EARLIEST };
    let floor = actor.stage.ledger().log(spot).floor();
    let Some((offset, _, epoch)) = offset_of(actor, spot, timestamp).await else { return };
    let mut ledger = actor.stage.ledger();
    let log = ledger.log(spot);
    let verdict = match timestamp {
        LATEST => log.at_high_watermark(floor, offset).and(log.at_leader_epoch(floor, epoch)),
        _ => log.at_log_start(floor, offset),
    };
    drop(ledger);
    actor.stage.judge(&actor.client.name, verdict.map_err(|sentence| format!("{spot:?}: {sentence}")));
}

/// Looks up a time at which, or shortly before or after which, there is a record.
async fn look_up(actor: &mut Actor, spot: Spot) {
    let (seen, known) = {
        let mut ledger = actor.stage.ledger();
        let log = ledger.log(spot);
        let from = actor.rng.random_range(0..=log.seen_end());
        (log.seen_at_or_after(from).map(|seen| seen.timestamp), log.seen_end())
    };
    let Some(timestamp) = seen else { return };
    let timestamp = timestamp + actor.rng.random_range(-2..=2);
    let Some((offset, at, _)) = offset_of(actor, spot, timestamp).await else { return };
    let found = (offset >= 0).then_some((offset, at));
    let verdict = actor.stage.ledger().log(spot).at_timestamp(timestamp, known, found);
    actor.stage.judge(&actor.client.name, verdict.map_err(|sentence| format!("{spot:?}: {sentence}")));
}

/// Asks where a past epoch ended.
async fn ask_epoch_end(actor: &mut Actor, spot: Spot) {
    let current = actor.stage.ledger().log(spot).floor().leader_epoch;
    if current == 0 {
        return;
    }
    let asked = actor.rng.random_range(0..current);
    let partition = OffsetForLeaderPartition::default()
        .with_partition(spot.1)
        .with_current_leader_epoch(current)
        .with_leader_epoch(asked);
    let topic = OffsetForLeaderTopic::default().with_topic(topic_name(spot.0)).with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let Some(answer) = actor.client.ask(version::OFFSET_FOR_LEADER_EPOCH, request, PATIENCE).await else { return };
    let Some(end) = answer.topics.first().and_then(|topic| topic.partitions.first()) else { return };
    if end.error_code != code::NONE {
        return actor.expect("OffsetForLeaderEpoch", end.error_code, &[code::NOT_LEADER, code::FENCED_EPOCH]);
    }
    note!(actor.client, "{spot:?} epoch {asked} ended with {} at {}", end.leader_epoch, end.end_offset);
    let mut ledger = actor.stage.ledger();
    let log = ledger.log(spot);
    let deleted_to = log.delete_asked();
    let verdict = log.epochs.answered(asked, end.leader_epoch, end.end_offset, deleted_to);
    drop(ledger);
    actor.stage.judge(&actor.client.name, verdict.map_err(|sentence| format!("{spot:?}: {sentence}")));
}
