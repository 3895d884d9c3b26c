//! Whether settings are legal for a resource: what the controller asks before it accepts a change.

use crate::config::{Config, DynamicScope};
use crate::metadata::{ResourceKind, SettingMap};

/// Checks all settings of one resource together; the error is Kafka's sentence.
pub fn check_settings(config: &Config, kind: ResourceKind, name: &str, settings: &SettingMap) -> Result<(), String> {
    match kind {
        ResourceKind::Topic => config.check_topic(settings),
        ResourceKind::Broker if name.is_empty() => config.check_broker_dynamic(DynamicScope::Cluster, settings),
        ResourceKind::Broker => config.check_broker_dynamic(DynamicScope::Broker, settings),
        ResourceKind::ClientMetrics | ResourceKind::Group => Err(format!("settings of a {kind:?} are not built yet")),
    }
}
