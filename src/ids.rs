//! Names and numbers of Kafka's things, as types.
//!
//! Invariants: a `TopicId` prints as Kafka prints it (22 characters of base64url, no padding); a topic name that passed
//! [`check_topic_name`] is safe in keys, file names and metric labels.

use std::fmt;
use std::sync::Arc;

/// Offset of a record in a partition log; the first record of a new log has offset 0.
pub type Offset = i64;
/// Leadership term of one partition (KIP-101); -1 means unknown.
pub type LeaderEpoch = i32;
/// Id of an idempotent or transactional producer (KIP-98); -1 means none.
pub type ProducerId = i64;
/// Index of a partition within its topic, from 0.
pub type PartitionIndex = i32;
/// Milliseconds since 1970-01-01 UTC.
pub type WallMillis = i64;
/// A topic name, shared.
pub type TopicName = Arc<str>;

/// The id of a broker: `node.id`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A 128-bit id in Kafka's textual form (`org.apache.kafka.common.Uuid`). Used for topics, directories, incarnations
/// and clusters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KafkaUuid(pub u128);

/// The id of a topic (KIP-516). Zero means none.
pub type TopicId = KafkaUuid;

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl KafkaUuid {
    /// The id that means "none".
    pub const ZERO: KafkaUuid = KafkaUuid(0);

    /// True for the id that means "none".
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Parses Kafka's 22-character base64url form; `None` if it is not one.
    pub fn parse(text: &str) -> Option<KafkaUuid> {
        if text.len() != 22 {
            return None;
        }
        let mut value: u128 = 0;
        for (index, byte) in text.bytes().enumerate() {
            let digit = BASE64_URL.iter().position(|&c| c == byte)? as u128;
            // 22 digits carry 132 bits: the last digit gives two bits to the id and four zero bits of padding.
            if index == 21 {
                if digit & 0x0f != 0 {
                    return None;
                }
                value = (value << 2) | (digit >> 4);
            } else {
                value = (value << 6) | digit;
            }
        }
        Some(KafkaUuid(value))
    }
}

impl fmt::Display for KafkaUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        for (index, place) in text.iter_mut().enumerate() {
            let digit = if index == 21 { (self.0 & 0x3) << 4 } else { (self.0 >> (122 - 6 * index)) & 0x3f };
            *place = BASE64_URL[digit as usize];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for KafkaUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<uuid::Uuid> for KafkaUuid {
    fn from(id: uuid::Uuid) -> Self {
        KafkaUuid(id.as_u128())
    }
}

impl From<KafkaUuid> for uuid::Uuid {
    fn from(id: KafkaUuid) -> Self {
        uuid::Uuid::from_u128(id.0)
    }
}

/// A partition by the name of its topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    pub topic: TopicName,
    pub partition: PartitionIndex,
}

impl TopicPartition {
    pub fn new(topic: impl Into<TopicName>, partition: PartitionIndex) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A partition by the id of its topic: what survives deletion and re-creation under the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicIdPartition {
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

/// Topics that belong to the broker (`org.apache.kafka.common.internals.Topic`).
pub mod internal_topics {
    pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
    pub const TRANSACTION_STATE: &str = "__transaction_state";
    pub const SHARE_GROUP_STATE: &str = "__share_group_state";

    /// True for the topics that clients may read and may not write.
    pub fn is_internal(topic: &str) -> bool {
        matches!(topic, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
    }
}

/// Longest topic name (`Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_LENGTH_MAX: usize = 249;

/// Checks a topic name by Kafka's rules; the error is Kafka's own sentence after `Topic name is invalid: `.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the empty string is not allowed".into());
    }
    if name == "." || name == ".." {
        return Err(format!("'{name}' is not allowed"));
    }
    if name.len() > TOPIC_NAME_LENGTH_MAX {
        return Err(format!("the length of '{name}' is longer than the max allowed length {TOPIC_NAME_LENGTH_MAX}"));
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !name.bytes().all(legal) {
        return Err(format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Kafka's `String.hashCode`: 31·h + UTF-16 code unit, wrapping. Decides the partition of a group or transactional id.
pub fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition of an internal topic that owns `key` (`Utils.abs(hash) % partitions`).
pub fn coordinator_partition(key: &str, partitions: i32) -> PartitionIndex {
    let hash = java_string_hash(key);
    let absolute = if hash == i32::MIN { 0 } else { hash.abs() };
    absolute % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_print_and_parse_as_kafka_does() {
        // Kafka: Uuid(0, 1).toString() is "AAAAAAAAAAAAAAAAAAAAAQ".
        assert_eq!(KafkaUuid(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        for value in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let id = KafkaUuid(value);
            assert_eq!(KafkaUuid::parse(&id.to_string()), Some(id));
        }
        assert_eq!(KafkaUuid::parse("short"), None);
        assert_eq!(KafkaUuid::parse("AAAAAAAAAAAAAAAAAAAAA/"), None);
    }

    #[test]
    fn hashes_as_java_does() {
        assert_eq!(java_string_hash("hello"), 99162322);
        assert_eq!(java_string_hash("polygenelubricants"), i32::MIN);
        assert_eq!(coordinator_partition("polygenelubricants", 50), 0);
    }

    #[test]
    fn topic_names() {
        assert!(check_topic_name("a.b_c-1").is_ok());
        for bad in ["", ".", "..", "a b", "a/b", "é"] {
            assert!(check_topic_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_topic_name(&"x".repeat(250)).is_err());
    }
}
