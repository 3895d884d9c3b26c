//! DescribeTopicPartitions (75): topics page by page, with the replicas that may still become leader (KIP-966).
//!
//! v0 only. Topics are sorted by name; an empty list means all. A page ends after a number of partitions, and the
//! cursor says where the next one starts; the topic it names need not exist.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic;
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use crate::api::topic_pages::{Page, Start};
use crate::api::translate::topic_name;
use crate::api::{Context, Reply};
use crate::error::ErrorCode;

/// Answers one page from the image.
pub async fn handle(ctx: &Context, request: DescribeTopicPartitionsRequest) -> Reply<DescribeTopicPartitionsResponse> {
    let image = ctx.services.metadata.image();
    let all = request.topics.is_empty();
    let names: BTreeSet<&str> = if all {
        image.topics.iter().map(|topic| &*topic.name).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    let start = match start(&request, &names) {
        Ok(start) => start,
        Err(code) => return Reply::Now(refused(&request, code)),
    };
    let allowed = ctx.services.config.load().broker().max_request_partition_size_limit;
    let limit = usize::try_from(allowed.min(request.response_partition_limit)).unwrap_or(0).max(1);
    let page = Page { image: &image, listener: &ctx.connection.listener, all };
    Reply::Now(page.response(&names, start, limit))
}

fn start<'a>(request: &'a DescribeTopicPartitionsRequest, names: &BTreeSet<&str>) -> Result<Start<'a>, ErrorCode> {
    let Some(cursor) = &request.cursor else {
        return Ok(Start { topic: "", partition: 0 });
    };
    let topic = cursor.topic_name.as_str();
    if !request.topics.is_empty() && !names.contains(topic) {
        return Err(ErrorCode::InvalidRequest);
    }
    let partition = usize::try_from(cursor.partition_index).map_err(|_| ErrorCode::InvalidRequest)?;
    Ok(Start { topic, partition })
}

fn refused(request: &DescribeTopicPartitionsRequest, code: ErrorCode) -> DescribeTopicPartitionsResponse {
    let topic = |name: &str| {
        DescribeTopicPartitionsResponseTopic::default().with_error_code(code.code()).with_name(Some(topic_name(name)))
    };
    let topics = request.topics.iter().map(|asked| topic(&asked.name)).collect();
    DescribeTopicPartitionsResponse::default().with_topics(topics)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_topic_partitions_request::{Cursor as AskedCursor, TopicRequest};

    use super::*;

    fn check(names: &[&str], cursor: (&str, i32)) -> Result<usize, ErrorCode> {
        let topics = names.iter().map(|name| TopicRequest::default().with_name(topic_name(name))).collect();
        let cursor = AskedCursor::default().with_topic_name(topic_name(cursor.0)).with_partition_index(cursor.1);
        let request = DescribeTopicPartitionsRequest::default().with_topics(topics).with_cursor(Some(cursor));
        start(&request, &names.iter().copied().collect()).map(|start| start.partition)
    }

    #[test]
    fn a_cursor_must_name_a_listed_topic_and_a_partition() {
        assert_eq!(check(&["a", "b"], ("b", 3)), Ok(3));
        assert_eq!(check(&["a"], ("b", 0)), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(&["a"], ("a", -1)), Err(ErrorCode::InvalidRequest));
        // All topics: the cursor's own may have been deleted since the last page.
        assert_eq!(check(&[], ("gone", 7)), Ok(7));
    }
}
