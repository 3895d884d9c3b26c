//! A client of the real protocol: one connection, frames, headers, a deadline for every request.
//!
//! Invariants: answers are read in the order of the requests. Whatever goes wrong ends the connection, and the
//! caller learns that there is no answer, never why: the fate of the request is unknown. An answer that cannot be
//! read is a broken invariant.

use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::TcpStream;

use crate::stage::Stage;

/// Where the broker is.
pub const BROKER: (&str, u16) = ("broker", 9092);
/// The longest answer that is believed.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// How long to wait before the broker is tried again.
const PAUSE: Duration = Duration::from_millis(40);

/// See the file's head.
pub struct Client {
    pub name: String,
    pub stage: Rc<Stage>,
    /// Whom it may speak to, and whom it speaks to now.
    targets: Vec<(&'static str, u16)>,
    at: usize,
    correlation: i32,
    stream: Option<TcpStream>,
}

/// A request that was sent and is not answered.
pub struct Ticket<R> {
    correlation: i32,
    version: i16,
    request: PhantomData<R>,
}

impl Client {
    pub fn new(name: &str, stage: &Rc<Stage>) -> Client {
        Client::of(name, stage, BROKER)
    }

    /// A client of the broker at `target`.
    pub fn of(name: &str, stage: &Rc<Stage>, target: (&'static str, u16)) -> Client {
        Client::among(name, stage, vec![target])
    }

    /// A client of several brokers, one at a time.
    pub fn among(name: &str, stage: &Rc<Stage>, targets: Vec<(&'static str, u16)>) -> Client {
        Client { name: name.to_owned(), stage: stage.clone(), targets, at: 0, correlation: 0, stream: None }
    }

    /// How many brokers it may speak to.
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Which of them it speaks to.
    pub fn at(&self) -> usize {
        self.at
    }

    /// From now on it speaks to this one.
    pub fn turn_to(&mut self, at: usize) {
        if at != self.at && at < self.targets.len() {
            self.at = at;
            self.stream = None;
        }
    }

    /// Sends `request` and waits for the answer, both within `patience`.
    pub async fn ask<R: Request>(&mut self, version: i16, request: R, patience: Duration) -> Option<R::Response> {
        let answered = tokio::time::timeout(patience, async {
            let ticket = self.send_now(version, &request).await?;
            self.receive_now(&ticket).await
        });
        let answer = answered.await.ok().flatten();
        if answer.is_none() {
            self.hang_up().await;
        }
        answer
    }

    /// Sends `request`, on a new connection if need be.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R, patience: Duration) -> Option<Ticket<R>> {
        let ticket = tokio::time::timeout(patience, self.send_now(version, request)).await.ok().flatten();
        if ticket.is_none() {
            self.hang_up().await;
        }
        ticket
    }

    /// Waits for the answer to the oldest request.
    pub async fn receive<R: Request>(&mut self, ticket: Ticket<R>, patience: Duration) -> Option<R::Response> {
        let answer = tokio::time::timeout(patience, self.receive_now(&ticket)).await.ok().flatten();
        if answer.is_none() {
            self.hang_up().await;
        }
        answer
    }

    /// Ends the connection, and rests a little so that a broker that is down is not asked all the time.
    pub async fn hang_up(&mut self) {
        self.stream = None;
        tokio::time::sleep(PAUSE).await;
    }

    async fn send_now<R: Request>(&mut self, version: i16, request: &R) -> Option<Ticket<R>> {
        if self.stream.is_none() {
            self.stream = Some(TcpStream::connect(self.targets[self.at]).await.ok()?);
        }
        self.correlation += 1;
        let frame = frame(&self.name, self.correlation, version, request);
        let stream = self.stream.as_mut()?;
        stream.write_all(&frame).await.ok()?;
        Some(Ticket { correlation: self.correlation, version, request: PhantomData })
    }

    async fn receive_now<R: Request>(&mut self, ticket: &Ticket<R>) -> Option<R::Response> {
        let stream = self.stream.as_mut()?;
        let size = usize::try_from(stream.read_i32().await.ok()?).ok().filter(|&size| size <= FRAME_BYTES_MAX);
        let Some(size) = size else {
            self.stage.judge(&self.name, Err("a frame of an impossible size was answered".into()));
            return None;
        };
        let mut frame = vec![0; size];
        stream.read_exact(&mut frame).await.ok()?;
        match decode(frame.into(), ticket) {
            Ok(response) => Some(response),
            Err(reason) => {
                let key = R::KEY;
                let verdict = Err(format!("the answer to api {key} v{} cannot be read: {reason}", ticket.version));
                self.stage.judge(&self.name, verdict);
                None
            }
        }
    }
}

fn frame<R: Request>(name: &str, correlation: i32, version: i16, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_string(name.to_owned())));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, R::header_version(version)).expect("a header can be encoded");
    request.encode(&mut frame, version).expect("the workload asks what can be encoded");
    let size = i32::try_from(frame.len() - 4).expect("the workload asks little");
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame.freeze()
}

fn decode<R: Request>(mut frame: Bytes, ticket: &Ticket<R>) -> Result<R::Response, String> {
    let header_version = <R::Response as HeaderVersion>::header_version(ticket.version);
    let header = ResponseHeader::decode(&mut frame, header_version).map_err(|error| error.to_string())?;
    if header.correlation_id != ticket.correlation {
        return Err(format!("it has correlation id {} instead of {}", header.correlation_id, ticket.correlation));
    }
    let response = R::Response::decode(&mut frame, ticket.version).map_err(|error| error.to_string())?;
    if frame.is_empty() { Ok(response) } else { Err(format!("{} bytes are left over", frame.len())) }
}
