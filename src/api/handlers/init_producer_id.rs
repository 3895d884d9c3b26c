//! InitProducerId (22): an id for an idempotent producer (KIP-98).
//!
//! v0-1: the same. v2: flexible. v3: a producer may name the id and epoch it had (KIP-360). v4: fenced is 90. v5: for
//! transactions of version 2.
//!
//! Only idempotence is served so far. A transactional id is answered with `UnsupportedVersion`: producers take it as
//! final and tell the application that the broker cannot do it. `CoordinatorNotAvailable` would make them retry in
//! silence until a timeout, and 53 would send an operator looking for a missing permission.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId};

use crate::api::deadlines::millis;
use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::ids::ProducerId;

/// Hands out a producer id with epoch 0.
pub async fn handle(ctx: &Context, request: InitProducerIdRequest) -> Reply<InitProducerIdResponse> {
    let answer = InitProducerIdResponse::default();
    let response = match producer_id(ctx, &request).await {
        Ok(id) => answer.with_producer_id(WireProducerId(id)).with_producer_epoch(0),
        Err(code) => answer.with_error_code(code.code()).with_producer_epoch(-1),
    };
    Reply::Now(response)
}

async fn producer_id(ctx: &Context, request: &InitProducerIdRequest) -> Result<ProducerId, ErrorCode> {
    check(request)?;
    let services = &ctx.services;
    let patience = millis(services.config.load().broker().request_timeout_ms);
    let id = services.env.timeout(patience, services.producer_ids.next(&services.metadata)).await;
    id.unwrap_or(Err(ErrorCode::CoordinatorLoadInProgress))
}

fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    // Id and epoch only mean something together.
    if (*request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    match request.transactional_id.as_ref().map(|id| id.as_str()) {
        None => Ok(()),
        Some("") => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::UnsupportedVersion),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TransactionalId;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn request(transactional_id: Option<&'static str>, id: i64, epoch: i16) -> InitProducerIdRequest {
        let transactional_id = transactional_id.map(|id| TransactionalId(StrBytes::from_static_str(id)));
        InitProducerIdRequest::default()
            .with_transactional_id(transactional_id)
            .with_producer_id(WireProducerId(id))
            .with_producer_epoch(epoch)
    }

    #[test]
    fn only_idempotent_producers_are_served() {
        assert_eq!(check(&request(None, -1, -1)), Ok(()));
        assert_eq!(check(&request(None, 7, 3)), Ok(()));
        assert_eq!(check(&request(None, 7, -1)), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(&request(None, -1, 0)), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(&request(Some(""), -1, -1)), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(&request(Some("t"), -1, -1)), Err(ErrorCode::UnsupportedVersion));
    }
}
