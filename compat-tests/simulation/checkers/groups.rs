//! Groups: what was committed is what is fetched, generations move on, everybody gets what the leader handed in.
//!
//! Invariants checked: an answered commit is what a later fetch shows, unless a later or an unanswered one took its
//! place; what a fetch showed counts as committed; a refused commit is never shown; a generation that somebody
//! synced is never followed by a smaller one; an assignment is one that a leader handed in for that member and
//! generation.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Spot, Verdict, ensure};

/// What became of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Unknown,
    Committed,
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    sent: u64,
    /// When its fate was known.
    settled: u64,
    /// The life of the broker in which it was sent.
    life: u32,
    /// The last life that can have accepted its connection: a client that began to connect to one life may be accepted
    /// by the next, and what it sent, or its answer, may be held on the way. Any life, as long as the client waits.
    last_life: u32,
    fate: Fate,
}

/// Commits of one group for one partition, by offset, which is unique.
#[derive(Default)]
struct Commits(BTreeMap<i64, Commit>);

impl Commits {
    /// A commit that was certain at `moment` and makes `shown` impossible, or any answer but an offset if `None`.
    fn contradiction(&self, shown: Option<&Commit>, moment: u64) -> Option<i64> {
        let later = |commit: &Commit| match shown {
            None => true,
            Some(shown) => match shown.fate {
                Fate::Committed => shown.settled < commit.sent,
                // Its connection ended with the life of the broker that accepted it.
                Fate::Unknown => shown.last_life < commit.life,
                Fate::Refused => true,
            },
        };
        let certain = |commit: &Commit| commit.fate == Fate::Committed && commit.settled <= moment;
        self.0.iter().rev().find(|(_, commit)| certain(commit) && later(commit)).map(|(offset, _)| *offset)
    }
}

/// See the file's head.
#[derive(Default)]
pub struct Groups {
    /// Counts what happens, to tell what came before what.
    moment: u64,
    next_offset: i64,
    commits: BTreeMap<(&'static str, Spot), Commits>,
    /// The newest generation that somebody has synced.
    synced: BTreeMap<&'static str, i32>,
    /// What leaders handed in, by group, generation and member.
    handed: BTreeMap<(&'static str, i32, String), BTreeSet<Bytes>>,
}

impl Groups {
    /// The present moment.
    pub fn now(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// A commit is about to be sent: returns the offset to commit, which no other commit has.
    pub fn commit(&mut self, group: &'static str, spot: Spot, life: u32) -> i64 {
        let sent = self.now();
        self.next_offset += 1;
        let commit = Commit { sent, settled: u64::MAX, life, last_life: u32::MAX, fate: Fate::Unknown };
        self.commits.entry((group, spot)).or_default().0.insert(self.next_offset, commit);
        self.next_offset
    }

    /// The client has its answer, or waits no longer, in this life of the broker.
    pub fn let_go(&mut self, group: &'static str, spot: Spot, offset: i64, life: u32) {
        let commits = self.commits.get_mut(&(group, spot));
        if let Some(commit) = commits.and_then(|commits| commits.0.get_mut(&offset)) {
            commit.last_life = life;
        }
    }

    fn settle(&mut self, group: &'static str, spot: Spot, offset: i64, fate: Fate) {
        let now = self.now();
        let commits = self.commits.get_mut(&(group, spot));
        if let Some(commit) = commits.and_then(|commits| commits.0.get_mut(&offset))
            && commit.fate == Fate::Unknown
        {
            (commit.fate, commit.settled) = (fate, now);
        }
    }

    /// It was answered without an error.
    pub fn committed(&mut self, group: &'static str, spot: Spot, offset: i64) {
        self.settle(group, spot, offset, Fate::Committed);
    }

    /// It was answered with an error that says that it had no effect.
    pub fn refused(&mut self, group: &'static str, spot: Spot, offset: i64) {
        self.settle(group, spot, offset, Fate::Refused);
    }

    /// An OffsetFetch that was sent at `sent` shows `offset`, -1 if nothing is committed, and its metadata.
    pub fn fetched(&mut self, group: &'static str, spot: Spot, sent: u64, offset: i64, metadata: &str) -> Verdict {
        let commits = self.commits.entry((group, spot)).or_default();
        let shown = commits.0.get(&offset).copied();
        let of = format!("{group} for {}-{}", spot.0, spot.1);
        ensure(offset == -1 || shown.is_some(), || format!("{of}: offset {offset} was never committed"))?;
        ensure(shown.is_none_or(|commit| commit.fate != Fate::Refused), || {
            format!("{of}: the commit of {offset} was refused, yet it is there")
        })?;
        ensure(offset == -1 || metadata == note(offset), || {
            format!("{of}: offset {offset} has the metadata {metadata:?}")
        })?;
        if let Some(later) = commits.contradiction(shown.as_ref(), sent) {
            return Err(format!("{of}: {later} was committed, then {offset} was fetched"));
        }
        self.committed(group, spot, offset);
        Ok(())
    }

    /// The newest generation that is certain.
    pub fn synced_generation(&self, group: &'static str) -> i32 {
        self.synced.get(group).copied().unwrap_or(0)
    }

    /// A join was answered with `generation`; `certain` was the newest when it was sent.
    pub fn joined(&self, group: &'static str, generation: i32, certain: i32) -> Verdict {
        ensure(generation >= certain, || format!("{group}: generation {generation} came after {certain}"))
    }

    /// A leader is about to hand in `assignment` for `member`.
    pub fn hand_in(&mut self, group: &'static str, generation: i32, member: &str, assignment: Bytes) {
        self.handed.entry((group, generation, member.to_owned())).or_default().insert(assignment);
    }

    /// `member` got its assignment.
    pub fn synced(&mut self, group: &'static str, generation: i32, member: &str, assignment: &Bytes) -> Verdict {
        let certain = self.synced.entry(group).or_default();
        *certain = (*certain).max(generation);
        let handed = self.handed.get(&(group, generation, member.to_owned()));
        ensure(handed.is_some_and(|handed| handed.contains(assignment)), || {
            format!("{group}: {member} got {assignment:?} in generation {generation}, and {handed:?} was handed in")
        })
    }
}

/// The metadata that is committed with an offset.
pub fn note(offset: i64) -> String {
    format!("n{offset}")
}
