//! ListGroups (16): the groups this broker coordinates.
//!
//! v3: flexible. v4: states, and a filter for them (KIP-518). v5: types, and a filter for them (KIP-848).
//!
//! If one of the shards cannot answer yet the whole answer is an error, so that nobody takes a part for everything;
//! one that has moved away meanwhile is another broker's to tell of.

use kafka_protocol::messages::list_groups_response::ListedGroup as WireListedGroup;
use kafka_protocol::messages::{GroupId as WireGroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::api::translate::text;
use crate::api::{Context, Reply};
use crate::coordinator::group::{GroupAnswer, GroupAsk, ListAsk, ListedGroup};
use crate::error::ErrorCode;

/// The type of every group there is so far.
const CLASSIC: &str = "classic";

/// Asks every shard on this broker.
pub async fn handle(ctx: &Context, request: ListGroupsRequest) -> Reply<ListGroupsResponse> {
    let words = |filter: &[StrBytes]| filter.iter().map(|word| word.as_str().to_owned()).collect::<Vec<String>>();
    let ask = ListAsk { states: words(&request.states_filter), types: words(&request.types_filter) };
    let answers = ctx.services.groups.ask_all(|| GroupAsk::ListGroups(ask.clone()));
    Reply::Later(Box::pin(async move { response(answers.await) }))
}

fn response(answers: Vec<GroupAnswer>) -> ListGroupsResponse {
    let mut groups = Vec::new();
    for answer in answers {
        match answer.list_groups() {
            Ok(listed) => groups.extend(listed.iter().map(wire)),
            Err(ErrorCode::NotCoordinator) => {}
            Err(code) => return ListGroupsResponse::default().with_error_code(code.code()),
        }
    }
    ListGroupsResponse::default().with_groups(groups)
}

fn wire(listed: &ListedGroup) -> WireListedGroup {
    WireListedGroup::default()
        .with_group_id(WireGroupId(text(&listed.group)))
        .with_protocol_type(text(&listed.protocol_type))
        .with_group_state(text(listed.state.name()))
        .with_group_type(text(CLASSIC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::group::GroupState;

    #[test]
    fn a_shard_that_is_loading_makes_the_whole_answer_wait() {
        let group = ListedGroup { group: "g".into(), protocol_type: "consumer".into(), state: GroupState::Stable };
        let listed = || GroupAnswer::ListGroups(vec![group.clone()]);
        let moved = GroupAnswer::Refused(ErrorCode::NotCoordinator);
        let loading = GroupAnswer::Refused(ErrorCode::CoordinatorLoadInProgress);
        assert_eq!(response(vec![listed(), moved]).groups.len(), 1);
        let refused = response(vec![listed(), loading]);
        assert_eq!((refused.error_code, refused.groups.len()), (14, 0));
    }
}
