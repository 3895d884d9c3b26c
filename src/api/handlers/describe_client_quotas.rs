//! DescribeClientQuotas (48): the client quotas that match a filter (KIP-546).
//!
//! v0: the first. v1: flexible. A filter names each part of an entity at most once. `strict` leaves out entities that
//! have other parts too.

use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};

use crate::api::translate::{message, text};
use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::{QuotaEntity, QuotaFilter, QuotaMap, QuotaMatch, QuotaValue, quota_part};

/// How a component matches (`DescribeClientQuotasRequest.MATCH_TYPE_*`).
mod match_type {
    pub const EXACT: i8 = 0;
    pub const DEFAULT: i8 = 1;
    pub const SPECIFIED: i8 = 2;
}

/// Answers from the image.
pub async fn handle(ctx: &Context, request: DescribeClientQuotasRequest) -> Reply<DescribeClientQuotasResponse> {
    let response = DescribeClientQuotasResponse::default();
    let filter = match filter(&request) {
        Ok(filter) => filter,
        Err(why) => {
            let refused = response.with_error_code(why.code.code()).with_error_message(message(&why));
            return Reply::Now(refused.with_entries(None));
        }
    };
    let image = ctx.services.metadata.image();
    let found = image.client_quotas.iter().filter(|(entity, _)| filter.matches(entity));
    Reply::Now(response.with_entries(Some(found.map(entry).collect())))
}

fn filter(request: &DescribeClientQuotasRequest) -> Result<QuotaFilter, ApiError> {
    let mut filter = QuotaFilter { strict: request.strict, ..QuotaFilter::default() };
    for component in &request.components {
        let kind = component.entity_type.as_str();
        if kind.is_empty() {
            return Err(invalid("Invalid empty entity type."));
        }
        if filter.parts.contains_key(kind) {
            return Err(invalid(&format!("Entity type {kind} cannot appear more than once in the filter.")));
        }
        if !matches!(kind, quota_part::USER | quota_part::CLIENT_ID | quota_part::IP) {
            return Err(ApiError::new(ErrorCode::UnsupportedVersion, format!("Unsupported entity type {kind}")));
        }
        filter.parts.insert(kind.to_owned(), wanted(component)?);
    }
    let has = |kind: &str| filter.parts.contains_key(kind);
    if has(quota_part::IP) && (has(quota_part::USER) || has(quota_part::CLIENT_ID)) {
        return Err(invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or \
             clientId filter component.",
        ));
    }
    Ok(filter)
}

fn wanted(component: &ComponentData) -> Result<QuotaMatch, ApiError> {
    let needless = |name: &str| invalid(&format!("Request specified {name}, but also specified a match string."));
    match (component.match_type, component._match.as_ref()) {
        (match_type::EXACT, Some(name)) => Ok(QuotaMatch::Exact(Some(name.to_string()))),
        (match_type::EXACT, None) => Err(invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")),
        (match_type::DEFAULT, None) => Ok(QuotaMatch::Exact(None)),
        (match_type::DEFAULT, Some(_)) => Err(needless("MATCH_TYPE_DEFAULT")),
        (match_type::SPECIFIED, None) => Ok(QuotaMatch::Specified),
        (match_type::SPECIFIED, Some(_)) => Err(needless("MATCH_TYPE_SPECIFIED")),
        (unknown, _) => Err(invalid(&format!("Unknown match type {unknown}"))),
    }
}

fn entry((entity, quotas): (&QuotaEntity, &QuotaMap)) -> EntryData {
    let part = |(kind, name): (&str, Option<&str>)| {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
    };
    let value = |(key, value): (&String, &QuotaValue)| ValueData::default().with_key(text(key)).with_value(value.0);
    EntryData::default()
        .with_entity(entity.parts().into_iter().map(part).collect())
        .with_values(quotas.iter().map(value).collect())
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}
