//! The records of `__consumer_offsets`, byte for byte as Kafka 4.3 writes them.
//!
//! Invariants: a key begins with its record type, a value with its version, both i16 big endian. Every version Kafka
//! ever wrote is read for ever. What is written: offset values as version 4, or 1 if they carry an expiry of their own;
//! group values as version 3, because Kafka 4.3 still writes that (version 4 holds the same fields). A type that is not
//! in the table is skipped; a known type with an unknown version, a length past the end or bytes left over is an error.
//!
//! | type | record | key fields | value |
//! |---|---|---|---|
//! | 0 | offset, as Kafka before 0.9 wrote it | group, topic, partition i32 | as type 1 |
//! | 1 | offset | group, topic, partition i32 | [`OffsetValue`] |
//! | 2 | classic group | group | [`ClassicGroupValue`] |
//!
//! Value fields in order, with the versions that have them and `?` for what may be null:
//! * offset: offset i64, leaderEpoch i32 (3+), metadata, commitTimestamp i64, expireTimestamp i64 (only 1),
//!   topicId uuid (4+, tag 0);
//! * classic group: protocolType, generation i32, protocol?, leader?, currentStateTimestamp i64 (2+), members;
//! * member: memberId, groupInstanceId? (3+), clientId, clientHost, rebalanceTimeout i32 (1+), sessionTimeout i32,
//!   subscription bytes, assignment bytes.
//!
//! Version 4 of either value is flexible (KIP-482): compact lengths, and tagged fields after each structure.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::{KafkaUuid, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName, WallMillis};

/// The longest string these records hold, in bytes of UTF-8. Kafka refuses longer ones while it parses a request;
/// whoever takes names from a request keeps to it, and encoding asserts it.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

const TYPE_LEGACY_OFFSET: i16 = 0;
const TYPE_OFFSET: i16 = 1;
const TYPE_CLASSIC_GROUP: i16 = 2;

const VERSION_MAX: i16 = 4;
const VERSION_FLEXIBLE: i16 = 4;
const VERSION_OFFSET: i16 = 4;
const VERSION_OFFSET_WITH_EXPIRY: i16 = 1;
const VERSION_CLASSIC_GROUP: i16 = 3;

const TAG_TOPIC_ID: u32 = 0;

/// One fact about a group. No value is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupRecord {
    /// The committed offset of one partition for one group (`OffsetCommitKey`, `OffsetCommitValue`).
    Offset(OffsetKey, Option<OffsetValue>),
    /// A classic group as of its last completed rebalance (`GroupMetadataKey`, `GroupMetadataValue`).
    ClassicGroup(Arc<str>, Option<ClassicGroupValue>),
}

/// Whose offset, and of what.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OffsetKey {
    pub group: Arc<str>,
    pub topic: TopicName,
    pub partition: PartitionIndex,
}

/// A committed offset as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetValue {
    /// The next offset to consume.
    pub offset: Offset,
    /// Leader epoch of the last record consumed (KIP-320); -1 if the client did not say.
    pub leader_epoch: LeaderEpoch,
    /// The client's own note; often empty.
    pub metadata: Arc<str>,
    /// When the broker accepted the commit.
    pub commit_ms: WallMillis,
    /// When the offset expires, if the request named a retention time (OffsetCommit v2 to v4). Such a value is written
    /// in a version that has room for neither leader epoch nor topic id.
    pub expire_ms: Option<WallMillis>,
    /// The topic the offset belongs to; zero if it was not known.
    pub topic_id: TopicId,
}

/// A classic group: its generation and who is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicGroupValue {
    /// `consumer`, `connect`, …; empty for a group that only stores offsets.
    pub protocol_type: Arc<str>,
    pub generation: i32,
    /// The protocol chosen; none while the group is empty.
    pub protocol: Option<Arc<str>>,
    /// Member id of the leader; none while the group is empty.
    pub leader: Option<Arc<str>>,
    /// When the group entered its current state; none in records of Kafka before 2.1.
    pub state_since_ms: Option<WallMillis>,
    pub members: Vec<ClassicMemberValue>,
}

/// A member of a classic group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicMemberValue {
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    /// The address it connected from, as Kafka prints it: `/10.0.0.1`.
    pub client_host: Arc<str>,
    /// The session timeout where the record is too old to say.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The member's metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader assigned to the member.
    pub assignment: Bytes,
}

impl GroupRecord {
    /// The record that forgets a committed offset.
    pub fn offset_tombstone(group: &Arc<str>, topic: &TopicName, partition: PartitionIndex) -> GroupRecord {
        GroupRecord::Offset(OffsetKey { group: group.clone(), topic: topic.clone(), partition }, None)
    }

    /// Key and value bytes; no value is a tombstone.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        match self {
            GroupRecord::Offset(key, value) => (encode_offset_key(key), value.as_ref().map(encode_offset_value)),
            GroupRecord::ClassicGroup(group, value) => {
                let mut key = BytesMut::with_capacity(4 + group.len());
                key.put_i16(TYPE_CLASSIC_GROUP);
                put_string(&mut key, group);
                (key.freeze(), value.as_ref().map(encode_classic_group_value))
            }
        }
    }

    /// Reads a record back. `None` if its type is not in the table; the error says what is wrong with the bytes.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<GroupRecord>, String> {
        let mut fields = Fields { rest: key, flexible: false };
        match fields.i16("record type")? {
            TYPE_LEGACY_OFFSET | TYPE_OFFSET => {
                let group = fields.string("group")?;
                let topic = fields.string("topic")?;
                let key = OffsetKey { group, topic, partition: fields.i32("partition")? };
                fields.end("offset key")?;
                let value = value.map(decode_offset_value).transpose()?;
                Ok(Some(GroupRecord::Offset(key, value)))
            }
            TYPE_CLASSIC_GROUP => {
                let group = fields.string("group")?;
                fields.end("group key")?;
                let value = value.map(decode_classic_group_value).transpose()?;
                Ok(Some(GroupRecord::ClassicGroup(group, value)))
            }
            _ => Ok(None),
        }
    }
}

fn encode_offset_key(key: &OffsetKey) -> Bytes {
    let mut bytes = BytesMut::with_capacity(10 + key.group.len() + key.topic.len());
    bytes.put_i16(TYPE_OFFSET);
    put_string(&mut bytes, &key.group);
    put_string(&mut bytes, &key.topic);
    bytes.put_i32(key.partition);
    bytes.freeze()
}

fn encode_offset_value(value: &OffsetValue) -> Bytes {
    let mut bytes = BytesMut::with_capacity(48 + value.metadata.len());
    if let Some(expire_ms) = value.expire_ms {
        bytes.put_i16(VERSION_OFFSET_WITH_EXPIRY);
        bytes.put_i64(value.offset);
        put_string(&mut bytes, &value.metadata);
        bytes.put_i64(value.commit_ms);
        bytes.put_i64(expire_ms);
        return bytes.freeze();
    }
    bytes.put_i16(VERSION_OFFSET);
    bytes.put_i64(value.offset);
    bytes.put_i32(value.leader_epoch);
    put_compact_string(&mut bytes, &value.metadata);
    bytes.put_i64(value.commit_ms);
    // A tagged field at its default is left out (KIP-482).
    if value.topic_id.is_zero() {
        put_unsigned_varint(&mut bytes, 0);
    } else {
        put_unsigned_varint(&mut bytes, 1);
        put_unsigned_varint(&mut bytes, TAG_TOPIC_ID);
        put_unsigned_varint(&mut bytes, 16);
        bytes.put_u128(value.topic_id.0);
    }
    bytes.freeze()
}

fn encode_classic_group_value(value: &ClassicGroupValue) -> Bytes {
    let mut bytes = BytesMut::with_capacity(64 + 256 * value.members.len());
    bytes.put_i16(VERSION_CLASSIC_GROUP);
    put_string(&mut bytes, &value.protocol_type);
    bytes.put_i32(value.generation);
    put_nullable_string(&mut bytes, value.protocol.as_deref());
    put_nullable_string(&mut bytes, value.leader.as_deref());
    bytes.put_i64(value.state_since_ms.unwrap_or(-1));
    bytes.put_i32(length(value.members.len()));
    for member in &value.members {
        put_string(&mut bytes, &member.member_id);
        put_nullable_string(&mut bytes, member.instance_id.as_deref());
        put_string(&mut bytes, &member.client_id);
        put_string(&mut bytes, &member.client_host);
        bytes.put_i32(member.rebalance_timeout_ms);
        bytes.put_i32(member.session_timeout_ms);
        put_bytes(&mut bytes, &member.subscription);
        put_bytes(&mut bytes, &member.assignment);
    }
    bytes.freeze()
}

fn decode_offset_value(bytes: &[u8]) -> Result<OffsetValue, String> {
    let (version, mut fields) = versioned(bytes, "offset value")?;
    let offset = fields.i64("offset")?;
    let leader_epoch = if version >= 3 { fields.i32("leader epoch")? } else { -1 };
    let metadata = fields.string("metadata")?;
    let commit_ms = fields.i64("commit timestamp")?;
    let expire_ms = if version == 1 { Some(fields.i64("expire timestamp")?).filter(|ms| *ms != -1) } else { None };
    let mut topic_id = KafkaUuid::ZERO;
    fields.tags(|tag, value| {
        if tag == TAG_TOPIC_ID {
            let id: [u8; 16] = value.try_into().map_err(|_| format!("topic id of {} bytes", value.len()))?;
            topic_id = KafkaUuid(u128::from_be_bytes(id));
        }
        Ok(())
    })?;
    fields.end("offset value")?;
    Ok(OffsetValue { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id })
}

fn decode_classic_group_value(bytes: &[u8]) -> Result<ClassicGroupValue, String> {
    let (version, mut fields) = versioned(bytes, "group value")?;
    let protocol_type = fields.string("protocol type")?;
    let generation = fields.i32("generation")?;
    let protocol = fields.nullable_string("protocol")?;
    let leader = fields.nullable_string("leader")?;
    let state_since_ms = if version >= 2 { Some(fields.i64("state timestamp")?).filter(|ms| *ms != -1) } else { None };
    let count = fields.array_length("members")?;
    // The count is not believed: members are read one by one, and each takes bytes that must be there.
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(decode_classic_member(&mut fields, version)?);
    }
    fields.tags(|_, _| Ok(()))?;
    fields.end("group value")?;
    Ok(ClassicGroupValue { protocol_type, generation, protocol, leader, state_since_ms, members })
}

fn decode_classic_member(fields: &mut Fields<'_>, version: i16) -> Result<ClassicMemberValue, String> {
    let member_id = fields.string("member id")?;
    let instance_id = if version >= 3 { fields.nullable_string("group instance id")? } else { None };
    let client_id = fields.string("client id")?;
    let client_host = fields.string("client host")?;
    let rebalance_timeout_ms = if version >= 1 { fields.i32("rebalance timeout")? } else { -1 };
    let session_timeout_ms = fields.i32("session timeout")?;
    let member = ClassicMemberValue {
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: if rebalance_timeout_ms == -1 { session_timeout_ms } else { rebalance_timeout_ms },
        session_timeout_ms,
        subscription: fields.bytes("subscription")?,
        assignment: fields.bytes("assignment")?,
    };
    fields.tags(|_, _| Ok(()))?;
    Ok(member)
}

/// The version of a value and a reader for what follows it.
fn versioned<'a>(bytes: &'a [u8], what: &str) -> Result<(i16, Fields<'a>), String> {
    let mut fields = Fields { rest: bytes, flexible: false };
    let version = fields.i16(what)?;
    if !(0..=VERSION_MAX).contains(&version) {
        return Err(format!("{what} of unknown version {version}"));
    }
    fields.flexible = version >= VERSION_FLEXIBLE;
    Ok((version, fields))
}

/// Reads fields from the front of `rest`. Everything is copied out, so that small state never keeps a big read alive.
struct Fields<'a> {
    rest: &'a [u8],
    /// Lengths are compact and structures end with tagged fields.
    flexible: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], String> {
        let missing = || format!("{what} of {length} bytes where {} are left", self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(missing)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut array = [0u8; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn i16(&mut self, what: &str) -> Result<i16, String> {
        Ok(i16::from_be_bytes(self.array(what)?))
    }

    fn i32(&mut self, what: &str) -> Result<i32, String> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    fn i64(&mut self, what: &str) -> Result<i64, String> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    fn unsigned_varint(&mut self, what: &str) -> Result<u32, String> {
        let mut value: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array::<1>(what)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| format!("{what}: varint above 32 bits"));
            }
        }
        Err(format!("{what}: varint of more than 5 bytes"))
    }

    /// A length; `None` is null. Old strings count in i16, old bytes and arrays in i32, flexible ones in varint + 1.
    fn length(&mut self, short: bool, what: &str) -> Result<Option<usize>, String> {
        let length = match (self.flexible, short) {
            (true, _) => i64::from(self.unsigned_varint(what)?) - 1,
            (false, true) => i64::from(self.i16(what)?),
            (false, false) => i64::from(self.i32(what)?),
        };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| format!("{what} of length {length}")),
        }
    }

    fn nullable_string(&mut self, what: &str) -> Result<Option<Arc<str>>, String> {
        let Some(length) = self.length(true, what)? else { return Ok(None) };
        let text = std::str::from_utf8(self.take(length, what)?).map_err(|_| format!("{what} is not UTF-8"))?;
        Ok(Some(Arc::from(text)))
    }

    fn string(&mut self, what: &str) -> Result<Arc<str>, String> {
        self.nullable_string(what)?.ok_or_else(|| format!("{what} is null"))
    }

    fn bytes(&mut self, what: &str) -> Result<Bytes, String> {
        let length = self.length(false, what)?.ok_or_else(|| format!("{what} is null"))?;
        Ok(Bytes::copy_from_slice(self.take(length, what)?))
    }

    fn array_length(&mut self, what: &str) -> Result<usize, String> {
        self.length(false, what)?.ok_or_else(|| format!("{what} is null"))
    }

    /// The tagged fields that end a structure of a flexible version.
    fn tags(&mut self, mut each: impl FnMut(u32, &[u8]) -> Result<(), String>) -> Result<(), String> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint("tagged fields")? {
            let tag = self.unsigned_varint("tag")?;
            let length = self.unsigned_varint("tagged field")? as usize;
            each(tag, self.take(length, "tagged field")?)?;
        }
        Ok(())
    }

    fn end(&self, what: &str) -> Result<(), String> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("{what} with {} bytes left over", self.rest.len())) }
    }
}

fn put_string(bytes: &mut BytesMut, text: &str) {
    assert!(text.len() <= STRING_BYTES_MAX, "a string of {} bytes reached a group record", text.len());
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

fn put_nullable_string(bytes: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(bytes, text),
        None => bytes.put_i16(-1),
    }
}

fn put_compact_string(bytes: &mut BytesMut, text: &str) {
    put_unsigned_varint(bytes, length(text.len()) as u32 + 1);
    bytes.put_slice(text.as_bytes());
}

fn put_bytes(bytes: &mut BytesMut, value: &[u8]) {
    bytes.put_i32(length(value.len()));
    bytes.put_slice(value);
}

fn put_unsigned_varint(bytes: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        bytes.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}

/// A length on the wire. What comes from a request is shorter than a frame, and a frame is shorter than this.
fn length(length: usize) -> i32 {
    i32::try_from(length).expect("nothing in a request is longer than 2 GiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(record: &GroupRecord, key: &[u8], value: Option<&[u8]>) {
        let (encoded_key, encoded_value) = record.encode();
        assert_eq!(&encoded_key[..], key, "key of {record:?}");
        assert_eq!(encoded_value.as_deref(), value, "value of {record:?}");
        assert_eq!(GroupRecord::decode(key, value).as_ref(), Ok(&Some(record.clone())));
    }

    fn offset_key() -> OffsetKey {
        OffsetKey { group: "g1".into(), topic: "t".into(), partition: 7 }
    }

    const OFFSET_KEY: &[u8] = b"\0\x01\0\x02g1\0\x01t\0\0\0\x07";

    fn offset_value() -> OffsetValue {
        OffsetValue {
            offset: 258,
            leader_epoch: 3,
            metadata: "note".into(),
            commit_ms: 1000,
            expire_ms: None,
            topic_id: KafkaUuid::ZERO,
        }
    }

    fn group_value() -> ClassicGroupValue {
        ClassicGroupValue {
            protocol_type: "consumer".into(),
            generation: 5,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            state_since_ms: Some(2),
            members: vec![ClassicMemberValue {
                member_id: "m".into(),
                instance_id: Some("i".into()),
                client_id: "c".into(),
                client_host: "/h".into(),
                rebalance_timeout_ms: 16,
                session_timeout_ms: 17,
                subscription: Bytes::from_static(b"ss"),
                assignment: Bytes::from_static(b"a"),
            }],
        }
    }

    #[test]
    fn offsets_are_written_as_version_4() {
        let value = b"\0\x04\0\0\0\0\0\0\x01\x02\0\0\0\x03\x05note\0\0\0\0\0\0\x03\xe8\0";
        check(&GroupRecord::Offset(offset_key(), Some(offset_value())), OFFSET_KEY, Some(value));

        let with_topic = OffsetValue { topic_id: KafkaUuid(0x0102_0304), ..offset_value() };
        let mut value = value[..value.len() - 1].to_vec();
        value.extend_from_slice(b"\x01\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\x03\x04");
        check(&GroupRecord::Offset(offset_key(), Some(with_topic)), OFFSET_KEY, Some(&value));

        check(&GroupRecord::Offset(offset_key(), None), OFFSET_KEY, None);
    }

    #[test]
    fn offsets_with_their_own_expiry_are_written_as_version_1() {
        let value = OffsetValue { leader_epoch: -1, expire_ms: Some(2000), ..offset_value() };
        let bytes = b"\0\x01\0\0\0\0\0\0\x01\x02\0\x04note\0\0\0\0\0\0\x03\xe8\0\0\0\0\0\0\x07\xd0";
        check(&GroupRecord::Offset(offset_key(), Some(value)), OFFSET_KEY, Some(bytes));
    }

    #[test]
    fn groups_are_written_as_version_3() {
        let value = b"\0\x03\0\x08consumer\0\0\0\x05\0\x05range\0\x01m\0\0\0\0\0\0\0\x02\0\0\0\x01\
            \0\x01m\0\x01i\0\x01c\0\x02/h\0\0\0\x10\0\0\0\x11\0\0\0\x02ss\0\0\0\x01a";
        check(&GroupRecord::ClassicGroup("g1".into(), Some(group_value())), b"\0\x02\0\x02g1", Some(value));

        let empty = ClassicGroupValue {
            protocol_type: "".into(),
            protocol: None,
            leader: None,
            state_since_ms: None,
            members: Vec::new(),
            ..group_value()
        };
        let value = b"\0\x03\0\0\0\0\0\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0";
        check(&GroupRecord::ClassicGroup("g1".into(), Some(empty)), b"\0\x02\0\x02g1", Some(value));
        check(&GroupRecord::ClassicGroup("g1".into(), None), b"\0\x02\0\x02g1", None);
    }

    #[test]
    fn older_offset_values_are_read() {
        let cases: [(&[u8], OffsetValue); 4] = [
            (
                b"\0\0\0\0\0\0\0\0\x01\x02\0\x04note\0\0\0\0\0\0\x03\xe8",
                OffsetValue { leader_epoch: -1, ..offset_value() },
            ),
            (
                b"\0\x01\0\0\0\0\0\0\x01\x02\0\x04note\0\0\0\0\0\0\x03\xe8\xff\xff\xff\xff\xff\xff\xff\xff",
                OffsetValue { leader_epoch: -1, ..offset_value() },
            ),
            (
                b"\0\x02\0\0\0\0\0\0\x01\x02\0\x04note\0\0\0\0\0\0\x03\xe8",
                OffsetValue { leader_epoch: -1, ..offset_value() },
            ),
            (b"\0\x03\0\0\0\0\0\0\x01\x02\0\0\0\x03\0\x04note\0\0\0\0\0\0\x03\xe8", offset_value()),
        ];
        for (bytes, expected) in cases {
            // A key of type 0 has the same fields as type 1.
            for first_byte in [0, 1] {
                let mut key = OFFSET_KEY.to_vec();
                key[1] = first_byte;
                let expected = GroupRecord::Offset(offset_key(), Some(expected.clone()));
                assert_eq!(GroupRecord::decode(&key, Some(bytes)), Ok(Some(expected)), "{bytes:?}");
            }
        }
    }

    #[test]
    fn other_group_values_are_read() {
        let old_member = |mut value: ClassicGroupValue, rebalance_timeout_ms| {
            value.members[0].instance_id = None;
            value.members[0].rebalance_timeout_ms = rebalance_timeout_ms;
            value
        };
        let untimed = ClassicGroupValue { state_since_ms: None, ..group_value() };
        let cases: [(&[u8], ClassicGroupValue); 4] = [
            (
                b"\0\0\0\x08consumer\0\0\0\x05\0\x05range\0\x01m\0\0\0\x01\
                    \0\x01m\0\x01c\0\x02/h\0\0\0\x11\0\0\0\x02ss\0\0\0\x01a",
                old_member(untimed.clone(), 17),
            ),
            (
                b"\0\x01\0\x08consumer\0\0\0\x05\0\x05range\0\x01m\0\0\0\x01\
                    \0\x01m\0\x01c\0\x02/h\0\0\0\x10\0\0\0\x11\0\0\0\x02ss\0\0\0\x01a",
                old_member(untimed, 16),
            ),
            (
                b"\0\x02\0\x08consumer\0\0\0\x05\0\x05range\0\x01m\0\0\0\0\0\0\0\x02\0\0\0\x01\
                    \0\x01m\0\x01c\0\x02/h\0\0\0\x10\0\0\0\x11\0\0\0\x02ss\0\0\0\x01a",
                old_member(group_value(), 16),
            ),
            (
                b"\0\x04\x09consumer\0\0\0\x05\x06range\x02m\0\0\0\0\0\0\0\x02\x02\
                    \x02m\x02i\x02c\x03/h\0\0\0\x10\0\0\0\x11\x03ss\x02a\0\x01\x05\x02xy",
                group_value(),
            ),
        ];
        for (bytes, expected) in cases {
            let expected = GroupRecord::ClassicGroup("g1".into(), Some(expected));
            assert_eq!(GroupRecord::decode(b"\0\x02\0\x02g1", Some(bytes)), Ok(Some(expected)), "{bytes:?}");
        }
    }

    #[test]
    fn unknown_types_are_skipped_and_broken_bytes_refused() {
        assert_eq!(GroupRecord::decode(b"\0\x03\0\x02g1", Some(b"anything")), Ok(None));
        assert_eq!(GroupRecord::decode(b"\x7f\xff", None), Ok(None));

        let (key, value) = GroupRecord::ClassicGroup("g1".into(), Some(group_value())).encode();
        let value = value.expect("not a tombstone");
        for cut in 0..value.len() {
            assert!(GroupRecord::decode(&key, Some(&value[..cut])).is_err(), "cut at {cut}");
        }
        for cut in 0..key.len() {
            assert!(GroupRecord::decode(&key[..cut], None).is_err(), "key cut at {cut}");
        }
        let too_long = [&value[..], &b"\0"[..]].concat();
        assert!(GroupRecord::decode(&key, Some(&too_long)).is_err());
        assert!(GroupRecord::decode(&key, Some(b"\0\x05")).is_err());
        assert!(GroupRecord::decode(&key, Some(b"\xff\xff")).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(kind in 0i16..4, version in -1i16..6, tail in any::<Vec<u8>>()) {
            let key = [&kind.to_be_bytes()[..], &tail].concat();
            let value = [&version.to_be_bytes()[..], &tail].concat();
            let _ = GroupRecord::decode(&key, None);
            let _ = GroupRecord::decode(OFFSET_KEY, Some(&value));
            let _ = GroupRecord::decode(b"\0\x02\0\x02g1", Some(&value));
        }

        #[test]
        fn offsets_survive_a_round_trip(
            offset in any::<i64>(),
            leader_epoch in -1i32..,
            metadata in ".{0,200}",
            commit_ms in any::<i64>(),
            id in any::<u128>(),
        ) {
            let (metadata, topic_id) = (metadata.as_str().into(), KafkaUuid(id));
            let value = OffsetValue { offset, leader_epoch, metadata, commit_ms, expire_ms: None, topic_id };
            let record = GroupRecord::Offset(offset_key(), Some(value));
            let (key, value) = record.encode();
            prop_assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(Some(record)));
        }
    }
}
