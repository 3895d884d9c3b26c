//! Replays pre-encoded Kafka requests over many connections, so that the broker is the limit and not its client.
//!
//! Nothing but the standard library: `rustc -O` builds it in seconds. A produce request is encoded once for each
//! connection and partition; only its correlation id changes. A fetch response is read for its error codes, sizes and
//! base offsets, and its record bytes are thrown away. Versions are the newest ones that are not flexible and that
//! Kafka 4 serves: Produce 8, Fetch 11, CreateTopics 4, Metadata 8, ListOffsets 5.
//!
//! The line `ready` says that every connection stands; one line of JSON is the result. Latencies are from the send, or
//! at a fixed rate from the moment when the schedule wanted the send, so that a stalled broker is not spared
//! (coordinated omission).

use std::collections::VecDeque;
use std::env;
use std::fmt::Write as _;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "\
usage: replay <command> --broker HOST:PORT --topic NAME [option value]...

  create   --partitions N                      a topic with N partitions, one replica
  produce  --bytes N                           until N bytes of record values were acknowledged
           --partitions 1  --connections 1     connection c writes to the partitions p with p % connections == c
           --record 1024   --batch 16384       bytes of a record's value, bytes of a batch (uncompressed)
           --per-request 1                     batches (partitions) in one request
           --in-flight 5   --acks -1           requests without an answer per connection
           --rate 0                            bytes per second over all connections; 0 is as fast as possible
  fetch    --bytes N                           until N bytes of batches were read, on all connections together
           --partitions 1  --connections 1     connection c reads the partitions p with p % connections == c
           --max 1048576   --total 52428800    partition and response limits, as the Java client's
           --wait 500      --min 1             as fetch.max.wait.ms and fetch.min.bytes
  tail     --seconds N --connections N         every connection reads every partition from its end, for N seconds
           --partitions 1
";

type Outcome<T> = Result<T, String>;

struct Options(Vec<(String, String)>);

impl Options {
    fn text(&self, name: &str, default: Option<&str>) -> Outcome<String> {
        let given = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        given.or(default.map(str::to_owned)).ok_or_else(|| format!("--{name} is missing\n\n{HELP}"))
    }

    fn number(&self, name: &str, default: Option<u64>) -> Outcome<u64> {
        let text = self.text(name, default.map(|number| number.to_string()).as_deref())?;
        text.parse().map_err(|_| format!("--{name} {text}: not a number"))
    }
}

fn main() -> ExitCode {
    match run(env::args().skip(1).collect()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Outcome<String> {
    let Some((command, rest)) = arguments.split_first() else { return Err(HELP.into()) };
    let mut options = Vec::new();
    for pair in rest.chunks(2) {
        match pair {
            [name, value] if name.starts_with("--") => options.push((name[2..].to_owned(), value.clone())),
            _ => return Err(format!("{pair:?}: an option and its value were expected\n\n{HELP}")),
        }
    }
    let options = Options(options);
    match command.as_str() {
        "create" => create(&options),
        "produce" => produce(&options),
        "fetch" => fetch(&options),
        "tail" => tail(&options),
        _ => Err(HELP.into()),
    }
}

// ---- bytes ---------------------------------------------------------------------------------------------------------

fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| (0..8).fold(byte, |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 }))
        .collect();
    !bytes.iter().fold(!0u32, |sum, byte| (sum >> 8) ^ table[usize::from(sum as u8 ^ byte)])
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A batch of records without keys, whose values are letters that compress like text; returns it and its record count.
fn batch(record_bytes: usize, batch_bytes: usize, seed: u64) -> (Vec<u8>, u64) {
    let mut noise = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut records = Vec::new();
    let mut count = 0i64;
    while count == 0 || records.len() + record_bytes + 12 <= batch_bytes.saturating_sub(61) {
        let mut record = vec![0u8];
        put_varint(&mut record, 0);
        put_varint(&mut record, count);
        put_varint(&mut record, -1);
        put_varint(&mut record, record_bytes as i64);
        record.extend((0..record_bytes).map(|_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            b'A' + (noise % 26) as u8
        }));
        put_varint(&mut record, 0);
        put_varint(&mut records, record.len() as i64);
        records.extend(record);
        count += 1;
    }
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64);
    let mut body = Vec::new();
    body.extend(0i16.to_be_bytes());
    body.extend((count as i32 - 1).to_be_bytes());
    body.extend(now.to_be_bytes());
    body.extend(now.to_be_bytes());
    body.extend((-1i64).to_be_bytes());
    body.extend((-1i16).to_be_bytes());
    body.extend((-1i32).to_be_bytes());
    body.extend((count as i32).to_be_bytes());
    body.extend(records);
    let mut batch = Vec::new();
    batch.extend(0i64.to_be_bytes());
    batch.extend((body.len() as i32 + 9).to_be_bytes());
    batch.extend((-1i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&body).to_be_bytes());
    batch.extend(body);
    (batch, count as u64)
}

const CORRELATION_AT: usize = 8;

/// A whole frame: size, header, body.
fn frame(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(api.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(0i32.to_be_bytes());
    put_text(&mut out, "replay");
    out.extend(body);
    let size = (out.len() as i32 - 4).to_be_bytes();
    out[..4].copy_from_slice(&size);
    out
}

/// Reads fields out of a response; running out of bytes is an error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        if count > self.0.len() {
            return Err("a response ended early".into());
        }
        let (head, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(head)
    }

    fn number(&mut self, bytes: usize) -> Outcome<i64> {
        let taken = self.take(bytes)?;
        let first = if taken[0] >= 0x80 { -1 } else { 0 };
        Ok(taken.iter().fold(first, |value, byte| (value << 8) | i64::from(*byte)))
    }

    fn text(&mut self) -> Outcome<&'a [u8]> {
        let length = self.number(2)?.max(0) as usize;
        self.take(length)
    }
}

// ---- connections ---------------------------------------------------------------------------------------------------

struct Peer {
    stream: TcpStream,
    input: BufReader<TcpStream>,
    response: Vec<u8>,
}

fn said(what: &str) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}

impl Peer {
    fn connect(broker: &str) -> Outcome<Peer> {
        let stream = TcpStream::connect(broker).map_err(said(broker))?;
        stream.set_nodelay(true).map_err(said(broker))?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(said(broker))?;
        let input = BufReader::with_capacity(256 * 1024, stream.try_clone().map_err(said(broker))?);
        Ok(Peer { stream, input, response: Vec::new() })
    }

    fn send(&mut self, frame: &mut [u8], correlation: i32) -> Outcome<()> {
        frame[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation.to_be_bytes());
        self.stream.write_all(frame).map_err(said("send"))
    }

    /// The body of the next response, which must be the answer to `correlation`.
    fn receive(&mut self, correlation: i32) -> Outcome<&[u8]> {
        let mut size = [0; 4];
        self.input.read_exact(&mut size).map_err(said("receive"))?;
        self.response.resize(u32::from_be_bytes(size) as usize, 0);
        self.input.read_exact(&mut self.response).map_err(said("receive"))?;
        let mut fields = Fields(&self.response);
        let answered = fields.number(4)?;
        if answered != i64::from(correlation) {
            return Err(format!("response {answered} came for request {correlation}"));
        }
        Ok(&self.response[4..])
    }

    fn ask(&mut self, api: i16, version: i16, body: &[u8]) -> Outcome<&[u8]> {
        self.send(&mut frame(api, version, body), 0)?;
        self.receive(0)
    }
}

// ---- create --------------------------------------------------------------------------------------------------------

fn create(options: &Options) -> Outcome<String> {
    let (broker, topic) = (options.text("broker", None)?, options.text("topic", None)?);
    let partitions = options.number("partitions", Some(1))?;
    let mut body = Vec::new();
    body.extend(1i32.to_be_bytes());
    put_text(&mut body, &topic);
    body.extend((partitions as i32).to_be_bytes());
    body.extend(1i16.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body.extend(120_000i32.to_be_bytes());
    body.push(0);
    let mut peer = Peer::connect(&broker)?;
    let mut fields = Fields(peer.ask(19, 4, &body)?);
    fields.take(8)?;
    fields.text()?;
    match fields.number(2)? {
        0 | 36 => {}
        code => return Err(format!("create {topic}: error {code}")),
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while leaders(&mut peer, &topic)? < partitions {
        if Instant::now() > deadline {
            return Err(format!("{topic} has no leaders after 120 s"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(format!("{{\"topic\":\"{topic}\",\"partitions\":{partitions}}}"))
}

/// Partitions of the topic that have a leader.
fn leaders(peer: &mut Peer, topic: &str) -> Outcome<u64> {
    let mut body = Vec::new();
    body.extend(1i32.to_be_bytes());
    put_text(&mut body, topic);
    body.extend([0, 0, 0]);
    let mut fields = Fields(peer.ask(3, 8, &body)?);
    fields.take(4)?;
    for _ in 0..fields.number(4)? {
        fields.take(4)?;
        fields.text()?;
        fields.take(4)?;
        fields.text()?;
    }
    fields.text()?;
    fields.take(4)?;
    let mut led = 0;
    for _ in 0..fields.number(4)? {
        fields.take(2)?;
        fields.text()?;
        fields.take(1)?;
        for _ in 0..fields.number(4)? {
            let code = fields.number(2)?;
            fields.take(4)?;
            let leader = fields.number(4)?;
            fields.take(4)?;
            for _ in 0..3 {
                let count = fields.number(4)?.max(0) as usize;
                fields.take(count * 4)?;
            }
            led += u64::from(code == 0 && leader >= 0);
        }
        fields.take(4)?;
    }
    Ok(led)
}

// ---- produce -------------------------------------------------------------------------------------------------------

struct Line {
    frames: Vec<Vec<u8>>,
    value_bytes: u64,
}

/// The requests of connection `number`.
fn line(options: &Options, number: u64) -> Outcome<Line> {
    let topic = options.text("topic", None)?;
    let (partitions, connections) = (options.number("partitions", Some(1))?, options.number("connections", Some(1))?);
    let (record, size) = (options.number("record", Some(1024))?, options.number("batch", Some(16384))?);
    let per_request = options.number("per-request", Some(1))?.max(1) as usize;
    let acks: i16 = options.text("acks", Some("-1"))?.parse().map_err(|_| "--acks is -1, 0 or 1")?;
    let (batch, count) = batch(record as usize, size as usize, number + 1);
    let mut mine: Vec<u64> = (0..partitions).filter(|partition| partition % connections == number).collect();
    if mine.is_empty() {
        // More connections than partitions: they share.
        mine.push(number % partitions);
    }
    let mut frames = Vec::new();
    for group in mine.chunks(per_request) {
        let mut body = Vec::new();
        body.extend((-1i16).to_be_bytes());
        body.extend(acks.to_be_bytes());
        body.extend(30_000i32.to_be_bytes());
        body.extend(1i32.to_be_bytes());
        put_text(&mut body, &topic);
        body.extend((group.len() as i32).to_be_bytes());
        for partition in group {
            body.extend((*partition as i32).to_be_bytes());
            body.extend((batch.len() as i32).to_be_bytes());
            body.extend(&batch);
        }
        frames.push(frame(0, 8, &body));
    }
    let batches = mine.len().min(per_request) as u64;
    Ok(Line { frames, value_bytes: count * record * batches })
}

fn check_produced(body: &[u8]) -> Outcome<()> {
    let mut fields = Fields(body);
    for _ in 0..fields.number(4)? {
        fields.text()?;
        for _ in 0..fields.number(4)? {
            let (partition, code) = (fields.number(4)?, fields.number(2)?);
            if code != 0 {
                return Err(format!("partition {partition}: error {code}"));
            }
            fields.take(24)?;
            if fields.number(4)? != 0 || fields.number(2)? >= 0 {
                return Err("record errors without an error".into());
            }
        }
    }
    Ok(())
}

fn produce(options: &Options) -> Outcome<String> {
    let connections = options.number("connections", Some(1))?.max(1);
    let (total, rate) = (options.number("bytes", None)?, options.number("rate", Some(0))?);
    let (window, broker) = (options.number("in-flight", Some(5))?.max(1) as usize, options.text("broker", None)?);
    let left = Arc::new(AtomicI64::new(total as i64));
    let done = Arc::new(AtomicU64::new(0));
    until_led(&broker, &options.text("topic", None)?, options.number("partitions", Some(1))?)?;
    let run = together(connections, |number| {
        let line = line(options, number)?;
        let peer = Peer::connect(&broker)?;
        let (left, done) = (left.clone(), done.clone());
        Ok(move |start: Instant| produce_line(peer, line, window, rate / connections, &left, &done, start))
    })?;
    Ok(run.report(done.load(Ordering::Relaxed)))
}

fn produce_line(
    mut peer: Peer,
    mut line: Line,
    window: usize,
    rate: u64,
    left: &AtomicI64,
    done: &AtomicU64,
    start: Instant,
) -> Outcome<Vec<u32>> {
    let mut latencies = Vec::new();
    let mut sent: VecDeque<(i32, Instant)> = VecDeque::new();
    let (mut correlation, mut frames) = (0i32, 0usize);
    let gap = if rate == 0 { None } else { Some(Duration::from_secs_f64(line.value_bytes as f64 / rate as f64)) };
    let mut more = true;
    while more || !sent.is_empty() {
        more = more && left.load(Ordering::Relaxed) > 0;
        if more && sent.len() < window {
            let mut at = Instant::now();
            let mut due = true;
            if let Some(gap) = gap {
                let planned = start + gap * correlation as u32;
                if planned > at {
                    if sent.is_empty() {
                        thread::sleep(planned - at);
                    } else {
                        due = false;
                    }
                }
                at = planned;
            }
            if due {
                if left.fetch_sub(line.value_bytes as i64, Ordering::Relaxed) <= 0 {
                    more = false;
                    continue;
                }
                let index = frames % line.frames.len();
                peer.send(&mut line.frames[index], correlation)?;
                sent.push_back((correlation, at));
                (correlation, frames) = (correlation + 1, frames + 1);
                continue;
            }
        }
        if let Some((asked, at)) = sent.pop_front() {
            check_produced(peer.receive(asked)?)?;
            latencies.push(at.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
            done.fetch_add(line.value_bytes, Ordering::Relaxed);
        }
    }
    Ok(latencies)
}

// ---- fetch ---------------------------------------------------------------------------------------------------------

struct Cursor {
    partition: i32,
    offset: i64,
}

fn fetch_body(topic: &str, cursors: &[Cursor], wait: u64, min: u64, total: u64, max: u64) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes());
    body.extend((wait as i32).to_be_bytes());
    body.extend((min as i32).to_be_bytes());
    body.extend((total as i32).to_be_bytes());
    body.push(0);
    body.extend(0i32.to_be_bytes());
    body.extend((-1i32).to_be_bytes());
    body.extend(1i32.to_be_bytes());
    put_text(&mut body, topic);
    body.extend((cursors.len() as i32).to_be_bytes());
    for cursor in cursors {
        body.extend(cursor.partition.to_be_bytes());
        body.extend((-1i32).to_be_bytes());
        body.extend(cursor.offset.to_be_bytes());
        body.extend((-1i64).to_be_bytes());
        body.extend((max as i32).to_be_bytes());
    }
    body.extend(0i32.to_be_bytes());
    put_text(&mut body, "");
    body
}

/// Moves the cursors on; returns the bytes of batches and of how many partitions.
fn take_fetched(body: &[u8], cursors: &mut [Cursor]) -> Outcome<u64> {
    let mut fields = Fields(body);
    fields.take(4)?;
    let code = fields.number(2)?;
    if code != 0 {
        return Err(format!("fetch: error {code}"));
    }
    fields.take(4)?;
    let mut bytes = 0;
    for _ in 0..fields.number(4)? {
        fields.text()?;
        for _ in 0..fields.number(4)? {
            let (partition, code) = (fields.number(4)?, fields.number(2)?);
            if code != 0 {
                return Err(format!("fetch of partition {partition}: error {code}"));
            }
            fields.take(24)?;
            if fields.number(4)? > 0 {
                return Err("aborted transactions where there were none".into());
            }
            fields.take(4)?;
            let length = fields.number(4)?.max(0) as usize;
            let mut records = Fields(fields.take(length)?);
            bytes += length as u64;
            let cursor = cursors.iter_mut().find(|cursor| i64::from(cursor.partition) == partition);
            let cursor = cursor.ok_or("a partition that nobody asked for")?;
            while records.0.len() >= 61 {
                let (base, rest) = (records.number(8)?, records.number(4)? as usize);
                if rest > records.0.len() {
                    break;
                }
                let mut batch = Fields(records.take(rest)?);
                batch.take(11)?;
                let next = base + batch.number(4)? + 1;
                if next <= cursor.offset || base > cursor.offset {
                    return Err(format!("batch {base} to {next} came for offset {}", cursor.offset));
                }
                cursor.offset = next;
            }
        }
    }
    Ok(bytes)
}

fn fetch(options: &Options) -> Outcome<String> {
    let connections = options.number("connections", Some(1))?.max(1);
    let partitions = options.number("partitions", Some(1))?;
    let (broker, topic) = (options.text("broker", None)?, options.text("topic", None)?);
    let (max, total) = (options.number("max", Some(1 << 20))?, options.number("total", Some(50 << 20))?);
    let (wait, min) = (options.number("wait", Some(500))?, options.number("min", Some(1))?);
    let bytes = options.number("bytes", None)?;
    let left = Arc::new(AtomicI64::new(bytes as i64));
    let done = Arc::new(AtomicU64::new(0));
    let run = together(connections, |number| {
        let mut cursors: Vec<Cursor> = (0..partitions)
            .filter(|partition| partition % connections == number)
            .map(|partition| Cursor { partition: partition as i32, offset: 0 })
            .collect();
        let mut peer = Peer::connect(&broker)?;
        let (left, done, topic) = (left.clone(), done.clone(), topic.clone());
        Ok(move |_: Instant| {
            let (mut latencies, mut correlation) = (Vec::new(), 0);
            let mut quiet = 0;
            while left.load(Ordering::Relaxed) > 0 && !cursors.is_empty() {
                let at = Instant::now();
                // The first partition of the last answer goes to the end, as clients do.
                cursors.rotate_left(1);
                peer.send(&mut frame(1, 11, &fetch_body(&topic, &cursors, wait, min, total, max)), correlation)?;
                let got = take_fetched(peer.receive(correlation)?, &mut cursors)?;
                quiet = if got == 0 { quiet + 1 } else { 0 };
                if quiet >= 4 {
                    // Connections share one count, and this one has read all of its partitions.
                    return Ok(latencies);
                }
                left.fetch_sub(got as i64, Ordering::Relaxed);
                done.fetch_add(got, Ordering::Relaxed);
                latencies.push(at.elapsed().as_micros() as u32);
                correlation += 1;
            }
            Ok(latencies)
        })
    })?;
    Ok(run.report(done.load(Ordering::Relaxed)))
}

/// The log end of every partition.
fn ends(peer: &mut Peer, topic: &str, partitions: u64) -> Outcome<Vec<Cursor>> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes());
    body.push(0);
    body.extend(1i32.to_be_bytes());
    put_text(&mut body, topic);
    body.extend((partitions as i32).to_be_bytes());
    for partition in 0..partitions {
        body.extend((partition as i32).to_be_bytes());
        body.extend((-1i32).to_be_bytes());
        body.extend((-1i64).to_be_bytes());
    }
    let mut fields = Fields(peer.ask(2, 5, &body)?);
    fields.take(8)?;
    fields.text()?;
    let mut cursors = Vec::new();
    for _ in 0..fields.number(4)? {
        let (partition, code) = (fields.number(4)?, fields.number(2)?);
        if code != 0 {
            return Err(format!("end of partition {partition}: error {code}"));
        }
        fields.take(8)?;
        cursors.push(Cursor { partition: partition as i32, offset: fields.number(8)? });
        fields.take(4)?;
    }
    Ok(cursors)
}

/// Waits until the broker itself knows that it leads: it may name a leader in its metadata a moment before.
fn until_led(broker: &str, topic: &str, partitions: u64) -> Outcome<()> {
    let mut peer = Peer::connect(broker)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match ends(&mut peer, topic, partitions) {
            Ok(_) => return Ok(()),
            Err(reason) if Instant::now() > deadline => return Err(reason),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn tail(options: &Options) -> Outcome<String> {
    let connections = options.number("connections", Some(1))?.max(1);
    let (broker, topic) = (options.text("broker", None)?, options.text("topic", None)?);
    let (partitions, seconds) = (options.number("partitions", Some(1))?, options.number("seconds", None)?);
    let done = Arc::new(AtomicU64::new(0));
    let run = together(connections, |_| {
        let mut peer = Peer::connect(&broker)?;
        let mut cursors = ends(&mut peer, &topic, partitions)?;
        let (done, topic) = (done.clone(), topic.clone());
        Ok(move |start: Instant| {
            let mut correlation = 0;
            while start.elapsed() < Duration::from_secs(seconds) {
                let body = fetch_body(&topic, &cursors, 500, 1, 50 << 20, 1 << 20);
                peer.send(&mut frame(1, 11, &body), correlation)?;
                done.fetch_add(take_fetched(peer.receive(correlation)?, &mut cursors)?, Ordering::Relaxed);
                correlation += 1;
            }
            Ok(Vec::new())
        })
    })?;
    Ok(run.report(done.load(Ordering::Relaxed)))
}

// ---- running -------------------------------------------------------------------------------------------------------

struct Run {
    seconds: f64,
    latencies_us: Vec<u32>,
}

impl Run {
    fn report(mut self, bytes: u64) -> String {
        self.latencies_us.sort_unstable();
        let mut line = format!(
            "{{\"bytes\":{bytes},\"seconds\":{:.3},\"mb_per_s\":{:.1},\"requests\":{}",
            self.seconds,
            bytes as f64 / 1e6 / self.seconds,
            self.latencies_us.len()
        );
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
            let index = ((self.latencies_us.len() as f64 * share).ceil() as usize).saturating_sub(1);
            if let Some(latency) = self.latencies_us.get(index) {
                let _ = write!(line, ",\"{name}_ms\":{:.3}", f64::from(*latency) / 1000.0);
            }
        }
        line.push('}');
        line
    }
}

/// Prepares one thread per connection, starts all of them at once and waits for the last.
fn together<P, F>(connections: u64, mut prepare: P) -> Outcome<Run>
where
    P: FnMut(u64) -> Outcome<F>,
    F: FnOnce(Instant) -> Outcome<Vec<u32>> + Send + 'static,
{
    let ready = Arc::new(Barrier::new(connections as usize + 1));
    let mut prepared = Vec::new();
    for number in 0..connections {
        prepared.push(prepare(number)?);
    }
    let mut threads = Vec::new();
    for work in prepared {
        let ready = ready.clone();
        let thread = thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            ready.wait();
            work(Instant::now())
        });
        threads.push(thread.map_err(said("thread"))?);
    }
    // Whoever started this may want to know that every connection stands.
    println!("ready");
    ready.wait();
    let start = Instant::now();
    let mut latencies_us = Vec::new();
    for thread in threads {
        latencies_us.extend(thread.join().map_err(|_| "a connection's thread panicked")??);
    }
    Ok(Run { seconds: start.elapsed().as_secs_f64(), latencies_us })
}
