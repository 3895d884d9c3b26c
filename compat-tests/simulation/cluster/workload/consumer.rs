//! A consumer that follows the logs, at the leader or at any other replica, and asks where they end.
//!
//! What one broker says in one life never goes back. Between brokers a high watermark may: a new leader learns it
//! anew. What it answers to ListOffsets may not (KIP-207).

use std::collections::BTreeMap;
use std::sync::Weak;

use kafka_protocol::messages::fetch_response::PartitionData;
use ottla::partitions::Partition;
use rand::Rng;

use crate::checkers::Spot;
use crate::checkers::log::{FetchAnswer, FetchAsked, Floor};
use crate::cluster::caller::{Caller, ELSEWHERE};
use crate::requests::{self, FetchHow, code, version};
use crate::stage::note;

const LATEST: i64 = -1;

/// What one replica has said so far.
struct Said {
    replica: Weak<Partition>,
    floor: Floor,
}

struct Reader {
    caller: Caller,
    said: BTreeMap<(usize, Spot), Said>,
    positions: BTreeMap<Spot, i64>,
}

/// Runs until the load is over.
pub async fn run(mut caller: Caller) {
    if !caller.topics_exist().await {
        return;
    }
    let mut reader = Reader { caller, said: BTreeMap::new(), positions: BTreeMap::new() };
    while reader.caller.stage.is_loading() {
        let spot = reader.caller.spot();
        let anybody = reader.caller.somebody();
        let leader = reader.caller.leader(spot).await;
        match (reader.caller.rng.random_range(0..100), leader) {
            (0..60, Some(leader)) => reader.follow(leader, spot).await,
            (60..75, _) => reader.follow(anybody, spot).await,
            (75..85, Some(leader)) => {
                let end = reader.positions.get(&spot).copied().unwrap_or(0);
                let from = reader.caller.rng.random_range(0..=end);
                reader.fetch(leader, spot, from).await;
            }
            (_, Some(leader)) => reader.list(leader, spot).await,
            (_, None) => {}
        }
        reader.caller.rest(80).await;
    }
}

impl Reader {
    /// What the replica that `node` has now has said. Another life of it, or another replica, may know less.
    fn said(&mut self, node: usize, spot: Spot) -> &mut Said {
        let replica = self.caller.cluster.replica(node, spot);
        let fresh = || Said { replica: replica.clone(), floor: Floor::default() };
        let said = self.said.entry((node, spot)).or_insert_with(fresh);
        if !said.replica.ptr_eq(&replica) {
            *said = fresh();
        }
        said
    }

    async fn follow(&mut self, node: usize, spot: Spot) {
        let from = self.positions.get(&spot).copied().unwrap_or(0);
        let next = self.fetch(node, spot, from).await;
        self.positions.insert(spot, next.max(from));
    }

    /// Fetches one partition and returns where to go on.
    async fn fetch(&mut self, node: usize, spot: Spot, from: i64) -> i64 {
        let rng = &mut self.caller.rng;
        let how = FetchHow {
            wait_ms: rng.random_range(0..300),
            bytes_max: [1, 400, 5_000, 200_000][rng.random_range(0..4)],
            isolation: rng.random_range(0..=1),
            session: (0, -1),
            leader_epoch: -1,
        };
        // Some say which leader epoch they know, be it the present one or not (KIP-320).
        let known = self.caller.epoch(spot);
        let leader_epoch = match self.caller.rng.random_range(0..10) {
            0..4 => -1,
            4..8 => known,
            8 => known - 1,
            _ => known + 1,
        };
        let how = FetchHow { leader_epoch: leader_epoch.max(-1), ..how };
        let epoch_then = self.caller.cluster.replica(node, spot).upgrade().and_then(|replica| replica.epoch());
        let topic = self.caller.named(spot.0);
        let (replica, floor) = {
            let said = self.said(node, spot);
            (said.replica.clone(), said.floor)
        };
        let request = requests::fetch(how, &[(topic, spot.1, from)]);
        let Some(answer) = self.caller.ask(node, topic.fetch_version(), request).await else { return from };
        self.caller.expect("a fetch", answer.error_code, &[&[code::NONE][..], &ELSEWHERE].concat());
        let partition = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let Some(partition) = partition else { return from };
        let is_same = self.said(node, spot).replica.ptr_eq(&replica);
        let epoch_now = replica.upgrade().and_then(|replica| replica.epoch());
        if let (true, Some(then), Some(now)) = (is_same, epoch_then, epoch_now)
            && how.leader_epoch >= 0
            && !ELSEWHERE.contains(&partition.error_code)
            && !(then..=now).contains(&how.leader_epoch)
        {
            let asked = how.leader_epoch;
            let sentence = format!("{spot:?}: one that knows epoch {asked} was served in epoch {then} to {now}");
            self.caller.stage.judge(&self.caller.name, Err(sentence));
        }
        let floor = if is_same { floor } else { Floor::default() };
        match self.take(node, spot, FetchAsked { from, floor, alone: true }, partition) {
            Ok(Some(next)) => next,
            Ok(None) => {
                self.caller.refresh().await;
                from
            }
            Err(sentence) => {
                let sentence = format!("{spot:?} at {}: {sentence}", self.caller.cluster.nodes[node].name());
                self.caller.stage.judge(&self.caller.name, Err(sentence));
                from
            }
        }
    }

    /// Judges an answer and returns where to go on; `None` if it is to be asked elsewhere.
    fn take(
        &mut self,
        node: usize,
        spot: Spot,
        asked: FetchAsked,
        partition: PartitionData,
    ) -> Result<Option<i64>, String> {
        let stage = self.caller.stage.clone();
        match partition.error_code {
            code::NONE => {}
            code::OFFSET_OUT_OF_RANGE => {
                let mut ledger = stage.ledger();
                ledger.log(spot).out_of_range(asked)?;
                return Ok(Some(ledger.log(spot).delete_asked().max(asked.from)));
            }
            code::OFFSET_NOT_AVAILABLE => return Ok(Some(asked.from)),
            code => {
                self.caller.expect("a fetch of a partition", code, &ELSEWHERE);
                return Ok(None);
            }
        }
        let records = requests::records(partition.records.unwrap_or_default())?;
        let answer = FetchAnswer {
            high_watermark: partition.high_watermark,
            last_stable: partition.last_stable_offset,
            log_start: partition.log_start_offset,
            records,
        };
        let next = answer.records.last().map_or(asked.from, |last| last.offset + 1);
        note!(self.caller, "{spot:?} read {}..{next} below {} at {}", asked.from, answer.high_watermark, node + 1);
        stage.ledger().log(spot).fetched(asked, &answer)?;
        let floor = &mut self.said(node, spot).floor;
        floor.high_watermark = floor.high_watermark.max(answer.high_watermark);
        floor.log_start = floor.log_start.max(answer.log_start);
        Ok(Some(next))
    }

    /// Asks for the end of the log.
    async fn list(&mut self, node: usize, spot: Spot) {
        let known = self.caller.stage.ledger().log(spot).floor().high_watermark;
        let newest = self.caller.cluster.lookout.borrow().leader_epoch(spot);
        let request = requests::list_offsets(spot, LATEST);
        let Some(answer) = self.caller.ask(node, version::LIST_OFFSETS, request).await else { return };
        let Some(found) = answer.topics.first().and_then(|topic| topic.partitions.first()) else { return };
        match found.error_code {
            code::NONE => {}
            code::OFFSET_NOT_AVAILABLE => return,
            code => {
                self.caller.expect("ListOffsets", code, &ELSEWHERE);
                return self.caller.refresh().await;
            }
        }
        note!(self.caller, "{spot:?} ends at {} in epoch {}", found.offset, found.leader_epoch);
        if found.leader_epoch >= newest && found.offset < known {
            let sentence =
                format!("{spot:?} ends at {} in epoch {}, but {known} is committed", found.offset, found.leader_epoch);
            self.caller.stage.judge(&self.caller.name, Err(sentence));
        }
    }
}
