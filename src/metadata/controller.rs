//! The round loop: everything that waits is decided together, proposed as one raft entry, and answered together.
//!
//! ```text
//! asks wait ─> decide each on a working image ─> propose once, stamped ─> applied and published ─> answer all
//!                 (requests arriving meanwhile form the next round: group commit for free)
//! ```
//!
//! A controller is *active* from the moment its claim is applied until the quorum follows another node, or may do so.
//! Invariants: nothing is decided before this controller's own claim has been applied, and nothing after another claim
//! has; one round is under way at a time, so nothing is speculative and nothing is undone; every ask is answered once:
//! decided, `NOT_CONTROLLER` (it had no effect) or `REQUEST_TIMED_OUT` (it may take effect). Who asks a controller that
//! is not active is told so at once: the queue never stands still.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::env::Env;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::image::{ActiveController, ClusterImage, ImageIndex};
use crate::metadata::quorum::{Proposed, Quorum};
use crate::metadata::record::MetadataRecord;
use crate::metadata::rules::Rules;
use crate::sabotage;

/// Asks that may wait; a further one waits for a place.
pub const ASKS_MAX: usize = 1024;

/// A round that has this many records takes no further ask. One ask may exceed it by itself.
const ROUND_RECORDS_MAX: usize = 10_000;

/// Most records that one request of a client may come to (`QuorumController.MAX_RECORDS_PER_USER_OP`).
pub const ASK_RECORDS_MAX: usize = 10_000;

/// Pause before another attempt to become active when the fate of a claim is unknown.
const CLAIM_RETRY: Duration = Duration::from_millis(100);

/// A question to the controller.
pub trait MetadataAsk: Send + 'static {
    type Answer: Send + 'static;

    /// Decides on the round's image and hands the round the records. Pure: everything random is inside the ask.
    fn decide(self, round: &mut Round) -> Self::Answer;
}

/// What the asks of one proposal have decided so far.
pub struct Round {
    image: ClusterImage,
    records: Vec<MetadataRecord>,
    rules: Rules,
}

impl Round {
    pub fn new(image: ClusterImage, rules: Rules) -> Round {
        Round { image, records: Vec::new(), rules }
    }

    /// The image with everything this round has accepted.
    pub fn image(&self) -> &ClusterImage {
        &self.image
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The records accepted so far.
    pub fn records(&self) -> &[MetadataRecord] {
        &self.records
    }

    /// Makes decided records part of the round.
    pub fn accept(&mut self, records: Vec<MetadataRecord>) {
        self.image.absorb(&records);
        self.records.extend(records);
    }

    /// Decides the items of a request one after the other; an outcome for each, in order. If it is only to `validate`,
    /// nothing stays of what was accepted. Nothing stays either of a request that comes to more than
    /// `ASK_RECORDS_MAX` records: it is refused whole, as soon as that is known.
    pub fn each<T, R>(
        &mut self,
        items: Vec<T>,
        validate: bool,
        mut decide: impl FnMut(&mut Round, T) -> Result<R, ApiError>,
    ) -> Vec<Result<R, ApiError>> {
        let (image, records, count) = (self.image.clone(), self.records.len(), items.len());
        let mut outcomes = Vec::with_capacity(count);
        let mut excessive = false;
        for item in items {
            outcomes.push(decide(self, item));
            excessive = self.records.len() - records > ASK_RECORDS_MAX;
            if excessive {
                let message = "Unable to perform excessively large batch operation.";
                outcomes.clear();
                outcomes.resize_with(count, || Err(ApiError::new(ErrorCode::PolicyViolation, message)));
                break;
            }
        }
        if validate || excessive {
            self.image = image;
            self.records.truncate(records);
        }
        outcomes
    }
}

/// An ask on its way through the queue, whatever its type.
trait Pending: Send {
    fn decide(&mut self, round: &mut Round);
    fn release(self: Box<Self>, fate: Result<(), ApiError>);
}

struct Asked<A: MetadataAsk> {
    ask: Option<A>,
    answer: Option<A::Answer>,
    reply: oneshot::Sender<Result<A::Answer, ApiError>>,
}

impl<A: MetadataAsk> Pending for Asked<A> {
    fn decide(&mut self, round: &mut Round) {
        self.answer = self.ask.take().map(|ask| ask.decide(round));
    }

    fn release(self: Box<Self>, fate: Result<(), ApiError>) {
        let Asked { answer, reply, .. } = *self;
        // Whoever asked may have gone.
        let _ = reply.send(fate.and_then(|()| answer.ok_or_else(not_controller)));
    }
}

/// What everybody is told who asks a node that is not the active controller.
pub fn not_controller() -> ApiError {
    ApiError::new(ErrorCode::NotController, "This is not the correct controller for this cluster.")
}

/// Where asks are handed in. Cheap to clone.
#[derive(Clone)]
pub struct Asks {
    queue: mpsc::Sender<Box<dyn Pending>>,
}

impl Asks {
    /// Waits for the round that decides `ask` to be applied.
    pub async fn ask<A: MetadataAsk>(&self, ask: A) -> Result<A::Answer, ApiError> {
        let (reply, answer) = oneshot::channel();
        let asked = Box::new(Asked { ask: Some(ask), answer: None, reply });
        self.queue.send(asked).await.map_err(|_| not_controller())?;
        answer.await.map_err(|_| not_controller())?
    }
}

/// The controller of this node: active while the quorum follows it.
pub struct Controller {
    claimant: Claimant,
    queue: mpsc::Receiver<Box<dyn Pending>>,
    rules: Rules,
    /// The epoch of the claim while this controller is active.
    active: watch::Sender<Option<i32>>,
}

/// Where a controller is asked, and whether it is active.
pub struct Desk {
    pub asks: Asks,
    /// The epoch of the claim while this controller is active.
    pub active: watch::Receiver<Option<i32>>,
}

impl Controller {
    pub fn new(
        env: &Env,
        quorum: Quorum,
        rules: Rules,
        identity: ActiveController,
        bootstrap: Vec<MetadataRecord>,
    ) -> (Controller, Desk) {
        let (asks, queue) = mpsc::channel(ASKS_MAX);
        let (active, is_active) = watch::channel(None);
        let claimant = Claimant { env: env.clone(), quorum, identity, bootstrap };
        (Controller { claimant, queue, rules, active }, Desk { asks: Asks { queue: asks }, active: is_active })
    }

    /// Runs until the quorum has ended or nobody can ask any more, and says why.
    pub async fn run(mut self) -> String {
        loop {
            let served = match self.become_active().await {
                Ok(epoch) => {
                    self.active.send_replace(Some(epoch));
                    self.serve(epoch).await
                }
                Err(reason) => Err(reason),
            };
            self.active.send_replace(None);
            if let Err(reason) = served {
                return reason;
            }
        }
    }

    /// Waits until the quorum follows this node, and claims. Whoever asks before raft even leads here is refused.
    async fn become_active(&mut self) -> Result<i32, String> {
        loop {
            let mut leading = pin!(self.claimant.lead());
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut leading => break outcome?,
                    ask = self.queue.recv() => ask.ok_or("nobody can ask any more")?.release(Err(not_controller())),
                }
            }
            if let Some(epoch) = self.claimant.claim().await {
                return Ok(epoch);
            }
        }
    }

    /// Runs rounds until this controller is no longer active (`Ok`) or can never be again (`Err`).
    async fn serve(&mut self, epoch: i32) -> Result<(), String> {
        let quorum = self.claimant.quorum.clone();
        let (mut ended, mut deposed) = (pin!(quorum.ended()), pin!(quorum.deposed()));
        let mut image = quorum.image();
        loop {
            let first = tokio::select! {
                biased;
                reason = &mut ended => return Err(reason),
                () = &mut deposed => {
                    tracing::info!(epoch, "this node is not the active controller any more");
                    return Ok(());
                }
                ask = self.queue.recv() => ask.ok_or("nobody can ask any more")?,
            };
            // One that goes on deciding from an old image is stopped by the stamp of its rounds.
            if !sabotage::on("stamp-unchecked") {
                image = quorum.image();
            }
            let mut round = Round::new((*image).clone(), self.rules.clone());
            if image.index.controller_epoch != epoch {
                first.release(Err(not_controller()));
                return Ok(());
            }
            let asks = self.decide(first, &mut round);
            let fate = self.settle(image.index, round.records).await;
            let active = fate.is_ok();
            for ask in asks {
                ask.release(fate.clone());
            }
            if !active {
                return Ok(());
            }
        }
    }

    /// Decides `first` and everything that waits behind it.
    fn decide(&mut self, first: Box<dyn Pending>, round: &mut Round) -> Vec<Box<dyn Pending>> {
        let mut asks = Vec::new();
        let mut next = Some(first);
        while let Some(mut ask) = next {
            ask.decide(round);
            asks.push(ask);
            let full = round.records.len() >= ROUND_RECORDS_MAX || asks.len() >= ASKS_MAX;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        asks
    }

    /// Brings a round into the log. A round without records has only read what was applied already.
    async fn settle(&self, stamp: ImageIndex, records: Vec<MetadataRecord>) -> Result<(), ApiError> {
        if records.is_empty() {
            return Ok(());
        }
        match self.claimant.quorum.propose(stamp, records).await {
            Proposed::Applied { .. } => Ok(()),
            Proposed::Stale | Proposed::NotLeader => Err(not_controller()),
            Proposed::Unknown(reason) => {
                tracing::warn!(reason, "the fate of a metadata round is unknown");
                Err(ApiError::new(ErrorCode::RequestTimedOut, "The request timed out."))
            }
        }
    }
}

/// What it takes to become the active controller.
struct Claimant {
    env: Env,
    quorum: Quorum,
    identity: ActiveController,
    /// The first records of a cluster's life.
    bootstrap: Vec<MetadataRecord>,
}

impl Claimant {
    /// Waits until raft follows this node, and no change of voters is half done; an error is final.
    async fn lead(&self) -> Result<(), String> {
        loop {
            tokio::select! {
                biased;
                reason = self.quorum.ended() => return Err(reason),
                leading = self.quorum.leading() => leading?,
            }
            let Err(why) = self.quorum.finish_change().await else { return Ok(()) };
            tracing::warn!(why, "a change of voters cannot be brought to its end");
            self.pause().await?;
        }
    }

    /// Becomes the active controller and returns the epoch; `None` if it has to be tried again. That raft calls this
    /// node leader is not enough: a leader that restarts resumes its term, and rounds of its earlier life may still be
    /// on their way. The claim comes after them in the log, and takes effect only if it was made from what they left.
    async fn claim(&self) -> Option<i32> {
        let image = self.quorum.image();
        let epoch = image.index.controller_epoch + 1;
        let ActiveController { node, directory, incarnation } = self.identity;
        let mut records = vec![MetadataRecord::ControllerClaim { epoch, node, directory, incarnation }];
        if image.cluster_id.is_zero() {
            records.extend(self.bootstrap.iter().cloned());
        }
        match self.quorum.propose(image.index, records).await {
            Proposed::Applied { .. } => {
                tracing::info!(epoch, node = %self.identity.node, "this node is the active controller");
                return Some(epoch);
            }
            Proposed::Stale => tracing::debug!(epoch, "the claim came behind another round"),
            Proposed::NotLeader => self.env.sleep(CLAIM_RETRY).await,
            Proposed::Unknown(reason) => {
                tracing::warn!(epoch, reason, "the fate of the claim is unknown");
                self.env.sleep(CLAIM_RETRY).await;
            }
        }
        None
    }

    async fn pause(&self) -> Result<(), String> {
        tokio::select! {
            biased;
            reason = self.quorum.ended() => Err(reason),
            () = self.env.sleep(CLAIM_RETRY) => Ok(()),
        }
    }
}
