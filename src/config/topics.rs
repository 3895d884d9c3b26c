//! Settings of topics: their own values over the broker's defaults.
//!
//! Invariants: pure. A topic's value that is not valid counts as absent, so that what another version stored cannot
//! hurt. Errors are worded as Kafka's (`LogConfig`).

use std::collections::BTreeMap;

use super::describe::{Described, Synonym};
use super::layers::{Config, Source};
use super::startup::lag_conflict;
use super::table::{Row, TOPIC_ROWS, TopicSettings, topic_row};
use super::value::{Kind, Valid};

impl TopicSettings {
    /// The settings of a topic with these values of its own, over the defaults that `config` gives.
    pub fn resolve(config: &Config, overrides: &BTreeMap<String, String>) -> TopicSettings {
        TopicSettings::read(&|name: &str| config.own_or_inherited(topic_row(name)?, overrides))
    }
}

impl Config {
    /// The settings of a topic with these values of its own.
    pub fn topic(&self, overrides: &BTreeMap<String, String>) -> TopicSettings {
        TopicSettings::resolve(self, overrides)
    }

    /// Checks all values that a topic will have of its own; the error is Kafka's sentence for INVALID_CONFIG.
    pub fn check_topic(&self, overrides: &BTreeMap<String, String>) -> Result<(), String> {
        if let Some(name) = overrides.keys().find(|name| topic_row(name).is_none()) {
            return Err(format!("Unknown topic config name: {name}"));
        }
        for row in TOPIC_ROWS {
            if let Some(text) = overrides.get(row.name) {
                row.parse(row.name, text)?;
            }
        }
        let topic = self.topic(overrides);
        let (least_ms, most_ms) = (topic.min_compaction_lag_ms, topic.max_compaction_lag_ms);
        if least_ms > most_ms {
            return Err(lag_conflict(least_ms, most_ms));
        }
        if topic.remote_storage_enable {
            return Err("Tiered Storage functionality is disabled in the broker. \
                        Topic cannot be configured with remote log storage."
                .into());
        }
        Ok(())
    }

    /// Every setting of a topic with these values of its own, as DescribeConfigs answers.
    pub fn describe_topic(&self, overrides: &BTreeMap<String, String>) -> Vec<Described> {
        TOPIC_ROWS.iter().map(|row| self.describe_own(row, overrides, Source::Topic)).collect()
    }

    /// One setting of a resource that has values of its own, which come from `of`.
    pub(super) fn describe_own(&self, row: &Row, overrides: &BTreeMap<String, String>, of: Source) -> Described {
        let value = self.own_or_inherited(row, overrides).map(|text| row.printed(&text));
        let mut synonyms = Vec::new();
        if own(row, overrides).is_some() {
            synonyms.push(Synonym { name: row.name.to_owned(), value: value.clone(), source: of.code() });
        }
        if let Some((key, _)) = row.synonyms.first() {
            synonyms.extend(self.synonyms(key, row.sensitive()));
        }
        Described {
            name: row.name.to_owned(),
            value,
            read_only: false,
            source: synonyms.first().map_or(Source::Default.code(), |synonym| synonym.source),
            sensitive: row.sensitive(),
            kind: row.kind.code(),
            documentation: row.help,
            synonyms,
        }
    }

    /// The text of a resource's key: its own, else that of the first broker's key in the chain that has one, else the
    /// default.
    pub(super) fn own_or_inherited(&self, row: &Row, overrides: &BTreeMap<String, String>) -> Option<String> {
        let inherited =
            || row.synonyms.iter().find_map(|(key, unit_ms)| Some(in_units(row, self.text_or_default(key)?, *unit_ms)));
        own(row, overrides).cloned().or_else(inherited).or_else(|| row.default.map(str::to_owned))
    }
}

fn own<'a>(row: &Row, overrides: &'a BTreeMap<String, String>) -> Option<&'a String> {
    overrides.get(row.name).filter(|text| row.accepts(text))
}

/// A broker's text as the topic's key would write it: in milliseconds, and not below what that key allows, since every
/// negative retention of a broker means unlimited.
fn in_units(row: &Row, text: &str, unit_ms: i64) -> String {
    let (Kind::Long, Ok(number)) = (row.kind, text.trim().parse::<i64>()) else { return text.to_owned() };
    let number = number.saturating_mul(unit_ms);
    match row.valid {
        Valid::AtLeast(least) => number.max(least).to_string(),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{config, map};
    use super::super::typed::{CleanupPolicy, CompressionType, TimestampType};
    use super::*;

    #[test]
    fn defaults_are_those_of_kafka() {
        let topic = config(&[]).topic(&map(&[]));
        assert_eq!(topic, TopicSettings::read(&|_| None));
        assert_eq!((topic.retention_ms, topic.segment_ms), (604_800_000, 604_800_000));
        assert_eq!((topic.max_message_bytes, topic.flush_ms), (1_048_588, i64::MAX));
        assert_eq!(topic.cleanup_policy, CleanupPolicy { delete: true, compact: false });
    }

    #[test]
    fn a_topic_beats_its_broker() {
        let config = config(&[
            ("message.max.bytes", "1000"),
            ("log.message.timestamp.type", "LogAppendTime"),
            ("compression.type", "zstd"),
        ]);
        let topic = config.topic(&map(&[("max.message.bytes", " 2000 "), ("cleanup.policy", "compact,delete")]));
        assert_eq!(topic.max_message_bytes, 2000);
        assert_eq!(topic.cleanup_policy, CleanupPolicy { delete: true, compact: true });
        assert_eq!(topic.message_timestamp_type, TimestampType::LogAppendTime);
        assert_eq!(topic.compression_type, CompressionType::Zstd);
    }

    #[test]
    fn times_come_from_the_finest_unit_that_is_set() {
        let retention = |overrides: &[(&str, &str)]| config(overrides).topic(&map(&[])).retention_ms;
        assert_eq!(retention(&[("log.retention.hours", "2")]), 7_200_000);
        assert_eq!(retention(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]), 180_000);
        assert_eq!(retention(&[("log.retention.minutes", "3"), ("log.retention.ms", "4")]), 4);
        assert_eq!(retention(&[("log.retention.hours", "-1")]), -1);
        assert_eq!(retention(&[("log.retention.ms", "-1")]), -1);
        let rolled = config(&[("log.roll.hours", "1"), ("log.roll.jitter.hours", "2")]).topic(&map(&[]));
        assert_eq!((rolled.segment_ms, rolled.segment_jitter_ms), (3_600_000, 7_200_000));
        let flushed = config(&[("log.flush.scheduler.interval.ms", "9")]).topic(&map(&[]));
        assert_eq!(flushed.flush_ms, 9);
        let cluster = map(&[("log.retention.ms", "5")]);
        let dynamic = config(&[("log.retention.hours", "2")]).with_dynamic(&cluster, &map(&[]));
        assert_eq!(dynamic.topic(&map(&[])).retention_ms, 5);
    }

    #[test]
    fn stored_nonsense_counts_as_absent() {
        let topic = config(&[]).topic(&map(&[("retention.ms", "soon"), ("segment.bytes", "14"), ("x", "y")]));
        assert_eq!((topic.retention_ms, topic.segment_bytes), (604_800_000, 1_073_741_824));
    }

    #[track_caller]
    fn refused(overrides: &[(&str, &str)], why: &str) {
        assert_eq!(config(&[]).check_topic(&map(overrides)), Err(why.to_owned()));
    }

    #[test]
    fn topics_are_checked_in_the_words_of_kafka() {
        let good = map(&[("cleanup.policy", ""), ("retention.ms", "-1"), ("compression.gzip.level", "9")]);
        assert_eq!(config(&[]).check_topic(&good), Ok(()));
        refused(&[("message.format.version", "3.0")], "Unknown topic config name: message.format.version");
        refused(
            &[("cleanup.policy", "keep")],
            "Invalid value keep for configuration cleanup.policy: String must be one of: compact, delete",
        );
        refused(
            &[("segment.bytes", "100")],
            "Invalid value 100 for configuration segment.bytes: Value must be at least 1048576",
        );
        refused(
            &[("retention.ms", "week")],
            "Invalid value week for configuration retention.ms: Not a number of type LONG",
        );
        refused(
            &[("min.compaction.lag.ms", "2"), ("max.compaction.lag.ms", "1")],
            "conflict topic config setting min.compaction.lag.ms (2) > max.compaction.lag.ms (1)",
        );
        refused(
            &[("remote.storage.enable", "true")],
            "Tiered Storage functionality is disabled in the broker. \
             Topic cannot be configured with remote log storage.",
        );
    }

    #[test]
    fn every_key_is_described_with_its_source() {
        let config = config(&[("min.insync.replicas", "2"), ("log.retention.hours", "1")]);
        let all = config.describe_topic(&map(&[("cleanup.policy", "compact, delete")]));
        assert_eq!(all.len(), TOPIC_ROWS.len());
        let one = |name: &str| all.iter().find(|described| described.name == name).unwrap();
        let codes = |name: &str| one(name).synonyms.iter().map(|synonym| synonym.source).collect::<Vec<i8>>();
        assert_eq!(one("cleanup.policy").value.as_deref(), Some("compact,delete"));
        assert_eq!((one("cleanup.policy").source, one("cleanup.policy").kind), (1, 7));
        assert_eq!(codes("cleanup.policy"), [1, 5]);
        assert_eq!((one("min.insync.replicas").value.as_deref(), one("min.insync.replicas").source), (Some("2"), 4));
        assert_eq!(codes("min.insync.replicas"), [4, 5]);
        // As Kafka has it: the hours count, and are not named as the source of the milliseconds.
        assert_eq!((one("retention.ms").value.as_deref(), one("retention.ms").source), (Some("3600000"), 5));
        assert_eq!(one("min.cleanable.dirty.ratio").value.as_deref(), Some("0.5"));
        assert_eq!(one("follower.replication.throttled.replicas").value.as_deref(), Some(""));
        assert!(all.iter().all(|described| !described.read_only && !described.documentation.is_empty()));
    }
}
