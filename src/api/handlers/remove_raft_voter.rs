//! RemoveRaftVoter (81): a voter of the quorum votes no more (KIP-853).

use std::time::Duration;

use kafka_protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};

use crate::api::translate::message;
use crate::api::{Context, Reply};
use crate::error::ApiError;
use crate::ids::BrokerId;

/// How long the change may take to be committed (`request.timeout.ms`).
const PATIENCE: Duration = Duration::from_secs(30);

/// Has the leader remove the voter.
pub async fn handle(ctx: &Context, request: RemoveRaftVoterRequest) -> Reply<RemoveRaftVoterResponse> {
    let ctx = ctx.clone();
    Reply::Later(Box::pin(async move {
        let response = RemoveRaftVoterResponse::default();
        match remove(&ctx, &request).await {
            Ok(()) => response.with_error_message(None),
            Err(refused) => response.with_error_code(refused.code.code()).with_error_message(message(&refused)),
        }
    }))
}

async fn remove(ctx: &Context, request: &RemoveRaftVoterRequest) -> Result<(), ApiError> {
    let metadata = &ctx.services.metadata;
    metadata.check_cluster(request.cluster_id.as_deref())?;
    metadata.remove_voter(BrokerId(request.voter_id), request.voter_directory_id.into(), PATIENCE).await
}
