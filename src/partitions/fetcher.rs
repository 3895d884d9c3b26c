//! Fetching from leaders: one task per leader and per fetcher (`num.replica.fetchers`), each with one request on the
//! way for everything it follows there (Kafka's `ReplicaFetcherManager`, `AbstractFetcherThread`).
//!
//! Invariants: a partition is with at most one fetcher. The next request leaves when all that the last one brought is
//! on disk, because it acknowledges it. A partition whose fetch failed pauses alone; one whose epoch is over waits for
//! the next image. Which partitions a fetcher has is swapped whole.

mod messages;
mod pauses;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use kafka_protocol::messages::FetchResponse;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::messages::Fetched;
use self::pauses::Pauses;
use self::session::Session;
use super::partition::{FetchPosition, FollowFailure};
use super::{Partition, Partitions};
use crate::config::Config;
use crate::env::Env;
use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, TopicIdPartition};
use crate::metadata::ClusterImage;
use crate::peer::{Address, Peer, PeerFailed};

/// How long a request on the way may keep a partition waiting that has just been added. Then it is given up.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long a request waits for a partition whose last writes as leader are still on their way to the disk.
const SETTLING: Duration = Duration::from_millis(50);

/// What one fetcher fetches.
#[derive(Clone, Default)]
struct Assignment {
    address: Option<Address>,
    /// Under which this broker is registered.
    broker_epoch: i64,
    partitions: BTreeMap<TopicIdPartition, (Arc<Partition>, LeaderEpoch)>,
}

impl Assignment {
    fn is_like(&self, other: &Assignment) -> bool {
        let ids = |one: &Assignment| one.partitions.iter().map(|(id, (_, epoch))| (*id, *epoch)).collect::<Vec<_>>();
        (&self.address, self.broker_epoch) == (&other.address, other.broker_epoch) && ids(self) == ids(other)
    }

    /// True if something here is not in `other`.
    fn exceeds(&self, other: &Assignment) -> bool {
        let known =
            |id: &TopicIdPartition, epoch: LeaderEpoch| other.partitions.get(id).is_some_and(|one| one.1 == epoch);
        self.address != other.address || self.partitions.iter().any(|(id, (_, epoch))| !known(id, *epoch))
    }
}

struct Running {
    assigned: watch::Sender<Arc<Assignment>>,
    task: JoinHandle<()>,
}

/// A leader, and which of its fetchers.
type Place = (BrokerId, u64);

/// The fetchers of this broker.
pub struct Fetchers {
    env: Env,
    partitions: Partitions,
    config: Arc<ArcSwap<Config>>,
    running: BTreeMap<Place, Running>,
}

impl Fetchers {
    pub fn new(env: &Env, partitions: &Partitions, config: Arc<ArcSwap<Config>>) -> Fetchers {
        Fetchers { env: env.clone(), partitions: partitions.clone(), config, running: BTreeMap::new() }
    }

    /// Gives every partition that follows to the fetcher of its leader. `image` is in effect here already.
    pub fn follow(&mut self, image: &ClusterImage) {
        let neighbours = self.partitions.neighbours();
        neighbours.outgoing.limit(self.config.load().broker().leader_replication_throttled_rate);
        neighbours.incoming.limit(self.config.load().broker().follower_replication_throttled_rate);
        let mut wanted = self.assignments(image);
        self.running.retain(|place, running| {
            let stays = wanted.contains_key(place);
            if !stays {
                running.task.abort();
            }
            stays
        });
        for (place, assignment) in std::mem::take(&mut wanted) {
            match self.running.get(&place) {
                // A fetcher that has panicked is begun anew.
                Some(running) if !running.task.is_finished() => {
                    running.assigned.send_if_modified(|held| {
                        let changes = !held.is_like(&assignment);
                        if changes {
                            *held = Arc::new(assignment);
                        }
                        changes
                    });
                }
                _ => drop(self.running.insert(place, self.start(place.0, assignment))),
            }
        }
    }

    fn assignments(&self, image: &ClusterImage) -> BTreeMap<Place, Assignment> {
        let config = self.config.load();
        let listener = config.inter_broker_listener();
        let fetchers = u64::try_from(config.broker().num_replica_fetchers).unwrap_or(1).max(1);
        let broker_epoch = image.brokers.by_id(self.partitions.node()).map_or(-1, |broker| broker.epoch);
        let mut wanted: BTreeMap<Place, Assignment> = BTreeMap::new();
        for partition in self.partitions.all() {
            let Some((leader, epoch)) = partition.following() else { continue };
            let id = partition.id();
            let number = (id.topic.0 as u64).wrapping_mul(31).wrapping_add(id.partition as u64) % fetchers;
            let assignment = wanted.entry((leader, number)).or_insert_with(|| Assignment {
                address: address(image, leader, &listener),
                broker_epoch,
                partitions: BTreeMap::new(),
            });
            assignment.partitions.insert(id, (partition, epoch));
        }
        wanted.retain(|_, assignment| assignment.address.is_some());
        wanted
    }

    fn start(&self, leader: BrokerId, assignment: Assignment) -> Running {
        let (assigned, assignments) = watch::channel(Arc::new(assignment));
        let fetcher = Fetcher {
            env: self.env.clone(),
            node: self.partitions.node(),
            leader,
            config: self.config.clone(),
            partitions: self.partitions.clone(),
            assignments,
            pauses: Pauses::default(),
            served_last: None,
            session: Session::default(),
            peer: None,
        };
        let task = self.env.spawn(fetcher.run());
        Running { assigned, task }
    }
}

fn address(image: &ClusterImage, id: BrokerId, listener: &str) -> Option<Address> {
    let endpoints = &image.brokers.by_id(id)?.endpoints;
    let endpoint = endpoints.iter().find(|endpoint| endpoint.listener == listener)?;
    Some(Address { host: endpoint.host.clone(), port: endpoint.port })
}

/// One task.
struct Fetcher {
    env: Env,
    node: BrokerId,
    leader: BrokerId,
    config: Arc<ArcSwap<Config>>,
    partitions: Partitions,
    assignments: watch::Receiver<Arc<Assignment>>,
    pauses: Pauses,
    /// The last partition that an answer had records of: the next request begins behind it, so that none starves.
    served_last: Option<TopicIdPartition>,
    /// What the leader knows of what is fetched.
    session: Session,
    peer: Option<Peer>,
}

/// What was asked for.
type Asked = BTreeMap<TopicIdPartition, (Arc<Partition>, FetchPosition)>;

impl Fetcher {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let assignment = self.assignments.borrow_and_update().clone();
            self.pauses.keep(&assignment.partitions);
            let asked = self.positions(&assignment).await;
            if asked.is_empty() {
                if !self.idle().await {
                    return;
                }
                continue;
            }
            match self.fetch(&assignment, &asked).await {
                None => {}
                Some(Ok(answer)) => {
                    failures = 0;
                    let positions = asked.iter().map(|(id, (_, at))| (id, at));
                    self.session.answered(ErrorCode::from_code(answer.error_code), answer.session_id, positions);
                    match messages::fetched(answer) {
                        Ok(fetched) => self.take_over(&assignment, asked, fetched).await,
                        // The next request begins another session.
                        Err(code) => tracing::debug!(leader = %self.leader, %code, "a fetch session ended"),
                    }
                }
                Some(Err(failed)) => {
                    // Once is news; a leader that has died is fenced, and then nobody follows it any more.
                    if failures == 0 {
                        tracing::warn!(leader = %self.leader, %failed, "cannot fetch");
                    }
                    failures += 1;
                    self.peer = None;
                    self.session.end();
                    let pause = pauses::length(failures, self.backoff());
                    if !self.sleep(pause).await {
                        return;
                    }
                }
            }
        }
    }

    fn backoff(&self) -> Duration {
        Duration::from_millis(self.config.load().broker().replica_fetch_backoff_ms.max(1) as u64)
    }

    /// Waits for the next image that concerns this fetcher, or until a pause is over. False if there is nothing left.
    async fn idle(&mut self) -> bool {
        match self.pauses.next() {
            None => self.assignments.changed().await.is_ok(),
            Some(until) => self.sleep(until.saturating_duration_since(self.env.now())).await,
        }
    }

    async fn sleep(&mut self, pause: Duration) -> bool {
        let env = self.env.clone();
        match env.timeout(pause, self.assignments.changed()).await {
            Some(changed) => changed.is_ok(),
            None => true,
        }
    }

    /// Where every partition stands that is not pausing.
    async fn positions(&mut self, assignment: &Assignment) -> Asked {
        let now = self.env.now();
        let due = assignment.partitions.iter().filter(|(id, _)| !self.pauses.holds(**id, now));
        let due: Vec<_> = due.map(|(id, (partition, epoch))| (*id, partition.clone(), *epoch)).collect();
        let unsettled: Vec<_> = due.iter().filter(|(_, partition, _)| partition.fetch_position().is_none()).collect();
        if !unsettled.is_empty() {
            let settled = join_all(unsettled.iter().map(|(_, partition, _)| partition.settled()));
            self.env.timeout(SETTLING, settled).await;
        }
        let mut asked = Asked::new();
        for (id, partition, epoch) in due {
            match partition.fetch_position() {
                Some(_) if partition.is_held_up() => self.pauses.briefly(id, epoch, now),
                Some(at) if at.epoch == epoch && at.leader == self.leader => drop(asked.insert(id, (partition, at))),
                // Its role is changing, or its disk is slow.
                _ => self.pauses.briefly(id, epoch, now),
            }
        }
        asked
    }

    fn peer(&mut self, assignment: &Assignment) -> Option<Peer> {
        let address = assignment.address.clone()?;
        if self.peer.as_ref().is_none_or(|peer| *peer.address() != address) {
            self.peer = Some(Peer::new(&self.env, address, &format!("broker-{}-fetcher", self.node)));
            self.session.end();
        }
        self.peer.clone()
    }

    /// `None` if the request was given up, because partitions were added that should not wait for it.
    async fn fetch(&mut self, assignment: &Assignment, asked: &Asked) -> Option<Result<FetchResponse, PeerFailed>> {
        let peer = self.peer(assignment)?;
        let config = self.config.load_full();
        let replica = (self.node, assignment.broker_epoch);
        let request = messages::fetch(config.broker(), replica, asked, self.served_last, &self.session);
        let patience = Duration::from_millis(config.broker().replica_socket_timeout_ms.max(1) as u64);
        let mut call = std::pin::pin!(peer.call(messages::VERSION, &request, patience));
        loop {
            tokio::select! {
                biased;
                answer = &mut call => return Some(answer),
                changed = self.assignments.changed() => {
                    changed.ok()?;
                    if !self.assignments.borrow().exceeds(assignment) {
                        continue;
                    }
                    let answer = self.env.timeout(PATIENCE, &mut call).await;
                    // The connection ends with the request: the leader need not answer it any more.
                    if answer.is_none() {
                        self.peer = None;
                        self.session.end();
                    }
                    return answer;
                }
            }
        }
    }

    async fn take_over(
        &mut self,
        assignment: &Assignment,
        mut asked: Asked,
        fetched: Vec<(TopicIdPartition, Fetched)>,
    ) {
        self.served_last =
            fetched.iter().rev().find(|(_, part)| part.has_records()).map(|(id, _)| *id).or(self.served_last);
        let mut outcomes = Vec::with_capacity(fetched.len());
        let mut out_of_range = Vec::new();
        for (id, part) in fetched {
            // What was not asked for is nobody's.
            let Some((partition, at)) = asked.remove(&id) else { continue };
            match part {
                Fetched::Refused(ErrorCode::OffsetOutOfRange) => out_of_range.push((partition, at)),
                part => outcomes.push(async move {
                    let outcome = match part {
                        Fetched::Refused(code) => Err(Outcome::Refused(code)),
                        Fetched::Diverging(diverging) => partition.part(&at, diverging).await.map_err(Outcome::from),
                        Fetched::Records(sent) => partition.take_over(&at, sent).await.map_err(Outcome::from),
                    };
                    (partition, at, outcome)
                }),
            }
        }
        for (partition, at, outcome) in join_all(outcomes).await {
            self.settle(&partition, &at, outcome);
        }
        // What the answer does not name has no news: nothing is wrong with it.
        asked.keys().for_each(|id| self.pauses.end(*id));
        for (partition, at) in out_of_range {
            let outcome = self.begin_anew(assignment, &partition, &at).await;
            self.settle(&partition, &at, outcome);
        }
        let failed = &self.partitions.neighbours().figures.failed_partitions;
        failed.store(self.pauses.failed(), Ordering::Relaxed);
    }

    fn settle(&mut self, partition: &Partition, at: &FetchPosition, outcome: Result<(), Outcome>) {
        let (id, now, backoff) = (partition.id(), self.env.now(), self.backoff());
        match outcome {
            Ok(()) => self.pauses.end(id),
            Err(Outcome::Failed(FollowFailure::Moot)) => {}
            // An image with the next epoch is on its way.
            Err(Outcome::Refused(ErrorCode::FencedLeaderEpoch)) => self.pauses.until_next_epoch(id, at.epoch),
            Err(outcome) => {
                let first = self.pauses.fail(id, at.epoch, now, backoff);
                let leader = self.leader;
                match outcome {
                    Outcome::Failed(failure) if first => {
                        tracing::warn!(partition = ?partition, %leader, ?failure, "what the leader sent was not taken");
                    }
                    // Often it has not heard yet that it leads.
                    outcome => tracing::debug!(partition = ?partition, %leader, ?outcome, "a fetch failed"),
                }
            }
        }
    }

    /// The leader does not have what would come next. Its log may end before this one's: then it was elected uncleanly,
    /// and what it lacks is cut. Or it starts behind this one's end: then the log begins anew there
    /// (`AbstractFetcherThread.fetchOffsetAndTruncate`).
    async fn begin_anew(
        &mut self,
        assignment: &Assignment,
        partition: &Arc<Partition>,
        at: &FetchPosition,
    ) -> Result<(), Outcome> {
        let end = self.offset(assignment, partition, at, messages::LATEST).await?;
        if end < at.from {
            tracing::warn!(partition = ?partition, at.from, end, "the leader's log ends before this one");
            return Ok(partition.cut_to(at, end).await?);
        }
        let start = self.offset(assignment, partition, at, messages::EARLIEST).await?;
        match start > at.from {
            true => Ok(partition.restart_at(at, start).await?),
            // It has moved in the meantime.
            false => Ok(()),
        }
    }

    async fn offset(
        &mut self,
        assignment: &Assignment,
        partition: &Partition,
        at: &FetchPosition,
        timestamp: i64,
    ) -> Result<i64, Outcome> {
        let peer = self.peer(assignment).ok_or(Outcome::Refused(ErrorCode::BrokerNotAvailable))?;
        let request = messages::list_offsets(self.node, partition, at.epoch, timestamp);
        let patience = Duration::from_millis(self.config.load().broker().replica_socket_timeout_ms.max(1) as u64);
        let answer = peer.call(messages::LIST_OFFSETS_VERSION, &request, patience).await;
        let answer = answer.map_err(|failed| {
            tracing::debug!(leader = %self.leader, %failed, "cannot ask for an offset");
            Outcome::Refused(ErrorCode::NetworkException)
        })?;
        messages::offset(answer).map_err(Outcome::Refused)
    }
}

/// Why a fetch of a partition came to nothing.
#[derive(Debug)]
enum Outcome {
    /// The leader's word.
    Refused(ErrorCode),
    /// This replica's.
    Failed(FollowFailure),
}

impl From<FollowFailure> for Outcome {
    fn from(failure: FollowFailure) -> Outcome {
        Outcome::Failed(failure)
    }
}

#[cfg(test)]
mod tests;
