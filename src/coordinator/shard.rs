//! What a replicated state machine is to the runtime: `Shard` decides, `Journal` is the log it lives in.
//!
//! Invariants: `decide` and `expire` change nothing and draw neither time nor chance (both arrive as arguments or
//! inside the ask). Hard state changes only in `replay`, soft state only in `adopt`, and both happen only after the
//! journal accepted the decision's records. Replaying the journal into a fresh shard gives the hard state of the living
//! one.

use std::fmt::Debug;

use bytes::Bytes;

use crate::env::BoxFuture;
use crate::error::ErrorCode;
use crate::ids::{Offset, WallMillis};
use crate::metadata::ClusterImage;

/// Names one ask within one shard until it is answered. A machine may keep it (a parked JoinGroup) and answer it in a
/// later decision; it never sees the socket behind it. Ids are not reused while a shard lives.
pub type AnswerId = u64;

/// A replicated state machine: the groups, or later the transactions, of one partition of an internal topic.
pub trait Shard: Send + Sized + 'static {
    /// What can be asked. It brings along whatever randomness the decision may need (new member ids).
    type Ask: Send + 'static;
    /// What is answered.
    type Answer: Send + 'static;
    /// One fact of the journal.
    type Record: Clone + Send + 'static;
    /// The next value of the one soft object a decision touches (members joining, parked ids, deadlines).
    type Soft: Send + 'static;
    /// Names a timer. Setting the same name again moves its deadline.
    type Timer: Ord + Clone + Send + Debug + 'static;

    /// Decides one ask. Either the decision answers `id`, or `next` remembers it for a later decision.
    /// A refusal is an answer without records.
    fn decide(&self, now: WallMillis, image: &ClusterImage, ask: Self::Ask, id: AnswerId) -> Decision<Self>;

    /// Decides what follows from a timer that fired; by then the timer is no longer set. If the journal refuses the
    /// decision, the same timer fires again a little later.
    fn expire(&self, now: WallMillis, image: &ClusterImage, timer: &Self::Timer) -> Decision<Self>;

    /// Applies one record, at `offset` of the journal: the only writer of hard state, live and at load.
    /// At load the record of a committed transaction arrives when its marker is read, with its own lower offset.
    fn replay(&mut self, offset: Offset, record: Self::Record);

    /// Takes over the soft state of a decision, after its records were appended and replayed.
    fn adopt(&mut self, next: Self::Soft);

    /// The timers to set once the journal has been replayed and before the first ask is decided.
    fn loaded(&self, now: WallMillis) -> Vec<TimerChange<Self::Timer>>;

    /// The answer that carries only `code`, for an ask that was not decided or whose decision was dropped. The runtime
    /// says `CoordinatorLoadInProgress`, `CoordinatorNotAvailable` (too many asks wait) and `NotCoordinator` (the shard
    /// moved away); after a refused append it says `MessageTooLarge` (the records do not fit a batch) or the journal's
    /// own code, which the machine translates into what its clients know.
    fn refuse(code: ErrorCode) -> Self::Answer;

    /// Key and value of a record in the journal; no value is a tombstone.
    fn encode(record: &Self::Record) -> (Bytes, Option<Bytes>);

    /// The record behind a key and value. `None`: a record of a type that this version does not know, skipped at load.
    /// The error says what is wrong with the bytes, for the operator.
    fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Self::Record>, String>;
}

/// What a shard wants done. All of it happens, or, if the journal refuses the records, none of it.
pub struct Decision<S: Shard> {
    /// Facts to append, as one batch, in this order. What does not fit one batch of the journal is refused whole
    /// (`MessageTooLarge`), so a machine that has a lot to forget does it in several decisions.
    pub records: Vec<S::Record>,
    /// Soft state to adopt.
    pub next: Option<S::Soft>,
    /// Answers to release once everything appended so far is committed.
    pub answers: Vec<(AnswerId, S::Answer)>,
    /// Timers to set and cancel, in this order.
    pub timers: Vec<TimerChange<S::Timer>>,
}

impl<S: Shard> Decision<S> {
    /// Nothing to do.
    pub fn nothing() -> Decision<S> {
        Decision { records: Vec::new(), next: None, answers: Vec::new(), timers: Vec::new() }
    }

    /// A read or a refusal: one answer, and nothing changes.
    pub fn answer(id: AnswerId, answer: S::Answer) -> Decision<S> {
        Decision { answers: vec![(id, answer)], ..Decision::nothing() }
    }
}

/// What happens to a timer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TimerChange<T> {
    /// Fire at this wall-clock time (at once if it has passed); replaces an earlier deadline of the same timer.
    Set(T, WallMillis),
    /// Do not fire; no harm if it was not set.
    Cancel(T),
}

/// The log a shard lives in: its only door out.
///
/// A journal belongs to one term of leadership: when that ends, `append` and `committed` fail for good, so that a shard
/// that has not noticed cannot write into its successor's log.
pub trait Journal: Send + Sync + 'static {
    /// Appends one batch atomically and returns the offset after it, or refuses before an offset is assigned.
    fn append(&self, batch: Bytes) -> Result<Offset, ErrorCode>;

    /// Resolves when everything below `end` is committed (high watermark ≥ `end`); an error means that leadership or
    /// the disk is lost.
    fn committed(&self, end: Offset) -> BoxFuture<'static, Result<(), ErrorCode>>;

    /// The first offset that may be read.
    fn log_start(&self) -> Offset;

    /// The offset after the last record appended.
    fn log_end(&self) -> Offset;

    /// Whole batches that start with the one containing `from`: about `max_bytes`, at least one; also above the commit
    /// point. Empty if nothing is left.
    fn read(&self, from: Offset, max_bytes: usize) -> BoxFuture<'static, Result<Bytes, ErrorCode>>;

    /// The largest batch `append` takes, in bytes (`max.message.bytes` of the topic).
    fn max_batch_bytes(&self) -> usize;
}
