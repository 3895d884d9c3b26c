//! The operations of IncrementalAlterConfigs (KIP-339) as changes that the metadata module can decide on.
//!
//! Invariants: pure. A resource changes as a whole or not at all: one malformed operation refuses all of them.

use std::collections::BTreeSet;

use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::protocol::StrBytes;

use crate::config::{Kind, Row, broker_row};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::SettingChange;

/// The numbers of the operations (`AlterConfigOp.OpType`).
pub mod operation {
    pub const SET: i8 = 0;
    pub const DELETE: i8 = 1;
    pub const APPEND: i8 = 2;
    pub const SUBTRACT: i8 = 3;
}

/// Finds what is known of a setting: `topic_row`, `broker_row` and their like.
pub type RowOf = fn(&str) -> Option<&'static Row>;

/// The changes of one resource. `InvalidRequest` if a name occurs twice, an operation is unknown or a value is missing;
/// `InvalidConfig` if a list operation meets a setting that is no list.
pub fn changes(configs: &[AlterableConfig], row_of: RowOf) -> Result<Vec<(String, SettingChange)>, ApiError> {
    check_form(configs)?;
    configs.iter().map(|config| Ok((config.name.to_string(), change(config, row_of)?))).collect()
}

/// What holds for the operations on every kind of resource: no name twice, no value missing.
pub fn check_form(configs: &[AlterableConfig]) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let names: BTreeSet<&str> = configs.iter().map(|config| config.name.as_str()).collect();
    if names.len() < configs.len() {
        return invalid("Error due to duplicate config keys".to_owned());
    }
    let needs_value = |config: &&AlterableConfig| config.config_operation != operation::DELETE;
    let empty: Vec<&str> = configs
        .iter()
        .filter(needs_value)
        .filter(|config| config.value.is_none())
        .map(|config| config.name.as_str())
        .collect();
    if !empty.is_empty() {
        return invalid(format!("Null value not supported for : {}", empty.join(", ")));
    }
    Ok(())
}

/// The changes of a broker's settings, which that broker judges before the controller does, and in other words
/// (`ConfigAdminManager.prepareIncrementalConfigs`).
pub fn broker_changes(configs: &[AlterableConfig]) -> Result<Vec<(String, SettingChange)>, ApiError> {
    check_form(configs)?;
    for config in configs {
        let verb = match config.config_operation {
            operation::APPEND => "append",
            operation::SUBTRACT => "subtract",
            _ => continue,
        };
        let name = config.name.as_str();
        let why = match broker_row(name).filter(|row| row.name == name) {
            None => format!("Unknown config name: {name}"),
            Some(row) if row.kind != Kind::List => format!("Config value {verb} is not allowed for config key: {name}"),
            Some(_) => continue,
        };
        return Err(ApiError::new(ErrorCode::InvalidConfig, why));
    }
    changes(configs, broker_row)
}

fn change(config: &AlterableConfig, row_of: RowOf) -> Result<SettingChange, ApiError> {
    let name = config.name.as_str();
    let value = config.value.as_ref().map(StrBytes::to_string).unwrap_or_default();
    match config.config_operation {
        operation::SET => Ok(SettingChange::Set(value)),
        operation::DELETE => Ok(SettingChange::Delete),
        operation::APPEND => Ok(SettingChange::Append { items: value, base: base(name, "APPEND", row_of)? }),
        operation::SUBTRACT => Ok(SettingChange::Subtract { items: value, base: base(name, "SUBTRACT", row_of)? }),
        unknown => Err(ApiError::new(ErrorCode::InvalidRequest, format!("Unknown operations type {unknown}"))),
    }
}

/// The list an operation starts from while the resource sets none: Kafka's own default, whatever the broker's is
/// (`ConfigurationControlManager.getParts`).
fn base(name: &str, verb: &str, row_of: RowOf) -> Result<String, ApiError> {
    match row_of(name).filter(|row| row.kind == Kind::List) {
        Some(row) => Ok(row.default.unwrap_or_default().to_owned()),
        None => {
            let message = format!("Can't {verb} to key {name} because its type is not LIST.");
            Err(ApiError::new(ErrorCode::InvalidConfig, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic_row;

    fn config(name: &'static str, operation: i8, value: Option<&'static str>) -> AlterableConfig {
        AlterableConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_config_operation(operation)
            .with_value(value.map(StrBytes::from_static_str))
    }

    fn check_refused(configs: &[AlterableConfig], code: ErrorCode, message: &str) {
        assert_eq!(changes(configs, topic_row), Err(ApiError::new(code, message)));
    }

    #[test]
    fn set_and_delete_take_any_name() {
        let read = changes(&[config("a", 0, Some("1")), config("b", 1, None)], topic_row);
        let set = ("a".to_owned(), SettingChange::Set("1".to_owned()));
        assert_eq!(read, Ok(vec![set, ("b".to_owned(), SettingChange::Delete)]));
    }

    #[test]
    fn malformed_operations_are_refused_in_kafkas_words() {
        let invalid = ErrorCode::InvalidRequest;
        let twice = [config("a", 0, Some("1")), config("a", 1, None)];
        check_refused(&twice, invalid, "Error due to duplicate config keys");
        check_refused(&[config("a", 0, None), config("b", 2, None)], invalid, "Null value not supported for : a, b");
        check_refused(&[config("a", 9, Some("1"))], invalid, "Unknown operations type 9");
    }

    #[test]
    fn only_lists_grow() {
        let read = changes(&[config("cleanup.policy", 2, Some("compact"))], topic_row);
        let append = SettingChange::Append { items: "compact".to_owned(), base: "delete".to_owned() };
        assert_eq!(read, Ok(vec![("cleanup.policy".to_owned(), append)]));
        let message = "Can't APPEND to key retention.ms because its type is not LIST.";
        check_refused(&[config("retention.ms", 2, Some("1"))], ErrorCode::InvalidConfig, message);
    }

    #[test]
    fn a_broker_has_words_of_its_own() {
        let refused = |name, operation| broker_changes(&[config(name, operation, Some("1"))]).unwrap_err().message;
        assert_eq!(refused("no.such", 2), "Unknown config name: no.such");
        assert_eq!(
            refused("message.max.bytes", 3),
            "Config value subtract is not allowed for config key: message.max.bytes"
        );
        assert!(broker_changes(&[config("log.cleanup.policy", 2, Some("compact"))]).is_ok());
    }
}
