//! Settings of topics, each value given once: what must be there in the end.
//!
//! Invariant checked: in the end a topic has the value that was acknowledged last, or one whose fate is not known.

use std::collections::{BTreeMap, BTreeSet};

use super::{Verdict, ensure};

#[derive(Default)]
struct Given {
    acknowledged: Option<i64>,
    unknown: BTreeSet<i64>,
}

/// See the file's head.
#[derive(Default)]
pub struct GivenSettings {
    last: i64,
    topics: BTreeMap<&'static str, Given>,
}

impl GivenSettings {
    /// A new value is about to be asked for.
    pub fn ask(&mut self, topic: &'static str) -> i64 {
        self.last += 1;
        self.topics.entry(topic).or_default().unknown.insert(self.last);
        self.last
    }

    /// It was answered without an error.
    pub fn answered(&mut self, topic: &'static str, value: i64) {
        let given = self.topics.entry(topic).or_default();
        given.unknown.remove(&value);
        given.acknowledged = Some(value);
    }

    /// In the end, `found` is there, or nothing.
    pub fn found(&self, topic: &str, found: Option<i64>) -> Verdict {
        let Some(given) = self.topics.get(topic) else { return Ok(()) };
        let may = found == given.acknowledged || found.is_some_and(|found| given.unknown.contains(&found));
        ensure(may, || format!("{topic} was given {:?} and has {found:?}", given.acknowledged))
    }
}
