//! AlterConfigs (33): gives topics and brokers these settings and no others; deprecated, but old clients use it.
//!
//! v0-1: the same. v2: flexible. A setting that is not named goes back to its default, which is why KIP-339 replaced
//! this API. Otherwise as IncrementalAlterConfigs; loggers are no resource here.

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use crate::api::alterations::{Asked, alter, invalid};
use crate::api::config_views::resource;
use crate::api::translate::message;
use crate::api::{Context, Reply};
use crate::error::ApiError;

/// Asks the quorum to replace what is well formed, and answers once the changes are in the image.
pub async fn handle(ctx: &Context, request: AlterConfigsRequest) -> Reply<AlterConfigsResponse> {
    let configs: Vec<Vec<AlterableConfig>> = request.resources.iter().map(sets).collect();
    let known = request.resources.iter().zip(&configs).filter(|(asked, _)| is_known(asked.resource_type));
    let asked: Vec<Asked<'_>> = known.map(|(resource, configs)| asked(resource, configs)).collect();
    let mut outcomes = alter(ctx, &asked, request.validate_only).await.into_iter();
    let respond = |asked: &AlterConfigsResource| {
        let known = is_known(asked.resource_type).then(|| outcomes.next()).flatten();
        let unknown = || Err(invalid(&format!("Unknown resource type {}", asked.resource_type)));
        response(asked, known.unwrap_or_else(unknown))
    };
    Reply::Now(AlterConfigsResponse::default().with_responses(request.resources.iter().map(respond).collect()))
}

fn is_known(kind: i8) -> bool {
    matches!(kind, resource::TOPIC | resource::BROKER | resource::CLIENT_METRICS | resource::GROUP)
}

fn asked<'a>(resource: &'a AlterConfigsResource, configs: &'a [AlterableConfig]) -> Asked<'a> {
    Asked { kind: resource.resource_type, name: resource.resource_name.as_str(), configs, replace: true }
}

/// The settings as operations, which set.
fn sets(resource: &AlterConfigsResource) -> Vec<AlterableConfig> {
    let set = |config: &kafka_protocol::messages::alter_configs_request::AlterableConfig| {
        AlterableConfig::default().with_name(config.name.clone()).with_value(config.value.clone())
    };
    resource.configs.iter().map(set).collect()
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
