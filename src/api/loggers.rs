//! The loggers of this broker (resource BROKER_LOGGER, KIP-412): names that operators of Kafka know, their levels, and
//! the filter of our log that they add up to.
//!
//! A logger without a level has that of its nearest ancestor by name, at last of `root`. Levels are this process's and
//! end with it, as in Kafka. FATAL lets errors through: we have nothing above them.
//!
//! Invariant: `LOGGERS` is the only list; each row but `root` and `kafka` is one part of the program.

use std::collections::BTreeMap;
use std::fmt::Write;

use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use parking_lot::Mutex;

use crate::api::config_changes::operation;
use crate::error::{ApiError, ErrorCode};

const ROOT: &str = "root";

/// Kafka's name for the part, and the prefix of our modules.
const LOGGERS: &[(&str, &str)] = &[
    (ROOT, ""),
    ("kafka", "ottla"),
    ("kafka.coordinator.group", "ottla::coordinator"),
    ("kafka.log", "ottla::storage"),
    ("kafka.log.LogCleaner", "ottla::partitions::cleaner"),
    ("kafka.metrics", "ottla::http"),
    ("kafka.network", "ottla::network"),
    ("kafka.network.SocketServer", "ottla::network::connection"),
    ("kafka.request.logger", "ottla::api::dispatch"),
    ("kafka.server", "ottla::server"),
    ("kafka.server.ControllerServer", "ottla::metadata::controller"),
    ("kafka.server.KafkaApis", "ottla::api"),
    ("kafka.server.KafkaRequestHandler", "ottla::api::handlers"),
    ("kafka.server.ReplicaManager", "ottla::partitions"),
    ("org.apache.kafka.controller", "ottla::metadata"),
    ("org.apache.kafka.raft", "openraft"),
    ("state.change.logger", "ottla::partitions::reconciler"),
];

/// Levels with the words of our filter. OFF can be in the filter and cannot be set (`LogLevelConfig`).
const LEVELS: &[(&str, &str)] = &[
    ("DEBUG", "debug"),
    ("ERROR", "error"),
    ("FATAL", "error"),
    ("INFO", "info"),
    ("TRACE", "trace"),
    ("WARN", "warn"),
    (OFF, "off"),
];

const OFF: &str = "OFF";

type Level = &'static str;

/// Puts a filter into effect; it is in the form of `OTTLA_LOG`.
pub type ApplyFilter = Box<dyn Fn(&str) + Send>;

/// The loggers with their levels.
#[derive(Default)]
pub struct Loggers(Mutex<State>);

#[derive(Default)]
struct State {
    /// What the process was started with.
    base: String,
    /// Levels given since, and `None` where one was taken away.
    changed: BTreeMap<Level, Option<Level>>,
    apply: Option<ApplyFilter>,
}

impl Loggers {
    /// Connects the loggers with the log of the process, which was started with the filter `base`.
    pub fn attach(&self, base: &str, apply: ApplyFilter) {
        let mut state = self.0.lock();
        state.base = base.to_owned();
        state.apply = Some(apply);
    }

    /// Every logger with its level, in the order of names.
    pub fn levels(&self) -> Vec<(&'static str, &'static str)> {
        let state = self.0.lock();
        LOGGERS.iter().map(|(name, _)| (*name, state.level(name))).collect()
    }

    /// Sets and unsets levels: all of them, or none. With `validate` it only says what would happen. The errors are
    /// Kafka's (`RuntimeLoggerManager`).
    pub fn alter(&self, changes: &[AlterableConfig], validate: bool) -> Result<(), ApiError> {
        let judged: Vec<(&'static str, Option<Level>)> = changes.iter().map(judge).collect::<Result<_, _>>()?;
        if validate {
            return Ok(());
        }
        let mut state = self.0.lock();
        for (name, level) in judged {
            tracing::warn!(logger = name, level = level.unwrap_or("unset"), "log level changed");
            state.changed.insert(name, level);
        }
        if let Some(apply) = &state.apply {
            apply(&state.filter());
        }
        Ok(())
    }
}

fn judge(change: &AlterableConfig) -> Result<(&'static str, Option<Level>), ApiError> {
    let refuse = |code: ErrorCode, why: String| Err(ApiError::new(code, why));
    let verb = match change.config_operation {
        operation::SET | operation::DELETE => "",
        operation::APPEND => "APPEND",
        operation::SUBTRACT => "SUBTRACT",
        unknown => {
            let why = format!("Unknown operation type {unknown} is not allowed for the BROKER_LOGGER resource");
            return refuse(ErrorCode::InvalidRequest, why);
        }
    };
    if !verb.is_empty() {
        let why = format!("{verb} operation is not allowed for the BROKER_LOGGER resource");
        return refuse(ErrorCode::InvalidRequest, why);
    }
    let asked = change.name.as_str();
    let Some((name, _)) = LOGGERS.iter().find(|(name, _)| *name == asked) else {
        return refuse(ErrorCode::InvalidConfig, format!("Logger {asked} does not exist!"));
    };
    if change.config_operation == operation::DELETE {
        if *name == ROOT {
            let why = "Removing the log level of the root logger is not allowed".to_owned();
            return refuse(ErrorCode::InvalidRequest, why);
        }
        return Ok((name, None));
    }
    let wanted = change.value.as_deref().unwrap_or_default();
    let valid = LEVELS.iter().map(|(level, _)| *level).filter(|level| *level != OFF);
    match valid.clone().find(|level| *level == wanted) {
        Some(level) => Ok((name, Some(level))),
        None => {
            let words = valid.collect::<Vec<_>>().join(", ");
            let why = format!(
                "Cannot set the log level of {name} to {wanted} as it is not a supported log level. Valid log levels \
                 are {words}"
            );
            refuse(ErrorCode::InvalidConfig, why)
        }
    }
}

impl State {
    /// The level in force.
    fn level(&self, name: &str) -> Level {
        let mut at = Some(name);
        while let Some(name) = at {
            if let Some((_, target)) = LOGGERS.iter().find(|(known, _)| *known == name) {
                let own = match self.changed.get(name) {
                    Some(level) => *level,
                    None => self.base_level(target),
                };
                if let Some(level) = own {
                    return level;
                }
            }
            at = match name.rsplit_once('.') {
                Some((parent, _)) => Some(parent),
                None => (name != ROOT).then_some(ROOT),
            };
        }
        // What `EnvFilter` lets through when it is told nothing.
        "ERROR"
    }

    /// The level that the process was started with for exactly this target.
    fn base_level(&self, target: &str) -> Option<Level> {
        let mut found = self.base.split(',').rev().filter_map(|directive| {
            let (of, word) = directive.trim().rsplit_once('=').unwrap_or(("", directive.trim()));
            (of == target).then(|| LEVELS.iter().find(|(_, known)| known.eq_ignore_ascii_case(word)))?
        });
        found.next().map(|(level, _)| *level)
    }

    /// What was there at the start, and behind it, so that it counts, the level of every logger.
    fn filter(&self) -> String {
        let mut filter = self.base.clone();
        for (name, target) in LOGGERS {
            let level = self.level(name);
            let word = LEVELS.iter().find(|(known, _)| *known == level).map_or("error", |(_, word)| word);
            // Writing to a string cannot fail.
            let _ = match *target {
                "" => write!(filter, ",{word}"),
                target => write!(filter, ",{target}={word}"),
            };
        }
        filter.trim_start_matches(',').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::translate::text;

    fn change(name: &str, operation: i8, value: Option<&str>) -> AlterableConfig {
        AlterableConfig::default().with_name(text(name)).with_config_operation(operation).with_value(value.map(text))
    }

    fn started() -> (Loggers, Arc<Mutex<String>>) {
        let loggers = Loggers::default();
        let applied = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&applied);
        loggers.attach("info,openraft=warn", Box::new(move |filter| *seen.lock() = filter.to_owned()));
        (loggers, applied)
    }

    fn level(loggers: &Loggers, name: &str) -> &'static str {
        loggers.levels().into_iter().find(|(known, _)| *known == name).unwrap().1
    }

    #[test]
    fn levels_are_inherited_by_name() {
        let (loggers, applied) = started();
        assert_eq!((level(&loggers, "root"), level(&loggers, "kafka.server.KafkaApis")), ("INFO", "INFO"));
        assert_eq!(level(&loggers, "org.apache.kafka.raft"), "WARN", "as the process was started");
        assert_eq!(loggers.alter(&[change("kafka.server", operation::SET, Some("DEBUG"))], false), Ok(()));
        assert_eq!(level(&loggers, "kafka.server.KafkaApis"), "DEBUG");
        assert_eq!(level(&loggers, "kafka.network"), "INFO");
        assert!(applied.lock().contains("ottla::api=debug") && applied.lock().contains("ottla::network=info"));
        let both = [
            change("kafka.server", operation::DELETE, None),
            change("org.apache.kafka.raft", operation::DELETE, None),
            change("root", operation::SET, Some("FATAL")),
        ];
        assert_eq!(loggers.alter(&both, false), Ok(()));
        assert!(loggers.levels().iter().all(|(_, level)| *level == "FATAL"));
        let last = applied.lock().clone();
        assert!(last.starts_with("info,openraft=warn,error,ottla=error,"), "{last}");
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let (loggers, applied) = started();
        let check = |wrong: AlterableConfig, code: ErrorCode, why: &str| {
            let both = [change("kafka", operation::SET, Some("TRACE")), wrong];
            assert_eq!(loggers.alter(&both, false), Err(ApiError::new(code, why)));
        };
        check(
            change("no.such", operation::SET, Some("INFO")),
            ErrorCode::InvalidConfig,
            "Logger no.such does not exist!",
        );
        let words = "Cannot set the log level of root to OFF as it is not a supported log level. Valid log levels are \
                     DEBUG, ERROR, FATAL, INFO, TRACE, WARN";
        check(change("root", operation::SET, Some("OFF")), ErrorCode::InvalidConfig, words);
        let root = "Removing the log level of the root logger is not allowed";
        check(change("root", operation::DELETE, None), ErrorCode::InvalidRequest, root);
        let list = "APPEND operation is not allowed for the BROKER_LOGGER resource";
        check(change("kafka", operation::APPEND, Some("x")), ErrorCode::InvalidRequest, list);
        assert_eq!(loggers.alter(&[change("kafka", operation::SET, Some("TRACE"))], true), Ok(()), "only asked");
        assert_eq!((level(&loggers, "kafka"), applied.lock().is_empty()), ("INFO", true));
    }
}
