//! CreateTopics (19): creates topics, with partitions placed by the controller or by the caller.
//!
//! v2-3: the same. v4: -1 partitions and -1 replicas mean the broker's defaults (KIP-464); older versions are treated
//! alike. v5: flexible; the answer shows partitions, replicas and configs (KIP-525). v6: quota errors. v7: topic ids.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use crate::api::config_views::created;
use crate::api::translate::{message, our_broker_ids, topic_name};
use crate::api::{Context, Reply};
use crate::config::Config;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::{CreatedTopic, MutationQuota, NewTopic};

/// The topic that clusters keep their metadata in; nobody may create it (`Topic.CLUSTER_METADATA_TOPIC_NAME`).
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// From this version on a topic above the quota is refused (KIP-599).
const STRICT_SINCE: i16 = 6;

/// Asks the quorum to create the topics and answers once they are in the image.
pub async fn handle(ctx: &Context, request: CreateTopicsRequest) -> Reply<CreateTopicsResponse> {
    let duplicates = duplicates(&request.topics);
    let mut refused = Vec::new();
    let mut wanted = Vec::new();
    for topic in &request.topics {
        match prohibited(&topic.name) {
            _ if duplicates.contains(topic.name.as_str()) => {}
            Some(why) => refused.push(failure(&topic.name, &why)),
            None => wanted.push(new_topic(topic)),
        }
    }
    let why = ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
    refused.extend(duplicates.iter().map(|name| failure(name, &why)));
    let mutations = ctx.mutations(STRICT_SINCE);
    let mut results = create(ctx, wanted, &request, mutations.quota()).await;
    results.append(&mut refused);
    let wait_ms = mutations.throttle(ctx);
    Reply::Now(CreateTopicsResponse::default().with_topics(results).with_throttle_time_ms(wait_ms))
}

async fn create(
    ctx: &Context,
    wanted: Vec<NewTopic>,
    request: &CreateTopicsRequest,
    quota: MutationQuota,
) -> Vec<CreatableTopicResult> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let services = &ctx.services;
    let asked = services.metadata.create_topics(wanted.clone(), request.validate_only, quota);
    let config = services.config.load_full();
    let result = |(topic, outcome): (&NewTopic, Result<CreatedTopic, ApiError>)| match outcome {
        Ok(created) => success(ctx.request.version, &config, topic, &created),
        Err(why) => failure(&topic.name, &why),
    };
    match ctx.within(request.timeout_ms, asked).await {
        Ok(outcomes) => wanted.iter().zip(outcomes).map(result).collect(),
        Err(why) => wanted.iter().map(|topic| failure(&topic.name, &why)).collect(),
    }
}

/// The names that occur more than once: none of them is created.
fn duplicates(topics: &[CreatableTopic]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    topics.iter().map(|topic| topic.name.as_str()).filter(|name| !seen.insert(*name)).collect()
}

fn prohibited(name: &str) -> Option<ApiError> {
    let message = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
    (name == CLUSTER_METADATA).then(|| ApiError::new(ErrorCode::InvalidRequest, message))
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    let assignment = |given: &CreatableReplicaAssignment| (given.partition_index, our_broker_ids(&given.broker_ids));
    let configs = topic.configs.iter();
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(assignment).collect(),
        configs: configs.map(|config| (config.name.to_string(), config.value.as_deref().map(str::to_owned))).collect(),
    }
}

fn success(version: i16, config: &Config, topic: &NewTopic, made: &CreatedTopic) -> CreatableTopicResult {
    let result = CreatableTopicResult::default()
        .with_name(topic_name(&topic.name))
        .with_topic_id(made.id.into())
        .with_error_message(None);
    if version < 5 {
        return result;
    }
    let overrides: BTreeMap<String, String> =
        topic.configs.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect();
    let mut settings: Vec<_> = config.describe_topic(&overrides).iter().map(created).collect();
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    result
        .with_num_partitions(made.partitions)
        .with_replication_factor(made.replication_factor)
        .with_configs(Some(settings))
}

fn failure(name: &str, why: &ApiError) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic_name(name))
        .with_error_code(why.code.code())
        .with_error_message(message(why))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::BrokerId as WireBrokerId;
    use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::ids::BrokerId;

    fn named(name: &str) -> CreatableTopic {
        CreatableTopic::default().with_name(topic_name(name))
    }

    #[test]
    fn a_name_given_twice_is_nobodys() {
        let topics = [named("a"), named("b"), named("a"), named("a")];
        assert_eq!(duplicates(&topics), BTreeSet::from(["a"]));
    }

    #[test]
    fn the_metadata_topic_is_out_of_reach() {
        let why = prohibited("__cluster_metadata").expect("prohibited");
        assert_eq!(why.message, "Creation of internal topic __cluster_metadata is prohibited.");
        assert!(prohibited("__consumer_offsets").is_none());
    }

    #[test]
    fn nulls_and_assignments_reach_the_controller_as_they_came() {
        let assignment = CreatableReplicaAssignment::default()
            .with_partition_index(0)
            .with_broker_ids(vec![WireBrokerId(2), WireBrokerId(1)]);
        let name = StrBytes::from_static_str("retention.ms");
        let null = CreatableTopicConfig::default().with_name(name).with_value(None);
        let asked = named("t")
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment])
            .with_configs(vec![null]);
        let topic = new_topic(&asked);
        assert_eq!((topic.partitions, topic.replication_factor), (-1, -1));
        assert_eq!(topic.assignments, [(0, vec![BrokerId(2), BrokerId(1)])]);
        assert_eq!(topic.configs, [("retention.ms".to_owned(), None::<String>)]);
    }
}
