//! Settings in the environment, by the rules of Kafka's official container image (`KafkaDockerWrapper`).
//!
//! Invariants: pure; the environment arrives as a list. Values are taken as they are.

use std::collections::BTreeMap;

/// Variables that begin like settings and are read by the image's scripts instead.
const EXCLUDED: [&str; 11] = [
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_JMX_HOSTNAME",
];

/// The settings that `environment` contains. If it says what to advertise and not where to listen, the broker listens
/// on the advertised ports of every interface.
pub fn settings(environment: &[(String, String)]) -> BTreeMap<String, String> {
    let read = |(name, value): &(String, String)| Some((setting_name(name)?, value.clone()));
    let mut settings: BTreeMap<String, String> = environment.iter().filter_map(read).collect();
    let is_empty = |key: &str| settings.get(key).is_none_or(String::is_empty);
    if is_empty("listeners") && !is_empty("advertised.listeners") {
        let listeners = settings.get("advertised.listeners").map(|advertised| on_every_interface(advertised));
        settings.extend(listeners.map(|listeners| ("listeners".to_owned(), listeners)));
    }
    settings
}

/// The key that a variable sets: `KAFKA_` goes, `_` stands for `.`, `__` for `_`, and `___` for `-`.
fn setting_name(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("KAFKA_")?;
    if EXCLUDED.contains(&variable) {
        return None;
    }
    // The order of these replacements is the image's; it decides what a run of four or more underscores means.
    Some(name.to_lowercase().replace('_', ".").replace("...", "-").replace("..", "_"))
}

/// The same listeners with `0.0.0.0` for every host.
fn on_every_interface(listeners: &str) -> String {
    let replaced = |listener: &str| match (listener.split_once("://"), listener.rsplit_once(':')) {
        (Some((name, _)), Some((_, port))) => format!("{name}://0.0.0.0:{port}"),
        _ => listener.to_owned(),
    };
    listeners.split(',').map(replaced).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn underscores() {
        let name = setting_name;
        assert_eq!(name("KAFKA_NUM_PARTITIONS").as_deref(), Some("num.partitions"));
        assert_eq!(
            name("KAFKA_LISTENER_NAME_SASL__PLAINTEXT_SSL_CLIENT_AUTH").as_deref(),
            Some("listener.name.sasl_plaintext.ssl.client.auth")
        );
        assert_eq!(name("KAFKA_LISTENER_NAME_TC___0_PORT").as_deref(), Some("listener.name.tc-0.port"));
        assert_eq!(name("KAFKA_A____B").as_deref(), Some("a-.b"));
        assert_eq!(name("KAFKA_A_____B").as_deref(), Some("a-_b"));
        assert_eq!(name("CLUSTER_ID"), None);
        assert_eq!(name("MY_KAFKA_OPTS"), None);
    }

    #[test]
    fn variables_of_the_scripts_are_no_settings() {
        assert_eq!(setting_name("KAFKA_HEAP_OPTS"), None);
        assert_eq!(setting_name("KAFKA_LOG4J_LOGGERS"), None);
        assert_eq!(setting_name("KAFKA_JMX_PORT").as_deref(), Some("jmx.port"));
    }

    #[test]
    fn listeners_follow_what_is_advertised() {
        let advertised = "PLAINTEXT://localhost:9092,TC-0://kafka.example:19092";
        let read = settings(&environment(&[("KAFKA_ADVERTISED_LISTENERS", advertised)]));
        assert_eq!(read["listeners"], "PLAINTEXT://0.0.0.0:9092,TC-0://0.0.0.0:19092");
        let both = [("KAFKA_ADVERTISED_LISTENERS", advertised), ("KAFKA_LISTENERS", "PLAINTEXT://:1")];
        assert_eq!(settings(&environment(&both))["listeners"], "PLAINTEXT://:1");
        assert_eq!(settings(&environment(&[("KAFKA_NODE_ID", "3")])).get("listeners"), None);
    }
}
