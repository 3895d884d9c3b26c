//! The auditor: when everything is quiet, reads every log from its start to its end and writes down all that the
//! broker says of itself. What it writes before a restart must be what it writes after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId};

use super::admin::{leader_epochs, look};
use super::{Actor, GROUPS, PATIENCE, committer};
use crate::checkers::log::{FetchAnswer, FetchAsked};
use crate::checkers::{Spot, spots};
use crate::requests::{self, FetchHow, Named, code, text, version};
use crate::stage::{Stage, note};

/// Until no session of a member is left.
const CALM: Duration = Duration::from_secs(12);
/// How often something is asked before the broker counts as dead.
const ATTEMPTS: usize = 100;

/// What a broker says of itself.
#[derive(Clone, Default, Debug)]
pub struct Description {
    /// What must not change with a restart.
    facts: BTreeMap<String, String>,
    /// What must grow with it.
    leader_epochs: BTreeMap<Spot, i32>,
}

impl Description {
    /// Holds what was written down before a restart against what was written down after it.
    pub fn compare(&self, after: &Description) -> Result<(), String> {
        for (name, before) in &self.facts {
            let after = after.facts.get(name);
            if after != Some(before) {
                return Err(format!("{name} was {before:?} before the restart and {after:?} after it"));
            }
        }
        if let Some(new) = after.facts.keys().find(|name| !self.facts.contains_key(*name)) {
            return Err(format!("{new} came with the restart"));
        }
        for (spot, before) in &self.leader_epochs {
            let after = after.leader_epochs.get(spot);
            if after <= Some(before) {
                return Err(format!("{spot:?} has leader epoch {before} before the restart and {after:?} after it"));
            }
        }
        Ok(())
    }
}

/// Writes down everything, once nothing happens any more.
pub async fn audit(stage: Rc<Stage>, name: &'static str, out: Rc<RefCell<Option<Description>>>) -> turmoil::Result {
    let mut auditor = Auditor { actor: Actor::new(&stage, 0, name), description: Description::default() };
    tokio::time::sleep(CALM).await;
    match auditor.describe().await {
        Some(()) => *out.borrow_mut() = Some(auditor.description),
        None => stage.judge(name, Err("the faults are over, and the broker does not answer".into())),
    }
    Ok(())
}

struct Auditor {
    actor: Actor,
    description: Description,
}

impl Auditor {
    fn fact(&mut self, name: String, fact: String) {
        note!(self.actor.client, "{name}: {fact}");
        self.description.facts.insert(name, fact);
    }

    async fn describe(&mut self) -> Option<()> {
        self.describe_topics().await?;
        for spot in spots() {
            self.describe_log(spot).await?;
        }
        for group in GROUPS {
            self.describe_group(group).await?;
        }
        Some(())
    }

    async fn describe_topics(&mut self) -> Option<()> {
        for _ in 0..ATTEMPTS {
            let answer = self.actor.client.ask(version::METADATA, requests::all_metadata(), PATIENCE).await;
            let Some(answer) = answer else { continue };
            look(&mut self.actor.client).await?;
            self.description.leader_epochs = leader_epochs(&answer);
            for topic in answer.topics {
                let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
                let partition = |partition: &kafka_protocol::messages::metadata_response::MetadataResponsePartition| {
                    let (leader, isr) = (partition.leader_id.0, &partition.isr_nodes);
                    format!("{}: {} {leader} {isr:?}", partition.partition_index, partition.error_code)
                };
                let partitions: Vec<String> = topic.partitions.iter().map(partition).collect();
                self.fact(format!("topic {name}"), format!("{} {} {partitions:?}", topic.topic_id, topic.error_code));
            }
            return Some(());
        }
        None
    }

    /// The offset of a special timestamp.
    async fn offset_of(&mut self, spot: Spot, timestamp: i64) -> Option<i64> {
        for _ in 0..ATTEMPTS {
            let request = requests::list_offsets(spot, timestamp);
            let answer = self.actor.client.ask(version::LIST_OFFSETS, request, PATIENCE).await;
            let found = answer.and_then(|answer| answer.topics.into_iter().next()?.partitions.into_iter().next());
            if let Some(found) = found.filter(|found| found.error_code == code::NONE) {
                return Some(found.offset);
            }
        }
        None
    }

    /// Start, end, largest timestamp, and every byte of a log.
    async fn describe_log(&mut self, spot: Spot) -> Option<()> {
        let name = format!("{}-{}", spot.0, spot.1);
        let (start, end) = (self.offset_of(spot, -2).await?, self.offset_of(spot, -1).await?);
        let newest = self.offset_of(spot, -3).await?;
        self.fact(format!("offsets of {name}"), format!("{start}..{end}, newest {newest}"));
        let mut bytes = DefaultHasher::new();
        let mut read: BTreeMap<i64, Bytes> = BTreeMap::new();
        let mut next = start;
        let mut attempts = 0;
        while next < end {
            attempts += 1;
            if attempts > ATTEMPTS || self.actor.stage.broken().is_some() {
                return None;
            }
            let Some((answer, raw)) = self.read(spot, next).await else { continue };
            attempts = 0;
            bytes.write(&raw);
            next = answer.records.last().map_or(next, |last| last.offset + 1);
            let readable = answer.records.into_iter().filter(|record| record.offset >= start);
            read.extend(readable.map(|record| (record.offset, record.value)));
        }
        self.fact(format!("bytes of {name}"), format!("{:016x}", bytes.finish()));
        let verdict = self.actor.stage.ledger().log(spot).audit(start, end, &read);
        self.actor.stage.judge(&self.actor.client.name, verdict.map_err(|sentence| format!("{name}: {sentence}")));
        Some(())
    }

    async fn read(&mut self, spot: Spot, from: i64) -> Option<(FetchAnswer, Bytes)> {
        let id = self.actor.stage.ledger().topics.known(spot.0)?.id;
        let topic = Named { name: spot.0, id, by_id: true };
        let how = FetchHow { wait_ms: 0, bytes_max: 200_000, isolation: 0, session: (0, -1), leader_epoch: -1 };
        let floor = self.actor.stage.ledger().log(spot).floor();
        let asked = FetchAsked { from, floor, alone: true };
        let request = requests::fetch(how, &[(topic, spot.1, from)]);
        let answer = self.actor.client.ask(topic.fetch_version(), request, PATIENCE).await?;
        let partition = answer.responses.into_iter().next()?.partitions.into_iter().next()?;
        self.actor.expect("an audit's fetch", partition.error_code, &[code::NONE]);
        let raw = partition.records.unwrap_or_default();
        let verdict = requests::records(raw.clone()).and_then(|records| {
            let answer = FetchAnswer {
                high_watermark: partition.high_watermark,
                last_stable: partition.last_stable_offset,
                log_start: partition.log_start_offset,
                records,
            };
            self.actor.stage.ledger().log(spot).fetched(asked, &answer).map(|()| answer)
        });
        match verdict {
            Ok(answer) => Some((answer, raw)),
            Err(sentence) => {
                self.actor.stage.judge(&self.actor.client.name, Err(format!("{spot:?}: {sentence}")));
                None
            }
        }
    }

    /// The state of a group and what it committed.
    async fn describe_group(&mut self, group: &'static str) -> Option<()> {
        for _ in 0..ATTEMPTS {
            let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
            let answer = self.actor.client.ask(version::DESCRIBE_GROUPS, request, PATIENCE).await;
            let Some(described) = answer.and_then(|answer| answer.groups.into_iter().next()) else { continue };
            let request = requests::offset_fetch(group);
            let Some(fetched) = self.actor.client.ask(version::OFFSET_FETCH, request, PATIENCE).await else { continue };
            let fetched = fetched.groups.into_iter().next()?;
            let codes = [described.error_code, fetched.error_code];
            if codes.iter().any(|code| committer::COORDINATOR_ERRORS.contains(code)) {
                self.actor.rest(100).await;
                continue;
            }
            committer::fetch(&mut self.actor, group).await?;
            let (state, members) = (described.group_state, described.members.len());
            self.fact(format!("group {group}"), format!("{state} {} {members}", described.protocol_type));
            for topic in fetched.topics {
                for partition in topic.partitions {
                    let name = format!("commit of {group} for {}-{}", topic.name.as_str(), partition.partition_index);
                    let metadata = partition.metadata.as_deref().unwrap_or_default().to_owned();
                    self.fact(name, format!("{} {metadata}", partition.committed_offset));
                }
            }
            return Some(());
        }
        None
    }
}
