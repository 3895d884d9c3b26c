//! One engine per data directory: ordered rows, atomic writes, one writer lane with group commit.
//!
//! The contract, which RocksDB and the in-memory twin both keep:
//! * Writes are applied in the order of [`Engine::submit`], each of them whole or not at all, also after a crash.
//! * `done` is called exactly once per write, in order, after the write is on stable storage (with `sync`), or with a
//!   failure.
//! * A write for which the disk has no room waits until there is some, and the writes behind it with it.
//! * After any other failure the engine is *poisoned*: every later write is refused, nothing is retried (an fsync error
//!   is final).
//! * Reads see every write whose `done` was called; they may see later ones.
//!
//! The lane's queue is bounded by [`Engine::room`]: whoever produces waits there, before the first byte is queued.

mod direct;
mod frozen;
mod full;
mod gather;
mod groups;
mod memory;
mod pending;
mod reads;
mod rocks;
mod rocks_files;
mod row_changes;
mod runs;
mod values;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::keys::{Family, Key};
use crate::env::Env;
use full::{Failure, Fullness, ROOM_PAUSE};
use gather::Gather;

pub use frozen::{Batch, Frozen, FrozenStore, Row};
pub use groups::examine_values;
pub use memory::MemoryDisk;
pub use rocks::SmallStore;

/// The directory's engine failed and takes no more writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Poisoned(pub String);

impl std::fmt::Display for Poisoned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "data directory is offline: {}", self.0)
    }
}

impl std::error::Error for Poisoned {}

/// One change of one row or range.
#[derive(Clone, Debug)]
#[allow(private_interfaces, reason = "only the engine itself moves values")]
pub enum Op {
    Put(Family, Key, Bytes),
    /// Puts a batch whose CRC was compared with it, or computed, since it is in memory.
    PutChecked(Key, Bytes),
    Delete(Family, Key),
    /// Deletes `from ≤ key < to`.
    DeleteRange(Family, Key, Key),
    /// Writes the batch of this row anew if it still lies in this place: how a file of dead batches is emptied.
    Move(Key, values::Place),
}

/// Called once with the fate of a write.
pub type Done = Box<dyn FnOnce(Result<(), Poisoned>) + Send>;

/// Rows that change together.
#[derive(Default)]
pub struct Write {
    pub ops: Vec<Op>,
    pub done: Option<Done>,
    bytes: usize,
}

impl Write {
    pub fn new() -> Write {
        Write::default()
    }

    pub fn put(&mut self, family: Family, key: Key, value: Bytes) {
        self.bytes += key.as_slice().len() + value.len();
        self.ops.push(Op::Put(family, key, value));
    }

    /// As [`Write::put`] for a batch whose CRC is known to be right: nobody looks at its records again.
    pub fn put_checked(&mut self, key: Key, batch: Bytes) {
        self.bytes += key.as_slice().len() + batch.len();
        self.ops.push(Op::PutChecked(key, batch));
    }

    pub fn delete(&mut self, family: Family, key: Key) {
        self.ops.push(Op::Delete(family, key));
    }

    pub fn delete_range(&mut self, family: Family, range: (Key, Key)) {
        self.ops.push(Op::DeleteRange(family, range.0, range.1));
    }

    pub fn when_done(mut self, done: impl FnOnce(Result<(), Poisoned>) + Send + 'static) -> Write {
        self.done = Some(Box::new(done));
        self
    }
}

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Sync every group before `done` (`ottla.sync.before.ack`).
    pub sync: bool,
    /// Size at which a file of the value log is closed: the unit in which disk space comes back.
    /// [`VALUE_FILE_BYTES_MAX`] unless a test wants many files.
    pub value_file_bytes_max: u64,
    /// Read and write batches past the page cache (`ottla.direct.io`).
    pub direct: bool,
    /// Memory for batches read from disk (`ottla.read.cache.bytes`).
    pub read_cache_bytes: usize,
}

/// See [`EngineOptions::value_file_bytes_max`].
pub const VALUE_FILE_BYTES_MAX: u64 = 128 << 20;
/// Queued bytes above which [`Engine::room`] makes producers wait.
const QUEUE_BYTES_MAX: usize = 128 << 20;
/// Most bytes that one group commit takes from the queue: bounds the latency of the writes behind it.
const GROUP_BYTES_MAX: usize = 8 << 20;

#[derive(Default)]
struct Queue {
    writes: VecDeque<Write>,
    closed: bool,
    /// Writes for which the lane waits; it need not hear of fewer.
    wanted: usize,
}

/// What producers and the lane share.
#[derive(Default)]
pub(super) struct Lane {
    queue: Mutex<Queue>,
    filled: Condvar,
    /// The same signal for the lane of the in-memory twin, which is a task.
    filled_async: Notify,
    queued_bytes: AtomicUsize,
    drained: Notify,
    poison: Mutex<Option<Poisoned>>,
    poisoned: AtomicBool,
    /// Ranges of batches deleted since the last reclaim: start and end. Every range of a log has the same start.
    dead: Mutex<BTreeMap<Key, Key>>,
    /// Groups committed so far: one sync each.
    groups: AtomicU64,
    fullness: Fullness,
    ended: Mutex<bool>,
    ended_signal: Condvar,
}

impl Lane {
    fn take_group(&self, queue: &mut Queue) -> Vec<Write> {
        let mut group = Vec::with_capacity(queue.writes.len().min(256));
        let mut bytes = 0;
        while let Some(write) = queue.writes.front() {
            if !group.is_empty() && bytes + write.bytes > GROUP_BYTES_MAX {
                break;
            }
            bytes += write.bytes;
            group.extend(queue.writes.pop_front());
        }
        group
    }

    /// Waits for writes; `None` when the engine was closed and everything queued is written.
    fn next_group_blocking(&self, gather: &mut Gather) -> Option<Vec<Write>> {
        let mut queue = self.queue.lock();
        queue.wanted = 1;
        while queue.writes.is_empty() {
            if queue.closed {
                return None;
            }
            self.filled.wait(&mut queue);
        }
        // No group is on its way, so whatever counts as queued is still here.
        let (queued, bytes) = (queue.writes.len(), self.queued_bytes.load(Ordering::Acquire));
        if let Some((wanted, pause)) = gather.wish(queued, bytes)
            && !queue.closed
        {
            queue.wanted = wanted;
            self.filled.wait_for(&mut queue, pause);
            gather.waited(queued, queue.writes.len());
        }
        Some(self.take_group(&mut queue))
    }

    async fn next_group(&self) -> Option<Vec<Write>> {
        loop {
            let filled = self.filled_async.notified();
            {
                let mut queue = self.queue.lock();
                queue.wanted = 1;
                if !queue.writes.is_empty() {
                    return Some(self.take_group(&mut queue));
                }
                if queue.closed {
                    return None;
                }
            }
            filled.await;
        }
    }

    fn note_dead(&self, ops: &[Op]) {
        for op in ops {
            if let Op::DeleteRange(Family::Batches, from, to) = op {
                let mut dead = self.dead.lock();
                let end = dead.entry(*from).or_insert(*to);
                *end = (*end).max(*to);
            }
        }
    }

    /// Tells everyone in `group` its fate.
    fn finish(&self, group: Vec<Write>, outcome: Result<(), Poisoned>) {
        if let Err(poison) = &outcome {
            self.poison_with(poison.clone());
        }
        self.fullness.passed();
        self.groups.fetch_add(1, Ordering::Relaxed);
        let mut bytes = 0;
        for write in group {
            bytes += write.bytes;
            self.note_dead(&write.ops);
            if let Some(done) = write.done {
                done(outcome.clone());
            }
        }
        let before = self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before > QUEUE_BYTES_MAX && before - bytes <= QUEUE_BYTES_MAX {
            self.drained.notify_waiters();
        }
    }

    /// Waits for room on the disk, a moment; false if the engine is closed. Blocking.
    fn wait_for_room(&self, why: &str) -> bool {
        self.fullness.begin(why);
        // Producers wait for nothing that may take so long: they are refused.
        self.drained.notify_waiters();
        self.fullness.wait(why)
    }

    fn poison_with(&self, poison: Poisoned) {
        let mut slot = self.poison.lock();
        if slot.is_none() {
            tracing::error!(reason = %poison, "data directory failed and is offline");
            *slot = Some(poison);
            self.poisoned.store(true, Ordering::Release);
        }
    }

    fn end(&self) {
        *self.ended.lock() = true;
        self.ended_signal.notify_all();
    }
}

enum Backend {
    Rocks(rocks::Store),
    Memory(MemoryDisk),
}

struct Inner {
    lane: Arc<Lane>,
    backend: Backend,
    reclaiming: Mutex<Reclaimed>,
}

/// What became of the space of the dead.
#[derive(Default)]
struct Reclaimed {
    /// Nothing that an earlier life left is forgotten: it was looked for since the engine was opened.
    looked: bool,
}

/// The engine of one data directory. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

impl Engine {
    /// Opens or creates the RocksDB in `directory` and starts its lane.
    pub fn open(env: &Env, directory: &Path, options: &EngineOptions) -> Result<Engine, Poisoned> {
        let store = rocks::Store::open(env, directory, options)?;
        let lane = Arc::new(Lane::default());
        let (worker, sync) = (store.clone(), options.sync);
        let (lane_of_thread, env_of_thread) = (lane.clone(), env.clone());
        env.thread("ottla-lane", move || {
            let mut gather = Gather::default();
            while let Some(mut group) = lane_of_thread.next_group_blocking(&mut gather) {
                let (writes, begun) = (group.len(), env_of_thread.now());
                let refused = lane_of_thread.poison.lock().clone();
                let outcome = match refused {
                    Some(poison) => Err(poison),
                    None => worker.write(&mut group, sync, &|why| lane_of_thread.wait_for_room(why)),
                };
                let left = lane_of_thread.queue.lock().writes.len();
                gather.committed(writes, left, env_of_thread.now() - begun);
                lane_of_thread.finish(group, outcome);
            }
            if lane_of_thread.poison.lock().is_none()
                && let Err(poison) = worker.finish()
            {
                tracing::warn!(%poison, "cannot flush at the end: the next start applies the value log instead");
            }
            // Whoever waits for the end may open the directory again.
            drop(worker);
            lane_of_thread.end();
        })
        .map_err(|failure| Poisoned(format!("cannot start the writer thread: {failure}")))?;
        Ok(Engine(Arc::new(Inner { lane, backend: Backend::Rocks(store), reclaiming: Mutex::default() })))
    }

    /// The in-memory twin over `disk`, for simulation and tests: its lane is a task of `env`.
    pub fn in_memory(env: &Env, disk: &MemoryDisk, options: &EngineOptions) -> Engine {
        let lane = Arc::new(Lane::default());
        let (disk_of_lane, lane_of_task, env_of_task, sync) = (disk.clone(), lane.clone(), env.clone(), options.sync);
        env.spawn(async move {
            while let Some(group) = lane_of_task.next_group().await {
                let outcome = loop {
                    let ops = group.iter().map(|write| write.ops.clone()).collect();
                    match disk_of_lane.write(&env_of_task, ops, sync).await {
                        Err(Failure::NoRoom(why)) if !lane_of_task.fullness.has_ended() => {
                            lane_of_task.fullness.begin(&why);
                            lane_of_task.drained.notify_waiters();
                            env_of_task.sleep(ROOM_PAUSE).await;
                        }
                        outcome => break outcome.map_err(Poisoned::from),
                    }
                };
                lane_of_task.finish(group, outcome);
            }
            lane_of_task.end();
        });
        Engine(Arc::new(Inner { lane, backend: Backend::Memory(disk.clone()), reclaiming: Mutex::default() }))
    }

    /// Queues `write`. Refuses, without calling `done`, if the engine is poisoned or closed.
    pub fn submit(&self, write: Write) -> Result<(), Poisoned> {
        let lane = &self.0.lane;
        if lane.poisoned.load(Ordering::Acquire) {
            return Err(lane.poison.lock().clone().unwrap_or(Poisoned("failed".into())));
        }
        let wanted = {
            let mut queue = lane.queue.lock();
            if queue.closed {
                return Err(Poisoned("closed".into()));
            }
            lane.queued_bytes.fetch_add(write.bytes, Ordering::AcqRel);
            queue.writes.push_back(write);
            queue.writes.len() == queue.wanted
        };
        if wanted {
            match &self.0.backend {
                Backend::Rocks(_) => drop(lane.filled.notify_one()),
                Backend::Memory(_) => lane.filled_async.notify_one(),
            }
        }
        Ok(())
    }

    /// Submits `write` and waits until it is on stable storage.
    pub async fn write(&self, write: Write) -> Result<(), Poisoned> {
        let (told, outcome) = tokio::sync::oneshot::channel();
        self.submit(write.when_done(move |fate| drop(told.send(fate))))?;
        outcome.await.unwrap_or_else(|_| Err(Poisoned("closed".into())))
    }

    /// Waits until the lane's queue is below its bound. A full disk is not waited for.
    pub async fn room(&self) {
        let lane = &self.0.lane;
        loop {
            let drained = lane.drained.notified();
            if lane.queued_bytes.load(Ordering::Acquire) <= QUEUE_BYTES_MAX || self.is_full() {
                return;
            }
            drained.await;
        }
    }

    /// Why the engine takes no more writes, if it does not.
    pub fn poison(&self) -> Option<Poisoned> {
        self.0.lane.poison.lock().clone()
    }

    /// Takes the directory offline.
    pub fn give_up(&self, poison: Poisoned) {
        self.0.lane.poison_with(poison);
    }

    /// True while writes wait for room on the disk.
    pub fn is_full(&self) -> bool {
        self.0.lane.fullness.is_full()
    }

    /// Bytes that wait for the lane.
    pub fn queued_bytes(&self) -> usize {
        self.0.lane.queued_bytes.load(Ordering::Relaxed)
    }

    /// Group commits so far.
    pub fn groups(&self) -> u64 {
        self.0.lane.groups.load(Ordering::Relaxed)
    }

    /// The value of one row.
    pub fn value(&self, family: Family, key: &Key) -> Result<Option<Bytes>, Poisoned> {
        match &self.0.backend {
            Backend::Rocks(store) => store.value(family, key),
            Backend::Memory(disk) => disk.value(family, key),
        }
    }

    /// Visits rows `from ≤ key < to` in order until `visit` returns false.
    pub fn scan(
        &self,
        family: Family,
        range: (Key, Key),
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Poisoned> {
        match &self.0.backend {
            Backend::Rocks(store) => store.scan(family, range, visit),
            Backend::Memory(disk) => disk.scan(family, range, visit),
        }
    }

    /// Visits batches from the last one with `range.0 ≤ key ≤ at` (from `at` if there is none) to `range.1`, in order,
    /// until `visit` returns false or the next one lies far from the first on the disk: at least two of them and a few
    /// tens of KB, if there are. `bytes` of them are read ahead.
    pub fn batches_from_floor(
        &self,
        range: (Key, Key),
        at: Key,
        bytes: usize,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Poisoned> {
        match &self.0.backend {
            Backend::Rocks(store) => store.batches_from_floor(range, at, bytes, visit),
            Backend::Memory(disk) => disk.batches_from_floor(range, at, visit),
        }
    }

    /// Gives the disk space of the batches deleted since the last call back; does nothing if there are none. The first
    /// call looks in any case: what died before the engine was opened is remembered by nobody. Blocking; writes living
    /// batches anew if too many dead ones lie beside them, `room` bytes at a time. A second caller finds nothing left
    /// to do.
    pub fn reclaim(&self, room: u64) -> Result<(), Poisoned> {
        let mut reclaimed = self.0.reclaiming.lock();
        let dead = std::mem::take(&mut *self.0.lane.dead.lock());
        let Backend::Rocks(store) = &self.0.backend else { return Ok(()) };
        if dead.is_empty() && reclaimed.looked {
            return Ok(());
        }
        let ranges: Vec<(Key, Key)> = dead.into_iter().collect();
        let outcome = store.compact(&ranges).and_then(|()| self.carry_out(store, room));
        match &outcome {
            Ok(()) => reclaimed.looked = true,
            // The next call tries again.
            Err(_) => self.0.lane.dead.lock().extend(ranges),
        }
        outcome
    }

    fn carry_out(&self, store: &rocks::Store, room: u64) -> Result<(), Poisoned> {
        loop {
            let (moves, more) = store.reclaim(room)?;
            if moves.is_empty() {
                return Ok(());
            }
            for ops in moves {
                // One at a time, so that producers never wait behind more than one of them.
                let (told, outcome) = std::sync::mpsc::sync_channel(1);
                let write = Write { ops, ..Write::default() }.when_done(move |fate| drop(told.send(fate)));
                self.submit(write)?;
                outcome.recv().unwrap_or_else(|_| Err(Poisoned("closed".into())))?;
            }
            if !more {
                return store.drop_dead_files();
            }
        }
    }

    /// Tells that batches of `range` were overwritten or deleted one by one, so that the next reclaim looks for their
    /// space too.
    pub fn note_garbage(&self, range: (Key, Key)) {
        let mut dead = self.0.lane.dead.lock();
        let end = dead.entry(range.0).or_insert(range.1);
        *end = (*end).max(range.1);
    }

    /// Puts a copy of everything that was done so far into the folder `to`, while writes go on. Blocking.
    pub fn back_up(&self, to: &Path) -> Result<(), Poisoned> {
        // No file of the value log goes while its copy is made.
        let _alone = self.0.reclaiming.lock();
        match &self.0.backend {
            Backend::Rocks(store) => store.back_up(to),
            Backend::Memory(_) => Err(Poisoned("a disk in memory has no backup".into())),
        }
    }

    /// Writes what is queued and stops the lane; with `wait`, blocks until it has stopped.
    pub fn close(&self, wait: bool) {
        let lane = &self.0.lane;
        lane.queue.lock().closed = true;
        lane.fullness.end();
        lane.filled.notify_all();
        lane.filled_async.notify_waiters();
        lane.filled_async.notify_one();
        // The twin's lane is a task, perhaps of this very thread: it ends on its own.
        if wait && matches!(self.0.backend, Backend::Rocks(_)) {
            let mut ended = lane.ended.lock();
            while !*ended {
                lane.ended_signal.wait(&mut ended);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
