//! Settings of subscriptions to clients' metrics (resource CLIENT_METRICS, KIP-714), and the clients they mean.
//!
//! Invariants: pure. Patterns match whole attributes in time linear in their length; what the regex engine of Java
//! knows beyond that (look-around, back references) is refused. Errors are Kafka's (`ClientMetricsConfigs`).

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use super::describe::Described;
use super::layers::{Config, Source};
use super::table::{Row, SUBSCRIPTION_ROWS, SubscriptionSettings, subscription_row};
use crate::error::{ApiError, ErrorCode};

/// Memory that one compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

const INTERVAL_MS: std::ops::RangeInclusive<i32> = 100..=3_600_000;

/// What a client is known by, in the order of the names in `match`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ClientAttribute {
    InstanceId,
    ClientId,
    SoftwareName,
    SoftwareVersion,
    SourceAddress,
    SourcePort,
}

impl ClientAttribute {
    fn by_name(name: &str) -> Option<ClientAttribute> {
        Some(match name {
            "client_instance_id" => ClientAttribute::InstanceId,
            "client_id" => ClientAttribute::ClientId,
            "client_software_name" => ClientAttribute::SoftwareName,
            "client_software_version" => ClientAttribute::SoftwareVersion,
            "client_source_address" => ClientAttribute::SourceAddress,
            "client_source_port" => ClientAttribute::SourcePort,
            _ => return None,
        })
    }
}

/// One subscription, ready to be matched.
#[derive(Clone, Debug)]
pub struct ClientSubscription {
    /// Prefixes of metric names; `*` for all.
    pub metrics: Vec<String>,
    pub interval_ms: i32,
    patterns: BTreeMap<ClientAttribute, Regex>,
}

impl ClientSubscription {
    /// The subscription with these settings. What does not parse counts as absent: it was stored by another version.
    pub fn read(settings: &BTreeMap<String, String>) -> ClientSubscription {
        let of =
            |name: &str| settings.get(name).filter(|text| subscription_row(name).is_some_and(|row| row.accepts(text)));
        let typed = SubscriptionSettings::read(&|name: &str| of(name).cloned());
        let patterns = parse_patterns(&typed.match_).unwrap_or_default();
        ClientSubscription { metrics: typed.metrics, interval_ms: typed.interval_ms, patterns }
    }

    /// True if every pattern matches its whole attribute; an attribute that is not known matches nothing.
    pub fn means<'a>(&self, attribute: impl Fn(ClientAttribute) -> Option<&'a str>) -> bool {
        self.patterns.iter().all(|(of, pattern)| attribute(*of).is_some_and(|text| pattern.is_match(text)))
    }
}

impl Config {
    /// Checks all values that a subscription will have.
    pub fn check_subscription(name: &str, settings: &BTreeMap<String, String>) -> Result<(), ApiError> {
        let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
        if name.is_empty() {
            return invalid("Subscription name can't be empty".to_owned());
        }
        if let Some(key) = settings.keys().find(|key| subscription_row(key).is_none()) {
            return invalid(format!("Unknown client metrics configuration: {key}"));
        }
        let bad = |why: String| ApiError::new(ErrorCode::InvalidConfig, why);
        for row in SUBSCRIPTION_ROWS {
            if let Some(text) = settings.get(row.name) {
                row.parse(row.name, text).map_err(bad)?;
            }
        }
        let typed = SubscriptionSettings::read(&|key: &str| settings.get(key).cloned());
        if !INTERVAL_MS.contains(&typed.interval_ms) {
            return invalid(format!(
                "Invalid value {} for interval.ms, interval must be between 100 and 3600000 (1 hour)",
                typed.interval_ms
            ));
        }
        parse_patterns(&typed.match_).map(drop).map_err(bad)
    }

    /// Every setting of a subscription, as DescribeConfigs answers.
    pub fn describe_subscription(&self, settings: &BTreeMap<String, String>) -> Vec<Described> {
        let describe = |row: &'static Row| self.describe_own(row, settings, Source::Subscription);
        SUBSCRIPTION_ROWS.iter().map(describe).collect()
    }
}

fn parse_patterns(entries: &[String]) -> Result<BTreeMap<ClientAttribute, Regex>, String> {
    let mut patterns = BTreeMap::new();
    for entry in entries {
        let illegal = || format!("Illegal client matching pattern: {entry}");
        let (name, pattern) = entry.split_once('=').ok_or_else(illegal)?;
        // Java splits at every `=` and drops empty ends.
        let pattern = pattern.trim_end_matches('=');
        if pattern.is_empty() || pattern.contains('=') {
            return Err(illegal());
        }
        let attribute = ClientAttribute::by_name(name.trim()).ok_or_else(illegal)?;
        // Java's engine looks at a pattern alone: one that is legal only between our parentheses is not.
        let compiles = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
        compiles(pattern.trim()).map_err(|_| illegal())?;
        let whole = compiles(&format!(r"\A(?:{})\z", pattern.trim())).map_err(|_| illegal())?;
        patterns.insert(attribute, whole);
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::super::samples::map;
    use super::*;

    #[track_caller]
    fn check(settings: &[(&str, &str)], expected: Result<(), (ErrorCode, &str)>) {
        let checked = Config::check_subscription("name", &map(settings));
        assert_eq!(
            checked.map_err(|why| (why.code, why.message)),
            expected.map_err(|(code, why)| (code, why.to_owned()))
        );
    }

    #[test]
    fn subscriptions_are_checked_in_the_words_of_kafka() {
        use ErrorCode::{InvalidConfig, InvalidRequest};
        check(&[], Ok(()));
        check(
            &[("metrics", "a.,b."), ("interval.ms", "100"), ("match", "client_id=a.*,client_source_port=[0-9]+")],
            Ok(()),
        );
        check(&[("nope", "1")], Err((InvalidRequest, "Unknown client metrics configuration: nope")));
        let interval = "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)";
        check(&[("interval.ms", "1")], Err((InvalidRequest, interval)));
        let number = "Invalid value x for configuration interval.ms: Not a number of type INT";
        check(&[("interval.ms", "x")], Err((InvalidConfig, number)));
        for entry in ["foo=b", "client_id", "client_id=", "client_id=a=b", "client_id=[", "client_id=a)(b"] {
            let why = format!("Illegal client matching pattern: {entry}");
            check(&[("match", entry)], Err((InvalidConfig, &why)));
        }
        let huge = format!("client_id={}", "(a{100}){100}".repeat(10));
        assert!(Config::check_subscription("name", &map(&[("match", &huge)])).is_err(), "bounded memory");
        let unnamed = Config::check_subscription("", &map(&[])).unwrap_err();
        assert_eq!((unnamed.code, &*unnamed.message), (InvalidRequest, "Subscription name can't be empty"));
    }

    #[test]
    fn every_pattern_must_match_the_whole_attribute() {
        let settings = map(&[("match", "client_id=con.*|b, client_software_version=3[.].*")]);
        let subscription = ClientSubscription::read(&settings);
        let means = |id: &'static str, version: Option<&'static str>| {
            subscription.means(|attribute| match attribute {
                ClientAttribute::ClientId => Some(id),
                ClientAttribute::SoftwareVersion => version,
                _ => None,
            })
        };
        assert!(means("consumer", Some("3.9.1")) && means("b", Some("3.")));
        assert!(!means("a consumer", Some("3.9.1")) && !means("bc", Some("3.9.1")));
        assert!(!means("consumer", Some("4.3")) && !means("consumer", None));
        assert!(ClientSubscription::read(&map(&[])).means(|_| None), "no patterns mean everybody");
    }
}
