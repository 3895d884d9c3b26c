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
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;

    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::metadata::script::expect_file;

    fn encoded(record: &MetadataRecord) -> Vec<u8> {
        let mut out = FieldWriter::new();
        record.encode(&mut out);
        out.into_bytes()
    }

    fn decoded(bytes: &[u8]) -> Result<MetadataRecord, Malformed> {
        let mut fields = FieldReader::new(bytes);
        let record = MetadataRecord::decode(&mut fields)?;
        assert!(fields.is_empty());
        Ok(record)
    }

    fn uuid() -> impl Strategy<Value = KafkaUuid> {
        any::<u128>().prop_map(KafkaUuid)
    }

    fn ids() -> impl Strategy<Value = Vec<BrokerId>> {
        vec(any::<i32>().prop_map(BrokerId), 0..4)
    }

    fn quota_entity() -> impl Strategy<Value = QuotaEntity> {
        let name = || option::of(".*");
        prop_oneof![
            name().prop_map(QuotaEntity::Client),
            name().prop_map(QuotaEntity::User),
            (name(), name()).prop_map(|(user, client)| QuotaEntity::UserClient { user, client }),
            name().prop_map(QuotaEntity::Ip),
        ]
    }

    /// Any leader but the number that means "none".
    fn leader() -> impl Strategy<Value = Option<BrokerId>> {
        option::of((0..i32::MAX).prop_map(BrokerId))
    }

    fn broker() -> impl Strategy<Value = Broker> {
        let endpoint = (".*", ".*", any::<u16>(), ".*").prop_map(|(listener, host, port, protocol)| Endpoint {
            listener,
            host,
            port,
            protocol,
        });
        let features = btree_map(".*", any::<(i16, i16)>(), 0..3);
        let who = (any::<i32>(), any::<i64>(), uuid(), option::of(".*"), any::<(bool, Option<i64>)>());
        let dirs = (vec(uuid(), 0..3), vec(uuid(), 0..2));
        (who, vec(endpoint, 0..3), features, dirs).prop_map(|(who, endpoints, features, (log_dirs, cordoned_dirs))| {
            let (id, epoch, incarnation, rack, (fenced, shutting_down)) = who;
            let id = BrokerId(id);
            let broker = Broker { id, epoch, incarnation, rack, fenced, shutting_down, ..Broker::plain(0) };
            Broker { endpoints, features, log_dirs, cordoned_dirs, ..broker }
        })
    }

    fn registration() -> impl Strategy<Value = PartitionRegistration> {
        let lists = (ids(), ids(), ids(), ids(), ids(), ids(), vec(uuid(), 0..4));
        (lists, leader(), any::<(i32, i32, bool)>()).prop_map(|(lists, leader, rest)| {
            let (replicas, isr, elr, last_known_elr, adding, removing, directories) = lists;
            let (leader_epoch, partition_epoch, recovering) = rest;
            PartitionRegistration {
                replicas,
                directories,
                isr,
                elr,
                last_known_elr,
                adding,
                removing,
                leader,
                leader_epoch,
                partition_epoch,
                recovering,
            }
        })
    }

    fn change() -> impl Strategy<Value = PartitionChange> {
        let list = || option::of(ids());
        let lists = (list(), list(), list(), list(), list(), list(), option::of(vec(uuid(), 0..4)));
        (lists, option::of(leader()), any::<Option<bool>>()).prop_map(|(lists, leader, recovering)| {
            let (replicas, isr, elr, last_known_elr, adding, removing, directories) = lists;
            PartitionChange { replicas, directories, isr, elr, last_known_elr, adding, removing, leader, recovering }
        })
    }

    fn record() -> impl Strategy<Value = MetadataRecord> {
        let dirs = || option::of(vec(uuid(), 0..3));
        let broker_change = (any::<(i32, i64, Option<bool>, Option<bool>)>(), dirs(), dirs());
        let kinds = proptest::sample::select(ResourceKind::ALL.to_vec());
        prop_oneof![
            (any::<(i32, i32)>(), uuid(), uuid()).prop_map(|((epoch, node), directory, incarnation)| {
                MetadataRecord::ControllerClaim { epoch, node: BrokerId(node), directory, incarnation }
            }),
            Just(MetadataRecord::NoOp),
            uuid().prop_map(|id| MetadataRecord::ClusterId { id }),
            (".*", any::<i16>()).prop_map(|(name, level)| MetadataRecord::FeatureLevel { name, level }),
            broker().prop_map(MetadataRecord::RegisterBroker),
            any::<(i32, i64)>().prop_map(|(id, epoch)| MetadataRecord::UnregisterBroker { id: BrokerId(id), epoch }),
            broker_change.prop_map(|((id, epoch, fenced, shutting_down), log_dirs, cordoned_dirs)| {
                let id = BrokerId(id);
                let change = BrokerChange { id, epoch, fenced, shutting_down, log_dirs, cordoned_dirs };
                MetadataRecord::BrokerChange(change)
            }),
            (uuid(), ".*").prop_map(|(id, name)| MetadataRecord::Topic { id, name }),
            uuid().prop_map(|id| MetadataRecord::RemoveTopic { id }),
            (uuid(), any::<i32>(), registration())
                .prop_map(|(topic, index, registration)| { MetadataRecord::Partition { topic, index, registration } }),
            (uuid(), any::<i32>(), change()).prop_map(|(topic, index, change)| MetadataRecord::PartitionChange {
                topic,
                index,
                change
            }),
            (kinds, ".*", ".*", option::of(".*")).prop_map(|(kind, name, key, value)| MetadataRecord::Config {
                kind,
                name,
                key,
                value
            }),
            any::<i64>().prop_map(|next| MetadataRecord::ProducerIds { next }),
            (quota_entity(), ".*", option::of(any::<u64>())).prop_map(|(entity, key, value)| {
                let value = value.map(|bits| QuotaValue(f64::from_bits(bits)));
                MetadataRecord::ClientQuota { entity, key, value }
            }),
            option::of(uuid()).prop_map(|topic| MetadataRecord::ClearElr { topic }),
        ]
    }

    proptest! {
        #[test]
        fn every_record_reads_back(record in record()) {
            prop_assert_eq!(decoded(&encoded(&record)), Ok(record));
        }

        #[test]
        fn the_decoder_survives_anything(tag in 0..16u8, version in 0..2u8, body in vec(any::<u8>(), 0..120)) {
            let mut bytes = vec![tag, version];
            bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&body);
            let _ = MetadataRecord::decode(&mut FieldReader::new(&bytes));
            let _ = MetadataRecord::decode(&mut FieldReader::new(&body));
        }

        #[test]
        fn a_cut_record_is_refused(record in record(), cut in any::<proptest::sample::Index>()) {
            let bytes = encoded(&record);
            prop_assert!(decoded(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn a_newer_version_may_have_more_fields() {
        let bytes = [tag::PRODUCER_IDS, version(tag::PRODUCER_IDS) + 1, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 7, 99, 99];
        assert_eq!(decoded(&bytes), Ok(MetadataRecord::ProducerIds { next: 7 }));
        let ours = [tag::PRODUCER_IDS, version(tag::PRODUCER_IDS), 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 7, 99, 99];
        assert!(decoded(&ours).is_err(), "we never wrote that");
        assert!(decoded(&[200, 0, 0, 0, 0, 0]).is_err(), "an unknown fact cannot be left out");
    }

    fn samples() -> Vec<MetadataRecord> {
        let list = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let endpoint = Endpoint { listener: "L".into(), host: "h".into(), port: 9092, protocol: "PLAINTEXT".into() };
        vec![
            MetadataRecord::ControllerClaim {
                epoch: 3,
                node: BrokerId(1),
                directory: KafkaUuid(0xd1),
                incarnation: KafkaUuid(0x1c),
            },
            MetadataRecord::NoOp,
            MetadataRecord::ClusterId { id: KafkaUuid(0xc1) },
            MetadataRecord::FeatureLevel { name: "metadata.version".into(), level: 30 },
            MetadataRecord::RegisterBroker(Broker {
                id: BrokerId(1),
                epoch: 4,
                incarnation: KafkaUuid(0x1c),
                rack: Some("r".into()),
                fenced: true,
                shutting_down: Some(9),
                endpoints: vec![endpoint],
                features: BTreeMap::from([("metadata.version".into(), (7, 30))]),
                log_dirs: vec![KafkaUuid(0xd2)],
                cordoned_dirs: vec![KafkaUuid(0xd2)],
            }),
            MetadataRecord::UnregisterBroker { id: BrokerId(1), epoch: 4 },
            MetadataRecord::BrokerChange(BrokerChange {
                fenced: Some(false),
                log_dirs: Some(vec![KafkaUuid(0xd2)]),
                cordoned_dirs: Some(vec![]),
                ..BrokerChange::of(BrokerId(1), 4)
            }),
            MetadataRecord::Topic { id: KafkaUuid(0x70), name: "orders".into() },
            MetadataRecord::RemoveTopic { id: KafkaUuid(0x70) },
            MetadataRecord::Partition {
                topic: KafkaUuid(0x70),
                index: 5,
                registration: PartitionRegistration {
                    replicas: list(&[1, 2, 3]),
                    directories: vec![KafkaUuid(0xd2), KafkaUuid(0), KafkaUuid(2)],
                    isr: list(&[1]),
                    elr: list(&[2]),
                    last_known_elr: list(&[3]),
                    adding: list(&[]),
                    removing: list(&[3]),
                    leader: None,
                    leader_epoch: 8,
                    partition_epoch: 9,
                    recovering: true,
                },
            },
            MetadataRecord::PartitionChange {
                topic: KafkaUuid(0x70),
                index: 5,
                change: PartitionChange {
                    isr: Some(list(&[1, 2])),
                    leader: Some(Some(BrokerId(2))),
                    ..PartitionChange::default()
                },
            },
            MetadataRecord::Config {
                kind: ResourceKind::Topic,
                name: "orders".into(),
                key: "retention.ms".into(),
                value: Some("7".into()),
            },
            MetadataRecord::ProducerIds { next: 1000 },
            MetadataRecord::ClientQuota {
                entity: QuotaEntity::UserClient { user: Some("u".into()), client: None },
                key: "producer_byte_rate".into(),
                value: Some(QuotaValue(1024.0)),
            },
            MetadataRecord::ClearElr { topic: Some(KafkaUuid(0x70)) },
        ]
    }

    /// Records as older releases wrote them: these stand for ever.
    const OLDER: &[&str] = &[
        "0500000000710000000100000000000000040000000000000000000000000000001c010000000172010000000001000000014c00\
         00000168238400000009504c41494e5445585400000001000000106d657461646174612e76657273696f6e0007001e0000000100\
         0000000000000000000000000000d2",
        "0700000000240000000100000000000000040100000100000001000000000000000000000000000000d2",
        "0a000000005500000000000000000000000000000070000000050000000300000001000000020000000300000001000000010000\
         0001000000020000000100000003000000000000000100000003ffffffff000000080000000901",
        "0b000000002c0000000000000000000000000000007000000005000100000002000000010000000200000000010000000200",
    ];

    fn bytes_of(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    #[test]
    fn what_older_releases_wrote_reads_the_same() {
        let read: Vec<MetadataRecord> = OLDER.iter().map(|hex| decoded(&bytes_of(hex)).unwrap()).collect();
        let of_tag = |record: &MetadataRecord| samples().into_iter().find(|known| known.tag() == record.tag()).unwrap();
        for record in read {
            let mut expected = of_tag(&record);
            match &mut expected {
                MetadataRecord::RegisterBroker(broker) => {
                    broker.cordoned_dirs.clear();
                    broker.shutting_down = None;
                }
                MetadataRecord::BrokerChange(change) => change.cordoned_dirs = None,
                MetadataRecord::Partition { registration, .. } => registration.directories.clear(),
                _ => {}
            }
            assert_eq!(record, expected);
        }
    }

    /// Old bytes decode for ever: lines may be added to the file. One that changes is a new version, and its old form
    /// goes to [`OLDER`].
    #[test]
    fn bytes_on_disk_stay_what_they_are() {
        let mut text = String::new();
        for record in samples() {
            let bytes = encoded(&record);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let name: String = format!("{record:?}").chars().take_while(char::is_ascii_alphanumeric).collect();
            writeln!(text, "{name} {hex}").unwrap();
            assert_eq!(decoded(&bytes), Ok(record));
        }
        expect_file("records.golden", &text);
    }

    #[test]
    fn every_tag_has_a_sample() {
        let tags: Vec<u8> = samples().iter().map(MetadataRecord::tag).collect();
        assert_eq!(tags, (tag::CONTROLLER_CLAIM..=tag::CLEAR_ELR).collect::<Vec<_>>());
    }
}
