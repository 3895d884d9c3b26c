//! Every fact that can be in the metadata log, and its bytes.
//!
//! Layout of one record: tag `u8`, version `u8`, body length `u32`, body. Invariants: a tag is never reused; a newer
//! version only appends fields, so bytes behind the known ones are stepped over; a version we wrote ourselves has none.
//! An unknown tag is refused, never skipped: a voter that leaves out a fact is no longer the same as the others. Pure.

use crate::ids::{BrokerId, KafkaUuid, PartitionIndex, TopicId};
use crate::metadata::brokers::{Broker, Endpoint};
use crate::metadata::client_quotas::{QuotaEntity, QuotaValue};
use crate::metadata::fields::{FieldReader, FieldWriter, Malformed};
use crate::metadata::partition::{PartitionChange, PartitionRegistration};
use crate::metadata::settings::ResourceKind;

/// One fact of the metadata log. The words are KRaft's (`org.apache.kafka.common.metadata`); the bytes are ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataRecord {
    /// A controller became active. The only record that raises the controller epoch, and by exactly one.
    ControllerClaim { epoch: i32, node: BrokerId, directory: KafkaUuid, incarnation: KafkaUuid },
    /// Nothing changed, but the log moved.
    NoOp,
    /// The id of the cluster: the first record of its life.
    ClusterId { id: KafkaUuid },
    /// A finalized feature level (KIP-584); level 0 removes the feature.
    FeatureLevel { name: String, level: i16 },
    /// A broker registered; replaces whatever was registered under the id.
    RegisterBroker(Broker),
    /// A broker is no longer part of the cluster.
    UnregisterBroker { id: BrokerId, epoch: i64 },
    /// Part of a registration changed; what is `None` stays.
    BrokerChange(BrokerChange),
    /// A topic without partitions; its `Partition` records follow.
    Topic { id: TopicId, name: String },
    /// A topic, its partitions and its settings are gone.
    RemoveTopic { id: TopicId },
    /// A new partition; its index is the number of partitions the topic had.
    Partition { topic: TopicId, index: PartitionIndex, registration: PartitionRegistration },
    /// Part of a partition changed; raises its partition epoch by one.
    PartitionChange { topic: TopicId, index: PartitionIndex, change: PartitionChange },
    /// One setting of one resource; no value means that the setting is removed.
    Config { kind: ResourceKind, name: String, key: String, value: Option<String> },
    /// Producer ids below `next` have been handed out.
    ProducerIds { next: i64 },
    /// One quota of one entity; no value means that the quota is removed.
    ClientQuota { entity: QuotaEntity, key: String, value: Option<QuotaValue> },
    /// The eligible leader replicas of a topic, or of all, are forgotten: what made them eligible has changed.
    ClearElr { topic: Option<TopicId> },
}

/// What changed in a registration of epoch `epoch`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerChange {
    pub id: BrokerId,
    pub epoch: i64,
    pub fenced: Option<bool>,
    pub shutting_down: Option<bool>,
    pub log_dirs: Option<Vec<KafkaUuid>>,
    pub cordoned_dirs: Option<Vec<KafkaUuid>>,
}

impl BrokerChange {
    /// A change of nothing.
    pub fn of(id: BrokerId, epoch: i64) -> BrokerChange {
        BrokerChange { id, epoch, fenced: None, shutting_down: None, log_dirs: None, cordoned_dirs: None }
    }
}

/// The version that is written. 1 added the directories of replicas, cordoned ones, and since when a broker leaves.
const fn version(tag: u8) -> u8 {
    match tag {
        tag::REGISTER_BROKER | tag::BROKER_CHANGE | tag::PARTITION | tag::PARTITION_CHANGE => 1,
        _ => 0,
    }
}

mod tag {
    pub const CONTROLLER_CLAIM: u8 = 1;
    pub const NO_OP: u8 = 2;
    pub const CLUSTER_ID: u8 = 3;
    pub const FEATURE_LEVEL: u8 = 4;
    pub const REGISTER_BROKER: u8 = 5;
    pub const UNREGISTER_BROKER: u8 = 6;
    pub const BROKER_CHANGE: u8 = 7;
    pub const TOPIC: u8 = 8;
    pub const REMOVE_TOPIC: u8 = 9;
    pub const PARTITION: u8 = 10;
    pub const PARTITION_CHANGE: u8 = 11;
    pub const CONFIG: u8 = 12;
    pub const PRODUCER_IDS: u8 = 13;
    pub const CLIENT_QUOTA: u8 = 14;
    pub const CLEAR_ELR: u8 = 15;
}

/// Bytes of the smallest record: what bounds the count of a list of records.
pub const RECORD_BYTES_MIN: usize = 6;

/// On the wire and on disk, "no leader" is this broker id (`LeaderConstants.NO_LEADER`).
const NO_LEADER: i32 = -1;

impl MetadataRecord {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut FieldWriter) {
        out.u8(self.tag());
        out.u8(version(self.tag()));
        out.body(|out| self.encode_body(out));
    }

    fn tag(&self) -> u8 {
        match self {
            MetadataRecord::ControllerClaim { .. } => tag::CONTROLLER_CLAIM,
            MetadataRecord::NoOp => tag::NO_OP,
            MetadataRecord::ClusterId { .. } => tag::CLUSTER_ID,
            MetadataRecord::FeatureLevel { .. } => tag::FEATURE_LEVEL,
            MetadataRecord::RegisterBroker(_) => tag::REGISTER_BROKER,
            MetadataRecord::UnregisterBroker { .. } => tag::UNREGISTER_BROKER,
            MetadataRecord::BrokerChange(_) => tag::BROKER_CHANGE,
            MetadataRecord::Topic { .. } => tag::TOPIC,
            MetadataRecord::RemoveTopic { .. } => tag::REMOVE_TOPIC,
            MetadataRecord::Partition { .. } => tag::PARTITION,
            MetadataRecord::PartitionChange { .. } => tag::PARTITION_CHANGE,
            MetadataRecord::Config { .. } => tag::CONFIG,
            MetadataRecord::ProducerIds { .. } => tag::PRODUCER_IDS,
            MetadataRecord::ClientQuota { .. } => tag::CLIENT_QUOTA,
            MetadataRecord::ClearElr { .. } => tag::CLEAR_ELR,
        }
    }

    fn encode_body(&self, out: &mut FieldWriter) {
        match self {
            MetadataRecord::ControllerClaim { epoch, node, directory, incarnation } => {
                out.i32(*epoch);
                out.broker(*node);
                out.uuid(*directory);
                out.uuid(*incarnation);
            }
            MetadataRecord::NoOp => {}
            MetadataRecord::ClusterId { id } => out.uuid(*id),
            MetadataRecord::FeatureLevel { name, level } => {
                out.str(name);
                out.i16(*level);
            }
            MetadataRecord::RegisterBroker(broker) => encode_broker(broker, out),
            MetadataRecord::UnregisterBroker { id, epoch } => {
                out.broker(*id);
                out.i64(*epoch);
            }
            MetadataRecord::BrokerChange(change) => {
                out.broker(change.id);
                out.i64(change.epoch);
                out.optional(change.fenced, FieldWriter::bool);
                out.optional(change.shutting_down, FieldWriter::bool);
                out.optional(change.log_dirs.as_deref(), FieldWriter::uuids);
                out.optional(change.cordoned_dirs.as_deref(), FieldWriter::uuids);
            }
            MetadataRecord::Topic { id, name } => {
                out.uuid(*id);
                out.str(name);
            }
            MetadataRecord::RemoveTopic { id } => out.uuid(*id),
            MetadataRecord::Partition { topic, index, registration } => {
                out.uuid(*topic);
                out.i32(*index);
                encode_registration(registration, out);
            }
            MetadataRecord::PartitionChange { topic, index, change } => {
                out.uuid(*topic);
                out.i32(*index);
                encode_change(change, out);
            }
            MetadataRecord::Config { kind, name, key, value } => {
                out.u8(kind.code());
                out.str(name);
                out.str(key);
                out.optional(value.as_deref(), FieldWriter::str);
            }
            MetadataRecord::ProducerIds { next } => out.i64(*next),
            MetadataRecord::ClientQuota { entity, key, value } => {
                entity.encode(out);
                out.str(key);
                out.optional(*value, |out, QuotaValue(value)| out.u64(value.to_bits()));
            }
            MetadataRecord::ClearElr { topic } => out.optional(*topic, FieldWriter::uuid),
        }
    }

    /// Takes one record off the front of `fields`.
    pub fn decode(fields: &mut FieldReader<'_>) -> Result<MetadataRecord, Malformed> {
        let tag = fields.u8()?;
        let written = fields.u8()?;
        let mut body = fields.body()?;
        let record = MetadataRecord::decode_body(tag, written, &mut body)?;
        let is_newer = written > version(tag);
        if !is_newer && !body.is_empty() {
            return Err(Malformed("bytes behind the fields of a known version"));
        }
        Ok(record)
    }

    fn decode_body(tag: u8, written: u8, body: &mut FieldReader<'_>) -> Result<MetadataRecord, Malformed> {
        Ok(match tag {
            tag::CONTROLLER_CLAIM => MetadataRecord::ControllerClaim {
                epoch: body.i32()?,
                node: body.broker()?,
                directory: body.uuid()?,
                incarnation: body.uuid()?,
            },
            tag::NO_OP => MetadataRecord::NoOp,
            tag::CLUSTER_ID => MetadataRecord::ClusterId { id: body.uuid()? },
            tag::FEATURE_LEVEL => MetadataRecord::FeatureLevel { name: body.string()?, level: body.i16()? },
            tag::REGISTER_BROKER => MetadataRecord::RegisterBroker(decode_broker(written, body)?),
            tag::UNREGISTER_BROKER => MetadataRecord::UnregisterBroker { id: body.broker()?, epoch: body.i64()? },
            tag::BROKER_CHANGE => MetadataRecord::BrokerChange(BrokerChange {
                id: body.broker()?,
                epoch: body.i64()?,
                fenced: body.optional(FieldReader::bool)?,
                shutting_down: body.optional(FieldReader::bool)?,
                log_dirs: body.optional(FieldReader::uuids)?,
                cordoned_dirs: if written > 0 { body.optional(FieldReader::uuids)? } else { None },
            }),
            tag::TOPIC => MetadataRecord::Topic { id: body.uuid()?, name: body.string()? },
            tag::REMOVE_TOPIC => MetadataRecord::RemoveTopic { id: body.uuid()? },
            tag::PARTITION => MetadataRecord::Partition {
                topic: body.uuid()?,
                index: body.i32()?,
                registration: decode_registration(written, body)?,
            },
            tag::PARTITION_CHANGE => MetadataRecord::PartitionChange {
                topic: body.uuid()?,
                index: body.i32()?,
                change: decode_change(written, body)?,
            },
            tag::CONFIG => MetadataRecord::Config {
                kind: ResourceKind::from_code(body.u8()?).ok_or(Malformed("an unknown kind of resource"))?,
                name: body.string()?,
                key: body.string()?,
                value: body.optional(FieldReader::string)?,
            },
            tag::PRODUCER_IDS => MetadataRecord::ProducerIds { next: body.i64()? },
            tag::CLIENT_QUOTA => MetadataRecord::ClientQuota {
                entity: QuotaEntity::decode(body)?,
                key: body.string()?,
                value: body.optional(|body| Ok(QuotaValue(f64::from_bits(body.u64()?))))?,
            },
            tag::CLEAR_ELR => MetadataRecord::ClearElr { topic: body.optional(FieldReader::uuid)? },
            _ => return Err(Malformed("an unknown record tag: written by a newer release")),
        })
    }
}

fn encode_broker(broker: &Broker, out: &mut FieldWriter) {
    out.broker(broker.id);
    out.i64(broker.epoch);
    out.uuid(broker.incarnation);
    out.optional(broker.rack.as_deref(), FieldWriter::str);
    out.bool(broker.fenced);
    out.bool(broker.shutting_down.is_some());
    out.list(broker.endpoints.iter(), |out, endpoint| {
        out.str(&endpoint.listener);
        out.str(&endpoint.host);
        out.u16(endpoint.port);
        out.str(&endpoint.protocol);
    });
    out.ranges(&broker.features);
    out.uuids(&broker.log_dirs);
    out.uuids(&broker.cordoned_dirs);
    out.optional(broker.shutting_down, FieldWriter::i64);
}

fn decode_broker(written: u8, body: &mut FieldReader<'_>) -> Result<Broker, Malformed> {
    let mut broker = Broker {
        id: body.broker()?,
        epoch: body.i64()?,
        incarnation: body.uuid()?,
        rack: body.optional(FieldReader::string)?,
        fenced: body.bool()?,
        shutting_down: body.bool()?.then_some(0),
        endpoints: body.list(14, |body| {
            Ok(Endpoint { listener: body.string()?, host: body.string()?, port: body.u16()?, protocol: body.string()? })
        })?,
        features: body.ranges()?,
        log_dirs: body.uuids()?,
        cordoned_dirs: Vec::new(),
    };
    if written > 0 {
        broker.cordoned_dirs = body.uuids()?;
        broker.shutting_down = body.optional(FieldReader::i64)?;
    }
    Ok(broker)
}

fn encode_leader(leader: Option<BrokerId>, out: &mut FieldWriter) {
    out.i32(leader.map_or(NO_LEADER, |id| id.0));
}

fn decode_leader(body: &mut FieldReader<'_>) -> Result<Option<BrokerId>, Malformed> {
    let id = body.i32()?;
    Ok((id != NO_LEADER).then_some(BrokerId(id)))
}

fn encode_registration(partition: &PartitionRegistration, out: &mut FieldWriter) {
    out.brokers(&partition.replicas);
    out.brokers(&partition.isr);
    out.brokers(&partition.elr);
    out.brokers(&partition.last_known_elr);
    out.brokers(&partition.adding);
    out.brokers(&partition.removing);
    encode_leader(partition.leader, out);
    out.i32(partition.leader_epoch);
    out.i32(partition.partition_epoch);
    out.bool(partition.recovering);
    out.uuids(&partition.directories);
}

fn decode_registration(written: u8, body: &mut FieldReader<'_>) -> Result<PartitionRegistration, Malformed> {
    Ok(PartitionRegistration {
        replicas: body.brokers()?,
        isr: body.brokers()?,
        elr: body.brokers()?,
        last_known_elr: body.brokers()?,
        adding: body.brokers()?,
        removing: body.brokers()?,
        leader: decode_leader(body)?,
        leader_epoch: body.i32()?,
        partition_epoch: body.i32()?,
        recovering: body.bool()?,
        directories: if written > 0 { body.uuids()? } else { Vec::new() },
    })
}

fn encode_change(change: &PartitionChange, out: &mut FieldWriter) {
    for list in [&change.replicas, &change.isr, &change.elr, &change.last_known_elr, &change.adding, &change.removing] {
        out.optional(list.as_deref(), FieldWriter::brokers);
    }
    out.optional(change.leader, |out, leader| encode_leader(leader, out));
    out.optional(change.recovering, FieldWriter::bool);
    out.optional(change.directories.as_deref(), FieldWriter::uuids);
}

fn decode_change(written: u8, body: &mut FieldReader<'_>) -> Result<PartitionChange, Malformed> {
    Ok(PartitionChange {
        replicas: body.optional(FieldReader::brokers)?,
        isr: body.optional(FieldReader::brokers)?,
        elr: body.optional(FieldReader::brokers)?,
        last_known_elr: body.optional(FieldReader::brokers)?,
        adding: body.optional(FieldReader::brokers)?,
        removing: body.optional(FieldReader::brokers)?,
        leader: body.optional(decode_leader)?,
        recovering: body.optional(FieldReader::bool)?,
        directories: if written > 0 { body.optional(FieldReader::uuids)? } else { None },
    })
}

#[cfg(test)]
mod tests;
