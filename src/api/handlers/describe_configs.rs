//! DescribeConfigs (32): settings with their values, and where each value comes from.
//!
//! v1: synonyms on request, sources. v2: the same. v3: types, documentation on request. v4: flexible. A broker only
//! describes itself; a broker without a name stands for what is set for all of them. Topics and brokers have settings
//! here; loggers, client metrics and groups have none yet and are refused.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use crate::api::config_views::{Detail, described, resource, unsupported};
use crate::api::translate::message;
use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, check_topic_name};
use crate::metadata::ResourceKind;

/// Answers from the image and the settings of this broker.
pub async fn handle(ctx: &Context, request: DescribeConfigsRequest) -> Reply<DescribeConfigsResponse> {
    let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let results = request.resources.iter().map(|asked| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone());
        match describe(ctx, asked, detail) {
            Ok(configs) => result.with_configs(configs),
            Err(why) => result.with_error_code(why.code.code()).with_error_message(message(&why)),
        }
    });
    Reply::Now(DescribeConfigsResponse::default().with_results(results.collect()))
}

fn describe(
    ctx: &Context,
    asked: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, ApiError> {
    let image = ctx.services.metadata.image();
    let config = ctx.services.config_in(&image);
    let name = asked.resource_name.as_str();
    let mut settings = match asked.resource_type {
        resource::TOPIC => {
            check_topic_name(name).map_err(|why| {
                ApiError::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}"))
            })?;
            if image.topics.by_name(name).is_none() {
                return Err(ErrorCode::UnknownTopicOrPartition.into());
            }
            config.describe_topic(&image.settings.of(ResourceKind::Topic, name))
        }
        resource::BROKER if name.is_empty() => config.describe_cluster(),
        resource::BROKER => {
            check_this_broker(name, ctx.services.node)?;
            config.describe_broker()
        }
        kind => return Err(unsupported(kind)),
    };
    // No names mean all names, whether the list is null or empty.
    let names = asked.configuration_keys.as_deref().unwrap_or_default();
    if !names.is_empty() {
        settings.retain(|setting| names.iter().any(|name| name.as_str() == setting.name));
    }
    Ok(settings.iter().map(|setting| described(setting, detail)).collect())
}

fn check_this_broker(name: &str, node: BrokerId) -> Result<(), ApiError> {
    let refused = match name.parse::<i32>() {
        Ok(id) if id == node.0 => return Ok(()),
        Ok(_) => format!("Unexpected broker id, expected {node} or empty string, but received {name}"),
        Err(_) => format!("Broker id must be an integer, but it is: {name}"),
    };
    Err(ApiError::new(ErrorCode::InvalidRequest, refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_speaks_for_itself() {
        assert_eq!(check_this_broker("3", BrokerId(3)), Ok(()));
        let refusal = |name| check_this_broker(name, BrokerId(3)).map_err(|why| why.message);
        let other = "Unexpected broker id, expected 3 or empty string, but received 4";
        assert_eq!(refusal("4"), Err(other.to_owned()));
        assert_eq!(refusal("x"), Err("Broker id must be an integer, but it is: x".to_owned()));
    }
}
