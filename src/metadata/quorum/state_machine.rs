//! Applies committed entries to the image and publishes it.
//!
//! Invariants: an entry has an effect only if its stamp is the image's index, so a round of a stale controller, or of
//! this node's earlier life, changes nothing; an image is published before the proposer hears of it; applying reads no
//! clock, no random number and no setting. A record that does not decode or fit ends raft with a storage error: this
//! node is no longer like the others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::alias::SnapshotOf;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use crate::env::Env;
use crate::metadata::image::ClusterImage;
use crate::metadata::quorum::format::{self, Proposal};
use crate::metadata::quorum::store::MetaStore;
use crate::metadata::quorum::types::{EncodedRound, LogId, Outcome, QuorumTypes, SnapshotMeta, StoredMembership};
use crate::metadata::quorum::writer::Writer;

type Snapshot = SnapshotOf<QuorumTypes, Bytes>;

/// What an entry weighs beside its bytes: replaying many small rounds takes time, too.
const ENTRY_WEIGHT: u64 = 1024;

/// The newest image, for everybody who reads.
pub struct Published {
    image: ArcSwap<ClusterImage>,
    news: watch::Sender<Arc<ClusterImage>>,
    /// What a restart would have to replay.
    log_weight: AtomicU64,
    /// What a restart would have to read besides.
    snapshot_bytes: AtomicU64,
}

impl Published {
    fn new(image: ClusterImage, snapshot_bytes: u64) -> Arc<Published> {
        let image = Arc::new(image);
        Arc::new(Published {
            image: ArcSwap::new(image.clone()),
            news: watch::Sender::new(image),
            log_weight: AtomicU64::new(0),
            snapshot_bytes: AtomicU64::new(snapshot_bytes),
        })
    }

    /// The newest image.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.load_full()
    }

    /// Hears of every newer image; images in between may be skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.news.subscribe()
    }

    /// True once for each time the log has become heavier than the snapshot, and than `at_least`.
    pub fn snapshot_is_due(&self, at_least: u64) -> bool {
        let limit = self.snapshot_bytes.load(Ordering::Relaxed).max(at_least);
        self.log_weight.load(Ordering::Relaxed) > limit && self.log_weight.swap(0, Ordering::Relaxed) > limit
    }

    fn publish(&self, image: ClusterImage) {
        let image = Arc::new(image);
        self.image.store(image.clone());
        self.news.send_replace(image);
    }
}

/// The state machine.
pub struct Machine {
    published: Arc<Published>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    env: Env,
    store: Arc<dyn MetaStore>,
    writer: Writer,
}

impl Machine {
    /// Starts from the snapshot in `store`, if there is one; blocks on the disk.
    pub fn open(env: &Env, store: Arc<dyn MetaStore>, writer: Writer) -> io::Result<Machine> {
        let stored = store.get(format::SNAPSHOT_KEY)?;
        let (meta, image) = match &stored {
            None => (SnapshotMeta::default(), ClusterImage::default()),
            Some(bytes) => {
                let (meta, image) = format::decode_snapshot(bytes)?;
                (meta, ClusterImage::decode_snapshot(image)?)
            }
        };
        let published = Published::new(image, stored.map_or(0, |bytes| bytes.len() as u64));
        let SnapshotMeta { last_log_id, last_membership } = meta;
        Ok(Machine {
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

    fn apply_round(&self, round: &EncodedRound) -> io::Result<Outcome> {
        self.published.log_weight.fetch_add(ENTRY_WEIGHT + round.0.len() as u64, Ordering::Relaxed);
        let proposal = Proposal::decode(round)?;
        let image = self.published.image.load();
        if proposal.stamp != image.index {
            return Ok(Outcome::Stale);
        }
        let next = image.try_replay(&proposal.records)?;
        let outcome = Outcome::Applied { next: next.index.next_offset };
        self.published.publish(next);
        Ok(outcome)
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
                EntryPayload::Normal(round) => self.apply_round(&round)?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Outcome::NotARound
                }
            };
            self.last_applied = Some(entry.log_id);
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            image: self.published.image(),
            meta: SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() },
            published: self.published.clone(),
            env: self.env.clone(),
            writer: self.writer.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> io::Result<()> {
        let image = ClusterImage::decode_snapshot(&snapshot)?;
        let value = format::encode_snapshot(meta, &snapshot);
        self.writer.durably(vec![(format::SNAPSHOT_KEY.to_vec(), Some(value))]).await?;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.published.snapshot_bytes.store(snapshot.len() as u64, Ordering::Relaxed);
        self.published.publish(image);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let store = self.store.clone();
        let Some(bytes) = self.env.blocking(move || store.get(format::SNAPSHOT_KEY)).await? else { return Ok(None) };
        let (meta, image) = format::decode_snapshot(&bytes)?;
        Ok(Some(Snapshot { meta, snapshot: Bytes::copy_from_slice(image) }))
    }
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
        self.writer.durably(vec![(format::SNAPSHOT_KEY.to_vec(), Some(value))]).await?;
        self.published.snapshot_bytes.store(snapshot.len() as u64, Ordering::Relaxed);
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}

/// The snapshot as raft ships it, and as the disk keeps it.
fn encode(image: &ClusterImage, meta: &SnapshotMeta) -> (Bytes, Vec<u8>) {
    let snapshot = image.encode_snapshot();
    let value = format::encode_snapshot(meta, &snapshot);
    (Bytes::from(snapshot), value)
}
