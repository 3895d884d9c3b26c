//! Fetch (1), versions 4–18.
//!
//! * v4 isolation level, v5 log start, v7 sessions, v9 leader epoch, v11 rack, v12 flexible with diverging epochs,
//!   v13 topic ids, v15 replica state, v16 the leader of what is led elsewhere (KIP-951), v17 directory ids, v18 the
//!   follower's high watermark. Before v6 a failed disk is "not leader", because clients retry that.
//! * Long poll: answered at once with enough bytes, an error, a diverging epoch or no time to wait; else it waits on
//!   its partitions and reads afresh.
//! * The first non-empty partition returns its first batch whole even above the limits (KIP-74).
//! * Above a quota the answer is empty and nothing was fetched: the client asks for the same again, later.
//! * A follower (replica id ≥ 0) reads up to the leader's log end, and its fetch offset acknowledges everything before.
//!   It is told early of a high watermark above the one it names (v18), and of a log start above its own.
//! * From v11 on a follower may answer a consumer, and the leader may send one there that named its rack (KIP-392).
//! * Followers are under no client quota.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use uuid::Uuid;

use crate::api::fetch_body::{Fetched, FetchedPartition, NAMES_LEADERS_SINCE};
use crate::api::fetch_session::{FetchKey, FetchPlan, News, SessionAsk, Wanted};
use crate::api::redirects::{Node, Redirects};
use crate::api::{Body, Context, Reply, Services};
use crate::error::ErrorCode;
use crate::ids::{BrokerId, Offset, TopicIdPartition};
use crate::metadata::ClusterImage;
use crate::partitions::{Copying, FetchWait, FollowerFetch, Isolation, Partition, Read, ReadAsk};

/// Kafka's debugging consumer reads up to the log end.
const DEBUGGING_CONSUMER: i32 = -2;

/// From this version on a consumer may read from followers (KIP-392).
const FROM_FOLLOWERS_SINCE: i16 = 11;

/// From this version on clients know that a failed disk is not the end.
const KNOWS_STORAGE_ERRORS_SINCE: i16 = 6;

/// How the class that looks at racks is called, behind its package.
const RACK_AWARE: &str = "RackAwareReplicaSelector";

/// Bytes of an answer without partitions, and of a partition without records.
const ANSWER_BYTES: usize = 20;
const PARTITION_BYTES: usize = 40;

/// What stays the same through one request's rounds.
struct Fetch {
    services: Arc<Services>,
    version: i16,
    isolation: Isolation,
    /// Id and broker epoch of the follower that asks; `None`: a consumer.
    follower: Option<(BrokerId, i64)>,
    /// Other brokers in the rack of the consumer, if that is to be considered and this broker is elsewhere.
    nearer: Vec<BrokerId>,
    bytes_max: usize,
    bytes_min: usize,
    wanted: Vec<(FetchKey, Wanted)>,
    /// Where what is wanted is hosted, in the same order.
    hosted: Vec<Result<Arc<Partition>, ErrorCode>>,
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
        (DEBUGGING_CONSUMER | 0.., _) => Isolation::LogEnd,
        (_, 1) => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let broker_epoch = if version >= 15 { request.replica_state.replica_epoch } else { -1 };
    let follower = (replica >= 0).then_some((BrokerId(replica), broker_epoch));
    let bytes_max = bytes_max(ctx, &request, follower.is_some());
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let FetchPlan { session_id, session, incremental, wanted } = plan;
    let image = ctx.services.metadata.image();
    let hosted = wanted.iter().map(|(key, _)| hosted(ctx, &image, key)).collect();
    let fetch = Arc::new(Fetch {
        services: ctx.services.clone(),
        version,
        isolation,
        follower,
        nearer: if follower.is_none() { nearer(ctx, &request.rack_id) } else { Vec::new() },
        bytes_max,
        bytes_min: (request.min_bytes.max(0) as usize).min(bytes_max),
        wanted,
        hosted,
    });
    let ctx = ctx.clone();
    Reply::Later(Box::pin(async move {
        let mut partitions = fetch.run(wait).await;
        let wait_ms = if fetch.follower.is_some() { 0 } else { ctx.throttle_fetch(weight(&partitions)) };
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
        fetch.count(&partitions);
        let nodes = redirected(&ctx, &mut partitions);
        let answer = Fetched { throttle_time_ms: 0, error: ErrorCode::None, session_id, partitions, nodes };
        Body::from_parts(answer.encode(version))
    }))
}

/// The largest answer: a follower's is its own matter.
fn bytes_max(ctx: &Context, request: &FetchRequest, is_follower: bool) -> usize {
    let asked = request.max_bytes.max(0) as usize;
    if is_follower {
        return asked;
    }
    let limit = ctx.services.config.load().broker().fetch_max_bytes.max(1024);
    asked.min(limit as usize).min(ctx.fetch_bytes_max())
}

/// The brokers that serve a consumer in `rack` better than this one, if the rack is to be considered at all
/// (`RackAwareReplicaSelector`): those in its rack that clients of its listener can reach, unless this broker is there.
fn nearer(ctx: &Context, rack: &str) -> Vec<BrokerId> {
    let config = ctx.services.config.load();
    let by_rack = config.broker().replica_selector_class.as_deref().is_some_and(|class| class.ends_with(RACK_AWARE));
    if !by_rack || rack.is_empty() || config.broker().broker_rack.as_deref() == Some(rack) {
        return Vec::new();
    }
    let image = ctx.services.metadata.image();
    let brokers = image.brokers.iter().filter(|broker| broker.rack.as_deref() == Some(rack) && !broker.fenced);
    let reachable =
        brokers.filter(|broker| broker.endpoints.iter().any(|endpoint| *endpoint.listener == *ctx.connection.listener));
    reachable.map(|broker| broker.id).collect()
}

fn without_partitions(error: ErrorCode, session_id: i32, throttle_time_ms: i32) -> Fetched {
    Fetched { throttle_time_ms, error, session_id, partitions: Vec::new(), nodes: Vec::new() }
}

/// Puts errors as the version knows them, and names the leaders of what is led elsewhere; their nodes.
fn redirected(ctx: &Context, partitions: &mut [FetchedPartition]) -> Vec<Node> {
    let version = ctx.request.version;
    let image = ctx.services.metadata.image();
    let mut redirects = Redirects::new(&image, &ctx.connection.listener);
    for part in partitions {
        match part.error {
            ErrorCode::KafkaStorageError if version < KNOWS_STORAGE_ERRORS_SINCE => {
                part.error = ErrorCode::NotLeaderOrFollower;
            }
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch if version >= NAMES_LEADERS_SINCE => {
                part.leader = redirects.leader(part.key.topic_id.into(), part.key.partition);
            }
            _ => {}
        }
    }
    redirects.nodes()
}

/// Bytes that the answer is charged with: records, and about what comes around them.
fn weight(partitions: &[FetchedPartition]) -> usize {
    let with_records = partitions.iter().map(FetchedPartition::bytes).filter(|bytes| *bytes > 0);
    ANSWER_BYTES + with_records.map(|bytes| bytes + PARTITION_BYTES).sum::<usize>()
}

fn plan(ctx: &Context, request: &FetchRequest, replica: i32) -> Result<FetchPlan, ErrorCode> {
    if replica < DEBUGGING_CONSUMER {
        return Err(ErrorCode::InvalidRequest);
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
                log_start: partition.log_start_offset,
                high_watermark: partition.high_watermark,
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
        is_follower: replica >= 0,
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
        is_special: is_error || part.diverging.is_some() || part.preferred.is_some(),
    }
}

fn hosted(ctx: &Context, image: &ClusterImage, key: &FetchKey) -> Result<Arc<Partition>, ErrorCode> {
    let topic = if ctx.request.version >= 13 {
        image.topics.by_id(key.topic_id.into()).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        image.topics.by_name(&key.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    topic.partition(key.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    ctx.services.partitions.hosted(TopicIdPartition { topic: topic.id, partition: key.partition })
}

impl Fetch {
    /// Reads; if there is not enough yet, waits for news of the partitions and reads again, until `wait` is over.
    async fn run(self: &Arc<Self>, wait: Duration) -> Vec<FetchedPartition> {
        let (parts, enough) = self.read(true).await;
        if enough || wait.is_zero() || self.wanted.is_empty() {
            return parts;
        }
        let deadline = self.services.env.now() + wait;
        let waiting = FetchWait::new();
        loop {
            let watched = self.watch(&waiting);
            // News between the last read and the registration would be missed: look before waiting.
            if !watched || self.has_news() {
                let (parts, enough) = self.read(false).await;
                if enough {
                    return parts;
                }
            }
            let remaining = deadline.saturating_duration_since(self.services.env.now());
            if self.services.env.timeout(remaining, waiting.news()).await.is_none() {
                return self.read(false).await.0;
            }
            if self.has_news() || self.any_lost() {
                let (parts, enough) = self.read(false).await;
                if enough {
                    return parts;
                }
            }
        }
    }

    fn partitions(&self) -> impl Iterator<Item = (&Wanted, &Arc<Partition>)> {
        let found = self.wanted.iter().zip(&self.hosted);
        found.filter_map(|((_, wanted), hosted)| Some((wanted, hosted.as_ref().ok()?)))
    }

    /// Registers with every partition; false if one cannot be watched, so that a read will tell why.
    fn watch(&self, waiting: &Arc<FetchWait>) -> bool {
        for (_, partition) in self.partitions() {
            partition.watch(waiting);
            if self.isolation == Isolation::LogEnd {
                partition.watch_end(waiting);
            }
        }
        self.hosted.iter().all(Result::is_ok)
    }

    fn any_lost(&self) -> bool {
        let leader_only = self.leader_only();
        self.hosted.iter().any(|hosted| hosted.as_ref().map_or(true, |found| !found.serves(leader_only)))
    }

    fn leader_only(&self) -> bool {
        self.follower.is_some() || self.version < FROM_FOLLOWERS_SINCE
    }

    /// True if an answer would now say enough.
    fn has_news(&self) -> bool {
        let behind = || self.partitions().any(|(wanted, partition)| self.is_behind(wanted, partition));
        self.readable() >= self.bytes_min.max(1) || (self.follower.is_some() && behind())
    }

    /// True if a follower should hear of this partition though there are no records for it.
    fn is_behind(&self, wanted: &Wanted, partition: &Partition) -> bool {
        let log_start = if wanted.log_start < 0 { Offset::MAX } else { wanted.log_start };
        self.follower.is_some() && partition.has_news_for(wanted.high_watermark, log_start)
    }

    fn count(&self, partitions: &[FetchedPartition]) {
        if self.follower.is_some() {
            let bytes = partitions.iter().map(|part| part.bytes() as u64).sum();
            self.services.partitions.neighbours().figures.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        } else {
            partitions.iter().for_each(FetchedPartition::count);
        }
    }

    fn readable(&self) -> usize {
        let bytes = self.partitions().map(|(wanted, partition)| {
            partition.readable_bytes(wanted.offset, wanted.bytes_max.max(0) as usize, self.isolation)
        });
        bytes.sum()
    }

    /// One round over all partitions. True if the answer must not wait. The first round takes note of how far a
    /// follower is.
    async fn read(self: &Arc<Self>, first: bool) -> (Vec<FetchedPartition>, bool) {
        let mut round = Round { admitted: self.admit_follower(first), ..Round::default() };
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

    /// Has the partitions look at the follower that asks, and, with `first`, take note of how far it is. In the order
    /// of what is wanted; nothing for a consumer.
    fn admit_follower(&self, first: bool) -> Vec<Result<Copying, ErrorCode>> {
        let Some((id, broker_epoch)) = self.follower else { return Vec::new() };
        let admit = |((_, wanted), hosted): (&(FetchKey, Wanted), &Result<Arc<Partition>, ErrorCode>)| {
            let fetch = FollowerFetch { id, broker_epoch, offset: wanted.offset, log_start: wanted.log_start };
            hosted.as_ref().map_err(|code| *code)?.admit_follower(&self.ask(wanted, 0), &fetch, first)
        };
        self.wanted.iter().zip(&self.hosted).map(admit).collect()
    }

    /// Goes on with a round while `read` reads; true if it came to the end.
    fn read_on(
        &self,
        round: &mut Round,
        read: impl Fn(&Partition, &ReadAsk) -> Option<Result<Read, ErrorCode>>,
    ) -> bool {
        for at in round.parts.len()..self.wanted.len() {
            let (key, wanted) = &self.wanted[at];
            let admitted = round.admitted.get(at).copied().unwrap_or(Ok(Copying::Free));
            let hosted = self.hosted[at].as_ref().map_err(|code| *code);
            let (partition, copying) = match (hosted, admitted) {
                (Ok(partition), Ok(copying)) => (partition, copying),
                (Ok(_), Err(code)) | (Err(code), _) => {
                    round.push(FetchedPartition::refused(key.clone(), code), false);
                    continue;
                }
            };
            let preferred = partition.best_follower(&self.nearer, wanted.offset);
            let ask = self.ask(wanted, round.bytes);
            // Whom a follower serves better gets no records here, only its name.
            let ask = if preferred.is_some() { ReadAsk { bytes_max: 0, at_least_one: false, ..ask } } else { ask };
            let Some(read) = read(partition, &copying.limit(ask)) else { return false };
            let part = self.part(key, partition, preferred, read);
            if copying != Copying::Free {
                partition.count_copied(part.bytes() as u64);
            }
            let behind = self.is_behind(wanted, partition);
            round.push(part, behind);
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
            leader_only: self.leader_only(),
        }
    }

    fn part(
        &self,
        key: &FetchKey,
        partition: &Arc<Partition>,
        preferred: Option<BrokerId>,
        read: Result<Read, ErrorCode>,
    ) -> FetchedPartition {
        if self.follower.is_none() {
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
            preferred,
            leader: None,
            batches: read.batches,
            source: Some(partition.clone()),
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
    /// What the partitions say to the follower that asks, in the order of what is wanted.
    admitted: Vec<Result<Copying, ErrorCode>>,
}

impl Round {
    /// Adds a partition; `urgent` if the answer must not wait whatever was read.
    fn push(&mut self, part: FetchedPartition, urgent: bool) {
        self.bytes += part.bytes();
        self.urgent |= urgent || part.error.is_error() || part.diverging.is_some() || part.preferred.is_some();
        self.parts.push(part);
    }
}
