//! Applies committed entries to the image and publishes it.
//!
//! Invariants: an entry has an effect only if its stamp is the image's index, so a round of a stale controller, or of
//! this node's earlier life, changes nothing; an image is published before the proposer hears of it; applying reads no
//! clock, no random number and no setting. A record that does not decode or fit ends raft with a storage error: this
//! node is no longer like the others.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::alias::SnapshotOf;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use crate::env::Env;
use crate::metadata::image::ClusterImage;
use crate::metadata::quorum::format::{self, Proposal};
use crate::metadata::quorum::published::Published;
use crate::metadata::quorum::roster::Roster;
use crate::metadata::quorum::store::MetaStore;
use crate::metadata::quorum::types::{
    EncodedRound, LogId, Member, Outcome, QuorumTypes, SnapshotMeta, StoredMembership, VoterId,
};
use crate::metadata::quorum::writer::Writer;
use crate::sabotage;

type Snapshot = SnapshotOf<QuorumTypes, Bytes>;

/// What an entry weighs beside its bytes: replaying many small rounds takes time, too.
const ENTRY_WEIGHT: u64 = 1024;

/// The state machine.
pub struct Machine {
    published: Arc<Published>,
    image: Arc<ClusterImage>,
    /// Who is told of members and where they listen.
    roster: Arc<Roster>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    env: Env,
    store: Arc<dyn MetaStore>,
    writer: Writer,
}

impl Machine {
    /// Starts from the snapshot in `store`, if there is one; blocks on the disk.
    pub fn open(env: &Env, store: Arc<dyn MetaStore>, writer: Writer, roster: Arc<Roster>) -> io::Result<Machine> {
        let stored = store.get(format::SNAPSHOT_KEY)?;
        let (meta, image) = match &stored {
            None => (SnapshotMeta::default(), ClusterImage::default()),
            Some(bytes) => {
                let (meta, image) = format::decode_snapshot(bytes)?;
                (meta, ClusterImage::decode_snapshot(image)?)
            }
        };
        let SnapshotMeta { last_log_id, last_membership } = meta;
        let next_entry = last_log_id.map_or(0, |id| id.index + 1);
        let published = Published::new(image, next_entry, stored.map_or(0, |bytes| bytes.len() as u64));
        roster.note(members_of(&last_membership));
        Ok(Machine {
            image: published.image(),
            roster,
            published,
            last_applied: last_log_id,
            membership: last_membership,
            env: env.clone(),
            store,
            writer,
        })
    }

    pub fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    fn apply_round(&mut self, round: EncodedRound) -> io::Result<Outcome> {
        self.published.log_weight.fetch_add(ENTRY_WEIGHT + round.0.len() as u64, Ordering::Relaxed);
        let proposal = Proposal::decode(&round)?;
        if proposal.stamp != self.image.index && !sabotage::on("stamp-unchecked") {
            return Ok(Outcome::Stale);
        }
        self.image = Arc::new(self.image.try_replay(&proposal.records)?);
        let next = self.image.index;
        self.published.keep(proposal.stamp, round, next);
        self.published.publish(self.image.clone());
        Ok(Outcome::Applied { next: next.next_offset })
    }

    fn note_membership(&mut self, membership: StoredMembership) {
        self.roster.note(members_of(&membership));
        self.membership = membership;
    }
}

impl RaftStateMachine<QuorumTypes> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<QuorumTypes>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let outcome = match entry.payload {
                EntryPayload::Blank => Outcome::NotARound,
                EntryPayload::Normal(round) => self.apply_round(round)?,
                EntryPayload::Membership(membership) => {
                    self.note_membership(StoredMembership::new(Some(entry.log_id), membership));
                    Outcome::NotARound
                }
            };
            self.last_applied = Some(entry.log_id);
            self.published.applied(entry.log_id.index + 1);
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            image: self.image.clone(),
            meta: SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() },
            published: self.published.clone(),
            env: self.env.clone(),
            writer: self.writer.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> io::Result<()> {
        let image = ClusterImage::decode_snapshot(&snapshot)?;
        let value = format::encode_snapshot(meta, &snapshot);
        store_snapshot(&self.writer, meta, value).await?;
        self.last_applied = meta.last_log_id;
        self.note_membership(meta.last_membership.clone());
        self.image = Arc::new(image);
        self.published.snapshot_bytes.store(snapshot.len() as u64, Ordering::Relaxed);
        self.published.publish(self.image.clone());
        self.published.applied(meta.last_log_id.map_or(0, |id| id.index + 1));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let store = self.store.clone();
        let Some(bytes) = self.env.blocking(move || store.get(format::SNAPSHOT_KEY)).await? else { return Ok(None) };
        let (meta, image) = format::decode_snapshot(&bytes)?;
        Ok(Some(Snapshot { meta, snapshot: Bytes::copy_from_slice(image) }))
    }
}

fn members_of(membership: &StoredMembership) -> BTreeMap<VoterId, Member> {
    membership.nodes().map(|(id, member)| (*id, member.clone())).collect()
}

/// Writes one image down while newer ones are made.
pub struct Builder {
    image: Arc<ClusterImage>,
    meta: SnapshotMeta,
    published: Arc<Published>,
    env: Env,
    writer: Writer,
}

impl RaftSnapshotBuilder<QuorumTypes> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (image, meta) = (self.image.clone(), self.meta.clone());
        let (snapshot, value) = self.env.blocking(move || encode(&image, &meta)).await;
        store_snapshot(&self.writer, &self.meta, value).await?;
        self.published.snapshot_bytes.store(snapshot.len() as u64, Ordering::Relaxed);
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}

async fn store_snapshot(writer: &Writer, meta: &SnapshotMeta, value: Vec<u8>) -> io::Result<()> {
    let index = meta.last_log_id.map_or(0, |id| id.index);
    writer.snapshot(index, vec![(format::SNAPSHOT_KEY.to_vec(), Some(value))]).await
}

/// The snapshot as raft ships it, and as the disk keeps it.
fn encode(image: &ClusterImage, meta: &SnapshotMeta) -> (Bytes, Vec<u8>) {
    let snapshot = image.encode_snapshot();
    let value = format::encode_snapshot(meta, &snapshot);
    (Bytes::from(snapshot), value)
}
