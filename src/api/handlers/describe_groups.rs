//! DescribeGroups (15): who is in classic groups and who got what.
//!
//! v3: authorised operations on request (KIP-430). v4: group instance ids (KIP-345). v5: flexible. v6: a group that
//! is not there is an error with a message (KIP-1043); before, it is no error and its state is `Dead`.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId as WireGroupId};

use crate::api::translate::text;
use crate::api::{Context, Reply, operations};
use crate::coordinator::group::{DescribedMember, GroupAnswer, GroupAsk, GroupDescription, GroupId, GroupState};
use crate::error::ErrorCode;

/// From this version on a missing group is an error.
const MISSING_IS_ERROR: i16 = 6;

/// Every operation on a group: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
const GROUP_OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 11);

/// Asks for every group, and answers in the order of the request. A group may be large, so it is described once: when
/// it is named again that is an invalid request.
pub async fn handle(ctx: &Context, request: DescribeGroupsRequest) -> Reply<DescribeGroupsResponse> {
    let version = ctx.request.version;
    let allowed = operations::if_asked(request.include_authorized_operations, GROUP_OPERATIONS);
    let mut seen = BTreeSet::new();
    let ask = |name: &WireGroupId| {
        let group = GroupId::from(name.as_str());
        let is_new = seen.insert(Arc::clone(&group));
        let answer = is_new.then(|| ctx.services.groups.ask(&group, GroupAsk::DescribeGroup(Arc::clone(&group))));
        async move {
            match answer {
                Some(answer) => answer.await,
                None => Err(ErrorCode::InvalidRequest),
            }
        }
    };
    let answers: Vec<_> = request.groups.iter().map(ask).collect();
    Reply::Later(Box::pin(async move {
        let answers = join_all(answers).await;
        let mut groups = Vec::with_capacity(answers.len());
        for (group, answer) in request.groups.into_iter().zip(answers) {
            let outcome = answer.and_then(GroupAnswer::describe_group);
            groups.push(described(version, group, allowed, outcome));
        }
        DescribeGroupsResponse::default().with_groups(groups)
    }))
}

fn described(
    version: i16,
    group: WireGroupId,
    allowed: i32,
    outcome: Result<Option<GroupDescription>, ErrorCode>,
) -> DescribedGroup {
    let not_found = format!("Group {} not found.", group.as_str());
    let answer = DescribedGroup::default().with_group_id(group);
    let description = match outcome {
        Err(code) => return answer.with_error_code(code.code()),
        Ok(description) => description,
    };
    let Some(description) = description else {
        let dead = answer.with_group_state(text(GroupState::Dead.name()));
        if version < MISSING_IS_ERROR {
            return dead.with_authorized_operations(allowed);
        }
        return dead.with_error_code(ErrorCode::GroupIdNotFound.code()).with_error_message(Some(text(&not_found)));
    };
    answer
        .with_group_state(text(description.state.name()))
        .with_protocol_type(text(&description.protocol_type))
        .with_protocol_data(text(description.protocol.as_deref().unwrap_or_default()))
        .with_members(description.members.iter().map(member).collect())
        .with_authorized_operations(allowed)
}

fn member(member: &DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(&member.member_id))
        .with_group_instance_id(member.instance_id.as_deref().map(text))
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host))
        .with_member_metadata(member.metadata.clone())
        .with_member_assignment(member.assignment.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_group_is_dead_and_later_an_error() {
        let missing = |version| described(version, WireGroupId(text("g")), GROUP_OPERATIONS, Ok(None));
        let old = missing(5);
        assert_eq!((old.error_code, &*old.group_state, old.authorized_operations), (0, "Dead", 3400));
        let new = missing(6);
        assert_eq!((new.error_code, &*new.group_state), (69, "Dead"));
        assert_eq!(new.error_message.as_deref(), Some("Group g not found."));
    }
}
