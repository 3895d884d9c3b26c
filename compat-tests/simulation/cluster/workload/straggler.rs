//! What a leader proposed to the controller, once more and late: a request may be under way for long, while the leader
//! has given up waiting, asked again, and gone on.

use kafka_protocol::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use kafka_protocol::messages::{AlterPartitionRequest, BrokerId};
use rand::Rng;

use crate::client::Client;
use crate::cluster::caller::Caller;
use crate::cluster::lookout::Proposal;
use crate::cluster::plan::NODES;
use crate::requests::{code, version};
use crate::stage::note;
use crate::workload::PATIENCE;

/// Where controllers listen.
const PORT: u16 = 9093;

/// Runs until the load is over.
pub async fn run(mut caller: Caller) {
    while caller.stage.is_loading() {
        caller.rest(1_500).await;
        let is_active =
            |node: &usize| caller.cluster.nodes[*node].services().is_some_and(|services| services.metadata.is_active());
        let Some(node) = (0..caller.cluster.nodes.len()).find(is_active) else { continue };
        let outdated = caller.cluster.lookout.borrow().outdated_proposals();
        if outdated.is_empty() {
            continue;
        }
        let proposal = &outdated[caller.rng.random_range(0..outdated.len())];
        let mut client = Client::of(&caller.name, &caller.stage, (NODES[node], PORT));
        let Some(answer) = client.ask(version::ALTER_PARTITION, request(proposal), PATIENCE).await else { continue };
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
        let code = partition.map_or(answer.error_code, |partition| partition.error_code);
        note!(caller, "{proposal:?} is late: {code}");
        if code == code::NONE {
            let verdict = Err(format!("a proposal that was out of date was accepted: {proposal:?}"));
            caller.stage.judge(&caller.name, verdict);
        }
    }
}

fn request(proposal: &Proposal) -> AlterPartitionRequest {
    let Proposal { sender: (sender, epoch), partition, asked } = proposal;
    let member = |(id, epoch): &(ottla::ids::BrokerId, i64)| {
        BrokerState::default().with_broker_id(BrokerId(id.0)).with_broker_epoch(*epoch)
    };
    let data = PartitionData::default()
        .with_partition_index(partition.partition)
        .with_leader_epoch(asked.leader_epoch)
        .with_new_isr_with_epochs(asked.isr.iter().map(member).collect())
        .with_partition_epoch(asked.partition_epoch);
    let topic = TopicData::default().with_topic_id(partition.topic.into()).with_partitions(vec![data]);
    AlterPartitionRequest::default()
        .with_broker_id(BrokerId(sender.0))
        .with_broker_epoch(*epoch)
        .with_topics(vec![topic])
}
