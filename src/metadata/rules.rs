//! What decisions must be told about the world outside the image, and what it means for a topic.
//!
//! Invariants: rules stay what they were at the start of the process; what can change while it runs is in the image.
//! Pure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ApiError;
use crate::metadata::image::ClusterImage;
use crate::metadata::partition_change::Terms;
use crate::metadata::settings::{ResourceKind, SettingMap};
use crate::metadata::topics::{Topic, TopicDefaults};

pub(super) const MIN_ISR: &str = "min.insync.replicas";
const UNCLEAN_ELECTION: &str = "unclean.leader.election.enable";

/// Says whether a resource may have exactly these settings; the error is Kafka's.
pub type SettingsCheck = Arc<dyn Fn(ResourceKind, &str, &SettingMap) -> Result<(), ApiError> + Send + Sync>;

/// The settings by which a controller works, from the file of the node that it runs on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerSettings {
    /// `broker.session.timeout.ms`: a broker that is silent for longer is fenced.
    pub session_timeout: Duration,
    /// `broker.heartbeat.interval.ms`: how often a broker is expected to be heard.
    pub heartbeat_interval: Duration,
    /// The name of the listener on which brokers reach each other.
    pub broker_listener: String,
    /// `min.insync.replicas`, where neither the topic nor the cluster says otherwise.
    pub min_insync_replicas: i32,
    /// `unclean.leader.election.enable`, likewise.
    pub unclean_leader_election: bool,
    /// `leader.imbalance.check.interval.seconds`; `None` if `auto.leader.rebalance.enable` is false.
    pub rebalance_interval: Option<Duration>,
}

impl Default for ControllerSettings {
    /// Kafka's defaults.
    fn default() -> ControllerSettings {
        ControllerSettings {
            session_timeout: Duration::from_secs(9),
            heartbeat_interval: Duration::from_secs(2),
            broker_listener: "PLAINTEXT".into(),
            min_insync_replicas: 1,
            unclean_leader_election: false,
            rebalance_interval: Some(Duration::from_secs(300)),
        }
    }
}

/// What decisions must be told about the world outside the image.
#[derive(Clone)]
pub struct Rules {
    pub topic_defaults: TopicDefaults,
    pub settings_check: SettingsCheck,
    pub controller: ControllerSettings,
}

impl Rules {
    /// Refuses settings that are not legal for the resource.
    pub fn check(&self, kind: ResourceKind, name: &str, settings: &SettingMap) -> Result<(), ApiError> {
        (self.settings_check)(kind, name, settings)
    }

    /// What the settings of a topic mean for its partitions.
    pub fn terms(&self, image: &ClusterImage, topic: &Topic) -> Terms {
        let of = |key: &str| self.topic_setting(image, topic, key);
        let wanted = of(MIN_ISR).and_then(|text| text.parse().ok()).unwrap_or(self.controller.min_insync_replicas);
        let factor = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
        let unclean = of(UNCLEAN_ELECTION).map(|text| text.eq_ignore_ascii_case("true"));
        Terms {
            min_isr: usize::try_from(wanted).unwrap_or(0).min(factor),
            elr: image.features.has_elr(),
            unclean: unclean.unwrap_or(self.controller.unclean_leader_election),
        }
    }

    /// The value that the log has for a topic: its own, that of the active controller's node, that of the cluster
    /// (`ConfigurationControlManager.getTopicConfig`).
    fn topic_setting(&self, image: &ClusterImage, topic: &Topic, key: &str) -> Option<String> {
        let of = |kind, name: &str| image.settings.of(kind, name).get(key).cloned();
        let node = || image.controller.and_then(|active| of(ResourceKind::Broker, &active.node.to_string()));
        of(ResourceKind::Topic, &topic.name).or_else(node).or_else(|| of(ResourceKind::Broker, ""))
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("controller", &self.controller).finish_non_exhaustive()
    }
}
