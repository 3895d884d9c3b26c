//! What the actors of one run share: the clock, the ledger of the checkers, the trace, the first broken invariant.
//!
//! Invariants: one thread; no borrow is held across an await; nothing here comes from the real world.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::checkers::{Ledger, Verdict};

/// Lines of the trace that a failure shows.
const LINES_SHOWN: usize = 60;

/// What happened, as a hash of all of it and as text of the last of it.
#[derive(Default)]
struct Trace {
    hash: DefaultHasher,
    events: u64,
    last: VecDeque<String>,
}

/// In which epoch a broker coordinates a group, if it does.
pub type Authority = Box<dyn Fn(usize, &str) -> Option<i32>>;

/// See the file's head.
pub struct Stage {
    load_ends_ms: u64,
    now_ms: Cell<u64>,
    life: Cell<u32>,
    starts: Cell<u32>,
    ledger: RefCell<Ledger>,
    trace: RefCell<Trace>,
    broken: RefCell<Option<String>>,
    authority: RefCell<Option<Authority>>,
    is_told: bool,
}

impl Stage {
    /// An empty stage; actors load the broker until `load_ends_ms`. With `is_told` the whole trace is printed.
    pub fn new(load_ends_ms: u64, is_told: bool) -> Stage {
        Stage {
            load_ends_ms,
            now_ms: Cell::new(0),
            life: Cell::new(0),
            starts: Cell::new(0),
            ledger: RefCell::default(),
            trace: RefCell::default(),
            broken: RefCell::default(),
            authority: RefCell::default(),
            is_told,
        }
    }

    /// Simulated time since the beginning, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    pub fn set_now_ms(&self, now_ms: u64) {
        self.now_ms.set(now_ms);
    }

    /// One of several brokers starts.
    pub fn count_start(&self) {
        self.starts.set(self.starts.get() + 1);
    }

    /// How many times any broker was started.
    pub fn starts(&self) -> u32 {
        self.starts.get()
    }

    /// How many times the only broker was started; 0 if there are several.
    pub fn life(&self) -> u32 {
        self.life.get()
    }

    /// The broker starts once more.
    pub fn begin_life(&self) -> u32 {
        self.count_start();
        self.life.set(self.life.get() + 1);
        self.life.get()
    }

    /// There are several brokers, and not each of them is always right about groups.
    pub fn set_authority(&self, authority: Authority) {
        *self.authority.borrow_mut() = Some(authority);
    }

    /// In which epoch the broker at `at` coordinates `group`. A coordinator that was deposed and has not heard of it may
    /// answer what was true before: what it says counts only if it was the present one all the time.
    pub fn authority(&self, at: usize, group: &str) -> Option<i32> {
        self.authority.borrow().as_ref().map_or(Some(0), |authority| authority(at, group))
    }

    /// True until the actors are to come to an end.
    pub fn is_loading(&self) -> bool {
        self.now_ms() < self.load_ends_ms
    }

    /// The checkers.
    pub fn ledger(&self) -> RefMut<'_, Ledger> {
        self.ledger.borrow_mut()
    }

    /// Adds an event to the trace.
    pub fn note(&self, actor: &str, event: fmt::Arguments<'_>) {
        let line = format!("{:>6} {actor}: {event}", self.now_ms());
        if self.is_told {
            println!("{line}");
        } else {
            tracing::debug!(target: "ottla::trace", "{line}");
        }
        let mut trace = self.trace.borrow_mut();
        line.hash(&mut trace.hash);
        trace.events += 1;
        if trace.last.len() == LINES_SHOWN {
            trace.last.pop_front();
        }
        trace.last.push_back(line);
    }

    /// The first verdict that is one ends the run.
    pub fn judge(&self, actor: &str, verdict: Verdict) {
        if let Err(sentence) = verdict {
            self.note(actor, format_args!("BROKEN: {sentence}"));
            self.broken.borrow_mut().get_or_insert(sentence);
        }
    }

    /// The first broken invariant.
    pub fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }

    /// Number of events and their hash.
    pub fn fingerprint(&self) -> (u64, u64) {
        let trace = self.trace.borrow();
        (trace.events, trace.hash.finish())
    }

    /// The last lines of the trace.
    pub fn last_lines(&self) -> String {
        self.trace.borrow().last.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Adds an event of an actor to the trace.
macro_rules! note {
    ($actor:expr, $($arg:tt)*) => {
        $actor.stage.note(&$actor.name, format_args!($($arg)*))
    };
}
pub(crate) use note;
