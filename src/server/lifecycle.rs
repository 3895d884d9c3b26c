//! This broker's life in its cluster: it registers, says that it is alive, and leaves in good order (KIP-631).
//!
//! ```text
//! registering ──registered──> recovering ──has applied its registration, is unfenced──> running ──> leaving ──> gone
//! ```
//!
//! Invariants: a broker is not unfenced before everything up to its own registration took effect here; it goes on
//! serving while it leaves, until the controller has moved what it leads; a stop never waits for a controller for
//! longer than [`NO_CONTROLLER_PATIENCE`], because what was acknowledged is on disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::env::Env;
use crate::error::ErrorCode;
use crate::ids::KafkaUuid;
use crate::metadata::{Heartbeat, Metadata, Registration};
use crate::partitions::Partitions;
use crate::server::yielding::Yielding;

/// Pause before a call that failed is made again; it doubles up to the interval of heartbeats.
const RETRY: Duration = Duration::from_millis(20);

/// Pause between heartbeats of a broker that waits for the controller's leave.
const LEAVING_INTERVAL: Duration = Duration::from_millis(50);

/// How long a broker that wants to leave waits for a controller that answers.
const NO_CONTROLLER_PATIENCE: Duration = Duration::from_secs(3);

/// How long it waits for its leave altogether.
const LEAVE_PATIENCE: Duration = Duration::from_secs(300);

/// How far a broker has come (`BrokerState`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Registering,
    Recovering,
    Running,
    /// Fenced by the controller after it had been running: it is silent, or asked for it.
    Fenced,
    Leaving,
    /// The controller let it go, or cannot be asked.
    Gone,
    /// It cannot be part of this cluster; a sentence for the operator.
    Failed(String),
}

/// What the lifecycle is made of.
pub(super) struct Lifecycle {
    pub env: Env,
    pub metadata: Metadata,
    pub partitions: Partitions,
    pub config: Arc<arc_swap::ArcSwap<Config>>,
    pub registration: Registration,
}

/// The outside of a running lifecycle. Cheap to clone.
#[derive(Clone)]
pub(super) struct Life {
    stage: watch::Receiver<Stage>,
    leave: watch::Sender<bool>,
}

impl Life {
    /// Waits until the broker runs; the error is a sentence for the operator.
    pub(super) async fn running(&self) -> Result<(), String> {
        let mut stage = self.stage.clone();
        let over = |stage: &Stage| matches!(stage, Stage::Running | Stage::Failed(_) | Stage::Gone);
        match stage.wait_for(over).await.as_deref() {
            Ok(Stage::Running) => Ok(()),
            Ok(Stage::Failed(why)) => Err(why.clone()),
            Ok(_) | Err(_) => Err("the broker was stopped before it was part of its cluster".into()),
        }
    }

    /// Hears how far it has come.
    pub(super) fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.clone()
    }

    /// Waits until the broker cannot be part of its cluster any more, and says why.
    pub(super) async fn failed(&self) -> String {
        let mut stage = self.stage.clone();
        match stage.wait_for(|stage| matches!(stage, Stage::Failed(_))).await.as_deref() {
            Ok(Stage::Failed(why)) => why.clone(),
            Ok(_) | Err(_) => std::future::pending().await,
        }
    }

    /// Asks for leave and waits until it is given, or cannot be had.
    pub(super) async fn leave(&self) {
        self.leave.send_replace(true);
        let mut stage = self.stage.clone();
        // The task may have ended, then there is nothing to wait for.
        let _ = stage.wait_for(|stage| matches!(stage, Stage::Gone | Stage::Failed(_))).await;
    }
}

impl Lifecycle {
    /// Begins to live.
    pub(super) fn start(self) -> Life {
        let (leave, leaving) = watch::channel(false);
        let (tell, stage) = watch::channel(Stage::Registering);
        let env = self.env.clone();
        env.spawn(Living { of: self, leaving, tell, yielding: Yielding::default() }.run());
        Life { stage, leave }
    }
}

struct Living {
    of: Lifecycle,
    leaving: watch::Receiver<bool>,
    tell: watch::Sender<Stage>,
    yielding: Yielding,
}

/// Why the broker does not go on in its present life.
enum End {
    /// The controller does not know it any more: it has to register again.
    Unknown,
    Gone,
    Failed(String),
}

impl Living {
    async fn run(mut self) {
        loop {
            let end = match self.register().await {
                Ok(epoch) => self.live(epoch).await,
                Err(end) => end,
            };
            match end {
                End::Unknown => {
                    tracing::warn!("the controller does not know this broker any more: it registers again");
                    self.tell.send_replace(Stage::Registering);
                }
                End::Gone => {
                    self.tell.send_replace(Stage::Gone);
                    return;
                }
                End::Failed(why) => {
                    self.tell.send_replace(Stage::Failed(why));
                    return;
                }
            }
        }
    }

    fn interval(&self) -> Duration {
        let interval = self.of.config.load().broker().broker_heartbeat_interval_ms;
        Duration::from_millis(u64::try_from(interval).unwrap_or(0).max(1))
    }

    /// Registers and returns the epoch.
    async fn register(&mut self) -> Result<i64, End> {
        let Lifecycle { env, metadata, partitions, config, .. } = &self.of;
        let patience = config.load().broker().initial_broker_registration_timeout_ms;
        let patience = Duration::from_millis(u64::try_from(patience).unwrap_or(0));
        let deadline = env.now() + patience;
        let mut pause = RETRY;
        let mut told = false;
        loop {
            let refused = match metadata.register_broker(self.of.registration.clone()).await {
                Ok(epoch) => {
                    // Without syncs nothing vouches for what this life acknowledges.
                    let synced = config.load().broker().ottla_sync_before_ack;
                    partitions.note_broker_epoch(env, if synced { epoch } else { -1 }).await;
                    return Ok(epoch);
                }
                Err(refused) => refused,
            };
            if is_final(refused.code) {
                return Err(End::Failed(format!("the controller refuses this broker: {refused}")));
            }
            if env.now() >= deadline {
                let why = format!(
                    "no controller has registered this broker within initial.broker.registration.timeout.ms={}: \
                     {refused}",
                    patience.as_millis()
                );
                return Err(End::Failed(why));
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(why = %refused, "waiting for a controller that registers this broker");
            }
            if *self.leaving.borrow() {
                return Err(End::Gone);
            }
            tokio::select! {
                biased;
                // Nobody else would hear of it before this broker is registered.
                why = metadata.ended() => return Err(End::Failed(why)),
                () = env.sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Sends heartbeats until this life ends.
    async fn live(&mut self, epoch: i64) -> End {
        self.tell.send_replace(Stage::Recovering);
        self.of.partitions.reconciled_to(epoch + 1).await;
        let mut pause = RETRY;
        let mut left_since: Option<Instant> = None;
        let mut heard = self.of.env.now();
        loop {
            let want_shut_down = *self.leaving.borrow_and_update();
            if want_shut_down && left_since.is_none() {
                left_since = Some(self.of.env.now());
                heard = self.of.env.now();
                self.tell.send_replace(Stage::Leaving);
            }
            let want_fence = self.wants_fence();
            let heartbeat = Heartbeat { want_fence, ..self.heartbeat(epoch, want_shut_down) };
            let next = match self.of.metadata.heartbeat(heartbeat).await {
                Ok(answer) if answer.shut_down && want_shut_down => return End::Gone,
                Ok(answer) => {
                    (heard, pause) = (self.of.env.now(), RETRY);
                    if !want_shut_down {
                        self.note(answer.fenced);
                    }
                    match (want_shut_down, answer.fenced) {
                        (false, true) if want_fence => self.interval(),
                        (true, _) => LEAVING_INTERVAL,
                        // What it lacks it gets at any moment.
                        (false, true) => RETRY,
                        (false, false) => self.interval(),
                    }
                }
                Err(refused) => match refused.code {
                    ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered if want_shut_down => {
                        return End::Gone;
                    }
                    ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered => return End::Unknown,
                    _ => {
                        tracing::debug!(why = %refused, "no controller takes the heartbeat");
                        let wait = pause;
                        pause = (pause * 2).min(self.interval());
                        wait
                    }
                },
            };
            if let Some(since) = left_since {
                let now = self.of.env.now();
                if now - heard > NO_CONTROLLER_PATIENCE || now - since > LEAVE_PATIENCE {
                    tracing::warn!("stopping without the controller's leave: none answers");
                    return End::Gone;
                }
            }
            self.wait(next, want_shut_down).await;
        }
    }

    /// Waits for the next heartbeat: sooner if the broker is told to leave or has lost a directory.
    async fn wait(&mut self, pause: Duration, leaving_already: bool) {
        let Living { of, leaving, .. } = self;
        if leaving_already {
            return of.env.sleep(pause).await;
        }
        tokio::select! {
            biased;
            told = leaving.changed() => if told.is_err() { of.env.sleep(pause).await },
            () = of.env.sleep(pause) => {}
        }
    }

    fn wants_fence(&mut self) -> bool {
        let Lifecycle { env, metadata, partitions, registration, .. } = &self.of;
        let is_full = !partitions.full_directories().is_empty();
        self.yielding.wants_fence(env.now(), is_full, &metadata.image(), registration.id)
    }

    fn heartbeat(&self, epoch: i64, want_shut_down: bool) -> Heartbeat {
        let Lifecycle { partitions, config, registration, .. } = &self.of;
        Heartbeat {
            id: registration.id,
            epoch,
            metadata_offset: partitions.reconciled() - 1,
            want_fence: false,
            want_shut_down,
            offline_dirs: partitions.failed_directories(),
            cordoned_dirs: Some(cordoned(partitions, &config.load())),
        }
    }

    fn note(&self, fenced: bool) {
        self.tell.send_if_modified(|stage| {
            let next = match (&stage, fenced) {
                (Stage::Recovering, true) => return false,
                (_, true) => Stage::Fenced,
                (_, false) => Stage::Running,
            };
            let changed = *stage != next;
            if changed && *stage != Stage::Recovering {
                match fenced {
                    true => tracing::warn!("the controller has fenced this broker"),
                    false => tracing::info!("the controller has unfenced this broker"),
                }
            }
            *stage = next;
            changed
        });
    }
}

/// True if asking again cannot help.
fn is_final(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::InconsistentClusterId | ErrorCode::InvalidRegistration | ErrorCode::UnsupportedVersion)
}

/// The ids of the directories that take no new partitions (KIP-1066).
fn cordoned(partitions: &Partitions, config: &Config) -> Vec<KafkaUuid> {
    let cordoned = &config.broker().cordoned_log_dirs;
    let names = |path: &std::path::Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        cordoned.iter().any(|one| one == "*" || std::path::Path::new(one) == path)
    };
    partitions.directories().filter(|(_, path)| names(path)).map(|(id, _)| id).collect()
}
