//! Puts a broker together, in order, and takes it apart in reverse.
//!
//! Order: disks locked and opened, listeners bound (clients wait in the kernel's queue), quorum, partitions,
//! coordinators, then requests are served. Invariant: when [`Server::start`] returns, everything acknowledged before is
//! readable and
//! every listener answers.

mod admin;
mod announce;
mod backup;
mod disks;
mod follow;
mod lifecycle;
mod quorum;
mod yielding;

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use admin::{Answer, Order, SOCKET};
pub use disks::SimulatedDisks;

use crate::api::{Parts, Services, supported_features};
use crate::config::{BrokerSettings, Config, Loaded};
use crate::coordinator::{GroupCoordinator, GroupLimits, GroupShard};
use crate::env::Env;
use crate::http::{Collector, broker_state};
use crate::ids::{BrokerId, KafkaUuid, internal_topics};
use crate::metadata::{
    BrokerProfile, ControllerSettings, Endpoint, MetaStore, Metadata, MetadataOptions, ResourceKind, Rules, SettingMap,
    TopicDefaults,
};
use crate::network::{Limits, ListenerSetting, Listeners, Network, dispatch_to};
use crate::partitions::{
    Cleaner, DiskWatch, IsrChanges, Moves, Neighbours, Partitions, Placements, Reconciler, RetentionSweep, shrink_isrs,
};
use crate::storage::dirs::{BrokerLife, NotTaken};

use disks::{Disks, NewCluster};
use follow::Follower;
use lifecycle::{Life, Lifecycle, Stage};

/// How long a stop waits for requests in flight.
const GRACE: Duration = Duration::from_secs(2);

/// How long a start waits for the locks of its data directories, and how often it looks.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The setting that a new cluster takes over from the file of its first node.
const MIN_ISR: &str = "min.insync.replicas";

/// What a broker is started with.
pub struct Start {
    pub loaded: Loaded,
    /// `CLUSTER_ID` of the official image: the id of a new cluster.
    pub cluster_id: Option<String>,
    /// Print where it listens and what an acknowledgement means.
    pub announce: bool,
}

/// A running broker.
pub struct Server {
    env: Env,
    network: Network,
    /// `None` on a node that is no broker.
    life: Option<Life>,
    services: Arc<Services>,
    collector: Arc<Collector>,
    addresses: Vec<(String, SocketAddr)>,
    metrics_address: Option<SocketAddr>,
}

impl Server {
    /// Starts a broker on the disks its settings name. The error is a sentence for the operator.
    pub async fn start(env: Env, start: Start) -> Result<Server, String> {
        let config = &start.loaded.config;
        let new_cluster = match (&start.cluster_id, quorum::is_one_of_several(config)) {
            (Some(id), _) => NewCluster::Id(id.clone()),
            (None, true) => NewCluster::Missing,
            (None, false) => NewCluster::Draw,
        };
        let disks = open_disks(&env, config.broker().clone(), new_cluster).await?;
        Server::start_on((env, start), disks, |_| {}).await
    }

    /// Starts a broker on simulated disks. `seen` gets to see what is inside as soon as there is anything: long before
    /// the broker is ready it may be in an ISR, or the active controller.
    pub async fn start_simulated(
        env: Env,
        start: Start,
        disks: &SimulatedDisks,
        seen: impl FnOnce(&Arc<Services>),
    ) -> Result<Server, String> {
        let disks = disks.open(&env, start.loaded.config.broker())?;
        Server::start_on((env, start), disks, seen).await
    }

    async fn start_on(
        (env, start): (Env, Start),
        disks: Disks,
        seen: impl FnOnce(&Arc<Services>),
    ) -> Result<Server, String> {
        let began = env.now();
        let config = start.loaded.config.clone();
        let listeners = bind(&env, &config).await?;
        let addresses: Vec<_> = listeners.addresses().map(|(name, address)| (name.to_owned(), address)).collect();
        let data_paths = disks.paths();
        let source = backup::Source::of(&disks, &config);
        let node = BrokerId(config.broker().node_id);
        let shared_config = Arc::new(ArcSwap::from_pointee(config));
        let lag_ms_max = shared_config.load().broker().replica_lag_time_max_ms.max(0) as u64;
        let neighbours = Neighbours::new(node, Duration::from_millis(lag_ms_max));
        let partitions = Partitions::new(neighbours, disks.directories, disks.lost);
        let quorum_disk = QuorumDisk {
            store: disks.metadata,
            id: disks.directory_id,
            cluster: disks.cluster_id,
            snapshot_log_bytes: disks.snapshot_log_bytes,
        };
        let metadata = start_metadata(&env, &shared_config.load(), &partitions, quorum_disk, &addresses).await?;
        let reconciler = {
            let (env, partitions, config) = (env.clone(), partitions.clone(), shared_config.clone());
            let is_broker = config.load().has_role("broker");
            let (of_reconciler, incarnation) = (env.clone(), is_broker.then(|| metadata.incarnation()));
            of_reconciler.blocking(move || Reconciler::new(&env, &partitions, config, incarnation)).await?
        };
        let groups = coordinator(&env, &metadata, shared_config.load().broker());
        let services = Services::new(Parts {
            env: env.clone(),
            config: shared_config.clone(),
            node,
            metadata: metadata.clone(),
            partitions: partitions.clone(),
            groups: groups.clone(),
        });
        let services = Arc::new(services);
        seen(&services);
        let mut follower = Follower::new(&services, reconciler);
        follower.follow(&metadata.image());
        let settings = follower.settings();
        env.spawn(follower.run(metadata.watch()));
        let sweep = RetentionSweep { env: env.clone(), partitions: partitions.clone(), config: shared_config.clone() };
        env.spawn(sweep.clone().forget_producers());
        env.spawn(sweep.run());
        env.spawn(DiskWatch { env: env.clone(), partitions: partitions.clone() }.run());
        let moves = Moves { env: env.clone(), partitions: partitions.clone(), config: shared_config.clone() };
        env.spawn(moves.run());
        env.spawn(shrink_isrs(env.clone(), partitions.clone()));
        let reports = (env.clone(), partitions.clone(), metadata.clone());
        env.spawn(tell_controller(reports));
        if shared_config.load().broker().log_cleaner_enable {
            let partitions = partitions.clone();
            env.spawn(Cleaner { env: env.clone(), partitions, config: shared_config.clone() }.run());
        }
        let network =
            listeners.serve(Limits::of(&shared_config.load()), services.quotas.clone(), dispatch_to(services.clone()));
        env.spawn(limit(network.clone(), settings));
        let lifecycle = Lifecycle {
            env: env.clone(),
            registration: metadata.registration().clone(),
            metadata,
            partitions,
            config: shared_config.clone(),
        };
        let state = AtomicU8::new(broker_state::STARTING);
        let collector = Arc::new(Collector { services: services.clone(), network: network.stats(), state });
        let metrics_address = serve_metrics(&env, &shared_config.load(), &collector).await?;
        let is_broker = shared_config.load().has_role("broker");
        let life = is_broker.then(|| lifecycle.start());
        match &life {
            Some(life) => {
                env.spawn(show_stage(life.stages(), collector.clone()));
                life.running().await?;
            }
            None => collector.state.store(broker_state::RUNNING, Ordering::Relaxed),
        }
        network.open();
        admin::serve(&env, source, &services.partitions);
        let server = Server { env, network, life, services, collector, addresses, metrics_address };
        if start.announce {
            let took = server.env.now().duration_since(began);
            announce::announce(&server, &start.loaded.warnings, &data_paths, took);
        }
        Ok(server)
    }

    /// Name and address of every listener, with the ports that were bound.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// What handlers see; for tests that look inside.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Waits until the broker cannot go on, and says why.
    pub async fn failed(&self) -> String {
        tokio::select! {
            biased;
            why = self.services.metadata.ended() => why,
            why = self.services.partitions.all_failed() => why,
            why = async { match &self.life { Some(life) => life.failed().await, None => pending().await } } => why,
        }
    }

    /// Whether others can take over what this broker leads.
    fn leaves(&self) -> bool {
        let enabled = self.services.config.load().broker().controlled_shutdown_enable;
        enabled && self.services.metadata.image().brokers.len() > 1
    }

    /// Hands over what it leads, answers what is in flight, writes what is queued, closes the disks.
    pub async fn stop(self) {
        self.collector.state.store(broker_state::SHUTTING_DOWN, Ordering::Relaxed);
        if let Some(life) = self.life.as_ref().filter(|_| self.leaves()) {
            life.leave().await;
        }
        self.network.stop(GRACE).await;
        self.services.metadata.shutdown().await;
        let partitions = self.services.partitions.clone();
        self.env.blocking(move || partitions.close(true)).await;
        self.env.abort_all();
    }
}

/// Has the operators' port show how far the broker has come, for ever.
async fn show_stage(mut stages: watch::Receiver<Stage>, collector: Arc<Collector>) {
    loop {
        let state = match &*stages.borrow_and_update() {
            Stage::Registering => broker_state::STARTING,
            Stage::Recovering => broker_state::RECOVERY,
            // Being fenced is no state of its own: readiness tells.
            Stage::Running | Stage::Fenced => broker_state::RUNNING,
            Stage::Leaving => broker_state::PENDING_CONTROLLED_SHUTDOWN,
            Stage::Gone | Stage::Failed(_) => broker_state::SHUTTING_DOWN,
        };
        collector.state.store(state, Ordering::Relaxed);
        if stages.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the controller of ISRs and of directories, for ever.
async fn tell_controller((env, partitions, metadata): (Env, Partitions, Metadata)) {
    let isrs = IsrChanges { env: env.clone(), partitions: partitions.clone(), metadata: metadata.clone() };
    let placements = Placements { env, partitions, metadata };
    tokio::join!(isrs.run(), placements.run());
}

/// Has the network follow the settings, for ever.
async fn limit(network: Network, mut settings: watch::Receiver<Arc<Config>>) {
    loop {
        let config = settings.borrow_and_update().clone();
        network.limit(Limits::of(&config));
        if settings.changed().await.is_err() {
            return;
        }
    }
}

/// Opens the disks. A process that was just killed may still hold its locks for a moment: they are waited for.
async fn open_disks(env: &Env, settings: BrokerSettings, new_cluster: NewCluster) -> Result<Disks, String> {
    let deadline = env.now() + LOCK_PATIENCE;
    loop {
        let (of_disks, settings, new_cluster) = (env.clone(), settings.clone(), new_cluster.clone());
        match env.blocking(move || Disks::open(&of_disks, &settings, &new_cluster)).await {
            Err(NotTaken::InUse(_)) if env.now() < deadline => env.sleep(LOCK_PAUSE).await,
            Err(not_taken) => return Err(not_taken.why()),
            Ok(disks) => return Ok(disks),
        }
    }
}

async fn bind(env: &Env, config: &Config) -> Result<Listeners, String> {
    let listeners = config.listeners().iter();
    let wanted: Vec<ListenerSetting> = listeners
        .map(|listener| ListenerSetting {
            name: listener.name.clone(),
            host: listener.host.clone(),
            port: listener.port,
            controller: listener.controller,
        })
        .collect();
    Listeners::bind(env, &wanted).await.map_err(|failure| format!("listeners: {failure}"))
}

/// What the quorum needs of the disks.
struct QuorumDisk {
    store: Arc<dyn MetaStore>,
    /// The id of the directory that the store is in.
    id: KafkaUuid,
    cluster: KafkaUuid,
    snapshot_log_bytes: u64,
}

async fn start_metadata(
    env: &Env,
    config: &Config,
    partitions: &Partitions,
    disk: QuorumDisk,
    addresses: &[(String, SocketAddr)],
) -> Result<Metadata, String> {
    let broker = config.broker();
    let ports: BTreeMap<&str, u16> = addresses.iter().map(|(name, address)| (name.as_str(), address.port())).collect();
    let mut endpoints = Vec::new();
    for listener in config.listeners().iter().filter(|listener| !listener.controller) {
        let Some((host, port)) = listener.advertised.clone() else { continue };
        let bound = ports.get(listener.name.as_str()).copied().unwrap_or(port);
        let port = if port == 0 { bound } else { port };
        let protocol = listener.protocol.name().to_owned();
        endpoints.push(Endpoint { listener: listener.name.clone(), host, port, protocol });
    }
    let supported = supported_features();
    let features = supported.iter().map(|feature| (feature.name.to_owned(), (feature.min, feature.max))).collect();
    let bootstrap_features = supported.iter().filter(|feature| feature.initial > 0);
    let bootstrap_features = bootstrap_features.map(|feature| (feature.name.to_owned(), feature.initial)).collect();
    let topic_defaults = TopicDefaults {
        partitions: broker.num_partitions,
        replication_factor: i16::try_from(broker.default_replication_factor).unwrap_or(i16::MAX),
    };
    let checked = config.clone();
    let settings_check = Arc::new(move |kind: ResourceKind, name: &str, settings: &SettingMap| {
        crate::api::check_settings(&checked, kind, name, settings)
    });
    // Without syncs a crash may have taken what was acknowledged, whatever the directories remember.
    let remembering = broker.ottla_sync_before_ack.then(|| partitions.clone());
    let remembered = env.blocking(move || remembering?.remembered_life()).await;
    let previous_epoch = remembered.map_or(-1, |life| life.epoch);
    // A life that was begun and never heard of its registration has done nothing: this is it once more. Taken for
    // another it would seem that what it remembers is not what it had.
    let begun = remembered.and_then(|life| life.begun);
    let incarnation = begun.unwrap_or_else(|| env.random_uuid());
    if begun.is_none() && broker.ottla_sync_before_ack {
        partitions.begin_life(BrokerLife { epoch: previous_epoch, begun: Some(incarnation) }).await;
    }
    let options = MetadataOptions {
        store: disk.store,
        node: BrokerId(broker.node_id),
        directory: disk.id,
        cluster_id: Some(disk.cluster),
        broker: BrokerProfile {
            rack: broker.broker_rack.clone(),
            endpoints,
            features,
            log_dirs: partitions.directories().map(|(id, _)| id).collect(),
            previous_epoch,
            incarnation: Some(incarnation),
        },
        quorum: quorum::settings(config, addresses),
        bootstrap_features,
        // What counts as in sync is the cluster's to say, not each broker's (KIP-966): Kafka writes it down as well.
        bootstrap_settings: SettingMap::from([(MIN_ISR.to_owned(), broker.min_insync_replicas.to_string())]),
        rules: Rules { topic_defaults, settings_check, controller: controller_settings(config) },
        snapshot_log_bytes: disk.snapshot_log_bytes,
    };
    Metadata::start(env, options).await.map_err(|failure| failure.to_string())
}

fn controller_settings(config: &Config) -> ControllerSettings {
    let broker = config.broker();
    let millis = |value: i32| Duration::from_millis(u64::try_from(value).unwrap_or(0).max(1));
    let interval = u64::try_from(broker.leader_imbalance_check_interval_seconds).unwrap_or(0).max(1);
    ControllerSettings {
        session_timeout: millis(broker.broker_session_timeout_ms),
        heartbeat_interval: millis(broker.broker_heartbeat_interval_ms),
        broker_listener: config.inter_broker_listener(),
        min_insync_replicas: broker.min_insync_replicas,
        unclean_leader_election: broker.unclean_leader_election_enable,
        rebalance_interval: broker.auto_leader_rebalance_enable.then(|| Duration::from_secs(interval)),
    }
}

fn coordinator(env: &Env, metadata: &Metadata, broker: &BrokerSettings) -> GroupCoordinator {
    let limits = GroupLimits::from_settings(broker);
    let images = metadata.clone();
    let images = Arc::new(move || images.image());
    let patience = Duration::from_millis(u64::try_from(broker.offsets_commit_timeout_ms).unwrap_or(0).max(1));
    GroupCoordinator::new(env, internal_topics::CONSUMER_OFFSETS, images, patience, move || GroupShard::new(limits))
}

async fn serve_metrics(env: &Env, config: &Config, collector: &Arc<Collector>) -> Result<Option<SocketAddr>, String> {
    const KEY: &str = "ottla.metrics.listener";
    let wanted = config.broker().ottla_metrics_listener.trim().to_owned();
    if wanted.is_empty() {
        return Ok(None);
    }
    let parsed = wanted.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) =
        parsed.ok_or_else(|| format!("{KEY}={wanted}: expected host:port, or nothing to switch it off"))?;
    match env.net().bind(host.trim_matches(['[', ']']), port).await {
        Ok(listener) => {
            let address = listener.local_addr().map_err(|failure| format!("{KEY}={wanted}: {failure}"))?;
            env.spawn(crate::http::serve(env.clone(), listener, collector.clone()));
            Ok(Some(address))
        }
        // A second broker on a developer's machine must not fail over a port nobody asked for.
        Err(failure) if !config.is_set(KEY) => {
            tracing::warn!(%failure, "{KEY}: {wanted} is taken, metrics are not served");
            Ok(None)
        }
        Err(failure) => Err(format!("{KEY}={wanted}: cannot bind: {failure}")),
    }
}

/// The part of a path that a person needs: relative paths are shown in full.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
