//! Which of the logs that a start finds in all directories is a partition's, if it was moving between them. Pure.
//!
//! Invariants: a copy in the making never counts, nor does a log that is leaving if there is one where it goes. Of
//! what is left, which is one log unless a directory came back after a time, the one counts where the controller
//! believes the replica to be. If that directory cannot be looked into, or the one that a log is leaving for, nobody
//! can tell. Nothing goes that may be the only one.

use std::collections::BTreeSet;

use crate::ids::{KafkaUuid, LeaderEpoch, Offset};
use crate::metadata::directory::is_reserved;
use crate::storage::log::PartitionLog;
use crate::storage::state::Standing;

/// What decides about a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub directory: KafkaUuid,
    pub standing: Standing,
    /// The newest epoch, and the end: what has more of both is newer.
    pub age: (Option<LeaderEpoch>, Offset),
}

impl Candidate {
    fn of(log: &PartitionLog) -> Candidate {
        let age = (log.epochs().latest(), log.log_end());
        Candidate { directory: log.directory(), standing: log.standing(), age }
    }
}

/// The directories of this broker.
pub(super) struct Open {
    pub directories: BTreeSet<KafkaUuid>,
    /// Others are configured, and cannot be looked into.
    pub some_missing: bool,
    /// Where the controller believes the replica to be.
    pub assigned: KafkaUuid,
}

/// What becomes of logs, by their place in the list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Choice {
    pub log: Option<usize>,
    pub future: Option<usize>,
    /// The log whose place was taken.
    pub left: Option<usize>,
    /// What is worth nothing.
    pub junk: Vec<usize>,
    /// The partition has to stay offline.
    pub unknown: bool,
}

/// The logs of one partition, sorted out.
#[derive(Default)]
pub(super) struct Found {
    pub log: Option<PartitionLog>,
    pub future: Option<PartitionLog>,
    pub left: Option<PartitionLog>,
    pub junk: Vec<PartitionLog>,
    pub unknown: bool,
}

impl Found {
    /// Sorts out the logs of one partition. What is in none of the places stays on disk as it is.
    pub(super) fn sort_out(logs: Vec<PartitionLog>, open: &Open) -> Found {
        let candidates: Vec<Candidate> = logs.iter().map(Candidate::of).collect();
        let choice = choose(&candidates, open);
        let mut found = Found { unknown: choice.unknown, ..Found::default() };
        for (at, log) in logs.into_iter().enumerate() {
            match Some(at) {
                place if place == choice.log => found.log = Some(log),
                place if place == choice.future => found.future = Some(log),
                place if place == choice.left => found.left = Some(log),
                _ if choice.junk.contains(&at) => found.junk.push(log),
                _ => {
                    let (id, directory, standing) = (log.id(), log.directory(), log.standing());
                    tracing::error!(log = ?id, %directory, ?standing, "a log is set aside: another may be newer");
                }
            }
        }
        found
    }
}

/// Decides which log is the partition's.
pub(super) fn choose(candidates: &[Candidate], open: &Open) -> Choice {
    let newest = |wanted: &dyn Fn(&Candidate) -> bool| {
        let all = candidates.iter().enumerate().filter(|(_, candidate)| wanted(candidate));
        let rank = |candidate: &Candidate| (candidate.directory == open.assigned, candidate.age, candidate.directory);
        all.max_by_key(|(_, candidate)| rank(candidate)).map(|(at, _)| at)
    };
    let is_log = |candidate: &Candidate| !matches!(candidate.standing, Standing::Future { .. });
    let is_in = |directory: KafkaUuid| candidates.iter().any(|other| other.directory == directory && is_log(other));
    let has_left = |candidate: &Candidate| matches!(candidate.standing, Standing::Leaving { to } if is_in(to));
    // Two that have left for each other cannot be. If they are, the controller decides.
    let log = newest(&|candidate| is_log(candidate) && !has_left(candidate)).or_else(|| newest(&is_log));
    let Some(log) = log else {
        // The log may be in a directory that is missing; if not, its copy is worth nothing.
        let junk = if open.some_missing { Vec::new() } else { (0..candidates.len()).collect() };
        return Choice { junk, ..Choice::default() };
    };
    let here = candidates[log].directory;
    let is_missing = |id: KafkaUuid| open.some_missing && !is_reserved(id) && !open.directories.contains(&id);
    if matches!(candidates[log].standing, Standing::Leaving { to } if is_missing(to)) || is_missing(open.assigned) {
        return Choice { unknown: true, ..Choice::default() };
    }
    let is_future = |candidate: &Candidate| candidate.standing == (Standing::Future { from: here });
    let future = newest(&is_future);
    let left = newest(&|candidate| candidate.standing == (Standing::Leaving { to: here }));
    // A second settled one is of a directory that came back after it was replaced: nobody wants it any more.
    let is_junk = |at: &usize| ![Some(log), future, left].contains(&Some(*at));
    let junk = (0..candidates.len()).filter(is_junk).collect();
    Choice { log: Some(log), future, left, junk, unknown: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: KafkaUuid = KafkaUuid(1000);
    const B: KafkaUuid = KafkaUuid(1001);
    const C: KafkaUuid = KafkaUuid(1002);
    const SETTLED: Standing = Standing::Settled;

    fn leaving(to: KafkaUuid) -> Standing {
        Standing::Leaving { to }
    }

    fn future(from: KafkaUuid) -> Standing {
        Standing::Future { from }
    }

    fn chosen(logs: &[(KafkaUuid, Standing, Offset)], open: &[KafkaUuid], some_missing: bool) -> Choice {
        chosen_of(logs, open, some_missing, A)
    }

    fn chosen_of(
        logs: &[(KafkaUuid, Standing, Offset)],
        open: &[KafkaUuid],
        some_missing: bool,
        assigned: KafkaUuid,
    ) -> Choice {
        let candidates: Vec<Candidate> = logs
            .iter()
            .map(|&(directory, standing, end)| Candidate { directory, standing, age: (Some(1), end) })
            .collect();
        choose(&candidates, &Open { directories: open.iter().copied().collect(), some_missing, assigned })
    }

    #[test]
    fn a_move_is_found_wherever_it_was_broken_off() {
        let all = [A, B, C];
        let log = |log| Choice { log: Some(log), ..Choice::default() };
        let begun = chosen(&[(A, SETTLED, 9), (B, future(A), 5)], &all, false);
        assert_eq!(begun, Choice { future: Some(1), ..log(0) });
        let said = chosen(&[(A, leaving(B), 9), (B, future(A), 9)], &all, false);
        assert_eq!(said, Choice { future: Some(1), ..log(0) });
        let arrived = chosen(&[(A, leaving(B), 9), (B, SETTLED, 9)], &all, false);
        assert_eq!(arrived, Choice { left: Some(0), ..log(1) });
        assert_eq!(chosen(&[(B, SETTLED, 9)], &all, false), log(0));
        assert_eq!(chosen(&[(A, leaving(B), 9)], &all, false), log(0), "it was given up");
    }

    #[test]
    fn what_cannot_be_known_is_not_guessed() {
        let unknown = Choice { unknown: true, ..Choice::default() };
        assert_eq!(chosen(&[(A, leaving(B), 9)], &[A], true), unknown);
        assert_eq!(chosen(&[(A, leaving(B), 9), (C, future(A), 2)], &[A, C], true), unknown);
        assert_eq!(chosen(&[(A, leaving(B), 9)], &[A], false).log, Some(0), "the directory was taken away for good");
        assert_eq!(chosen(&[(A, leaving(B), 9), (B, future(A), 3)], &[A, B], true).log, Some(0), "another is missing");
        let only_a_copy = [(B, future(A), 9)];
        assert_eq!(chosen(&only_a_copy, &[B], true), Choice::default());
        assert_eq!(chosen(&only_a_copy, &[B], false), Choice { junk: vec![0], ..Choice::default() });
        assert_eq!(chosen(&[(B, SETTLED, 9)], &[B], true), unknown, "it may be one that was replaced long ago");
        assert_eq!(chosen(&[(B, SETTLED, 9)], &[B], false).log, Some(0));
        assert_eq!(chosen(&[(B, SETTLED, 9)], &[A, B], true).log, Some(0), "it has moved");
    }

    #[test]
    fn copies_of_other_moves_go() {
        let all = [A, B, C];
        let zombies = [(A, future(B), 9), (C, SETTLED, 7), (B, future(C), 3)];
        assert_eq!(
            chosen(&zombies, &all, false),
            Choice { log: Some(1), future: Some(2), junk: vec![0], ..Choice::default() }
        );
        let twice = [(B, SETTLED, 9), (A, SETTLED, 7)];
        let there = Choice { log: Some(1), junk: vec![0], ..Choice::default() };
        assert_eq!(chosen(&twice, &[A, B], false), there, "the one that the controller knows");
        let thrice = [(A, leaving(B), 9), (B, future(A), 5), (C, SETTLED, 99)];
        let moving = Choice { log: Some(0), future: Some(1), junk: vec![2], ..Choice::default() };
        assert_eq!(chosen(&thrice, &all, false), moving, "also while it moves");
        let arrived = [(A, leaving(B), 9), (B, SETTLED, 9), (C, SETTLED, 99)];
        let there = Choice { log: Some(1), left: Some(0), junk: vec![2], ..Choice::default() };
        assert_eq!(chosen_of(&arrived, &all, false, B), there, "and when it has moved");
    }

    #[test]
    fn of_a_chain_of_moves_the_last_log_counts() {
        let chain = [(A, leaving(B), 9), (B, leaving(C), 9), (C, future(B), 9)];
        let there = Choice { log: Some(1), future: Some(2), left: Some(0), ..Choice::default() };
        assert_eq!(chosen(&chain, &[A, B, C], false), there, "whatever the controller has heard");
        assert_eq!(chosen(&chain[..2], &[A, B], true), Choice { unknown: true, ..Choice::default() });
        let ended = [(A, leaving(B), 9), (B, leaving(C), 9), (C, SETTLED, 9)];
        let there = Choice { log: Some(2), left: Some(1), junk: vec![0], ..Choice::default() };
        assert_eq!(chosen(&ended, &[A, B, C], false), there);
        let circle = [(A, leaving(B), 9), (B, leaving(A), 11)];
        assert_eq!(chosen_of(&circle, &[A, B], false, B).log, Some(1));
    }
}
