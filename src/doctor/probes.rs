//! Behaviours, tried one after the other on one broker.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::link::Link;
use super::report::Check;
use super::{Patient, Served};
use crate::env::Env;
use crate::error::ErrorCode;
use crate::records::batch::rebuild;
use crate::records::{BatchBuilder, Codec};

/// The newest versions in which topics are named, not numbered.
const METADATA: i16 = 9;
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
const LIST_OFFSETS: i16 = 7;
const FIND_COORDINATOR: i16 = 3;
const CREATE_TOPICS: i16 = 5;
const DELETE_TOPICS: i16 = 5;
const INIT_PRODUCER_ID: i16 = 3;
const TIMEOUT_MS: i32 = 10_000;

type Outcome = Result<String, String>;

/// The probes and what they found.
pub(super) struct Probes<'a> {
    pub env: &'a Env,
    pub link: Link,
    pub served: Served,
    pub checks: Vec<Check>,
    pub cluster: Vec<(String, String)>,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn expect(code: i16, expected: ErrorCode) -> Result<(), String> {
    let wanted = expected.code();
    if code == wanted { Ok(()) } else { Err(format!("error {code} where Kafka says {wanted}")) }
}

impl Probes<'_> {
    pub(super) async fn run(&mut self, patient: &Patient) {
        let outcome = self.cluster().await;
        self.note("Metadata describes the cluster", outcome);
        let outcome = self.unknown_version(patient).await;
        self.note("ApiVersions of an unknown version is answered in version 0 (KIP-511)", outcome);
        let outcome = self.order().await;
        self.note("Requests on one connection are answered in their order", outcome);
        let name = format!("ottla-doctor-{}", self.env.random_uuid());
        let outcome = self.unknown_topic(&name).await;
        self.note("A topic that does not exist", outcome);
        if patient.may_write {
            // It creates the topic of committed offsets where there is none.
            let outcome = self.coordinator().await;
            self.note("FindCoordinator for a group", outcome);
            self.write(&name).await;
        }
    }

    fn note(&mut self, name: &str, outcome: Outcome) {
        self.checks.push(Check { name: name.to_owned(), outcome });
    }

    async fn call<Q: Request>(&mut self, version: i16, request: &Q) -> Result<Q::Response, String> {
        match self.served.get(&Q::KEY) {
            Some((min, max)) if (*min..=*max).contains(&version) => self.link.call(version, request).await,
            Some((min, max)) => Err(format!("version {version} is not among those served ({min}-{max})")),
            None => Err("the API is not served".into()),
        }
    }

    async fn cluster(&mut self) -> Outcome {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let answer = self.call(METADATA, &request).await?;
        let id = answer.cluster_id.as_deref().unwrap_or("none").to_owned();
        self.cluster.push(("cluster".into(), id));
        self.cluster.push(("controller".into(), answer.controller_id.0.to_string()));
        for broker in &answer.brokers {
            let rack = broker.rack.as_deref().map(|rack| format!(", rack {rack}")).unwrap_or_default();
            let address = format!("{}:{}{rack}", broker.host, broker.port);
            self.cluster.push((format!("broker {}", broker.node_id.0), address));
        }
        let brokers = answer.brokers.len();
        if brokers == 0 { Err("no broker is named".into()) } else { Ok(format!("{brokers} broker(s)")) }
    }

    /// Some brokers close the connection here, so it is one of its own.
    async fn unknown_version(&mut self, patient: &Patient) -> Outcome {
        let mut link = Link::open(self.env, &patient.host, patient.port).await?;
        let id = link.send_raw(ApiVersionsRequest::KEY, 1000, 2, &[]).await?;
        let answer = link.receive::<ApiVersionsRequest>(0, id).await?;
        expect(answer.error_code, ErrorCode::UnsupportedVersion)?;
        Ok(format!("error {}", answer.error_code))
    }

    async fn order(&mut self) -> Outcome {
        let slow = MetadataRequest::default().with_topics(None);
        let first = self.link.send(METADATA, &slow).await?;
        let second = self.link.send(0, &ApiVersionsRequest::default()).await?;
        let all = self.link.receive::<MetadataRequest>(METADATA, first).await?;
        self.link.receive::<ApiVersionsRequest>(0, second).await?;
        self.cluster.push(("topics".into(), all.topics.len().to_string()));
        Ok("two in flight".into())
    }

    async fn unknown_topic(&mut self, name: &str) -> Outcome {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        let answer = self.call(METADATA, &request).await?;
        let code = answer.topics.first().map_or(0, |topic| topic.error_code);
        expect(code, ErrorCode::UnknownTopicOrPartition).map(|()| format!("error {code}"))
    }

    async fn coordinator(&mut self) -> Outcome {
        let request = FindCoordinatorRequest::default().with_key(text("ottla-doctor"));
        let answer = self.call(FIND_COORDINATOR, &request).await?;
        match answer.error_code {
            0 => Ok(format!("node {}", answer.node_id.0)),
            // Its topic is being created: what Kafka says on a new cluster.
            15 => Ok("not available yet".into()),
            code => Err(format!("error {code}")),
        }
    }

    async fn write(&mut self, name: &str) {
        let outcome = self.create(name).await;
        let created = outcome.is_ok();
        self.note("CreateTopics", outcome);
        if !created {
            return;
        }
        let mut end = 0;
        for codec in Codec::ALL {
            let outcome = self.round_trip(name, codec, end).await;
            end += i64::from(outcome.is_ok());
            self.note(&format!("Produce and Fetch, {codec:?}"), outcome);
        }
        let outcome = self.offsets(name, end).await;
        self.note("ListOffsets: earliest and latest", outcome);
        let outcome = self.idempotence(name, end).await;
        self.note("Idempotent producer", outcome);
        let outcome = self.corrupt(name).await;
        self.note("A batch with a wrong checksum", outcome);
        let outcome = self.delete(name).await;
        self.note("DeleteTopics", outcome);
    }

    async fn create(&mut self, name: &str) -> Outcome {
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(1)
            .with_replication_factor(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
        let answer = self.call(CREATE_TOPICS, &request).await?;
        let code = answer.topics.first().map_or(-1, |topic| topic.error_code);
        expect(code, ErrorCode::None)?;
        self.leader(name).await
    }

    /// Waits until the topic has a leader, which must be the broker that is asked for the rest to work.
    async fn leader(&mut self, name: &str) -> Outcome {
        for _ in 0..100 {
            let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
            let answer = self.call(METADATA, &MetadataRequest::default().with_topics(Some(vec![topic]))).await?;
            let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
            if let Some(partition) = partition.filter(|partition| partition.error_code == 0) {
                return Ok(format!("{name}, led by {}", partition.leader_id.0));
            }
            self.env.sleep(std::time::Duration::from_millis(100)).await;
        }
        Err(format!("{name} has no leader after 10 s"))
    }

    /// One batch of one record; the producer is (id, sequence).
    fn batch(&self, codec: Codec, producer: Option<(i64, i32)>) -> Result<Bytes, String> {
        let now = self.env.wall_ms();
        let mut batch = BatchBuilder::new(now);
        batch.push(now, Some(b"key"), Some(&[b'v'; 500]), &[]);
        let batch = match producer {
            Some((id, sequence)) => batch.producer(id, 0, sequence),
            None => batch,
        };
        let plain = batch.build();
        if codec == Codec::None {
            return Ok(plain);
        }
        rebuild(&plain, codec, None).map_err(|e| e.to_string())
    }

    /// Error code and offset of a batch that is produced with acks=all.
    async fn produce(&mut self, name: &str, batch: Bytes) -> Result<(i16, i64), String> {
        let partition = PartitionProduceData::default().with_records(Some(batch));
        let topic = TopicProduceData::default().with_name(TopicName(text(name))).with_partition_data(vec![partition]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS).with_topic_data(vec![topic]);
        let answer = self.call(PRODUCE, &request).await?;
        let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        partition.map(|found| (found.error_code, found.base_offset)).ok_or("says nothing of the partition".into())
    }

    async fn round_trip(&mut self, name: &str, codec: Codec, expected: i64) -> Outcome {
        let batch = self.batch(codec, None)?;
        let (code, offset) = self.produce(name, batch.clone()).await?;
        expect(code, ErrorCode::None)?;
        if offset != expected {
            return Err(format!("got offset {offset} where {expected} is the next"));
        }
        let fetched = self.fetch(name, offset).await?;
        // The broker may stamp what lies before the checksum.
        let from = crate::records::layout::CRC;
        if fetched.get(from..batch.len()) != batch.get(from..) {
            return Err("what comes back is another batch".into());
        }
        Ok(format!("{} bytes at offset {offset}", batch.len()))
    }

    async fn fetch(&mut self, name: &str, offset: i64) -> Result<Bytes, String> {
        let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(TopicName(text(name))).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(5_000)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.call(FETCH, &request).await?;
        let partition = answer.responses.first().and_then(|topic| topic.partitions.first());
        let partition = partition.ok_or("says nothing of the partition")?;
        expect(partition.error_code, ErrorCode::None)?;
        partition.records.clone().ok_or("no records".into())
    }

    async fn offsets(&mut self, name: &str, end: i64) -> Outcome {
        let mut found = Vec::new();
        for timestamp in [-2, -1] {
            let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
            let topic = ListOffsetsTopic::default().with_name(TopicName(text(name))).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            let answer = self.call(LIST_OFFSETS, &request).await?;
            let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
            let partition = partition.ok_or("says nothing of the partition")?;
            expect(partition.error_code, ErrorCode::None)?;
            found.push(partition.offset);
        }
        if found == [0, end] { Ok(format!("0 and {end}")) } else { Err(format!("{found:?} instead of 0 and {end}")) }
    }

    async fn idempotence(&mut self, name: &str, end: i64) -> Outcome {
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(TIMEOUT_MS);
        let answer = self.call(INIT_PRODUCER_ID, &request).await?;
        expect(answer.error_code, ErrorCode::None)?;
        let id = answer.producer_id.0;
        let batch = self.batch(Codec::None, Some((id, 0)))?;
        for what in ["the first time", "again"] {
            let (code, offset) = self.produce(name, batch.clone()).await?;
            expect(code, ErrorCode::None).map_err(|why| format!("{what}: {why}"))?;
            if offset != end {
                return Err(format!("{what}: got offset {offset} instead of {end}"));
            }
        }
        let gap = self.batch(Codec::None, Some((id, 5)))?;
        let (code, _) = self.produce(name, gap).await?;
        expect(code, ErrorCode::OutOfOrderSequenceNumber).map_err(|why| format!("a gap in the sequence: {why}"))?;
        Ok("a repeated batch is written once, a gap is refused".into())
    }

    async fn corrupt(&mut self, name: &str) -> Outcome {
        let mut batch = self.batch(Codec::None, None)?.to_vec();
        if let Some(last) = batch.last_mut() {
            *last ^= 1;
        }
        let (code, _) = self.produce(name, batch.into()).await?;
        expect(code, ErrorCode::CorruptMessage).map(|()| format!("error {code}"))
    }

    async fn delete(&mut self, name: &str) -> Outcome {
        let request = match self.served.get(&DeleteTopicsRequest::KEY) {
            Some((_, max)) if *max < 6 => DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text(name))]),
            _ => {
                let topic = DeleteTopicState::default().with_name(Some(TopicName(text(name))));
                DeleteTopicsRequest::default().with_topics(vec![topic])
            }
        };
        let version = if request.topics.is_empty() { DELETE_TOPICS } else { DELETE_TOPICS + 1 };
        let answer = self.call(version, &request.with_timeout_ms(TIMEOUT_MS)).await?;
        let code = answer.responses.first().map_or(-1, |topic| topic.error_code);
        expect(code, ErrorCode::None).map(|()| name.to_owned())
    }
}
