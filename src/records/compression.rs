//! The four codecs of record batches: gzip, snappy, lz4 and zstd (KIP-110). The only file that names a codec crate.
//!
//! Invariants: decoding is streamed and never trusts a length it reads; a decoder allocates at most a small multiple
//! of the bytes it was given. What Kafka's own decoders would refuse is refused (linked LZ4 blocks), because every
//! consumer has to read what we store. The checksums inside LZ4 blocks are skipped: the CRC of the batch covers them.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::mem;
use std::thread::LocalKey;

use bytes::Bytes;
use lz4_flex::block::DecompressError;
use zstd::zstd_safe::DCtx;

use super::batch::BatchError;

/// Largest decoded size of one batch: what a hostile batch can make us decode. Kafka has no such limit; the default of
/// `socket.request.max.bytes` is as large, so no uncompressed batch could ever be larger.
pub const DECODED_BYTES_MAX: usize = 100 * 1024 * 1024;

/// A codec, with Kafka's number (`CompressionType.id`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// Every codec, in the order of its number.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The number in bits 0-2 of a batch's attributes.
    pub const fn id(self) -> i16 {
        self as i16
    }

    /// The codec with this number.
    pub const fn from_id(id: i16) -> Option<Codec> {
        match id {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// Decodes a block of records. More than `limit_bytes` decoded is [`BatchError::TooLarge`].
pub fn decompress(codec: Codec, data: &[u8], limit_bytes: usize) -> Result<Bytes, BatchError> {
    let mut decoded = Vec::new();
    with_reader(codec, data, |reader| {
        let one_too_many = (limit_bytes as u64).saturating_add(1);
        reader.take(one_too_many).read_to_end(&mut decoded).map_err(broken)?;
        Ok(())
    })?;
    if decoded.len() > limit_bytes {
        return Err(BatchError::TooLarge);
    }
    Ok(decoded.into())
}

/// Encodes a block of records as Kafka's clients expect it. `level` is the codec's own (`compression.<codec>.level`);
/// snappy knows none, `None` means the codec's default.
pub fn compress(codec: Codec, level: Option<i32>, data: &[u8]) -> Result<Bytes, BatchError> {
    let encoded = match codec {
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => gzip(level, data),
        Codec::Snappy => xerial_snappy(data),
        Codec::Lz4 => lz4(level, data),
        Codec::Zstd => zstd::bulk::compress(data, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL)),
    };
    encoded.map(Bytes::from).map_err(broken)
}

/// Runs `run` over the decoded bytes of `data`, never holding more of them than the codec's own window or block.
pub(super) fn with_reader<T>(
    codec: Codec,
    data: &[u8],
    run: impl FnOnce(&mut dyn Read) -> Result<T, BatchError>,
) -> Result<T, BatchError> {
    match codec {
        Codec::None => {
            let mut rest = data;
            run(&mut rest)
        }
        Codec::Gzip => run(&mut flate2::bufread::MultiGzDecoder::new(data)),
        Codec::Snappy => borrowed(&BLOCK, |block| run(&mut BlockReader::snappy(data, block))),
        Codec::Lz4 => borrowed(&BLOCK, |block| {
            let mut reader = BlockReader::lz4(data, block).map_err(broken)?;
            run(&mut reader)
        }),
        Codec::Zstd => {
            let Some(mut context) = ZSTD.take().or_else(DCtx::try_create) else {
                return Err(broken("no memory for a zstd context"));
            };
            let result = run(&mut zstd::stream::read::Decoder::with_context(data, &mut context));
            ZSTD.set(Some(context));
            result
        }
    }
}

/// Lends out a thread's scratch buffer, so that the hot path does not allocate per batch. A buffer that one large batch
/// has blown up is not kept.
pub(super) fn borrowed<T>(slot: &'static LocalKey<Cell<Vec<u8>>>, run: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = slot.take();
    let result = run(&mut buffer);
    if buffer.capacity() <= SCRATCH_KEPT_BYTES_MAX {
        slot.set(buffer);
    }
    result
}

const SCRATCH_KEPT_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    /// The block being read by a [`BlockReader`].
    static BLOCK: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// A zstd context: expensive to make, reset by each new decoder.
    static ZSTD: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

fn broken(error: impl Display) -> BatchError {
    BatchError::Compression(error.to_string())
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn truncated() -> io::Error {
    invalid("compressed data ends early")
}

fn gzip(level: Option<i32>, data: &[u8]) -> io::Result<Vec<u8>> {
    let level = match level {
        Some(level @ 0..=9) => flate2::Compression::new(level as u32),
        _ => flate2::Compression::default(),
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(data)?;
    encoder.finish()
}

/// The framing of the xerial library, which Java clients write: magic, version 1, compatible version 1, then blocks
/// with a big-endian length.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_MAGIC_BYTES: usize = 8;
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

fn xerial_snappy(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let mut out = XERIAL_HEADER.to_vec();
    for block in data.chunks(XERIAL_BLOCK_BYTES) {
        let encoded = encoder.compress_vec(block)?;
        out.extend_from_slice(&(encoded.len() as u32).to_be_bytes());
        out.extend_from_slice(&encoded);
    }
    Ok(out)
}

/// The level that Kafka's clients and brokers have when nothing is set. They encode it as the fast kind of LZ4; every
/// other level is one of the high compression kind (`Lz4BlockOutputStream`).
const LZ4_LEVEL_DEFAULT: i32 = 9;

fn lz4(level: Option<i32>, data: &[u8]) -> io::Result<Vec<u8>> {
    if let Some(level) = level.filter(|&level| level != LZ4_LEVEL_DEFAULT) {
        return lz4_high(level, data);
    }
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(data)?;
    Ok(encoder.finish()?)
}

/// LZ4's library takes levels below 3 for the fast kind, and calls the lowest of the other kind 3.
fn lz4_high(level: i32, data: &[u8]) -> io::Result<Vec<u8>> {
    let level = u32::try_from(level.clamp(3, 12)).unwrap_or(3);
    let mut encoder = lz4::EncoderBuilder::new()
        .level(level)
        .block_size(lz4::BlockSize::Max64KB)
        .block_mode(lz4::BlockMode::Independent)
        .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .build(Vec::new())?;
    encoder.write_all(data)?;
    let (encoded, finished) = encoder.finish();
    finished.map(|()| encoded)
}

/// How a sequence of independently compressed blocks is framed.
enum Framing {
    /// One snappy block without a frame, as librdkafka writes.
    Snappy,
    Xerial,
    Lz4 {
        block_bytes_max: usize,
        block_checksums: bool,
    },
    /// The end mark has been read; what follows it is ignored, as Kafka does.
    Ended,
}

/// Reads snappy and lz4 block by block. Our own frame reader for lz4, because the crate's zeroes a buffer of the
/// frame's largest block size per batch, and Go clients announce 4 MiB blocks for batches of a few KiB.
struct BlockReader<'a> {
    framing: Framing,
    rest: &'a [u8],
    block: &'a mut Vec<u8>,
    /// `at..filled` of `block` is decoded and not yet read.
    at: usize,
    filled: usize,
}

impl<'a> BlockReader<'a> {
    fn snappy(data: &'a [u8], block: &'a mut Vec<u8>) -> BlockReader<'a> {
        let framed = data.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_BYTES]);
        let framing = if framed { Framing::Xerial } else { Framing::Snappy };
        BlockReader { framing, rest: data, block, at: 0, filled: 0 }
    }

    fn lz4(data: &'a [u8], block: &'a mut Vec<u8>) -> io::Result<BlockReader<'a>> {
        let mut rest = data;
        let framing = lz4_framing(&mut rest)?;
        Ok(BlockReader { framing, rest, block, at: 0, filled: 0 })
    }

    /// Decodes the next block; its size, or `None` at the end. A block may be empty.
    fn next_block(&mut self) -> io::Result<Option<usize>> {
        match self.framing {
            Framing::Snappy => {
                self.framing = Framing::Ended;
                let data = mem::take(&mut self.rest);
                self.unsnap(data).map(Some)
            }
            Framing::Xerial => {
                // Streams may be concatenated: a header can stand wherever a block can.
                while self.rest.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_BYTES]) {
                    take(&mut self.rest, XERIAL_HEADER.len())?;
                }
                if self.rest.is_empty() {
                    return Ok(None);
                }
                let length = u32::from_be_bytes(array(&mut self.rest)?);
                let data = take(&mut self.rest, length as usize)?;
                self.unsnap(data).map(Some)
            }
            Framing::Lz4 { block_bytes_max, block_checksums } => {
                let size = u32::from_le_bytes(array(&mut self.rest)?);
                if size == 0 {
                    self.framing = Framing::Ended;
                    return Ok(None);
                }
                let data = take(&mut self.rest, (size & !LZ4_STORED) as usize)?;
                if block_checksums {
                    take(&mut self.rest, 4)?;
                }
                if data.len() > block_bytes_max {
                    return Err(invalid("an LZ4 block is larger than its frame allows"));
                }
                if size & LZ4_STORED != 0 {
                    self.block.clear();
                    self.block.extend_from_slice(data);
                    return Ok(Some(data.len()));
                }
                self.unlz4(data, block_bytes_max).map(Some)
            }
            Framing::Ended => Ok(None),
        }
    }

    fn unsnap(&mut self, data: &[u8]) -> io::Result<usize> {
        let length = snap::raw::decompress_len(data)?;
        if length > data.len().saturating_mul(SNAPPY_EXPANSION_MAX) || length > DECODED_BYTES_MAX {
            return Err(invalid("a snappy block claims an impossible size"));
        }
        self.block.resize(length, 0);
        Ok(snap::raw::Decoder::new().decompress(data, &mut self.block[..])?)
    }

    /// LZ4 blocks do not tell their decoded size, so the buffer grows until the block fits.
    fn unlz4(&mut self, data: &[u8], block_bytes_max: usize) -> io::Result<usize> {
        loop {
            let room = self.block.len().min(block_bytes_max);
            match lz4_flex::block::decompress_into(data, &mut self.block[..room]) {
                Ok(length) => return Ok(length),
                Err(DecompressError::OutputTooSmall { .. }) if room < block_bytes_max => {
                    let larger = room.saturating_mul(4).clamp(LZ4_BLOCK_BYTES_MIN, block_bytes_max);
                    self.block.resize(larger, 0);
                }
                Err(error) => return Err(invalid(error.to_string())),
            }
        }
    }
}

impl Read for BlockReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.filled {
            let Some(filled) = self.next_block()? else {
                return Ok(0);
            };
            (self.at, self.filled) = (0, filled);
        }
        let count = out.len().min(self.filled - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// The densest snappy element decodes 3 bytes to 64.
const SNAPPY_EXPANSION_MAX: usize = 32;

const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// The bit of a block's length that says its data is not compressed.
const LZ4_STORED: u32 = 0x8000_0000;
const LZ4_BLOCK_BYTES_MIN: usize = 64 * 1024;

/// Reads a frame's header: magic, flags, block size, optional content size, header checksum.
fn lz4_framing(rest: &mut &[u8]) -> io::Result<Framing> {
    if array::<4>(rest)? != LZ4_MAGIC {
        return Err(invalid("not an LZ4 frame"));
    }
    let described = *rest;
    let [flags, sizes] = array(rest)?;
    // Version 1 in the top bits; the reserved bit and the dictionary bit must be clear.
    if flags & 0b1100_0011 != 0b0100_0000 || sizes & 0b1000_1111 != 0 {
        return Err(invalid("an LZ4 frame of an unknown version"));
    }
    if flags & 0b0010_0000 == 0 {
        return Err(invalid("LZ4 blocks must be independent of each other"));
    }
    let size_code = sizes >> 4;
    if size_code < 4 {
        return Err(invalid("an LZ4 frame with an unknown block size"));
    }
    if flags & 0b0000_1000 != 0 {
        take(rest, 8)?;
    }
    let covered = described.get(..described.len() - rest.len()).unwrap_or_default();
    let [checksum] = array(rest)?;
    if (xxh32_short(covered) >> 8) as u8 != checksum {
        return Err(invalid("the checksum of an LZ4 frame header is wrong"));
    }
    let block_bytes_max = 1 << (8 + 2 * usize::from(size_code));
    Ok(Framing::Lz4 { block_bytes_max, block_checksums: flags & 0b0001_0000 != 0 })
}

/// XXH32 with seed 0 of fewer than 16 bytes, which a frame header always is.
fn xxh32_short(bytes: &[u8]) -> u32 {
    const PRIMES: [u32; 5] = [2_654_435_761, 2_246_822_519, 3_266_489_917, 668_265_263, 374_761_393];
    let mut hash = PRIMES[4].wrapping_add(bytes.len() as u32);
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let word = word.iter().rev().fold(0u32, |value, &byte| (value << 8) | u32::from(byte));
        hash = hash.wrapping_add(word.wrapping_mul(PRIMES[2])).rotate_left(17).wrapping_mul(PRIMES[3]);
    }
    for &byte in words.remainder() {
        hash = hash.wrapping_add(u32::from(byte).wrapping_mul(PRIMES[4])).rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIMES[1]);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 16)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> io::Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count).ok_or_else(truncated)?;
    *rest = tail;
    Ok(head)
}

fn array<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or_else(truncated)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(codec: Codec, data: &[u8]) -> Vec<u8> {
        decompress(codec, data, DECODED_BYTES_MAX).unwrap().to_vec()
    }

    #[test]
    fn reads_what_others_wrote() {
        let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff, 0x4b, 0x4c, 0x4a, 6, 0, 0xc2, 0x41, 0x24, 0x35, 3, 0, 0, 0];
        assert_eq!(decoded(Codec::Gzip, &gzip), b"abc");
        let two_members = [gzip, gzip].concat();
        assert_eq!(decoded(Codec::Gzip, &two_members), b"abcabc");

        let raw_snappy = [3, 0x08, b'a', b'b', b'c'];
        assert_eq!(decoded(Codec::Snappy, &raw_snappy), b"abc");
        let framed = [&XERIAL_HEADER[..], &[0, 0, 0, 5][..], &raw_snappy[..]].concat();
        assert_eq!(decoded(Codec::Snappy, &framed), b"abc");
        let twice = [&framed[..], &framed[..]].concat();
        assert_eq!(decoded(Codec::Snappy, &twice), b"abcabc");

        let lz4 = [4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 3, 0, 0, 0x80, b'a', b'b', b'c', 0, 0, 0, 0];
        assert_eq!(decoded(Codec::Lz4, &lz4), b"abc");
        let sized = [
            &[4, 0x22, 0x4d, 0x18, 0x68, 0x40, 3, 0, 0, 0, 0, 0, 0, 0, 0x87][..],
            &[3, 0, 0, 0x80, b'a', b'b', b'c', 0, 0, 0, 0][..],
        ];
        assert_eq!(decoded(Codec::Lz4, &sized.concat()), b"abc");

        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x19, 0, 0, b'a', b'b', b'c'];
        assert_eq!(decoded(Codec::Zstd, &zstd), b"abc");
    }

    #[test]
    fn writes_the_xerial_frame_and_independent_lz4_blocks() {
        let snappy = compress(Codec::Snappy, None, &[7; 100_000]).unwrap();
        assert_eq!(snappy[..16], XERIAL_HEADER);
        let lz4 = compress(Codec::Lz4, None, b"abc").unwrap();
        assert_eq!(lz4[..7], [4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
        assert_eq!(compress(Codec::Lz4, Some(LZ4_LEVEL_DEFAULT), b"abc").unwrap(), lz4);
    }

    #[test]
    fn lz4_has_levels() {
        let words: Vec<u8> = (0..20_000u32).flat_map(|n| format!("record {} ", n * n % 977).into_bytes()).collect();
        let mut sizes = Vec::new();
        for level in [LZ4_LEVEL_DEFAULT, 1, 12, 17] {
            let encoded = compress(Codec::Lz4, Some(level), &words).unwrap();
            assert_eq!(encoded[..7], [4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82], "level {level}");
            assert_eq!(decoded(Codec::Lz4, &encoded), words, "level {level}");
            sizes.push(encoded.len());
        }
        assert!(sizes[2] < sizes[0] && sizes[2] == sizes[3], "the highest are one, and beat the fast kind: {sizes:?}");
    }

    #[test]
    fn hashes_as_xxh32_does() {
        assert_eq!(xxh32_short(b""), 0x02cc_5d05);
        assert_eq!(xxh32_short(b"a"), 0x550d_7456);
        assert_eq!(xxh32_short(b"abc"), 0x32d1_53ff);
    }

    #[test]
    fn refuses_what_kafka_cannot_read() {
        let linked = [4, 0x22, 0x4d, 0x18, 0x40, 0x40, 0xc0, 3, 0, 0, 0x80, b'a', b'b', b'c', 0, 0, 0, 0];
        assert!(decompress(Codec::Lz4, &linked, 100).is_err());
        let no_end_mark = [4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 3, 0, 0, 0x80, b'a', b'b', b'c'];
        assert!(decompress(Codec::Lz4, &no_end_mark, 100).is_err());
        let bad_header = [4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x83, 0, 0, 0, 0];
        assert!(decompress(Codec::Lz4, &bad_header, 100).is_err());
        // Claims 4 GiB in six bytes.
        assert!(decompress(Codec::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 100).is_err());
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeroes = vec![0u8; 8 * 1024 * 1024];
        for codec in Codec::ALL {
            let bomb = compress(codec, None, &zeroes).unwrap();
            assert_eq!(decompress(codec, &bomb, 1024 * 1024), Err(BatchError::TooLarge), "{codec:?}");
        }
    }

    #[test]
    fn a_failed_decoder_leaves_nothing_behind_for_the_next() {
        let good = compress(Codec::Zstd, None, &[1; 5000]).unwrap();
        assert!(decompress(Codec::Zstd, &good[..good.len() - 3], 10_000).is_err());
        assert_eq!(decoded(Codec::Zstd, &good), vec![1; 5000]);
        let good = compress(Codec::Lz4, None, &[1; 5000]).unwrap();
        assert!(decompress(Codec::Lz4, &good[..good.len() - 9], 10_000).is_err());
        assert_eq!(decoded(Codec::Lz4, &good), vec![1; 5000]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trips(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..8000),
        ) {
            let data: Vec<u8> = match words.len() {
                0 => Vec::new(),
                count => picks.iter().flat_map(|pick| words[pick.index(count)].clone()).collect(),
            };
            for codec in Codec::ALL {
                let encoded = compress(codec, None, &data).unwrap();
                prop_assert_eq!(&decoded(codec, &encoded), &data, "{:?}", codec);
            }
        }

        #[test]
        fn decoders_never_panic(data in prop::collection::vec(any::<u8>(), 0..300), flips in 0usize..200) {
            for codec in Codec::ALL {
                let _ = decompress(codec, &data, 1 << 20);
                let mut encoded = compress(codec, None, &data).unwrap().to_vec();
                let length = encoded.len().max(1);
                if let Some(byte) = encoded.get_mut(flips % length) {
                    *byte ^= 1 << (flips % 8);
                }
                let _ = decompress(codec, &encoded, 1 << 20);
            }
        }
    }
}
