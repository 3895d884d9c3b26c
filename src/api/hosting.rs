//! From the name of a partition in a request to the partition this broker hosts.
//!
//! Invariant: a partition that exists elsewhere is never "unknown". Clients drop what they know of an unknown topic,
//! but only refresh their metadata after `NotLeaderOrFollower` (`ReplicaManager.getPartitionOrError`).

use std::sync::Arc;

use crate::api::Services;
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicIdPartition};
use crate::metadata::ClusterImage;
use crate::partitions::Partition;

impl Services {
    /// The partition called `topic`-`index` in `image`, hosted here. `UnknownTopicOrPartition` if the image has none,
    /// `NotLeaderOrFollower` if it is not hosted here.
    pub fn hosted_by_name(
        &self,
        image: &ClusterImage,
        topic: &str,
        index: PartitionIndex,
    ) -> Result<Arc<Partition>, ErrorCode> {
        let topic = image.topics.by_name(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.partitions.hosted(TopicIdPartition { topic: topic.id, partition: index })
    }
}
