//! A fetcher against a leader that speaks Kafka's Fetch and ListOffsets over a network in memory.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::env::Duplex;
use crate::env::memory::MemoryNetwork;
use crate::partitions::scene::{ID, Scene};
use crate::partitions::{FetchWait, FollowerFetch, Isolation, ReadAsk};
use crate::wire::frame::FrameBuffer;
use crate::wire::header;

async fn answer(leader: Arc<Partition>, env: Env, request: FetchRequest) -> FetchResponse {
    let asked = &request.topics[0].partitions[0];
    let ask = ReadAsk {
        from: asked.fetch_offset,
        bytes_max: asked.partition_max_bytes as usize,
        at_least_one: true,
        isolation: Isolation::LogEnd,
        leader_epoch: asked.current_leader_epoch,
        last_fetched_epoch: asked.last_fetched_epoch,
        leader_only: true,
    };
    let fetch = FollowerFetch {
        id: BrokerId(request.replica_state.replica_id.0),
        broker_epoch: request.replica_state.replica_epoch,
        offset: asked.fetch_offset,
        log_start: asked.log_start_offset,
    };
    let mut read = leader.replicate(ask, fetch, true).await;
    if read.as_ref().is_ok_and(|read| read.batches.is_empty() && read.diverging.is_none()) {
        let wait = FetchWait::new();
        leader.watch_end(&wait);
        env.timeout(Duration::from_millis(request.max_wait_ms as u64), wait.news()).await;
        read = leader.read(ask).await;
    }
    let mut data = PartitionData::default();
    match read {
        Err(code) => data.error_code = code.code(),
        Ok(read) => {
            data.high_watermark = read.offsets.high_watermark;
            data.log_start_offset = read.offsets.log_start;
            data.records = Some(Bytes::from(read.batches.concat()));
            if let Some(diverging) = read.diverging {
                let end = EpochEndOffset::default().with_epoch(diverging.epoch).with_end_offset(diverging.end_offset);
                data.diverging_epoch = end;
            }
        }
    }
    let topic = FetchableTopicResponse::default().with_topic_id(request.topics[0].topic_id).with_partitions(vec![data]);
    FetchResponse::default().with_responses(vec![topic])
}

fn offset_of(leader: &Partition, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let offsets = leader.offsets().unwrap();
    let latest = request.topics[0].partitions[0].timestamp == messages::LATEST;
    let offset = if latest { offsets.log_end } else { offsets.log_start };
    let partition = ListOffsetsPartitionResponse::default().with_offset(offset);
    let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
    ListOffsetsResponse::default().with_topics(vec![topic])
}

async fn serve(mut stream: Box<dyn Duplex>, env: Env, leader: Arc<Partition>) {
    let mut incoming = FrameBuffer::new();
    while stream.read_buf(&mut incoming.room(1000)).await.is_ok_and(|count| count > 0) {
        while let Some(frame) = incoming.take(1 << 20).unwrap() {
            let (head, mut body) = header::parse(&frame).unwrap();
            let mut out = BytesMut::new();
            header::put_response(&mut out, head.api_key, head.version, head.correlation_id);
            if head.api_key == 1 {
                let request = FetchRequest::decode(&mut body, head.version).unwrap();
                let answer = answer(leader.clone(), env.clone(), request).await;
                answer.encode(&mut out, head.version).unwrap();
            } else {
                let request = ListOffsetsRequest::decode(&mut body, head.version).unwrap();
                offset_of(&leader, &request).encode(&mut out, head.version).unwrap();
            }
            let frame = [&(out.len() as i32).to_be_bytes()[..], &out].concat();
            if stream.write_all(&frame).await.is_err() {
                return;
            }
        }
    }
}

/// Each of the scene's brokers listens on a host of its own; broker 2 fetches.
struct Stage {
    scene: Scene,
    network: MemoryNetwork,
    assigned: watch::Sender<Arc<Assignment>>,
}

impl Stage {
    async fn new() -> Stage {
        let network = MemoryNetwork::new();
        let env = Env::simulated(1, 1_000_000, network.host("broker-2"));
        let scene = Scene::in_env(env.clone(), 1);
        for id in [1, 3] {
            let of_leader = Env::simulated(id as u64, 1_000_000, network.host(&format!("broker-{id}")));
            let listener = of_leader.net().bind("", 1).await.unwrap();
            let leader = scene.of(id).clone();
            env.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    of_leader.spawn(serve(stream, of_leader.clone(), leader.clone()));
                }
            });
        }
        let (assigned, _) = watch::channel(Arc::default());
        Stage { scene, network, assigned }
    }

    /// Starts the fetcher of broker 2 for what `leader` leads.
    fn fetch_from(&mut self, leader: i32) {
        let (env, neighbours) = (self.scene.env.clone(), self.scene.replicas[1].neighbours.clone());
        let config = crate::config::Config::load(crate::config::Sources::default()).unwrap().config;
        let (assigned, assignments) = watch::channel(Arc::new(Assignment::default()));
        let fetcher = Fetcher {
            env: env.clone(),
            node: BrokerId(2),
            leader: BrokerId(leader),
            config: Arc::new(ArcSwap::from_pointee(config)),
            partitions: Partitions::new(neighbours, Vec::new(), Vec::new()),
            assignments,
            pauses: Pauses::default(),
            served_last: None,
            session: Session::default(),
            peer: None,
        };
        env.spawn(fetcher.run());
        self.assigned = assigned;
        self.assign(leader);
    }

    fn assign(&self, leader: i32) {
        let epoch = self.scene.registration.leader_epoch;
        let partitions = BTreeMap::from([(ID, (self.scene.of(2).clone(), epoch))]);
        let address = Some(Address { host: format!("broker-{leader}"), port: 1 });
        self.assigned.send_replace(Arc::new(Assignment { address, broker_epoch: 20, partitions }));
    }

    /// Waits until broker 2 has everything that `leader` has.
    async fn caught_up(&self, leader: i32) {
        let env = &self.scene.env;
        let all = async {
            while self.scene.ends(2) != self.scene.ends(leader) {
                env.sleep(Duration::from_millis(1)).await;
            }
        };
        let caught_up = env.timeout(Duration::from_secs(20), all).await;
        assert!(caught_up.is_some(), "{:?} of {:?}", self.scene.ends(2), self.scene.ends(leader));
        assert_eq!(self.scene.bytes(2).await, self.scene.bytes(leader).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_keeps_a_follower_at_its_leader() {
    let mut stage = Stage::new().await;
    stage.scene.elect(1, &[1, 2], &[1, 2, 3]);
    for _ in 0..5 {
        stage.scene.produce(1, 2).await.unwrap();
    }
    stage.fetch_from(1);
    stage.caught_up(1).await;
    let began = stage.scene.env.now();
    stage.scene.produce(1, 2).await.unwrap();
    let committed = stage.scene.of(1).acknowledged((1, 12), true, Duration::from_secs(60));
    assert_eq!(committed.await, Ok(()));
    assert!(stage.scene.env.now() - began < Duration::from_millis(100), "the follower waits for records, not for time");
    // While the leader cannot be reached nothing happens, and then it goes on.
    stage.network.cut("broker-1", "broker-2");
    stage.scene.produce(1, 2).await.unwrap();
    stage.scene.env.sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.scene.ends(2).1, 12);
    stage.network.heal();
    stage.caught_up(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_parts_from_what_the_new_leader_does_not_have() {
    let mut stage = Stage::new().await;
    stage.scene.elect(2, &[1, 2, 3], &[1, 2, 3]);
    stage.scene.produce(2, 3).await.unwrap();
    stage.scene.catch_up(&[1, 3]).await;
    stage.scene.produce(2, 4).await.unwrap();
    stage.scene.elect(3, &[1, 3], &[1, 2, 3]);
    stage.scene.produce(3, 1).await.unwrap();
    stage.scene.catch_up(&[1]).await;
    stage.fetch_from(3);
    stage.caught_up(3).await;
    // In the next epoch it fetches only when it has been told.
    stage.scene.elect(3, &[1, 2, 3], &[1, 2, 3]);
    stage.scene.produce(3, 1).await.unwrap();
    stage.scene.env.sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.scene.ends(2).1, 4);
    stage.assign(3);
    stage.scene.env.sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.scene.ends(2).1, 5);
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_begins_anew_where_the_leader_does() {
    let mut stage = Stage::new().await;
    stage.scene.elect(1, &[1], &[1, 2, 3]);
    for _ in 0..4 {
        stage.scene.produce(1, 2).await.unwrap();
    }
    // Broker 2 is not there for the answer.
    for replica in &stage.scene.replicas {
        replica.neighbours.set_active(crate::partitions::replicas::ActiveBrokers::new([(BrokerId(1), 10)]));
    }
    assert_eq!(stage.scene.of(1).delete_records(5).await, Ok(5));
    stage.fetch_from(1);
    stage.caught_up(1).await;
    assert_eq!(stage.scene.of(2).offsets_if_any().unwrap().log_start, 5);
}
