//! The topics a broker creates by itself: those it keeps its own state in, and those a client asked for by merely
//! asking for their metadata.
//!
//! Invariants: a topic is asked for once at a time ([`crate::api::topics_in_creation`]). A failed creation is logged
//! and forgotten: the client that missed the topic asks again, and that starts the next attempt
//! (`DefaultAutoTopicCreationManager`).

use std::sync::Arc;

use crate::api::Services;
use crate::api::endpoints::live_brokers;
use crate::api::topics_in_creation::Claim;
use crate::config::Config;
use crate::error::{ApiError, ErrorCode};
use crate::ids::internal_topics::{CONSUMER_OFFSETS, is_internal};
use crate::metadata::{CreatedTopic, MutationQuota, NewTopic};

impl Services {
    /// Makes sure the internal topic `name` exists, creating it if need be, and returns once its partitions are hosted.
    /// `CoordinatorNotAvailable` if it does not exist after `request.timeout.ms`: clients retry that.
    pub async fn ensure_internal_topic(&self, name: &str) -> Result<(), ErrorCode> {
        let exists = || self.metadata.image().topics.by_name(name).is_some();
        if exists() {
            return Ok(());
        }
        let patience_ms = self.config.load().broker().request_timeout_ms;
        let Some(claim) = self.topics_in_creation.claim(name) else {
            // Whoever holds the claim lets go of it within the same time.
            self.topics_in_creation.released(name).await;
            return if exists() { Ok(()) } else { Err(ErrorCode::CoordinatorNotAvailable) };
        };
        if let Some(topic) = self.topic_to_create(name) {
            let asked = self.metadata.create_own_topics(vec![topic], MutationQuota::default());
            log_failures(&[claim], self.within(patience_ms, asked).await);
        }
        if exists() { Ok(()) } else { Err(ErrorCode::CoordinatorNotAvailable) }
    }

    /// Starts to create those of `names` that nobody is creating, as far as `quota` goes, and returns at once. The
    /// names must be legal.
    pub fn auto_create(self: &Arc<Self>, names: &[&str], quota: MutationQuota) {
        let claimed = |name: &&str| {
            let topic = self.topic_to_create(name)?;
            Some((self.topics_in_creation.claim(name)?, topic))
        };
        let (claims, topics): (Vec<Claim>, Vec<NewTopic>) = names.iter().filter_map(claimed).unzip();
        if topics.is_empty() {
            return;
        }
        let services = Arc::clone(self);
        let patience_ms = self.config.load().broker().request_timeout_ms;
        self.env.spawn(async move {
            let asked = services.metadata.create_own_topics(topics, quota);
            log_failures(&claims, services.within(patience_ms, asked).await);
        });
    }

    /// What `name` looks like when the broker creates it; `None` if it must not.
    fn topic_to_create(&self, name: &str) -> Option<NewTopic> {
        match name {
            CONSUMER_OFFSETS => {
                let live = live_brokers(&self.metadata.image());
                Some(consumer_offsets(&self.config.load(), live))
            }
            // Their coordinators are not built yet, and a topic of the wrong shape would be in their way later.
            _ if is_internal(name) => None,
            _ => Some(ordinary(&self.config.load(), name)),
        }
    }
}

/// One line, however many topics a client named.
fn log_failures(claims: &[Claim], outcome: Result<Vec<Result<CreatedTopic, ApiError>>, ApiError>) {
    let results = outcome.unwrap_or_else(|refused| vec![Err(refused); claims.len()]);
    let refused = claims.iter().zip(&results).filter_map(|(claim, result)| Some((claim, result.as_ref().err()?)));
    // Another broker may have been faster; then the topic is there, which is all we wanted.
    let mut failed = refused.filter(|(_, refused)| refused.code != ErrorCode::TopicAlreadyExists);
    if let Some((claim, refused)) = failed.next() {
        let others = failed.count();
        tracing::warn!(topic = claim.name(), %refused, others, "automatic creation of topics failed");
    }
}

/// The topic of the group coordinator (`GroupCoordinator.groupMetadataTopicConfigs`); `live` brokers are unfenced.
fn consumer_offsets(config: &Config, live: usize) -> NewTopic {
    let settings = config.broker();
    let is_set = config.is_set("offsets.topic.replication.factor");
    let factor = replication_factor(settings.offsets_topic_replication_factor, is_set, live);
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", settings.offsets_topic_segment_bytes.to_string()),
    ];
    new_topic(CONSUMER_OFFSETS, settings.offsets_topic_num_partitions, factor, &configs)
}

/// A topic that a client asked for by its name: of the shape that this broker's operator set, and where nothing is set,
/// of the controller's choosing, for which -1 stands (KAFKA-19655).
fn ordinary(config: &Config, name: &str) -> NewTopic {
    let settings = config.broker();
    let partitions = if config.is_set("num.partitions") { settings.num_partitions } else { -1 };
    let is_factor_set = config.is_set("default.replication.factor");
    // No factor that a cluster can have is beyond an i16.
    let factor = i16::try_from(settings.default_replication_factor).unwrap_or(i16::MAX);
    new_topic(name, partitions, if is_factor_set { factor } else { -1 }, &[])
}

/// The replication factor of an internal topic. The default wants three brokers; a smaller cluster whose operator said
/// nothing gets one replica on each broker instead of no topic. What the operator did say is taken literally.
fn replication_factor(wanted: i16, is_set: bool, live: usize) -> i16 {
    let possible = i16::try_from(live.max(1)).unwrap_or(i16::MAX);
    if is_set { wanted } else { wanted.min(possible) }
}

fn new_topic(name: &str, partitions: i32, replication_factor: i16, configs: &[(&str, String)]) -> NewTopic {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), Some(value.clone()))).collect();
    NewTopic { name: name.to_owned(), partitions, replication_factor, assignments: Vec::new(), configs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn a_default_shrinks_to_the_cluster_and_a_setting_does_not() {
        assert_eq!(replication_factor(3, false, 1), 1);
        assert_eq!(replication_factor(3, false, 5), 3);
        assert_eq!(replication_factor(3, false, 0), 1);
        assert_eq!(replication_factor(3, true, 1), 3);
    }

    #[test]
    fn the_operator_of_the_broker_goes_before_the_controller() {
        let shape = |settings: &[(&str, &str)]| {
            let overrides = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let loaded = Config::load(Sources { overrides, ..Sources::default() }).expect("legal settings");
            let topic = ordinary(&loaded.config, "t");
            (topic.partitions, topic.replication_factor)
        };
        assert_eq!(shape(&[]), (-1, -1));
        assert_eq!(shape(&[("num.partitions", "1")]), (1, -1), "even what is the default");
        assert_eq!(shape(&[("num.partitions", "5"), ("default.replication.factor", "2")]), (5, 2));
    }
}
