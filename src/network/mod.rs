//! Sockets: listeners, connections, and what they may take.
//!
//! ```text
//! Listeners::bind ──► serve ──► accept loop per listener ──► connection task per client
//!                                 slots · pace                 frame ─ budget ─ dispatch ─ queue ─ write
//! ```
//!
//! Binding and serving are two steps, because the ports are needed to register the broker and the broker is needed to
//! serve.
//!
//! Invariants: nothing here knows the meaning of a request; what to do with a frame is the [`Dispatch`] that was given.
//! After [`Network::stop`] no connection is open and no port is bound.

mod budget;
mod connection;
mod limits;
mod slots;
mod stats;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::context::{Connection, Services};
use crate::api::dispatch::{self, Outcome};
use crate::api::quotas::Quotas;
use crate::env::{BoxFuture, Duplex, Env, Listener};
use budget::Budget;
use slots::{Slot, Slots};

pub use limits::{Limits, ListenerLimits};
pub use stats::{Counter, ListenerStats, Stats};

/// How long a listener rests when it cannot accept, for example for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Most connections that are held open only to be closed; more are closed at once.
const TURNED_AWAY_MAX: usize = 1000;

/// What becomes of a frame. When the future is done, so is everything that must keep the order of the connection.
pub type Dispatch = Arc<dyn Fn(Arc<Connection>, Bytes) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Frames go to the API.
pub fn dispatch_to(services: Arc<Services>) -> Dispatch {
    Arc::new(move |connection, frame| Box::pin(dispatch::dispatch(Arc::clone(&services), connection, frame)))
}

/// A listener to open: one entry of `listeners`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerSetting {
    pub name: String,
    /// Empty or `0.0.0.0` for every interface.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
    /// Whether it serves controllers and those who look for one, not clients.
    pub controller: bool,
}

/// Listeners that are bound and do not accept yet.
pub struct Listeners {
    env: Env,
    bound: Vec<Bound>,
}

struct Bound {
    name: Arc<str>,
    controller: bool,
    address: SocketAddr,
    listener: Box<dyn Listener>,
}

impl Listeners {
    /// Binds every listener, or none.
    pub async fn bind(env: &Env, settings: &[ListenerSetting]) -> io::Result<Listeners> {
        let mut bound = Vec::with_capacity(settings.len());
        for setting in settings {
            let listener = env.net().bind(&setting.host, setting.port).await.map_err(|error| {
                let ListenerSetting { name, host, port, .. } = setting;
                io::Error::new(error.kind(), format!("listener {name} cannot bind {host}:{port}: {error}"))
            })?;
            let address = listener.local_addr()?;
            bound.push(Bound { name: Arc::from(&*setting.name), controller: setting.controller, address, listener });
        }
        Ok(Listeners { env: env.clone(), bound })
    }

    /// Name and address of every listener, with the port the system chose if port 0 was asked for.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.bound.iter().map(|bound| (&*bound.name, bound.address))
    }

    /// Accepts connections from now on, no faster than the limits and the quotas of addresses allow: on listeners of
    /// controllers at once, on those of clients once [`Network::open`] was called.
    pub fn serve(self, limits: Limits, quotas: Arc<Quotas>, dispatch: Dispatch) -> Network {
        let by_listener =
            |bound: &Bound| Arc::new(ListenerStats { listener: Arc::clone(&bound.name), ..ListenerStats::default() });
        let stats = Arc::new(Stats { listeners: self.bound.iter().map(by_listener).collect() });
        let shared = Arc::new(Shared {
            budget: Budget::new(limits.in_flight_bytes_max),
            limits: ArcSwap::from_pointee(limits),
            dispatch,
            quotas,
            slots: Slots::default(),
            pace: Pace::new(self.env.now()),
            turned_away: Arc::new(AtomicUsize::new(0)),
            next_id: AtomicU64::new(0),
            began: self.env.now(),
            phase: watch::Sender::new(Phase::Starting),
            env: self.env,
        });
        for (bound, stats) in self.bound.into_iter().zip(&stats.listeners) {
            tracing::info!(listener = &*bound.name, address = %bound.address, "listening");
            let pace = Pace::new(shared.env.now());
            let accepting = Acceptor { shared: Arc::clone(&shared), bound, stats: Arc::clone(stats), pace };
            shared.env.spawn(accepting.run());
        }
        Network { shared, stats }
    }
}

/// How far the network has come. It only moves on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    /// Only listeners of controllers accept connections; those of clients wait in the kernel's queue.
    Starting,
    Serving,
    /// No connection and no request is taken any more; those that were taken are answered.
    Draining,
    /// Whatever is open is dropped.
    Closed,
}

/// What listeners and connections share.
struct Shared {
    env: Env,
    limits: ArcSwap<Limits>,
    dispatch: Dispatch,
    quotas: Arc<Quotas>,
    slots: Slots,
    /// Connections that came too early and are still open.
    turned_away: Arc<AtomicUsize>,
    budget: Budget,
    pace: Pace,
    next_id: AtomicU64,
    /// When serving began: the zero of [`slots::Use`].
    began: Instant,
    phase: watch::Sender<Phase>,
}

/// When a creation rate allows the next connection.
struct Pace(Mutex<Instant>);

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace(Mutex::new(now))
    }

    /// When the next connection may come, of so many in a second.
    fn turn(&self, now: Instant, per_second_max: u32) -> Instant {
        let gap = Duration::from_secs(1).checked_div(per_second_max).unwrap_or(Duration::ZERO);
        let mut next = self.0.lock();
        let turn = (*next).max(now);
        *next = turn + gap;
        turn
    }
}

/// Listeners that accept, and their connections. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
    stats: Arc<Stats>,
}

impl Network {
    /// The counters.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Accepts connections of clients, too.
    pub fn open(&self) {
        self.shared.phase.send_if_modified(|phase| {
            let starting = *phase == Phase::Starting;
            *phase = (*phase).max(Phase::Serving);
            starting
        });
    }

    /// Bytes of requests that are in flight.
    pub fn in_flight_bytes(&self) -> usize {
        self.shared.budget.used()
    }

    /// Replaces the limits, for connections and frames to come; what may be in flight stays as it was at the start.
    pub fn limit(&self, limits: Limits) {
        self.shared.slots.shrink_to(limits.connections_max, limits.protected.as_deref());
        self.shared.limits.store(Arc::new(limits));
        self.shared.slots.reconsider();
    }

    /// Stops accepting and reading at once, gives requests in flight up to `grace` to be answered, then closes
    /// everything.
    pub async fn stop(&self, grace: Duration) {
        self.shared.phase.send_replace(Phase::Draining);
        if self.shared.env.timeout(grace, self.shared.phase.closed()).await.is_none() {
            tracing::info!("requests still in flight are dropped");
        }
        self.shared.phase.send_replace(Phase::Closed);
        self.shared.phase.closed().await;
    }
}

/// One listener's accept loop.
struct Acceptor {
    shared: Arc<Shared>,
    bound: Bound,
    stats: Arc<ListenerStats>,
    pace: Pace,
}

impl Acceptor {
    async fn run(self) {
        let mut phase = self.shared.phase.subscribe();
        if !self.bound.controller {
            connection::reached(&mut phase, Phase::Serving).await;
        }
        loop {
            let accepted = tokio::select! {
                biased;
                () = connection::reached(&mut phase, Phase::Draining) => return,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    tracing::warn!(listener = &*self.bound.name, %error, "cannot accept");
                    self.shared.env.sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// The next connection, not before there is a place for it.
    async fn accept(&self) -> io::Result<(Box<dyn Duplex>, SocketAddr)> {
        let shared = &self.shared;
        let name = &*self.bound.name;
        let room = || {
            let limits = shared.limits.load();
            (limits.connections_max, limits.of_listener(name).connections_max)
        };
        shared.slots.below(name, room).await;
        let accepted = self.bound.listener.accept().await?;
        let limits = shared.limits.load_full();
        let now = shared.env.now();
        let turn = shared.pace.turn(now, limits.connections_per_second_max);
        let turn = turn.max(self.pace.turn(now, limits.of_listener(name).connections_per_second_max));
        if turn > now {
            shared.env.sleep_until(turn).await;
        }
        Ok(accepted)
    }

    /// Closes a connection that came too early, when the next one may come: so its client does not come back at once.
    fn turn_away(&self, stream: Box<dyn Duplex>, wait: Duration) {
        self.stats.refused.add(1);
        let turned_away = Arc::clone(&self.shared.turned_away);
        if turned_away.fetch_add(1, Ordering::Relaxed) >= TURNED_AWAY_MAX {
            turned_away.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let env = self.shared.env.clone();
        self.shared.env.spawn(async move {
            env.sleep(wait).await;
            drop(stream);
            turned_away.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn admit(&self, stream: Box<dyn Duplex>, peer: SocketAddr) {
        let address = peer.ip().to_canonical();
        if let Some(wait) = self.shared.quotas.connected(address) {
            return self.turn_away(stream, wait);
        }
        let limit = self.shared.limits.load().per_ip(address);
        let Some(slot) = self.shared.slots.take(&self.bound.name, address, limit) else {
            self.stats.refused.add(1);
            let listener = &*self.bound.name;
            tracing::info!(listener, %peer, limit, "connection refused: too many from this address");
            return;
        };
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(id, Arc::clone(&self.bound.name), self.bound.controller, peer));
        self.stats.accepted.add(1);
        self.stats.open.add(1);
        let used = slot.used();
        let presence = Presence { _slot: slot, stats: Arc::clone(&self.stats) };
        let serving = connection::serve(Arc::clone(&self.shared), stream, connection, Arc::clone(&self.stats), used);
        let stats = Arc::clone(&self.stats);
        self.shared.env.spawn(async move {
            let _presence = presence;
            if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
                stats.panicked.add(1);
                tracing::error!(connection = id, %peer, "connection closed: a request panicked");
            }
        });
    }
}

/// An open connection in the books; dropping it is how it leaves them.
struct Presence {
    _slot: Slot,
    stats: Arc<ListenerStats>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.stats.open.subtract(1);
        self.stats.closed.add(1);
    }
}
