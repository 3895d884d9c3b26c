//! Batches that lie: well-formed requests to a topic that exists, whose records are spoiled or explode when unpacked.
//!
//! Invariants: a spoiled batch is refused with a code, or it was good all the same and is stored whole; the log that
//! comes out has no gap, no wrong CRC and nothing that a reader could stumble over.

use std::io::Write;

use bytes::Bytes;
use ottla::wire::generate::Generator;

use crate::asks::{Topic, code};
use crate::batch::{Batch, base_offset, batches, crc_is_right};
use crate::broker::Broker;
use crate::client::Client;
use crate::hostile::{peak_from_now, swollen_since};

/// What a spoiled batch may be told: good, corrupt, too large, out of time, out of sequence, an old epoch, no
/// transaction, no right to one, a codec nobody knows, invalid.
const ANSWERS: [i16; 10] = [code::NONE, code::CORRUPT_MESSAGE, code::MESSAGE_TOO_LARGE, 32, 45, 47, 48, 53, 76, 87];
/// How many are sent.
const SPOILED: usize = 4_000;
/// What a bomb unpacks to, and how much memory its refusal may take.
const BOMB_BYTES: usize = 200 << 20;
const REFUSAL_BYTES_MAX: u64 = 48 << 20;

/// The number of records that a batch claims to have.
fn claimed(batch: &[u8]) -> i64 {
    i64::from(i32::from_be_bytes(batch[57..61].try_into().expect("a batch header")))
}

/// Makes the length and the CRC of a batch fit what is there.
fn seal(batch: &mut [u8]) {
    if batch.len() < 61 {
        return;
    }
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A batch with something wrong in it: in its records before they were packed, after, or in its header.
fn spoiled(generator: &mut Generator, number: usize) -> Vec<u8> {
    let codec = (number % 5) as i16;
    let mut batch = Batch { attributes: codec, ..Batch::of(&["one", "two", "three"]) };
    batch.records[1].key = Some(b"key");
    batch.records[2].headers = vec![("header", Some(b"value"))];
    if generator.below(3) == 0 && codec == 0 {
        let mut block = batch.block();
        generator.mutate(&mut block);
        return Batch { body: Some(block), ..batch }.bytes().to_vec();
    }
    let mut bytes = batch.bytes().to_vec();
    // The records alone, or anything behind the fields that say that this is a batch at all.
    let kept = if generator.below(2) == 0 { 61 } else { 21 };
    let mut tail = bytes.split_off(kept);
    generator.mutate(&mut tail);
    bytes.extend(tail);
    if generator.below(8) > 0 {
        seal(&mut bytes);
    }
    bytes
}

/// Reads the whole log and checks that one batch follows the other; returns the number of batches.
fn check_log(client: &mut Client, topic: &Topic, end: i64) -> usize {
    let (mut next, mut found) = (0, 0);
    while next < end {
        let part = client.fetch(topic, 0, next);
        assert_eq!((part.error_code, part.high_watermark), (code::NONE, end));
        for batch in batches(&part.records.expect("records")) {
            assert_eq!(base_offset(&batch), next, "a gap");
            assert!(crc_is_right(&batch), "offset {next}");
            next += claimed(&batch);
            found += 1;
        }
    }
    // Both walk through every record that is stored.
    assert_eq!(client.offset_at(topic, 0, -3).0, code::NONE);
    assert_eq!(client.offset_at(topic, 0, i64::MAX), (code::NONE, -1, -1));
    found
}

#[test]
fn spoiled_batches_are_refused_or_stored_whole() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[("message.timestamp.after.max.ms", "9223372036854775807")]);
    let mut generator = Generator::new(17);
    let (mut end, mut stored, mut refused) = (0, 0, 0);
    for number in 0..SPOILED {
        let batch: Bytes = spoiled(&mut generator, number).into();
        let answer = client.produce(&topic, 0, batch.clone());
        assert!(ANSWERS.contains(&answer.error_code), "{} for {batch:?}", answer.error_code);
        if answer.error_code != code::NONE {
            refused += 1;
        } else if answer.base_offset == end {
            end += claimed(&batch);
            stored += 1;
        } else {
            assert!(answer.base_offset < end, "a duplicate: {batch:?}");
        }
        if number % 1_000 == 999 {
            assert_eq!(check_log(&mut client, &topic, end), stored);
        }
    }
    assert!(refused > SPOILED / 4 && stored > SPOILED / 50, "{refused} refused, {stored} stored");
}

/// A batch of one record of zeros, far larger unpacked than packed.
fn bomb(codec: i16) -> Bytes {
    let (mut front, zeros) = (vec![0, 0, 0, 1], vec![0; 1 << 20]);
    put_varint(&mut front, BOMB_BYTES as u64);
    let mut block = Vec::new();
    put_varint(&mut block, (front.len() + BOMB_BYTES + 1) as u64);
    block.extend(front);
    let write = |out: &mut dyn Write| {
        out.write_all(&block).expect("memory");
        for _ in 0..BOMB_BYTES >> 20 {
            out.write_all(&zeros).expect("memory");
        }
        out.write_all(&[0]).expect("memory");
    };
    let body = match codec {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            write(&mut encoder);
            encoder.finish().expect("memory")
        }
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            write(&mut encoder);
            encoder.finish().expect("memory")
        }
        _ => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("memory");
            write(&mut encoder);
            encoder.finish().expect("memory")
        }
    };
    Batch { attributes: codec, body: Some(body), ..Batch::of(&["x"]) }.bytes()
}

/// A number that is not negative, as records write it.
fn put_varint(out: &mut Vec<u8>, number: u64) {
    let mut zigzag = number << 1;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

#[test]
fn a_batch_that_explodes_is_refused_and_takes_no_memory() {
    let broker = Broker::alone(&[]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let bombs: Vec<(i16, Bytes)> = [1, 3, 4].map(|codec| (codec, bomb(codec))).to_vec();
    let peak = peak_from_now();
    for (codec, bomb) in bombs {
        assert!(bomb.len() < 1_048_588, "{} bytes of codec {codec}", bomb.len());
        assert_eq!(client.produce(&topic, 0, bomb).error_code, code::MESSAGE_TOO_LARGE, "codec {codec}");
    }
    let swollen = swollen_since(peak);
    assert!(swollen < REFUSAL_BYTES_MAX, "{} MiB", swollen >> 20);
    assert_eq!(client.offset_at(&topic, 0, -1).1, 0);
    assert_eq!(client.append(&topic, 0, Batch::of(&["x"]).bytes()), 0);
}
