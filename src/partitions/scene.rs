//! Replicas of one partition for tests, wired by hand: fetches and answers are passed from one to the other, the
//! controller's word comes from the scene.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::replicas::{ActiveBrokers, FollowerFetch};
use super::{FromLeader, Isolation, Neighbours, Origin, Partition, ReadAsk};
use crate::config::TopicSettings;
use crate::env::Env;
use crate::error::ErrorCode;
use crate::ids::{BrokerId, KafkaUuid, Offset, TopicIdPartition};
use crate::metadata::{AlteredPartition, PartitionRegistration};
use crate::records::BatchBuilder;
use crate::storage::dirs::{DataDir, DirOptions};
use crate::storage::engine::{EngineOptions, MemoryDisk, VALUE_FILE_BYTES_MAX};

pub(super) const ID: TopicIdPartition = TopicIdPartition { topic: KafkaUuid(5), partition: 0 };

pub(super) struct Replica {
    pub(super) neighbours: Arc<Neighbours>,
    disk: MemoryDisk,
    pub(super) partition: Arc<Partition>,
}

fn open(env: &Env, disk: &MemoryDisk, neighbours: &Arc<Neighbours>, settings: &Arc<TopicSettings>) -> Arc<Partition> {
    let engine = EngineOptions {
        sync: true,
        value_file_bytes_max: VALUE_FILE_BYTES_MAX,
        direct: false,
        read_cache_bytes: 2 << 20,
    };
    let options = DirOptions { engine, tail_bytes: 1 << 20, reserve_bytes: 0 };
    let directory = DataDir::in_memory(env, disk, KafkaUuid(9), &options).unwrap();
    let log = directory.logs().unwrap().pop().unwrap_or_else(|| directory.create_log(ID, |_| {}).unwrap());
    Arc::new(Partition::host(env, neighbours, "t".into(), log, settings.clone()))
}

/// Brokers 1, 2 and 3.
pub(super) struct Scene {
    pub(super) env: Env,
    settings: Arc<TopicSettings>,
    pub(super) replicas: Vec<Replica>,
    pub(super) registration: PartitionRegistration,
}

pub(super) fn ids(numbers: &[i32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

impl Scene {
    pub(super) fn new(min_isr: i32) -> Scene {
        Scene::in_env(Env::real(), min_isr)
    }

    pub(super) fn in_env(env: Env, min_isr: i32) -> Scene {
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

    pub(super) fn of(&self, id: i32) -> &Arc<Partition> {
        &self.replicas[id as usize - 1].partition
    }

    /// The controller has elected `leader`; those of `hearing` hear it.
    pub(super) fn elect(&mut self, leader: i32, isr: &[i32], hearing: &[i32]) {
        self.registration.leader = Some(BrokerId(leader));
        self.registration.isr = ids(isr);
        self.registration.leader_epoch += 1;
        self.registration.partition_epoch += 1;
        for &id in hearing {
            self.of(id).assume(&self.registration);
        }
    }

    pub(super) async fn produce(&self, leader: i32, records: usize) -> Result<Offset, ErrorCode> {
        let partition = self.of(leader);
        let appended = partition.append_as_leader(batch(records), Origin::Client).map_err(|refused| refused.code)?;
        partition.synced(appended.end_offset).await?;
        Ok(appended.end_offset)
    }

    /// One fetch of `follower`, as far as the answer takes effect there. True if there is nothing more to fetch.
    pub(super) async fn fetch(&self, follower: i32) -> Result<bool, ErrorCode> {
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
        let read = self.of(at.leader.0).replicate(ask, fetch, true).await?;
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

    pub(super) async fn catch_up(&self, followers: &[i32]) {
        for follower in followers.iter().chain(followers) {
            while !self.fetch(*follower).await.unwrap() {}
        }
    }

    /// The controller agrees to what `leader` proposes.
    pub(super) fn agree(&mut self, leader: i32) {
        let proposal = self.of(leader).isr_proposal().unwrap();
        self.registration.isr = proposal.isr.iter().map(|(id, _)| *id).collect();
        self.registration.partition_epoch += 1;
        let answer = AlteredPartition {
            leader: Some(BrokerId(leader)),
            leader_epoch: proposal.leader_epoch,
            isr: self.registration.isr.clone(),
            recovering: false,
            partition_epoch: self.registration.partition_epoch,
        };
        assert!(!self.of(leader).isr_answered(&proposal, &Ok(answer)));
    }

    /// The broker loses its power and comes back.
    pub(super) fn crash(&mut self, id: i32) {
        let replica = &mut self.replicas[id as usize - 1];
        let disk = replica.disk.clone();
        disk.crash(0);
        // What the old engine still does goes to a disk that nobody reads.
        let copy = disk.copy();
        replica.partition = open(&self.env, &copy, &replica.neighbours, &self.settings);
        replica.disk = copy;
    }

    pub(super) fn ends(&self, id: i32) -> (Offset, Offset) {
        let offsets = self.of(id).offsets_if_any().unwrap();
        (offsets.high_watermark, offsets.log_end)
    }

    pub(super) async fn bytes(&self, id: i32) -> Bytes {
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

pub(super) fn batch(records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(1);
    (0..records).for_each(|_| builder.push(1, None, Some(b"value"), &[]));
    builder.build()
}
