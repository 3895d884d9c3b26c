//! What the network has done so far.
//!
//! Invariant: counters only grow, except `open`, which falls when a connection ends for whatever reason, panics
//! included.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that any task may move.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes away from it.
    pub fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of one listener.
#[derive(Default, Debug)]
pub struct ListenerStats {
    pub listener: Arc<str>,
    /// Connections that are open now.
    pub open: Counter,
    /// Connections that were accepted, refused ones not included.
    pub accepted: Counter,
    /// Connections that were closed unheard, because their address has too many or comes too often.
    pub refused: Counter,
    /// Connections that ended, in any way.
    pub closed: Counter,
    /// Connections that were closed because nothing moved for `connections.max.idle.ms`.
    pub idle_closed: Counter,
    /// Connections that ended because the code that served them panicked.
    pub panicked: Counter,
    /// Frames that arrived whole.
    pub requests: Counter,
    /// Responses that were handed to the socket.
    pub responses: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
}

/// Counters of every listener.
#[derive(Default, Debug)]
pub struct Stats {
    pub listeners: Vec<Arc<ListenerStats>>,
}

impl Stats {
    /// The connections that are open now, by the name of their listener.
    pub fn connections(&self) -> impl Iterator<Item = (&str, u64)> {
        self.listeners.iter().map(|listener| (&*listener.listener, listener.open.value()))
    }

    /// The sum of one counter over all listeners.
    pub fn total(&self, counter: impl Fn(&ListenerStats) -> &Counter) -> u64 {
        self.listeners.iter().map(|listener| counter(listener).value()).sum()
    }
}
