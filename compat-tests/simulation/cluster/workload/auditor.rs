//! The auditor of a cluster: when everything is quiet, reads every log through the protocol and holds it against all
//! that was ever answered. What it writes down before a power cut must be what it writes down after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;

use bytes::Bytes;

use super::committer::{self, GROUPS};
use crate::checkers::log::{FetchAnswer, FetchAsked, Floor};
use crate::checkers::topics::Created;
use crate::checkers::{Spot, TOPICS, spots};
use crate::cluster::Cluster;
use crate::cluster::caller::{Caller, ELSEWHERE};
use crate::requests::{self, FetchHow, code, version};
use crate::stage::note;

/// How often something is asked before the cluster counts as dead.
const ATTEMPTS: usize = 100;

/// What must not change.
#[derive(Clone, Default, Debug)]
pub struct Description(BTreeMap<String, String>);

impl Description {
    pub fn compare(&self, after: &Description) -> Result<(), String> {
        let names = self.0.keys().chain(after.0.keys());
        for name in names {
            let (before, after) = (self.0.get(name), after.0.get(name));
            if before != after {
                return Err(format!("{name} was {before:?} before the power cut and {after:?} after it"));
            }
        }
        Ok(())
    }
}

/// Writes down everything.
pub async fn audit(cluster: Rc<Cluster>, name: &'static str, out: Rc<RefCell<Option<Description>>>) -> turmoil::Result {
    let mut auditor = Auditor { caller: Caller::new(&cluster, 0, name), description: Description::default() };
    match auditor.describe().await {
        Some(()) => *out.borrow_mut() = Some(auditor.description),
        None => cluster.stage.judge(name, Err("the faults are over, and the brokers do not answer".into())),
    }
    Ok(())
}

struct Auditor {
    caller: Caller,
    description: Description,
}

impl Auditor {
    fn fact(&mut self, name: String, fact: String) {
        note!(self.caller, "{name}: {fact}");
        self.description.0.insert(name, fact);
    }

    async fn describe(&mut self) -> Option<()> {
        for group in GROUPS {
            let fact = committer::audit(&mut self.caller, group).await?;
            self.fact(format!("commits of {group}"), format!("{fact:?}"));
        }
        self.describe_topics().await?;
        for spot in spots() {
            if self.caller.stage.ledger().topics.known(spot.0).is_some() {
                self.describe_log(spot).await?;
            }
        }
        Some(())
    }

    /// Which topics there are, and what they were given.
    async fn describe_topics(&mut self) -> Option<()> {
        for (topic, _) in TOPICS {
            let found = self.caller.cluster.lookout.borrow().setting(topic, "flush.messages");
            let verdict =
                self.caller.cluster.settings.borrow().found(topic, found.and_then(|found| found.parse().ok()));
            self.caller.stage.judge(&self.caller.name, verdict);
        }
        let certain = self.caller.stage.ledger().topics.certain();
        for _ in 0..ATTEMPTS {
            let node = self.caller.somebody();
            let Some(answer) = self.caller.ask(node, version::METADATA, requests::all_metadata()).await else {
                continue;
            };
            let mut listed = BTreeMap::new();
            for topic in answer.topics {
                let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
                listed.insert(name, Created { id: topic.topic_id, partitions: topic.partitions.len() as i32 });
            }
            let verdict = self.caller.stage.ledger().topics.listed(&certain, &listed);
            self.caller.stage.judge(&self.caller.name, verdict);
            self.fact("topics".to_owned(), format!("{listed:?}"));
            return Some(());
        }
        None
    }

    /// The offset of a special timestamp.
    async fn offset_of(&mut self, spot: Spot, timestamp: i64) -> Option<i64> {
        for _ in 0..ATTEMPTS {
            let Some(leader) = self.caller.leader(spot).await else { continue };
            let answer = self.caller.ask(leader, version::LIST_OFFSETS, requests::list_offsets(spot, timestamp)).await;
            let found = answer.and_then(|answer| answer.topics.into_iter().next()?.partitions.into_iter().next());
            match found.filter(|found| found.error_code == code::NONE) {
                Some(found) => return Some(found.offset),
                None => self.again().await,
            }
        }
        None
    }

    async fn again(&mut self) {
        self.caller.rest(100).await;
        self.caller.refresh().await;
    }

    /// The end of a log, and every byte that nobody asked to be deleted. What DeleteRecords was asked to delete and was
    /// not answered may be there, at one replica and not at another.
    async fn describe_log(&mut self, spot: Spot) -> Option<()> {
        let name = format!("{}-{}", spot.0, spot.1);
        let (start, end) = (self.offset_of(spot, -2).await?, self.offset_of(spot, -1).await?);
        note!(self.caller, "{name} starts at {start}");
        self.fact(format!("end of {name}"), end.to_string());
        let deleted_to = self.caller.stage.ledger().log(spot).delete_asked();
        let mut bytes = DefaultHasher::new();
        let mut read: BTreeMap<i64, Bytes> = BTreeMap::new();
        let (mut next, mut attempts) = (start, 0);
        while next < end {
            attempts += 1;
            if attempts > ATTEMPTS || self.caller.stage.broken().is_some() {
                return None;
            }
            let Some((answer, raw)) = self.read(spot, next).await else {
                self.again().await;
                continue;
            };
            attempts = 0;
            let after = answer.records.last().map_or(next, |last| last.offset + 1);
            if next >= deleted_to {
                bytes.write(&raw);
            }
            // From there on whole answers count.
            next = if next < deleted_to { after.min(deleted_to) } else { after };
            let readable = answer.records.into_iter().filter(|record| record.offset >= start);
            read.extend(readable.map(|record| (record.offset, record.value)));
        }
        self.fact(format!("bytes of {name}"), format!("{:016x}", bytes.finish()));
        let verdict = self.caller.stage.ledger().log(spot).audit(start, end, &read);
        self.caller.stage.judge(&self.caller.name, verdict.map_err(|sentence| format!("{spot:?}: {sentence}")));
        Some(())
    }

    async fn read(&mut self, spot: Spot, from: i64) -> Option<(FetchAnswer, Bytes)> {
        let leader = self.caller.leader(spot).await?;
        let topic = self.caller.named(spot.0);
        let how = FetchHow { wait_ms: 0, bytes_max: 200_000, isolation: 0, session: (0, -1), leader_epoch: -1 };
        let request = requests::fetch(how, &[(topic, spot.1, from)]);
        let answer = self.caller.ask(leader, topic.fetch_version(), request).await?;
        let partition = answer.responses.into_iter().next()?.partitions.into_iter().next()?;
        if partition.error_code != code::NONE {
            self.caller.expect("an audit's fetch", partition.error_code, &ELSEWHERE);
            return None;
        }
        let raw = partition.records.unwrap_or_default();
        let asked = FetchAsked { from, floor: Floor::default(), alone: true };
        let verdict = requests::records(raw.clone()).and_then(|records| {
            let answer = FetchAnswer {
                high_watermark: partition.high_watermark,
                last_stable: partition.last_stable_offset,
                log_start: partition.log_start_offset,
                records,
            };
            self.caller.stage.ledger().log(spot).fetched(asked, &answer).map(|()| answer)
        });
        match verdict {
            Ok(answer) => Some((answer, raw)),
            Err(sentence) => {
                self.caller.stage.judge(&self.caller.name, Err(format!("{spot:?}: {sentence}")));
                None
            }
        }
    }
}
