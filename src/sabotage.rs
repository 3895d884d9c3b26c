//! Deliberate faults, to prove that the simulation would find a real one.
//!
//! Invariant: without the `sabotage` feature [`on`] is the constant `false` and every fault is compiled out.

/// The faults that can be switched on in a broker; each must be found by its simulation within 100 seeds.
pub const ALL: &[&str] = &[
    "ack-before-sync",
    "ack-before-write",
    "lost-epoch",
    "offset-reused",
    "duplicate-accepted",
    "gap-accepted",
    "high-watermark-ahead",
    "commit-answered-early",
    "producer-state-lost",
    "truncated-fetch",
];

/// Those of brokers that replicate, and of their controllers; each must be found by the simulation of a cluster within
/// 200 seeds.
pub const OF_CLUSTERS: &[&str] = &[
    "isr-unconfirmed",
    "below-min-isr",
    "follower-acks-unsynced",
    "cut-too-far",
    "divergence-ignored",
    "high-watermark-ahead-of-isr",
    "acks-all-of-one",
    "epoch-not-fenced",
    "epoch-not-begun",
    "joins-too-early",
    "broker-epoch-unchecked",
    "partition-epoch-unchecked",
    "unclean-in-silence",
    "leader-outside-isr",
    "eligible-forgotten",
    "lossy-stays-eligible",
    "producers-not-followed",
    "metadata-unsynced",
    "vote-not-stored",
    "stamp-unchecked",
    "reassigned-too-early",
    "term-resumed",
    "told-with-divergence",
];

#[cfg(feature = "sabotage")]
mod chosen {
    use std::cell::RefCell;

    thread_local! {
        static CHOSEN: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    /// Switches one fault on for this thread, or all off.
    pub fn choose(fault: Option<&str>) {
        CHOSEN.with(|chosen| *chosen.borrow_mut() = fault.map(str::to_owned));
    }

    pub fn on(fault: &str) -> bool {
        CHOSEN.with(|chosen| chosen.borrow().as_deref() == Some(fault))
    }
}

#[cfg(feature = "sabotage")]
pub use chosen::{choose, on};

/// True if `fault` is switched on.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn on(_fault: &str) -> bool {
    false
}
