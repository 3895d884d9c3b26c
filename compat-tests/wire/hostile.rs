//! Clients that lie: mutated, truncated, oversized and senseless frames over every API and version, on several
//! connections, while an honest client goes about its work.
//!
//! A hostile frame is followed by a plain request on the same connection. Its answer, or the end of the connection,
//! tells that the broker is through with the frame; nothing is guessed from the clock.
//!
//! Invariants: no frame ends the broker or panics one of its tasks; the honest client notices nothing; the process ends
//! up with little more memory than after the first thousand frames, and never had much more in between.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use kafka_protocol::messages::ApiVersionsRequest;
use ottla::api::table;
use ottla::wire::generate::Generator;
use ottla::wire::schema::{self, Message};

use crate::asks::{Topic, code, metadata};
use crate::batch::{Batch, as_sent, base_offset, batches};
use crate::broker::Broker;
use crate::client::{Client, PATIENCE, framed, is_end};

/// Frames after which an honest client has to get through.
const ROUND: usize = 1_000;
/// Connections that lie at the same time.
const ATTACKERS: usize = 4;
/// How much more memory the process may have in the end, and may have had at any moment, than after the first round.
const RESIDENT_BYTES_MAX: u64 = 64 << 20;
const PEAK_BYTES_MAX: u64 = 128 << 20;
/// The correlation id of the request behind a hostile frame.
const SENTINEL: i32 = 0x5e47_1e11;

/// How many frames: `OTTLA_FRAMES`, or a number that is over in seconds.
#[allow(clippy::disallowed_methods, reason = "a setting of the test, not of the broker")]
fn frames() -> usize {
    std::env::var("OTTLA_FRAMES").map_or(5_000, |count| count.parse().expect("a number"))
}

/// Every message that can be asked, in the order of keys and versions.
fn shapes() -> Vec<(i16, &'static Message)> {
    let versions = table::APIS.iter().flat_map(|api| api.versions.clone().map(|version| (api.key, version)));
    versions.map(|(key, version)| (version, schema::request(key, version).expect("a shape"))).collect()
}

/// What is sent, and whether the announced size is the real one.
struct Frame {
    bytes: Vec<u8>,
    is_whole: bool,
}

/// One lie about one message.
fn lie(generator: &mut Generator, version: i16, shape: &Message) -> Frame {
    let mut frame = vec![];
    frame.extend(shape.api_key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 3, b'l', b'i', b'e']);
    frame.extend((shape.header_version >= 2).then_some(0));
    let mut body = generator.body(shape).to_vec();
    match generator.below(10) {
        0 => {}
        1..=4 => {
            for _ in 0..=generator.below(3) {
                generator.mutate(&mut body);
            }
        }
        5 => {
            let count = [u32::MAX, i32::MAX as u32, 1 << 24, 100_000][generator.below(4)];
            let nth = generator.below(4);
            body = generator.attack(shape, nth, count).map_or(body, |attack| attack.to_vec());
        }
        6 => body = generator.noise(300),
        7 => generator.mutate(&mut frame),
        8 => {
            // Announces more than will ever come.
            frame.extend(body);
            let announced = [frame.len() + 1, 1 << 20, 100 << 20][generator.below(3)];
            let bytes = [&(announced as i32).to_be_bytes()[..], &frame].concat();
            return Frame { bytes, is_whole: false };
        }
        _ => {
            let announced = [i32::MIN, -1, i32::MAX, (100 << 20) + 1][generator.below(4)];
            let bytes = [&announced.to_be_bytes()[..], &frame, &body].concat();
            return Frame { bytes, is_whole: false };
        }
    }
    frame.extend(body);
    Frame { bytes: framed(&frame), is_whole: true }
}

/// One lying connection, which is opened anew whenever the broker has had enough of it.
struct Attacker {
    address: SocketAddr,
    stream: TcpStream,
    sentinel: Vec<u8>,
}

impl Attacker {
    fn new(address: SocketAddr) -> Attacker {
        let mut sentinel = Client::connect(address).frame(0, &ApiVersionsRequest::default());
        sentinel[8..12].copy_from_slice(&SENTINEL.to_be_bytes());
        Attacker { address, stream: open(address), sentinel }
    }

    /// Sends a frame and waits until the broker is through with it.
    fn attack(&mut self, frame: &Frame) {
        let sentinel: &[u8] = if frame.is_whole { &self.sentinel } else { &[] };
        let sent = self.stream.write_all(&[&frame.bytes, sentinel].concat());
        assert!(sent.is_ok() || sent.is_err_and(|error| is_end(&error)), "a write that does not end");
        if !frame.is_whole {
            // May be closed already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        while let Some(id) = self.answer() {
            if id == SENTINEL {
                return;
            }
        }
        self.stream = open(self.address);
    }

    /// The correlation id of the next answer; `None` at the end of the connection.
    fn answer(&mut self) -> Option<i32> {
        let mut head = [0; 8];
        self.fill(&mut head)?;
        let [a, b, c, d, id @ ..] = head;
        let size = i32::from_be_bytes([a, b, c, d]) as usize;
        self.fill(&mut vec![0; size - 4])?;
        Some(i32::from_be_bytes(id))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if is_end(&error) => None,
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    }
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the broker accepts");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// A client that writes and reads back, and knows what it must find.
pub struct Honest {
    client: Client,
    topic: Topic,
    written: i64,
}

impl Honest {
    /// On a topic of its own.
    pub fn new(broker: &Broker, name: &str) -> Honest {
        let mut client = broker.client();
        let topic = client.topic(name, 1, &[]);
        Honest { client, topic, written: 0 }
    }

    /// Writes a batch and reads it back.
    pub fn work(&mut self) {
        let batch = Batch::of(&["honest", "work"]).bytes();
        assert_eq!(self.client.append(&self.topic, 0, batch.clone()), self.written);
        let found = batches(&self.client.fetch(&self.topic, 0, self.written).records.expect("records"));
        assert_eq!(found.len(), 1);
        assert_eq!((base_offset(&found[0]), as_sent(&found[0])), (self.written, batch));
        self.written += 2;
    }
}

/// Bytes of memory that the process had at its fullest since this was last called, where the kernel counts anew; where
/// it does not, since the process began.
pub fn peak_from_now() -> u64 {
    // Not every kernel lets a process do this.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    memory("VmHWM")
}

/// How much fuller it has become since it had `peak`.
pub fn swollen_since(peak: u64) -> u64 {
    memory("VmHWM").saturating_sub(peak)
}

/// A number of kilobytes from `/proc/self/status`, in bytes.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    let kilobytes: u64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().expect("a number");
    kilobytes * 1024
}

/// One round: `ATTACKERS` connections lie, the honest client works all the while.
fn round(broker: &Broker, honest: &mut Honest, first: usize, count: usize) {
    let shapes = shapes();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let lying: Vec<_> = (0..ATTACKERS)
            .map(|place| {
                let (shapes, address) = (&shapes, broker.address());
                scope.spawn(move || {
                    let mut generator = Generator::new((first + place) as u64);
                    let mut attacker = Attacker::new(address);
                    for number in (first + place..first + count).step_by(ATTACKERS) {
                        let (version, shape) = shapes[number % shapes.len()];
                        attacker.attack(&lie(&mut generator, version, shape));
                    }
                })
            })
            .collect();
        let is_over = &is_over;
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                honest.work();
            }
        });
        let ended: Vec<_> = lying.into_iter().map(|thread| thread.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.expect("an attacker that was answered"));
    });
}

#[test]
fn lies_hurt_nobody() {
    let broker = Broker::alone(&[("auto.create.topics.enable", "false")]);
    let panics = count_panics();
    broker.client().coordinator("group");
    let (mut busy, mut bystander) = (Honest::new(&broker, "busy"), Honest::new(&broker, "bystander"));
    let frames = frames();
    let (mut resident, mut peak) = (0, 0);
    for first in (0..frames).step_by(ROUND) {
        round(&broker, &mut busy, first, ROUND.min(frames - first));
        bystander.work();
        broker.client().call(9, &metadata(9, &["busy"]));
        assert_eq!(panics.load(Ordering::Relaxed), 0, "a task of the broker panicked");
        if first == 0 {
            (resident, peak) = (memory("VmRSS"), peak_from_now());
        }
    }
    let grown = memory("VmRSS").saturating_sub(resident);
    assert!(grown < RESIDENT_BYTES_MAX, "{} MiB more after {frames} frames", grown >> 20);
    let swollen = swollen_since(peak);
    assert!(swollen < PEAK_BYTES_MAX, "{} MiB more at some moment of {frames} frames", swollen >> 20);
    assert!(busy.written >= 2 * (frames / ROUND) as i64, "the honest client worked in every round");
    drop(broker);
    // The usual report of panics is back for the tests that follow.
    drop(panic::take_hook());
}

/// Counts every panic of this process from now on.
fn count_panics() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
    count
}

#[test]
fn an_array_of_two_thousand_million_topics_costs_nothing() {
    let broker = Broker::alone(&[]);
    let mut honest = Honest::new(&broker, "honest");
    honest.work();
    let peak = peak_from_now();
    for version in 0..=13 {
        let mut client = broker.client();
        // The whole body: a count in four bytes, or in five where it is compact.
        let (header, count): (i16, &[u8]) =
            if version < 9 { (1, &[0x7f, 0xff, 0xff, 0xff]) } else { (2, &[0xff, 0xff, 0xff, 0xff, 0x07]) };
        let frame = client.frame_of(3, version, header, count);
        client.write(&frame).expect("the broker reads");
        client.assert_closed(&format!("Metadata v{version}"));
    }
    honest.work();
    let swollen = swollen_since(peak);
    assert!(swollen < 16 << 20, "{} MiB for {} topics that nobody named", swollen >> 20, i32::MAX);
}

#[test]
fn every_array_of_every_api_is_counted_before_it_is_believed() {
    let broker = Broker::alone(&[]);
    let mut honest = Honest::new(&broker, "honest");
    let peak = peak_from_now();
    let mut attacks = 0;
    for (version, shape) in shapes() {
        for nth in 0.. {
            let Some(body) = Generator::new(3).attack(shape, nth, i32::MAX as u32) else { break };
            let mut client = broker.client();
            let frame = client.frame_of(shape.api_key, version, shape.header_version, &body);
            client.write(&frame).expect("the broker reads");
            client.assert_closed(&format!("{} v{version}, array {nth}", shape.name));
            attacks += 1;
        }
    }
    assert!(attacks > 150, "{attacks} attacks");
    honest.work();
    let swollen = swollen_since(peak);
    assert!(swollen < 32 << 20, "{} MiB after {attacks} attacks", swollen >> 20);
    assert_eq!(honest.client.describe("honest").error_code, code::NONE);
}
