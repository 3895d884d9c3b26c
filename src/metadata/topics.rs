//! Topics and partitions: the section of the image, its replay, and the decisions to create, delete and grow.
//!
//! Invariants: a topic's partitions are numbered from 0 without gaps; `names` and `by_name` hold the same topics; no
//! decision looks at a clock or draws a number: ids and seeds come as arguments. Sentences are Kafka's
//! (`ReplicationControlManager`), because the tools print them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, PartitionIndex, TopicId, TopicName, check_topic_name};
use crate::metadata::image::{ClusterImage, Misfit};
use crate::metadata::partition::directory::UNASSIGNED;
use crate::metadata::partition::{PartitionChange, PartitionRegistration};
use crate::metadata::placement;
use crate::metadata::record::MetadataRecord;
use crate::metadata::rules::Rules;
use crate::metadata::settings::ResourceKind;

/// Most partitions that one request may create (`ReplicationControlManager.MAX_PARTITIONS_PER_BATCH`).
pub const PARTITIONS_PER_REQUEST_MAX: i64 = 10_000;

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    /// By partition index.
    pub partitions: Vec<PartitionRegistration>,
}

impl Topic {
    /// The partition with this index.
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionRegistration> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// How topics differ from those of an earlier image.
#[derive(Default, Debug)]
pub struct TopicChanges {
    /// New ones, and those of which a partition is different, as they are now.
    pub changed: Vec<Arc<Topic>>,
    /// As they were. One whose name has a new id is gone, and the new one has changed.
    pub gone: Vec<Arc<Topic>>,
}

/// Every topic of the cluster.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Topics {
    by_name: OrdMap<TopicName, Arc<Topic>>,
    names: OrdMap<TopicId, TopicName>,
    /// Names with `.` or `_`, under the form in which metrics would confuse them.
    lookalikes: OrdMap<TopicName, OrdSet<TopicName>>,
    partitions: usize,
}

impl Topics {
    pub fn by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub fn by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_name.get(self.names.get(&id)?)
    }

    /// Every topic, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// The topics whose names come at or after `name`, in the order of names.
    pub fn iter_from<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<Topic>> + use<'a> {
        self.by_name
            .range::<_, str>((std::ops::Bound::Included(name), std::ops::Bound::Unbounded))
            .map(|(_, topic)| topic)
    }

    /// What is different from an earlier image. What both share is passed over: the time goes by the changes.
    pub fn changes_since(&self, before: &Topics) -> TopicChanges {
        let mut changes = TopicChanges::default();
        for change in before.by_name.diff(&self.by_name) {
            match change {
                DiffItem::Add(_, topic) => changes.changed.push(topic.clone()),
                DiffItem::Remove(_, topic) => changes.gone.push(topic.clone()),
                DiffItem::Update { old: (_, old), new: (_, new) } => {
                    if old.id != new.id {
                        changes.gone.push(old.clone());
                    }
                    changes.changed.push(new.clone());
                }
            }
        }
        changes
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Partitions of all topics together.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    pub(super) fn add(&mut self, id: TopicId, name: &str) -> Result<(), Misfit> {
        if self.by_name.contains_key(name) || self.names.contains_key(&id) {
            return Err(Misfit(format!("topic {name} with id {id} exists already")));
        }
        let name: TopicName = name.into();
        let topic = Arc::new(Topic { id, name: name.clone(), partitions: Vec::new() });
        self.by_name.insert(name.clone(), topic);
        self.names.insert(id, name.clone());
        if let Some(form) = lookalike_form(&name) {
            self.lookalikes.entry(form.into()).or_default().insert(name);
        }
        Ok(())
    }

    /// Removes a topic and returns its name.
    pub(super) fn remove(&mut self, id: TopicId) -> Result<TopicName, Misfit> {
        let topic = self.names.remove(&id).and_then(|name| self.by_name.remove(&name)).ok_or_else(|| unknown(id))?;
        self.partitions -= topic.partitions.len();
        if let Some(form) = lookalike_form(&topic.name)
            && let Some(group) = self.lookalikes.get_mut(form.as_str())
        {
            group.remove(&topic.name);
            if group.is_empty() {
                self.lookalikes.remove(form.as_str());
            }
        }
        Ok(topic.name.clone())
    }

    pub(super) fn add_partition(
        &mut self,
        id: TopicId,
        index: PartitionIndex,
        partition: PartitionRegistration,
    ) -> Result<(), Misfit> {
        let topic = self.topic_mut(id)?;
        if usize::try_from(index) != Ok(topic.partitions.len()) {
            return Err(Misfit(format!("partition {index} of {} does not follow its last one", topic.name)));
        }
        topic.partitions.push(partition);
        self.partitions += 1;
        Ok(())
    }

    pub(super) fn change_partition(
        &mut self,
        id: TopicId,
        index: PartitionIndex,
        change: &PartitionChange,
    ) -> Result<(), Misfit> {
        let topic = self.topic_mut(id)?;
        let partition = usize::try_from(index).ok().and_then(|index| topic.partitions.get_mut(index));
        partition.ok_or_else(|| Misfit(format!("partition {index} of {id} does not exist")))?.apply(change);
        Ok(())
    }

    /// Forgets the eligible leader replicas of one topic, or of all. Where the ISR is empty they stay: nobody leads, so
    /// nothing was committed without them, and nobody else is known to have everything.
    pub(super) fn clear_elr(&mut self, topic: Option<TopicId>) -> Result<(), Misfit> {
        let has_some = |partition: &PartitionRegistration| !partition.isr.is_empty() && !partition.elr.is_empty();
        let of_all = || self.iter().filter(|topic| topic.partitions.iter().any(has_some)).map(|topic| topic.id);
        let ids: Vec<TopicId> = topic.map_or_else(|| of_all().collect(), |id| vec![id]);
        let cleared = PartitionChange { elr: Some(Vec::new()), ..PartitionChange::default() };
        for id in ids {
            for partition in self.topic_mut(id)?.partitions.iter_mut().filter(|partition| has_some(partition)) {
                partition.apply(&cleared);
            }
        }
        Ok(())
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic, Misfit> {
        let topic = self.names.get(&id).and_then(|name| self.by_name.get_mut(name));
        topic.map(Arc::make_mut).ok_or_else(|| unknown(id))
    }

    /// The records that build this section from nothing.
    pub(super) fn records(&self) -> impl Iterator<Item = MetadataRecord> {
        self.iter().flat_map(|topic| {
            let head = MetadataRecord::Topic { id: topic.id, name: topic.name.to_string() };
            let partitions =
                topic.partitions.iter().enumerate().map(|(index, registration)| MetadataRecord::Partition {
                    topic: topic.id,
                    index: index as PartitionIndex,
                    registration: registration.clone(),
                });
            std::iter::once(head).chain(partitions)
        })
    }
}

fn unknown(id: TopicId) -> Misfit {
    Misfit(format!("topic id {id} does not exist"))
}

/// The form that names with `.` and `_` share in metrics; `None` if the name has neither.
fn lookalike_form(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

/// Partitions and replication factor of topics that ask for -1: `num.partitions`, `default.replication.factor`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicDefaults {
    pub partitions: i32,
    pub replication_factor: i16,
}

/// A topic to create, as CreateTopics asks for it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewTopic {
    pub name: String,
    /// -1: the default, or the number of assignments.
    pub partitions: i32,
    /// -1: the default, or as assigned.
    pub replication_factor: i16,
    /// Replicas by partition index; empty if the controller places them.
    pub assignments: Vec<(PartitionIndex, Vec<BrokerId>)>,
    /// A value that is absent is refused, as Kafka does.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was created, or would be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    pub id: TopicId,
    pub name: TopicName,
    pub partitions: i32,
    pub replication_factor: i16,
}

/// A topic to grow, as CreatePartitions asks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Growth {
    pub topic: String,
    /// Partitions the topic shall have in the end.
    pub count: i32,
    /// Replicas of the new partitions, if the client chose them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// Refuses a CreateTopics request as a whole if it asks for too many partitions.
pub fn check_total<'a>(topics: impl Iterator<Item = &'a NewTopic>, defaults: TopicDefaults) -> Result<(), ApiError> {
    let wanted = |topic: &NewTopic| match topic.partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len() as i64,
        -1 => i64::from(defaults.partitions),
        count => i64::from(count.max(0)),
    };
    check_count(topics.map(wanted).sum())
}

fn check_count(partitions: i64) -> Result<(), ApiError> {
    if partitions > PARTITIONS_PER_REQUEST_MAX {
        let message = "Excessively large number of partitions per request.";
        return Err(ApiError::new(ErrorCode::PolicyViolation, message));
    }
    Ok(())
}

/// Decides to create one topic with the id `id`; `seed` chooses the first leader.
pub fn decide_create(
    image: &ClusterImage,
    topic: &NewTopic,
    id: TopicId,
    seed: u64,
    rules: &Rules,
) -> Result<(Vec<MetadataRecord>, CreatedTopic), ApiError> {
    check_new_name(image, &topic.name)?;
    let configs = checked_configs(topic, rules)?;
    let replicas = if topic.assignments.is_empty() {
        placed_replicas(image, topic, seed, rules.topic_defaults)?
    } else {
        assigned_replicas(image, topic)?
    };
    let created = CreatedTopic {
        id,
        name: topic.name.as_str().into(),
        partitions: replicas.len() as i32,
        replication_factor: replicas.first().map_or(0, |replicas| replicas.len() as i16),
    };
    let mut records = Vec::with_capacity(1 + configs.len() + replicas.len());
    records.push(MetadataRecord::Topic { id, name: topic.name.clone() });
    records.extend(configs.into_iter().map(|(key, value)| MetadataRecord::Config {
        kind: ResourceKind::Topic,
        name: topic.name.clone(),
        key,
        value: Some(value),
    }));
    let refusal = if topic.assignments.is_empty() { fenced_placement } else { fenced_assignment };
    for (index, replicas) in replicas.into_iter().enumerate() {
        records.push(new_partition(image, id, index as PartitionIndex, replicas, refusal)?);
    }
    Ok((records, created))
}

fn check_new_name(image: &ClusterImage, name: &str) -> Result<(), ApiError> {
    if let Err(why) = check_topic_name(name) {
        return Err(ApiError::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}")));
    }
    if image.topics.by_name(name).is_some() {
        return Err(ApiError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    let form = lookalike_form(name).unwrap_or_default();
    match image.topics.lookalikes.get(form.as_str()).and_then(OrdSet::get_min) {
        None => Ok(()),
        Some(other) => {
            let message = format!("Topic '{name}' collides with existing topic: {other}");
            Err(ApiError::new(ErrorCode::InvalidTopicException, message))
        }
    }
}

fn checked_configs(topic: &NewTopic, rules: &Rules) -> Result<BTreeMap<String, String>, ApiError> {
    let absent: Vec<&str> =
        topic.configs.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.as_str()).collect();
    if !absent.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", absent.join(","));
        return Err(ApiError::new(ErrorCode::InvalidConfig, message));
    }
    let configs: BTreeMap<String, String> =
        topic.configs.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect();
    if !configs.is_empty() {
        rules.check(ResourceKind::Topic, &topic.name, &configs)?;
    }
    Ok(configs)
}

fn placed_replicas(
    image: &ClusterImage,
    topic: &NewTopic,
    seed: u64,
    defaults: TopicDefaults,
) -> Result<Vec<Vec<BrokerId>>, ApiError> {
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
    }
    if topic.partitions < -1 || topic.partitions == 0 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    }
    let partitions = if topic.partitions == -1 { defaults.partitions } else { topic.partitions };
    let factor = if topic.replication_factor == -1 { defaults.replication_factor } else { topic.replication_factor };
    placement::place(&image.brokers, 0..partitions, factor, seed).map_err(|why| {
        let message = format!("Unable to replicate the partition {factor} time(s): {why}");
        ApiError::new(ErrorCode::InvalidReplicationFactor, message)
    })
}

fn assigned_replicas(image: &ClusterImage, topic: &NewTopic) -> Result<Vec<Vec<BrokerId>>, ApiError> {
    let refuse = |what: &str| {
        let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Err(ApiError::new(ErrorCode::InvalidRequest, message))
    };
    if topic.replication_factor != -1 {
        return refuse("replication factor");
    }
    if topic.partitions != -1 {
        return refuse("numPartitions");
    }
    let mut by_index = BTreeMap::new();
    let mut factor = None;
    for (index, replicas) in &topic.assignments {
        if by_index.contains_key(index) {
            return Err(bad_assignment(format!("Found multiple manual partition assignments for partition {index}")));
        }
        check_assignment(image, replicas, factor)?;
        factor = Some(replicas.len());
        by_index.insert(*index, replicas.clone());
    }
    if by_index.keys().copied().ne(0..by_index.len() as PartitionIndex) {
        return Err(bad_assignment("partitions should be a consecutive 0-based integer sequence".into()));
    }
    Ok(by_index.into_values().collect())
}

pub(super) fn check_assignment(
    image: &ClusterImage,
    replicas: &[BrokerId],
    factor: Option<usize>,
) -> Result<(), ApiError> {
    let refuse = |why: String| Err(bad_assignment(format!("The manual partition assignment includes {why}")));
    if replicas.is_empty() {
        return refuse("an empty replica list.".into());
    }
    let mut seen = BTreeSet::new();
    for id in replicas {
        let Some(broker) = image.brokers.by_id(*id) else {
            return refuse(format!("broker {id}, but no such broker is registered."));
        };
        if !broker.takes_partitions() {
            return refuse(format!("broker {id}, but all its log directories are cordoned."));
        }
        if !seen.insert(id) {
            return refuse(format!("the broker {id} more than once."));
        }
    }
    match factor {
        Some(factor) if factor != replicas.len() => refuse(format!(
            "a partition with {} replica(s), but this is not consistent with previous partitions, which have {factor} \
             replica(s).",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

fn bad_assignment(message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidReplicaAssignment, message)
}

/// What to say when every chosen replica of a partition is fenced.
type FencedRefusal = fn(PartitionIndex, usize) -> ApiError;

fn fenced_assignment(index: PartitionIndex, _factor: usize) -> ApiError {
    bad_assignment(format!(
        "All brokers specified in the manual partition assignment for partition {index} are fenced or in controlled \
         shutdown."
    ))
}

fn fenced_placement(_index: PartitionIndex, factor: usize) -> ApiError {
    let message = format!(
        "Unable to replicate the partition {factor} time(s): All brokers are currently fenced or in controlled \
         shutdown."
    );
    ApiError::new(ErrorCode::InvalidReplicationFactor, message)
}

fn new_partition(
    image: &ClusterImage,
    topic: TopicId,
    index: PartitionIndex,
    replicas: Vec<BrokerId>,
    refusal: FencedRefusal,
) -> Result<MetadataRecord, ApiError> {
    let isr: Vec<BrokerId> = replicas.iter().copied().filter(|id| image.brokers.is_active(*id)).collect();
    let Some(leader) = isr.first().copied() else { return Err(refusal(index, replicas.len())) };
    let directories = replicas.iter().map(|id| image.brokers.by_id(*id).map_or(UNASSIGNED, |b| b.default_directory()));
    let directories = directories.collect();
    let registration = PartitionRegistration { replicas, directories, isr, leader: Some(leader), ..Default::default() };
    Ok(MetadataRecord::Partition { topic, index, registration })
}

/// Decides to delete the topic with this id.
pub fn decide_delete(image: &ClusterImage, id: TopicId) -> Result<Vec<MetadataRecord>, ApiError> {
    if image.topics.by_id(id).is_none() {
        return Err(ApiError::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID."));
    }
    Ok(vec![MetadataRecord::RemoveTopic { id }])
}

/// Refuses a CreatePartitions request as a whole if it asks for too many partitions.
pub fn check_growth_total(image: &ClusterImage, growths: &[Growth]) -> Result<(), ApiError> {
    let wanted = |growth: &Growth| {
        let current = image.topics.by_name(&growth.topic).map_or(0, |topic| topic.partitions.len() as i64);
        (i64::from(growth.count) - current).max(0)
    };
    check_count(growths.iter().map(wanted).sum())
}

/// Decides to add partitions to a topic; `seed` chooses the first leader.
pub fn decide_grow(image: &ClusterImage, growth: &Growth, seed: u64) -> Result<Vec<MetadataRecord>, ApiError> {
    let Some(topic) = image.topics.by_name(&growth.topic) else {
        let message = "This server does not host this topic-partition.";
        return Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let current = topic.partitions.len() as i32;
    if growth.count == current {
        let message = format!("Topic already has {current} partition(s).");
        return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    }
    if growth.count < current {
        let message = format!(
            "The topic {} currently has {current} partition(s); {} would not be an increase.",
            topic.name, growth.count
        );
        return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    }
    let factor = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
    let (replicas, refusal): (_, FencedRefusal) = match &growth.assignments {
        Some(assignments) => (assigned_growth(image, assignments, growth.count - current, factor)?, fenced_assignment),
        None => {
            let placed = placement::place(&image.brokers, current..growth.count, factor as i16, seed);
            (placed.map_err(|why| ApiError::new(ErrorCode::InvalidReplicationFactor, why))?, fenced_placement)
        }
    };
    let partitions = (current..).zip(replicas);
    partitions.map(|(index, replicas)| new_partition(image, topic.id, index, replicas, refusal)).collect()
}

fn assigned_growth(
    image: &ClusterImage,
    assignments: &[Vec<BrokerId>],
    additional: i32,
    factor: usize,
) -> Result<Vec<Vec<BrokerId>>, ApiError> {
    if assignments.len() != additional as usize {
        return Err(bad_assignment(format!(
            "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        )));
    }
    for replicas in assignments {
        check_assignment(image, replicas, Some(factor))?;
    }
    Ok(assignments.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KafkaUuid;

    #[test]
    fn topics_come_in_the_order_of_names() {
        let mut topics = Topics::default();
        for (id, name) in [(1, "c"), (2, "a"), (3, "b.x")] {
            topics.add(KafkaUuid(id), name).unwrap();
            topics.add_partition(KafkaUuid(id), 0, PartitionRegistration::default()).unwrap();
        }
        let names = |topics: &mut dyn Iterator<Item = &Arc<Topic>>| {
            topics.map(|topic| topic.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&mut topics.iter()), ["a", "b.x", "c"]);
        assert_eq!(names(&mut topics.iter_from("b")), ["b.x", "c"]);
        assert_eq!(names(&mut topics.iter_from("c")), ["c"]);
        assert_eq!((topics.len(), topics.partition_count()), (3, 3));
        topics.remove(KafkaUuid(3)).unwrap();
        assert_eq!((topics.len(), topics.partition_count()), (2, 2));
        assert!(topics.lookalikes.is_empty());
    }

    #[test]
    fn changes_are_told_topic_by_topic() {
        let mut before = Topics::default();
        for (id, name) in [(1, "stays"), (2, "goes"), (3, "grows"), (4, "again")] {
            before.add(KafkaUuid(id), name).unwrap();
        }
        let mut after = before.clone();
        assert!(after.changes_since(&before).changed.is_empty());
        for id in [2, 4] {
            after.remove(KafkaUuid(id)).unwrap();
        }
        after.add_partition(KafkaUuid(3), 0, PartitionRegistration::default()).unwrap();
        after.add(KafkaUuid(5), "again").unwrap();
        after.add(KafkaUuid(6), "comes").unwrap();
        let ids = |topics: Vec<Arc<Topic>>| topics.iter().map(|topic| topic.id.0).collect::<BTreeSet<_>>();
        let TopicChanges { changed, gone } = after.changes_since(&before);
        assert_eq!((ids(changed), ids(gone)), (BTreeSet::from([3, 5, 6]), BTreeSet::from([2, 4])));
    }

    #[test]
    fn what_does_not_fit_is_not_replayed() {
        let mut topics = Topics::default();
        let id = KafkaUuid(1);
        assert!(topics.remove(id).is_err());
        assert!(topics.add_partition(id, 0, PartitionRegistration::default()).is_err());
        topics.add(id, "a").unwrap();
        assert!(topics.add(id, "b").is_err(), "the id is taken");
        assert!(topics.add(KafkaUuid(2), "a").is_err(), "the name is taken");
        assert!(topics.add_partition(id, 1, PartitionRegistration::default()).is_err(), "there is no partition 0");
        assert!(topics.change_partition(id, 0, &PartitionChange::default()).is_err());
        assert!(topics.change_partition(id, -1, &PartitionChange::default()).is_err());
    }
}
