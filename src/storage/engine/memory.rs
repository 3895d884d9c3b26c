//! The in-memory twin of the engine: the same contract, with a disk that can lose what was not synced.
//!
//! The disk keeps two states: `durable`, what survives a power cut, and `volatile`, what a reader sees. Between them
//! lies the list of writes not yet synced. [`MemoryDisk::crash`] keeps a chosen prefix of that list: whole writes, in
//! order, as
//! a write-ahead log does. Delays come from the simulated world, so that a disk can be slow.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::full::Failure;
use super::{Op, Poisoned};
use crate::env::Env;
use crate::sabotage;
use crate::storage::keys::{Family, Key};
use crate::storage::reserve::Space;

type Rows = BTreeMap<(Family, Vec<u8>), Bytes>;

#[derive(Default)]
struct State {
    durable: Rows,
    volatile: Rows,
    unsynced: Vec<Vec<Op>>,
    delay_max: Duration,
    broken: Option<String>,
    space: Option<Space>,
}

/// A simulated disk. It outlives the engine that runs on it, as a disk outlives a process.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

fn apply(rows: &mut Rows, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put(family, key, value) => {
                rows.insert((*family, key.as_slice().to_vec()), value.clone());
            }
            Op::PutChecked(key, batch) => {
                rows.insert((Family::Batches, key.as_slice().to_vec()), batch.clone());
            }
            Op::Delete(family, key) => {
                rows.remove(&(*family, key.as_slice().to_vec()));
            }
            Op::DeleteRange(family, from, to) => {
                let range =
                    (Included((*family, from.as_slice().to_vec())), Excluded((*family, to.as_slice().to_vec())));
                let doomed: Vec<_> = rows.range(range).map(|(key, _)| key.clone()).collect();
                for key in doomed {
                    rows.remove(&key);
                }
            }
            // Nothing lies anywhere here.
            Op::Move(..) => {}
        }
    }
}

impl MemoryDisk {
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// From now on every write and every sync takes up to `delay`, drawn anew each time.
    pub fn set_delay_max(&self, delay: Duration) {
        self.0.lock().delay_max = delay;
    }

    /// From now on every write fails with `reason`.
    pub fn break_with(&self, reason: &str) {
        self.0.lock().broken = Some(reason.to_owned());
    }

    /// From now on this is its room, whatever is written. With none left, writes find no room.
    pub fn set_space(&self, space: Option<Space>) {
        self.0.lock().space = space;
    }

    /// Its room, if it has a bound.
    pub fn space(&self) -> Option<Space> {
        self.0.lock().space
    }

    /// Power cut: of the writes not yet synced, the first `kept` survive.
    pub fn crash(&self, kept: usize) {
        let mut state = self.0.lock();
        let unsynced = std::mem::take(&mut state.unsynced);
        for ops in unsynced.into_iter().take(kept) {
            apply(&mut state.durable, &ops);
        }
        state.volatile = state.durable.clone();
    }

    /// Another disk that holds the same.
    pub fn copy(&self) -> MemoryDisk {
        let state = self.0.lock();
        let (durable, volatile) = (state.durable.clone(), state.volatile.clone());
        let unsynced = state.unsynced.clone();
        MemoryDisk(Arc::new(Mutex::new(State { durable, volatile, unsynced, ..State::default() })))
    }

    /// Writes that a crash now could lose.
    pub fn unsynced(&self) -> usize {
        self.0.lock().unsynced.len()
    }

    pub(super) async fn write(&self, env: &Env, group: Vec<Vec<Op>>, sync: bool) -> Result<(), Failure> {
        self.pause(env).await;
        {
            let mut state = self.0.lock();
            if let Some(reason) = &state.broken {
                return Err(Poisoned(reason.clone()).into());
            }
            if state.space.is_some_and(|space| space.usable_bytes == 0) {
                return Err(Failure::NoRoom("no bytes are left".into()));
            }
            for ops in group {
                apply(&mut state.volatile, &ops);
                state.unsynced.push(ops);
            }
        }
        if sync && !sabotage::on("ack-before-sync") {
            self.pause(env).await;
            let mut state = self.0.lock();
            let unsynced = std::mem::take(&mut state.unsynced);
            for ops in &unsynced {
                apply(&mut state.durable, ops);
            }
        }
        Ok(())
    }

    async fn pause(&self, env: &Env) {
        let most = self.0.lock().delay_max.as_micros() as u64;
        if most > 0 {
            env.sleep(Duration::from_micros(env.random_below(most))).await;
        }
    }

    pub(super) fn value(&self, family: Family, key: &Key) -> Result<Option<Bytes>, Poisoned> {
        Ok(self.0.lock().volatile.get(&(family, key.as_slice().to_vec())).cloned())
    }

    pub(super) fn scan(
        &self,
        family: Family,
        (from, to): (Key, Key),
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Poisoned> {
        if from >= to {
            return Ok(());
        }
        let state = self.0.lock();
        let range = (Included((family, from.as_slice().to_vec())), Excluded((family, to.as_slice().to_vec())));
        for ((_, key), value) in state.volatile.range(range) {
            if !visit(key, value.clone()) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn batches_from_floor(
        &self,
        (from, to): (Key, Key),
        at: Key,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Poisoned> {
        let floor = if from > at {
            None
        } else {
            let state = self.0.lock();
            let range = (
                Included((Family::Batches, from.as_slice().to_vec())),
                Included((Family::Batches, at.as_slice().to_vec())),
            );
            state.volatile.range(range).next_back().map(|((_, key), _)| key.clone())
        };
        let start = floor.and_then(|key| Key::from_slice(&key)).unwrap_or(at);
        self.scan(Family::Batches, (start, to), visit)
    }
}
