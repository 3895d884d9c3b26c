//! The lookout: looks into the nodes from outside, between two steps of the world, and knows nothing of the workload.
//!
//! Invariants checked (the names are those of replication.md 3.6): nodes agree on the metadata (I23), and partitions in
//! it are sound (I12 to I14); one leader per epoch, in one life (I1, I18); what any replica ever counted as committed is
//! on every member of the ISR and the ELR, on stable storage (I5 to I8), the same bytes everywhere (I4), and is never
//! cut or lost, not by a crash either (I10, I16, I17).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use ottla::api::Services;
use ottla::error::ErrorCode;
use ottla::ids::{BrokerId, TopicId, TopicIdPartition};
use ottla::metadata::{ClusterImage, PartitionRegistration, ResourceKind};
use ottla::partitions::{Isolation, IsrProposal, LogOffsets, Partition, ReadAsk};

use super::Cluster;
use super::plan::Plan;
use crate::checkers::{Spot, Verdict, ensure};

/// Proposals that are kept to be made once more.
const PROPOSALS_KEPT: usize = 20;
/// Images that are kept to be held against those of other nodes.
const IMAGES_KEPT: usize = 2_000;

/// What is known of one partition, whoever hosts it.
#[derive(Default)]
struct Truth {
    /// The largest high watermark that any replica ever had.
    high_watermark: i64,
    /// What is committed, batch by batch, as far as it was looked at, and where it ends.
    committed: BTreeMap<i64, Bytes>,
    committed_end: i64,
    /// Who led in each epoch, and in which life.
    leaders: BTreeMap<i32, (usize, u32)>,
    replicas: BTreeMap<usize, Replica>,
    /// Where replicas ended whose disks were replaced.
    wiped: Vec<i64>,
}

/// What is known of one replica.
struct Replica {
    hosted: Weak<Partition>,
    life: u32,
    /// Up to here it holds what is committed, on stable storage.
    agreed: i64,
    high_watermark: i64,
    /// As they were last seen.
    durable_end: i64,
    log_start: i64,
}

/// A change of an ISR that a leader asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    pub sender: (BrokerId, i64),
    pub partition: TopicIdPartition,
    pub asked: IsrProposal,
}

/// Who was in sync at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InSync {
    topic: TopicId,
    leader: Option<BrokerId>,
    isr: Vec<BrokerId>,
    partition_epoch: i32,
}

/// One replica at one moment.
struct Sight {
    node: usize,
    partition: Arc<Partition>,
    offsets: LogOffsets,
    durable_end: i64,
    leads_in: Option<i32>,
}

/// See the file's head.
pub struct Lookout {
    /// The last image of each node's present life.
    images: Vec<Option<Arc<ClusterImage>>>,
    newest: Arc<ClusterImage>,
    by_offset: BTreeMap<i64, Arc<ClusterImage>>,
    truths: BTreeMap<TopicIdPartition, Truth>,
    /// Partitions whose only replica in sync or eligible lost its disk.
    lost: BTreeSet<TopicIdPartition>,
    /// What leaders have proposed to the controller: the sender with its epoch, and the latest proposals.
    proposals: VecDeque<Proposal>,
    /// Who was the active controller in each epoch.
    controllers: BTreeMap<i32, usize>,
    /// Nothing has gone wrong so far.
    is_quiet: bool,
}

fn node_of(id: BrokerId) -> usize {
    usize::try_from(id.0 - 1).expect("nodes are numbered from 1")
}

impl Lookout {
    pub fn new(plan: &Plan) -> Lookout {
        Lookout {
            is_quiet: plan.is_quiet,
            images: vec![None; plan.roles.len()],
            newest: Arc::default(),
            by_offset: BTreeMap::new(),
            truths: BTreeMap::new(),
            lost: BTreeSet::new(),
            proposals: VecDeque::new(),
            controllers: BTreeMap::new(),
        }
    }

    /// From now on something may go wrong.
    pub fn expect_faults(&mut self) {
        self.is_quiet = false;
    }

    /// The newest leader epoch of a partition that any node has heard of.
    pub fn leader_epoch(&self, spot: Spot) -> i32 {
        let topic = self.newest.topics.by_name(spot.0);
        topic.and_then(|topic| topic.partition(spot.1)).map_or(-1, |partition| partition.leader_epoch)
    }

    /// The epoch in which `node` coordinates `group`, if the newest metadata has it do so.
    pub fn coordinates(&self, cluster: &Cluster, node: usize, group: &str) -> Option<i32> {
        let topic = self.newest.topics.by_name("__consumer_offsets")?;
        // `String.hashCode`, made positive.
        let hash = group.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
        let partition = topic.partition((hash & i32::MAX) % i32::try_from(topic.partitions.len()).ok()?)?;
        let leads = partition.leader == Some(BrokerId(cluster.nodes[node].id()));
        leads.then_some(partition.leader_epoch)
    }

    /// The setting of a topic.
    pub fn setting(&self, topic: &str, key: &str) -> Option<String> {
        self.newest.settings.of(ResourceKind::Topic, topic).get(key).cloned()
    }

    /// Looks at the metadata, and with `logs` at every log.
    pub fn look(&mut self, cluster: &Cluster, logs: bool) -> Verdict {
        for node in &cluster.nodes {
            let Some(services) = node.services() else { continue };
            self.look_at_metadata(cluster, node.index, &services)?;
        }
        if logs { self.look_at_logs(cluster) } else { Ok(()) }
    }

    /// Notes what a node has, because it is about to lose the rest.
    pub fn before_end(&mut self, cluster: &Cluster, node: usize) -> Verdict {
        self.look(cluster, true)?;
        self.forget_images(node);
        Ok(())
    }

    /// The next process of a node begins with what it finds on its disks.
    pub fn forget_images(&mut self, node: usize) {
        self.images[node] = None;
    }

    /// A node has got empty disks.
    pub fn wiped(&mut self, node: usize) {
        let is_alone = |registration: &PartitionRegistration| {
            let PartitionRegistration { isr, elr, .. } = registration;
            !(isr.is_empty() && elr.is_empty()) && isr.iter().chain(elr).all(|id| node_of(*id) == node)
        };
        for topic in self.newest.topics.iter() {
            let alone = (0..).zip(&topic.partitions).filter(|(_, registration)| is_alone(registration));
            self.lost.extend(alone.map(|(partition, _)| TopicIdPartition { topic: topic.id, partition }));
        }
        for truth in self.truths.values_mut() {
            truth.wiped.extend(truth.replicas.remove(&node).map(|replica| replica.durable_end));
        }
    }

    fn look_at_metadata(&mut self, cluster: &Cluster, node: usize, services: &Arc<Services>) -> Verdict {
        let image = services.metadata.image();
        let seen = self.images[node].replace(image.clone());
        if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &image)) {
            return Ok(());
        }
        let name = cluster.nodes[node].name();
        ensure(seen.as_ref().is_none_or(|seen| seen.index <= image.index), || {
            format!("{name}: the metadata went back from {:?} to {:?}", seen.map(|seen| seen.index), image.index)
        })?;
        if services.metadata.is_active() {
            let epoch = services.metadata.watch_active().and_then(|active| *active.borrow()).unwrap_or(-1);
            let first = *self.controllers.entry(epoch).or_insert(node);
            ensure(first == node, || format!("controller epoch {epoch} is that of {first} and of {node}"))?;
        }
        let twin = self.by_offset.entry(image.index.next_offset).or_insert_with(|| image.clone());
        ensure(**twin == *image, || {
            format!("{name}: at offset {} the metadata is not what it is elsewhere", image.index.next_offset)
        })?;
        if self.by_offset.len() > IMAGES_KEPT {
            self.by_offset.pop_first();
        }
        if image.index.next_offset > self.newest.index.next_offset {
            check_step((cluster.plan.min_isr, self.is_quiet), &self.newest, &image)?;
            self.newest = image;
            self.forget_former_replicas();
        }
        Ok(())
    }

    /// Who is no replica any more loses what it had; if it becomes one again it begins anew.
    fn forget_former_replicas(&mut self) {
        for (id, truth) in &mut self.truths {
            let registration = self.newest.topics.by_id(id.topic).and_then(|topic| topic.partition(id.partition));
            let is_replica = |node: &usize| {
                registration.is_some_and(|partition| partition.replicas.iter().any(|id| node_of(*id) == *node))
            };
            truth.replicas.retain(|node, _| is_replica(node));
        }
    }

    fn look_at_logs(&mut self, cluster: &Cluster) -> Verdict {
        let mut sights: BTreeMap<TopicIdPartition, Vec<Sight>> = BTreeMap::new();
        for node in &cluster.nodes {
            let Some(services) = node.services() else { continue };
            for partition in services.partitions.all() {
                let Some(offsets) = partition.offsets_if_any() else { continue };
                let (durable_end, leads_in) = (partition.durable_end(), partition.leader_epoch());
                let id = partition.id();
                sights.entry(id).or_default().push(Sight {
                    node: node.index,
                    partition,
                    offsets,
                    durable_end,
                    leads_in,
                });
            }
        }
        for sight in sights.values().flatten() {
            self.note_proposal(cluster, sight);
        }
        for (id, sights) in sights {
            self.look_at_partition(cluster, id, &sights).map_err(|sentence| {
                let topic = self.newest.topics.by_id(id.topic).map_or("?", |topic| &topic.name);
                format!("{topic}-{}: {sentence}", id.partition)
            })?;
        }
        Ok(())
    }

    fn note_proposal(&mut self, cluster: &Cluster, sight: &Sight) {
        let sender = cluster.nodes[sight.node].services().map(|services| services.metadata.broker_epoch());
        let (Some(asked), Some(epoch)) = (sight.partition.isr_proposal(), sender) else { return };
        let sender = (BrokerId(cluster.nodes[sight.node].id()), epoch);
        let proposal = Proposal { sender, partition: sight.partition.id(), asked };
        if !self.proposals.contains(&proposal) {
            self.proposals.push_back(proposal);
        }
        if self.proposals.len() > PROPOSALS_KEPT {
            self.proposals.pop_front();
        }
    }

    /// What leaders have proposed lately in epochs in which they still lead, though it is out of date by now: another
    /// change came first, or a member has begun another life, of which the leader has not heard.
    pub fn outdated_proposals(&self) -> Vec<Proposal> {
        let mut found = Vec::new();
        for proposal in &self.proposals {
            let topic = self.newest.topics.by_id(proposal.partition.topic);
            let now = topic.and_then(|topic| topic.partition(proposal.partition.partition));
            let Some(now) = now.filter(|now| now.leader_epoch == proposal.asked.leader_epoch) else { continue };
            if now.partition_epoch > proposal.asked.partition_epoch {
                found.push(proposal.clone());
            }
            let has_begun_anew = |(id, epoch): &(BrokerId, i64)| {
                *epoch >= 0 && self.newest.brokers.by_id(*id).is_some_and(|broker| broker.epoch > *epoch)
            };
            if proposal.asked.isr.iter().any(has_begun_anew) {
                let mut again = proposal.clone();
                again.asked.partition_epoch = now.partition_epoch;
                found.push(again);
            }
        }
        found
    }

    fn look_at_partition(&mut self, cluster: &Cluster, id: TopicIdPartition, sights: &[Sight]) -> Verdict {
        let newest = self.newest.clone();
        let registration = newest.topics.by_id(id.topic).and_then(|topic| topic.partition(id.partition));
        let Some(registration) = registration else { return Ok(()) };
        let truth = self.truths.entry(id).or_default();
        // Whoever is no replica any more has not heard of it yet.
        let is_replica = |sight: &&Sight| registration.replicas.contains(&BrokerId(cluster.nodes[sight.node].id()));
        let sights: Vec<&Sight> = sights.iter().filter(is_replica).collect();
        for sight in &sights {
            truth.note(cluster, sight)?;
        }
        for sight in &sights {
            truth.extend(sight)?;
        }
        for sight in sights {
            truth.check(cluster, &newest, registration, sight)?;
        }
        Ok(())
    }

    /// A producer with acks=all was told that everything below `end` is safe (I9).
    pub fn acknowledged(&mut self, cluster: &Cluster, spot: Spot, end: i64) -> Verdict {
        let Some(topic) = self.newest.topics.by_name(spot.0).cloned() else { return Ok(()) };
        let id = TopicIdPartition { topic: topic.id, partition: spot.1 };
        let truth = self.truths.entry(id).or_default();
        truth.high_watermark = truth.high_watermark.max(end);
        let on_disk = |node: usize| {
            let services = cluster.nodes[node].services();
            let hosted = services.and_then(|services| services.partitions.hosted(id).ok());
            let before = truth.replicas.get(&node).map(|replica| replica.durable_end);
            hosted.map(|partition| partition.durable_end()).or(before)
        };
        let ends: Vec<Option<i64>> = (0..cluster.nodes.len()).map(on_disk).collect();
        // The producer may hear of it when a disk that had it is no more.
        let wiped = truth.wiped.iter().filter(|wiped| **wiped >= end).count();
        let copies = ends.iter().flatten().filter(|durable| **durable >= end).count() + wiped;
        let least = cluster.plan.min_isr;
        ensure(copies >= least, || {
            format!("what ends at {end} was acknowledged and is on {copies} disks, not {least}: they end at {ends:?}")
        })
    }

    /// What the newest metadata says of a partition.
    pub fn registration(&self, spot: Spot) -> Option<PartitionRegistration> {
        self.newest.topics.by_name(spot.0)?.partition(spot.1).cloned()
    }

    /// The replicas in sync of a partition, and the epoch in which they are.
    pub fn in_sync(&self, spot: Spot) -> Option<InSync> {
        let topic = self.newest.topics.by_name(spot.0)?;
        let partition = topic.partition(spot.1)?;
        let PartitionRegistration { leader, isr, partition_epoch, .. } = partition.clone();
        Some(InSync { topic: topic.id, leader, isr, partition_epoch })
    }

    /// DeleteRecords was answered by `leader`: who was in sync all the while has given up what lies below
    /// `low_watermark`. One that leads no more, and has not heard of it, speaks for nobody but itself, as in Kafka.
    pub fn deleted(
        &self,
        cluster: &Cluster,
        asked: (Spot, usize),
        before: &Option<InSync>,
        low_watermark: i64,
    ) -> Verdict {
        let (spot, leader) = asked;
        let leads = |known: &&InSync| known.leader.is_some_and(|id| node_of(id) == leader);
        let Some(known) = before.as_ref().filter(leads).filter(|_| *before == self.in_sync(spot)) else {
            return Ok(());
        };
        let id = TopicIdPartition { topic: known.topic, partition: spot.1 };
        for node in known.isr.iter().map(|id| &cluster.nodes[node_of(*id)]) {
            let hosted = node.services().and_then(|services| services.partitions.hosted(id).ok());
            let start = hosted.and_then(|hosted| hosted.offsets_if_any()).map(|offsets| offsets.log_start);
            ensure(start.is_none_or(|start| start >= low_watermark), || {
                format!("below {low_watermark} all is deleted, but the log of {} starts at {start:?}", node.name())
            })?;
        }
        Ok(())
    }

    /// Whether the cluster is at full strength, or why not (L1).
    pub fn settled(&self, cluster: &Cluster) -> Verdict {
        for node in &cluster.nodes {
            ensure(node.is_ready(), || format!("{} is not part of the cluster", node.name()))?;
            let index = self.images[node.index].as_ref().map(|image| image.index);
            ensure(index == Some(self.newest.index), || {
                format!("{} has the metadata of {index:?}, not of {:?}", node.name(), self.newest.index)
            })?;
        }
        for topic in self.newest.topics.iter() {
            for (index, registration) in (0..).zip(&topic.partitions) {
                let id = TopicIdPartition { topic: topic.id, partition: index };
                if self.is_lost_with_its_disk(id, registration) {
                    continue;
                }
                settled(cluster, id, registration)
                    .map_err(|sentence| format!("{}-{index}: {sentence}; it is {registration:?}", topic.name))?;
            }
        }
        Ok(())
    }

    /// The world took the disk of the only replica that could have been elected: nobody leads until somebody allows an
    /// unclean election. Kafka, too, ends a reassignment that leaves one replica in sync.
    fn is_lost_with_its_disk(&self, id: TopicIdPartition, registration: &PartitionRegistration) -> bool {
        let PartitionRegistration { isr, elr, leader, .. } = registration;
        self.lost.contains(&id) && leader.is_none() && isr.is_empty() && elr.is_empty()
    }

    /// Whether nobody can lead a partition any more, through no fault of the cluster.
    pub fn is_lost(&self, spot: Spot) -> bool {
        let Some(topic) = self.newest.topics.by_name(spot.0) else { return false };
        let id = TopicIdPartition { topic: topic.id, partition: spot.1 };
        topic.partition(spot.1).is_some_and(|registration| self.is_lost_with_its_disk(id, registration))
    }

    /// Every replica of everything is the same, to the last byte. To be asked only when nothing is going on.
    pub fn compare_replicas(&mut self, cluster: &Cluster) -> Verdict {
        self.look(cluster, true)?;
        for (id, truth) in &self.truths {
            let Some(topic) = self.newest.topics.by_id(id.topic) else { continue };
            let name = format!("{}-{}", topic.name, id.partition);
            let sights = truth.replicas.keys().filter_map(|node| {
                let hosted = cluster.nodes[*node].services()?.partitions.hosted(*id).ok()?;
                let offsets = hosted.offsets_if_any()?;
                Some((*node, hosted, offsets))
            });
            let sights: Vec<(usize, Arc<Partition>, LogOffsets)> = sights.collect();
            let start = sights.iter().map(|(.., offsets)| offsets.log_start).max().unwrap_or(0);
            let mut first: Option<(usize, Bytes)> = None;
            for (node, hosted, offsets) in sights {
                let batches = read(&hosted, start, offsets.log_end).unwrap_or_default();
                check_producers(&hosted, &batches)
                    .map_err(|sentence| format!("{name}: {}: {sentence}", cluster.nodes[node].name()))?;
                let log = Bytes::from(batches.concat());
                match &first {
                    None => first = Some((node, log)),
                    Some((other, same)) => {
                        let (one, other) = (cluster.nodes[node].name(), cluster.nodes[*other].name());
                        ensure(*same == log, || format!("{name}: the logs of {other} and {one} are not the same"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A replica knows of every producer in its log what it wrote last (I19).
fn check_producers(partition: &Partition, batches: &[Bytes]) -> Verdict {
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for batch in batches {
        let (id, sequence) = (number(batch, 43, 8), number(batch, 53, 4));
        if id >= 0 && sequence >= 0 {
            last.insert(id, sequence + number(batch, 23, 4));
        }
    }
    let known: BTreeMap<i64, i64> =
        partition.active_producers().iter().map(|known| (known.id, i64::from(known.last_sequence))).collect();
    for (id, sequence) in last {
        let known = known.get(&id);
        ensure(known == Some(&sequence), || format!("producer {id} wrote up to {sequence}, known is {known:?}"))?;
    }
    Ok(())
}

impl Truth {
    /// Takes note of a replica: how far it is, and whether it is where it may be.
    fn note(&mut self, cluster: &Cluster, sight: &Sight) -> Verdict {
        let Sight { node, partition, offsets, durable_end, leads_in } = sight;
        let name = cluster.nodes[*node].name();
        let LogOffsets { log_start, high_watermark, log_end, .. } = *offsets;
        ensure(high_watermark <= *durable_end && *durable_end <= log_end && log_start <= high_watermark, || {
            format!("{name}: {offsets:?} and the durable end {durable_end} are out of order")
        })?;
        let (hosted, life) = (Arc::downgrade(partition), cluster.nodes[*node].life());
        let fresh =
            || Replica { hosted: hosted.clone(), life, agreed: 0, high_watermark: 0, durable_end: 0, log_start: 0 };
        let replica = self.replicas.entry(*node).or_insert_with(fresh);
        if replica.hosted.ptr_eq(&hosted) {
            ensure(replica.high_watermark <= high_watermark, || {
                format!("{name}: the high watermark went back from {} to {high_watermark}", replica.high_watermark)
            })?;
        } else if replica.life == life {
            // It was given up and hosted anew: another replica.
            *replica = fresh();
        }
        ensure(replica.agreed <= *durable_end, || {
            format!("{name}: committed up to {}, now there is nothing behind {durable_end}", replica.agreed)
        })?;
        ensure(replica.log_start <= log_start, || {
            format!("{name}: the log started at {}, and now it starts at {log_start}", replica.log_start)
        })?;
        let agreed = replica.agreed;
        *replica = Replica { hosted, life, agreed, high_watermark, durable_end: *durable_end, log_start };
        self.high_watermark = self.high_watermark.max(high_watermark);
        if let Some(epoch) = leads_in {
            let me = (*node, cluster.nodes[*node].life());
            let first = *self.leaders.entry(*epoch).or_insert(me);
            ensure(first == me, || format!("epoch {epoch} was led by {first:?} and is by {me:?} (node, life)"))?;
        }
        Ok(())
    }

    /// What this replica has committed, and nobody before it, is the truth.
    fn extend(&mut self, sight: &Sight) -> Verdict {
        let LogOffsets { log_start, high_watermark, .. } = sight.offsets;
        if high_watermark <= self.committed_end {
            return Ok(());
        }
        for batch in read(&sight.partition, self.committed_end.max(log_start), high_watermark).unwrap_or_default() {
            let (base, end) = span(&batch);
            if base >= self.committed_end && end <= high_watermark {
                self.committed.insert(base, batch);
                self.committed_end = end;
            }
        }
        Ok(())
    }

    /// Holds a replica against the truth.
    fn check(
        &mut self,
        cluster: &Cluster,
        newest: &ClusterImage,
        registration: &PartitionRegistration,
        sight: &Sight,
    ) -> Verdict {
        let Sight { node, partition, offsets, durable_end, leads_in } = sight;
        let (name, id) = (cluster.nodes[*node].name(), BrokerId(cluster.nodes[*node].id()));
        if let Some(epoch) = leads_in {
            ensure(*epoch <= registration.leader_epoch, || format!("{name} leads in {epoch}, which nobody decided"))?;
            ensure(*epoch < registration.leader_epoch || registration.leader == Some(id), || {
                format!("{name} leads in {epoch}, of which the leader is {:?}", registration.leader)
            })?;
        }
        let incarnation = cluster.nodes[*node].services().map(|services| services.metadata.incarnation());
        let registered = newest.brokers.by_id(id).map(|broker| broker.incarnation) == incarnation;
        let counts = registration.isr.contains(&id) || registration.elr.contains(&id);
        let must = if counts && registered { self.high_watermark } else { offsets.high_watermark };
        ensure(*durable_end >= must, || {
            format!(
                "{name} is in {:?} or {:?} and ends at {durable_end}, but {must} is committed",
                registration.isr, registration.elr
            )
        })?;
        let replica = self.replicas.get_mut(node).expect("it was noted");
        let (from, to) = (replica.agreed.max(offsets.log_start), must.min(self.committed_end));
        if from >= to {
            return Ok(());
        }
        let Some(batches) = read(partition, from, to) else { return Ok(()) };
        for batch in batches {
            let (base, end) = span(&batch);
            let Some(truth) = self.committed.get(&base).filter(|_| end <= to) else { continue };
            ensure(*truth == batch, || format!("{name}: the batch {base}..{end} is not what was committed there"))?;
            replica.agreed = replica.agreed.max(end);
        }
        let reached = replica.agreed;
        ensure(reached >= to, || format!("{name}: committed up to {to}, and the same as elsewhere up to {reached}"))
    }
}

/// The offsets of a batch: its first, and the one behind its last.
fn span(batch: &Bytes) -> (i64, i64) {
    let base = number(batch, 0, 8);
    (base, base + number(batch, 23, 4) + 1)
}

/// The big-endian number of `size` bytes at `at`.
fn number(batch: &Bytes, at: usize, size: usize) -> i64 {
    let bits = 8 * size as u32;
    let unsigned = batch[at..at + size].iter().fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
    unsigned << (64 - bits) >> (64 - bits)
}

/// The batches that hold `from..to`; none if the replica serves nobody. `None` if they are being deleted.
fn read(partition: &Partition, from: i64, to: i64) -> Option<Vec<Bytes>> {
    let mut batches = Vec::new();
    let mut next = from;
    while next < to {
        let ask = ReadAsk {
            from: next,
            bytes_max: 1 << 20,
            at_least_one: true,
            isolation: Isolation::LogEnd,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            leader_only: false,
        };
        let read = match partition.read_blocking(&ask) {
            Ok(read) => read,
            Err(ErrorCode::OffsetNotAvailable) => return None,
            Err(_) => break,
        };
        let Some(last) = read.batches.last() else { break };
        next = span(last).1;
        batches.extend(read.batches.into_iter().filter(|batch| span(batch).0 < to));
    }
    Some(batches)
}

/// Whether a partition is at full strength.
fn settled(cluster: &Cluster, id: TopicIdPartition, registration: &PartitionRegistration) -> Verdict {
    let leader = registration.leader.ok_or("nobody leads")?;
    ensure(registration.isr.len() == registration.replicas.len() && !registration.is_reassigning(), || {
        "not everybody is in sync".to_owned()
    })?;
    // Where a log starts may differ: who was away while records were deleted, and leads now, has them still. But what
    // the leader has given up, the others have.
    let ends = |node: usize| {
        let partition = cluster.nodes[node].services()?.partitions.hosted(id).ok()?;
        let LogOffsets { high_watermark, log_end, log_start, .. } = partition.offsets_if_any()?;
        Some(((high_watermark, log_end, partition.durable_end()), log_start))
    };
    let (of_leader, start) = ends(node_of(leader)).ok_or("its leader does not host it")?;
    ensure(of_leader.0 == of_leader.1 && of_leader.1 == of_leader.2, || format!("the leader is at {of_leader:?}"))?;
    for replica in registration.replicas.iter().map(|id| node_of(*id)) {
        let of_replica = ends(replica);
        let is_there = of_replica.is_some_and(|(ends, own_start)| ends == of_leader && own_start >= start);
        ensure(is_there, || {
            format!("replica {} is at {of_replica:?}, the leader at {of_leader:?} from {start}", replica + 1)
        })?;
    }
    Ok(())
}

/// What must hold of metadata, and of any step from one to a later one (I12 to I14).
fn check_step((min_isr, is_quiet): (usize, bool), before: &ClusterImage, after: &ClusterImage) -> Verdict {
    for topic in after.topics.iter() {
        let earlier = before.topics.by_id(topic.id);
        for (index, now) in (0..).zip(&topic.partitions) {
            let was = earlier.and_then(|topic| topic.partition(index));
            if was == Some(now) {
                continue;
            }
            let change = || was.map_or(Ok(()), |was| check_change(is_quiet, was, now));
            let verdict = check_partition(min_isr, after, now).and_then(|()| change());
            verdict.map_err(|sentence| format!("{}-{index}: {sentence}: {was:?} became {now:?}", topic.name))?;
        }
    }
    Ok(())
}

fn check_partition(min_isr: usize, image: &ClusterImage, now: &PartitionRegistration) -> Verdict {
    let all = |some: &[BrokerId]| some.iter().all(|id| now.replicas.contains(id));
    ensure(all(&now.isr) && all(&now.elr), || "somebody is in the ISR or the ELR and is no replica".into())?;
    ensure(now.isr.iter().all(|id| !now.elr.contains(id)), || "somebody is in the ISR and in the ELR".into())?;
    ensure(now.isr.len() < min_isr.min(now.replicas.len()) || now.elr.is_empty(), || {
        "there is an ELR beside an ISR that is large enough".into()
    })?;
    ensure(now.leader.is_none_or(|leader| now.isr.contains(&leader)), || "the leader is not in the ISR".into())?;
    ensure(now.isr.iter().all(|id| image.brokers.is_active(*id)), || "a fenced broker is in the ISR".into())?;
    ensure(!now.recovering, || "there was an unclean election, which nobody allowed".into())
}

fn check_change(is_quiet: bool, was: &PartitionRegistration, now: &PartitionRegistration) -> Verdict {
    let left = was.isr.iter().any(|id| now.replicas.contains(id) && !now.isr.contains(id));
    ensure(!(is_quiet && left), || "somebody left the ISR, though nothing goes wrong".into())?;
    ensure(now.partition_epoch > was.partition_epoch, || "the partition epoch did not rise".into())?;
    ensure(now.leader_epoch >= was.leader_epoch, || "the leader epoch went back".into())?;
    let bumps = (now.partition_epoch - was.partition_epoch, now.leader_epoch - was.leader_epoch);
    let stays = |id: &BrokerId| now.replicas.contains(id) && !now.adding.contains(id) && !now.removing.contains(id);
    let added = was.adding.iter().all(stays);
    if bumps.0 == 1 && added {
        let in_sync = was.adding.iter().all(|id| now.isr.contains(id) || was.isr.contains(id));
        ensure(in_sync, || "a reassignment ended before its replicas were in sync".into())?;
    }
    ensure(bumps.1 <= bumps.0, || "there are more leader epochs than changes".into())?;
    ensure(now.leader == was.leader || bumps.1 > 0, || "the leader changed within its epoch".into())
}
