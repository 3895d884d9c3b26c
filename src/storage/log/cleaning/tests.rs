//! Whole passes over a log on a real engine: against a model, over restarts and kills, and the reads that meet gaps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::env::Env;
use crate::ids::{KafkaUuid, TopicIdPartition};
use crate::records::batch::rebuild;
use crate::records::{self, BatchBuilder, BatchHeader, Checked, Codec, EndMarker, Timestamps};
use crate::storage::engine::tests::killed;
use crate::storage::engine::{Engine, EngineOptions};
use crate::storage::log::{Incoming, LogHome};
use crate::storage::reserve::{Claim, Reserve};
use crate::storage::tail::TailCache;

const OPTIONS: EngineOptions =
    EngineOptions { sync: true, value_file_bytes_max: 1 << 14, direct: true, read_cache_bytes: 2 << 20 };
/// Every chunk is a segment of its own, and the open one is active.
const RULES: DirtRules = DirtRules { segment_bytes: 1, segment_ms: i64::MAX, lag_ms_min: 0 };
const LATER: Horizon = Horizon { now_ms: 1_000_000, delete_retention_ms: i64::MAX };

/// A log in a directory of its own.
struct Rig {
    root: TempDir,
    engine: Engine,
    log: PartitionLog,
    tail_bytes: usize,
}

fn home(root: &Path, tail_bytes: usize) -> LogHome {
    let engine = Engine::open(&Env::real(), root, &OPTIONS).unwrap();
    let (tail, reserve) = (Arc::new(TailCache::new(tail_bytes)), Arc::new(Reserve::new(0)));
    LogHome { directory: KafkaUuid(1), engine, tail, reserve }
}

impl Rig {
    fn new(tail_bytes: usize) -> Rig {
        let root = tempfile::tempdir().unwrap();
        let home = home(root.path(), tail_bytes);
        let engine = home.engine.clone();
        let mut write = Write::new();
        let id = TopicIdPartition { topic: KafkaUuid(1), partition: 0 };
        let log = PartitionLog::create(home, 1, id, &mut write);
        let (told, done) = std::sync::mpsc::channel();
        engine.submit(write.when_done(move |fate| told.send(fate).unwrap())).unwrap();
        done.recv().unwrap().unwrap();
        Rig { root, engine, log, tail_bytes }
    }

    /// Opens it again: after a clean end, or from a copy of what a kill would leave.
    fn reopen(self, kill: bool) -> Rig {
        let Rig { mut root, engine, log, tail_bytes } = self;
        if kill {
            let copied = killed(root.path());
            engine.close(true);
            root = copied;
        } else {
            engine.close(true);
        }
        drop((engine, log));
        let home = home(root.path(), tail_bytes);
        let engine = home.engine.clone();
        let log = PartitionLog::open_all(&home).unwrap().remove(0);
        Rig { root, engine, log, tail_bytes }
    }

    /// Appends a batch and waits until it is on disk. Every batch closes the chunk before it.
    fn append(&mut self, batch: bytes::Bytes) -> Offset {
        let header = BatchHeader::parse(&batch).unwrap();
        self.append_as(batch, header)
    }

    fn append_as(&mut self, batch: bytes::Bytes, header: BatchHeader) -> Offset {
        let checked =
            Checked { header, max_timestamp: header.max_timestamp, timestamps: Timestamps::Keep, rebuild: None };
        let incoming = Incoming { batch, checked, now_ms: 0, epoch: 0, chunk_ms_max: 0, claim: Claim::Records };
        let (told, outcome) = mpsc::channel();
        let end = self.log.log_end();
        self.log.append_leader(incoming, end, move |fate| told.send(fate).unwrap()).unwrap();
        outcome.recv().unwrap().unwrap();
        end
    }

    fn append_marker(&mut self, producer: i64, committed: bool) {
        // Markers are not appended in production yet: the log takes it for a batch of nobody, and its producer is told
        // here.
        let marker = EndMarker { committed, coordinator_epoch: 0 };
        let at = self.log.log_end();
        let batch = marker.batch(producer, 0, at);
        let header = BatchHeader::parse(&batch).unwrap();
        self.append_as(batch, BatchHeader { producer_id: -1, ..header });
        self.log.producers.note_marker(&header, marker, at, 0);
        self.log.producers.release_completed(i64::MAX);
    }

    fn keyed(&mut self, records: &[(&str, Option<&str>)]) -> Offset {
        let at = self.log.log_end();
        let mut builder = BatchBuilder::new(at);
        for (key, value) in records {
            builder.push(at, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
        }
        self.append(builder.build())
    }

    /// A pass with room for this many keys, which stops after `steps` rewrites. Returns where it ended, if it did.
    fn clean(&mut self, keys_max: usize, steps: usize, horizon: Horizon) -> Option<Offset> {
        let stable = self.log.first_unstable().unwrap_or(self.log.log_end());
        let dirt = self.log.dirt(&RULES, stable, 0);
        let keys = KeyOffsets::new(1 << 14, keys_max as f64 / 1024.0, [3, 4]);
        let mut pass = self.log.pass(dirt, stable, horizon, keys);
        for chunk in pass.dirty_chunks() {
            if !pass.learn(&chunk).unwrap() {
                break;
            }
        }
        for (step, chunk) in pass.chunks().iter().enumerate() {
            if step == steps {
                return None;
            }
            let rewrite = pass.rewrite(chunk).unwrap();
            let (told, outcome) = mpsc::channel();
            if self.log.replace(rewrite, i64::MAX, move |fate| told.send(fate).unwrap()).unwrap() {
                outcome.recv().unwrap().unwrap();
            }
        }
        let (told, outcome) = mpsc::channel();
        self.log.finish_pass(pass.end(), move |fate| told.send(fate).unwrap()).unwrap();
        outcome.recv().unwrap().unwrap();
        Some(pass.end())
    }

    fn batches(&self, from: Offset) -> Vec<bytes::Bytes> {
        let end = self.log.log_end();
        match self.log.read(from, end, usize::MAX / 2, true) {
            Ok(batches) => batches,
            Err(cold) => cold.run().unwrap(),
        }
    }

    /// Offset, key and value of every record that a reader gets from `from` on.
    fn read(&self, from: Offset) -> Vec<(Offset, Vec<u8>, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        for batch in self.batches(from) {
            let header = BatchHeader::parse(&batch).unwrap();
            assert!(records::crc_matches(&batch));
            for record in records::records(&batch).unwrap() {
                if record.offset(&header) >= from && !header.is_control() {
                    let key = record.key.as_deref().unwrap_or_default().to_vec();
                    found.push((record.offset(&header), key, record.value.map(|value| value.to_vec())));
                }
            }
        }
        assert!(found.is_sorted_by_key(|record| record.0));
        found
    }

    fn offsets(&self, from: Offset) -> Vec<Offset> {
        self.read(from).into_iter().map(|record| record.0).collect()
    }

    /// Chunks are contiguous, and their bytes are those of the batches in them.
    fn check_chunks(&self) {
        let chunks: Vec<Chunk> = self.log.closed.iter().chain([&self.log.state.open]).copied().collect();
        let stored = |chunk: &Chunk| {
            let mut bytes = 0;
            let range = (keys::batch(1, chunk.base_offset), keys::batch(1, chunk.next_offset));
            let mut add = |_: &[u8], batch: bytes::Bytes| {
                bytes += batch.len() as u64;
                true
            };
            self.engine.scan(Family::Batches, range, &mut add).unwrap();
            bytes
        };
        assert!(chunks.windows(2).all(|pair| pair[0].next_offset == pair[1].base_offset), "{chunks:?}");
        for chunk in &chunks {
            assert_eq!(stored(chunk), chunk.bytes, "{chunk:?}");
        }
        assert_eq!(self.log.bytes(), chunks.iter().map(|chunk| chunk.bytes).sum::<u64>());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u8, bool)>, usize),
    Clean { keys_max: usize },
    CleanHalf { steps: usize },
    Delete(prop::sample::Index),
    Reopen { killed: bool },
    Reclaim,
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0u8..8, prop::bool::weighted(0.8));
    prop_oneof![
        12 => (prop::collection::vec(record, 1..5), 0usize..5).prop_map(|(all, codec)| Step::Append(all, codec)),
        3 => (4usize..12).prop_map(|keys_max| Step::Clean { keys_max }),
        1 => (0usize..8).prop_map(|steps| Step::CleanHalf { steps }),
        1 => any::<prop::sample::Index>().prop_map(Step::Delete),
        1 => any::<bool>().prop_map(|killed| Step::Reopen { killed }),
        1 => Just(Step::Reclaim),
    ]
}

/// Everything ever appended.
type Model = BTreeMap<Offset, (Vec<u8>, Option<Vec<u8>>)>;

fn last_of_each<'a>(
    records: impl Iterator<Item = (&'a Offset, &'a (Vec<u8>, Option<Vec<u8>>))>,
) -> BTreeMap<Vec<u8>, Offset> {
    records.map(|(&offset, (key, _))| (key.clone(), offset)).collect()
}

fn run(steps: Vec<Step>, tail_bytes: usize) {
    let mut rig = Rig::new(tail_bytes);
    let mut model = Model::new();
    let mut cleaned_to = 0;
    // Half a pass may have cleaned anything up to there.
    let mut touched_to = 0;
    for step in steps {
        match step {
            Step::Append(records, codec) => {
                let at = rig.log.log_end();
                let mut builder = BatchBuilder::new(at);
                for (index, (key, has_value)) in records.into_iter().enumerate() {
                    let offset = at + index as i64;
                    let value = has_value.then(|| format!("{offset}").repeat(1 + 40 * usize::from(key)).into_bytes());
                    builder.push(at, Some(&[key]), value.as_deref(), &[]);
                    model.insert(offset, (vec![key], value));
                }
                rig.append(rebuild(&builder.build(), Codec::ALL[codec], None).unwrap());
            }
            Step::Clean { keys_max } => {
                cleaned_to = rig.clean(keys_max, usize::MAX, LATER).unwrap().max(cleaned_to);
                touched_to = touched_to.max(cleaned_to);
            }
            Step::CleanHalf { steps } => {
                touched_to = rig.log.log_end();
                if let Some(end) = rig.clean(1000, steps, LATER) {
                    cleaned_to = end.max(cleaned_to);
                }
            }
            Step::Delete(index) => {
                let offset = index.index(rig.log.log_end() as usize + 1) as i64;
                rig.log.delete_before(offset, |_| {}).unwrap();
            }
            Step::Reopen { killed } => rig = rig.reopen(killed),
            Step::Reclaim => rig.engine.reclaim(u64::MAX).unwrap(),
        }
        let start = rig.log.log_start();
        let found = rig.read(start);
        let by_offset: Model = found.into_iter().map(|(offset, key, value)| (offset, (key, value))).collect();
        for (offset, record) in &by_offset {
            assert_eq!(model.get(offset), Some(record), "nothing is read that was not written");
        }
        let (all, seen) = (last_of_each(model.range(start..)), last_of_each(by_offset.iter()));
        assert_eq!(all, seen, "the last of each key stays, whatever a pass did");
        let once = last_of_each(model.range(..cleaned_to));
        for offset in start..rig.log.log_end() {
            let key = &model[&offset].0;
            if offset >= touched_to {
                assert!(by_offset.contains_key(&offset), "{offset} was not cleaned");
            } else if offset < cleaned_to && once[key] != offset {
                assert!(!by_offset.contains_key(&offset), "{offset} was superseded");
            } else if offset < cleaned_to
                && all.get(key).is_none_or(|&last| last < touched_to)
                && touched_to == cleaned_to
            {
                assert!(by_offset.contains_key(&offset), "{offset} is the last of its key");
            }
        }
        rig.check_chunks();
    }
    rig.engine.close(true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_sees_the_last_of_each_key(
        steps in prop::collection::vec(step(), 1..40),
        tail_bytes in prop_oneof![Just(0usize), Just(1 << 20)],
    ) {
        run(steps, tail_bytes);
    }
}

#[test]
fn reads_that_begin_in_a_gap_go_on_behind_it() {
    let mut rig = Rig::new(0);
    for round in 0..3 {
        rig.keyed(&[("a", Some("x")), ("b", Some("x"))]);
        rig.keyed(&[("c", Some(["x", "y", "z"][round]))]);
    }
    rig.keyed(&[("end", Some("x"))]);
    assert_eq!(rig.clean(1000, usize::MAX, LATER), Some(9));
    assert_eq!(rig.offsets(0), [6, 7, 8, 9]);
    for from in 0..=6 {
        assert_eq!(rig.offsets(from)[0], 6, "from {from}");
    }
    let lookup = rig.log.timestamps(10);
    for (target, expected) in [(0, 6), (3, 6), (6, 6), (7, 8), (9, 9)] {
        assert_eq!(lookup.at_or_after(target).unwrap().map(|found| found.offset), Some(expected), "at {target}");
    }
    assert_eq!(lookup.at_or_after(10).unwrap(), None);
    assert_eq!(lookup.largest().unwrap().map(|found| found.offset), Some(9));
    drop(lookup);
    rig.log.delete_before(7, |_| {}).unwrap();
    assert_eq!(rig.offsets(7), [7, 8, 9]);
    rig = rig.reopen(false);
    assert_eq!((rig.log.log_start(), rig.offsets(7)), (7, vec![7, 8, 9]));
    rig.engine.close(true);
}

#[test]
fn the_largest_timestamp_is_that_of_a_record_still_there() {
    let mut rig = Rig::new(0);
    for (at, key, timestamp) in [(0, "a", 5), (1, "b", 90), (2, "c", 80), (3, "b", 7), (4, "d", 8)] {
        let mut builder = BatchBuilder::new(timestamp);
        builder.push(timestamp, Some(key.as_bytes()), Some(b"v"), &[]);
        assert_eq!(rig.append(builder.build()), at);
    }
    // Timestamps that do not rise leave some batches in one chunk: close it.
    let mut builder = BatchBuilder::new(95);
    builder.push(95, Some(b"e"), Some(b"v"), &[]);
    rig.append(builder.build());
    let largest = |rig: &Rig, up_to| rig.log.timestamps(up_to).largest().unwrap().map(|found| found.offset);
    assert_eq!(largest(&rig, 5), Some(1));
    rig.clean(1000, usize::MAX, LATER);
    assert_eq!(rig.offsets(0), [0, 2, 3, 4, 5]);
    assert_eq!((largest(&rig, 6), largest(&rig, 5)), (Some(5), Some(2)));
    rig.log.delete_before(3, |_| {}).unwrap();
    assert_eq!(largest(&rig, 5), Some(4), "what lies below the log start does not count");
    rig.engine.close(true);
}

#[test]
fn tombstones_outlive_their_retention_and_then_go() {
    let mut rig = Rig::new(0);
    rig.keyed(&[("a", Some("1")), ("b", Some("1"))]);
    rig.keyed(&[("a", None)]);
    rig.keyed(&[("end", Some("x"))]);
    let at = |now_ms| Horizon { now_ms, delete_retention_ms: 100 };
    rig.clean(1000, usize::MAX, at(1000));
    assert_eq!(rig.offsets(0), [1, 2, 3], "the value of a goes, its tombstone stays");
    rig.keyed(&[("end", Some("y"))]);
    rig.clean(1000, usize::MAX, at(1099));
    assert_eq!(rig.offsets(0), [1, 2, 3, 4]);
    rig.keyed(&[("end", Some("z"))]);
    rig.clean(1000, usize::MAX, at(1100));
    assert_eq!(rig.offsets(0), [1, 4, 5]);
    rig.engine.close(true);
}

#[test]
fn a_live_producer_keeps_its_last_sequence_and_a_pass_its_last_offset() {
    let mut rig = Rig::new(0);
    for sequence in 0..3 {
        let mut builder = BatchBuilder::new(sequence).producer(9, 0, sequence as i32);
        builder.push(sequence, Some(b"a"), Some(b"v"), &[]);
        rig.append(builder.build());
    }
    rig.keyed(&[("b", Some("1"))]);
    rig.keyed(&[("a", Some("w")), ("b", Some("2"))]);
    rig.keyed(&[("a", Some("v")), ("b", Some("3"))]);
    assert_eq!(rig.clean(1000, usize::MAX, LATER), Some(6), "the last batch is active");
    let headers = |rig: &Rig| -> Vec<(Offset, i32)> {
        let batches = rig.batches(0);
        batches
            .iter()
            .map(|batch| BatchHeader::parse(batch).unwrap())
            .map(|h| (h.base_offset, h.records_count))
            .collect()
    };
    assert_eq!(headers(&rig), [(2, 0), (4, 2), (6, 2)], "offset 2 has the last sequence of producer 9");
    rig.keyed(&[("end", Some("x"))]);
    rig.clean(1000, usize::MAX, LATER);
    assert_eq!(headers(&rig), [(2, 0), (6, 2), (8, 1)]);
    // A pass that ends behind the last of its records, because those that follow supersede them.
    rig.keyed(&[("a", None)]);
    rig.log.producers.expire(i64::MAX, 0);
    rig.clean(1000, usize::MAX, LATER);
    assert_eq!(headers(&rig), [(6, 2), (8, 1), (9, 1)], "the producer is forgotten and its header goes");
    rig.engine.close(true);
}

#[test]
fn aborted_records_go_and_markers_follow_a_pass_later() {
    let mut rig = Rig::new(0);
    let transactional = |rig: &mut Rig, producer, sequence, key: &[u8]| {
        let mut builder = BatchBuilder::new(rig.log.log_end()).producer(producer, 0, sequence).transactional();
        builder.push(rig.log.log_end(), Some(key), Some(b"v"), &[]);
        rig.append(builder.build());
    };
    rig.keyed(&[("a", Some("old")), ("b", Some("old"))]);
    transactional(&mut rig, 1, 0, b"a");
    transactional(&mut rig, 2, 0, b"b");
    rig.append_marker(2, true);
    rig.append_marker(1, false);
    transactional(&mut rig, 3, 0, b"c");
    rig.keyed(&[("end", Some("1"))]);
    let horizon = |now_ms| Horizon { now_ms, delete_retention_ms: 100 };
    assert_eq!(rig.clean(1000, usize::MAX, horizon(1000)), Some(6), "nothing behind an open transaction is touched");
    let bases = |rig: &Rig| -> Vec<Offset> {
        rig.batches(0).iter().map(|batch| BatchHeader::parse(batch).unwrap().base_offset).collect()
    };
    assert_eq!(rig.offsets(0), [0, 3, 6, 7], "the aborted record did not supersede the old one");
    assert_eq!(bases(&rig), [0, 2, 3, 4, 5, 6, 7], "2 has the last sequence of producer 1");
    rig.append_marker(3, false);
    rig.keyed(&[("end", Some("2"))]);
    rig.log.producers.expire(i64::MAX, 0);
    rig.clean(1000, usize::MAX, horizon(1000));
    assert_eq!(bases(&rig), [0, 3, 4, 5, 7, 8, 9]);
    rig.keyed(&[("end", Some("3"))]);
    rig.clean(1000, usize::MAX, horizon(1100));
    assert_eq!(bases(&rig), [0, 3, 4, 5, 8, 9, 10], "5 is spent and gets a horizon; 4 still has its record");
    rig.keyed(&[("end", Some("4"))]);
    rig.clean(1000, usize::MAX, horizon(5000));
    assert_eq!(bases(&rig), [0, 3, 4, 10, 11]);
    assert_eq!(rig.offsets(0), [0, 3, 10, 11]);
    rig.engine.close(true);
}

#[test]
fn nothing_is_learnt_from_a_damaged_batch() {
    let mut rig = Rig::new(0);
    rig.keyed(&[("a", Some("1")), ("b", Some("1"))]);
    rig.keyed(&[("a", Some("2"))]);
    rig.keyed(&[("end", Some("x"))]);
    let mut bytes = rig.batches(0)[0].to_vec();
    *bytes.last_mut().unwrap() = 0;
    let at = bytes.len() - 2;
    bytes[at] ^= 1;
    let mut write = Write::new();
    write.put(Family::Batches, keys::batch(1, 0), bytes.into());
    let (told, outcome) = mpsc::channel();
    rig.engine.submit(write.when_done(move |fate| told.send(fate).unwrap())).unwrap();
    outcome.recv().unwrap().unwrap();
    let dirt = rig.log.dirt(&RULES, 10, 0);
    let mut pass = rig.log.pass(dirt, 10, LATER, KeyOffsets::new(1 << 14, 0.9, [0, 0]));
    let refused = pass.learn(&pass.dirty_chunks()[0]).unwrap_err();
    assert!(refused.contains("CRC of the batch at 0"), "{refused}");
    rig.engine.close(true);
}
