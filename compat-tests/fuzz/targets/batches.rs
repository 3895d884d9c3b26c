//! Record batches: checks on produce, every codec both ways, recompression, lookups and compaction.
//!
//! Input: a byte of rules, then what a producer sent. With the high bit of the rules the length and the checksum of the
//! first batch are put right, so that what is behind them is reached.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ottla::records::clean::{self, Cleaned, Horizon, Standing};
use ottla::records::{
    BatchBuilder, BatchHeader, Codec, Compression, EndMarker, HEADER_BYTES, Header, ProduceRules, batch, batches,
    check_produced, conform, crc_matches, decompress, find_timestamp, layout, max_timestamp_record, records, stamp,
};

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const MENDED: u8 = 0x80;
const NOW_MS: i64 = 1_700_000_000_000;
/// Most bytes that a block may decode to here.
const DECODED_BYTES_MAX: usize = 1 << 20;
/// Of so many mutations one begins anew with a batch that is well formed.
const FRESH_EVERY: u32 = 50;

fuzz_target!(|data: &[u8]| {
    let [rules, sent @ ..] = data else { return };
    let sent = if rules & MENDED == 0 { Bytes::copy_from_slice(sent) } else { mended(sent) };
    let rules = rules_of(*rules);
    if let Ok(checked) = check_produced(&sent, &rules) {
        let (stored, checked) = match conform(sent.clone(), checked, &rules) {
            Ok(conformed) => conformed,
            Err(_) => return,
        };
        let stored = stamp(stored, 1000, 7, checked.timestamps);
        stored_batch(&stored);
    }
    for read in batches(sent.clone()) {
        let Ok((_, batch)) = read else { break };
        lenient(&batch);
    }
    for codec in CODECS {
        let _ = decompress(codec, &sent, DECODED_BYTES_MAX);
    }
});

/// A batch that was accepted: everything that reads it again agrees about it.
fn stored_batch(stored: &Bytes) {
    assert!(crc_matches(stored), "what is stored has a right checksum");
    let header = BatchHeader::parse(stored).expect("what is stored has a header");
    assert_eq!(header.base_offset, 1000);
    let read = records(stored).expect("what was accepted can be read");
    assert_eq!(read.len(), header.records_count as usize);
    for (place, record) in read.iter().enumerate() {
        assert_eq!(record.offset(&header), 1000 + place as i64, "offsets are consecutive");
    }
    let latest = max_timestamp_record(stored, 0).expect("what was accepted can be searched");
    assert_eq!(latest.is_some(), !read.is_empty());
    find_timestamp(stored, header.max_timestamp, 0).expect("what was accepted can be searched");
    for codec in CODECS {
        // Twice there and back: the records stay what they were.
        let rebuilt = batch::rebuild(stored, codec, None).expect("what was accepted can be compressed");
        assert_eq!(records(&rebuilt).expect("what was compressed can be read"), read);
    }
    let horizon = Horizon { now_ms: NOW_MS, delete_retention_ms: 1000 };
    if !header.is_control() {
        let mut kept = |_: &[u8], offset: i64| offset % 2 == 0;
        let cleaned = clean::clean(stored, Standing::Data, true, horizon, &mut kept).expect("it can be cleaned");
        if let Cleaned::Anew(anew) = cleaned {
            assert!(crc_matches(&anew));
            assert!(records(&anew).expect("what was cleaned can be read").len() <= read.len());
        }
    }
}

/// Bytes that may be anything: nothing panics.
fn lenient(batch: &Bytes) {
    let _ = records(batch);
    let _ = find_timestamp(batch, NOW_MS, 0);
    let _ = max_timestamp_record(batch, 0);
    let _ = EndMarker::read(batch);
    let _ = clean::visit_keys(batch, &mut |_, _| ());
    let _ = crc_matches(batch);
    let horizon = Horizon { now_ms: NOW_MS, delete_retention_ms: 1000 };
    for standing in [Standing::Data, Standing::Aborted, Standing::Control, Standing::Spent] {
        for keep_empty in [false, true] {
            let _ = clean::clean(batch, standing, keep_empty, horizon, &mut |_, offset| offset % 2 == 0);
        }
    }
    if BatchHeader::parse(batch).is_ok_and(|header| header.records_count < 100_000) {
        let _ = batch::rebuild(batch, Codec::Lz4, None);
    }
}

fn rules_of(bits: u8) -> ProduceRules {
    let codec = CODECS.get(usize::from(bits & 7)).copied();
    ProduceRules {
        max_message_bytes: DECODED_BYTES_MAX as i32,
        segment_bytes: DECODED_BYTES_MAX as i32,
        compacted: bits & 8 != 0,
        log_append_time: bits & 16 != 0,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: if bits & 32 != 0 { i64::MAX } else { 3_600_000 },
        now_ms: NOW_MS,
        compression: codec.map(|codec| Compression { codec, level: None }),
    }
}

/// The bytes as one batch whose length and checksum are right.
fn mended(sent: &[u8]) -> Bytes {
    let mut bytes = sent.to_vec();
    if bytes.len() >= HEADER_BYTES {
        let length = (bytes.len() - layout::LEADER_EPOCH) as i32;
        bytes[layout::BATCH_LENGTH..layout::LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
        let sum = crc32c::crc32c(&bytes[layout::ATTRIBUTES..]);
        bytes[layout::CRC..layout::ATTRIBUTES].copy_from_slice(&sum.to_be_bytes());
    }
    bytes.into()
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % FRESH_EVERY == 0 {
        let batch = fresh(seed);
        if batch.len() < max_size {
            data[0] = seed as u8 | MENDED;
            data[1..1 + batch.len()].copy_from_slice(&batch);
            return 1 + batch.len();
        }
    }
    fuzzer_mutate(data, size, max_size)
});

/// A batch that is well formed.
fn fresh(seed: u32) -> Bytes {
    let mut builder = BatchBuilder::new(NOW_MS);
    if seed & 0x100 != 0 {
        builder = builder.producer(7, 1, 3);
    }
    for number in 0..=seed >> 9 & 7 {
        let key = [b'k', number as u8];
        let header = Header { key: Bytes::from_static(b"h"), value: Some(Bytes::from_static(b"v")) };
        let headers: &[Header] = if number & 1 == 0 { &[] } else { &[header] };
        let value = vec![number as u8; (seed >> 12 & 63) as usize];
        builder.push(NOW_MS + i64::from(number), Some(&key), (number != 2).then_some(&value[..]), headers);
    }
    let batch = builder.build();
    let codec = CODECS[(seed >> 20) as usize % CODECS.len()];
    batch::rebuild(&batch, codec, None).unwrap_or(batch)
}
