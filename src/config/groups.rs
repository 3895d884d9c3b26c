//! Settings of groups (resource GROUP, KIP-848, KIP-932, KIP-1071): their own values over the broker's defaults.
//!
//! Invariants: pure. A group need not exist to have settings. A value that no longer lies within the broker's bounds
//! counts as the nearest bound, as in Kafka (`GroupConfig.evaluate`). Errors are worded as Kafka's (`GroupConfig`).

use std::collections::BTreeMap;

use super::describe::{Described, Synonym};
use super::layers::{Config, Source};
use super::table::{BrokerSettings, GROUP_ROWS, GroupSettings, group_row};

/// A key of the broker, and its value.
type Limit = (&'static str, fn(&BrokerSettings) -> i32);

/// One number that the broker bounds.
struct Bound {
    key: &'static str,
    value: fn(&mut GroupSettings) -> &mut i32,
    least: Option<Limit>,
    most: Option<Limit>,
    /// Only what the group itself sets is checked.
    own_only: bool,
}

macro_rules! bound {
    (
        $key:literal $field:ident, $least:literal $least_field:ident, $most:literal $most_field:ident
        $(, $own:literal)?
    ) => {
        Bound {
            key: $key,
            value: |group| &mut group.$field,
            least: Some(($least, |broker| broker.$least_field)),
            most: Some(($most, |broker| broker.$most_field)),
            own_only: false $(|| $own)?,
        }
    };
}

/// In the order of Kafka's checks.
static BOUNDS: &[Bound] = &[
    bound!("consumer.heartbeat.interval.ms" consumer_heartbeat_interval_ms,
        "group.consumer.min.heartbeat.interval.ms" group_consumer_min_heartbeat_interval_ms,
        "group.consumer.max.heartbeat.interval.ms" group_consumer_max_heartbeat_interval_ms),
    bound!("consumer.session.timeout.ms" consumer_session_timeout_ms,
        "group.consumer.min.session.timeout.ms" group_consumer_min_session_timeout_ms,
        "group.consumer.max.session.timeout.ms" group_consumer_max_session_timeout_ms),
    bound!("consumer.assignment.interval.ms" consumer_assignment_interval_ms,
        "group.consumer.min.assignment.interval.ms" group_consumer_min_assignment_interval_ms,
        "group.consumer.max.assignment.interval.ms" group_consumer_max_assignment_interval_ms, true),
    bound!("share.heartbeat.interval.ms" share_heartbeat_interval_ms,
        "group.share.min.heartbeat.interval.ms" group_share_min_heartbeat_interval_ms,
        "group.share.max.heartbeat.interval.ms" group_share_max_heartbeat_interval_ms),
    bound!("share.session.timeout.ms" share_session_timeout_ms,
        "group.share.min.session.timeout.ms" group_share_min_session_timeout_ms,
        "group.share.max.session.timeout.ms" group_share_max_session_timeout_ms),
    bound!("share.record.lock.duration.ms" share_record_lock_duration_ms,
        "group.share.min.record.lock.duration.ms" group_share_min_record_lock_duration_ms,
        "group.share.max.record.lock.duration.ms" group_share_max_record_lock_duration_ms),
    bound!("share.delivery.count.limit" share_delivery_count_limit,
        "group.share.min.delivery.count.limit" group_share_min_delivery_count_limit,
        "group.share.max.delivery.count.limit" group_share_max_delivery_count_limit),
    bound!("share.partition.max.record.locks" share_partition_max_record_locks,
        "group.share.min.partition.max.record.locks" group_share_min_partition_max_record_locks,
        "group.share.max.partition.max.record.locks" group_share_max_partition_max_record_locks),
    bound!("share.assignment.interval.ms" share_assignment_interval_ms,
        "group.share.min.assignment.interval.ms" group_share_min_assignment_interval_ms,
        "group.share.max.assignment.interval.ms" group_share_max_assignment_interval_ms, true),
    bound!("streams.heartbeat.interval.ms" streams_heartbeat_interval_ms,
        "group.streams.min.heartbeat.interval.ms" group_streams_min_heartbeat_interval_ms,
        "group.streams.max.heartbeat.interval.ms" group_streams_max_heartbeat_interval_ms),
    bound!("streams.session.timeout.ms" streams_session_timeout_ms,
        "group.streams.min.session.timeout.ms" group_streams_min_session_timeout_ms,
        "group.streams.max.session.timeout.ms" group_streams_max_session_timeout_ms),
    Bound {
        key: "streams.num.standby.replicas",
        value: |group| &mut group.streams_num_standby_replicas,
        least: None,
        most: Some(("group.streams.max.standby.replicas", |broker| broker.group_streams_max_standby_replicas)),
        own_only: false,
    },
    bound!("streams.assignment.interval.ms" streams_assignment_interval_ms,
        "group.streams.min.assignment.interval.ms" group_streams_min_assignment_interval_ms,
        "group.streams.max.assignment.interval.ms" group_streams_max_assignment_interval_ms, true),
];

impl Config {
    /// The settings of a group with these values of its own, within the broker's bounds.
    pub fn group(&self, overrides: &BTreeMap<String, String>) -> GroupSettings {
        let mut group = self.unbounded_group(overrides);
        for bound in BOUNDS.iter().filter(|bound| overrides.contains_key(bound.key)) {
            let value = (bound.value)(&mut group);
            if let Some((_, least)) = bound.least {
                *value = (*value).max(least(self.broker()));
            }
            if let Some((_, most)) = bound.most {
                *value = (*value).min(most(self.broker()));
            }
        }
        group
    }

    fn unbounded_group(&self, overrides: &BTreeMap<String, String>) -> GroupSettings {
        GroupSettings::read(&|name: &str| self.own_or_inherited(group_row(name)?, overrides))
    }

    /// Checks all values that a group will have of its own; the error is Kafka's sentence for INVALID_CONFIG.
    pub fn check_group(&self, overrides: &BTreeMap<String, String>) -> Result<(), String> {
        if let Some(name) = overrides.keys().find(|name| group_row(name).is_none()) {
            return Err(format!("Unknown group config name: {name}"));
        }
        for row in GROUP_ROWS {
            if let Some(text) = overrides.get(row.name) {
                row.parse(row.name, text)?;
            }
        }
        let mut group = self.unbounded_group(overrides);
        for bound in BOUNDS.iter().filter(|bound| !bound.own_only || overrides.contains_key(bound.key)) {
            let (key, value) = (bound.key, *(bound.value)(&mut group));
            match (bound.least, bound.most) {
                (Some((least, number)), _) if value < number(self.broker()) => {
                    return Err(format!("{key} must be greater than or equal to {least}"));
                }
                (_, Some((most, number))) if value > number(self.broker()) => {
                    return Err(format!("{key} must be less than or equal to {most}"));
                }
                _ => {}
            }
        }
        for (kind, session_ms, heartbeat_ms) in [
            ("consumer", group.consumer_session_timeout_ms, group.consumer_heartbeat_interval_ms),
            ("share", group.share_session_timeout_ms, group.share_heartbeat_interval_ms),
            ("streams", group.streams_session_timeout_ms, group.streams_heartbeat_interval_ms),
        ] {
            if session_ms <= heartbeat_ms {
                return Err(format!("{kind}.session.timeout.ms must be greater than {kind}.heartbeat.interval.ms"));
            }
        }
        Ok(())
    }

    /// Every setting of a group with these values of its own, as DescribeConfigs answers.
    pub fn describe_group(&self, overrides: &BTreeMap<String, String>) -> Vec<Described> {
        let describe = |row: &'static super::table::Row| {
            let mut described = self.describe_own(row, overrides, Source::Group);
            if row.synonyms.is_empty() {
                let value = row.default.map(|text| row.printed(text));
                let source = Source::Default.code();
                described.synonyms.push(Synonym { name: row.name.to_owned(), value, source });
            }
            described
        };
        GROUP_ROWS.iter().map(describe).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{config, map};
    use super::*;

    #[track_caller]
    fn check(overrides: &[(&str, &str)], expected: Result<(), &str>) {
        assert_eq!(config(&[]).check_group(&map(overrides)), expected.map_err(str::to_owned));
    }

    #[test]
    fn groups_are_checked_in_the_words_of_kafka() {
        check(&[], Ok(()));
        check(&[("consumer.session.timeout.ms", "46000"), ("share.isolation.level", "read_committed")], Ok(()));
        check(&[("consumer.nope", "1")], Err("Unknown group config name: consumer.nope"));
        let low = "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms";
        check(&[("consumer.session.timeout.ms", "1")], Err(low));
        let high = "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas";
        check(&[("streams.num.standby.replicas", "3")], Err(high));
        let word = "Invalid value maybe for configuration share.isolation.level: String must be one of: \
                    read_committed, read_uncommitted";
        check(&[("share.isolation.level", "maybe")], Err(word));
    }

    #[test]
    fn a_session_is_longer_than_its_heartbeat() {
        let narrow = config(&[
            ("group.consumer.min.session.timeout.ms", "1000"),
            ("group.consumer.max.heartbeat.interval.ms", "60000"),
        ]);
        let both = map(&[("consumer.session.timeout.ms", "6000"), ("consumer.heartbeat.interval.ms", "6000")]);
        let why = "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms";
        assert_eq!(narrow.check_group(&both), Err(why.to_owned()));
    }

    #[test]
    fn what_the_broker_no_longer_allows_is_bounded() {
        let stored = map(&[("consumer.session.timeout.ms", "1"), ("share.delivery.count.limit", "100")]);
        let group = config(&[]).group(&stored);
        assert_eq!((group.consumer_session_timeout_ms, group.share_delivery_count_limit), (45_000, 10));
        let wide = config(&[("group.consumer.heartbeat.interval.ms", "7000")]).group(&map(&[]));
        assert_eq!(wide.consumer_heartbeat_interval_ms, 7000);
    }

    #[test]
    fn every_key_is_described_with_its_source() {
        let all = config(&[("group.share.session.timeout.ms", "50000")])
            .describe_group(&map(&[("consumer.session.timeout.ms", "46000")]));
        assert_eq!(all.len(), GROUP_ROWS.len());
        let one = |name: &str| all.iter().find(|described| described.name == name).unwrap();
        let synonyms = |name: &str| {
            let found = one(name).synonyms.iter();
            found.map(|synonym| (synonym.name.as_str(), synonym.source)).collect::<Vec<_>>()
        };
        let session = one("consumer.session.timeout.ms");
        assert_eq!((session.value.as_deref(), session.source), (Some("46000"), 8));
        let expected = [("consumer.session.timeout.ms", 8), ("group.consumer.session.timeout.ms", 5)];
        assert_eq!(synonyms("consumer.session.timeout.ms"), expected);
        assert_eq!(synonyms("share.auto.offset.reset"), [("share.auto.offset.reset", 5)]);
        assert_eq!(
            (one("share.session.timeout.ms").value.as_deref(), one("share.session.timeout.ms").source),
            (Some("50000"), 4)
        );
        assert_eq!(one("share.renew.acknowledge.enable").source, 5);
    }
}
