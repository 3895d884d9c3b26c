//! Follows the metadata from outside the quorum: a broker that is no controller, or a controller that is no voter yet.
//!
//! Invariants: only committed rounds are ever sent, so what was pulled is never taken back; rounds are replayed only on
//! the very image they were decided from.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ids::BrokerId;
use crate::metadata::image::ClusterImage;
use crate::metadata::quorum::format::Proposal;
use crate::metadata::quorum::messages::{Answer, News, NewsPayload, Pull, Question};
use crate::metadata::quorum::network::Sender;
use crate::peer::{Address, Peer};

/// How long a controller holds a pull that has no news.
const WAIT_MS: u32 = 1000;

/// How long it may take to answer, beyond that.
const PATIENCE: Duration = Duration::from_secs(3);

/// The pause after every controller has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked whether pulling is wanted again.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// For how long a controller that failed is not preferred, even if it is said to lead.
const GRUDGE: Duration = Duration::from_secs(10);

/// The newest leader that a controller named.
pub type LeaderHint = Arc<Mutex<Option<(BrokerId, Option<Address>)>>>;

/// Pulls for ever.
pub struct Puller {
    sender: Sender,
    /// Where controllers listen, by the settings.
    seeds: Vec<Address>,
    leader: LeaderHint,
    /// Controllers that are tried in turn.
    queue: VecDeque<Address>,
    /// When each of those that failed did so.
    failed: BTreeMap<Address, Instant>,
}

impl Puller {
    pub fn new(sender: Sender, seeds: Vec<Address>, leader: LeaderHint) -> Puller {
        Puller { sender, seeds, leader, queue: VecDeque::new(), failed: BTreeMap::new() }
    }

    /// Runs while `wanted` says so, and waits while it does not.
    pub async fn run(mut self, wanted: impl Fn() -> bool) {
        let mut failures = 0;
        loop {
            if !wanted() {
                self.sender.env.sleep(IDLE_PAUSE).await;
                continue;
            }
            let Some(address) = self.next_address() else {
                self.sender.env.sleep(PAUSE).await;
                continue;
            };
            let peer = self.sender.peer(address.clone());
            let why = self.pull_from(&peer, &wanted).await;
            if let Some(why) = why {
                failures += 1;
                // The first round of failures is what every start of a cluster looks like.
                if failures % 64 == 8 {
                    tracing::warn!(why, "no controller answers");
                }
                tracing::debug!(controller = %address, why, "a pull of metadata failed");
                self.failed.insert(address, self.sender.env.now());
                self.sender.env.sleep(PAUSE).await;
            } else {
                failures = 0;
            }
        }
    }

    /// The leader if it is known, else whoever is next.
    fn next_address(&mut self) -> Option<Address> {
        let now = self.sender.env.now();
        self.failed.retain(|_, since| now.saturating_duration_since(*since) < GRUDGE);
        let leader = self.leader.lock().clone().and_then(|(_, address)| address);
        if let Some(leader) = leader.filter(|leader| !self.failed.contains_key(leader)) {
            return Some(leader);
        }
        if self.queue.is_empty() {
            let known = self.sender.roster.addresses();
            self.queue.extend(self.seeds.iter().cloned());
            self.queue.extend(known.into_iter().filter(|address| !self.seeds.contains(address)));
        }
        self.queue.pop_front()
    }

    /// Pulls until it fails, and says why, or until it is another controller's turn (`None`).
    async fn pull_from(&mut self, peer: &Peer, wanted: &impl Fn() -> bool) -> Option<String> {
        while wanted() {
            let published = &self.sender.published;
            let (index, next_entry) = (published.image().index, published.next_entry());
            let question = Question::Pull(Pull { index, next_entry, wait_ms: WAIT_MS });
            let patience = Duration::from_millis(u64::from(WAIT_MS)) + PATIENCE;
            let news = match self.sender.ask(peer, None, &question, patience).await {
                Ok(Answer::Pull(news)) => news,
                Ok(_) => return Some("answers something else than it was asked".into()),
                Err(why) => return Some(why),
            };
            // A node that has not heard yet who leads after this one still names this one.
            let leader = news.leader.clone().filter(|(id, _)| id.0 != self.sender.me.node);
            if let Err(failure) = self.take(news).await {
                return Some(failure.to_string());
            }
            // Who does not lead may know as little as this node, for ever: it may be cut off, removed, or this node.
            let leads = matches!(&leader, Some((_, Some(address))) if address == peer.address());
            *self.leader.lock() = leader;
            if !leads {
                return None;
            }
        }
        None
    }

    async fn take(&self, news: News) -> io::Result<()> {
        let published = &self.sender.published;
        if !news.voters.is_empty() {
            self.sender.roster.note(news.voters);
        }
        match news.payload {
            NewsPayload::Rounds(rounds) => {
                let mut image = published.image();
                for round in rounds {
                    let Proposal { stamp, records, .. } = Proposal::decode(&round)?;
                    if stamp != image.index {
                        return Err(io::Error::other("a round does not follow what was pulled before"));
                    }
                    image = Arc::new(image.try_replay(&records)?);
                }
                published.publish(image);
            }
            NewsPayload::Snapshot(bytes) => {
                let image = self.sender.env.blocking(move || ClusterImage::decode_snapshot(&bytes)).await?;
                published.publish(Arc::new(image));
            }
        }
        published.applied(news.next_entry);
        Ok(())
    }
}
