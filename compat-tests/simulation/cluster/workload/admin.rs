//! The administrator of a cluster: creates the topics, moves replicas, elects leaders, alters settings, deletes
//! records, creates and deletes topics on the side. It speaks to any broker, which forwards to the controller.

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    ElectLeadersRequest, IncrementalAlterConfigsRequest,
};
use rand::Rng;
use rand::seq::SliceRandom;

use crate::checkers::TOPICS;
use crate::checkers::log::Floor;
use crate::checkers::topics::Created;
use crate::cluster::caller::{Caller, ELSEWHERE};
use crate::requests::{self, code, text, topic_name, version};
use crate::stage::note;

/// Errors of a controller that is busy, new, cannot be reached, or has not enough brokers at the moment.
const AGAIN: [i16; 4] =
    [code::REQUEST_TIMED_OUT, code::INVALID_REPLICATION_FACTOR, code::INVALID_REPLICA_ASSIGNMENT, code::UNKNOWN_TOPIC];
/// Topics that live beside those with records.
const SIDE_TOPICS_MAX: usize = 4;
/// The type of a topic in requests about settings.
const TOPIC_RESOURCE: i8 = 2;

/// Runs until the load is over.
pub async fn run(mut caller: Caller) {
    caller.stage.ledger().topics.create("__consumer_offsets");
    for (name, partitions) in TOPICS {
        while caller.stage.is_loading() && !create(&mut caller, name, partitions).await {
            caller.rest(50).await;
        }
    }
    // Names are used again once their topics are gone for certain.
    let (mut made, mut side, mut free) = (0, Vec::new(), Vec::new());
    while caller.stage.is_loading() {
        match caller.rng.random_range(0..100) {
            0..60 if caller.has_fallen_silent() => delete_records(&mut caller).await,
            0..26 => reassign(&mut caller).await,
            26..42 => elect(&mut caller).await,
            42..54 => alter(&mut caller).await,
            54..74 => delete_records(&mut caller).await,
            74..90 if side.len() < SIDE_TOPICS_MAX => {
                let name = free.pop().unwrap_or_else(|| {
                    made += 1;
                    format!("side-{made}")
                });
                let partitions = caller.rng.random_range(1..3);
                if create(&mut caller, &name, partitions).await {
                    side.push(name);
                }
            }
            _ if !side.is_empty() => {
                let name = side.swap_remove(caller.rng.random_range(0..side.len()));
                if delete(&mut caller, &name).await {
                    free.push(name);
                }
            }
            _ => {}
        }
        caller.rest(1_500).await;
    }
}

/// Creates a topic; true if it exists for certain.
async fn create(caller: &mut Caller, name: &str, partitions: i32) -> bool {
    caller.stage.ledger().topics.create(name);
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_timeout_ms(2_000).with_topics(vec![topic]);
    let node = caller.somebody();
    let Some(answer) = caller.ask(node, version::CREATE_TOPICS, request).await else { return false };
    let Some(result) = answer.topics.into_iter().next() else { return false };
    match result.error_code {
        code::NONE => {
            note!(caller, "created {name} as {}", result.topic_id);
            learn(caller, name, Created { id: result.topic_id, partitions });
            true
        }
        // An earlier attempt was not answered and had its effect.
        code::TOPIC_EXISTS => adopt(caller, name).await,
        code => {
            caller.expect("CreateTopics", code, &AGAIN);
            false
        }
    }
}

fn learn(caller: &Caller, name: &str, created: Created) {
    let verdict = caller.stage.ledger().topics.created(name, created);
    caller.stage.judge(&caller.name, verdict);
}

/// Takes note of a topic that exists. A broker may not have heard of it yet.
async fn adopt(caller: &mut Caller, name: &str) -> bool {
    let node = caller.somebody();
    let Some(answer) = caller.ask(node, version::METADATA, requests::all_metadata()).await else { return false };
    let named = answer.topics.iter().find(|topic| topic.name.as_ref().is_some_and(|known| &***known == name));
    let Some(topic) = named.filter(|topic| !caller.stage.ledger().topics.is_deleted(topic.topic_id)) else {
        return false;
    };
    learn(caller, name, Created { id: topic.topic_id, partitions: topic.partitions.len() as i32 });
    true
}

/// Deletes a topic; true if it is gone for certain.
async fn delete(caller: &mut Caller, name: &str) -> bool {
    let Some(known) = caller.stage.ledger().topics.known(name) else { return false };
    caller.stage.ledger().topics.delete(name);
    let state = DeleteTopicState::default().with_topic_id(known.id);
    let request = DeleteTopicsRequest::default().with_timeout_ms(2_000).with_topics(vec![state]);
    let node = caller.somebody();
    let Some(answer) = caller.ask(node, version::DELETE_TOPICS, request).await else { return false };
    match answer.responses.first().map_or(-1, |result| result.error_code) {
        code::NONE => {
            note!(caller, "deleted {name}");
            caller.stage.ledger().topics.deleted(known.id);
            true
        }
        code => {
            caller.expect("DeleteTopics", code, &[&AGAIN[..], &[code::UNKNOWN_TOPIC_ID]].concat());
            false
        }
    }
}

/// Asks for other replicas of one partition, two or three of them in any order, or calls a move off.
async fn reassign(caller: &mut Caller) {
    let spot = caller.spot();
    let mut brokers: Vec<BrokerId> = caller.cluster.plan.brokers().map(|index| BrokerId(index as i32 + 1)).collect();
    brokers.shuffle(&mut caller.rng);
    brokers.truncate(if caller.rng.random_bool(0.3) { 2 } else { 3 });
    let replicas = (!caller.rng.random_bool(0.15)).then_some(brokers);
    note!(caller, "{spot:?} is to be on {replicas:?}");
    let partition = ReassignablePartition::default().with_partition_index(spot.1).with_replicas(replicas);
    let topic = ReassignableTopic::default().with_name(topic_name(spot.0)).with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default().with_timeout_ms(2_000).with_topics(vec![topic]);
    let node = caller.somebody();
    let Some(answer) = caller.ask(node, version::ALTER_PARTITION_REASSIGNMENTS, request).await else { return };
    let partition = answer.responses.first().and_then(|topic| topic.partitions.first());
    let code = partition.map_or(answer.error_code, |partition| partition.error_code);
    note!(caller, "{spot:?}: {code}");
    caller.expect("AlterPartitionReassignments", code, &[&AGAIN[..], &[code::NONE, code::NO_REASSIGNMENT]].concat());
}

/// Has the preferred leaders elected, everywhere.
async fn elect(caller: &mut Caller) {
    let request =
        ElectLeadersRequest::default().with_election_type(0).with_timeout_ms(2_000).with_topic_partitions(None);
    let node = caller.somebody();
    let Some(answer) = caller.ask(node, version::ELECT_LEADERS, request).await else { return };
    let partitions = answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
    let codes: Vec<i16> = partitions.map(|partition| partition.error_code).chain([answer.error_code]).collect();
    note!(caller, "elections: {codes:?}");
    let own = [code::NONE, code::PREFERRED_NOT_AVAILABLE, code::ELECTION_NOT_NEEDED];
    codes.iter().for_each(|code| caller.expect("ElectLeaders", *code, &[&AGAIN[..], &own].concat()));
}

/// Gives a topic a setting that no other request has given it.
async fn alter(caller: &mut Caller) {
    let topic = caller.spot().0;
    let value = caller.cluster.settings.borrow_mut().ask(topic);
    let config = AlterableConfig::default()
        .with_name(text("flush.messages"))
        .with_config_operation(0)
        .with_value(Some(text(&value.to_string())));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let node = caller.somebody();
    let Some(answer) = caller.ask(node, version::INCREMENTAL_ALTER_CONFIGS, request).await else { return };
    let code = answer.responses.first().map_or(-1, |result| result.error_code);
    note!(caller, "{topic} is to have {value}: {code}");
    match code {
        code::NONE => caller.cluster.settings.borrow_mut().answered(topic, value),
        code => caller.expect("IncrementalAlterConfigs", code, &AGAIN),
    }
}

async fn delete_records(caller: &mut Caller) {
    let spot = caller.spot_to_trim();
    let Some(leader) = caller.leader(spot).await else { return };
    let floor = caller.stage.ledger().log(spot).floor();
    let part = if caller.rng.random_bool(0.3) { 1 } else { 2 };
    let most = floor.log_start + (floor.high_watermark - floor.log_start) / part;
    let before = caller.rng.random_range(floor.log_start..=most);
    let in_sync = caller.cluster.lookout.borrow().in_sync(spot);
    caller.stage.ledger().log(spot).delete(before);
    let partition = DeleteRecordsPartition::default().with_partition_index(spot.1).with_offset(before);
    let topic = DeleteRecordsTopic::default().with_name(topic_name(spot.0)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_timeout_ms(2_000).with_topics(vec![topic]);
    let Some(answer) = caller.ask(leader, version::DELETE_RECORDS, request).await else { return };
    let Some(result) = answer.topics.first().and_then(|topic| topic.partitions.first()) else { return };
    if result.error_code != code::NONE {
        // A leader that is new does not know yet how much is committed.
        let own = [code::REQUEST_TIMED_OUT, code::OFFSET_OUT_OF_RANGE];
        return caller.expect("DeleteRecords", result.error_code, &[&ELSEWHERE[..], &own].concat());
    }
    note!(caller, "{spot:?} deleted below {before}, starts at {}", result.low_watermark);
    let verdict = caller.stage.ledger().log(spot).deleted(before, Floor::default(), result.low_watermark);
    let cluster = &caller.cluster;
    let verdict = verdict.and_then(|()| {
        let mut lookout = cluster.lookout.borrow_mut();
        // Whoever was fenced a moment ago is no longer waited for.
        lookout.look(cluster, false)?;
        lookout.deleted(cluster, (spot, leader), &in_sync, result.low_watermark)
    });
    caller.stage.judge(&caller.name, verdict.map_err(|sentence| format!("{spot:?}: {sentence}")));
}
