//! Logs on disk: one engine per data directory, one [`log::PartitionLog`] per hosted partition.
//!
//! What holds here:
//! * Batches stay verbatim: only base offset, leader epoch and, where the protocol says so, timestamps are stamped.
//! * One append is one atomic write: batch, log state, producer row, epoch row. A start therefore scans no batch.
//! * One lane per directory writes in order and syncs once for everything that waits.
//! * Nothing is undone: an append refuses before an offset exists, or succeeds, or its directory is poisoned.
//! * `log_start ≤ high_watermark ≤ log_end`, and every offset in between is readable or was compacted.
//!
//! The path of a write: (1) validated outside any lock; (2) under the partition's lock: sequence checked, offset
//! assigned, batch stamped, rows queued, tail cache extended; (3) the lane merges what is queued into one RocksDB write
//! and syncs
//! it; (4) `done` moves the high watermark and wakes who waits.

pub mod backups;
pub mod compaction;
pub mod dirs;
pub mod engine;
pub mod epochs;
pub mod findings;
pub mod key_offsets;
pub mod keys;
pub mod log;
pub mod producers;
pub mod reserve;
pub mod retention;
pub mod state;
pub mod tail;
