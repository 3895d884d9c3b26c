//! The layers a setting's value can come from, and what they add up to.
//!
//! Invariants: pure. The later layer wins: default < file < environment < command line < cluster-wide dynamic < dynamic
//! of this broker. A [`Config`] never changes; a new one takes its place. Values of static layers were checked when
//! they were loaded, values of dynamic layers when they were added, so every text that counts parses.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::listeners::{self, ListenerSetting};
use super::rules::{self, Voter};
use super::table::{BROKER_ROWS, BrokerSettings, Honoured, Row, broker_row, listener_key};
use super::{env_vars, properties, startup};

/// Where a value comes from, from the weakest to the strongest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// Nothing sets it.
    Default,
    /// The `.properties` file.
    File,
    /// A `KAFKA_…` variable.
    Environment,
    /// The command line.
    Override,
    /// A cluster-wide setting made while running (resource BROKER with an empty name).
    ClusterDynamic,
    /// A setting of this broker made while running.
    BrokerDynamic,
    /// A setting of a topic.
    Topic,
    /// A setting of a subscription to clients' metrics.
    Subscription,
    /// A setting of a group.
    Group,
}

impl Source {
    /// The number in DescribeConfigs (`DescribeConfigsResponse.ConfigSource`).
    pub const fn code(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::BrokerDynamic => 2,
            Source::ClusterDynamic => 3,
            Source::File | Source::Environment | Source::Override => 4,
            Source::Default => 5,
            Source::Subscription => 7,
            Source::Group => 8,
        }
    }

    /// True for a source that is read once, at a start.
    pub const fn is_static(self) -> bool {
        matches!(self, Source::File | Source::Environment | Source::Override)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Default => "default",
            Source::File => "configuration file",
            Source::Environment => "environment",
            Source::Override => "command line",
            Source::ClusterDynamic => "cluster-wide dynamic setting",
            Source::BrokerDynamic => "dynamic setting of this broker",
            Source::Topic => "setting of the topic",
            Source::Subscription => "setting of the subscription",
            Source::Group => "setting of the group",
        })
    }
}

/// What a broker is started with.
#[derive(Clone, Default, Debug)]
pub struct Sources {
    /// The file's path, for messages, and its text.
    pub file: Option<(PathBuf, String)>,
    /// The whole environment; what is no setting is left alone.
    pub env: Vec<(String, String)>,
    /// `--override key=value`, in their order.
    pub overrides: Vec<(String, String)>,
}

/// A configuration that was loaded, with what an operator should be told.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// One line for each key that is unknown or has no effect.
    pub warnings: Vec<String>,
}

/// Why a broker does not start: every reason that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl From<String> for ConfigError {
    fn from(problem: String) -> ConfigError {
        ConfigError { problems: vec![problem] }
    }
}

/// The values of one source.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) source: Source,
    pub(super) values: BTreeMap<String, String>,
}

/// A snapshot of all settings: texts with their sources, and typed.
#[derive(Clone)]
pub struct Config {
    layers: Vec<Layer>,
    broker: Arc<BrokerSettings>,
    listeners: Arc<[ListenerSetting]>,
}

// The texts contain passwords.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads, checks and layers what a broker is started with.
    pub fn load(sources: Sources) -> Result<Loaded, ConfigError> {
        let mut layers = static_layers(sources)?;
        let (problems, warnings) = review(&layers);
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        join_names(&mut layers);
        let mut config = Config::assemble(layers, Arc::from([]));
        let mut problems = startup::refusals(&config.broker);
        let listeners = listeners::resolve(&config.broker, &|key: &str| config.is_set(key));
        match listeners {
            Ok(listeners) => config.listeners = listeners.into(),
            Err(problem) => problems.push(problem),
        }
        if problems.is_empty() { Ok(Loaded { config, warnings }) } else { Err(ConfigError { problems }) }
    }

    /// The settings of this broker.
    pub fn broker(&self) -> &BrokerSettings {
        &self.broker
    }

    /// The listeners, in the order of the `listeners` key.
    pub fn listeners(&self) -> &[ListenerSetting] {
        &self.listeners
    }

    /// True if `process.roles` names the role.
    pub fn has_role(&self, role: &str) -> bool {
        self.broker.process_roles.iter().any(|one| one == role)
    }

    /// The voters of `controller.quorum.voters`.
    pub fn voters(&self) -> Vec<Voter> {
        // Entries that do not parse were refused as values.
        rules::parse_voters(&self.broker.controller_quorum_voters).unwrap_or_default()
    }

    /// Host and port of every entry of `controller.quorum.bootstrap.servers`.
    pub fn bootstrap_controllers(&self) -> Vec<(String, u16)> {
        let entries = self.broker.controller_quorum_bootstrap_servers.iter();
        entries.filter_map(|entry| rules::host_port(entry)).map(|(host, port)| (host.to_owned(), port)).collect()
    }

    /// The name of the listener that brokers use among themselves.
    pub fn inter_broker_listener(&self) -> String {
        listeners::inter_broker_name(&self.broker)
    }

    /// A number set for one listener, as `listener.name.<name in small letters>.<key>`; `None` if nothing sets it.
    pub fn of_listener(&self, listener: &str, key: &str) -> Option<i32> {
        let text = self.text(&format!("listener.name.{}.{key}", listener.to_lowercase()))?;
        text.trim().parse().ok()
    }

    /// True if something other than the default gives the key its value, even if it gives the same value.
    pub fn is_set(&self, name: &str) -> bool {
        self.source_of(name) != Source::Default
    }

    /// Where the value of a broker's key comes from.
    pub fn source_of(&self, name: &str) -> Source {
        let layer = self.layers.iter().rev().find(|layer| layer.values.contains_key(name));
        layer.map_or(Source::Default, |layer| layer.source)
    }

    /// Layers over each other, weakest first, with the listeners found at the start.
    pub(super) fn assemble(layers: Vec<Layer>, listeners: Arc<[ListenerSetting]>) -> Config {
        let broker = BrokerSettings::read(&|name: &str| text_in(&layers, name).map(str::to_owned));
        Config { layers, broker: Arc::new(broker), listeners }
    }

    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    pub(super) fn shared_listeners(&self) -> Arc<[ListenerSetting]> {
        self.listeners.clone()
    }

    /// The text of a broker's key, from the strongest layer that sets it.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        text_in(&self.layers, name)
    }

    /// The text of a broker's key or its default; `None` is Kafka's null.
    pub(super) fn text_or_default(&self, name: &str) -> Option<&str> {
        self.text(name).or_else(|| broker_row(name)?.default)
    }
}

fn text_in<'a>(layers: &'a [Layer], name: &str) -> Option<&'a str> {
    layers.iter().rev().find_map(|layer| layer.values.get(name)).map(String::as_str)
}

fn static_layers(sources: Sources) -> Result<Vec<Layer>, ConfigError> {
    let file = match sources.file {
        Some((path, text)) => properties::parse(&text).map_err(|why| format!("{}: {why}", path.display()))?,
        None => BTreeMap::new(),
    };
    Ok(vec![
        Layer { source: Source::File, values: file },
        Layer { source: Source::Environment, values: env_vars::settings(&sources.env) },
        Layer { source: Source::Override, values: sources.overrides.into_iter().collect() },
    ])
}

/// Gives the newer name of a setting the value of its older name, if only that is set: `node.id` and `broker.id` stand
/// for each other (`AbstractKafkaConfig.populateSynonyms`), `log.dir` for `log.dirs`.
fn join_names(layers: &mut [Layer]) {
    for (from, to) in [("broker.id", "node.id"), ("node.id", "broker.id"), ("log.dir", "log.dirs")] {
        if text_in(layers, to).is_some() {
            continue;
        }
        for layer in layers.iter_mut() {
            if let Some(value) = layer.values.get(from).cloned() {
                layer.values.insert(to.to_owned(), value);
            }
        }
    }
}

/// What is wrong with the values that count, and what has no effect. A value that a stronger layer hides is not looked
/// at: in Kafka's container image it would not be in the file any more.
fn review(layers: &[Layer]) -> (Vec<String>, Vec<String>) {
    let mut effective: BTreeMap<&str, (&str, Source)> = BTreeMap::new();
    for layer in layers {
        effective.extend(layer.values.iter().map(|(name, text)| (name.as_str(), (text.as_str(), layer.source))));
    }
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    for (name, (text, source)) in effective {
        let Some(row) = broker_row(name) else {
            warnings.push(unknown(name, source));
            continue;
        };
        if let Err(problem) = row.parse(name, text) {
            problems.push(format!("{problem} (allowed: {}; set in the {source})", allowed(row)));
        }
        if let Some(reason) = without_effect(row, name) {
            warnings.push(format!("`{name}`, set in the {source}, has no effect: {reason}"));
        }
    }
    (problems, warnings)
}

/// What is honoured for one listener.
const LISTENER_KEYS: [&str; 2] = ["max.connections", "max.connection.creation.rate"];

fn without_effect(row: &Row, name: &str) -> Option<&'static str> {
    match row.honoured {
        Honoured::Ignored(reason) => Some(reason),
        _ if listener_key(name).is_some_and(|key| !LISTENER_KEYS.contains(&key)) => Some("not for one listener"),
        Honoured::Yes | Honoured::Partly(_) => None,
    }
}

fn allowed(row: &Row) -> String {
    let kind = row.kind.name().to_lowercase();
    let valid = row.valid.allowed();
    if valid.is_empty() { kind } else { format!("{kind} {valid}") }
}

fn unknown(name: &str, source: Source) -> String {
    let guess = nearest(name).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
    format!("`{name}`, set in the {source}, is not a setting known here and has no effect{guess}")
}

/// The key that differs from `name` in at most a quarter of its letters, and least of all.
fn nearest(name: &str) -> Option<&'static str> {
    let distances = BROKER_ROWS.iter().map(|row| (strsim::damerau_levenshtein(name, row.name), row.name));
    distances.min().filter(|(distance, _)| distance * 4 <= name.len()).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn from_file(text: &str) -> Result<Loaded, ConfigError> {
        let file = Some((PathBuf::from("server.properties"), text.to_owned()));
        Config::load(Sources { file, ..Sources::default() })
    }

    #[test]
    fn nothing_at_all_starts() {
        let Loaded { config, warnings } = Config::load(Sources::default()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((config.broker().node_id, config.broker().broker_id), (1, 1));
        assert_eq!(config.broker().log_dirs, ["./ottla-data"]);
        assert_eq!(config.inter_broker_listener(), "PLAINTEXT");
        assert!(!config.is_set("offsets.topic.replication.factor"));
    }

    // What the file says that Kafka ships for a node of both roles, and the one of its container image.
    const SHIPPED: &str = "
        process.roles=broker,controller
        node.id=1
        controller.quorum.bootstrap.servers=localhost:9093
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093
        inter.broker.listener.name=PLAINTEXT
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
        controller.listener.names=CONTROLLER
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\\
            SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
        num.network.threads=3
        socket.request.max.bytes=104857600
        log.dirs=/var/lib/kafka
        offsets.topic.replication.factor=1
        transaction.state.log.min.isr=1
        log.retention.hours=168
        log.segment.bytes=1073741824
    ";

    #[test]
    fn the_files_that_kafka_ships_start() {
        let Loaded { config, warnings } = from_file(SHIPPED).unwrap();
        assert_eq!(config.listeners().len(), 2);
        assert!(config.listeners()[1].controller);
        assert_eq!(config.broker().log_dirs, ["/var/lib/kafka"]);
        assert_eq!(config.broker().broker_id, 1);
        assert!(config.is_set("offsets.topic.replication.factor"));
        let line = "`num.network.threads`, set in the configuration file, has no effect: \
                    tokio workers serve all requests";
        assert!(warnings.iter().any(|warning| warning == line), "{warnings:?}");
        let voters = "controller.quorum.voters=1@localhost:9093";
        let image = SHIPPED.replace("controller.quorum.bootstrap.servers=localhost:9093", voters);
        assert!(from_file(&image).is_ok());
    }

    #[test]
    fn later_layers_win() {
        let sources = Sources {
            file: Some((PathBuf::from("f"), "num.partitions=2\nfetch.max.bytes=2048\nbroker.rack=a".into())),
            env: pairs(&[("KAFKA_NUM_PARTITIONS", "3"), ("KAFKA_FETCH_MAX_BYTES", "4096"), ("HOME", "/")]),
            overrides: pairs(&[("num.partitions", "4"), ("num.partitions", "5")]),
        };
        let config = Config::load(sources).unwrap().config;
        assert_eq!(config.broker().num_partitions, 5);
        assert_eq!(config.source_of("num.partitions"), Source::Override);
        assert_eq!(config.broker().fetch_max_bytes, 4096);
        assert_eq!(config.source_of("fetch.max.bytes"), Source::Environment);
        assert_eq!(config.source_of("broker.rack"), Source::File);
        assert_eq!(config.source_of("delete.topic.enable"), Source::Default);
    }

    #[test]
    fn unknown_keys_are_tolerated_with_a_guess() {
        let warnings = from_file("num.partitons=3\nzookeeper.connect=zk:2181").unwrap().warnings;
        assert_eq!(
            warnings,
            [
                "`num.partitons`, set in the configuration file, is not a setting known here and has no effect; \
                 did you mean `num.partitions`?",
                "`zookeeper.connect`, set in the configuration file, is not a setting known here and has no effect",
            ]
        );
    }

    #[test]
    fn bad_values_are_all_named() {
        let error = from_file("num.partitions=0\nlog.cleanup.policy=keep\nnode.id=x").unwrap_err();
        assert_eq!(
            error.problems,
            [
                "Invalid value keep for configuration log.cleanup.policy: String must be one of: compact, delete \
                 (allowed: list [compact, delete]; set in the configuration file)",
                "Invalid value x for configuration node.id: Not a number of type INT \
                 (allowed: int [0,...]; set in the configuration file)",
                "Invalid value 0 for configuration num.partitions: Value must be at least 1 \
                 (allowed: int [1,...]; set in the configuration file)",
            ]
        );
        assert!(from_file("a=\\u00").unwrap_err().to_string().starts_with("server.properties: line 1:"));
    }

    #[test]
    fn a_value_that_is_hidden_is_not_checked() {
        let sources = Sources {
            file: Some((PathBuf::from("f"), "num.partitions=none".into())),
            env: pairs(&[("KAFKA_NUM_PARTITIONS", "3")]),
            overrides: Vec::new(),
        };
        assert_eq!(Config::load(sources).unwrap().config.broker().num_partitions, 3);
    }

    #[test]
    fn older_names_still_count() {
        let config = from_file("broker.id=7\nlog.dir=/data").unwrap().config;
        assert_eq!((config.broker().node_id, config.broker().broker_id), (7, 7));
        assert_eq!(config.broker().log_dirs, ["/data"]);
        assert!(from_file("broker.id=7\nnode.id=8").is_err());
    }

    #[test]
    fn keys_of_one_listener_are_accepted() {
        let loaded = from_file("listener.name.plaintext.ssl.client.auth=none").unwrap();
        assert_eq!(loaded.warnings.len(), 1);
        let wrong = from_file("listener.name.plaintext.ssl.client.auth=maybe").unwrap_err();
        let start = "Invalid value maybe for configuration listener.name.plaintext.ssl.client.auth:";
        assert!(wrong.to_string().starts_with(start), "{wrong}");
    }
}
