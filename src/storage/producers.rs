//! The idempotent and transactional producers of one partition (KIP-98; Kafka's `ProducerStateManager`). Pure.
//!
//! Invariants: `check` changes nothing and `note` refuses nothing, so the log may append between the two. Of each
//! producer the last [`BATCHES_KEPT`] batches are known. `ongoing` holds exactly the producers with an open
//! transaction, by its first offset. The whole state can be made again by noting every batch of the log in order.

mod rewind;

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};

use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerId, WallMillis};
use crate::records::{BatchHeader, EndMarker, NO_SEQUENCE, NO_TIMESTAMP};

/// Batches remembered per producer (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`): a client has at most as many in
/// flight.
pub const BATCHES_KEPT: usize = 5;

/// The verdict on the sequence of a produced batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequence {
    /// Next in line, or of no idempotent producer: append it.
    New,
    /// Appended before; the producer is told the same again and nothing is written.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
        /// The append time noted with the batch; -1 if it kept the producer's timestamps.
        append_time_ms: WallMillis,
    },
}

/// A transaction that a marker has just ended; only one that wrote to this partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompletedTxn {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The offset of the marker.
    pub last_offset: Offset,
    /// If true, this is an entry for the aborted transactions that readers of committed data are told about.
    pub aborted: bool,
    /// What the last stable offset could be as far as other open transactions go.
    pub last_stable_offset: Offset,
}

/// What is known of one producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Producer {
    pub epoch: i16,
    /// Of the last marker; -1 before the first.
    pub coordinator_epoch: i32,
    /// When the last batch or marker was noted: a producer idle since then expires.
    pub last_seen_ms: WallMillis,
    /// Where the open transaction began.
    pub txn_first_offset: Option<Offset>,
    /// Oldest first; all of this epoch.
    batches: VecDeque<PastBatch>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PastBatch {
    last_sequence: i32,
    last_offset: Offset,
    offset_delta: i32,
    append_time_ms: WallMillis,
}

impl PastBatch {
    fn base_offset(&self) -> Offset {
        self.last_offset.saturating_sub(i64::from(self.offset_delta))
    }

    fn is_repeated_by(&self, header: &BatchHeader) -> bool {
        header.last_sequence() == self.last_sequence && header.last_offset_delta == self.offset_delta
    }
}

impl Producer {
    fn new(epoch: i16) -> Producer {
        Producer { epoch, coordinator_epoch: -1, last_seen_ms: -1, txn_first_offset: None, batches: VecDeque::new() }
    }

    /// The sequence of the last record; -1 if none of this epoch is known.
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    /// The offset of the last record; `None` if none of this epoch is known.
    pub fn last_offset(&self) -> Option<Offset> {
        self.batches.back().map(|batch| batch.last_offset)
    }

    fn next_sequence(&self) -> i32 {
        self.last_sequence().checked_add(1).unwrap_or(0)
    }

    /// Sequences start anew in every epoch.
    fn enter(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

/// See the file's head.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Producers {
    producers: BTreeMap<ProducerId, Producer>,
    /// Open transactions: first offset to producer.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Ended transactions whose marker may still be above the high watermark: first offset to marker.
    unreplicated: BTreeMap<Offset, Offset>,
}

impl Producers {
    pub fn new() -> Producers {
        Producers::default()
    }

    /// The producers in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        self.producers.iter().map(|(&id, producer)| (id, producer))
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    pub fn by_id(&self, id: ProducerId) -> Option<&Producer> {
        self.producers.get(&id)
    }

    /// Judges a data batch that a client produced. Refusals: 87 no sequence, 47 an epoch that is over, 45 a sequence
    /// out of order, 48 a plain batch inside the producer's own transaction. A producer that is not known here may
    /// start with any sequence, because its state may have been lost to retention; see [`Producers::check_first`].
    pub fn check(&self, header: &BatchHeader) -> Result<Sequence, ErrorCode> {
        if !header.has_producer() {
            return Ok(Sequence::New);
        }
        if header.base_sequence < 0 {
            return Err(ErrorCode::InvalidRecord);
        }
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return Ok(Sequence::New);
        };
        if header.producer_epoch < producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let expected = if header.producer_epoch == producer.epoch {
            if let Some(past) = producer.batches.iter().find(|past| past.is_repeated_by(header)) {
                return Ok(Sequence::Duplicate {
                    base_offset: past.base_offset(),
                    last_offset: past.last_offset,
                    append_time_ms: past.append_time_ms,
                });
            }
            producer.next_sequence()
        } else {
            0
        };
        if header.base_sequence != expected {
            let (producer, sequence) = (header.producer_id, header.base_sequence);
            tracing::debug!(producer, sequence, expected, "a batch is out of sequence");
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        if producer.txn_first_offset.is_some() && !header.is_transactional() {
            return Err(ErrorCode::InvalidTxnState);
        }
        Ok(Sequence::New)
    }

    /// For producers whose epoch is bumped with every transaction (KIP-890, Produce v12): one that is not known here
    /// must start with sequence 0, else 45.
    pub fn check_first(&self, header: &BatchHeader) -> Result<(), ErrorCode> {
        let known = self.producers.contains_key(&header.producer_id);
        if known || !header.is_transactional() || header.base_sequence == 0 {
            Ok(())
        } else {
            Err(ErrorCode::OutOfOrderSequenceNumber)
        }
    }

    /// True if this producer has written to the partition in a transaction that is still open.
    pub fn has_open_txn(&self, id: ProducerId, epoch: i16) -> bool {
        self.by_id(id).is_some_and(|producer| producer.epoch == epoch && producer.txn_first_offset.is_some())
    }

    /// Takes note of a data batch appended at `base_offset`, with `append_time_ms` instead of the producer's
    /// timestamps if the topic asks for it. Batches of no producer are passed over.
    pub fn note(
        &mut self,
        header: &BatchHeader,
        base_offset: Offset,
        append_time_ms: Option<WallMillis>,
        now_ms: WallMillis,
    ) {
        if !header.has_producer() {
            return;
        }
        let producer = self.enter(header);
        producer.last_seen_ms = now_ms;
        // A coordinator writes on a producer's behalf without a sequence.
        if header.base_sequence >= 0 {
            if producer.batches.len() == BATCHES_KEPT {
                producer.batches.pop_front();
            }
            producer.batches.push_back(PastBatch {
                last_sequence: header.last_sequence(),
                last_offset: base_offset.saturating_add(i64::from(header.last_offset_delta)),
                offset_delta: header.last_offset_delta,
                append_time_ms: append_time_ms.unwrap_or(NO_TIMESTAMP),
            });
        }
        if header.is_transactional() && producer.txn_first_offset.is_none() {
            producer.txn_first_offset = Some(base_offset);
            self.ongoing.insert(base_offset, header.producer_id);
        }
    }

    /// Judges a marker before it is appended: 47 an epoch that is over, 52 a coordinator that has been replaced. With
    /// `epoch_bumped` (transaction version 2) a marker carries a new epoch; the same epoch again is a retry of one that
    /// has already ended the transaction.
    pub fn check_marker(&self, header: &BatchHeader, marker: EndMarker, epoch_bumped: bool) -> Result<(), ErrorCode> {
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return Ok(());
        };
        let open = producer.txn_first_offset.is_some();
        let over = header.producer_epoch < producer.epoch;
        if over || (epoch_bumped && open && header.producer_epoch == producer.epoch) {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return Err(ErrorCode::TransactionCoordinatorFenced);
        }
        Ok(())
    }

    /// Takes note of a marker appended at `offset`. Returns the transaction it ended, if one was open here; until
    /// [`Producers::release_completed`] passes the marker, it still holds back the last stable offset.
    pub fn note_marker(
        &mut self,
        header: &BatchHeader,
        marker: EndMarker,
        offset: Offset,
        now_ms: WallMillis,
    ) -> Option<CompletedTxn> {
        let producer = self.enter(header);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_seen_ms = now_ms;
        let first_offset = producer.txn_first_offset.take()?;
        self.ongoing.remove(&first_offset);
        self.unreplicated.insert(first_offset, offset);
        let next_open = self.ongoing.keys().next().copied();
        Some(CompletedTxn {
            producer_id: header.producer_id,
            first_offset,
            last_offset: offset,
            aborted: !marker.committed,
            last_stable_offset: next_open.unwrap_or(offset.saturating_add(1)),
        })
    }

    /// The smallest offset that is not stable: the start of an open transaction, or of one whose marker is not yet
    /// below the high watermark. `last_stable = min(first_unstable, high_watermark)`.
    pub fn first_unstable(&self) -> Option<Offset> {
        let open = self.ongoing.keys().next();
        let ended = self.unreplicated.keys().next();
        open.into_iter().chain(ended).min().copied()
    }

    /// The high watermark has reached `high_watermark`: transactions ended below it are stable.
    pub fn release_completed(&mut self, high_watermark: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= high_watermark);
    }

    /// Forgets the producers without an open transaction that have been idle for `expiration_ms`
    /// (`producer.id.expiration.ms`); returns their ids, so that their rows can be deleted.
    pub fn expire(&mut self, now_ms: WallMillis, expiration_ms: i64) -> Vec<ProducerId> {
        let mut expired = Vec::new();
        self.producers.retain(|&id, producer| {
            let idle_ms = now_ms.saturating_sub(producer.last_seen_ms);
            let keep = producer.txn_first_offset.is_some() || idle_ms < expiration_ms;
            if !keep {
                expired.push(id);
            }
            keep
        });
        expired
    }

    /// The row of one producer for the store; `None` if it is not known.
    pub fn encode_one(&self, id: ProducerId) -> Option<Bytes> {
        let producer = self.by_id(id)?;
        let mut row = BytesMut::with_capacity(ROW_HEAD_BYTES + producer.batches.len() * ROW_BATCH_BYTES);
        row.put_u8(ROW_VERSION);
        row.put_i64(id);
        row.put_i16(producer.epoch);
        row.put_i32(producer.coordinator_epoch);
        row.put_i64(producer.last_seen_ms);
        row.put_i64(producer.txn_first_offset.unwrap_or(NO_OFFSET));
        row.put_u8(producer.batches.len() as u8);
        for batch in &producer.batches {
            row.put_i32(batch.last_sequence);
            row.put_i64(batch.last_offset);
            row.put_i32(batch.offset_delta);
            row.put_i64(batch.append_time_ms);
        }
        Some(row.freeze())
    }

    /// Takes up a producer from its row, replacing what was known of it. An error says what is wrong with the row.
    pub fn decode_one(&mut self, row: &[u8]) -> Result<ProducerId, String> {
        let (id, producer) = decode(row)?;
        let first_offset = producer.txn_first_offset;
        let replaced = self.producers.insert(id, producer);
        if let Some(stale) = replaced.and_then(|old| old.txn_first_offset) {
            self.ongoing.remove(&stale);
        }
        if let Some(first_offset) = first_offset {
            self.ongoing.insert(first_offset, id);
        }
        Ok(id)
    }

    fn enter(&mut self, header: &BatchHeader) -> &mut Producer {
        let epoch = header.producer_epoch;
        let producer = self.producers.entry(header.producer_id).or_insert_with(|| Producer::new(epoch));
        producer.enter(epoch);
        producer
    }
}

const ROW_VERSION: u8 = 0;
const ROW_HEAD_BYTES: usize = 32;
const ROW_BATCH_BYTES: usize = 24;
/// Stands for "no open transaction" in a row.
const NO_OFFSET: Offset = -1;

fn decode(mut row: &[u8]) -> Result<(ProducerId, Producer), String> {
    let cut = |_: TryGetError| "the row ends early".to_owned();
    let version = row.try_get_u8().map_err(cut)?;
    if version != ROW_VERSION {
        return Err(format!("unknown row version {version}"));
    }
    let id = row.try_get_i64().map_err(cut)?;
    let mut producer = Producer::new(row.try_get_i16().map_err(cut)?);
    producer.coordinator_epoch = row.try_get_i32().map_err(cut)?;
    producer.last_seen_ms = row.try_get_i64().map_err(cut)?;
    let first_offset = row.try_get_i64().map_err(cut)?;
    producer.txn_first_offset = (first_offset >= 0).then_some(first_offset);
    let count = row.try_get_u8().map_err(cut)?;
    if usize::from(count) > BATCHES_KEPT {
        return Err(format!("{count} batches in one row"));
    }
    for _ in 0..count {
        producer.batches.push_back(PastBatch {
            last_sequence: row.try_get_i32().map_err(cut)?,
            last_offset: row.try_get_i64().map_err(cut)?,
            offset_delta: row.try_get_i32().map_err(cut)?,
            append_time_ms: row.try_get_i64().map_err(cut)?,
        });
    }
    if row.has_remaining() { Err("bytes are left over in the row".into()) } else { Ok((id, producer)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::BatchBuilder;
    use proptest::prelude::*;

    const ID: ProducerId = 4000;
    const ABORT: EndMarker = EndMarker { committed: false, coordinator_epoch: 1 };
    const COMMIT: EndMarker = EndMarker { committed: true, coordinator_epoch: 1 };

    fn batch_of(id: ProducerId, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
        let mut builder = BatchBuilder::new(0).producer(id, epoch, sequence);
        for _ in 0..count {
            builder.push(0, None, Some(b"v"), &[]);
        }
        BatchHeader::parse(&builder.build()).unwrap()
    }

    fn batch(epoch: i16, sequence: i32, count: i32) -> BatchHeader {
        batch_of(ID, epoch, sequence, count)
    }

    fn transactional(header: BatchHeader) -> BatchHeader {
        BatchHeader { attributes: header.attributes | crate::records::attributes::TRANSACTIONAL, ..header }
    }

    fn marker(id: ProducerId, epoch: i16) -> BatchHeader {
        BatchHeader::parse(&COMMIT.batch(id, epoch, 0)).unwrap()
    }

    /// Two-record batches of epoch 3 with sequences 0, 2, 4… at offsets 100, 102, 104…
    fn after(batches: i32) -> Producers {
        let mut producers = Producers::new();
        for index in 0..batches {
            let header = batch(3, index * 2, 2);
            assert_eq!(producers.check(&header), Ok(Sequence::New));
            producers.note(&header, 100 + i64::from(index) * 2, Some(500 + i64::from(index)), 1000);
        }
        producers
    }

    #[test]
    fn batches_without_a_producer_pass() {
        let mut producers = Producers::new();
        let plain = batch(-1, -1, 1);
        let plain = BatchHeader { producer_id: -1, ..plain };
        assert_eq!(producers.check(&plain), Ok(Sequence::New));
        producers.note(&plain, 0, None, 0);
        assert_eq!(producers, Producers::new());
    }

    #[test]
    fn a_producer_needs_a_sequence() {
        assert_eq!(Producers::new().check(&batch(0, -1, 1)), Err(ErrorCode::InvalidRecord));
    }

    #[test]
    fn each_of_the_last_five_is_recognised() {
        let producers = after(7);
        for index in 2..7 {
            let expected = Sequence::Duplicate {
                base_offset: 100 + index * 2,
                last_offset: 101 + index * 2,
                append_time_ms: 500 + index,
            };
            assert_eq!(producers.check(&batch(3, index as i32 * 2, 2)), Ok(expected));
        }
        let forgotten = producers.check(&batch(3, 2, 2));
        assert_eq!(forgotten, Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn a_duplicate_has_both_ends_alike() {
        let producers = after(2);
        for (sequence, count) in [(2, 1), (3, 1), (1, 3), (0, 4)] {
            let overlap = producers.check(&batch(3, sequence, count));
            assert_eq!(overlap, Err(ErrorCode::OutOfOrderSequenceNumber), "{sequence}+{count}");
        }
    }

    #[test]
    fn a_gap_is_refused_and_the_next_is_not() {
        let producers = after(1);
        assert_eq!(producers.check(&batch(3, 3, 1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(producers.check(&batch(3, 2, 1)), Ok(Sequence::New));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::new();
        producers.note(&batch(0, i32::MAX - 1, 2), 0, None, 0);
        assert_eq!(producers.check(&batch(0, 1, 1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(producers.check(&batch(0, 0, 1)), Ok(Sequence::New));

        let mut producers = Producers::new();
        let across = batch(0, i32::MAX, 3);
        producers.note(&across, 10, None, 5);
        assert_eq!(producers.by_id(ID).unwrap().last_sequence(), 1);
        let duplicate = Sequence::Duplicate { base_offset: 10, last_offset: 12, append_time_ms: -1 };
        assert_eq!(producers.check(&across), Ok(duplicate));
        assert_eq!(producers.check(&batch(0, 2, 1)), Ok(Sequence::New));
    }

    #[test]
    fn epochs_only_rise_and_start_at_zero() {
        let mut producers = after(1);
        assert_eq!(producers.check(&batch(2, 2, 1)), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(producers.check(&batch(2, 0, 2)), Err(ErrorCode::InvalidProducerEpoch), "not even a repetition");
        assert_eq!(producers.check(&batch(4, 2, 1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        let first = batch(4, 0, 2);
        assert_eq!(producers.check(&first), Ok(Sequence::New));
        producers.note(&first, 102, None, 0);
        assert_eq!(producers.check(&batch(4, 2, 1)), Ok(Sequence::New));
        assert_eq!(producers.check(&batch(3, 2, 1)), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere_unless_its_epochs_are_bumped() {
        let producers = Producers::new();
        assert_eq!(producers.check(&batch(0, 77, 1)), Ok(Sequence::New));
        assert_eq!(producers.check_first(&batch(0, 77, 1)), Ok(()));
        let in_txn = transactional(batch(0, 77, 1));
        assert_eq!(producers.check_first(&in_txn), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(producers.check_first(&transactional(batch(0, 0, 1))), Ok(()));
        assert_eq!(after(1).check_first(&transactional(batch(3, 2, 1))), Ok(()));
    }

    #[test]
    fn a_plain_batch_inside_the_own_transaction_is_refused() {
        let mut producers = Producers::new();
        producers.note(&transactional(batch(0, 0, 1)), 5, None, 0);
        assert!(producers.has_open_txn(ID, 0) && !producers.has_open_txn(ID, 1) && !producers.has_open_txn(1, 0));
        assert_eq!(producers.check(&batch(0, 1, 1)), Err(ErrorCode::InvalidTxnState));
        assert_eq!(producers.check(&transactional(batch(0, 1, 1))), Ok(Sequence::New));
        producers.note_marker(&marker(ID, 0), COMMIT, 6, 0);
        assert_eq!(producers.check(&batch(0, 1, 1)), Ok(Sequence::New));
    }

    #[test]
    fn open_and_unreplicated_transactions_hold_back_the_stable_offset() {
        let mut producers = Producers::new();
        assert_eq!(producers.first_unstable(), None);
        producers.note(&transactional(batch_of(1, 0, 0, 1)), 10, None, 0);
        producers.note(&transactional(batch_of(2, 0, 0, 1)), 11, None, 0);
        producers.note(&transactional(batch_of(1, 0, 1, 1)), 12, None, 0);
        assert_eq!(producers.first_unstable(), Some(10));

        let ended = producers.note_marker(&marker(1, 0), ABORT, 13, 0);
        let first =
            CompletedTxn { producer_id: 1, first_offset: 10, last_offset: 13, aborted: true, last_stable_offset: 11 };
        assert_eq!(ended, Some(first));
        assert_eq!(producers.first_unstable(), Some(10), "the marker is not replicated yet");
        producers.release_completed(13);
        assert_eq!(producers.first_unstable(), Some(10), "the high watermark is the marker, not past it");
        producers.release_completed(14);
        assert_eq!(producers.first_unstable(), Some(11));

        let ended = producers.note_marker(&marker(2, 0), COMMIT, 14, 0).unwrap();
        assert!(!ended.aborted);
        assert_eq!((ended.first_offset, ended.last_stable_offset), (11, 15));
        producers.release_completed(15);
        assert_eq!(producers.first_unstable(), None);
        assert_eq!(producers.note_marker(&marker(2, 0), COMMIT, 15, 0), None, "nothing was open");
    }

    #[test]
    fn markers_are_fenced_by_epoch_and_coordinator() {
        let mut producers = Producers::new();
        assert_eq!(producers.check_marker(&marker(ID, 0), COMMIT, true), Ok(()), "nothing known");
        producers.note(&transactional(batch(3, 0, 1)), 10, None, 0);
        let verdict = |producers: &Producers, epoch, bumped| producers.check_marker(&marker(ID, epoch), COMMIT, bumped);
        assert_eq!(verdict(&producers, 2, false), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(verdict(&producers, 3, false), Ok(()));
        assert_eq!(verdict(&producers, 3, true), Err(ErrorCode::InvalidProducerEpoch), "the epoch must be bumped");
        assert_eq!(verdict(&producers, 4, true), Ok(()));

        producers.note_marker(&marker(ID, 4), COMMIT, 11, 0);
        assert_eq!(verdict(&producers, 4, true), Ok(()), "a retry");
        let stale = EndMarker { coordinator_epoch: 0, ..COMMIT };
        let verdict = producers.check_marker(&marker(ID, 4), stale, true);
        assert_eq!(verdict, Err(ErrorCode::TransactionCoordinatorFenced));
        assert_eq!(producers.check(&transactional(batch(4, 0, 1))), Ok(Sequence::New), "sequences start anew");
    }

    #[test]
    fn what_a_coordinator_writes_has_no_sequence() {
        let mut producers = Producers::new();
        producers.note(&transactional(batch(0, NO_SEQUENCE, 1)), 10, None, 0);
        assert_eq!(producers.by_id(ID).unwrap().last_sequence(), NO_SEQUENCE);
        assert_eq!(producers.first_unstable(), Some(10));
    }

    #[test]
    fn idle_producers_expire_unless_a_transaction_is_open() {
        let mut producers = after(1);
        producers.note(&transactional(batch_of(9, 0, 0, 1)), 200, None, 1000);
        assert_eq!(producers.len(), 2);
        assert!(producers.expire(1499, 500).is_empty());
        assert_eq!(producers.expire(1500, 500), [ID]);
        assert_eq!(producers.iter().map(|(id, _)| id).collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn a_golden_row_is_read() {
        let row = [
            &[0][..],
            &ID.to_be_bytes()[..],
            &[0, 3, 0xff, 0xff, 0xff, 0xff][..],
            &1000i64.to_be_bytes()[..],
            &100i64.to_be_bytes()[..],
            &[1, 0, 0, 0, 1][..],
            &101i64.to_be_bytes()[..],
            &[0, 0, 0, 1][..],
            &(-1i64).to_be_bytes()[..],
        ]
        .concat();
        let mut written = Producers::new();
        written.note(&transactional(batch(3, 0, 2)), 100, None, 1000);
        assert_eq!(written.encode_one(ID).unwrap(), row);
        let mut read = Producers::new();
        assert_eq!(read.decode_one(&row), Ok(ID));
        assert_eq!(read, written);
        for cut in 0..row.len() {
            assert!(Producers::new().decode_one(&row[..cut]).is_err(), "{cut} bytes");
        }
        assert!(Producers::new().decode_one(&[&row[..], &[0][..]].concat()).is_err());
    }

    #[test]
    fn a_later_row_replaces_an_earlier_one() {
        let mut open = Producers::new();
        open.note(&transactional(batch(0, 0, 1)), 10, None, 0);
        let mut ended = open.clone();
        ended.note_marker(&marker(ID, 0), COMMIT, 11, 0);
        ended.release_completed(12);
        let mut read = Producers::new();
        read.decode_one(&open.encode_one(ID).unwrap()).unwrap();
        assert_eq!(read.first_unstable(), Some(10));
        read.decode_one(&open.encode_one(ID).unwrap()).unwrap();
        assert_eq!(read.first_unstable(), Some(10));
        read.decode_one(&ended.encode_one(ID).unwrap()).unwrap();
        assert_eq!(read, ended);
        assert_eq!(read.encode_one(1), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Rows say the same as the live state, and the window never lets a batch in twice.
        #[test]
        fn rows_round_trip(steps in prop::collection::vec((0i64..4, 0i16..3, 1i32..4, any::<bool>(), 0u8..5), 0..60)) {
            let mut producers = Producers::new();
            let mut end = 0;
            for (id, epoch, count, in_txn, kind) in steps {
                if kind == 0 {
                    let header = marker(id, epoch);
                    if producers.check_marker(&header, COMMIT, false).is_ok() {
                        producers.note_marker(&header, COMMIT, end, end);
                        end += 1;
                    }
                    continue;
                }
                let sequence = match producers.by_id(id) {
                    Some(producer) if producer.epoch == epoch => producer.next_sequence(),
                    _ => 0,
                };
                let header = batch_of(id, epoch, sequence, count);
                let header = if in_txn { transactional(header) } else { header };
                if producers.check(&header) == Ok(Sequence::New) {
                    producers.note(&header, end, Some(end), end);
                    let again = Sequence::Duplicate {
                        base_offset: end,
                        last_offset: end + i64::from(count) - 1,
                        append_time_ms: end,
                    };
                    prop_assert_eq!(producers.check(&header), Ok(again));
                    end += i64::from(count);
                }
            }
            producers.release_completed(end);
            let mut read = Producers::new();
            for (id, _) in producers.iter() {
                read.decode_one(&producers.encode_one(id).unwrap()).unwrap();
            }
            prop_assert_eq!(read, producers);
        }

        #[test]
        fn decoding_never_panics(row in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Producers::new().decode_one(&row);
        }
    }
}
