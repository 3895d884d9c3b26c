//! What the active controller does for brokers that ask it over the wire, and the clock that has it ask itself.
//!
//! Invariants: a node that is not active says so (`NOT_CONTROLLER`) and does nothing; a heartbeat counts from the
//! moment it arrived, however long the round that decides it takes.

use std::ops::Range;
use std::time::Duration;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, ProducerId};
use crate::metadata::Metadata;
use crate::metadata::broker_asks::{
    AllocateProducerIds, AlterPartitions, AssignDirectories, BalanceLeaders, Beat, ElectUncleanly, FenceSilent,
    RegisterBroker,
};
use crate::metadata::brokers::Registration;
use crate::metadata::controller::not_controller;
use crate::metadata::directories::DirectoryAssignment;
use crate::metadata::heartbeats::{Heartbeat, HeartbeatAnswer};
use crate::metadata::isr::{AlterPartition, Altered};
use crate::metadata::leaders::ELECTIONS_PER_PASS_MAX;
use crate::metadata::sessions::{Hearing, Word};

/// Times that silence is looked for within one session (`QuorumController`, `maybeFenceStaleBroker`).
const LOOKS_PER_SESSION: u32 = 8;

/// Pause between two searches for partitions that only an unclean election can save
/// (`unclean.leader.election.interval.ms`).
const UNCLEAN_INTERVAL: Duration = Duration::from_secs(300);

impl Metadata {
    /// Registers a broker as the active controller; the broker epoch.
    pub async fn on_registration(
        &self,
        registration: Registration,
        cluster_id: Option<String>,
    ) -> Result<i64, ApiError> {
        self.as_controller()?.admit(registration, cluster_id, false).await
    }

    /// Registers the broker of this process as the active controller; the broker epoch.
    pub(super) async fn on_own_registration(&self, registration: Registration) -> Result<i64, ApiError> {
        self.as_controller()?.admit(registration, None, true).await
    }

    async fn admit(&self, registration: Registration, cluster_id: Option<String>, own: bool) -> Result<i64, ApiError> {
        let (sessions, now) = (self.sessions.clone(), self.env.now());
        self.ask(RegisterBroker { registration, cluster_id, own, sessions, now }).await?
    }

    /// What a connection is to keep on which a broker is heard: its end is noted.
    pub fn hearing(&self, connection: u64) -> Hearing {
        self.sessions.hearing(connection)
    }

    /// Hears a broker as the active controller; `connection` is the one that it spoke on, if not in this process.
    pub async fn on_heartbeat(
        &self,
        heartbeat: Heartbeat,
        connection: Option<u64>,
    ) -> Result<HeartbeatAnswer, ApiError> {
        self.as_controller()?;
        let Heartbeat { id, epoch, metadata_offset: read, .. } = heartbeat;
        self.sessions.heard(&self.image(), Word { id, epoch, read, connection }, self.env.now());
        let answer = self.ask(Beat { heartbeat, sessions: self.sessions.clone() }).await;
        if answer.as_ref().is_err_and(|refused| refused.code == ErrorCode::RequestTimedOut) {
            self.sessions.timed_out();
        }
        answer?
    }

    /// Changes ISRs as the active controller; answers in the order of `changes`.
    pub async fn on_alter_partitions(
        &self,
        sender: BrokerId,
        epoch: i64,
        changes: Vec<AlterPartition>,
    ) -> Result<Vec<Altered>, ApiError> {
        self.as_controller()?.ask(AlterPartitions { sender, epoch, changes }).await?
    }

    /// Notes where replicas are as the active controller; answers in the order of `assignments`.
    pub async fn on_assign_directories(
        &self,
        broker: BrokerId,
        epoch: i64,
        assignments: Vec<DirectoryAssignment>,
    ) -> Result<Vec<Result<(), ErrorCode>>, ApiError> {
        self.as_controller()?.ask(AssignDirectories { broker, epoch, assignments }).await?
    }

    /// Hands out a block of producer ids as the active controller.
    pub async fn on_allocate_producer_ids(&self, broker: BrokerId, epoch: i64) -> Result<Range<ProducerId>, ApiError> {
        self.as_controller()?.ask(AllocateProducerIds { broker, epoch }).await?
    }

    fn as_controller(&self) -> Result<&Metadata, ApiError> {
        if self.is_active() { Ok(self) } else { Err(not_controller()) }
    }

    /// Looks for what time has brought, for ever: silent brokers, leaders that are not the preferred ones, partitions
    /// that nobody leads.
    pub(super) async fn watch_the_clock(self) {
        let pause = self.settings.session_timeout / LOOKS_PER_SESSION;
        let rebalance = self.settings.rebalance_interval;
        let mut balanced = self.env.now();
        let mut rescued = self.env.now();
        loop {
            self.env.sleep(pause).await;
            if !self.is_active() {
                continue;
            }
            self.fence_the_silent().await;
            let due = |since, interval| self.env.now().duration_since(since) >= interval;
            if rebalance.is_some_and(|interval| due(balanced, interval)) {
                self.balance_leaders().await;
                balanced = self.env.now();
            }
            if due(rescued, UNCLEAN_INTERVAL) {
                self.elect_uncleanly().await;
                rescued = self.env.now();
            }
        }
    }

    pub(super) async fn fence_the_silent(&self) {
        let timeout = self.settings.session_timeout;
        while self.sessions.silent(&self.image(), timeout, self.env.now()).is_some() {
            match self.ask(FenceSilent { sessions: self.sessions.clone(), now: self.env.now() }).await {
                Ok(Some(broker)) => {
                    tracing::warn!(%broker, "a broker was silent for too long, or is gone, and is fenced")
                }
                Ok(None) => return,
                Err(refused) => {
                    tracing::debug!(%refused, "no silent broker could be fenced");
                    return;
                }
            }
        }
    }

    async fn balance_leaders(&self) {
        loop {
            match self.ask(BalanceLeaders).await {
                Ok(elected) => {
                    if elected > 0 {
                        tracing::info!(elected, "preferred replicas lead again");
                    }
                    if elected < ELECTIONS_PER_PASS_MAX {
                        return;
                    }
                }
                Err(refused) => {
                    tracing::debug!(%refused, "leaders could not be balanced");
                    return;
                }
            }
        }
    }

    async fn elect_uncleanly(&self) {
        loop {
            match self.ask(ElectUncleanly).await {
                Ok(elected) => {
                    if elected > 0 {
                        tracing::warn!(elected, "leaders were elected that may lack committed records");
                    }
                    if elected < ELECTIONS_PER_PASS_MAX {
                        return;
                    }
                }
                Err(refused) => {
                    tracing::debug!(%refused, "no leaders could be elected");
                    return;
                }
            }
        }
    }
}
