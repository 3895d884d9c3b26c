//! Alterations of settings on their way to the controller, when that is another node (`ForwardingManager`).
//!
//! Invariant: only what this broker has found well formed is sent, each resource once, so an outcome belongs to the
//! resource that it names.

use std::collections::BTreeMap;

use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{AlterConfigsRequest, IncrementalAlterConfigsRequest, alter_configs_request};
use kafka_protocol::protocol::StrBytes;

use crate::api::alterations::Asked;
use crate::api::translate::text;
use crate::api::{Context, forward};
use crate::error::{ApiError, ErrorCode};

/// The versions in which brokers ask controllers.
const ALTER_CONFIGS_VERSION: i16 = 2;
const INCREMENTAL_ALTER_CONFIGS_VERSION: i16 = 1;

type Outcome = Result<(), ApiError>;

/// The controller's outcomes by kind and name of the resource.
type Outcomes = BTreeMap<(i8, String), Outcome>;

/// Has the active controller decide; answers in the order of `asked`. `None`: nobody took it, so it is to be decided
/// here.
pub async fn ask_controller(ctx: &Context, asked: &[Asked<'_>], validate_only: bool) -> Option<Vec<Outcome>> {
    let decided = if asked.iter().any(|asked| asked.replace) {
        replaced(ctx, asked, validate_only).await
    } else {
        changed(ctx, asked, validate_only).await
    };
    match decided {
        Ok(outcomes) => Some(in_order(asked, outcomes?)),
        Err(why) => Some(vec![Err(why); asked.len()]),
    }
}

/// Changes to the settings there are.
async fn changed(ctx: &Context, asked: &[Asked<'_>], validate_only: bool) -> Result<Option<Outcomes>, ApiError> {
    let resource = |asked: &Asked<'_>| {
        AlterConfigsResource::default()
            .with_resource_type(asked.kind)
            .with_resource_name(text(asked.name))
            .with_configs(asked.configs.to_vec())
    };
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(asked.iter().map(resource).collect())
        .with_validate_only(validate_only);
    let Some(response) = forward::decide(ctx, INCREMENTAL_ALTER_CONFIGS_VERSION, &request).await? else {
        return Ok(None);
    };
    let told = response.responses.into_iter();
    Ok(Some(
        told.map(|one| told_of(one.resource_type, &one.resource_name, one.error_code, one.error_message)).collect(),
    ))
}

/// These settings and no others.
async fn replaced(ctx: &Context, asked: &[Asked<'_>], validate_only: bool) -> Result<Option<Outcomes>, ApiError> {
    let config = |config: &AlterableConfig| {
        alter_configs_request::AlterableConfig::default()
            .with_name(config.name.clone())
            .with_value(config.value.clone())
    };
    let resource = |asked: &Asked<'_>| {
        alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(asked.kind)
            .with_resource_name(text(asked.name))
            .with_configs(asked.configs.iter().map(config).collect())
    };
    let request = AlterConfigsRequest::default()
        .with_resources(asked.iter().map(resource).collect())
        .with_validate_only(validate_only);
    let Some(response) = forward::decide(ctx, ALTER_CONFIGS_VERSION, &request).await? else {
        return Ok(None);
    };
    let told = response.responses.into_iter();
    Ok(Some(
        told.map(|one| told_of(one.resource_type, &one.resource_name, one.error_code, one.error_message)).collect(),
    ))
}

/// An outcome and whose it is.
fn told_of(kind: i8, name: &str, code: i16, message: Option<StrBytes>) -> ((i8, String), Outcome) {
    let outcome = match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(ApiError::new(code, message.unwrap_or_default().as_str())),
    };
    ((kind, name.to_owned()), outcome)
}

fn in_order(asked: &[Asked<'_>], mut outcomes: Outcomes) -> Vec<Outcome> {
    let outcome = |asked: &Asked<'_>| {
        let found = outcomes.remove(&(asked.kind, asked.name.to_owned()));
        found.unwrap_or(Err(ErrorCode::UnknownServerError.into()))
    };
    asked.iter().map(outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_find_the_resources_they_name() {
        let asked = |kind, name| Asked { kind, name, configs: &[], replace: false };
        let refused = Err(ApiError::new(ErrorCode::InvalidConfig, "no such key"));
        let outcomes = Outcomes::from([told_of(4, "2", 40, Some(text("no such key"))), told_of(2, "t", 0, None)]);
        let all = in_order(&[asked(2, "t"), asked(4, "2"), asked(4, "")], outcomes);
        assert_eq!(all, [Ok(()), refused, Err(ErrorCode::UnknownServerError.into())]);
    }
}
