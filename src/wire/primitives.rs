//! Reading and writing the protocol's primitive types.
//!
//! Invariants: a [`Cursor`] never reads past its bytes and never allocates; a variable-length integer has at most five
//! bytes and fits 32 bits (`ByteUtils.readUnsignedVarint`, but overflow is refused rather than wrapped).

use bytes::{BufMut, BytesMut};

use super::Malformed;

/// A position in bytes that came from outside.
#[derive(Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A refusal at this position.
    pub fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed { reason, at: self.at }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.remaining() {
            return Err(self.malformed("bytes end too early"));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One signed byte.
    pub fn i8(&mut self) -> Result<i8, Malformed> {
        Ok(i8::from_be_bytes(self.take_array()?))
    }

    /// Two bytes, big endian.
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.take_array()?))
    }

    /// Four bytes, big endian.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.take_array()?))
    }

    /// An unsigned integer of seven bits per byte, least significant first.
    pub fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take_array()?;
            if shift == 28 && byte > 0x0f {
                return Err(self.malformed("variable-length integer exceeds 32 bits"));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// The length in front of a string; `None` for null.
    pub fn string_length(&mut self, compact: bool) -> Result<Option<usize>, Malformed> {
        if compact {
            return self.compact_length();
        }
        match self.i16()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.malformed("negative length")),
        }
    }

    /// The length in front of bytes, records or an array; `None` for null.
    pub fn length(&mut self, compact: bool) -> Result<Option<usize>, Malformed> {
        if compact {
            return self.compact_length();
        }
        match self.i32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.malformed("negative length")),
        }
    }

    /// Compact lengths are stored plus one, so that zero is null.
    fn compact_length(&mut self) -> Result<Option<usize>, Malformed> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|length| length as usize))
    }
}

/// Writes an unsigned integer of seven bits per byte.
pub fn put_unsigned_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes the length in front of a string, or null. A string longer than the form can carry is a bug of the caller.
pub fn put_string_length(out: &mut BytesMut, compact: bool, length: Option<usize>) {
    match (compact, length) {
        (true, _) => put_length(out, true, length),
        (false, None) => out.put_i16(-1),
        (false, Some(length)) => {
            assert!(length <= i16::MAX as usize, "a string of {length} bytes has no non-compact form");
            out.put_i16(length as i16);
        }
    }
}

/// Writes the length in front of bytes, records or an array, or null.
pub fn put_length(out: &mut BytesMut, compact: bool, length: Option<usize>) {
    let length = length.map(|length| {
        assert!(length <= i32::MAX as usize, "a length of {length} has no form on the wire");
        length as i32
    });
    if compact {
        put_unsigned_varint(out, length.map_or(0, |length| length as u32 + 1));
    } else {
        out.put_i32(length.unwrap_or(-1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_read_back_and_overflow_is_refused() {
        for value in [0, 1, 127, 128, 300, 16383, 16384, i32::MAX as u32, u32::MAX] {
            let mut out = BytesMut::new();
            put_unsigned_varint(&mut out, value);
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.unsigned_varint(), Ok(value));
            assert_eq!(cursor.remaining(), 0);
        }
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).unsigned_varint().is_err());
        assert!(Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]).unsigned_varint().is_err());
        assert!(Cursor::new(&[0x80]).unsigned_varint().is_err());
    }

    #[test]
    fn lengths_read_back() {
        for compact in [false, true] {
            for length in [None, Some(0), Some(1), Some(300), Some(i16::MAX as usize)] {
                let mut out = BytesMut::new();
                put_string_length(&mut out, compact, length);
                put_length(&mut out, compact, length);
                let mut cursor = Cursor::new(&out);
                assert_eq!(cursor.string_length(compact), Ok(length));
                assert_eq!(cursor.length(compact), Ok(length));
            }
        }
        assert!(Cursor::new(&[0xff, 0xfe]).string_length(false).is_err());
        assert!(Cursor::new(&[0x80, 0, 0, 0]).length(false).is_err());
    }
}
