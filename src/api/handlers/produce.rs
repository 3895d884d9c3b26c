//! Produce (0), versions 3–13.
//!
//! * v3–8 classic encoding, from v9 flexible; v7 zstd, which is refused before (76, KIP-110); v8 adds record errors
//!   and a message; v10 the leader of what is led elsewhere (tagged, KIP-951); v13 names topics by id only.
//! * acks=0 has no answer at all; an error closes the connection, so that the client refreshes its metadata.
//! * The quota for bytes mutes the connection as soon as they are taken, whatever acks says; the answer waits for its
//!   commit all the same.
//! * Magic 0 and 1 batches are refused (87), as Kafka 4 does. Transactional batches need a transactional id (53);
//!   transactions are not built yet, so such a batch is refused with 48.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use crate::api::redirects::Redirects;
use crate::api::translate::text;
use crate::api::{Context, Reply};
use crate::env::BoxFuture;
use crate::error::ErrorCode;
use crate::ids::{TopicId, TopicIdPartition, internal_topics};
use crate::metadata::Topic;
use crate::partitions::{AppendRefused, Commit, Partition};
use crate::records::{BatchHeader, Codec};
use crate::storage::log::Appended;

/// The client id that may write to internal topics (Kafka's `AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// From this version on a producer may use zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// One partition's part of the answer: settled, or waiting for its commit.
enum Outcome {
    Refused(AppendRefused),
    Waiting(Arc<Partition>, Appended, Option<BoxFuture<'static, Commit>>),
}

pub async fn handle(ctx: &Context, request: ProduceRequest) -> Reply<ProduceResponse> {
    ctx.services.partitions.room().await;
    let whole = refuse_whole(&request);
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let acks = request.acks;
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic_data in request.topic_data {
        let topic = topic_of(ctx, &topic_data.name, topic_data.topic_id);
        let mut outcomes = Vec::with_capacity(topic_data.partition_data.len());
        for data in topic_data.partition_data {
            let outcome = match (whole, &topic) {
                (Some(code), _) => Outcome::Refused(code.into()),
                (None, Err(code)) => Outcome::Refused((*code).into()),
                (None, Ok(topic)) => append(ctx, topic, data.index, data.records, acks, timeout).await,
            };
            outcomes.push((data.index, outcome));
        }
        topics.push((topic_data.name, topic_data.topic_id, topic.ok().map(|topic| topic.id), outcomes));
    }
    let wait_ms = ctx.throttle_produce();
    if acks == 0 {
        let failed = topics.iter().flat_map(|(_, _, _, outcomes)| outcomes);
        let failed = failed.into_iter().any(|(_, outcome)| matches!(outcome, Outcome::Refused(_)));
        return if failed { Reply::Close } else { Reply::Silent };
    }
    let ctx = ctx.clone();
    Reply::Later(Box::pin(async move {
        let mut settled = Vec::with_capacity(topics.len());
        for (name, topic_id, known, outcomes) in topics {
            let mut partitions = Vec::with_capacity(outcomes.len());
            for (index, outcome) in outcomes {
                partitions.push(settle(outcome).await.with_index(index));
            }
            let topic = TopicProduceResponse::default().with_name(name).with_topic_id(topic_id);
            settled.push((known, topic.with_partition_responses(partitions)));
        }
        response(&ctx, settled).with_throttle_time_ms(wait_ms)
    }))
}

/// The answer, which names the leaders of partitions that are led elsewhere, and their nodes. Topics that exist come
/// with their ids.
fn response(ctx: &Context, topics: Vec<(Option<TopicId>, TopicProduceResponse)>) -> ProduceResponse {
    let image = ctx.services.metadata.image();
    let mut redirects = Redirects::new(&image, &ctx.connection.listener);
    let mut responses = Vec::with_capacity(topics.len());
    for (id, mut topic) in topics {
        for partition in &mut topic.partition_responses {
            let elsewhere = partition.error_code == ErrorCode::NotLeaderOrFollower.code();
            let topic = id.filter(|_| elsewhere);
            if let Some((leader, epoch)) = topic.and_then(|topic| redirects.leader(topic, partition.index)) {
                partition.current_leader.leader_id = leader.0.into();
                partition.current_leader.leader_epoch = epoch;
            }
        }
        responses.push(topic);
    }
    let nodes = redirects.nodes().into_iter().map(|node| {
        NodeEndpoint::default()
            .with_node_id(node.id.0.into())
            .with_host(text(&node.host))
            .with_port(i32::from(node.port))
            .with_rack(node.rack.as_deref().map(text))
    });
    ProduceResponse::default().with_responses(responses).with_node_endpoints(nodes.collect())
}

/// What refuses the request as a whole.
fn refuse_whole(request: &ProduceRequest) -> Option<ErrorCode> {
    if !matches!(request.acks, -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    let batches = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let headers = batches.filter_map(|data| BatchHeader::parse(data.records.as_deref()?).ok());
    let mut producer = None;
    for header in headers {
        if header.is_transactional() && request.transactional_id.is_none() {
            return Some(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        if header.producer_id >= 0 && *producer.get_or_insert(header.producer_id) != header.producer_id {
            return Some(ErrorCode::InvalidProducerIdMapping);
        }
    }
    None
}

fn topic_of(ctx: &Context, name: &str, id: uuid::Uuid) -> Result<Arc<Topic>, ErrorCode> {
    let image = ctx.services.metadata.image();
    let topic = if ctx.request.version >= 13 {
        image.topics.by_id(id.into()).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        image.topics.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    if internal_topics::is_internal(&topic.name) && &*ctx.request.client_id != ADMIN_CLIENT_ID {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok(topic.clone())
}

async fn append(
    ctx: &Context,
    topic: &Topic,
    index: i32,
    records: Option<Bytes>,
    acks: i16,
    timeout: Duration,
) -> Outcome {
    let appended = try_append(ctx, topic, index, records, acks).await;
    match appended {
        Ok((partition, appended)) => {
            // Registered here, in order, so that the wait cannot miss the commit. With acks=0 nobody waits.
            let (epoch, end) = (appended.epoch, appended.end_offset);
            let commit = (acks != 0).then(|| partition.acknowledged((epoch, end), acks == -1, timeout));
            Outcome::Waiting(partition, appended, commit)
        }
        Err(refused) => Outcome::Refused(refused),
    }
}

async fn try_append(
    ctx: &Context,
    topic: &Topic,
    index: i32,
    records: Option<Bytes>,
    acks: i16,
) -> Result<(Arc<Partition>, Appended), AppendRefused> {
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = ctx.services.partitions.hosted(TopicIdPartition { topic: topic.id, partition: index })?;
    partition.meters.produce_requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let records = records.filter(|records| !records.is_empty()).ok_or_else(|| AppendRefused {
        code: ErrorCode::InvalidRecord,
        message: "Produce requests must have exactly one record batch per partition".into(),
        records: Vec::new(),
    })?;
    let header = BatchHeader::parse(&records);
    if ctx.request.version < ZSTD_SINCE && header.as_ref().is_ok_and(|header| header.codec() == Ok(Codec::Zstd)) {
        return Err(ErrorCode::UnsupportedCompressionType.into());
    }
    if header.is_ok_and(|header| header.is_transactional()) {
        return Err(ErrorCode::InvalidTxnState.into());
    }
    if acks == -1 {
        partition.check_in_sync()?;
    }
    let appended = partition.append_produced(records).await.inspect_err(|_| {
        partition.meters.failed_produce.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    })?;
    Ok((partition, appended))
}

async fn settle(outcome: Outcome) -> PartitionProduceResponse {
    let unknown =
        PartitionProduceResponse::default().with_base_offset(-1).with_log_append_time_ms(-1).with_log_start_offset(-1);
    match outcome {
        Outcome::Refused(refused) => refusal(unknown, refused),
        Outcome::Waiting(partition, appended, commit) => {
            let committed = match commit {
                Some(commit) => commit.await,
                None => Ok(()),
            };
            if let Err(code) = committed {
                return unknown.with_error_code(code.code());
            }
            let log_start = partition.offsets_if_any().map_or(-1, |offsets| offsets.log_start);
            unknown
                .with_base_offset(appended.base_offset)
                .with_log_append_time_ms(appended.append_time_ms)
                .with_log_start_offset(log_start)
        }
    }
}

fn refusal(unknown: PartitionProduceResponse, refused: AppendRefused) -> PartitionProduceResponse {
    let errors = refused.records.into_iter().map(|(index, message)| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(index)
            .with_batch_index_error_message(message.map(StrBytes::from_string))
    });
    let message = (!refused.message.is_empty()).then(|| StrBytes::from_string(refused.message));
    unknown.with_error_code(refused.code.code()).with_record_errors(errors.collect()).with_error_message(message)
}
