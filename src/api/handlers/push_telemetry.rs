//! PushTelemetry (72), version 0: metrics of a client (KIP-714). They appear on the page for Prometheus.
//!
//! Judged in the order of the connection; decoded off the async workers when large.

use kafka_protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};

use crate::api::telemetry::Push;
use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::ids::KafkaUuid;

/// Pushes up to this size are decoded at once.
const SMALL_BYTES: usize = 16 * 1024;

/// The largest id that is reserved (`Uuid.RESERVED`).
const RESERVED_MAX: u128 = 1;

pub async fn handle(ctx: &Context, request: PushTelemetryRequest) -> Reply<PushTelemetryResponse> {
    let services = &ctx.services;
    let instance = KafkaUuid::from(request.client_instance_id);
    if instance.0 <= RESERVED_MAX {
        return refuse(ErrorCode::InvalidRequest);
    }
    let client = ctx.telemetry_client(instance);
    let (codec, payload) = (request.compression_type, request.metrics);
    let push = Push {
        subscription_id: request.subscription_id,
        terminating: request.terminating,
        compression: codec,
        bytes: payload.len(),
        bytes_max: usize::try_from(services.config.load().broker().telemetry_max_bytes).unwrap_or(0),
    };
    let now_ms = services.env.wall_ms();
    let judged = services.telemetry.judge(&services.metadata.image().settings, &client, &push, now_ms);
    ctx.connection.keep_client(&services.telemetry, &client);
    if let Err(code) = judged {
        return refuse(code);
    }
    if payload.is_empty() {
        return Reply::Now(PushTelemetryResponse::default());
    }
    let telemetry = services.telemetry.clone();
    let large = payload.len() > SMALL_BYTES;
    let absorb = move || telemetry.absorb(&client, codec, &payload, now_ms);
    if large {
        let env = services.env.clone();
        return Reply::Later(Box::pin(async move { response(env.blocking(absorb).await) }));
    }
    Reply::Now(response(absorb()))
}

fn refuse(code: ErrorCode) -> Reply<PushTelemetryResponse> {
    Reply::Now(response(Err(code)))
}

fn response(outcome: Result<(), ErrorCode>) -> PushTelemetryResponse {
    PushTelemetryResponse::default().with_error_code(outcome.err().map_or(0, ErrorCode::code))
}
