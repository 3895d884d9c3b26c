//! What this broker asks the active controller, wherever that is: here without a detour, elsewhere in Kafka's messages.
//!
//! Invariants: a call ends with its deadline; nothing is asked twice by itself. `NOT_CONTROLLER`: it had no effect, ask
//! again. `REQUEST_TIMED_OUT`: it may have an effect.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::{
    AllocateProducerIdsRequest, AlterPartitionRequest, AssignReplicasToDirsRequest, BrokerHeartbeatRequest,
    BrokerId as WireBrokerId, BrokerRegistrationRequest, CreateTopicsRequest, TopicName as WireTopicName,
    alter_partition_request, alter_partition_response, assign_replicas_to_dirs_request, broker_registration_request,
};
use kafka_protocol::protocol::{Request, StrBytes};
use parking_lot::Mutex;

use crate::env::Env;
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, KafkaUuid, PartitionIndex, ProducerId, TopicId};
use crate::metadata::brokers::{Endpoint, Registration};
use crate::metadata::controller::not_controller;
use crate::metadata::directories::DirectoryAssignment;
use crate::metadata::heartbeats::{Heartbeat, HeartbeatAnswer};
use crate::metadata::isr::{AlterPartition, Altered, AlteredPartition};
use crate::metadata::topics::{CreatedTopic, NewTopic};
use crate::metadata::{Metadata, MutationQuota};
use crate::peer::{Address, Peer, PeerFailed};
use crate::wire::bridge;

/// The longest that a controller may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Security protocols by Kafka's numbers (`SecurityProtocol`).
const PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// The Kafka name of a security protocol; `None` for a number nobody knows.
pub fn protocol_name(number: i16) -> Option<&'static str> {
    PROTOCOLS.get(usize::try_from(number).ok()?).copied()
}

fn protocol_number(name: &str) -> i16 {
    PROTOCOLS.iter().position(|known| *known == name).unwrap_or(0) as i16
}

/// A connection to the active controller, kept as long as it is the same one.
#[derive(Default)]
pub(super) struct Link(Mutex<Option<Peer>>);

impl Link {
    fn to(&self, env: &Env, address: Address, client_id: &str) -> Peer {
        let mut peer = self.0.lock();
        match &*peer {
            Some(known) if *known.address() == address => known.clone(),
            _ => peer.insert(Peer::new(env, address, client_id)).clone(),
        }
    }
}

/// The connections to the active controller. A heartbeat has its own: it must not wait behind anything.
#[derive(Default)]
pub(super) struct Links {
    heartbeats: Link,
    others: Link,
}

impl Metadata {
    /// Registers a broker; its epoch. `DUPLICATE_BROKER_REGISTRATION` while an earlier life of it has a session.
    pub async fn register_broker(&self, registration: Registration) -> Result<i64, ApiError> {
        if self.is_active() {
            return self.on_own_registration(registration).await;
        }
        let cluster_id = self.cluster_id().to_string();
        let request = registration_request(&registration, &cluster_id);
        let response = self.call(&self.links.others, 4, &request).await?;
        refused(response.error_code)?;
        Ok(response.broker_epoch)
    }

    /// Tells the controller that this broker lives, and hears what it is.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, ApiError> {
        if self.is_active() {
            return self.on_heartbeat(heartbeat, None).await;
        }
        let mut request = BrokerHeartbeatRequest::default()
            .with_broker_id(WireBrokerId(heartbeat.id.0))
            .with_broker_epoch(heartbeat.epoch)
            .with_current_metadata_offset(heartbeat.metadata_offset)
            .with_want_fence(heartbeat.want_fence)
            .with_want_shut_down(heartbeat.want_shut_down)
            .with_offline_log_dirs(heartbeat.offline_dirs.iter().map(|id| (*id).into()).collect());
        if let Some(ids) = &heartbeat.cordoned_dirs {
            bridge::put_cordoned_dirs(&mut request.unknown_tagged_fields, ids);
        }
        let response = self.call(&self.links.heartbeats, 2, &request).await?;
        refused(response.error_code)?;
        Ok(HeartbeatAnswer {
            caught_up: response.is_caught_up,
            fenced: response.is_fenced,
            shut_down: response.should_shut_down,
        })
    }

    /// Proposes ISRs of partitions that this broker leads; answers in the order of `changes`.
    pub async fn alter_partitions(&self, changes: Vec<AlterPartition>) -> Result<Vec<Altered>, ApiError> {
        let (sender, epoch) = (self.registration.id, self.broker_epoch());
        if self.is_active() {
            return self.on_alter_partitions(sender, epoch, changes).await;
        }
        let request = AlterPartitionRequest::default()
            .with_broker_id(WireBrokerId(sender.0))
            .with_broker_epoch(epoch)
            .with_topics(proposals(&changes));
        let response = self.call(&self.links.others, 3, &request).await?;
        refused(response.error_code)?;
        let mut answers: BTreeMap<(TopicId, PartitionIndex), Altered> = BTreeMap::new();
        for topic in response.topics {
            for partition in topic.partitions {
                answers.insert((topic.topic_id.into(), partition.partition_index), altered(&partition));
            }
        }
        let answer = |change: &AlterPartition| {
            answers.get(&(change.topic, change.index)).cloned().unwrap_or(Err(ErrorCode::UnknownServerError))
        };
        Ok(changes.iter().map(answer).collect())
    }

    /// Tells the controller where replicas of this broker are; answers in the order of `assignments`.
    pub async fn assign_directories(
        &self,
        assignments: Vec<DirectoryAssignment>,
    ) -> Result<Vec<Result<(), ErrorCode>>, ApiError> {
        let (broker, epoch) = (self.registration.id, self.broker_epoch());
        if self.is_active() {
            return self.on_assign_directories(broker, epoch, assignments).await;
        }
        let request = AssignReplicasToDirsRequest::default()
            .with_broker_id(WireBrokerId(broker.0))
            .with_broker_epoch(epoch)
            .with_directories(by_directory(&assignments));
        let response = self.call(&self.links.others, 0, &request).await?;
        refused(response.error_code)?;
        let mut answers: BTreeMap<(TopicId, PartitionIndex), ErrorCode> = BTreeMap::new();
        for topic in response.directories.into_iter().flat_map(|directory| directory.topics) {
            for partition in topic.partitions {
                let code = ErrorCode::from_code(partition.error_code);
                answers.insert((topic.topic_id.into(), partition.partition_index), code);
            }
        }
        let answer = |asked: &DirectoryAssignment| match answers.get(&(asked.topic, asked.index)) {
            Some(ErrorCode::None) => Ok(()),
            Some(code) => Err(*code),
            None => Err(ErrorCode::UnknownServerError),
        };
        Ok(assignments.iter().map(answer).collect())
    }

    /// Reserves a block of producer ids that nobody else gets.
    pub async fn allocate_producer_ids(&self) -> Result<Range<ProducerId>, ApiError> {
        let (broker, epoch) = (self.registration.id, self.broker_epoch());
        if self.is_active() {
            return self.on_allocate_producer_ids(broker, epoch).await;
        }
        let request =
            AllocateProducerIdsRequest::default().with_broker_id(WireBrokerId(broker.0)).with_broker_epoch(epoch);
        let response = self.call(&self.links.others, 0, &request).await?;
        refused(response.error_code)?;
        let (first, count) = (response.producer_id_start.0, i64::from(response.producer_id_len));
        match first.checked_add(count) {
            Some(end) if first >= 0 && count > 0 => Ok(first..end),
            _ => Err(ErrorCode::UnknownServerError.into()),
        }
    }

    /// Creates topics on this broker's own account, as far as `quota` goes; answers in the order of `topics`. Returns
    /// once this broker's image has those that were created.
    pub async fn create_own_topics(
        &self,
        topics: Vec<NewTopic>,
        quota: MutationQuota,
    ) -> Result<Vec<Result<CreatedTopic, ApiError>>, ApiError> {
        if self.is_active() {
            return self.create_topics(topics, false, quota).await;
        }
        for topic in &topics {
            quota.take(usize::try_from(topic.partitions).unwrap_or(1))?;
        }
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(PATIENCE.as_millis() as i32)
            .with_topics(topics.iter().map(creatable).collect());
        let response = self.call(&self.links.others, 7, &request).await?;
        let mut answers = Vec::with_capacity(topics.len());
        for topic in &topics {
            let result = response.topics.iter().find(|result| *result.name == *topic.name);
            let result = result.ok_or_else(|| ApiError::from(ErrorCode::UnknownServerError));
            answers.push(result.and_then(|result| {
                let message = result.error_message.as_deref().unwrap_or_default();
                let code = ErrorCode::from_code(result.error_code);
                if code.is_error() {
                    return Err(ApiError::new(code, message));
                }
                let (id, name) = (result.topic_id.into(), topic.name.as_str().into());
                let (partitions, replication_factor) = (result.num_partitions, result.replication_factor);
                Ok(CreatedTopic { id, name, partitions, replication_factor })
            }));
        }
        for created in answers.iter().flatten() {
            self.await_topic(created.id).await;
        }
        Ok(answers)
    }

    /// Waits for a topic to be in this broker's image, for no longer than a call may take.
    async fn await_topic(&self, id: TopicId) {
        let mut images = self.watch();
        let seen = images.wait_for(|image| image.topics.by_id(id).is_some());
        // Whoever asked looks for the topic anyway.
        let _ = self.env.timeout(PATIENCE, seen).await;
    }

    /// The cluster that this node belongs to.
    fn cluster_id(&self) -> KafkaUuid {
        let known = self.image().cluster_id;
        if known.is_zero() { self.cluster_id } else { known }
    }

    /// Asks the active controller. A call ends early when another one has become active: the answer of the one that was
    /// asked may never come.
    async fn call<Q: Request>(&self, link: &Link, version: i16, request: &Q) -> Result<Q::Response, ApiError> {
        let (node, address) = self.active_controller().ok_or_else(not_controller)?;
        let peer = link.to(&self.env, address, &format!("broker-{}-to-controller", self.registration.id));
        let mut images = self.watch();
        let asked = images.borrow_and_update().controller.filter(|active| active.node == node);
        let deposed = images.wait_for(|image| asked.is_some() && image.controller != asked);
        tokio::select! {
            biased;
            answer = peer.call(version, request, PATIENCE) => answer.map_err(|failed| match failed {
                PeerFailed::NotSent(why) => ApiError::new(ErrorCode::NotController, why),
                PeerFailed::Unanswered(why) => ApiError::new(ErrorCode::RequestTimedOut, why),
            }),
            _ = deposed => Err(ApiError::new(ErrorCode::RequestTimedOut, "another controller is active")),
        }
    }
}

fn refused(code: i16) -> Result<(), ApiError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(code.into()),
    }
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn registration_request(registration: &Registration, cluster_id: &str) -> BrokerRegistrationRequest {
    let listener = |endpoint: &Endpoint| {
        broker_registration_request::Listener::default()
            .with_name(text(&endpoint.listener))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
            .with_security_protocol(protocol_number(&endpoint.protocol))
    };
    let feature = |(name, (min, max)): (&String, &(i16, i16))| {
        broker_registration_request::Feature::default()
            .with_name(text(name))
            .with_min_supported_version(*min)
            .with_max_supported_version(*max)
    };
    BrokerRegistrationRequest::default()
        .with_broker_id(WireBrokerId(registration.id.0))
        .with_cluster_id(text(cluster_id))
        .with_incarnation_id(registration.incarnation.into())
        .with_listeners(registration.endpoints.iter().map(listener).collect())
        .with_features(registration.features.iter().map(feature).collect())
        .with_rack(registration.rack.as_deref().map(text))
        .with_log_dirs(registration.log_dirs.iter().map(|id| (*id).into()).collect())
        .with_previous_broker_epoch(registration.previous_epoch)
}

/// The proposals, those of one topic together.
fn proposals(changes: &[AlterPartition]) -> Vec<alter_partition_request::TopicData> {
    let mut topics: BTreeMap<TopicId, Vec<alter_partition_request::PartitionData>> = BTreeMap::new();
    for change in changes {
        let member = |(id, epoch): &(BrokerId, i64)| {
            alter_partition_request::BrokerState::default().with_broker_id(WireBrokerId(id.0)).with_broker_epoch(*epoch)
        };
        let partition = alter_partition_request::PartitionData::default()
            .with_partition_index(change.index)
            .with_leader_epoch(change.leader_epoch)
            .with_new_isr_with_epochs(change.isr.iter().map(member).collect())
            .with_leader_recovery_state(i8::from(change.recovering))
            .with_partition_epoch(change.partition_epoch);
        topics.entry(change.topic).or_default().push(partition);
    }
    let topic = |(id, partitions): (TopicId, _)| {
        alter_partition_request::TopicData::default().with_topic_id(id.into()).with_partitions(partitions)
    };
    topics.into_iter().map(topic).collect()
}

fn altered(partition: &alter_partition_response::PartitionData) -> Altered {
    let code = ErrorCode::from_code(partition.error_code);
    if code.is_error() {
        return Err(code);
    }
    Ok(AlteredPartition {
        leader: (partition.leader_id.0 >= 0).then_some(BrokerId(partition.leader_id.0)),
        leader_epoch: partition.leader_epoch,
        isr: partition.isr.iter().map(|id| BrokerId(id.0)).collect(),
        recovering: partition.leader_recovery_state == 1,
        partition_epoch: partition.partition_epoch,
    })
}

/// The assignments, those of one directory and topic together.
fn by_directory(assignments: &[DirectoryAssignment]) -> Vec<assign_replicas_to_dirs_request::DirectoryData> {
    use assign_replicas_to_dirs_request::{DirectoryData, PartitionData, TopicData};
    let mut directories: BTreeMap<KafkaUuid, BTreeMap<TopicId, Vec<PartitionData>>> = BTreeMap::new();
    for asked in assignments {
        let partition = PartitionData::default().with_partition_index(asked.index);
        directories.entry(asked.directory).or_default().entry(asked.topic).or_default().push(partition);
    }
    let topic =
        |(id, partitions): (TopicId, _)| TopicData::default().with_topic_id(id.into()).with_partitions(partitions);
    let directory = |(id, topics): (KafkaUuid, BTreeMap<TopicId, Vec<PartitionData>>)| {
        DirectoryData::default().with_id(id.into()).with_topics(topics.into_iter().map(topic).collect())
    };
    directories.into_iter().map(directory).collect()
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let assignment = |(index, replicas): &(PartitionIndex, Vec<BrokerId>)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(replicas.iter().map(|id| WireBrokerId(id.0)).collect())
    };
    let config = |(key, value): &(String, Option<String>)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(value.as_deref().map(text))
    };
    CreatableTopic::default()
        .with_name(WireTopicName(text(&topic.name)))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_assignments(topic.assignments.iter().map(assignment).collect())
        .with_configs(topic.configs.iter().map(config).collect())
}

#[cfg(test)]
mod tests;
