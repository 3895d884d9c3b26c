//! What the leader checks before a produced batch may enter a log (Kafka's `ProduceRequest` and `LogValidator`).
//!
//! Invariants: a batch that passes [`check_produced`] parses to its last byte, has as many records as its header
//! says, and is no control batch. Nothing is changed here but in [`conform`], and nothing is kept: a refused batch
//! leaves no trace. Checks stand in Kafka's order, because a batch may break several rules and tools show the first.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::batch::{self, BatchError, BatchHeader, Timestamps, crc_matches};
use super::compression::Codec;
use super::record::{self, Glance};
use super::{MAGIC, NO_TIMESTAMP, layout};
use crate::error::ErrorCode;
use crate::ids::WallMillis;

/// The topic's rules for what is produced to it, and the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProduceRules {
    /// `max.message.bytes`: of a whole compressed batch with its header.
    pub max_message_bytes: i32,
    /// `segment.bytes`.
    pub segment_bytes: i32,
    /// `cleanup.policy` contains `compact`: every record needs a key.
    pub compacted: bool,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    pub now_ms: WallMillis,
    /// `compression.type`; `None` is `producer`: keep the codec of the batch.
    pub compression: Option<Compression>,
}

/// The codec a topic asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    pub codec: Codec,
    /// `compression.<codec>.level`; `None` is the codec's default.
    pub level: Option<i32>,
}

/// A batch that may be appended, with what has to be done to it first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checked {
    pub header: BatchHeader,
    /// What the max timestamp of the stored batch is: the largest of its records, or now with LogAppendTime.
    pub max_timestamp: i64,
    /// What [`batch::stamp`] has to do to make that true.
    pub timestamps: Timestamps,
    /// The codec to re-encode the batch with, if it cannot be stored as sent; [`conform`] does it.
    pub rebuild: Option<Codec>,
}

/// Why a batch was refused, as the produce response tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceRefused {
    pub code: ErrorCode,
    pub message: String,
    /// The records at fault by index in the batch (KIP-467); at most [`RECORD_ERRORS_MAX`]. Empty if it is the whole
    /// batch.
    pub records: Vec<(i32, Option<String>)>,
}

/// Record errors reported for one batch. Clients fail the other records of the batch just the same.
pub const RECORD_ERRORS_MAX: usize = 1000;

impl ProduceRefused {
    fn new(code: ErrorCode, message: impl Into<String>) -> ProduceRefused {
        ProduceRefused { code, message: message.into(), records: Vec::new() }
    }

    fn invalid(message: impl Into<String>) -> ProduceRefused {
        ProduceRefused::new(ErrorCode::InvalidRecord, message)
    }
}

impl From<BatchError> for ProduceRefused {
    fn from(error: BatchError) -> ProduceRefused {
        ProduceRefused::new(error.code(), error.to_string())
    }
}

/// Checks the records of one partition in a produce request. Compressed batches are decoded as a stream, as Kafka
/// does, so that no consumer meets a batch it cannot read.
pub fn check_produced(batch: &[u8], rules: &ProduceRules) -> Result<Checked, ProduceRefused> {
    let header = only_batch(batch)?;
    check_place_and_bytes(&header, batch, rules)?;
    check_header(&header)?;
    let codec = header.codec()?;
    let walk = walk_records(&header, batch, rules)?;
    let target = rules.compression.map_or(codec, |wanted| wanted.codec);
    let rebuild = (target != codec || !walk.in_order).then_some(target);
    if rebuild.is_none() {
        check_segment_bytes(batch.len(), rules)?;
    }
    let timestamps = if rules.log_append_time {
        Timestamps::Appended(rules.now_ms)
    } else if header.timestamp_type_is_append() || header.max_timestamp != walk.max_timestamp {
        Timestamps::Created { max: walk.max_timestamp }
    } else {
        Timestamps::Keep
    };
    let max_timestamp = if rules.log_append_time { rules.now_ms } else { walk.max_timestamp };
    Ok(Checked { header, max_timestamp, timestamps, rebuild })
}

/// Re-encodes a checked batch if its topic wants another codec or its offset deltas were not 0, 1, 2…; otherwise
/// gives it back untouched. The size limits hold for the result.
pub fn conform(batch: Bytes, checked: Checked, rules: &ProduceRules) -> Result<(Bytes, Checked), ProduceRefused> {
    let Some(codec) = checked.rebuild else {
        return Ok((batch, checked));
    };
    let level = rules.compression.and_then(|wanted| wanted.level);
    let rebuilt = batch::rebuild(&batch, codec, level)?;
    check_message_bytes(rebuilt.len(), rules)?;
    check_segment_bytes(rebuilt.len(), rules)?;
    let header = BatchHeader::parse(&rebuilt)?;
    Ok((rebuilt, Checked { header, rebuild: None, ..checked }))
}

/// Exactly one batch, of magic 2. The magic lies at the same place in every format.
fn only_batch(records: &[u8]) -> Result<BatchHeader, ProduceRefused> {
    let Some(&magic) = records.get(layout::MAGIC) else {
        return Err(no_batch());
    };
    match magic as i8 {
        MAGIC => {}
        0 | 1 => {
            let message = "Produce requests are only allowed to contain record batches with magic version 2";
            return Err(ProduceRefused::invalid(message));
        }
        other => {
            let message = format!("Invalid magic found in record: {other}");
            return Err(ProduceRefused::new(ErrorCode::CorruptMessage, message));
        }
    }
    let header = BatchHeader::parse(records)?;
    if header.size_bytes() > records.len() {
        return Err(no_batch());
    }
    if header.size_bytes() < records.len() {
        let message = "Produce requests are only allowed to contain exactly one record batch per partition";
        return Err(ProduceRefused::invalid(message));
    }
    Ok(header)
}

fn no_batch() -> ProduceRefused {
    ProduceRefused::invalid("Produce requests must have at least one record batch per partition")
}

/// Base offset, size and CRC.
fn check_place_and_bytes(header: &BatchHeader, batch: &[u8], rules: &ProduceRules) -> Result<(), ProduceRefused> {
    if header.base_offset != 0 {
        let found = header.base_offset;
        let message = format!("The baseOffset of the record batch in the append should be 0, but it is {found}");
        return Err(ProduceRefused::invalid(message));
    }
    check_message_bytes(batch.len(), rules)?;
    if !crc_matches(batch) {
        let stored = header.crc;
        let message = format!("Record is corrupt (stored crc = {stored} does not match the record batch)");
        return Err(ProduceRefused::new(ErrorCode::CorruptMessage, message));
    }
    Ok(())
}

/// Holds for the batch as sent, and again once it is re-encoded.
fn check_message_bytes(batch_bytes: usize, rules: &ProduceRules) -> Result<(), ProduceRefused> {
    let most = rules.max_message_bytes;
    if exceeds(batch_bytes, most) {
        let message = format!(
            "The record batch size in the append is {batch_bytes} bytes \
             which exceeds the maximum configured value of {most}."
        );
        return Err(ProduceRefused::new(ErrorCode::MessageTooLarge, message));
    }
    Ok(())
}

/// Holds for what is stored.
fn check_segment_bytes(batch_bytes: usize, rules: &ProduceRules) -> Result<(), ProduceRefused> {
    let most = rules.segment_bytes;
    if exceeds(batch_bytes, most) {
        let message = format!(
            "Message batch size is {batch_bytes} bytes in append, \
             which exceeds the maximum configured segment size of {most}."
        );
        return Err(ProduceRefused::new(ErrorCode::RecordListTooLarge, message));
    }
    Ok(())
}

fn exceeds(bytes: usize, most: i32) -> bool {
    usize::try_from(most).is_ok_and(|most| bytes > most)
}

/// Counts that agree, no control batch, and a sequence where there is a producer.
fn check_header(header: &BatchHeader) -> Result<(), ProduceRefused> {
    let (count, last) = (header.records_count, header.last_offset_delta);
    if last < 0 {
        return Err(ProduceRefused::invalid(format!("Batch has an invalid offset range: [0, {last}]")));
    }
    if count <= 0 {
        return Err(ProduceRefused::invalid(format!("Invalid reported count for record batch: {count}")));
    }
    if count - 1 != last {
        let message = format!("Inconsistent batch offset range [0, {last}] and count of records {count}");
        return Err(ProduceRefused::invalid(message));
    }
    if header.is_control() {
        return Err(ProduceRefused::invalid("Clients are not allowed to write control records"));
    }
    if header.has_producer() && header.base_sequence < 0 {
        let (sequence, producer_id) = (header.base_sequence, header.producer_id);
        let message = format!("Invalid sequence number {sequence} in record batch with producerId {producer_id}");
        return Err(ProduceRefused::invalid(message));
    }
    Ok(())
}

/// Keys, timestamps and offset deltas, in one walk over all records.
fn walk_records(header: &BatchHeader, batch: &[u8], rules: &ProduceRules) -> Result<Walk, ProduceRefused> {
    let mut walk = Walk {
        max_timestamp: NO_TIMESTAMP,
        in_order: true,
        next_index: 0,
        earliest: rules.now_ms.saturating_sub(rules.timestamp_before_max_ms),
        latest: rules.now_ms.saturating_add(rules.timestamp_after_max_ms),
        faults_count: 0,
        faults: Vec::new(),
        code: ErrorCode::InvalidRecord,
    };
    record::scan(header, batch, |glance| {
        walk.see(header, glance, rules);
        ControlFlow::Continue(())
    })?;
    walk.verdict()
}

/// What the walk over the records has found so far.
struct Walk {
    max_timestamp: i64,
    /// The offset deltas were 0, 1, 2… so far.
    in_order: bool,
    next_index: i32,
    earliest: i64,
    latest: i64,
    faults_count: usize,
    faults: Vec<(i32, Option<String>)>,
    /// 32 as soon as one record's timestamp is at fault.
    code: ErrorCode,
}

impl Walk {
    fn see(&mut self, header: &BatchHeader, glance: Glance, rules: &ProduceRules) {
        let timestamp = header.record_timestamp(glance.timestamp_delta);
        if rules.compacted && glance.key_is_null {
            self.fault(ErrorCode::InvalidRecord, || "Compacted topic cannot accept message without key.".into());
        } else if !rules.log_append_time && timestamp != NO_TIMESTAMP {
            if timestamp < self.earliest || timestamp > self.latest {
                let (offset, earliest, latest) = (glance.offset_delta, self.earliest, self.latest);
                self.fault(ErrorCode::InvalidTimestamp, || {
                    format!(
                        "Timestamp {timestamp} of message with offset {offset} is out of range. \
                         The timestamp should be within [{earliest}, {latest}]"
                    )
                });
            }
        } else if header.timestamp_type_is_append() {
            self.fault(ErrorCode::InvalidTimestamp, || {
                "Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime.".into()
            });
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.in_order &= glance.offset_delta == self.next_index;
        self.next_index += 1;
    }

    #[cold]
    fn fault(&mut self, code: ErrorCode, message: impl FnOnce() -> String) {
        if code == ErrorCode::InvalidTimestamp {
            self.code = code;
        }
        self.faults_count += 1;
        if self.faults.len() < RECORD_ERRORS_MAX {
            self.faults.push((self.next_index, Some(message())));
        }
    }

    /// One record at fault refuses the whole batch.
    fn verdict(self) -> Result<Walk, ProduceRefused> {
        if self.faults_count == 0 {
            return Ok(self);
        }
        let message = if self.code == ErrorCode::InvalidTimestamp {
            "One or more records have been rejected due to invalid timestamp".into()
        } else {
            format!("One or more records have been rejected due to {} record errors in total", self.faults_count)
        };
        Err(ProduceRefused { code: self.code, message, records: self.faults })
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{BatchBuilder, EndMarker, rebuild, stamp};
    use super::super::record::records;
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn rules() -> ProduceRules {
        ProduceRules {
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            compacted: false,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: HOUR,
            now_ms: NOW,
            compression: None,
        }
    }

    fn batch_at(timestamps: &[i64]) -> Bytes {
        let mut builder = BatchBuilder::new(timestamps[0]);
        for &timestamp in timestamps {
            builder.push(timestamp, Some(b"key"), Some(b"value"), &[]);
        }
        builder.build()
    }

    /// The batch with some bytes replaced and the CRC made right again.
    fn edited(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
        let mut copy = batch.to_vec();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&copy[layout::ATTRIBUTES..]);
        copy[layout::CRC..layout::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        copy.into()
    }

    fn refusal(batch: &[u8], rules: &ProduceRules) -> (i16, Vec<i32>) {
        let refused = check_produced(batch, rules).unwrap_err();
        (refused.code.code(), refused.records.iter().map(|(index, _)| *index).collect())
    }

    #[track_caller]
    fn check_refused(batch: &[u8], code: i16) {
        assert_eq!(refusal(batch, &rules()), (code, Vec::new()));
    }

    #[test]
    fn a_good_batch_passes_as_it_is_in_every_codec() {
        for codec in Codec::ALL {
            let batch = rebuild(&batch_at(&[NOW, NOW + 2, NOW + 1]), codec, None).unwrap();
            let checked = check_produced(&batch, &rules()).unwrap();
            assert_eq!(checked.header, BatchHeader::parse(&batch).unwrap());
            assert_eq!((checked.max_timestamp, checked.timestamps), (NOW + 2, Timestamps::Keep));
            assert_eq!(checked.rebuild, None);
            assert_eq!(conform(batch.clone(), checked, &rules()), Ok((batch, checked)));
        }
    }

    #[test]
    fn exactly_one_batch_of_magic_two() {
        let batch = batch_at(&[NOW]);
        check_refused(&[], 87);
        check_refused(&batch[..40], 2);
        check_refused(&batch[..batch.len() - 1], 87);
        check_refused(&[&batch[..], &batch[..]].concat(), 87);
        check_refused(&edited(&batch, layout::MAGIC, &[1]), 87);
        check_refused(&edited(&batch, layout::MAGIC, &[3]), 2);
        check_refused(&edited(&batch, layout::BATCH_LENGTH, &48i32.to_be_bytes()), 2);
    }

    #[test]
    fn place_size_and_crc() {
        let batch = batch_at(&[NOW]);
        check_refused(&stamp(batch.clone(), 1, 0, Timestamps::Keep), 87);
        let size = batch.len() as i32;
        let tight = ProduceRules { max_message_bytes: size, segment_bytes: size, ..rules() };
        assert!(check_produced(&batch, &tight).is_ok());
        assert_eq!(refusal(&batch, &ProduceRules { max_message_bytes: size - 1, ..tight }).0, 10);
        assert_eq!(refusal(&batch, &ProduceRules { segment_bytes: size - 1, ..tight }).0, 18);
        let mut flipped = batch.to_vec();
        flipped[70] ^= 1;
        check_refused(&flipped, 2);
    }

    #[test]
    fn counts_kind_and_sequence() {
        let batch = batch_at(&[NOW, NOW]);
        check_refused(&edited(&batch, layout::RECORDS_COUNT, &3i32.to_be_bytes()), 87);
        check_refused(&edited(&batch, layout::RECORDS_COUNT, &0i32.to_be_bytes()), 87);
        check_refused(&edited(&batch, layout::LAST_OFFSET_DELTA, &(-1i32).to_be_bytes()), 87);
        let one_too_few = edited(&batch, layout::RECORDS_COUNT, &1i32.to_be_bytes());
        check_refused(&edited(&one_too_few, layout::LAST_OFFSET_DELTA, &0i32.to_be_bytes()), 87);
        check_refused(&edited(&batch, layout::PRODUCER_ID, &5i64.to_be_bytes()), 87);
        check_refused(&edited(&batch, layout::ATTRIBUTES, &7i16.to_be_bytes()), 76);
        let marker = EndMarker { committed: true, coordinator_epoch: 0 };
        check_refused(&marker.batch(5, 0, NOW), 87);
    }

    #[test]
    fn records_must_parse_under_every_codec() {
        for codec in Codec::ALL {
            let batch = rebuild(&batch_at(&[NOW, NOW]), codec, None).unwrap();
            let last = batch.len() - 1;
            // A cut compressed block may still decode, but never to whole records.
            let cut = edited(&batch.slice(..last), layout::BATCH_LENGTH, &(last as i32 - 12).to_be_bytes());
            check_refused(&cut, 87);
        }
    }

    #[test]
    fn compacted_topics_need_keys() {
        let mut builder = BatchBuilder::new(NOW);
        builder.push(NOW, None, Some(b"v"), &[]);
        builder.push(NOW, Some(b""), Some(b"v"), &[]);
        builder.push(NOW, None, None, &[]);
        let batch = builder.build();
        assert!(check_produced(&batch, &rules()).is_ok());
        assert_eq!(refusal(&batch, &ProduceRules { compacted: true, ..rules() }), (87, vec![0, 2]));
        let both = edited(&batch, layout::BASE_TIMESTAMP, &(NOW + 2 * HOUR).to_be_bytes());
        let both = refusal(&both, &ProduceRules { compacted: true, ..rules() });
        assert_eq!(both, (32, vec![0, 1, 2]), "the timestamp of record 1 decides the code");
    }

    #[test]
    fn create_time_must_be_near_now() {
        let narrow = ProduceRules { timestamp_before_max_ms: HOUR, ..rules() };
        assert!(check_produced(&batch_at(&[NOW - HOUR, NOW + HOUR, NO_TIMESTAMP]), &narrow).is_ok());
        assert_eq!(refusal(&batch_at(&[NOW, NOW + HOUR + 1]), &narrow), (32, vec![1]));
        assert_eq!(refusal(&batch_at(&[NOW - HOUR - 1, NOW]), &narrow), (32, vec![0]));
        assert!(check_produced(&batch_at(&[0]), &rules()).is_ok(), "the past is open by default");
        let append_time = ProduceRules { log_append_time: true, ..narrow };
        assert!(check_produced(&batch_at(&[0, i64::MAX]), &append_time).is_ok(), "the clock overrules them anyway");
    }

    #[test]
    fn the_number_of_record_errors_is_bounded() {
        let batch = batch_at(&vec![NOW + 2 * HOUR; RECORD_ERRORS_MAX + 5]);
        let refused = check_produced(&batch, &rules()).unwrap_err();
        assert_eq!((refused.code.code(), refused.records.len()), (32, RECORD_ERRORS_MAX));
    }

    #[test]
    fn a_wrong_max_timestamp_is_corrected() {
        let batch = edited(&batch_at(&[NOW, NOW + 5]), layout::MAX_TIMESTAMP, &(NOW + 99).to_be_bytes());
        let checked = check_produced(&batch, &rules()).unwrap();
        assert_eq!((checked.max_timestamp, checked.timestamps), (NOW + 5, Timestamps::Created { max: NOW + 5 }));
        let stamped = stamp(batch, 0, 0, checked.timestamps);
        assert_eq!(check_produced(&stamped, &rules()).unwrap().timestamps, Timestamps::Keep);
    }

    #[test]
    fn the_timestamp_type_is_the_brokers() {
        let append_time = ProduceRules { log_append_time: true, ..rules() };
        let plain = batch_at(&[5, 6]);
        let checked = check_produced(&plain, &append_time).unwrap();
        assert_eq!((checked.max_timestamp, checked.timestamps), (NOW, Timestamps::Appended(NOW)));

        let marked = stamp(plain, 0, 0, Timestamps::Appended(9));
        assert_eq!(refusal(&marked, &append_time), (32, vec![0, 1]));
        let checked = check_produced(&marked, &rules()).unwrap();
        assert_eq!(checked.timestamps, Timestamps::Created { max: 9 }, "the bit is cleared");
        let timeless = stamp(marked, 0, 0, Timestamps::Appended(NO_TIMESTAMP));
        assert_eq!(refusal(&timeless, &rules()), (32, vec![0, 1]));
    }

    #[test]
    fn a_topic_codec_is_applied() {
        let batch = batch_at(&[NOW, NOW]);
        let wants = |codec| ProduceRules { compression: Some(Compression { codec, level: None }), ..rules() };
        for codec in Codec::ALL {
            let checked = check_produced(&batch, &wants(codec)).unwrap();
            assert_eq!(checked.rebuild, (codec != Codec::None).then_some(codec));
            let (stored, checked) = conform(batch.clone(), checked, &wants(codec)).unwrap();
            assert_eq!(checked.header.codec(), Ok(codec));
            assert_eq!(records(&stored), records(&batch));
            assert_eq!(check_produced(&stored, &wants(codec)).unwrap(), checked);
        }
        // The limit holds again for what the topic's codec makes of the batch.
        let small = rebuild(&batch_at(&[NOW; 200]), Codec::Zstd, None).unwrap();
        let tight = ProduceRules { max_message_bytes: small.len() as i32, ..wants(Codec::None) };
        let checked = check_produced(&small, &tight).unwrap();
        assert_eq!(conform(small, checked, &tight).unwrap_err().code, ErrorCode::MessageTooLarge);
    }

    #[test]
    fn disordered_offset_deltas_are_renumbered() {
        // The first record starts at 61: length, attributes, timestamp delta, offset delta.
        let batch = edited(&batch_at(&[NOW, NOW]), 64, &[8]);
        let checked = check_produced(&batch, &rules()).unwrap();
        assert_eq!(checked.rebuild, Some(Codec::None));
        let (stored, checked) = conform(batch, checked, &rules()).unwrap();
        let deltas: Vec<i32> = records(&stored).unwrap().iter().map(|record| record.offset_delta).collect();
        assert_eq!(deltas, [0, 1]);
        assert_eq!(check_produced(&stored, &rules()), Ok(checked));
    }

    proptest! {
        #[test]
        fn checking_never_panics(
            codec in 0usize..5,
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut batch = rebuild(&batch_at(&[NOW, NOW + 1]), Codec::ALL[codec], None).unwrap();
            for (place, byte) in edits {
                batch = edited(&batch, place.index(batch.len()), &[byte]);
            }
            if let Ok(checked) = check_produced(&batch, &rules()) {
                prop_assert_eq!(records(&batch).unwrap().len(), checked.header.records_count as usize);
                let (stored, checked) = conform(batch, checked, &rules()).unwrap();
                let stored = stamp(stored, 0, -1, checked.timestamps);
                // With the append time gone, the records' own times reappear and may be anything.
                if !checked.header.timestamp_type_is_append() {
                    prop_assert_eq!(check_produced(&stored, &rules()).unwrap().timestamps, Timestamps::Keep);
                }
            }
        }
    }
}
