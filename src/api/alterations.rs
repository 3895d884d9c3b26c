//! What a request wants of the settings of one resource, checked as far as this node can: AlterConfigs and
//! IncrementalAlterConfigs both come here (`ConfigAdminManager`).
//!
//! The broker that was asked judges what is about itself, its settings and its loggers, because it alone knows what is
//! in force there; the controller decides the rest, and takes the settings of any broker.
//!
//! Invariant: a resource that occurs twice changes in neither place. Whether the outcome is legal is decided with the
//! image in hand.

use std::collections::BTreeSet;

use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;

use crate::api::Context;
use crate::api::config_changes::{broker_changes, changes, check_form};
use crate::api::config_views::resource;
use crate::api::forward;
use crate::api::forwarded_alterations::ask_controller;
use crate::config::{Config, DynamicScope, group_row, subscription_row, topic_row};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, check_topic_name};
use crate::metadata::{Alteration, ClusterImage, ResourceKind, SettingAlteration, SettingChange, SettingMap};

/// The directories of a broker that take no new partitions (KIP-1066).
const CORDONED_DIRS: &str = "cordoned.log.dirs";

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
    let accepted = accepted.filter_map(|(asked, judged)| Some((*asked, judged.as_ref().ok().cloned().flatten()?)));
    let accepted = accepted.collect();
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
    let (asked, alterations): (Vec<Asked<'_>>, Vec<SettingAlteration>) = accepted.into_iter().unzip();
    let services = &ctx.services;
    loop {
        let elsewhere = !ctx.connection.controller && !services.metadata.is_active();
        if elsewhere && let Some(outcomes) = ask_controller(ctx, &asked, validate_only).await {
            return outcomes;
        }
        let patience_ms = services.config.load().broker().request_timeout_ms;
        let decided = services.metadata.alter_configs(alterations.clone(), validate_only);
        match ctx.within(patience_ms, decided).await {
            Ok(outcomes) => return outcomes,
            Err(why) => {
                let may_ask_again = !ctx.connection.controller && services.env.now() < forward::deadline(ctx);
                if !may_ask_again || !ctx.is_not_taken() {
                    return vec![Err(why); count];
                }
                // This node was the controller when it began.
                services.env.sleep(forward::RETRY).await;
            }
        }
    }
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
        // The broker in question was asked first.
        resource::BROKER if ctx.connection.forwarded => ResourceKind::Broker,
        resource::BROKER if ctx.connection.controller => {
            let current = image.settings.of(ResourceKind::Broker, name);
            check_cordons(&current, &alteration.applied(&current))?;
            ResourceKind::Broker
        }
        resource::BROKER => {
            check_this_broker(name, ctx.services.node)?;
            let scope = if name.is_empty() { DynamicScope::Cluster } else { DynamicScope::Broker };
            let next = alteration.applied(&scope.usable(&image.settings.of(ResourceKind::Broker, name)));
            check_dynamic(&ctx.services.config_in(image), scope, &next)?;
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
fn check_dynamic(config: &Config, scope: DynamicScope, next: &SettingMap) -> Result<(), ApiError> {
    config.check_broker_dynamic(scope, next).map_err(|why| invalid(&why))
}

/// A controller that is asked directly does not know what the directories of brokers are called: it lets cordons be
/// lifted, and none be laid (`ConfigurationControlManager.isCordonedLogDirsInvalid`).
fn check_cordons(current: &SettingMap, next: &SettingMap) -> Result<(), ApiError> {
    let cordoned = |settings: &SettingMap| -> BTreeSet<String> {
        let paths = settings.get(CORDONED_DIRS).into_iter().flat_map(|text| text.split(','));
        paths.map(|path| path.trim().to_owned()).filter(|path| !path.is_empty()).collect()
    };
    if cordoned(next).is_subset(&cordoned(current)) {
        return Ok(());
    }
    let why = format!(
        "When updating {CORDONED_DIRS} via controllers,  the new value must be a subset of the current configuration \
         value."
    );
    Err(ApiError::new(ErrorCode::InvalidConfig, why))
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
    fn a_controller_only_lifts_cordons() {
        let set = |dirs: &str| SettingMap::from([(CORDONED_DIRS.to_owned(), dirs.to_owned())]);
        let none = SettingMap::new();
        assert_eq!(check_cordons(&set("/a, /b"), &set("/b")), Ok(()));
        assert_eq!(check_cordons(&set("/a"), &none), Ok(()));
        assert_eq!(check_cordons(&none, &set("")), Ok(()));
        let refused = check_cordons(&set("/a"), &set("/a,/c")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidConfig);
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
