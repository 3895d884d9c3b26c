//! AllocateProducerIds (67): a broker takes a block of producer ids from the active controller (KIP-730).
//!
//! One version.

use kafka_protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse, ProducerId as WireProducerId};

use crate::api::{Context, Reply};
use crate::ids::BrokerId;

/// Asks the quorum, and answers once the block is taken in the image.
pub async fn handle(ctx: &Context, request: AllocateProducerIdsRequest) -> Reply<AllocateProducerIdsResponse> {
    let (broker, epoch) = (BrokerId(request.broker_id.0), request.broker_epoch);
    let response = AllocateProducerIdsResponse::default();
    Reply::Now(match ctx.services.metadata.on_allocate_producer_ids(broker, epoch).await {
        Ok(block) => {
            let count = i32::try_from(block.end - block.start).unwrap_or(i32::MAX);
            response.with_producer_id_start(WireProducerId(block.start)).with_producer_id_len(count)
        }
        Err(refused) => response.with_error_code(refused.code.code()),
    })
}
