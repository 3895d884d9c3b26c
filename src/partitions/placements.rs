//! The task that tells the controller in which directory each replica is (KIP-858; Kafka's `AssignmentsManager`), so
//! that it knows what goes offline with a directory.
//!
//! Invariant: one request is on the way at a time. Where a replica is is looked up when it is told, so a late report is
//! never an old one.

use std::time::Duration;

use super::Partitions;
use crate::env::Env;
use crate::ids::TopicIdPartition;
use crate::metadata::{DirectoryAssignment, Metadata};

/// Most replicas in one request (`AssignReplicasToDirsRequest.MAX_ASSIGNMENTS_PER_REQUEST`).
const ASSIGNMENTS_MAX: usize = 2250;
/// The pause before what the controller did not take is told again.
const RETRY: Duration = Duration::from_millis(500);

/// See the file's head.
pub struct Placements {
    pub env: Env,
    pub partitions: Partitions,
    pub metadata: Metadata,
}

impl Placements {
    /// Tells for ever.
    pub async fn run(self) {
        loop {
            let misplaced = self.partitions.neighbours().misplaced.take(ASSIGNMENTS_MAX).await;
            let again = self.tell(misplaced).await;
            if !again.is_empty() {
                self.env.sleep(RETRY).await;
                again.into_iter().for_each(|id| self.partitions.neighbours().misplaced.add(id));
            }
        }
    }

    /// Returns what is to be told again.
    async fn tell(&self, misplaced: Vec<TopicIdPartition>) -> Vec<TopicIdPartition> {
        let image = self.metadata.image();
        let assignment = |id: &TopicIdPartition| {
            let here = self.partitions.hosted(*id).ok()?.placed_in()?;
            let known = image.topics.by_id(id.topic)?.partition(id.partition)?.directory(self.partitions.node());
            (known != here).then_some(DirectoryAssignment { topic: id.topic, index: id.partition, directory: here })
        };
        let assignments: Vec<DirectoryAssignment> = misplaced.iter().filter_map(assignment).collect();
        if assignments.is_empty() {
            return Vec::new();
        }
        let id = |told: &DirectoryAssignment| TopicIdPartition { topic: told.topic, partition: told.index };
        match self.metadata.assign_directories(assignments.clone()).await {
            Err(refused) => {
                tracing::debug!(%refused, count = assignments.len(), "the controller takes no directories of replicas");
                assignments.iter().map(id).collect()
            }
            Ok(answers) => {
                for (told, refused) in assignments.iter().zip(&answers).filter(|(_, answer)| answer.is_err()) {
                    tracing::debug!(?told, ?refused, "the controller does not take the directory of a replica");
                }
                // The image that is wrong is told again by the next one.
                Vec::new()
            }
        }
    }
}
