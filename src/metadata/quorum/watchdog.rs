//! Watches the disk of the metadata: a leader whose disk hangs goes on leading, because others can commit without it;
//! and the log of whoever only follows would grow for ever.
//!
//! Invariant: a node that is the only voter is left alone; nobody could do better.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use crate::metadata::quorum::Quorum;
use crate::metadata::quorum::types::VoterId;
use crate::metadata::quorum::writer::Writer;

/// A leader whose write takes this long hands over.
const HAND_OVER_AFTER: Duration = Duration::from_secs(5);

/// A process whose write takes this long ends.
const END_AFTER: Duration = Duration::from_secs(20);

/// How long a leader that stops waits until another one leads.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(1);

const PAUSE: Duration = Duration::from_secs(1);

/// Watches for ever.
pub(super) async fn watch(quorum: Quorum, writer: Writer) {
    loop {
        quorum.env.sleep(PAUSE).await;
        // Whoever asks later shall hear when the others last had everything.
        let _ = quorum.describe();
        // A leader looks at this with each proposal; a follower has no other occasion.
        quorum.snapshot_if_due().await;
        let Some(since) = writer.busy_since() else { continue };
        let stalled = quorum.env.now().saturating_duration_since(since);
        if stalled < HAND_OVER_AFTER || quorum.is_alone() {
            continue;
        }
        if stalled >= END_AFTER {
            return quorum.condemn(format!("the disk of the metadata has not finished a write for {stalled:?}"));
        }
        if let Some(successor) = quorum.successor() {
            tracing::warn!(?stalled, %successor, "the disk of the metadata hangs: another controller takes over");
            // An error here means that raft has ended, which `ended` tells whom it concerns.
            let _ = quorum.raft.trigger().transfer_leader(successor).await;
        }
    }
}

impl Quorum {
    /// The other voter that has most of the log, if this node leads.
    fn successor(&self) -> Option<VoterId> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let others = now.replication.as_ref()?.iter().filter(|(id, _)| **id != self.sender.me);
        let voters = others.filter(|(id, _)| now.membership_config.voter_ids().any(|voter| voter == **id));
        voters.max_by_key(|(id, last)| (last.map(|last| last.index), std::cmp::Reverse(**id))).map(|(id, _)| *id)
    }

    /// Hands leadership to another voter, if there is one, and waits a moment for it: a leader that is about to stop
    /// should.
    pub async fn hand_over(&self) {
        let Some(successor) = self.successor() else { return };
        // An error here means that raft has ended.
        let _ = self.raft.trigger().transfer_leader(successor).await;
        self.env.timeout(HAND_OVER_PATIENCE, self.deposed()).await;
    }
}
