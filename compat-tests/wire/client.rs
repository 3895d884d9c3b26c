//! A client that speaks frames, one blocking socket each.
//!
//! Requests and responses are encoded and decoded by the protocol crate. Beside that, every answer is walked along the
//! shape that `wire::schema` has for it, which was read from Kafka itself: two independent readers must agree that the
//! answer ends where its frame does. Versions that the crate lacks go over the broker's own bridge, whose unit tests
//! have their bytes written out by hand.
//!
//! Invariants: answers are taken in the order of their requests, and each must carry the correlation id of its request.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use ottla::wire::{bridge, guard, schema};

/// How long a read waits before the test fails. Only a broker that hangs lets it pass.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A connection.
pub struct Client {
    stream: TcpStream,
    client_id: Option<StrBytes>,
    next_correlation_id: i32,
    in_flight: VecDeque<InFlight>,
    answered: BTreeSet<(i16, i16)>,
}

/// A request that was sent and not answered yet.
struct InFlight {
    api_key: i16,
    version: i16,
    correlation_id: i32,
}

impl Client {
    /// A new connection; the client calls itself `wire`.
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the broker accepts");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Client {
            stream,
            client_id: Some(StrBytes::from_static_str("wire")),
            next_correlation_id: 1,
            in_flight: VecDeque::new(),
            answered: BTreeSet::new(),
        }
    }

    /// Gives the client another name, or none.
    pub fn called(mut self, client_id: Option<&'static str>) -> Client {
        self.client_id = client_id.map(StrBytes::from_static_str);
        self
    }

    /// Key and version of everything that was answered here.
    pub fn answered(&self) -> &BTreeSet<(i16, i16)> {
        &self.answered
    }

    /// Sends a request and takes its answer.
    pub fn call<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        self.send(version, request);
        self.receive::<Q>()
    }

    /// Sends a request.
    pub fn send<Q: Request>(&mut self, version: i16, request: &Q) {
        let frame = self.enqueue(version, request);
        self.write(&frame).expect("the broker reads");
    }

    /// The frame of a request whose answer will be taken; the caller writes it.
    pub fn enqueue<Q: Request>(&mut self, version: i16, request: &Q) -> Vec<u8> {
        let correlation_id = self.next_correlation_id;
        self.in_flight.push_back(InFlight { api_key: Q::KEY, version, correlation_id });
        self.frame(version, request)
    }

    /// The frame of a request that is not expected to be answered.
    pub fn frame<Q: Request>(&mut self, version: i16, request: &Q) -> Vec<u8> {
        let mut body = BytesMut::new();
        let known = bridge::via(Q::KEY, version);
        request.encode(&mut body, known).unwrap_or_else(|why| panic!("request {} v{version}: {why}", Q::KEY));
        let body = bridged(schema::request(Q::KEY, known), schema::request(Q::KEY, version), body.freeze());
        self.frame_of(Q::KEY, version, Q::header_version(version), &body)
    }

    /// A frame of any bytes behind a header.
    pub fn frame_of(&mut self, api_key: i16, version: i16, header_version: i16, body: &[u8]) -> Vec<u8> {
        let header = RequestHeader::default()
            .with_request_api_key(api_key)
            .with_request_api_version(version)
            .with_correlation_id(self.next_correlation_id)
            .with_client_id(self.client_id.clone());
        self.next_correlation_id += 1;
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes, header_version).expect("a header");
        bytes.extend_from_slice(body);
        framed(&bytes)
    }

    /// Takes the answer to the oldest request that has none, which must be a `Q`.
    pub fn receive<Q: Request>(&mut self) -> Q::Response {
        let InFlight { api_key, version, correlation_id } = self.in_flight.pop_front().expect("a request in flight");
        assert_eq!(api_key, Q::KEY, "the oldest request in flight is another one");
        let name = schema::api_name(api_key).unwrap_or("?");
        let Some(mut frame) = self.read_frame() else { panic!("{name} v{version}: closed instead of answered") };
        let header = ResponseHeader::decode(&mut frame, Q::Response::header_version(version));
        let header = header.unwrap_or_else(|why| panic!("{name} v{version}: response header: {why}"));
        assert_eq!(header.correlation_id, correlation_id, "{name} v{version}: another request is answered");
        assert!(header.unknown_tagged_fields.is_empty(), "{name} v{version}: tags in the response header");
        let shape = schema::response(api_key, version).unwrap_or_else(|| panic!("{name} v{version}: no shape"));
        assert_eq!(guard::walk(shape, &frame), Ok(frame.len()), "{name} v{version}: not of its shape: {frame:?}");
        let known = bridge::via(api_key, version);
        let mut frame = bridged(Some(shape), schema::response(api_key, known), frame);
        let response = Q::Response::decode(&mut frame, known);
        let response = response.unwrap_or_else(|why| panic!("{name} v{version}: response: {why}"));
        assert!(frame.is_empty(), "{name} v{version}: {} bytes are left over", frame.len());
        self.answered.insert((api_key, version));
        response
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame without its size; `None` when the broker has closed the connection.
    pub fn read_frame(&mut self) -> Option<Bytes> {
        let mut size = [0; 4];
        if !self.fill(&mut size) {
            return None;
        }
        let size = usize::try_from(i32::from_be_bytes(size)).expect("a size that is not negative");
        let mut frame = vec![0; size];
        assert!(self.fill(&mut frame), "the connection ended within a frame of {size} bytes");
        Some(frame.into())
    }

    /// Waits for the end of the connection; whatever comes before it is a failure.
    pub fn assert_closed(mut self, why: &str) {
        if let Some(frame) = self.read_frame() {
            panic!("{why}: answered with {frame:?} instead of being closed");
        }
    }

    /// Tells the broker that nothing more will come.
    pub fn finish(&mut self) {
        // The broker may have closed the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The socket, for tests that treat it badly.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Fills `bytes`; false if the connection is at its end.
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        match self.stream.read_exact(bytes) {
            Ok(()) => true,
            Err(error) if is_end(&error) => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

/// A body in another shape, for versions that the protocol crate lacks.
fn bridged(from: Option<&schema::Message>, to: Option<&schema::Message>, body: Bytes) -> Bytes {
    match (from, to) {
        (Some(from), Some(to)) if !std::ptr::eq(from, to) => bridge::reshape(from, to, &body).expect("a bridge"),
        _ => body,
    }
}

/// True for the ways in which a closed connection shows itself.
pub fn is_end(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// `body` with its size in front.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let size = i32::try_from(body.len()).expect("a frame below 2 GiB");
    [&size.to_be_bytes()[..], body].concat()
}
