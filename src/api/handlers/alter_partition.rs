//! AlterPartition (56): a leader proposes an ISR to the active controller (KIP-497).
//!
//! v2: topics by id. v3: every member with the broker epoch under which it fetched (KIP-903).

use kafka_protocol::messages::alter_partition_request::{PartitionData as Proposal, TopicData as Proposals};
use kafka_protocol::messages::alter_partition_response::{PartitionData, TopicData};
use kafka_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse, BrokerId as WireBrokerId};

use crate::api::translate::broker_ids;
use crate::api::{Context, Reply};
use crate::ids::{BrokerId, TopicId};
use crate::metadata::{AlterPartition, Altered};

/// In the place of an epoch: whoever sent it does not know.
const UNCHECKED: i64 = -1;

/// Asks the quorum, and answers once the ISRs are in the image.
pub async fn handle(ctx: &Context, request: AlterPartitionRequest) -> Reply<AlterPartitionResponse> {
    let (sender, epoch) = (BrokerId(request.broker_id.0), request.broker_epoch);
    let version = ctx.request.version;
    let proposals: Vec<AlterPartition> = request.topics.iter().flat_map(|topic| of_topic(version, topic)).collect();
    let outcome = ctx.services.metadata.on_alter_partitions(sender, epoch, proposals).await;
    let response = AlterPartitionResponse::default();
    Reply::Now(match outcome {
        Ok(altered) => response.with_topics(topics(&request.topics, altered)),
        Err(refused) => response.with_error_code(refused.code.code()),
    })
}

fn of_topic(version: i16, topic: &Proposals) -> impl Iterator<Item = AlterPartition> {
    let id: TopicId = topic.topic_id.into();
    topic.partitions.iter().map(move |partition| AlterPartition {
        topic: id,
        index: partition.partition_index,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        isr: members(version, partition),
        recovering: partition.leader_recovery_state == 1,
    })
}

fn members(version: i16, partition: &Proposal) -> Vec<(BrokerId, i64)> {
    if version < 3 {
        return partition.new_isr.iter().map(|id| (BrokerId(id.0), UNCHECKED)).collect();
    }
    let members = partition.new_isr_with_epochs.iter();
    members.map(|member| (BrokerId(member.broker_id.0), member.broker_epoch)).collect()
}

/// The outcomes in the shape of the request, in whose order they are.
fn topics(asked: &[Proposals], altered: Vec<Altered>) -> Vec<TopicData> {
    let mut altered = altered.into_iter();
    let of_topic = |topic: &Proposals| {
        let outcomes = topic.partitions.iter().zip(altered.by_ref());
        let partitions = outcomes.map(|(partition, outcome)| answer(partition.partition_index, outcome)).collect();
        TopicData::default().with_topic_id(topic.topic_id).with_partitions(partitions)
    };
    asked.iter().map(of_topic).collect()
}

fn answer(index: i32, outcome: Altered) -> PartitionData {
    let answer = PartitionData::default().with_partition_index(index);
    match outcome {
        Ok(altered) => answer
            .with_leader_id(WireBrokerId(altered.leader.map_or(-1, |id| id.0)))
            .with_leader_epoch(altered.leader_epoch)
            .with_isr(broker_ids(&altered.isr))
            .with_leader_recovery_state(i8::from(altered.recovering))
            .with_partition_epoch(altered.partition_epoch),
        Err(code) => answer.with_error_code(code.code()),
    }
}
