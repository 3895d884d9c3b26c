//! DeleteTopics (20): deletes topics; their data goes in the background.
//!
//! v1-2: the same. v3+: deletion switched off is 73, before it was 42. v4: flexible. v5: error messages, quota errors.
//! v6: topics by name or by id (KIP-516).

use std::collections::BTreeMap;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use crate::api::translate::{message, topic_name};
use crate::api::{Context, Reply};
use crate::error::{ApiError, ErrorCode};
use crate::ids::TopicId;
use crate::metadata::ClusterImage;

/// From this version on a topic above the quota is refused (KIP-599).
const STRICT_SINCE: i16 = 5;

/// Asks the quorum to delete the topics and answers once they are out of the image.
pub async fn handle(ctx: &Context, request: DeleteTopicsRequest) -> Reply<DeleteTopicsResponse> {
    let services = &ctx.services;
    if !services.config.load().broker().delete_topic_enable {
        return Reply::Now(switched_off(ctx.request.version, &request));
    }
    let Targets { chosen, refused: mut results } = targets(&services.metadata.image(), &request);
    let mutations = ctx.mutations(STRICT_SINCE);
    if !chosen.is_empty() {
        let asked = services.metadata.delete_topics(chosen.keys().copied().collect(), mutations.quota());
        let outcomes = match ctx.within(request.timeout_ms, asked).await {
            Ok(outcomes) => outcomes,
            Err(why) => vec![Err(why); chosen.len()],
        };
        let deleted = chosen.iter().zip(outcomes);
        results.extend(deleted.map(|((id, name), outcome)| result(Some(name), *id, outcome.err().as_ref())));
    }
    let wait_ms = mutations.throttle(ctx);
    Reply::Now(DeleteTopicsResponse::default().with_responses(results).with_throttle_time_ms(wait_ms))
}

fn switched_off(version: i16, request: &DeleteTopicsRequest) -> DeleteTopicsResponse {
    let code = if version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
    let why = ApiError::from(code);
    let by_name = request.topic_names.iter().map(|name| result(Some(name), TopicId::ZERO, Some(&why)));
    let by_either = request
        .topics
        .iter()
        .map(|topic| result(topic.name.as_ref().map(|name| name.as_str()), topic.topic_id.into(), Some(&why)));
    DeleteTopicsResponse::default().with_responses(by_name.chain(by_either).collect())
}

/// What a request comes down to.
struct Targets {
    /// The topics to delete, with their names.
    chosen: BTreeMap<TopicId, String>,
    refused: Vec<DeletableTopicResult>,
}

/// Finds the topics of a request. Names and ids are counted first, because a duplicate refuses every mention.
fn targets(image: &ClusterImage, request: &DeleteTopicsRequest) -> Targets {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ids: BTreeMap<TopicId, usize> = BTreeMap::new();
    let mut found = Targets { chosen: BTreeMap::new(), refused: Vec::new() };
    for name in &request.topic_names {
        *names.entry(name).or_default() += 1;
    }
    for topic in &request.topics {
        let id = TopicId::from(topic.topic_id);
        match topic.name.as_ref().map(|name| name.as_str()) {
            None if id.is_zero() => found.refuse(None, id, "Neither topic name nor id were specified."),
            None => *ids.entry(id).or_default() += 1,
            Some(name) if id.is_zero() => *names.entry(name).or_default() += 1,
            name => found.refuse(name, id, "You may not specify both topic name and topic id."),
        }
    }
    for (id, times) in &ids {
        match image.topics.by_id(*id) {
            _ if *times > 1 => found.refuse(None, *id, "Duplicate topic id."),
            None => found.refused.push(result(None, *id, Some(&ErrorCode::UnknownTopicId.into()))),
            Some(topic) => drop(found.chosen.insert(*id, topic.name.to_string())),
        }
    }
    for (name, times) in names {
        match image.topics.by_name(name) {
            _ if times > 1 => found.refuse(Some(name), TopicId::ZERO, "Duplicate topic name."),
            None => {
                let why = ErrorCode::UnknownTopicOrPartition.into();
                found.refused.push(result(Some(name), TopicId::ZERO, Some(&why)));
            }
            Some(topic) if ids.contains_key(&topic.id) => {
                found.chosen.remove(&topic.id);
                let why = "The provided topic name maps to an ID that was already supplied.";
                found.refuse(Some(name), topic.id, why);
            }
            Some(topic) => drop(found.chosen.insert(topic.id, name.to_owned())),
        }
    }
    found
}

impl Targets {
    fn refuse(&mut self, name: Option<&str>, id: TopicId, why: &str) {
        self.refused.push(result(name, id, Some(&ApiError::new(ErrorCode::InvalidRequest, why))));
    }
}

fn result(name: Option<&str>, id: TopicId, why: Option<&ApiError>) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(name.map(topic_name))
        .with_topic_id(id.into())
        .with_error_code(why.map_or(ErrorCode::None, |why| why.code).code())
        .with_error_message(why.and_then(message))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    use uuid::Uuid;

    use super::*;

    /// Codes and messages of what is refused on a cluster without topics.
    fn refusals(topics: Vec<DeleteTopicState>) -> Vec<(i16, String)> {
        let request = DeleteTopicsRequest::default().with_topics(topics);
        let found = targets(&ClusterImage::default(), &request);
        assert!(found.chosen.is_empty());
        let row = |result: &DeletableTopicResult| {
            (result.error_code, result.error_message.as_deref().unwrap_or_default().to_owned())
        };
        found.refused.iter().map(row).collect()
    }

    fn state(name: Option<&str>, id: u128) -> DeleteTopicState {
        DeleteTopicState::default().with_name(name.map(topic_name)).with_topic_id(Uuid::from_u128(id))
    }

    fn row(code: i16, message: &str) -> (i16, String) {
        (code, message.to_owned())
    }

    #[test]
    fn a_topic_is_named_once_and_in_one_way() {
        assert_eq!(refusals(vec![state(None, 0)]), [row(42, "Neither topic name nor id were specified.")]);
        let both = "You may not specify both topic name and topic id.";
        assert_eq!(refusals(vec![state(Some("a"), 1)]), [row(42, both)]);
        assert_eq!(refusals(vec![state(Some("a"), 0); 3]), [row(42, "Duplicate topic name.")]);
        assert_eq!(refusals(vec![state(None, 1); 2]), [row(42, "Duplicate topic id.")]);
        assert_eq!(refusals(vec![state(Some("a"), 0), state(None, 1)]), [row(100, ""), row(3, "")]);
    }

    #[test]
    fn old_clients_do_not_know_that_deletion_can_be_off() {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("a")]);
        assert_eq!(switched_off(2, &request).responses[0].error_code, 42);
        assert_eq!(switched_off(3, &request).responses[0].error_code, 73);
    }
}
