//! Heartbeats: what a broker wants to be, what it becomes, and what that means for partitions (KIP-631).
//!
//! ```text
//! fenced ──caught up, does not want to be fenced──> unfenced ──wants to shut down, leads──> leaving
//!    ^                                              │  │                                      │
//!    └──────silent, or wants to be fenced───────────┘  └─leads nothing──> may stop <──────────┘
//!                                                        leads nothing, and all others know
//! ```
//!
//! Invariant: fencing does not end a broker epoch; who is told to stop is fenced first. Pure.

use crate::error::ApiError;
use crate::ids::{BrokerId, KafkaUuid, Offset};
use crate::metadata::brokers::{Broker, check_epoch};
use crate::metadata::image::ClusterImage;
use crate::metadata::leaders;
use crate::metadata::record::{BrokerChange, MetadataRecord};
use crate::metadata::rules::Rules;

/// What a broker says every `broker.heartbeat.interval.ms`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    pub id: BrokerId,
    pub epoch: i64,
    /// The offset of the last metadata record that the broker has applied.
    pub metadata_offset: Offset,
    /// It wants to be fenced: it is not ready for clients.
    pub want_fence: bool,
    pub want_shut_down: bool,
    /// Its directories that have failed since it started.
    pub offline_dirs: Vec<KafkaUuid>,
    /// Its directories that take no new partitions; `None` if it does not say. Counts once the broker has applied its own
    /// registration: only then it knows the settings that say so.
    pub cordoned_dirs: Option<Vec<KafkaUuid>>,
}

/// What the controller answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatAnswer {
    /// The broker has applied its own registration.
    pub caught_up: bool,
    pub fenced: bool,
    /// The broker may stop now.
    pub shut_down: bool,
}

/// What becomes of a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Fenced,
    Unfenced,
    Leaving,
    MayStop,
}

/// Decides what a heartbeat means. `read_by_all` is how far every active broker has read the log.
pub fn decide_heartbeat(
    image: &ClusterImage,
    rules: &Rules,
    heartbeat: &Heartbeat,
    read_by_all: Offset,
) -> Result<(Vec<MetadataRecord>, HeartbeatAnswer), ApiError> {
    let broker = check_epoch(image, heartbeat.id, heartbeat.epoch)?;
    let next = next_state(image, broker, heartbeat, read_by_all);
    let mut records = match next {
        State::Fenced | State::MayStop => fence(image, rules, broker),
        State::Unfenced => unfence(image, rules, broker),
        State::Leaving => leave(image, rules, broker),
    };
    records.extend(directories(image, rules, broker, heartbeat, &records));
    let answer = HeartbeatAnswer {
        caught_up: heartbeat.metadata_offset >= broker.epoch,
        fenced: matches!(next, State::Fenced | State::MayStop),
        shut_down: next == State::MayStop,
    };
    Ok((records, answer))
}

/// Decides that a broker has been silent for too long.
pub fn decide_fence(image: &ClusterImage, rules: &Rules, id: BrokerId) -> Vec<MetadataRecord> {
    image.brokers.by_id(id).map_or_else(Vec::new, |broker| fence(image, rules, broker))
}

fn next_state(image: &ClusterImage, broker: &Broker, heartbeat: &Heartbeat, read_by_all: Offset) -> State {
    if broker.fenced {
        let ready = !heartbeat.want_fence && heartbeat.metadata_offset >= broker.epoch;
        return match heartbeat.want_shut_down {
            true => State::MayStop,
            false if ready => State::Unfenced,
            false => State::Fenced,
        };
    }
    if let Some(since) = broker.shutting_down {
        let done = !leads(image, broker.id) && read_by_all >= since;
        return if done { State::MayStop } else { State::Leaving };
    }
    match (heartbeat.want_fence, heartbeat.want_shut_down) {
        (true, true) => State::MayStop,
        (true, false) => State::Fenced,
        (false, true) if leads(image, broker.id) => State::Leaving,
        (false, true) => State::MayStop,
        (false, false) => State::Unfenced,
    }
}

fn leads(image: &ClusterImage, id: BrokerId) -> bool {
    image.topics.iter().any(|topic| topic.partitions.iter().any(|partition| partition.leader == Some(id)))
}

fn fence(image: &ClusterImage, rules: &Rules, broker: &Broker) -> Vec<MetadataRecord> {
    if broker.fenced {
        return Vec::new();
    }
    let mut records = leaders::leaving(image, rules, broker.id);
    let change = BrokerChange { fenced: Some(true), ..BrokerChange::of(broker.id, broker.epoch) };
    records.push(MetadataRecord::BrokerChange(change));
    records
}

fn unfence(image: &ClusterImage, rules: &Rules, broker: &Broker) -> Vec<MetadataRecord> {
    if !broker.fenced {
        return Vec::new();
    }
    let mut change = BrokerChange { fenced: Some(false), ..BrokerChange::of(broker.id, broker.epoch) };
    // Who comes back after it was fenced on its way out does not leave any more.
    change.shutting_down = broker.shutting_down.map(|_| false);
    let mut records = vec![MetadataRecord::BrokerChange(change)];
    records.extend(leaders::returning(image, rules, broker.id));
    records
}

/// Others lead from now on, as far as there are others; what is left is tried again with each heartbeat.
fn leave(image: &ClusterImage, rules: &Rules, broker: &Broker) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    if broker.shutting_down.is_none() {
        let change = BrokerChange { shutting_down: Some(true), ..BrokerChange::of(broker.id, broker.epoch) };
        records.push(MetadataRecord::BrokerChange(change));
    }
    records.extend(leaders::leaving(image, rules, broker.id));
    records
}

/// Directories that have failed, or that take no new partitions.
fn directories(
    image: &ClusterImage,
    rules: &Rules,
    broker: &Broker,
    heartbeat: &Heartbeat,
    before: &[MetadataRecord],
) -> Vec<MetadataRecord> {
    let failed = |id: &&KafkaUuid| heartbeat.offline_dirs.contains(id);
    let offline: Vec<KafkaUuid> = broker.log_dirs.iter().filter(failed).copied().collect();
    let mut records = Vec::new();
    let mut change = BrokerChange::of(broker.id, broker.epoch);
    if !offline.is_empty() {
        // What the heartbeat meant otherwise comes first, and may have changed the same partitions.
        records = leaders::directories_lost(&image.replay(before), rules, broker.id, &offline);
        change.log_dirs = Some(broker.log_dirs.iter().filter(|id| !offline.contains(id)).copied().collect());
    }
    let caught_up = heartbeat.metadata_offset >= broker.epoch;
    let cordoned = heartbeat.cordoned_dirs.as_ref().filter(|_| caught_up);
    change.cordoned_dirs = cordoned.filter(|dirs| **dirs != broker.cordoned_dirs).cloned();
    if change.log_dirs.is_some() || change.cordoned_dirs.is_some() {
        records.push(MetadataRecord::BrokerChange(change));
    }
    records
}
