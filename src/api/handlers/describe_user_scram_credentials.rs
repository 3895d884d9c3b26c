//! DescribeUserScramCredentials (50): which SCRAM credentials users have (KIP-554).
//!
//! v0: the first, flexible. `kafka-configs` asks this with every look at the quotas of users. Credentials cannot be
//! made before authentication is built, so no user has any.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};

use crate::api::translate::text;
use crate::api::{Context, Reply};
use crate::error::ErrorCode;

/// Answers for every user that is named; without names for every user that has credentials.
pub async fn handle(
    _: &Context,
    request: DescribeUserScramCredentialsRequest,
) -> Reply<DescribeUserScramCredentialsResponse> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for user in request.users.iter().flatten() {
        *times.entry(user.name.as_str()).or_default() += 1;
    }
    let results = times.into_iter().map(|(user, times)| result(user, times)).collect();
    let response = DescribeUserScramCredentialsResponse::default().with_error_message(None);
    Reply::Now(response.with_results(results))
}

fn result(user: &str, times: usize) -> DescribeUserScramCredentialsResult {
    let (code, why) = match times {
        1 => (ErrorCode::ResourceNotFound, "Attempt to describe a user credential that does not exist: "),
        _ => (
            ErrorCode::DuplicateResource,
            "Cannot describe SCRAM credentials for the same user twice in a single request: ",
        ),
    };
    DescribeUserScramCredentialsResult::default()
        .with_user(text(user))
        .with_error_code(code.code())
        .with_error_message(Some(text(&format!("{why}{user}"))))
}
