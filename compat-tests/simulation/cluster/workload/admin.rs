//! The administrator of a cluster: creates the topics, moves replicas, elects leaders, alters settings, creates and
//! deletes topics on the side.

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::CreatableTopic;

use crate::checkers::TOPICS;
use crate::checkers::topics::Created;
use crate::cluster::caller::Caller;
use crate::requests::{self, code, topic_name, version};
use crate::stage::note;

/// Errors of a controller that is busy, new, or cannot be reached.
const AGAIN: [i16; 3] = [code::REQUEST_TIMED_OUT, code::NOT_CONTROLLER, code::INVALID_REPLICATION_FACTOR];

/// Runs until the load is over.
pub async fn run(mut caller: Caller) {
    caller.stage.ledger().topics.create("__consumer_offsets");
    for (name, partitions) in TOPICS {
        while caller.stage.is_loading() && !create(&mut caller, name, partitions).await {
            caller.rest(50).await;
        }
    }
}

/// Creates a topic; true if it exists for certain.
async fn create(caller: &mut Caller, name: &'static str, partitions: i32) -> bool {
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
    let Some(topic) = named else { return false };
    learn(caller, name, Created { id: topic.topic_id, partitions: topic.partitions.len() as i32 });
    true
}
