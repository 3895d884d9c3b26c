//! The task that asks the controller for changes of ISRs, and the one that finds out who lags (Kafka's
//! `AlterPartitionManager` and `ReplicaManager.maybeShrinkIsr`).
//!
//! Invariant: one request is on the way at a time, so what a partition proposes is answered before it proposes more.

use std::sync::Arc;
use std::time::Duration;

use super::replicas::{IsrAnswer, IsrProposal};
use super::{Partition, Partitions};
use crate::env::{BoxFuture, Env};
use crate::error::ErrorCode;
use crate::ids::TopicIdPartition;

/// Most changes in one request: the controller takes as many records at once.
const PROPOSALS_MAX: usize = 1000;
/// The pause before what was not answered is asked for again, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Asks the controller; answers in the order of the proposals, or why there are none.
pub type AskController = Arc<
    dyn Fn(
            Vec<(TopicIdPartition, IsrProposal)>,
        ) -> BoxFuture<'static, Result<Vec<Result<IsrAnswer, ErrorCode>>, ErrorCode>>
        + Send
        + Sync,
>;

/// See the file's head.
pub struct IsrChanges {
    pub env: Env,
    pub partitions: Partitions,
    pub ask: AskController,
}

impl IsrChanges {
    /// Asks for ever.
    pub async fn run(self) {
        let mut retry = RETRY_MIN;
        loop {
            let proposing = self.partitions.neighbours().proposals(PROPOSALS_MAX).await;
            retry = match self.propose(proposing).await {
                true => {
                    self.env.sleep(retry).await;
                    (retry * 2).min(RETRY_MAX)
                }
                false => RETRY_MIN,
            };
        }
    }

    /// True if some are to be proposed again, later.
    async fn propose(&self, proposing: Vec<TopicIdPartition>) -> bool {
        // One that is gone or does not lead any more has nothing to propose.
        let hosted = proposing.into_iter().filter_map(|id| self.partitions.hosted(id).ok());
        let proposals = hosted.filter_map(|partition| Some((partition.isr_proposal()?, partition)));
        let (proposals, partitions): (Vec<IsrProposal>, Vec<Arc<Partition>>) = proposals.unzip();
        if proposals.is_empty() {
            return false;
        }
        let asked = partitions.iter().map(|partition| partition.id()).zip(proposals.iter().cloned()).collect();
        let answers = (self.ask)(asked).await.unwrap_or_else(|code| {
            tracing::debug!(%code, count = proposals.len(), "the controller does not answer ISR changes");
            vec![Err(code); proposals.len()]
        });
        let answers = answers.iter().chain(std::iter::repeat(&Err(ErrorCode::UnknownServerError)));
        let mut again = false;
        for ((partition, proposal), answer) in partitions.iter().zip(&proposals).zip(answers) {
            if partition.isr_answered(proposal, answer) {
                again = true;
                self.partitions.neighbours().propose(partition.id());
            }
        }
        again
    }
}

/// Looks who lags, twice per `replica.lag.time.max.ms`, for ever.
pub async fn shrink_isrs(env: Env, partitions: Partitions) {
    let lag = Duration::from_millis(partitions.neighbours().lag_ms_max);
    loop {
        env.sleep((lag / 2).max(Duration::from_millis(1))).await;
        for partition in partitions.all() {
            partition.shrink_isr();
        }
    }
}
