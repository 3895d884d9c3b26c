//! Whether settings are legal for a resource: what the controller asks before it accepts a change.

use crate::config::Config;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::{ResourceKind, SettingMap};

/// Checks all settings of one resource together; the error is Kafka's (`ControllerConfigurationValidator`). The
/// settings of a broker were checked by that broker, which alone knows what is in force.
pub fn check_settings(config: &Config, kind: ResourceKind, name: &str, settings: &SettingMap) -> Result<(), ApiError> {
    let invalid_config = |why: String| ApiError::new(ErrorCode::InvalidConfig, why);
    let invalid = |why: &str| Err(ApiError::new(ErrorCode::InvalidRequest, why));
    match kind {
        ResourceKind::Topic => config.check_topic(settings).map_err(invalid_config),
        ResourceKind::Broker if name.is_empty() => Ok(()),
        ResourceKind::Broker => match name.parse::<i32>() {
            Err(_) => invalid("Unable to parse broker name as a base 10 number."),
            Ok(id) if id < 0 => invalid("Invalid negative broker ID."),
            Ok(_) => Ok(()),
        },
        ResourceKind::ClientMetrics => Config::check_subscription(name, settings),
        ResourceKind::Group if name.is_empty() => invalid("Default group resources are not allowed."),
        ResourceKind::Group => config.check_group(settings).map_err(invalid_config),
    }
}
