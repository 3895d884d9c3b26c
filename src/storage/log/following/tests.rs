//! Followed logs on a real engine and on its twin: appended to, cut, begun anew, reopened and killed, against a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::env::Env;
use crate::ids::{KafkaUuid, TopicIdPartition};
use crate::records::{BatchBuilder, Checked, Timestamps};
use crate::storage::engine::tests::killed;
use crate::storage::engine::{Engine, EngineOptions, MemoryDisk};
use crate::storage::epochs::Epochs;
use crate::storage::log::Incoming;
use crate::storage::reserve::Reserve;
use crate::storage::tail::TailCache;

const OPTIONS: EngineOptions =
    EngineOptions { sync: true, value_file_bytes_max: 1 << 14, direct: true, read_cache_bytes: 2 << 20 };
const NUMBER: LogNumber = 1;

enum Place {
    Disk(TempDir),
    Memory(MemoryDisk),
}

struct Rig {
    place: Place,
    engine: Engine,
    log: PartitionLog,
}

type Told = tokio::sync::oneshot::Receiver<Result<(), Poisoned>>;

fn told() -> (impl FnOnce(Result<(), Poisoned>) + Send + 'static, Told) {
    let (tell, told) = tokio::sync::oneshot::channel();
    (move |fate| drop(tell.send(fate)), told)
}

impl Place {
    fn open(&self) -> Engine {
        match self {
            Place::Disk(root) => Engine::open(&Env::real(), root.path(), &OPTIONS).unwrap(),
            Place::Memory(disk) => Engine::in_memory(&Env::real(), disk, &OPTIONS),
        }
    }
}

fn home(engine: &Engine) -> LogHome {
    let (tail, reserve) = (Arc::new(TailCache::new(4096)), Arc::new(Reserve::new(0)));
    LogHome { directory: KafkaUuid(1), engine: engine.clone(), tail, reserve }
}

impl Rig {
    async fn new(place: Place) -> Rig {
        let engine = place.open();
        let mut write = Write::new();
        let id = TopicIdPartition { topic: KafkaUuid(1), partition: 0 };
        let log = PartitionLog::create(home(&engine), NUMBER, id, &mut write);
        engine.write(write).await.unwrap();
        Rig { place, engine, log }
    }

    fn reopen(self, kill: bool) -> Rig {
        let Rig { mut place, engine, log } = self;
        if let (true, Place::Disk(root)) = (kill, &place) {
            let copied = killed(root.path());
            engine.close(true);
            place = Place::Disk(copied);
        }
        engine.close(true);
        drop((engine, log));
        let engine = place.open();
        let log = PartitionLog::open_all(&home(&engine)).unwrap().remove(0);
        Rig { place, engine, log }
    }

    async fn lead(&mut self, epoch: LeaderEpoch, batch: Bytes) {
        let header = BatchHeader::parse(&batch).unwrap();
        let checked =
            Checked { header, max_timestamp: header.max_timestamp, timestamps: Timestamps::Keep, rebuild: None };
        let incoming = Incoming { batch, checked, now_ms: 0, epoch, chunk_ms_max: 3, claim: Claim::Records };
        let (done, outcome) = told();
        self.log.append_leader(incoming, 0, done).unwrap();
        outcome.await.unwrap().unwrap();
    }

    async fn follow(&mut self, epoch: LeaderEpoch, batches: Vec<Bytes>) {
        let fetched = FollowerBatches::check(batches.concat().into(), epoch).unwrap();
        let (done, outcome) = told();
        self.log.append_follower(fetched, (0, 0, 3), done).unwrap();
        outcome.await.unwrap().unwrap();
    }

    async fn cut(&mut self, to: Offset) -> Offset {
        let cut = self.log.plan_cut(to).prepare().unwrap();
        let (done, outcome) = told();
        let end = self.log.cut(cut, done).unwrap().unwrap();
        outcome.await.unwrap().unwrap();
        end
    }

    async fn restart(&mut self, at: Offset) {
        let (done, outcome) = told();
        self.log.restart_at(at, done).unwrap();
        outcome.await.unwrap().unwrap();
    }

    /// Everything the log would tell, and what is stored.
    fn print(&self) -> String {
        let mut stored: BTreeMap<Vec<u8>, Bytes> = BTreeMap::new();
        let range = (keys::batch(NUMBER, 0), keys::batches_end(NUMBER));
        let mut keep = |key: &[u8], value: Bytes| {
            stored.insert(key.to_vec(), value);
            true
        };
        self.engine.scan(Family::Batches, range, &mut keep).unwrap();
        for kind in [Kind::Chunk, Kind::Producer] {
            self.engine.scan(Family::State, keys::log_range(kind, NUMBER), &mut keep).unwrap();
        }
        let PartitionLog { state, epochs, closed, producers, .. } = &self.log;
        format!("{state:?} {epochs:?} {closed:?} {producers:?} {stored:?}")
    }
}

/// What a log should be: every batch since it was begun.
#[derive(Default)]
struct Model {
    start: Offset,
    end: Offset,
    batches: Vec<(BatchHeader, Bytes)>,
    epochs: Epochs,
}

impl Model {
    fn append(&mut self, batch: Bytes) {
        let header = BatchHeader::parse(&batch).unwrap();
        self.epochs.assign(header.leader_epoch, header.base_offset);
        self.end = header.next_offset();
        self.batches.push((header, batch));
    }

    fn cut(&mut self, to: Offset) -> Offset {
        let holder =
            self.batches.iter().find(|(header, _)| (header.base_offset + 1..header.next_offset()).contains(&to));
        let to = holder.map_or(to, |(header, _)| header.base_offset);
        self.batches.retain(|(header, _)| header.base_offset < to);
        self.epochs.truncate_from_end(to);
        self.end = to;
        to
    }

    fn check(&self, rig: &Rig) {
        let log = &rig.log;
        assert_eq!((log.log_start(), log.log_end()), (self.start, self.end));
        assert_eq!(log.epochs.entries(), self.epochs.entries());
        let mut stored = Vec::new();
        let range = (keys::batch(NUMBER, 0), keys::batches_end(NUMBER));
        let mut keep = |_: &[u8], batch: Bytes| {
            stored.push(batch);
            true
        };
        rig.engine.scan(Family::Batches, range, &mut keep).unwrap();
        assert_eq!(stored, self.batches.iter().map(|(_, batch)| batch.clone()).collect::<Vec<_>>());
        let mut producers = Producers::new();
        for (header, batch) in &self.batches {
            note(&mut producers, header, EndMarker::read(batch).unwrap(), 0);
        }
        producers.release_completed(Offset::MAX);
        let mut held = log.producers.clone();
        held.release_completed(Offset::MAX);
        assert_eq!(format!("{held:?}"), format!("{producers:?}"));
        let chunks: Vec<Chunk> = log.closed.iter().chain([&log.state.open]).copied().collect();
        assert!(chunks.windows(2).all(|pair| pair[0].next_offset == pair[1].base_offset), "{chunks:?}");
        assert_eq!(chunks.last().map(|chunk| chunk.next_offset), Some(self.end));
        for chunk in &chunks {
            let inside = self
                .batches
                .iter()
                .filter(|(header, _)| (chunk.base_offset..chunk.next_offset).contains(&header.base_offset));
            assert_eq!(chunk.bytes, inside.map(|(_, batch)| batch.len() as u64).sum::<u64>(), "{chunk:?}");
        }
        assert_eq!(log.bytes(), chunks.iter().map(|chunk| chunk.bytes).sum::<u64>());
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Batches of this leader, so many records each, after a gap of so many offsets.
    Follow(Vec<(usize, i64)>),
    Lead(usize),
    NewEpoch,
    /// In 1/16ths of the log.
    Cut(i64),
    Restart(i64),
    Reopen(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![5 => Just(0i64), 1 => 1i64..4];
    prop_oneof![
        5 => proptest::collection::vec((1usize..4, gap), 1..4).prop_map(Step::Follow),
        4 => (1usize..4).prop_map(Step::Lead),
        3 => Just(Step::NewEpoch),
        3 => (1i64..=16).prop_map(Step::Cut),
        1 => (0i64..50).prop_map(Step::Restart),
        2 => any::<bool>().prop_map(Step::Reopen),
    ]
}

/// Batches by changing producers, in transactions that end now and then.
struct Source {
    made: i64,
    sequences: [i32; 3],
}

impl Source {
    fn batch(&mut self, records: usize, markers: bool) -> Bytes {
        self.made += 1;
        let producer = (self.made * 7 % 5 % 3) as usize;
        if markers && self.made % 4 == 0 {
            return EndMarker { committed: true, coordinator_epoch: 1 }.batch(producer as i64, 0, self.made);
        }
        let mut builder = BatchBuilder::new(self.made).producer(producer as i64, 0, self.sequences[producer]);
        if markers && producer == 2 {
            builder = builder.transactional();
        }
        self.sequences[producer] += records as i32;
        for _ in 0..records {
            builder.push(self.made, None, Some(&[7; 300]), &[]);
        }
        builder.build()
    }
}

async fn run(steps: &[Step], place: Place) -> String {
    let mut rig = Rig::new(place).await;
    let mut model = Model::default();
    let mut source = Source { made: 0, sequences: [0; 3] };
    let mut epoch = 0;
    for step in steps {
        match step {
            Step::Follow(sizes) => {
                let mut batches = Vec::new();
                for &(records, gap) in sizes {
                    let batch = records::stamp(source.batch(records, true), model.end + gap, epoch, Timestamps::Keep);
                    model.append(batch.clone());
                    batches.push(batch);
                }
                rig.follow(epoch, batches).await;
            }
            Step::Lead(records) => {
                let batch = source.batch(*records, false);
                // Producers that were cut come again with a sequence that is out of order: that is not the point here.
                let header = BatchHeader::parse(&batch).unwrap();
                if rig.log.producers().check(&header).is_ok() {
                    rig.lead(epoch, batch.clone()).await;
                    model.append(records::stamp(batch, model.end, epoch, Timestamps::Keep));
                }
            }
            Step::NewEpoch => epoch += 1,
            Step::Cut(part) => {
                let to = model.start + (model.end - model.start) * part / 16;
                if to > model.start {
                    let end = model.cut(to);
                    if end > model.start {
                        assert_eq!(rig.cut(to).await, end);
                    } else {
                        model = Model { start: end, end, ..Model::default() };
                        rig.restart(end).await;
                    }
                    epoch += 1;
                }
            }
            Step::Restart(at) => {
                model = Model { start: *at, end: *at, ..Model::default() };
                rig.restart(*at).await;
            }
            Step::Reopen(kill) => rig = rig.reopen(*kill),
        }
        model.check(&rig);
    }
    let live = rig.print();
    let rig = rig.reopen(true);
    model.check(&rig);
    rig.engine.close(true);
    live
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_followed_log_is_its_leaders(steps in proptest::collection::vec(step(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let on_disk = run(&steps, Place::Disk(tempfile::tempdir().unwrap())).await;
            let in_memory = run(&steps, Place::Memory(MemoryDisk::new())).await;
            assert_eq!(on_disk, in_memory);
        });
    }
}

fn batch(base: Offset, epoch: LeaderEpoch, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    (0..records).for_each(|_| builder.push(0, None, Some(b"v"), &[]));
    records::stamp(builder.build(), base, epoch, Timestamps::Keep)
}

fn refused(batches: &[Bytes], epoch: LeaderEpoch) -> String {
    match FollowerBatches::check(batches.concat().into(), epoch) {
        Ok(sound) => format!("{} taken", sound.0.len()),
        Err(refused) => format!("{refused:?}"),
    }
}

#[test]
fn what_a_leader_may_not_send_is_refused() {
    let mut damaged = batch(2, 1, 1).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let short = batch(2, 1, 1).slice(..40);
    assert_eq!(refused(&[batch(0, 1, 2), batch(2, 1, 1)], 1), "2 taken");
    assert_eq!(refused(&[batch(0, 1, 2), batch(9, 3, 1)], 3), "2 taken", "compaction leaves gaps");
    assert_eq!(refused(&[batch(0, 1, 2), batch(2, 3, 1)], 2), "1 taken", "of an epoch that was not asked for");
    assert_eq!(refused(&[batch(0, 1, 2), short.clone()], 1), "1 taken");
    assert!(refused(&[short], 1).contains("ends early"));
    assert!(refused(&[batch(0, 1, 2), batch(1, 1, 1)], 1).contains("impossible offsets"));
    assert!(refused(&[batch(0, 3, 2), batch(2, 2, 1)], 3).contains("older than the one before it"));
    assert!(refused(&[batch(0, 1, 2), damaged.into()], 1).contains("CRC"));
}

#[tokio::test]
async fn a_log_takes_what_fits_behind_it() {
    let mut rig = Rig::new(Place::Memory(MemoryDisk::new())).await;
    rig.follow(5, vec![batch(0, 2, 3)]).await;
    let mut refuse = |bytes: Bytes| {
        let sound = FollowerBatches::check(bytes, 5).unwrap();
        rig.log.append_follower(sound, (0, 0, 1), |_| panic!("nothing was written")).unwrap_err()
    };
    assert_eq!(refuse(batch(2, 2, 3)), FollowerRefused::Overlap { base: 2, log_end: 3 });
    assert!(matches!(refuse(batch(3, 1, 3)), FollowerRefused::Unsound(_)), "an older epoch");
    // The leader deleted records up to the middle of a batch.
    rig.restart(12).await;
    rig.follow(5, vec![batch(10, 4, 5)]).await;
    assert_eq!((rig.log.log_start(), rig.log.log_end(), rig.log.epochs.entries()[0].start), (12, 15, 12));
    assert_eq!(rig.log.closed.len(), 0);
    let rig = rig.reopen(false);
    assert_eq!((rig.log.log_start(), rig.log.log_end()), (12, 15));
}

#[tokio::test]
async fn a_cut_for_another_log_has_no_effect() {
    let mut rig = Rig::new(Place::Memory(MemoryDisk::new())).await;
    rig.follow(5, vec![batch(0, 2, 3), batch(3, 2, 3)]).await;
    let cut = rig.log.plan_cut(3).prepare().unwrap();
    rig.follow(5, vec![batch(6, 2, 1)]).await;
    assert_eq!(rig.log.cut(cut, |_| panic!("nothing was written")), Ok(None));
    assert_eq!(rig.cut(3).await, 3);
}
