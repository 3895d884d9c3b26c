//! A full disk: a write that finds no room changes nothing, and waits until there is some.
//!
//! Nothing is refused here, because nothing can be undone: offsets are given by then, and writes behind this one rely
//! on it. That producers are refused meanwhile is the business of [`crate::storage::reserve`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Poisoned;

/// How long a write without room waits before it tries again.
pub(super) const ROOM_PAUSE: Duration = Duration::from_millis(500);

/// Why a group is not on the disk.
#[derive(Debug)]
pub(super) enum Failure {
    /// The disk is full. Everything is as before.
    NoRoom(String),
    /// The directory is lost.
    Final(Poisoned),
}

impl From<Poisoned> for Failure {
    fn from(poison: Poisoned) -> Failure {
        Failure::Final(poison)
    }
}

impl From<Failure> for Poisoned {
    fn from(failure: Failure) -> Poisoned {
        match failure {
            Failure::NoRoom(why) => Poisoned(why),
            Failure::Final(poison) => poison,
        }
    }
}

/// Whether a writer waits for room.
#[derive(Default)]
pub(super) struct Fullness {
    full: AtomicBool,
    ended: Mutex<bool>,
    end_signal: Condvar,
}

impl Fullness {
    /// True while a write waits.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Says, once, that writes wait.
    pub(super) fn begin(&self, why: &str) {
        if !self.full.swap(true, Ordering::AcqRel) {
            tracing::error!(reason = why, "the disk is full: writes wait for room");
        }
    }

    /// Waits a moment. False if nothing is waited for any more. Blocking.
    pub(super) fn wait(&self, why: &str) -> bool {
        self.begin(why);
        let mut ended = self.ended.lock();
        if !*ended {
            self.end_signal.wait_for(&mut ended, ROOM_PAUSE);
        }
        !*ended
    }

    /// A write succeeded.
    pub(super) fn passed(&self) {
        // The load first: this is called for every group.
        if self.is_full() && self.full.swap(false, Ordering::AcqRel) {
            tracing::info!("the disk has room again: writes go on");
        }
    }

    /// Writes that find no room from now on fail.
    pub(super) fn end(&self) {
        *self.ended.lock() = true;
        self.end_signal.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.lock()
    }
}

/// Tries until it succeeds, fails for good, or `wait`, which is called while there is no room, says to give up.
pub(super) fn patiently<T>(
    wait: &dyn Fn(&str) -> bool,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Poisoned> {
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(Failure::NoRoom(why)) if wait(&why) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
}
