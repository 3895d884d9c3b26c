//! Heartbeat (12): a member is alive, and asks whether it has to rejoin.
//!
//! v3: static members (KIP-345). v4: flexible. All versions: while the group is being loaded every heartbeat is fine,
//! because nobody can know better yet.

use std::sync::Arc;

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::api::{Context, Reply};
use crate::coordinator::group::{GroupAnswer, GroupAsk, HeartbeatAsk};
use crate::error::ErrorCode;

/// Passes the heartbeat on.
pub async fn handle(ctx: &Context, request: HeartbeatRequest) -> Reply<HeartbeatResponse> {
    if request.group_id.is_empty() {
        return Reply::Now(response(Err(ErrorCode::InvalidGroupId)));
    }
    let ask = HeartbeatAsk {
        group: Arc::from(request.group_id.as_str()),
        generation: request.generation_id,
        member_id: Arc::from(request.member_id.as_str()),
        instance_id: request.group_instance_id.as_deref().map(Arc::from),
    };
    let group = ask.group.clone();
    let answer = ctx.services.groups.ask(&group, GroupAsk::Heartbeat(ask));
    Reply::Later(Box::pin(async move { response(answer.await.and_then(GroupAnswer::heartbeat)) }))
}

fn response(outcome: Result<(), ErrorCode>) -> HeartbeatResponse {
    let code = match outcome {
        Ok(()) | Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Err(code) => code,
    };
    HeartbeatResponse::default().with_error_code(code.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_being_loaded_takes_any_heartbeat() {
        assert_eq!(response(Ok(())).error_code, 0);
        assert_eq!(response(Err(ErrorCode::CoordinatorLoadInProgress)).error_code, 0);
        assert_eq!(response(Err(ErrorCode::RebalanceInProgress)).error_code, 27);
    }
}
