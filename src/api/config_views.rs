//! Settings as DescribeConfigs and CreateTopics show them.
//!
//! Invariant: what `Described` leaves out because it is sensitive, nobody sees.

use kafka_protocol::messages::create_topics_response::CreatableTopicConfigs;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsSynonym};
use kafka_protocol::protocol::StrBytes;

use crate::api::Services;
use crate::api::translate::text;
use crate::config::{Config, Described, Synonym};
use crate::metadata::{ClusterImage, ResourceKind};

/// What settings belong to (`ConfigResource.Type`).
pub mod resource {
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const BROKER_LOGGER: i8 = 8;
    pub const CLIENT_METRICS: i8 = 16;
    pub const GROUP: i8 = 32;

    /// Every kind.
    pub const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
}

impl Services {
    /// The configuration of this broker as `image` says. The shared one follows the image a moment later, and a caller
    /// that has just changed a setting wants to see it.
    pub fn config_in(&self, image: &ClusterImage) -> Config {
        let cluster = image.settings.of(ResourceKind::Broker, "");
        let broker = image.settings.of(ResourceKind::Broker, &self.node.to_string());
        self.config.load().with_dynamic(&cluster, &broker)
    }
}

/// What of a setting the caller wants besides its value.
#[derive(Clone, Copy)]
pub struct Detail {
    pub synonyms: bool,
    pub documentation: bool,
}

/// A setting as DescribeConfigs shows it.
pub fn described(setting: &Described, detail: Detail) -> DescribeConfigsResourceResult {
    let synonyms = if detail.synonyms { setting.synonyms.iter().map(synonym).collect() } else { Vec::new() };
    let documentation = detail.documentation.then(|| StrBytes::from_static_str(setting.documentation));
    DescribeConfigsResourceResult::default()
        .with_name(text(&setting.name))
        .with_value(setting.value.as_deref().map(text))
        .with_read_only(setting.read_only)
        .with_config_source(setting.source)
        .with_is_sensitive(setting.sensitive)
        .with_synonyms(synonyms)
        .with_config_type(setting.kind)
        .with_documentation(documentation)
}

/// The level of a logger as DescribeConfigs shows it: without type, synonyms and documentation.
pub fn logger(name: &'static str, level: &'static str) -> DescribeConfigsResourceResult {
    const DYNAMIC_BROKER_LOGGER: i8 = 6;
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(StrBytes::from_static_str(level)))
        .with_config_source(DYNAMIC_BROKER_LOGGER)
        .with_documentation(None)
}

fn synonym(synonym: &Synonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(text(&synonym.name))
        .with_value(synonym.value.as_deref().map(text))
        .with_source(synonym.source)
}

/// A setting of a new topic as CreateTopics shows it (KIP-525).
pub fn created(setting: &Described) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(text(&setting.name))
        .with_value(setting.value.as_deref().map(text))
        .with_read_only(setting.read_only)
        .with_config_source(setting.source)
        .with_is_sensitive(setting.sensitive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> Described {
        let synonym = Synonym { name: "log.cleanup.policy".to_owned(), value: Some("delete".to_owned()), source: 5 };
        Described {
            name: "cleanup.policy".to_owned(),
            value: Some("compact".to_owned()),
            read_only: false,
            source: 1,
            sensitive: false,
            kind: 7,
            documentation: "What happens to old records.",
            synonyms: vec![synonym],
        }
    }

    #[test]
    fn detail_is_given_on_request_only() {
        let plain = described(&setting(), Detail { synonyms: false, documentation: false });
        assert_eq!((plain.synonyms.len(), plain.documentation), (0, None));
        let full = described(&setting(), Detail { synonyms: true, documentation: true });
        assert_eq!(full.synonyms[0].value.as_deref(), Some("delete"));
        assert_eq!(full.documentation.as_deref(), Some("What happens to old records."));
        assert_eq!((full.config_source, full.config_type), (1, 7));
    }
}
