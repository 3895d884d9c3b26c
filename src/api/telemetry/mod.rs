//! Metrics of clients (KIP-714): which of them each client shall push, and what was pushed.
//!
//! * `instances` knows every client instance of late, and judges its requests: pure.
//! * `otlp` reads what is pushed; nothing in it is trusted.
//! * `pushed` keeps the latest values until the client has been silent for too long, for the page of Prometheus.
//!
//! Invariants: clients, series and the bytes of their labels are bounded; a client that goes away leaves nothing for
//! long. One short mutex, never held across an await or while a payload is decoded.

mod instances;
mod otlp;
mod pushed;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::api::translate::address;
use crate::config::ClientAttribute;
use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, WallMillis};
use crate::metadata::Settings;
use crate::records::{Codec, decompress};

pub use instances::Granted;
use instances::Instances;
use pushed::Pushed;

/// Largest decoded payload: what a hostile push can make us read.
const DECODED_BYTES_MAX: usize = 16 << 20;

/// Everything that is known of the metrics of clients.
#[derive(Default)]
pub struct Telemetry {
    state: Mutex<State>,
    pub counts: Counts,
}

#[derive(Default)]
struct State {
    instances: Instances,
    pushed: Pushed,
}

/// What has happened since the start.
#[derive(Default)]
pub struct Counts {
    pub pushes: AtomicU64,
    pub throttled: AtomicU64,
    pub unknown_subscriptions: AtomicU64,
    /// Payloads that could not be read.
    pub unreadable: AtomicU64,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Client {
    pub instance: KafkaUuid,
    pub client_id: Arc<str>,
    /// Name and version of its library, if it told them.
    pub software: Option<(String, String)>,
    pub peer: SocketAddr,
    /// Unique within this process.
    pub connection: u64,
}

/// A push, without what it carries.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    pub subscription_id: i32,
    pub terminating: bool,
    pub compression: i8,
    pub bytes: usize,
    pub bytes_max: usize,
}

impl Telemetry {
    /// What a client shall push. `ThrottlingQuotaExceeded` if it asks too early.
    pub fn subscribe(&self, settings: &Settings, client: &Client, now_ms: WallMillis) -> Result<Granted, ErrorCode> {
        let granted = self.state.lock().instances.subscribe(settings, client, now_ms);
        self.count(granted.as_ref().err());
        granted
    }

    /// Whether a push may be read. The errors are KIP-714's.
    pub fn judge(
        &self,
        settings: &Settings,
        client: &Client,
        push: &Push,
        now_ms: WallMillis,
    ) -> Result<(), ErrorCode> {
        let judged = self.state.lock().instances.push(settings, client, push, now_ms);
        self.count(judged.as_ref().err());
        judged
    }

    /// Reads a push that was found good, and keeps its values. Takes as long as decoding does: not for the async
    /// workers if it is large. `InvalidRecord` if it cannot be read; nothing of it is kept then.
    pub fn absorb(&self, client: &Client, codec: i8, payload: &Bytes, now_ms: WallMillis) -> Result<(), ErrorCode> {
        self.counts.pushes.fetch_add(1, Ordering::Relaxed);
        match read(codec, payload) {
            Ok(points) => {
                let mut state = self.state.lock();
                let expires_ms = state.instances.expiry(client.instance, now_ms);
                state.pushed.absorb(client, points, now_ms, expires_ms);
                Ok(())
            }
            Err(why) => {
                self.counts.unreadable.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(client = %client.instance, client_id = &*client.client_id, why, "metrics not readable");
                self.state.lock().instances.failed(client.instance, ErrorCode::InvalidRecord);
                Err(ErrorCode::InvalidRecord)
            }
        }
    }

    /// True if a client instance is known here.
    pub fn knows(&self, instance: KafkaUuid) -> bool {
        self.state.lock().instances.knows(instance)
    }

    /// The connection of a client has ended: if it was its last one, the instance is forgotten.
    pub fn disconnected(&self, instance: KafkaUuid, connection: u64) {
        self.state.lock().instances.disconnected(instance, connection);
    }

    /// Client instances known, series kept, and points that found no place since the start.
    pub fn sizes(&self, now_ms: WallMillis) -> (usize, usize, u64) {
        let mut state = self.state.lock();
        state.instances.expire(now_ms);
        state.pushed.expire(now_ms);
        (state.instances.len(), state.pushed.series(), state.pushed.dropped())
    }

    /// What clients have pushed of late, as text for Prometheus.
    pub fn page(&self, now_ms: WallMillis) -> String {
        let mut state = self.state.lock();
        state.pushed.expire(now_ms);
        state.pushed.page()
    }

    fn count(&self, refused: Option<&ErrorCode>) {
        match refused {
            Some(ErrorCode::ThrottlingQuotaExceeded) => self.counts.throttled.fetch_add(1, Ordering::Relaxed),
            Some(ErrorCode::UnknownSubscriptionId) => self.counts.unknown_subscriptions.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

fn read(codec: i8, payload: &Bytes) -> Result<Vec<otlp::Point>, &'static str> {
    let codec = Codec::from_id(codec.into()).ok_or("no such codec")?;
    let decoded = decompress(codec, payload, DECODED_BYTES_MAX).map_err(|_| "cannot be decompressed")?;
    otlp::read(&decoded).ok_or("no metrics in protobuf")
}

/// Keeps a client instance known while a connection of it is open; dropping it is how the connection ends.
pub struct Presence {
    telemetry: Arc<Telemetry>,
    pub instance: KafkaUuid,
    connection: u64,
}

impl Presence {
    pub fn new(telemetry: &Arc<Telemetry>, client: &Client) -> Presence {
        Presence { telemetry: Arc::clone(telemetry), instance: client.instance, connection: client.connection }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.telemetry.disconnected(self.instance, self.connection);
    }
}

/// The texts that the patterns of a subscription are held against.
struct Attributes {
    instance: String,
    client_id: Arc<str>,
    software: Option<(String, String)>,
    address: String,
    port: String,
}

impl Attributes {
    fn of(client: &Client) -> Attributes {
        Attributes {
            instance: client.instance.to_string(),
            client_id: Arc::clone(&client.client_id),
            software: client.software.clone(),
            address: address(client.peer.ip()),
            port: client.peer.port().to_string(),
        }
    }

    fn text(&self, attribute: ClientAttribute) -> Option<&str> {
        match attribute {
            ClientAttribute::InstanceId => Some(&self.instance),
            ClientAttribute::ClientId => Some(&self.client_id),
            ClientAttribute::SoftwareName => self.software.as_ref().map(|(name, _)| name.as_str()),
            ClientAttribute::SoftwareVersion => self.software.as_ref().map(|(_, version)| version.as_str()),
            ClientAttribute::SourceAddress => Some(&self.address),
            ClientAttribute::SourcePort => Some(&self.port),
        }
    }
}
