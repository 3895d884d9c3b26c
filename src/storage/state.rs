//! The one small row that every append rewrites: where a log starts and ends.
//!
//! Invariants: `log_start ≤ high_watermark ≤ log_end`; the row is in the same atomic write as the batch that moved
//! `log_end`, so a start reads it and scans nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::retention::Chunk;
use crate::ids::{KafkaUuid, Offset, TopicId, TopicIdPartition};

const VERSION: u8 = 1;
const CLEANED_VERSION: u8 = 0;
const STANDING_VERSION: u8 = 0;
const FUTURE: u8 = 1;
const LEAVING: u8 = 2;
const LENGTH: usize = 1 + 16 + 4 + 8 * 4 + 8 * 4;

/// Persistent state of one log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogState {
    pub id: TopicIdPartition,
    /// First readable offset.
    pub log_start: Offset,
    /// Offset that the next record gets.
    pub log_end: Offset,
    /// As known when the row was written; a lower bound.
    pub high_watermark: Offset,
    /// Bytes of the batches in `log_start..log_end`, whole chunks counted until they are deleted.
    pub bytes: u64,
    /// The chunk still being filled.
    pub open: Chunk,
}

impl LogState {
    /// The state of a log without records.
    pub fn new(id: TopicIdPartition) -> LogState {
        let open = Chunk { base_offset: 0, next_offset: 0, bytes: 0, max_timestamp: -1 };
        LogState { id, log_start: 0, log_end: 0, high_watermark: 0, bytes: 0, open }
    }

    pub fn encode(&self) -> Bytes {
        let mut row = BytesMut::with_capacity(LENGTH);
        row.put_u8(VERSION);
        row.put_u128(self.id.topic.0);
        row.put_i32(self.id.partition);
        for offset in [self.log_start, self.log_end, self.high_watermark] {
            row.put_i64(offset);
        }
        row.put_u64(self.bytes);
        put_chunk(&mut row, &self.open);
        row.freeze()
    }

    /// Reads a row; `None` if it is malformed or breaks an invariant.
    pub fn decode(row: &[u8]) -> Option<LogState> {
        let mut rest = row;
        if row.len() != LENGTH || rest.get_u8() != VERSION {
            return None;
        }
        let id = TopicIdPartition { topic: KafkaUuid(rest.get_u128()), partition: rest.get_i32() };
        let (log_start, log_end, high_watermark) = (rest.get_i64(), rest.get_i64(), rest.get_i64());
        let bytes = rest.get_u64();
        let open = take_chunk(&mut rest)?;
        let sound = 0 <= log_start && log_start <= log_end && high_watermark <= log_end && id.partition >= 0;
        sound.then_some(LogState { id, log_start, log_end, high_watermark, bytes, open })
    }

    /// The topic this log belongs to.
    pub fn topic(&self) -> TopicId {
        self.id.topic
    }
}

/// What a log is to its partition while this moves from one directory to another (KIP-113).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The partition's log. It may be that of a move that has ended.
    Settled,
    /// A copy in the making of the log in the directory `from`; worth nothing without it.
    Future { from: KafkaUuid },
    /// The partition's log unless there is one in the directory `to` that is no copy. If that cannot be looked into,
    /// nobody knows which of the two is.
    Leaving { to: KafkaUuid },
}

impl Standing {
    /// The value of a `Standing` row; `None` if there is no such row.
    pub fn encode(&self) -> Option<Bytes> {
        let (role, directory) = match self {
            Standing::Settled => return None,
            Standing::Future { from } => (FUTURE, from),
            Standing::Leaving { to } => (LEAVING, to),
        };
        let mut row = BytesMut::with_capacity(18);
        row.put_u8(STANDING_VERSION);
        row.put_u8(role);
        row.put_u128(directory.0);
        Some(row.freeze())
    }

    /// Reads a `Standing` row; `None` if it is malformed.
    pub fn decode(row: &[u8]) -> Option<Standing> {
        let (&[version, role], directory) = row.split_first_chunk()?;
        let directory = KafkaUuid(u128::from_be_bytes(directory.try_into().ok()?));
        match (version, role) {
            (STANDING_VERSION, FUTURE) => Some(Standing::Future { from: directory }),
            (STANDING_VERSION, LEAVING) => Some(Standing::Leaving { to: directory }),
            _ => None,
        }
    }
}

fn put_chunk(row: &mut BytesMut, chunk: &Chunk) {
    row.put_i64(chunk.base_offset);
    row.put_i64(chunk.next_offset);
    row.put_u64(chunk.bytes);
    row.put_i64(chunk.max_timestamp);
}

fn take_chunk(rest: &mut &[u8]) -> Option<Chunk> {
    if rest.remaining() < 32 {
        return None;
    }
    let (base_offset, next_offset) = (rest.get_i64(), rest.get_i64());
    let (bytes, max_timestamp) = (rest.get_u64(), rest.get_i64());
    (0 <= base_offset && base_offset <= next_offset).then_some(Chunk { base_offset, next_offset, bytes, max_timestamp })
}

/// The value of a `Chunk` row.
pub fn encode_chunk(chunk: &Chunk) -> Bytes {
    let mut row = BytesMut::with_capacity(33);
    row.put_u8(VERSION);
    put_chunk(&mut row, chunk);
    row.freeze()
}

/// Reads a `Chunk` row; `None` if it is malformed.
pub fn decode_chunk(row: &[u8]) -> Option<Chunk> {
    let (version, mut rest) = row.split_first()?;
    if *version != VERSION || rest.len() != 32 {
        return None;
    }
    take_chunk(&mut rest)
}

/// The value of a `Cleaned` row.
pub fn encode_cleaned(cleaned_to: Offset) -> Bytes {
    let mut row = BytesMut::with_capacity(9);
    row.put_u8(CLEANED_VERSION);
    row.put_i64(cleaned_to);
    row.freeze()
}

/// Reads a `Cleaned` row; `None` if it is malformed.
pub fn decode_cleaned(row: &[u8]) -> Option<Offset> {
    let (&version, mut rest) = row.split_first()?;
    if version != CLEANED_VERSION || rest.len() != 8 {
        return None;
    }
    Some(rest.get_i64()).filter(|&offset| offset >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> LogState {
        let mut state = LogState::new(TopicIdPartition { topic: KafkaUuid(7), partition: 3 });
        state.log_start = 5;
        state.log_end = 90;
        state.high_watermark = 80;
        state.bytes = 4096;
        state.open = Chunk { base_offset: 50, next_offset: 90, bytes: 100, max_timestamp: 1234 };
        state
    }

    #[test]
    fn rows_read_back() {
        assert_eq!(LogState::decode(&example().encode()), Some(example()));
        assert_eq!(decode_chunk(&encode_chunk(&example().open)), Some(example().open));
    }

    #[test]
    fn a_golden_row_reads_for_ever() {
        let hex: String = example().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = concat!(
            "01",
            "00000000000000000000000000000007",
            "00000003",
            "0000000000000005",
            "000000000000005a",
            "0000000000000050",
            "0000000000001000",
            "0000000000000032",
            "000000000000005a",
            "0000000000000064",
            "00000000000004d2"
        );
        assert_eq!(hex, golden);
        assert_eq!(encode_cleaned(258)[..], [0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(decode_cleaned(&[0, 0, 0, 0, 0, 0, 0, 1, 2]), Some(258));
        for (role, standing) in
            [(1, Standing::Future { from: KafkaUuid(7) }), (2, Standing::Leaving { to: KafkaUuid(7) })]
        {
            let row = [&[0, role][..], &[0; 15], &[7]].concat();
            assert_eq!(standing.encode().unwrap()[..], row);
            assert_eq!(Standing::decode(&row), Some(standing));
        }
        assert_eq!(Standing::Settled.encode(), None);
    }

    #[test]
    fn broken_rows_are_refused() {
        let row = example().encode();
        for length in 0..row.len() {
            assert_eq!(LogState::decode(&row[..length]), None);
            assert_eq!(decode_cleaned(&row[..length]).filter(|_| length != 9), None);
            assert_eq!(Standing::decode(&row[..length]).filter(|_| length != 18), None);
        }
        let mut backwards = example();
        backwards.log_start = 91;
        assert_eq!(LogState::decode(&backwards.encode()), None);
    }
}
