//! DeleteRecords (21): raises the log start of partitions (KIP-107).
//!
//! v0-1: the same. v2: flexible. Offset -1 means the high watermark. The answer is the low watermark; -1 with an error.
//! Topics that are only compacted are refused with 44, internal topics with 17.

use futures_util::future::join_all;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::api::deadlines::millis;
use crate::api::{Context, Reply};
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::ids::internal_topics::is_internal;
use crate::metadata::ClusterImage;

const NO_LOW_WATERMARK: Offset = -1;

/// Deletes in every partition at once, each for as long as the request allows.
pub async fn handle(ctx: &Context, request: DeleteRecordsRequest) -> Reply<DeleteRecordsResponse> {
    let image = ctx.services.metadata.image();
    let asked = Asked { ctx, image: &image, timeout_ms: request.timeout_ms };
    let topics = join_all(request.topics.iter().map(|topic| asked.topic(topic))).await;
    Reply::Now(DeleteRecordsResponse::default().with_topics(topics))
}

/// What holds for every partition of a request.
struct Asked<'a> {
    ctx: &'a Context,
    image: &'a ClusterImage,
    timeout_ms: i32,
}

impl Asked<'_> {
    async fn topic(&self, topic: &DeleteRecordsTopic) -> DeleteRecordsTopicResult {
        let partitions = join_all(topic.partitions.iter().map(|asked| self.partition(&topic.name, asked))).await;
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
    }

    async fn partition(&self, topic: &str, asked: &DeleteRecordsPartition) -> DeleteRecordsPartitionResult {
        let deleted = self.ctx.services.env.timeout(millis(self.timeout_ms), self.delete(topic, asked)).await;
        let (low_watermark, code) = match deleted.unwrap_or(Err(ErrorCode::RequestTimedOut)) {
            Ok(low_watermark) => (low_watermark, ErrorCode::None),
            Err(code) => (NO_LOW_WATERMARK, code),
        };
        DeleteRecordsPartitionResult::default()
            .with_partition_index(asked.partition_index)
            .with_low_watermark(low_watermark)
            .with_error_code(code.code())
    }

    async fn delete(&self, topic: &str, asked: &DeleteRecordsPartition) -> Result<Offset, ErrorCode> {
        let partition = self.ctx.services.hosted_by_name(self.image, topic, asked.partition_index);
        // An unknown topic stays unknown; any other internal topic is refused wherever it lives.
        if is_internal(topic) && !matches!(partition, Err(ErrorCode::UnknownTopicOrPartition)) {
            return Err(ErrorCode::InvalidTopicException);
        }
        let partition = partition?;
        let settings = partition.settings();
        if settings.cleanup_policy.compact && !settings.cleanup_policy.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        partition.delete_records(asked.offset).await
    }
}
