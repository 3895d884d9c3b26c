//! Makes what is hosted match the cluster image: creates, takes leadership, configures, deletes. One task, one image at
//! a time.
//!
//! Invariants: a partition is hosted at most once; a log whose topic id is in no image belongs to a deleted topic and
//! is deleted; `reconciled` moves only after every partition of an image is in its role. A log is begun in the
//! directory that the controller names; if that is not there, or a directory is lost and none is named, the partition
//! is offline. Nothing is hosted before the image that has this life of the broker: an older one may lack topics whose
//! logs are here, or name this broker the leader of an epoch that an earlier life of it held. A topic
//! that an image shares with the one before it, settings included, is not looked at: an image costs by what it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::log_dirs::absolute;
use super::replicas::ActiveBrokers;
use super::{Assumed, Partition, PartitionEvent, Partitions};
use crate::config::{Config, TopicSettings};
use crate::env::Env;
use crate::ids::{KafkaUuid, TopicId, TopicIdPartition, TopicName};
use crate::metadata::{ClusterImage, PartitionRegistration, ResourceKind, Settings, TopicChanges, Topics, directory};
use crate::storage::dirs::DataDir;
use crate::storage::log::PartitionLog;

/// A topic's overrides, and the settings they make over the broker's.
type Configured = (Arc<BTreeMap<String, String>>, Arc<TopicSettings>);

/// The reconciling task's state.
pub struct Reconciler {
    env: Env,
    partitions: Partitions,
    config: Arc<ArcSwap<Config>>,
    events: Vec<PartitionEvent>,
    /// This life of the broker, until an image has it.
    awaited: Option<KafkaUuid>,
    /// Logs found on disk and not yet hosted.
    found: BTreeMap<TopicIdPartition, PartitionLog>,
    /// Whether partitions of the next image may have logs that were not found.
    missing: bool,
    /// Overrides that each topic was last configured with, and the resulting settings.
    configured: BTreeMap<TopicId, Configured>,
    /// The broker's settings when topics were last configured.
    defaults: Option<Arc<Config>>,
    /// The topics of the last image, and the settings of everything in it.
    topics: Topics,
    settings: Settings,
}

impl Reconciler {
    /// Reads which logs are stored. `incarnation` is this life of the broker; a node that is no broker has none, and
    /// follows every image as it comes. A directory that cannot tell goes offline; with no other left, that is an
    /// error. Blocking; reads small rows only.
    pub fn new(
        env: &Env,
        partitions: &Partitions,
        config: Arc<ArcSwap<Config>>,
        incarnation: Option<KafkaUuid>,
    ) -> Result<Reconciler, String> {
        let mut found = BTreeMap::new();
        for directory in &partitions.0.directories {
            match directory.logs() {
                Ok(logs) => found.extend(logs.into_iter().map(|log| (log.id(), log))),
                Err(poison) => directory.engine().give_up(poison),
            }
        }
        if let Some(poison) = no_directory_left(partitions) {
            return Err(poison);
        }
        let missing = partitions.offline_directories().0 > 0;
        let (env, partitions) = (env.clone(), partitions.clone());
        Ok(Reconciler {
            env,
            partitions,
            config,
            events: Vec::new(),
            awaited: incarnation,
            found,
            missing,
            configured: BTreeMap::new(),
            defaults: None,
            topics: Topics::default(),
            settings: Settings::default(),
        })
    }

    /// Brings everything hosted in step with `image`. Returns what changed, in order.
    pub fn reconcile(&mut self, image: &ClusterImage) -> Vec<PartitionEvent> {
        let registered = image.brokers.by_id(self.partitions.node()).map(|broker| broker.incarnation);
        if self.awaited.is_some() && self.awaited != registered {
            return Vec::new();
        }
        self.awaited = None;
        let defaults = self.config.load_full();
        let TopicChanges { changed, gone } = self.changes(image, &defaults);
        let mut unwanted = Vec::new();
        for topic in gone {
            self.configured.remove(&topic.id);
            unwanted.extend(self.partitions.of_topic(topic.id));
        }
        let active = image.brokers.iter().filter(|broker| image.brokers.is_active(broker.id));
        let active = ActiveBrokers::new(active.map(|broker| (broker.id, broker.epoch)));
        self.partitions.neighbours().set_active(active);
        for topic in changed {
            let settings = self.settings_of(image, &defaults, topic.id, &topic.name);
            let mut wanted = BTreeSet::new();
            for (index, registration) in topic.partitions.iter().enumerate() {
                if !registration.replicas.contains(&self.partitions.node()) {
                    continue;
                }
                let id = TopicIdPartition { topic: topic.id, partition: index as i32 };
                wanted.insert(id);
                self.host(id, &topic.name, registration, &settings);
            }
            let hosted = self.partitions.of_topic(topic.id).into_iter();
            unwanted.extend(hosted.filter(|partition| !wanted.contains(&partition.id())));
        }
        self.drop_unwanted(unwanted);
        self.missing = false;
        self.partitions.0.reconciled.send_replace(image.index.next_offset);
        std::mem::take(&mut self.events)
    }

    /// The topics to look at: those that are different, or are configured differently. All of them if the broker's own
    /// settings have changed.
    fn changes(&mut self, image: &ClusterImage, defaults: &Arc<Config>) -> TopicChanges {
        let mut changes = image.topics.changes_since(&self.topics);
        if self.defaults.as_ref().is_some_and(|held| Arc::ptr_eq(held, defaults)) {
            let names = image.settings.changed_since(&self.settings, ResourceKind::Topic);
            let configured = names.iter().filter_map(|name| image.topics.by_name(name));
            let known: BTreeSet<TopicId> = changes.changed.iter().map(|topic| topic.id).collect();
            changes.changed.extend(configured.filter(|topic| !known.contains(&topic.id)).cloned());
        } else {
            self.configured.clear();
            self.defaults = Some(defaults.clone());
            changes.changed = image.topics.iter().cloned().collect();
        }
        self.topics = image.topics.clone();
        self.settings = image.settings.clone();
        changes
    }

    fn settings_of(
        &mut self,
        image: &ClusterImage,
        defaults: &Config,
        id: TopicId,
        name: &TopicName,
    ) -> (Arc<TopicSettings>, bool) {
        let overrides = image.settings.of(ResourceKind::Topic, name);
        if let Some((held, settings)) = self.configured.get(&id)
            && *held == overrides
        {
            return (settings.clone(), false);
        }
        let settings = Arc::new(defaults.topic(&overrides));
        self.configured.insert(id, (overrides, settings.clone()));
        (settings, true)
    }

    fn host(
        &mut self,
        id: TopicIdPartition,
        topic: &TopicName,
        registration: &PartitionRegistration,
        (settings, changed): &(Arc<TopicSettings>, bool),
    ) {
        let partition = match self.partitions.hosted(id) {
            Ok(partition) => {
                if *changed {
                    partition.configure(settings.clone());
                }
                partition
            }
            Err(_) => {
                let assigned = registration.directory(self.partitions.node());
                let partition = Arc::new(self.take_up(id, topic, assigned, settings));
                self.partitions.0.hosted.write().insert(id, partition.clone());
                partition
            }
        };
        let assigned = registration.directory(self.partitions.node());
        if partition.directory().is_some_and(|here| here != assigned) {
            self.partitions.neighbours().misplaced.add(id);
        }
        match partition.assume(registration) {
            Some(Assumed::Leading(epoch)) => self.events.push(PartitionEvent::Leading(partition, epoch)),
            Some(Assumed::Following(epoch)) => self.events.push(PartitionEvent::Following(partition, epoch)),
            None => {}
        }
    }

    fn take_up(
        &mut self,
        id: TopicIdPartition,
        topic: &TopicName,
        assigned: KafkaUuid,
        settings: &Arc<TopicSettings>,
    ) -> Partition {
        let stored = self.found.remove(&id).or_else(|| {
            let home = if directory::is_reserved(assigned) {
                if self.missing { None } else { self.roomiest() }
            } else {
                // The log lies, or is to lie, in a directory that is not there any more: it is offline.
                self.healthy().find(|directory| directory.id == assigned)
            };
            self.begin_log(id, topic, home?)
        });
        let neighbours = self.partitions.neighbours();
        match stored {
            Some(log) => Partition::host(&self.env, neighbours, topic.clone(), log, settings.clone()),
            None => Partition::lost(&self.env, neighbours, id, topic.clone(), settings.clone()),
        }
    }

    fn begin_log(&self, id: TopicIdPartition, topic: &TopicName, home: &DataDir) -> Option<PartitionLog> {
        // The log's row is queued before any batch of it, so it needs no wait of its own.
        let begun = home.create_log(id, |_| {});
        begun
            .inspect_err(|poison| {
                tracing::error!(topic = %topic, partition = id.partition, %poison, "cannot create a log");
            })
            .ok()
    }

    fn healthy(&self) -> impl Iterator<Item = &Arc<DataDir>> {
        self.partitions.0.directories.iter().filter(|directory| directory.engine().poison().is_none())
    }

    /// The healthy directory that hosts the fewest partitions (Kafka's rule for a new log); a cordoned one only if
    /// there is no other (KIP-1066).
    fn roomiest(&self) -> Option<&Arc<DataDir>> {
        let config = self.config.load();
        let cordoned = &config.broker().cordoned_log_dirs;
        let is_cordoned = |path: &Path| cordoned.iter().any(|one| one == "*" || Path::new(one) == path);
        self.healthy().min_by_key(|directory| (is_cordoned(&absolute(&directory.path)), directory.logs_open()))
    }

    fn drop_unwanted(&mut self, unwanted: Vec<Arc<Partition>>) {
        let mut deleted = false;
        for partition in unwanted {
            self.partitions.0.hosted.write().remove(&partition.id());
            partition.destroy();
            deleted = true;
            self.events.push(PartitionEvent::Gone(partition));
        }
        for (_, log) in std::mem::take(&mut self.found) {
            let id = log.id();
            tracing::info!(log = ?id, "deleting the log of a deleted topic");
            if let Err(poison) = log.destroy() {
                tracing::warn!(log = ?id, %poison, "the log of a deleted topic stays until the next start");
            }
            deleted = true;
        }
        if deleted {
            let (env, partitions) = (self.env.clone(), self.partitions.clone());
            self.env.spawn(async move { partitions.reclaim(&env).await });
        }
    }
}

/// Why nothing can be hosted.
fn no_directory_left(partitions: &Partitions) -> Option<String> {
    let mut failures = Vec::new();
    for directory in &partitions.0.directories {
        failures.push(format!("{}: {}", directory.path.display(), directory.engine().poison()?));
    }
    Some(failures.join("; "))
}
