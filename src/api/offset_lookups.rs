//! Offsets by timestamp: what ListOffsets asks of one partition, special timestamps included.
//!
//! Invariant: no answer lies at or beyond what the caller may fetch, and none is given while a new leader does not know
//! yet what the old one committed: its high watermark may still be below offsets that consumers have seen (KIP-207).

use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, WallMillis};
use crate::partitions::{Isolation, Partition};

/// Timestamps with a meaning of their own (`ListOffsetsRequest`).
pub mod special {
    /// The end of what the caller may fetch.
    pub const LATEST: i64 = -1;
    /// The log start.
    pub const EARLIEST: i64 = -2;
    /// The first record with the largest timestamp (KIP-734).
    pub const MAX_TIMESTAMP: i64 = -3;
    /// The first offset on the broker's own disks (KIP-405): the log start, as nothing is tiered.
    pub const EARLIEST_LOCAL: i64 = -4;
    /// The last offset in remote storage (KIP-1005): there is none.
    pub const LATEST_TIERED: i64 = -5;
    /// The first offset that is not in remote storage yet (KIP-1023): without remote storage there is none.
    pub const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

/// What to look up.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// Milliseconds since 1970, or one of [`special`].
    pub timestamp: i64,
    pub isolation: Isolation,
    /// The leader epoch the caller knows, -1 to skip the check (KIP-320).
    pub leader_epoch: LeaderEpoch,
}

/// Where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    pub offset: Offset,
    /// -1 if the lookup was not about a record.
    pub timestamp: WallMillis,
    pub epoch: LeaderEpoch,
}

/// True if requests of `version` know `timestamp`.
pub fn is_known(timestamp: i64, version: i16) -> bool {
    let since = match timestamp {
        0.. => 0,
        special::LATEST | special::EARLIEST => 1,
        special::MAX_TIMESTAMP => 7,
        special::EARLIEST_LOCAL => 8,
        special::LATEST_TIERED => 9,
        special::EARLIEST_PENDING_UPLOAD => 11,
        _ => return false,
    };
    version >= since
}

/// Looks `lookup` up in a partition this broker leads; `None` if there is no such record. `OffsetNotAvailable` while
/// the committed end is not known yet.
pub async fn locate(partition: &Partition, lookup: Lookup) -> Result<Option<Located>, ErrorCode> {
    let Lookup { timestamp, isolation, leader_epoch } = lookup;
    let offsets = partition.offsets()?;
    let epoch = partition.leader_epoch().ok_or(ErrorCode::NotLeaderOrFollower)?;
    // The newest epoch starts where the ones before it end.
    let (_, epoch_start) = partition.offset_for_epoch(epoch - 1, leader_epoch)?;
    let lagging = isolation != Isolation::LogEnd && epoch_start > offsets.high_watermark;
    let found = match timestamp {
        special::LATEST if lagging => return Err(ErrorCode::OffsetNotAvailable),
        special::LATEST => return Ok(Some(Located { offset: offsets.bound(isolation), timestamp: -1, epoch })),
        special::EARLIEST | special::EARLIEST_LOCAL => {
            let offset = offsets.log_start;
            return Ok(Some(Located { offset, timestamp: -1, epoch: partition.epoch_at(offset) }));
        }
        special::LATEST_TIERED | special::EARLIEST_PENDING_UPLOAD => return Ok(None),
        special::MAX_TIMESTAMP => partition.offset_of_max_timestamp(isolation, leader_epoch).await?,
        target => partition.offset_for_timestamp(target, isolation, leader_epoch).await?,
    };
    match found {
        Some(found) => Ok(Some(Located { offset: found.offset, timestamp: found.timestamp, epoch: found.epoch })),
        None if lagging => Err(ErrorCode::OffsetNotAvailable),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_have_a_first_version() {
        for (timestamp, first) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9)] {
            assert!(is_known(timestamp, first), "{timestamp}");
            assert!(!is_known(timestamp, first - 1), "{timestamp}");
        }
        assert!(is_known(0, 1) && is_known(i64::MAX, 1));
        // -6 (earliest pending upload) came with version 11, which we do not serve.
        assert!(!is_known(-6, 10) && !is_known(-7, 10) && !is_known(i64::MIN, 10));
    }
}
