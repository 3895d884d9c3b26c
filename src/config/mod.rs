//! Settings: Kafka's names, types and defaults in one table, and the layers that override it.
//!
//! A [`Config`] is an immutable snapshot. [`Config::load`] makes the first from file, environment and command line;
//! [`Config::with_dynamic`] makes the next whenever the dynamic settings in the metadata change. Callers read typed
//! fields, `config.broker().num_partitions` or `config.topic(&overrides).retention_ms`, and never a text by its name.
//!
//! * `table` has one row per key and makes [`BrokerSettings`] and [`TopicSettings`] from it; `rules` are the checks
//!   that need a function, `value` and `typed` the types.
//! * `properties` and `env_vars` read the static sources; `layers` puts them over each other.
//! * `startup` and `listeners` refuse what does not fit together.
//! * `topics`, `groups`, `subscriptions` and `dynamic` are the settings that change while running; `describe` is
//!   DescribeConfigs, `manual` the documentation.
//!
//! Invariants: everything here is pure: files, environment and command line arrive as texts. Metadata is not known
//! here; it hands over its overrides as plain maps. Sentences that clients see are Kafka's.

mod describe;
mod dynamic;
mod env_vars;
mod groups;
mod layers;
mod listeners;
mod manual;
mod properties;
mod rules;
#[cfg(test)]
mod samples;
mod startup;
mod subscriptions;
mod table;
mod topics;
mod typed;
mod value;

pub use describe::{Described, Synonym};
pub use dynamic::DynamicScope;
pub use layers::{Config, ConfigError, Loaded, Source, Sources};
pub use listeners::{ListenerSetting, SecurityProtocol};
pub use manual::configuration_markdown;
pub use subscriptions::{ClientAttribute, ClientSubscription};
pub use table::{
    BROKER_ROWS, BrokerSettings, GROUP_ROWS, GroupSettings, Honoured, Row, SUBSCRIPTION_ROWS, TOPIC_ROWS,
    TopicSettings, Update, broker_row, group_row, subscription_row, topic_row,
};
pub use typed::{ClassName, CleanupPolicy, CompressionType, Password, TimestampType};
pub use value::{Kind, Valid, Value};
