//! Replicas of one partition, wired by hand: fetches and answers are passed from one to the other, the controller's word
//! comes from the scene.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::TopicSettings;
use crate::ids::KafkaUuid;
use crate::metadata::PartitionRegistration;
use crate::partitions::replicas::{ActiveBrokers, FollowerFetch, IsrAnswer};
use crate::records::BatchBuilder;
use crate::storage::dirs::{DataDir, DirOptions};
use crate::storage::engine::{EngineOptions, MemoryDisk, VALUE_FILE_BYTES_MAX};

const ID: TopicIdPartition = TopicIdPartition { topic: KafkaUuid(5), partition: 0 };

struct Replica {
    neighbours: Arc<Neighbours>,
    disk: MemoryDisk,
    partition: Arc<Partition>,
}

fn open(env: &Env, disk: &MemoryDisk, neighbours: &Arc<Neighbours>, settings: &Arc<TopicSettings>) -> Arc<Partition> {
    let engine = EngineOptions {
        sync: true,
        value_file_bytes_max: VALUE_FILE_BYTES_MAX,
        direct: false,
        read_cache_bytes: 1 << 20,
    };
    let options = DirOptions { engine, tail_bytes: 1 << 20, reserve_bytes: 0 };
    let directory = DataDir::in_memory(env, disk, KafkaUuid(9), &options).unwrap();
    let log = directory.logs().unwrap().pop().unwrap_or_else(|| directory.create_log(ID, |_| {}).unwrap());
    Arc::new(Partition::host(env, neighbours, "t".into(), log, settings.clone()))
}

/// Brokers 1, 2 and 3.
struct Scene {
    env: Env,
    settings: Arc<TopicSettings>,
    replicas: Vec<Replica>,
    registration: PartitionRegistration,
}

fn ids(numbers: &[i32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

impl Scene {
    fn new(min_isr: i32) -> Scene {
        let env = Env::real();
        let mut settings = TopicSettings::read(&|_| None);
        settings.min_insync_replicas = min_isr;
        let settings = Arc::new(settings);
        let replicas = [1, 2, 3].map(|id| {
            let neighbours = Neighbours::new(BrokerId(id), Duration::from_secs(30));
            neighbours.set_active(ActiveBrokers::new([1, 2, 3].map(|id| (BrokerId(id), i64::from(id) * 10))));
            let disk = MemoryDisk::new();
            let partition = open(&env, &disk, &neighbours, &settings);
            Replica { neighbours, disk, partition }
        });
        let registration = PartitionRegistration {
            replicas: ids(&[1, 2, 3]),
            isr: ids(&[1, 2, 3]),
            leader: None,
            leader_epoch: 0,
            ..PartitionRegistration::default()
        };
        Scene { env, settings, replicas: replicas.into(), registration }
    }

    fn of(&self, id: i32) -> &Arc<Partition> {
        &self.replicas[id as usize - 1].partition
    }

    /// The controller has elected `leader`; those of `hearing` hear it.
    fn elect(&mut self, leader: i32, isr: &[i32], hearing: &[i32]) {
        self.registration.leader = Some(BrokerId(leader));
        self.registration.isr = ids(isr);
        self.registration.leader_epoch += 1;
        self.registration.partition_epoch += 1;
        for &id in hearing {
            self.of(id).assume(&self.registration);
        }
    }

    async fn produce(&self, leader: i32, records: usize) -> Result<Offset, ErrorCode> {
        let partition = self.of(leader);
        let appended = partition.append_as_leader(batch(records), Origin::Client).map_err(|refused| refused.code)?;
        partition.synced(appended.end_offset).await?;
        Ok(appended.end_offset)
    }

    /// One fetch of `follower`, as far as the answer takes effect there. True if there is nothing more to fetch.
    async fn fetch(&self, follower: i32) -> Result<bool, ErrorCode> {
        let partition = self.of(follower);
        partition.settled().await?;
        let at = partition.fetch_position().ok_or(ErrorCode::NotLeaderOrFollower)?;
        let ask = ReadAsk {
            from: at.from,
            bytes_max: 1 << 20,
            at_least_one: true,
            isolation: Isolation::LogEnd,
            leader_epoch: at.epoch,
            last_fetched_epoch: at.last_epoch,
            leader_only: true,
        };
        let broker_epoch = i64::from(follower) * 10;
        let fetch = FollowerFetch { id: BrokerId(follower), broker_epoch, offset: at.from, log_start: at.log_start };
        let read = self.of(at.leader.0).replicate(ask, fetch).await?;
        if let Some(diverging) = read.diverging {
            partition.part(&at, diverging).await.unwrap();
            return Ok(false);
        }
        let is_empty = read.batches.is_empty();
        let sent = FromLeader {
            batches: read.batches.concat().into(),
            high_watermark: read.offsets.high_watermark,
            log_start: read.offsets.log_start,
        };
        partition.take_over(&at, sent).await.unwrap();
        Ok(is_empty)
    }

    async fn catch_up(&self, followers: &[i32]) {
        for follower in followers.iter().chain(followers) {
            while !self.fetch(*follower).await.unwrap() {}
        }
    }

    /// The controller agrees to what `leader` proposes.
    fn agree(&mut self, leader: i32) {
        let proposal = self.of(leader).isr_proposal().unwrap();
        self.registration.isr = proposal.isr.iter().map(|(id, _)| *id).collect();
        self.registration.partition_epoch += 1;
        let answer = IsrAnswer {
            leader_epoch: proposal.leader_epoch,
            partition_epoch: self.registration.partition_epoch,
            isr: self.registration.isr.clone(),
        };
        assert!(!self.of(leader).isr_answered(&proposal, &Ok(answer)));
    }

    /// The broker loses its power and comes back.
    fn crash(&mut self, id: i32) {
        let replica = &mut self.replicas[id as usize - 1];
        let disk = replica.disk.clone();
        disk.crash(0);
        // What the old engine still does goes to a disk that nobody reads.
        let copy = disk.copy();
        replica.partition = open(&self.env, &copy, &replica.neighbours, &self.settings);
        replica.disk = copy;
    }

    fn ends(&self, id: i32) -> (Offset, Offset) {
        let offsets = self.of(id).offsets_if_any().unwrap();
        (offsets.high_watermark, offsets.log_end)
    }

    async fn bytes(&self, id: i32) -> Bytes {
        let ask = ReadAsk {
            from: self.of(id).offsets_if_any().unwrap().log_start,
            bytes_max: usize::MAX / 2,
            at_least_one: true,
            isolation: Isolation::LogEnd,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            leader_only: false,
        };
        self.of(id).read(ask).await.unwrap().batches.concat().into()
    }
}

fn batch(records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(1);
    (0..records).for_each(|_| builder.push(1, None, Some(b"value"), &[]));
    builder.build()
}

#[tokio::test]
async fn records_are_committed_when_every_replica_in_sync_has_them() {
    let mut scene = Scene::new(2);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    let committed = scene.of(1).acknowledged(3, true, Duration::from_secs(60));
    scene.fetch(2).await.unwrap();
    scene.fetch(3).await.unwrap();
    assert_eq!(scene.ends(1), (0, 3), "they have it, but the leader has not heard of it");
    scene.fetch(2).await.unwrap();
    assert_eq!(scene.ends(1), (0, 3));
    scene.fetch(3).await.unwrap();
    assert_eq!(scene.ends(1), (3, 3));
    assert_eq!(committed.await, Ok(()));
    assert_eq!((scene.ends(2), scene.ends(3)), ((0, 3), (3, 3)), "2 hears with its next fetch");
    scene.fetch(2).await.unwrap();
    assert_eq!(scene.ends(2), (3, 3));
    assert_eq!(scene.bytes(1).await, scene.bytes(2).await);
}

#[tokio::test]
async fn a_new_leader_has_what_was_acknowledged_and_the_old_one_gives_up_the_rest() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    scene.catch_up(&[2, 3]).await;
    // 1 is cut off and goes on by itself.
    scene.elect(2, &[2, 3], &[2, 3]);
    scene.produce(1, 5).await.unwrap();
    let lost = scene.of(1).acknowledged(8, true, Duration::from_secs(60));
    scene.produce(2, 2).await.unwrap();
    scene.catch_up(&[3]).await;
    assert_eq!(scene.ends(2), (5, 5));
    let registration = scene.registration.clone();
    scene.of(1).assume(&registration);
    assert_eq!(lost.await, Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(scene.produce(1, 1).await, Err(ErrorCode::NotLeaderOrFollower));
    scene.catch_up(&[1]).await;
    assert_eq!(scene.bytes(1).await, scene.bytes(2).await);
    assert_eq!(scene.ends(1), (5, 5));
    // It joins, and counts.
    assert_eq!(scene.of(2).isr_proposal().unwrap().isr, [(BrokerId(2), 20), (BrokerId(3), 30), (BrokerId(1), 10)]);
    scene.agree(2);
    assert_eq!(scene.of(2).isr_proposal(), None);
    scene.produce(2, 1).await.unwrap();
    scene.catch_up(&[3]).await;
    assert_eq!(scene.ends(2).0, 5);
    scene.catch_up(&[1]).await;
    assert_eq!(scene.ends(2).0, 6);
}

#[tokio::test]
async fn two_elections_without_a_record_between_them_lose_nothing() {
    // KAFKA-7415, KIP-279: epochs that wrote nothing, and one that only some have seen.
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 4).await.unwrap();
    scene.catch_up(&[2, 3]).await;
    scene.elect(2, &[2, 3], &[2]);
    scene.elect(3, &[2, 3], &[3]);
    scene.produce(1, 1).await.unwrap();
    scene.produce(2, 2).await.unwrap();
    scene.elect(2, &[2, 3], &[2, 3]);
    scene.produce(2, 1).await.unwrap();
    let registration = scene.registration.clone();
    scene.of(1).assume(&registration);
    scene.catch_up(&[3, 1]).await;
    assert_eq!(scene.ends(2), (7, 7));
    assert_eq!(scene.bytes(1).await, scene.bytes(2).await);
    assert_eq!(scene.bytes(3).await, scene.bytes(2).await);
    let epochs = |id: i32| scene.of(id).core.lock().log.as_ref().unwrap().epochs().entries().to_vec();
    assert_eq!((epochs(1), epochs(3)), (epochs(2), epochs(2)));
}

#[tokio::test]
async fn a_leader_below_its_minimum_takes_nothing_that_must_be_safe() {
    let mut scene = Scene::new(2);
    scene.elect(1, &[1], &[1, 2, 3]);
    assert_eq!(scene.of(1).check_in_sync(), Err(ErrorCode::NotEnoughReplicas));
    scene.produce(1, 1).await.unwrap();
    assert_eq!(scene.ends(1), (0, 1), "nothing is committed");
    scene.catch_up(&[2]).await;
    assert_eq!(scene.ends(1), (0, 1));
    scene.agree(1);
    assert_eq!(scene.of(1).check_in_sync(), Ok(()));
    assert_eq!(scene.ends(1), (1, 1));
}

#[tokio::test]
async fn a_crash_of_a_follower_loses_nothing_that_it_acknowledged() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    scene.catch_up(&[2, 3]).await;
    scene.crash(2);
    assert_eq!(scene.ends(2), (0, 3), "what was committed is stored with the next records only");
    scene.elect(2, &[2], &[2, 3]);
    assert_eq!(scene.ends(2), (3, 3));
    scene.produce(2, 1).await.unwrap();
    scene.catch_up(&[3]).await;
    assert_eq!(scene.bytes(3).await, scene.bytes(2).await);
}

#[tokio::test]
async fn a_follower_follows_the_start_of_the_log() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2], &[1, 2, 3]);
    for _ in 0..4 {
        scene.produce(1, 2).await.unwrap();
    }
    scene.catch_up(&[2]).await;
    let leader = scene.of(1).clone();
    let deleted = tokio::spawn(async move { leader.delete_records(5).await });
    scene.catch_up(&[2]).await;
    let log_start = |id: i32| scene.of(id).offsets_if_any().unwrap().log_start;
    while log_start(1) != 5 {
        tokio::task::yield_now().await;
    }
    scene.catch_up(&[2]).await;
    assert_eq!((log_start(1), log_start(2), log_start(3)), (5, 5, 0));
    assert!(!deleted.is_finished(), "3 has not given it up");
    // The records that 3 would want next are gone.
    assert_eq!(scene.fetch(3).await, Err(ErrorCode::OffsetOutOfRange));
    let at = scene.of(3).fetch_position().unwrap();
    scene.of(3).restart_at(&at, 5).await.unwrap();
    scene.catch_up(&[3]).await;
    assert_eq!(scene.ends(3), (8, 8));
    assert_eq!(scene.bytes(3).await, scene.bytes(2).await);
    assert_eq!(deleted.await.unwrap(), Ok(5));
}

#[tokio::test]
async fn after_an_unclean_election_committed_records_are_cut() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    scene.catch_up(&[2]).await;
    scene.elect(3, &[3], &[1, 2, 3]);
    scene.produce(3, 1).await.unwrap();
    scene.catch_up(&[1, 2]).await;
    assert_eq!((scene.ends(1), scene.ends(2)), ((1, 1), (1, 1)));
    assert_eq!(scene.bytes(1).await, scene.bytes(3).await);
}

#[tokio::test]
async fn what_was_fetched_for_another_epoch_has_no_effect() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    let at = scene.of(2).fetch_position().unwrap();
    let sent = FromLeader { batches: scene.bytes(1).await, high_watermark: 0, log_start: 0 };
    scene.elect(3, &[2, 3], &[2, 3]);
    assert_eq!(scene.of(2).take_over(&at, sent).await, Err(FollowFailure::Moot));
    assert_eq!(scene.ends(2), (0, 0));
    let stale = PartitionRegistration { partition_epoch: 1, leader: Some(BrokerId(1)), ..scene.registration.clone() };
    assert_eq!(scene.of(2).assume(&stale), None, "an image from before");
    assert_eq!(scene.of(2).following(), Some((BrokerId(3), 2)));
}

#[tokio::test]
async fn consumers_may_read_from_followers_what_is_committed() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2], &[1, 2]);
    scene.produce(1, 3).await.unwrap();
    scene.fetch(2).await.unwrap();
    let ask = ReadAsk {
        from: 0,
        bytes_max: 1000,
        at_least_one: true,
        isolation: Isolation::ReadUncommitted,
        leader_epoch: 1,
        last_fetched_epoch: -1,
        leader_only: false,
    };
    assert_eq!(scene.of(2).read(ask).await.unwrap().batches.len(), 0);
    scene.catch_up(&[2]).await;
    assert_eq!(scene.of(2).read(ask).await.unwrap().batches.len(), 1);
    let refused = async |ask| scene.of(2).read(ask).await.err();
    assert_eq!(refused(ReadAsk { leader_only: true, ..ask }).await, Some(ErrorCode::NotLeaderOrFollower));
    assert_eq!(refused(ReadAsk { leader_epoch: 0, ..ask }).await, Some(ErrorCode::FencedLeaderEpoch));
    assert_eq!(refused(ReadAsk { leader_epoch: 2, ..ask }).await, Some(ErrorCode::UnknownLeaderEpoch));
}
