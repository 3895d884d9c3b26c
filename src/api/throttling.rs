//! What becomes of a client that is above a quota: it is answered at once, is told how long to wait, and is not read
//! for as long (KIP-219). The longest wait of one request holds.
//!
//! Handlers that are asked for something that has a quota of its own charge it themselves; every response that leaves
//! charges the time that its request took, in dispatch.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::context::Context;
use crate::api::quotas::{Measured, Quotas, Resource};
use crate::env::Env;
use crate::metadata::MutationQuota;

/// Until when a connection is not read.
#[derive(Default)]
pub struct Mute {
    /// False saves a look at the time.
    set: AtomicBool,
    until: Mutex<Option<Instant>>,
}

impl Mute {
    /// Stays silent until `until`, or longer if that was said before.
    pub fn until(&self, until: Instant) {
        let mut current = self.until.lock();
        *current = (*current).max(Some(until));
        self.set.store(true, Ordering::Release);
    }

    /// Until when, if that is still to come.
    pub fn left(&self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if !self.set.load(Ordering::Acquire) {
            return None;
        }
        let mut until = self.until.lock();
        *until = until.filter(|until| *until > now());
        self.set.store(until.is_some(), Ordering::Release);
        *until
    }
}

/// The time that is spent on one request: while it is worked on, not while it waits.
pub struct Spent {
    env: Env,
    state: Mutex<SpentState>,
}

struct SpentState {
    total: Duration,
    since: Option<Instant>,
    charged: bool,
}

impl Spent {
    /// Work began at `since` and goes on.
    pub fn since(env: &Env, since: Instant) -> Arc<Spent> {
        let state = SpentState { total: Duration::ZERO, since: Some(since), charged: false };
        Arc::new(Spent { env: env.clone(), state: Mutex::new(state) })
    }

    fn resume(&self) {
        self.state.lock().since.get_or_insert_with(|| self.env.now());
    }

    fn pause(&self) {
        let mut state = self.state.lock();
        if let Some(since) = state.since.take() {
            state.total += self.env.now() - since;
        }
    }

    /// What was spent so far; `None` if that was asked before.
    fn charge(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        let current = state.since.map_or(Duration::ZERO, |since| self.env.now() - since);
        (!std::mem::replace(&mut state.charged, true)).then_some(state.total + current)
    }
}

/// Runs `work` and counts the time it takes, if that is wanted.
pub async fn timed<F: Future>(spent: Option<&Spent>, work: F) -> F::Output {
    match spent {
        None => work.await,
        Some(spent) => Timed { spent, work: std::pin::pin!(work) }.await,
    }
}

struct Timed<'a, F> {
    spent: &'a Spent,
    work: Pin<&'a mut F>,
}

impl<F: Future> Future for Timed<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<F::Output> {
        self.spent.resume();
        let polled = self.work.as_mut().poll(task);
        self.spent.pause();
        polled
    }
}

/// Bytes that a fetch may answer with, were there no other limit.
const NO_LIMIT: usize = usize::MAX;

impl Context {
    /// Charges the bytes of a Produce request; milliseconds for its answer.
    pub fn throttle_produce(&self) -> i32 {
        let Some(measured) = self.measured(Resource::Produce) else { return 0 };
        let wait_ms = self.services.quotas.record(Resource::Produce, &measured, self.request_bytes as f64);
        self.throttle(&measured, wait_ms)
    }

    /// Charges the time that this request took so far, once; milliseconds for its answer.
    pub fn throttle_request(&self) -> i32 {
        let Some(spent) = self.spent.as_ref().and_then(|spent| spent.charge()) else { return 0 };
        let Some(measured) = self.measured(Resource::Request) else { return 0 };
        let percent_seconds = spent.as_secs_f64() * 100.0;
        let wait_ms = self.services.quotas.record(Resource::Request, &measured, percent_seconds);
        self.throttle(&measured, wait_ms)
    }

    /// Charges a Fetch answer of `bytes` and its time; milliseconds for the answer, which must be empty unless they
    /// are 0. An empty answer costs nothing.
    pub fn throttle_fetch(&self, bytes: usize) -> i32 {
        let by_time = self.throttle_request();
        let Some(measured) = self.measured(Resource::Fetch) else { return by_time };
        let quotas = &self.services.quotas;
        let wait_ms = quotas.record(Resource::Fetch, &measured, bytes as f64);
        if by_time > 0 || wait_ms > 0 {
            quotas.take_back(&measured, bytes as f64);
        }
        by_time.max(self.throttle(&measured, wait_ms))
    }

    /// The most bytes that a Fetch answer may have and still be sent, ever.
    pub fn fetch_bytes_max(&self) -> usize {
        let burst = self.measured(Resource::Fetch).and_then(|measured| self.services.quotas.burst(&measured));
        burst.map_or(NO_LIMIT, |bytes| bytes as usize)
    }

    /// What this request may create and delete. From version `strict_since` on more is refused; before, it is taken
    /// and the client has to wait.
    pub fn mutations(&self, strict_since: i16) -> Mutations {
        Mutations {
            quotas: Arc::clone(&self.services.quotas),
            measured: self.measured(Resource::ControllerMutation).map(Arc::new),
            strict: self.request.version >= strict_since,
            wait: Arc::default(),
        }
    }

    fn measured(&self, resource: Resource) -> Option<Measured> {
        self.services.quotas.measured(resource, &self.connection.user, &self.request.client_id)
    }

    fn throttle(&self, measured: &Measured, wait_ms: u64) -> i32 {
        if wait_ms > 0 {
            self.services.quotas.throttled(measured, wait_ms);
            self.connection.mute.until(self.services.env.now() + Duration::from_millis(wait_ms));
        }
        i32::try_from(wait_ms).unwrap_or(i32::MAX)
    }
}

/// What one request may create and delete (KIP-599).
pub struct Mutations {
    quotas: Arc<Quotas>,
    measured: Option<Arc<Measured>>,
    strict: bool,
    /// Milliseconds to wait, as of the last refusal or debt.
    wait: Arc<AtomicI64>,
}

impl Mutations {
    /// The quota for the controller to ask.
    pub fn quota(&self) -> MutationQuota {
        let Some(measured) = self.measured.clone() else { return MutationQuota::default() };
        let (quotas, wait, strict) = (Arc::clone(&self.quotas), Arc::clone(&self.wait), self.strict);
        MutationQuota::new(move |partitions| {
            let wait_ms = quotas.mutate(&measured, partitions, strict);
            if wait_ms > 0 {
                wait.store(i64::try_from(wait_ms).unwrap_or(i64::MAX), Ordering::Relaxed);
            }
            wait_ms == 0 || !strict
        })
    }

    /// Milliseconds for the answer.
    pub fn throttle(&self, ctx: &Context) -> i32 {
        let wait_ms = self.wait.load(Ordering::Relaxed) as u64;
        self.measured.as_ref().map_or(0, |measured| ctx.throttle(measured, wait_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_silence_holds() {
        let (env, mute) = (Env::real(), Mute::default());
        let now = || env.now();
        assert_eq!(mute.left(now), None);
        let start = now();
        mute.until(start + Duration::from_secs(5));
        mute.until(start + Duration::from_secs(2));
        assert_eq!(mute.left(now), Some(start + Duration::from_secs(5)));
        env.sleep(Duration::from_secs(5)).await;
        assert_eq!(mute.left(now), None);
        mute.until(start);
        assert_eq!(mute.left(now), None, "what has passed is no silence");
    }
}
