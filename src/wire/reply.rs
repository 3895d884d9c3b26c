//! Replies as they leave: a body, then a whole response, as few owned bytes and many shared slices.
//!
//! A handler that sends record batches encodes its own [`Body`], whose pieces are slices of what storage holds and are
//! never copied. Every other handler returns a message of the protocol crate, which [`Response::encode`] writes into
//! one buffer.
//!
//! Invariant: the first four bytes of a response are the number of bytes that follow.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

use super::bridge;
use super::frame::SIZE_BYTES;
use super::guard;
use super::header::put_response;
use super::schema;

/// A body that is already encoded, in pieces.
#[derive(Clone, Default, Debug)]
pub struct Body {
    parts: Vec<Bytes>,
}

impl Body {
    /// A body of these pieces, in order.
    pub fn from_parts(parts: Vec<Bytes>) -> Body {
        Body { parts }
    }

    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// True for a body without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces as one, for tests and for clients that decode them.
    pub fn to_bytes(&self) -> Bytes {
        self.parts.concat().into()
    }
}

/// The field that tells a client to wait; an i32 wherever it exists.
const THROTTLE_TIME: &str = "throttle_time_ms";

/// A response that is ready to be written: size, header and body.
#[derive(Clone, Debug)]
pub struct Response {
    head: Bytes,
    rest: Vec<Bytes>,
}

/// Which response to which request: everything that the header needs.
#[derive(Clone, Copy, Debug)]
pub struct ResponseTo {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
}

/// The message holds something that this version cannot express: a bug of its handler.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotEncodable(pub String);

impl Response {
    /// Encodes a message of the protocol crate.
    pub fn encode(to: ResponseTo, message: &impl Encodable) -> Result<Response, NotEncodable> {
        let mut out = Response::start(to);
        let known = bridge::via(to.api_key, to.version);
        if known == to.version {
            message.encode(&mut out, known).map_err(|error| NotEncodable(error.to_string()))?;
            return Response::seal(out, Vec::new());
        }
        let mut body = BytesMut::new();
        message.encode(&mut body, known).map_err(|error| NotEncodable(error.to_string()))?;
        let body = bridge::response(to.api_key, to.version, body.freeze());
        Response::seal(out, vec![body.map_err(|error| NotEncodable(error.to_string()))?])
    }

    /// Puts size and header in front of a body that is already encoded.
    pub fn with_body(to: ResponseTo, body: Body) -> Result<Response, NotEncodable> {
        Response::seal(Response::start(to), body.parts)
    }

    /// Puts the size in front of a header and a body that another node encoded.
    pub fn forwarded(header_and_body: Bytes) -> Response {
        // It came in a frame, whose size is an i32.
        let size = i32::try_from(header_and_body.len()).unwrap_or(i32::MAX);
        Response { head: Bytes::copy_from_slice(&size.to_be_bytes()), rest: vec![header_and_body] }
    }

    /// Header and body, as one piece.
    pub fn without_size(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len() - SIZE_BYTES);
        bytes.extend_from_slice(&self.head[SIZE_BYTES..]);
        self.rest.iter().for_each(|piece| bytes.extend_from_slice(piece));
        bytes.freeze()
    }

    /// How long this response tells the client to wait, in milliseconds; 0 if its version has no field for it.
    pub fn throttle_time(&self, to: ResponseTo) -> i32 {
        let Some(message) = schema::response(to.api_key, to.version) else { return 0 };
        let mut header = BytesMut::new();
        put_response(&mut header, to.api_key, to.version, to.correlation_id);
        let bytes = self.without_size();
        let Some(body) = bytes.get(header.len()..) else { return 0 };
        let field = guard::offset_of(message, body, THROTTLE_TIME).and_then(|at| body[at..].first_chunk::<4>());
        field.map_or(0, |field| i32::from_be_bytes(*field))
    }

    /// Bytes on the wire, the four of the size included.
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// Never true: there is always a size.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Tells the client to wait for `wait_ms` at least (KIP-219), if this version has a field for it. Copies the piece
    /// that holds the field.
    pub fn raise_throttle_time(&mut self, to: ResponseTo, wait_ms: i32) {
        let Some(message) = schema::response(to.api_key, to.version) else { return };
        let mut header = BytesMut::new();
        put_response(&mut header, to.api_key, to.version, to.correlation_id);
        let body_at = SIZE_BYTES + header.len();
        let (piece, from) = match self.rest.first_mut() {
            Some(first) if self.head.len() == body_at => (first, 0),
            _ => (&mut self.head, body_at),
        };
        let Some(at) = guard::offset_of(message, &piece[from..], THROTTLE_TIME).map(|at| from + at) else { return };
        let mut bytes = BytesMut::from(&piece[..]);
        let Some(field) = bytes[at..].first_chunk_mut::<4>() else { return };
        *field = i32::from_be_bytes(*field).max(wait_ms).to_be_bytes();
        *piece = bytes.freeze();
    }

    fn start(to: ResponseTo) -> BytesMut {
        let mut out = BytesMut::with_capacity(256);
        out.put_i32(0);
        put_response(&mut out, to.api_key, to.version, to.correlation_id);
        out
    }

    fn seal(mut head: BytesMut, rest: Vec<Bytes>) -> Result<Response, NotEncodable> {
        let bytes = head.len() + rest.iter().map(Bytes::len).sum::<usize>() - SIZE_BYTES;
        let Ok(size) = i32::try_from(bytes) else {
            return Err(NotEncodable(format!("a response of {bytes} bytes exceeds a frame")));
        };
        head[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        Ok(Response { head: head.freeze(), rest })
    }
}

/// Responses in the order in which they leave, as one buffer that vectored writes consume.
#[derive(Default)]
pub struct Outgoing {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    /// Adds a response at the end.
    pub fn push(&mut self, response: Response) {
        self.bytes += response.len();
        self.parts.push_back(response.head);
        self.parts.extend(response.rest.into_iter().filter(|part| !part.is_empty()));
    }

    /// Pieces that are left.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let count = slices.len().min(self.parts.len());
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "advanced past the end");
        self.bytes -= count;
        while count > 0 {
            let Some(front) = self.parts.front_mut() else { return };
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{HeartbeatResponse, ProduceResponse};

    use super::*;
    use crate::wire::generate::Generator;

    const TO: ResponseTo = ResponseTo { api_key: 1, version: 12, correlation_id: 5 };

    #[test]
    fn a_message_is_framed() {
        let to = ResponseTo { api_key: 12, version: 3, correlation_id: 5 };
        let message = HeartbeatResponse::default().with_error_code(27);
        let mut outgoing = Outgoing::default();
        outgoing.push(Response::encode(to, &message).unwrap());
        let bytes = outgoing.copy_to_bytes(outgoing.remaining());
        assert_eq!(&bytes[..], &[0, 0, 0, 10, 0, 0, 0, 5, 0, 0, 0, 0, 0, 27]);
    }

    #[test]
    fn every_response_with_the_field_tells_the_client_to_wait() {
        let mut told = 0;
        for message in schema::messages().filter(|message| message.direction == schema::Direction::Response) {
            let has_field = message.body.fields.iter().any(|field| field.name == THROTTLE_TIME);
            for version in message.version_min..=message.version_max {
                let to = ResponseTo { api_key: message.api_key, version, correlation_id: 5 };
                let body = Generator::new(version as u64).body(message);
                let mut response = Response::with_body(to, Body::from_parts(vec![body.clone()])).unwrap();
                response.raise_throttle_time(to, i32::MAX);
                let after = &response.rest[0];
                assert_eq!(after.len(), body.len());
                let changed = (0..body.len()).filter(|at| after[*at] != body[*at]).count();
                assert!(changed <= 4, "{} v{version}", message.name);
                let at = guard::offset_of(message, after, THROTTLE_TIME);
                assert_eq!(at.is_some(), has_field, "{} v{version}", message.name);
                if let Some(at) = at {
                    assert_eq!(after[at..at + 4], i32::MAX.to_be_bytes(), "{} v{version}", message.name);
                    told += 1;
                }
            }
        }
        assert!(told > 100);
    }

    #[test]
    fn a_longer_wait_stays() {
        let to = ResponseTo { api_key: 0, version: 9, correlation_id: 5 };
        let mut response = Response::encode(to, &ProduceResponse::default().with_throttle_time_ms(7)).unwrap();
        for (wait_ms, expected) in [(5, 7), (9, 9)] {
            response.raise_throttle_time(to, wait_ms);
            assert_eq!(response.head[response.head.len() - 5..], [0, 0, 0, expected, 0]);
        }
    }

    fn body() -> Body {
        let parts = [&[1; 7][..], &[2; 2000], &[], &[3; 5]].map(Bytes::copy_from_slice);
        Body::from_parts(parts.to_vec())
    }

    #[test]
    fn a_body_in_pieces_is_framed_and_not_copied() {
        let body = body();
        let big = body.parts[1].as_ptr();
        assert_eq!(body.len(), 2012);
        let whole = body.to_bytes();
        let mut outgoing = Outgoing::default();
        outgoing.push(Response::with_body(TO, body).unwrap());
        assert!(outgoing.parts.iter().any(|part| part.as_ptr() == big));
        assert_eq!(outgoing.parts(), 4, "head and the pieces that are not empty");
        assert_eq!(outgoing.remaining(), SIZE_BYTES + 5 + whole.len());
        assert_eq!(outgoing.get_i32() as usize, outgoing.remaining());
        assert_eq!((outgoing.get_i32(), outgoing.get_u8()), (TO.correlation_id, 0));
        assert_eq!(outgoing.copy_to_bytes(whole.len()), whole);
    }

    #[test]
    fn outgoing_bytes_are_the_same_however_they_are_consumed() {
        let whole = |step: usize| {
            let mut outgoing = Outgoing::default();
            for _ in 0..3 {
                outgoing.push(Response::with_body(TO, body()).unwrap());
            }
            let mut bytes = Vec::new();
            while outgoing.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = outgoing.chunks_vectored(&mut slices);
                assert_eq!(&slices[0][..], outgoing.chunk());
                let available: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                let count = available.len().min(step);
                bytes.extend_from_slice(&available[..count]);
                outgoing.advance(count);
            }
            assert_eq!(outgoing.parts(), 0);
            bytes
        };
        assert_eq!(whole(1), whole(usize::MAX));
        assert_eq!(whole(1999), whole(usize::MAX));
    }
}
