//! The questions of brokers, and those the controller asks itself as time passes.
//!
//! Invariant: decided on the round's image alone, but for [`Sessions`], which an ask brings along with the time it was
//! asked at: who was heard when is not in the log, so replay never sees it.

use std::ops::Range;

use tokio::time::Instant;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, ProducerId};
use crate::metadata::brokers::{self, Registration, check_epoch};
use crate::metadata::controller::{MetadataAsk, Round};
use crate::metadata::directories::{self, DirectoryAssignment};
use crate::metadata::heartbeats::{self, Heartbeat, HeartbeatAnswer};
use crate::metadata::isr::{self, AlterPartition, Altered};
use crate::metadata::leaders;
use crate::metadata::record::MetadataRecord;
use crate::metadata::sessions::Sessions;

/// Producer ids that are handed out at once (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
pub const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// Register a broker, fenced until it has caught up.
pub struct RegisterBroker {
    pub registration: Registration,
    /// The cluster that it wants to be part of, as text; `None` leaves that unchecked.
    pub cluster_id: Option<String>,
    /// It runs in the process of the controller, so that its earlier life is over, whatever its session says.
    pub own: bool,
    pub sessions: Sessions,
    pub now: Instant,
}

impl MetadataAsk for RegisterBroker {
    /// The broker epoch.
    type Answer = Result<i64, ApiError>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        let RegisterBroker { registration, cluster_id, own, sessions, now } = self;
        let (image, rules) = (round.image(), round.rules());
        let expected = image.cluster_id.to_string();
        if let Some(actual) = cluster_id.filter(|actual| *actual != expected) {
            let message = format!("Expected cluster ID {expected}, but got cluster ID {actual}");
            return Err(ApiError::new(ErrorCode::InconsistentClusterId, message));
        }
        let other = image.brokers.by_id(registration.id);
        let other = other.filter(|broker| broker.incarnation != registration.incarnation);
        if !own && other.is_some_and(|other| sessions.is_live(image, other, rules.controller.session_timeout, now)) {
            return Err(brokers::duplicate());
        }
        let clean = brokers::is_clean(image, &registration);
        let (records, epoch) = brokers::decide_register(image, rules, registration, clean)?;
        round.accept(records);
        Ok(epoch)
    }
}

/// Register a broker and unfence it at once: a broker that is its own controller has seen everything there is.
pub struct JoinCluster {
    pub registration: Registration,
    /// It is known to have everything that it had; else its previous epoch must say so.
    pub clean: bool,
}

impl MetadataAsk for JoinCluster {
    /// The broker epoch.
    type Answer = Result<i64, ApiError>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        let id = self.registration.id;
        let clean = self.clean || brokers::is_clean(round.image(), &self.registration);
        let (records, epoch) = brokers::decide_register(round.image(), round.rules(), self.registration, clean)?;
        round.accept(records);
        let caught_up = Heartbeat {
            id,
            epoch,
            metadata_offset: epoch,
            want_fence: false,
            want_shut_down: false,
            offline_dirs: Vec::new(),
            cordoned_dirs: None,
        };
        let (records, _) = heartbeats::decide_heartbeat(round.image(), round.rules(), &caught_up, epoch)?;
        round.accept(records);
        Ok(epoch)
    }
}

/// Take a broker out of the cluster.
pub struct UnregisterBroker {
    pub id: BrokerId,
    /// The same broker, if it is alive: it registers again in the same round, so that nobody sees it gone.
    pub returning: Option<Registration>,
}

impl MetadataAsk for UnregisterBroker {
    type Answer = Result<(), ApiError>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        let records = brokers::decide_unregister(round.image(), round.rules(), self.id)?;
        round.accept(records);
        match self.returning {
            Some(registration) => JoinCluster { registration, clean: true }.decide(round).map(drop),
            None => Ok(()),
        }
    }
}

/// What a broker says every few seconds.
pub struct Beat {
    pub heartbeat: Heartbeat,
    pub sessions: Sessions,
}

impl MetadataAsk for Beat {
    type Answer = Result<HeartbeatAnswer, ApiError>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        let read_by_all = self.sessions.read_by_all(round.image());
        let (records, answer) =
            heartbeats::decide_heartbeat(round.image(), round.rules(), &self.heartbeat, read_by_all)?;
        round.accept(records);
        Ok(answer)
    }
}

/// Change ISRs.
pub struct AlterPartitions {
    /// The leader that asks, and the epoch under which it is registered.
    pub sender: BrokerId,
    pub epoch: i64,
    pub changes: Vec<AlterPartition>,
}

impl MetadataAsk for AlterPartitions {
    /// In the order of the request.
    type Answer = Result<Vec<Altered>, ApiError>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        check_epoch(round.image(), self.sender, self.epoch)?;
        let alter = |asked: &AlterPartition| {
            let (record, outcome) = isr::decide_alter_partition(round.image(), round.rules(), self.sender, asked);
            round.accept(record.into_iter().collect());
            outcome
        };
        Ok(self.changes.iter().map(alter).collect())
    }
}

/// Tell where replicas are.
pub struct AssignDirectories {
    /// The broker that has them, and the epoch under which it is registered.
    pub broker: BrokerId,
    pub epoch: i64,
    pub assignments: Vec<DirectoryAssignment>,
}

impl MetadataAsk for AssignDirectories {
    /// In the order of the request.
    type Answer = Result<Vec<Result<(), ErrorCode>>, ApiError>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        let broker = check_epoch(round.image(), self.broker, self.epoch)?.clone();
        let assign = |asked: &DirectoryAssignment| {
            let record = directories::decide_assign(round.image(), round.rules(), &broker, asked)?;
            round.accept(record.into_iter().collect());
            Ok(())
        };
        Ok(self.assignments.iter().map(assign).collect())
    }
}

/// Hand out a block of producer ids.
pub struct AllocateProducerIds {
    /// The broker that wants them, and the epoch under which it is registered.
    pub broker: BrokerId,
    pub epoch: i64,
}

impl MetadataAsk for AllocateProducerIds {
    type Answer = Result<Range<ProducerId>, ApiError>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        check_epoch(round.image(), self.broker, self.epoch)?;
        let first = round.image().producer_ids;
        let next = first.checked_add(PRODUCER_IDS_PER_BLOCK).ok_or(ErrorCode::UnknownServerError)?;
        round.accept(vec![MetadataRecord::ProducerIds { next }]);
        Ok(first..next)
    }
}

/// Fence the first broker that has been silent for too long. One at a time, so that what it means is decided before
/// the next.
pub struct FenceSilent {
    pub sessions: Sessions,
    pub now: Instant,
}

impl MetadataAsk for FenceSilent {
    /// Who was fenced.
    type Answer = Option<BrokerId>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        let timeout = round.rules().controller.session_timeout;
        let silent = self.sessions.silent(round.image(), timeout, self.now)?;
        let records = heartbeats::decide_fence(round.image(), round.rules(), silent);
        round.accept(records);
        Some(silent)
    }
}

/// Have preferred replicas lead that do not.
pub struct BalanceLeaders;

impl MetadataAsk for BalanceLeaders {
    /// How many were elected.
    type Answer = usize;

    fn decide(self, round: &mut Round) -> usize {
        let records = leaders::balance(round.image(), round.rules());
        let elected = records.len();
        round.accept(records);
        elected
    }
}

/// Elect whoever lives where nobody leads and the topic allows it.
pub struct ElectUncleanly;

impl MetadataAsk for ElectUncleanly {
    /// How many were elected.
    type Answer = usize;

    fn decide(self, round: &mut Round) -> usize {
        let records = leaders::elect_uncleanly(round.image(), round.rules());
        let elected = records.len();
        round.accept(records);
        elected
    }
}
