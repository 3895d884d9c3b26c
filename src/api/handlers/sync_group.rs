//! SyncGroup (14): the leader hands in the assignment, everybody gets its own part.
//!
//! v3: static members (KIP-345). v4: flexible. v5: protocol type and name, which must be there and must match
//! (KIP-559).
//!
//! The answer is parked until the leader has handed in, and the assignment is stored.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::api::translate::text;
use crate::api::{Context, Reply};
use crate::coordinator::group::{GroupAnswer, GroupAsk, MemberId, SyncAsk, Synced};
use crate::error::ErrorCode;

/// From this version on the protocol must be named.
const NAMES_PROTOCOL: i16 = 5;

/// Hands in and waits for the assignment.
pub async fn handle(ctx: &Context, request: SyncGroupRequest) -> Reply<SyncGroupResponse> {
    if let Err(code) = check(ctx.request.version, &request) {
        return Reply::Now(refused(code));
    }
    let ask = ask(&request);
    let group = ask.group.clone();
    let answer = ctx.services.groups.ask(&group, GroupAsk::Sync(ask));
    Reply::Later(Box::pin(async move { answer.await.and_then(GroupAnswer::sync).map_or_else(refused, synced) }))
}

fn check(version: i16, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if version >= NAMES_PROTOCOL && !names_protocol {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    if request.group_id.is_empty() { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}

fn ask(request: &SyncGroupRequest) -> SyncAsk {
    // Copied, because a group outlives the buffer the request was read into.
    let assignment = |given: &SyncGroupRequestAssignment| -> (MemberId, Bytes) {
        (Arc::from(given.member_id.as_str()), Bytes::copy_from_slice(&given.assignment))
    };
    SyncAsk {
        group: Arc::from(request.group_id.as_str()),
        generation: request.generation_id,
        member_id: Arc::from(request.member_id.as_str()),
        instance_id: request.group_instance_id.as_deref().map(Arc::from),
        protocol_type: request.protocol_type.as_deref().map(Arc::from),
        protocol: request.protocol_name.as_deref().map(Arc::from),
        assignments: request.assignments.iter().map(assignment).collect(),
    }
}

fn synced(outcome: Synced) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_protocol_type(outcome.protocol_type.as_deref().map(text))
        .with_protocol_name(outcome.protocol.as_deref().map(text))
        .with_assignment(outcome.assignment)
}

fn refused(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(code.code())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::GroupId;

    use super::*;

    #[test]
    fn version_5_has_to_name_the_protocol() {
        let named = SyncGroupRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")));
        assert_eq!(check(5, &named), Ok(()));
        let unnamed = named.clone().with_protocol_name(None);
        assert_eq!(check(5, &unnamed), Err(ErrorCode::InconsistentGroupProtocol));
        assert_eq!(check(4, &unnamed), Ok(()));
        assert_eq!(check(5, &named.with_group_id(GroupId(text("")))), Err(ErrorCode::InvalidGroupId));
    }
}
