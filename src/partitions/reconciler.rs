//! Makes what is hosted match the cluster image: creates, takes leadership, configures, deletes. One task, one image at
//! a time.
//!
//! Invariants: a partition is hosted at most once; a log whose topic id is in no image belongs to a deleted topic and
//! is deleted; `reconciled` moves only after every partition of an image is in its role. A log is begun in the
//! directory that the controller names. If that is not there, the partition is offline, as its log may come back with
//! the disk; only if no directory is offline and another broker leads, the disk counts as replaced, and the log is
//! begun anew, to be fetched, where there is room (`Partition.createLogInAssignedDirectoryId`). If a directory is lost
//! at the start and none is named, the partition is offline. Nothing is hosted before the image that has this life of
//! the broker: an older one may lack topics whose logs are here, or name this broker the leader of an epoch that an
//! earlier life of it held. A topic that an image shares with the one before it, settings included, is not looked at:
//! an image costs by what it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::found::{Found, Open};
use super::log_dirs::absolute;
use super::replicas::ActiveBrokers;
use super::{Assumed, Partition, PartitionEvent, Partitions};
use crate::config::{Config, TopicSettings};
use crate::env::Env;
use crate::ids::{KafkaUuid, PartitionIndex, TopicId, TopicIdPartition, TopicName};
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
    /// Logs found on disk and not yet hosted; several of a partition that was moving between directories, or if a
    /// directory came back after it was replaced.
    found: BTreeMap<TopicIdPartition, Vec<PartitionLog>>,
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
        let mut found: BTreeMap<TopicIdPartition, Vec<PartitionLog>> = BTreeMap::new();
        for directory in &partitions.0.directories {
            match directory.logs() {
                Ok(logs) => logs.into_iter().for_each(|log| found.entry(log.id()).or_default().push(log)),
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
        // Before another topic of the same name comes: whoever hears of both knows them by their name.
        let mut deleted = self.drop_hosted(unwanted);
        let mut unwanted = Vec::new();
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
        deleted |= self.drop_hosted(unwanted);
        deleted |= self.drop_found();
        if deleted {
            let (env, partitions) = (self.env.clone(), self.partitions.clone());
            self.env.spawn(async move { partitions.reclaim(&env).await });
        }
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
        let hosted = self.partitions.hosted(id).ok();
        let partition = match hosted.filter(|held| held.directory().is_some() || !self.is_replaced(registration)) {
            Some(partition) => {
                if *changed {
                    partition.configure(settings.clone());
                }
                partition
            }
            None => {
                let partition = Arc::new(self.take_up(id, topic, registration, settings));
                self.partitions.0.hosted.write().insert(id, partition.clone());
                partition
            }
        };
        let assigned = registration.directory(self.partitions.node());
        partition.is_assigned(assigned);
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
        registration: &PartitionRegistration,
        settings: &Arc<TopicSettings>,
    ) -> Partition {
        let Found { log, future, left, junk, unknown } = self.found_of(id, registration);
        destroy(junk, "deleting a log that another has replaced, or a copy that is of no use");
        let stored = log.or_else(|| {
            if unknown { None } else { self.begin_log(id, topic, self.home_of(topic, id.partition, registration)?) }
        });
        let neighbours = self.partitions.neighbours();
        match stored {
            Some(log) => {
                let logs = (log, future, left);
                Partition::take_up(&self.env, neighbours, topic.clone(), logs, settings.clone())
            }
            None => Partition::lost(&self.env, neighbours, id, topic.clone(), settings.clone()),
        }
    }

    fn found_of(&mut self, id: TopicIdPartition, registration: &PartitionRegistration) -> Found {
        let Some(logs) = self.found.remove(&id) else { return Found::default() };
        let directories = self.healthy().map(|directory| directory.id).collect();
        let assigned = registration.directory(self.partitions.node());
        Found::sort_out(logs, &Open { directories, some_missing: self.missing, assigned })
    }

    /// Where a log is to be begun that was not found; `None` if it may be somewhere else.
    fn home_of(
        &self,
        topic: &TopicName,
        index: PartitionIndex,
        registration: &PartitionRegistration,
    ) -> Option<&Arc<DataDir>> {
        let assigned = registration.directory(self.partitions.node());
        let find = |id: KafkaUuid| self.healthy().find(|directory| directory.id == id);
        let wished = || self.partitions.take_wish(topic, index).and_then(find);
        if directory::is_reserved(assigned) {
            return if self.missing { None } else { wished().or_else(|| self.roomiest()) };
        }
        match find(assigned) {
            Some(home) => Some(wished().unwrap_or(home)),
            None if self.is_replaced(registration) => wished().or_else(|| self.roomiest()),
            None => None,
        }
    }

    /// True if the log of this replica lay on a disk that was replaced, and there is a leader to fetch it from. A disk
    /// that is only not mounted looks the same, so the one copy that there is is never begun anew.
    fn is_replaced(&self, registration: &PartitionRegistration) -> bool {
        let node = self.partitions.node();
        let assigned = registration.directory(node);
        let is_here = self.partitions.directories().any(|(directory, _)| directory == assigned);
        let is_led_elsewhere = registration.leader.is_some_and(|leader| leader != node);
        let all_online = self.partitions.offline_directories().0 == 0;
        is_led_elsewhere && all_online && !is_here && !directory::is_reserved(assigned)
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

    /// Deletes partitions; true if there were any.
    fn drop_hosted(&mut self, unwanted: Vec<Arc<Partition>>) -> bool {
        let deleted = !unwanted.is_empty();
        for partition in unwanted {
            self.partitions.0.hosted.write().remove(&partition.id());
            partition.destroy();
            self.events.push(PartitionEvent::Gone(partition));
        }
        deleted
    }

    /// Deletes the logs that no partition has taken up; true if there were any.
    fn drop_found(&mut self) -> bool {
        let mut deleted = false;
        for logs in std::mem::take(&mut self.found).into_values() {
            destroy(logs, "deleting the log of a deleted topic");
            deleted = true;
        }
        deleted
    }
}

fn destroy(logs: Vec<PartitionLog>, why: &str) {
    for log in logs {
        let id = log.id();
        tracing::info!(log = ?id, why);
        if let Err(poison) = log.destroy() {
            tracing::warn!(log = ?id, %poison, "a log that nobody needs stays until the next start");
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Sources;
    use crate::ids::BrokerId;
    use crate::metadata::{Broker, MetadataRecord, PartitionChange};
    use crate::partitions::Neighbours;
    use crate::storage::dirs::DirOptions;
    use crate::storage::engine::{EngineOptions, MemoryDisk};

    const LIFE: KafkaUuid = KafkaUuid(7);

    fn reconciler(env: &Env) -> Reconciler {
        let engine = EngineOptions { sync: true, value_file_bytes_max: 1 << 20, direct: false, read_cache_bytes: 0 };
        let options = DirOptions { engine, tail_bytes: 1 << 20, reserve_bytes: 0 };
        let directory = DataDir::in_memory(env, &MemoryDisk::new(), KafkaUuid(1000), &options).unwrap();
        let neighbours = Neighbours::new(BrokerId(1), Duration::from_secs(30));
        let partitions = Partitions::new(neighbours, vec![Arc::new(directory)], Vec::new());
        let config = Config::load(Sources::default()).unwrap().config;
        Reconciler::new(env, &partitions, Arc::new(ArcSwap::from_pointee(config)), Some(LIFE)).unwrap()
    }

    fn this_broker() -> MetadataRecord {
        MetadataRecord::RegisterBroker(Broker {
            id: BrokerId(1),
            epoch: 0,
            incarnation: LIFE,
            rack: None,
            fenced: false,
            shutting_down: None,
            endpoints: Vec::new(),
            features: BTreeMap::new(),
            log_dirs: vec![KafkaUuid(1000)],
            cordoned_dirs: Vec::new(),
        })
    }

    fn registration(directory: u128) -> PartitionRegistration {
        let replicas = vec![BrokerId(1)];
        PartitionRegistration {
            isr: replicas.clone(),
            replicas,
            directories: vec![KafkaUuid(directory)],
            leader: Some(BrokerId(1)),
            ..PartitionRegistration::default()
        }
    }

    fn topic_of(id: u128, registration: PartitionRegistration) -> [MetadataRecord; 2] {
        let topic = KafkaUuid(id);
        [
            MetadataRecord::Topic { id: topic, name: "t".into() },
            MetadataRecord::Partition { topic, index: 0, registration },
        ]
    }

    fn topic(id: u128) -> [MetadataRecord; 2] {
        topic_of(id, registration(1000))
    }

    #[tokio::test]
    async fn a_topic_goes_before_another_of_its_name_comes() {
        let env = Env::real();
        let mut reconciler = reconciler(&env);
        let first = ClusterImage::default().replay(&[this_broker()]).replay(&topic(5));
        let told = |events: Vec<PartitionEvent>| -> Vec<(&'static str, u128)> {
            let word = |event: &PartitionEvent| match event {
                PartitionEvent::Leading(partition, _) => ("leading", partition.topic_id().0),
                PartitionEvent::Following(partition, _) => ("following", partition.topic_id().0),
                PartitionEvent::Gone(partition) => ("gone", partition.topic_id().0),
            };
            events.iter().map(word).collect()
        };
        assert_eq!(told(reconciler.reconcile(&first)), [("leading", 5)]);
        // The images in between were not seen.
        let last = first.replay(&[MetadataRecord::RemoveTopic { id: KafkaUuid(5) }]).replay(&topic(6));
        assert_eq!(told(reconciler.reconcile(&last)), [("gone", 5), ("leading", 6)]);
    }

    #[tokio::test]
    async fn a_log_on_a_disk_that_is_gone_is_begun_anew_once_there_is_a_leader_to_fetch_it_from() {
        let env = Env::real();
        let mut reconciler = reconciler(&env);
        let home = |reconciler: &Reconciler| {
            let id = TopicIdPartition { topic: KafkaUuid(5), partition: 0 };
            reconciler.partitions.hosted(id).unwrap().directory()
        };
        let of_two = PartitionRegistration {
            replicas: vec![BrokerId(1), BrokerId(2)],
            directories: vec![KafkaUuid(999), KafkaUuid(2000)],
            isr: vec![BrokerId(2)],
            leader: None,
            ..PartitionRegistration::default()
        };
        let image = ClusterImage::default().replay(&[this_broker()]).replay(&topic_of(5, of_two));
        assert!(reconciler.reconcile(&image).is_empty());
        assert_eq!(home(&reconciler), None, "nobody leads: the disk may come back");
        let change = PartitionChange { leader: Some(Some(BrokerId(2))), ..PartitionChange::default() };
        let led = image.replay(&[MetadataRecord::PartitionChange { topic: KafkaUuid(5), index: 0, change }]);
        let events = reconciler.reconcile(&led);
        assert!(matches!(events[..], [PartitionEvent::Following(_, 1)]));
        assert_eq!(home(&reconciler), Some(KafkaUuid(1000)));
    }

    #[tokio::test]
    async fn the_only_copy_is_never_begun_anew() {
        let env = Env::real();
        let mut reconciler = reconciler(&env);
        let image = ClusterImage::default().replay(&[this_broker()]).replay(&topic_of(5, registration(999)));
        assert!(reconciler.reconcile(&image).is_empty());
        let id = TopicIdPartition { topic: KafkaUuid(5), partition: 0 };
        assert_eq!(reconciler.partitions.hosted(id).unwrap().directory(), None);
    }
}
