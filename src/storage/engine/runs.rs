//! Where the batches lie that a reader will probably want next: looked up along with those it was given, so that a
//! consumer that reads on asks RocksDB once for several fetches.
//!
//! Invariants: a run holds every row from its first to its last. It counts only as long as no group has deleted or
//! moved a row since it was looked up: groups that only put rows put them behind those that are there, or in the place
//! of a batch that holds the same offsets. Memory is bounded in rows.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::values::Place;
use crate::storage::keys::Key;

/// Readers whose next rows are kept; the oldest go first.
const RUNS_MAX: usize = 128;
/// Rows of a run.
pub(super) const RUN_ROWS_MAX: usize = 256;
/// A shorter run is not worth keeping.
const RUN_ROWS_MIN: usize = 8;

/// Rows in order, without a gap.
pub(super) type Run = VecDeque<(Key, Place)>;

#[derive(Default)]
pub(super) struct Runs {
    /// How many groups have deleted or moved rows.
    generation: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By the first key: the generation, and the rows.
    runs: HashMap<Key, (u64, Run)>,
    order: VecDeque<Key>,
}

impl Runs {
    /// To be asked before rows are looked up that are to be kept.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Rows were deleted or moved: what was looked up before counts no longer.
    pub(super) fn outdate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The rows from `first` on, if they are known.
    pub(super) fn take(&self, first: &Key) -> Option<Run> {
        let mut kept = self.kept.lock();
        let (generation, run) = kept.runs.remove(first)?;
        kept.order.retain(|key| key != first);
        (generation == self.generation()).then_some(run)
    }

    /// Keeps rows that were looked up in `generation`.
    pub(super) fn keep(&self, generation: u64, run: Run) {
        let Some(&(first, _)) = run.front().filter(|_| run.len() >= RUN_ROWS_MIN) else { return };
        let mut kept = self.kept.lock();
        if kept.runs.insert(first, (generation, run)).is_none() {
            kept.order.push_back(first);
        }
        while kept.order.len() > RUNS_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.runs.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::keys;

    fn run(log: u32, from: i64) -> Run {
        let place = |offset: i64| Place { file: 1, at: offset as u64, length: 1 };
        (from..from + RUN_ROWS_MIN as i64).map(|offset| (keys::batch(log, offset), place(offset))).collect()
    }

    #[test]
    fn a_run_is_found_by_its_first_row_until_a_row_is_deleted() {
        let runs = Runs::default();
        runs.keep(runs.generation(), run(1, 5));
        assert_eq!(runs.take(&keys::batch(1, 6)), None);
        assert_eq!(runs.take(&keys::batch(1, 5)), Some(run(1, 5)));
        assert_eq!(runs.take(&keys::batch(1, 5)), None, "it was taken");
        runs.keep(runs.generation(), run(1, 5));
        runs.outdate();
        assert_eq!(runs.take(&keys::batch(1, 5)), None);
        let before = runs.generation();
        runs.outdate();
        runs.keep(before, run(1, 5));
        assert_eq!(runs.take(&keys::batch(1, 5)), None, "looked up before the deletion, kept after it");
    }

    #[test]
    fn the_oldest_go_first() {
        let runs = Runs::default();
        for log in 0..RUNS_MAX as u32 + 1 {
            runs.keep(runs.generation(), run(log, 0));
        }
        assert_eq!(runs.take(&keys::batch(0, 0)), None);
        assert_eq!(runs.take(&keys::batch(1, 0)), Some(run(1, 0)));
        let kept = runs.kept.lock();
        assert_eq!(kept.runs.len(), kept.order.len());
    }
}
