//! RocksDB and its in-memory twin are driven with the same operations, reopened together, and must agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex as SyncMutex;
use proptest::prelude::*;

use super::*;
use crate::storage::keys;
use crate::storage::reserve::Space;

const OPTIONS: EngineOptions =
    EngineOptions { sync: true, value_file_bytes_max: 1 << 14, direct: true, read_cache_bytes: 8 << 20 };

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Op>),
    Look,
    Reopen,
    /// SIGKILL: what is on the disk then is opened elsewhere.
    Kill,
    Reclaim,
}

fn key() -> impl Strategy<Value = Key> {
    (0u32..3, 0i64..20).prop_map(|(log, base)| keys::batch(log, base))
}

fn op() -> impl Strategy<Value = Op> {
    let family = prop_oneof![Just(Family::State), Just(Family::Batches)];
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from),
        Just(Bytes::from(vec![7u8; 5000])),
    ];
    prop_oneof![
        6 => (family.clone(), key(), value).prop_map(|(family, key, value)| Op::Put(family, key, value)),
        2 => (family.clone(), key()).prop_map(|(family, key)| Op::Delete(family, key)),
        1 => (family, key(), key()).prop_map(|(family, one, other)| {
            Op::DeleteRange(family, one.min(other), one.max(other))
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(op(), 1..6).prop_map(Step::Write),
        3 => Just(Step::Look),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => Just(Step::Reclaim),
    ]
}

fn everything(engine: &Engine, family: Family) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let range = (keys::batch(0, 0), keys::batch(9, 0));
    engine
        .scan(family, range, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        })
        .unwrap();
    rows
}

fn floor(engine: &Engine, at: Key) -> Option<Vec<u8>> {
    let mut first = None;
    let range = (keys::batch(1, 0), keys::batch(1, 1000));
    engine
        .batches_from_floor(range, at, 4096, &mut |key, _| {
            first = Some(key.to_vec());
            false
        })
        .unwrap();
    first
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// What a process killed now would leave. A copy takes a moment, in which RocksDB may delete a file that it no longer
/// needs: then it is taken again.
pub(in crate::storage) fn killed(from: &Path) -> tempfile::TempDir {
    loop {
        let to = tempfile::tempdir().unwrap();
        match copy(from, to.path()) {
            Ok(()) => return to,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}

fn size(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len() as usize).sum()
}

async fn run(steps: Vec<Step>) {
    let env = Env::real();
    let mut root = tempfile::tempdir().unwrap();
    let disk = MemoryDisk::new();
    let mut rocks = Engine::open(&env, root.path(), &OPTIONS).unwrap();
    let mut memory = Engine::in_memory(&env, &disk, &OPTIONS);
    for step in steps.into_iter().chain([Step::Look]) {
        let look = !matches!(step, Step::Write(_));
        match step {
            Step::Look => {}
            Step::Write(ops) => {
                for engine in [&rocks, &memory] {
                    let mut write = Write::new();
                    write.ops = ops.clone();
                    engine.write(write).await.unwrap();
                }
            }
            Step::Reopen => {
                rocks.close(true);
                drop(rocks);
                disk.crash(0);
                rocks = Engine::open(&env, root.path(), &OPTIONS).unwrap();
                memory = Engine::in_memory(&env, &disk, &OPTIONS);
            }
            Step::Kill => {
                let killed = killed(root.path());
                rocks.close(true);
                rocks = Engine::open(&env, killed.path(), &OPTIONS).unwrap();
                root = killed;
            }
            Step::Reclaim => {
                // As compaction does: whoever overwrites or deletes one by one says so.
                rocks.note_garbage((keys::batch(0, 0), keys::batch(9, 0)));
                rocks.reclaim(u64::MAX).unwrap();
                let bytes: usize = everything(&rocks, Family::Batches).iter().map(|(_, value)| value.len()).sum();
                // A tenth of what is closed may be dead. The file that was active when the look began may be so whole:
                // it is closed by the group that moves what lives, which is at most all that lives. It holds less than
                // two files, the last group in it being larger than what was left of it; and files end with a block.
                let bound = bytes * 2 + 4 * OPTIONS.value_file_bytes_max as usize;
                assert!(size(&root.path().join("values")) <= bound, "space of the dead came back");
            }
        }
        if !look {
            // A look at the rows pours what waits of them.
            continue;
        }
        for family in [Family::State, Family::Batches] {
            assert_eq!(everything(&rocks, family), everything(&memory, family));
        }
        for base in [0, 5, 19] {
            let at = keys::batch(1, base);
            assert_eq!(floor(&rocks, at), floor(&memory, at), "floor of {base}");
        }
    }
    rocks.close(true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_twin_agrees_with_rocksdb(steps in proptest::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

/// Reads as a consumer at `from` does: some kilobytes, then again from where those end.
fn read_on(engine: &Engine, from: i64, end: i64) -> Vec<(i64, u8)> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let range = (keys::batch(1, 0), keys::batch(1, end));
    let visit = &mut |key: &[u8], value: Bytes| {
        let base = keys::base_of_batch(1, key).unwrap();
        let fits = bytes + value.len() <= 12_000;
        if fits && base >= from {
            bytes += value.len();
            found.push((base, value[0]));
        }
        fits
    };
    engine.batches_from_floor(range, keys::batch(1, from), 12_000, visit).unwrap();
    found
}

#[tokio::test]
async fn a_reader_that_goes_on_finds_every_row() {
    let env = Env::simulated(1, 0, crate::env::memory::MemoryNetwork::new().host("reader"));
    let root = tempfile::tempdir().unwrap();
    let engine = Engine::open(&Env::real(), root.path(), &OPTIONS).unwrap();
    let (mut model, mut end, mut at, mut passed) = (BTreeMap::new(), 0, 0, 0);
    for step in 0..1500u32 {
        let mut write = Write::new();
        match env.random_below(40) {
            // A truncation, and other batches where those were.
            0 => {
                let to = end - (env.random_below(30) as i64).min(end);
                write.delete_range(Family::Batches, (keys::batch(1, to), keys::batch(1, end)));
                model.retain(|base, _| *base < to);
                end = to;
            }
            1 => {
                let start = env.random_below(end as u64 / 2 + 1) as i64;
                write.delete_range(Family::Batches, (keys::batch(1, 0), keys::batch(1, start)));
                model.retain(|base, _| *base >= start);
            }
            2 => engine.reclaim(u64::MAX).unwrap(),
            3..12 => {
                for _ in 0..env.random_below(30) {
                    let bytes = if env.random_below(200) == 0 { 20 } else { 700 };
                    write.put(Family::Batches, keys::batch(1, end), Bytes::from(vec![step as u8; bytes]));
                    model.insert(end, step as u8);
                    end += 1 + (env.random_below(20) == 0) as i64;
                }
            }
            _ => {
                let found = read_on(&engine, at, end);
                let expected: Vec<(i64, u8)> = model.range(at..).map(|(base, fill)| (*base, *fill)).collect();
                assert_eq!(found, expected[..found.len()], "step {step}");
                assert_eq!(found.is_empty(), expected.is_empty(), "step {step}");
                passed += found.len();
                at = found.last().map_or_else(|| env.random_below(end as u64 + 1) as i64, |(base, _)| base + 1);
            }
        }
        if !write.ops.is_empty() {
            engine.write(write).await.unwrap();
        }
    }
    assert!(passed > 5_000, "{passed}");
    engine.close(true);
}

fn put(base: i64) -> Write {
    let mut write = Write::new();
    write.put(Family::Batches, keys::batch(1, base), Bytes::from_static(b"x"));
    write
}

#[tokio::test]
async fn done_is_called_in_order_and_once() {
    let env = Env::real();
    let root = tempfile::tempdir().unwrap();
    let engine = Engine::open(&env, root.path(), &OPTIONS).unwrap();
    let order = Arc::new(SyncMutex::new(Vec::new()));
    for base in 0..100 {
        let order = order.clone();
        engine.submit(put(base).when_done(move |fate| order.lock().push((base, fate.is_ok())))).unwrap();
    }
    engine.close(true);
    assert_eq!(*order.lock(), (0..100).map(|base| (base, true)).collect::<Vec<_>>());
    assert!(engine.submit(put(100)).is_err(), "a closed engine refuses");
}

#[tokio::test(start_paused = true)]
async fn a_crash_keeps_what_was_acknowledged_and_a_prefix_of_the_rest() {
    let env = Env::real();
    let disk = MemoryDisk::new();
    let engine = Engine::in_memory(&env, &disk, &EngineOptions { sync: false, ..OPTIONS });
    for base in 0..10 {
        engine.write(put(base)).await.unwrap();
    }
    assert_eq!(disk.unsynced(), 10);
    disk.crash(4);
    let reopened = Engine::in_memory(&env, &disk, &OPTIONS);
    assert_eq!(everything(&reopened, Family::Batches).len(), 4);
    reopened.write(put(50)).await.unwrap();
    disk.crash(0);
    assert_eq!(everything(&reopened, Family::Batches).len(), 5, "synced before done");
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_poisons_for_good() {
    let env = Env::real();
    let disk = MemoryDisk::new();
    let engine = Engine::in_memory(&env, &disk, &OPTIONS);
    disk.break_with("no space");
    assert_eq!(engine.write(put(1)).await, Err(Poisoned("no space".into())));
    assert_eq!(engine.poison(), Some(Poisoned("no space".into())));
    assert!(engine.submit(put(2)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for() {
    let env = Env::real();
    let disk = MemoryDisk::new();
    let engine = Engine::in_memory(&env, &disk, &OPTIONS);
    disk.set_space(Some(Space { total_bytes: 10, usable_bytes: 0 }));
    let order = Arc::new(SyncMutex::new(Vec::new()));
    for base in 0..5 {
        let order = order.clone();
        engine.submit(put(base).when_done(move |fate| order.lock().push((base, fate.is_ok())))).unwrap();
    }
    env.sleep(ROOM_PAUSE * 10).await;
    assert!(engine.is_full() && order.lock().is_empty());
    assert!(everything(&engine, Family::Batches).is_empty());
    disk.set_space(None);
    env.sleep(ROOM_PAUSE * 2).await;
    assert_eq!(*order.lock(), (0..5).map(|base| (base, true)).collect::<Vec<_>>());
    assert!(!engine.is_full() && engine.poison().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_engine_is_closed_although_its_disk_is_full() {
    let env = Env::real();
    let disk = MemoryDisk::new();
    let engine = Engine::in_memory(&env, &disk, &OPTIONS);
    disk.set_space(Some(Space { total_bytes: 10, usable_bytes: 0 }));
    let (told, outcome) = tokio::sync::oneshot::channel();
    engine.submit(put(1).when_done(move |fate| drop(told.send(fate)))).unwrap();
    env.sleep(ROOM_PAUSE).await;
    engine.close(false);
    assert!(outcome.await.unwrap().is_err(), "never acknowledged");
}
