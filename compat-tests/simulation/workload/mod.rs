//! Who does what on which host: the cast of a run.
//!
//! Invariants: an actor draws from a generator of its own, so that what one does changes nothing in what another
//! draws; actors tell the ledger what they are about to ask, and what they were answered, and judge nothing
//! themselves but error codes.

mod admin;
pub mod auditor;
pub mod committer;
mod consumer;
pub mod member;
mod producer;
mod session;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use uuid::Uuid;

use crate::checkers::{Spot, TOPICS, spots};
use crate::client::Client;
use crate::requests::Named;
use crate::stage::Stage;

/// How long an answer may take before the client gives up.
pub const PATIENCE: Duration = Duration::from_millis(2_500);
/// How long the drain after the load may take.
pub const DRAIN_MS: u64 = 8_000;
/// The wall clock at the beginning of a run.
pub const WALL_START_MS: i64 = 1_750_000_000_000;

/// A group of members, and two that only commit.
pub const GROUPS: [&str; 3] = ["team", "solo-a", "solo-b"];

type Part = Pin<Box<dyn Future<Output = ()>>>;

/// What every actor has.
pub struct Actor {
    pub client: Client,
    pub stage: Rc<Stage>,
    pub rng: ChaCha12Rng,
}

impl Actor {
    fn new(stage: &Rc<Stage>, seed: u64, name: &str) -> Actor {
        Actor::with(Client::new(name, stage), stage, seed)
    }

    /// An actor with a client of its own.
    pub fn with(client: Client, stage: &Rc<Stage>, seed: u64) -> Actor {
        let name = &client.name;
        let number = name.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Actor { client, stage: stage.clone(), rng: ChaCha12Rng::seed_from_u64(number) }
    }

    /// Rests for up to `most_ms`.
    async fn rest(&mut self, most_ms: u64) {
        let pause = self.rng.random_range(0..=most_ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    fn spot(&mut self) -> Spot {
        let all: Vec<Spot> = spots().collect();
        all[self.rng.random_range(0..all.len())]
    }

    /// `topic` as the next request may name it.
    fn named(&mut self, topic: &'static str) -> Named {
        let id = self.stage.ledger().topics.known(topic).map_or(Uuid::nil(), |topic| topic.id);
        Named { name: topic, id, by_id: self.rng.random() }
    }

    /// Ends the run if `code` is not among those that a client has to live with here.
    fn expect(&self, what: &str, code: i16, allowed: &[i16]) {
        if !allowed.contains(&code) {
            self.stage.judge(&self.client.name, Err(format!("{what} was answered with error {code}")));
        }
    }

    /// In which epoch the broker that is spoken to coordinates `group`.
    fn authority(&self, group: &str) -> Option<i32> {
        self.stage.authority(self.client.at(), group)
    }

    /// Waits for the topics; false if the load is over before.
    async fn topics_exist(&mut self) -> bool {
        while self.stage.is_loading() {
            if TOPICS.iter().all(|(topic, _)| self.stage.ledger().topics.known(topic).is_some()) {
                return true;
            }
            self.rest(20).await;
        }
        false
    }

    fn wall_ms(&self) -> i64 {
        WALL_START_MS + self.stage.now_ms() as i64
    }
}

/// Everything that the clients of one host do until the load is over.
pub async fn play(stage: Rc<Stage>, seed: u64, host: usize, append_time: bool) -> turmoil::Result {
    let actor = |name: &str| Actor::new(&stage, seed, name);
    let parts: Vec<Part> = match host {
        0 => vec![
            Box::pin(admin::run(actor("admin"), append_time)),
            Box::pin(producer::run_idempotent(actor("sure-0"))),
            Box::pin(consumer::run(actor("reader-0"))),
            Box::pin(committer::run(actor("solo-a"), "solo-a")),
            Box::pin(member::run(actor("member-0"), "team")),
        ],
        1 => vec![
            Box::pin(producer::run_plain(actor("plain-0"))),
            Box::pin(producer::run_idempotent(actor("sure-1"))),
            Box::pin(session::run(actor("session"))),
            Box::pin(member::run(actor("member-1"), "team")),
        ],
        _ => vec![
            Box::pin(producer::run_plain(actor("plain-1"))),
            Box::pin(producer::run_idempotent(actor("sure-2"))),
            Box::pin(consumer::run(actor("reader-1"))),
            Box::pin(committer::run(actor("solo-b"), "solo-b")),
            Box::pin(member::run(actor("member-2"), "team")),
        ],
    };
    join_all(parts).await;
    Ok(())
}
