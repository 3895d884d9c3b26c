//! A partition's move to another data directory of this broker (KIP-113, KIP-858; Kafka's `ReplicaAlterLogDirsThread`
//! and `Partition.maybeReplaceCurrentWithFutureReplica`).
//!
//! Invariants: the log goes on serving, leading or following, until a copy that has all of it takes its place, under
//! the partition's lock. By then the log says on its disk where it goes, so that a start without that disk takes no old
//! log for the partition's. It is deleted when the copy's new standing is on disk and the controller knows the
//! directory: before, a crash may have to come back to it. Nothing is compacted meanwhile, for the copy would not hear
//! of it.
//!
//! Each disk writes in its own time, and a start sees them as they are (`partitions::found`). So a step waits until the
//! one before it is on its disk, wherever the two together would say something else: a log says where it goes when
//! nothing that is there, but the copy, can be taken for a log any more, when the log left by the move before is gone
//! from its disk, and when the controller knows where the log is.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::{Core, Partition, chunk_span};
use crate::config::TopicSettings;
use crate::env::Env;
use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, TopicName};
use crate::partitions::neighbours::Neighbours;
use crate::storage::dirs::DataDir;
use crate::storage::engine::Poisoned;
use crate::storage::log::{CopyRead, CopyStep, CutPlan, PartitionLog, next_step};
use crate::storage::state::Standing;

/// What a partition knows of its move.
#[derive(Default)]
pub(super) struct Moving {
    /// The copy in another directory.
    pub(super) future: Option<PartitionLog>,
    /// The log whose place was taken.
    left: Option<PartitionLog>,
    /// The disk has it that the place was taken.
    arrived: bool,
    /// The log that was left is deleted, and its disk does not have that yet, or has failed.
    going: bool,
    /// The disk has the copy, with its producers, and nothing else of the partition, since this count of cuts.
    prepared: Option<u64>,
    /// Somebody carries the move out.
    busy: bool,
    /// Where the controller believes this replica to be.
    assigned: Option<KafkaUuid>,
}

impl Moving {
    /// True if the log stays where it is, and all of it is there.
    pub(super) fn is_over(&self) -> bool {
        self.future.is_none() && (self.arrived || self.left.is_none())
    }

    /// Every log besides the partition's own.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = PartitionLog> {
        self.future.take().into_iter().chain(self.left.take())
    }

    /// True if a log in `here` may say that it goes.
    fn may_leave(&self, here: KafkaUuid) -> bool {
        // One move after the other: a start must find out which log is the last.
        self.left.is_none() && !self.going && self.assigned == Some(here)
    }
}

/// A copy in the making, as DescribeLogDirs tells it.
#[derive(Clone, Copy, Debug)]
pub struct FutureLog {
    pub directory: KafkaUuid,
    pub bytes: u64,
    /// Offsets that the log has and the copy lacks; negative if the log was cut.
    pub lag: i64,
}

/// What a step of a move came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// There is nothing to move, or no way.
    Ended,
    /// It went on, by as many bytes.
    On(u64),
    /// Something has to happen first.
    Waiting,
    /// The copy has taken the log's place, after as many bytes more.
    Arrived(u64),
}

/// What a step does off the lock.
enum Work {
    Disk(Vec<Told>),
    Cut(CutPlan),
    Read(CopyRead, u64),
    Prepare(Told, u64),
    TakePlace,
    Nothing(Moved),
}

type Told = oneshot::Receiver<Result<(), Poisoned>>;

fn telling() -> (impl FnOnce(Result<(), Poisoned>) + Send + 'static, Told) {
    let (tell, told) = oneshot::channel();
    // Nobody may be waiting any more.
    (move |fate| drop(tell.send(fate)), told)
}

/// Waits until everything is on disk. A disk that fails is seen by the next step.
async fn on_disk(all: Vec<Told>) -> Moved {
    for told in all {
        let _ = told.await;
    }
    Moved::On(0)
}

impl Partition {
    /// Moves the log to `home`: begins, goes on with what was begun, begins anew if it was on the way elsewhere, or, if
    /// the log is there, gives the move up. `may_begin` is the error that a new copy is refused with, if it is.
    pub fn move_to(&self, home: &DataDir, may_begin: Result<(), ErrorCode>) -> Result<(), ErrorCode> {
        let mut core = self.core.lock();
        let core = &mut *core;
        let log = core.log.as_mut().filter(|log| !log.is_offline()).ok_or(ErrorCode::KafkaStorageError)?;
        let from = log.directory();
        let goes_to = core.moving.future.as_ref().map(PartitionLog::directory);
        if goes_to == Some(home.id) {
            return Ok(());
        }
        if home.id == from {
            self.give_up_move(core);
            return Ok(());
        }
        may_begin?;
        self.give_up_move(core);
        let future = home.create_future(self.id, from).map_err(|_| ErrorCode::KafkaStorageError)?;
        tracing::info!(partition = %self.name(), %from, to = %home.id, "a replica begins to move between directories");
        core.moving.future = Some(future);
        // Whoever compacts it stops.
        core.cuts += 1;
        self.neighbours.moving.add(self.id);
        Ok(())
    }

    fn give_up_move(&self, core: &mut Core) {
        let Some(future) = core.moving.future.take() else { return };
        tracing::info!(partition = %self.name(), to = %future.directory(), "a move between directories is given up");
        // A refused write is that of a failed disk: the next start finds the copy again, and goes on with it.
        let _ = future.destroy();
        if let Some(log) = core.log.as_mut().filter(|log| log.standing() != Standing::Settled) {
            let _ = log.settle(|_| {});
        }
        self.neighbours.freed.notify_one();
    }

    /// Hosts what a start has found: the log, and besides it a copy in the making, or the log whose place was taken.
    pub fn take_up(
        env: &Env,
        neighbours: &Arc<Neighbours>,
        topic: TopicName,
        (mut log, future, left): (PartitionLog, Option<PartitionLog>, Option<PartitionLog>),
        settings: Arc<TopicSettings>,
    ) -> Partition {
        if future.is_none() && log.standing() != Standing::Settled {
            // A refused write is that of a failed disk, which its own path reports.
            let _ = log.settle(|_| {});
        }
        let partition = Partition::host(env, neighbours, topic, log, settings);
        if let Some(future) = &future {
            tracing::info!(partition = %partition.name(), to = %future.directory(), "a move between directories goes on");
            neighbours.moving.add(partition.id);
        }
        let arrived = left.is_some();
        partition.core.lock().moving = Moving { future, left, arrived, ..Moving::default() };
        partition
    }

    /// The copy in the making, if there is one.
    pub fn future(&self) -> Option<FutureLog> {
        let core = self.core.lock();
        let (log, future) = (core.log.as_ref()?, core.moving.future.as_ref()?);
        let lag = log.log_end() - future.log_end();
        Some(FutureLog { directory: future.directory(), bytes: future.bytes(), lag })
    }

    /// The controller believes this replica to be in `directory`.
    pub fn is_assigned(self: &Arc<Self>, directory: KafkaUuid) {
        let mut core = self.core.lock();
        core.moving.assigned = Some(directory);
        self.release_left(&mut core);
    }

    /// Deletes the log whose place was taken, if nobody needs it any more.
    fn release_left(self: &Arc<Self>, core: &mut Core) {
        let here = core.log.as_ref().map(PartitionLog::directory);
        if !core.moving.arrived || core.moving.assigned != here {
            return;
        }
        let Some(left) = core.moving.left.take() else { return };
        let partition = self.clone();
        let gone = move |fate: Result<(), Poisoned>| partition.core.lock().moving.going = fate.is_err();
        core.moving.going = true;
        if let Err(poison) = left.destroy_and_tell(gone) {
            tracing::warn!(partition = %self.name(), %poison, "the log that a move has left stays until the next start");
        }
        self.neighbours.freed.notify_one();
    }

    /// The directory of the log, once the disk there has it that it is the partition's: what the controller may know.
    pub fn placed_in(&self) -> Option<KafkaUuid> {
        let core = self.core.lock();
        let here = core.log.as_ref()?.directory();
        (core.moving.arrived || core.moving.left.is_none()).then_some(here)
    }

    /// True if there is a move that nobody carries out; whoever asked does from now on, with [`Partition::move_on`].
    pub fn begin_moving(&self) -> bool {
        let moving = &mut self.core.lock().moving;
        let idle = !moving.busy && moving.future.is_some();
        moving.busy |= idle;
        idle
    }

    /// One step of the move. `turn` is held while a copy takes the place of a log. The error says why it did not go on;
    /// it may, later.
    pub async fn move_on(self: &Arc<Self>, turn: &Semaphore) -> Result<Moved, String> {
        match self.next_work()? {
            Work::Nothing(moved) => Ok(moved),
            Work::Disk(all) => Ok(on_disk(all).await),
            Work::Cut(plan) => self.cut_future(plan).await,
            Work::Read(read, cuts) => self.copy(read, cuts).await,
            Work::Prepare(told, cuts) => {
                if matches!(told.await, Ok(Ok(()))) {
                    self.core.lock().moving.prepared = Some(cuts);
                }
                Ok(Moved::On(0))
            }
            Work::TakePlace => {
                // A closed semaphore is that of a broker that stops.
                let Ok(_turn) = turn.acquire().await else { return Ok(Moved::Ended) };
                self.take_place().await
            }
        }
    }

    fn next_work(&self) -> Result<Work, String> {
        let mut core = self.core.lock();
        let Core { log, moving, durable_end, cuts, cuts_under_way, .. } = &mut *core;
        let (Some(log), Some(future)) = (log.as_mut().filter(|log| !log.is_offline()), moving.future.as_mut()) else {
            moving.busy = false;
            return Ok(Work::Nothing(Moved::Ended));
        };
        if future.is_offline() {
            tracing::warn!(partition = %self.name(), "a move between directories ends: the disk it goes to has failed");
            (moving.future, moving.busy) = (None, false);
            let _ = log.settle(|_| {});
            return Ok(Work::Nothing(Moved::Ended));
        }
        let (tell, told) = telling();
        let from = match next_step(log.extent(), future.extent()) {
            CopyStep::Restart(at) => {
                return future.restart_at(at, tell).map(|()| Work::Disk(vec![told])).map_err(|poison| poison.0);
            }
            CopyStep::Raise(to) => {
                return future.delete_before(to, tell).map(|()| Work::Disk(vec![told])).map_err(|poison| poison.0);
            }
            CopyStep::Cut(to) => return Ok(Work::Cut(future.plan_cut(to))),
            CopyStep::Copy(from) => from,
            CopyStep::Level => log.log_end(),
        };
        if log.rest(from).is_none() {
            // What is not on disk yet is in memory, unless there is very much of it.
            let readable = *durable_end > from;
            let read = || Work::Read(log.plan_copy(from, *durable_end), *cuts);
            return Ok(if readable { read() } else { Work::Nothing(Moved::Waiting) });
        }
        let to = future.directory();
        if moving.prepared != Some(*cuts) {
            let adopted = future.adopt_producers(log, tell);
            return adopted.map(|()| Work::Prepare(told, *cuts)).map_err(|poison| poison.0);
        }
        if !moving.may_leave(log.directory()) || *cuts_under_way > 0 {
            // The disk tells of a cut while the log is still on it.
            return Ok(Work::Nothing(Moved::Waiting));
        }
        if log.standing() == (Standing::Leaving { to }) {
            return Ok(Work::TakePlace);
        }
        log.leave(to, tell).map(|()| Work::Disk(vec![told])).map_err(|poison| poison.0)
    }

    async fn cut_future(&self, plan: CutPlan) -> Result<Moved, String> {
        let to = plan.directory();
        let cut = self.env.blocking(move || plan.prepare()).await.map_err(|poison| poison.0)?;
        let told = {
            let mut core = self.core.lock();
            let Some(future) = core.moving.future.as_mut().filter(|future| future.directory() == to) else {
                return Ok(Moved::On(0));
            };
            let (tell, told) = telling();
            let done = if cut.to() <= future.log_start() {
                future.restart_at(cut.to(), tell).map(|()| true)
            } else {
                future.cut(cut, tell).map(|end| end.is_some())
            };
            // If it was not what the cut was made for, the next step looks again.
            if done.map_err(|poison| poison.0)? { vec![told] } else { Vec::new() }
        };
        Ok(on_disk(told).await)
    }

    async fn copy(&self, read: CopyRead, cuts: u64) -> Result<Moved, String> {
        let copied = self.env.blocking(move || read.run()).await.map_err(|failure| failure.to_string())?;
        let (bytes, span_ms_max) = (copied.bytes(), chunk_span(&self.settings.load()));
        let told = {
            let mut core = self.core.lock();
            let core = &mut *core;
            let (Some(log), Some(future)) = (&core.log, core.moving.future.as_mut()) else { return Ok(Moved::On(0)) };
            let (tell, told) = telling();
            let fits = core.cuts == cuts && {
                let appended = future.append_copied(log, copied, (span_ms_max, false), tell);
                appended.map_err(|code| format!("the directory refuses records ({code:?})"))?
            };
            if !fits {
                return Ok(Moved::On(0));
            }
            told
        };
        on_disk(vec![told]).await;
        Ok(Moved::On(bytes))
    }

    /// The copy takes the place of the log, if it is all there.
    async fn take_place(self: &Arc<Self>) -> Result<Moved, String> {
        let span_ms_max = chunk_span(&self.settings.load());
        let (bytes, told) = {
            let mut core = self.core.lock();
            let core = &mut *core;
            let may_leave = core.log.as_ref().is_some_and(|log| core.moving.may_leave(log.directory()));
            let (Some(log), Some(future)) = (&mut core.log, core.moving.future.as_mut()) else {
                return Ok(Moved::On(0));
            };
            let to = future.directory();
            let ready = matches!(next_step(log.extent(), future.extent()), CopyStep::Copy(_) | CopyStep::Level)
                && log.standing() == (Standing::Leaving { to })
                && core.moving.prepared == Some(core.cuts)
                && may_leave
                && core.cuts_under_way == 0;
            let Some(rest) = log.rest(future.log_end()).filter(|_| ready) else { return Ok(Moved::On(0)) };
            let (bytes, on_disk) = (rest.bytes(), future.log_end());
            let appended = future.append_copied(log, rest, (span_ms_max, true), |_| {});
            if !appended.map_err(|code| format!("the directory refuses records ({code:?})"))? {
                return Ok(Moved::On(0));
            }
            let (tell, told) = oneshot::channel();
            let (partition, end) = (self.clone(), future.log_end());
            let arrived = move |fate: Result<(), Poisoned>| {
                partition.arrived(to, end, fate);
                // Nobody may be waiting any more.
                let _ = tell.send(Ok(()));
            };
            future.take_place_of(log, core.high_watermark, arrived).map_err(|poison| poison.0)?;
            core.moving.left = core.moving.future.take().map(|future| std::mem::replace(log, future));
            (core.moving.arrived, core.moving.busy) = (false, false);
            // What is on disk where the log was says nothing of where it is. Less is not acknowledged for that.
            core.durable_end = on_disk;
            core.cuts += 1;
            tracing::info!(partition = %self.name(), %to, end, "a replica has moved between directories");
            (bytes, told)
        };
        on_disk(vec![told]).await;
        // The controller must learn of it before the old log may go.
        self.neighbours.misplaced.add(self.id);
        Ok(Moved::Arrived(bytes))
    }

    /// The disk in `directory` has it, or not, that the log there has taken its place and ends at `end`.
    fn arrived(self: &Arc<Self>, directory: KafkaUuid, end: i64, fate: Result<(), Poisoned>) {
        let on_disk = fate.is_ok();
        self.written(directory, Some(end), fate);
        if on_disk {
            let mut core = self.core.lock();
            core.moving.arrived = true;
            self.release_left(&mut core);
        }
    }
}

#[cfg(test)]
mod tests;
