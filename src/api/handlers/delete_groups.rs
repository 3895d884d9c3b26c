//! DeleteGroups (42): groups go, with their offsets.
//!
//! v2: flexible. A group that is named twice is answered once. A group with members is not deleted (68), one that is
//! not there cannot be (69).

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId as WireGroupId};

use crate::api::{Context, Reply};
use crate::coordinator::group::{GroupAnswer, GroupAsk, GroupId};
use crate::error::ErrorCode;

/// Deletes each group by itself.
pub async fn handle(ctx: &Context, request: DeleteGroupsRequest) -> Reply<DeleteGroupsResponse> {
    let groups = distinct(request.groups_names);
    let ask = |group: &WireGroupId| {
        let group = GroupId::from(group.as_str());
        ctx.services.groups.ask(&group, GroupAsk::DeleteGroup(Arc::clone(&group)))
    };
    let answers: Vec<_> = groups.iter().map(ask).collect();
    Reply::Later(Box::pin(async move {
        let answers = join_all(answers).await;
        let mut results = Vec::with_capacity(answers.len());
        for (group, answer) in groups.into_iter().zip(answers) {
            let code = answer.and_then(GroupAnswer::delete_group).err().unwrap_or(ErrorCode::None);
            results.push(DeletableGroupResult::default().with_group_id(group).with_error_code(code.code()));
        }
        DeleteGroupsResponse::default().with_results(results)
    }))
}

fn distinct(groups: Vec<WireGroupId>) -> Vec<WireGroupId> {
    let mut seen = BTreeSet::new();
    groups.into_iter().filter(|group| seen.insert(group.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::translate::text;

    #[test]
    fn groups_named_twice_count_once() {
        let groups = ["b", "a", "b"].map(|name| WireGroupId(text(name))).to_vec();
        let names: Vec<String> = distinct(groups).iter().map(|group| group.to_string()).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
