//! Several controllers, and brokers outside the quorum, in one process over a network in memory.

#![allow(clippy::disallowed_methods, reason = "a crash needs tasks that no Env owns")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::{create, options, rules};
use super::*;
use crate::env::Duplex;
use crate::env::memory::MemoryNetwork;
use crate::error::ErrorCode;
use crate::wire::PRIVATE_API;
use crate::wire::frame::FrameBuffer;
use crate::wire::header;

const PORT: u16 = 9093;
const TIMING: Timing = Timing { heartbeat_ms: 100, election_ms: (500, 1000) };

/// Longer than an election takes, with the lease before it.
const ELECTION: Duration = Duration::from_secs(5);

fn host(node: i32) -> String {
    format!("kafka-{node}")
}

fn address(node: i32) -> Address {
    Address { host: host(node), port: PORT }
}

struct Node {
    id: i32,
    env: Env,
    store: Arc<MemoryStore>,
    metadata: Metadata,
}

/// Controllers with the ids from 1 on, and what they are on.
struct Cluster {
    network: MemoryNetwork,
    voters: BTreeMap<BrokerId, Address>,
    seed: u64,
}

impl Cluster {
    fn of(voters: i32, seed: u64) -> Cluster {
        let voters = (1..=voters).map(|node| (BrokerId(node), address(node))).collect();
        Cluster { network: MemoryNetwork::new(), voters, seed }
    }

    fn options(&self, id: i32, store: &Arc<MemoryStore>) -> MetadataOptions {
        let quorum =
            QuorumSettings { voters: self.voters.clone(), formatted: true, timing: TIMING, ..Default::default() };
        let of = rules();
        MetadataOptions {
            node: BrokerId(id),
            directory: KafkaUuid(id as u128 * 10),
            cluster_id: Some(KafkaUuid(77)),
            quorum,
            // These brokers listen nowhere, and are there all the same.
            rules: Rules { controller: ControllerSettings { broker_listener: "NONE".into(), ..of.controller }, ..of },
            ..options(store)
        }
    }

    async fn try_start(&self, options: MetadataOptions, store: &Arc<MemoryStore>) -> Result<Node, StartError> {
        let id = options.node.0;
        let env = Env::simulated(self.seed * 100 + id as u64, 1_700_000_000_000, self.network.host(&host(id)));
        let listener = env.net().bind("", PORT).await.unwrap();
        let metadata = Metadata::start(&env, options).await?;
        let (spawner, serving) = (env.clone(), metadata.clone());
        env.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawner.spawn(serve(stream, serving.clone()));
            }
        });
        Ok(Node { id, env, store: store.clone(), metadata })
    }

    async fn start(&self, id: i32, store: &Arc<MemoryStore>) -> Node {
        self.try_start(self.options(id, store), store).await.unwrap()
    }

    async fn start_all(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for id in self.voters.keys() {
            nodes.push(self.start(id.0, &MemoryStore::new()).await);
        }
        nodes
    }

    /// Takes a node's process away; gives its disk as a power cut leaves it.
    async fn kill(&self, node: Node) -> Arc<MemoryStore> {
        let left = node.store.crash(0);
        node.env.abort_all();
        // What raft's own tasks still say reaches nobody.
        for other in 0..10 {
            self.network.cut(&host(node.id), &host(other));
        }
        node.metadata.ended().await;
        self.network.heal();
        left
    }
}

async fn serve(mut stream: Box<dyn Duplex>, metadata: Metadata) {
    let mut incoming = FrameBuffer::new();
    while stream.read_buf(&mut incoming.room(100_000)).await.is_ok_and(|count| count > 0) {
        while let Some(frame) = incoming.take(100 << 20).unwrap() {
            let (head, body) = header::parse(&frame).unwrap();
            assert_eq!(head.api_key, PRIVATE_API);
            let Ok(body) = metadata.peer_message(body).await else { return };
            let mut out = BytesMut::new();
            header::put_response(&mut out, head.api_key, head.version, head.correlation_id);
            let size = (out.len() + body.len()) as i32;
            if stream.write_all(&[&size.to_be_bytes()[..], &out, &body].concat()).await.is_err() {
                return;
            }
        }
    }
}

/// The node that is active, once exactly one is.
async fn active(nodes: &[Node]) -> usize {
    for _ in 0..100 {
        let active: Vec<usize> = (0..nodes.len()).filter(|at| nodes[*at].metadata.is_active()).collect();
        if let [only] = active[..] {
            return only;
        }
        tokio::time::sleep(ELECTION / 50).await;
    }
    panic!("no controller has become active");
}

/// Waits until a node has the topic.
async fn has_topic(node: &Node, name: &str) {
    let mut images = node.metadata.watch();
    let found = images.wait_for(|image| image.topics.by_name(name).is_some());
    let found = tokio::time::timeout(ELECTION, found).await;
    assert!(found.is_ok_and(|found| found.is_ok()), "node {} does not have {name}", node.id);
}

/// Makes a broker out of nothing, so that topics have a place.
async fn register(node: &Node) {
    let registration = Registration { id: BrokerId(node.id), ..(*node.metadata.registration).clone() };
    node.metadata.ask(broker_asks::JoinCluster { registration, clean: true }).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn three_elect_one_and_agree() {
    for seed in 0..10 {
        let cluster = Cluster::of(3, seed);
        let nodes = cluster.start_all().await;
        let leader = active(&nodes).await;
        register(&nodes[leader]).await;
        create(&nodes[leader].metadata, "orders").await.unwrap();
        for node in &nodes {
            has_topic(node, "orders").await;
            assert_eq!(node.metadata.image().cluster_id, KafkaUuid(77));
            let (id, listens_at) = node.metadata.active_controller().unwrap();
            assert_eq!((id.0, listens_at), (nodes[leader].id, address(nodes[leader].id)));
        }
        for other in nodes.iter().filter(|node| node.id != nodes[leader].id) {
            let began = other.env.now();
            let refused = create(&other.metadata, "elsewhere").await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::NotController);
            assert_eq!(other.env.now(), began, "it is said at once");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_replaced_and_comes_back_with_everything() {
    for seed in 0..10 {
        let cluster = Cluster::of(3, seed);
        let mut nodes = cluster.start_all().await;
        let leader = active(&nodes).await;
        register(&nodes[leader]).await;
        create(&nodes[leader].metadata, "before").await.unwrap();
        let dead = nodes.remove(leader);
        let id = dead.id;
        let store = cluster.kill(dead).await;

        let began = nodes[0].env.now();
        let leader = active(&nodes).await;
        assert!(nodes[0].env.now() - began < ELECTION);
        assert!(nodes[leader].metadata.image().topics.by_name("before").is_some(), "seed {seed}");
        create(&nodes[leader].metadata, "after").await.unwrap();
        let returned = cluster.start(id, &store).await;
        has_topic(&returned, "after").await;
        assert!(!returned.metadata.is_active());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_refuses_and_its_rounds_have_no_effect() {
    let cluster = Cluster::of(3, 1);
    let nodes = cluster.start_all().await;
    let old = active(&nodes).await;
    register(&nodes[old]).await;
    let others: Vec<&Node> = nodes.iter().filter(|node| node.id != nodes[old].id).collect();
    for other in &others {
        cluster.network.cut(&host(nodes[old].id), &host(other.id));
    }
    let began = nodes[old].env.now();
    let fate = create(&nodes[old].metadata, "lost").await.unwrap_err().code;
    assert_eq!(fate, ErrorCode::RequestTimedOut, "nobody knows what becomes of it");
    assert!(nodes[old].env.now() - began < ELECTION, "it does not wait for ever");
    assert!(!nodes[old].metadata.is_active());
    assert_eq!(create(&nodes[old].metadata, "more").await.unwrap_err().code, ErrorCode::NotController);

    tokio::time::sleep(ELECTION).await;
    let new = others.iter().find(|node| node.metadata.is_active()).unwrap();
    create(&new.metadata, "kept").await.unwrap();
    cluster.network.heal();
    has_topic(&nodes[old], "kept").await;
    tokio::time::sleep(ELECTION).await;
    let images: Vec<_> = nodes.iter().map(|node| node.metadata.image()).collect();
    assert!(images.iter().all(|image| *image == images[0]));
    assert!(images[0].topics.by_name("lost").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_far_behind_gets_a_snapshot() {
    let cluster = Cluster::of(3, 1);
    let small =
        |id, store: &Arc<MemoryStore>| MetadataOptions { snapshot_log_bytes: 2048, ..cluster.options(id, store) };
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let store = MemoryStore::new();
        nodes.push(cluster.try_start(small(id, &store), &store).await.unwrap());
    }
    let leader = active(&nodes).await;
    register(&nodes[leader]).await;
    let lagging = (0..3).find(|at| *at != leader).unwrap();
    let dead = nodes.remove(lagging);
    let id = dead.id;
    let store = cluster.kill(dead).await;
    let leader = active(&nodes).await;
    for at in 0..200 {
        create(&nodes[leader].metadata, &format!("t{at}")).await.unwrap();
    }
    tokio::time::sleep(ELECTION).await;
    assert!(nodes[leader].store.scan(b"e", b"f").unwrap().len() < 200, "the log begins later");
    assert!(nodes[1 - leader].store.scan(b"e", b"f").unwrap().len() < 200, "that of a follower, too");
    let returned = cluster.try_start(small(id, &store), &store).await.unwrap();
    has_topic(&returned, "t199").await;
    assert_eq!(returned.metadata.image(), nodes[leader].metadata.image());
    create(&nodes[leader].metadata, "behind the snapshot").await.unwrap_err();
    create(&nodes[leader].metadata, "behind-the-snapshot").await.unwrap();
    has_topic(&returned, "behind-the-snapshot").await;
}

/// A voter comes back behind a snapshot, and meanwhile others were added and removed: it counts with nobody who is a
/// voter no more, and forms no quorum with them.
#[tokio::test(start_paused = true)]
async fn a_voter_that_is_far_behind_learns_of_other_voters_from_the_snapshot() {
    let cluster = Cluster::dynamic(1);
    let start = async |id: i32, store: Arc<MemoryStore>| {
        if id == 1 && store.get(b"i").unwrap().is_none() {
            write_first_voters(&*store, &BTreeMap::from([(voter(1), member(1))])).unwrap();
        }
        let options = MetadataOptions { snapshot_log_bytes: 2048, ..cluster.dynamic_options(id, &store, false) };
        cluster.try_start(options, &store).await.unwrap()
    };
    let mut nodes = vec![start(1, MemoryStore::new()).await];
    register(&nodes[0]).await;
    for id in 2..=4 {
        nodes.push(start(id, MemoryStore::new()).await);
        if id < 4 {
            add(&nodes[0], id).await.unwrap();
        }
    }
    let lagging = cluster.kill(nodes.remove(2)).await;
    for at in 0..200 {
        create(&nodes[0].metadata, &format!("t{at}")).await.unwrap();
        match at {
            50 => add(&nodes[0], 4).await.unwrap(),
            100 => remove(&nodes[0], 2).await.unwrap(),
            _ => {}
        }
    }
    tokio::time::sleep(ELECTION).await;
    for node in &nodes {
        assert!(node.store.scan(b"e", b"f").unwrap().len() < 100, "the log of {} begins later", node.id);
    }
    let returned = start(3, lagging).await;
    has_topic(&returned, "t199").await;
    assert_eq!(voters_of(&returned), [1, 3, 4]);
    assert_eq!(returned.metadata.image(), nodes[0].metadata.image());

    // With 1 gone, 3 and 4 are enough; with 4 gone as well, 2 is of no help.
    let removed = nodes.remove(1);
    nodes.push(returned);
    cluster.kill(nodes.remove(0)).await;
    let leader = active(&nodes).await;
    create(&nodes[leader].metadata, "without-1").await.unwrap();
    has_topic(&removed, "without-1").await;
    cluster.kill(nodes.remove(0)).await;
    tokio::time::sleep(ELECTION * 5).await;
    assert_eq!((nodes[0].id, removed.id), (3, 2));
    assert!(!nodes[0].metadata.is_active() && !removed.metadata.is_active());
}

/// The old leader reaches one of five and that one reaches all: the others must not wait for ever because the one in
/// between still hears a leader.
#[tokio::test(start_paused = true)]
async fn a_bridge_between_the_old_leader_and_the_others_keeps_nobody_from_electing() {
    for seed in 0..10 {
        let cluster = Cluster::of(5, seed);
        let nodes = cluster.start_all().await;
        let old = active(&nodes).await;
        register(&nodes[old]).await;
        let bridge = (old + 1) % 5;
        for other in (0..5).filter(|other| *other != old && *other != bridge) {
            cluster.network.cut(&host(nodes[old].id), &host(nodes[other].id));
        }
        tokio::time::sleep(ELECTION * 3).await;
        let leader = active(&nodes).await;
        assert_ne!(leader, old, "seed {seed}");
        cluster.network.heal();
        tokio::time::sleep(ELECTION).await;
        let leader = active(&nodes).await;
        let epochs: Vec<i32> = nodes.iter().map(|node| node.metadata.image().index.controller_epoch).collect();
        assert!(epochs.iter().all(|epoch| *epoch == epochs[leader]), "seed {seed}: {epochs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_outside_the_quorum_follows_it() {
    let cluster = Cluster::of(3, 1);
    let nodes = cluster.start_all().await;
    let leader = active(&nodes).await;
    register(&nodes[leader]).await;
    for at in 0..50 {
        create(&nodes[leader].metadata, &format!("t{at}")).await.unwrap();
    }
    let mut outside = cluster.options(4, &MemoryStore::new());
    outside.quorum.controller = false;
    let broker = cluster.try_start(outside, &MemoryStore::new()).await.unwrap();
    has_topic(&broker, "t49").await;
    assert_eq!(broker.metadata.image(), nodes[leader].metadata.image());
    assert_eq!(create(&broker.metadata, "no").await.unwrap_err().code, ErrorCode::NotController);
    create(&nodes[leader].metadata, "news").await.unwrap();
    let began = broker.env.now();
    has_topic(&broker, "news").await;
    assert!(broker.env.now() - began < Duration::from_millis(10), "news is not polled for");
    assert_eq!(broker.metadata.active_controller().unwrap().0, BrokerId(nodes[leader].id));

    let mut nodes = nodes;
    let dead = nodes.remove(leader);
    cluster.kill(dead).await;
    let leader = active(&nodes).await;
    create(&nodes[leader].metadata, "after").await.unwrap();
    has_topic(&broker, "after").await;
    broker.metadata.shutdown().await;
    assert_eq!(broker.metadata.ended().await, "this node has been stopped");
}

#[tokio::test(start_paused = true)]
async fn a_broker_outside_leaves_a_controller_that_is_cut_off() {
    let cluster = Cluster::of(3, 1);
    let nodes = cluster.start_all().await;
    let old = active(&nodes).await;
    register(&nodes[old]).await;
    create(&nodes[old].metadata, "before").await.unwrap();
    let mut outside = cluster.options(4, &MemoryStore::new());
    outside.quorum.controller = false;
    let broker = cluster.try_start(outside, &MemoryStore::new()).await.unwrap();
    has_topic(&broker, "before").await;
    assert_eq!(broker.metadata.active_controller().unwrap().0, BrokerId(nodes[old].id));

    // The broker reaches them all, and the old controller answers it.
    let others: Vec<&Node> = nodes.iter().filter(|node| node.id != nodes[old].id).collect();
    for other in &others {
        cluster.network.cut(&host(nodes[old].id), &host(other.id));
    }
    tokio::time::sleep(ELECTION).await;
    let new = others.iter().find(|node| node.metadata.is_active()).unwrap();
    assert!(nodes[old].metadata.active_controller().is_none(), "nobody answers it");
    create(&new.metadata, "after").await.unwrap();
    has_topic(&broker, "after").await;
    assert_eq!(broker.metadata.active_controller().unwrap().0, BrokerId(new.id));
}

#[tokio::test(start_paused = true)]
async fn a_static_voter_that_lost_its_disk_does_not_vote_again() {
    for was_leader in [false, true] {
        lose_the_disk_of_a_static_voter(was_leader).await;
    }
}

async fn lose_the_disk_of_a_static_voter(was_leader: bool) {
    let cluster = Cluster::of(3, 1);
    let unformatted = |id: i32, store: &Arc<MemoryStore>| {
        let mut options = cluster.options(id, store);
        options.quorum.formatted = false;
        options
    };
    // Nobody has heard of anybody: once all are there, the quorum forms.
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let store = MemoryStore::new();
        nodes.push(cluster.try_start(unformatted(id, &store), &store).await.unwrap());
        if id == 2 {
            tokio::time::sleep(ELECTION).await;
            assert!(nodes.iter().all(|node| !node.metadata.is_active()), "the third may have promised something");
        }
    }
    let leader = active(&nodes).await;
    tokio::time::sleep(ELECTION).await;
    let lost = (0..3).find(|at| (*at == leader) == was_leader).unwrap();
    let dead = nodes.remove(lost);
    let id = dead.id;
    cluster.kill(dead).await;
    let empty = MemoryStore::new();
    let returned = cluster.try_start(unformatted(id, &empty), &empty).await.unwrap();
    let reason = tokio::time::timeout(ELECTION, returned.metadata.ended()).await.unwrap();
    assert!(reason.contains("has heard of this controller before"), "{reason}");
    assert!(empty.get(b"v").unwrap().is_none(), "it has not voted");
    cluster.kill(returned).await;

    // Its owner has formatted the new disk: it is sent everything, by a leader that knew it with more, and takes part.
    let leader = active(&nodes).await;
    register(&nodes[leader]).await;
    create(&nodes[leader].metadata, "kept").await.unwrap();
    let formatted = MemoryStore::new();
    let returned = cluster.start(id, &formatted).await;
    has_topic(&returned, "kept").await;
    assert_eq!(returned.metadata.image(), nodes[leader].metadata.image());
    let dead = nodes.remove(leader);
    cluster.kill(dead).await;
    nodes.push(returned);
    active(&nodes).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_of_another_cluster_are_not_answered() {
    let cluster = Cluster::of(3, 1);
    let nodes = cluster.start_all().await;
    active(&nodes).await;
    let mut stranger = cluster.options(4, &MemoryStore::new());
    stranger.quorum.controller = false;
    stranger.cluster_id = Some(KafkaUuid(78));
    let stranger = cluster.try_start(stranger, &MemoryStore::new()).await.unwrap();
    tokio::time::sleep(ELECTION).await;
    assert!(stranger.metadata.image().cluster_id.is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_hands_over() {
    let cluster = Cluster::of(3, 1);
    let mut nodes = cluster.start_all().await;
    let leader = active(&nodes).await;
    let leaving = nodes.remove(leader);
    let began = leaving.env.now();
    leaving.metadata.shutdown().await;
    active(&nodes).await;
    let took = leaving.env.now() - began;
    assert!(took < Duration::from_millis(500), "{took:?}");
}

/// A cluster whose voters are in the log: node 1 is the first, the others wait to be added.
impl Cluster {
    fn dynamic(seed: u64) -> Cluster {
        Cluster { voters: BTreeMap::new(), ..Cluster::of(0, seed) }
    }

    fn dynamic_options(&self, id: i32, store: &Arc<MemoryStore>, auto_join: bool) -> MetadataOptions {
        let endpoints = vec![MemberEndpoint { listener: "CONTROLLER".into(), address: address(id) }];
        let bootstrap = (1..=3).map(address).collect();
        let mut options = self.options(id, store);
        options.quorum = QuorumSettings { endpoints, bootstrap, auto_join, timing: TIMING, ..Default::default() };
        options.bootstrap_features.push(("kraft.version".into(), 1));
        options.broker.features.insert("kraft.version".into(), (0, 1));
        options
    }

    async fn start_dynamic(&self, id: i32, store: &Arc<MemoryStore>, auto_join: bool) -> Node {
        if id == 1 && store.get(b"i").unwrap().is_none() {
            let first = BTreeMap::from([(voter(1), member(1))]);
            write_first_voters(&**store, &first).unwrap();
        }
        self.try_start(self.dynamic_options(id, store, auto_join), store).await.unwrap()
    }
}

fn voter(node: i32) -> VoterId {
    VoterId { node, directory: node as u128 * 10 }
}

fn member(node: i32) -> Member {
    Member { endpoints: vec![MemberEndpoint { listener: "CONTROLLER".into(), address: address(node) }] }
}

fn voters_of(node: &Node) -> Vec<i32> {
    node.metadata.quorum().voters().keys().map(|voter| voter.node).collect()
}

async fn add(leader: &Node, id: i32) -> Result<(), ApiError> {
    leader.metadata.quorum().change_voter(voter(id), VoterChange::Add(member(id)), ELECTION, true).await
}

async fn remove(leader: &Node, id: i32) -> Result<(), ApiError> {
    leader.metadata.quorum().change_voter(voter(id), VoterChange::Remove, ELECTION, true).await
}

#[tokio::test(start_paused = true)]
async fn voters_come_and_go() {
    let cluster = Cluster::dynamic(1);
    let mut nodes = vec![cluster.start_dynamic(1, &MemoryStore::new(), false).await];
    assert!(nodes[0].metadata.is_active(), "one voter waits for nobody");
    register(&nodes[0]).await;
    create(&nodes[0].metadata, "first").await.unwrap();
    for id in 2..=3 {
        let node = cluster.start_dynamic(id, &MemoryStore::new(), false).await;
        has_topic(&node, "first").await;
        assert!(!node.metadata.quorum().is_member(), "it follows, and waits to be added");
        let state = nodes[0].metadata.quorum_state().unwrap();
        let seen = state.observers.iter().find(|seen| seen.id == BrokerId(id)).unwrap();
        assert_eq!((seen.directory, state.voters.len()), (KafkaUuid(id as u128 * 10), id as usize - 1));
        nodes.push(node);
        add(&nodes[0], id).await.unwrap();
        assert_eq!(add(&nodes[0], id).await.unwrap_err().code, ErrorCode::DuplicateVoter);
    }
    assert_eq!(voters_of(&nodes[0]), [1, 2, 3]);
    tokio::time::sleep(ELECTION).await;
    let state = nodes[0].metadata.quorum_state().unwrap();
    assert_eq!((state.leader, state.observers.len()), (BrokerId(1), 0));
    for seen in &state.voters {
        assert_eq!(seen.log_end, state.high_watermark);
        let now_ms = nodes[0].env.wall_ms();
        assert!((now_ms - 1000..=now_ms).contains(&seen.fetched_ms), "{seen:?}");
        assert!(seen.caught_up_ms <= seen.fetched_ms && seen.caught_up_ms > 0, "{seen:?}");
    }
    assert_eq!(state.nodes[2], (BrokerId(3), member(3).endpoints));

    // The leader itself may be removed: another one leads, and it goes on following.
    let began = nodes[0].env.now();
    remove(&nodes[0], 1).await.unwrap();
    let leader = active(&nodes[1..]).await + 1;
    assert!(nodes[0].env.now() - began < Duration::from_secs(1));
    assert_eq!(voters_of(&nodes[leader]), [2, 3]);
    create(&nodes[leader].metadata, "second").await.unwrap();
    has_topic(&nodes[0], "second").await;
    assert_eq!(remove(&nodes[leader], 1).await.unwrap_err().code, ErrorCode::VoterNotFound);
    assert_eq!(create(&nodes[0].metadata, "no").await.unwrap_err().code, ErrorCode::NotController);
}

#[tokio::test(start_paused = true)]
async fn a_removed_voter_finds_every_leader_that_comes_after() {
    let cluster = Cluster::dynamic(1);
    let mut nodes = Vec::new();
    for id in 1..=4 {
        nodes.push(cluster.start_dynamic(id, &MemoryStore::new(), false).await);
        if id == 1 {
            register(&nodes[0]).await;
        } else {
            add(&nodes[0], id).await.unwrap();
        }
    }
    remove(&nodes[0], 1).await.unwrap();
    let removed = nodes.remove(0);
    // Its own address is among those where it looks for controllers; it is not to be content with its own word.
    let leader = active(&nodes).await;
    cluster.kill(nodes.remove(leader)).await;
    let leader = active(&nodes).await;
    create(&nodes[leader].metadata, "after").await.unwrap();
    has_topic(&removed, "after").await;
    assert_eq!(removed.metadata.active_controller().unwrap().0, BrokerId(nodes[leader].id));
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_follows_on_and_may_come_back() {
    let cluster = Cluster::dynamic(1);
    let mut nodes = vec![cluster.start_dynamic(1, &MemoryStore::new(), false).await];
    register(&nodes[0]).await;
    create(&nodes[0].metadata, "first").await.unwrap();
    for id in 2..=3 {
        let node = cluster.start_dynamic(id, &MemoryStore::new(), false).await;
        has_topic(&node, "first").await;
        nodes.push(node);
        add(&nodes[0], id).await.unwrap();
    }
    let observers = |node: &Node| {
        let seen = node.metadata.quorum_state().unwrap().observers;
        seen.iter().map(|seen| seen.id.0).collect::<Vec<_>>()
    };

    // Nobody tells a follower that it is removed.
    remove(&nodes[0], 3).await.unwrap();
    // No broker listens in these tests, so whoever is late with a heartbeat counts as gone.
    register(&nodes[0]).await;
    create(&nodes[0].metadata, "without").await.unwrap();
    tokio::time::sleep(2 * ELECTION).await;
    has_topic(&nodes[2], "without").await;
    assert!(!nodes[2].metadata.quorum().is_member());
    assert_eq!(observers(&nodes[0]), [3]);
    add(&nodes[0], 3).await.unwrap();
    assert_eq!(observers(&nodes[0]), [0; 0]);
    assert!(nodes[2].metadata.quorum().is_member());

    // Nobody tells a leader that is removed who leads after it.
    remove(&nodes[0], 1).await.unwrap();
    let leader = active(&nodes[1..]).await + 1;
    tokio::time::sleep(2 * ELECTION).await;
    assert_eq!(nodes[0].metadata.active_controller().map(|(id, _)| id), Some(BrokerId(nodes[leader].id)));
    assert_eq!(observers(&nodes[leader]), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_is_not_there_is_not_added() {
    let cluster = Cluster::dynamic(1);
    let node = cluster.start_dynamic(1, &MemoryStore::new(), false).await;
    let refused = add(&node, 2).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RequestTimedOut, "{refused}");
    tokio::time::sleep(ELECTION).await;
    assert_eq!(voters_of(&node), [1]);
    assert!(node.metadata.quorum_state().unwrap().observers.is_empty(), "nothing is left of it");
    register(&node).await;
    create(&node.metadata, "works").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn controllers_join_by_themselves_and_replace_their_earlier_lives() {
    let cluster = Cluster::dynamic(1);
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(cluster.start_dynamic(id, &MemoryStore::new(), true).await);
    }
    register(&nodes[0]).await;
    tokio::time::sleep(2 * ELECTION).await;
    assert_eq!(voters_of(&nodes[0]), [1, 2, 3]);

    // Node 3 loses its disk: it is a stranger until it has had itself replaced.
    let dead = nodes.pop().unwrap();
    cluster.kill(dead).await;
    let empty = MemoryStore::new();
    let mut options = cluster.dynamic_options(3, &empty, true);
    options.directory = KafkaUuid(33);
    let returned = cluster.try_start(options, &empty).await.unwrap();
    tokio::time::sleep(4 * ELECTION).await;
    let voters = nodes[active(&nodes).await].metadata.quorum().voters();
    let directories: Vec<u128> = voters.keys().map(|voter| voter.directory).collect();
    assert_eq!(directories, [10, 20, 33]);
    assert!(returned.metadata.quorum().is_member());
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_moves_tells_the_leader() {
    let cluster = Cluster::dynamic(1);
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(cluster.start_dynamic(id, &MemoryStore::new(), true).await);
    }
    tokio::time::sleep(2 * ELECTION).await;
    assert_eq!(voters_of(&nodes[0]), [1, 2, 3]);
    let mover = nodes.pop().unwrap();
    let store = cluster.kill(mover).await;
    let mut options = cluster.dynamic_options(3, &store, true);
    options.quorum.endpoints.push(MemberEndpoint { listener: "INTERNAL".into(), address: address(33) });
    let endpoints = options.quorum.endpoints.clone();
    let moved = cluster.try_start(options, &store).await.unwrap();
    tokio::time::sleep(2 * ELECTION).await;
    let voters = nodes[active(&nodes).await].metadata.quorum().voters();
    assert_eq!(voters[&voter(3)].endpoints, endpoints);
    assert!(moved.metadata.quorum().is_member());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_voters_is_brought_to_its_end_by_the_next_leader() {
    for seed in 0..20 {
        let cluster = Cluster::dynamic(seed);
        let mut nodes = Vec::new();
        for id in 1..=3 {
            nodes.push(cluster.start_dynamic(id, &MemoryStore::new(), false).await);
        }
        for id in 2..=3 {
            add(&nodes[0], id).await.unwrap();
        }
        let fourth = cluster.start_dynamic(4, &MemoryStore::new(), false).await;
        let leader = nodes.remove(0);
        let adding = leader.metadata.quorum().clone();
        tokio::spawn(async move { adding.change_voter(voter(4), VoterChange::Add(member(4)), ELECTION, true).await });
        tokio::time::sleep(Duration::from_millis(seed)).await;
        cluster.kill(leader).await;
        nodes.push(fourth);
        let leader = active(&nodes).await;
        let settled = nodes[leader].metadata.quorum().would_change(voter(2), &VoterChange::Remove);
        assert_eq!(settled, Ok(()), "seed {seed}: the membership is one set of voters");
        register(&nodes[leader]).await;
        create(&nodes[leader].metadata, "works").await.unwrap();
    }
}
