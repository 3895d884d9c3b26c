//! Every metric, once: name, kind, labels, help. The exporter and `docs/metrics.md` read this table.
//!
//! Names are those that the common exporter rules make of Kafka's MBeans (lower case, `PerSec` meters as `_total`), so
//! that existing dashboards and alerts work; `kafka_consumergroup_*` and `kafka_topic_partition_*` are
//! kafka_exporter's,
//! from the broker itself; `process_*` are Prometheus' own; `ottla_*` have no counterpart in Kafka.

/// How a metric behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    Gauge,
}

/// One row of the table.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident $kind:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// Every metric, in the order of the table.
        pub const METRICS: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    MESSAGES_IN Counter "kafka_server_brokertopicmetrics_messagesin_total" ["topic"]
        "Records appended; without the label `topic`: of all topics.";
    BYTES_IN Counter "kafka_server_brokertopicmetrics_bytesin_total" ["topic"] "Bytes of record batches appended.";
    BYTES_OUT Counter "kafka_server_brokertopicmetrics_bytesout_total" ["topic"] "Bytes of record batches fetched.";
    PRODUCE_REQUESTS Counter "kafka_server_brokertopicmetrics_totalproducerequests_total" ["topic"]
        "Partitions produced to, over all requests.";
    FETCH_REQUESTS Counter "kafka_server_brokertopicmetrics_totalfetchrequests_total" ["topic"]
        "Partitions fetched from, over all requests.";
    FAILED_PRODUCE Counter "kafka_server_brokertopicmetrics_failedproducerequests_total" ["topic"]
        "Appends that were refused.";
    FAILED_FETCH Counter "kafka_server_brokertopicmetrics_failedfetchrequests_total" ["topic"] "Reads that were refused.";
    CORRUPT_READS Counter "ottla_corrupt_reads_total" ["topic"]
        "Reads that met bytes on disk which are not those that were written: nothing of them was given out.";
    PARTITION_COUNT Gauge "kafka_server_replicamanager_partitioncount" [] "Partitions hosted by this broker.";
    LEADER_COUNT Gauge "kafka_server_replicamanager_leadercount" [] "Partitions led by this broker.";
    UNDER_REPLICATED Gauge "kafka_server_replicamanager_underreplicatedpartitions" []
        "Led partitions with fewer in-sync replicas than replicas.";
    UNDER_MIN_ISR Gauge "kafka_server_replicamanager_underminisrpartitioncount" []
        "Led partitions with fewer in-sync replicas than min.insync.replicas.";
    AT_MIN_ISR Gauge "kafka_server_replicamanager_atminisrpartitioncount" []
        "Led partitions with exactly min.insync.replicas in-sync replicas.";
    ISR_SHRINKS Counter "kafka_server_replicamanager_isrshrinks_total" [] "Followers that left the ISR of a led partition.";
    ISR_EXPANDS Counter "kafka_server_replicamanager_isrexpands_total" [] "Followers that joined the ISR of a led partition.";
    FAILED_ISR_UPDATES Counter "kafka_server_replicamanager_failedisrupdates_total" [] "ISR changes that the controller refused.";
    REPLICATION_IN Counter "kafka_server_brokertopicmetrics_replicationbytesin_total" [] "Bytes of record batches copied from leaders.";
    REPLICATION_OUT Counter "kafka_server_brokertopicmetrics_replicationbytesout_total" []
        "Bytes of record batches sent to followers.";
    FETCHER_MAX_LAG Gauge "kafka_server_replicafetchermanager_maxlag" []
        "Records that a followed partition lacks of what its leader has committed, at most.";
    FETCHER_FAILED Gauge "kafka_server_replicafetchermanager_failedpartitionscount" []
        "Followed partitions whose last fetch failed.";
    FETCHER_LAG Gauge "kafka_server_fetcherlagmetrics_consumerlag" ["topic" "partition"]
        "Records that a followed partition lacks of what its leader has committed.";
    OFFLINE_REPLICAS Gauge "kafka_server_replicamanager_offlinereplicacount" [] "Hosted partitions whose directory failed.";
    PRODUCER_IDS Gauge "kafka_server_replicamanager_produceridcount" [] "Idempotent producers with state here.";
    ACTIVE_CONTROLLER Gauge "kafka_controller_kafkacontroller_activecontrollercount" [] "1 if this node is the controller.";
    OFFLINE_PARTITIONS Gauge "kafka_controller_kafkacontroller_offlinepartitionscount" [] "Partitions without a leader.";
    OFFLINE_PARTITION Gauge "ottla_partition_without_leader" ["topic" "partition" "why"]
        "1 for each of the first hundred partitions without a leader, with the reason.";
    OUT_OF_SYNC Gauge "ottla_replicas_out_of_sync" ["broker"]
        "Replicas that are not in sync of partitions led by this broker, by the broker that they are on.";
    GLOBAL_TOPICS Gauge "kafka_controller_kafkacontroller_globaltopiccount" [] "Topics of the cluster.";
    GLOBAL_PARTITIONS Gauge "kafka_controller_kafkacontroller_globalpartitioncount" [] "Partitions of the cluster.";
    ACTIVE_BROKERS Gauge "kafka_controller_kafkacontroller_activebrokercount" [] "Brokers that are not fenced.";
    FENCED_BROKERS Gauge "kafka_controller_kafkacontroller_fencedbrokercount" [] "Brokers that are fenced.";
    TIMED_OUT_HEARTBEATS Gauge "kafka_controller_kafkacontroller_timedoutbrokerheartbeatcount" []
        "Heartbeats of brokers that this controller did not answer in time.";
    UNCLEAN_ELECTIONS Counter "kafka_controller_controllerstats_uncleanleaderelections_total" []
        "Leaders elected although they may lack committed records.";
    LAST_APPLIED Gauge "kafka_controller_kafkacontroller_lastappliedrecordoffset" [] "Offset of the last metadata record applied.";
    PARTITION_UNDER_MIN_ISR Gauge "kafka_cluster_partition_underminisr" ["topic" "partition"] "1 if below min.insync.replicas.";
    PARTITION_AT_MIN_ISR Gauge "kafka_cluster_partition_atminisr" ["topic" "partition"] "1 if at min.insync.replicas.";
    PARTITION_UNDER_REPLICATED Gauge "kafka_cluster_partition_underreplicated" ["topic" "partition"]
        "1 if the ISR is smaller than the replica list.";
    PARTITION_ISR Gauge "kafka_cluster_partition_insyncreplicascount" ["topic" "partition"] "In-sync replicas.";
    PARTITION_REPLICAS Gauge "kafka_cluster_partition_replicascount" ["topic" "partition"] "Replicas.";
    PARTITION_LSO_LAG Gauge "kafka_cluster_partition_laststableoffsetlag" ["topic" "partition"]
        "High watermark minus last stable offset.";
    LOG_SIZE Gauge "kafka_log_log_size" ["topic" "partition"] "Bytes of the log.";
    LOG_START Gauge "kafka_log_log_logstartoffset" ["topic" "partition"] "First readable offset.";
    LOG_END Gauge "kafka_log_log_logendoffset" ["topic" "partition"] "Offset of the next record.";
    LOG_SEGMENTS Gauge "kafka_log_log_numlogsegments" ["topic" "partition"] "Chunks of the log's time index (Kafka: segments).";
    OFFLINE_DIRECTORIES Gauge "kafka_log_logmanager_offlinelogdirectorycount" [] "Data directories that failed.";
    CLEANER_DIRTY Gauge "kafka_log_logcleanermanager_max_dirty_percent" []
        "Dirty share of the dirtiest compacted log, in percent of what could be compacted of it.";
    CLEANER_LAST_RUN Gauge "kafka_log_logcleanermanager_time_since_last_run_ms" []
        "Milliseconds since compaction last looked for dirty logs.";
    CLEANER_UNCLEANABLE Gauge "kafka_log_logcleanermanager_uncleanable_partitions_count" []
        "Partitions set aside because their compaction failed.";
    CLEANER_UNCLEANABLE_BYTES Gauge "kafka_log_logcleanermanager_uncleanable_bytes" []
        "Bytes of the logs of partitions set aside.";
    CLEANER_TIME Gauge "kafka_log_logcleaner_max_clean_time_secs" []
        "Seconds that the longest compaction of the last round took.";
    CLEANER_DELAY Gauge "kafka_log_logcleaner_max_compaction_delay_secs" []
        "Seconds by which the most overdue log exceeds max.compaction.lag.ms.";
    CLEANER_RECOPY Gauge "kafka_log_logcleaner_cleaner_recopy_percent" []
        "Bytes written by the last compaction, in percent of those read.";
    CLEANER_BUFFER Gauge "kafka_log_logcleaner_max_buffer_utilization_percent" []
        "How full the table of keys became in the last round, in percent.";
    CONNECTIONS Gauge "kafka_server_socket_server_metrics_connection_count" ["listener"] "Open connections.";
    REQUESTS Counter "kafka_network_requestmetrics_requests_total" ["request"] "Requests answered, by API.";
    REQUEST_TIME Counter "kafka_network_requestmetrics_totaltimems_sum" ["request"]
        "Milliseconds from a request's arrival to its answer, summed.";
    QUOTA_THROTTLE Gauge "kafka_server_quota_throttle_time" ["resource" "user" "clientId"]
        "Milliseconds that a client above its quota was told to wait, on average; names are empty where they do not count.";
    QUOTA_BYTES Gauge "kafka_server_quota_byte_rate" ["resource" "user" "clientId"]
        "Bytes a second that a client produces or fetches, while any such quota is set.";
    QUOTA_TIME Gauge "kafka_server_quota_request_time" ["resource" "user" "clientId"]
        "Percent of a thread's time that the requests of a client take, while any such quota is set.";
    QUOTA_MUTATIONS Gauge "kafka_server_quota_mutation_rate" ["resource" "user" "clientId"]
        "Partitions a second that a client creates and deletes, while any such quota is set.";
    QUOTA_TOKENS Gauge "kafka_server_quota_tokens" ["resource" "user" "clientId"]
        "Partitions that a client may create or delete now.";
    FETCH_SESSIONS Gauge "kafka_server_fetchsessioncache_numincrementalfetchsessions" [] "Fetch sessions.";
    FETCH_SESSION_PARTITIONS Gauge "kafka_server_fetchsessioncache_numincrementalfetchpartitionscached" []
        "Partitions in fetch sessions.";
    BROKER_STATE Gauge "kafka_server_kafkaserver_brokerstate" [] "0 not running, 1 starting, 2 recovery, 3 running, 7 stopping.";
    GROUPS Gauge "kafka_coordinator_group_groupmetadatamanager_numgroups" [] "Groups coordinated here.";
    GROUP_OFFSETS Gauge "kafka_coordinator_group_groupmetadatamanager_numoffsets" [] "Committed offsets kept here.";
    GROUPS_BY_STATE Gauge "kafka_server_group_coordinator_metrics_group_count" ["protocol" "state"] "Groups by state.";
    GROUP_OFFSET Gauge "kafka_consumergroup_current_offset" ["consumergroup" "topic" "partition"] "Committed offset of a group.";
    GROUP_LAG Gauge "kafka_consumergroup_lag" ["consumergroup" "topic" "partition"]
        "High watermark minus committed offset of a group.";
    GROUP_MEMBERS Gauge "kafka_consumergroup_members" ["consumergroup"] "Members of a group.";
    CLIENT_INSTANCES Gauge "kafka_server_client_metrics_instance_count" [] "Client instances that push metrics (KIP-714).";
    CLIENT_UNKNOWN Counter "kafka_server_client_metrics_unknown_subscription_request_count_total" []
        "Pushes for a subscription that has changed.";
    CLIENT_THROTTLED Counter "kafka_server_client_metrics_throttle_count_total" []
        "Requests for telemetry that came too early.";
    CLIENT_PUSHES Counter "kafka_server_client_metrics_plugin_export_count_total" [] "Pushes of metrics by clients.";
    CLIENT_UNREADABLE Counter "kafka_server_client_metrics_plugin_error_count_total" [] "Pushes that could not be read.";
    CLIENT_SERIES Gauge "ottla_client_series" [] "Series pushed by clients: the `kafka_client_*` of this page.";
    CLIENT_DROPPED Counter "ottla_client_points_dropped_total" [] "Numbers pushed by clients that found no place.";
    TOPIC_PARTITIONS Gauge "kafka_topic_partitions" ["topic"] "Partitions of a topic.";
    TOPIC_CURRENT_OFFSET Gauge "kafka_topic_partition_current_offset" ["topic" "partition"] "High watermark.";
    TOPIC_OLDEST_OFFSET Gauge "kafka_topic_partition_oldest_offset" ["topic" "partition"] "First readable offset.";
    RAFT_EPOCH Gauge "kafka_server_raftmetrics_current_epoch" [] "Epoch of the metadata quorum's controller.";
    RAFT_LEADER Gauge "kafka_server_raftmetrics_current_leader" [] "Node that leads the metadata quorum, -1 if none.";
    RAFT_HIGH_WATERMARK Gauge "kafka_server_raftmetrics_high_watermark" [] "Committed end of the metadata log.";
    MEMORY Gauge "process_resident_memory_bytes" [] "Resident memory of the process.";
    CPU Counter "process_cpu_seconds_total" [] "User and system CPU time of the process, in whole seconds.";
    OPEN_FILES Gauge "process_open_fds" [] "Open file descriptors.";
    FULL_DIRECTORIES Gauge "ottla_full_log_directory_count" []
        "Data directories that refuse records for want of room: less than ottla.disk.reserve.bytes is left.";
    GROUP_COMMITS Counter "ottla_group_commits_total" [] "Group commits of the writer lanes: one sync each.";
    BUILD Gauge "ottla_build_info" ["version"] "1, with the version of the program.";
}

/// `docs/metrics.md`.
pub fn metrics_markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nGenerated from `src/metrics.rs`; do not edit. Served at `/metrics` of `ottla.metrics.listener`.\n\n\
         | Name | Kind | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        text += &format!("| `{}` | {kind} | {} | {} |\n", metric.name, metric.labels.join(", "), metric.help);
    }
    text += "\nBehind these stand the metrics that clients push (KIP-714, `kafka-client-metrics`): \
             `org.apache.kafka.producer.x.total` as `kafka_client_producer_x_total`, with the labels `client_id`, \
             `client_instance_id` and those the client gives. They go when the client has been silent for three \
             intervals, and at least a minute.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_counters_say_so() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Counter) {
            assert!(metric.name.ends_with("_total") || metric.name.ends_with("_sum"), "{}", metric.name);
        }
    }
}
