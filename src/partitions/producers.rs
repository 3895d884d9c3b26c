//! The producers of a partition as DescribeProducers shows them (KIP-664).

use crate::ids::{Offset, ProducerId, WallMillis};
use crate::storage::producers::Producer;

/// What a log knows of one of its producers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActiveProducer {
    pub id: ProducerId,
    pub epoch: i16,
    /// -1 if no batch of the epoch is known.
    pub last_sequence: i32,
    /// When its last batch or marker was appended.
    pub last_seen_ms: WallMillis,
    /// Of its last marker; -1 before the first.
    pub coordinator_epoch: i32,
    /// Where its open transaction began.
    pub txn_first_offset: Option<Offset>,
}

impl ActiveProducer {
    pub(super) fn new(id: ProducerId, producer: &Producer) -> ActiveProducer {
        ActiveProducer {
            id,
            epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_seen_ms: producer.last_seen_ms,
            coordinator_epoch: producer.coordinator_epoch,
            txn_first_offset: producer.txn_first_offset,
        }
    }
}
