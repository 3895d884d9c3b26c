//! Envelope (58): a request that a broker forwards on behalf of a client (KIP-590). Served on controllers' listeners.
//!
//! The inner request runs through the same dispatch as any other, as the one who asked the broker. What is not decided
//! by controllers is refused, and so is an envelope in an envelope. A node that is not the active controller says so at
//! once, before it looks inside: the broker then finds out who is.

use kafka_protocol::messages::{EnvelopeRequest, EnvelopeResponse};

use crate::api::dispatch;
use crate::api::{Context, Reply, forward};
use crate::error::ErrorCode;

/// Runs the inner request.
pub async fn handle(ctx: &Context, request: EnvelopeRequest) -> Reply<EnvelopeResponse> {
    if !ctx.services.metadata.is_active() {
        return Reply::Now(refused(ErrorCode::NotController));
    }
    let Some(asker) = forward::asker(ctx.connection.id, &ctx.connection, &request) else {
        return Reply::Now(refused(ErrorCode::PrincipalDeserializationFailure));
    };
    let ctx = ctx.clone();
    match dispatch::dispatch_forwarded(&ctx, asker, request.request_data).await {
        Ok(answer) => Reply::Later(Box::pin(async move {
            match answer.await {
                // It was the controller when it began.
                Some(_) if ctx.is_not_taken() => refused(ErrorCode::NotController),
                Some(response) => EnvelopeResponse::default().with_response_data(Some(response.without_size())),
                None => refused(ErrorCode::UnknownServerError),
            }
        })),
        Err(why) => {
            tracing::info!(connection = ctx.connection.id, peer = %ctx.connection.peer, "envelope refused: {why}");
            Reply::Now(refused(ErrorCode::InvalidRequest))
        }
    }
}

fn refused(code: ErrorCode) -> EnvelopeResponse {
    EnvelopeResponse::default().with_error_code(code.code())
}
