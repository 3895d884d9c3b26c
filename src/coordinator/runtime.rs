//! The actor of one shard: mailbox, journal, parked answers, timers.
//!
//! Invariants: the actor is the only owner of its machine. A decision's records are replayed after the journal accepted
//! them and before the next decision. An answer leaves when `committed ≥ the end of the journal when it was decided`.
//! `parked` is in the order of those offsets. An asker whose `oneshot` is dropped unanswered reads `NotCoordinator`, so
//! whatever ends the actor (leadership lost, stopped, a panic) answers everyone who still waits.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::load::{LoadFailure, load};
use super::shard::{AnswerId, Decision, Journal, Shard, TimerChange};
use crate::env::{BoxFuture, Env};
use crate::error::ErrorCode;
use crate::ids::{Offset, TopicPartition, WallMillis};
use crate::metadata::ClusterImage;
use crate::records::BatchBuilder;

/// Asks that may wait for one shard. More are refused with `CoordinatorNotAvailable`, which clients retry.
pub const MAILBOX_ASKS_MAX: usize = 1024;
/// Pause before a shard that failed is loaded again.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// When a timer fires again after the journal refused what it led to.
const TIMER_RETRY: Duration = Duration::from_millis(500);
/// The farthest a timer is set into the future: ten years, which keeps the arithmetic of instants in range.
const TIMER_MS_MAX: i64 = 10 * 365 * 24 * 3600 * 1000;

/// Where the current image comes from.
pub type Images = Arc<dyn Fn() -> Arc<ClusterImage> + Send + Sync>;

/// A shard that runs on this broker. Dropping it lets the shard end once it has read its mailbox; [`HostedShard::stop`]
/// ends it at once.
pub struct HostedShard<S: Shard> {
    mailbox: mpsc::Sender<Letter<S>>,
    task: AbortHandle,
}

/// An ask and who wants the answer.
struct Letter<S: Shard> {
    ask: S::Ask,
    asker: oneshot::Sender<S::Answer>,
}

impl<S: Shard> HostedShard<S> {
    /// Starts the actor: it loads a machine made by `make` from `journal`, then serves. `name` is for the operator. An
    /// answer waits for `patience` at most until the journal is committed.
    pub fn start(
        name: TopicPartition,
        env: &Env,
        journal: Arc<dyn Journal>,
        images: Images,
        patience: Duration,
        make: Arc<dyn Fn() -> S + Send + Sync>,
    ) -> HostedShard<S> {
        let (mailbox, letters) = mpsc::channel(MAILBOX_ASKS_MAX);
        let home = Home { name, env: env.clone(), journal, images, patience, make };
        let task = env.spawn(live(home, letters)).abort_handle();
        HostedShard { mailbox, task }
    }

    /// Puts the ask into the mailbox before it returns; the future resolves to the answer.
    pub fn ask(&self, ask: S::Ask) -> BoxFuture<'static, S::Answer> {
        let (asker, answer) = oneshot::channel();
        // What the asker reads if its letter is dropped, be it refused here or left unanswered by an actor that ended.
        let dropped = match self.mailbox.try_send(Letter { ask, asker }) {
            Err(TrySendError::Full(_)) => ErrorCode::CoordinatorNotAvailable,
            Ok(()) | Err(TrySendError::Closed(_)) => ErrorCode::NotCoordinator,
        };
        Box::pin(async move { answer.await.unwrap_or_else(|_| S::refuse(dropped)) })
    }

    /// Ends the shard. It decides nothing more, and whoever still waits for it reads `NotCoordinator`.
    pub fn stop(&self) {
        self.task.abort();
    }
}

/// What an actor needs of its surroundings.
struct Home<S: Shard> {
    name: TopicPartition,
    env: Env,
    journal: Arc<dyn Journal>,
    images: Images,
    patience: Duration,
    make: Arc<dyn Fn() -> S + Send + Sync>,
}

/// Why a shard stopped serving.
enum End {
    /// Nobody can ask any more.
    Unreachable,
    /// The journal is led elsewhere, or its disk is gone.
    Lost(ErrorCode),
    /// Something that loading again may cure.
    Failed(String),
}

/// Loads and serves, again and again until the shard is stopped or loses its journal.
async fn live<S: Shard>(home: Home<S>, mut mailbox: mpsc::Receiver<Letter<S>>) {
    loop {
        let outcome = AssertUnwindSafe(load_and_serve(&home, &mut mailbox)).catch_unwind().await;
        let reason = match outcome {
            Ok(End::Unreachable) => return,
            Ok(End::Lost(code)) => {
                tracing::info!(shard = %home.name, %code, "shard resigned");
                return;
            }
            Ok(End::Failed(reason)) => reason,
            Err(panic) => panic_text(&*panic),
        };
        tracing::error!(shard = %home.name, %reason, "shard dropped, to be loaded again");
        if refuse_during(&mut mailbox, home.env.sleep(RELOAD_PAUSE)).await.is_none() {
            return;
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}

async fn load_and_serve<S: Shard>(home: &Home<S>, mailbox: &mut mpsc::Receiver<Letter<S>>) -> End {
    let started = home.env.now();
    let shard = match refuse_during(mailbox, load_committed(home)).await {
        Some(Ok(shard)) => shard,
        Some(Err(LoadFailure::Journal(code))) if loses_journal(code) => return End::Lost(code),
        Some(Err(failure)) => return End::Failed(failure.to_string()),
        None => return End::Unreachable,
    };
    let took_ms = home.env.now().duration_since(started).as_millis() as u64;
    match home.journal.log_end() {
        // Fifty empty shards are what a new broker has; they are not worth fifty lines.
        0 => tracing::debug!(shard = %home.name, "shard is new"),
        end => tracing::info!(shard = %home.name, end, took_ms, "shard loaded"),
    }
    Tenure::new(home, shard).serve(mailbox).await
}

/// Waits until all of the journal is committed, and replays it. A record that is not may be unknown to the next leader;
/// and it may not be on this disk yet, so that reading the journal would not find it.
async fn load_committed<S: Shard>(home: &Home<S>) -> Result<S, LoadFailure> {
    home.journal.committed(home.journal.log_end()).await.map_err(LoadFailure::Journal)?;
    load(&*home.journal, (home.make)()).await
}

/// The output of `work`; who asks meanwhile is told that the shard is loading. `None` if nobody can ask any more.
async fn refuse_during<S: Shard, T>(
    mailbox: &mut mpsc::Receiver<Letter<S>>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            output = &mut work => return Some(output),
            letter = mailbox.recv() => match letter {
                // An asker that hung up needs no answer, here and below.
                Some(letter) => drop(letter.asker.send(S::refuse(ErrorCode::CoordinatorLoadInProgress))),
                None => return None,
            },
        }
    }
}

/// One stretch of serving: from a load to whatever ends it.
struct Tenure<'a, S: Shard> {
    home: &'a Home<S>,
    shard: S,
    timers: Timers<S::Timer>,
    /// Who asked, by the id the machine knows them by, until a decision answers them.
    askers: BTreeMap<AnswerId, oneshot::Sender<S::Answer>>,
    last_id: AnswerId,
    /// The offset after the last record decided upon.
    appended: Offset,
    /// What is known to be committed.
    committed: Offset,
    /// Answers that wait for the commit point.
    parked: VecDeque<Parked<S>>,
    /// The wait for the offset of the first parked answer.
    wait: Option<CommitWait>,
}

struct Parked<S: Shard> {
    at: Offset,
    until: Instant,
    asker: oneshot::Sender<S::Answer>,
    answer: S::Answer,
}

struct CommitWait {
    end: Offset,
    passed: BoxFuture<'static, Result<(), ErrorCode>>,
}

impl<'a, S: Shard> Tenure<'a, S> {
    fn new(home: &'a Home<S>, shard: S) -> Tenure<'a, S> {
        let (appended, committed) = (home.journal.log_end(), home.journal.log_start());
        let (timers, askers, parked) = (Timers::default(), BTreeMap::new(), VecDeque::new());
        Tenure { home, shard, timers, askers, last_id: 0, appended, committed, parked, wait: None }
    }

    async fn serve(mut self, mailbox: &mut mpsc::Receiver<Letter<S>>) -> End {
        let timers = self.shard.loaded(self.home.env.wall_ms());
        self.change_timers(timers);
        loop {
            let deadline = self.timers.first();
            let patience = self.parked.front().map(|first| first.until);
            // In this order, so that answers leave before new asks come in, and nothing is left to chance.
            let outcome = tokio::select! {
                biased;
                end = commit_passed(&mut self.wait) => self.release(end),
                () = timer_due(&self.home.env, patience) => self.give_up(),
                () = timer_due(&self.home.env, deadline) => self.fire(),
                letter = mailbox.recv() => match letter {
                    Some(letter) => self.take(letter),
                    None => return End::Unreachable,
                },
            };
            if let Err(code) = outcome {
                return End::Lost(code);
            }
        }
    }

    /// Decides an ask. The error is that of a lost journal, here and below.
    fn take(&mut self, letter: Letter<S>) -> Result<(), ErrorCode> {
        self.last_id += 1;
        let id = self.last_id;
        self.askers.insert(id, letter.asker);
        let image = (self.home.images)();
        let decision = self.shard.decide(self.home.env.wall_ms(), &image, letter.ask, id);
        let Err(code) = self.carry_out(decision) else { return Ok(()) };
        if loses_journal(code) {
            return Err(code);
        }
        tracing::debug!(shard = %self.home.name, %code, "append refused");
        // Nothing happened, so nothing needs to be committed before the asker may know.
        if let Some(asker) = self.askers.remove(&id) {
            drop(asker.send(S::refuse(code)));
        }
        Ok(())
    }

    /// Decides what follows from the first timer that is due.
    fn fire(&mut self) -> Result<(), ErrorCode> {
        let now = self.home.env.now();
        let Some(timer) = self.timers.pop(now) else { return Ok(()) };
        let image = (self.home.images)();
        let decision = self.shard.expire(self.home.env.wall_ms(), &image, &timer);
        match self.carry_out(decision) {
            Err(code) if !loses_journal(code) => {
                tracing::warn!(shard = %self.home.name, ?timer, %code, "append refused after a timer, to be retried");
                self.timers.set(timer, now + TIMER_RETRY);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Append, replay, adopt, set timers, park answers; or nothing at all and the journal's refusal.
    fn carry_out(&mut self, decision: Decision<S>) -> Result<(), ErrorCode> {
        let Decision { records, next, answers, timers } = decision;
        if !records.is_empty() {
            let end = self.append(&records)?;
            let base = end - records.len() as Offset;
            assert!(base >= self.appended, "offset {base} was assigned after {}", self.appended);
            for (offset, record) in (base..).zip(records) {
                self.shard.replay(offset, record);
            }
            self.appended = end;
        }
        if let Some(next) = next {
            self.shard.adopt(next);
        }
        self.change_timers(timers);
        for (id, answer) in answers {
            self.park(id, answer);
        }
        Ok(())
    }

    fn append(&self, records: &[S::Record]) -> Result<Offset, ErrorCode> {
        let now = self.home.env.wall_ms();
        let mut batch = BatchBuilder::new(now);
        for record in records {
            let (key, value) = S::encode(record);
            batch.push(now, Some(&key), value.as_deref(), &[]);
        }
        if batch.size_bytes() > self.home.journal.max_batch_bytes() {
            return Err(ErrorCode::MessageTooLarge);
        }
        self.home.journal.append(batch.build())
    }

    fn park(&mut self, id: AnswerId, answer: S::Answer) {
        let asker = self.askers.remove(&id);
        debug_assert!(asker.is_some(), "answer {id} is not awaited");
        let Some(asker) = asker else { return };
        if self.committed >= self.appended {
            drop(asker.send(answer));
            return;
        }
        let until = self.home.env.now() + self.home.patience;
        self.parked.push_back(Parked { at: self.appended, until, asker, answer });
        self.watch_commit();
    }

    fn watch_commit(&mut self) {
        if self.wait.is_some() {
            return;
        }
        if let Some(first) = self.parked.front() {
            let end = first.at;
            self.wait = Some(CommitWait { end, passed: self.home.journal.committed(end) });
        }
    }

    /// Sends the answers that waited for the commit point to get where it is now.
    fn release(&mut self, end: Result<Offset, ErrorCode>) -> Result<(), ErrorCode> {
        self.wait = None;
        self.committed = self.committed.max(end?);
        while self.parked.front().is_some_and(|first| first.at <= self.committed) {
            let Some(first) = self.parked.pop_front() else { break };
            drop(first.asker.send(first.answer));
        }
        self.watch_commit();
        Ok(())
    }

    /// Sends those away that have waited too long for the in-sync replicas. What they asked for may still come true.
    fn give_up(&mut self) -> Result<(), ErrorCode> {
        let now = self.home.env.now();
        while self.parked.front().is_some_and(|first| first.until <= now) {
            let Some(first) = self.parked.pop_front() else { break };
            drop(first.asker.send(S::refuse(ErrorCode::CoordinatorNotAvailable)));
        }
        Ok(())
    }

    fn change_timers(&mut self, changes: Vec<TimerChange<S::Timer>>) {
        let (wall_ms, now) = (self.home.env.wall_ms(), self.home.env.now());
        for change in changes {
            match change {
                TimerChange::Set(timer, deadline_ms) => self.timers.set(timer, instant_at(deadline_ms, wall_ms, now)),
                TimerChange::Cancel(timer) => self.timers.cancel(&timer),
            }
        }
    }
}

/// Resolves with the offset that was waited for; never while nothing is waited for.
async fn commit_passed(wait: &mut Option<CommitWait>) -> Result<Offset, ErrorCode> {
    match wait {
        Some(wait) => (&mut wait.passed).await.map(|()| wait.end),
        None => pending().await,
    }
}

/// Resolves at `deadline`; never without one.
async fn timer_due(env: &Env, deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => env.sleep_until(deadline).await,
        None => pending().await,
    }
}

/// The moment when the wall clock, if nobody moves it, will show `deadline_ms`. Timers run on the monotonic clock, so
/// that a step of the wall clock expires no session.
fn instant_at(deadline_ms: WallMillis, wall_ms: WallMillis, now: Instant) -> Instant {
    let delay_ms = deadline_ms.saturating_sub(wall_ms).clamp(0, TIMER_MS_MAX);
    now + Duration::from_millis(delay_ms.unsigned_abs())
}

/// True for codes that say that this broker cannot write the journal any more.
fn loses_journal(code: ErrorCode) -> bool {
    use ErrorCode::*;
    matches!(
        code,
        NotLeaderOrFollower | FencedLeaderEpoch | KafkaStorageError | UnknownTopicOrPartition | UnknownTopicId
    )
}

/// Named deadlines, in the order in which they are due.
struct Timers<T> {
    deadlines: BTreeMap<T, Instant>,
    queue: BTreeSet<(Instant, T)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers { deadlines: BTreeMap::new(), queue: BTreeSet::new() }
    }
}

impl<T: Ord + Clone> Timers<T> {
    fn set(&mut self, timer: T, deadline: Instant) {
        self.cancel(&timer);
        self.queue.insert((deadline, timer.clone()));
        self.deadlines.insert(timer, deadline);
    }

    fn cancel(&mut self, timer: &T) {
        if let Some((timer, deadline)) = self.deadlines.remove_entry(timer) {
            self.queue.remove(&(deadline, timer));
        }
    }

    fn first(&self) -> Option<Instant> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the first timer that is due at `now`.
    fn pop(&mut self, now: Instant) -> Option<T> {
        if self.first()? > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::toy::{
        BATCH_BYTES_MAX, MemoryJournal, START_MS, Toy, ToyAnswer, ToyAsk, batch, env, images, put,
    };

    const PATIENCE: Duration = Duration::from_secs(5);

    fn start(env: &Env, journal: &Arc<MemoryJournal>) -> HostedShard<Toy> {
        let name = TopicPartition::new("__toys", 0);
        HostedShard::start(name, env, journal.clone(), images(), PATIENCE, Arc::new(Toy::default))
    }

    fn is_waiting(answer: &mut BoxFuture<'static, ToyAnswer>) -> bool {
        answer.now_or_never().is_none()
    }

    /// Lets every task run until it waits; no time passes.
    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    fn says(meaning: &str) -> ToyAnswer {
        Ok(Some(meaning.to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn answers_wait_for_the_commit_point_and_decisions_do_not() {
        let journal = MemoryJournal::new();
        let shard = start(&env(), &journal);
        let mut first = shard.ask(put("a", "1"));
        let mut read = shard.ask(ToyAsk::Look("a"));
        let mut second = shard.ask(put("b", "2"));
        settle().await;
        assert_eq!(journal.log_end(), 2, "both were decided and appended");
        assert!(is_waiting(&mut first) && is_waiting(&mut read) && is_waiting(&mut second));

        journal.commit(1);
        assert_eq!(first.await, Ok(None));
        assert_eq!(read.await, says("1"), "a read is released with what it has seen");
        settle().await;
        assert!(is_waiting(&mut second));

        journal.commit(2);
        assert_eq!(second.await, Ok(None));
        assert_eq!(shard.ask(ToyAsk::Look("b")).await, says("2"), "nothing is uncommitted any more");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_commit_point_for_ever() {
        let (env, journal) = (env(), MemoryJournal::new());
        let shard = start(&env, &journal);
        let first = shard.ask(put("a", "1"));
        settle().await;
        env.sleep(PATIENCE / 2).await;
        let mut second = shard.ask(put("a", "2"));
        assert_eq!(first.await, Err(ErrorCode::CoordinatorNotAvailable));
        assert!(is_waiting(&mut second), "it came later");
        journal.commit(2);
        assert_eq!(second.await, Ok(None));
        assert_eq!(shard.ask(ToyAsk::Look("a")).await, says("2"), "both came true");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_append_changes_nothing() {
        let journal = MemoryJournal::committing();
        let shard = start(&env(), &journal);
        let mut waiting = shard.ask(ToyAsk::Await("a"));

        journal.refuse(ErrorCode::NotEnoughReplicas);
        assert_eq!(shard.ask(put("a", "1")).await, Err(ErrorCode::NotEnoughReplicas));
        journal.accept();
        assert_eq!(shard.ask(put("a", "x".repeat(BATCH_BYTES_MAX))).await, Err(ErrorCode::MessageTooLarge));
        assert_eq!(shard.ask(ToyAsk::Print).await, says(""));
        assert!(is_waiting(&mut waiting), "the answer in a dropped decision is dropped with it");
        assert_eq!(journal.log_end(), 0);

        assert_eq!(shard.ask(put("a", "1")).await, Ok(None));
        assert_eq!(waiting.await, says("1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reloaded_shard_knows_what_the_living_one_knew() {
        let (env, journal) = (env(), MemoryJournal::committing());
        let living = start(&env, &journal);
        for (word, meaning) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "until 1700000000500")] {
            assert_eq!(living.ask(put(word, meaning)).await, Ok(None));
        }
        assert_eq!(living.ask(ToyAsk::Await("c")).await, Ok(None), "the lease ended");
        let known = living.ask(ToyAsk::Print).await;
        assert_eq!(known, says("a@2=3 b@1=2"));
        living.stop();

        let reloaded = start(&env, &journal);
        settle().await;
        assert_eq!(reloaded.ask(ToyAsk::Print).await, known);
        assert_eq!(living.ask(ToyAsk::Print).await, Err(ErrorCode::NotCoordinator));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_served_before_the_load_is_done() {
        let journal = MemoryJournal::committing();
        journal.write(batch(None, &[("a", Some("1"))]));
        journal.set_readable(false);
        let shard = start(&env(), &journal);
        assert_eq!(shard.ask(ToyAsk::Look("a")).await, Err(ErrorCode::CoordinatorLoadInProgress));
        journal.set_readable(true);
        settle().await;
        assert_eq!(shard.ask(ToyAsk::Look("a")).await, says("1"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_on_disk_when_the_load_begins_is_loaded() {
        let journal = MemoryJournal::new();
        journal.write(batch(None, &[("a", Some("1"))]));
        journal.commit(1);
        journal.write(batch(None, &[("a", Some("2"))]));
        let shard = start(&env(), &journal);
        settle().await;
        assert_eq!(shard.ask(ToyAsk::Look("a")).await, Err(ErrorCode::CoordinatorLoadInProgress));
        journal.commit(2);
        settle().await;
        assert_eq!(shard.ask(ToyAsk::Look("a")).await, says("2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_loses_its_journal_answers_everyone() {
        let losses: [fn(&MemoryJournal); 2] = [
            |journal| journal.fail_commits(ErrorCode::NotLeaderOrFollower),
            |journal| journal.refuse(ErrorCode::NotLeaderOrFollower),
        ];
        for lose in losses {
            let journal = MemoryJournal::new();
            let shard = start(&env(), &journal);
            let waiting = shard.ask(ToyAsk::Await("b"));
            let parked = shard.ask(put("a", "1"));
            settle().await;
            lose(&journal);
            assert_eq!(shard.ask(put("a", "2")).await, Err(ErrorCode::NotCoordinator));
            assert_eq!(waiting.await, Err(ErrorCode::NotCoordinator));
            assert_eq!(parked.await, Err(ErrorCode::NotCoordinator));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_shard_answers_everyone_and_appends_no_more() {
        let journal = MemoryJournal::new();
        let shard = start(&env(), &journal);
        let parked = shard.ask(put("a", "1"));
        settle().await;
        let unread = shard.ask(put("b", "2"));
        shard.stop();
        assert_eq!(parked.await, Err(ErrorCode::NotCoordinator));
        assert_eq!(unread.await, Err(ErrorCode::NotCoordinator));
        assert_eq!(journal.log_end(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn timers_fire_once_they_are_due() {
        let (env, journal) = (env(), MemoryJournal::committing());
        let shard = start(&env, &journal);
        assert_eq!(shard.ask(put("kept", "until 1700000000100")).await, Ok(None));
        assert_eq!(shard.ask(put("kept", "for good")).await, Ok(None));
        assert_eq!(shard.ask(put("leased", "until 1700000001000")).await, Ok(None));
        assert_eq!(shard.ask(ToyAsk::Await("leased")).await, Ok(None));
        assert_eq!(env.wall_ms(), START_MS + 1000);
        assert_eq!(shard.ask(ToyAsk::Print).await, says("kept@1=for good"), "its first timer was cancelled");

        // A timer whose decision is refused fires again.
        assert_eq!(shard.ask(put("leased", "until 1700000002000")).await, Ok(None));
        let mut ended = shard.ask(ToyAsk::Await("leased"));
        journal.refuse(ErrorCode::NotEnoughReplicas);
        env.sleep(Duration::from_millis(1200)).await;
        assert!(is_waiting(&mut ended));
        journal.accept();
        assert_eq!(ended.await, Ok(None));
        assert_eq!(env.wall_ms(), START_MS + 2500);
    }

    #[tokio::test(start_paused = true)]
    async fn timers_are_set_again_after_a_load() {
        let (env, journal) = (env(), MemoryJournal::committing());
        journal.write(batch(None, &[("a", Some("until 1700000000700"))]));
        let shard = start(&env, &journal);
        settle().await;
        assert_eq!(shard.ask(ToyAsk::Await("a")).await, Ok(None));
        assert_eq!(env.wall_ms(), START_MS + 700);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_panics_is_loaded_again() {
        let (env, journal) = (env(), MemoryJournal::committing());
        let shard = start(&env, &journal);
        assert_eq!(shard.ask(put("a", "1")).await, Ok(None));
        assert_eq!(shard.ask(ToyAsk::Break).await, Err(ErrorCode::NotCoordinator));
        assert_eq!(shard.ask(ToyAsk::Look("a")).await, Err(ErrorCode::CoordinatorLoadInProgress));
        env.sleep(RELOAD_PAUSE * 2).await;
        assert_eq!(shard.ask(ToyAsk::Look("a")).await, says("1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_mailbox_refuses() {
        let shard = start(&env(), &MemoryJournal::committing());
        let answers: Vec<_> = (0..MAILBOX_ASKS_MAX).map(|_| shard.ask(ToyAsk::Print)).collect();
        assert_eq!(shard.ask(ToyAsk::Print).await, Err(ErrorCode::CoordinatorNotAvailable));
        for answer in answers {
            assert_eq!(answer.await, says(""));
        }
    }
}
