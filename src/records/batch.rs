//! One record batch: its header as a value, its CRC, what the leader stamps into it, and small batches built from
//! scratch.
//!
//! Invariants: a [`BatchHeader`] from [`BatchHeader::parse`] has a length of at least [`HEADER_BYTES`]; no arithmetic
//! on its other fields can overflow, whatever they hold. [`stamp`] leaves the records untouched. Every batch built
//! here is sealed with a valid CRC.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::checksum;
use super::compression::{self, Codec};
use super::record::{self, Fields, Header};
use super::{HEADER_BYTES, MAGIC, NO_SEQUENCE, NO_TIMESTAMP, attributes, layout};
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, ProducerId, WallMillis};

/// Bytes up to and including the length field, which that field does not count.
const LENGTH_OVERHEAD: usize = 12;

/// Why bytes are not a batch we can read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BatchError {
    /// Fewer bytes than a header, or than the header announces.
    Truncated,
    /// The length field is smaller than a header.
    Length(i32),
    /// A format other than v2.
    Magic(i8),
    /// A codec without a meaning.
    Codec(i16),
    /// A record that does not parse; says what is wrong with it.
    Record(&'static str),
    /// The codec refuses the block of records.
    Compression(String),
    /// More than [`compression::DECODED_BYTES_MAX`] bytes, or the caller's limit, once decoded.
    TooLarge,
}

impl BatchError {
    /// What a producer is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::Truncated | BatchError::Length(_) => ErrorCode::CorruptMessage,
            BatchError::TooLarge => ErrorCode::MessageTooLarge,
            BatchError::Codec(_) => ErrorCode::UnsupportedCompressionType,
            BatchError::Magic(_) | BatchError::Record(_) | BatchError::Compression(_) => ErrorCode::InvalidRecord,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Truncated => f.write_str("The record batch ends early"),
            BatchError::Length(length) => write!(f, "The record batch has an impossible length {length}"),
            BatchError::Magic(magic) => write!(f, "The record batch has magic {magic} instead of 2"),
            BatchError::Codec(id) => write!(f, "Unknown compression type id: {id}"),
            BatchError::Record(what) => write!(f, "Invalid record: {what}"),
            BatchError::Compression(what) => write!(f, "Failed to decompress record stream: {what}"),
            BatchError::TooLarge => f.write_str("The record batch is too large once decompressed"),
        }
    }
}

impl std::error::Error for BatchError {}

/// The header of a batch; fields as in [`layout`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after the length field; see [`BatchHeader::size_bytes`].
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: ProducerId,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads a header from the start of `bytes`. Checks lengths only: the magic is the caller's, and the records need
    /// not be there yet.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(BatchError::Truncated)?;
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(part(head, layout::BASE_OFFSET)),
            batch_length: i32::from_be_bytes(part(head, layout::BATCH_LENGTH)),
            leader_epoch: i32::from_be_bytes(part(head, layout::LEADER_EPOCH)),
            magic: i8::from_be_bytes(part(head, layout::MAGIC)),
            crc: u32::from_be_bytes(part(head, layout::CRC)),
            attributes: i16::from_be_bytes(part(head, layout::ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(part(head, layout::LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(part(head, layout::BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(part(head, layout::MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(part(head, layout::PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(part(head, layout::PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(part(head, layout::BASE_SEQUENCE)),
            records_count: i32::from_be_bytes(part(head, layout::RECORDS_COUNT)),
        };
        if header.size_bytes() < HEADER_BYTES {
            return Err(BatchError::Length(header.batch_length));
        }
        Ok(header)
    }

    /// The whole batch, header included.
    pub fn size_bytes(&self) -> usize {
        LENGTH_OVERHEAD + self.batch_length.max(0) as usize
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let id = self.attributes & attributes::CODEC;
        Codec::from_id(id).ok_or(BatchError::Codec(id))
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & attributes::TRANSACTIONAL != 0
    }

    /// True for end-of-transaction markers and their kin: nothing a user wrote.
    pub fn is_control(&self) -> bool {
        self.attributes & attributes::CONTROL != 0
    }

    /// True if the broker's append time stands for the time of every record (`LogAppendTime`).
    pub fn timestamp_type_is_append(&self) -> bool {
        self.attributes & attributes::LOG_APPEND_TIME != 0
    }

    /// The time from which on compaction may remove the tombstones or the marker in this batch; the base timestamp of
    /// the batch holds it (`DefaultRecordBatch.deleteHorizonMs`).
    pub fn delete_horizon_ms(&self) -> Option<WallMillis> {
        (self.attributes & attributes::DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// True for a batch of an idempotent or transactional producer.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The first offset after this batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    /// The sequence of the last record; after `i32::MAX` comes 0. [`NO_SEQUENCE`] if the batch has none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return NO_SEQUENCE;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last & i64::from(i32::MAX)) as i32
    }

    /// The timestamp of a record with this delta.
    pub fn record_timestamp(&self, timestamp_delta: i64) -> i64 {
        if self.timestamp_type_is_append() {
            self.max_timestamp
        } else {
            self.base_timestamp.wrapping_add(timestamp_delta)
        }
    }

    /// A whole batch of this header and `body`, with length and CRC made to fit.
    pub(super) fn seal(&self, body: &[u8]) -> Bytes {
        let length = HEADER_BYTES - LENGTH_OVERHEAD + body.len();
        let length = i32::try_from(length).expect("a batch is far smaller than 2 GiB");
        let mut out = BytesMut::with_capacity(HEADER_BYTES + body.len());
        out.put_i64(self.base_offset);
        out.put_i32(length);
        out.put_i32(self.leader_epoch);
        out.put_i8(self.magic);
        out.put_u32(0);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.records_count);
        out.put_slice(body);
        write_crc(&mut out);
        out.freeze()
    }
}

/// Splits bytes into batches. Each item shares the memory of `bytes`. Bytes left over that are no whole batch give
/// one last `Err`; after an `Err` the iterator is at its end.
pub fn batches(bytes: Bytes) -> Batches {
    Batches { rest: bytes }
}

/// See [`batches`].
pub struct Batches {
    rest: Bytes,
}

impl Iterator for Batches {
    type Item = Result<(BatchHeader, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = match BatchHeader::parse(&self.rest) {
            Ok(header) if header.size_bytes() <= self.rest.len() => {
                let batch = self.rest.split_to(header.size_bytes());
                Ok((header, batch))
            }
            Ok(_) => Err(BatchError::Truncated),
            Err(error) => Err(error),
        };
        if item.is_err() {
            self.rest.clear();
        }
        Some(item)
    }
}

/// True if the CRC of exactly one batch is right.
pub fn crc_matches(batch: &[u8]) -> bool {
    let stored = batch.get(layout::CRC..).and_then(|bytes| bytes.first_chunk::<4>());
    match (stored, batch.get(layout::ATTRIBUTES..)) {
        (Some(stored), Some(covered)) => u32::from_be_bytes(*stored) == checksum::of(covered),
        _ => false,
    }
}

/// What [`stamp`] does to a batch's timestamps. Both rewrites change bytes under the CRC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timestamps {
    /// They are right as they came.
    Keep,
    /// CreateTime: the producer's `max_timestamp` or timestamp type was wrong; this is the largest of the records.
    Created { max: i64 },
    /// LogAppendTime: the broker's clock stands for every record.
    Appended(WallMillis),
}

/// Makes a checked batch the log's: base offset, leader epoch and, where asked for, timestamps. Works in place if
/// nobody else holds the memory of `batch`, otherwise on one copy. Recomputes the CRC only if it changed what the CRC
/// covers.
pub fn stamp(batch: Bytes, base_offset: Offset, epoch: LeaderEpoch, timestamps: Timestamps) -> Bytes {
    assert!(batch.len() >= HEADER_BYTES, "a batch is checked before it is stamped");
    let mut bytes = batch.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    put(&mut bytes, layout::BASE_OFFSET, base_offset.to_be_bytes());
    put(&mut bytes, layout::LEADER_EPOCH, epoch.to_be_bytes());
    let rewrite = match timestamps {
        Timestamps::Keep => None,
        Timestamps::Created { max } => Some((0, max)),
        Timestamps::Appended(now_ms) => Some((attributes::LOG_APPEND_TIME, now_ms)),
    };
    if let Some((timestamp_type, max)) = rewrite {
        let old = i16::from_be_bytes([bytes[layout::ATTRIBUTES], bytes[layout::ATTRIBUTES + 1]]);
        let new = (old & !attributes::LOG_APPEND_TIME) | timestamp_type;
        put(&mut bytes, layout::ATTRIBUTES, new.to_be_bytes());
        put(&mut bytes, layout::MAX_TIMESTAMP, max.to_be_bytes());
        write_crc(&mut bytes);
    }
    bytes.freeze()
}

/// Encodes the records of a batch anew: with another codec, and with offset deltas 0, 1, 2… Everything else stays.
pub fn rebuild(batch: &Bytes, codec: Codec, level: Option<i32>) -> Result<Bytes, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let body = compression::compress(codec, level, &record::renumbered(batch)?)?;
    let attributes = (header.attributes & !attributes::CODEC) | codec.id();
    let last_offset_delta = header.records_count.saturating_sub(1);
    Ok(BatchHeader { attributes, last_offset_delta, ..header }.seal(&body))
}

/// Builds a small uncompressed batch: what coordinators write.
pub struct BatchBuilder {
    header: BatchHeader,
    body: BytesMut,
}

impl BatchBuilder {
    /// An empty batch. The timestamps of the records are stored relative to `base_timestamp`.
    pub fn new(base_timestamp: i64) -> BatchBuilder {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: Codec::None.id(),
            last_offset_delta: -1,
            base_timestamp,
            max_timestamp: NO_TIMESTAMP,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: NO_SEQUENCE,
            records_count: 0,
        };
        BatchBuilder { header, body: BytesMut::new() }
    }

    /// Says who writes; `base_sequence` is [`NO_SEQUENCE`] for what a coordinator writes on a producer's behalf.
    pub fn producer(mut self, id: ProducerId, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of the producer's open transaction.
    pub fn transactional(mut self) -> BatchBuilder {
        self.header.attributes |= attributes::TRANSACTIONAL;
        self
    }

    /// Adds a record; `timestamp` in milliseconds since the epoch.
    pub fn push(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) {
        let timestamp_delta = timestamp.wrapping_sub(self.header.base_timestamp);
        let offset_delta = self.header.records_count;
        Fields { offset_delta, timestamp_delta, key, value, headers }.put(&mut self.body);
        self.header.last_offset_delta = offset_delta;
        self.header.records_count = offset_delta + 1;
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.header.records_count
    }

    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The size of the batch if it were built now.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// The batch, as a producer would send it: base offset 0, no leader epoch.
    pub fn build(self) -> Bytes {
        assert!(!self.is_empty(), "a batch has at least one record");
        self.header.seal(&self.body)
    }
}

/// What the single record of an end-of-transaction marker says (`EndTransactionMarker`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndMarker {
    pub committed: bool,
    /// The epoch of the transaction coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// The control batch that ends the transaction of a producer.
    pub fn batch(self, producer_id: ProducerId, producer_epoch: i16, now_ms: WallMillis) -> Bytes {
        let kind = i16::from(self.committed).to_be_bytes();
        let epoch = self.coordinator_epoch.to_be_bytes();
        let key = [0, 0, kind[0], kind[1]];
        let value = [0, 0, epoch[0], epoch[1], epoch[2], epoch[3]];
        let mut builder = BatchBuilder::new(now_ms).producer(producer_id, producer_epoch, NO_SEQUENCE).transactional();
        builder.header.attributes |= attributes::CONTROL;
        builder.push(now_ms, Some(&key), Some(&value), &[]);
        builder.build()
    }

    /// The marker in a batch; `None` for a batch of data, for control batches of other kinds, and for what compaction
    /// has left of one.
    pub fn read(batch: &Bytes) -> Result<Option<EndMarker>, BatchError> {
        let header = BatchHeader::parse(batch)?;
        if !header.is_control() || header.records_count == 0 {
            return Ok(None);
        }
        let records = record::records(batch)?;
        let marker = records.first().ok_or(BatchError::Record("a control batch without a record"))?;
        // Key: version, kind. Later versions may append fields, so only the start is read.
        let key = marker.key.as_deref().and_then(|key| key.first_chunk::<4>());
        let &[_, _, kind @ ..] = key.ok_or(BatchError::Record("a control record without a kind"))?;
        let committed = match i16::from_be_bytes(kind) {
            0 => false,
            1 => true,
            _ => return Ok(None),
        };
        let value = marker.value.as_deref().and_then(|value| value.first_chunk::<6>());
        let &[_, _, epoch @ ..] = value.ok_or(BatchError::Record("a marker without a coordinator epoch"))?;
        Ok(Some(EndMarker { committed, coordinator_epoch: i32::from_be_bytes(epoch) }))
    }
}

fn part<const N: usize>(head: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&head[at..at + N]);
    field
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&field);
}

fn write_crc(batch: &mut [u8]) {
    let crc = checksum::of(&batch[layout::ATTRIBUTES..]);
    put(batch, layout::CRC, crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two records, (k, v1) and (null, v2 with headers h=x and n=null), at 1700000000000 and 5 ms later.
    const GOLDEN: [u8; 87] = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x4b, 0xff, 0xff, 0xff, 0xff, 2, 0x42, 0x7c, 0xfa, 0x44, 0, 0, 0, 0, 0, 1, 0,
        0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0, 0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 0x12, 0, 0, 0, 2, b'k', 4, b'v', b'1', 0, 0x1e, 0, 0x0a,
        2, 1, 4, b'v', b'2', 4, 2, b'h', 2, b'x', 2, b'n', 1,
    ];

    /// A commit by coordinator epoch 7 for producer 4000, epoch 3, at 1000 ms.
    const GOLDEN_MARKER: [u8; 78] = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x42, 0xff, 0xff, 0xff, 0xff, 2, 0xdc, 0x6a, 0xe1, 0x17, 0, 0x30, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0, 0x0f, 0xa0, 0, 3, 0xff, 0xff, 0xff,
        0xff, 0, 0, 0, 1, 0x20, 0, 0, 0, 8, 0, 0, 0, 1, 0x0c, 0, 0, 0, 0, 0, 7, 0,
    ];

    fn golden_batch() -> Bytes {
        let mut builder = BatchBuilder::new(1_700_000_000_000);
        builder.push(1_700_000_000_000, Some(b"k"), Some(b"v1"), &[]);
        let headers = [
            Header { key: Bytes::from_static(b"h"), value: Some(Bytes::from_static(b"x")) },
            Header { key: Bytes::from_static(b"n"), value: None },
        ];
        builder.push(1_700_000_000_005, None, Some(b"v2"), &headers);
        assert_eq!(builder.size_bytes(), GOLDEN.len());
        builder.build()
    }

    #[test]
    fn builds_kafkas_bytes() {
        assert_eq!(golden_batch()[..], GOLDEN);
        let marker = EndMarker { committed: true, coordinator_epoch: 7 };
        assert_eq!(marker.batch(4000, 3, 1000)[..], GOLDEN_MARKER);
    }

    #[test]
    fn reads_kafkas_bytes() {
        assert!(crc_matches(&GOLDEN));
        let header = BatchHeader::parse(&GOLDEN).unwrap();
        assert_eq!(header.size_bytes(), GOLDEN.len());
        assert_eq!((header.magic, header.crc, header.leader_epoch), (2, 0x427c_fa44, -1));
        assert_eq!((header.last_offset(), header.next_offset(), header.records_count), (1, 2, 2));
        assert_eq!((header.base_timestamp, header.max_timestamp), (1_700_000_000_000, 1_700_000_000_005));
        assert_eq!(header.codec(), Ok(Codec::None));
        assert!(!header.has_producer() && !header.is_control() && !header.is_transactional());
        assert_eq!(header.last_sequence(), NO_SEQUENCE);

        let marker = Bytes::from_static(&GOLDEN_MARKER);
        let header = BatchHeader::parse(&marker).unwrap();
        assert!(crc_matches(&marker) && header.is_control() && header.is_transactional());
        assert_eq!((header.producer_id, header.producer_epoch), (4000, 3));
        assert_eq!(EndMarker::read(&marker), Ok(Some(EndMarker { committed: true, coordinator_epoch: 7 })));
        assert_eq!(EndMarker::read(&Bytes::from_static(&GOLDEN)), Ok(None));
    }

    #[test]
    fn a_flipped_bit_breaks_the_crc() {
        for at in layout::CRC..GOLDEN.len() {
            let mut bytes = GOLDEN;
            bytes[at] ^= 0x10;
            assert!(!crc_matches(&bytes), "byte {at}");
        }
    }

    #[test]
    fn stamping_offset_and_epoch_keeps_the_crc() {
        let batch = golden_batch();
        let place = batch.as_ptr();
        let stamped = stamp(batch, 1234, 9, Timestamps::Keep);
        assert_eq!(stamped.as_ptr(), place, "a batch nobody else holds is stamped in place");
        let header = BatchHeader::parse(&stamped).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch, header.crc), (1234, 9, 0x427c_fa44));
        assert!(crc_matches(&stamped));
    }

    #[test]
    fn stamping_spares_other_holders() {
        let batch = golden_batch();
        let kept = batch.clone();
        let stamped = stamp(batch, 1234, 9, Timestamps::Keep);
        assert_eq!(kept[..], GOLDEN);
        assert_eq!(BatchHeader::parse(&stamped).unwrap().base_offset, 1234);
    }

    #[test]
    fn stamping_timestamps_recomputes_the_crc() {
        let appended = stamp(golden_batch(), 0, 0, Timestamps::Appended(77));
        let header = BatchHeader::parse(&appended).unwrap();
        assert!(header.timestamp_type_is_append() && crc_matches(&appended));
        assert_eq!((header.max_timestamp, header.record_timestamp(5)), (77, 77));

        let created = stamp(appended, 0, 0, Timestamps::Created { max: 88 });
        let header = BatchHeader::parse(&created).unwrap();
        assert!(!header.timestamp_type_is_append() && crc_matches(&created));
        assert_eq!((header.max_timestamp, header.record_timestamp(5)), (88, 1_700_000_000_005));
    }

    #[test]
    fn splits_a_run_of_batches() {
        let run = Bytes::from([GOLDEN.to_vec(), GOLDEN_MARKER.to_vec(), vec![0; 20]].concat());
        let items: Vec<_> = batches(run).collect();
        assert_eq!(items.len(), 3);
        assert_eq!(items[0].as_ref().unwrap().1[..], GOLDEN);
        assert_eq!(items[1].as_ref().unwrap().1[..], GOLDEN_MARKER);
        assert_eq!(items[2], Err(BatchError::Truncated));
        assert_eq!(batches(Bytes::new()).count(), 0);
    }

    #[test]
    fn sequences_wrap() {
        let header = BatchHeader::parse(&GOLDEN).unwrap();
        let last = |base_sequence| BatchHeader { base_sequence, last_offset_delta: 4, ..header }.last_sequence();
        assert_eq!(last(10), 14);
        assert_eq!(last(i32::MAX - 4), i32::MAX);
        assert_eq!(last(i32::MAX - 3), 0);
        assert_eq!(last(i32::MAX), 3);
    }

    #[test]
    fn rebuilding_changes_the_codec_only() {
        let batch = golden_batch();
        for codec in Codec::ALL {
            let rebuilt = rebuild(&batch, codec, None).unwrap();
            let header = BatchHeader::parse(&rebuilt).unwrap();
            assert_eq!(header.codec(), Ok(codec));
            assert!(crc_matches(&rebuilt));
            assert_eq!(record::records(&rebuilt), record::records(&batch));
            assert_eq!(rebuild(&rebuilt, Codec::None, None).unwrap(), batch);
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let whole = Bytes::from(bytes);
            let _ = crc_matches(&whole);
            let _ = EndMarker::read(&whole);
            for (header, batch) in batches(whole).flatten() {
                prop_assert_eq!(header.size_bytes(), batch.len());
                prop_assert!(header.next_offset() >= header.last_offset());
                prop_assert!(header.last_sequence() >= NO_SEQUENCE);
            }
        }
    }
}
