//! What must hold, whatever the workload did: independent of it, of the broker's code, and of time but for its
//! order.
//!
//! A checker is told what was asked before it is asked, and what was answered when the answer has arrived. What was
//! true when a request left must still be true in its answer; that is all the real time there is here. Every method
//! that is told an answer returns a sentence when it cannot be.
//!
//! Invariant: what is not known is allowed. A request without an answer may have had its effect, or have it later.

pub mod epochs;
pub mod groups;
pub mod log;
pub mod settings;
pub mod topics;

use std::collections::{BTreeMap, BTreeSet};

use groups::Groups;
use log::LogChecker;
use topics::Topics;

/// A partition of the workload's topics.
pub type Spot = (&'static str, i32);

/// The sentence that says which invariant is broken, and how.
pub type Verdict = Result<(), String>;

/// The topics with records, and how many partitions they have.
pub const TOPICS: [(&str, i32); 2] = [("orders", 2), ("events", 1)];

/// Every partition with records.
pub fn spots() -> impl Iterator<Item = Spot> {
    TOPICS.iter().flat_map(|&(topic, count)| (0..count).map(move |index| (topic, index)))
}

/// Everything that is known of one run.
pub struct Ledger {
    pub logs: BTreeMap<Spot, LogChecker>,
    pub topics: Topics,
    pub groups: Groups,
    producer_ids: BTreeSet<i64>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        let logs = spots().map(|spot| (spot, LogChecker::default())).collect();
        Ledger { logs, topics: Topics::default(), groups: Groups::default(), producer_ids: BTreeSet::new() }
    }
}

impl Ledger {
    /// The checker of one partition.
    pub fn log(&mut self, spot: Spot) -> &mut LogChecker {
        self.logs.get_mut(&spot).expect("every spot has a checker")
    }

    /// A producer id was handed out.
    pub fn producer_id(&mut self, id: i64) -> Verdict {
        ensure(id >= 0 && self.producer_ids.insert(id), || format!("producer id {id} was handed out twice"))
    }
}

/// `Err` with the sentence unless `holds`.
pub fn ensure(holds: bool, sentence: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(sentence()) }
}
