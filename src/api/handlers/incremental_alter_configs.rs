//! IncrementalAlterConfigs (44): sets, deletes, extends, shortens settings (KIP-339); sets levels of loggers (KIP-412).
//!
//! v0: the first. v1: flexible. Each resource changes as a whole or not at all, and answers for itself. A broker only
//! takes its own settings; a broker without a name stands for all of them. Loggers are this process's alone: their
//! levels change at once and are not stored.

use std::collections::BTreeSet;

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use crate::api::config_changes::{broker_changes, changes, check_form};
use crate::api::config_views::resource;
use crate::api::translate::message;
use crate::api::{Context, Reply, Services};
use crate::config::{Config, DynamicScope, group_row, subscription_row, topic_row};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, check_topic_name};
use crate::metadata::{Alteration, ClusterImage, ResourceKind, SettingAlteration, SettingChange, SettingMap};

/// Asks the quorum to alter what is well formed, and answers once the changes are in the image.
pub async fn handle(ctx: &Context, request: IncrementalAlterConfigsRequest) -> Reply<IncrementalAlterConfigsResponse> {
    let image = ctx.services.metadata.image();
    let repeated = repeated(&request.resources);
    let validate = request.validate_only;
    let judge = |asked: &AlterConfigsResource| {
        if repeated.contains(&(asked.resource_type, asked.resource_name.as_str())) {
            return Err(invalid("Each resource must appear at most once."));
        }
        let changes = read_changes(asked)?;
        if asked.resource_type == resource::BROKER_LOGGER {
            check_loggers_name(&asked.resource_name, ctx.services.node)?;
            return ctx.services.loggers.alter(&asked.configs, validate).map(|()| None);
        }
        alteration(&ctx.services, &image, asked, changes).map(Some)
    };
    let judged: Vec<Result<Option<SettingAlteration>, ApiError>> = request.resources.iter().map(judge).collect();
    let accepted = judged.iter().filter_map(|judged| judged.as_ref().ok().cloned().flatten()).collect();
    let mut outcomes = alter(ctx, accepted, validate).await.into_iter();
    let mut responses = Vec::with_capacity(judged.len());
    for (asked, judged) in request.resources.iter().zip(judged) {
        let outcome = judged.and_then(|asked| match asked {
            Some(_) => outcomes.next().unwrap_or(Err(ErrorCode::UnknownServerError.into())),
            None => Ok(()),
        });
        responses.push(response(asked, outcome));
    }
    Reply::Now(IncrementalAlterConfigsResponse::default().with_responses(responses))
}

async fn alter(ctx: &Context, accepted: Vec<SettingAlteration>, validate_only: bool) -> Vec<Result<(), ApiError>> {
    let count = accepted.len();
    if count == 0 {
        return Vec::new();
    }
    let patience_ms = ctx.services.config.load().broker().request_timeout_ms;
    let asked = ctx.services.metadata.alter_configs(accepted, validate_only);
    match ctx.services.within(patience_ms, asked).await {
        Ok(outcomes) => outcomes,
        Err(why) => vec![Err(why); count],
    }
}

/// The resources that occur more than once: none of them changes.
fn repeated(resources: &[AlterConfigsResource]) -> BTreeSet<(i8, &str)> {
    let mut seen = BTreeSet::new();
    let keys = resources.iter().map(|asked| (asked.resource_type, asked.resource_name.as_str()));
    keys.filter(|key| !seen.insert(*key)).collect()
}

type Changes = Vec<(String, SettingChange)>;

/// The operations of one resource, if they are well formed.
fn read_changes(asked: &AlterConfigsResource) -> Result<Changes, ApiError> {
    let configs = &asked.configs;
    match asked.resource_type {
        resource::TOPIC => changes(configs, topic_row),
        resource::BROKER => broker_changes(configs),
        resource::CLIENT_METRICS => changes(configs, subscription_row),
        resource::GROUP => changes(configs, group_row),
        // Loggers have operations of their own; of those here they share what is malformed.
        resource::BROKER_LOGGER => check_form(configs).map(|()| Vec::new()),
        kind => {
            check_form(configs)?;
            Err(invalid(&format!("Unknown resource type {kind}")))
        }
    }
}

/// What one resource asks for. Whether the outcome is legal is decided with the image in hand.
fn alteration(
    services: &Services,
    image: &ClusterImage,
    asked: &AlterConfigsResource,
    changes: Changes,
) -> Result<SettingAlteration, ApiError> {
    let name = asked.resource_name.as_str();
    let alteration = Alteration::Change(changes);
    let kind = match asked.resource_type {
        resource::TOPIC => {
            check_topic(name)?;
            ResourceKind::Topic
        }
        resource::BROKER => {
            check_this_broker(name, services.node)?;
            let next = alteration.applied(&image.settings.of(ResourceKind::Broker, name));
            check_dynamic(&services.config_in(image), name, &next)?;
            ResourceKind::Broker
        }
        resource::CLIENT_METRICS => ResourceKind::ClientMetrics,
        _ => ResourceKind::Group,
    };
    Ok(SettingAlteration { kind, name: name.to_owned(), alteration })
}

fn check_topic(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(invalid("Default topic resources are not allowed."));
    }
    check_topic_name(name)
        .map_err(|why| ApiError::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}")))
}

fn check_this_broker(name: &str, node: BrokerId) -> Result<(), ApiError> {
    match name.parse::<i32>() {
        _ if name.is_empty() => Ok(()),
        Ok(id) if id == node.0 => Ok(()),
        Ok(_) => Err(invalid(&format!("Unexpected broker id, expected {node}, but received {name}"))),
        Err(_) => Err(invalid(&format!("Node id must be an integer, but it is: {name}"))),
    }
}

fn check_loggers_name(name: &str, node: BrokerId) -> Result<(), ApiError> {
    match name.parse::<i32>() {
        Ok(id) if id == node.0 => Ok(()),
        // Kafka names its own id twice.
        Ok(_) => Err(invalid(&format!("Unexpected node id. Expected {node}, but received {node}"))),
        Err(_) => Err(invalid(&format!("Node id must be an integer, but it is: {name}"))),
    }
}

/// A value that a running broker cannot take is an invalid request, not an invalid config: so it is in Kafka
/// (KAFKA-13609), and tools rely on it.
fn check_dynamic(config: &Config, name: &str, next: &SettingMap) -> Result<(), ApiError> {
    let scope = if name.is_empty() { DynamicScope::Cluster } else { DynamicScope::Broker };
    config.check_broker_dynamic(scope, next).map_err(|why| invalid(&why))
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::translate::text;

    fn asked(kind: i8, name: &str) -> AlterConfigsResource {
        AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name))
    }

    #[test]
    fn repeated_means_same_kind_and_name() {
        let resources = [asked(2, "1"), asked(4, "1"), asked(2, "1")];
        assert_eq!(repeated(&resources), BTreeSet::from([(2, "1")]));
    }

    #[test]
    fn names_are_checked_in_kafkas_words() {
        assert_eq!(check_topic("t"), Ok(()));
        assert_eq!(check_topic(""), Err(invalid("Default topic resources are not allowed.")));
        assert_eq!(check_topic("a b").map_err(|why| why.code), Err(ErrorCode::InvalidTopicException));
        assert_eq!(check_this_broker("", BrokerId(1)), Ok(()));
        assert_eq!(check_this_broker("1", BrokerId(1)), Ok(()));
        let other = invalid("Unexpected broker id, expected 1, but received 2");
        assert_eq!(check_this_broker("2", BrokerId(1)), Err(other));
    }
}
