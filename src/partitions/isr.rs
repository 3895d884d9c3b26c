//! The task that asks the controller for changes of ISRs, and the one that finds out who lags (Kafka's
//! `AlterPartitionManager` and `ReplicaManager.maybeShrinkIsr`).
//!
//! Invariant: one request is on the way at a time, so what a partition proposes is answered before it proposes more.

use std::sync::Arc;
use std::time::Duration;

use super::replicas::IsrProposal;
use super::{Partition, Partitions};
use crate::env::Env;
use crate::ids::TopicIdPartition;
use crate::metadata::{AlterPartition, Metadata};

/// Most changes in one request: the controller takes as many records at once.
const PROPOSALS_MAX: usize = 1000;
/// The pause before what was not answered is asked for again, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// See the file's head.
pub struct IsrChanges {
    pub env: Env,
    pub partitions: Partitions,
    pub metadata: Metadata,
}

impl IsrChanges {
    /// Asks for ever.
    pub async fn run(self) {
        let mut retry = RETRY_MIN;
        loop {
            let proposing = self.partitions.neighbours().proposing.take(PROPOSALS_MAX).await;
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
        let changes = partitions.iter().zip(&proposals).map(|(partition, proposal)| change(partition.id(), proposal));
        let answers = self.metadata.alter_partitions(changes.collect()).await.unwrap_or_else(|refused| {
            tracing::debug!(%refused, count = proposals.len(), "the controller does not answer ISR changes");
            vec![Err(refused.code); proposals.len()]
        });
        let mut again = false;
        for ((partition, proposal), answer) in partitions.iter().zip(&proposals).zip(&answers) {
            if partition.isr_answered(proposal, answer) {
                again = true;
                self.partitions.neighbours().proposing.add(partition.id());
            }
        }
        again
    }
}

fn change(id: TopicIdPartition, proposal: &IsrProposal) -> AlterPartition {
    AlterPartition {
        topic: id.topic,
        index: id.partition,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal.isr.clone(),
        // Nothing is left to recover once an unclean leader leads: it has what it has.
        recovering: false,
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
