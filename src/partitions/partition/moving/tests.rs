//! A partition that moves between three disks while everything else happens to it, disks fail or are not there, and the
//! power goes at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::env::memory::MemoryNetwork;
use crate::ids::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicIdPartition};
use crate::metadata::PartitionRegistration;
use crate::partitions::found::{Found, Open};
use crate::partitions::{FetchPosition, FollowFailure, FromLeader, Isolation, Origin, ReadAsk};
use crate::records::{self, BatchBuilder, BatchHeader};
use crate::storage::dirs::DirOptions;
use crate::storage::engine::{EngineOptions, MemoryDisk, VALUE_FILE_BYTES_MAX};

const ID: TopicIdPartition = TopicIdPartition { topic: KafkaUuid(5), partition: 0 };
const ME: BrokerId = BrokerId(1);
const DISKS: usize = 3;

fn directory_id(index: usize) -> KafkaUuid {
    KafkaUuid(1000 + index as u128)
}

fn numbered(disks: &[MemoryDisk]) -> Vec<(usize, MemoryDisk)> {
    disks.iter().cloned().enumerate().collect()
}

/// One life of a broker.
struct Life {
    env: Env,
    directories: Vec<DataDir>,
    partition: Arc<Partition>,
    movers: Vec<tokio::task::JoinHandle<()>>,
}

fn settings() -> Arc<TopicSettings> {
    let mut settings = TopicSettings::read(&|_| None);
    // Many chunks.
    settings.segment_ms = 2;
    Arc::new(settings)
}

impl Life {
    /// Begins on the disks of these numbers; the controller believes the replica to be in `assigned`. `None` if its log
    /// is on none of them, or that cannot be told. With `alone`, it can be told without the controller.
    fn begin(env: &Env, disks: &[(usize, MemoryDisk)], assigned: KafkaUuid, alone: bool) -> Option<Life> {
        let engine = EngineOptions {
            sync: true,
            value_file_bytes_max: VALUE_FILE_BYTES_MAX,
            direct: false,
            read_cache_bytes: 1 << 20,
        };
        let options = DirOptions { engine, tail_bytes: 2000, reserve_bytes: 0 };
        let open = |(index, disk): &(usize, MemoryDisk)| {
            DataDir::in_memory(env, disk, directory_id(*index), &options).unwrap()
        };
        let directories: Vec<DataDir> = disks.iter().map(open).collect();
        let some_missing = directories.len() < DISKS;
        let found = |assigned| {
            let logs: Vec<PartitionLog> = directories.iter().flat_map(|directory| directory.logs().unwrap()).collect();
            let settled = logs.iter().filter(|log| log.standing() == Standing::Settled).count();
            assert!(settled <= 1, "two logs say that they are the partition's");
            let all = directories.iter().map(|directory| directory.id).collect();
            Found::sort_out(logs, &Open { directories: all, some_missing, assigned })
        };
        let (assigned_is_here, found_as) = (directories.iter().any(|one| one.id == assigned), &found);
        let found = found_as(assigned);
        let home = |found: &Found| found.log.as_ref().map(PartitionLog::directory);
        if alone {
            let whatever = (0..DISKS).map(|index| home(&found_as(directory_id(index))));
            assert_eq!(whatever.collect::<BTreeSet<_>>().len(), 1, "the disks do not say which log is the last");
        }
        if found.unknown || (found.log.is_none() && !assigned_is_here) {
            assert!(some_missing);
            return None;
        }
        found.junk.into_iter().for_each(|log| log.destroy().unwrap());
        // Not even that there is a log may have reached the disk; a copy of it is of no use then.
        let begin_log = || directories.iter().find(|one| one.id == assigned)?.create_log(ID, |_| {}).ok();
        let log = found.log.or_else(begin_log).unwrap();
        let neighbours = Neighbours::new(ME, Duration::from_secs(30));
        let logs = (log, found.future, found.left);
        let partition = Arc::new(Partition::take_up(env, &neighbours, "t".into(), logs, settings()));
        partition.is_assigned(assigned);
        let mut life = Life { env: env.clone(), directories, partition, movers: Vec::new() };
        life.look_for_moves();
        Some(life)
    }

    fn look_for_moves(&mut self) {
        if !self.partition.begin_moving() {
            return;
        }
        let (partition, env) = (self.partition.clone(), self.env.clone());
        self.movers.push(env.clone().spawn(async move {
            let turn = Semaphore::new(1);
            loop {
                match partition.move_on(&turn).await {
                    Ok(Moved::Ended | Moved::Arrived(_)) => return,
                    Ok(Moved::On(_)) => {}
                    // A disk that fails.
                    Ok(Moved::Waiting) | Err(_) => env.sleep(Duration::from_millis(1)).await,
                }
            }
        }));
    }

    fn assume(&self, leader: i32, epoch: LeaderEpoch) {
        let registration = PartitionRegistration {
            replicas: vec![ME],
            isr: vec![ME],
            leader: Some(BrokerId(leader)),
            leader_epoch: epoch,
            partition_epoch: epoch,
            ..PartitionRegistration::default()
        };
        self.partition.assume(&registration);
    }
}

/// Batches that are in the log, and the offsets around them.
#[derive(Default)]
struct Model {
    batches: Vec<(BatchHeader, Bytes)>,
    start: Offset,
    end: Offset,
    /// What a crash must not take away.
    safe: Offset,
    epoch: LeaderEpoch,
    /// Producers are what the batches say: none of them is known from a batch that was deleted before a cut.
    producers_known: bool,
    deleted: bool,
}

impl Model {
    /// A batch is written at the end.
    fn note(&mut self, batch: Bytes) {
        let batch = records::stamp(batch, self.end, self.epoch, records::Timestamps::Keep);
        let header = BatchHeader::parse(&batch).unwrap();
        self.end = header.next_offset();
        self.batches.push((header, batch));
    }

    fn cut(&mut self, to: Offset) {
        self.batches.retain(|(header, _)| header.next_offset() <= to);
        self.end = to;
        self.safe = self.safe.min(to);
        self.producers_known &= !self.deleted;
    }

    async fn check(&self, partition: &Arc<Partition>) {
        let offsets = partition.offsets_if_any().unwrap();
        assert_eq!((offsets.log_start, offsets.log_end), (self.start, self.end));
        let (mut from, mut found) = (offsets.log_start, Vec::new());
        while from < offsets.log_end {
            let ask = ReadAsk {
                from,
                bytes_max: 1 << 20,
                at_least_one: true,
                isolation: Isolation::LogEnd,
                leader_epoch: -1,
                last_fetched_epoch: -1,
                leader_only: false,
            };
            let batches = partition.read(ask).await.unwrap().batches;
            from = BatchHeader::parse(batches.last().expect("there are more")).unwrap().next_offset();
            found.extend(batches);
        }
        let live = self.batches.iter().filter(|(header, _)| header.next_offset() > self.start);
        assert!(found.iter().eq(live.map(|(_, batch)| batch)), "other batches than were written");
        if self.producers_known {
            let mut last: BTreeMap<ProducerId, (i32, Offset)> = BTreeMap::new();
            for (header, _) in &self.batches {
                last.insert(header.producer_id, (header.last_sequence(), header.last_offset()));
            }
            let core = partition.core.lock();
            let producers = core.log.as_ref().unwrap().producers();
            let known = producers.iter().map(|(id, one)| (id, (one.last_sequence(), one.last_offset().unwrap())));
            assert_eq!(known.collect::<BTreeMap<_, _>>(), last);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Records, and whether the producer waits.
    Produce(usize, bool),
    NewEpoch,
    /// In 1/16ths of the log.
    Delete(i64),
    Cut(i64),
    MoveTo(usize),
    /// Records come from another leader.
    Follow(usize),
    /// Milliseconds.
    Time(u64),
    /// A disk gets slow, until the next crash.
    Slow(usize),
    /// The controller hears where the replica is, and perhaps the broker that it has.
    Tell(bool),
    /// A disk fails, until the crash that soon follows.
    Fail(usize, Kept),
    Crash(Kept),
    /// A disk is not there for a while after the crash, and the power goes again.
    Miss(usize, Kept, Kept),
}

/// How many unsynced writes each disk keeps.
type Kept = [usize; DISKS];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..4, any::<bool>()).prop_map(|(records, waits)| Step::Produce(records, waits)),
        1 => Just(Step::NewEpoch),
        1 => (1i64..=16).prop_map(Step::Delete),
        1 => (0i64..16).prop_map(Step::Cut),
        4 => (0usize..3).prop_map(Step::MoveTo),
        1 => (1usize..4).prop_map(Step::Follow),
        6 => (0u64..12).prop_map(Step::Time),
        1 => (0usize..3).prop_map(Step::Slow),
        2 => any::<bool>().prop_map(Step::Tell),
        1 => (0usize..3, kept()).prop_map(|(disk, kept)| Step::Fail(disk, kept)),
        2 => kept().prop_map(Step::Crash),
        1 => (0usize..3, kept(), kept()).prop_map(|(disk, kept, then)| Step::Miss(disk, kept, then)),
    ]
}

fn kept() -> impl Strategy<Value = Kept> {
    proptest::array::uniform3(prop_oneof![4 => 0usize..4, 1 => Just(usize::MAX)])
}

struct World {
    env: Env,
    disks: Vec<MemoryDisk>,
    life: Life,
    model: Model,
    /// Where the controller believes the replica to be.
    assigned: KafkaUuid,
    /// There was a life without one of the disks: it may hold a log that was left before it.
    missed: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let env = Env::simulated(seed, 1_000_000, MemoryNetwork::new().host("broker"));
        let disks: Vec<MemoryDisk> = (0..DISKS).map(|_| MemoryDisk::new()).collect();
        disks.iter().for_each(|disk| disk.set_delay_max(Duration::from_millis(3)));
        let assigned = directory_id(0);
        let life = Life::begin(&env, &numbered(&disks), assigned, true).unwrap();
        let model = Model { producers_known: true, ..Model::default() };
        let mut world = World { env, disks, life, model, assigned, missed: false };
        world.lead();
        world
    }

    fn lead(&mut self) {
        self.model.epoch += 1;
        self.life.assume(ME.0, self.model.epoch);
    }

    fn batch(&self, count: usize) -> Bytes {
        let id = self.model.end % 3;
        let core = self.life.partition.core.lock();
        let producer = core.log.as_ref().unwrap().producers().by_id(id);
        let sequence = producer.map_or(0, |producer| producer.last_sequence() + 1);
        let mut builder = BatchBuilder::new(self.env.wall_ms()).producer(id, 0, sequence);
        (0..count).for_each(|_| builder.push(self.env.wall_ms(), None, Some(&[7; 100]), &[]));
        builder.build()
    }

    async fn produce(&mut self, count: usize, waits: bool) {
        let batch = self.batch(count);
        let partition = &self.life.partition;
        let failed = || self.life.directories.iter().any(|one| one.engine().poison().is_some());
        let appended = match partition.append_as_leader(batch.clone(), Origin::Client) {
            Ok(appended) => appended,
            Err(refused) => return assert!(failed(), "{refused:?}"),
        };
        let model = &mut self.model;
        assert_eq!(appended.base_offset, model.end);
        model.note(batch);
        assert_eq!(appended.end_offset, model.end);
        if waits {
            match partition.acknowledged((appended.epoch, model.end), true, Duration::from_secs(60)).await {
                Ok(()) => model.safe = model.end,
                Err(code) => assert!(failed(), "{code}"),
            }
        }
    }

    /// Follows another leader from now on; returns where.
    async fn position(&mut self) -> FetchPosition {
        self.model.epoch += 1;
        self.life.assume(2, self.model.epoch);
        loop {
            self.life.partition.settled().await.unwrap();
            // A log that has just moved is not all on its new disk, and one that was just cut not yet cut on it.
            match self.life.partition.fetch_position() {
                Some(at) => return at,
                None => self.env.sleep(Duration::from_millis(1)).await,
            }
        }
    }

    async fn follow(&mut self, count: usize) {
        let at = self.position().await;
        let batch = self.batch(count);
        self.model.note(batch);
        let batches = self.model.batches.last().unwrap().1.clone();
        let sent = FromLeader { batches, high_watermark: at.from, log_start: 0 };
        self.life.partition.take_over(&at, sent).await.unwrap();
        // The next fetch acknowledges it.
        self.model.safe = self.model.end;
        self.lead();
    }

    async fn cut(&mut self, part: i64) {
        let to = self.model.start + (self.model.end - self.model.start) * part / 16;
        loop {
            let at = self.position().await;
            match self.life.partition.cut_to(&at, to).await {
                Err(FollowFailure::Moot) => {}
                done => break done.unwrap(),
            }
        }
        let model = &mut self.model;
        let end = self.life.partition.offsets_if_any().unwrap();
        assert!(end.log_end <= to.max(model.start));
        if end.log_start == end.log_end && end.log_end != model.end {
            // It began anew, without producers.
            model.batches.clear();
            (model.start, model.safe) = (end.log_start, end.log_start);
            (model.producers_known, model.deleted) = (true, false);
        }
        model.cut(end.log_end);
        self.lead();
    }

    async fn crash(&mut self, kept: Kept) {
        self.power_cut(kept);
        self.life = Life::begin(&self.env, &numbered(&self.disks), self.assigned, !self.missed).unwrap();
        self.look_what_is_left().await;
    }

    /// A life without one of the disks, if there can be one.
    async fn live_without(&mut self, disk: usize) {
        let mut others = numbered(&self.disks);
        others.remove(disk);
        let Some(life) = Life::begin(&self.env, &others, self.assigned, false) else { return };
        (self.life, self.missed) = (life, true);
        self.look_what_is_left().await;
        self.produce(1, true).await;
        self.tell(true);
        self.env.sleep(Duration::from_millis(4)).await;
        self.produce(1, false).await;
    }

    fn tell(&mut self, heard: bool) {
        self.assigned = self.life.partition.placed_in().unwrap_or(self.assigned);
        if heard {
            self.life.partition.is_assigned(self.assigned);
        }
    }

    fn power_cut(&mut self, kept: Kept) {
        self.life.movers.drain(..).for_each(|mover| mover.abort());
        self.disks.iter().zip(kept).for_each(|(disk, kept)| disk.crash(kept));
        // What the old engines still do goes to disks that nobody reads.
        self.disks = self.disks.iter().map(MemoryDisk::copy).collect();
        self.disks.iter().for_each(|disk| disk.set_delay_max(Duration::from_millis(3)));
    }

    async fn look_what_is_left(&mut self) {
        let offsets = self.life.partition.offsets_if_any().unwrap();
        assert!(offsets.log_end >= self.model.safe, "{} is gone, of {}", offsets.log_end, self.model.safe);
        self.model.batches.retain(|(header, _)| header.next_offset() <= offsets.log_end);
        self.model.end = offsets.log_end;
        self.lead();
        self.model.check(&self.life.partition).await;
    }

    async fn run(&mut self, step: &Step) {
        match step {
            Step::Produce(records, waits) => self.produce(*records, *waits).await,
            Step::NewEpoch => self.lead(),
            Step::Delete(part) => {
                let offsets = self.life.partition.offsets_if_any().unwrap();
                let before = offsets.log_start + (offsets.high_watermark - offsets.log_start) * part / 16;
                let low = self.life.partition.delete_records(before).await.unwrap();
                assert_eq!(low, before);
                (self.model.start, self.model.deleted) = (before, true);
            }
            Step::Cut(part) => self.cut(*part).await,
            Step::MoveTo(to) => {
                self.life.partition.move_to(&self.life.directories[*to], Ok(())).unwrap();
                self.life.look_for_moves();
            }
            Step::Follow(records) => self.follow(*records).await,
            Step::Slow(disk) => self.disks[*disk].set_delay_max(Duration::from_millis(40)),
            Step::Time(ms) => self.env.sleep(Duration::from_millis(*ms)).await,
            Step::Tell(heard) => self.tell(*heard),
            Step::Fail(disk, kept) => {
                self.disks[*disk].break_with("input/output error");
                for waits in [false, true, true] {
                    self.produce(1, waits).await;
                    self.env.sleep(Duration::from_millis(2)).await;
                }
                self.tell(true);
                self.crash(*kept).await;
            }
            Step::Crash(kept) => self.crash(*kept).await,
            Step::Miss(disk, kept, then) => {
                self.power_cut(*kept);
                self.live_without(*disk).await;
                self.crash(*then).await;
            }
        }
    }

    /// Lets the move end, and looks whether everything is where it should be, and nowhere else.
    async fn arrive(&mut self) {
        while self.life.partition.future().is_some() || self.life.partition.core.lock().moving.left.is_some() {
            self.tell(true);
            self.env.sleep(Duration::from_millis(1)).await;
        }
        self.life.partition.settled().await.unwrap();
        self.model.check(&self.life.partition).await;
        self.env.sleep(Duration::from_secs(1)).await;
        let home = self.life.partition.directory().unwrap();
        for directory in &self.life.directories {
            let logs = directory.logs().unwrap();
            assert_eq!(logs.len(), usize::from(directory.id == home), "logs in {}", directory.id);
            assert!(logs.iter().all(|log| log.standing() == Standing::Settled));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_moving_partition_is_one_that_stays(seed in any::<u64>(), steps in proptest::collection::vec(step(), 1..40)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(seed);
            for step in &steps {
                world.run(step).await;
            }
            world.arrive().await;
            world.crash([0; 3]).await;
        });
    }
}
