//! UnregisterBroker (64): takes a broker that is gone for good out of the cluster.
//!
//! v0: the only one. An unknown broker is 102. One that is alive registers again at once.

use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use crate::api::translate::message;
use crate::api::{Context, Reply};
use crate::ids::BrokerId;

/// Asks the quorum, and answers once the broker is out of the image.
pub async fn handle(ctx: &Context, request: UnregisterBrokerRequest) -> Reply<UnregisterBrokerResponse> {
    let services = &ctx.services;
    let patience_ms = services.config.load().broker().request_timeout_ms;
    let asked = services.metadata.unregister_broker(BrokerId(request.broker_id.0));
    let response = UnregisterBrokerResponse::default().with_error_message(None);
    Reply::Now(match ctx.within(patience_ms, asked).await {
        Ok(()) => response,
        Err(why) => response.with_error_code(why.code.code()).with_error_message(message(&why)),
    })
}
