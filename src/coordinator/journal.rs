//! The journal of a shard: one hosted partition of an internal topic, for one term of its leadership.
//!
//! Invariant: once the partition is led in another epoch, or not at all, nothing is appended or read through this
//! journal, and nothing that was appended counts as committed but what another epoch of this leader goes on with.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::shard::Journal;
use crate::env::BoxFuture;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset};
use crate::partitions::{Isolation, Origin, Partition, ReadAsk};
use crate::sabotage;

/// A partition as a journal.
pub struct PartitionJournal {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
}

impl PartitionJournal {
    /// The journal of `partition` while it is led in `epoch`.
    pub fn new(partition: Arc<Partition>, epoch: LeaderEpoch) -> PartitionJournal {
        PartitionJournal { partition, epoch }
    }
}

impl Journal for PartitionJournal {
    fn append(&self, batch: Bytes) -> Result<Offset, ErrorCode> {
        // As for acks=all: while it could not be committed it is refused, and nothing comes to wait for it.
        self.partition.check_in_sync()?;
        let appended = self.partition.append_as_leader(batch, Origin::Coordinator(self.epoch));
        appended.map(|appended| appended.end_offset).map_err(|refused| refused.code)
    }

    fn committed(&self, end: Offset) -> BoxFuture<'static, Result<(), ErrorCode>> {
        if sabotage::on("commit-answered-early") {
            return Box::pin(std::future::ready(Ok(())));
        }
        self.partition.committed(self.epoch, end)
    }

    fn log_start(&self) -> Offset {
        self.partition.offsets_if_any().map_or(0, |offsets| offsets.log_start)
    }

    fn log_end(&self) -> Offset {
        self.partition.offsets_if_any().map_or(0, |offsets| offsets.log_end)
    }

    fn read(&self, from: Offset, max_bytes: usize) -> BoxFuture<'static, Result<Bytes, ErrorCode>> {
        let (partition, epoch) = (self.partition.clone(), self.epoch);
        Box::pin(async move {
            let ask = ReadAsk {
                from,
                bytes_max: max_bytes,
                at_least_one: true,
                isolation: Isolation::LogEnd,
                leader_epoch: epoch,
                last_fetched_epoch: -1,
                leader_only: true,
            };
            let read = partition.read(ask).await?;
            let mut bytes = BytesMut::with_capacity(read.batches.iter().map(Bytes::len).sum());
            for batch in read.batches {
                bytes.extend_from_slice(&batch);
            }
            Ok(bytes.freeze())
        })
    }

    fn max_batch_bytes(&self) -> usize {
        self.partition.settings().max_message_bytes.max(0) as usize
    }
}
