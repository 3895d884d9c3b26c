//! A network in memory for tests: hosts by name, links that can be cut and healed.
//!
//! Invariant: a link that is cut loses nothing and tells nobody: bytes and connections wait until it is healed, as they
//! do behind a switch that was unplugged.

#![allow(clippy::disallowed_methods, reason = "the network outlives every process in it")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{mpsc, watch};

use super::{BoxFuture, Duplex, Listener, Net};

const BUFFER_BYTES: usize = 64 * 1024;

type Accepted = mpsc::Sender<DuplexStream>;

/// All hosts and what is between them. Cheap to clone.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    listeners: Arc<Mutex<BTreeMap<(String, u16), Accepted>>>,
    /// Directed links that carry nothing.
    cut: Arc<watch::Sender<BTreeSet<(String, String)>>>,
}

impl MemoryNetwork {
    pub fn new() -> MemoryNetwork {
        MemoryNetwork::default()
    }

    /// The network as `host` sees it.
    pub fn host(&self, host: &str) -> Arc<dyn Net> {
        Arc::new(Host { name: host.to_owned(), network: self.clone() })
    }

    /// Cuts the link between two hosts, both ways.
    pub fn cut(&self, a: &str, b: &str) {
        self.cut.send_modify(|cut| cut.extend([(a.to_owned(), b.to_owned()), (b.to_owned(), a.to_owned())]));
    }

    /// Cuts everything that goes from one host to another.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.cut.send_modify(|cut| _ = cut.insert((from.to_owned(), to.to_owned())));
    }

    /// Heals every link.
    pub fn heal(&self) {
        self.cut.send_modify(BTreeSet::clear);
    }
}

struct Host {
    name: String,
    network: MemoryNetwork,
}

struct MemoryListener(tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>, u16);

impl Net for Host {
    fn bind<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let (sender, queue) = mpsc::channel(64);
        self.network.listeners.lock().insert((self.name.clone(), port), sender);
        Box::pin(async move { Ok(Box::new(MemoryListener(tokio::sync::Mutex::new(queue), port)) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        Box::pin(async move {
            let (there, back) = ((self.name.clone(), host.to_owned()), (host.to_owned(), self.name.clone()));
            let cut = &self.network.cut;
            for link in [&there, &back] {
                // The sender is in `self`: it cannot have gone.
                let _ = cut.subscribe().wait_for(|cut| !cut.contains(link)).await;
            }
            let listener = self.network.listeners.lock().get(&(host.to_owned(), port)).cloned();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = listener.ok_or_else(refused)?;
            let (near, near_end) = duplex(BUFFER_BYTES);
            let (far, far_end) = duplex(BUFFER_BYTES);
            listener.send(far).await.map_err(|_| refused())?;
            let ((near_in, near_out), (far_in, far_out)) = (split(near_end), split(far_end));
            tokio::spawn(carry(there, cut.subscribe(), near_in, far_out));
            tokio::spawn(carry(back, cut.subscribe(), far_in, near_out));
            Ok(Box::new(near) as Box<dyn Duplex>)
        })
    }
}

async fn carry(
    link: (String, String),
    mut cut: watch::Receiver<BTreeSet<(String, String)>>,
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
) {
    let mut bytes = [0; 4096];
    loop {
        let count = from.read(&mut bytes).await.unwrap_or(0);
        if cut.wait_for(|cut| !cut.contains(&link)).await.is_err() {
            return;
        }
        if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

impl Listener for MemoryListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, SocketAddr)>> {
        Box::pin(async move {
            let stream = self.0.lock().await.recv().await;
            let stream = stream.ok_or_else(|| io::Error::other("another process listens here now"))?;
            Ok((Box::new(stream) as Box<dyn Duplex>, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((IpAddr::from(Ipv4Addr::LOCALHOST), self.1)))
    }
}
