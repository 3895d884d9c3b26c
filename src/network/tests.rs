//! Connections over pipes in memory, with a clock that stands still: no test sleeps.
//!
//! A frame says what is to become of it: `now`, `silent`, `close`, `panic`, `park` (answered when the test says so),
//! `sleep <ms>`, `mute <ms>` (of the connection) or `big <bytes>`. Every answer repeats its frame, or has the bytes
//! that were asked for.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::config::{Config, Sources};
use crate::env::Net;
use crate::wire::reply::{Body, Response, ResponseTo};

/// Bytes that a pipe holds before its writer has to wait.
const PIPE_BYTES: usize = 64 * 1024;
const AN_HOUR: Duration = Duration::from_secs(3600);

/// A network of pipes with one listener.
#[derive(Default)]
struct Pipes {
    listener: Mutex<Option<mpsc::Sender<Arrival>>>,
    /// Writes by the broker.
    writes: Arc<Counter>,
}

/// The broker's end of a pipe.
struct Counted(DuplexStream, Arc<Counter>);

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, room)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write_vectored(cx, slices);
        self.1.add(u64::from(written.is_ready()));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

type Arrival = (Box<dyn Duplex>, SocketAddr);

struct PipeListener(tokio::sync::Mutex<mpsc::Receiver<Arrival>>);

impl Net for Pipes {
    fn bind<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let (sender, receiver) = mpsc::channel(16);
        *self.listener.lock() = Some(sender);
        let listener = PipeListener(tokio::sync::Mutex::new(receiver));
        Box::pin(async move { Ok(Box::new(listener) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let peer = SocketAddr::new(host.parse().unwrap(), port);
        let theirs = Counted(theirs, Arc::clone(&self.writes));
        let sent = self.listener.lock().as_ref().unwrap().try_send((Box::new(theirs), peer));
        Box::pin(async move {
            sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(Box::new(ours) as Box<dyn Duplex>)
        })
    }
}

impl Listener for PipeListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<Arrival>> {
        Box::pin(async { self.0.lock().await.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into()) })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 9092)))
    }
}

/// A network whose requests are answered by scripts.
struct World {
    env: Env,
    pipes: Arc<Pipes>,
    network: Network,
    handled: Arc<Mutex<Vec<String>>>,
    /// One permit answers one `park`.
    parked: Arc<Semaphore>,
    quotas: Arc<Quotas>,
}

fn limits() -> Limits {
    Limits {
        connections_max: 100,
        connections_per_ip_max: 100,
        connections_per_ip_overrides: BTreeMap::new(),
        connections_per_second_max: i32::MAX as u32,
        protected: None,
        by_listener: BTreeMap::new(),
        idle_max: Some(Duration::from_secs(600)),
        frame_bytes_max: 10 << 20,
        in_flight_bytes_max: 512 << 20,
    }
}

fn answer(bytes: &[u8]) -> Response {
    let to = ResponseTo { api_key: 3, version: 0, correlation_id: 0 };
    Response::with_body(to, Body::from_parts(vec![Bytes::copy_from_slice(bytes)])).unwrap()
}

/// Quotas without any quota.
fn quotas(env: &Env) -> Arc<Quotas> {
    Quotas::new(env, Config::load(Sources::default()).unwrap().config.broker())
}

/// What the scripts have seen and wait for.
#[derive(Clone)]
struct Script {
    env: Env,
    handled: Arc<Mutex<Vec<String>>>,
    parked: Arc<Semaphore>,
}

impl Script {
    fn new(env: &Env) -> Script {
        Script { env: env.clone(), handled: Arc::default(), parked: Arc::new(Semaphore::new(0)) }
    }

    fn dispatch(&self) -> Dispatch {
        let script = self.clone();
        Arc::new(move |connection, frame: Bytes| Box::pin(script.clone().run(connection, frame)))
    }

    async fn run(self, connection: Arc<Connection>, frame: Bytes) -> Outcome {
        let text = String::from_utf8_lossy(&frame[..frame.len().min(20)]).into_owned();
        self.handled.lock().push(text.clone());
        let (word, number) = text.split_once(' ').unwrap_or((&text, "0"));
        let number: usize = number.parse().unwrap_or(0);
        match word {
            "silent" => Outcome::Silent,
            "close" => Outcome::Close,
            "panic" => panic!("asked to"),
            "big" => Outcome::Now(answer(&vec![7; number])),
            "sleep" => {
                self.env.sleep(Duration::from_millis(number as u64)).await;
                Outcome::Now(answer(text.as_bytes()))
            }
            "mute" => {
                connection.mute.until(self.env.now() + Duration::from_millis(number as u64));
                Outcome::Now(answer(text.as_bytes()))
            }
            "park" => Outcome::Later(Box::pin(async move {
                self.parked.acquire().await.unwrap().forget();
                (number == 0).then(|| answer(text.as_bytes()))
            })),
            _ => Outcome::Now(answer(text.as_bytes())),
        }
    }
}

async fn world(limits: Limits) -> World {
    let pipes = Arc::new(Pipes::default());
    let env = Env::simulated(1, 0, Arc::clone(&pipes) as Arc<dyn Net>);
    let script = Script::new(&env);
    let setting = ListenerSetting { name: "PLAINTEXT".into(), host: String::new(), port: 9092, controller: false };
    let network = Listeners::bind(&env, &[setting]).await.unwrap();
    let quotas = quotas(&env);
    let network = network.serve(limits, quotas.clone(), script.dispatch());
    network.open();
    World { env, pipes, network, handled: script.handled, parked: script.parked, quotas }
}

impl World {
    async fn client(&self) -> Client {
        self.client_at("10.0.0.1").await
    }

    async fn client_at(&self, address: &str) -> Client {
        Client { env: self.env.clone(), stream: self.env.net().connect(address, 5000).await.unwrap() }
    }

    /// Lets every task run until all of them wait.
    async fn settle(&self) {
        // The clock only moves when nothing else can.
        self.env.sleep(Duration::from_millis(1)).await;
    }

    fn handled(&self) -> usize {
        self.handled.lock().len()
    }

    fn listener(&self) -> Arc<ListenerStats> {
        Arc::clone(&self.network.stats().listeners[0])
    }
}

struct Client {
    env: Env,
    stream: Box<dyn Duplex>,
}

impl Client {
    async fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(&[&(frame.len() as i32).to_be_bytes()[..], frame].concat()).await.unwrap();
    }

    /// The body of the next answer; `None` if the connection is closed.
    async fn answer(&mut self) -> Option<Vec<u8>> {
        let mut size = [0; 4];
        self.env.timeout(AN_HOUR, self.stream.read_exact(&mut size)).await.expect("an answer or the end").ok()?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.split_off(4))
    }

    async fn ask(&mut self, frame: &str) -> Option<String> {
        self.send(frame.as_bytes()).await;
        self.answer().await.map(|body| String::from_utf8(body).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_the_order_of_requests() {
    let world = world(limits()).await;
    let mut client = world.client().await;
    for frame in ["park", "now 1", "silent", "sleep 5", "park", "now 2"] {
        client.send(frame.as_bytes()).await;
    }
    world.env.sleep(Duration::from_millis(10)).await;
    assert_eq!(world.handled(), 6, "what is parked does not keep the next from being handled");
    world.parked.add_permits(2);
    for expected in ["park", "now 1", "sleep 5", "park", "now 2"] {
        assert_eq!(client.answer().await.as_deref(), Some(expected.as_bytes()));
    }
    let stats = world.listener();
    assert_eq!((stats.requests.value(), stats.responses.value()), (6, 5));
    assert_eq!(stats.bytes_in.value(), (4 * 6 + "parknow 1silentsleep 5parknow 2".len()) as u64);
    assert_eq!(world.network.in_flight_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_comes_after_the_answers_before_it() {
    let world = world(limits()).await;
    for closing in ["close", "park 1"] {
        let mut client = world.client().await;
        for frame in ["park", "now", closing, "now"] {
            client.send(frame.as_bytes()).await;
        }
        world.settle().await;
        world.parked.add_permits(2);
        assert_eq!(client.answer().await.as_deref(), Some(&b"park"[..]));
        assert_eq!(client.answer().await.as_deref(), Some(&b"now"[..]));
        assert_eq!(client.answer().await, None);
        world.parked.forget_permits(2);
    }
    assert_eq!(world.listener().open.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_sending_still_gets_its_answers() {
    let world = world(limits()).await;
    let mut client = world.client().await;
    client.send(b"park").await;
    client.stream.shutdown().await.unwrap();
    world.settle().await;
    world.parked.add_permits(1);
    assert_eq!(client.answer().await.as_deref(), Some(&b"park"[..]));
    assert_eq!(client.answer().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_connection_only() {
    let world = world(limits()).await;
    let (mut one, mut other) = (world.client().await, world.client().await);
    assert_eq!(other.ask("now").await.as_deref(), Some("now"));
    assert_eq!(one.ask("panic").await, None);
    assert_eq!(other.ask("now").await.as_deref(), Some("now"));
    let stats = world.listener();
    assert_eq!((stats.panicked.value(), stats.open.value(), stats.closed.value()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_not_read() {
    let world = world(limits()).await;
    let mut client = world.client().await;
    for _ in 0..100 {
        client.send(b"big 600000").await;
    }
    world.settle().await;
    // One is being written, and 1 MiB is queued behind it.
    assert!(world.handled() <= 5, "{} were handled", world.handled());
    for _ in 0..100 {
        assert_eq!(client.answer().await.unwrap().len(), 600_000);
    }
    for _ in 0..100 {
        client.send(b"park").await;
    }
    world.settle().await;
    assert!(world.handled() <= 100 + 34, "{} were handled", world.handled());
    world.parked.add_permits(100);
    for _ in 0..100 {
        assert!(client.answer().await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_and_waiting_ones_are_not() {
    let world = world(limits()).await;
    let (mut idle, mut waiting, mut stuck) = (world.client().await, world.client().await, world.client().await);
    waiting.send(b"park").await;
    stuck.stream.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
    let start = world.env.now();
    assert_eq!(idle.answer().await, None);
    assert_eq!(stuck.answer().await, None);
    assert_eq!((world.env.now() - start).as_secs(), 600);
    world.env.sleep(Duration::from_secs(700)).await;
    world.parked.add_permits(1);
    assert_eq!(waiting.answer().await.as_deref(), Some(&b"park"[..]));
    assert_eq!(world.listener().idle_closed.value(), 2);
    world.env.sleep(Duration::from_secs(590)).await;
    assert_eq!(waiting.ask("now").await.as_deref(), Some("now"), "it was idle for less than the limit");
    drop(waiting);
    // One that never reads what it asked for.
    let mut deaf = world.client().await;
    deaf.send(b"big 600000").await;
    world.env.sleep(Duration::from_secs(700)).await;
    assert_eq!(world.listener().open.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_too_large_close() {
    let world = world(limits()).await;
    for size in [-1i32, i32::MIN, i32::MAX, (10 << 20) + 1] {
        let mut client = world.client().await;
        client.send(b"now").await;
        client.stream.write_all(&size.to_be_bytes()).await.unwrap();
        assert_eq!(client.answer().await.as_deref(), Some(&b"now"[..]));
        assert_eq!(client.answer().await, None, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_limited_in_all_and_by_address() {
    let overrides = BTreeMap::from([("10.0.0.9".parse().unwrap(), 1)]);
    let tight =
        Limits { connections_max: 4, connections_per_ip_max: 2, connections_per_ip_overrides: overrides, ..limits() };
    let world = world(tight.clone()).await;
    let mut open = Vec::new();
    for (address, allowed) in
        [("10.0.0.1", true), ("10.0.0.1", true), ("10.0.0.1", false), ("10.0.0.9", true), ("10.0.0.9", false)]
    {
        let mut client = world.client_at(address).await;
        assert_eq!(client.try_ask().await, allowed, "{address}");
        open.extend(allowed.then_some(client));
    }
    assert_eq!((world.listener().open.value(), world.listener().refused.value()), (3, 2));
    open.push(world.client_at("10.0.0.2").await);
    let mut fifth = world.client_at("10.0.0.3").await;
    fifth.send(b"now").await;
    world.settle().await;
    assert!(world.network.stats().connections().eq([("PLAINTEXT", 4)]), "the fifth waits for a place");
    open.clear();
    assert_eq!(fifth.answer().await.as_deref(), Some(&b"now"[..]));
    world.network.limit(Limits { connections_per_ip_max: 0, ..tight });
    assert!(!world.client_at("10.0.0.4").await.try_ask().await);
}

#[tokio::test(start_paused = true)]
async fn limits_change_while_connections_wait() {
    let of_listener = |connections_max| {
        let own = ListenerLimits { connections_max, connections_per_second_max: u32::MAX };
        Limits { by_listener: BTreeMap::from([("PLAINTEXT".to_owned(), own)]), ..limits() }
    };
    let world = world(of_listener(1)).await;
    let mut first = world.client().await;
    assert!(first.try_ask().await);
    let mut second = world.client().await;
    second.send(b"now").await;
    world.settle().await;
    assert!(world.network.stats().connections().eq([("PLAINTEXT", 1)]), "the second waits for a place");
    world.network.limit(of_listener(2));
    assert_eq!(second.answer().await.as_deref(), Some(&b"now"[..]), "the listener has more room now");
    world.network.limit(Limits { connections_max: 2, ..limits() });
    let mut third = world.client().await;
    third.send(b"now").await;
    world.settle().await;
    assert!(world.network.stats().connections().eq([("PLAINTEXT", 2)]), "the broker has less");
    drop(first);
    assert_eq!(third.answer().await.as_deref(), Some(&b"now"[..]));
}

#[tokio::test(start_paused = true)]
async fn fewer_places_close_the_connections_silent_longest() {
    let world = world(limits()).await;
    let (mut silent, mut busy) = (world.client().await, world.client().await);
    assert!(silent.try_ask().await);
    world.env.sleep(Duration::from_secs(1)).await;
    assert!(busy.try_ask().await);
    world.network.limit(Limits { connections_max: 1, ..limits() });
    assert_eq!(silent.answer().await, None, "closed");
    assert!(busy.try_ask().await);
}

impl Client {
    /// True if the connection answers.
    async fn try_ask(&mut self) -> bool {
        self.stream.write_all(&[0, 0, 0, 3, b'n', b'o', b'w']).await.is_ok() && self.answer().await.is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_paced() {
    let world = world(Limits { connections_per_second_max: 10, ..limits() }).await;
    let start = world.env.now();
    for _ in 0..21 {
        assert!(world.client().await.try_ask().await);
    }
    assert_eq!((world.env.now() - start).as_millis(), 2000);
}

#[tokio::test(start_paused = true)]
async fn a_muted_connection_is_answered_and_then_not_read() {
    let world = world(limits()).await;
    let (mut muted, mut other) = (world.client().await, world.client().await);
    let start = world.env.now();
    let elapsed_ms = || (world.env.now() - start).as_millis();
    for frame in ["park", "mute 5000", "now"] {
        muted.send(frame.as_bytes()).await;
    }
    world.settle().await;
    assert_eq!(world.handled(), 2, "what came behind waits");
    world.parked.add_permits(1);
    assert_eq!(muted.answer().await.as_deref(), Some(&b"park"[..]));
    assert_eq!(muted.answer().await.as_deref(), Some(&b"mute 5000"[..]));
    assert_eq!(other.ask("now").await.as_deref(), Some("now"));
    assert!(elapsed_ms() < 10, "answers are not kept back, and nobody else is");
    assert_eq!(muted.answer().await.as_deref(), Some(&b"now"[..]));
    assert_eq!(elapsed_ms(), 5000);
    muted.ask("mute 3600000").await;
    world.network.stop(Duration::from_secs(1)).await;
    assert_eq!(muted.answer().await, None, "a stop does not wait for it");
}

#[tokio::test(start_paused = true)]
async fn an_address_above_its_quota_is_turned_away() {
    let world = world(limits()).await;
    world.quotas.limit_address("10.0.0.1", 2.0);
    for _ in 0..20 {
        assert!(world.client().await.try_ask().await, "the burst of ten seconds");
    }
    let start = world.env.now();
    let mut early = world.client().await;
    assert!(!early.try_ask().await);
    assert_eq!((world.env.now() - start).as_millis(), 500, "it is closed when the next may come");
    assert_eq!(world.listener().refused.value(), 1);
    assert!(world.client().await.try_ask().await);
    assert!(world.client_at("10.0.0.2").await.try_ask().await);
}

#[tokio::test(start_paused = true)]
async fn stopping_answers_what_was_asked_and_closes_the_rest() {
    let world = world(limits()).await;
    let (mut idle, mut asking) = (world.client().await, world.client().await);
    asking.send(b"sleep 5000").await;
    world.settle().await;
    let start = world.env.now();
    let (_, answered, closed) =
        tokio::join!(world.network.stop(Duration::from_secs(60)), asking.answer(), idle.answer());
    assert_eq!((answered.as_deref(), closed), (Some(&b"sleep 5000"[..]), None));
    assert_eq!((world.env.now() - start).as_secs(), 4, "it took as long as the request");
    assert_eq!(asking.answer().await, None);
    assert_eq!(world.listener().open.value(), 0);
    assert!(world.env.net().connect("10.0.0.1", 1).await.is_err(), "nobody listens");
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_longer_than_its_grace() {
    let world = world(limits()).await;
    let mut parked = world.client().await;
    parked.send(b"park").await;
    world.settle().await;
    let start = world.env.now();
    world.network.stop(Duration::from_secs(2)).await;
    assert_eq!((world.env.now() - start).as_secs(), 2);
    assert_eq!(parked.answer().await, None);
    assert_eq!(world.listener().open.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn big_frames_share_a_small_budget_and_all_get_through() {
    let world = world(Limits { in_flight_bytes_max: 3 << 20, ..limits() }).await;
    let frame = [&b"now"[..], &[b' '; 8 << 20]].concat();
    let mut clients = Vec::new();
    for _ in 0..6 {
        let (mut client, frame) = (world.client().await, frame.clone());
        clients.push(world.env.spawn(async move {
            client.send(&frame).await;
            client.answer().await.is_some()
        }));
    }
    for client in clients {
        assert!(world.env.timeout(AN_HOUR, client).await.unwrap().unwrap());
    }
    assert_eq!(world.network.in_flight_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_big_frame_holds_little_and_cannot_keep_the_overdraft() {
    let world = world(Limits { in_flight_bytes_max: 3 << 20, ..limits() }).await;
    let start_frame = |announced: i32, sent: usize| [&announced.to_be_bytes()[..], &vec![b'x'; sent]].concat();
    let mut announcer = world.client().await;
    announcer.stream.write_all(&start_frame(9 << 20, 0)).await.unwrap();
    world.settle().await;
    assert!(world.network.in_flight_bytes() <= 1 << 21, "{}", world.network.in_flight_bytes());
    // Two more take the rest of the room and stall; the last of them holds the overdraft.
    let (mut one, mut other) = (world.client().await, world.client().await);
    one.stream.write_all(&start_frame(9 << 20, 2 << 20)).await.unwrap();
    other.stream.write_all(&start_frame(9 << 20, 1 << 20)).await.unwrap();
    world.settle().await;
    let mut small = world.client().await;
    assert_eq!(small.ask("now").await.as_deref(), Some("now"), "small frames do not wait");
    let mut big = world.client().await;
    let frame = [&b"now"[..], &[b' '; 1 << 20]].concat();
    let start = world.env.now();
    big.send(&frame).await;
    assert!(big.answer().await.is_some());
    assert!((world.env.now() - start).as_secs() <= 60, "{:?}", world.env.now() - start);
}

#[tokio::test(start_paused = true)]
async fn ready_responses_are_written_together() {
    let world = world(limits()).await;
    let mut client = world.client().await;
    let frame = [&[0, 0, 0, 3][..], b"now"].concat();
    client.stream.write_all(&frame.repeat(20)).await.unwrap();
    for _ in 0..20 {
        assert!(client.answer().await.is_some());
    }
    assert_eq!(world.pipes.writes.value(), 1);
    client.stream.write_all(&[&[0, 0, 0, 4][..], b"park", &frame.repeat(5)].concat()).await.unwrap();
    world.settle().await;
    world.parked.add_permits(1);
    for _ in 0..6 {
        assert!(client.answer().await.is_some());
    }
    assert_eq!(world.pipes.writes.value(), 2);
}

#[tokio::test]
async fn over_real_sockets() {
    let env = Env::real();
    let setting = ListenerSetting { name: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: 0, controller: false };
    let listeners = Listeners::bind(&env, std::slice::from_ref(&setting)).await.unwrap();
    let (name, address) = listeners.addresses().next().unwrap();
    assert_eq!(name, "PLAINTEXT");
    let taken = ListenerSetting { port: address.port(), ..setting };
    let refused = Listeners::bind(&env, &[taken]).await.err().unwrap();
    assert!(refused.to_string().starts_with("listener PLAINTEXT cannot bind 127.0.0.1:"), "{refused}");
    let network = listeners.serve(limits(), quotas(&env), Script::new(&env).dispatch());
    network.open();
    let stream = env.net().connect("127.0.0.1", address.port()).await.unwrap();
    let mut client = Client { env: env.clone(), stream };
    client.send(b"big 5000000").await;
    assert_eq!(client.answer().await.map(|body| body.len()), Some(5_000_000));
    client.send(&[b' '; 5_000_000]).await;
    assert_eq!(client.answer().await.map(|body| body.len()), Some(20));
    network.stop(Duration::from_secs(10)).await;
    assert_eq!(client.answer().await, None);
    assert_eq!(network.stats().total(|listener| &listener.responses), 2);
}
