//! ListPartitionReassignments (46): the moves of replicas that are under way (KIP-455).
//!
//! v0: the only one. Null topics mean all; what is not under way, or not there, is left out.

use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::api::translate::{broker_ids, topic_name};
use crate::api::{Context, Reply};
use crate::ids::PartitionIndex;
use crate::metadata::{Topic, is_under_way};

/// Answers from the image.
pub async fn handle(
    ctx: &Context,
    request: ListPartitionReassignmentsRequest,
) -> Reply<ListPartitionReassignmentsResponse> {
    let image = ctx.services.metadata.image();
    let ongoing: Vec<_> = match request.topics {
        None => image.topics.iter().filter_map(|topic| ongoing(topic, 0..topic.partitions.len() as i32)).collect(),
        Some(topics) => {
            let named = topics.into_iter().filter_map(|asked| {
                ongoing(image.topics.by_name(asked.name.as_str())?, asked.partition_indexes.into_iter())
            });
            named.collect()
        }
    };
    Reply::Now(ListPartitionReassignmentsResponse::default().with_error_message(None).with_topics(ongoing))
}

fn ongoing(topic: &Topic, indexes: impl Iterator<Item = PartitionIndex>) -> Option<OngoingTopicReassignment> {
    let partition = |index: PartitionIndex| {
        let partition = topic.partition(index).filter(|partition| is_under_way(partition))?;
        let ongoing = OngoingPartitionReassignment::default()
            .with_partition_index(index)
            .with_replicas(broker_ids(&partition.replicas))
            .with_adding_replicas(broker_ids(&partition.adding))
            .with_removing_replicas(broker_ids(&partition.removing));
        Some(ongoing)
    };
    let partitions: Vec<OngoingPartitionReassignment> = indexes.filter_map(partition).collect();
    let ongoing = OngoingTopicReassignment::default().with_name(topic_name(&topic.name));
    (!partitions.is_empty()).then(|| ongoing.with_partitions(partitions))
}
