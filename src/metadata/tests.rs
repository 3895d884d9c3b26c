//! The whole of metadata on a store in memory, in a runtime whose clock only moves when nobody has anything to do.

#![allow(clippy::disallowed_methods, reason = "a crash needs tasks that no Env owns")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::env::{BoxFuture, Duplex, Listener, Net};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::quorum::Proposed;

struct NoNet;

impl Net for NoNet {
    fn bind<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::Error::other("metadata opens no sockets")) })
    }

    fn connect<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        Box::pin(async { Err(io::Error::other("metadata opens no sockets")) })
    }
}

pub(super) fn simulated(seed: u64) -> Env {
    Env::simulated(seed, 1_700_000_000_000, Arc::new(NoNet))
}

pub(super) fn rules() -> Rules {
    let check: SettingsCheck = Arc::new(|_, _, settings| match settings.get("illegal") {
        Some(value) => {
            let why = format!("Unknown topic config name: illegal={value}");
            Err(ApiError::new(ErrorCode::InvalidConfig, why))
        }
        None => Ok(()),
    });
    let topic_defaults = TopicDefaults { partitions: 2, replication_factor: 1 };
    Rules { topic_defaults, settings_check: check, controller: ControllerSettings::default() }
}

pub(super) fn profile() -> BrokerProfile {
    let endpoint =
        Endpoint { listener: "PLAINTEXT".into(), host: "localhost".into(), port: 9092, protocol: "PLAINTEXT".into() };
    BrokerProfile {
        rack: None,
        endpoints: vec![endpoint],
        features: [("metadata.version", (7, 30)), ("transaction.version", (0, 2))]
            .map(|(name, range)| (name.to_owned(), range))
            .into(),
        log_dirs: vec![KafkaUuid(0x11_0000)],
        previous_epoch: -1,
    }
}

pub(super) fn options(store: &Arc<MemoryStore>) -> MetadataOptions {
    MetadataOptions {
        store: store.clone(),
        node: BrokerId(1),
        directory: KafkaUuid(10),
        cluster_id: None,
        broker: profile(),
        quorum: QuorumSettings::default(),
        bootstrap_features: vec![("metadata.version".into(), 30), ("transaction.version".into(), 2)],
        bootstrap_settings: SettingMap::from([("min.insync.replicas".into(), "2".into())]),
        rules: rules(),
        snapshot_log_bytes: SNAPSHOT_LOG_BYTES,
    }
}

async fn start(env: &Env, store: &Arc<MemoryStore>) -> Metadata {
    joined(Metadata::start(env, options(store)).await.unwrap()).await
}

/// With its broker in the cluster.
pub(super) async fn joined(metadata: Metadata) -> Metadata {
    let registration = (*metadata.registration).clone();
    metadata.ask(broker_asks::JoinCluster { registration, clean: false }).await.unwrap().unwrap();
    metadata
}

fn topic(name: &str) -> NewTopic {
    NewTopic { name: name.into(), partitions: -1, replication_factor: -1, ..NewTopic::default() }
}

pub(super) async fn create(metadata: &Metadata, name: &str) -> Result<CreatedTopic, ApiError> {
    metadata.create_topics(vec![topic(name)], false, MutationQuota::default()).await?.remove(0)
}

fn set(name: &str, key: &str, value: &str) -> SettingAlteration {
    let alteration = Alteration::Change(vec![(key.into(), SettingChange::Set(value.into()))]);
    SettingAlteration { kind: ResourceKind::Topic, name: name.into(), alteration }
}

/// What must not change when a process restarts: everything but who runs it.
fn lasting(image: &ClusterImage) -> ClusterImage {
    let mut image = ClusterImage { index: ImageIndex::default(), controller: None, ..image.clone() };
    image.brokers = Brokers::default();
    image.topics = Topics::default();
    image
}

impl Metadata {
    pub(super) fn quorum(&self) -> &Quorum {
        match &self.part {
            Part::Controller { quorum, .. } => quorum,
            Part::Outside { .. } => panic!("this node has no part in the quorum"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_cluster_starts_with_its_broker_at_work() {
    let metadata = start(&simulated(1), &MemoryStore::new()).await;
    let image = metadata.image();
    assert_eq!(image.index.controller_epoch, 1);
    assert!(!image.cluster_id.is_zero());
    assert_eq!(image.features.iter().collect::<Vec<_>>(), [("metadata.version", 30), ("transaction.version", 2)]);
    assert_eq!(image.settings.of(ResourceKind::Broker, "")["min.insync.replicas"], "2");
    let broker = image.brokers.by_id(BrokerId(1)).unwrap();
    assert!(!broker.fenced && image.brokers.is_active(BrokerId(1)));
    assert_eq!((broker.epoch, broker.incarnation), (metadata.broker_epoch(), metadata.incarnation()));
    // Claim, cluster id, two features and one setting come before the registration.
    assert_eq!(broker.epoch, 5);
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_is_in_the_image() {
    let metadata = start(&simulated(1), &MemoryStore::new()).await;
    let created = create(&metadata, "orders").await.unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 1));
    let image = metadata.image();
    let topic = image.topics.by_name("orders").unwrap();
    assert_eq!((topic.id, topic.partitions.len()), (created.id, 2));
    assert!(image.topics.by_id(created.id).is_some());

    let again = create(&metadata, "orders").await.unwrap_err();
    assert_eq!((again.code, again.message.as_str()), (ErrorCode::TopicAlreadyExists, "Topic 'orders' already exists."));

    let altered = metadata.alter_configs(vec![set("orders", "retention.ms", "7")], false).await.unwrap();
    assert_eq!(altered, [Ok(())]);
    assert_eq!(metadata.image().settings.of(ResourceKind::Topic, "orders")["retention.ms"], "7");

    assert_eq!(metadata.allocate_producer_ids().await, Ok(0..1000));
    assert_eq!(metadata.allocate_producer_ids().await, Ok(1000..2000));

    assert_eq!(metadata.delete_topics(vec![created.id], MutationQuota::default()).await.unwrap(), [Ok(())]);
    assert!(metadata.image().topics.by_name("orders").is_none());
    assert!(metadata.image().settings.of(ResourceKind::Topic, "orders").is_empty(), "they go with the topic");
}

#[tokio::test(start_paused = true)]
async fn validating_changes_nothing() {
    let metadata = start(&simulated(1), &MemoryStore::new()).await;
    let before = metadata.image();
    let answers = metadata
        .create_topics(vec![topic("a"), topic("a"), topic("bad/name")], true, MutationQuota::default())
        .await
        .unwrap();
    let codes: Vec<_> =
        answers.into_iter().map(|answer| answer.map_or_else(|error| error.code, |_| ErrorCode::None)).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::TopicAlreadyExists, ErrorCode::InvalidTopicException]);
    assert_eq!(metadata.image(), before);
}

#[tokio::test(start_paused = true)]
async fn asks_that_wait_together_share_a_round() {
    let metadata = start(&simulated(1), &MemoryStore::new()).await;
    let mut news = metadata.watch();
    news.mark_unchanged();
    let names: Vec<String> = (0..100).map(|at| format!("t{at}")).collect();
    let answers = join_all(names.iter().map(|name| create(&metadata, name))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(metadata.image().topics.len(), 100);
    let image = news.borrow_and_update().clone();
    assert_eq!(image.topics.len(), 100, "one round, one image");

    let lists = ["a", "b", "c"].map(|item| SettingAlteration {
        kind: ResourceKind::Topic,
        name: "t0".into(),
        alteration: Alteration::Change(vec![(
            "list".into(),
            SettingChange::Append { items: item.into(), base: String::new() },
        )]),
    });
    join_all(lists.map(|alteration| metadata.alter_configs(vec![alteration], false))).await;
    assert_eq!(metadata.image().settings.of(ResourceKind::Topic, "t0")["list"], "a,b,c", "none of them is lost");
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_the_same_image_and_leads_under_a_new_epoch() {
    let store = MemoryStore::new();
    let env = simulated(1);
    let first = start(&env, &store).await;
    create(&first, "orders").await.unwrap();
    first.alter_configs(vec![set("orders", "retention.ms", "7")], false).await.unwrap();
    first.allocate_producer_ids().await.unwrap();
    let before = first.image();
    first.shutdown().await;
    assert_eq!(first.ended().await, "raft stopped");
    assert_eq!(create(&first, "late").await.unwrap_err().code, ErrorCode::NotController);

    let second = start(&env, &store).await;
    let after = second.image();
    assert_eq!(lasting(&after), lasting(&before));
    assert_eq!(after.index.controller_epoch, before.index.controller_epoch + 1);
    assert!(second.broker_epoch() > first.broker_epoch());
    assert_ne!(second.incarnation(), first.incarnation());
    let (old, new) = (before.topics.by_name("orders").unwrap(), after.topics.by_name("orders").unwrap());
    assert_eq!(old.id, new.id);
    for (old, new) in old.partitions.iter().zip(&new.partitions) {
        assert_eq!((new.leader, &new.isr), (old.leader, &old.isr));
        assert_eq!(new.leader_epoch, old.leader_epoch + 2, "nobody led, then it was elected");
    }
}

/// A quorum without a controller.
fn bare(store: Arc<MemoryStore>) -> QuorumOptions {
    QuorumOptions {
        store,
        node: BrokerId(1),
        directory: KafkaUuid(10),
        cluster_id: KafkaUuid::ZERO,
        founding: QuorumSettings::default().founding(BrokerId(1), false, None).unwrap(),
        member: Member::default(),
        auto_join: false,
        seeds: Vec::new(),
        timing: Timing::default(),
        snapshot_log_bytes: u64::MAX,
    }
}

fn other_broker(metadata: &Metadata, incarnation: u128) -> Registration {
    let log_dirs = vec![KafkaUuid(0x22_0000)];
    let incarnation = KafkaUuid(incarnation);
    Registration { id: BrokerId(2), incarnation, log_dirs, previous_epoch: -1, ..(*metadata.registration).clone() }
}

async fn beat(metadata: &Metadata, id: i32, epoch: i64) -> HeartbeatAnswer {
    let heartbeat = Heartbeat {
        id: BrokerId(id),
        epoch,
        metadata_offset: metadata.image().index.next_offset - 1,
        want_fence: false,
        want_shut_down: false,
        offline_dirs: Vec::new(),
        cordoned_dirs: None,
    };
    metadata.on_heartbeat(heartbeat, None).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_fenced_and_another_leads() {
    let env = simulated(1);
    let metadata = start(&env, &MemoryStore::new()).await;
    let epoch = metadata.on_registration(other_broker(&metadata, 7), None).await.unwrap();
    assert!(!beat(&metadata, 2, epoch).await.fenced);
    let assignments = vec![(0, vec![BrokerId(2), BrokerId(1)])];
    let pair = NewTopic { assignments, ..topic("pair") };
    metadata.create_topics(vec![pair], false, MutationQuota::default()).await.unwrap().remove(0).unwrap();
    let partition = || metadata.image().topics.by_name("pair").unwrap().partitions[0].clone();
    for _ in 0..10 {
        env.sleep(Duration::from_secs(5)).await;
        beat(&metadata, 1, metadata.broker_epoch()).await;
        beat(&metadata, 2, epoch).await;
    }
    assert_eq!(partition().leader, Some(BrokerId(2)), "it was heard in time");

    let taken = metadata.on_registration(other_broker(&metadata, 8), None).await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::DuplicateBrokerRegistration);
    for _ in 0..4 {
        env.sleep(Duration::from_secs(3)).await;
        beat(&metadata, 1, metadata.broker_epoch()).await;
    }
    let fenced = |id| metadata.image().brokers.by_id(BrokerId(id)).unwrap().fenced;
    assert!(fenced(2) && !fenced(1), "only one of them is silent");
    assert_eq!((partition().leader, partition().isr), (Some(BrokerId(1)), vec![BrokerId(1)]));
    assert!(metadata.on_registration(other_broker(&metadata, 8), None).await.unwrap() > epoch);
}

#[tokio::test(start_paused = true)]
async fn who_lost_nothing_leads_again_and_who_may_have_recovers() {
    let elr = ("eligible.leader.replicas.version".to_owned(), 1);
    let options = |store: &Arc<MemoryStore>, previous_epoch| {
        let mut options = options(store);
        options.bootstrap_features.push(elr.clone());
        options.broker.features.insert(elr.0.clone(), (0, 1));
        options.broker.previous_epoch = previous_epoch;
        options
    };
    let (env, store) = (simulated(1), MemoryStore::new());
    let first = joined(Metadata::start(&env, options(&store, -1)).await.unwrap()).await;
    create(&first, "orders").await.unwrap();
    let epoch = first.broker_epoch();
    first.shutdown().await;
    let of = |metadata: &Metadata| metadata.image().topics.by_name("orders").unwrap().partitions[0].clone();

    let second = joined(Metadata::start(&env, options(&store, epoch)).await.unwrap()).await;
    let clean = of(&second);
    assert_eq!((clean.leader, clean.isr, clean.recovering), (Some(BrokerId(1)), vec![BrokerId(1)], false));
    second.shutdown().await;

    let third = joined(Metadata::start(&env, options(&store, epoch)).await.unwrap()).await;
    let unclean = of(&third);
    assert_eq!((unclean.leader, unclean.isr, unclean.recovering), (Some(BrokerId(1)), vec![BrokerId(1)], true));
    assert!(unclean.elr.is_empty() && unclean.last_known_elr.is_empty());
}

/// The image a bare quorum finds in a store, without a controller that adds to it.
async fn found_in(env: &Env, store: Arc<MemoryStore>) -> Arc<ClusterImage> {
    let quorum = Quorum::start(env, bare(store)).await.unwrap();
    let image = quorum.image();
    quorum.shutdown().await;
    image
}

#[tokio::test(start_paused = true)]
async fn replaying_the_store_gives_the_image_that_was_live() {
    let store = MemoryStore::new();
    let env = simulated(1);
    let metadata = start(&env, &store).await;
    for at in 0..20 {
        create(&metadata, &format!("t{at}")).await.unwrap();
    }
    let live = metadata.image();
    metadata.shutdown().await;
    assert_eq!(found_in(&env, store).await, live);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_no_answer_and_leaves_no_half_of_one() {
    for seed in 0..60 {
        let env = simulated(seed);
        let mut store = MemoryStore::new();
        let mut answered: Vec<String> = Vec::new();
        for life in 0..3 {
            let metadata = start(&env, &store).await;
            let image = metadata.image();
            for name in &answered {
                assert!(image.topics.by_name(name).is_some(), "seed {seed}: {name} was answered and is lost");
            }
            assert!(image.topics.iter().all(|topic| topic.partitions.len() == 2), "seed {seed}: half a topic");

            let names: Vec<String> = (0..30).map(|at| format!("life{life}-{at}")).collect();
            let asks: Vec<_> = names
                .iter()
                .map(|name| {
                    let (metadata, name) = (metadata.clone(), name.clone());
                    tokio::spawn(async move { create(&metadata, &name).await.map(|_| name) })
                })
                .collect();
            for _ in 0..env.random_below(60) {
                tokio::task::yield_now().await;
            }
            let crashed = store.crash(env.random_below(store.unsynced() as u64 + 1) as usize);
            for ask in asks {
                answered.extend(ask.await.unwrap().ok());
            }
            store = crashed;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_moment_of_a_start_is_survived() {
    for moment in 0..120 {
        let env = simulated(moment);
        let mut store = MemoryStore::new();
        let mut cluster = None;
        for life in 0..3 {
            let starting = tokio::spawn({
                let (env, options) = (env.clone(), options(&store));
                async move { Metadata::start(&env, options).await.map(|metadata| metadata.image().cluster_id) }
            });
            for _ in 0..moment {
                tokio::task::yield_now().await;
            }
            let crashed = store.crash(env.random_below(store.unsynced() as u64 + 1) as usize);
            if let Ok(started) = starting.await.unwrap() {
                assert!(cluster.is_none_or(|cluster| cluster == started), "moment {moment}, life {life}");
                cluster = Some(started);
            }
            store = crashed;
        }
        let metadata = start(&env, &store).await;
        let image = metadata.image();
        assert!(cluster.is_none_or(|cluster| cluster == image.cluster_id), "moment {moment}");
        assert_eq!(image.features.level("metadata.version"), 30);
        assert!(create(&metadata, "after").await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_needs_no_commit_point() {
    let store = MemoryStore::new();
    let env = simulated(1);
    let metadata = start(&env, &store).await;
    create(&metadata, "orders").await.unwrap();
    let live = metadata.image();
    assert_eq!(found_in(&env, store.crash(0)).await, live, "what was answered is applied before anything new");
    let next = start(&env, &store.crash(0)).await;
    assert!(next.image().topics.by_name("orders").is_some());
    create(&next, "more").await.unwrap();
    assert_eq!(next.image().topics.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_stamp_has_no_effect() {
    let env = simulated(1);
    let store = MemoryStore::new();
    let quorum = Quorum::start(&env, bare(store)).await.unwrap();
    let claim = |epoch, incarnation| MetadataRecord::ControllerClaim {
        epoch,
        node: BrokerId(1),
        directory: KafkaUuid(10),
        incarnation: KafkaUuid(incarnation),
    };
    let start = quorum.image().index;
    assert_eq!(quorum.propose(start, vec![claim(1, 1)]).await, Proposed::Applied { next: 1 });
    let after = quorum.image();
    assert_eq!(quorum.propose(start, vec![claim(1, 2)]).await, Proposed::Stale, "the epoch is taken");
    let ids = |next| vec![MetadataRecord::ProducerIds { next }];
    let wrong_offset = ImageIndex { next_offset: 0, ..after.index };
    assert_eq!(quorum.propose(wrong_offset, ids(7)).await, Proposed::Stale);
    assert_eq!(quorum.image(), after);

    // Two rounds in flight: the second expects the end of the first, so it counts exactly if the first one does.
    let second = ImageIndex { next_offset: 2, ..after.index };
    let both = (quorum.propose(after.index, ids(1000)), quorum.propose(second, ids(2000)));
    assert_eq!(futures_util::join!(both.0, both.1), (Proposed::Applied { next: 2 }, Proposed::Applied { next: 3 }));
    let third = ImageIndex { next_offset: 4, ..after.index };
    let both = (quorum.propose(wrong_offset, ids(3000)), quorum.propose(third, ids(4000)));
    assert_eq!(futures_util::join!(both.0, both.1), (Proposed::Stale, Proposed::Stale));
    assert_eq!(quorum.image().producer_ids, 2000);
}

#[tokio::test(start_paused = true)]
async fn a_controller_of_an_earlier_life_changes_nothing_any_more() {
    let env = simulated(1);
    let metadata = start(&env, &MemoryStore::new()).await;
    // Somebody claims the next epoch behind the controller's back.
    let index = metadata.image().index;
    let claim = MetadataRecord::ControllerClaim {
        epoch: index.controller_epoch + 1,
        node: BrokerId(1),
        directory: KafkaUuid(10),
        incarnation: KafkaUuid(99),
    };
    assert!(matches!(metadata.quorum().propose(index, vec![claim]).await, Proposed::Applied { .. }));
    assert_eq!(create(&metadata, "a").await.unwrap_err().code, ErrorCode::NotController);
    assert!(create(&metadata, "a").await.is_ok(), "it has claimed anew");
    assert_eq!(metadata.image().index.controller_epoch, index.controller_epoch + 2);
}

#[tokio::test(start_paused = true)]
async fn snapshots_replace_the_log() {
    let env = simulated(1);
    let store = MemoryStore::new();
    let small = || MetadataOptions { snapshot_log_bytes: 4096, ..options(&store) };
    let metadata = joined(Metadata::start(&env, small()).await.unwrap()).await;
    for at in 0..300 {
        create(&metadata, &format!("t{at}")).await.unwrap();
        metadata.alter_configs(vec![set(&format!("t{at}"), "k", "v")], false).await.unwrap();
    }
    env.sleep(Duration::from_secs(5)).await;
    let live = metadata.image();
    metadata.shutdown().await;
    assert!(store.get(b"s").unwrap().is_some(), "there is a snapshot");
    let entries = store.scan(b"e", b"f").unwrap().len();
    assert!(entries < 150, "{entries} of more than 600 entries are left");
    assert_eq!(found_in(&env, store.clone()).await, live);
    let again = joined(Metadata::start(&env, small()).await.unwrap()).await;
    assert_eq!(again.image().topics.len(), 300);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_lives_the_same_life() {
    async fn life(seed: u64) -> Vec<(ImageIndex, Vec<TopicId>)> {
        let env = simulated(seed);
        let store = MemoryStore::new();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let metadata = start(&env, &store).await;
            for at in 0..10 {
                let names: Vec<String> = (0..at).map(|other| format!("{at}-{other}")).collect();
                join_all(names.iter().map(|name| create(&metadata, name))).await;
                let image = metadata.image();
                seen.push((image.index, image.topics.iter().map(|topic| topic.id).collect()));
            }
            metadata.shutdown().await;
        }
        seen
    }
    assert_eq!(life(7).await, life(7).await);
    assert_ne!(life(7).await, life(8).await);
}

#[tokio::test(start_paused = true)]
async fn a_store_serves_only_its_own_node_and_cluster() {
    let env = simulated(1);
    let store = MemoryStore::new();
    let metadata = start(&env, &store).await;
    let cluster_id = metadata.image().cluster_id;
    metadata.shutdown().await;
    let refused = async |changed: MetadataOptions| match Metadata::start(&env, changed).await {
        Err(StartError::Identity(_)) => true,
        Err(other) => panic!("{other}"),
        Ok(_) => false,
    };
    assert!(refused(MetadataOptions { node: BrokerId(2), ..options(&store) }).await);
    assert!(refused(MetadataOptions { directory: KafkaUuid(77), ..options(&store) }).await);
    assert!(refused(MetadataOptions { cluster_id: Some(KafkaUuid(5)), ..options(&store) }).await);
    assert!(!refused(MetadataOptions { cluster_id: Some(cluster_id), ..options(&store) }).await);
}

#[tokio::test(start_paused = true)]
async fn a_broker_too_old_for_the_cluster_does_not_join() {
    let env = simulated(1);
    let store = MemoryStore::new();
    start(&env, &store).await.shutdown().await;
    let mut old = options(&store);
    old.broker.features.insert("metadata.version".into(), (7, 20));
    let metadata = Metadata::start(&env, old).await.unwrap();
    let refused = metadata.register_broker((*metadata.registration).clone()).await.unwrap_err().to_string();
    let why = "Unable to register because the broker does not support finalized version 30 of metadata.version. The \
               broker wants a version between 7 and 20, inclusive.";
    assert!(refused.contains(why), "{refused}");
}

/// A store whose disk can fail.
struct Failing {
    inner: Arc<MemoryStore>,
    broken: AtomicBool,
}

impl MetaStore for Failing {
    fn put_many(&self, writes: Vec<Write>, sync: bool) -> io::Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.inner.put_many(writes, sync)
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.inner.scan(from, to)
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_disk_ends_it_and_promises_nothing() {
    let env = simulated(1);
    let inner = MemoryStore::new();
    let store = Arc::new(Failing { inner: inner.clone(), broken: AtomicBool::new(false) });
    let metadata =
        joined(Metadata::start(&env, MetadataOptions { store: store.clone(), ..options(&inner) }).await.unwrap()).await;
    store.broken.store(true, Ordering::Relaxed);
    let answer = create(&metadata, "a").await.unwrap_err();
    assert_eq!(answer.code, ErrorCode::RequestTimedOut, "it may or may not exist");
    let reason = metadata.ended().await;
    assert!(reason.contains("the disk is gone"), "{reason}");
    assert_eq!(create(&metadata, "b").await.unwrap_err().code, ErrorCode::NotController);
}
