//! Answers what other nodes ask over the private API.
//!
//! Invariants: nobody of another cluster is answered, and nothing that was meant for another member, be it an earlier
//! life of this node with another disk; of snapshots that arrive in pieces one is under way at a time, and it takes no
//! more memory than has arrived.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use openraft::alias::SnapshotOf;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::AppendEntriesResponse;
use parking_lot::Mutex;

use crate::ids::{BrokerId, WallMillis};
use crate::metadata::quorum::Quorum;
use crate::metadata::quorum::messages::{
    self, Answer, Envelope, News, NewsPayload, Pull, Question, SnapshotPart, Standing,
};
use crate::metadata::quorum::types::{QuorumTypes, SnapshotMeta, Vote, VoterId};
use crate::peer::Address;

/// The largest snapshot that is taken.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

/// The longest that a pull waits for news.
const PULL_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a change of the voters may take that another member asks for.
const CHANGE_PATIENCE: Duration = Duration::from_secs(30);

/// A node outside the quorum is forgotten when it has not pulled for this long (`QuorumController`'s observers).
const OBSERVER_MEMORY: Duration = Duration::from_secs(300);

/// Nodes outside the quorum that are remembered.
const OBSERVERS_MAX: usize = 4096;

/// What the members keep of conversations with others.
#[derive(Default)]
pub struct Conversations {
    snapshot: Mutex<Option<Arriving>>,
    observers: Mutex<BTreeMap<VoterId, Observed>>,
}

/// A snapshot that arrives in pieces.
struct Arriving {
    from: VoterId,
    vote: Vote,
    meta: SnapshotMeta,
    bytes: BytesMut,
}

/// A node outside the quorum, by its pulls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observed {
    /// The first entry that it does not have.
    pub next_entry: u64,
    pub pulled_ms: WallMillis,
    /// When it last had everything that there was when it asked; -1 if never.
    pub caught_up_ms: WallMillis,
    /// Behind the last entry that there was when it pulled.
    end: u64,
}

impl Conversations {
    fn note_pull(&self, from: VoterId, next_entry: u64, end: u64, now_ms: WallMillis) {
        let mut observers = self.observers.lock();
        let caught_up_ms = match observers.get(&from) {
            _ if next_entry >= end => now_ms,
            // As Kafka's leader counts (`LeaderState.ReplicaState`): new entries all the time do not keep it behind.
            Some(known) if next_entry >= known.end => known.pulled_ms,
            Some(known) => known.caught_up_ms,
            None => -1,
        };
        let oldest_ms = now_ms - OBSERVER_MEMORY.as_millis() as i64;
        observers.retain(|id, known| known.pulled_ms >= oldest_ms && (id.node != from.node || *id == from));
        if observers.len() < OBSERVERS_MAX || observers.contains_key(&from) {
            observers.insert(from, Observed { next_entry, pulled_ms: now_ms, caught_up_ms, end });
        }
    }

    /// The nodes that pulled within the last minutes.
    pub fn observers(&self, now_ms: WallMillis) -> Vec<(VoterId, Observed)> {
        let oldest_ms = now_ms - OBSERVER_MEMORY.as_millis() as i64;
        let observers = self.observers.lock();
        observers.iter().filter(|(_, known)| known.pulled_ms >= oldest_ms).map(|(id, known)| (*id, *known)).collect()
    }

    /// Adds a piece; the whole once it is there. The error is a sentence for the sender, which begins anew.
    fn add(&self, from: VoterId, part: SnapshotPart) -> Result<Option<Snapshot>, String> {
        let SnapshotPart { vote, meta, total_bytes, at, bytes } = part;
        let end = at.saturating_add(bytes.len() as u64);
        if total_bytes > SNAPSHOT_BYTES_MAX || end > total_bytes {
            return Err(format!("a snapshot of {total_bytes} bytes, of which {end} were sent, is not taken"));
        }
        let mut arriving = self.snapshot.lock();
        if at == 0 {
            *arriving = Some(Arriving { from, vote, meta: meta.clone(), bytes: BytesMut::new() });
        }
        let fits = |known: &&mut Arriving| {
            (known.from, known.vote, &known.meta, known.bytes.len() as u64) == (from, vote, &meta, at)
        };
        let known = arriving.as_mut().filter(fits).ok_or("this piece of a snapshot does not follow the last one")?;
        known.bytes.extend_from_slice(&bytes);
        if end < total_bytes {
            return Ok(None);
        }
        let snapshot = arriving.take().map(|whole| whole.bytes.freeze()).unwrap_or_default();
        Ok(Some(Snapshot { meta, snapshot }))
    }
}

type Snapshot = SnapshotOf<QuorumTypes, Bytes>;

impl Quorum {
    /// Answers a message of the private API.
    pub async fn answer(&self, body: Bytes) -> Bytes {
        let answer = match messages::decode_question(&body) {
            Ok((envelope, question)) => self.answer_question(envelope, question).await,
            Err(malformed) => Err(malformed.to_string()),
        };
        messages::encode_answer(&answer)
    }

    async fn answer_question(&self, envelope: Envelope, question: Question) -> Result<Answer, String> {
        let Envelope { cluster_id, from, to } = envelope;
        let ours = self.sender.cluster_id();
        if !(cluster_id.is_zero() || ours.is_zero() || cluster_id == ours) {
            return Err(format!("this is cluster {ours}, not {cluster_id}"));
        }
        if let Some(to) = to.filter(|to| *to != self.sender.me) {
            return Err(format!("this is {}, not {to}", self.sender.me));
        }
        let standing = || Answer::Standing(Standing { has_heard_of_you: self.sender.roster.has_heard_of(&from) });
        match question {
            Question::Standing => Ok(standing()),
            Question::Pull(_) if from == self.sender.me => Err("this is who asks".into()),
            Question::Pull(pull) => Ok(Answer::Pull(self.news(from, pull).await)),
            _ if !self.is_admitted() => Err(format!("{} is not part of the quorum yet", self.sender.me)),
            Question::Append(request) => {
                self.hear_of(from).await?;
                let answer = self.raft.append_entries(request).await.map_err(|e| e.to_string())?;
                if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                    self.note_leader();
                }
                Ok(Answer::Append(answer))
            }
            Question::Vote(request) => {
                self.hear_of(from).await?;
                self.raft.vote(request).await.map(Answer::Vote).map_err(|e| e.to_string())
            }
            Question::PreVote(request) => {
                self.raft.pre_vote(request).await.map(Answer::Vote).map_err(|e| e.to_string())
            }
            Question::Snapshot(part) => self.take_snapshot(from, part).await.map(Answer::Snapshot),
            Question::Change { id, change } => {
                let changed = self.change_voter(id, change, CHANGE_PATIENCE, true).await;
                let (code, why) = changed.map_or_else(|no| (no.code.code(), no.message), |()| (0, String::new()));
                Ok(Answer::Change { code, why })
            }
            Question::Transfer(request) => {
                let outcome = self.raft.handle_transfer_leader(request).await.map_err(|e| e.to_string())?;
                Ok(Answer::Transfer(outcome.is_ok()))
            }
        }
    }

    /// Notes that `from` has promised something: who asks for votes has given itself one, who leads has acknowledged
    /// what it sends.
    async fn hear_of(&self, from: VoterId) -> Result<(), String> {
        self.sender.roster.hear_of(from).await.map_err(|error| error.to_string())
    }

    async fn take_snapshot(&self, from: VoterId, part: SnapshotPart) -> Result<Vote, String> {
        let (sent_by, ours) = (part.vote, self.raft.metrics().borrow_watched().vote);
        if ours > sent_by {
            return Ok(ours);
        }
        self.note_leader();
        let Some(snapshot) = self.conversations.add(from, part)? else { return Ok(sent_by) };
        let installed = self.raft.install_full_snapshot(sent_by, snapshot).await.map_err(|e| e.to_string())?;
        Ok(installed.vote)
    }

    /// What came after the index that a node outside the quorum has: as soon as there is something, or nothing.
    async fn news(&self, from: VoterId, pull: Pull) -> News {
        let published = &self.sender.published;
        let end = self.raft.metrics().borrow_watched().last_log_index.map_or(0, |last| last + 1);
        self.conversations.note_pull(from, pull.next_entry, end, self.sender.env.wall_ms());
        let deadline = self.sender.env.now() + Duration::from_millis(u64::from(pull.wait_ms)).min(PULL_WAIT_MAX);
        let mut images = published.watch();
        let mut late = false;
        loop {
            // Read before the image, which therefore has at least these entries.
            let next_entry = published.next_entry();
            let image = images.borrow_and_update().clone();
            let news =
                |next_entry, payload| News { leader: self.leader(), voters: self.known_voters(), next_entry, payload };
            match image.index.next_offset.cmp(&pull.index.next_offset) {
                Ordering::Greater => {
                    return match published.since(pull.index) {
                        Some((rounds, true)) => news(next_entry, NewsPayload::Rounds(rounds)),
                        Some((rounds, false)) => news(pull.next_entry, NewsPayload::Rounds(rounds)),
                        None => {
                            let encode = move || Bytes::from(image.encode_snapshot());
                            news(next_entry, NewsPayload::Snapshot(self.sender.env.blocking(encode).await))
                        }
                    };
                }
                Ordering::Equal if late => return news(next_entry, NewsPayload::Rounds(Vec::new())),
                Ordering::Less if late => return news(pull.next_entry, NewsPayload::Rounds(Vec::new())),
                _ => {}
            }
            late = tokio::select! {
                biased;
                changed = images.changed() => changed.is_err(),
                () = self.sender.env.sleep_until(deadline) => true,
            };
        }
    }

    /// The newest leader this node knows, and where it listens. One that nobody answers any more does not name itself:
    /// whoever follows from outside and reaches it is to look elsewhere.
    pub fn leader(&self) -> Option<(BrokerId, Option<Address>)> {
        let known = self.raft.metrics().borrow_watched().current_leader;
        let known = known.filter(|leader| *leader != self.sender.me || self.leads());
        let known = known.map(|leader| (BrokerId(leader.node), self.sender.roster.address(&leader)));
        if known.is_some() && !self.is_left_alone() {
            return known;
        }
        self.hint.lock().clone().or(known)
    }
}
