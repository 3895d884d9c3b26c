//! Views over record batch bytes: the format that goes verbatim from producer to disk to consumer.
//!
//! A batch of format v2 (KIP-98, `DefaultRecordBatch`), big endian; positions in [`layout`]:
//!
//! | at | field | bytes | |
//! |---|---|---|---|
//! | 0 | base offset | 8 | 0 from a producer; the leader writes it |
//! | 8 | batch length | 4 | bytes after this field |
//! | 12 | partition leader epoch | 4 | the leader writes it; not covered by the CRC |
//! | 16 | magic | 1 | 2 |
//! | 17 | CRC-32C | 4 | over everything from attributes to the end |
//! | 21 | attributes | 2 | codec (bits 0-2), LogAppendTime (3), transactional (4), control (5), delete horizon (6) |
//! | 23 | last offset delta | 4 | of the newest record, even if compaction removed it |
//! | 27 | base timestamp | 8 | what the timestamp deltas of the records are added to |
//! | 35 | max timestamp | 8 | the largest of the records, or the append time |
//! | 43 | producer id | 8 | -1 none |
//! | 51 | producer epoch | 2 | -1 none |
//! | 53 | base sequence | 4 | -1 none |
//! | 57 | records count | 4 | may be 0 after compaction |
//! | 61 | records | | one compressed block if the codec is not 0 |
//!
//! A record: length varint, attributes i8, timestamp delta varlong, offset delta varint, key length varint (-1 null),
//! key, value length varint (-1 null), value, header count varint, headers (key, value with varint lengths). Varints
//! are zigzag.
//!
//! Invariants: every file here is pure. The broker writes into a produced batch in one place, [`stamp`]: base offset
//! and leader epoch always, attributes and max timestamp only where the topic's timestamp rules ask for it. Compaction
//! writes batches anew, in [`clean`]. Bytes are never trusted: no function panics on what it reads.

pub mod batch;
pub mod checksum;
pub mod clean;
pub mod compression;
pub mod record;
pub mod validate;

pub use batch::{BatchBuilder, BatchError, BatchHeader, Batches, EndMarker, Timestamps, batches, crc_matches, stamp};
pub use compression::{Codec, decompress};
pub use record::{Header, Record, find_timestamp, max_timestamp_record, records};
pub use validate::{Checked, Compression, ProduceRefused, ProduceRules, check_produced, conform};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// The only format the broker stores and accepts.
pub const MAGIC: i8 = 2;
/// The timestamp of a record that has none.
pub const NO_TIMESTAMP: i64 = -1;
/// The base sequence of a batch that has none.
pub const NO_SEQUENCE: i32 = -1;

/// Where the fields of a batch lie, in bytes from its start.
pub mod layout {
    pub const BASE_OFFSET: usize = 0;
    pub const BATCH_LENGTH: usize = 8;
    pub const LEADER_EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORDS_COUNT: usize = 57;
}

/// Bits of the attributes field.
pub mod attributes {
    pub const CODEC: i16 = 0x07;
    pub const LOG_APPEND_TIME: i16 = 0x08;
    pub const TRANSACTIONAL: i16 = 0x10;
    pub const CONTROL: i16 = 0x20;
    /// The base timestamp is the delete horizon of the batch; only compaction sets it.
    pub const DELETE_HORIZON: i16 = 0x40;
}
