//! What DescribeConfigs says of this broker's settings (KIP-133, KIP-226, KIP-569).
//!
//! Invariants: pure. The value of a password, and of a key that nobody knows, never appears. Synonyms stand in the
//! order dynamic of this broker, cluster-wide, static, default, and begin with the key itself, as in `ConfigHelper`;
//! the first of them is the source.

use std::collections::BTreeSet;

use super::layers::{Config, Source};
use super::table::{BROKER_ROWS, Row, TOPIC_ROWS, broker_row};

/// One setting, as DescribeConfigs answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    pub name: String,
    /// As Kafka prints it; `None` for null and for what is sensitive.
    pub value: Option<String>,
    pub read_only: bool,
    /// The number of a [`Source`].
    pub source: i8,
    pub sensitive: bool,
    /// The number of a `Kind`; 0 for a key that nobody knows.
    pub kind: i8,
    pub documentation: &'static str,
    /// Where the value could have come from too, in the order of precedence.
    pub synonyms: Vec<Synonym>,
}

/// A value that was set, or is the default, under this or another name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synonym {
    pub name: String,
    /// As it was written; `None` if it is sensitive.
    pub value: Option<String>,
    /// The number of a [`Source`].
    pub source: i8,
}

/// Keys of plugins, and what Kafka keeps for its tests: its table of settings lacks them.
const UNLISTED: [&str; 3] =
    ["producer.id.expiration.check.interval.ms", "super.users", "allow.everyone.if.no.acl.found"];

/// Quotas that exist only while they are set: Kafka's table has no default of them either (`QuotaConfig`).
const QUOTAS: [&str; 3] = [
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

impl Config {
    /// What clients are told of this broker: of our own settings those that are set. Clients know what is in a Kafka
    /// broker's list, and it too shows keys of others only while they are set.
    pub fn describe_to_clients(&self) -> Vec<Described> {
        let mut all = self.describe_broker();
        all.retain(|one| !one.name.starts_with("ottla.") || self.is_set(&one.name));
        all
    }

    /// Every setting of this broker, and every key set that nobody knows.
    pub fn describe_broker(&self) -> Vec<Described> {
        let known = |name: &str| BROKER_ROWS.iter().any(|row| row.name == name);
        let set = self.layers().iter().flat_map(|layer| layer.values.keys()).map(String::as_str);
        let others: BTreeSet<&str> = set.filter(|name| !known(name)).collect();
        let hidden = |name: &str| UNLISTED.contains(&name) || QUOTAS.contains(&name);
        let listed = BROKER_ROWS.iter().map(|row| row.name).filter(|name| !hidden(name) || self.is_set(name));
        listed.chain(others).map(|name| self.describe_key(name)).collect()
    }

    /// The cluster-wide dynamic settings: what is described of resource BROKER with an empty name.
    pub fn describe_cluster(&self) -> Vec<Described> {
        let layer = self.layers().iter().find(|layer| layer.source == Source::ClusterDynamic);
        let values = layer.into_iter().flat_map(|layer| &layer.values);
        let code = Source::ClusterDynamic.code();
        values
            .map(|(name, text)| {
                let mut described = self.describe_key(name);
                described.value = broker_row(name).filter(|row| !row.sensitive()).map(|row| row.printed(text));
                described.synonyms.retain(|synonym| synonym.source == code);
                described.source = code;
                described
            })
            .collect()
    }

    fn describe_key(&self, name: &str) -> Described {
        let row = broker_row(name);
        let sensitive = row.is_none_or(Row::sensitive);
        let shown = row.filter(|_| !sensitive);
        let synonyms = self.synonyms(name, sensitive);
        Described {
            name: name.to_owned(),
            value: shown.and_then(|row| Some(row.printed(self.text_or_default(name)?))),
            read_only: row.is_none_or(|row| !row.dynamic()),
            source: synonyms.first().map_or(Source::Default.code(), |synonym| synonym.source),
            sensitive,
            kind: row.map_or(0, |row| row.kind.code()),
            documentation: row.map_or("", |row| row.help),
            synonyms,
        }
    }

    /// Every value given to a broker's key or its synonyms. Values that precede the first of the key itself are left
    /// out, as in Kafka: `log.retention.hours` does not explain `log.retention.ms`.
    pub(super) fn synonyms(&self, name: &str, sensitive: bool) -> Vec<Synonym> {
        let mut found = Vec::new();
        for source in [Source::BrokerDynamic, Source::ClusterDynamic, Source::File, Source::Default] {
            for &key in &chain(name) {
                let text = match source {
                    Source::Default => default_of(key),
                    _ => self.text_of_code(key, source.code()),
                };
                if let Some(text) = text {
                    let value = (!sensitive).then_some(text);
                    found.push(Synonym { name: key.to_owned(), value, source: source.code() });
                }
            }
        }
        let own = found.iter().position(|synonym| synonym.name == name).unwrap_or(found.len());
        found.split_off(own)
    }

    /// What the strongest layer among those with one number says of a key.
    fn text_of_code(&self, name: &str, code: i8) -> Option<String> {
        let mut layers = self.layers().iter().rev().filter(|layer| layer.source.code() == code);
        layers.find_map(|layer| layer.values.get(name)).cloned()
    }
}

fn default_of(name: &str) -> Option<String> {
    if QUOTAS.contains(&name) {
        return None;
    }
    let row = BROKER_ROWS.iter().find(|row| row.name == name)?;
    Some(row.printed(row.default?))
}

/// The keys that can give a broker's key its value, in order: the units of a time, or the key without its listener
/// (`DynamicBrokerConfig.brokerConfigSynonyms`).
fn chain(name: &str) -> Vec<&str> {
    let mut chains = TOPIC_ROWS.iter().map(|row| row.synonyms).filter(|keys| keys.len() > 1);
    if let Some(keys) = chains.find(|keys| keys.iter().any(|key| key.0 == name)) {
        return keys.iter().map(|&(key, _)| key).collect();
    }
    match broker_row(name) {
        Some(row) if row.name != name => vec![name, row.name],
        _ => vec![name],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::super::layers::Sources;
    use super::*;

    fn config(file: &str) -> Config {
        let file = Some((PathBuf::from("server.properties"), file.to_owned()));
        Config::load(Sources { file, ..Sources::default() }).unwrap().config
    }

    fn one(all: &[Described], name: &str) -> Described {
        all.iter().find(|described| described.name == name).unwrap().clone()
    }

    fn synonyms(described: &Described) -> Vec<(&str, Option<&str>, i8)> {
        let all = described.synonyms.iter();
        all.map(|synonym| (synonym.name.as_str(), synonym.value.as_deref(), synonym.source)).collect()
    }

    #[test]
    fn defaults_static_values_and_nulls() {
        let all = config("num.partitions= 3 \nlog.cleaner.min.cleanable.ratio=1").describe_broker();
        let partitions = one(&all, "num.partitions");
        assert_eq!((partitions.value.as_deref(), partitions.source, partitions.kind), (Some("3"), 4, 3));
        assert!(partitions.read_only && !partitions.sensitive);
        assert_eq!(synonyms(&partitions), [("num.partitions", Some("3 "), 4), ("num.partitions", Some("1"), 5)]);
        assert_eq!(one(&all, "log.cleaner.min.cleanable.ratio").value.as_deref(), Some("1.0"));
        let rack = one(&all, "broker.rack");
        assert_eq!((rack.value, rack.source, rack.synonyms.len()), (None, 5, 0));
    }

    #[test]
    fn clients_are_told_of_our_own_settings_while_they_are_set() {
        let own = |text: &str| {
            let all = config(text).describe_to_clients().into_iter();
            all.map(|one| one.name).filter(|name| name.starts_with("ottla.")).collect::<Vec<_>>()
        };
        assert_eq!(own(""), [""; 0]);
        assert_eq!(own("ottla.metrics.listener="), ["ottla.metrics.listener"]);
    }

    #[test]
    fn a_quota_that_exists_only_while_it_is_set_has_no_default() {
        let rate = "leader.replication.throttled.rate";
        let all = config(&format!("{rate}=1000")).describe_broker();
        assert_eq!(synonyms(&one(&all, rate)), [(rate, Some("1000"), 4)]);
        assert!(!config("").describe_broker().iter().any(|described| described.name == rate));
    }

    #[test]
    fn secrets_and_unknown_keys_have_no_value() {
        let all = config("ssl.key.password=x\nmy.plugin.token=y").describe_broker();
        for (name, kind) in [("ssl.key.password", 9), ("my.plugin.token", 0)] {
            let described = one(&all, name);
            assert_eq!((described.value.as_deref(), described.sensitive, described.kind), (None, true, kind));
            assert_eq!(synonyms(&described), [(name, None, 4)]);
        }
    }

    #[test]
    fn units_of_a_time_are_synonyms() {
        let all = config("log.retention.hours=1\nlog.retention.ms=5").describe_broker();
        let expected = [
            ("log.retention.ms", Some("5"), 4),
            ("log.retention.hours", Some("1"), 4),
            ("log.retention.hours", Some("168"), 5),
        ];
        assert_eq!(synonyms(&one(&all, "log.retention.ms")), expected);
        assert_eq!(synonyms(&one(&all, "log.retention.hours")), expected[1..]);
        let hours_only = config("log.retention.hours=1").describe_broker();
        let described = one(&hours_only, "log.retention.ms");
        assert_eq!((described.value, described.source, described.synonyms.len()), (None, 5, 0));
    }

    #[test]
    fn keys_of_a_listener_have_their_base_as_synonym() {
        let all = config("listener.name.plaintext.ssl.protocol=TLSv1.2").describe_broker();
        let described = one(&all, "listener.name.plaintext.ssl.protocol");
        assert_eq!((described.value.as_deref(), described.kind), (Some("TLSv1.2"), 2));
        let expected =
            [("listener.name.plaintext.ssl.protocol", Some("TLSv1.2"), 4), ("ssl.protocol", Some("TLSv1.3"), 5)];
        assert_eq!(synonyms(&described), expected);
    }

    #[test]
    fn dynamic_values_come_first() {
        let cluster = BTreeMap::from([("message.max.bytes".to_owned(), "2000".to_owned())]);
        let broker = BTreeMap::from([("message.max.bytes".to_owned(), "1000".to_owned())]);
        let config = config("message.max.bytes=3000").with_dynamic(&cluster, &broker);
        let described = one(&config.describe_broker(), "message.max.bytes");
        assert_eq!((described.value.as_deref(), described.source, described.read_only), (Some("1000"), 2, false));
        let codes: Vec<i8> = described.synonyms.iter().map(|synonym| synonym.source).collect();
        assert_eq!(codes, [2, 3, 4, 5]);
        let cluster = config.describe_cluster();
        assert_eq!(cluster.len(), 1);
        assert_eq!((cluster[0].value.as_deref(), cluster[0].source), (Some("2000"), 3));
        assert_eq!(synonyms(&cluster[0]), [("message.max.bytes", Some("2000"), 3)]);
    }
}
