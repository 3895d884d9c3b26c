//! Metadata (3): brokers, topics and leaders, and the creation of topics by asking for them.
//!
//! v0: an empty list means all topics; a partition with an unreachable replica has error 9. v1+: null means all, empty
//! means none; controller id, rack, internal flag. v2: cluster id. v4: the caller may forbid automatic creation. v5:
//! offline replicas. v6+: a leader without an address on this listener is 72, before it was 5. v7: leader epochs.
//! v8-10: authorised operations of the cluster, v8+: of topics. v9: flexible. v10+: topic ids in the answer. v12+:
//! topic ids in the request; v10-11 refuse them. v13: an error for the whole answer.

use std::collections::BTreeSet;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
use kafka_protocol::messages::{BrokerId as WireBrokerId, MetadataRequest, MetadataResponse};

use crate::api::topic_views::TopicView;
use crate::api::translate::text;
use crate::api::{Context, Reply, endpoints, operations};
use crate::error::ErrorCode;
use crate::ids::{TopicId, check_topic_name};
use crate::metadata::ClusterImage;

/// The topics a request is about, each once, in the order they were named.
#[derive(PartialEq, Eq, Debug)]
enum Asked<'a> {
    All,
    Names(Vec<&'a str>),
    Ids(Vec<TopicId>),
}

/// Answers from the image. Topics that are missing and may be created are asked for in the background: the caller gets
/// `UnknownTopicOrPartition` and looks again.
pub async fn handle(ctx: &Context, request: MetadataRequest) -> Reply<MetadataResponse> {
    let version = ctx.request.version;
    let asked = match asked(version, &request) {
        Ok(asked) => asked,
        Err(code) => return Reply::Now(refused(&request, code)),
    };
    let image = ctx.services.metadata.image();
    let listener = &*ctx.connection.listener;
    let view = TopicView { image: &image, listener, version };
    let mut unknown = Vec::new();
    let mut topics: Vec<MetadataResponseTopic> = match &asked {
        Asked::All => image.topics.iter().map(|topic| view.topic(topic)).collect(),
        Asked::Names(names) => {
            let missing: Vec<&str> =
                names.iter().copied().filter(|name| image.topics.by_name(name).is_none()).collect();
            create_missing(ctx, &request, &missing);
            names.iter().map(|name| view.named(name)).collect()
        }
        Asked::Ids(ids) => {
            unknown.extend(ids.iter().filter(|id| image.topics.by_id(**id).is_none()).map(|id| unknown_id(*id)));
            ids.iter().filter_map(|id| image.topics.by_id(*id)).map(|topic| view.topic(topic)).collect()
        }
    };
    let allowed = operations::if_asked(request.include_topic_authorized_operations, operations::TOPIC);
    for topic in &mut topics {
        topic.topic_authorized_operations = allowed;
    }
    unknown.append(&mut topics);
    let controller = endpoints::any_live_broker(&image, &ctx.services.env).map_or(-1, |id| id.0);
    let response = MetadataResponse::default()
        .with_brokers(brokers(&image, listener))
        .with_cluster_id(Some(text(&image.cluster_id.to_string())))
        .with_controller_id(WireBrokerId(controller))
        .with_topics(unknown)
        .with_cluster_authorized_operations(operations::if_asked(
            request.include_cluster_authorized_operations,
            operations::CLUSTER,
        ));
    Reply::Now(response)
}

fn asked(version: i16, request: &MetadataRequest) -> Result<Asked<'_>, ErrorCode> {
    let topics = match &request.topics {
        None => return Ok(Asked::All),
        Some(topics) if topics.is_empty() && version == 0 => return Ok(Asked::All),
        Some(topics) => topics,
    };
    if version < 12 && topics.iter().any(|topic| topic.name.is_none() || !topic.topic_id.is_nil()) {
        return Err(ErrorCode::InvalidRequest);
    }
    let mut seen = BTreeSet::new();
    let ids = topics.iter().map(|topic| TopicId::from(topic.topic_id));
    let ids: Vec<TopicId> = ids.filter(|id| !id.is_zero() && seen.insert(*id)).collect();
    // One id is enough to make it a request by ids: the names in it are ignored.
    if !ids.is_empty() {
        return Ok(Asked::Ids(ids));
    }
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for topic in topics {
        let name = topic.name.as_ref().ok_or(ErrorCode::InvalidRequest)?.as_str();
        if seen.insert(name) {
            names.push(name);
        }
    }
    Ok(Asked::Names(names))
}

fn refused(request: &MetadataRequest, code: ErrorCode) -> MetadataResponse {
    let topic = |topic: &MetadataRequestTopic| {
        MetadataResponseTopic::default()
            .with_error_code(code.code())
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(topic.topic_id)
    };
    let topics = request.topics.iter().flatten().map(topic).collect();
    MetadataResponse::default().with_topics(topics).with_error_code(code.code())
}

fn create_missing(ctx: &Context, request: &MetadataRequest, missing: &[&str]) {
    let allowed = request.allow_auto_topic_creation && ctx.services.config.load().broker().auto_create_topics_enable;
    if allowed {
        let legal: Vec<&str> = missing.iter().copied().filter(|name| check_topic_name(name).is_ok()).collect();
        // What the client's quota does not allow is not created; it will ask again.
        ctx.services.auto_create(&legal, ctx.mutations(0).quota());
    }
}

fn unknown_id(id: TopicId) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(ErrorCode::UnknownTopicId.code())
        .with_name(None)
        .with_topic_id(id.into())
}

fn brokers(image: &ClusterImage, listener: &str) -> Vec<MetadataResponseBroker> {
    let live = endpoints::brokers(image, listener).into_iter().filter(|(broker, _)| !broker.fenced);
    live.map(|(broker, endpoint)| {
        MetadataResponseBroker::default()
            .with_node_id(WireBrokerId(broker.id.0))
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port))
            .with_rack(broker.rack.as_deref().map(text))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::api::translate::topic_name;
    use crate::ids::KafkaUuid;

    fn named(names: &[&str]) -> MetadataRequest {
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        MetadataRequest::default().with_topics(Some(names.iter().map(topic).collect()))
    }

    #[test]
    fn all_topics_are_asked_for_differently_in_version_0() {
        let null = MetadataRequest::default().with_topics(None);
        assert_eq!(asked(1, &null), Ok(Asked::All));
        assert_eq!(asked(0, &named(&[])), Ok(Asked::All));
        assert_eq!(asked(1, &named(&[])), Ok(Asked::Names(vec![])));
        assert_eq!(asked(9, &named(&["b", "a", "b"])), Ok(Asked::Names(vec!["b", "a"])));
    }

    #[test]
    fn ids_count_from_version_12_and_hide_names() {
        let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(7));
        let mut request = named(&["a"]);
        request.topics.as_mut().expect("named").extend([by_id.clone(), by_id]);
        assert_eq!(asked(12, &request), Ok(Asked::Ids(vec![KafkaUuid(7)])));
        assert_eq!(asked(10, &request), Err(ErrorCode::InvalidRequest));
        let answer = refused(&request, ErrorCode::InvalidRequest);
        assert_eq!(answer.topics.len(), 3);
        assert_eq!(answer.topics[1].topic_id, Uuid::from_u128(7));
    }

    #[test]
    fn a_topic_with_neither_name_nor_id_is_refused() {
        let nothing = MetadataRequestTopic::default().with_name(None);
        let request = MetadataRequest::default().with_topics(Some(vec![nothing]));
        assert_eq!(asked(12, &request), Err(ErrorCode::InvalidRequest));
    }
}
