//! One connection: frames in, responses out in the order of their requests.
//!
//! One task runs two loops. The reader takes a frame, charges the budget, awaits the ordered part of its request and
//! queues the reply. The writer awaits the reply at the head of the queue, adds those behind it that are ready, and
//! writes them in one vectored write. Only the head is waited for, so a connection holds at most one response that is
//! larger than [`UNWRITTEN_BYTES_MAX`].
//!
//! Invariants: responses leave in the order of requests. A client that does not read stops being read: at most
//! [`PENDING_REPLIES_MAX`] replies are queued, and no frame is taken while [`UNWRITTEN_BYTES_MAX`] of responses wait.
//! When the client has said its last word, or said something wrong, what it asked before is still answered. A panic
//! ends this connection and no other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::budget::Charge;
use super::slots::Use;
use super::stats::ListenerStats;
use super::{Phase, Shared};
use crate::api::context::Connection;
use crate::api::dispatch::Outcome;
use crate::env::{BoxFuture, Duplex};
use crate::wire::frame::FrameBuffer;
use crate::wire::reply::{Outgoing, Response};

/// Most replies that are queued on one connection; Kafka has one request in flight per connection.
const PENDING_REPLIES_MAX: usize = 32;
/// Bytes of finished responses on one connection above which no further request is read.
const UNWRITTEN_BYTES_MAX: usize = 1024 * 1024;
/// Bytes, and pieces, at which a write is worth it without waiting for more.
const WRITE_BYTES: usize = 256 * 1024;
const WRITE_PARTS: usize = 64;
/// How long the frame that may overdraw the budget has for its arrival.
const OVERDRAWN_FRAME_TIME: Duration = Duration::from_secs(30);

/// Why no further frame comes.
enum End {
    /// The client, or the broker as a whole, is done; or a request closed the connection.
    Done,
    /// Nothing moved for too long.
    Idle,
    /// The socket is broken: there is nobody to answer.
    Broken,
}

/// A reply in the queue. Its request stays charged until the response was written.
struct Pending {
    answer: Answer,
    charge: Charge,
}

enum Answer {
    Now(Response),
    Later(BoxFuture<'static, Option<Response>>),
}

/// What is queued and not yet written.
#[derive(Default)]
struct Backlog {
    replies: AtomicUsize,
    /// Bytes of responses that are finished.
    bytes: AtomicUsize,
    /// Times that something was written.
    writes: AtomicUsize,
    written: Notify,
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: Box<dyn Duplex>,
    connection: Arc<Connection>,
    stats: Arc<ListenerStats>,
    used: Arc<Use>,
) {
    let (read_half, write_half) = tokio::io::split(stream);
    let (queue, pending) = mpsc::channel(PENDING_REPLIES_MAX);
    let backlog = Backlog::default();
    let reader = Reader {
        shared: &shared,
        connection: &connection,
        stats: &stats,
        backlog: &backlog,
        used: &used,
        stream: read_half,
        buffer: FrameBuffer::new(),
    };
    let writer = Writer { shared: &shared, stats: &stats, backlog: &backlog, stream: write_half };
    let mut phase = shared.phase.subscribe();
    let mut writing = std::pin::pin!(writer.run(pending));
    let serving = async {
        let end = tokio::select! {
            biased;
            _ = &mut writing => return,
            end = reader.run(queue) => end,
        };
        match end {
            End::Done => writing.await,
            End::Idle => stats.idle_closed.add(1),
            End::Broken => {}
        }
    };
    tokio::select! {
        biased;
        () = reached(&mut phase, Phase::Closed) => {}
        () = used.must_leave() => {
            let Connection { id, peer, .. } = &*connection;
            tracing::info!(connection = id, %peer, "connection closed: there are too many");
        }
        () = serving => {}
    }
}

/// Waits until the network has come to `wanted`.
pub(super) async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // The sender lives in what every task here holds, so there is always one.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

struct Reader<'a> {
    shared: &'a Shared,
    connection: &'a Arc<Connection>,
    stats: &'a ListenerStats,
    backlog: &'a Backlog,
    used: &'a Use,
    stream: ReadHalf<Box<dyn Duplex>>,
    buffer: FrameBuffer,
}

impl Reader<'_> {
    async fn run(mut self, queue: mpsc::Sender<Pending>) -> End {
        let mut phase = self.shared.phase.subscribe();
        loop {
            if self.is_muted() && !self.unmuted(&mut phase).await {
                return End::Done;
            }
            self.backlog.bytes_below(UNWRITTEN_BYTES_MAX).await;
            // The place in the queue comes first: a request that was read is a request that can be answered.
            let Ok(place) = queue.reserve().await else { return End::Broken };
            let next = tokio::select! {
                biased;
                () = reached(&mut phase, Phase::Draining) => return End::Done,
                next = self.next_frame() => next,
            };
            let (frame, charge) = match next {
                Ok(next) => next,
                Err(end) => return end,
            };
            // It may have been muted by an earlier request while this one was on its way.
            if self.is_muted() && !self.unmuted(&mut phase).await {
                return End::Done;
            }
            self.stats.requests.add(1);
            self.used.touch((self.shared.env.now() - self.shared.began).as_millis() as u64);
            let answer = match (self.shared.dispatch)(Arc::clone(self.connection), frame).await {
                Outcome::Now(response) => Answer::Now(response),
                Outcome::Later(response) => Answer::Later(response),
                Outcome::Silent => continue,
                Outcome::Close => return End::Done,
            };
            self.backlog.queued(&answer);
            place.send(Pending { answer, charge });
        }
    }

    fn is_muted(&self) -> bool {
        self.connection.mute.left(|| self.shared.env.now()).is_some()
    }

    /// Waits until the client may be heard again (KIP-219). False if the network stops before.
    async fn unmuted(&mut self, phase: &mut watch::Receiver<Phase>) -> bool {
        while let Some(until) = self.connection.mute.left(|| self.shared.env.now()) {
            tokio::select! {
                biased;
                () = reached(phase, Phase::Draining) => return false,
                () = self.shared.env.sleep_until(until) => {}
            }
        }
        true
    }

    /// Reads until a frame is whole.
    async fn next_frame(&mut self) -> Result<(Bytes, Charge), End> {
        let limits = self.shared.limits.load_full();
        let mut charge = self.shared.budget.charge();
        let mut deadline = None;
        loop {
            match self.buffer.take(limits.frame_bytes_max) {
                Ok(Some(frame)) => {
                    charge.raise_to(frame.len());
                    return Ok((frame, charge));
                }
                Ok(None) => {}
                Err(refused) => {
                    let Connection { id, peer, .. } = &**self.connection;
                    tracing::info!(connection = id, %peer, "connection closed: {refused}");
                    return Err(End::Done);
                }
            }
            let growth = self.buffer.growth();
            if self.buffer.is_big() {
                charge.grow_to(self.buffer.len() + growth).await;
                if charge.is_overdrawn() {
                    deadline.get_or_insert_with(|| self.shared.env.now() + OVERDRAWN_FRAME_TIME);
                }
            }
            self.read(growth, limits.idle_max, deadline).await?;
        }
    }

    /// Reads what there is, up to `growth` bytes.
    async fn read(&mut self, growth: usize, idle_max: Option<Duration>, deadline: Option<Instant>) -> Result<(), End> {
        loop {
            let env = &self.shared.env;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(env.now()));
            let patience = idle_max.into_iter().chain(left).min();
            let writes = self.backlog.writes.load(Ordering::Relaxed);
            let mut room = self.buffer.room(growth);
            let read = self.stream.read_buf(&mut room);
            let read = match patience {
                Some(patience) => env.timeout(patience, read).await,
                None => Some(read.await),
            };
            match read {
                Some(Ok(0)) => return Err(End::Done),
                Some(Ok(count)) => {
                    self.buffer.arrived(count, growth);
                    self.stats.bytes_in.add(count as u64);
                    return Ok(());
                }
                Some(Err(_)) => return Err(End::Broken),
                // A client that waits for an answer, or has just had one, need not say anything yet.
                None if self.buffer.is_empty() && self.backlog.moved_since(writes) => {}
                None => return Err(End::Idle),
            }
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    stats: &'a ListenerStats,
    backlog: &'a Backlog,
    stream: WriteHalf<Box<dyn Duplex>>,
}

impl Writer<'_> {
    /// Writes replies until the queue has ended, the socket is broken or a reply closes the connection.
    async fn run(mut self, mut queue: mpsc::Receiver<Pending>) {
        let mut head = None;
        let mut outgoing = Outgoing::default();
        let mut charges = Vec::new();
        let mut closing = false;
        while !closing {
            let Some(Pending { answer, charge }) = (match head.take() {
                Some(pending) => Some(pending),
                None => queue.recv().await,
            }) else {
                break;
            };
            let mut finished_bytes = answer.finished_bytes();
            let response = match answer {
                Answer::Now(response) => Some(response),
                Answer::Later(response) => response.await,
            };
            let Some(response) = response else { break };
            outgoing.push(response);
            charges.push(charge);
            while outgoing.remaining() < WRITE_BYTES && outgoing.parts() < WRITE_PARTS {
                let Ok(Pending { answer, charge }) = queue.try_recv() else { break };
                let bytes = answer.finished_bytes();
                match answer.ready() {
                    Ok(Some(response)) => outgoing.push(response),
                    Ok(None) => {
                        closing = true;
                        break;
                    }
                    Err(answer) => {
                        head = Some(Pending { answer, charge });
                        break;
                    }
                }
                finished_bytes += bytes;
                charges.push(charge);
            }
            if self.write(&mut outgoing).await.is_err() {
                return;
            }
            self.stats.responses.add(charges.len() as u64);
            self.backlog.written(charges.len(), finished_bytes);
            charges.clear();
        }
        // The client sees an orderly end; a failure to say goodbye changes nothing.
        let _ = self.stream.shutdown().await;
    }

    async fn write(&mut self, outgoing: &mut Outgoing) -> io::Result<()> {
        let idle_max = self.shared.limits.load().idle_max;
        while outgoing.has_remaining() {
            let write = self.stream.write_buf(outgoing);
            let written = match idle_max {
                Some(patience) => self.shared.env.timeout(patience, write).await,
                None => Some(write.await),
            };
            match written {
                Some(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Some(Ok(count)) => self.stats.bytes_out.add(count as u64),
                Some(Err(error)) => return Err(error),
                None => {
                    self.stats.idle_closed.add(1);
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        self.stream.flush().await
    }
}

impl Answer {
    /// Bytes that were finished when it was queued.
    fn finished_bytes(&self) -> usize {
        match self {
            Answer::Now(response) => response.len(),
            Answer::Later(_) => 0,
        }
    }

    /// The response if it is there without waiting, else the answer as it was.
    fn ready(self) -> Result<Option<Response>, Answer> {
        match self {
            Answer::Now(response) => Ok(Some(response)),
            Answer::Later(mut response) => match response.as_mut().now_or_never() {
                Some(response) => Ok(response),
                None => Err(Answer::Later(response)),
            },
        }
    }
}

impl Backlog {
    fn queued(&self, answer: &Answer) {
        self.replies.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(answer.finished_bytes(), Ordering::Relaxed);
    }

    fn written(&self, replies: usize, bytes: usize) {
        self.replies.fetch_sub(replies, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written.notify_one();
    }

    /// True if a reply is due, or was written since there had been `writes`.
    fn moved_since(&self, writes: usize) -> bool {
        self.replies.load(Ordering::Relaxed) > 0 || self.writes.load(Ordering::Relaxed) != writes
    }

    async fn bytes_below(&self, limit: usize) {
        while self.bytes.load(Ordering::Relaxed) >= limit {
            self.written.notified().await;
        }
    }
}
