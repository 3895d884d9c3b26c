//! Every record reads back, old bytes too.

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
