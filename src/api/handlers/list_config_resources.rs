//! ListConfigResources (74): what may have settings, or has some (KIP-1142).
//!
//! v0: called ListClientMetricsResources, and that is what it lists (KIP-714). v1: any kinds, all of them if none is
//! named. Topics and brokers, fenced ones too, are listed whether they have settings or not; groups and client metrics
//! are there because they have some.

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use crate::api::config_views::resource;
use crate::api::translate::text;
use crate::api::{Context, Reply, endpoints};
use crate::error::ErrorCode;
use crate::metadata::{ClusterImage, ResourceKind};

const KINDS_V0: &[i8] = &[resource::CLIENT_METRICS];
const KINDS: &[i8] =
    &[resource::GROUP, resource::CLIENT_METRICS, resource::BROKER_LOGGER, resource::BROKER, resource::TOPIC];

/// Answers from the image.
pub async fn handle(ctx: &Context, request: ListConfigResourcesRequest) -> Reply<ListConfigResourcesResponse> {
    let supported = if ctx.request.version == 0 { KINDS_V0 } else { KINDS };
    let asked = &request.resource_types;
    if asked.iter().any(|kind| !supported.contains(kind)) {
        let code = ErrorCode::UnsupportedVersion.code();
        return Reply::Now(ListConfigResourcesResponse::default().with_error_code(code));
    }
    let image = ctx.services.metadata.image();
    let wanted = supported.iter().filter(|kind| asked.is_empty() || asked.contains(kind));
    let resources = wanted.flat_map(|kind| resources(&image, *kind, &ctx.connection.listener));
    Reply::Now(ListConfigResourcesResponse::default().with_config_resources(resources.collect()))
}

fn resources(image: &ClusterImage, kind: i8, listener: &str) -> Vec<ConfigResource> {
    let resource = |name: &str| ConfigResource::default().with_resource_type(kind).with_resource_name(text(name));
    match kind {
        resource::TOPIC => image.topics.iter().map(|topic| resource(&topic.name)).collect(),
        resource::GROUP => image.settings.names(ResourceKind::Group).map(resource).collect(),
        resource::CLIENT_METRICS => image.settings.names(ResourceKind::ClientMetrics).map(resource).collect(),
        _ => {
            let brokers = endpoints::brokers(image, listener).into_iter().map(|(broker, _)| broker);
            brokers.map(|broker| resource(&broker.id.to_string())).collect()
        }
    }
}
