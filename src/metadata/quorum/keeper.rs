//! Keeps a dynamic controller what its settings say: a voter that listens where it listens, or one that joins by
//! itself.
//!
//! It asks the leader again and again until that is so; the leader decides. A voter whose disk was lost comes back with
//! another directory: it has the quorum forget its earlier life first (KIP-1186).

use std::time::Duration;

use crate::error::ErrorCode;
use crate::metadata::quorum::Quorum;
use crate::metadata::quorum::messages::{Answer, Question};
use crate::metadata::quorum::types::{Member, VoterId};
use crate::metadata::quorum::voters::VoterChange;

const PAUSE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(40);

/// What the settings say of this controller.
pub(super) struct Keeper {
    pub quorum: Quorum,
    pub member: Member,
    pub auto_join: bool,
}

impl Keeper {
    /// Runs for ever.
    pub(super) async fn run(self) {
        loop {
            self.quorum.env.sleep(PAUSE).await;
            let Some((id, change)) = self.next_change() else { continue };
            match self.ask_leader(id, &change).await {
                Ok(()) => tracing::info!(voter = %id, ?change, "the quorum has changed a voter as asked"),
                Err(why) => tracing::debug!(voter = %id, ?change, why, "the quorum does not change a voter yet"),
            }
        }
    }

    fn next_change(&self) -> Option<(VoterId, VoterChange)> {
        let me = self.quorum.sender.me;
        if self.member.endpoints.is_empty() || self.quorum.image().features.level("kraft.version") < 1 {
            return None;
        }
        let voters = self.quorum.known_voters();
        if let Some(known) = voters.get(&me) {
            return (*known != self.member).then(|| (me, VoterChange::Update(self.member.clone())));
        }
        if !self.auto_join {
            return None;
        }
        match voters.keys().find(|voter| voter.node == me.node) {
            Some(earlier_life) => Some((*earlier_life, VoterChange::Remove)),
            None => Some((me, VoterChange::Add(self.member.clone()))),
        }
    }

    async fn ask_leader(&self, id: VoterId, change: &VoterChange) -> Result<(), String> {
        if self.quorum.leads() {
            let changed = self.quorum.change_voter(id, change.clone(), PATIENCE, true).await;
            return changed.map_err(|refused| refused.to_string());
        }
        let (_, address) = self.quorum.leader().ok_or("nobody leads")?;
        let peer = self.quorum.sender.peer(address.ok_or("nobody knows where the leader listens")?);
        let question = Question::Change { id, change: change.clone() };
        match self.quorum.sender.ask(&peer, None, &question, PATIENCE).await? {
            Answer::Change { code: 0, .. } => Ok(()),
            Answer::Change { code, why } => Err(format!("{}: {why}", ErrorCode::from_code(code).name())),
            _ => Err("answers something else than it was asked".into()),
        }
    }
}
