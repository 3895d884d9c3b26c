//! A broker in this process: its own directory, its own port, its own threads.
//!
//! Invariants: a broker is stopped and its directory is gone when its test ends, however it ends. Brokers run side by
//! side, except the one that is started [`Broker::alone`]: what it does to the memory of the process is its own doing.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use ottla::api::Services;
use ottla::config::{Config, Sources};
use ottla::env::Env;
use ottla::server::{Server, SimulatedDisks, Start};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::client::Client;

/// Held shared by every broker, and exclusively by one that wants to be alone.
static COMPANY: RwLock<()> = RwLock::new(());

/// What every broker here is started with; a test's own settings come after these.
const SETTINGS: &[(&str, &str)] = &[
    ("listeners", "PLAINTEXT://127.0.0.1:0"),
    ("ottla.metrics.listener", ""),
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.num.partitions", "1"),
    ("num.partitions", "1"),
];

/// What makes a broker listen for brokers too, as the controller that it is.
const CONTROLLER: &[(&str, &str)] = &[
    ("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"),
    ("controller.listener.names", "CONTROLLER"),
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
];

/// A running broker.
pub struct Broker {
    runtime: Runtime,
    server: Option<Server>,
    address: SocketAddr,
    _directory: Option<TempDir>,
    _company: Company,
}

/// Whether other brokers may run at the same time.
enum Company {
    Others { _guard: RwLockReadGuard<'static, ()> },
    Nobody { _guard: RwLockWriteGuard<'static, ()> },
}

impl Broker {
    /// A broker with the usual settings.
    pub fn start() -> Broker {
        Broker::with(&[])
    }

    /// A broker that can be asked as a controller: see [`Broker::controller_client`].
    pub fn as_controller() -> Broker {
        Broker::with(CONTROLLER)
    }

    /// A broker with settings of its own. One test must not start two: they could wait for a third that wants to be
    /// alone.
    pub fn with(settings: &[(&str, &str)]) -> Broker {
        Broker::launch(settings, Company::Others { _guard: COMPANY.read() })
    }

    /// A broker that runs while no other does.
    pub fn alone(settings: &[(&str, &str)]) -> Broker {
        Broker::launch(settings, Company::Nobody { _guard: COMPANY.write() })
    }

    /// A broker over directories that belong to the test, separated by commas.
    pub fn over(log_dirs: &str, settings: &[(&str, &str)]) -> Broker {
        let settings: Vec<_> = settings.iter().copied().chain([("log.dirs", log_dirs)]).collect();
        let start = start_of(&settings);
        Broker::run(None, Company::Others { _guard: COMPANY.read() }, Server::start(Env::real(), start))
    }

    /// A broker on disks in memory, which the test may fill and break.
    pub fn on(disks: &SimulatedDisks, settings: &[(&str, &str)]) -> Broker {
        let start = start_of(settings);
        Broker::run(
            None,
            Company::Others { _guard: COMPANY.read() },
            Server::start_simulated(Env::real(), start, disks, |_| {}),
        )
    }

    fn launch(settings: &[(&str, &str)], company: Company) -> Broker {
        let directory = tempfile::tempdir().expect("a directory for the data");
        let path = directory.path().to_str().expect("a path in UTF-8");
        let settings: Vec<_> = settings.iter().copied().chain([("log.dirs", path)]).collect();
        let start = start_of(&settings);
        Broker::run(Some(directory), company, Server::start(Env::real(), start))
    }

    fn run(
        directory: Option<TempDir>,
        company: Company,
        starting: impl Future<Output = Result<Server, String>>,
    ) -> Broker {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let server = runtime.block_on(starting).expect("a broker that starts");
        let address = server.addresses()[0].1;
        Broker { runtime, server: Some(server), address, _directory: directory, _company: company }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new connection to it.
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A new connection to the listener of its controller.
    pub fn controller_client(&self) -> Client {
        let server = self.server.as_ref().expect("it runs until it is dropped");
        let mut addresses = server.addresses().iter();
        let (_, address) = addresses.find(|(name, _)| name == "CONTROLLER").expect("a listener of controllers");
        Client::connect(*address)
    }

    /// What its handlers see: for what no answer tells.
    pub fn services(&self) -> &Arc<Services> {
        self.server.as_ref().expect("it runs until it is dropped").services()
    }

    /// Its `node.id`.
    pub fn node(&self) -> i32 {
        self.services().node.0
    }
}

fn start_of(settings: &[(&str, &str)]) -> Start {
    let given = SETTINGS.iter().chain(settings).copied();
    let overrides = given.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let loaded = Config::load(Sources { overrides, ..Sources::default() }).expect("settings that are legal");
    Start { loaded, cluster_id: None, announce: false }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

/// Milliseconds since 1970, from the clock the broker reads.
pub fn now_ms() -> i64 {
    Env::real().wall_ms()
}
