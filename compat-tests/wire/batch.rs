//! Record batches, built and read without the broker's own code, so that the two sides of a comparison cannot be wrong
//! in the same way.
//!
//! Layout: kafka.md 4.1, that is `DefaultRecordBatch` and `DefaultRecord` of Apache Kafka.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};

use crate::broker::now_ms;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;

/// Bits of the attributes.
pub const APPEND_TIME: i16 = 1 << 3;
pub const TRANSACTIONAL: i16 = 1 << 4;
pub const CONTROL: i16 = 1 << 5;

/// The codecs by their numbers.
pub const CODECS: [(i16, &str); 5] = [(0, "none"), (1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")];

/// A record.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub key: Option<&'static [u8]>,
    pub value: Option<Vec<u8>>,
    pub timestamp_delta: i64,
    pub headers: Vec<(&'static str, Option<&'static [u8]>)>,
}

/// A batch: what a producer would send, unless a field says otherwise.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base_offset: i64,
    pub magic: i8,
    pub attributes: i16,
    /// The number of records less one, unless given.
    pub last_offset_delta: Option<i32>,
    pub base_timestamp: i64,
    /// The largest of the records, unless given.
    pub max_timestamp: Option<i64>,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// The number of records, unless given.
    pub count: Option<i32>,
    pub records: Vec<Record>,
    /// What stands in the place of the records, unless they do.
    pub body: Option<Vec<u8>>,
}

impl Batch {
    /// A batch of these values, without keys, all of this moment.
    pub fn of(values: &[&str]) -> Batch {
        Batch::at(now_ms(), values)
    }

    /// A batch whose records are one millisecond apart, from `base_timestamp` on.
    pub fn at(base_timestamp: i64, values: &[&str]) -> Batch {
        let record = |(index, value): (usize, &&str)| Record {
            value: Some(value.as_bytes().to_vec()),
            timestamp_delta: index as i64,
            ..Record::default()
        };
        Batch {
            base_offset: 0,
            magic: 2,
            attributes: 0,
            last_offset_delta: None,
            base_timestamp,
            max_timestamp: None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: None,
            records: values.iter().enumerate().map(record).collect(),
            body: None,
        }
    }

    /// One record of this many bytes that no codec can shorten much.
    pub fn sized(value_bytes: usize) -> Batch {
        let mut batch = Batch::of(&[""]);
        let noise = (0..value_bytes as u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8);
        batch.records[0].value = Some(noise.collect());
        batch
    }

    /// The batch of an idempotent producer.
    pub fn from(self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Batch {
        Batch { producer_id, producer_epoch, base_sequence, ..self }
    }

    /// The batch as it goes over the wire.
    pub fn bytes(&self) -> Bytes {
        let count = self.records.len() as i32;
        let newest = self.records.iter().map(|record| self.base_timestamp + record.timestamp_delta).max();
        let body = self.body.clone().unwrap_or_else(|| compress(self.attributes & 7, &self.block()));
        let mut covered = BytesMut::new();
        covered.put_i16(self.attributes);
        covered.put_i32(self.last_offset_delta.unwrap_or(count - 1));
        covered.put_i64(self.base_timestamp);
        covered.put_i64(self.max_timestamp.unwrap_or(newest.unwrap_or(-1)));
        covered.put_i64(self.producer_id);
        covered.put_i16(self.producer_epoch);
        covered.put_i32(self.base_sequence);
        covered.put_i32(self.count.unwrap_or(count));
        covered.put_slice(&body);
        let mut out = BytesMut::new();
        out.put_i64(self.base_offset);
        out.put_i32((covered.len() + 9) as i32);
        out.put_i32(-1);
        out.put_i8(self.magic);
        out.put_u32(crc32c::crc32c(&covered));
        out.put_slice(&covered);
        out.freeze()
    }

    /// The records one after the other.
    pub fn block(&self) -> Vec<u8> {
        let mut block = Vec::new();
        for (index, record) in self.records.iter().enumerate() {
            let mut fields = vec![0];
            put_varint(&mut fields, record.timestamp_delta);
            put_varint(&mut fields, index as i64);
            put_bytes(&mut fields, record.key);
            put_bytes(&mut fields, record.value.as_deref());
            put_varint(&mut fields, record.headers.len() as i64);
            for (key, value) in &record.headers {
                put_bytes(&mut fields, Some(key.as_bytes()));
                put_bytes(&mut fields, *value);
            }
            put_varint(&mut block, fields.len() as i64);
            block.extend(fields);
        }
        block
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// The block as Kafka's clients compress it: snappy in the framing of its Java library.
fn compress(codec: i16, block: &[u8]) -> Vec<u8> {
    match codec {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(block).expect("memory");
            encoder.finish().expect("memory")
        }
        2 => {
            let packed = snap::raw::Encoder::new().compress_vec(block).expect("a short block");
            let magic = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
            [&magic[..], &(packed.len() as i32).to_be_bytes(), &packed].concat()
        }
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(block).expect("memory");
            encoder.finish().expect("memory")
        }
        4 => zstd::encode_all(block, 3).expect("memory"),
        _ => block.to_vec(),
    }
}

/// The batches in fetched records; every one must be whole.
pub fn batches(records: &Bytes) -> Vec<Bytes> {
    let (mut found, mut rest) = (Vec::new(), records.clone());
    while !rest.is_empty() {
        let length = i32::from_be_bytes(rest[8..12].try_into().expect("a batch header")) as usize;
        assert!(rest.len() >= 12 + length, "a batch was cut");
        found.push(rest.split_to(12 + length));
    }
    found
}

/// The offset of a stored batch's first record.
pub fn base_offset(batch: &[u8]) -> i64 {
    i64::from_be_bytes(batch[..8].try_into().expect("a batch header"))
}

/// A stored batch as its producer sent it: without the two fields that the leader fills in.
pub fn as_sent(batch: &[u8]) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[..8].fill(0);
    bytes[12..16].fill(0xff);
    bytes.into()
}

/// Number of a bit field and the largest timestamp of a stored batch.
pub fn attributes_and_max_timestamp(batch: &[u8]) -> (i16, i64) {
    let attributes = i16::from_be_bytes(batch[21..23].try_into().expect("a batch header"));
    let max_timestamp = i64::from_be_bytes(batch[35..43].try_into().expect("a batch header"));
    (attributes, max_timestamp)
}

/// True if the CRC of a stored batch is right.
pub fn crc_is_right(batch: &[u8]) -> bool {
    batch[17..21] == crc32c::crc32c(&batch[21..]).to_be_bytes()
}
