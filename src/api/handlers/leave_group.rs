//! LeaveGroup (13): members go.
//!
//! v0-2: one member, and one code for it at the top. v3: several members, by member id or instance id, with a code
//! each (KIP-345). v4: flexible. v5: a reason, for the log only (KIP-800).

use std::sync::Arc;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::api::translate::text;
use crate::api::{Context, Reply};
use crate::coordinator::group::{GroupAnswer, GroupAsk, LeaveAsk, Leaving, Left};
use crate::error::ErrorCode;

/// From this version on several members can leave at once.
const BATCH: i16 = 3;

/// Takes the members out of their group.
pub async fn handle(ctx: &Context, request: LeaveGroupRequest) -> Reply<LeaveGroupResponse> {
    let version = ctx.request.version;
    if request.group_id.is_empty() {
        return Reply::Now(response(version, Err(ErrorCode::InvalidGroupId)));
    }
    let leaving = |member: &MemberIdentity| Leaving {
        member_id: Arc::from(member.member_id.as_str()),
        instance_id: member.group_instance_id.as_deref().map(Arc::from),
    };
    let members = if version < BATCH {
        vec![Leaving { member_id: Arc::from(request.member_id.as_str()), instance_id: None }]
    } else {
        request.members.iter().map(leaving).collect()
    };
    let ask = LeaveAsk { group: Arc::from(request.group_id.as_str()), members };
    let group = ask.group.clone();
    let answer = ctx.services.groups.ask(&group, GroupAsk::Leave(ask));
    Reply::Later(Box::pin(async move { response(version, answer.await.and_then(GroupAnswer::leave)) }))
}

fn response(version: i16, outcome: Result<Vec<Left>, ErrorCode>) -> LeaveGroupResponse {
    let left = match outcome {
        Ok(left) => left,
        Err(code) => return LeaveGroupResponse::default().with_error_code(code.code()),
    };
    if version < BATCH {
        let code = left.first().map_or(ErrorCode::None, |left| left.code);
        return LeaveGroupResponse::default().with_error_code(code.code());
    }
    let member = |left: &Left| {
        MemberResponse::default()
            .with_member_id(text(&left.member_id))
            .with_group_instance_id(left.instance_id.as_deref().map(text))
            .with_error_code(left.code.code())
    };
    LeaveGroupResponse::default().with_members(left.iter().map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_have_one_code() {
        let left = || vec![Left { member_id: "m".into(), instance_id: None, code: ErrorCode::UnknownMemberId }];
        let old = response(2, Ok(left()));
        assert_eq!((old.error_code, old.members.len()), (25, 0));
        let new = response(3, Ok(left()));
        assert_eq!((new.error_code, new.members[0].error_code), (0, 25));
        assert_eq!(response(3, Err(ErrorCode::NotCoordinator)).error_code, 16);
    }
}
