//! The cluster as the metadata log describes it: immutable, structurally shared, and rebuilt by replay alone.
//!
//! Invariants: the same records give the same image, on every node and in every life; an old image is never changed by
//! a newer one; iteration is in the order of names and ids. A record that does not fit was not decided from this image:
//! the node that finds one is no longer like the others and must stop. Pure.

use std::fmt;
use std::io;

use crate::ids::{BrokerId, KafkaUuid, ProducerId};
use crate::metadata::brokers::Brokers;
use crate::metadata::client_quotas::ClientQuotas;
use crate::metadata::features::Features;
use crate::metadata::fields::{FieldReader, FieldWriter, Malformed};
use crate::metadata::record::{MetadataRecord, RECORD_BYTES_MIN};
use crate::metadata::settings::{ResourceKind, Settings};
use crate::metadata::topics::Topics;

/// Where in the log an image stands. A raft entry stamped with another index has no effect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct ImageIndex {
    /// The epoch of the newest claim; 0 before the first.
    pub controller_epoch: i32,
    /// The offset the next record gets; the first record has offset 0.
    pub next_offset: i64,
}

/// Who claimed the newest controller epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActiveController {
    pub node: BrokerId,
    pub directory: KafkaUuid,
    pub incarnation: KafkaUuid,
}

/// Everything the cluster has agreed on. Cheap to clone.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct ClusterImage {
    pub index: ImageIndex,
    /// Zero until the first record.
    pub cluster_id: KafkaUuid,
    pub controller: Option<ActiveController>,
    pub features: Features,
    pub brokers: Brokers,
    pub topics: Topics,
    pub settings: Settings,
    pub client_quotas: ClientQuotas,
    /// The first producer id nobody has been given yet.
    pub producer_ids: ProducerId,
}

/// Why a record cannot be replayed on an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misfit(pub String);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a metadata record does not fit: {}", self.0)
    }
}

impl std::error::Error for Misfit {}

impl From<Misfit> for std::io::Error {
    fn from(misfit: Misfit) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, misfit)
    }
}

/// The version of the snapshot's bytes.
const SNAPSHOT_VERSION: u8 = 0;

impl ClusterImage {
    /// The image after `batch`, which was decided from this image: a record that does not fit is a broken invariant.
    pub fn replay(&self, batch: &[MetadataRecord]) -> ClusterImage {
        match self.try_replay(batch) {
            Ok(next) => next,
            Err(misfit) => panic!("{misfit}"),
        }
    }

    /// The image after `batch`, which comes from a disk or another node.
    pub fn try_replay(&self, batch: &[MetadataRecord]) -> Result<ClusterImage, Misfit> {
        let mut next = self.clone();
        next.apply_all(batch)?;
        Ok(next)
    }

    /// Becomes the image after `batch`, as [`ClusterImage::replay`], without a copy of what nobody else holds.
    pub fn absorb(&mut self, batch: &[MetadataRecord]) {
        if let Err(misfit) = self.apply_all(batch) {
            panic!("{misfit}");
        }
    }

    fn apply_all(&mut self, batch: &[MetadataRecord]) -> Result<(), Misfit> {
        for record in batch {
            self.apply(record)?;
            self.index.next_offset += 1;
        }
        Ok(())
    }

    fn apply(&mut self, record: &MetadataRecord) -> Result<(), Misfit> {
        match record {
            MetadataRecord::ControllerClaim { epoch, node, directory, incarnation } => {
                if self.index.controller_epoch.checked_add(1) != Some(*epoch) {
                    let current = self.index.controller_epoch;
                    return Err(Misfit(format!("controller epoch {epoch} does not follow {current}")));
                }
                self.index.controller_epoch = *epoch;
                let (node, directory, incarnation) = (*node, *directory, *incarnation);
                self.controller = Some(ActiveController { node, directory, incarnation });
            }
            MetadataRecord::NoOp => {}
            MetadataRecord::ClusterId { id } => self.cluster_id = *id,
            MetadataRecord::FeatureLevel { name, level } => self.features.set(name, *level),
            MetadataRecord::RegisterBroker(broker) => self.brokers.register(broker.clone()),
            MetadataRecord::UnregisterBroker { id, epoch } => self.brokers.unregister(*id, *epoch)?,
            MetadataRecord::BrokerChange(change) => self.brokers.change(change, self.index.next_offset)?,
            MetadataRecord::Topic { id, name } => self.topics.add(*id, name)?,
            MetadataRecord::RemoveTopic { id } => {
                let name = self.topics.remove(*id)?;
                self.settings.forget(ResourceKind::Topic, &name);
            }
            MetadataRecord::Partition { topic, index, registration } => {
                self.topics.add_partition(*topic, *index, registration.clone())?;
            }
            MetadataRecord::PartitionChange { topic, index, change } => {
                self.topics.change_partition(*topic, *index, change)?;
            }
            MetadataRecord::Config { kind, name, key, value } => {
                self.settings.set(*kind, name, key, value.as_deref());
            }
            MetadataRecord::ProducerIds { next } => self.producer_ids = *next,
            MetadataRecord::ClientQuota { entity, key, value } => self.client_quotas.set(entity, key, *value),
            MetadataRecord::ClearElr { topic } => self.topics.clear_elr(*topic)?,
        }
        Ok(())
    }

    /// The image as bytes: its index, then the records that build it from nothing.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let records: Vec<MetadataRecord> = self.records();
        let mut out = FieldWriter::new();
        out.u8(SNAPSHOT_VERSION);
        out.i32(self.index.controller_epoch);
        out.i64(self.index.next_offset);
        out.list(records.iter(), |out, record| record.encode(out));
        out.into_bytes()
    }

    /// The records that build the image from nothing.
    pub fn records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        if let Some(ActiveController { node, directory, incarnation }) = self.controller {
            let epoch = self.index.controller_epoch;
            records.push(MetadataRecord::ControllerClaim { epoch, node, directory, incarnation });
        }
        if !self.cluster_id.is_zero() {
            records.push(MetadataRecord::ClusterId { id: self.cluster_id });
        }
        records.extend(self.features.records());
        records.extend(self.brokers.records());
        records.extend(self.topics.records());
        records.extend(self.settings.records());
        records.extend(self.client_quotas.records());
        records.push(MetadataRecord::ProducerIds { next: self.producer_ids });
        records
    }

    /// The image a snapshot holds.
    pub fn decode_snapshot(bytes: &[u8]) -> io::Result<ClusterImage> {
        let mut fields = FieldReader::new(bytes);
        if fields.u8()? != SNAPSHOT_VERSION {
            return Err(Malformed("a snapshot of an unknown version").into());
        }
        let index = ImageIndex { controller_epoch: fields.i32()?, next_offset: fields.i64()? };
        let records = fields.list(RECORD_BYTES_MIN, MetadataRecord::decode)?;
        if !fields.is_empty() {
            return Err(Malformed("bytes behind the last record of a snapshot").into());
        }
        let mut empty = ClusterImage::default();
        // The claim in a snapshot is the newest one of many, and raises the epoch from its predecessor.
        empty.index.controller_epoch = index.controller_epoch.saturating_sub(1);
        Ok(ClusterImage { index, ..empty.try_replay(&records)? })
    }
}
