//! Compaction of one batch: which records stay, and the batch that holds them (Kafka's `Cleaner` and
//! `MemoryRecords.filterTo`). Pure.
//!
//! Invariants: what stays keeps offset, timestamp, key, value and headers; a batch keeps its base offset, last offset,
//! leader epoch, codec and producer, so that gaps never move a record and the last sequence of a producer survives. A
//! batch that nothing is taken from stays as it is, unless its tombstones or its marker get their delete horizon now.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::batch::{BatchError, BatchHeader, EndMarker};
use super::compression::{self, Codec};
use super::record::{self, Raw};
use super::{NO_TIMESTAMP, attributes};
use crate::ids::{Offset, ProducerId, WallMillis};

/// The clock of one pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Horizon {
    pub now_ms: WallMillis,
    /// `delete.retention.ms`: how long after their first pass tombstones and markers stay.
    pub delete_retention_ms: i64,
}

/// What a batch is, seen from the transactions around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Data outside of transactions, or of a committed one.
    Data,
    /// Data of an aborted transaction: all of it goes.
    Aborted,
    /// A control batch that must stay: data of its transaction is still there, or it is no marker at all.
    Control,
    /// A marker of a transaction of which no data is left: it goes when its delete horizon has passed.
    Spent,
}

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cleaned {
    Same,
    Anew(Bytes),
    Gone,
}

/// Cleans one batch. `is_last` says of a key and an offset whether no later record of the pass has the key; a batch of
/// which nothing is left stays as a header if `keep_empty`.
pub fn clean(
    batch: &Bytes,
    standing: Standing,
    keep_empty: bool,
    horizon: Horizon,
    is_last: &mut dyn FnMut(&[u8], Offset) -> bool,
) -> Result<Cleaned, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let expired = header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= horizon.now_ms);
    let kept = match standing {
        Standing::Aborted => None,
        Standing::Spent if expired => None,
        _ => Some(survivors(&header, batch, expired, is_last)?),
    };
    let Some(kept) = kept.filter(|kept| kept.count > 0) else {
        return Ok(match (keep_empty, header.records_count) {
            (false, _) => Cleaned::Gone,
            (true, 0) => Cleaned::Same,
            (true, _) => Cleaned::Anew(emptied(&header)),
        });
    };
    let stamps = header.delete_horizon_ms().is_none() && (kept.tombstones || standing == Standing::Spent);
    if kept.count == header.records_count && !stamps {
        return Ok(Cleaned::Same);
    }
    let delete_horizon_ms = match header.delete_horizon_ms() {
        None if stamps => Some(horizon.now_ms.saturating_add(horizon.delete_retention_ms)),
        held => held,
    };
    rewritten(&header, batch, &kept, delete_horizon_ms).map(Cleaned::Anew)
}

/// Shows the key and offset of every record that has a key.
pub fn visit_keys(batch: &Bytes, visit: &mut dyn FnMut(&[u8], Offset)) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    record::visit_raw(batch, &mut |record| {
        if let Some(key) = record.key {
            visit(key, offset_of(&header, &record));
        }
    })
}

fn offset_of(header: &BatchHeader, record: &Raw<'_>) -> Offset {
    header.base_offset.saturating_add(i64::from(record.offset_delta))
}

/// Which records of a batch stay: one bit each, in order.
struct Survivors {
    stays: Vec<bool>,
    count: i32,
    tombstones: bool,
    /// Timestamps of the first of them and the largest of them.
    first_ms: i64,
    largest_ms: i64,
}

fn survivors(
    header: &BatchHeader,
    batch: &Bytes,
    expired: bool,
    is_last: &mut dyn FnMut(&[u8], Offset) -> bool,
) -> Result<Survivors, BatchError> {
    let mut kept = Survivors { stays: Vec::new(), count: 0, tombstones: false, first_ms: -1, largest_ms: NO_TIMESTAMP };
    record::visit_raw(batch, &mut |record| {
        let stays = header.is_control()
            || match record.key {
                Some(key) => !(record.value_is_null && expired) && is_last(key, offset_of(header, &record)),
                // Cannot be produced to a compacted topic; left over from before it was one.
                None => false,
            };
        kept.stays.push(stays);
        if stays {
            let timestamp_ms = header.record_timestamp(record.timestamp_delta);
            if kept.count == 0 {
                kept.first_ms = timestamp_ms;
            }
            kept.count += 1;
            kept.largest_ms = kept.largest_ms.max(timestamp_ms);
            kept.tombstones |= record.value_is_null && !header.is_control();
        }
    })?;
    Ok(kept)
}

fn rewritten(
    header: &BatchHeader,
    batch: &Bytes,
    kept: &Survivors,
    delete_horizon_ms: Option<WallMillis>,
) -> Result<Bytes, BatchError> {
    let codec = header.codec()?;
    let base_timestamp = delete_horizon_ms.unwrap_or(kept.first_ms);
    let mut block = BytesMut::with_capacity(batch.len());
    let mut stays = kept.stays.iter();
    record::visit_raw(batch, &mut |record| {
        if stays.next() == Some(&true) {
            let timestamp_delta = header.record_timestamp(record.timestamp_delta).wrapping_sub(base_timestamp);
            record::put_parts(&mut block, timestamp_delta, i64::from(record.offset_delta), record.rest);
        }
    })?;
    let body = if codec == Codec::None { block.freeze() } else { compression::compress(codec, None, &block)? };
    let bit = if delete_horizon_ms.is_some() { attributes::DELETE_HORIZON } else { 0 };
    let header = BatchHeader {
        attributes: (header.attributes & !attributes::DELETE_HORIZON) | bit,
        base_timestamp,
        max_timestamp: kept.largest_ms,
        records_count: kept.count,
        ..*header
    };
    Ok(header.seal(&body))
}

/// What stays of a batch without records (`DefaultRecordBatch.writeEmptyHeader`).
fn emptied(header: &BatchHeader) -> Bytes {
    let kept = attributes::LOG_APPEND_TIME | attributes::TRANSACTIONAL | attributes::CONTROL;
    let attributes = header.attributes & kept;
    BatchHeader { attributes, base_timestamp: NO_TIMESTAMP, records_count: 0, ..*header }.seal(&[])
}

/// Finds the aborted transactions of a run of batches, read in order.
///
/// Memory: one entry for each open producer and for each aborted transaction.
#[derive(Clone, Debug, Default)]
pub struct Aborted {
    open: BTreeMap<ProducerId, Offset>,
    /// By producer and offset of the marker: where the transaction began.
    aborted: BTreeMap<(ProducerId, Offset), Offset>,
}

impl Aborted {
    /// Takes note of the next batch.
    pub fn note(&mut self, header: &BatchHeader, batch: &Bytes) -> Result<(), BatchError> {
        if header.is_control() {
            let first =
                EndMarker::read(batch)?.and_then(|marker| Some((marker, self.open.remove(&header.producer_id)?)));
            if let Some((EndMarker { committed: false, .. }, first)) = first {
                self.aborted.insert((header.producer_id, header.last_offset()), first);
            }
        } else if header.is_transactional() {
            self.open.entry(header.producer_id).or_insert(header.base_offset);
        }
        Ok(())
    }

    /// True if this batch belongs to one of them.
    pub fn has(&self, header: &BatchHeader) -> bool {
        let after = (header.producer_id, header.base_offset)..=(header.producer_id, Offset::MAX);
        let next = self.aborted.range(after).next();
        header.is_transactional() && !header.is_control() && next.is_some_and(|(_, first)| *first <= header.base_offset)
    }
}

/// The transactions of a pass over a log, from its start: tells each batch its [`Standing`].
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    /// Producers of whose current transaction data was seen in this pass.
    seen: BTreeSet<ProducerId>,
}

impl Transactions {
    /// The standing of the next batch. Data that this very pass removes still counts as seen, so a marker outlives it
    /// by one pass.
    pub fn standing(&mut self, header: &BatchHeader, batch: &Bytes, aborted: &Aborted) -> Result<Standing, BatchError> {
        if header.is_control() {
            let is_marker = header.records_count == 0 || EndMarker::read(batch)?.is_some();
            let has_data = is_marker && self.seen.remove(&header.producer_id);
            return Ok(if is_marker && !has_data { Standing::Spent } else { Standing::Control });
        }
        if header.is_transactional() {
            self.seen.insert(header.producer_id);
        }
        Ok(if aborted.has(header) { Standing::Aborted } else { Standing::Data })
    }
}

#[cfg(test)]
mod tests;
