//! Where the quorum keeps its log, vote and snapshot: what it needs of a key-value store, and a twin in memory.
//!
//! Invariants every store keeps: one `put_many` is atomic; writes become durable in the order they were made, so a
//! synced write also makes durable what was written before it. The twin models what a power cut does to the rest.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// One row to write: its key, and its value or `None` to remove it.
pub type Write = (Vec<u8>, Option<Vec<u8>>);

/// A small ordered key-value store of its own. Calls may block; an error of `put_many` is final.
pub trait MetaStore: Send + Sync {
    /// Applies the writes in order and atomically; with `sync` they are durable when it returns.
    fn put_many(&self, writes: Vec<Write>, sync: bool) -> io::Result<()>;

    /// The value of a key.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// The rows with `from ≤ key < to`, in the order of keys.
    fn scan(&self, from: &[u8], to: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>>;

    /// How long a write takes at most beside what its call takes: of a simulated disk, whose calls take no time.
    fn delay_max(&self) -> Duration {
        Duration::ZERO
    }

    /// Puts a copy of everything written so far into the folder `to`, which must not exist. A store that is on no disk
    /// has none.
    fn back_up(&self, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A store in memory that forgets unsynced writes when its process crashes.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<MemoryState>,
}

#[derive(Default)]
struct MemoryState {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Writes since the last sync, oldest first.
    volatile: Vec<Vec<Write>>,
    /// What a reader sees: both of them.
    visible: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The process died: its last breaths reach no disk.
    dead: bool,
    delay_max: Duration,
}

impl MemoryStore {
    pub fn new() -> Arc<MemoryStore> {
        Arc::default()
    }

    /// The store as the next process finds it after a power cut: synced writes, and the first `kept` of the unsynced
    /// ones. This store accepts no further writes.
    pub fn crash(&self, kept: usize) -> Arc<MemoryStore> {
        let mut state = self.state.lock();
        state.dead = true;
        let mut durable = state.durable.clone();
        for writes in state.volatile.iter().take(kept) {
            write_to(&mut durable, writes);
        }
        let delay_max = state.delay_max;
        let next = MemoryState { visible: durable.clone(), durable, delay_max, ..MemoryState::default() };
        Arc::new(MemoryStore { state: Mutex::new(next) })
    }

    /// From now on every write takes up to `delay`, and what was not written yet is lost with a crash.
    pub fn set_delay_max(&self, delay: Duration) {
        self.state.lock().delay_max = delay;
    }

    /// Writes that a crash would lose.
    pub fn unsynced(&self) -> usize {
        self.state.lock().volatile.len()
    }
}

fn write_to(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, writes: &[Write]) {
    for (key, value) in writes {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

impl MetaStore for MemoryStore {
    fn put_many(&self, writes: Vec<Write>, sync: bool) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.dead {
            return Err(io::Error::other("the process of this store has crashed"));
        }
        write_to(&mut state.visible, &writes);
        state.volatile.push(writes);
        if sync {
            let state = &mut *state;
            for writes in state.volatile.drain(..) {
                write_to(&mut state.durable, &writes);
            }
        }
        Ok(())
    }

    fn delay_max(&self) -> Duration {
        self.state.lock().delay_max
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state.lock().visible.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let state = self.state.lock();
        let rows = state.visible.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &MemoryStore, key: &str, sync: bool) {
        store.put_many(vec![(key.into(), Some(b"1".to_vec()))], sync).unwrap();
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let store = MemoryStore::new();
        put(&store, "a", false);
        put(&store, "b", true);
        put(&store, "c", false);
        put(&store, "d", false);
        assert_eq!(store.scan(b"a", b"z").unwrap().len(), 4, "the living see everything");
        let keys = |store: &MemoryStore| {
            store.scan(b"a", b"z").unwrap().into_iter().map(|row| String::from_utf8(row.0).unwrap()).collect::<String>()
        };
        assert_eq!(keys(&store.crash(0)), "ab");
        assert_eq!(keys(&store.crash(1)), "abc");
        assert!(store.put_many(vec![], true).is_err(), "the dead write nothing");
    }
}
