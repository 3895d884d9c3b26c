//! Bounds-checked fields: what metadata records, raft entries and snapshots are made of.
//!
//! Invariants: integers are big endian; a length or count is an `u32` and is checked against what is left before
//! anything is allocated; reading never panics and never reads past the end. Pure.

use std::collections::BTreeMap;
use std::fmt;

use crate::ids::{BrokerId, KafkaUuid};

/// Bytes that are not what they should be, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed metadata: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for std::io::Error {
    fn from(malformed: Malformed) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, malformed)
    }
}

/// Appends fields to a buffer.
#[derive(Default)]
pub struct FieldWriter {
    bytes: Vec<u8>,
}

impl FieldWriter {
    pub fn new() -> FieldWriter {
        FieldWriter::default()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn uuid(&mut self, value: KafkaUuid) {
        self.bytes.extend_from_slice(&value.0.to_be_bytes());
    }

    pub fn broker(&mut self, value: BrokerId) {
        self.i32(value.0);
    }

    /// A length or count. Nothing that is written comes near 4 GiB: requests are bounded by `socket.request.max.bytes`.
    pub fn count(&mut self, value: usize) {
        assert!(value <= u32::MAX as usize, "a metadata field of {value} elements");
        self.u32(value as u32);
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// Appends bytes that end with the buffer, without a length.
    pub fn rest(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    pub fn str(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// A presence byte, then the value.
    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut FieldWriter, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub fn list<T>(&mut self, values: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut FieldWriter, T)) {
        self.count(values.len());
        for value in values {
            write(self, value);
        }
    }

    pub fn brokers(&mut self, values: &[BrokerId]) {
        self.list(values.iter(), |out, id| out.broker(*id));
    }

    pub fn uuids(&mut self, values: &[KafkaUuid]) {
        self.list(values.iter(), |out, id| out.uuid(*id));
    }

    /// Version ranges by feature name.
    pub fn ranges(&mut self, values: &BTreeMap<String, (i16, i16)>) {
        self.list(values.iter(), |out, (name, (min, max))| {
            out.str(name);
            out.i16(*min);
            out.i16(*max);
        });
    }

    /// A body with its length in front, so that a reader can step over what it does not know.
    pub fn body(&mut self, write: impl FnOnce(&mut FieldWriter)) {
        let at = self.bytes.len();
        self.u32(0);
        write(self);
        let length = self.bytes.len() - at - 4;
        assert!(length <= u32::MAX as usize, "a metadata body of {length} bytes");
        self.bytes[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
    }
}

/// Takes fields off the front of a slice.
pub struct FieldReader<'a> {
    left: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub fn new(bytes: &'a [u8]) -> FieldReader<'a> {
        FieldReader { left: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, left) = self.left.split_at_checked(length).ok_or(Malformed("it ends too early"))?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, left) = self.left.split_first_chunk::<N>().ok_or(Malformed("it ends too early"))?;
        self.left = left;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag that is neither 0 nor 1")),
        }
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn uuid(&mut self) -> Result<KafkaUuid, Malformed> {
        Ok(KafkaUuid(u128::from_be_bytes(self.array()?)))
    }

    pub fn broker(&mut self) -> Result<BrokerId, Malformed> {
        Ok(BrokerId(self.i32()?))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text that is not UTF-8"))
    }

    pub fn string(&mut self) -> Result<String, Malformed> {
        self.str().map(str::to_owned)
    }

    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut FieldReader<'a>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    /// A list whose elements take at least `element_bytes_min` bytes each, which bounds what is allocated.
    pub fn list<T>(
        &mut self,
        element_bytes_min: usize,
        mut read: impl FnMut(&mut FieldReader<'a>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u32()? as usize;
        if count > self.left.len() / element_bytes_min.max(1) {
            return Err(Malformed("a list longer than its bytes"));
        }
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            values.push(read(self)?);
        }
        Ok(values)
    }

    pub fn brokers(&mut self) -> Result<Vec<BrokerId>, Malformed> {
        self.list(4, FieldReader::broker)
    }

    pub fn uuids(&mut self) -> Result<Vec<KafkaUuid>, Malformed> {
        self.list(16, FieldReader::uuid)
    }

    pub fn ranges(&mut self) -> Result<BTreeMap<String, (i16, i16)>, Malformed> {
        let rows = self.list(8, |fields| Ok((fields.string()?, (fields.i16()?, fields.i16()?))))?;
        Ok(rows.into_iter().collect())
    }

    /// A reader of exactly the next body.
    pub fn body(&mut self) -> Result<FieldReader<'a>, Malformed> {
        Ok(FieldReader::new(self.bytes()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_longer_than_its_bytes_allocates_nothing() {
        let mut out = FieldWriter::new();
        out.u32(u32::MAX);
        let bytes = out.into_bytes();
        assert_eq!(FieldReader::new(&bytes).brokers(), Err(Malformed("a list longer than its bytes")));
    }

    #[test]
    fn fields_end_where_the_bytes_end() {
        assert_eq!(FieldReader::new(&[0, 0, 0]).u32(), Err(Malformed("it ends too early")));
        assert_eq!(FieldReader::new(&[0, 0, 0, 9, 1]).bytes(), Err(Malformed("it ends too early")));
        assert_eq!(FieldReader::new(&[7]).bool(), Err(Malformed("a flag that is neither 0 nor 1")));
        assert_eq!(FieldReader::new(&[0, 0, 0, 1, 0xff]).str(), Err(Malformed("text that is not UTF-8")));
    }

    #[test]
    fn a_body_ends_at_its_length() {
        let mut out = FieldWriter::new();
        out.body(|out| out.str("inside"));
        out.i64(-7);
        let bytes = out.into_bytes();
        let mut fields = FieldReader::new(&bytes);
        let mut body = fields.body().unwrap();
        assert_eq!(body.str(), Ok("inside"));
        assert!(body.is_empty());
        assert_eq!(fields.i64(), Ok(-7));
        assert!(fields.is_empty());
    }
}
