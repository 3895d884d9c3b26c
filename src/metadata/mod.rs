//! What the cluster has agreed on, and the one way to change it.
//!
//! Words: a *record* is a fact in the metadata log; the *image* is what all records together say; an *ask* is a
//! question to the controller; a *round* is what it decides at once and proposes as one raft entry; the *index* is
//! where in the log an image stands. See `controller.rs` for the loop and `image.rs` for replay.
//!
//! Invariants: reading never waits: an image is an immutable value. Every change goes through raft, with one voter as
//! with many. What has been answered survives a crash, because the quorum syncs before it answers.

mod asks;
mod brokers;
mod client_quotas;
mod controller;
mod features;
mod fields;
mod image;
mod leaders;
mod placement;
mod quorum;
mod reassignments;
mod record;
#[cfg(test)]
mod script;
mod settings;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::watch;

pub use asks::{Elected, MutationQuota, PRODUCER_IDS_PER_BLOCK};
pub use brokers::{Broker, Brokers, Endpoint, Registration};
pub use client_quotas::{
    CONNECTION_CREATION_RATE, CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, ClientQuotas, PRODUCER_BYTE_RATE,
    QuotaAlteration, QuotaEntity, QuotaFilter, QuotaMap, QuotaMatch, QuotaName, QuotaValue, REQUEST_PERCENTAGE,
    duplicate as duplicate_quota_entity, part as quota_part,
};
pub use controller::{MetadataAsk, Round};
pub use features::{FeatureUpdate, Features, UpgradeType};
pub use image::{ActiveController, ClusterImage, ImageIndex, Misfit};
pub use leaders::Election;
pub use quorum::StartError;
pub use quorum::rocks_store::RocksMetaStore;
pub use quorum::store::{MemoryStore, MetaStore, Write};
pub use quorum::stored::{StoredEntry, StoredMetadata, StoredPayload, write_bootstrap};
pub use reassignments::{Reassignment, is_under_way};
pub use record::{BrokerChange, MetadataRecord};
pub use settings::{
    Alteration, ResourceKind, Rules, SettingAlteration, SettingChange, SettingMap, Settings, SettingsCheck,
};
pub use topics::{
    CreatedTopic, Growth, NewTopic, PartitionChange, PartitionRegistration, Topic, TopicChanges, TopicDefaults, Topics,
};

use crate::env::Env;
use crate::error::ApiError;
use crate::ids::{BrokerId, KafkaUuid, PartitionIndex, ProducerId, TopicId};
use crate::metadata::controller::{Asks, Controller};
use crate::metadata::quorum::stored::read_bootstrap;
use crate::metadata::quorum::{Quorum, QuorumOptions};

/// What a broker says of itself when it joins.
#[derive(Clone, Debug, Default)]
pub struct BrokerProfile {
    pub rack: Option<String>,
    pub endpoints: Vec<Endpoint>,
    /// Supported levels by feature name, both ends inclusive.
    pub features: BTreeMap<String, (i16, i16)>,
    /// The ids of its log directories.
    pub log_dirs: Vec<KafkaUuid>,
}

/// What the metadata of a node is started with.
pub struct MetadataOptions {
    /// The store of the metadata directory.
    pub store: Arc<dyn MetaStore>,
    pub node: BrokerId,
    /// The id of the metadata directory.
    pub directory: KafkaUuid,
    /// The cluster this node must belong to; a new cluster without one draws its own.
    pub cluster_id: Option<KafkaUuid>,
    pub broker: BrokerProfile,
    /// Levels a new cluster finalizes.
    pub bootstrap_features: Vec<(String, i16)>,
    /// Cluster-wide broker settings that a new cluster writes down.
    pub bootstrap_settings: SettingMap,
    pub rules: Rules,
    /// The log is replaced by a snapshot when it is heavier than this, and than the last snapshot:
    /// [`SNAPSHOT_LOG_BYTES`] unless a test wants snapshots.
    pub snapshot_log_bytes: u64,
}

/// Keeps the replay at a start below a few milliseconds.
pub const SNAPSHOT_LOG_BYTES: u64 = 1 << 20;

/// The metadata of the cluster, as this node knows it. Cheap to clone.
#[derive(Clone)]
pub struct Metadata {
    env: Env,
    quorum: Quorum,
    asks: Asks,
    ended: watch::Receiver<Option<String>>,
    /// What this broker says of itself, whenever it registers.
    registration: Arc<Registration>,
}

impl Metadata {
    /// Starts this node as the only voter, and as a broker of its own cluster: when this returns, its controller is
    /// active and the broker is registered and unfenced, under a new epoch.
    pub async fn start(env: &Env, options: MetadataOptions) -> Result<Metadata, StartError> {
        let MetadataOptions { ref store, node, directory, snapshot_log_bytes, .. } = options;
        let store = store.clone();
        let quorum = Quorum::start(env, QuorumOptions { store, node, directory, snapshot_log_bytes }).await?;
        let known = quorum.image().cluster_id;
        let asked = options.cluster_id.unwrap_or(known);
        if !known.is_zero() && asked != known {
            quorum.shutdown().await;
            return Err(StartError::Identity(format!("it is of cluster {known}, this is cluster {asked}")));
        }
        let cluster_id = if asked.is_zero() { env.random_uuid() } else { asked };
        let incarnation = env.random_uuid();
        let identity = ActiveController { node, directory, incarnation };
        let formatted = {
            let store = options.store.clone();
            env.blocking(move || read_bootstrap(&*store)).await?
        };
        let bootstrap = bootstrap(cluster_id, formatted, options.bootstrap_features, options.bootstrap_settings);
        let (controller, asks) = Controller::new(env, quorum.clone(), options.rules, identity, bootstrap);
        let ended = supervise(env, controller);

        let BrokerProfile { rack, endpoints, features, log_dirs } = options.broker;
        let registration = Arc::new(Registration { id: node, incarnation, rack, endpoints, features, log_dirs });
        let join = asks::JoinCluster { registration: (*registration).clone() };
        match asks.ask(join).await.and_then(|joined| joined) {
            Ok(_) => Ok(Metadata { env: env.clone(), quorum, asks, ended, registration }),
            Err(refused) => {
                quorum.shutdown().await;
                Err(StartError::Quorum(format!("cannot join the cluster: {refused}")))
            }
        }
    }

    /// The newest image.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.quorum.image()
    }

    /// Hears of every newer image; images in between may be skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.quorum.watch()
    }

    /// The epoch under which this broker is registered; -1 if it is not.
    pub fn broker_epoch(&self) -> i64 {
        self.image().brokers.by_id(self.registration.id).map_or(-1, |broker| broker.epoch)
    }

    /// The id of this life of the process.
    pub fn incarnation(&self) -> KafkaUuid {
        self.registration.incarnation
    }

    /// Asks the controller and waits until the answer is applied. `NOT_CONTROLLER`: it had no effect, ask again.
    /// `REQUEST_TIMED_OUT`: it may have an effect.
    pub async fn ask<A: MetadataAsk>(&self, ask: A) -> Result<A::Answer, ApiError> {
        self.asks.ask(ask).await
    }

    /// Creates topics as far as `quota` goes; answers in the order of `topics`. With `validate` it only says what would
    /// happen.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate: bool,
        quota: MutationQuota,
    ) -> Result<Vec<Result<CreatedTopic, ApiError>>, ApiError> {
        let topics = topics.into_iter().map(|topic| (topic, self.env.random_uuid())).collect();
        self.ask(asks::CreateTopics { topics, seed: self.env.random_u64(), validate, quota }).await
    }

    /// Deletes topics as far as `quota` goes; answers in the order of `ids`.
    pub async fn delete_topics(
        &self,
        ids: Vec<TopicId>,
        quota: MutationQuota,
    ) -> Result<Vec<Result<(), ApiError>>, ApiError> {
        self.ask(asks::DeleteTopics { ids, quota }).await
    }

    /// Adds partitions to topics as far as `quota` goes; answers in the order of `growths`.
    pub async fn create_partitions(
        &self,
        growths: Vec<Growth>,
        validate: bool,
        quota: MutationQuota,
    ) -> Result<Vec<Result<(), ApiError>>, ApiError> {
        self.ask(asks::CreatePartitions { growths, seed: self.env.random_u64(), validate, quota }).await
    }

    /// Alters settings, each resource completely or not at all; answers in the order of `alterations`.
    pub async fn alter_configs(
        &self,
        alterations: Vec<SettingAlteration>,
        validate: bool,
    ) -> Result<Vec<Result<(), ApiError>>, ApiError> {
        self.ask(asks::AlterSettings { alterations, validate }).await
    }

    /// Alters client quotas, each entity completely or not at all; answers in the order of `alterations`.
    pub async fn alter_client_quotas(
        &self,
        alterations: Vec<QuotaAlteration>,
        validate: bool,
    ) -> Result<Vec<Result<(), ApiError>>, ApiError> {
        self.ask(asks::AlterClientQuotas { alterations, validate }).await
    }

    /// Reserves [`PRODUCER_IDS_PER_BLOCK`] producer ids that nobody else gets.
    pub async fn allocate_producer_ids(&self) -> Result<Range<ProducerId>, ApiError> {
        self.ask(asks::AllocateProducerIds).await
    }

    /// Finalizes feature levels: all of them, or none.
    pub async fn update_features(&self, updates: Vec<FeatureUpdate>, validate: bool) -> Result<(), ApiError> {
        self.ask(asks::UpdateFeatures { updates, validate }).await.and_then(|answer| answer)
    }

    /// Elects leaders of these partitions, or of all that need it.
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<Vec<(String, PartitionIndex)>>,
    ) -> Result<Vec<Elected>, ApiError> {
        self.ask(asks::ElectLeaders { election, partitions }).await
    }

    /// Moves replicas, or calls moves off; answers in the order of `reassignments`.
    pub async fn reassign(
        &self,
        reassignments: Vec<Reassignment>,
        factor_may_change: bool,
    ) -> Result<Vec<Result<(), ApiError>>, ApiError> {
        self.ask(asks::Reassign { reassignments, factor_may_change }).await
    }

    /// Takes a broker out of the cluster. This broker, which is alive, is back at once under a new epoch.
    pub async fn unregister_broker(&self, id: BrokerId) -> Result<(), ApiError> {
        let returning = (id == self.registration.id).then(|| (*self.registration).clone());
        self.ask(asks::UnregisterBroker { id, returning }).await.and_then(|answer| answer)
    }

    /// Waits until this node can no longer take part in the quorum, and says why. The process must end then.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the metadata controller has been aborted".into(),
        }
    }

    /// Ends in good order; [`Metadata::ended`] returns.
    pub async fn shutdown(&self) {
        self.quorum.shutdown().await;
    }
}

/// The first records of a cluster's life. Those the directory was formatted with take the place of `features`.
fn bootstrap(
    cluster_id: KafkaUuid,
    formatted: Option<Vec<MetadataRecord>>,
    features: Vec<(String, i16)>,
    settings: SettingMap,
) -> Vec<MetadataRecord> {
    let level = |(name, level)| MetadataRecord::FeatureLevel { name, level };
    let levels = formatted.unwrap_or_else(|| features.into_iter().map(level).collect());
    let settings = settings.into_iter().map(|(key, value)| MetadataRecord::Config {
        kind: ResourceKind::Broker,
        name: String::new(),
        key,
        value: Some(value),
    });
    std::iter::once(MetadataRecord::ClusterId { id: cluster_id }).chain(levels).chain(settings).collect()
}

/// Runs the controller and tells when it has ended, be it by a panic.
fn supervise(env: &Env, controller: Controller) -> watch::Receiver<Option<String>> {
    let (tell, ended) = watch::channel(None);
    let run = env.spawn(controller.run());
    env.spawn(async move {
        let reason = run.await.unwrap_or_else(|failure| format!("the metadata controller failed: {failure}"));
        tell.send_replace(Some(reason));
    });
    ended
}
