//! BrokerRegistration (62): a broker asks the active controller to be part of the cluster (KIP-631).
//!
//! v1: migration from ZooKeeper, which is refused. v2: directory ids (KIP-858). v3: the epoch of the broker's earlier
//! life (KIP-966). v4: features whose lowest level is 0.

use std::collections::BTreeMap;

use kafka_protocol::messages::broker_registration_request::Listener;
use kafka_protocol::messages::{BrokerRegistrationRequest, BrokerRegistrationResponse};

use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::ids::BrokerId;
use crate::metadata::{Endpoint, Registration, protocol_name};

/// Asks the quorum, and answers once the registration is in the image.
pub async fn handle(ctx: &Context, request: BrokerRegistrationRequest) -> Reply<BrokerRegistrationResponse> {
    let id = request.broker_id.0;
    let cluster_id = request.cluster_id.to_string();
    let outcome = match registration(request) {
        Ok(registration) => ctx.services.metadata.on_registration(registration, Some(cluster_id)).await,
        Err(refused) => Err(refused),
    };
    let response = BrokerRegistrationResponse::default();
    Reply::Now(match outcome {
        Ok(epoch) => response.with_broker_epoch(epoch),
        Err(refused) => {
            tracing::info!(broker = id, %refused, "a broker could not register");
            response.with_error_code(refused.code.code()).with_broker_epoch(-1)
        }
    })
}

fn registration(request: BrokerRegistrationRequest) -> Result<Registration, ApiError> {
    if request.is_migrating_zk_broker {
        let message = "Controller does not support registering ZK brokers.";
        return Err(ApiError::new(ErrorCode::BrokerIdNotRegistered, message));
    }
    let features = request
        .features
        .iter()
        .map(|feature| (feature.name.to_string(), (feature.min_supported_version, feature.max_supported_version)));
    Ok(Registration {
        id: BrokerId(request.broker_id.0),
        incarnation: request.incarnation_id.into(),
        rack: request.rack.as_deref().map(str::to_owned),
        endpoints: request.listeners.iter().map(endpoint).collect::<Result<_, _>>()?,
        features: features.collect::<BTreeMap<_, _>>(),
        log_dirs: request.log_dirs.iter().map(|id| (*id).into()).collect(),
        previous_epoch: request.previous_broker_epoch,
    })
}

fn endpoint(listener: &Listener) -> Result<Endpoint, ApiError> {
    let number = listener.security_protocol;
    let unknown = || ApiError::new(ErrorCode::InvalidRegistration, format!("Unknown security protocol {number}"));
    Ok(Endpoint {
        listener: listener.name.to_string(),
        host: listener.host.to_string(),
        port: listener.port,
        protocol: protocol_name(number).ok_or_else(unknown)?.to_owned(),
    })
}
