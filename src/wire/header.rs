//! The header in front of every request and response.
//!
//! A request header is key, version, correlation id and client id; from the first flexible version of an API on, tagged
//! fields follow, while the client id keeps its old, non-compact form (KIP-482). A response header is the correlation
//! id and, from the flexible versions on, tagged fields; that of ApiVersions never has them, because it is read before
//! the two sides agreed on a version (KIP-511).
//!
//! Invariant: which version of the header goes with which version of an API comes from [`schema`] alone.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::primitives::{Cursor, put_string_length, put_unsigned_varint};
use super::schema;
use super::{Malformed, PRIVATE_API};

/// What every request starts with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHead {
    pub api_key: i16,
    pub version: i16,
    /// Chosen by the client and sent back with the answer.
    pub correlation_id: i32,
    /// Empty if the client sent null.
    pub client_id: Arc<str>,
}

/// The key that a frame begins with.
pub fn api_key(frame: &[u8]) -> Option<i16> {
    frame.first_chunk::<2>().map(|key| i16::from_be_bytes(*key))
}

/// Splits a frame into its header and its body.
///
/// The tagged fields of a header are skipped. For a version that the table does not know, the body starts right behind
/// the client id: such a request is either refused or is ApiVersions, whose body is then not read.
pub fn parse(frame: &Bytes) -> Result<(RequestHead, Bytes), Malformed> {
    let mut cursor = Cursor::new(frame);
    let (api_key, version, correlation_id) = (cursor.i16()?, cursor.i16()?, cursor.i32()?);
    let client_id = match cursor.string_length(false)? {
        None => Arc::from(""),
        Some(length) => match std::str::from_utf8(cursor.take(length)?) {
            Ok(text) => Arc::from(text),
            Err(_) => return Err(cursor.malformed("client id is not UTF-8")),
        },
    };
    if request_has_tags(api_key, version) {
        skip_tags(&mut cursor)?;
    }
    let body = frame.slice(cursor.position()..);
    Ok((RequestHead { api_key, version, correlation_id, client_id }, body))
}

/// Writes the header of the request: for clients, in tests and between brokers.
pub fn put_request(out: &mut BytesMut, header: &RequestHead) {
    out.put_i16(header.api_key);
    out.put_i16(header.version);
    out.put_i32(header.correlation_id);
    put_string_length(out, false, Some(header.client_id.len()));
    out.extend_from_slice(header.client_id.as_bytes());
    if request_has_tags(header.api_key, header.version) {
        put_unsigned_varint(out, 0);
    }
}

/// Writes the header of the response to a request of this key and version.
pub fn put_response(out: &mut BytesMut, api_key: i16, version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    if response_has_tags(api_key, version) {
        put_unsigned_varint(out, 0);
    }
}

/// Splits the frame of a response to a request of this key and version into its correlation id and its body.
pub fn parse_response(frame: &Bytes, api_key: i16, version: i16) -> Result<(i32, Bytes), Malformed> {
    let mut cursor = Cursor::new(frame);
    let correlation_id = cursor.i32()?;
    if response_has_tags(api_key, version) {
        skip_tags(&mut cursor)?;
    }
    Ok((correlation_id, frame.slice(cursor.position()..)))
}

fn request_has_tags(api_key: i16, version: i16) -> bool {
    api_key == PRIVATE_API || schema::request(api_key, version).is_some_and(|message| message.header_version >= 2)
}

fn response_has_tags(api_key: i16, version: i16) -> bool {
    api_key == PRIVATE_API || schema::response(api_key, version).is_some_and(|message| message.header_version >= 1)
}

fn skip_tags(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    for _ in 0..cursor.unsigned_varint()? {
        cursor.unsigned_varint()?;
        let size = cursor.unsigned_varint()? as usize;
        cursor.take(size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(api_key: i16, version: i16) -> RequestHead {
        RequestHead { api_key, version, correlation_id: 7, client_id: "me".into() }
    }

    #[test]
    fn headers_read_back_and_leave_the_body() {
        for (api_key, version, bytes) in [(3, 8, 12), (3, 9, 13), (18, 2, 12), (18, 3, 13)] {
            let mut out = BytesMut::new();
            put_request(&mut out, &header(api_key, version));
            assert_eq!(out.len(), bytes);
            out.extend_from_slice(b"body");
            let (read, body) = parse(&out.freeze()).unwrap();
            assert_eq!((read, &body[..]), (header(api_key, version), &b"body"[..]));
        }
    }

    #[test]
    fn null_client_ids_tags_and_unknown_versions() {
        let null = Bytes::from_static(&[0, 3, 0, 8, 0, 0, 0, 7, 0xff, 0xff]);
        assert_eq!(parse(&null).unwrap().0.client_id[..], *"");
        let tagged = Bytes::from_static(&[0, 3, 0, 9, 0, 0, 0, 7, 0, 0, 1, 5, 2, 8, 8, 42]);
        assert_eq!(&parse(&tagged).unwrap().1[..], &[42]);
        let from_the_future = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 7, 0, 0, 1, 2, 3]);
        assert_eq!(parse(&from_the_future).unwrap().0.version, 99);
    }

    #[test]
    fn short_or_lying_headers_are_refused() {
        let whole = [0, 3, 0, 9, 0, 0, 0, 7, 0, 2, b'm', b'e', 1, 5, 1, 8];
        assert!(parse(&Bytes::copy_from_slice(&whole)).is_ok());
        for end in 0..whole.len() {
            assert!(parse(&Bytes::copy_from_slice(&whole[..end])).is_err(), "{end}");
        }
        assert!(parse(&Bytes::from_static(&[0, 3, 0, 0, 0, 0, 0, 7, 0, 1, 0xff])).is_err(), "not UTF-8");
        assert!(parse(&Bytes::from_static(&[0, 3, 0, 0, 0, 0, 0, 7, 0x80, 0])).is_err(), "negative length");
    }

    #[test]
    fn response_headers() {
        for (api_key, version, bytes) in [(3, 8, 4), (3, 9, 5), (18, 4, 4), (1, 12, 5), (1, 11, 4), (PRIVATE_API, 0, 5)]
        {
            let mut out = BytesMut::new();
            put_response(&mut out, api_key, version, 7);
            assert_eq!(out.len(), bytes, "api {api_key} v{version}");
            out.extend_from_slice(b"body");
            assert_eq!(parse_response(&out.freeze(), api_key, version), Ok((7, Bytes::from_static(b"body"))));
        }
    }
}
