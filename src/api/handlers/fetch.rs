//! Fetch (1), versions 4–18.
//!
//! * v4 isolation level, v5 log start, v7 sessions, v9 leader epoch, v11 rack, v12 flexible with diverging epochs,
//!   v13 topic ids, v15 replica state, v16 node endpoints, v17 directory ids, v18 the follower's high watermark.
//! * Long poll: answered at once with enough bytes, an error, a diverging epoch or no time to wait; else it waits on
//!   its partitions and reads afresh.
//! * The first non-empty partition returns its first batch whole even above the limits (KIP-74).
//! * Above a quota the answer is empty and nothing was fetched: the client asks for the same again, later.
//! * Followers (replica id ≥ 0) do not exist before replication is built: such a request is refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use uuid::Uuid;

use crate::api::fetch_body::{Fetched, FetchedPartition};
use crate::api::fetch_session::{FetchKey, FetchPlan, News, SessionAsk, Wanted};
use crate::api::{Body, Context, Reply, Services};
use crate::error::ErrorCode;
use crate::ids::TopicIdPartition;
use crate::partitions::{FetchWait, Isolation, Partition, Read, ReadAsk};

/// Kafka's debugging consumer reads up to the log end.
const DEBUGGING_CONSUMER: i32 = -2;

/// Bytes of an answer without partitions, and of a partition without records.
const ANSWER_BYTES: usize = 20;
const PARTITION_BYTES: usize = 40;

/// What stays the same through one request's rounds.
struct Fetch {
    services: Arc<Services>,
    version: i16,
    isolation: Isolation,
    bytes_max: usize,
    bytes_min: usize,
    wanted: Vec<(FetchKey, Wanted)>,
}

pub async fn handle(ctx: &Context, request: FetchRequest) -> Reply<Body> {
    let version = ctx.request.version;
    let replica = if version >= 15 { request.replica_state.replica_id.0 } else { request.replica_id.0 };
    let plan = match plan(ctx, &request, replica) {
        Ok(plan) => plan,
        Err(error) => {
            return Reply::Now(Body::from_parts(without_partitions(error, 0, 0).encode(version)));
        }
    };
    let isolation = match (replica, request.isolation_level) {
        (DEBUGGING_CONSUMER, _) => Isolation::LogEnd,
        (_, 1) => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let limit = ctx.services.config.load().broker().fetch_max_bytes.max(1024);
    let bytes_max = (request.max_bytes.min(limit).max(0) as usize).min(ctx.fetch_bytes_max());
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let FetchPlan { session_id, session, incremental, wanted } = plan;
    let fetch = Arc::new(Fetch {
        services: ctx.services.clone(),
        version,
        isolation,
        bytes_max,
        bytes_min: (request.min_bytes.max(0) as usize).min(bytes_max),
        wanted,
    });
    let ctx = ctx.clone();
    Reply::Later(Box::pin(async move {
        let mut partitions = fetch.run(wait).await;
        let wait_ms = ctx.throttle_fetch(weight(&partitions));
        if wait_ms > 0 {
            // A session goes on where it was; one that the client has not heard of yet comes to nothing.
            if !incremental {
                fetch.services.fetch_sessions.end(session_id);
            }
            let session_id = if incremental { session_id } else { 0 };
            return Body::from_parts(without_partitions(ErrorCode::None, session_id, wait_ms).encode(version));
        }
        if let Some(session) = &session {
            let mut session = session.lock();
            partitions.retain(|part| session.tell(&part.key, &news_of(part)) || !incremental);
        }
        partitions.iter().for_each(FetchedPartition::count);
        let answer = Fetched { throttle_time_ms: 0, error: ErrorCode::None, session_id, partitions };
        Body::from_parts(answer.encode(version))
    }))
}

fn without_partitions(error: ErrorCode, session_id: i32, throttle_time_ms: i32) -> Fetched {
    Fetched { throttle_time_ms, error, session_id, partitions: Vec::new() }
}

/// Bytes that the answer is charged with: records, and about what comes around them.
fn weight(partitions: &[FetchedPartition]) -> usize {
    let with_records = partitions.iter().map(FetchedPartition::bytes).filter(|bytes| *bytes > 0);
    ANSWER_BYTES + with_records.map(|bytes| bytes + PARTITION_BYTES).sum::<usize>()
}

fn plan(ctx: &Context, request: &FetchRequest, replica: i32) -> Result<FetchPlan, ErrorCode> {
    if !(DEBUGGING_CONSUMER..0).contains(&replica) {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    let key = |topic: &str, id: Uuid, partition| FetchKey { topic: Arc::from(topic), topic_id: id, partition };
    let mut wanted = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let ask = Wanted {
                offset: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
                leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            };
            wanted.push((key(&topic.topic, topic.topic_id, partition.partition), ask));
        }
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        forgotten.extend(topic.partitions.iter().map(|index| key(&topic.topic, topic.topic_id, *index)));
    }
    let env = &ctx.services.env;
    // Before v7 there are no sessions; the fields' defaults (0, -1) say so.
    let (session_id, session_epoch) =
        if ctx.request.version >= 7 { (request.session_id, request.session_epoch) } else { (0, -1) };
    ctx.services.fetch_sessions.begin(SessionAsk {
        session_id,
        session_epoch,
        uses_topic_ids: ctx.request.version >= 13,
        wanted,
        forgotten,
        now_ms: env.wall_ms() as u64,
        random: env.random_u64(),
    })
}

fn news_of(part: &FetchedPartition) -> News {
    let is_error = part.error.is_error();
    News {
        high_watermark: part.high_watermark,
        log_start: part.log_start,
        has_records: !part.batches.is_empty(),
        is_error,
        is_special: is_error || part.diverging.is_some(),
    }
}

impl Fetch {
    /// Reads; if there is not enough yet, waits for news of the partitions and reads again, until `wait` is over.
    async fn run(self: &Arc<Self>, wait: Duration) -> Vec<FetchedPartition> {
        let (parts, enough) = self.read().await;
        if enough || wait.is_zero() || self.wanted.is_empty() {
            return parts;
        }
        let deadline = self.services.env.now() + wait;
        let waiting = FetchWait::new();
        loop {
            let watched = self.watch(&waiting);
            // News between the last read and the registration would be missed: look before waiting.
            if !watched || self.readable() >= self.bytes_min.max(1) {
                let (parts, enough) = self.read().await;
                if enough {
                    return parts;
                }
            }
            let remaining = deadline.saturating_duration_since(self.services.env.now());
            if self.services.env.timeout(remaining, waiting.news()).await.is_none() {
                return self.read().await.0;
            }
            if self.readable() >= self.bytes_min.max(1) || self.any_lost() {
                let (parts, enough) = self.read().await;
                if enough {
                    return parts;
                }
            }
        }
    }

    fn partition(&self, key: &FetchKey) -> Result<Arc<Partition>, ErrorCode> {
        let image = self.services.metadata.image();
        let topic = if self.version >= 13 {
            image.topics.by_id(key.topic_id.into()).ok_or(ErrorCode::UnknownTopicId)?
        } else {
            image.topics.by_name(&key.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?
        };
        if usize::try_from(key.partition).map_or(true, |index| index >= topic.partitions.len()) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        self.services.partitions.hosted(TopicIdPartition { topic: topic.id, partition: key.partition })
    }

    /// Registers with every partition; false if one cannot be watched, so that a read will tell why.
    fn watch(&self, waiting: &Arc<FetchWait>) -> bool {
        let mut watched = true;
        for (key, _) in &self.wanted {
            match self.partition(key) {
                Ok(partition) => partition.watch(waiting),
                Err(_) => watched = false,
            }
        }
        watched
    }

    fn any_lost(&self) -> bool {
        self.wanted.iter().any(|(key, _)| self.partition(key).map_or(true, |found| found.leader_epoch().is_none()))
    }

    fn readable(&self) -> usize {
        let mut bytes = 0;
        for (key, wanted) in &self.wanted {
            if let Ok(partition) = self.partition(key) {
                let most = wanted.bytes_max.max(0) as usize;
                bytes += partition.readable_bytes(wanted.offset, most, self.isolation);
            }
        }
        bytes
    }

    /// One round over all partitions. True if the answer must not wait.
    async fn read(self: &Arc<Self>) -> (Vec<FetchedPartition>, bool) {
        let mut round = Round::default();
        if !self.read_on(&mut round, |partition, ask| partition.read_now(ask)) {
            // The first that lies on the disk and all behind it: one hop to a thread that may wait for the disk.
            let fetch = self.clone();
            let rest = move || {
                fetch.read_on(&mut round, |partition, ask| Some(partition.read_blocking(ask)));
                round
            };
            round = self.services.env.blocking(rest).await;
        }
        let enough = round.urgent || round.bytes >= self.bytes_min;
        (round.parts, enough)
    }

    /// Goes on with a round while `read` reads; true if it came to the end.
    fn read_on(
        &self,
        round: &mut Round,
        read: impl Fn(&Partition, &ReadAsk) -> Option<Result<Read, ErrorCode>>,
    ) -> bool {
        for (key, wanted) in &self.wanted[round.parts.len()..] {
            let partition = self.partition(key);
            let read = partition
                .as_ref()
                .map_or_else(|code| Some(Err(*code)), |partition| read(partition, &self.ask(wanted, round.bytes)));
            let Some(read) = read else { return false };
            round.push(self.part(key, partition.ok(), read));
        }
        true
    }

    fn ask(&self, wanted: &Wanted, bytes: usize) -> ReadAsk {
        let left = self.bytes_max.saturating_sub(bytes);
        ReadAsk {
            from: wanted.offset,
            bytes_max: left.min(wanted.bytes_max.max(0) as usize),
            at_least_one: bytes == 0,
            isolation: self.isolation,
            leader_epoch: wanted.leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
        }
    }

    fn part(
        &self,
        key: &FetchKey,
        partition: Option<Arc<Partition>>,
        read: Result<Read, ErrorCode>,
    ) -> FetchedPartition {
        if let Some(partition) = &partition {
            partition.meters.fetch_requests.fetch_add(1, Ordering::Relaxed);
            partition.meters.failed_fetch.fetch_add(u64::from(read.is_err()), Ordering::Relaxed);
        }
        let read = match read {
            Ok(read) => read,
            Err(error) => return FetchedPartition::refused(key.clone(), error),
        };
        FetchedPartition {
            key: key.clone(),
            error: ErrorCode::None,
            high_watermark: read.offsets.high_watermark,
            last_stable: read.offsets.last_stable,
            log_start: read.offsets.log_start,
            aborted: (self.isolation == Isolation::ReadCommitted).then(Vec::new),
            diverging: read.diverging,
            batches: read.batches,
            source: partition,
        }
    }
}

/// How far a round over the partitions has come.
#[derive(Default)]
struct Round {
    parts: Vec<FetchedPartition>,
    bytes: usize,
    /// The answer must not wait.
    urgent: bool,
}

impl Round {
    fn push(&mut self, part: FetchedPartition) {
        self.bytes += part.bytes();
        self.urgent |= part.error.is_error() || part.diverging.is_some();
        self.parts.push(part);
    }
}
