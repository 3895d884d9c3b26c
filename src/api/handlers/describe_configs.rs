//! DescribeConfigs (32): settings with their values, and where each value comes from.
//!
//! v1: synonyms on request, sources. v2: the same. v3: types, documentation on request. v4: flexible. A broker only
//! describes itself and its loggers; a broker without a name stands for what is set for all of them. Groups and
//! subscriptions to clients' metrics have settings whether or not they exist. One unknown kind refuses the request.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use crate::api::config_views::{Detail, described, logger, resource};
use crate::api::translate::message;
use crate::api::{Context, Reply};
use crate::config::{BROKER_ROWS, GROUP_ROWS, SUBSCRIPTION_ROWS, TOPIC_ROWS};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, check_topic_name};
use crate::metadata::{ClusterImage, ResourceKind};

/// Most settings in one answer. Each takes half a kilobyte with all that may be told of it, groups and subscriptions
/// need not exist to have some, and this is those of more than ten thousand topics.
const SETTINGS_MAX: usize = 500_000;

/// Answers from the image and the settings of this broker.
pub async fn handle(ctx: &Context, request: DescribeConfigsRequest) -> Reply<DescribeConfigsResponse> {
    let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let unknown = request.resources.iter().find(|asked| !resource::ALL.contains(&asked.resource_type));
    let unknown = unknown.map(|asked| {
        let name = &asked.resource_name;
        invalid(format!("Unexpected resource type UNKNOWN for resource {name}"))
    });
    let image = ctx.services.metadata.image();
    let excessive = request.resources.iter().map(|asked| settings_asked(&image, asked)).sum::<usize>() > SETTINGS_MAX;
    let refusal =
        unknown.or_else(|| excessive.then(|| invalid(format!("More than {SETTINGS_MAX} settings in one answer."))));
    let results = request.resources.iter().map(|asked| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone());
        match refusal.clone().map_or_else(|| describe(ctx, asked, detail), Err) {
            Ok(configs) => result.with_configs(configs),
            Err(why) => result.with_error_code(why.code.code()).with_error_message(message(&why)),
        }
    });
    Reply::Now(DescribeConfigsResponse::default().with_results(results.collect()))
}

/// How many settings a resource will answer with, at most; those that a broker has beyond Kafka's are not counted.
fn settings_asked(image: &ClusterImage, asked: &DescribeConfigsResource) -> usize {
    let rows = match asked.resource_type {
        resource::TOPIC if image.topics.by_name(&asked.resource_name).is_none() => 0,
        resource::TOPIC => TOPIC_ROWS.len(),
        resource::CLIENT_METRICS => SUBSCRIPTION_ROWS.len(),
        resource::GROUP => GROUP_ROWS.len(),
        _ => BROKER_ROWS.len(),
    };
    match asked.configuration_keys.as_deref() {
        None | Some([]) => rows,
        Some(names) => rows.min(names.len()),
    }
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
            check_this_broker(name, ctx.services.node, "expected {node} or empty string,")?;
            config.describe_to_clients()
        }
        resource::BROKER_LOGGER => return loggers(ctx, asked),
        resource::CLIENT_METRICS if name.is_empty() => {
            return Err(invalid("Client metrics subscription name must not be empty"));
        }
        resource::CLIENT_METRICS => config.describe_subscription(&image.settings.of(ResourceKind::ClientMetrics, name)),
        resource::GROUP if name.is_empty() => return Err(invalid("Group name must not be empty")),
        resource::GROUP => config.describe_group(&image.settings.of(ResourceKind::Group, name)),
        kind => return Err(invalid(format!("Unsupported resource type: {kind}"))),
    };
    settings.retain(|setting| is_asked(asked, &setting.name));
    Ok(settings.iter().map(|setting| described(setting, detail)).collect())
}

/// No names mean all names, whether the list is null or empty.
fn is_asked(asked: &DescribeConfigsResource, name: &str) -> bool {
    let names = asked.configuration_keys.as_deref().unwrap_or_default();
    names.is_empty() || names.iter().any(|asked| asked.as_str() == name)
}

fn loggers(ctx: &Context, asked: &DescribeConfigsResource) -> Result<Vec<DescribeConfigsResourceResult>, ApiError> {
    if asked.resource_name.is_empty() {
        return Err(invalid("Broker id must not be empty"));
    }
    check_this_broker(&asked.resource_name, ctx.services.node, "expected {node}")?;
    let levels = ctx.services.loggers.levels().into_iter().filter(|(name, _)| is_asked(asked, name));
    Ok(levels.map(|(name, level)| logger(name, level)).collect())
}

/// `expected` is Kafka's phrase, with `{node}` where the id stands.
fn check_this_broker(name: &str, node: BrokerId, expected: &str) -> Result<(), ApiError> {
    match name.parse::<i32>() {
        Ok(id) if id == node.0 => Ok(()),
        Ok(_) => {
            let expected = expected.replace("{node}", &node.to_string());
            Err(invalid(format!("Unexpected broker id, {expected} but received {name}")))
        }
        Err(_) => Err(invalid(format!("Broker id must be an integer, but it is: {name}"))),
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_speaks_for_itself() {
        let expected = "expected {node} or empty string,";
        assert_eq!(check_this_broker("3", BrokerId(3), expected), Ok(()));
        let refusal = |name| check_this_broker(name, BrokerId(3), expected).map_err(|why| why.message);
        let other = "Unexpected broker id, expected 3 or empty string, but received 4";
        assert_eq!(refusal("4"), Err(other.to_owned()));
        assert_eq!(refusal("x"), Err("Broker id must be an integer, but it is: x".to_owned()));
    }
}
