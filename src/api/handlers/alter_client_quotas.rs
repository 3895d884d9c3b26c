//! AlterClientQuotas (49): sets and removes quotas of users, client ids, pairs of these, and addresses (KIP-546).
//!
//! v0: the first. v1: flexible. Each entity changes as a whole or not at all, and answers for itself; one that is named
//! twice answers once, refused. The address of an entity may be a host name, if it can be resolved here.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_client_quotas_request::{EntryData, OpData};
use kafka_protocol::messages::alter_client_quotas_response::{EntityData, EntryData as EntryResult};
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};

use crate::api::translate::{message, text};
use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::{QuotaAlteration, QuotaEntity, QuotaName, duplicate_quota_entity};

/// The parts of an entity as the client named them; of a part that is named twice the last counts.
type Parts = BTreeMap<String, QuotaName>;

/// Asks the quorum to alter what is well formed, and answers once the changes are in the image.
pub async fn handle(ctx: &Context, request: AlterClientQuotasRequest) -> Reply<AlterClientQuotasResponse> {
    let mut judged: Vec<(Parts, Result<QuotaAlteration, ApiError>)> = Vec::with_capacity(request.entries.len());
    let mut places: BTreeMap<Parts, usize> = BTreeMap::new();
    for entry in &request.entries {
        let parts = parts(entry);
        let alteration = alteration(ctx, &parts, &entry.ops).await;
        if let Some(place) = places.get(&parts) {
            let refused = alteration.and_then(|asked| Err(duplicate_quota_entity(&asked.entity)));
            judged[*place].1 = refused;
            continue;
        }
        places.insert(parts.clone(), judged.len());
        judged.push((parts, alteration));
    }
    let accepted = judged.iter().filter_map(|(_, judged)| judged.as_ref().ok().cloned()).collect();
    let mut outcomes = alter(ctx, accepted, request.validate_only).await.into_iter();
    let mut results = Vec::with_capacity(judged.len());
    for (parts, judged) in judged {
        let outcome = judged.and_then(|_| outcomes.next().unwrap_or(Err(ErrorCode::UnknownServerError.into())));
        results.push(result(&parts, outcome));
    }
    Reply::Now(AlterClientQuotasResponse::default().with_entries(results))
}

async fn alter(ctx: &Context, accepted: Vec<QuotaAlteration>, validate_only: bool) -> Vec<Result<(), ApiError>> {
    let count = accepted.len();
    if count == 0 {
        return Vec::new();
    }
    let patience_ms = ctx.services.config.load().broker().request_timeout_ms;
    let asked = ctx.services.metadata.alter_client_quotas(accepted, validate_only);
    match ctx.within(patience_ms, asked).await {
        Ok(outcomes) => outcomes,
        Err(why) => vec![Err(why); count],
    }
}

fn parts(entry: &EntryData) -> Parts {
    let part = |part: &kafka_protocol::messages::alter_client_quotas_request::EntityData| {
        (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string))
    };
    entry.entity.iter().map(part).collect()
}

/// What one entity asks for, if it is an entity.
async fn alteration(ctx: &Context, parts: &Parts, ops: &[OpData]) -> Result<QuotaAlteration, ApiError> {
    let entity = QuotaEntity::of(parts)?;
    if let QuotaEntity::Ip(Some(host)) = &entity
        && ctx.services.env.net().resolve(host).await.is_err()
    {
        let why = format!("{host} is not a valid IP or resolvable host.");
        return Err(ApiError::new(ErrorCode::InvalidRequest, why));
    }
    let change = |op: &OpData| (op.key.to_string(), (!op.remove).then_some(op.value));
    Ok(QuotaAlteration { entity, changes: ops.iter().map(change).collect() })
}

fn result(parts: &Parts, outcome: Result<(), ApiError>) -> EntryResult {
    let part = |(kind, name): (&String, &QuotaName)| {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.as_deref().map(text))
    };
    let result = EntryResult::default().with_entity(parts.iter().map(part).collect()).with_error_message(None);
    match outcome {
        Ok(()) => result,
        Err(why) => result.with_error_code(why.code.code()).with_error_message(message(&why)),
    }
}
