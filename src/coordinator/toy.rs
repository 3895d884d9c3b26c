//! A machine and a journal small enough to be seen through, for the tests of the runtime.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::runtime::Images;
use super::shard::{AnswerId, Decision, Journal, Shard, TimerChange};
use crate::env::{BoxFuture, Duplex, Env, Listener, Net};
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerId, WallMillis};
use crate::metadata::ClusterImage;
use crate::records::{BatchBuilder, BatchHeader, NO_SEQUENCE, Timestamps, stamp};

/// When every test begins.
pub const START_MS: WallMillis = 1_700_000_000_000;
/// The largest batch a [`MemoryJournal`] takes.
pub const BATCH_BYTES_MAX: usize = 4096;

/// A dictionary. A meaning of `until <ms>` is a lease: the word is forgotten at that time.
#[derive(Default)]
pub struct Toy {
    words: BTreeMap<String, (Offset, String)>,
    /// Soft: who waits for a word to get another meaning.
    waiting: BTreeMap<String, Vec<AnswerId>>,
}

pub enum ToyAsk {
    Put(String, String),
    Look(&'static str),
    /// Answered when the word changes next.
    Await(&'static str),
    /// Everything, with the offsets it stands at.
    Print,
    Break,
}

pub type ToyAnswer = Result<Option<String>, ErrorCode>;

impl Toy {
    /// All words with the offsets they stand at and their meanings.
    pub fn print(&self) -> String {
        let words = self.words.iter().map(|(word, (at, meaning))| format!("{word}@{at}={meaning}"));
        words.collect::<Vec<_>>().join(" ")
    }

    fn change(&self, word: &str, meaning: Option<String>) -> Decision<Toy> {
        let mut waiting = self.waiting.clone();
        let told = waiting.remove(word).unwrap_or_default();
        let answers = told.into_iter().map(|id| (id, Ok(meaning.clone()))).collect();
        let timers = match meaning.as_deref().and_then(lease_ms) {
            Some(until_ms) => vec![TimerChange::Set(word.to_owned(), until_ms)],
            None => vec![TimerChange::Cancel(word.to_owned())],
        };
        Decision { records: vec![(word.to_owned(), meaning)], next: Some(waiting), answers, timers }
    }
}

fn lease_ms(meaning: &str) -> Option<WallMillis> {
    meaning.strip_prefix("until ")?.parse().ok()
}

impl Shard for Toy {
    type Ask = ToyAsk;
    type Answer = ToyAnswer;
    type Record = (String, Option<String>);
    type Soft = BTreeMap<String, Vec<AnswerId>>;
    type Timer = String;

    fn decide(&self, _now: WallMillis, _image: &ClusterImage, ask: ToyAsk, id: AnswerId) -> Decision<Toy> {
        match ask {
            ToyAsk::Put(word, meaning) => {
                let mut decision = self.change(&word, Some(meaning));
                decision.answers.push((id, Ok(None)));
                decision
            }
            ToyAsk::Look(word) => Decision::answer(id, Ok(self.words.get(word).map(|(_, meaning)| meaning.clone()))),
            ToyAsk::Await(word) => {
                let mut waiting = self.waiting.clone();
                waiting.entry(word.to_owned()).or_default().push(id);
                Decision { next: Some(waiting), ..Decision::nothing() }
            }
            ToyAsk::Print => Decision::answer(id, Ok(Some(self.print()))),
            ToyAsk::Break => panic!("broken on purpose"),
        }
    }

    fn expire(&self, _now: WallMillis, _image: &ClusterImage, timer: &String) -> Decision<Toy> {
        self.change(timer, None)
    }

    fn replay(&mut self, offset: Offset, (word, meaning): Self::Record) {
        match meaning {
            Some(meaning) => self.words.insert(word, (offset, meaning)),
            None => self.words.remove(&word),
        };
    }

    fn adopt(&mut self, next: Self::Soft) {
        self.waiting = next;
    }

    fn loaded(&self, _now: WallMillis) -> Vec<TimerChange<String>> {
        let lease = |(word, (_, meaning)): (&String, &(Offset, String))| {
            lease_ms(meaning).map(|until_ms| TimerChange::Set(word.clone(), until_ms))
        };
        self.words.iter().filter_map(lease).collect()
    }

    fn refuse(code: ErrorCode) -> ToyAnswer {
        Err(code)
    }

    fn encode((word, meaning): &Self::Record) -> (Bytes, Option<Bytes>) {
        (Bytes::from(word.clone()), meaning.clone().map(Bytes::from))
    }

    fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Self::Record>, String> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string());
        let word = text(key)?;
        match word.as_str() {
            "?" => Ok(None),
            "!" => Err("a broken word".to_owned()),
            _ => Ok(Some((word, value.map(text).transpose()?))),
        }
    }
}

/// A journal in memory whose commit point the test moves.
pub struct MemoryJournal {
    batches: Mutex<Vec<Bytes>>,
    refusal: Mutex<Option<ErrorCode>>,
    commit_point: watch::Sender<Result<Offset, ErrorCode>>,
    readable: watch::Sender<bool>,
}

impl MemoryJournal {
    pub fn new() -> Arc<MemoryJournal> {
        Arc::new(MemoryJournal {
            batches: Mutex::default(),
            refusal: Mutex::default(),
            commit_point: watch::Sender::new(Ok(0)),
            readable: watch::Sender::new(true),
        })
    }

    /// A journal that commits what it takes.
    pub fn committing() -> Arc<MemoryJournal> {
        let journal = MemoryJournal::new();
        journal.commit(Offset::MAX);
        journal
    }

    /// Moves the commit point.
    pub fn commit(&self, end: Offset) {
        self.commit_point.send_modify(|point| *point = Ok(end));
    }

    /// Fails whoever waits for the commit point.
    pub fn fail_commits(&self, code: ErrorCode) {
        self.commit_point.send_modify(|point| *point = Err(code));
    }

    /// Refuses appends from now on.
    pub fn refuse(&self, code: ErrorCode) {
        *self.refusal.lock() = Some(code);
    }

    /// Takes appends again.
    pub fn accept(&self) {
        *self.refusal.lock() = None;
    }

    /// Lets reads through, or has them wait.
    pub fn set_readable(&self, readable: bool) {
        self.readable.send_replace(readable);
    }

    /// Appends a batch whatever the coordinator thinks of it; the offset after it.
    pub fn write(&self, batch: Bytes) -> Offset {
        let mut batches = self.batches.lock();
        let batch = stamp(batch, end_of(&batches), 0, Timestamps::Keep);
        batches.push(batch);
        end_of(&batches)
    }
}

fn end_of(batches: &[Bytes]) -> Offset {
    batches.last().map_or(0, |batch| BatchHeader::parse(batch).unwrap().next_offset())
}

impl Journal for MemoryJournal {
    fn append(&self, batch: Bytes) -> Result<Offset, ErrorCode> {
        match *self.refusal.lock() {
            Some(code) => Err(code),
            None => Ok(self.write(batch)),
        }
    }

    fn committed(&self, end: Offset) -> BoxFuture<'static, Result<(), ErrorCode>> {
        let mut commit_point = self.commit_point.subscribe();
        Box::pin(async move {
            let passed = commit_point.wait_for(|point| !matches!(point, Ok(at) if *at < end)).await;
            passed.map_or(Err(ErrorCode::NotLeaderOrFollower), |point| (*point).map(|_| ()))
        })
    }

    fn log_start(&self) -> Offset {
        0
    }

    fn log_end(&self) -> Offset {
        end_of(&self.batches.lock())
    }

    /// One batch at a time, so that a load takes several reads, and none that is not committed: it need not be on disk.
    fn read(&self, from: Offset, _max_bytes: usize) -> BoxFuture<'static, Result<Bytes, ErrorCode>> {
        let (batches, committed) = (self.batches.lock().clone(), *self.commit_point.borrow());
        let mut readable = self.readable.subscribe();
        Box::pin(async move {
            let _ = readable.wait_for(|readable| *readable).await;
            let end = |batch: &Bytes| BatchHeader::parse(batch).unwrap().next_offset();
            let is_on_disk = |batch: &Bytes| committed.is_ok_and(|committed| end(batch) <= committed);
            Ok(batches.into_iter().find(|batch| end(batch) > from).filter(is_on_disk).unwrap_or_default())
        })
    }

    fn max_batch_bytes(&self) -> usize {
        BATCH_BYTES_MAX
    }
}

struct NoNet;

impl Net for NoNet {
    fn bind<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// A world whose wall clock starts at [`START_MS`] and moves with tokio's.
pub fn env() -> Env {
    Env::simulated(1, START_MS, Arc::new(NoNet))
}

/// An empty cluster.
pub fn images() -> Images {
    let image = Arc::new(ClusterImage::default());
    Arc::new(move || image.clone())
}

/// The ask that gives `word` a meaning.
pub fn put(word: &str, meaning: impl Into<String>) -> ToyAsk {
    ToyAsk::Put(word.to_owned(), meaning.into())
}

/// A batch of words, in the open transaction of `producer` if there is one.
pub fn batch(producer: Option<ProducerId>, records: &[(&str, Option<&str>)]) -> Bytes {
    let mut batch = BatchBuilder::new(START_MS);
    if let Some(producer) = producer {
        batch = batch.producer(producer, 0, NO_SEQUENCE).transactional();
    }
    for (word, meaning) in records {
        batch.push(START_MS, Some(word.as_bytes()), meaning.map(str::as_bytes), &[]);
    }
    batch.build()
}
