//! Walks the raw bytes of a body along its shape, before anything is decoded.
//!
//! The protocol crate reserves memory for as many elements as an array count says, so eight bytes could ask for
//! hundreds of gigabytes. It also takes the known tagged fields without looking at their size. Both end here.
//!
//! Invariants of a body that passed: every array count ≤ bytes left ÷ fewest bytes of an element; every length ≤ bytes
//! left; every string ≤ [`STRING_BYTES_MAX`]; every known tagged field has exactly the size that was announced;
//! elements ≤ [`ELEMENTS_MAX`]. Nothing is allocated and the walk takes time in proportion to the bytes. Bytes behind
//! the body are allowed, because Kafka ignores them.

use super::Malformed;
use super::primitives::Cursor;
use super::schema::{Kind, Message, Struct};

/// Most array elements in one body.
///
/// An element can be as short as two bytes; decoded and answered it takes up to 0.5 KB (DescribeGroups of a million
/// names took 507 MiB, measured), so bytes alone would allow hundreds of times the size of a request. Numbers count as
/// the rest do: most are indexes of partitions, each of which is answered with a struct. Kafka's clusters hold at most
/// a few hundred thousand partitions and no client names all of them in one request.
pub const ELEMENTS_MAX: usize = 200_000;

/// Most bytes in one string. The compact form could say more, but Kafka's readers refuse it (`MessageDataGenerator`),
/// and whoever compares the items of a list in a string may take the square of its length.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// An unknown tagged field counts as this many elements: the first one of a struct costs a map node of 400 bytes.
const UNKNOWN_TAG_ELEMENTS: usize = 4;

/// Checks that `body` can be decoded as `message` without surprise; returns the number of bytes that the body takes.
pub fn walk(message: &Message, body: &[u8]) -> Result<usize, Malformed> {
    let mut walk = Walk { cursor: Cursor::new(body), elements: 0 };
    walk.fields(&message.body)?;
    Ok(walk.cursor.position())
}

/// Takes one value of this kind off the front.
pub(super) fn take<'a>(kind: &Kind, cursor: &mut Cursor<'a>) -> Result<&'a [u8], Malformed> {
    let mut ahead = Walk { cursor: cursor.clone(), elements: 0 };
    ahead.value(kind)?;
    cursor.take(ahead.cursor.position() - cursor.position())
}

/// Where the top-level field `name` of `message` begins in `body`, if it has one.
pub fn offset_of(message: &Message, body: &[u8], name: &str) -> Option<usize> {
    let mut walk = Walk { cursor: Cursor::new(body), elements: 0 };
    let before = message.body.fields.iter().take_while(|field| field.name != name);
    for field in before.clone() {
        walk.value(&field.kind).ok()?;
    }
    (before.count() < message.body.fields.len()).then(|| walk.cursor.position())
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    elements: usize,
}

impl Walk<'_> {
    fn fields(&mut self, shape: &Struct) -> Result<(), Malformed> {
        if shape.fixed {
            return self.cursor.take(shape.bytes_min).map(drop);
        }
        for field in &shape.fields {
            self.value(&field.kind)?;
        }
        match &shape.tagged {
            Some(_) => self.tagged(shape),
            None => Ok(()),
        }
    }

    fn value(&mut self, kind: &Kind) -> Result<(), Malformed> {
        match kind {
            Kind::Scalar(scalar) => self.cursor.take(scalar.bytes()).map(drop),
            Kind::String { compact, nullable } => {
                let length = self.cursor.string_length(*compact)?;
                if length.is_some_and(|length| length > STRING_BYTES_MAX) {
                    return Err(self.cursor.malformed("string longer than any"));
                }
                self.skip(length, *nullable)
            }
            Kind::Bytes { compact, nullable, .. } => {
                let length = self.cursor.length(*compact)?;
                self.skip(length, *nullable)
            }
            Kind::Array { compact, nullable, element } => {
                let count = self.cursor.length(*compact)?;
                self.array(count, *nullable, element)
            }
            Kind::Struct { nullable: false, shape } => self.fields(shape),
            Kind::Struct { nullable: true, shape } => match self.cursor.i8()? {
                1 => self.fields(shape),
                -1 => Ok(()),
                _ => Err(self.cursor.malformed("neither a struct nor null")),
            },
        }
    }

    fn skip(&mut self, length: Option<usize>, nullable: bool) -> Result<(), Malformed> {
        match length {
            Some(length) => self.cursor.take(length).map(drop),
            None if nullable => Ok(()),
            None => Err(self.cursor.malformed("null where a value must be")),
        }
    }

    fn array(&mut self, count: Option<usize>, nullable: bool, element: &Kind) -> Result<(), Malformed> {
        let Some(count) = count else { return self.skip(None, nullable) };
        if count > self.cursor.remaining() / element.bytes_min() {
            return Err(self.cursor.malformed("array longer than its bytes"));
        }
        self.count(count)?;
        if element.is_fixed() {
            return self.cursor.take(count * element.bytes_min()).map(drop);
        }
        for _ in 0..count {
            self.value(element)?;
        }
        Ok(())
    }

    fn count(&mut self, elements: usize) -> Result<(), Malformed> {
        self.elements += elements;
        if self.elements > ELEMENTS_MAX {
            return Err(self.cursor.malformed("too many array elements in one request"));
        }
        Ok(())
    }

    fn tagged(&mut self, shape: &Struct) -> Result<(), Malformed> {
        let known = shape.tagged.as_deref().unwrap_or_default();
        for _ in 0..self.cursor.unsigned_varint()? {
            let tag = self.cursor.unsigned_varint()?;
            let size = self.cursor.unsigned_varint()? as usize;
            if size > self.cursor.remaining() {
                return Err(self.cursor.malformed("tagged field longer than its bytes"));
            }
            let start = self.cursor.position();
            match known.iter().find(|(known, _)| *known == tag) {
                Some((_, field)) => self.value(&field.kind)?,
                None => {
                    self.count(UNKNOWN_TAG_ELEMENTS)?;
                    self.cursor.take(size)?;
                }
            }
            if self.cursor.position() - start != size {
                return Err(self.cursor.malformed("tagged field is not as long as announced"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::generate::Generator;
    use super::super::schema::{self, messages};
    use super::*;

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused() {
        let metadata = schema::request(3, 0).unwrap();
        assert!(walk(metadata, &[0x7f, 0xff, 0xff, 0xff]).is_err());
        assert!(walk(metadata, &[0, 0, 0, 1]).is_err());
        assert!(walk(metadata, &[0xff, 0xff, 0xff, 0xff]).is_err(), "null is not allowed in v0");
        assert_eq!(walk(metadata, &[0, 0, 0, 1, 0, 1, b't']), Ok(7));
        assert_eq!(walk(metadata, &[0, 0, 0, 0, 9, 9]), Ok(4), "bytes behind the body are ignored");
    }

    #[test]
    fn every_array_count_of_every_message_is_checked() {
        let mut attacks = 0;
        for message in messages() {
            for count in [u32::MAX, u32::MAX - 1, 1 << 31, i32::MAX as u32, 1 << 24] {
                for nth in 0.. {
                    let Some(body) = Generator::new(7).attack(message, nth, count) else { break };
                    attacks += 1;
                    let refused = walk(message, &body).is_err();
                    assert!(refused, "{} v{} array {nth} of {count}", message.name, message.version_max);
                }
            }
        }
        assert!(attacks > 1000, "{attacks} attacks were tried");
    }

    #[test]
    fn random_bodies_pass_whole_and_no_prefix_of_them_does() {
        for message in messages() {
            for seed in 0..20 {
                let body = Generator::new(seed).body(message);
                assert_eq!(walk(message, &body), Ok(body.len()), "{} v{}", message.name, message.version_max);
                for end in 0..body.len().min(200) {
                    assert!(walk(message, &body[..end]).is_err(), "{} v{}", message.name, message.version_max);
                }
            }
        }
    }

    #[test]
    fn the_number_of_elements_is_limited() {
        let metadata = schema::request(3, 9).unwrap();
        let body = |topics: usize| {
            let mut body = bytes::BytesMut::new();
            super::super::primitives::put_length(&mut body, true, Some(topics));
            body.extend(std::iter::repeat_n([1u8, 0], topics).flatten());
            body.extend([0, 0, 0, 0]);
            body
        };
        assert!(walk(metadata, &body(ELEMENTS_MAX)).is_ok());
        assert!(walk(metadata, &body(ELEMENTS_MAX + 1)).is_err());

        // OffsetFetch v8: one group, one topic, its partitions.
        let indexes = |count: usize| {
            let mut body = bytes::BytesMut::from(&[2u8, 2, b'g', 2, 2, b't'][..]);
            super::super::primitives::put_length(&mut body, true, Some(count));
            body.extend(std::iter::repeat_n(0u8, 4 * count));
            body.extend([0, 0, 0, 0]);
            body
        };
        let fetch = schema::request(9, 8).unwrap();
        assert!(walk(fetch, &indexes(ELEMENTS_MAX - 2)).is_ok());
        assert!(walk(fetch, &indexes(ELEMENTS_MAX)).is_err(), "numbers count, too");
    }

    #[test]
    fn a_string_of_the_compact_form_is_no_longer_than_one_of_the_other() {
        let metadata = schema::request(3, 9).unwrap();
        let body = |bytes: usize| {
            let mut body = bytes::BytesMut::from(&[2u8][..]);
            super::super::primitives::put_length(&mut body, true, Some(bytes));
            body.extend(std::iter::repeat_n(b't', bytes));
            body.extend([0, 0, 0, 0, 0]);
            body
        };
        assert!(walk(metadata, &body(STRING_BYTES_MAX)).is_ok());
        assert!(walk(metadata, &body(STRING_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_tagged_field_has_the_size_it_announces() {
        // Fetch v12: ..., then one tagged field, tag 0 = the cluster id, a compact nullable string.
        let fetch = schema::request(1, 12).unwrap();
        let fixed = 4 + 4 + 4 + 4 + 1 + 4 + 4;
        let body = |tag: &[u8]| [&vec![0; fixed][..], &[1, 1, 1], tag].concat();
        assert!(walk(fetch, &body(&[1, 0, 3, 3, b'i', b'd'])).is_ok());
        assert!(walk(fetch, &body(&[1, 0, 2, 3, b'i', b'd'])).is_err(), "the field runs past its size");
        assert!(walk(fetch, &body(&[1, 0, 3, 2, b'i', b'd'])).is_err(), "the field stops short of its size");
        assert!(walk(fetch, &body(&[1, 99, 2, b'i', b'd'])).is_ok(), "a tag that is not known");
    }
}
