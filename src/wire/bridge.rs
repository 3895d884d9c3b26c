//! Versions that Kafka 4.3 has and the protocol crate lacks: bodies take the shape of the newest version it knows.
//!
//! ```text
//! request   v10 bytes ─ reshape ─> v9 bytes ─ decode ─> message          the handler still sees that v10 was asked
//! response  message ─ encode ─> v9 bytes ─ reshape ─> v10 bytes
//! ```
//!
//! Fields go over by name. One that only the newer shape has travels as a tagged field of a private number, which the
//! crate keeps aside with the tags it does not know: handlers take it from there ([`carried_id`]) and put it there
//! ([`carry_id`]). Everything else that one side lacks has its zero, empty or null value.
//!
//! Invariants: private numbers never reach a client and are never taken from one. Bodies have passed the guard, or come
//! from the crate. A row goes when the crate learns its version.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::Malformed;
use super::guard;
use super::primitives::{Cursor, put_length, put_string_length, put_unsigned_varint};
use super::schema::{self, Field, Kind, Message, Struct};
use crate::ids::KafkaUuid;

/// Key and version that the crate lacks, and the version that it reads and writes instead.
const ROWS: &[(i16, i16, i16)] = &[
    (2, 11, 10), // ListOffsets: same bytes, more timestamps that mean something (KIP-1023)
    (8, 10, 9),  // OffsetCommit: topics by id (KIP-848)
    (9, 10, 9),  // OffsetFetch: topics by id (KIP-848)
    (35, 5, 4),  // DescribeLogDirs: cordoned directories (KIP-1066)
    (63, 2, 1),  // BrokerHeartbeat: cordoned directories (KIP-1066), in a tag that the crate keeps aside
    (80, 1, 0),  // AddRaftVoter: whether the answer waits for the commit (KIP-1186)
];

/// Numbers from here on are ours.
const PRIVATE: u32 = 0x6f74_6c00;

/// A topic's id, where the crate knows only its name.
pub const TOPIC_ID: u32 = PRIVATE;
/// Whether a data directory takes no new partitions.
pub const IS_CORDONED: u32 = PRIVATE + 1;

/// Whether a new voter is answered only when it is committed.
pub const ACK_WHEN_COMMITTED: u32 = PRIVATE + 2;

/// The fields that are carried, by Kafka's names.
const CARRIED: &[(&str, u32)] =
    &[("topic_id", TOPIC_ID), ("is_cordoned", IS_CORDONED), ("ack_when_committed", ACK_WHEN_COMMITTED)];

/// The tag of BrokerHeartbeat's cordoned directories.
const CORDONED_DIRS: i32 = 1;

/// The tagged fields that a message of the crate keeps aside.
pub type Aside = BTreeMap<i32, Bytes>;

/// The cordoned directories of a heartbeat; `None` if it does not say.
pub fn cordoned_dirs(aside: &Aside) -> Option<Vec<KafkaUuid>> {
    let mut cursor = Cursor::new(aside.get(&CORDONED_DIRS)?);
    let count = cursor.length(true).ok()??;
    let mut id = || Some(KafkaUuid(u128::from_be_bytes(cursor.take(16).ok()?.try_into().ok()?)));
    (0..count).map(|_| id()).collect()
}

/// Has a heartbeat say its cordoned directories.
pub fn put_cordoned_dirs(aside: &mut Aside, ids: &[KafkaUuid]) {
    let mut out = BytesMut::new();
    put_length(&mut out, true, Some(ids.len()));
    ids.iter().for_each(|id| out.put_u128(id.0));
    aside.insert(CORDONED_DIRS, out.freeze());
}

/// The version of the crate that stands for `version`: itself, unless there is a row.
pub fn via(api_key: i16, version: i16) -> i16 {
    ROWS.iter().find(|row| (row.0, row.1) == (api_key, version)).map_or(version, |row| row.2)
}

/// The body of a request as the version [`via`] has it.
pub fn request(api_key: i16, version: i16, body: Bytes) -> Result<Bytes, Malformed> {
    let shape = |version| schema::request(api_key, version);
    between(shape(version), shape(via(api_key, version)), body)
}

/// The body of a response in `version`, from the one of the version [`via`].
pub fn response(api_key: i16, version: i16, body: Bytes) -> Result<Bytes, Malformed> {
    let shape = |version| schema::response(api_key, version);
    between(shape(via(api_key, version)), shape(version), body)
}

fn between(from: Option<&Message>, to: Option<&Message>, body: Bytes) -> Result<Bytes, Malformed> {
    match (from, to) {
        (Some(from), Some(to)) if !std::ptr::eq(from, to) => reshape(from, to, &body),
        _ => Ok(body),
    }
}

/// Puts an id aside, to be carried to the newer version.
pub fn carry_id(aside: &mut Aside, tag: u32, id: KafkaUuid) {
    aside.insert(tag as i32, Bytes::copy_from_slice(&id.0.to_be_bytes()));
}

/// Puts a flag aside, to be carried to the newer version.
pub fn carry_bool(aside: &mut Aside, tag: u32, value: bool) {
    aside.insert(tag as i32, Bytes::copy_from_slice(&[u8::from(value)]));
}

/// The id that was carried from the newer version.
pub fn carried_id(aside: &Aside, tag: u32) -> Option<KafkaUuid> {
    let bytes = aside.get(&(tag as i32))?;
    Some(KafkaUuid(u128::from_be_bytes(bytes.as_ref().try_into().ok()?)))
}

/// The flag that was carried from the newer version.
pub fn carried_bool(aside: &Aside, tag: u32) -> Option<bool> {
    Some(*aside.get(&(tag as i32))?.first()? != 0)
}

/// `body`, which has the shape `from`, in the shape `to`.
pub fn reshape(from: &Message, to: &Message, body: &[u8]) -> Result<Bytes, Malformed> {
    let mut out = BytesMut::with_capacity(body.len() + 64);
    put_struct(&mut out, &from.body, &to.body, &mut Cursor::new(body))?;
    Ok(out.freeze())
}

/// The fields of a struct as they were found.
struct Found<'a> {
    fields: Vec<(&'a Field, &'a [u8])>,
    tags: Vec<(u32, &'a [u8])>,
}

impl<'a> Found<'a> {
    fn read(shape: &'a Struct, cursor: &mut Cursor<'a>) -> Result<Found<'a>, Malformed> {
        let mut found = Found { fields: Vec::with_capacity(shape.fields.len()), tags: Vec::new() };
        for field in &shape.fields {
            found.fields.push((field, guard::take(&field.kind, cursor)?));
        }
        if shape.tagged.is_some() {
            for _ in 0..cursor.unsigned_varint()? {
                let tag = cursor.unsigned_varint()?;
                let size = cursor.unsigned_varint()? as usize;
                found.tags.push((tag, cursor.take(size)?));
            }
        }
        Ok(found)
    }

    fn field(&self, name: &str) -> Option<&(&'a Field, &'a [u8])> {
        self.fields.iter().find(|(field, _)| field.name == name)
    }

    /// What was put aside for a field that this shape lacks.
    fn carried(&self, name: &str) -> Option<&'a [u8]> {
        let tag = carried_tag(name)?;
        self.tags.iter().find(|(found, _)| *found == tag).map(|(_, bytes)| *bytes)
    }
}

fn carried_tag(name: &str) -> Option<u32> {
    CARRIED.iter().find(|(carried, _)| *carried == name).map(|(_, tag)| *tag)
}

fn put_struct<'a>(out: &mut BytesMut, from: &'a Struct, to: &Struct, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
    let found = Found::read(from, cursor)?;
    for field in &to.fields {
        match (found.field(field.name), found.carried(field.name)) {
            (Some((before, bytes)), _) => put_value(out, &before.kind, &field.kind, bytes)?,
            (None, Some(bytes)) if bytes.len() == field.kind.bytes_min() => out.put_slice(bytes),
            _ => put_default(out, &field.kind),
        }
    }
    if to.tagged.is_none() {
        return Ok(());
    }
    let mut tags: Vec<(u32, &[u8])> = found.tags.iter().copied().filter(|(tag, _)| !is_private(*tag)).collect();
    let dropped = found.fields.iter().filter(|(before, _)| to.fields.iter().all(|field| field.name != before.name));
    tags.extend(dropped.filter_map(|(field, bytes)| Some((carried_tag(field.name)?, *bytes))));
    tags.sort_unstable_by_key(|(tag, _)| *tag);
    // Counts and sizes were read as 32 bits, or belong to the few fields that are carried.
    put_unsigned_varint(out, tags.len() as u32);
    for (tag, bytes) in tags {
        put_unsigned_varint(out, tag);
        put_unsigned_varint(out, bytes.len() as u32);
        out.put_slice(bytes);
    }
    Ok(())
}

fn is_private(tag: u32) -> bool {
    CARRIED.iter().any(|(_, carried)| *carried == tag)
}

fn put_value(out: &mut BytesMut, from: &Kind, to: &Kind, bytes: &[u8]) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(bytes);
    match (from, to) {
        (Kind::Array { compact, element: before, .. }, Kind::Array { element: after, .. })
            if matches!((&**before, &**after), (Kind::Struct { .. }, Kind::Struct { .. })) =>
        {
            let count = cursor.length(*compact)?;
            put_length(out, *compact, count);
            for _ in 0..count.unwrap_or(0) {
                let element = guard::take(before, &mut cursor)?;
                put_value(out, before, after, element)?;
            }
            Ok(())
        }
        (Kind::Struct { nullable: false, shape: before }, Kind::Struct { nullable: false, shape: after }) => {
            put_struct(out, before, after, &mut cursor)
        }
        _ => {
            out.put_slice(bytes);
            Ok(())
        }
    }
}

fn put_default(out: &mut BytesMut, kind: &Kind) {
    let none = |nullable: bool| (!nullable).then_some(0);
    match kind {
        Kind::Scalar(scalar) => out.put_bytes(0, scalar.bytes()),
        Kind::String { compact, nullable } => put_string_length(out, *compact, none(*nullable)),
        Kind::Bytes { compact, nullable, .. } | Kind::Array { compact, nullable, .. } => {
            put_length(out, *compact, none(*nullable));
        }
        Kind::Struct { nullable: true, .. } => out.put_i8(-1),
        Kind::Struct { nullable: false, shape } => {
            shape.fields.iter().for_each(|field| put_default(out, &field.kind));
            if shape.tagged.is_some() {
                put_unsigned_varint(out, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::generate::Generator;
    use super::*;

    /// OffsetCommit v10: group `g`, generation 1, member `m`, no instance, one topic by id with partition 3.
    fn commit(topic_id: [u8; 16]) -> Vec<u8> {
        let head = [2, b'g', 0, 0, 0, 1, 2, b'm', 0, 2];
        let partition = [2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 7, 0, 0];
        [&head[..], &topic_id, &partition, &[0, 0]].concat()
    }

    #[test]
    fn a_field_the_crate_lacks_is_put_aside_and_comes_back() {
        let id: [u8; 16] = std::array::from_fn(|at| at as u8 + 1);
        let body = commit(id);
        let (newer, older) = (schema::request(8, 10).unwrap(), schema::request(8, 9).unwrap());
        assert_eq!(guard::walk(newer, &body), Ok(body.len()));
        let bridged = request(8, 10, body.clone().into()).unwrap();
        assert_eq!(guard::walk(older, &bridged), Ok(bridged.len()));
        let aside = [&[1u8, 0x80, 0xd8, 0xd1, 0xfb, 6, 16][..], &id].concat();
        assert!(bridged.windows(aside.len()).any(|window| window == aside), "{bridged:?}");
        assert_eq!(reshape(older, newer, &bridged), Ok(body.into()));
    }

    #[test]
    fn cordoned_directories_travel_in_their_tag() {
        for ids in [vec![], vec![KafkaUuid(5)], vec![KafkaUuid(5), KafkaUuid(u128::MAX)]] {
            let mut aside = Aside::new();
            assert_eq!(cordoned_dirs(&aside), None);
            put_cordoned_dirs(&mut aside, &ids);
            assert_eq!(cordoned_dirs(&aside), Some(ids));
        }
        assert_eq!(cordoned_dirs(&Aside::from([(CORDONED_DIRS, Bytes::from_static(&[0]))])), None, "null");
        assert_eq!(cordoned_dirs(&Aside::from([(CORDONED_DIRS, Bytes::from_static(&[9, 1]))])), None, "cut off");
        let one = [&[0u8; 22][..], &[1, 1, 17, 2], &[7; 16]].concat();
        assert_eq!(guard::walk(schema::request(63, 2).unwrap(), &one), Ok(one.len()));
        let bridged = request(63, 2, one.clone().into()).unwrap();
        assert_eq!(guard::walk(schema::request(63, 1).unwrap(), &bridged), Ok(bridged.len()));
        assert_eq!(bridged, one, "the tag stays as it is");
    }

    #[test]
    fn what_a_client_sends_under_a_private_number_is_dropped() {
        let mut body = commit([7; 16]);
        body.pop();
        body.extend_from_slice(&[1, 0x80, 0xd8, 0xd1, 0xfb, 6, 2, 9, 9]);
        let clean = request(8, 10, commit([7; 16]).into()).unwrap();
        assert_eq!(request(8, 10, body.into()), Ok(clean));
    }

    #[test]
    fn any_body_of_a_row_becomes_one_of_the_shape_that_is_known() {
        for (key, version, known) in ROWS.iter().copied() {
            assert_eq!(via(key, version), known);
            let mut generator = Generator::new(5);
            for _ in 0..300 {
                let body = generator.body(schema::request(key, version).unwrap());
                let bridged = request(key, version, body).unwrap();
                assert_eq!(guard::walk(schema::request(key, known).unwrap(), &bridged), Ok(bridged.len()));
                let body = generator.body(schema::response(key, known).unwrap());
                let bridged = response(key, version, body).unwrap();
                assert_eq!(guard::walk(schema::response(key, version).unwrap(), &bridged), Ok(bridged.len()));
            }
        }
    }

    #[test]
    fn versions_without_a_row_stay_as_they_are() {
        assert_eq!(via(8, 9), 9);
        let body = Bytes::from_static(&[1, 2, 3]);
        assert_eq!(request(8, 9, body.clone()), Ok(body.clone()));
        assert_eq!(request(2, 11, body.clone()), Ok(body), "ListOffsets has the same shape in both");
    }
}
