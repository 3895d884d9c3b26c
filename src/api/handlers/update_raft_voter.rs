//! UpdateRaftVoter (82): a voter tells the leader where it listens and what it supports (KIP-853).

use kafka_protocol::messages::update_raft_voter_response::CurrentLeader;
use kafka_protocol::messages::{BrokerId as WireBrokerId, UpdateRaftVoterRequest, UpdateRaftVoterResponse};

use crate::api::translate::text;
use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::ids::BrokerId;
use crate::metadata::{Member, MemberEndpoint};
use crate::peer::Address;

/// Has the leader note it. The answer names the leader, so that a voter that asked somebody else finds it.
pub async fn handle(ctx: &Context, request: UpdateRaftVoterRequest) -> Reply<UpdateRaftVoterResponse> {
    let ctx = ctx.clone();
    Reply::Later(Box::pin(async move {
        let updated = update(&ctx, &request).await;
        let code = updated.map_or_else(|refused| refused.code, |()| ErrorCode::None);
        let mut leader = CurrentLeader::default();
        if let Some((id, address)) = ctx.services.metadata.active_controller() {
            let epoch = ctx.services.metadata.quorum_state().map_or(-1, |state| state.leader_epoch);
            leader = leader.with_leader_id(WireBrokerId(id.0)).with_leader_epoch(epoch);
            leader = leader.with_host(text(&address.host)).with_port(i32::from(address.port));
        }
        UpdateRaftVoterResponse::default().with_error_code(code.code()).with_current_leader(leader)
    }))
}

async fn update(ctx: &Context, request: &UpdateRaftVoterRequest) -> Result<(), ApiError> {
    let metadata = &ctx.services.metadata;
    metadata.check_cluster(request.cluster_id.as_deref())?;
    if let Some(state) = metadata.quorum_state() {
        match request.current_leader_epoch.cmp(&state.leader_epoch) {
            std::cmp::Ordering::Less => return Err(ErrorCode::FencedLeaderEpoch.into()),
            std::cmp::Ordering::Greater => return Err(ErrorCode::UnknownLeaderEpoch.into()),
            std::cmp::Ordering::Equal => {}
        }
    }
    let endpoints = request.listeners.iter().map(|listener| MemberEndpoint {
        listener: listener.name.to_string(),
        address: Address { host: listener.host.to_string(), port: listener.port },
    });
    let member = Member { endpoints: endpoints.collect() };
    let feature = &request.k_raft_version_feature;
    let supported = (feature.min_supported_version, feature.max_supported_version);
    let id = BrokerId(request.voter_id);
    metadata.update_voter(id, request.voter_directory_id.into(), member, supported).await
}
