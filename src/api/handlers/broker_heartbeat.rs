//! BrokerHeartbeat (63): a broker tells the active controller that it lives, and what it wants to be (KIP-631).
//!
//! v1: directories that have failed (KIP-858). v2: directories that take no new partitions (KIP-1066).

use kafka_protocol::messages::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};

use crate::api::{Context, Reply};
use crate::ids::BrokerId;
use crate::metadata::Heartbeat;
use crate::wire::bridge::cordoned_dirs;

/// Asks the quorum, and answers once what the heartbeat means is in the image.
pub async fn handle(ctx: &Context, request: BrokerHeartbeatRequest) -> Reply<BrokerHeartbeatResponse> {
    let version = ctx.request.version;
    let heartbeat = Heartbeat {
        id: BrokerId(request.broker_id.0),
        epoch: request.broker_epoch,
        metadata_offset: request.current_metadata_offset,
        want_fence: request.want_fence,
        want_shut_down: request.want_shut_down,
        offline_dirs: request.offline_log_dirs.iter().map(|id| (*id).into()).collect(),
        cordoned_dirs: cordoned_dirs(&request.unknown_tagged_fields).filter(|_| version >= 2),
    };
    let response = BrokerHeartbeatResponse::default();
    ctx.connection.keep_hearing(&ctx.services.metadata);
    Reply::Now(match ctx.services.metadata.on_heartbeat(heartbeat, Some(ctx.connection.id)).await {
        Ok(answer) => response
            .with_is_caught_up(answer.caught_up)
            .with_is_fenced(answer.fenced)
            .with_should_shut_down(answer.shut_down),
        Err(refused) => response.with_error_code(refused.code.code()),
    })
}
