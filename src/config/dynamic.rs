//! Settings of brokers that change while they run (KIP-226).
//!
//! Invariants: pure. A layer made here holds only what its scope may hold and what parses, so that a value stored by
//! another version cannot hurt. Errors are worded as Kafka's (`DynamicBrokerConfig`).

use std::collections::BTreeMap;

use super::layers::{Config, Layer, Source};
use super::startup;
use super::table::{Row, Update, broker_row, listener_key};

/// Which brokers a dynamic setting is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DynamicScope {
    /// All of them: resource BROKER with an empty name.
    Cluster,
    /// One of them.
    Broker,
}

impl DynamicScope {
    /// Of stored settings those that count: what the scope may hold and what parses
    /// (`DynamicBrokerConfig.fromPersistentProps`). A controller that is asked directly stores what no broker checked.
    pub fn usable(self, values: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        usable(values, self)
    }
}

/// Numbers of threads, which may at most double or halve at once.
const THREAD_COUNTS: [&str; 6] = [
    "num.io.threads",
    "num.network.threads",
    "num.replica.fetchers",
    "num.recovery.threads.per.data.dir",
    "background.threads",
    "log.cleaner.threads",
];

impl Config {
    /// This configuration with the dynamic settings of the cluster and of this broker in place of those it had. What
    /// may not be set there, or does not parse, is left out.
    pub fn with_dynamic(&self, cluster: &BTreeMap<String, String>, broker: &BTreeMap<String, String>) -> Config {
        let mut layers: Vec<Layer> = self.layers().iter().filter(|layer| layer.source.is_static()).cloned().collect();
        layers.push(Layer { source: Source::ClusterDynamic, values: usable(cluster, DynamicScope::Cluster) });
        layers.push(Layer { source: Source::BrokerDynamic, values: usable(broker, DynamicScope::Broker) });
        Config::assemble(layers, self.shared_listeners())
    }

    /// Checks dynamic settings before they are stored: all that the scope will have, not only what changes. The error
    /// is Kafka's sentence.
    pub fn check_broker_dynamic(&self, scope: DynamicScope, values: &BTreeMap<String, String>) -> Result<(), String> {
        let fixed = |name: &str| listener_key(name).is_none() && broker_row(name).is_some_and(|row| !row.dynamic());
        refuse_any(values, &fixed, "Cannot update these configs dynamically")?;
        let secured = "These security configs can be dynamically updated only per-listener using the listener prefix";
        refuse_any(values, &is_key_or_trust_store, secured)?;
        for (name, text) in values {
            if let Some(row) = broker_row(name) {
                row.parse(name, text)?;
            }
        }
        if scope == DynamicScope::Cluster {
            let of_one_broker = |name: &str| match broker_row(name) {
                Some(row) => !fits(row, name, scope),
                None => listener_key(name).is_some(),
            };
            let why = "Cannot update these configs at default cluster level, broker id must be specified";
            refuse_any(values, &of_one_broker, why)?;
        }
        self.check_listeners(values)?;
        let next = match scope {
            DynamicScope::Cluster => self.with_dynamic(values, &self.values_of(Source::BrokerDynamic)),
            DynamicScope::Broker => self.with_dynamic(&self.values_of(Source::ClusterDynamic), values),
        };
        if let Some(why) = startup::refusals(next.broker()).into_iter().next() {
            return Err(format!("requirement failed: {why}"));
        }
        for name in THREAD_COUNTS {
            self.check_thread_count(&next, name)?;
        }
        Ok(())
    }

    /// A value set or taken away may make the number in force more than twice or less than half of what it was. Kafka
    /// hands the sentence to an exception that takes it for a value.
    fn check_thread_count(&self, next: &Config, name: &str) -> Result<(), String> {
        let count = |config: &Config| config.text_or_default(name).and_then(|text| text.trim().parse::<i64>().ok());
        let (Some(before), Some(after)) = (count(self), count(next)) else { return Ok(()) };
        if before == after {
            return Ok(());
        }
        let cleaner = name == "log.cleaner.threads";
        let failed = format!("Dynamic thread count update validation failed for {name}={after}, value should");
        let why = if after <= 0 && cleaner {
            "Log cleaner threads should be at least 1".to_owned()
        } else if after <= 0 {
            format!("{failed} be at least 1")
        } else if after < before / 2 && cleaner {
            format!("Log cleaner threads cannot be reduced to less than half the current value {before}")
        } else if after < before / 2 {
            format!("{failed} be at least half the current value {before}")
        } else if after > before * 2 && cleaner {
            format!("Log cleaner threads cannot be increased to more than double the current value {before}")
        } else if after > before * 2 {
            format!("{failed} not be greater than double the current value {before}")
        } else {
            return Ok(());
        };
        Err(format!(
            "Invalid value org.apache.kafka.common.config.ConfigException: {why} for configuration Invalid dynamic \
             configuration"
        ))
    }

    /// Sockets are opened at a start: what would open or close one is refused, and not stored without effect.
    fn check_listeners(&self, values: &BTreeMap<String, String>) -> Result<(), String> {
        for name in ["listeners", "listener.security.protocol.map"] {
            if values.get(name).is_some_and(|text| Some(text.as_str()) != self.text_or_default(name)) {
                return Err(format!("{name} cannot change while the broker runs: it is read at a start"));
            }
        }
        Ok(())
    }

    fn values_of(&self, source: Source) -> BTreeMap<String, String> {
        let layer = self.layers().iter().find(|layer| layer.source == source);
        layer.map(|layer| layer.values.clone()).unwrap_or_default()
    }
}

/// Keys that nobody knows stay: a plugin of Kafka may know them, and describing them is honest.
fn usable(values: &BTreeMap<String, String>, scope: DynamicScope) -> BTreeMap<String, String> {
    let keep = |name: &str, text: &str| match broker_row(name) {
        Some(row) => fits(row, name, scope) && row.accepts(text),
        None => true,
    };
    let kept = values.iter().filter(|(name, text)| keep(name, text));
    kept.map(|(name, text)| (name.clone(), text.clone())).collect()
}

/// What all brokers may be told of one listener (`DynamicBrokerConfig.CLUSTER_LEVEL_LISTENER_CONFIGS`).
const OF_ANY_LISTENER: [&str; 3] = ["max.connections", "max.connection.creation.rate", "num.network.threads"];

/// True if the scope may hold the key. What is set for one listener is set for one broker, but for its limits.
fn fits(row: &Row, name: &str, scope: DynamicScope) -> bool {
    if let Some(key) = listener_key(name) {
        return scope == DynamicScope::Broker || OF_ANY_LISTENER.contains(&key);
    }
    match row.update {
        Update::ClusterWide => true,
        Update::PerBroker => scope == DynamicScope::Broker,
        Update::ReadOnly | Update::PerTopic | Update::PerGroup | Update::PerSubscription => false,
    }
}

/// True for the keys that change only for a named listener (`SslConfigs.RECONFIGURABLE_CONFIGS`).
fn is_key_or_trust_store(name: &str) -> bool {
    name.starts_with("ssl.keystore.") || name.starts_with("ssl.truststore.") || name == "ssl.key.password"
}

fn refuse_any(values: &BTreeMap<String, String>, refused: &dyn Fn(&str) -> bool, why: &str) -> Result<(), String> {
    let names: Vec<&str> = values.keys().map(String::as_str).filter(|name| refused(name)).collect();
    if names.is_empty() { Ok(()) } else { Err(format!("{why}: [{}]", names.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{config, map};
    use super::*;

    #[test]
    fn this_broker_beats_the_cluster_beats_what_is_static() {
        let fixed = config(&[("message.max.bytes", "1"), ("log.retention.ms", "7")]);
        let cluster = map(&[("message.max.bytes", "2"), ("log.retention.ms", "8")]);
        let dynamic = fixed.with_dynamic(&cluster, &map(&[("message.max.bytes", "3")]));
        assert_eq!((dynamic.broker().message_max_bytes, dynamic.broker().log_retention_ms), (3, Some(8)));
        assert_eq!(dynamic.source_of("message.max.bytes"), Source::BrokerDynamic);
        assert_eq!(dynamic.source_of("log.retention.ms"), Source::ClusterDynamic);
        // A later image replaces both layers.
        let later = dynamic.with_dynamic(&map(&[]), &map(&[]));
        assert_eq!((later.broker().message_max_bytes, later.broker().log_retention_ms), (1, Some(7)));
        assert_eq!(later.listeners(), fixed.listeners());
    }

    #[test]
    fn what_cannot_hold_is_left_out() {
        let stored = map(&[("num.partitions", "9"), ("message.max.bytes", "-1"), ("cordoned.log.dirs", "*")]);
        let dynamic = config(&[]).with_dynamic(&stored, &stored);
        assert_eq!(dynamic.broker().num_partitions, 1);
        assert_eq!(dynamic.broker().message_max_bytes, 1_048_588);
        assert_eq!(dynamic.source_of("cordoned.log.dirs"), Source::BrokerDynamic);
        assert_eq!(DynamicScope::Broker.usable(&stored), map(&[("cordoned.log.dirs", "*")]));
        assert!(DynamicScope::Cluster.usable(&stored).is_empty());
    }

    #[track_caller]
    fn refused(scope: DynamicScope, values: &[(&str, &str)], why: &str) {
        assert_eq!(config(&[]).check_broker_dynamic(scope, &map(values)), Err(why.to_owned()));
    }

    #[test]
    fn changes_are_refused_in_the_words_of_kafka() {
        use DynamicScope::{Broker, Cluster};
        let fixed = [("num.partitions", "2"), ("log.retention.hours", "2")];
        refused(Cluster, &fixed, "Cannot update these configs dynamically: [log.retention.hours, num.partitions]");
        let store = [("ssl.keystore.location", "/k")];
        let prefix = "These security configs can be dynamically updated only per-listener using the listener prefix: \
                      [ssl.keystore.location]";
        refused(Broker, &store, prefix);
        let one = "Cannot update these configs at default cluster level, broker id must be specified: \
                   [cordoned.log.dirs]";
        refused(Cluster, &[("cordoned.log.dirs", "/d")], one);
        let low = "Invalid value -1 for configuration message.max.bytes: Value must be at least 0";
        refused(Broker, &[("message.max.bytes", "-1")], low);
        let zero = "requirement failed: log.retention.ms must be unlimited (-1) or, greater than or equal to 1";
        refused(Cluster, &[("log.retention.ms", "0")], zero);
    }

    #[test]
    fn threads_double_at_most() {
        let failed = "Invalid value org.apache.kafka.common.config.ConfigException: Dynamic thread count update \
                      validation failed for num.io.threads=17, value should not be greater than double the current \
                      value 8 for configuration Invalid dynamic configuration";
        refused(DynamicScope::Broker, &[("num.io.threads", "17")], failed);
        let good = map(&[("num.io.threads", "16"), ("unknown.key", "x"), ("listener.name.a.ssl.keystore.type", "PEM")]);
        assert_eq!(config(&[]).check_broker_dynamic(DynamicScope::Broker, &good), Ok(()));
        // From what is in force, not from what is in the file; and taking a value away is a change too.
        let wide = config(&[]).with_dynamic(&map(&[]), &map(&[("num.io.threads", "32")]));
        assert_eq!(wide.check_broker_dynamic(DynamicScope::Broker, &map(&[("num.io.threads", "64")])), Ok(()));
        assert!(wide.check_broker_dynamic(DynamicScope::Broker, &map(&[])).is_err());
    }

    #[test]
    fn limits_of_a_listener_may_be_everybodys() {
        let limit = map(&[("listener.name.a.max.connections", "5")]);
        assert_eq!(config(&[]).check_broker_dynamic(DynamicScope::Cluster, &limit), Ok(()));
        let why = "Cannot update these configs at default cluster level, broker id must be specified: \
                   [listener.name.a.foo]";
        refused(DynamicScope::Cluster, &[("listener.name.a.foo", "1")], why);
        let moved = "listeners cannot change while the broker runs: it is read at a start";
        refused(DynamicScope::Broker, &[("listeners", "PLAINTEXT://:1")], moved);
    }
}
