//! AddRaftVoter (80): a controller that follows the quorum becomes one of its voters (KIP-853).
//!
//! v1: the answer may come before the change is committed, for controllers that join by themselves (KIP-1186).

use std::time::Duration;

use kafka_protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse};

use crate::api::translate::message;
use crate::api::{Context, Reply};
use crate::error::ApiError;
use crate::ids::BrokerId;
use crate::metadata::{Member, MemberEndpoint};
use crate::peer::Address;
use crate::wire::bridge;

/// Has the leader add the voter.
pub async fn handle(ctx: &Context, request: AddRaftVoterRequest) -> Reply<AddRaftVoterResponse> {
    let ctx = ctx.clone();
    Reply::Later(Box::pin(async move {
        let response = AddRaftVoterResponse::default();
        match add(&ctx, &request).await {
            Ok(()) => response.with_error_message(None),
            Err(refused) => response.with_error_code(refused.code.code()).with_error_message(message(&refused)),
        }
    }))
}

async fn add(ctx: &Context, request: &AddRaftVoterRequest) -> Result<(), ApiError> {
    let metadata = &ctx.services.metadata;
    metadata.check_cluster(request.cluster_id.as_deref())?;
    let endpoints = request.listeners.iter().map(|listener| MemberEndpoint {
        listener: listener.name.to_string(),
        address: Address { host: listener.host.to_string(), port: listener.port },
    });
    let member = Member { endpoints: endpoints.collect() };
    let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let until_committed = bridge::carried_bool(&request.unknown_tagged_fields, bridge::ACK_WHEN_COMMITTED);
    let (id, directory) = (BrokerId(request.voter_id), request.voter_directory_id.into());
    metadata.add_voter(id, directory, member, patience, until_committed.unwrap_or(true)).await
}
