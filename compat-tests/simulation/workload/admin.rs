//! The administrator: creates the topics, then looks at the metadata, creates and deletes topics on the side,
//! deletes records, and draws producer ids.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, InitProducerIdRequest, MetadataResponse,
};
use rand::Rng;

use super::{Actor, PATIENCE};
use crate::checkers::log::Floor;
use crate::checkers::topics::Created;
use crate::checkers::{Spot, TOPICS, spots};
use crate::client::Client;
use crate::requests::{self, code, text, topic_name, version};
use crate::stage::note;

/// Topics that live beside those with records.
const SIDE_TOPICS_MAX: usize = 8;

/// Runs until the load is over. `events` takes the time of the append if `append_time`.
pub async fn run(mut actor: Actor, append_time: bool) {
    actor.stage.ledger().topics.create("__consumer_offsets");
    for (name, partitions) in TOPICS {
        let appends = append_time && name == "events";
        let settings = appends.then_some(("message.timestamp.type", "LogAppendTime"));
        while actor.stage.is_loading() && !create(&mut actor, name, partitions, settings).await {
            actor.rest(30).await;
        }
    }
    let (mut made, mut side) = (0, Vec::new());
    while actor.stage.is_loading() {
        match actor.rng.random_range(0..100) {
            0..40 => {
                look(&mut actor.client).await;
            }
            40..55 if side.len() < SIDE_TOPICS_MAX => {
                made += 1;
                let (name, partitions) = (format!("side-{made}"), actor.rng.random_range(1..4));
                if create(&mut actor, &name, partitions, None).await {
                    side.push(name);
                }
            }
            55..65 if !side.is_empty() => {
                let name = side.swap_remove(actor.rng.random_range(0..side.len()));
                delete(&mut actor, &name).await;
            }
            65..80 => delete_records(&mut actor).await,
            _ => draw_producer_id(&mut actor).await,
        }
        actor.rest(300).await;
    }
}

/// Creates a topic; true if it exists for certain.
async fn create(actor: &mut Actor, name: &str, partitions: i32, setting: Option<(&str, &str)>) -> bool {
    actor.stage.ledger().topics.create(name);
    let config = |(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)));
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(setting.map(config).into_iter().collect());
    let request = CreateTopicsRequest::default().with_timeout_ms(2_000).with_topics(vec![topic]);
    let Some(answer) = actor.client.ask(version::CREATE_TOPICS, request, PATIENCE).await else { return false };
    let Some(result) = answer.topics.into_iter().next() else { return false };
    match result.error_code {
        code::NONE => {
            note!(actor.client, "created {name} as {}", result.topic_id);
            let created = Created { id: result.topic_id, partitions };
            let verdict = actor.stage.ledger().topics.created(name, created);
            actor.stage.judge(&actor.client.name, verdict);
            true
        }
        // An earlier attempt was not answered and had its effect.
        code::TOPIC_EXISTS => adopt(actor, name).await,
        code => {
            actor.expect("CreateTopics", code, &[code::REQUEST_TIMED_OUT, code::NOT_CONTROLLER]);
            false
        }
    }
}

/// Takes note of a topic that exists.
async fn adopt(actor: &mut Actor, name: &str) -> bool {
    let Some(listed) = look(&mut actor.client).await else { return false };
    match listed.get(name) {
        Some(created) => {
            let verdict = actor.stage.ledger().topics.created(name, *created);
            actor.stage.judge(&actor.client.name, verdict);
            true
        }
        None => {
            actor.stage.judge(&actor.client.name, Err(format!("topic {name} exists and is not in the metadata")));
            false
        }
    }
}

/// Asks for all metadata, has it judged, and returns the topics.
pub async fn look(client: &mut Client) -> Option<BTreeMap<String, Created>> {
    let (certain, floors) = {
        let ledger = client.stage.ledger();
        let floors: BTreeMap<Spot, Floor> = ledger.logs.iter().map(|(spot, log)| (*spot, log.floor())).collect();
        (ledger.topics.certain(), floors)
    };
    let answer = client.ask(version::METADATA, requests::all_metadata(), PATIENCE).await?;
    let mut listed = BTreeMap::new();
    for topic in &answer.topics {
        let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
        listed.insert(name, Created { id: topic.topic_id, partitions: topic.partitions.len() as i32 });
    }
    note!(client, "sees {} topics", listed.len());
    let mut verdict = client.stage.ledger().topics.listed(&certain, &listed);
    for (spot, epoch) in leader_epochs(&answer) {
        verdict = verdict.and(client.stage.ledger().log(spot).at_leader_epoch(floors[&spot], epoch));
    }
    client.stage.judge(&client.name, verdict);
    Some(listed)
}

/// The leader epoch of every partition with records.
pub fn leader_epochs(answer: &MetadataResponse) -> BTreeMap<Spot, i32> {
    let mut epochs = BTreeMap::new();
    for spot in spots() {
        let mut topics = answer.topics.iter();
        let topic = topics.find(|topic| topic.name.as_ref().is_some_and(|name| &***name == spot.0));
        let mut partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
        if let Some(partition) = partitions.find(|partition| partition.partition_index == spot.1) {
            epochs.insert(spot, partition.leader_epoch);
        }
    }
    epochs
}

async fn delete(actor: &mut Actor, name: &str) {
    let Some(known) = actor.stage.ledger().topics.known(name) else { return };
    actor.stage.ledger().topics.delete(name);
    for _ in 0..3 {
        let state = DeleteTopicState::default().with_name(Some(topic_name(name)));
        let request = DeleteTopicsRequest::default().with_timeout_ms(2_000).with_topics(vec![state]);
        let Some(answer) = actor.client.ask(version::DELETE_TOPICS, request, PATIENCE).await else { continue };
        match answer.responses.first().map_or(-1, |result| result.error_code) {
            // The second: an earlier attempt was not answered and had its effect.
            code::NONE | code::UNKNOWN_TOPIC => {
                note!(actor.client, "deleted {name}");
                return actor.stage.ledger().topics.deleted(known.id);
            }
            code => actor.expect("DeleteTopics", code, &[code::REQUEST_TIMED_OUT, code::NOT_CONTROLLER]),
        }
    }
}

async fn delete_records(actor: &mut Actor) {
    let spot = actor.spot();
    let floor = actor.stage.ledger().log(spot).floor();
    let most = floor.log_start + (floor.high_watermark - floor.log_start) / 2;
    let before = actor.rng.random_range(floor.log_start..=most);
    actor.stage.ledger().log(spot).delete(before);
    let partition = DeleteRecordsPartition::default().with_partition_index(spot.1).with_offset(before);
    let topic = DeleteRecordsTopic::default().with_name(topic_name(spot.0)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_timeout_ms(2_000).with_topics(vec![topic]);
    let Some(answer) = actor.client.ask(version::DELETE_RECORDS, request, PATIENCE).await else { return };
    let Some(result) = answer.topics.first().and_then(|topic| topic.partitions.first()) else { return };
    if result.error_code != code::NONE {
        return actor.expect("DeleteRecords", result.error_code, &[code::NOT_LEADER, code::REQUEST_TIMED_OUT]);
    }
    note!(actor.client, "{spot:?} deleted below {before}, starts at {}", result.low_watermark);
    let verdict = actor.stage.ledger().log(spot).deleted(before, floor, result.low_watermark);
    actor.stage.judge(&actor.client.name, verdict.map_err(|sentence| format!("{spot:?}: {sentence}")));
}

async fn draw_producer_id(actor: &mut Actor) {
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let Some(answer) = actor.client.ask(version::INIT_PRODUCER_ID, request, PATIENCE).await else { return };
    if answer.error_code != code::NONE {
        let allowed = [code::COORDINATOR_LOADING, code::REQUEST_TIMED_OUT];
        return actor.expect("InitProducerId", answer.error_code, &allowed);
    }
    let verdict = actor.stage.ledger().producer_id(answer.producer_id.0);
    actor.stage.judge(&actor.client.name, verdict);
}
