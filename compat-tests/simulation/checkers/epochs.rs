//! Where leader epochs ended, as OffsetForLeaderEpoch tells it, held against the epochs in the batches.
//!
//! Invariants checked: the answer (epoch `e'`, end `o`) to a past epoch `e` has `e' ≤ e`; every record at or above
//! `o` is of an epoch above `e`, every record below it of one up to `e`; the last record below `o` is of `e'`; the
//! answer stays the same until its end is deleted.

use std::collections::BTreeMap;

use super::log::Seen;
use super::{Verdict, ensure};

/// One answer.
#[derive(Clone, Copy, Debug)]
struct End {
    epoch: i32,
    offset: i64,
    /// How far the log's start may have been when it was given: below, the history is no longer known.
    deleted_to: i64,
}

/// The answers about one partition, by the epoch that was asked for.
#[derive(Default)]
pub struct EpochEnds(BTreeMap<i32, End>);

impl EpochEnds {
    /// `asked`, which was past, ended at `offset`, and the newest epoch up to it was `epoch`.
    pub fn answered(&mut self, asked: i32, epoch: i32, offset: i64, deleted_to: i64) -> Verdict {
        ensure(epoch >= 0 && epoch <= asked && offset >= 0, || {
            format!("the end of past epoch {asked} was answered as epoch {epoch} at {offset}")
        })?;
        if let Some(before) = self.0.get(&asked) {
            let same = (before.epoch, before.offset) == (epoch, offset);
            ensure(same || before.offset <= deleted_to, || {
                format!("epoch {asked} ended with {before:?}, and then with epoch {epoch} at {offset}")
            })?;
        }
        self.0.insert(asked, End { epoch, offset, deleted_to });
        Ok(())
    }

    /// Holds every answer against every record.
    pub fn audit(&self, seen: &BTreeMap<i64, Seen>) -> Verdict {
        for (&asked, end) in &self.0 {
            let above = seen.range(end.offset..).find(|(_, seen)| seen.epoch <= asked);
            ensure(above.is_none(), || format!("epoch {asked} ended with {end:?}, yet {above:?} is of it"))?;
            let known = seen.range(end.deleted_to.min(end.offset)..end.offset);
            let below = known.clone().find(|(_, seen)| seen.epoch > asked);
            ensure(below.is_none(), || format!("epoch {asked} ended with {end:?}, yet {below:?} is of a later one"))?;
            let last = known.clone().next_back().filter(|(offset, _)| **offset == end.offset - 1);
            ensure(last.is_none_or(|(_, seen)| seen.epoch == end.epoch), || {
                format!("epoch {asked} ended with {end:?}, yet {last:?} is the last record before")
            })?;
        }
        Ok(())
    }
}
