//! A client of a cluster: a connection to each broker it speaks to, and what it knows of who leads what.
//!
//! Invariant: as real clients do, it never believes metadata with an older leader epoch than it has heard of.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kafka_protocol::protocol::Request;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use uuid::Uuid;

use super::Cluster;
use super::plan::NODES;
use crate::checkers::{Spot, spots};
use crate::client::Client;
use crate::requests::{self, Named, code, version};
use crate::stage::{Stage, note};
use crate::workload::{PATIENCE, WALL_START_MS};

/// As long as the leader of the partition that falls silent is away.
const SILENCE_YOUNG_MS: u64 = 8_000;

/// Where brokers listen for clients.
pub const PORT: u16 = 9092;

/// Errors with which a broker says that somebody else leads, that it has not heard of the partition yet, or that it has
/// lost the disk and nobody leads from whom it could fetch what was on it.
pub const ELSEWHERE: [i16; 7] = [
    code::STORAGE,
    code::UNKNOWN_TOPIC,
    code::LEADER_NOT_AVAILABLE,
    code::NOT_LEADER,
    code::FENCED_EPOCH,
    code::UNKNOWN_EPOCH,
    code::UNKNOWN_TOPIC_ID,
];

/// See the file's head.
pub struct Caller {
    pub name: String,
    pub cluster: Rc<Cluster>,
    pub stage: Rc<Stage>,
    pub rng: ChaCha12Rng,
    links: BTreeMap<usize, Client>,
    /// Who leads, and in which epoch.
    leaders: BTreeMap<Spot, (Option<usize>, i32)>,
}

impl Caller {
    pub fn new(cluster: &Rc<Cluster>, seed: u64, name: &str) -> Caller {
        let number = name.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Caller {
            name: name.to_owned(),
            cluster: cluster.clone(),
            stage: cluster.stage.clone(),
            rng: ChaCha12Rng::seed_from_u64(number),
            links: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    /// The connection to a node.
    pub fn link(&mut self, node: usize) -> &mut Client {
        let (name, stage) = (&self.name, &self.stage);
        self.links.entry(node).or_insert_with(|| Client::of(name, stage, (NODES[node], PORT)))
    }

    /// Asks one node.
    pub async fn ask<R: Request>(&mut self, node: usize, version: i16, request: R) -> Option<R::Response> {
        self.link(node).ask(version, request, PATIENCE).await
    }

    /// Any broker.
    pub fn somebody(&mut self) -> usize {
        let brokers: Vec<usize> = self.cluster.plan.brokers().collect();
        brokers[self.rng.random_range(0..brokers.len())]
    }

    /// Asks some broker who leads.
    pub async fn refresh(&mut self) {
        let node = self.somebody();
        let Some(answer) = self.ask(node, version::METADATA, requests::all_metadata()).await else { return };
        for spot in spots() {
            let named = |topic: &&kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
                topic.name.as_ref().is_some_and(|name| &***name == spot.0)
            };
            let topic = answer.topics.iter().find(named);
            let mut partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
            let Some(partition) = partitions.find(|partition| partition.partition_index == spot.1) else { continue };
            let known = self.leaders.get(&spot).map_or(-1, |(_, epoch)| *epoch);
            if partition.leader_epoch >= known {
                let leader = usize::try_from(partition.leader_id.0 - 1).ok();
                let news = (leader, partition.leader_epoch);
                if self.leaders.insert(spot, news) != Some(news) {
                    let said_by = NODES[node];
                    note!(self, "{spot:?} is led by {leader:?} in epoch {}, says {said_by}", news.1);
                }
            }
        }
    }

    /// Who leads, as far as this client knows; asks if it does not know.
    pub async fn leader(&mut self, spot: Spot) -> Option<usize> {
        if self.leaders.get(&spot).is_none_or(|(leader, _)| leader.is_none()) {
            self.refresh().await;
        }
        self.leaders.get(&spot).and_then(|(leader, _)| *leader)
    }

    /// True if `node` leads by the newest metadata that there are.
    pub fn leads(&self, node: usize, spot: Spot) -> bool {
        let registration = self.cluster.lookout.borrow().registration(spot);
        let leader = registration.and_then(|registration| registration.leader);
        leader.is_some_and(|id| usize::try_from(id.0 - 1) == Ok(node))
    }

    /// The newest leader epoch that this client knows; -1 if it knows none.
    pub fn epoch(&self, spot: Spot) -> i32 {
        self.leaders.get(&spot).map_or(-1, |(_, epoch)| *epoch)
    }

    /// Rests for up to `most_ms`.
    pub async fn rest(&mut self, most_ms: u64) {
        let pause = self.rng.random_range(0..=most_ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    pub fn spot(&mut self) -> Spot {
        let all: Vec<Spot> = spots().collect();
        all[self.rng.random_range(0..all.len())]
    }

    /// The partition to which nobody writes at present.
    fn silent_spot(&self) -> Option<Spot> {
        let silence = self.cluster.plan.silence.filter(|(_, from_ms)| self.stage.now_ms() >= *from_ms);
        silence.and_then(|(silent, _)| spots().nth(silent))
    }

    /// Nobody writes to a partition any more, and its leader has just been cut off.
    pub fn has_fallen_silent(&self) -> bool {
        let is_young = |from_ms| (from_ms..from_ms + SILENCE_YOUNG_MS).contains(&self.stage.now_ms());
        self.cluster.plan.silence.is_some_and(|(_, from_ms)| is_young(from_ms))
    }

    /// A partition to write to.
    pub fn spot_to_write(&mut self) -> Spot {
        let silent = self.silent_spot();
        let all: Vec<Spot> = spots().filter(|spot| Some(*spot) != silent).collect();
        all[self.rng.random_range(0..all.len())]
    }

    /// A partition to delete records of: often the one to which nobody writes, for nothing that comes later would hide
    /// that a replica did not hear of it.
    pub fn spot_to_trim(&mut self) -> Spot {
        let silent = self.silent_spot().filter(|_| self.rng.random_bool(0.7));
        silent.unwrap_or_else(|| self.spot())
    }

    /// `topic` as the next request may name it.
    pub fn named(&mut self, topic: &'static str) -> Named {
        let id = self.stage.ledger().topics.known(topic).map_or(Uuid::nil(), |topic| topic.id);
        Named { name: topic, id, by_id: self.rng.random() }
    }

    /// Ends the run if `code` is not among those that a client has to live with.
    pub fn expect(&self, what: &str, code: i16, allowed: &[i16]) {
        if !allowed.contains(&code) {
            self.stage.judge(&self.name, Err(format!("{what} was answered with error {code}")));
        }
    }

    /// Waits for the topics; false if the load is over before.
    pub async fn topics_exist(&mut self) -> bool {
        while self.stage.is_loading() {
            if spots().all(|(topic, _)| self.stage.ledger().topics.known(topic).is_some()) {
                return true;
            }
            self.rest(20).await;
        }
        false
    }

    pub fn wall_ms(&self) -> i64 {
        WALL_START_MS + self.stage.now_ms() as i64
    }
}
