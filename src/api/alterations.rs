//! What a request wants of the settings of one resource, checked as far as this broker can: AlterConfigs and
//! IncrementalAlterConfigs both come here (`ConfigAdminManager`).
//!
//! A broker judges what is its own, its settings and its loggers, and has the controller decide the rest; a controller
//! takes brokers' settings as judged, unless they are its own.
//!
//! Invariant: a resource that occurs twice changes in neither place. Whether the outcome is legal is decided with the
//! image in hand.

use std::collections::BTreeSet;

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig as Setting};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig,
};
use kafka_protocol::messages::{AlterConfigsRequest, IncrementalAlterConfigsRequest};

use crate::api::Context;
use crate::api::config_changes::{broker_changes, changes, check_form};
use crate::api::config_views::resource;
use crate::api::forward;
use crate::api::translate::text;
use crate::config::{Config, DynamicScope, group_row, subscription_row, topic_row};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, check_topic_name};
use crate::metadata::{Alteration, ClusterImage, ResourceKind, SettingAlteration, SettingChange, SettingMap};

/// One resource of a request.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub kind: i8,
    pub name: &'a str,
    pub configs: &'a [AlterableConfig],
    /// These settings and no others, instead of changes to those there are.
    pub replace: bool,
}

/// Asks the quorum for everything that is well formed; answers in the order of `asked`.
pub async fn alter(ctx: &Context, asked: &[Asked<'_>], validate_only: bool) -> Vec<Result<(), ApiError>> {
    let image = ctx.services.metadata.image();
    let repeated = repeated(asked);
    let judge = |asked: &Asked<'_>| {
        if repeated.contains(&(asked.kind, asked.name)) {
            return Err(invalid("Each resource must appear at most once."));
        }
        let changes = read_changes(asked)?;
        if asked.kind == resource::BROKER_LOGGER {
            check_loggers_name(asked.name, ctx.services.node)?;
            return ctx.services.loggers.alter(asked.configs, validate_only).map(|()| None);
        }
        alteration(ctx, &image, asked, changes).map(Some)
    };
    let judged: Vec<Result<Option<SettingAlteration>, ApiError>> = asked.iter().map(judge).collect();
    let accepted = asked.iter().zip(&judged);
    let accepted: Vec<(Asked<'_>, SettingAlteration)> =
        accepted.filter_map(|(asked, judged)| Some((*asked, judged.as_ref().ok().cloned().flatten()?))).collect();
    let mut outcomes = decided(ctx, accepted, validate_only).await.into_iter();
    let outcome = |judged: Result<Option<SettingAlteration>, ApiError>| match judged? {
        Some(_) => outcomes.next().unwrap_or(Err(ErrorCode::UnknownServerError.into())),
        None => Ok(()),
    };
    judged.into_iter().map(outcome).collect()
}

async fn decided(
    ctx: &Context,
    accepted: Vec<(Asked<'_>, SettingAlteration)>,
    validate_only: bool,
) -> Vec<Result<(), ApiError>> {
    let count = accepted.len();
    if count == 0 {
        return Vec::new();
    }
    let outcomes = if ctx.services.metadata.is_active() || ctx.connection.controller {
        let patience_ms = ctx.services.config.load().broker().request_timeout_ms;
        let alterations = accepted.into_iter().map(|(_, alteration)| alteration).collect();
        let asked = ctx.services.metadata.alter_configs(alterations, validate_only);
        ctx.services.within(patience_ms, asked).await
    } else {
        let accepted: Vec<Asked<'_>> = accepted.into_iter().map(|(asked, _)| asked).collect();
        asked_on(ctx, &accepted, validate_only).await
    };
    match outcomes {
        Ok(outcomes) if outcomes.len() == count => outcomes,
        Ok(_) => vec![Err(ErrorCode::UnknownServerError.into()); count],
        Err(why) => vec![Err(why); count],
    }
}

/// What the active controller makes of it, in the order of `accepted`: all of a request wants to replace, or nothing.
async fn asked_on(
    ctx: &Context,
    accepted: &[Asked<'_>],
    validate_only: bool,
) -> Result<Vec<Result<(), ApiError>>, ApiError> {
    let outcome = |code: i16, message: Option<&str>| match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(ApiError::new(code, message.unwrap_or_default())),
    };
    if accepted.iter().all(|asked| asked.replace) {
        let resources = accepted.iter().map(replacing).collect();
        let request = AlterConfigsRequest::default().with_resources(resources).with_validate_only(validate_only);
        let answer = forward::ask(ctx, &request).await?;
        return Ok(answer.responses.iter().map(|one| outcome(one.error_code, one.error_message.as_deref())).collect());
    }
    let resources = accepted.iter().map(changing).collect();
    let request = IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(validate_only);
    let answer = forward::ask(ctx, &request).await?;
    Ok(answer.responses.iter().map(|one| outcome(one.error_code, one.error_message.as_deref())).collect())
}

fn replacing(asked: &Asked<'_>) -> AlterConfigsResource {
    let set =
        |config: &AlterableConfig| Setting::default().with_name(config.name.clone()).with_value(config.value.clone());
    AlterConfigsResource::default()
        .with_resource_type(asked.kind)
        .with_resource_name(text(asked.name))
        .with_configs(asked.configs.iter().map(set).collect())
}

fn changing(asked: &Asked<'_>) -> IncrementalResource {
    IncrementalResource::default()
        .with_resource_type(asked.kind)
        .with_resource_name(text(asked.name))
        .with_configs(asked.configs.to_vec())
}

/// The resources that occur more than once: none of them changes.
fn repeated<'a>(asked: &[Asked<'a>]) -> BTreeSet<(i8, &'a str)> {
    let mut seen = BTreeSet::new();
    asked.iter().map(|asked| (asked.kind, asked.name)).filter(|key| !seen.insert(*key)).collect()
}

type Changes = Vec<(String, SettingChange)>;

/// The operations on one resource, if they are well formed.
fn read_changes(asked: &Asked<'_>) -> Result<Changes, ApiError> {
    match asked.kind {
        resource::TOPIC => changes(asked.configs, topic_row),
        resource::BROKER => broker_changes(asked.configs),
        resource::CLIENT_METRICS => changes(asked.configs, subscription_row),
        resource::GROUP => changes(asked.configs, group_row),
        // Loggers have operations of their own; of those here they share what is malformed.
        resource::BROKER_LOGGER => check_form(asked.configs).map(|()| Vec::new()),
        kind => {
            check_form(asked.configs)?;
            Err(invalid(&format!("Unknown resource type {kind}")))
        }
    }
}

/// What one resource asks for. Whether the outcome is legal is decided with the image in hand.
fn alteration(
    ctx: &Context,
    image: &ClusterImage,
    asked: &Asked<'_>,
    changes: Changes,
) -> Result<SettingAlteration, ApiError> {
    let name = asked.name;
    let alteration = if asked.replace { Alteration::Replace(set(changes)) } else { Alteration::Change(changes) };
    let kind = match asked.kind {
        resource::TOPIC => {
            check_topic(name)?;
            ResourceKind::Topic
        }
        resource::BROKER => {
            let services = &ctx.services;
            let own = check_broker(name, services.node, ctx.connection.controller)?;
            if own {
                let next = alteration.applied(&image.settings.of(ResourceKind::Broker, name));
                check_dynamic(&services.config_in(image), name, &next)?;
            }
            ResourceKind::Broker
        }
        resource::CLIENT_METRICS => ResourceKind::ClientMetrics,
        _ => ResourceKind::Group,
    };
    Ok(SettingAlteration { kind, name: name.to_owned(), alteration })
}

fn set(changes: Vec<(String, SettingChange)>) -> SettingMap {
    let set = |(key, change)| match change {
        SettingChange::Set(value) => Some((key, value)),
        _ => None,
    };
    changes.into_iter().filter_map(set).collect()
}

fn check_topic(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(invalid("Default topic resources are not allowed."));
    }
    check_topic_name(name)
        .map_err(|why| ApiError::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}")))
}

/// Whether `node` judges the settings of this broker: they are its own, or those of all. Only a controller takes others.
fn check_broker(name: &str, node: BrokerId, controller: bool) -> Result<bool, ApiError> {
    match name.parse::<i32>() {
        _ if name.is_empty() => Ok(true),
        Ok(id) if id == node.0 => Ok(true),
        Ok(_) if controller => Ok(false),
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

/// `InvalidRequest` with this sentence.
pub fn invalid(message: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_means_same_kind_and_name() {
        let asked = |kind, name| Asked { kind, name, configs: &[], replace: false };
        assert_eq!(repeated(&[asked(2, "1"), asked(4, "1"), asked(2, "1")]), BTreeSet::from([(2, "1")]));
    }

    #[test]
    fn names_are_checked_in_kafkas_words() {
        assert_eq!(check_topic("t"), Ok(()));
        assert_eq!(check_topic(""), Err(invalid("Default topic resources are not allowed.")));
        assert_eq!(check_topic("a b").map_err(|why| why.code), Err(ErrorCode::InvalidTopicException));
        for controller in [false, true] {
            assert_eq!(check_broker("", BrokerId(1), controller), Ok(true));
            assert_eq!(check_broker("1", BrokerId(1), controller), Ok(true));
        }
        let other = invalid("Unexpected broker id, expected 1, but received 2");
        assert_eq!(check_broker("2", BrokerId(1), false), Err(other));
        assert_eq!(check_broker("2", BrokerId(1), true), Ok(false));
    }
}
