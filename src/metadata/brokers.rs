//! Brokers: the section of the image, its replay, and the decisions to register and to unregister.
//!
//! Invariants: a broker's epoch is the offset of the record that registered its incarnation, so it is unique in the
//! cluster and rises; fencing does not end an epoch, only a new registration does; a registration starts fenced. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, KafkaUuid, Offset};
use crate::metadata::features::METADATA_VERSION;
use crate::metadata::image::{ClusterImage, Misfit};
use crate::metadata::leaders;
use crate::metadata::partition::directory;
use crate::metadata::record::{BrokerChange, MetadataRecord};
use crate::metadata::rules::Rules;

/// Where clients and brokers reach a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The name of the listener, e.g. `PLAINTEXT`.
    pub listener: String,
    pub host: String,
    pub port: u16,
    /// The security protocol by its Kafka name, e.g. `SASL_SSL`.
    pub protocol: String,
}

/// A registered broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub id: BrokerId,
    /// The offset of its registration record.
    pub epoch: i64,
    /// Drawn anew each time the process starts.
    pub incarnation: KafkaUuid,
    pub rack: Option<String>,
    /// A fenced broker leads nothing, and is in no ISR unless it is the last member and there is no ELR.
    pub fenced: bool,
    /// It has asked to leave: it must not become a leader any more. The offset of the record that says so.
    pub shutting_down: Option<Offset>,
    pub endpoints: Vec<Endpoint>,
    /// Supported levels by feature name, both ends inclusive.
    pub features: BTreeMap<String, (i16, i16)>,
    /// The ids of its log directories that are online.
    pub log_dirs: Vec<KafkaUuid>,
    /// Those among them that take no new partitions (KIP-1066).
    pub cordoned_dirs: Vec<KafkaUuid>,
}

impl Broker {
    /// True if a replica in this directory can be read and written, as far as the controller knows.
    pub fn has_online(&self, directory: KafkaUuid) -> bool {
        match directory {
            directory::UNASSIGNED | directory::MIGRATING => true,
            directory::LOST => false,
            _ => self.log_dirs.contains(&directory),
        }
    }

    /// Where a new replica goes, if there is only one place.
    pub fn default_directory(&self) -> KafkaUuid {
        match self.log_dirs[..] {
            [] => directory::MIGRATING,
            [only] => only,
            _ => directory::UNASSIGNED,
        }
    }

    /// True if the broker takes new partitions: one of its directories does.
    pub fn takes_partitions(&self) -> bool {
        self.log_dirs.is_empty() || self.log_dirs.iter().any(|id| !self.cordoned_dirs.contains(id))
    }
}

#[cfg(test)]
impl Broker {
    /// An unfenced broker without anything else.
    pub(super) fn plain(id: i32) -> Broker {
        Broker {
            id: BrokerId(id),
            epoch: 0,
            incarnation: KafkaUuid(1),
            rack: None,
            fenced: false,
            shutting_down: None,
            endpoints: Vec::new(),
            features: BTreeMap::new(),
            log_dirs: Vec::new(),
            cordoned_dirs: Vec::new(),
        }
    }
}

/// Every registered broker.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Brokers {
    by_id: OrdMap<BrokerId, Arc<Broker>>,
}

impl Brokers {
    pub fn by_id(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.by_id.get(&id)
    }

    /// Every broker, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.by_id.values()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// True if the broker may lead and be in an ISR: registered, not fenced, not shutting down.
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.by_id(id).is_some_and(|broker| !broker.fenced && broker.shutting_down.is_none())
    }

    pub(super) fn register(&mut self, broker: Broker) {
        self.by_id.insert(broker.id, Arc::new(broker));
    }

    pub(super) fn unregister(&mut self, id: BrokerId, epoch: i64) -> Result<(), Misfit> {
        self.registered(id, epoch)?;
        self.by_id.remove(&id);
        Ok(())
    }

    /// Applies a change whose record has the offset `offset`.
    pub(super) fn change(&mut self, change: &BrokerChange, offset: Offset) -> Result<(), Misfit> {
        let broker = self.registered(change.id, change.epoch)?;
        broker.fenced = change.fenced.unwrap_or(broker.fenced);
        if let Some(shutting_down) = change.shutting_down {
            broker.shutting_down = shutting_down.then_some(offset);
        }
        if let Some(log_dirs) = &change.log_dirs {
            broker.log_dirs.clone_from(log_dirs);
        }
        if let Some(cordoned_dirs) = &change.cordoned_dirs {
            broker.cordoned_dirs.clone_from(cordoned_dirs);
        }
        Ok(())
    }

    fn registered(&mut self, id: BrokerId, epoch: i64) -> Result<&mut Broker, Misfit> {
        let broker = self.by_id.get_mut(&id).filter(|broker| broker.epoch == epoch);
        broker.map(Arc::make_mut).ok_or_else(|| Misfit(format!("broker {id} is not registered at epoch {epoch}")))
    }

    /// The records that build this section from nothing.
    pub(super) fn records(&self) -> impl Iterator<Item = MetadataRecord> {
        self.iter().map(|broker| MetadataRecord::RegisterBroker((**broker).clone()))
    }
}

/// A broker that asks to be part of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    pub id: BrokerId,
    pub incarnation: KafkaUuid,
    pub rack: Option<String>,
    pub endpoints: Vec<Endpoint>,
    /// Supported levels by feature name, both ends inclusive.
    pub features: BTreeMap<String, (i16, i16)>,
    pub log_dirs: Vec<KafkaUuid>,
    /// The epoch of its earlier life, if it still has everything that it had then; else -1.
    pub previous_epoch: i64,
}

/// Decides to register a broker and returns its epoch. `clean`: its earlier life has left everything behind.
///
/// The same incarnation again amends the registration and keeps its epoch. A new incarnation first leaves the ISRs of
/// the earlier one, and its ELRs too unless it is clean; then it gets a new epoch, and is fenced until it has caught up.
/// The registration comes last, so that a cleaning that did not make it into the log is made again.
pub fn decide_register(
    image: &ClusterImage,
    rules: &Rules,
    registration: Registration,
    clean: bool,
) -> Result<(Vec<MetadataRecord>, i64), ApiError> {
    check_directories(image, &registration)?;
    check_features(image, &registration)?;
    let earlier = image.brokers.by_id(registration.id);
    let amended = earlier.filter(|broker| broker.incarnation == registration.incarnation);
    let mut records = Vec::new();
    let (epoch, fenced, shutting_down) = match amended {
        Some(broker) => (broker.epoch, broker.fenced, broker.shutting_down),
        None => {
            let id = registration.id;
            records = if clean { leaders::leaving(image, rules, id) } else { leaders::lossy(image, rules, id) };
            (image.index.next_offset + records.len() as i64, true, None)
        }
    };
    let Registration { id, incarnation, rack, endpoints, features, log_dirs, previous_epoch: _ } = registration;
    // Within one life directories only fail, and heartbeats say so.
    let known = |broker: &Arc<Broker>| (broker.log_dirs.clone(), broker.cordoned_dirs.clone());
    let (log_dirs, cordoned_dirs) = amended.map_or((log_dirs, Vec::new()), known);
    records.push(MetadataRecord::RegisterBroker(Broker {
        id,
        epoch,
        incarnation,
        rack,
        fenced,
        shutting_down,
        endpoints,
        features,
        log_dirs,
        cordoned_dirs,
    }));
    Ok((records, epoch))
}

/// True if the broker says the epoch that it was last registered under.
pub fn is_clean(image: &ClusterImage, registration: &Registration) -> bool {
    image.brokers.by_id(registration.id).is_some_and(|earlier| earlier.epoch == registration.previous_epoch)
}

/// What a broker is told whose number belongs to another process that lives.
pub fn duplicate() -> ApiError {
    let message = "Another broker is registered with that broker id. If the broker was recently restarted this should \
                   self-resolve once the heartbeat manager expires the broker's session.";
    ApiError::new(ErrorCode::DuplicateBrokerRegistration, message)
}

fn check_directories(image: &ClusterImage, registration: &Registration) -> Result<(), ApiError> {
    let refuse = |why: String| Err(ApiError::new(ErrorCode::InvalidRegistration, why));
    let dirs = &registration.log_dirs;
    if dirs.is_empty() {
        return refuse("No directories specified in request".into());
    }
    if dirs.iter().any(|id| directory::is_reserved(*id)) {
        return refuse("Reserved directory ID in request".into());
    }
    if dirs.iter().collect::<BTreeSet<_>>().len() != dirs.len() {
        return refuse("Duplicate directory ID in request".into());
    }
    let others = || image.brokers.iter().filter(|broker| broker.id != registration.id);
    for id in dirs {
        if let Some(other) = others().find(|broker| broker.log_dirs.contains(id)) {
            return refuse(format!("Broker {} is already registered with directory {id}", other.id));
        }
    }
    Ok(())
}

fn check_features(image: &ClusterImage, registration: &Registration) -> Result<(), ApiError> {
    let unsupported = |name: &str, level: i16, (min, max): (i16, i16)| {
        let message = format!(
            "Unable to register because the broker does not support finalized version {level} of {name}. \
             The broker wants a version between {min} and {max}, inclusive."
        );
        ApiError::new(ErrorCode::UnsupportedVersion, message)
    };
    for (name, range) in &registration.features {
        let level = image.features.level(name);
        // metadata.version alone is never off; a log without it is not asked for anything.
        let compared = level != 0 || name != METADATA_VERSION;
        if compared && !(range.0..=range.1).contains(&level) {
            return Err(unsupported(name, level, *range));
        }
    }
    if !registration.features.contains_key(METADATA_VERSION) {
        let why = "Request features do not contain 'metadata.version'";
        return Err(ApiError::new(ErrorCode::InvalidRegistration, why));
    }
    let missing = image.features.iter().find(|(name, _)| !registration.features.contains_key(*name));
    missing.map_or(Ok(()), |(name, level)| Err(unsupported(name, level, (0, 0))))
}

/// The broker, if it is registered under this epoch.
pub fn check_epoch(image: &ClusterImage, id: BrokerId, epoch: i64) -> Result<&Broker, ApiError> {
    let stale = |message: String| ApiError::new(ErrorCode::StaleBrokerEpoch, message);
    let broker = image.brokers.by_id(id);
    let broker = broker.ok_or_else(|| stale(format!("No broker registration found for broker id {id}")))?;
    if broker.epoch == epoch {
        return Ok(broker);
    }
    Err(stale(format!("Expected broker epoch {}, but got broker epoch {epoch}", broker.epoch)))
}

/// Decides that a broker is no longer part of the cluster. Partitions that only it can lead stay without a leader until
/// it registers again.
pub fn decide_unregister(image: &ClusterImage, rules: &Rules, id: BrokerId) -> Result<Vec<MetadataRecord>, ApiError> {
    let Some(broker) = image.brokers.by_id(id) else {
        let message = format!("Broker ID {id} is not currently registered");
        return Err(ApiError::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    let mut records = leaders::leaving(image, rules, id);
    records.push(MetadataRecord::UnregisterBroker { id, epoch: broker.epoch });
    Ok(records)
}
