//! IncrementalAlterConfigs (44): sets, deletes, extends and shortens settings of topics and brokers (KIP-339).
//!
//! v0: the first. v1: flexible. Each resource changes as a whole or not at all, and answers for itself. A broker only
//! takes its own settings; a broker without a name stands for all of them. Loggers, client metrics and groups have no
//! settings here yet and are refused.

use std::collections::BTreeSet;

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use crate::api::config_changes::changes;
use crate::api::config_views::{resource, unsupported};
use crate::api::translate::message;
use crate::api::{Context, Reply, Services};
use crate::config::{Config, DynamicScope, broker_row, topic_row};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, check_topic_name};
use crate::metadata::{Alteration, ClusterImage, ResourceKind, SettingAlteration, SettingChange, SettingMap};

/// Asks the quorum to alter what is well formed, and answers once the changes are in the image.
pub async fn handle(ctx: &Context, request: IncrementalAlterConfigsRequest) -> Reply<IncrementalAlterConfigsResponse> {
    let image = ctx.services.metadata.image();
    let repeated = repeated(&request.resources);
    let judge = |asked: &AlterConfigsResource| {
        if repeated.contains(&(asked.resource_type, asked.resource_name.as_str())) {
            return Err(invalid("Each resource must appear at most once."));
        }
        alteration(&ctx.services, &image, asked)
    };
    let judged: Vec<Result<SettingAlteration, ApiError>> = request.resources.iter().map(judge).collect();
    let accepted = judged.iter().filter_map(|judged| judged.as_ref().ok().cloned()).collect();
    let mut outcomes = alter(ctx, accepted, request.validate_only).await.into_iter();
    let mut responses = Vec::with_capacity(judged.len());
    for (asked, judged) in request.resources.iter().zip(judged) {
        let outcome = judged.and_then(|_| outcomes.next().unwrap_or(Err(ErrorCode::UnknownServerError.into())));
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

/// What one resource asks for, if it is well formed. Whether the outcome is legal is decided with the image in hand.
fn alteration(
    services: &Services,
    image: &ClusterImage,
    asked: &AlterConfigsResource,
) -> Result<SettingAlteration, ApiError> {
    let name = asked.resource_name.as_str();
    let (kind, changes) = match asked.resource_type {
        resource::TOPIC => {
            let changes = changes(&asked.configs, topic_row)?;
            check_topic(name)?;
            (ResourceKind::Topic, changes)
        }
        resource::BROKER => {
            let changes = changes(&asked.configs, broker_row)?;
            check_this_broker(name, services.node)?;
            check_dynamic(&services.config_in(image), name, &image.settings.of(ResourceKind::Broker, name), &changes)?;
            (ResourceKind::Broker, changes)
        }
        kind => return Err(unsupported(kind)),
    };
    Ok(SettingAlteration { kind, name: name.to_owned(), alteration: Alteration::Change(changes) })
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

/// A value that a running broker cannot take is an invalid request, not an invalid config: so it is in Kafka
/// (KAFKA-13609), and tools rely on it. Lists that grow or shrink are only checked with the rest, when it is decided.
fn check_dynamic(
    config: &Config,
    name: &str,
    current: &SettingMap,
    changes: &[(String, SettingChange)],
) -> Result<(), ApiError> {
    let scope = if name.is_empty() { DynamicScope::Cluster } else { DynamicScope::Broker };
    let mut next = current.clone();
    for (key, change) in changes {
        match change {
            SettingChange::Set(value) => drop(next.insert(key.clone(), value.clone())),
            SettingChange::Delete => drop(next.remove(key)),
            SettingChange::Append { .. } | SettingChange::Subtract { .. } => {}
        }
    }
    config.check_broker_dynamic(scope, &next).map_err(|why| invalid(&why))
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
