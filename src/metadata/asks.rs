//! The questions of administrators. Each is decided item by item on the round's image, so that one item sees
//! what the ones before it decided, in this request and in the requests of the same round.
//!
//! Invariant: what is random (ids, seeds) was drawn before the ask was made. Pure, but for the [`MutationQuota`] that
//! an ask brings along: it belongs to whoever asked and is not in the image, so replay never sees it.

use std::sync::Arc;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{PartitionIndex, TopicId};
use crate::metadata::client_quotas::{self, QuotaAlteration};
use crate::metadata::controller::{MetadataAsk, Round};
use crate::metadata::features::{self, FeatureUpdate};
use crate::metadata::leaders;
use crate::metadata::partition_change::Election;
use crate::metadata::reassignments::{self, Reassignment};
use crate::metadata::settings::{self, SettingAlteration};
use crate::metadata::topics::{self, CreatedTopic, Growth, NewTopic};

/// How many partitions the asker may still create or delete (KIP-599); by default as many as it likes.
#[derive(Clone, Default)]
pub struct MutationQuota(Option<Arc<dyn Fn(usize) -> bool + Send + Sync>>);

impl MutationQuota {
    /// A quota that is asked for a number of partitions, and counts them if it says yes.
    pub fn new(take: impl Fn(usize) -> bool + Send + Sync + 'static) -> MutationQuota {
        MutationQuota(Some(Arc::new(take)))
    }

    pub(super) fn take(&self, partitions: usize) -> Result<(), ApiError> {
        match &self.0 {
            Some(take) if !take(partitions) => Err(ErrorCode::ThrottlingQuotaExceeded.into()),
            _ => Ok(()),
        }
    }
}

/// Create topics.
pub struct CreateTopics {
    /// Each with the id it shall have.
    pub topics: Vec<(NewTopic, TopicId)>,
    /// Chooses the first leaders.
    pub seed: u64,
    /// Decide only, change nothing.
    pub validate: bool,
    pub quota: MutationQuota,
}

impl MetadataAsk for CreateTopics {
    /// In the order of the request.
    type Answer = Vec<Result<CreatedTopic, ApiError>>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        let wanted = self.topics.iter().map(|(topic, _)| topic);
        if let Err(refused) = topics::check_total(wanted, round.rules().topic_defaults) {
            return self.topics.iter().map(|_| Err(refused.clone())).collect();
        }
        let mut seed = self.seed;
        round.each(self.topics, self.validate, |round, (topic, id)| {
            let (records, created) = topics::decide_create(round.image(), &topic, id, seed, round.rules())?;
            seed = seed.wrapping_add(1);
            self.quota.take(created.partitions as usize)?;
            round.accept(records);
            Ok(created)
        })
    }
}

/// Delete topics by id.
pub struct DeleteTopics {
    pub ids: Vec<TopicId>,
    pub quota: MutationQuota,
}

impl MetadataAsk for DeleteTopics {
    /// In the order of the request.
    type Answer = Vec<Result<(), ApiError>>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        round.each(self.ids, false, |round, id| {
            let records = topics::decide_delete(round.image(), id)?;
            self.quota.take(round.image().topics.by_id(id).map_or(0, |topic| topic.partitions.len()))?;
            round.accept(records);
            Ok(())
        })
    }
}

/// Add partitions to topics.
pub struct CreatePartitions {
    pub growths: Vec<Growth>,
    /// Chooses the first leaders.
    pub seed: u64,
    /// Decide only, change nothing.
    pub validate: bool,
    pub quota: MutationQuota,
}

impl MetadataAsk for CreatePartitions {
    /// In the order of the request.
    type Answer = Vec<Result<(), ApiError>>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        if let Err(refused) = topics::check_growth_total(round.image(), &self.growths) {
            return self.growths.iter().map(|_| Err(refused.clone())).collect();
        }
        round.each(self.growths, self.validate, |round, growth| {
            let records = topics::decide_grow(round.image(), &growth, self.seed)?;
            self.quota.take(records.len())?;
            round.accept(records);
            Ok(())
        })
    }
}

/// Alter the settings of resources.
pub struct AlterSettings {
    pub alterations: Vec<SettingAlteration>,
    /// Decide only, change nothing.
    pub validate: bool,
}

impl MetadataAsk for AlterSettings {
    /// In the order of the request.
    type Answer = Vec<Result<(), ApiError>>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        round.each(self.alterations, self.validate, |round, alteration| {
            let records = settings::decide_alter(round.image(), &alteration, round.rules())?;
            round.accept(records);
            Ok(())
        })
    }
}

/// Alter the quotas of clients.
pub struct AlterClientQuotas {
    pub alterations: Vec<QuotaAlteration>,
    /// Decide only, change nothing.
    pub validate: bool,
}

impl MetadataAsk for AlterClientQuotas {
    /// In the order of the request.
    type Answer = Vec<Result<(), ApiError>>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        round.each(self.alterations, self.validate, |round, alteration| {
            let records = client_quotas::decide_alter_quotas(round.image(), &alteration)?;
            round.accept(records);
            Ok(())
        })
    }
}

/// Finalize feature levels.
pub struct UpdateFeatures {
    pub updates: Vec<FeatureUpdate>,
    /// Decide only, change nothing.
    pub validate: bool,
}

impl MetadataAsk for UpdateFeatures {
    type Answer = Result<(), ApiError>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        let records = features::decide_update(round.image(), round.rules(), &self.updates)?;
        if !self.validate {
            round.accept(records);
        }
        Ok(())
    }
}

/// Elect leaders.
pub struct ElectLeaders {
    pub election: Election,
    /// `None`: every partition of every topic.
    pub partitions: Option<Vec<(String, PartitionIndex)>>,
}

/// A partition by topic name and index, and how its election went.
pub type Elected = (String, PartitionIndex, Result<(), ApiError>);

impl MetadataAsk for ElectLeaders {
    /// In the order of the request. Asked for all, partitions that need no election are left out.
    type Answer = Vec<Elected>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        let all = self.partitions.is_none();
        let partitions = self.partitions.unwrap_or_else(|| every_partition(round));
        let mut answers = Vec::with_capacity(if all { 0 } else { partitions.len() });
        for (topic, index) in partitions {
            let decided = leaders::decide_elect(round.image(), round.rules(), (&topic, index), self.election);
            let outcome = decided.map(|records| round.accept(records));
            if !(all && outcome.as_ref().is_err_and(|why| why.code == ErrorCode::ElectionNotNeeded)) {
                answers.push((topic, index, outcome));
            }
        }
        answers
    }
}

fn every_partition(round: &Round) -> Vec<(String, PartitionIndex)> {
    let topics = round.image().topics.iter();
    let partitions =
        topics.flat_map(|topic| (0..).zip(&topic.partitions).map(|(index, _)| (topic.name.to_string(), index)));
    partitions.collect()
}

/// Move replicas, or call moves off.
pub struct Reassign {
    pub reassignments: Vec<Reassignment>,
    pub factor_may_change: bool,
}

impl MetadataAsk for Reassign {
    /// In the order of the request.
    type Answer = Vec<Result<(), ApiError>>;

    fn decide(self, round: &mut Round) -> Self::Answer {
        round.each(self.reassignments, false, |round, asked| {
            let records = reassignments::decide_reassign(round.image(), round.rules(), &asked, self.factor_may_change)?;
            round.accept(records);
            Ok(())
        })
    }
}
