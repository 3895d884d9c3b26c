//! What a handler may know: the request, its connection, and everything the broker offers.
//!
//! Invariant: a [`Context`] is cheap to clone, so that a later reply can take along what it needs.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::fetch_session::FetchSessions;
use crate::api::forward::Forwarding;
use crate::api::loggers::Loggers;
use crate::api::producer_ids::ProducerIds;
use crate::api::quotas::Quotas;
use crate::api::stats::ApiStats;
use crate::api::telemetry::{Client, Presence, Telemetry};
use crate::api::throttling::{Mute, Spent};
use crate::api::topics_in_creation::TopicsInCreation;
use crate::config::Config;
use crate::coordinator::GroupCoordinator;
use crate::env::Env;
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::{Hearing, Metadata};
use crate::partitions::Partitions;
use crate::wire::header::RequestHead;

/// Everything the broker offers to its handlers.
pub struct Services {
    pub env: Env,
    /// The settings in force; swapped when a dynamic one changes.
    pub config: Arc<ArcSwap<Config>>,
    pub node: BrokerId,
    pub metadata: Metadata,
    pub partitions: Partitions,
    pub groups: GroupCoordinator,
    pub fetch_sessions: FetchSessions,
    pub producer_ids: ProducerIds,
    pub topics_in_creation: TopicsInCreation,
    pub forwarding: Forwarding,
    pub quotas: Arc<Quotas>,
    pub api_stats: ApiStats,
    pub loggers: Loggers,
    pub telemetry: Arc<Telemetry>,
}

/// What services are made of.
pub struct Parts {
    pub env: Env,
    pub config: Arc<ArcSwap<Config>>,
    pub node: BrokerId,
    pub metadata: Metadata,
    pub partitions: Partitions,
    pub groups: GroupCoordinator,
}

impl Services {
    /// The services of one broker: its parts, and what only the API keeps.
    pub fn new(parts: Parts) -> Services {
        let Parts { env, config, node, metadata, partitions, groups } = parts;
        let sessions_max = config.load().broker().max_incremental_fetch_session_cache_slots;
        Services {
            quotas: Quotas::new(&env, config.load().broker()),
            env,
            config,
            node,
            metadata,
            partitions,
            groups,
            fetch_sessions: FetchSessions::new(usize::try_from(sessions_max).unwrap_or(0)),
            producer_ids: ProducerIds::default(),
            topics_in_creation: TopicsInCreation::default(),
            forwarding: Forwarding::default(),
            api_stats: ApiStats::default(),
            loggers: Loggers::default(),
            telemetry: Arc::default(),
        }
    }
}

/// One request on its way through the broker.
#[derive(Clone)]
pub struct Context {
    pub services: Arc<Services>,
    pub request: RequestHead,
    pub connection: Arc<Connection>,
    /// When the last byte of the request had arrived.
    pub received: Instant,
    /// Bytes of its frame.
    pub request_bytes: usize,
    /// The time that it takes, if a quota wants to know.
    pub spent: Option<Arc<Spent>>,
    /// See [`Context::is_not_taken`].
    pub(super) not_taken: Arc<AtomicBool>,
}

impl Context {
    /// See [`Services::within`]; remembers whether the controller took it.
    pub async fn within<T>(
        &self,
        timeout_ms: i32,
        asked: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let answer = self.services.within(timeout_ms, asked).await;
        if answer.as_ref().is_err_and(|refused| refused.code == ErrorCode::NotController) {
            self.not_taken.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Whether `NOT_CONTROLLER` was the answer to what it asked of the metadata since this was asked last: it had no
    /// effect, and whoever has become the controller is to be asked.
    pub fn is_not_taken(&self) -> bool {
        self.not_taken.swap(false, Ordering::Relaxed)
    }

    /// Who asks, as subscriptions to metrics see it.
    pub fn telemetry_client(&self, instance: KafkaUuid) -> Client {
        let software = self.connection.client_software.get();
        Client {
            instance,
            client_id: Arc::clone(&self.request.client_id),
            software: software.map(|software| (software.name.clone(), software.version.clone())),
            peer: self.connection.peer,
            connection: self.connection.id,
        }
    }
}

/// The name of whoever did not say who it is (`KafkaPrincipal.ANONYMOUS`).
const ANONYMOUS: &str = "ANONYMOUS";

/// One client connection.
pub struct Connection {
    /// Unique within this process.
    pub id: u64,
    /// Name of the listener that accepted it.
    pub listener: Arc<str>,
    /// Whether that listener is one of controllers.
    pub controller: bool,
    /// Whether a broker forwards what a client asks there, and has judged what is its own to judge.
    pub forwarded: bool,
    pub peer: SocketAddr,
    /// What the client called itself in ApiVersions (KIP-511); empty before that, and for ever with old clients.
    pub client_software: OnceLock<ClientSoftware>,
    /// The client instance that pushes its metrics here (KIP-714).
    client: Mutex<Option<Presence>>,
    /// A broker is heard here.
    hearing: OnceLock<Hearing>,
    /// The name of its principal.
    pub user: Arc<str>,
    /// Until when it is not read.
    pub mute: Mute,
}

/// Name and version of a client library, as it told them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientSoftware {
    pub name: String,
    pub version: String,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(id: u64, listener: Arc<str>, controller: bool, peer: SocketAddr) -> Connection {
        Connection {
            id,
            listener,
            controller,
            forwarded: false,
            peer,
            client_software: OnceLock::new(),
            client: Mutex::new(None),
            hearing: OnceLock::new(),
            user: ANONYMOUS.into(),
            mute: Mute::default(),
        }
    }

    /// Has the controller know when this connection ends: a broker is heard here.
    pub fn keep_hearing(&self, metadata: &Metadata) {
        self.hearing.get_or_init(|| metadata.hearing(self.id));
    }

    /// Keeps a client instance known until this connection ends, in place of the one it had.
    pub fn keep_client(&self, telemetry: &Arc<Telemetry>, client: &Client) {
        let mut kept = self.client.lock();
        if kept.as_ref().is_none_or(|kept| kept.instance != client.instance) {
            *kept = Some(Presence::new(telemetry, client));
        }
    }
}
