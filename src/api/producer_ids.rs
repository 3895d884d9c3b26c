//! Producer ids for idempotent producers, handed out of blocks that the metadata quorum reserves (KIP-730).
//!
//! Invariants: an id is handed out once in the life of the cluster. No lock is held while a block is asked for: callers
//! that meet an empty block each ask for one, one of the blocks is kept and the rest of the others is lost. Ids have
//! 63 bits, so losing some costs nothing.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;

use crate::error::ErrorCode;
use crate::ids::ProducerId;
use crate::metadata::Metadata;

/// A reserved range with the next id in it.
struct Block {
    next: AtomicI64,
    end: ProducerId,
}

impl Block {
    fn new(range: Range<ProducerId>) -> Block {
        Block { next: AtomicI64::new(range.start), end: range.end }
    }

    fn take(&self) -> Option<ProducerId> {
        // Relaxed is enough: the addition itself is what makes an id unique, and nothing else is published with it.
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        (id < self.end).then_some(id)
    }
}

/// The producer ids this broker may hand out.
pub struct ProducerIds {
    block: ArcSwap<Block>,
}

impl Default for ProducerIds {
    /// Starts without a block: a broker that never sees an idempotent producer reserves nothing.
    fn default() -> ProducerIds {
        ProducerIds { block: ArcSwap::from_pointee(Block::new(0..0)) }
    }
}

impl ProducerIds {
    /// A producer id nobody has. `CoordinatorLoadInProgress` if no block could be reserved, which every client retries
    /// (`RPCProducerIdManager`).
    pub async fn next(&self, metadata: &Metadata) -> Result<ProducerId, ErrorCode> {
        let block = self.block.load_full();
        if let Some(id) = block.take() {
            return Ok(id);
        }
        match metadata.allocate_producer_ids().await {
            Ok(range) => self.refill(&block, range).ok_or(ErrorCode::CoordinatorLoadInProgress),
            Err(refused) => {
                tracing::warn!(%refused, "no producer ids could be reserved");
                Err(ErrorCode::CoordinatorLoadInProgress)
            }
        }
    }

    /// Takes the first id of `range` and leaves the rest to others, unless someone replaced `exhausted` already.
    fn refill(&self, exhausted: &Arc<Block>, range: Range<ProducerId>) -> Option<ProducerId> {
        let fresh = Arc::new(Block::new(range));
        let id = fresh.take();
        drop(self.block.compare_and_swap(exhausted, fresh));
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(ids: &ProducerIds) -> Option<ProducerId> {
        ids.block.load_full().take()
    }

    #[test]
    fn a_block_is_used_up_and_no_further() {
        let ids = ProducerIds::default();
        assert_eq!(take(&ids), None);
        let exhausted = ids.block.load_full();
        assert_eq!(ids.refill(&exhausted, 1000..1003), Some(1000));
        assert_eq!([take(&ids), take(&ids), take(&ids), take(&ids)], [Some(1001), Some(1002), None, None]);
    }

    #[test]
    fn two_refills_of_one_block_never_share_an_id() {
        let ids = ProducerIds::default();
        let exhausted = ids.block.load_full();
        assert_eq!(ids.refill(&exhausted, 0..1000), Some(0));
        // The second asker lost the race: it keeps its own first id, and the block in place stays the first one's.
        assert_eq!(ids.refill(&exhausted, 1000..2000), Some(1000));
        assert_eq!(take(&ids), Some(1));
    }
}
