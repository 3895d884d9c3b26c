//! Follows the cluster image: settings and quotas first, then partitions, then coordinators and fetchers.
//!
//! Invariant: one task does all of it, image by image, so that a partition is never hosted with settings older than its
//! image, and a coordinator never starts before its partition leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::api::Services;
use crate::api::quotas::Quotas;
use crate::config::Config;
use crate::coordinator::{GroupAnswer, GroupAsk, GroupCoordinator, PartitionJournal};
use crate::env::Env;
use crate::ids::{BrokerId, TopicId, TopicName, internal_topics};
use crate::metadata::{ClusterImage, ResourceKind, Topics};
use crate::partitions::{Fetchers, PartitionEvent, Reconciler};

/// Times that shards are asked again to forget the offsets of deleted topics; each time a batch of tombstones goes.
const FORGET_ROUNDS_MAX: usize = 1000;

/// Has every shard forget the offsets of deleted topics. A shard that is loading keeps them until they expire.
async fn forget_offsets(groups: GroupCoordinator, deleted: Vec<(TopicName, TopicId)>) {
    for _ in 0..FORGET_ROUNDS_MAX {
        let answers = groups.ask_all(|| GroupAsk::TopicsDeleted(deleted.clone())).await;
        if !answers.iter().any(|answer| matches!(answer, GroupAnswer::TopicsDeleted { more: true })) {
            return;
        }
    }
}

type SettingMaps = (Arc<BTreeMap<String, String>>, Arc<BTreeMap<String, String>>);

/// The following task's state.
pub(super) struct Follower {
    env: Env,
    node: BrokerId,
    /// The settings without dynamic ones.
    base: Arc<Config>,
    config: Arc<ArcSwap<Config>>,
    dynamic: SettingMaps,
    /// Tells of every change of `config`.
    changes: watch::Sender<Arc<Config>>,
    quotas: Arc<Quotas>,
    /// The topics of the last image.
    topics: Topics,
    reconciler: Reconciler,
    fetchers: Fetchers,
    groups: GroupCoordinator,
}

impl Follower {
    pub(super) fn new(services: &Services, reconciler: Reconciler) -> Follower {
        Follower {
            env: services.env.clone(),
            node: services.node,
            base: services.config.load_full(),
            config: services.config.clone(),
            dynamic: SettingMaps::default(),
            changes: watch::Sender::new(services.config.load_full()),
            quotas: services.quotas.clone(),
            topics: Topics::default(),
            reconciler,
            fetchers: Fetchers::new(&services.env, &services.partitions, services.config.clone()),
            groups: services.groups.clone(),
        }
    }

    /// Hears of every change of the settings.
    pub(super) fn settings(&self) -> watch::Receiver<Arc<Config>> {
        self.changes.subscribe()
    }

    /// Follows every newer image, for ever.
    pub(super) async fn run(mut self, mut images: watch::Receiver<Arc<ClusterImage>>) {
        loop {
            let image = images.borrow_and_update().clone();
            self.follow(&image);
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes one image into effect.
    pub(super) fn follow(&mut self, image: &ClusterImage) {
        self.follow_settings(image);
        self.quotas.follow(&image.client_quotas);
        for event in self.reconciler.reconcile(image) {
            self.hear(event);
        }
        self.fetchers.follow(image);
        self.follow_deletions(image);
    }

    fn follow_settings(&mut self, image: &ClusterImage) {
        let of = |name: &str| image.settings.of(ResourceKind::Broker, name);
        let dynamic = (of(""), of(&self.node.to_string()));
        if dynamic != self.dynamic {
            let config = Arc::new(self.base.with_dynamic(&dynamic.0, &dynamic.1));
            self.config.store(Arc::clone(&config));
            self.changes.send_replace(config);
            self.dynamic = dynamic;
        }
    }

    fn hear(&self, event: PartitionEvent) {
        match event {
            PartitionEvent::Leading(partition, epoch) if &**partition.topic() == internal_topics::CONSUMER_OFFSETS => {
                let index = partition.index();
                self.groups.start(index, Arc::new(PartitionJournal::new(partition, epoch)));
            }
            PartitionEvent::Following(partition, _) | PartitionEvent::Gone(partition)
                if &**partition.topic() == internal_topics::CONSUMER_OFFSETS =>
            {
                self.groups.stop(partition.index());
            }
            PartitionEvent::Leading(..) | PartitionEvent::Following(..) | PartitionEvent::Gone(_) => {}
        }
    }

    /// Committed offsets of a deleted topic go with it.
    fn follow_deletions(&mut self, image: &ClusterImage) {
        let gone = image.topics.changes_since(&self.topics).gone.into_iter();
        let theirs = gone.filter(|topic| !internal_topics::is_internal(&topic.name));
        let deleted: Vec<(TopicName, TopicId)> = theirs.map(|topic| (topic.name.clone(), topic.id)).collect();
        self.topics = image.topics.clone();
        if !deleted.is_empty() {
            self.env.spawn(forget_offsets(self.groups.clone(), deleted));
        }
    }
}
