//! IncrementalAlterConfigs (44): sets, deletes, extends, shortens settings (KIP-339); sets levels of loggers (KIP-412).
//!
//! v0: the first. v1: flexible. Each resource changes as a whole or not at all, and answers for itself. A broker only
//! takes its own settings; a broker without a name stands for all of them. Loggers are this process's alone: their
//! levels change at once and are not stored.

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use crate::api::alterations::{Asked, alter};
use crate::api::translate::message;
use crate::api::{Context, Reply};
use crate::error::ApiError;

/// Asks the quorum to alter what is well formed, and answers once the changes are in the image.
pub async fn handle(ctx: &Context, request: IncrementalAlterConfigsRequest) -> Reply<IncrementalAlterConfigsResponse> {
    let outcomes = alter(ctx, &asked(&request.resources), request.validate_only).await;
    let responses = request.resources.iter().zip(outcomes).map(|(asked, outcome)| response(asked, outcome));
    Reply::Now(IncrementalAlterConfigsResponse::default().with_responses(responses.collect()))
}

fn asked(resources: &[AlterConfigsResource]) -> Vec<Asked<'_>> {
    let mut asked = Vec::with_capacity(resources.len());
    for AlterConfigsResource { resource_type: kind, resource_name: name, configs, .. } in resources {
        asked.push(Asked { kind: *kind, name, configs, replace: false });
    }
    asked
}

fn response(asked: &AlterConfigsResource, outcome: Result<(), ApiError>) -> AlterConfigsResourceResponse {
    let response = AlterConfigsResourceResponse::default()
        .with_resource_type(asked.resource_type)
        .with_resource_name(asked.resource_name.clone())
        .with_error_message(None);
    match outcome {
        Ok(()) => response,
        Err(why) => response.with_error_code(why.code.code()).with_error_message(message(&why)),
    }
}
