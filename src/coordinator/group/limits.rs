//! The bounds groups are kept within, from the broker's settings (pure).
//!
//! Invariant: the settings behind these are read-only in Kafka, so a shard keeps the values it was made with.

use crate::config::BrokerSettings;
use crate::ids::WallMillis;

/// What a group may be and do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupLimits {
    /// `group.min.session.timeout.ms`
    pub min_session_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_ms: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i64,
    /// `group.max.size`, in members.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`; counted in UTF-16 units, as Kafka does.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub expiry_interval_ms: i64,
}

impl GroupLimits {
    /// The limits a broker is set to.
    pub fn from_settings(settings: &BrokerSettings) -> GroupLimits {
        GroupLimits {
            min_session_ms: settings.group_min_session_timeout_ms,
            max_session_ms: settings.group_max_session_timeout_ms,
            initial_rebalance_delay_ms: i64::from(settings.group_initial_rebalance_delay_ms.max(0)),
            max_size: usize::try_from(settings.group_max_size).unwrap_or(0),
            offset_metadata_max_bytes: usize::try_from(settings.offset_metadata_max_bytes).unwrap_or(0),
            offsets_retention_ms: i64::from(settings.offsets_retention_minutes) * 60_000,
            expiry_interval_ms: settings.offsets_retention_check_interval_ms,
        }
    }
}

/// The time `timeout_ms` after `moment`. Timeouts come from clients: a negative one counts as none, a huge one as for
/// ever.
pub(super) fn after(moment: WallMillis, timeout_ms: impl Into<i64>) -> WallMillis {
    moment.saturating_add(timeout_ms.into().max(0))
}
