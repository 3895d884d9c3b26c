//! What the cluster has agreed on, and the one way to change it.
//!
//! Words: a *record* is a fact in the metadata log; the *image* is what all records together say; an *ask* is a
//! question to the controller; a *round* is what it decides at once and proposes as one raft entry; the *index* is
//! where in the log an image stands. See `controller.rs` for the loop and `image.rs` for replay.
//!
//! Invariants: reading never waits: an image is an immutable value. Every change goes through raft, with one voter as
//! with many. What has been answered survives a crash, because the quorum syncs before it answers.

mod asks;
mod broker_asks;
mod brokers;
mod client_quotas;
#[cfg(test)]
mod cluster_tests;
mod controller;
mod directories;
mod duties;
mod features;
mod fields;
mod heartbeats;
mod image;
#[cfg(test)]
mod invariants;
mod isr;
mod leaders;
mod partition;
mod partition_change;
mod placement;
mod probes;
mod quorum;
mod reassignments;
mod record;
mod remote;
mod rules;
#[cfg(test)]
mod script;
mod sessions;
mod settings;
#[cfg(test)]
mod tests;
mod topics;
mod voters;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

pub use asks::{Elected, MutationQuota};
pub use broker_asks::PRODUCER_IDS_PER_BLOCK;
pub use brokers::{Broker, Brokers, Endpoint, Registration};
pub use client_quotas::{
    CONNECTION_CREATION_RATE, CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, ClientQuotas, PRODUCER_BYTE_RATE,
    QuotaAlteration, QuotaEntity, QuotaFilter, QuotaMap, QuotaMatch, QuotaName, QuotaValue, REQUEST_PERCENTAGE,
    duplicate as duplicate_quota_entity, part as quota_part,
};
pub use controller::{MetadataAsk, Round};
pub use directories::DirectoryAssignment;
pub use features::{FeatureUpdate, Features, UpgradeType};
pub use heartbeats::{Heartbeat, HeartbeatAnswer};
pub use image::{ActiveController, ClusterImage, ImageIndex, Misfit};
pub use isr::{AlterPartition, Altered, AlteredPartition};
pub use partition::{PartitionChange, PartitionRegistration, directory};
pub use partition_change::Election;
pub use quorum::rocks_store::RocksMetaStore;
pub use quorum::store::{MemoryStore, MetaStore, Write};
pub use quorum::stored::{StoredEntry, StoredMetadata, StoredPayload, write_bootstrap, write_first_voters};
pub use quorum::{
    Member, MemberEndpoint, QuorumReplica, QuorumSettings, QuorumState, StartError, Timing, VoterChange, VoterId,
};
pub use reassignments::{Reassignment, is_under_way};
pub use record::{BrokerChange, MetadataRecord};
pub use remote::protocol_name;
pub use rules::{ControllerSettings, Rules, SettingsCheck};
pub use sessions::Hearing;
pub use settings::{Alteration, ResourceKind, SettingAlteration, SettingChange, SettingMap, Settings};
pub use topics::{CreatedTopic, Growth, NewTopic, Topic, TopicChanges, TopicDefaults, Topics};

use crate::env::Env;
use crate::error::ApiError;
use crate::ids::{BrokerId, KafkaUuid, PartitionIndex, TopicId};
use crate::metadata::controller::{Asks, Controller, Desk, not_controller};
use crate::metadata::quorum::stored::{read_bootstrap, read_first_voters};
use crate::metadata::quorum::{Outside, Published, Quorum, QuorumOptions};
use crate::metadata::remote::Links;
use crate::metadata::sessions::Sessions;
use crate::peer::Address;

/// What a broker says of itself when it joins.
#[derive(Clone, Debug, Default)]
pub struct BrokerProfile {
    pub rack: Option<String>,
    pub endpoints: Vec<Endpoint>,
    /// Supported levels by feature name, both ends inclusive.
    pub features: BTreeMap<String, (i16, i16)>,
    /// The ids of its log directories.
    pub log_dirs: Vec<KafkaUuid>,
    /// The epoch of its earlier life, if every directory still has what it had then; else -1.
    pub previous_epoch: i64,
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
    pub quorum: QuorumSettings,
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
    published: Arc<Published>,
    part: Part,
    ended: watch::Receiver<Option<String>>,
    /// What this broker says of itself, whenever it registers.
    registration: Arc<Registration>,
    cluster_id: KafkaUuid,
    settings: Arc<ControllerSettings>,
    /// Whom this node has heard of as the controller.
    sessions: Sessions,
    /// The way to the controller when it is another node.
    links: Arc<Links>,
}

/// The part of this node in the quorum.
#[expect(clippy::large_enum_variant, reason = "there are a few handles of one node, mostly of the large kind")]
#[derive(Clone)]
enum Part {
    Controller {
        quorum: Quorum,
        asks: Asks,
        active: watch::Receiver<Option<i32>>,
        /// The listener at which every controller is found.
        listener: Option<String>,
    },
    /// It follows from outside.
    Outside { outside: Outside, end: Arc<watch::Sender<Option<String>>> },
}

impl Metadata {
    /// Starts this node's part in the metadata. A controller that is all of the quorum is active when this returns.
    /// Otherwise this returns before anything is known: controllers find each other while their listeners serve
    /// [`Metadata::peer_message`]. The broker is registered by whoever keeps it alive ([`Metadata::register_broker`],
    /// [`Metadata::heartbeat`]).
    pub async fn start(env: &Env, options: MetadataOptions) -> Result<Metadata, StartError> {
        let incarnation = env.random_uuid();
        let BrokerProfile { rack, endpoints, features, log_dirs, previous_epoch } = options.broker.clone();
        let id = options.node;
        let registration = Registration { id, incarnation, rack, endpoints, features, log_dirs, previous_epoch };
        let registration = Arc::new(registration);
        if options.quorum.controller {
            Metadata::start_controller(env, options, registration).await
        } else {
            let cluster_id = options.cluster_id.unwrap_or_default();
            let outside = Outside::start(env, options.node, options.directory, cluster_id, &options.quorum);
            let (end, ended) = watch::channel(None);
            let published = outside.published().clone();
            let part = Part::Outside { outside, end: Arc::new(end) };
            let settings = Arc::new(options.rules.controller);
            let (env, sessions, links) = (env.clone(), Sessions::default(), Arc::default());
            Ok(Metadata { env, published, part, ended, registration, cluster_id, settings, sessions, links })
        }
    }

    async fn start_controller(
        env: &Env,
        options: MetadataOptions,
        registration: Arc<Registration>,
    ) -> Result<Metadata, StartError> {
        let MetadataOptions { node, directory, snapshot_log_bytes, .. } = options;
        let store = options.store.clone();
        let read = move || Ok::<_, std::io::Error>((read_bootstrap(&*store)?, read_first_voters(&*store)?));
        let (formatted, first_voters) = env.blocking(read).await?;
        let quorum_options = QuorumOptions {
            store: options.store,
            node,
            directory,
            cluster_id: options.cluster_id.unwrap_or_default(),
            founding: options.quorum.founding(node, formatted.is_some(), first_voters)?,
            member: options.quorum.member(),
            auto_join: options.quorum.auto_join,
            seeds: options.quorum.seeds(),
            timing: options.quorum.timing,
            snapshot_log_bytes,
        };
        let listener = options.quorum.endpoints.first().map(|endpoint| endpoint.listener.clone());
        let is_dynamic = options.quorum.has_dynamic_voters();
        let quorum = Quorum::start(env, quorum_options).await?;
        let known = quorum.image().cluster_id;
        let asked = options.cluster_id.unwrap_or(known);
        if !known.is_zero() && asked != known {
            quorum.shutdown().await;
            return Err(StartError::Identity(format!("it is of cluster {known}, this is cluster {asked}")));
        }
        let cluster_id = if asked.is_zero() { env.random_uuid() } else { asked };
        let identity = ActiveController { node, directory, incarnation: registration.incarnation };
        let mut features = options.bootstrap_features;
        // Voters that are a setting are those of version 0.
        features.retain(|(name, _)| is_dynamic || name != "kraft.version");
        let bootstrap = bootstrap(cluster_id, formatted, features, options.bootstrap_settings);
        let settings = Arc::new(options.rules.controller.clone());
        let (controller, desk) = Controller::new(env, quorum.clone(), options.rules, identity, bootstrap);
        let ended = supervise(env, controller);
        let Desk { asks, active } = desk;
        let published = quorum.published().clone();
        let part = Part::Controller { quorum: quorum.clone(), asks, active, listener };
        let (sessions, links) = (Sessions::default(), Arc::default());
        let env = env.clone();
        let metadata = Metadata { env, published, part, ended, registration, cluster_id, settings, sessions, links };
        if quorum.is_alone()
            && let Err(why) = metadata.until_active().await
        {
            quorum.shutdown().await;
            return Err(StartError::Quorum(why));
        }
        metadata.env.spawn(metadata.clone().watch_the_clock());
        metadata.env.spawn(metadata.clone().look_for_the_gone());
        Ok(metadata)
    }

    /// What this broker says of itself when it registers.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Waits until this controller, which nobody can outvote, is active.
    async fn until_active(&self) -> Result<(), String> {
        let Part::Controller { active, .. } = &self.part else { return Ok(()) };
        let (mut active, ended) = (active.clone(), self.ended.clone());
        if active.wait_for(Option::is_some).await.is_err() {
            return Err(ended.borrow().clone().unwrap_or_else(|| "the metadata controller has ended".into()));
        }
        Ok(())
    }

    /// The newest image; an empty one before this node has heard of any.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.published.image()
    }

    /// Hears of every newer image; images in between may be skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.published.watch()
    }

    /// Heartbeats of brokers that this controller did not answer in time, since its start.
    pub fn timed_out_heartbeats(&self) -> u64 {
        self.sessions.timed_out_count()
    }

    /// Unclean elections that this controller has seen in the log since its start.
    pub fn unclean_elections(&self) -> u64 {
        self.published.unclean_elections()
    }

    /// True if this node is the active controller: its claim has been applied, and it still leads as far as it knows.
    pub fn is_active(&self) -> bool {
        matches!(&self.part, Part::Controller { active, .. } if active.borrow().is_some())
    }

    /// Hears when this node becomes the active controller, with its controller epoch, and when it is so no more. `None`
    /// if this node is no controller.
    pub fn watch_active(&self) -> Option<watch::Receiver<Option<i32>>> {
        match &self.part {
            Part::Controller { active, .. } => Some(active.clone()),
            Part::Outside { .. } => None,
        }
    }

    /// The newest leader of the quorum that this node knows, and where it listens.
    pub fn active_controller(&self) -> Option<(BrokerId, Address)> {
        let (id, address) = match &self.part {
            Part::Controller { quorum, .. } => quorum.leader()?,
            Part::Outside { outside, .. } => outside.leader()?,
        };
        Some((id, address?))
    }

    /// Answers a message of the private API ([`crate::wire::PRIVATE_API`]). `NOT_CONTROLLER` if this node is none.
    pub async fn peer_message(&self, body: Bytes) -> Result<Bytes, ApiError> {
        match &self.part {
            Part::Controller { quorum, .. } => Ok(quorum.answer(body).await),
            Part::Outside { .. } => Err(not_controller()),
        }
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
        match &self.part {
            Part::Controller { asks, .. } => asks.ask(ask).await,
            Part::Outside { .. } => Err(not_controller()),
        }
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
        self.ask(broker_asks::UnregisterBroker { id, returning }).await.and_then(|answer| answer)
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
        match &self.part {
            Part::Controller { quorum, .. } => {
                quorum.hand_over().await;
                quorum.shutdown().await;
            }
            Part::Outside { end, .. } => _ = end.send_replace(Some("this node has been stopped".into())),
        }
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
