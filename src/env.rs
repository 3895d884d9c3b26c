//! The one door to time, randomness, tasks, threads and sockets, so that a whole broker runs from a seed.
//!
//! Invariants: nothing else in the crate reads a clock, draws a random number, spawns or opens a socket (clippy's
//! `disallowed-methods` forbids it). Timers are tokio's, so a paused runtime drives them. Every task belongs to one
//! `Env` and dies with [`Env::abort_all`].

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the door")]

#[cfg(test)]
pub mod memory;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use crate::ids::{KafkaUuid, WallMillis};

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream between two processes.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A bound listener.
pub trait Listener: Send + Sync {
    /// Waits for the next connection.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, SocketAddr)>>;
    /// The address that was bound, with the port the system chose if port 0 was asked for.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The network: the kernel's in production, turmoil's in simulation.
pub trait Net: Send + Sync {
    /// Binds `host:port`; an empty host, `0.0.0.0` or `::` means every interface, IPv4 and IPv6.
    fn bind<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
    /// Connects to `host:port`.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>>;
    /// The addresses of a host name; a network without names knows addresses only.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { host.parse().map(|address| vec![address]).map_err(io::Error::other) })
    }
}

/// What the wall clock says.
enum Wall {
    System,
    /// Milliseconds at a monotonic moment; moves with tokio's (possibly paused) clock.
    From(WallMillis, Instant),
}

struct Inner {
    wall: Wall,
    rng: Mutex<ChaCha12Rng>,
    net: Arc<dyn Net>,
    tasks: Mutex<Vec<AbortHandle>>,
    simulated: bool,
    gate: Arc<Mutex<Gate>>,
}

/// Holds the tasks of a simulated process back while it is closed.
#[derive(Default)]
struct Gate {
    is_closed: bool,
    waiting: Vec<Waker>,
}

impl Gate {
    fn holds(&mut self, task: &Waker) -> bool {
        if self.is_closed {
            self.waiting.push(task.clone());
        }
        self.is_closed
    }
}

/// Time, randomness, tasks and sockets of one broker process. Cheap to clone.
#[derive(Clone)]
pub struct Env(Arc<Inner>);

impl Env {
    /// The real world: system clock, operating-system randomness, kernel sockets.
    pub fn real() -> Env {
        Env::build(Wall::System, ChaCha12Rng::from_os_rng(), Arc::new(KernelNet), false)
    }

    /// A simulated world: every number drawn comes from `seed`, the wall clock starts at `wall_start_ms`.
    pub fn simulated(seed: u64, wall_start_ms: WallMillis, net: Arc<dyn Net>) -> Env {
        Env::build(Wall::From(wall_start_ms, Instant::now()), ChaCha12Rng::seed_from_u64(seed), net, true)
    }

    fn build(wall: Wall, rng: ChaCha12Rng, net: Arc<dyn Net>, simulated: bool) -> Env {
        let tasks = Mutex::new(Vec::new());
        Env(Arc::new(Inner { wall, rng: Mutex::new(rng), net, tasks, simulated, gate: Arc::default() }))
    }

    /// Monotonic now.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Wall-clock now, in milliseconds since the epoch.
    pub fn wall_ms(&self) -> WallMillis {
        match self.0.wall {
            Wall::System => {
                let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since_epoch.map_or(0, |elapsed| elapsed.as_millis() as i64)
            }
            Wall::From(start_ms, start) => start_ms + start.elapsed().as_millis() as i64,
        }
    }

    /// Sleeps for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Sleeps until `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
    }

    /// The output of `future`, or `None` after `duration`.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(duration, future).await.ok()
    }

    /// Spawns a task that ends with this `Env`. A panic ends the task only; the caller that awaits the handle sees it.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let handle = match self.0.simulated {
            true => self.spawn_gated(future),
            false => tokio::spawn(future),
        };
        let mut tasks = self.0.tasks.lock();
        if tasks.len() >= 1024 && tasks.len().is_power_of_two() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(handle.abort_handle());
        handle
    }

    fn spawn_gated<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (gate, mut future) = (self.0.gate.clone(), Box::pin(future));
        tokio::spawn(std::future::poll_fn(move |context| {
            let is_held = gate.lock().holds(context.waker());
            if is_held { Poll::Pending } else { future.as_mut().poll(context) }
        }))
    }

    /// Stops every task of a simulated process where it is, as SIGSTOP does: time goes on, and nothing is done.
    pub fn pause(&self) {
        self.0.gate.lock().is_closed = true;
    }

    /// Has them go on.
    pub fn resume(&self) {
        let waiting = {
            let mut gate = self.0.gate.lock();
            gate.is_closed = false;
            std::mem::take(&mut gate.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Aborts every task spawned through this `Env`: the end of a process, for tests that crash a broker.
    pub fn abort_all(&self) {
        for task in self.0.tasks.lock().drain(..) {
            task.abort();
        }
    }

    /// Runs blocking disk work off the async workers; inline in simulation, where no disk blocks.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self.0.simulated {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends and did not begin the work: whoever waits for it ends, too.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }

    /// Starts a named operating-system thread. Never used in simulation.
    pub fn thread(&self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        assert!(!self.0.simulated, "a simulated broker has no threads");
        std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
    }

    /// True in simulation.
    pub fn is_simulated(&self) -> bool {
        self.0.simulated
    }

    /// A random number.
    pub fn random_u64(&self) -> u64 {
        self.0.rng.lock().next_u64()
    }

    /// A random number in `0..bound`; 0 if the bound is 0.
    pub fn random_below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.rng.lock().random_range(0..bound) }
    }

    /// A random version-4 id that does not start with `-` in its textual form, as `Uuid.randomUuid` promises.
    pub fn random_uuid(&self) -> KafkaUuid {
        loop {
            let mut bytes = [0u8; 16];
            self.0.rng.lock().fill_bytes(&mut bytes);
            let id = KafkaUuid::from(uuid::Builder::from_random_bytes(bytes).into_uuid());
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    /// Listens on a socket file, which replaces whatever has that name. Never used in simulation.
    pub fn bind_local(&self, path: &Path) -> io::Result<LocalListener> {
        match std::fs::remove_file(path) {
            Err(failure) if failure.kind() != io::ErrorKind::NotFound => return Err(failure),
            _ => {}
        }
        let listener = with_short_path(path, |path| tokio::net::UnixListener::bind(path))?;
        Ok(LocalListener { listener, owner: std::fs::metadata(path)?.uid() })
    }

    /// Connects to a socket file.
    pub fn connect_local(&self, path: &Path) -> io::Result<std::os::unix::net::UnixStream> {
        with_short_path(path, |path| std::os::unix::net::UnixStream::connect(path))
    }

    /// The network.
    pub fn net(&self) -> &dyn Net {
        &*self.0.net
    }
}

/// A listener on a socket file, for processes of the same user and of root.
pub struct LocalListener {
    listener: tokio::net::UnixListener,
    owner: u32,
}

impl LocalListener {
    /// Waits for the next connection of somebody who may connect.
    pub async fn accept(&self) -> io::Result<Box<dyn Duplex>> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let user = stream.peer_cred()?.uid();
            if user == self.owner || user == 0 {
                return Ok(Box::new(stream));
            }
        }
    }
}

/// The kernel takes socket paths of 107 bytes; a longer one is reached through its folder.
fn with_short_path<T>(path: &Path, open: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    const SOCKET_PATH_BYTES_MAX: usize = 107;
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX => {
            let folder = std::fs::File::open(folder)?;
            open(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
        }
        _ => open(path),
    }
}

/// Connections that may wait to be accepted; the kernel has a limit of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 1024;

/// The kernel's TCP.
struct KernelNet;

struct KernelListener(tokio::net::TcpListener);

impl Net for KernelNet {
    fn bind<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = match host {
                "" | "0.0.0.0" | "::" => bind_everywhere(port).await?,
                _ => tokio::net::TcpListener::bind((host, port)).await?,
            };
            Ok(Box::new(KernelListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }

    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()) })
    }
}

/// Binds every interface, for both versions of IP as Java does: clients that resolve `localhost` may try `::1` only.
async fn bind_everywhere(port: u16) -> io::Result<tokio::net::TcpListener> {
    match bind_both(port) {
        // A kernel without IPv6, or with it switched off.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

fn bind_both(port: u16) -> io::Result<tokio::net::TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    tokio::net::TcpListener::from_std(socket.into())
}

impl Listener for KernelListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Duplex>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_interface_is_bound_for_both_versions_of_ip() {
        for host in ["", "0.0.0.0"] {
            let listener = KernelNet.bind(host, 0).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let has_ipv6 = listener.local_addr().unwrap().is_ipv6();
            for (name, works) in [("127.0.0.1", true), ("::1", has_ipv6)] {
                let (connected, accepted) = tokio::join!(KernelNet.connect(name, port), async {
                    if works { Some(listener.accept().await.unwrap().1) } else { None }
                });
                assert_eq!(connected.is_ok(), works, "{host:?} {name}");
                let peer = accepted.map(|peer| peer.ip().to_canonical().to_string());
                assert_eq!(peer, works.then(|| name.to_owned()), "{host:?}");
            }
        }
    }
}
