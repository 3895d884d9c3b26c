//! What a scrape reports: walks the broker once and fills every row of `crate::metrics`.
//!
//! Invariant: a metric is only set through its row, with exactly the row's labels (or none, for a broker-wide total of
//! a per-topic row).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Label, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::api::Services;
use crate::api::quotas::Resource;
use crate::api::table::APIS;
use crate::coordinator::group::GroupOverview;
use crate::coordinator::{GroupAnswer, GroupAsk};
use crate::http::shortcomings::{self, Leaderless};
use crate::ids::{BrokerId, TopicIdPartition};
use crate::metadata::{ClusterImage, PartitionRegistration, Topic};
use crate::metrics::{self as table, Kind, Metric};
use crate::network::Stats;
use crate::partitions::{LogOffsets, Partition};

/// Partitions without a leader that have a series each; all of them are counted.
const LEADERLESS_MAX: i32 = 100;

/// Kafka's broker states (`BrokerState`).
pub mod broker_state {
    pub const STARTING: u8 = 1;
    pub const RECOVERY: u8 = 2;
    pub const RUNNING: u8 = 3;
    pub const PENDING_CONTROLLED_SHUTDOWN: u8 = 6;
    pub const SHUTTING_DOWN: u8 = 7;
}

/// How long a scrape waits for the groups.
const GROUPS_PATIENCE: Duration = Duration::from_secs(1);

/// Everything that is reported on.
pub struct Collector {
    pub services: Arc<Services>,
    pub network: Arc<Stats>,
    /// One of [`broker_state`].
    pub state: AtomicU8,
}

/// Sums of one topic or of the broker.
#[derive(Default, Clone, Copy)]
struct Sums {
    messages_in: u64,
    bytes_in: u64,
    bytes_out: u64,
    produce: u64,
    fetch: u64,
    failed_produce: u64,
    failed_fetch: u64,
    corrupt_reads: u64,
}

/// Sets one series. Counters are set to their total: they live in the broker, not in the recorder.
fn set(metric: &Metric, labels: &[&str], value: f64) {
    debug_assert!(labels.is_empty() || labels.len() == metric.labels.len(), "{}", metric.name);
    let labels: Vec<Label> =
        metric.labels.iter().zip(labels).map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    match metric.kind {
        Kind::Counter => metrics::counter!(metric.name, labels).absolute(value as u64),
        Kind::Gauge => metrics::gauge!(metric.name, labels).set(value),
    }
}

impl Collector {
    /// The page for Prometheus.
    pub async fn render(&self) -> String {
        let answers = self.services.groups.ask_all(|| GroupAsk::Overview);
        // A shard that is still loading has nothing to tell yet; a scrape does not wait for it.
        let answers = self.services.env.timeout(GROUPS_PATIENCE, answers).await.unwrap_or_default();
        let groups: Vec<GroupOverview> = answers.into_iter().flat_map(overview).collect();
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            describe();
            let image = self.services.metadata.image();
            self.cluster(&image);
            self.partitions(&image);
            self.cleaner();
            self.requests();
            self.quotas();
            self.groups(&groups);
            self.clients();
            self.process();
        });
        let pushed = self.services.telemetry.page(self.services.env.wall_ms());
        recorder.handle().render() + &pushed
    }

    /// Why this broker should get no traffic now; `None` if it is ready.
    pub fn not_ready(&self) -> Option<String> {
        match self.state.load(Ordering::Relaxed) {
            broker_state::RUNNING => {}
            broker_state::PENDING_CONTROLLED_SHUTDOWN | broker_state::SHUTTING_DOWN => {
                return Some("shutting down".into());
            }
            broker_state::RECOVERY => return Some("starting: the controller has not unfenced this broker yet".into()),
            _ => return Some("starting: no controller has registered this broker yet".into()),
        }
        let services = &self.services;
        let is_fenced = || services.metadata.image().brokers.by_id(services.node).is_none_or(|broker| broker.fenced);
        if services.config.load().has_role("broker") && is_fenced() {
            return Some("fenced: the controller has not heard of this broker for broker.session.timeout.ms".into());
        }
        match self.services.partitions.offline_directories() {
            (offline, all) if offline == all => Some(format!("{offline} data directories are offline")),
            _ => None,
        }
    }

    /// What a broker that is ready cannot do with its disks, in lines. It gets traffic all the same: whoever reads, or
    /// deletes to make room, must reach it.
    pub fn limits_of_disks(&self) -> String {
        let partitions = &self.services.partitions;
        let mut lines = String::new();
        if let (offline @ 1.., all) = partitions.offline_directories() {
            lines += &format!("{offline} of {all} data directories are offline\n");
        }
        for path in partitions.full_directories() {
            lines += &format!("records are refused: the disk of {} is nearly full\n", path.display());
        }
        lines
    }

    /// What the cluster lacks as far as this broker knows, in lines. It serves all the same.
    pub fn limits_of_cluster(&self) -> String {
        shortcomings::in_lines(&self.services.metadata.image(), self.services.node)
    }

    fn cluster(&self, image: &ClusterImage) {
        let fenced = image.brokers.iter().filter(|broker| broker.fenced).count();
        let brokers = image.brokers.iter().count();
        let mut offline = 0;
        for Leaderless { topic, index, partition } in shortcomings::leaderless(image) {
            if offline < LEADERLESS_MAX {
                let why = shortcomings::why(image, partition);
                set(&table::OFFLINE_PARTITION, &[topic, &index.to_string(), &why], 1.0);
            }
            offline += 1;
        }
        for (broker, count) in shortcomings::out_of_sync(image, self.services.node) {
            set(&table::OUT_OF_SYNC, &[&broker.to_string()], count as f64);
        }
        let metadata = &self.services.metadata;
        let leader = if metadata.is_active() {
            Some(self.services.node)
        } else {
            metadata.active_controller().map(|(id, _)| id)
        };
        set(&table::ACTIVE_CONTROLLER, &[], f64::from(u8::from(metadata.is_active())));
        set(&table::OFFLINE_PARTITIONS, &[], f64::from(offline));
        set(&table::GLOBAL_TOPICS, &[], image.topics.len() as f64);
        set(&table::GLOBAL_PARTITIONS, &[], image.topics.partition_count() as f64);
        set(&table::ACTIVE_BROKERS, &[], (brokers - fenced) as f64);
        set(&table::FENCED_BROKERS, &[], fenced as f64);
        set(&table::TIMED_OUT_HEARTBEATS, &[], metadata.timed_out_heartbeats() as f64);
        set(&table::UNCLEAN_ELECTIONS, &[], metadata.unclean_elections() as f64);
        set(&table::LAST_APPLIED, &[], (image.index.next_offset - 1) as f64);
        set(&table::RAFT_EPOCH, &[], f64::from(image.index.controller_epoch));
        set(&table::RAFT_LEADER, &[], f64::from(leader.map_or(-1, |id| id.0)));
        set(&table::RAFT_HIGH_WATERMARK, &[], image.index.next_offset as f64);
        for topic in image.topics.iter() {
            set(&table::TOPIC_PARTITIONS, &[&topic.name], topic.partitions.len() as f64);
        }
    }

    fn cleaner(&self) {
        let figures = self.services.partitions.cleaner();
        let since_ms = match figures.last_run_ms.load(Ordering::Relaxed) {
            0 => 0,
            last_run_ms => self.services.env.wall_ms() - last_run_ms,
        };
        let aside = figures.uncleanable();
        let logs = aside.iter().filter_map(|&id| self.services.partitions.hosted(id).ok());
        let aside_bytes: u64 = logs.map(|partition| partition.size().0).sum();
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed) as f64;
        set(&table::CLEANER_DIRTY, &[], of(&figures.max_dirty_percent));
        set(&table::CLEANER_LAST_RUN, &[], since_ms as f64);
        set(&table::CLEANER_UNCLEANABLE, &[], aside.len() as f64);
        set(&table::CLEANER_UNCLEANABLE_BYTES, &[], aside_bytes as f64);
        set(&table::CLEANER_TIME, &[], of(&figures.max_clean_time_secs));
        set(&table::CLEANER_DELAY, &[], of(&figures.max_compaction_delay_secs));
        set(&table::CLEANER_RECOPY, &[], of(&figures.recopy_percent));
        set(&table::CLEANER_BUFFER, &[], of(&figures.max_buffer_utilization_percent));
    }

    fn partitions(&self, image: &ClusterImage) {
        let mut topics: BTreeMap<&str, Sums> = BTreeMap::new();
        let hosted = self.services.partitions.all();
        let (mut led, mut offline, mut producers, mut lag_max) = (0, 0, 0, 0);
        let mut isr = [0usize; 3];
        for partition in &hosted {
            add(topics.entry(partition.topic()).or_default(), partition);
            producers += partition.producer_count();
            led += u32::from(partition.leader_epoch().is_some());
            offline += u32::from(!partition.serves(false));
            if let Some(lag) = partition.lag() {
                let index = partition.index().to_string();
                set(&table::FETCHER_LAG, &[partition.topic(), &index], lag as f64);
                lag_max = lag_max.max(lag);
            }
            if let Some((topic, registration)) = registration(image, partition.id()) {
                let states = replication(topic, registration, partition, self.services.node);
                for (sum, state) in isr.iter_mut().zip(states) {
                    *sum += usize::from(state);
                }
            }
            log_gauges(partition);
        }
        let mut all = Sums::default();
        for (topic, sums) in &topics {
            topic_counters(sums, &[topic]);
            all.add(sums);
        }
        topic_counters(&all, &[]);
        set(&table::PARTITION_COUNT, &[], hosted.len() as f64);
        set(&table::LEADER_COUNT, &[], f64::from(led));
        set(&table::OFFLINE_REPLICAS, &[], f64::from(offline));
        set(&table::PRODUCER_IDS, &[], producers as f64);
        set(&table::UNDER_REPLICATED, &[], isr[0] as f64);
        set(&table::UNDER_MIN_ISR, &[], isr[1] as f64);
        set(&table::AT_MIN_ISR, &[], isr[2] as f64);
        set(&table::FETCHER_MAX_LAG, &[], lag_max as f64);
        self.replication();
        set(&table::OFFLINE_DIRECTORIES, &[], self.services.partitions.offline_directories().0 as f64);
        set(&table::FULL_DIRECTORIES, &[], self.services.partitions.full_directories().len() as f64);
        set(&table::GROUP_COMMITS, &[], self.services.partitions.group_commits() as f64);
    }

    fn replication(&self) {
        let figures = &self.services.partitions.neighbours().figures;
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed) as f64;
        set(&table::ISR_SHRINKS, &[], of(&figures.isr_shrinks));
        set(&table::ISR_EXPANDS, &[], of(&figures.isr_expands));
        set(&table::FAILED_ISR_UPDATES, &[], of(&figures.failed_isr_updates));
        set(&table::REPLICATION_IN, &[], of(&figures.bytes_in));
        set(&table::REPLICATION_OUT, &[], of(&figures.bytes_out));
        set(&table::FETCHER_FAILED, &[], of(&figures.failed_partitions));
    }

    fn requests(&self) {
        for listener in &self.network.listeners {
            set(&table::CONNECTIONS, &[&listener.listener], listener.open.value() as f64);
        }
        for api in APIS {
            let reading = self.services.api_stats.read(api.key);
            if reading.requests > 0 {
                set(&table::REQUESTS, &[api.name], reading.requests as f64);
                set(&table::REQUEST_TIME, &[api.name], (reading.answer_micros / 1000) as f64);
            }
        }
        let (sessions, partitions) = self.services.fetch_sessions.counts();
        set(&table::FETCH_SESSIONS, &[], sessions as f64);
        set(&table::FETCH_SESSION_PARTITIONS, &[], partitions as f64);
        set(&table::BROKER_STATE, &[], f64::from(self.state.load(Ordering::Relaxed)));
    }

    fn quotas(&self) {
        for resource in Resource::ALL.into_iter().filter(|resource| self.services.quotas.watch(*resource)) {
            let metric = match resource {
                Resource::Produce | Resource::Fetch => &table::QUOTA_BYTES,
                Resource::Request => &table::QUOTA_TIME,
                Resource::ControllerMutation => &table::QUOTA_MUTATIONS,
            };
            for (account, reading) in self.services.quotas.readings(resource) {
                let labels: &[&str] = &[resource.name(), &account.user, &account.client];
                set(metric, labels, reading.rate);
                set(&table::QUOTA_THROTTLE, labels, reading.throttle_ms.unwrap_or(f64::NAN));
                if let (Resource::ControllerMutation, Some(tokens)) = (resource, reading.tokens) {
                    set(&table::QUOTA_TOKENS, labels, tokens);
                }
            }
        }
    }

    fn groups(&self, groups: &[GroupOverview]) {
        let image = self.services.metadata.image();
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for group in groups {
            *states.entry(group.state.name()).or_default() += 1;
            set(&table::GROUP_MEMBERS, &[&group.group], group.members as f64);
            self.lag(&image, group);
        }
        for (state, count) in states {
            set(&table::GROUPS_BY_STATE, &["classic", state], count as f64);
        }
        set(&table::GROUPS, &[], groups.len() as f64);
        set(&table::GROUP_OFFSETS, &[], groups.iter().map(|group| group.offsets.len()).sum::<usize>() as f64);
    }

    fn lag(&self, image: &ClusterImage, group: &GroupOverview) {
        for (topic, partition, committed) in &group.offsets {
            let index = partition.to_string();
            let labels: &[&str] = &[&group.group, topic, &index];
            set(&table::GROUP_OFFSET, labels, *committed as f64);
            let Some(found) = image.topics.by_name(topic) else { continue };
            let id = TopicIdPartition { topic: found.id, partition: *partition };
            let hosted = self.services.partitions.hosted(id).ok();
            if let Some(offsets) = hosted.and_then(|partition| partition.offsets_if_any()) {
                set(&table::GROUP_LAG, labels, (offsets.high_watermark - committed).max(0) as f64);
            }
        }
    }

    fn clients(&self) {
        let telemetry = &self.services.telemetry;
        let (instances, series, dropped) = telemetry.sizes(self.services.env.wall_ms());
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        set(&table::CLIENT_INSTANCES, &[], instances as f64);
        set(&table::CLIENT_SERIES, &[], series as f64);
        set(&table::CLIENT_DROPPED, &[], dropped as f64);
        set(&table::CLIENT_UNKNOWN, &[], read(&telemetry.counts.unknown_subscriptions));
        set(&table::CLIENT_THROTTLED, &[], read(&telemetry.counts.throttled));
        set(&table::CLIENT_PUSHES, &[], read(&telemetry.counts.pushes));
        set(&table::CLIENT_UNREADABLE, &[], read(&telemetry.counts.unreadable));
    }

    fn process(&self) {
        set(&table::BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
        if let Some(pages) = proc_numbers("/proc/self/statm").get(1) {
            set(&table::MEMORY, &[], pages * 4096.0);
        }
        if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
            // Fields 14 and 15 (utime, stime), counted after the parenthesised name, in clock ticks of 10 ms.
            let after = stat.rsplit(')').next().unwrap_or("");
            let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
            set(&table::CPU, &[], ticks / 100.0);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            set(&table::OPEN_FILES, &[], open.count() as f64);
        }
    }
}

fn overview(answer: GroupAnswer) -> Vec<GroupOverview> {
    match answer {
        GroupAnswer::Overview(groups) => groups,
        _ => Vec::new(),
    }
}

fn describe() {
    for metric in table::METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
        }
    }
}

fn proc_numbers(path: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

fn add(sums: &mut Sums, partition: &Partition) {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let meters = &partition.meters;
    sums.add(&Sums {
        messages_in: read(&meters.messages_in),
        bytes_in: read(&meters.bytes_in),
        bytes_out: read(&meters.bytes_out),
        produce: read(&meters.produce_requests),
        fetch: read(&meters.fetch_requests),
        failed_produce: read(&meters.failed_produce),
        failed_fetch: read(&meters.failed_fetch),
        corrupt_reads: read(&meters.corrupt_reads),
    });
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.messages_in += other.messages_in;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.produce += other.produce;
        self.fetch += other.fetch;
        self.failed_produce += other.failed_produce;
        self.failed_fetch += other.failed_fetch;
        self.corrupt_reads += other.corrupt_reads;
    }
}

fn topic_counters(sums: &Sums, labels: &[&str]) {
    set(&table::MESSAGES_IN, labels, sums.messages_in as f64);
    set(&table::BYTES_IN, labels, sums.bytes_in as f64);
    set(&table::BYTES_OUT, labels, sums.bytes_out as f64);
    set(&table::PRODUCE_REQUESTS, labels, sums.produce as f64);
    set(&table::FETCH_REQUESTS, labels, sums.fetch as f64);
    set(&table::FAILED_PRODUCE, labels, sums.failed_produce as f64);
    set(&table::FAILED_FETCH, labels, sums.failed_fetch as f64);
    set(&table::CORRUPT_READS, labels, sums.corrupt_reads as f64);
}

fn registration(image: &ClusterImage, id: TopicIdPartition) -> Option<(&Topic, &PartitionRegistration)> {
    let topic = image.topics.by_id(id.topic)?;
    Some((topic, topic.partitions.get(usize::try_from(id.partition).ok()?)?))
}

/// Under-replicated, under and at min ISR, for a partition that this node leads.
fn replication(
    topic: &Topic,
    registration: &PartitionRegistration,
    partition: &Partition,
    node: BrokerId,
) -> [bool; 3] {
    let index = partition.index().to_string();
    let labels: &[&str] = &[&topic.name, &index];
    let (isr, replicas) = (registration.isr.len(), registration.replicas.len());
    let min_isr = (partition.settings().min_insync_replicas.max(1) as usize).min(replicas);
    let leads = registration.leader == Some(node);
    let states = [leads && isr < replicas, leads && isr < min_isr, leads && isr == min_isr];
    set(&table::PARTITION_ISR, labels, isr as f64);
    set(&table::PARTITION_REPLICAS, labels, replicas as f64);
    set(&table::PARTITION_UNDER_REPLICATED, labels, f64::from(u8::from(states[0])));
    set(&table::PARTITION_UNDER_MIN_ISR, labels, f64::from(u8::from(states[1])));
    set(&table::PARTITION_AT_MIN_ISR, labels, f64::from(u8::from(states[2])));
    states
}

fn log_gauges(partition: &Partition) {
    let index = partition.index().to_string();
    let labels: &[&str] = &[partition.topic(), &index];
    let Some(offsets) = partition.offsets_if_any() else { return };
    let LogOffsets { log_start, last_stable, high_watermark, log_end } = offsets;
    let (bytes, chunks) = partition.size();
    set(&table::LOG_SIZE, labels, bytes as f64);
    set(&table::LOG_SEGMENTS, labels, chunks as f64);
    set(&table::LOG_START, labels, log_start as f64);
    set(&table::LOG_END, labels, log_end as f64);
    set(&table::PARTITION_LSO_LAG, labels, (high_watermark - last_stable) as f64);
    set(&table::TOPIC_CURRENT_OFFSET, labels, high_watermark as f64);
    set(&table::TOPIC_OLDEST_OFFSET, labels, log_start as f64);
}
