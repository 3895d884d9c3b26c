//! A connection to another node of the cluster: made when it is needed, pipelined, made anew when it is lost.
//!
//! One task owns the connection; calls reach it through a bounded queue and are answered in the order in which they
//! were sent, as every Kafka broker answers. A call that is not answered in time closes the connection, as in Kafka's
//! clients: whatever comes next must not wait behind it. So calls that may take long (a fetch) and calls that may not
//! (a heartbeat) deserve a [`Peer`] each.
//!
//! Invariants: a call ends at its deadline at the latest; at most `IN_FLIGHT_MAX` calls are on the way and as many
//! wait; an answer is walked by the guard before it is decoded; memory for an answer grows with the bytes that arrived.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::env::{Duplex, Env};
use crate::wire::frame::{FrameBuffer, SIZE_BYTES};
use crate::wire::header::{self, RequestHead};
use crate::wire::{bridge, guard, schema};

/// Calls that are on the way at once; as many more wait in the queue, and a further one waits for a place.
const IN_FLIGHT_MAX: usize = 64;

/// The largest answer: a snapshot or a fetch of the largest batches.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Requests are collected up to this size while the socket takes no more.
const OUTGOING_BYTES: usize = 1 << 20;

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a call has no answer, in a sentence for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerFailed {
    /// The other side has not seen the request: it has no effect.
    NotSent(String),
    /// The other side may have seen the request, and may still act on it.
    Unanswered(String),
}

impl PeerFailed {
    /// True if the request may have an effect.
    pub fn may_have_been_seen(&self) -> bool {
        matches!(self, PeerFailed::Unanswered(_))
    }
}

impl fmt::Display for PeerFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (PeerFailed::NotSent(why) | PeerFailed::Unanswered(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for PeerFailed {}

/// A connection to one address. Cheap to clone; dropping the last handle closes the connection.
#[derive(Clone)]
pub struct Peer {
    env: Env,
    address: Arc<Address>,
    calls: mpsc::Sender<Call>,
}

/// A request on its way.
struct Call {
    api_key: i16,
    version: i16,
    body: Bytes,
    deadline: Instant,
    answer: oneshot::Sender<Result<Bytes, PeerFailed>>,
}

impl Peer {
    /// A handle; the connection is made by the first call.
    pub fn new(env: &Env, address: Address, client_id: &str) -> Peer {
        let (calls, queue) = mpsc::channel(IN_FLIGHT_MAX);
        let address = Arc::new(address);
        let link = Link { env: env.clone(), address: address.clone(), client_id: client_id.into(), queue, next_id: 0 };
        env.spawn(link.run());
        Peer { env: env.clone(), address, calls }
    }

    /// Where it leads.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a request and waits for its answer, for as long as `deadline` at most.
    pub async fn call<Q: Request>(
        &self,
        version: i16,
        request: &Q,
        deadline: Duration,
    ) -> Result<Q::Response, PeerFailed> {
        let body = encode(version, request).map_err(PeerFailed::NotSent)?;
        let answer = self.call_raw(Q::KEY, version, body, deadline).await?;
        decode::<Q>(version, answer).map_err(|why| {
            PeerFailed::Unanswered(format!("{}: the answer to API {} cannot be read: {why}", self.address, Q::KEY))
        })
    }

    /// Sends a body that is already encoded, and gives the body of the answer. The answer was not walked.
    pub async fn call_raw(
        &self,
        api_key: i16,
        version: i16,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerFailed> {
        let ended = || PeerFailed::NotSent(format!("{}: this node is ending", self.address));
        let (answer, answered) = oneshot::channel();
        let deadline = self.env.now() + deadline;
        let call = Call { api_key, version, body, deadline, answer };
        let sent = tokio::select! {
            biased;
            sent = self.calls.send(call) => sent,
            () = self.env.sleep_until(deadline) => return Err(late(&self.address, PeerFailed::NotSent)),
        };
        sent.map_err(|_| ended())?;
        tokio::select! {
            biased;
            answer = answered => answer.map_err(|_| ended())?,
            () = self.env.sleep_until(deadline) => Err(late(&self.address, PeerFailed::Unanswered)),
        }
    }
}

fn late(address: &Address, failed: fn(String) -> PeerFailed) -> PeerFailed {
    failed(format!("{address}: no answer in time"))
}

/// The body of a request of `version`. The error is a sentence for the log.
pub fn encode<Q: Request>(version: i16, request: &Q) -> Result<Bytes, String> {
    let known = bridge::via(Q::KEY, version);
    let mut body = BytesMut::new();
    request.encode(&mut body, known).map_err(|error| format!("API {} version {known}: {error}", Q::KEY))?;
    match (schema::request(Q::KEY, known), schema::request(Q::KEY, version)) {
        (Some(from), Some(to)) if known != version => {
            bridge::reshape(from, to, &body).map_err(|malformed| malformed.to_string())
        }
        _ => Ok(body.freeze()),
    }
}

/// The answer to a `Q` of `version` from its body, which is walked first. The error is a sentence for the log.
pub fn decode<Q: Request>(version: i16, body: Bytes) -> Result<Q::Response, String> {
    let shape = schema::response(Q::KEY, version).ok_or("an unknown version")?;
    guard::walk(shape, &body).map_err(|malformed| malformed.to_string())?;
    let known = bridge::via(Q::KEY, version);
    let mut body = match schema::response(Q::KEY, known) {
        Some(older) if known != version => {
            bridge::reshape(shape, older, &body).map_err(|malformed| malformed.to_string())?
        }
        _ => body,
    };
    Q::Response::decode(&mut body, known).map_err(|error| error.to_string())
}

/// The task that owns the connection.
struct Link {
    env: Env,
    address: Arc<Address>,
    client_id: Arc<str>,
    queue: mpsc::Receiver<Call>,
    next_id: i32,
}

/// A request whose answer is awaited.
struct InFlight {
    correlation_id: i32,
    api_key: i16,
    version: i16,
    deadline: Instant,
    answer: oneshot::Sender<Result<Bytes, PeerFailed>>,
}

impl Link {
    /// Runs until the last handle is gone.
    async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            match self.connect(first.deadline).await {
                Ok(stream) => {
                    let mut in_flight = VecDeque::new();
                    let ended = self.converse(stream, first, &mut in_flight).await;
                    let Some(why) = ended else { return };
                    tracing::debug!(peer = %self.address, why, "connection lost");
                    for call in in_flight {
                        // Whoever asked may have gone.
                        let why = format!("{}: {why}", self.address);
                        let _ = call.answer.send(Err(PeerFailed::Unanswered(why)));
                    }
                }
                Err(why) => self.refuse(first, &why),
            }
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Box<dyn Duplex>, String> {
        let patience = deadline.saturating_duration_since(self.env.now());
        match self.env.timeout(patience, self.env.net().connect(&self.address.host, self.address.port)).await {
            None => Err("does not accept in time".into()),
            Some(connected) => connected.map_err(|failure| failure.to_string()),
        }
    }

    /// Refuses `first` and everything that waited for the same connection.
    fn refuse(&mut self, first: Call, why: &str) {
        tracing::debug!(peer = %self.address, why, "cannot connect");
        let mut next = Some(first);
        while let Some(call) = next {
            let why = format!("{}: {why}", self.address);
            // Whoever asked may have gone.
            let _ = call.answer.send(Err(PeerFailed::NotSent(why)));
            next = self.queue.try_recv().ok();
        }
    }

    /// Sends and receives until the connection is of no use any more, and says why; `None` if nobody is left to call.
    async fn converse(
        &mut self,
        stream: Box<dyn Duplex>,
        first: Call,
        in_flight: &mut VecDeque<InFlight>,
    ) -> Option<String> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (mut incoming, mut outgoing) = (FrameBuffer::new(), BytesMut::new());
        self.send(first, &mut outgoing, in_flight);
        loop {
            let growth = incoming.growth();
            let deadline = in_flight.iter().map(|call| call.deadline).min();
            let has_room = in_flight.len() < IN_FLIGHT_MAX && outgoing.len() < OUTGOING_BYTES;
            let mut room = incoming.room(growth);
            tokio::select! {
                biased;
                read = reader.read_buf(&mut room) => match read {
                    Ok(0) => return Some("closed the connection".into()),
                    Ok(count) => {
                        incoming.arrived(count, growth);
                        if let Err(why) = receive(&mut incoming, in_flight) {
                            return Some(why);
                        }
                    }
                    Err(failure) => return Some(failure.to_string()),
                },
                written = writer.write_buf(&mut outgoing), if outgoing.has_remaining() => {
                    if let Err(failure) = written {
                        return Some(failure.to_string());
                    }
                }
                () = self.env.sleep_until(deadline.unwrap_or_else(|| self.env.now())), if deadline.is_some() => {
                    return Some("no answer in time".into());
                }
                call = self.queue.recv(), if has_room => self.send(call?, &mut outgoing, in_flight),
            }
        }
    }

    fn send(&mut self, call: Call, outgoing: &mut BytesMut, in_flight: &mut VecDeque<InFlight>) {
        let Call { api_key, version, body, deadline, answer } = call;
        if deadline <= self.env.now() || answer.is_closed() {
            let _ = answer.send(Err(late(&self.address, PeerFailed::NotSent)));
            return;
        }
        self.next_id = self.next_id.wrapping_add(1);
        let correlation_id = self.next_id;
        let head = RequestHead { api_key, version, correlation_id, client_id: self.client_id.clone() };
        let start = outgoing.len();
        outgoing.put_i32(0);
        header::put_request(outgoing, &head);
        outgoing.extend_from_slice(&body);
        let Ok(size) = i32::try_from(outgoing.len() - start - SIZE_BYTES) else {
            outgoing.truncate(start);
            let why = format!("{}: a request of {} bytes exceeds a frame", self.address, body.len());
            let _ = answer.send(Err(PeerFailed::NotSent(why)));
            return;
        };
        outgoing[start..start + SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        in_flight.push_back(InFlight { correlation_id, api_key, version, deadline, answer });
    }
}

/// Hands every answer that has arrived to whoever awaits it.
fn receive(incoming: &mut FrameBuffer, in_flight: &mut VecDeque<InFlight>) -> Result<(), String> {
    while let Some(frame) = incoming.take(ANSWER_BYTES_MAX).map_err(|refused| refused.to_string())? {
        let call = in_flight.front().ok_or("answers what was not asked")?;
        let parsed = header::parse_response(&frame, call.api_key, call.version);
        let (correlation_id, body) = parsed.map_err(|malformed| format!("answers with a bad header: {malformed}"))?;
        if correlation_id != call.correlation_id {
            return Err(format!("answers request {correlation_id} where {} is due", call.correlation_id));
        }
        if let Some(call) = in_flight.pop_front() {
            // Whoever asked may have gone.
            let _ = call.answer.send(Ok(body));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, BrokerHeartbeatRequest};
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::env::memory::MemoryNetwork;
    use crate::wire::PRIVATE_API;

    const DEADLINE: Duration = Duration::from_secs(1);

    /// A node that answers each request with what `answer` makes of it; `None` keeps silent.
    struct Node {
        network: MemoryNetwork,
        env: Env,
        connections: Arc<AtomicUsize>,
    }

    impl Node {
        async fn start(answer: fn(&RequestHead, &Bytes) -> Option<Bytes>) -> Node {
            let network = MemoryNetwork::new();
            let env = Env::simulated(1, 0, network.host("server"));
            let listener = env.net().bind("", 1).await.unwrap();
            let connections = Arc::new(AtomicUsize::new(0));
            let (spawner, count) = (env.clone(), connections.clone());
            env.spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    spawner.spawn(serve(stream, answer));
                }
            });
            Node { network, env, connections }
        }

        fn peer(&self) -> Peer {
            let env = Env::simulated(2, 0, self.network.host("client"));
            Peer::new(&env, Address { host: "server".into(), port: 1 }, "me")
        }

        fn connections(&self) -> usize {
            self.connections.load(Ordering::Relaxed)
        }
    }

    async fn serve(mut stream: Box<dyn Duplex>, answer: fn(&RequestHead, &Bytes) -> Option<Bytes>) {
        let mut incoming = FrameBuffer::new();
        while stream.read_buf(&mut incoming.room(1000)).await.is_ok_and(|count| count > 0) {
            while let Some(frame) = incoming.take(1 << 20).unwrap() {
                let (head, body) = header::parse(&frame).unwrap();
                let Some(body) = answer(&head, &body) else { continue };
                let mut out = BytesMut::new();
                header::put_response(&mut out, head.api_key, head.version, head.correlation_id);
                let size = (out.len() + body.len()) as i32;
                let frame = [&size.to_be_bytes()[..], &out, &body].concat();
                stream.write_all(&frame).await.unwrap();
            }
        }
    }

    async fn raw(peer: &Peer, body: &'static [u8]) -> Result<Bytes, PeerFailed> {
        peer.call_raw(PRIVATE_API, 0, Bytes::from_static(body), DEADLINE).await
    }

    #[tokio::test(start_paused = true)]
    async fn calls_share_one_connection_and_get_their_own_answers() {
        let node = Node::start(|_, body| Some(body.clone())).await;
        let peer = node.peer();
        assert_eq!(node.connections(), 0, "nothing was called");
        let calls = (0..200u8).map(|n| peer.call_raw(PRIVATE_API, 0, Bytes::from(vec![n; 1 + n as usize]), DEADLINE));
        for (n, answer) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap(), vec![n as u8; 1 + n]);
        }
        assert_eq!(node.connections(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_typed_call_is_walked_and_decoded() {
        let node = Node::start(|head, body| {
            assert_eq!((head.api_key, &*head.client_id), (18, "me"));
            if head.version == 3 {
                assert!(guard::walk(schema::request(18, 3).unwrap(), body).is_ok());
                let mut out = BytesMut::new();
                ApiVersionsResponse::default().with_throttle_time_ms(7).encode(&mut out, 3).unwrap();
                return Some(out.freeze());
            }
            // An array of two thousand million elements in eight bytes.
            Some(Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0]))
        })
        .await;
        let peer = node.peer();
        let answer = peer.call(3, &ApiVersionsRequest::default(), DEADLINE).await.unwrap();
        assert_eq!(answer.throttle_time_ms, 7);
        let failed = peer.call(0, &ApiVersionsRequest::default(), DEADLINE).await.unwrap_err();
        assert!(failed.may_have_been_seen() && failed.to_string().contains("array longer"), "{failed}");
        let failed = peer.call(-1, &BrokerHeartbeatRequest::default(), DEADLINE).await.unwrap_err();
        assert!(!failed.may_have_been_seen(), "{failed}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_deadline_and_costs_the_connection() {
        let node = Node::start(|_, body| (body[0] != b's').then(|| body.clone())).await;
        let peer = node.peer();
        let began = node.env.now();
        let (silent, behind) = tokio::join!(raw(&peer, b"s"), raw(&peer, b"s"));
        assert_eq!(node.env.now() - began, DEADLINE);
        assert!(silent.unwrap_err().may_have_been_seen() && behind.unwrap_err().may_have_been_seen());
        assert_eq!(raw(&peer, b"x").await.unwrap(), &b"x"[..]);
        assert_eq!(node.connections(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_there_is_said_at_once_and_a_cut_link_at_the_deadline() {
        let node = Node::start(|_, body| Some(body.clone())).await;
        let env = Env::simulated(2, 0, node.network.host("client"));
        let nobody = Peer::new(&env, Address { host: "server".into(), port: 2 }, "me");
        let began = env.now();
        assert!(!raw(&nobody, b"x").await.unwrap_err().may_have_been_seen());
        assert_eq!(env.now(), began);

        let peer = node.peer();
        assert!(raw(&peer, b"x").await.is_ok());
        node.network.cut("client", "server");
        assert!(raw(&peer, b"x").await.unwrap_err().may_have_been_seen());
        assert!(raw(&node.peer(), b"x").await.is_err());
        assert_eq!(env.now() - began, 2 * DEADLINE);
        node.network.heal();
        assert!(raw(&peer, b"x").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_handle_takes_the_connection_along() {
        let node = Node::start(|_, body| Some(body.clone())).await;
        let peer = node.peer();
        let other = peer.clone();
        drop(peer);
        assert!(raw(&other, b"x").await.is_ok());
        let calls = other.calls.downgrade();
        drop(other);
        Env::real().sleep(DEADLINE).await;
        assert!(calls.upgrade().is_none());
    }

    #[test]
    fn addresses_read_as_people_write_them() {
        let display = |host: &str| Address { host: host.into(), port: 9093 }.to_string();
        assert_eq!(display("kafka-1"), "kafka-1:9093");
        assert_eq!(display("::1"), "[::1]:9093");
    }
}
