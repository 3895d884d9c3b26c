//! The cluster as one listener shows it: brokers with an address there, leaders that can be reached through it.
//!
//! Invariants: pure but for the draw in [`any_live_broker`]. A client must only ever see addresses of the listener it
//! came in by, so every function takes the listener's name; a broker without it is invisible there.

use std::sync::Arc;

use crate::env::Env;
use crate::error::ErrorCode;
use crate::ids::BrokerId;
use crate::metadata::{Broker, ClusterImage, Endpoint, PartitionRegistration};

/// The address of `broker` on `listener`, if it has one.
pub fn endpoint<'a>(broker: &'a Broker, listener: &str) -> Option<&'a Endpoint> {
    broker.endpoints.iter().find(|endpoint| endpoint.listener == listener)
}

/// Every broker with an address on `listener`, fenced ones too, in the order of their ids.
pub fn brokers<'a>(image: &'a ClusterImage, listener: &str) -> Vec<(&'a Arc<Broker>, &'a Endpoint)> {
    let on_listener = |broker: &'a Arc<Broker>| Some((broker, endpoint(broker, listener)?));
    image.brokers.iter().filter_map(on_listener).collect()
}

/// Some unfenced broker, drawn anew each time so that requests meant for the controller spread over the cluster: every
/// broker accepts them (`MetadataCache.getRandomAliveBrokerId`).
pub fn any_live_broker(image: &ClusterImage, env: &Env) -> Option<BrokerId> {
    let live: Vec<BrokerId> = image.brokers.iter().filter(|broker| !broker.fenced).map(|broker| broker.id).collect();
    live.get(env.random_below(live.len() as u64) as usize).copied()
}

/// How many brokers are unfenced.
pub fn live_brokers(image: &ClusterImage) -> usize {
    image.brokers.iter().filter(|broker| !broker.fenced).count()
}

/// The leader as `listener` shows it: `LeaderNotAvailable` if there is none, `ListenerNotFound` if it has no address
/// there.
pub fn visible_leader(
    image: &ClusterImage,
    partition: &PartitionRegistration,
    listener: &str,
) -> Result<BrokerId, ErrorCode> {
    let leader = partition.leader.ok_or(ErrorCode::LeaderNotAvailable)?;
    let broker = image.brokers.by_id(leader).ok_or(ErrorCode::LeaderNotAvailable)?;
    endpoint(broker, listener).map(|_| leader).ok_or(ErrorCode::ListenerNotFound)
}

/// True if `id` is registered, unfenced and has an address on `listener`.
pub fn is_reachable(image: &ClusterImage, id: BrokerId, listener: &str) -> bool {
    let broker = image.brokers.by_id(id);
    broker.is_some_and(|broker| !broker.fenced && endpoint(broker, listener).is_some())
}

/// The replicas of `partition` that cannot be reached through `listener` or lie in a directory that is offline, in
/// assignment order (`KRaftMetadataCache.isReplicaOffline`).
pub fn offline_replicas(image: &ClusterImage, partition: &PartitionRegistration, listener: &str) -> Vec<BrokerId> {
    let has_disk = |id: BrokerId| {
        let broker = image.brokers.by_id(id);
        broker.is_some_and(|broker| broker.has_online(partition.directory(id)))
    };
    let is_online = |id: BrokerId| is_reachable(image, id, listener) && has_disk(id);
    partition.replicas.iter().copied().filter(|id| !is_online(*id)).collect()
}
