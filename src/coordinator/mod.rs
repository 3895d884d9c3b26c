//! State machines that live in partitions of internal topics: decide, append, replay, release.
//!
//! Groups (and later transactions) are owned by the leader of one partition of an internal topic: their *shard*. A
//! shard is a plain value that decides; the runtime around it is an actor that appends, replays and releases:
//!
//! ```text
//!  ask ──► decide(&state, ask) ──► Decision { records, next, answers, timers }   pure, changes nothing, may refuse
//!            │ records
//!            ▼
//!          append as one batch to the journal       refused: the whole decision is dropped, the asker told why
//!            │ offsets assigned
//!            ▼
//!          replay(records) · adopt(next) · set timers      the only writers of state; replay is also how it is loaded
//!            │ answers, parked at the offset last appended
//!            ▼
//!          release the answers once the journal's commit point has passed that offset
//! ```
//!
//! * The next ask is decided as soon as the records of the last one are replayed; nobody waits for a commit except the
//!   one who asked. State may therefore run ahead of the commit point, answers never do.
//! * A read is a decision without records. It is released at the offset last appended when it was decided, so that it
//!   cannot show what a new leader may not have. That replaces versions of the state.
//! * Nothing is ever undone. An append refuses before it assigns an offset, or it holds. A shard that loses its
//!   journal is dropped with all of its soft state, its waiting askers get `NotCoordinator`, and the next leader loads
//!   by replay.
//!
//! Where to look: [`shard`] for the words, [`runtime`] for the actor, `load` for what comes before serving, [`journal`]
//! for the partition behind it, [`registry`] for which shard owns a key and whether it is here, [`group`] for the
//! machine of `__consumer_offsets`.

pub mod group;
pub mod journal;
mod load;
pub mod registry;
pub mod runtime;
pub mod shard;
#[cfg(test)]
mod toy;

pub use group::record::GroupRecord;
pub use group::{GroupAnswer, GroupAsk, GroupLimits, GroupShard};
pub use journal::PartitionJournal;
pub use registry::{GroupCoordinator, Shards};
pub use runtime::Images;
pub use shard::{AnswerId, Decision, Journal, Shard, TimerChange};
