//! JoinGroup (11): a member asks to be in the next generation of its group.
//!
//! v0: the session timeout serves as rebalance timeout too. v1: a rebalance timeout. v4: a dynamic member without an
//! id is given one and told to come back (KIP-394). v5: static members (KIP-345). v6: flexible. v7: the protocol
//! type, and the protocol is null instead of empty where there is none. v8: a reason, for the log only (KIP-800). v9:
//! a leader may be told to skip the assignment (KIP-814).
//!
//! The answer may be parked until everybody has joined.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use crate::api::translate::{address, text};
use crate::api::{Context, Reply};
use crate::coordinator::group::{GroupAnswer, GroupAsk, JoinAsk, JoinRefused, Joined, JoinedMember, Protocol};
use crate::error::ErrorCode;

/// From this version on a member without an id is first given one.
const MEMBER_ID_FIRST: i16 = 4;
/// From this version on the protocol may be null.
const NULL_PROTOCOL: i16 = 7;
/// From this version on a leader can be told to skip the assignment.
const SKIP_ASSIGNMENT: i16 = 9;

/// Joins the group and waits for its generation to begin.
pub async fn handle(ctx: &Context, request: JoinGroupRequest) -> Reply<JoinGroupResponse> {
    let version = ctx.request.version;
    if request.group_id.is_empty() {
        let member_id = Arc::from(request.member_id.as_str());
        return Reply::Now(refused(version, JoinRefused { code: ErrorCode::InvalidGroupId, member_id }));
    }
    let ask = ask(ctx, &request);
    let group = ask.group.clone();
    let answer = ctx.services.groups.ask(&group, GroupAsk::Join(ask));
    Reply::Later(Box::pin(async move {
        let nobody = |code| JoinRefused { code, member_id: "".into() };
        match answer.await.map_err(nobody).and_then(GroupAnswer::join) {
            Ok(outcome) => joined(outcome),
            Err(outcome) => refused(version, outcome),
        }
    }))
}

fn ask(ctx: &Context, request: &JoinGroupRequest) -> JoinAsk {
    let version = ctx.request.version;
    let instance_id: Option<Arc<str>> = request.group_instance_id.as_deref().map(Arc::from);
    let name = instance_id.as_deref().unwrap_or(&ctx.request.client_id);
    let random = uuid::Uuid::from(ctx.services.env.random_uuid());
    let protocol = |offered: &JoinGroupRequestProtocol| Protocol {
        name: Arc::from(offered.name.as_str()),
        // Copied, because a group outlives the buffer the request was read into.
        metadata: Bytes::copy_from_slice(&offered.metadata),
    };
    JoinAsk {
        group: Arc::from(request.group_id.as_str()),
        member_id: Arc::from(request.member_id.as_str()),
        new_member_id: Arc::from(format!("{name}-{random}")),
        instance_id,
        client_id: ctx.request.client_id.clone(),
        client_host: Arc::from(format!("/{}", address(ctx.connection.peer.ip()))),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        protocol_type: Arc::from(request.protocol_type.as_str()),
        protocols: request.protocols.iter().map(protocol).collect(),
        takes_member_id_first: version >= MEMBER_ID_FIRST,
        takes_skip_assignment: version >= SKIP_ASSIGNMENT,
    }
}

fn joined(outcome: Joined) -> JoinGroupResponse {
    let member = |member: &JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_metadata(member.metadata.clone())
    };
    JoinGroupResponse::default()
        .with_generation_id(outcome.generation)
        .with_protocol_type(outcome.protocol_type.as_deref().map(text))
        .with_protocol_name(Some(text(outcome.protocol.as_deref().unwrap_or_default())))
        .with_leader(text(&outcome.leader))
        .with_skip_assignment(outcome.skip_assignment)
        .with_member_id(text(&outcome.member_id))
        .with_members(outcome.members.iter().map(member).collect())
}

fn refused(version: i16, outcome: JoinRefused) -> JoinGroupResponse {
    let no_protocol = if version < NULL_PROTOCOL { Some(text("")) } else { None };
    JoinGroupResponse::default()
        .with_error_code(outcome.code.code())
        .with_protocol_name(no_protocol)
        .with_member_id(text(&outcome.member_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_join_names_no_generation() {
        let outcome = || JoinRefused { code: ErrorCode::MemberIdRequired, member_id: "m".into() };
        let response = refused(4, outcome());
        assert_eq!((response.error_code, response.generation_id, &*response.member_id), (79, -1, "m"));
        assert_eq!(response.protocol_name.as_deref(), Some(""));
        assert_eq!(refused(7, outcome()).protocol_name, None);
    }
}
