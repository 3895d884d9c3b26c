//! Every byte of a data directory, changed: what was written is read, or nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use super::*;
use crate::env::Env;
use crate::ids::{KafkaUuid, TopicIdPartition};
use crate::records::{BatchBuilder, Checked, Timestamps};
use crate::storage::engine::{Engine, EngineOptions, Write};
use crate::storage::log::{Incoming, LogHome, PartitionLog};
use crate::storage::reserve::{Claim, Reserve};
use crate::storage::tail::TailCache;

/// Nothing is kept in memory, so that every read sees the disk.
const OPTIONS: EngineOptions =
    EngineOptions { sync: true, value_file_bytes_max: 1 << 20, direct: false, read_cache_bytes: 0 };

fn log_in(root: &Path) -> (Engine, PartitionLog) {
    let engine = Engine::open(&Env::real(), root, &OPTIONS).unwrap();
    let (tail, reserve) = (Arc::new(TailCache::new(0)), Arc::new(Reserve::new(0)));
    let home = LogHome { directory: KafkaUuid(1), engine: engine.clone(), tail, reserve };
    let mut write = Write::new();
    let id = TopicIdPartition { topic: KafkaUuid(1), partition: 0 };
    let log = PartitionLog::create(home, 1, id, &mut write);
    engine.submit(write).unwrap();
    (engine, log)
}

/// Appends a batch with a value of `bytes` in `epoch`.
fn append(log: &mut PartitionLog, bytes: usize, epoch: LeaderEpoch) {
    let mut builder = BatchBuilder::new(1000);
    builder.push(1000, Some(b"key"), Some(&vec![b'v'; bytes]), &[]);
    let batch = builder.build();
    let header = BatchHeader::parse(&batch).unwrap();
    let checked = Checked { header, max_timestamp: 1000, timestamps: Timestamps::Keep, rebuild: None };
    let incoming = Incoming { batch, checked, now_ms: 0, epoch, chunk_ms_max: i64::MAX, claim: Claim::Records };
    let (told, outcome) = mpsc::channel();
    log.append_leader(incoming, 0, move |fate| told.send(fate).unwrap()).unwrap();
    outcome.recv().unwrap().unwrap();
}

fn read(log: &PartitionLog, from: Offset) -> Result<Batches, ReadFailure> {
    log.read(from, log.log_end(), 1 << 20, true).expect_err("nothing is in memory").run()
}

fn value_file(root: &Path) -> PathBuf {
    root.join("values").join("0000000001.values")
}

#[test]
fn a_byte_flipped_anywhere_is_never_given_out() {
    let root = tempfile::tempdir().unwrap();
    let (engine, mut log) = log_in(root.path());
    for (bytes, epoch) in [(600, 3), (10, 3), (700, 5)] {
        append(&mut log, bytes, epoch);
    }
    let written = read(&log, 0).unwrap();
    assert_eq!(written.len(), 3);
    let sound = std::fs::read(value_file(root.path())).unwrap();
    let end = sound.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    for at in 0..end {
        let mut changed = sound.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(value_file(root.path()), changed).unwrap();
        for from in 0..3 {
            match read(&log, from) {
                Ok(found) => assert_eq!(found, written[from as usize..from as usize + found.len()], "byte {at}"),
                Err(ReadFailure::Corrupt(_)) => refused += 1,
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
    let placed = written[0].len() + written[2].len();
    assert_eq!(refused, placed, "each byte of the two batches in the value log hides its batch, and only that");
    engine.close(true);
}

#[test]
fn what_lies_before_a_corrupt_batch_is_read() {
    let root = tempfile::tempdir().unwrap();
    let (engine, mut log) = log_in(root.path());
    for _ in 0..3 {
        append(&mut log, 600, 0);
    }
    let mut bytes = std::fs::read(value_file(root.path())).unwrap();
    let second = bytes.windows(600).enumerate().filter(|(_, window)| window.iter().all(|byte| *byte == b'v'));
    let second = second.map(|(at, _)| at).nth(1).unwrap();
    bytes[second + 300] = 0;
    std::fs::write(value_file(root.path()), bytes).unwrap();
    assert_eq!(read(&log, 0).unwrap().len(), 1);
    let failure = read(&log, 1).unwrap_err();
    assert_eq!(failure.code(), ErrorCode::CorruptMessage, "{failure}");
    assert_eq!(read(&log, 2).unwrap().len(), 1, "what lies behind it is there");
    assert_eq!(log.timestamps(3).at_or_after(1000).unwrap().map(|found| found.offset), Some(0));
    engine.close(true);
}
