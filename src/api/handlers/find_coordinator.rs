//! FindCoordinator (10): which broker coordinates a group.
//!
//! v0: groups only. v1: a key type: 0 group, 1 transaction, 2 share (v6). v3: flexible. v4: many keys, each with its
//! own error (KIP-699); before, one key and one answer at the top. v6: share groups (KIP-932).
//!
//! The internal topic is created if it is not there, even where topics are not created automatically; until it has a
//! leader the answer is 15, which clients retry. Transactions and share groups are not built yet: 42 with a message,
//! because clients would retry anything kinder for ever.

use std::sync::Arc;

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId as WireBrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::api::translate::{message, text};
use crate::api::{Context, Reply, endpoints};
use crate::error::{ApiError, ErrorCode};
use crate::ids::internal_topics::CONSUMER_OFFSETS;
use crate::ids::{BrokerId, coordinator_partition};
use crate::metadata::{ClusterImage, Endpoint};

/// From this version on a request names many keys.
const MANY_KEYS: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Where a key is coordinated.
type Found<'a> = Result<(BrokerId, &'a Endpoint), ApiError>;

/// Finds the coordinator of every key.
pub async fn handle(ctx: &Context, request: FindCoordinatorRequest) -> Reply<FindCoordinatorResponse> {
    let version = ctx.request.version;
    let keys = if version < MANY_KEYS { vec![request.key] } else { request.coordinator_keys };
    if let Err(refused) = check_type(request.key_type) {
        return Reply::Now(response(version, keys, |_| Err(refused.clone())));
    }
    let services = Arc::clone(&ctx.services);
    let listener = Arc::clone(&ctx.connection.listener);
    Reply::Later(Box::pin(async move {
        let exists = services.ensure_internal_topic(CONSUMER_OFFSETS).await;
        let image = services.metadata.image();
        let not_available = || ApiError::new(ErrorCode::CoordinatorNotAvailable, "The coordinator is not available.");
        response(version, keys, |key| match exists {
            Ok(()) => coordinator(&image, &listener, key).ok_or_else(not_available),
            Err(_) => Err(not_available()),
        })
    }))
}

fn check_type(key_type: i8) -> Result<(), ApiError> {
    let reason = match key_type {
        GROUP => return Ok(()),
        TRANSACTION => "Transactions are not supported yet.",
        SHARE => "Share groups are not supported yet.",
        _ => "The coordinator type is unknown.",
    };
    Err(ApiError::new(ErrorCode::InvalidRequest, reason))
}

/// The leader of the partition that `group` falls to, as the listener shows it.
fn coordinator<'a>(image: &'a ClusterImage, listener: &str, group: &str) -> Option<(BrokerId, &'a Endpoint)> {
    let topic = image.topics.by_name(CONSUMER_OFFSETS)?;
    let index = coordinator_partition(group, i32::try_from(topic.partitions.len()).ok()?);
    let leader = topic.partitions.get(usize::try_from(index).ok()?)?.leader?;
    let broker = image.brokers.by_id(leader).filter(|broker| !broker.fenced)?;
    Some((leader, endpoints::endpoint(broker, listener)?))
}

fn response<'a>(version: i16, keys: Vec<StrBytes>, find: impl Fn(&str) -> Found<'a>) -> FindCoordinatorResponse {
    let mut coordinators = keys.into_iter().map(|key| {
        let found = find(key.as_str());
        wire(key, found)
    });
    if version >= MANY_KEYS {
        return FindCoordinatorResponse::default().with_coordinators(coordinators.collect());
    }
    let only = coordinators.next().unwrap_or_default();
    FindCoordinatorResponse::default()
        .with_error_code(only.error_code)
        .with_error_message(only.error_message)
        .with_node_id(only.node_id)
        .with_host(only.host)
        .with_port(only.port)
}

fn wire(key: StrBytes, found: Found<'_>) -> Coordinator {
    let answer = Coordinator::default().with_key(key);
    match found {
        Ok((node, endpoint)) => answer
            .with_node_id(WireBrokerId(node.0))
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port))
            .with_error_message(None),
        Err(refused) => answer
            .with_node_id(WireBrokerId(-1))
            .with_port(-1)
            .with_error_code(refused.code.code())
            .with_error_message(message(&refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_have_coordinators_so_far() {
        assert_eq!(check_type(GROUP), Ok(()));
        for key_type in [TRANSACTION, SHARE, 3, -1] {
            assert_eq!(check_type(key_type).map_err(|refused| refused.code), Err(ErrorCode::InvalidRequest));
        }
    }

    #[test]
    fn old_versions_are_answered_at_the_top() {
        let refuse = |_: &str| Err(ApiError::from(ErrorCode::InvalidRequest));
        let old = response(3, vec![text("k")], refuse);
        assert_eq!((old.error_code, old.node_id.0, old.coordinators.len()), (42, -1, 0));
        let new = response(4, vec![text("k"), text("l")], refuse);
        assert_eq!((new.error_code, new.node_id.0, &*new.host), (0, 0, ""));
        assert_eq!(new.coordinators.iter().map(|found| &*found.key).collect::<Vec<_>>(), ["k", "l"]);
        assert_eq!((new.coordinators[0].error_code, new.coordinators[0].node_id.0), (42, -1));
    }

    #[test]
    fn there_is_no_coordinator_without_the_topic() {
        assert!(coordinator(&ClusterImage::default(), "PLAINTEXT", "g").is_none());
    }
}
