//! GetTelemetrySubscriptions (71), version 0: which metrics a client shall push, how often, and how encoded (KIP-714).
//!
//! A client without an instance id is given one. No metrics mean that none are wanted; `*` means all.

use kafka_protocol::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};

use crate::api::translate::text;
use crate::api::{Context, Reply};
use crate::ids::KafkaUuid;
use crate::records::Codec;

/// In the order of our preference, which is Kafka's.
const ACCEPTED: [Codec; 4] = [Codec::Zstd, Codec::Lz4, Codec::Gzip, Codec::Snappy];

pub async fn handle(
    ctx: &Context,
    request: GetTelemetrySubscriptionsRequest,
) -> Reply<GetTelemetrySubscriptionsResponse> {
    let services = &ctx.services;
    let asked = KafkaUuid::from(request.client_instance_id);
    let instance = if asked.is_zero() { new_instance(ctx) } else { asked };
    let client = ctx.telemetry_client(instance);
    let settings = &services.metadata.image().settings;
    let response = GetTelemetrySubscriptionsResponse::default();
    let granted = match services.telemetry.subscribe(settings, &client, services.env.wall_ms()) {
        Ok(granted) => granted,
        Err(code) => return Reply::Now(response.with_error_code(code.code())),
    };
    ctx.connection.keep_client(&services.telemetry, &client);
    tracing::debug!(client = %instance, metrics = granted.metrics.len(), "telemetry subscription");
    Reply::Now(
        response
            .with_client_instance_id(instance.into())
            .with_subscription_id(granted.subscription_id)
            .with_accepted_compression_types(ACCEPTED.map(|codec| codec as i8).to_vec())
            .with_push_interval_ms(granted.interval_ms)
            .with_telemetry_max_bytes(services.config.load().broker().telemetry_max_bytes)
            .with_delta_temporality(true)
            .with_requested_metrics(granted.metrics.iter().map(|metric| text(metric)).collect()),
    )
}

/// An id that nobody here has.
fn new_instance(ctx: &Context) -> KafkaUuid {
    loop {
        let id = ctx.services.env.random_uuid();
        if !ctx.services.telemetry.knows(id) {
            return id;
        }
    }
}
