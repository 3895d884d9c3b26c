//! Brokers: the section of the image, its replay, and the decisions to register and to unfence.
//!
//! Invariants: a broker's epoch is the offset of the record that registered its incarnation, so it is unique in the
//! cluster and rises; fencing does not end an epoch, only a new registration does; a registration starts fenced. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::image::{ClusterImage, Misfit};
use crate::metadata::leaders;
use crate::metadata::record::{BrokerChange, MetadataRecord};

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
    /// A fenced broker leads nothing and is in no ISR of more than itself.
    pub fenced: bool,
    /// It has asked to leave: it must not become a leader any more.
    pub shutting_down: bool,
    pub endpoints: Vec<Endpoint>,
    /// Supported levels by feature name, both ends inclusive.
    pub features: BTreeMap<String, (i16, i16)>,
    /// The ids of its log directories that are online.
    pub log_dirs: Vec<KafkaUuid>,
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
            shutting_down: false,
            endpoints: Vec::new(),
            features: BTreeMap::new(),
            log_dirs: Vec::new(),
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
        self.by_id(id).is_some_and(|broker| !broker.fenced && !broker.shutting_down)
    }

    pub(super) fn register(&mut self, broker: Broker) {
        self.by_id.insert(broker.id, Arc::new(broker));
    }

    pub(super) fn unregister(&mut self, id: BrokerId, epoch: i64) -> Result<(), Misfit> {
        self.registered(id, epoch)?;
        self.by_id.remove(&id);
        Ok(())
    }

    pub(super) fn change(&mut self, change: &BrokerChange) -> Result<(), Misfit> {
        let broker = self.registered(change.id, change.epoch)?;
        broker.fenced = change.fenced.unwrap_or(broker.fenced);
        broker.shutting_down = change.shutting_down.unwrap_or(broker.shutting_down);
        if let Some(log_dirs) = &change.log_dirs {
            broker.log_dirs.clone_from(log_dirs);
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
}

/// Decides to register a broker and returns its epoch.
///
/// The same incarnation again amends the registration and keeps its epoch. A new incarnation first leaves the ISRs that
/// hold others, then gets a new epoch; the partitions that only it can lead keep waiting for it until it is unfenced.
pub fn decide_register(
    image: &ClusterImage,
    registration: Registration,
) -> Result<(Vec<MetadataRecord>, i64), ApiError> {
    check_features(image, &registration)?;
    let earlier = image.brokers.by_id(registration.id);
    let mut records = Vec::new();
    let (epoch, fenced, shutting_down) = match earlier {
        Some(broker) if broker.incarnation == registration.incarnation => {
            (broker.epoch, broker.fenced, broker.shutting_down)
        }
        earlier => {
            if earlier.is_some() {
                records = leaders::without(image, registration.id);
            }
            (image.index.next_offset + records.len() as i64, true, false)
        }
    };
    let Registration { id, incarnation, rack, endpoints, features, log_dirs } = registration;
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
    }));
    Ok((records, epoch))
}

fn check_features(image: &ClusterImage, registration: &Registration) -> Result<(), ApiError> {
    for (name, level) in image.features.iter() {
        let (min, max) = registration.features.get(name).copied().unwrap_or((0, 0));
        if !(min..=max).contains(&level) {
            let message = format!(
                "Unable to register because the broker does not support finalized version {level} of {name}. \
                 The broker wants a version between {min} and {max}, inclusive."
            );
            return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
        }
    }
    Ok(())
}

/// Decides to unfence a broker, and to elect it where nobody leads or where it led in an earlier life.
pub fn decide_unfence(image: &ClusterImage, id: BrokerId, epoch: i64) -> Result<Vec<MetadataRecord>, ApiError> {
    let Some(broker) = image.brokers.by_id(id) else {
        let message = format!("Broker ID {id} is not currently registered");
        return Err(ApiError::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    if broker.epoch != epoch {
        let message = format!("Expected broker epoch {epoch}, but got broker epoch {}", broker.epoch);
        return Err(ApiError::new(ErrorCode::StaleBrokerEpoch, message));
    }
    if !broker.fenced {
        return Ok(Vec::new());
    }
    let unfenced = MetadataRecord::BrokerChange(BrokerChange {
        id,
        epoch,
        fenced: Some(false),
        shutting_down: None,
        log_dirs: None,
    });
    let mut records = vec![unfenced];
    records.extend(leaders::returned(image, id));
    Ok(records)
}

/// Decides that a broker is no longer part of the cluster. Partitions that only it can lead stay without a leader until
/// it registers again.
pub fn decide_unregister(image: &ClusterImage, id: BrokerId) -> Result<Vec<MetadataRecord>, ApiError> {
    let Some(broker) = image.brokers.by_id(id) else {
        let message = format!("Broker ID {id} is not currently registered");
        return Err(ApiError::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    let mut records = leaders::without(image, id);
    records.extend(leaders::orphaned(image, id));
    records.push(MetadataRecord::UnregisterBroker { id, epoch: broker.epoch });
    Ok(records)
}
