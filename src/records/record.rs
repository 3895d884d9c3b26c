//! The records inside a batch: walking over them without allocating, reading them as values, finding them by timestamp.
//!
//! Invariants: a walk visits exactly `records_count` records and fails if bytes are missing, left over, or disagree
//! with a length. A walk over a compressed batch holds one window of decoded bytes, never the whole block, and stops
//! at [`DECODED_BYTES_MAX`]. Nothing here panics on hostile bytes.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::{ControlFlow, Range};

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::{BatchError, BatchHeader};
use super::compression::{self, Codec, DECODED_BYTES_MAX};
use super::{HEADER_BYTES, MAGIC};
use crate::ids::Offset;

/// A record header (KIP-82).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// UTF-8 by convention; kept as bytes because the broker never looks.
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// One record of a batch, sharing the memory of the batch or of its decoded block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Record {
    /// The offset of this record in the log.
    pub fn offset(&self, batch: &BatchHeader) -> Offset {
        batch.base_offset.saturating_add(i64::from(self.offset_delta))
    }

    /// The timestamp of this record in milliseconds; the append time if the batch carries one.
    pub fn timestamp(&self, batch: &BatchHeader) -> i64 {
        batch.record_timestamp(self.timestamp_delta)
    }
}

/// Reads every record of one batch into memory, decompressing if needed. For coordinators, which trust their own
/// topics; the hot path walks instead.
pub fn records(batch: &Bytes) -> Result<Vec<Record>, BatchError> {
    let header = header_v2(batch)?;
    let body = decoded(&header, batch)?;
    let mut source = Slice { bytes: &body, at: 0 };
    let count_max = body.len() / RECORD_BYTES_MIN;
    let mut records = Vec::with_capacity(count_max.min(header.records_count.max(0) as usize));
    for _ in 0..header.records_count {
        records.push(source.record(&body)?);
    }
    if !source.is_spent()? {
        return Err(LEFT_OVER);
    }
    Ok(records)
}

/// The first record at or after offset `from` whose timestamp is at least `target_ms`: its offset and timestamp.
pub fn find_timestamp(batch: &[u8], target_ms: i64, from: Offset) -> Result<Option<(Offset, i64)>, BatchError> {
    let header = header_v2(batch)?;
    let mut found = None;
    scan(&header, batch, |glance| {
        let (offset, timestamp) = glance.place(&header);
        if offset < from || timestamp < target_ms {
            return ControlFlow::Continue(());
        }
        found = Some((offset, timestamp));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// The first record with the largest timestamp of those at or after offset `from`: its offset and timestamp. `None` if
/// there is none.
pub fn max_timestamp_record(batch: &[u8], from: Offset) -> Result<Option<(Offset, i64)>, BatchError> {
    let header = header_v2(batch)?;
    let mut largest: Option<(Offset, i64)> = None;
    scan(&header, batch, |glance| {
        let (offset, timestamp) = glance.place(&header);
        if offset >= from && largest.is_none_or(|(_, so_far)| timestamp > so_far) {
            largest = Some((offset, timestamp));
        }
        ControlFlow::Continue(())
    })?;
    Ok(largest)
}

/// The block of records of a batch, decompressed, with offset deltas 0, 1, 2… The rest of each record stays as it is.
pub(super) fn renumbered(batch: &Bytes) -> Result<BytesMut, BatchError> {
    let header = header_v2(batch)?;
    let block = decoded(&header, batch)?;
    let mut source = Slice { bytes: &block, at: 0 };
    let mut out = BytesMut::with_capacity(block.len());
    for offset_delta in 0..i64::from(header.records_count) {
        let front = front(&mut source)?;
        let rest_bytes = front.end.checked_sub(source.position()).ok_or(BAD_RECORD_LENGTH)?;
        let rest = source.take(usize::try_from(rest_bytes).map_err(|_| CUT_SHORT)?)?;
        put_parts(&mut out, front.timestamp_delta, offset_delta, &block[rest]);
    }
    if source.is_spent()? { Ok(out) } else { Err(LEFT_OVER) }
}

/// Writes a record of these deltas and of the bytes that another had from its key on.
pub(super) fn put_parts(out: &mut BytesMut, timestamp_delta: i64, offset_delta: i64, rest: &[u8]) {
    let front_bytes = 1 + varlong_bytes(timestamp_delta) + varlong_bytes(offset_delta);
    put_varlong(out, (front_bytes + rest.len()) as i64);
    out.put_u8(0);
    put_varlong(out, timestamp_delta);
    put_varlong(out, offset_delta);
    out.put_slice(rest);
}

/// A record as it lies in the decoded block.
pub(super) struct Raw<'a> {
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value_is_null: bool,
    /// Everything from the key on.
    pub rest: &'a [u8],
}

/// Shows every record of a batch to `visit`, with the bytes that make it up. Holds the whole decoded block.
pub(super) fn visit_raw(batch: &Bytes, visit: &mut dyn FnMut(Raw<'_>)) -> Result<(), BatchError> {
    let header = header_v2(batch)?;
    let block = decoded(&header, batch)?;
    let mut source = Slice { bytes: &block, at: 0 };
    for _ in 0..header.records_count {
        let front = front(&mut source)?;
        let start = source.at;
        let key = match nullable_length(&mut source)? {
            None => None,
            Some(bytes) => Some(&block[source.take(bytes)?]),
        };
        let value_is_null = skip_field(&mut source)?;
        skip_headers(&mut source)?;
        front.close(&source)?;
        let Front { offset_delta, timestamp_delta, .. } = front;
        visit(Raw { offset_delta, timestamp_delta, key, value_is_null, rest: &block[start..source.at] });
    }
    if source.is_spent()? { Ok(()) } else { Err(LEFT_OVER) }
}

/// What a walk sees of a record without reading key, value and headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glance {
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    pub key_is_null: bool,
}

impl Glance {
    fn place(&self, batch: &BatchHeader) -> (Offset, i64) {
        let offset = batch.base_offset.saturating_add(i64::from(self.offset_delta));
        (offset, batch.record_timestamp(self.timestamp_delta))
    }
}

/// Walks over the records of a batch until `visit` breaks off. Allocates nothing per record, and nothing per batch
/// unless the codec does. That no bytes are left over is known only of a walk that was not broken off.
pub(super) fn scan(
    header: &BatchHeader,
    batch: &[u8],
    visit: impl FnMut(Glance) -> ControlFlow<()>,
) -> Result<(), BatchError> {
    let body = body(header, batch)?;
    match header.codec()? {
        Codec::None => walk(Slice { bytes: body, at: 0 }, header.records_count, visit),
        codec => compression::with_reader(codec, body, |reader| {
            compression::borrowed(&WINDOW, |window| {
                window.resize(WINDOW_BYTES, 0);
                walk(Stream { reader, window, at: 0, filled: 0, passed: 0 }, header.records_count, visit)
            })
        }),
    }
}

fn header_v2(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.magic != MAGIC {
        return Err(BatchError::Magic(header.magic));
    }
    Ok(header)
}

fn body<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<&'a [u8], BatchError> {
    batch.get(HEADER_BYTES..header.size_bytes()).ok_or(BatchError::Truncated)
}

/// The block of records, decompressed if needed; shares the memory of `batch` if not.
fn decoded(header: &BatchHeader, batch: &Bytes) -> Result<Bytes, BatchError> {
    let body = body(header, batch)?;
    match header.codec()? {
        Codec::None => Ok(batch.slice_ref(body)),
        codec => compression::decompress(codec, body, DECODED_BYTES_MAX),
    }
}

/// Length, attributes, two deltas, two field lengths and the header count take a byte each.
const RECORD_BYTES_MIN: usize = 7;
const CUT_SHORT: BatchError = BatchError::Record("the records end early");
const LEFT_OVER: BatchError = BatchError::Record("bytes are left over after the last record");
const BAD_VARINT: BatchError = BatchError::Record("a varint is too long");
const BAD_LENGTH: BatchError = BatchError::Record("a length is negative");
const BAD_RECORD_LENGTH: BatchError = BatchError::Record("the length of a record disagrees with its fields");

fn walk(
    mut source: impl Source,
    count: i32,
    mut visit: impl FnMut(Glance) -> ControlFlow<()>,
) -> Result<(), BatchError> {
    for _ in 0..count {
        let glance = glance(&mut source)?;
        if visit(glance).is_break() {
            return Ok(());
        }
    }
    if source.is_spent()? { Ok(()) } else { Err(LEFT_OVER) }
}

fn glance(source: &mut impl Source) -> Result<Glance, BatchError> {
    let front = front(source)?;
    let key_is_null = skip_field(source)?;
    skip_field(source)?;
    skip_headers(source)?;
    front.close(source)?;
    Ok(Glance { offset_delta: front.offset_delta, timestamp_delta: front.timestamp_delta, key_is_null })
}

/// What stands before the key, and where the record must end.
struct Front {
    end: u64,
    offset_delta: i32,
    timestamp_delta: i64,
}

impl Front {
    fn close(&self, source: &impl Source) -> Result<(), BatchError> {
        if source.position() == self.end { Ok(()) } else { Err(BAD_RECORD_LENGTH) }
    }
}

#[inline]
fn front(source: &mut impl Source) -> Result<Front, BatchError> {
    let record_bytes = length(source)?;
    let end = source.position() + record_bytes as u64;
    source.byte()?; // attributes: no bit has a meaning in v2
    let timestamp_delta = varlong(source)?;
    let offset_delta = varint(source)?;
    Ok(Front { end, offset_delta, timestamp_delta })
}

/// Skips a key or value; true if it is null.
#[inline]
fn skip_field(source: &mut impl Source) -> Result<bool, BatchError> {
    match nullable_length(source)? {
        None => Ok(true),
        Some(bytes) => {
            source.skip(bytes)?;
            Ok(false)
        }
    }
}

#[inline]
fn skip_headers(source: &mut impl Source) -> Result<(), BatchError> {
    for _ in 0..header_count(source)? {
        let key_bytes = length(source)?;
        source.skip(key_bytes)?;
        skip_field(source)?;
    }
    Ok(())
}

#[inline]
fn nullable_length(source: &mut impl Source) -> Result<Option<usize>, BatchError> {
    match varint(source)? {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| BAD_LENGTH),
    }
}

#[inline]
fn length(source: &mut impl Source) -> Result<usize, BatchError> {
    nullable_length(source)?.ok_or(BAD_LENGTH)
}

fn header_count(source: &mut impl Source) -> Result<usize, BatchError> {
    length(source)
}

#[inline]
fn varint(source: &mut impl Source) -> Result<i32, BatchError> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = source.byte()?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i32 ^ -((value & 1) as i32));
        }
    }
    Err(BAD_VARINT)
}

#[inline]
fn varlong(source: &mut impl Source) -> Result<i64, BatchError> {
    let mut value = 0u64;
    for shift in [0, 7, 14, 21, 28, 35, 42, 49, 56, 63] {
        let byte = source.byte()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(BAD_VARINT)
}

/// Where a walk takes its bytes from: a slice for uncompressed batches, a decoder for the others.
trait Source {
    fn byte(&mut self) -> Result<u8, BatchError>;
    fn skip(&mut self, count: usize) -> Result<(), BatchError>;
    /// Bytes taken so far.
    fn position(&self) -> u64;
    /// True if no byte is left.
    fn is_spent(&mut self) -> Result<bool, BatchError>;
}

struct Slice<'a> {
    bytes: &'a [u8],
    /// `at ≤ bytes.len()`.
    at: usize,
}

impl Slice<'_> {
    fn take(&mut self, count: usize) -> Result<Range<usize>, BatchError> {
        let start = self.at;
        self.skip(count)?;
        Ok(start..self.at)
    }

    fn field(&mut self, body: &Bytes) -> Result<Option<Bytes>, BatchError> {
        match nullable_length(self)? {
            None => Ok(None),
            Some(bytes) => Ok(Some(body.slice(self.take(bytes)?))),
        }
    }

    /// Reads the record here; `body` holds the same bytes as the slice.
    fn record(&mut self, body: &Bytes) -> Result<Record, BatchError> {
        let front = front(self)?;
        let key = self.field(body)?;
        let value = self.field(body)?;
        let mut headers = Vec::new();
        for _ in 0..header_count(self)? {
            let key = self.field(body)?.ok_or(BAD_LENGTH)?;
            headers.push(Header { key, value: self.field(body)? });
        }
        front.close(self)?;
        let Front { offset_delta, timestamp_delta, .. } = front;
        Ok(Record { offset_delta, timestamp_delta, key, value, headers })
    }
}

impl Source for Slice<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, BatchError> {
        let Some(&byte) = self.bytes.get(self.at) else {
            return Err(CUT_SHORT);
        };
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), BatchError> {
        if count > self.bytes.len() - self.at {
            return Err(CUT_SHORT);
        }
        self.at += count;
        Ok(())
    }

    #[inline]
    fn position(&self) -> u64 {
        self.at as u64
    }

    fn is_spent(&mut self) -> Result<bool, BatchError> {
        Ok(self.at == self.bytes.len())
    }
}

/// Decoded bytes held at a time while walking over a compressed batch.
const WINDOW_BYTES: usize = 64 * 1024;

thread_local! {
    static WINDOW: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

struct Stream<'a> {
    reader: &'a mut dyn Read,
    window: &'a mut [u8],
    /// `at..filled` of `window` is decoded and not yet taken.
    at: usize,
    filled: usize,
    /// Bytes decoded before those in the window.
    passed: u64,
}

impl Stream<'_> {
    /// Decodes the next bytes once the window is used up; false at the end.
    fn refill(&mut self) -> Result<bool, BatchError> {
        self.passed += self.filled as u64;
        (self.at, self.filled) = (0, 0);
        self.filled = loop {
            match self.reader.read(self.window) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BatchError::Compression(error.to_string())),
            }
        };
        if self.passed + self.filled as u64 > DECODED_BYTES_MAX as u64 {
            return Err(BatchError::TooLarge);
        }
        Ok(self.filled > 0)
    }
}

impl Source for Stream<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, BatchError> {
        if self.at == self.filled && !self.refill()? {
            return Err(CUT_SHORT);
        }
        let byte = self.window[self.at];
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, mut count: usize) -> Result<(), BatchError> {
        while count > self.filled - self.at {
            count -= self.filled - self.at;
            if !self.refill()? {
                return Err(CUT_SHORT);
            }
        }
        self.at += count;
        Ok(())
    }

    fn position(&self) -> u64 {
        self.passed + self.at as u64
    }

    fn is_spent(&mut self) -> Result<bool, BatchError> {
        Ok(self.at == self.filled && !self.refill()?)
    }
}

/// A record about to be written.
pub(super) struct Fields<'a> {
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header],
}

impl Fields<'_> {
    pub fn put(&self, out: &mut BytesMut) {
        put_varlong(out, self.body_bytes() as i64);
        out.put_u8(0);
        put_varlong(out, self.timestamp_delta);
        put_varlong(out, i64::from(self.offset_delta));
        put_field(out, self.key);
        put_field(out, self.value);
        put_varlong(out, self.headers.len() as i64);
        for header in self.headers {
            put_field(out, Some(&header.key));
            put_field(out, header.value.as_deref());
        }
    }

    /// What the length of the record counts: everything after it.
    fn body_bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|h| field_bytes(Some(&h.key)) + field_bytes(h.value.as_deref())).sum();
        1 + varlong_bytes(self.timestamp_delta)
            + varlong_bytes(i64::from(self.offset_delta))
            + field_bytes(self.key)
            + field_bytes(self.value)
            + varlong_bytes(self.headers.len() as i64)
            + headers
    }
}

/// Negative and positive numbers near zero become small: 0, -1, 1, -2 are 0, 1, 2, 3. For numbers that fit an `i32` the
/// varint and the varlong have the same bytes.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn put_varlong(out: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn varlong_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn put_field(out: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
    }
}

fn field_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varlong_bytes(bytes.len() as i64) + bytes.len())
}

#[cfg(test)]
mod tests {
    use super::super::batch::{BatchBuilder, Timestamps, rebuild, stamp};
    use super::*;
    use proptest::prelude::*;

    /// A batch of null records with these timestamps, in every codec.
    fn batches_at(base_offset: Offset, timestamps: &[i64]) -> Vec<Bytes> {
        let mut builder = BatchBuilder::new(timestamps[0]);
        for &timestamp in timestamps {
            builder.push(timestamp, None, None, &[]);
        }
        let batch = stamp(builder.build(), base_offset, 0, Timestamps::Keep);
        Codec::ALL.iter().map(|&codec| rebuild(&batch, codec, None).unwrap()).collect()
    }

    #[test]
    fn finds_the_first_record_at_or_after_a_time() {
        for batch in batches_at(100, &[10, 30, 20, 40]) {
            assert_eq!(find_timestamp(&batch, 5, 0), Ok(Some((100, 10))));
            assert_eq!(find_timestamp(&batch, 15, 0), Ok(Some((101, 30))));
            assert_eq!(find_timestamp(&batch, 15, 102), Ok(Some((102, 20))));
            assert_eq!(find_timestamp(&batch, 40, 0), Ok(Some((103, 40))));
            assert_eq!(find_timestamp(&batch, 41, 0), Ok(None));
        }
    }

    #[test]
    fn finds_the_first_of_the_largest_timestamps() {
        for batch in batches_at(7, &[10, 40, 20, 40]) {
            assert_eq!(max_timestamp_record(&batch, 0), Ok(Some((8, 40))));
            assert_eq!(max_timestamp_record(&batch, 9), Ok(Some((10, 40))));
            assert_eq!(max_timestamp_record(&batch, 11), Ok(None));
        }
    }

    #[test]
    fn the_append_time_stands_for_every_record() {
        for batch in batches_at(7, &[10, 40, 20]) {
            let batch = stamp(batch, 7, 0, Timestamps::Appended(1000));
            assert_eq!(find_timestamp(&batch, 900, 8), Ok(Some((8, 1000))));
            assert_eq!(find_timestamp(&batch, 1001, 0), Ok(None));
            assert_eq!(max_timestamp_record(&batch, 0), Ok(Some((7, 1000))));
            let header = BatchHeader::parse(&batch).unwrap();
            let times: Vec<i64> = records(&batch).unwrap().iter().map(|record| record.timestamp(&header)).collect();
            assert_eq!(times, [1000, 1000, 1000]);
        }
    }

    #[test]
    fn varints_are_as_wide_as_announced() {
        for value in [0, -1, 1, 63, -64, 64, 300, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let mut out = BytesMut::new();
            put_varlong(&mut out, value);
            assert_eq!(out.len(), varlong_bytes(value), "{value}");
            assert_eq!(varlong(&mut Slice { bytes: &out, at: 0 }), Ok(value));
            if let Ok(narrow) = i32::try_from(value) {
                assert_eq!(varint(&mut Slice { bytes: &out, at: 0 }), Ok(narrow));
            }
        }
        assert_eq!(varint(&mut Slice { bytes: &[0xff; 5], at: 0 }), Err(BAD_VARINT));
        assert_eq!(varlong(&mut Slice { bytes: &[0xff; 10], at: 0 }), Err(BAD_VARINT));
    }

    #[test]
    fn a_large_value_is_walked_through_a_small_window() {
        let mut builder = BatchBuilder::new(0);
        builder.push(1, Some(b"a"), Some(&[9u8; 5 * WINDOW_BYTES]), &[]);
        builder.push(2, None, None, &[]);
        let batch = builder.build();
        for codec in Codec::ALL {
            let batch = rebuild(&batch, codec, None).unwrap();
            assert_eq!(max_timestamp_record(&batch, 0), Ok(Some((1, 2))), "{codec:?}");
        }
    }

    /// What a walk and a full read say of a body of `count` records.
    fn verdicts(count: i32, body: &[u8]) -> [Option<BatchError>; 2] {
        let walked = walk(Slice { bytes: body, at: 0 }, count, |_| ControlFlow::Continue(()));
        let mut batch = BatchBuilder::new(0);
        batch.push(0, None, None, &[]);
        let mut bytes = batch.build()[..HEADER_BYTES].to_vec();
        bytes.extend_from_slice(body);
        bytes[8..12].copy_from_slice(&(49 + body.len() as i32).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        [walked.err(), records(&Bytes::from(bytes)).err()]
    }

    #[test]
    fn refuses_bodies_that_do_not_add_up() {
        let null_record = [12, 0, 0, 0, 1, 1, 0];
        let two = [null_record, null_record].concat();
        let both = |error: BatchError| [Some(error.clone()), Some(error)];
        assert_eq!(verdicts(1, &null_record), [None, None]);
        assert_eq!(verdicts(2, &two), [None, None]);
        assert_eq!(verdicts(1, &two), both(LEFT_OVER));
        assert_eq!(verdicts(3, &two), both(CUT_SHORT));
        assert_eq!(verdicts(-1, &two), both(LEFT_OVER));
        assert_eq!(verdicts(1, &[14, 0, 0, 0, 1, 1, 0]), both(BAD_RECORD_LENGTH));
        assert_eq!(verdicts(1, &[11, 0, 0, 0, 1, 1, 0]), both(BAD_LENGTH));
        assert_eq!(verdicts(1, &[12, 0, 0, 0, 3, 1, 0]), both(BAD_LENGTH), "a key length of -2");
        assert_eq!(verdicts(1, &[12, 0, 0, 0, 1, 1, 1]), both(BAD_LENGTH), "a header count of -1");
        assert_eq!(verdicts(1, &[16, 0, 0, 0, 1, 1, 2, 1, 1]), both(BAD_LENGTH), "a null header key");
        assert_eq!(verdicts(1, &[12, 0, 0, 0, 100, 1, 0]), both(CUT_SHORT), "a key past the end");
    }

    fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
    }

    type Raw = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn raw_record() -> impl Strategy<Value = Raw> {
        let headers = prop::collection::vec((prop::collection::vec(any::<u8>(), 0..10), field()), 0..3);
        (any::<i64>(), field(), field(), headers)
    }

    fn built(base: i64, raws: &[Raw]) -> Bytes {
        let mut builder = BatchBuilder::new(base);
        for (timestamp, key, value, headers) in raws {
            let headers: Vec<Header> = headers
                .iter()
                .map(|(key, value)| Header { key: key.clone().into(), value: value.clone().map(Bytes::from) })
                .collect();
            builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        assert_eq!(builder.count() as usize, raws.len());
        builder.build()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_built_is_read(base in any::<i64>(), raws in prop::collection::vec(raw_record(), 1..20)) {
            let batch = built(base, &raws);
            for codec in Codec::ALL {
                let batch = rebuild(&batch, codec, None).unwrap();
                let header = BatchHeader::parse(&batch).unwrap();
                let read = records(&batch).unwrap();
                prop_assert_eq!(read.len(), raws.len());
                for (index, (record, (timestamp, key, value, headers))) in read.iter().zip(&raws).enumerate() {
                    prop_assert_eq!(record.offset(&header), index as i64);
                    prop_assert_eq!(record.timestamp(&header), *timestamp);
                    prop_assert_eq!(record.key.as_deref(), key.as_deref());
                    prop_assert_eq!(record.value.as_deref(), value.as_deref());
                    prop_assert_eq!(record.headers.len(), headers.len());
                    for (header, (key, value)) in record.headers.iter().zip(headers) {
                        prop_assert_eq!(&header.key[..], &key[..]);
                        prop_assert_eq!(header.value.as_deref(), value.as_deref());
                    }
                }
                let largest = raws.iter().map(|raw| raw.0).max();
                let found = max_timestamp_record(&batch, 0).unwrap();
                prop_assert_eq!(found.map(|(_, timestamp)| timestamp), largest);
            }
        }

        #[test]
        fn reading_never_panics(
            raws in prop::collection::vec(raw_record(), 1..4),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            codec in 0usize..5,
        ) {
            let batch = rebuild(&built(0, &raws), Codec::ALL[codec], None).unwrap();
            let mut bytes = batch.to_vec();
            for (place, byte) in edits {
                let at = HEADER_BYTES + place.index(bytes.len() - HEADER_BYTES);
                bytes[at] = byte;
            }
            let bytes = Bytes::from(bytes);
            let walked = max_timestamp_record(&bytes, 0);
            let read = records(&bytes);
            prop_assert_eq!(walked.is_ok(), read.is_ok(), "a walk and a full read judge alike");
        }

        #[test]
        fn arbitrary_bodies_never_panic(count in any::<i32>(), body in prop::collection::vec(any::<u8>(), 0..100)) {
            let [walked, read] = verdicts(count, &body);
            prop_assert_eq!(walked, read);
        }
    }
}
