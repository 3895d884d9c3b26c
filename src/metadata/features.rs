//! Finalized feature levels (KIP-584): the section of the image, its replay, and the decision to change them.
//!
//! Invariant: a feature at level 0 is absent. Our records do not depend on `metadata.version`, but tools are told what
//! Kafka tells them: it is only lowered past levels that added no record there. Sentences are Kafka's
//! (`FeatureControlManager`). Pure.

use std::sync::Arc;

use imbl::OrdMap;

use crate::error::{ApiError, ErrorCode};
use crate::metadata::image::ClusterImage;
use crate::metadata::record::MetadataRecord;
use crate::metadata::rules::{MIN_ISR, Rules};
use crate::metadata::settings::ResourceKind;

pub(super) const METADATA_VERSION: &str = "metadata.version";
const KRAFT_VERSION: &str = "kraft.version";
const ELR_VERSION: &str = "eligible.leader.replicas.version";

/// The levels of `metadata.version` that brought new records: a downgrade from one of them may lose something
/// (`MetadataVersion.didMetadataChange`).
const LEVELS_WITH_RECORDS: [i16; 9] = [7, 8, 11, 13, 14, 15, 17, 23, 30];

/// The finalized level of every feature that is on.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Features {
    levels: OrdMap<Arc<str>, i16>,
}

impl Features {
    /// The finalized level; 0 if the feature is off.
    pub fn level(&self, name: &str) -> i16 {
        self.levels.get(name).copied().unwrap_or(0)
    }

    /// True if replicas outside an ISR may be eligible leaders (KIP-966).
    pub fn has_elr(&self) -> bool {
        self.level(ELR_VERSION) > 0
    }

    /// Every feature that is on, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i16)> {
        self.levels.iter().map(|(name, level)| (&**name, *level))
    }

    pub(super) fn set(&mut self, name: &str, level: i16) {
        if level == 0 {
            self.levels.remove(name);
        } else {
            self.levels.insert(name.into(), level);
        }
    }

    /// The records that build this section from nothing.
    pub(super) fn records(&self) -> impl Iterator<Item = MetadataRecord> {
        self.iter().map(|(name, level)| MetadataRecord::FeatureLevel { name: name.to_owned(), level })
    }
}

/// How far an update may go (`FeatureUpdate.UpgradeType`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpgradeType {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
    /// A number that nobody knows.
    Unknown,
}

/// A level to finalize; 0 switches the feature off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    pub upgrade_type: UpgradeType,
}

/// Decides a whole UpdateFeatures request: every update, or none (KIP-1022).
pub fn decide_update(
    image: &ClusterImage,
    rules: &Rules,
    updates: &[FeatureUpdate],
) -> Result<Vec<MetadataRecord>, ApiError> {
    let mut records = Vec::new();
    if updates.iter().any(|update| update.name == ELR_VERSION && update.level > 0) {
        records = one_min_isr(image, rules);
    }
    for update in updates {
        if let Err(why) = check(image, update).and_then(|()| check_dependencies(image, updates, update)) {
            let message = format!("The update failed for all features since the following feature had an error: {why}");
            return Err(ApiError::new(ErrorCode::InvalidUpdateVersion, message));
        }
        if image.features.level(&update.name) != update.level {
            records.push(MetadataRecord::FeatureLevel { name: update.name.clone(), level: update.level });
        }
    }
    Ok(records)
}

/// A level, and the level of another feature that it cannot do without.
const DEPENDENCIES: &[(&str, i16, &str, i16)] = &[(ELR_VERSION, 1, METADATA_VERSION, 23)];

/// Refuses a level whose dependencies are finalized neither before nor by the same request (KIP-1022).
fn check_dependencies(image: &ClusterImage, updates: &[FeatureUpdate], update: &FeatureUpdate) -> Result<(), String> {
    let FeatureUpdate { name, level, .. } = update;
    let proposed = |feature: &str| {
        let updated = updates.iter().find(|update| update.name == feature);
        updated.map_or_else(|| image.features.level(feature), |update| update.level)
    };
    let unmet = |(feature, from, other, needed): &&(&str, i16, &str, i16)| {
        feature == name && level >= from && proposed(other) < *needed
    };
    let Some((_, _, other, needed)) = DEPENDENCIES.iter().find(unmet) else { return Ok(()) };
    let why = format!("{name} could not be set to {level} because it depends on {other} level {needed}");
    Err(format!("Invalid update version {level} for feature {name}. {why}"))
}

/// With eligible leader replicas there is one min.insync.replicas of the cluster, and none of a broker (KIP-966).
fn one_min_isr(image: &ClusterImage, rules: &Rules) -> Vec<MetadataRecord> {
    let record = |name: &str, value| {
        let (name, key) = (name.to_owned(), MIN_ISR.to_owned());
        MetadataRecord::Config { kind: ResourceKind::Broker, name, key, value }
    };
    let has = |name: &str| image.settings.of(ResourceKind::Broker, name).contains_key(MIN_ISR);
    let own = image.settings.names(ResourceKind::Broker).filter(|name| !name.is_empty() && has(name));
    let wanted = rules.controller.min_insync_replicas.to_string();
    (!has("")).then(|| record("", Some(wanted))).into_iter().chain(own.map(|name| record(name, None))).collect()
}

fn check(image: &ClusterImage, update: &FeatureUpdate) -> Result<(), String> {
    let current = image.features.level(&update.name);
    check_level(image, update, current)
        .map_err(|why| format!("Invalid update version {} for feature {}. {why}", update.level, update.name))?;
    if update.name == METADATA_VERSION && update.level < current {
        check_metadata_downgrade(update, current)
    } else {
        Ok(())
    }
}

fn check_level(image: &ClusterImage, update: &FeatureUpdate, current: i16) -> Result<(), String> {
    if update.upgrade_type == UpgradeType::Unknown {
        return Err("The controller does not support the given upgrade type.".into());
    }
    if update.level < 0 {
        return Err("A feature version cannot be less than 0.".into());
    }
    check_supported(image, update)?;
    let upgrade = update.upgrade_type == UpgradeType::Upgrade;
    if update.level < current && upgrade {
        return Err("Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                    unsafe downgrade."
            .into());
    }
    if update.level > current && !upgrade {
        return Err("Can't downgrade to a newer version.".into());
    }
    if update.level < current && update.name == KRAFT_VERSION {
        return Err("Can't downgrade the version of this feature.".into());
    }
    if image.brokers.iter().all(|broker| !broker.features.contains_key(&update.name)) {
        return Err(format!("Feature {} not found.", update.name));
    }
    Ok(())
}

fn check_metadata_downgrade(update: &FeatureUpdate, current: i16) -> Result<(), String> {
    if !LEVELS_WITH_RECORDS.iter().any(|level| (update.level + 1..=current).contains(level)) {
        return Ok(());
    }
    let why = if update.upgrade_type == UpgradeType::UnsafeDowngrade {
        "Unsafe metadata downgrade is not supported in this version."
    } else {
        "Refusing to perform the requested downgrade because it might delete metadata information."
    };
    Err(format!("Unsupported metadata.version downgrade from {current} to {}. {why}", update.level))
}

/// Every registered broker must be able to work at the level. The controller is asked first, as in Kafka; it is one of
/// the brokers, so Kafka's words for "this controller" are used for the broker that it is.
fn check_supported(image: &ClusterImage, update: &FeatureUpdate) -> Result<(), String> {
    let controller = image.controller.as_ref().map(|controller| controller.node);
    let known = image.brokers.iter().map(|broker| (broker.id, &broker.features));
    let (first, others): (Vec<_>, Vec<_>) = known.partition(|(id, _)| controller == Some(*id));
    for (id, features) in first.into_iter().chain(others) {
        let who = if controller == Some(id) { format!("Local controller {id}") } else { format!("Broker {id}") };
        match features.get(&update.name) {
            // A feature that is off is as good as one that is not there.
            None if update.level == 0 => {}
            None => return Err(format!("{who} does not support this feature.")),
            Some((min, max)) if !(*min..=*max).contains(&update.level) => {
                return Err(format!("{who} only supports versions {min}-{max}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
