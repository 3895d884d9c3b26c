//! DescribeCluster (60): the cluster's id and brokers (KIP-700).
//!
//! v0: brokers. v1: an endpoint type: 1 asks a listener of brokers for the brokers, 2 asks one of controllers for the
//! controllers, and nothing else is answered (KIP-919). v2: fenced brokers on request (KIP-1073).

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId as WireBrokerId, DescribeClusterRequest, DescribeClusterResponse};

use crate::api::translate::text;
use crate::api::{Context, Reply, endpoints, operations};
use crate::error::ErrorCode;
use crate::ids::BrokerId;
use crate::metadata::MemberEndpoint;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers from the image.
pub async fn handle(ctx: &Context, request: DescribeClusterRequest) -> Reply<DescribeClusterResponse> {
    let here = if ctx.connection.controller { CONTROLLERS } else { BROKERS };
    if request.endpoint_type != here {
        return Reply::Now(wrong_endpoint(ctx.request.version, here, request.endpoint_type));
    }
    if here == CONTROLLERS {
        return Reply::Now(controllers(ctx, &request));
    }
    let image = ctx.services.metadata.image();
    let mut brokers = Vec::new();
    for (broker, endpoint) in endpoints::brokers(&image, &ctx.connection.listener) {
        if broker.fenced && !request.include_fenced_brokers {
            continue;
        }
        let node = DescribeClusterBroker::default()
            .with_broker_id(WireBrokerId(broker.id.0))
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port))
            .with_rack(broker.rack.as_deref().map(text))
            .with_is_fenced(broker.fenced);
        brokers.push(node);
    }
    let live = endpoints::any_live_broker(&image, &ctx.services.env).map_or(-1, |id| id.0);
    // A controller the caller has no address for would only confuse it.
    let controller = if brokers.iter().any(|broker| broker.broker_id.0 == live) { live } else { -1 };
    let asked = request.include_cluster_authorized_operations;
    let response = DescribeClusterResponse::default()
        .with_cluster_id(text(&image.cluster_id.to_string()))
        .with_controller_id(WireBrokerId(controller))
        .with_brokers(brokers)
        .with_cluster_authorized_operations(operations::if_asked(asked, operations::CLUSTER));
    Reply::Now(response)
}

/// The voters, on the listener that the caller came by, and the one that leads them.
fn controllers(ctx: &Context, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let metadata = &ctx.services.metadata;
    let node = |(id, endpoints): (BrokerId, Vec<MemberEndpoint>)| {
        let endpoint = endpoints.into_iter().find(|endpoint| *endpoint.listener == *ctx.connection.listener)?;
        let node = DescribeClusterBroker::default().with_broker_id(WireBrokerId(id.0));
        Some(node.with_host(text(&endpoint.address.host)).with_port(i32::from(endpoint.address.port)))
    };
    let nodes: Vec<DescribeClusterBroker> = metadata.controllers().into_iter().filter_map(node).collect();
    let active = metadata.active_controller().map_or(-1, |(id, _)| id.0);
    // One that the caller has no address for would only confuse it.
    let active = if nodes.iter().any(|node| node.broker_id.0 == active) { active } else { -1 };
    let asked = request.include_cluster_authorized_operations;
    DescribeClusterResponse::default()
        .with_endpoint_type(CONTROLLERS)
        .with_cluster_id(text(&metadata.image().cluster_id.to_string()))
        .with_controller_id(WireBrokerId(active))
        .with_brokers(nodes)
        .with_cluster_authorized_operations(operations::if_asked(asked, operations::CLUSTER))
}

fn wrong_endpoint(version: i16, here: i8, endpoint_type: i8) -> DescribeClusterResponse {
    let (code, message) = if endpoint_type == CONTROLLERS || endpoint_type == BROKERS {
        let name = |kind| if kind == CONTROLLERS { "CONTROLLER" } else { "BROKER" };
        let (here, wanted) = (name(here), name(endpoint_type));
        let message =
            format!("The request was sent to an endpoint of type {here}, but we wanted an endpoint of type {wanted}");
        (ErrorCode::MismatchedEndpointType, message)
    } else {
        (ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {endpoint_type}"))
    };
    let code = if version == 0 { ErrorCode::InvalidRequest } else { code };
    DescribeClusterResponse::default().with_error_code(code.code()).with_error_message(Some(text(&message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_endpoint_types_are_refused() {
        assert_eq!(wrong_endpoint(1, BROKERS, CONTROLLERS).error_code, 114);
        assert_eq!(wrong_endpoint(1, CONTROLLERS, BROKERS).error_code, 114);
        assert_eq!(wrong_endpoint(1, BROKERS, 3).error_code, 115);
        assert_eq!(wrong_endpoint(0, BROKERS, CONTROLLERS).error_code, 42);
    }
}
