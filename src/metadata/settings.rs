//! Settings that live in the metadata log: the section of the image, its replay, and the decision to alter them.
//!
//! Invariants: a resource without settings is absent; what a key means and whether a value is legal is decided by the
//! [`Rules`] given at start, because this module does not know the table of settings. Pure.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::error::{ApiError, ErrorCode};
use crate::ids::BrokerId;
use crate::metadata::image::ClusterImage;
use crate::metadata::record::MetadataRecord;
use crate::metadata::rules::{MIN_ISR, Rules};

/// What a setting belongs to; the numbers are Kafka's (`ConfigResource.Type`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ResourceKind {
    Topic,
    /// One broker by its id, or every broker under the empty name.
    Broker,
    ClientMetrics,
    Group,
}

impl ResourceKind {
    pub const ALL: [ResourceKind; 4] =
        [ResourceKind::Topic, ResourceKind::Broker, ResourceKind::ClientMetrics, ResourceKind::Group];

    /// The number on the wire and in the log.
    pub const fn code(self) -> u8 {
        match self {
            ResourceKind::Topic => 2,
            ResourceKind::Broker => 4,
            ResourceKind::ClientMetrics => 16,
            ResourceKind::Group => 32,
        }
    }

    pub fn from_code(code: u8) -> Option<ResourceKind> {
        ResourceKind::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// The settings of one resource, by key.
pub type SettingMap = BTreeMap<String, String>;

static NONE: LazyLock<Arc<SettingMap>> = LazyLock::new(Arc::default);

/// Every setting of the cluster.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Settings {
    kinds: OrdMap<ResourceKind, OrdMap<Arc<str>, Arc<SettingMap>>>,
}

impl Settings {
    /// The settings of a resource; empty if it has none.
    pub fn of(&self, kind: ResourceKind, name: &str) -> Arc<SettingMap> {
        self.kinds.get(&kind).and_then(|resources| resources.get(name)).unwrap_or(&NONE).clone()
    }

    /// The names of the resources of a kind whose settings differ from those of an earlier image.
    pub fn changed_since(&self, before: &Settings, kind: ResourceKind) -> Vec<Arc<str>> {
        let (none, now) = (OrdMap::new(), self.kinds.get(&kind));
        let changes = before.kinds.get(&kind).unwrap_or(&none).diff(now.unwrap_or(&none));
        let name = |change: DiffItem<'_, '_, Arc<str>, Arc<SettingMap>>| match change {
            DiffItem::Add(name, _) | DiffItem::Remove(name, _) | DiffItem::Update { new: (name, _), .. } => {
                name.clone()
            }
        };
        changes.map(name).collect()
    }

    /// The names of the resources of a kind that have settings, in order.
    pub fn names(&self, kind: ResourceKind) -> impl Iterator<Item = &str> {
        self.kinds.get(&kind).into_iter().flat_map(|resources| resources.keys()).map(|name| &**name)
    }

    pub(super) fn set(&mut self, kind: ResourceKind, name: &str, key: &str, value: Option<&str>) {
        let mut settings = self.of(kind, name);
        let map = Arc::make_mut(&mut settings);
        match value {
            Some(value) => map.insert(key.to_owned(), value.to_owned()),
            None => map.remove(key),
        };
        if settings.is_empty() {
            self.forget(kind, name);
        } else {
            self.kinds.entry(kind).or_default().insert(name.into(), settings);
        }
    }

    pub(super) fn forget(&mut self, kind: ResourceKind, name: &str) {
        let Some(resources) = self.kinds.get_mut(&kind) else { return };
        resources.remove(name);
        if resources.is_empty() {
            self.kinds.remove(&kind);
        }
    }

    /// The records that build this section from nothing.
    pub(super) fn records(&self) -> impl Iterator<Item = MetadataRecord> {
        let resources = self.kinds.iter().flat_map(|(kind, names)| names.iter().map(move |row| (*kind, row)));
        resources.flat_map(|(kind, (name, settings))| {
            settings.iter().map(move |(key, value)| MetadataRecord::Config {
                kind,
                name: name.to_string(),
                key: key.clone(),
                value: Some(value.clone()),
            })
        })
    }
}

/// A change of one key (IncrementalAlterConfigs, KIP-339).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SettingChange {
    Set(String),
    Delete,
    /// Adds the items of a comma-separated list that are not there yet. `base` is the value the key has while the
    /// resource does not set it; the caller knows it, and that the key is a list.
    Append {
        items: String,
        base: String,
    },
    /// Takes items off a comma-separated list; `base` as above.
    Subtract {
        items: String,
        base: String,
    },
}

/// What shall happen to the settings of one resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alteration {
    /// The given keys change, the others stay (IncrementalAlterConfigs).
    Change(Vec<(String, SettingChange)>),
    /// These settings and no others (AlterConfigs).
    Replace(SettingMap),
}

impl Alteration {
    /// The settings that a resource with the settings `current` has afterwards.
    pub fn applied(&self, current: &SettingMap) -> SettingMap {
        match self {
            Alteration::Replace(settings) => settings.clone(),
            Alteration::Change(changes) => changed(current, changes),
        }
    }

    /// True if it says something of `key`, even if that changes nothing.
    fn names(&self, key: &str, current: &SettingMap) -> bool {
        match self {
            Alteration::Replace(settings) => settings.contains_key(key) || current.contains_key(key),
            Alteration::Change(changes) => changes.iter().any(|(name, _)| name == key),
        }
    }
}

/// An alteration and its resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingAlteration {
    pub kind: ResourceKind,
    pub name: String,
    pub alteration: Alteration,
}

/// Decides to alter the settings of one resource: all of it, or nothing.
pub fn decide_alter(
    image: &ClusterImage,
    asked: &SettingAlteration,
    rules: &Rules,
) -> Result<Vec<MetadataRecord>, ApiError> {
    let current = image.settings.of(asked.kind, &asked.name);
    let next = asked.alteration.applied(&current);
    check_min_isr(image, asked, &current, &next)?;
    check_lengths(&current, &next)?;
    rules.check(asked.kind, &asked.name, &next)?;
    check_exists(image, asked.kind, &asked.name)?;
    let removed = current.keys().filter(|key| !next.contains_key(*key)).map(|key| (key, None));
    let set = next.iter().filter(|(key, value)| current.get(*key) != Some(value));
    let differences = removed.chain(set.map(|(key, value)| (key, Some(value))));
    let record = |(key, value): (&String, Option<&String>)| MetadataRecord::Config {
        kind: asked.kind,
        name: asked.name.clone(),
        key: key.clone(),
        value: value.cloned(),
    };
    let mut records: Vec<MetadataRecord> = differences.map(record).collect();
    records.extend(forgotten_elr(image, asked, &records));
    Ok(records)
}

/// Who is an eligible leader depends on `min.insync.replicas`: with another number it has to be found out anew.
fn forgotten_elr(
    image: &ClusterImage,
    asked: &SettingAlteration,
    records: &[MetadataRecord],
) -> Option<MetadataRecord> {
    let is_min_isr = |record: &MetadataRecord| matches!(record, MetadataRecord::Config { key, .. } if key == MIN_ISR);
    if !image.features.has_elr() || !records.iter().any(is_min_isr) {
        return None;
    }
    match asked.kind {
        ResourceKind::Topic => {
            let topic = image.topics.by_name(&asked.name)?;
            Some(MetadataRecord::ClearElr { topic: Some(topic.id) })
        }
        _ => Some(MetadataRecord::ClearElr { topic: None }),
    }
}

fn changed(current: &SettingMap, changes: &[(String, SettingChange)]) -> SettingMap {
    let mut next = current.clone();
    for (key, change) in changes {
        let list = |base: &String| {
            let value = next.get(key).unwrap_or(base);
            value.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let value = match change {
            SettingChange::Delete => None,
            SettingChange::Set(value) => Some(value.clone()),
            SettingChange::Append { items, base } => {
                let mut list = list(base);
                for item in items.split(',') {
                    if !list.iter().any(|there| there == item) {
                        list.push(item.to_owned());
                    }
                }
                Some(list.join(","))
            }
            SettingChange::Subtract { items, base } => {
                let mut list = list(base);
                list.retain(|there| !items.split(',').any(|item| item == there));
                Some(list.join(","))
            }
        };
        match value {
            Some(value) => next.insert(key.clone(), value),
            None => next.remove(key),
        };
    }
    next
}

/// Longest value a setting may have, in characters.
const VALUE_LENGTH_MAX: usize = i16::MAX as usize;

/// With eligible leader replicas there is one number for the cluster, and there must be one (KIP-966).
fn check_min_isr(
    image: &ClusterImage,
    asked: &SettingAlteration,
    current: &SettingMap,
    next: &SettingMap,
) -> Result<(), ApiError> {
    let touched = asked.kind == ResourceKind::Broker && asked.alteration.names(MIN_ISR, current);
    if !touched || !image.features.has_elr() {
        return Ok(());
    }
    let refused = |what: &str| {
        let message = format!("{what} while ELR is enabled.");
        Err(ApiError::new(ErrorCode::InvalidConfig, message))
    };
    if !asked.name.is_empty() {
        return refused("Broker-level min.insync.replicas cannot be altered");
    }
    if next.contains_key(MIN_ISR) { Ok(()) } else { refused("Cluster-level min.insync.replicas cannot be removed") }
}

/// Lists can grow beyond what one request may carry.
fn check_lengths(current: &SettingMap, next: &SettingMap) -> Result<(), ApiError> {
    let changed = next.iter().filter(|(key, value)| current.get(*key) != Some(value));
    if changed.into_iter().any(|(_, value)| value.chars().count() > VALUE_LENGTH_MAX) {
        let message = format!(
            "The configuration value cannot be added because it exceeds the maximum value size of {VALUE_LENGTH_MAX} \
             bytes."
        );
        return Err(ApiError::new(ErrorCode::InvalidConfig, message));
    }
    Ok(())
}

/// Whether a broker, or the active controller, goes by this id. Other controllers are not in the image.
fn is_node(image: &ClusterImage, id: BrokerId) -> bool {
    image.brokers.by_id(id).is_some() || image.controller.is_some_and(|controller| controller.node == id)
}

/// Kafka's `ConfigResourceExistenceChecker`: client metrics and groups need not exist.
fn check_exists(image: &ClusterImage, kind: ResourceKind, name: &str) -> Result<(), ApiError> {
    match kind {
        ResourceKind::Topic if image.topics.by_name(name).is_none() => {
            let message = format!("The topic '{name}' does not exist.");
            Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message))
        }
        ResourceKind::Broker if !name.is_empty() => match name.parse() {
            Err(_) => Err(ApiError::new(ErrorCode::InvalidRequest, format!("Invalid broker name {name}"))),
            Ok(id) if !is_node(image, BrokerId(id)) => {
                Err(ApiError::new(ErrorCode::BrokerIdNotRegistered, format!("No node with id {id} found.")))
            }
            Ok(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KafkaUuid;
    use crate::metadata::image::ActiveController;
    use crate::metadata::rules::{ControllerSettings, SettingsCheck};
    use crate::metadata::topics::TopicDefaults;

    #[test]
    fn names_stay_within_their_kind() {
        let mut settings = Settings::default();
        settings.set(ResourceKind::Topic, "b", "k", Some("1"));
        settings.set(ResourceKind::Topic, "a", "k", Some("1"));
        settings.set(ResourceKind::Broker, "", "k", Some("1"));
        settings.set(ResourceKind::Broker, "7", "k", Some("1"));
        assert_eq!(settings.names(ResourceKind::Topic).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(settings.names(ResourceKind::Broker).collect::<Vec<_>>(), ["", "7"]);
        assert_eq!(settings.names(ResourceKind::Group).count(), 0);
        settings.set(ResourceKind::Topic, "a", "k", None);
        assert_eq!(settings.names(ResourceKind::Topic).collect::<Vec<_>>(), ["b"], "no settings, no row");
        assert!(settings.of(ResourceKind::Topic, "a").is_empty());
    }

    #[test]
    fn the_controller_too_is_a_node_that_may_have_settings() {
        let controller = ActiveController { node: BrokerId(9), directory: KafkaUuid(1), incarnation: KafkaUuid(2) };
        let image = ClusterImage { controller: Some(controller), ..ClusterImage::default() };
        let exists = |name: &str| check_exists(&image, ResourceKind::Broker, name).map_err(|why| why.code);
        assert_eq!((exists("9"), exists("")), (Ok(()), Ok(())));
        assert_eq!(exists("8"), Err(ErrorCode::BrokerIdNotRegistered));
    }

    fn altered(elr: bool, name: &str, alteration: Alteration) -> Result<usize, String> {
        let mut image = ClusterImage::default();
        image.features.set("eligible.leader.replicas.version", i16::from(elr));
        image.settings.set(ResourceKind::Broker, "", MIN_ISR, Some("1"));
        let topic_defaults = TopicDefaults { partitions: 1, replication_factor: 1 };
        let settings_check: SettingsCheck = Arc::new(|_, _, _| Ok(()));
        let rules = Rules { topic_defaults, settings_check, controller: ControllerSettings::default() };
        let asked = SettingAlteration { kind: ResourceKind::Broker, name: name.to_owned(), alteration };
        decide_alter(&image, &asked, &rules).map(|records| records.len()).map_err(|why| why.message)
    }

    #[test]
    fn eligible_leader_replicas_need_one_number_of_the_cluster() {
        let change = |change: SettingChange| Alteration::Change(vec![(MIN_ISR.to_owned(), change)]);
        let removed = Err("Cluster-level min.insync.replicas cannot be removed while ELR is enabled.".to_owned());
        assert_eq!(altered(true, "", change(SettingChange::Delete)), removed);
        assert_eq!(altered(true, "", Alteration::Replace(SettingMap::new())), removed);
        let own = Err("Broker-level min.insync.replicas cannot be altered while ELR is enabled.".to_owned());
        assert_eq!(altered(true, "1", change(SettingChange::Set("2".into()))), own);
        assert_eq!(altered(true, "", change(SettingChange::Set("2".into()))), Ok(2), "and ELRs are forgotten");
        assert_eq!(altered(false, "", change(SettingChange::Delete)), Ok(1));
    }

    #[test]
    fn lists_do_not_grow_without_end() {
        let items = "x".repeat(VALUE_LENGTH_MAX);
        let append = SettingChange::Append { items, base: "a".into() };
        let refused = altered(false, "", Alteration::Change(vec![("k".into(), append)]));
        assert!(refused.is_err_and(|why| why.contains("maximum value size of 32767")));
    }

    #[test]
    fn lists_grow_and_shrink_from_the_value_in_force() {
        let append =
            |items: &str| ("k".to_owned(), SettingChange::Append { items: items.into(), base: "delete".into() });
        let subtract =
            |items: &str| ("k".to_owned(), SettingChange::Subtract { items: items.into(), base: "a,b".into() });
        let none = SettingMap::new();
        assert_eq!(changed(&none, &[append("compact,delete")])["k"], "delete,compact");
        assert_eq!(changed(&none, &[subtract("a")])["k"], "b");
        let set = SettingMap::from([("k".into(), "x".into())]);
        assert_eq!(changed(&set, &[append("y"), subtract("x")])["k"], "y");
    }
}
