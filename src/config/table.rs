//! The table of settings: every key of Kafka 4.3 that we know, one row each, and the few keys of our own.
//!
//! Invariants: a key is listed here and nowhere else; structs, validation, DescribeConfigs and the manual are derived
//! from its row. A default parses and is valid. The field of a key is its name with `_` for `.`. What `Ignored` says is
//! printed when the key is set, so it must be true.

use std::fmt;

use super::rules;
use super::typed::{ClassName, CleanupPolicy, CompressionType, Password, TimestampType, Typed, typed};
use super::value::{Kind, Valid, Value, invalid};

/// When a setting may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// At a start only.
    ReadOnly,
    /// While running, for one broker (KIP-226).
    PerBroker,
    /// While running, for one broker or for all.
    ClusterWide,
    /// While running, for one topic.
    PerTopic,
    /// While running, for one group.
    PerGroup,
    /// While running, for one subscription to clients' metrics.
    PerSubscription,
}

/// What a setting does here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Honoured {
    /// What it does in Kafka.
    Yes,
    /// Something of it; the text says what.
    Partly(&'static str),
    /// Nothing; the text says why.
    Ignored(&'static str),
}

/// What is known of one setting.
#[derive(Clone, Copy)]
pub struct Row {
    /// Kafka's name.
    pub name: &'static str,
    /// The heading it stands under in the manual.
    pub section: &'static str,
    pub kind: Kind,
    /// The value when nothing sets it, as one would write it; `None` is Kafka's null.
    pub default: Option<&'static str>,
    pub valid: Valid,
    pub update: Update,
    /// For a topic's setting: the broker's keys that give its default, the first that has a value wins, each with the
    /// milliseconds in its unit (1: the value is taken as it is).
    pub synonyms: &'static [(&'static str, i64)],
    pub honoured: Honoured,
    /// One sentence for DescribeConfigs and the manual.
    pub help: &'static str,
}

impl Row {
    /// Parses and checks `text`; the error is Kafka's sentence about the key `name`, which may carry a listener prefix.
    pub fn parse(&self, name: &str, text: &str) -> Result<Value, String> {
        let value = self.kind.parse(text).map_err(|why| invalid(name, &text, &why))?;
        self.valid.check(name, &value)?;
        Ok(value)
    }

    /// True if `text` is a value this setting may have.
    pub fn accepts(&self, text: &str) -> bool {
        self.parse(self.name, text).is_ok()
    }

    /// `text` as Kafka prints it once parsed.
    pub fn printed(&self, text: &str) -> String {
        self.kind.parse(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
    }

    /// True if the value must never leave the broker.
    pub fn sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// True if a running broker may be told another value.
    pub fn dynamic(&self) -> bool {
        self.update != Update::ReadOnly
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({})", self.name)
    }
}

/// The row of a broker's key. `listener.name.<listener>.<key>` and `listener.name.<listener>.<mechanism>.<key>` have
/// the row of `<key>` (KIP-103).
pub fn broker_row(name: &str) -> Option<&'static Row> {
    let find = |name: &str| BROKER_ROWS.iter().find(|row| row.name == name);
    if let Some(row) = find(name) {
        return Some(row);
    }
    let base = listener_key(name)?;
    find(base).or_else(|| base.split_once('.').and_then(|(_mechanism, key)| find(key)))
}

/// What follows `listener.name.<listener>.`, if the key has that prefix.
pub(super) fn listener_key(name: &str) -> Option<&str> {
    let (_listener, key) = name.strip_prefix("listener.name.")?.split_once('.')?;
    Some(key)
}

/// The row of a group's key.
pub fn group_row(name: &str) -> Option<&'static Row> {
    GROUP_ROWS.iter().find(|row| row.name == name)
}

/// The row of a key of a subscription to clients' metrics.
pub fn subscription_row(name: &str) -> Option<&'static Row> {
    SUBSCRIPTION_ROWS.iter().find(|row| row.name == name)
}

/// The row of a topic's key.
pub fn topic_row(name: &str) -> Option<&'static Row> {
    TOPIC_ROWS.iter().find(|row| row.name == name)
}

macro_rules! default_of {
    (null) => {
        None
    };
    ($text:literal) => {
        Some($text)
    };
    ($constant:ident) => {
        Some($constant)
    };
}

macro_rules! synonyms_of {
    () => {
        &[]
    };
    ($synonyms:expr) => {
        $synonyms
    };
}

/// `"name" field: type = "default" or null, valid, update, honoured, "help" [, from &[(broker key, milliseconds)]];`
macro_rules! settings {
    (
        $(#[$about:meta])* struct $settings:ident;
        $(#[$about_rows:meta])* rows $rows:ident;
        $(section $section:literal { $(
            $name:literal $field:ident: $ty:ty = $default:tt, $valid:expr, $update:ident, $honoured:expr,
            $help:literal $(, from $synonyms:expr)?;
        )* })*
    ) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $settings {
            $($(#[doc = $help] pub $field: $ty,)*)*
        }

        impl $settings {
            /// Reads every field from what `text_of` says of its key; a text that does not parse counts as absent.
            pub(crate) fn read(text_of: &dyn Fn(&str) -> Option<String>) -> $settings {
                $settings { $($($field: typed($name, text_of($name), default_of!($default)),)*)* }
            }
        }

        $(#[$about_rows])*
        pub static $rows: &[Row] = &[$($(
            Row {
                name: $name,
                section: $section,
                kind: <$ty as Typed>::KIND,
                default: default_of!($default),
                valid: $valid,
                update: Update::$update,
                synonyms: synonyms_of!($($synonyms)?),
                honoured: $honoured,
                help: $help,
            },
        )*)*];
    };
}

use Honoured::{Ignored, Partly, Yes};
use Valid::{
    Any, AtLeast, Between, Custom, Distinct, DistinctNonEmpty, ListOf, NonEmptyListOf, OneOf, OneOfAnyCase, Ratio,
};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

const PROTOCOLS: &[&str] = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
const EACH_TO_ITSELF: &str = "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL";
const PRINCIPAL_BUILDER: &str = "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder";
const REMOTE_METADATA: &str = "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager";
const JWT_RETRIEVER: &str = "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever";
const JWT_VALIDATOR: &str = "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator";
const COMPRESSIONS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const TIMESTAMPS: &[&str] = &["CreateTime", "LogAppendTime"];
const GROUP_TYPES: &[&str] = &["classic", "consumer", "share", "streams"];
const MIGRATIONS: &[&str] = &["disabled", "downgrade", "upgrade", "bidirectional"];
const ISOLATIONS: &[&str] = &["read_committed", "read_uncommitted"];
const AUTO_OFFSET_RESET: Valid =
    Custom { check: rules::auto_offset_reset, allowed: "earliest, latest or by_duration:PnDTnHnMn.nS" };
const THROTTLED: &str = "[partitionId]:[brokerId],... or *";

// Why a setting has no effect.
const ONE_NODE: &str = "it takes effect with several brokers";
const THREADS: &str = "tokio workers serve all requests";
const NO_SECURITY: &str = "security is not built yet";
const NO_JVM: &str = "classes of the JVM cannot be loaded";
const NO_SEGMENTS: &str = "logs are kept by the storage engine, without segments or indexes";
const SYNCED: &str = "every acknowledgement is synced, see ottla.sync.before.ack";
const NO_PURGATORY: &str = "a finished request leaves memory at once";
const NO_CONSUMER: &str = "consumer groups of the newer protocol are not built yet";
const NO_SHARE: &str = "share groups are not built yet";
const NO_STREAMS: &str = "streams groups are not built yet";
const NO_TRANSACTIONS: &str = "transactions are not built yet";
const METRICS: &str = "metrics are served over HTTP, see ottla.metrics.listener";
const METADATA_LOG: &str = "the metadata log is pruned by the quorum itself";
const NO_TIERS: &str = "tiered storage is not built yet";
const MOVES_MEASURED: &str = "moves are measured over eleven seconds";

settings! {
    /// The settings of a broker, typed, with every layer applied.
    struct BrokerSettings;
    /// One row per broker key, in the order of the manual.
    rows BROKER_ROWS;

    section "Identity and listeners" {
        "process.roles" process_roles: Vec<String> = "broker,controller", NonEmptyListOf(&["broker", "controller"]),
            ReadOnly, Partly("both roles together; a node of one role is not built yet"),
            "The roles of this process.";
        "node.id" node_id: i32 = "1", AtLeast(0), ReadOnly, Yes, "The number of this node in the cluster.";
        "broker.id" broker_id: i32 = "1", Any, ReadOnly, Yes, "Older name of node.id; both must agree.";
        "broker.rack" broker_rack: Option<String> = null, Any, ReadOnly, Yes,
            "The rack this broker reports to clients.";
        "listeners" listeners: Vec<String> = "PLAINTEXT://:9092", DistinctNonEmpty, PerBroker,
            Partly("read at a start; a running broker refuses another value"),
            "Addresses to listen on, as NAME://host:port; an empty host means every interface.";
        "advertised.listeners" advertised_listeners: Option<Vec<String>> = null, DistinctNonEmpty, ReadOnly, Yes,
            "Addresses that clients are told to connect to; without it, those of the listeners.";
        "listener.security.protocol.map" listener_security_protocol_map: String = EACH_TO_ITSELF, Any, PerBroker,
            Partly("PLAINTEXT only; TLS and SASL are not built yet; read at a start"),
            "Which security protocol each listener name speaks.";
        "inter.broker.listener.name" inter_broker_listener_name: Option<String> = null, Any, ReadOnly,
            Yes,
            "The listener that brokers use among themselves.";
        "security.inter.broker.protocol" security_inter_broker_protocol: String = "PLAINTEXT", OneOf(PROTOCOLS),
            ReadOnly, Yes,
            "The protocol between brokers when inter.broker.listener.name is not set.";
        "controller.listener.names" controller_listener_names: Vec<String> = "CONTROLLER", DistinctNonEmpty, ReadOnly,
            Yes,
            "Listeners that serve the controller and not clients.";
        "early.start.listeners" early_start_listeners: Option<Vec<String>> = null, Distinct, ReadOnly,
            Ignored("no listener has to wait for an authorizer"),
            "Listeners opened before the authorizer is ready.";
        "controller.quorum.voters" controller_quorum_voters: Vec<String> = "",
            Custom { check: rules::voters, allowed: "{id}@{host}:{port},..." }, ReadOnly,
            Yes,
            "The voters of a static controller quorum.";
        "controller.quorum.bootstrap.servers" controller_quorum_bootstrap_servers: Vec<String> = "",
            Custom { check: rules::bootstrap_servers, allowed: "{host}:{port},..." }, ReadOnly,
            Yes,
            "Addresses at which the controller quorum is found.";
        "controller.quorum.auto.join.enable" controller_quorum_auto_join_enable: bool = "false", Any, ReadOnly,
            Yes,
            "Whether a new controller joins the quorum by itself.";
        "controller.quorum.election.timeout.ms" controller_quorum_election_timeout_ms: i32 = "1000", AtLeast(0),
            ReadOnly, Ignored("controller.quorum.fetch.timeout.ms sets the pace of elections"),
            "How long a voter waits for a vote before it starts another election.";
        "controller.quorum.fetch.timeout.ms" controller_quorum_fetch_timeout_ms: i32 = "2000", AtLeast(0), ReadOnly,
            Yes,
            "How long a voter goes without hearing the leader before it stands for election.";
        "controller.quorum.election.backoff.max.ms" controller_quorum_election_backoff_max_ms: i32 = "1000",
            AtLeast(0), ReadOnly, Ignored("controller.quorum.fetch.timeout.ms sets the pace of elections"),
            "Longest pause between two elections.";
        "controller.quorum.append.linger.ms" controller_quorum_append_linger_ms: i32 = "25", AtLeast(0), ReadOnly,
            Ignored("the controller writes at once; what arrives meanwhile is written together"),
            "How long the leader collects records before it writes them.";
        "controller.quorum.request.timeout.ms" controller_quorum_request_timeout_ms: i32 = "2000", AtLeast(0),
            ReadOnly, Ignored(ONE_NODE),
            "How long a request between controllers may take.";
        "controller.quorum.retry.backoff.ms" controller_quorum_retry_backoff_ms: i32 = "20", AtLeast(0), ReadOnly,
            Ignored(ONE_NODE),
            "Pause before a failed request between controllers is repeated.";
        "initial.broker.registration.timeout.ms" initial_broker_registration_timeout_ms: i32 = "60000", Any, ReadOnly,
            Yes,
            "How long a starting broker tries to register with the controller.";
        "broker.heartbeat.interval.ms" broker_heartbeat_interval_ms: i32 = "2000", Any, ReadOnly, Yes,
            "Time between two heartbeats from broker to controller.";
        "broker.session.timeout.ms" broker_session_timeout_ms: i32 = "9000", Any, ReadOnly, Yes,
            "Silence after which the controller fences a broker.";
        "controlled.shutdown.enable" controlled_shutdown_enable: bool = "true", Any, ReadOnly, Yes,
            "Whether leadership moves away before a broker stops.";
        "config.providers" config_providers: Vec<String> = "", Distinct, ClusterWide,
            Ignored("placeholders in values are not resolved yet"),
            "Sources of values written as ${provider:path:key}.";
    }
    section "Network and threads" {
        "num.network.threads" num_network_threads: i32 = "3", AtLeast(1), ClusterWide, Ignored(THREADS),
            "Threads that read and write sockets in Kafka.";
        "num.io.threads" num_io_threads: i32 = "8", AtLeast(1), ClusterWide, Ignored(THREADS),
            "Threads that process requests in Kafka.";
        "background.threads" background_threads: i32 = "10", AtLeast(1), ClusterWide, Ignored(THREADS),
            "Threads for background work in Kafka.";
        "queued.max.requests" queued_max_requests: i32 = "500", AtLeast(1), ReadOnly,
            Ignored("each connection is held back by itself"),
            "Requests waiting for a thread before sockets are no longer read.";
        "queued.max.request.bytes" queued_max_request_bytes: i64 = "-1", Any, ReadOnly,
            Ignored("each connection is held back by itself"),
            "Bytes of waiting requests before sockets are no longer read.";
        "socket.send.buffer.bytes" socket_send_buffer_bytes: i32 = "102400", Any, ReadOnly,
            Ignored("the kernel sizes socket buffers"),
            "SO_SNDBUF of client connections; -1 leaves it to the system.";
        "socket.receive.buffer.bytes" socket_receive_buffer_bytes: i32 = "102400", Any, ReadOnly,
            Ignored("the kernel sizes socket buffers"),
            "SO_RCVBUF of client connections; -1 leaves it to the system.";
        "socket.request.max.bytes" socket_request_max_bytes: i32 = "104857600", AtLeast(1), ReadOnly, Yes,
            "Largest request accepted, in bytes.";
        "socket.listen.backlog.size" socket_listen_backlog_size: i32 = "50", AtLeast(1), ReadOnly,
            Ignored("the runtime chooses the backlog"),
            "Connections waiting to be accepted.";
        "max.connections" max_connections: i32 = "2147483647", AtLeast(0), ClusterWide, Yes,
            "Most connections to this broker.";
        "max.connections.per.ip" max_connections_per_ip: i32 = "2147483647", AtLeast(0), ClusterWide,
            Yes,
            "Most connections from one address.";
        "max.connections.per.ip.overrides" max_connections_per_ip_overrides: String = "",
            Custom { check: rules::connections_per_ip, allowed: "{address}:{count},..." }, ClusterWide, Yes,
            "Exceptions to max.connections.per.ip, as address:count.";
        "max.connection.creation.rate" max_connection_creation_rate: i32 = "2147483647", AtLeast(0), ClusterWide,
            Yes,
            "Most new connections in a second.";
        "connections.max.idle.ms" connections_max_idle_ms: i64 = "600000", Any, ReadOnly, Yes,
            "Idle time after which a connection is closed.";
        "connection.failed.authentication.delay.ms" connection_failed_authentication_delay_ms: i32 = "100",
            AtLeast(0), ReadOnly, Ignored(NO_SECURITY),
            "Delay before a connection that failed to authenticate is closed.";
        "request.timeout.ms" request_timeout_ms: i32 = "30000", Any, ReadOnly,
            Partly("bounds how long a change of metadata is waited for"),
            "How long this broker waits for an answer it asked for.";
        "socket.connection.setup.timeout.ms" socket_connection_setup_timeout_ms: i64 = "10000", Any, ReadOnly,
            Ignored(ONE_NODE),
            "How long connecting to another broker may take at first.";
        "socket.connection.setup.timeout.max.ms" socket_connection_setup_timeout_max_ms: i64 = "30000", Any, ReadOnly,
            Ignored(ONE_NODE),
            "How long connecting to another broker may take after failures.";
        "connections.max.reauth.ms" connections_max_reauth_ms: i64 = "0", Any, ReadOnly, Ignored(NO_SECURITY),
            "Longest session before a SASL client must authenticate again; 0 means no limit.";
        "sasl.server.max.receive.size" sasl_server_max_receive_size: i32 = "524288", Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Largest SASL message accepted, in bytes.";
    }
    section "Topics and messages" {
        "num.partitions" num_partitions: i32 = "1", AtLeast(1), ReadOnly, Yes,
            "Partitions of a new topic that does not ask for a number.";
        "default.replication.factor" default_replication_factor: i32 = "1", Any, ReadOnly, Yes,
            "Replicas of a new topic that does not ask for a number.";
        "auto.create.topics.enable" auto_create_topics_enable: bool = "true", Any, ReadOnly, Yes,
            "Whether asking for metadata of an unknown topic creates it.";
        "delete.topic.enable" delete_topic_enable: bool = "true", Any, ReadOnly, Yes,
            "Whether topics may be deleted.";
        "create.topic.policy.class.name" create_topic_policy_class_name: Option<ClassName> = null, Any, ReadOnly,
            Ignored(NO_JVM),
            "A class that judges new topics.";
        "alter.config.policy.class.name" alter_config_policy_class_name: Option<ClassName> = null, Any, ReadOnly,
            Ignored(NO_JVM),
            "A class that judges changes of settings.";
        "message.max.bytes" message_max_bytes: i32 = "1048588", AtLeast(0), ClusterWide, Yes,
            "Largest record batch accepted, in bytes, compressed.";
        "compression.type" compression_type: CompressionType = "producer", OneOf(COMPRESSIONS), ClusterWide, Yes,
            "How batches are stored; producer keeps what was sent.";
        "compression.gzip.level" compression_gzip_level: i32 = "-1",
            Custom { check: rules::gzip_level, allowed: "[1,...,9] or -1" }, ClusterWide, Yes,
            "Level of gzip when the broker compresses.";
        "compression.lz4.level" compression_lz4_level: i32 = "9", Between(1, 17), ClusterWide, Yes,
            "Level of lz4 when the broker compresses.";
        "compression.zstd.level" compression_zstd_level: i32 = "3", Between(-131072, 22), ClusterWide, Yes,
            "Level of zstd when the broker compresses.";
        "min.insync.replicas" min_insync_replicas: i32 = "1", AtLeast(1), ClusterWide, Yes,
            "In-sync replicas needed to accept a record sent with acks=all; never more than the replicas there are.";
        "unclean.leader.election.enable" unclean_leader_election_enable: bool = "false", Any, ClusterWide,
            Yes,
            "Whether a replica out of sync may lead when no other is left.";
        "log.message.timestamp.type" log_message_timestamp_type: TimestampType = "CreateTime", OneOf(TIMESTAMPS),
            ClusterWide, Yes,
            "Whose clock stamps a record: the producer's or the broker's.";
        "log.message.timestamp.before.max.ms" log_message_timestamp_before_max_ms: i64 = "9223372036854775807",
            AtLeast(0), ClusterWide, Yes,
            "How far behind the broker's clock a record's timestamp may be.";
        "log.message.timestamp.after.max.ms" log_message_timestamp_after_max_ms: i64 = "3600000", AtLeast(0),
            ClusterWide, Yes,
            "How far ahead of the broker's clock a record's timestamp may be.";
        "max.request.partition.size.limit" max_request_partition_size_limit: i32 = "2000", AtLeast(1), ReadOnly, Yes,
            "Most partitions described in one answer.";
        "fetch.max.bytes" fetch_max_bytes: i32 = "57671680", AtLeast(1024), ReadOnly, Yes,
            "Most bytes returned to one fetch.";
        "max.incremental.fetch.session.cache.slots" max_incremental_fetch_session_cache_slots: i32 = "1000",
            AtLeast(0), ReadOnly, Yes,
            "Incremental fetch sessions kept.";
    }
    section "Log" {
        "log.dir" log_dir: Option<Vec<String>> = null, DistinctNonEmpty, ReadOnly, Yes,
            "Data directory, when log.dirs is not set.";
        "log.dirs" log_dirs: Vec<String> = "./ottla-data", DistinctNonEmpty, ReadOnly, Yes, "Data directories.";
        "cordoned.log.dirs" cordoned_log_dirs: Vec<String> = "", Distinct, PerBroker, Yes,
            "Data directories that take no new replicas.";
        "log.segment.bytes" log_segment_bytes: i32 = "1073741824", AtLeast(1048576), ClusterWide,
            Partly("bounds the size of a batch, and how much of a compacted log is active"),
            "Size of a log segment.";
        "log.roll.ms" log_roll_ms: Option<i64> = null, Any, ClusterWide,
            Partly("bounds the time that records stored together may span"),
            "Age at which a segment is closed; falls to log.roll.hours.";
        "log.roll.hours" log_roll_hours: i32 = "168", AtLeast(1), ReadOnly,
            Partly("bounds the time that records stored together may span"),
            "Age at which a segment is closed, in hours.";
        "log.roll.jitter.ms" log_roll_jitter_ms: Option<i64> = null, Any, ClusterWide, Ignored(NO_SEGMENTS),
            "Random part of the age at which a segment is closed; falls to log.roll.jitter.hours.";
        "log.roll.jitter.hours" log_roll_jitter_hours: i32 = "0", AtLeast(0), ReadOnly, Ignored(NO_SEGMENTS),
            "Random part of the age at which a segment is closed, in hours.";
        "log.retention.ms" log_retention_ms: Option<i64> = null, Any, ClusterWide, Yes,
            "Age after which records are deleted, -1 for never; falls to log.retention.minutes.";
        "log.retention.minutes" log_retention_minutes: Option<i32> = null, Any, ReadOnly, Yes,
            "Age after which records are deleted, in minutes; falls to log.retention.hours.";
        "log.retention.hours" log_retention_hours: i32 = "168", Any, ReadOnly, Yes,
            "Age after which records are deleted, in hours.";
        "log.retention.bytes" log_retention_bytes: i64 = "-1", Any, ClusterWide, Yes,
            "Size above which a partition loses its oldest records; -1 for no limit.";
        "log.retention.check.interval.ms" log_retention_check_interval_ms: i64 = "300000", AtLeast(1), ReadOnly, Yes,
            "Time between two passes of retention.";
        "log.cleanup.policy" log_cleanup_policy: CleanupPolicy = "delete", ListOf(&["compact", "delete"]),
            ClusterWide, Yes,
            "What happens to old records: delete, compact, both, or nothing.";
        "log.index.size.max.bytes" log_index_size_max_bytes: i32 = "10485760", AtLeast(4), ClusterWide,
            Ignored(NO_SEGMENTS),
            "Size of an offset index.";
        "log.index.interval.bytes" log_index_interval_bytes: i32 = "4096", AtLeast(0), ClusterWide,
            Ignored(NO_SEGMENTS),
            "Bytes of log between two index entries.";
        "log.flush.interval.messages" log_flush_interval_messages: i64 = "9223372036854775807", AtLeast(1),
            ClusterWide, Ignored(SYNCED),
            "Records after which a log is flushed to disk.";
        "log.flush.interval.ms" log_flush_interval_ms: Option<i64> = null, Any, ClusterWide, Ignored(SYNCED),
            "Time after which a log is flushed to disk; falls to log.flush.scheduler.interval.ms.";
        "log.flush.scheduler.interval.ms" log_flush_scheduler_interval_ms: i64 = "9223372036854775807", Any, ReadOnly,
            Ignored(SYNCED),
            "How often Kafka looks for logs to flush.";
        "log.flush.offset.checkpoint.interval.ms" log_flush_offset_checkpoint_interval_ms: i32 = "60000", AtLeast(0),
            ReadOnly, Ignored("offsets are stored with the records"),
            "How often Kafka writes the recovery point of its logs.";
        "log.flush.start.offset.checkpoint.interval.ms" log_flush_start_offset_checkpoint_interval_ms: i32 = "60000",
            AtLeast(0), ReadOnly, Ignored("offsets are stored with the records"),
            "How often Kafka writes the start offset of its logs.";
        "log.segment.delete.delay.ms" log_segment_delete_delay_ms: i64 = "60000", AtLeast(0), ClusterWide,
            Ignored(NO_SEGMENTS),
            "Time between forgetting a segment and deleting its files.";
        "log.preallocate" log_preallocate: bool = "false", Any, ClusterWide, Ignored(NO_SEGMENTS),
            "Whether the file of a segment is created at full size.";
        "num.recovery.threads.per.data.dir" num_recovery_threads_per_data_dir: i32 = "2", AtLeast(1), ClusterWide,
            Ignored("a start recovers no logs"),
            "Threads that recover logs at start.";
        "log.dir.failure.timeout.ms" log_dir_failure_timeout_ms: i64 = "30000", AtLeast(1), ReadOnly,
            Ignored(ONE_NODE),
            "How long a broker with a failed directory tries to tell the controller.";
        "num.replica.alter.log.dirs.threads" num_replica_alter_log_dirs_threads: Option<i32> = null, Any, ReadOnly,
            Yes,
            "Threads that move replicas between directories.";
    }
    section "Cleaner" {
        "log.cleaner.enable" log_cleaner_enable: bool = "true", Any, ReadOnly, Yes,
            "Whether compaction runs.";
        "log.cleaner.threads" log_cleaner_threads: i32 = "1", AtLeast(0), ClusterWide, Yes,
            "Threads that compact logs.";
        "log.cleaner.io.max.bytes.per.second" log_cleaner_io_max_bytes_per_second: f64 = "1.7976931348623157E308",
            Any, ClusterWide, Yes,
            "Limit of disk traffic caused by compaction.";
        "log.cleaner.dedupe.buffer.size" log_cleaner_dedupe_buffer_size: i64 = "134217728", Any, ClusterWide,
            Yes,
            "Memory for the keys seen by compaction, over all its threads.";
        "log.cleaner.io.buffer.size" log_cleaner_io_buffer_size: i32 = "524288", AtLeast(0), ClusterWide,
            Ignored("a log is compacted in steps of 1 MiB"),
            "Memory for the disk buffers of compaction.";
        "log.cleaner.io.buffer.load.factor" log_cleaner_io_buffer_load_factor: f64 = "0.9", Any, ClusterWide,
            Yes,
            "How full the table of keys may become.";
        "log.cleaner.backoff.ms" log_cleaner_backoff_ms: i64 = "15000", AtLeast(0), ClusterWide, Yes,
            "Pause when there is nothing to compact.";
        "log.cleaner.min.cleanable.ratio" log_cleaner_min_cleanable_ratio: f64 = "0.5", Ratio, ClusterWide,
            Yes,
            "Share of uncompacted bytes from which a log is compacted.";
        "log.cleaner.delete.retention.ms" log_cleaner_delete_retention_ms: i64 = "86400000", AtLeast(0), ClusterWide,
            Yes,
            "How long the mark of a deleted key is kept.";
        "log.cleaner.min.compaction.lag.ms" log_cleaner_min_compaction_lag_ms: i64 = "0", AtLeast(0), ClusterWide,
            Yes,
            "How long a record is safe from compaction.";
        "log.cleaner.max.compaction.lag.ms" log_cleaner_max_compaction_lag_ms: i64 = "9223372036854775807",
            AtLeast(1), ClusterWide, Yes,
            "How long a record may stay uncompacted.";
    }
    section "Replication" {
        "num.replica.fetchers" num_replica_fetchers: i32 = "1", AtLeast(1), ClusterWide, Yes,
            "Threads that copy from each other broker.";
        "replica.lag.time.max.ms" replica_lag_time_max_ms: i64 = "30000", Any, ReadOnly, Yes,
            "How long a follower may lag before it leaves the in-sync replicas.";
        "replica.fetch.max.bytes" replica_fetch_max_bytes: i32 = "1048576", AtLeast(0), ReadOnly, Yes,
            "Bytes that a follower asks for per partition.";
        "replica.fetch.response.max.bytes" replica_fetch_response_max_bytes: i32 = "10485760", AtLeast(0), ReadOnly,
            Yes,
            "Bytes that a follower asks for in one fetch.";
        "replica.fetch.min.bytes" replica_fetch_min_bytes: i32 = "1", Any, ReadOnly, Yes,
            "Bytes that a follower waits for.";
        "replica.fetch.wait.max.ms" replica_fetch_wait_max_ms: i32 = "500", Any, ReadOnly, Yes,
            "How long a follower waits for these bytes.";
        "replica.fetch.backoff.ms" replica_fetch_backoff_ms: i32 = "1000", AtLeast(0), ReadOnly, Yes,
            "Pause of a follower after a failed fetch.";
        "replica.socket.timeout.ms" replica_socket_timeout_ms: i32 = "30000", Any, ReadOnly, Yes,
            "How long a follower waits for an answer.";
        "replica.socket.receive.buffer.bytes" replica_socket_receive_buffer_bytes: i32 = "65536", Any, ReadOnly,
            Ignored("the system sizes the buffers of connections between brokers"),
            "SO_RCVBUF of a follower's connection.";
        "replica.high.watermark.checkpoint.interval.ms" replica_high_watermark_checkpoint_interval_ms: i64 = "5000",
            Any, ReadOnly, Ignored("the high watermark is written with the records"),
            "How often the high watermark is written to disk.";
        "replica.selector.class" replica_selector_class: Option<String> = null, Any, ReadOnly,
            Partly("org.apache.kafka.common.replica.RackAwareReplicaSelector by name; another class is not looked for"),
            "A class that chooses the replica a consumer reads from.";
        "auto.leader.rebalance.enable" auto_leader_rebalance_enable: bool = "true", Any, ReadOnly, Yes,
            "Whether leadership returns to the preferred replica by itself.";
        "leader.imbalance.check.interval.seconds" leader_imbalance_check_interval_seconds: i64 = "300", AtLeast(1),
            ReadOnly, Yes,
            "How often the balance of leaders is checked.";
        "controller.socket.timeout.ms" controller_socket_timeout_ms: i32 = "30000", Any, ReadOnly, Ignored(ONE_NODE),
            "How long a request from controller to broker may take.";
        "fetch.purgatory.purge.interval.requests" fetch_purgatory_purge_interval_requests: i32 = "1000", Any,
            ReadOnly, Ignored(NO_PURGATORY),
            "Finished fetches kept in memory until they are swept.";
        "producer.purgatory.purge.interval.requests" producer_purgatory_purge_interval_requests: i32 = "1000", Any,
            ReadOnly, Ignored(NO_PURGATORY),
            "Finished produce requests kept in memory until they are swept.";
        "delete.records.purgatory.purge.interval.requests"
            delete_records_purgatory_purge_interval_requests: i32 = "1", Any, ReadOnly, Ignored(NO_PURGATORY),
            "Finished record deletions kept in memory until they are swept.";
        "follower.fetch.last.tiered.offset.enable" follower_fetch_last_tiered_offset_enable: bool = "false", Any,
            ClusterWide, Ignored(NO_TIERS),
            "Whether a new follower starts at the end of the tiered part.";
        "leader.replication.throttled.rate" leader_replication_throttled_rate: i64 = "9223372036854775807",
            AtLeast(0), ClusterWide, Yes,
            "Limit in bytes a second for throttled replicas read from this broker.";
        "follower.replication.throttled.rate" follower_replication_throttled_rate: i64 = "9223372036854775807",
            AtLeast(0), ClusterWide, Yes,
            "Limit in bytes a second for throttled replicas copied to this broker.";
        "replica.alter.log.dirs.io.max.bytes.per.second"
            replica_alter_log_dirs_io_max_bytes_per_second: i64 = "9223372036854775807", AtLeast(0), ClusterWide,
            Yes,
            "Limit in bytes a second for moves between directories.";
    }
    section "Groups and offsets" {
        "offsets.topic.replication.factor" offsets_topic_replication_factor: i16 = "3", AtLeast(1), ReadOnly, Yes,
            "Replicas of __consumer_offsets; unless set, no more than there are brokers.";
        "offsets.topic.num.partitions" offsets_topic_num_partitions: i32 = "50", AtLeast(1), ReadOnly, Yes,
            "Partitions of __consumer_offsets.";
        "offsets.topic.segment.bytes" offsets_topic_segment_bytes: i32 = "104857600", AtLeast(1), ReadOnly,
            Partly("bounds the size of a batch, and how much of a compacted log is active"),
            "Size of a segment of __consumer_offsets.";
        "offsets.topic.compression.codec" offsets_topic_compression_codec: i32 = "0", Any, ReadOnly,
            Ignored("group records are stored uncompressed"),
            "Compression of __consumer_offsets, by number.";
        "offsets.load.buffer.size" offsets_load_buffer_size: i32 = "5242880", AtLeast(1), ReadOnly,
            Ignored("groups are loaded in steps of a fixed size"),
            "Bytes read at once when groups are loaded.";
        "offsets.commit.timeout.ms" offsets_commit_timeout_ms: i32 = "5000", AtLeast(1), ReadOnly, Yes,
            "How long an offset commit waits for its replicas.";
        "offsets.retention.minutes" offsets_retention_minutes: i32 = "10080", AtLeast(1), ReadOnly, Yes,
            "How long the offsets of an empty group are kept.";
        "offsets.retention.check.interval.ms" offsets_retention_check_interval_ms: i64 = "600000", AtLeast(1),
            ReadOnly, Yes,
            "Time between two searches for expired offsets.";
        "offset.metadata.max.bytes" offset_metadata_max_bytes: i32 = "4096", Any, ReadOnly, Yes,
            "Most bytes of text stored beside an offset.";
        "group.initial.rebalance.delay.ms" group_initial_rebalance_delay_ms: i32 = "3000", Any, ReadOnly, Yes,
            "How long an empty classic group waits for more members.";
        "group.min.session.timeout.ms" group_min_session_timeout_ms: i32 = "6000", Any, ReadOnly, Yes,
            "Shortest session timeout a classic member may ask for.";
        "group.max.session.timeout.ms" group_max_session_timeout_ms: i32 = "1800000", Any, ReadOnly, Yes,
            "Longest session timeout a classic member may ask for.";
        "group.max.size" group_max_size: i32 = "2147483647", AtLeast(1), ReadOnly, Yes,
            "Most members of a classic group.";
        "group.coordinator.rebalance.protocols"
            group_coordinator_rebalance_protocols: Vec<String> = "classic,consumer,streams",
            NonEmptyListOf(GROUP_TYPES), ReadOnly, Partly("classic; the other kinds are not built yet"),
            "Kinds of group that are served.";
        "group.coordinator.threads" group_coordinator_threads: i32 = "4", AtLeast(1), ReadOnly, Ignored(THREADS),
            "Threads that run groups.";
        "group.coordinator.background.threads" group_coordinator_background_threads: i32 = "2", AtLeast(1), ReadOnly,
            Ignored(THREADS),
            "Threads that compute assignments.";
        "group.coordinator.append.linger.ms" group_coordinator_append_linger_ms: i32 = "-1", AtLeast(-1), ReadOnly,
            Ignored("records of groups are written at once"),
            "How long records of groups are collected; -1 adapts to the load.";
        "group.coordinator.cached.buffer.max.bytes" group_coordinator_cached_buffer_max_bytes: i32 = "1048588",
            AtLeast(524288), ClusterWide, Ignored("no append buffers are kept"),
            "Largest append buffer kept for reuse.";
        "group.consumer.session.timeout.ms" group_consumer_session_timeout_ms: i32 = "45000", AtLeast(1), ReadOnly,
            Ignored(NO_CONSUMER),
            "Silence after which a member of a consumer group is removed.";
        "group.consumer.min.session.timeout.ms" group_consumer_min_session_timeout_ms: i32 = "45000", AtLeast(1),
            ReadOnly, Ignored(NO_CONSUMER),
            "Shortest session timeout a consumer group may set.";
        "group.consumer.max.session.timeout.ms" group_consumer_max_session_timeout_ms: i32 = "60000", AtLeast(1),
            ReadOnly, Ignored(NO_CONSUMER),
            "Longest session timeout a consumer group may set.";
        "group.consumer.heartbeat.interval.ms" group_consumer_heartbeat_interval_ms: i32 = "5000", AtLeast(1),
            ReadOnly, Ignored(NO_CONSUMER),
            "Heartbeat interval given to members of consumer groups.";
        "group.consumer.min.heartbeat.interval.ms" group_consumer_min_heartbeat_interval_ms: i32 = "5000", AtLeast(1),
            ReadOnly, Ignored(NO_CONSUMER),
            "Shortest heartbeat interval a consumer group may set.";
        "group.consumer.max.heartbeat.interval.ms" group_consumer_max_heartbeat_interval_ms: i32 = "15000",
            AtLeast(1), ReadOnly, Ignored(NO_CONSUMER),
            "Longest heartbeat interval a consumer group may set.";
        "group.consumer.max.size" group_consumer_max_size: i32 = "2147483647", AtLeast(1), ReadOnly,
            Ignored(NO_CONSUMER),
            "Most members of a consumer group.";
        "group.consumer.assignors" group_consumer_assignors: Vec<String> = "uniform,range", DistinctNonEmpty,
            ReadOnly, Ignored(NO_CONSUMER),
            "Assignors of consumer groups; the first is the default.";
        "group.consumer.migration.policy" group_consumer_migration_policy: String = "bidirectional",
            OneOfAnyCase(MIGRATIONS), ReadOnly, Ignored(NO_CONSUMER),
            "Which conversions between classic and consumer groups are made.";
        "group.consumer.assignment.interval.ms" group_consumer_assignment_interval_ms: i32 = "1000", AtLeast(0),
            ClusterWide, Ignored(NO_CONSUMER),
            "Shortest time between two assignments of a consumer group.";
        "group.share.session.timeout.ms" group_share_session_timeout_ms: i32 = "45000", AtLeast(1), ReadOnly,
            Ignored(NO_SHARE),
            "Silence after which a member of a share group is removed.";
        "group.share.heartbeat.interval.ms" group_share_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ReadOnly,
            Ignored(NO_SHARE),
            "Heartbeat interval given to members of share groups.";
        "group.share.max.size" group_share_max_size: i32 = "200", Between(1, 1000), ReadOnly, Ignored(NO_SHARE),
            "Most members of a share group.";
        "group.share.max.share.sessions" group_share_max_share_sessions: i32 = "2000", AtLeast(1), ReadOnly,
            Ignored(NO_SHARE),
            "Share sessions kept.";
        "group.share.assignors" group_share_assignors: Vec<String> = "simple", DistinctNonEmpty, ReadOnly,
            Ignored(NO_SHARE),
            "Assignors of share groups.";
        "group.share.assignment.interval.ms" group_share_assignment_interval_ms: i32 = "1000", AtLeast(0),
            ClusterWide, Ignored(NO_SHARE),
            "Shortest time between two assignments of a share group.";
        "group.share.delivery.count.limit" group_share_delivery_count_limit: i32 = "5", Between(2, 10), ReadOnly,
            Ignored(NO_SHARE),
            "How often a record is delivered before it is given up.";
        "group.share.record.lock.duration.ms" group_share_record_lock_duration_ms: i32 = "30000",
            Between(1000, 3600000), ReadOnly, Ignored(NO_SHARE),
            "How long a record is locked for the consumer that has it.";
        "group.share.min.record.lock.duration.ms" group_share_min_record_lock_duration_ms: i32 = "15000",
            Between(1000, 30000), ReadOnly, Ignored(NO_SHARE),
            "Shortest lock a share group may set.";
        "group.share.max.record.lock.duration.ms" group_share_max_record_lock_duration_ms: i32 = "60000",
            Between(30000, 3600000), ReadOnly, Ignored(NO_SHARE),
            "Longest lock a share group may set.";
        "group.share.partition.max.record.locks" group_share_partition_max_record_locks: i32 = "2000",
            Between(100, 10000), ReadOnly, Ignored(NO_SHARE),
            "Most records of a partition locked at once.";
        "share.coordinator.state.topic.num.partitions" share_coordinator_state_topic_num_partitions: i32 = "50",
            AtLeast(1), ReadOnly, Ignored(NO_SHARE),
            "Partitions of __share_group_state.";
        "share.coordinator.state.topic.replication.factor"
            share_coordinator_state_topic_replication_factor: i16 = "3", AtLeast(1), ReadOnly, Ignored(NO_SHARE),
            "Replicas of __share_group_state.";
        "share.coordinator.state.topic.min.isr" share_coordinator_state_topic_min_isr: i16 = "2", AtLeast(1),
            ReadOnly, Ignored(NO_SHARE),
            "In-sync replicas that __share_group_state needs.";
        "share.coordinator.snapshot.update.records.per.snapshot"
            share_coordinator_snapshot_update_records_per_snapshot: i32 = "500", Between(0, 500), ReadOnly,
            Ignored(NO_SHARE),
            "Changes of share state between two snapshots of it.";
        "group.streams.session.timeout.ms" group_streams_session_timeout_ms: i32 = "45000", AtLeast(1), ReadOnly,
            Ignored(NO_STREAMS),
            "Silence after which a member of a streams group is removed.";
        "group.streams.heartbeat.interval.ms" group_streams_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ReadOnly,
            Ignored(NO_STREAMS),
            "Heartbeat interval given to members of streams groups.";
        "group.streams.max.size" group_streams_max_size: i32 = "2147483647", AtLeast(1), ReadOnly,
            Ignored(NO_STREAMS),
            "Most members of a streams group.";
        "group.streams.num.standby.replicas" group_streams_num_standby_replicas: i32 = "0", AtLeast(0), ReadOnly,
            Ignored(NO_STREAMS),
            "Standby tasks of each stateful task.";
        "group.streams.max.standby.replicas" group_streams_max_standby_replicas: i32 = "2", AtLeast(0), ReadOnly,
            Ignored(NO_STREAMS),
            "Most standby tasks a streams group may set.";
        "group.streams.initial.rebalance.delay.ms" group_streams_initial_rebalance_delay_ms: i32 = "3000", AtLeast(0),
            ReadOnly, Ignored(NO_STREAMS),
            "How long an empty streams group waits for more members.";
        "group.streams.assignment.interval.ms" group_streams_assignment_interval_ms: i32 = "1000", AtLeast(0),
            ClusterWide, Ignored(NO_STREAMS),
            "Shortest time between two assignments of a streams group.";
        "group.consumer.min.assignment.interval.ms"
            group_consumer_min_assignment_interval_ms: i32 = "0", AtLeast(0), ReadOnly, Ignored(NO_CONSUMER),
            "Shortest assignment interval a consumer group may set.";
        "group.consumer.max.assignment.interval.ms"
            group_consumer_max_assignment_interval_ms: i32 = "15000", AtLeast(0), ReadOnly, Ignored(NO_CONSUMER),
            "Longest assignment interval a consumer group may set.";
        "group.share.min.session.timeout.ms" group_share_min_session_timeout_ms: i32 = "45000", AtLeast(1), ReadOnly,
            Ignored(NO_SHARE),
            "Shortest session timeout a share group may set.";
        "group.share.max.session.timeout.ms" group_share_max_session_timeout_ms: i32 = "60000", AtLeast(1), ReadOnly,
            Ignored(NO_SHARE),
            "Longest session timeout a share group may set.";
        "group.share.min.heartbeat.interval.ms"
            group_share_min_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ReadOnly, Ignored(NO_SHARE),
            "Shortest heartbeat interval a share group may set.";
        "group.share.max.heartbeat.interval.ms"
            group_share_max_heartbeat_interval_ms: i32 = "15000", AtLeast(1), ReadOnly, Ignored(NO_SHARE),
            "Longest heartbeat interval a share group may set.";
        "group.share.min.assignment.interval.ms"
            group_share_min_assignment_interval_ms: i32 = "0", AtLeast(0), ReadOnly, Ignored(NO_SHARE),
            "Shortest assignment interval a share group may set.";
        "group.share.max.assignment.interval.ms"
            group_share_max_assignment_interval_ms: i32 = "15000", AtLeast(0), ReadOnly, Ignored(NO_SHARE),
            "Longest assignment interval a share group may set.";
        "group.share.min.delivery.count.limit"
            group_share_min_delivery_count_limit: i32 = "2", Between(2, 5), ReadOnly, Ignored(NO_SHARE),
            "Fewest deliveries a share group may allow a record.";
        "group.share.max.delivery.count.limit"
            group_share_max_delivery_count_limit: i32 = "10", Between(5, 25), ReadOnly, Ignored(NO_SHARE),
            "Most deliveries a share group may allow a record.";
        "group.share.min.partition.max.record.locks"
            group_share_min_partition_max_record_locks: i32 = "100", Between(100, 2000), ReadOnly, Ignored(NO_SHARE),
            "Smallest number of locked records a share group may set.";
        "group.share.max.partition.max.record.locks"
            group_share_max_partition_max_record_locks: i32 = "4000", Between(2000, 10000),
            ReadOnly, Ignored(NO_SHARE),
            "Largest number of locked records a share group may set.";
        "group.streams.min.session.timeout.ms"
            group_streams_min_session_timeout_ms: i32 = "45000", AtLeast(1), ReadOnly, Ignored(NO_STREAMS),
            "Shortest session timeout a streams group may set.";
        "group.streams.max.session.timeout.ms"
            group_streams_max_session_timeout_ms: i32 = "60000", AtLeast(1), ReadOnly, Ignored(NO_STREAMS),
            "Longest session timeout a streams group may set.";
        "group.streams.min.heartbeat.interval.ms"
            group_streams_min_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ReadOnly, Ignored(NO_STREAMS),
            "Shortest heartbeat interval a streams group may set.";
        "group.streams.max.heartbeat.interval.ms"
            group_streams_max_heartbeat_interval_ms: i32 = "15000", AtLeast(1), ReadOnly, Ignored(NO_STREAMS),
            "Longest heartbeat interval a streams group may set.";
        "group.streams.min.assignment.interval.ms"
            group_streams_min_assignment_interval_ms: i32 = "0", AtLeast(0), ReadOnly, Ignored(NO_STREAMS),
            "Shortest assignment interval a streams group may set.";
        "group.streams.max.assignment.interval.ms"
            group_streams_max_assignment_interval_ms: i32 = "15000", AtLeast(0), ReadOnly, Ignored(NO_STREAMS),
            "Longest assignment interval a streams group may set.";
        "share.coordinator.append.linger.ms" share_coordinator_append_linger_ms: i32 = "-1", AtLeast(-1), ReadOnly,
            Ignored(NO_SHARE),
            "How long the share coordinator collects records before it writes them.";
        "share.coordinator.cached.buffer.max.bytes"
            share_coordinator_cached_buffer_max_bytes: i32 = "1048588", AtLeast(524288),
            ClusterWide, Ignored(NO_SHARE),
            "Largest append buffer the share coordinator keeps for reuse.";
        "share.coordinator.load.buffer.size"
            share_coordinator_load_buffer_size: i32 = "5242880", AtLeast(1), ReadOnly, Ignored(NO_SHARE),
            "Bytes read at a time while share state is loaded.";
        "share.coordinator.state.topic.compression.codec"
            share_coordinator_state_topic_compression_codec: i32 = "0", Any, ReadOnly, Ignored(NO_SHARE),
            "Codec of __share_group_state, by its number.";
        "share.coordinator.state.topic.segment.bytes"
            share_coordinator_state_topic_segment_bytes: i32 = "104857600", AtLeast(1), ReadOnly, Ignored(NO_SHARE),
            "Size of a segment of __share_group_state.";
        "share.coordinator.threads" share_coordinator_threads: i32 = "1", AtLeast(1), ReadOnly, Ignored(NO_SHARE),
            "Threads of the share coordinator in Kafka.";
        "share.coordinator.write.timeout.ms" share_coordinator_write_timeout_ms: i32 = "5000", AtLeast(1), ReadOnly,
            Ignored(NO_SHARE),
            "How long the share coordinator waits for a write.";
        "share.fetch.purgatory.purge.interval.requests"
            share_fetch_purgatory_purge_interval_requests: i32 = "1000", Any, ReadOnly, Ignored(NO_SHARE),
            "Finished share fetches kept before they are swept.";
    }
    section "Transactions" {
        "transaction.state.log.replication.factor" transaction_state_log_replication_factor: i16 = "3", AtLeast(1),
            ReadOnly, Ignored(NO_TRANSACTIONS),
            "Replicas of __transaction_state; unless set, no more than there are brokers.";
        "transaction.state.log.min.isr" transaction_state_log_min_isr: i32 = "2", AtLeast(1), ReadOnly,
            Ignored(NO_TRANSACTIONS),
            "In-sync replicas that __transaction_state needs.";
        "transaction.state.log.num.partitions" transaction_state_log_num_partitions: i32 = "50", AtLeast(1), ReadOnly,
            Ignored(NO_TRANSACTIONS),
            "Partitions of __transaction_state.";
        "transaction.state.log.segment.bytes" transaction_state_log_segment_bytes: i32 = "104857600", AtLeast(1),
            ReadOnly, Ignored(NO_TRANSACTIONS),
            "Size of a segment of __transaction_state.";
        "transaction.state.log.load.buffer.size" transaction_state_log_load_buffer_size: i32 = "5242880", AtLeast(1),
            ReadOnly, Ignored(NO_TRANSACTIONS),
            "Bytes read at once when transactions are loaded.";
        "transaction.max.timeout.ms" transaction_max_timeout_ms: i32 = "900000", AtLeast(1), ReadOnly,
            Ignored(NO_TRANSACTIONS),
            "Longest timeout a transactional producer may ask for.";
        "transactional.id.expiration.ms" transactional_id_expiration_ms: i32 = "604800000", AtLeast(1), ReadOnly,
            Ignored(NO_TRANSACTIONS),
            "Disuse after which a transactional id is forgotten.";
        "transaction.abort.timed.out.transaction.cleanup.interval.ms"
            transaction_abort_timed_out_transaction_cleanup_interval_ms: i32 = "10000", AtLeast(1), ReadOnly,
            Ignored(NO_TRANSACTIONS),
            "Time between two searches for transactions out of time.";
        "transaction.remove.expired.transaction.cleanup.interval.ms"
            transaction_remove_expired_transaction_cleanup_interval_ms: i32 = "3600000", AtLeast(1), ReadOnly,
            Ignored(NO_TRANSACTIONS),
            "Time between two searches for transactional ids in disuse.";
        "transaction.partition.verification.enable" transaction_partition_verification_enable: bool = "true", Any,
            ClusterWide, Ignored(NO_TRANSACTIONS),
            "Whether a transactional write is checked against its coordinator.";
        "transaction.two.phase.commit.enable" transaction_two_phase_commit_enable: bool = "false", Any, ReadOnly,
            Ignored(NO_TRANSACTIONS),
            "Whether producers may take part in two-phase commit.";
        "producer.id.expiration.ms" producer_id_expiration_ms: i32 = "86400000", AtLeast(1), ClusterWide, Yes,
            "Disuse after which the sequence numbers of a producer are forgotten.";
        "producer.id.expiration.check.interval.ms" producer_id_expiration_check_interval_ms: i32 = "600000", AtLeast(1),
            ReadOnly, Yes,
            "Time between two searches for producers in disuse.";
        "add.partitions.to.txn.retry.backoff.ms" add_partitions_to_txn_retry_backoff_ms: i32 = "20", AtLeast(1),
            ReadOnly, Ignored(NO_TRANSACTIONS),
            "Pause before a partition is offered again to a busy transaction.";
        "add.partitions.to.txn.retry.backoff.max.ms" add_partitions_to_txn_retry_backoff_max_ms: i32 = "100",
            AtLeast(0), ReadOnly, Ignored(NO_TRANSACTIONS),
            "How long a partition is offered to a busy transaction.";
    }
    section "Security" {
        "authorizer.class.name" authorizer_class_name: String = "", Any, ReadOnly, Ignored(NO_SECURITY),
            "The class that decides who may do what.";
        "super.users" super_users: String = "", Any, ReadOnly, Ignored(NO_SECURITY),
            "Principals that may do everything, separated by semicolons.";
        "allow.everyone.if.no.acl.found" allow_everyone_if_no_acl_found: bool = "false", Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Whether a resource without rules is open to all.";
        "principal.builder.class" principal_builder_class: ClassName = PRINCIPAL_BUILDER, Any, PerBroker,
            Ignored(NO_SECURITY),
            "The class that names who is at the other end of a connection.";
        "sasl.enabled.mechanisms" sasl_enabled_mechanisms: Vec<String> = "GSSAPI", Distinct, PerBroker,
            Ignored(NO_SECURITY),
            "SASL mechanisms offered to clients.";
        "sasl.mechanism.inter.broker.protocol" sasl_mechanism_inter_broker_protocol: String = "GSSAPI", Any,
            PerBroker, Ignored(NO_SECURITY),
            "SASL mechanism between brokers.";
        "sasl.mechanism.controller.protocol" sasl_mechanism_controller_protocol: String = "GSSAPI", Any, ReadOnly,
            Ignored(NO_SECURITY),
            "SASL mechanism towards controllers.";
        "sasl.jaas.config" sasl_jaas_config: Option<Password> = null, Any, PerBroker, Ignored(NO_SECURITY),
            "Login modules with their credentials.";
        "sasl.server.callback.handler.class" sasl_server_callback_handler_class: Option<ClassName> = null, Any,
            ReadOnly, Ignored(NO_SECURITY),
            "The class that checks SASL credentials.";
        "sasl.kerberos.service.name" sasl_kerberos_service_name: Option<String> = null, Any, PerBroker,
            Ignored(NO_SECURITY),
            "Kerberos name of the service.";
        "sasl.oauthbearer.jwks.endpoint.url" sasl_oauthbearer_jwks_endpoint_url: Option<String> = null, Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Where the keys of the token provider are found.";
        "sasl.oauthbearer.expected.audience" sasl_oauthbearer_expected_audience: Vec<String> = "", Distinct, ReadOnly,
            Ignored(NO_SECURITY),
            "Audiences accepted in a token.";
        "sasl.oauthbearer.expected.issuer" sasl_oauthbearer_expected_issuer: Option<String> = null, Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Issuer accepted in a token.";
        "sasl.oauthbearer.clock.skew.seconds" sasl_oauthbearer_clock_skew_seconds: i32 = "30", Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Clock difference tolerated when a token is checked.";
        "ssl.client.auth" ssl_client_auth: String = "none", OneOf(&["required", "requested", "none"]), PerBroker,
            Ignored(NO_SECURITY),
            "Whether clients must show a certificate.";
        "ssl.protocol" ssl_protocol: String = "TLSv1.3", Any, PerBroker, Ignored(NO_SECURITY),
            "TLS version to begin with.";
        "ssl.enabled.protocols" ssl_enabled_protocols: Vec<String> = "TLSv1.2,TLSv1.3", Distinct, PerBroker,
            Ignored(NO_SECURITY),
            "TLS versions accepted.";
        "ssl.cipher.suites" ssl_cipher_suites: Vec<String> = "", Distinct, PerBroker, Ignored(NO_SECURITY),
            "Cipher suites accepted; empty means all that are known.";
        "ssl.keystore.type" ssl_keystore_type: String = "JKS", Any, PerBroker, Ignored(NO_SECURITY),
            "Format of the key store.";
        "ssl.keystore.location" ssl_keystore_location: Option<String> = null, Any, PerBroker, Ignored(NO_SECURITY),
            "File with key and certificate.";
        "ssl.keystore.password" ssl_keystore_password: Option<Password> = null, Any, PerBroker, Ignored(NO_SECURITY),
            "Password of the key store.";
        "ssl.key.password" ssl_key_password: Option<Password> = null, Any, PerBroker, Ignored(NO_SECURITY),
            "Password of the key.";
        "ssl.keystore.key" ssl_keystore_key: Option<Password> = null, Any, PerBroker, Ignored(NO_SECURITY),
            "The key itself, in PEM.";
        "ssl.keystore.certificate.chain" ssl_keystore_certificate_chain: Option<Password> = null, Any, PerBroker,
            Ignored(NO_SECURITY),
            "The certificate chain itself, in PEM.";
        "ssl.truststore.type" ssl_truststore_type: String = "JKS", Any, PerBroker, Ignored(NO_SECURITY),
            "Format of the trust store.";
        "ssl.truststore.location" ssl_truststore_location: Option<String> = null, Any, PerBroker,
            Ignored(NO_SECURITY),
            "File with trusted certificates.";
        "ssl.truststore.password" ssl_truststore_password: Option<Password> = null, Any, PerBroker,
            Ignored(NO_SECURITY),
            "Password of the trust store.";
        "ssl.truststore.certificates" ssl_truststore_certificates: Option<Password> = null, Any, PerBroker,
            Ignored(NO_SECURITY),
            "The trusted certificates themselves, in PEM.";
        "ssl.endpoint.identification.algorithm" ssl_endpoint_identification_algorithm: String = "https", Any,
            PerBroker, Ignored(NO_SECURITY),
            "How a server's name is checked against its certificate.";
        "ssl.principal.mapping.rules" ssl_principal_mapping_rules: String = "DEFAULT", Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Rules from the name in a certificate to a principal.";
        "ssl.allow.dn.changes" ssl_allow_dn_changes: bool = "false", Any, ReadOnly, Ignored(NO_SECURITY),
            "Whether a new certificate may bear another name.";
        "ssl.allow.san.changes" ssl_allow_san_changes: bool = "false", Any, ReadOnly, Ignored(NO_SECURITY),
            "Whether a new certificate may bear other alternative names.";
        "delegation.token.secret.key" delegation_token_secret_key: Option<Password> = null, Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Secret that signs delegation tokens.";
        "delegation.token.max.lifetime.ms" delegation_token_max_lifetime_ms: i64 = "604800000", AtLeast(1), ReadOnly,
            Ignored(NO_SECURITY),
            "Longest life of a delegation token.";
        "delegation.token.expiry.time.ms" delegation_token_expiry_time_ms: i64 = "86400000", AtLeast(1), ReadOnly,
            Ignored(NO_SECURITY),
            "Life of a delegation token unless renewed.";
        "delegation.token.expiry.check.interval.ms" delegation_token_expiry_check_interval_ms: i64 = "3600000",
            AtLeast(1), ReadOnly, Ignored(NO_SECURITY),
            "Time between two searches for expired tokens.";
    }
    section "Quotas, metrics, metadata log, tiering" {
        "quota.window.num" quota_window_num: i32 = "11", AtLeast(1), ReadOnly, Yes,
            "Windows over which client quotas are measured.";
        "quota.window.size.seconds" quota_window_size_seconds: i32 = "1", AtLeast(1), ReadOnly, Yes,
            "Length of such a window.";
        "replication.quota.window.num" replication_quota_window_num: i32 = "11", AtLeast(1), ReadOnly,
            Ignored("eleven windows of a second, always"),
            "Windows over which replication quotas are measured.";
        "replication.quota.window.size.seconds" replication_quota_window_size_seconds: i32 = "1", AtLeast(1),
            ReadOnly, Ignored("eleven windows of a second, always"),
            "Length of such a window.";
        "controller.quota.window.num" controller_quota_window_num: i32 = "11", AtLeast(1), ReadOnly, Yes,
            "Windows over which quotas of topic changes are measured.";
        "controller.quota.window.size.seconds" controller_quota_window_size_seconds: i32 = "1", AtLeast(1), ReadOnly,
            Yes,
            "Length of such a window.";
        "client.quota.callback.class" client_quota_callback_class: Option<ClassName> = null, Any, ReadOnly,
            Ignored(NO_JVM),
            "A class that decides client quotas.";
        "metric.reporters" metric_reporters: Vec<String> = "org.apache.kafka.common.metrics.JmxReporter", Distinct,
            ClusterWide, Ignored(METRICS),
            "Classes that report metrics.";
        "metrics.num.samples" metrics_num_samples: i32 = "2", AtLeast(1), ReadOnly, Ignored(METRICS),
            "Samples over which a metric is computed.";
        "metrics.sample.window.ms" metrics_sample_window_ms: i64 = "30000", AtLeast(1), ReadOnly, Ignored(METRICS),
            "Length of a sample.";
        "metrics.recording.level" metrics_recording_level: String = "INFO", Any, ReadOnly, Ignored(METRICS),
            "How much is measured.";
        "telemetry.max.bytes" telemetry_max_bytes: i32 = "1048576", AtLeast(1), ReadOnly, Yes,
            "Largest set of metrics a client may send.";
        "metadata.log.dir" metadata_log_dir: Option<String> = null, Any, ReadOnly,
            Ignored("metadata is kept in the first data directory"),
            "Directory of the metadata log.";
        "metadata.log.segment.bytes" metadata_log_segment_bytes: i32 = "1073741824", AtLeast(8388608), ReadOnly,
            Ignored(NO_SEGMENTS),
            "Size of a segment of the metadata log.";
        "metadata.log.segment.ms" metadata_log_segment_ms: i64 = "604800000", Any, ReadOnly, Ignored(NO_SEGMENTS),
            "Age at which a segment of the metadata log is closed.";
        "metadata.max.retention.bytes" metadata_max_retention_bytes: i64 = "104857600", Any, ReadOnly,
            Ignored(METADATA_LOG),
            "Size of the metadata log with its snapshots before old parts are deleted.";
        "metadata.max.retention.ms" metadata_max_retention_ms: i64 = "604800000", Any, ReadOnly,
            Ignored(METADATA_LOG),
            "Age of metadata logs and snapshots before they are deleted.";
        "metadata.log.max.record.bytes.between.snapshots"
            metadata_log_max_record_bytes_between_snapshots: i64 = "20971520", AtLeast(1), ReadOnly,
            Ignored(METADATA_LOG),
            "Bytes of metadata records between two snapshots.";
        "metadata.log.max.snapshot.interval.ms" metadata_log_max_snapshot_interval_ms: i64 = "3600000", AtLeast(0),
            ReadOnly, Ignored(METADATA_LOG),
            "Longest time between two snapshots of metadata.";
        "metadata.max.idle.interval.ms" metadata_max_idle_interval_ms: i32 = "500", AtLeast(0), ReadOnly,
            Ignored(ONE_NODE),
            "How often an idle controller writes a record that says nothing.";
        "remote.log.storage.system.enable" remote_log_storage_system_enable: bool = "false", Any, ReadOnly,
            Ignored(NO_TIERS),
            "Whether old parts of logs may move to remote storage.";
        "log.local.retention.ms" log_local_retention_ms: i64 = "-2", AtLeast(-2), ClusterWide, Ignored(NO_TIERS),
            "Age after which tiered records leave this broker; -2 means log.retention.ms.";
        "log.local.retention.bytes" log_local_retention_bytes: i64 = "-2", AtLeast(-2), ClusterWide,
            Ignored(NO_TIERS),
            "Size above which tiered records leave this broker; -2 means log.retention.bytes.";
        "remote.log.storage.manager.class.name" remote_log_storage_manager_class_name: Option<String> = null, Any,
            ReadOnly, Ignored(NO_TIERS),
            "The class that talks to remote storage.";
        "remote.log.metadata.manager.listener.name" remote_log_metadata_manager_listener_name: Option<String> = null,
            Any, ReadOnly, Ignored(NO_TIERS),
            "The listener that the metadata of remote storage is read through.";
    }
    section "Rarer settings" {
        "controller.quorum.fetch.max.bytes" controller_quorum_fetch_max_bytes: i32 = "1048576", AtLeast(1), ReadOnly,
            Ignored(ONE_NODE),
            "Most bytes of metadata records in one fetch between controllers.";
        "controller.quorum.fetch.snapshot.max.bytes"
            controller_quorum_fetch_snapshot_max_bytes: i32 = "1048576", AtLeast(1), ReadOnly, Ignored(ONE_NODE),
            "Most bytes of a metadata snapshot in one fetch between controllers.";
        "alter.log.dirs.replication.quota.window.num"
            alter_log_dirs_replication_quota_window_num: i32 = "11", AtLeast(1), ReadOnly, Ignored(MOVES_MEASURED),
            "Windows over which moves between data directories are measured.";
        "alter.log.dirs.replication.quota.window.size.seconds"
            alter_log_dirs_replication_quota_window_size_seconds: i32 = "1", AtLeast(1), ReadOnly, Ignored(MOVES_MEASURED),
            "Length of such a window.";
        "kafka.metrics.reporters" kafka_metrics_reporters: Vec<String> = "", Distinct, ReadOnly, Ignored(METRICS),
            "Classes that report the older kind of metrics.";
        "kafka.metrics.polling.interval.secs" kafka_metrics_polling_interval_secs: i32 = "10", AtLeast(1), ReadOnly,
            Ignored(METRICS),
            "How often those classes look at metrics.";
        "remote.fetch.max.wait.ms" remote_fetch_max_wait_ms: i32 = "500", AtLeast(1), ClusterWide, Ignored(NO_TIERS),
            "How long a fetch waits for remote storage.";
        "remote.list.offsets.request.timeout.ms"
            remote_list_offsets_request_timeout_ms: i64 = "30000", AtLeast(1), ClusterWide, Ignored(NO_TIERS),
            "How long a lookup of offsets waits for remote storage.";
        "remote.log.index.file.cache.total.size.bytes"
            remote_log_index_file_cache_total_size_bytes: i64 = "1073741824", AtLeast(1),
            ClusterWide, Ignored(NO_TIERS),
            "Disk space for indexes of remote segments.";
        "remote.log.manager.copier.thread.pool.size"
            remote_log_manager_copier_thread_pool_size: i32 = "10", AtLeast(1), ClusterWide, Ignored(NO_TIERS),
            "Threads that copy segments to remote storage.";
        "remote.log.manager.copy.max.bytes.per.second"
            remote_log_manager_copy_max_bytes_per_second: i64 = "9223372036854775807", AtLeast(1),
            ClusterWide, Ignored(NO_TIERS),
            "Fastest rate of copying to remote storage.";
        "remote.log.manager.copy.quota.window.num"
            remote_log_manager_copy_quota_window_num: i32 = "11", AtLeast(1), ReadOnly, Ignored(NO_TIERS),
            "Windows over which copying to remote storage is measured.";
        "remote.log.manager.copy.quota.window.size.seconds"
            remote_log_manager_copy_quota_window_size_seconds: i32 = "1", AtLeast(1), ReadOnly, Ignored(NO_TIERS),
            "Length of such a window.";
        "remote.log.manager.expiration.thread.pool.size"
            remote_log_manager_expiration_thread_pool_size: i32 = "10", AtLeast(1), ClusterWide, Ignored(NO_TIERS),
            "Threads that delete expired remote segments.";
        "remote.log.manager.fetch.max.bytes.per.second"
            remote_log_manager_fetch_max_bytes_per_second: i64 = "9223372036854775807", AtLeast(1),
            ClusterWide, Ignored(NO_TIERS),
            "Fastest rate of reading from remote storage.";
        "remote.log.manager.fetch.quota.window.num"
            remote_log_manager_fetch_quota_window_num: i32 = "11", AtLeast(1), ReadOnly, Ignored(NO_TIERS),
            "Windows over which reading from remote storage is measured.";
        "remote.log.manager.fetch.quota.window.size.seconds"
            remote_log_manager_fetch_quota_window_size_seconds: i32 = "1", AtLeast(1), ReadOnly, Ignored(NO_TIERS),
            "Length of such a window.";
        "remote.log.manager.follower.thread.pool.size"
            remote_log_manager_follower_thread_pool_size: i32 = "2", AtLeast(1), ClusterWide, Ignored(NO_TIERS),
            "Threads that follow remote storage for followers.";
        "remote.log.manager.task.interval.ms"
            remote_log_manager_task_interval_ms: i64 = "30000", AtLeast(1), ReadOnly, Ignored(NO_TIERS),
            "How often remote storage is brought up to date.";
        "remote.log.manager.thread.pool.size" remote_log_manager_thread_pool_size: i32 = "2", AtLeast(1), ReadOnly,
            Ignored(NO_TIERS),
            "Threads for remote storage.";
        "remote.log.metadata.custom.metadata.max.bytes"
            remote_log_metadata_custom_metadata_max_bytes: i32 = "128", AtLeast(0), ReadOnly, Ignored(NO_TIERS),
            "Most bytes that a plugin may store about a remote segment.";
        "remote.log.metadata.manager.class.name"
            remote_log_metadata_manager_class_name: String = REMOTE_METADATA, Any, ReadOnly, Ignored(NO_TIERS),
            "The class that keeps the metadata of remote storage.";
        "remote.log.metadata.manager.class.path"
            remote_log_metadata_manager_class_path: Option<String> = null, Any, ReadOnly, Ignored(NO_TIERS),
            "Where that class is found.";
        "remote.log.metadata.manager.impl.prefix"
            remote_log_metadata_manager_impl_prefix: String = "rlmm.config.", Any, ReadOnly, Ignored(NO_TIERS),
            "Prefix of the settings of that class.";
        "remote.log.reader.max.pending.tasks" remote_log_reader_max_pending_tasks: i32 = "100", AtLeast(1), ReadOnly,
            Ignored(NO_TIERS),
            "Reads of remote storage that may wait.";
        "remote.log.reader.threads" remote_log_reader_threads: i32 = "10", AtLeast(1), ClusterWide, Ignored(NO_TIERS),
            "Threads that read remote storage.";
        "remote.log.storage.manager.class.path"
            remote_log_storage_manager_class_path: Option<String> = null, Any, ReadOnly, Ignored(NO_TIERS),
            "Where remote.log.storage.manager.class.name is found.";
        "remote.log.storage.manager.impl.prefix"
            remote_log_storage_manager_impl_prefix: String = "rsm.config.", Any, ReadOnly, Ignored(NO_TIERS),
            "Prefix of the settings of that class.";
        "sasl.client.callback.handler.class"
            sasl_client_callback_handler_class: Option<ClassName> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "The class that answers for a client of SASL.";
        "sasl.kerberos.kinit.cmd" sasl_kerberos_kinit_cmd: String = "/usr/bin/kinit", Any, PerBroker,
            Ignored(NO_SECURITY),
            "The command that gets a Kerberos ticket.";
        "sasl.kerberos.min.time.before.relogin" sasl_kerberos_min_time_before_relogin: i64 = "60000", Any, PerBroker,
            Ignored(NO_SECURITY),
            "Shortest time between two Kerberos logins, in milliseconds.";
        "sasl.kerberos.principal.to.local.rules"
            sasl_kerberos_principal_to_local_rules: Vec<String> = "DEFAULT", Distinct,
            PerBroker, Ignored(NO_SECURITY),
            "Rules from a Kerberos principal to a short name.";
        "sasl.kerberos.ticket.renew.jitter" sasl_kerberos_ticket_renew_jitter: f64 = "0.05", Any, PerBroker,
            Ignored(NO_SECURITY),
            "Random part of the time at which a ticket is renewed.";
        "sasl.kerberos.ticket.renew.window.factor"
            sasl_kerberos_ticket_renew_window_factor: f64 = "0.8", Any, PerBroker, Ignored(NO_SECURITY),
            "Share of a ticket's life after which it is renewed.";
        "sasl.login.callback.handler.class"
            sasl_login_callback_handler_class: Option<ClassName> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "The class that answers for a login.";
        "sasl.login.class" sasl_login_class: Option<ClassName> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "The class that logs in.";
        "sasl.login.connect.timeout.ms" sasl_login_connect_timeout_ms: Option<i32> = null, Any, ReadOnly,
            Ignored(NO_SECURITY),
            "How long a login waits for a connection.";
        "sasl.login.read.timeout.ms" sasl_login_read_timeout_ms: Option<i32> = null, Any, ReadOnly,
            Ignored(NO_SECURITY),
            "How long a login waits for an answer.";
        "sasl.login.refresh.buffer.seconds"
            sasl_login_refresh_buffer_seconds: i16 = "300", Between(0, 3600), PerBroker, Ignored(NO_SECURITY),
            "Time left of a credential when it is refreshed at the latest.";
        "sasl.login.refresh.min.period.seconds"
            sasl_login_refresh_min_period_seconds: i16 = "60", Between(0, 900), PerBroker, Ignored(NO_SECURITY),
            "Shortest time between two refreshes of a credential.";
        "sasl.login.refresh.window.factor" sasl_login_refresh_window_factor: f64 = "0.8", Any, PerBroker,
            Ignored(NO_SECURITY),
            "Share of a credential's life after which it is refreshed.";
        "sasl.login.refresh.window.jitter" sasl_login_refresh_window_jitter: f64 = "0.05", Any, PerBroker,
            Ignored(NO_SECURITY),
            "Random part of the time at which a credential is refreshed.";
        "sasl.login.retry.backoff.max.ms" sasl_login_retry_backoff_max_ms: i64 = "10000", Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Longest pause between two attempts of a login.";
        "sasl.login.retry.backoff.ms" sasl_login_retry_backoff_ms: i64 = "100", Any, ReadOnly, Ignored(NO_SECURITY),
            "First pause between two attempts of a login.";
        "sasl.oauthbearer.assertion.algorithm"
            sasl_oauthbearer_assertion_algorithm: String = "RS256", OneOfAnyCase(&["ES256", "RS256"]),
            ReadOnly, Ignored(NO_SECURITY),
            "Algorithm that signs a token assertion.";
        "sasl.oauthbearer.assertion.claim.aud"
            sasl_oauthbearer_assertion_claim_aud: Option<String> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "Audience of a token assertion.";
        "sasl.oauthbearer.assertion.claim.exp.seconds"
            sasl_oauthbearer_assertion_claim_exp_seconds: i32 = "300", Between(0, 86400),
            ReadOnly, Ignored(NO_SECURITY),
            "Life of a token assertion.";
        "sasl.oauthbearer.assertion.claim.iss"
            sasl_oauthbearer_assertion_claim_iss: Option<String> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "Issuer of a token assertion.";
        "sasl.oauthbearer.assertion.claim.jti.include"
            sasl_oauthbearer_assertion_claim_jti_include: bool = "false", Any, ReadOnly, Ignored(NO_SECURITY),
            "Whether a token assertion has an id.";
        "sasl.oauthbearer.assertion.claim.nbf.seconds"
            sasl_oauthbearer_assertion_claim_nbf_seconds: i32 = "60", Between(0, 3600),
            ReadOnly, Ignored(NO_SECURITY),
            "How far back a token assertion is valid.";
        "sasl.oauthbearer.assertion.claim.sub"
            sasl_oauthbearer_assertion_claim_sub: Option<String> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "Subject of a token assertion.";
        "sasl.oauthbearer.assertion.file" sasl_oauthbearer_assertion_file: Option<String> = null, Any, ReadOnly,
            Ignored(NO_SECURITY),
            "File with a token assertion.";
        "sasl.oauthbearer.assertion.private.key.file"
            sasl_oauthbearer_assertion_private_key_file: Option<String> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "File with the key that signs token assertions.";
        "sasl.oauthbearer.assertion.private.key.passphrase"
            sasl_oauthbearer_assertion_private_key_passphrase: Option<Password> = null, Any,
            ReadOnly, Ignored(NO_SECURITY),
            "Password of that key.";
        "sasl.oauthbearer.assertion.template.file"
            sasl_oauthbearer_assertion_template_file: Option<String> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "File with further claims of a token assertion.";
        "sasl.oauthbearer.client.credentials.client.id"
            sasl_oauthbearer_client_credentials_client_id: Option<String> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "Client id for the token provider.";
        "sasl.oauthbearer.client.credentials.client.secret"
            sasl_oauthbearer_client_credentials_client_secret: Option<Password> = null, Any,
            ReadOnly, Ignored(NO_SECURITY),
            "Secret of that client id.";
        "sasl.oauthbearer.jwks.endpoint.refresh.ms"
            sasl_oauthbearer_jwks_endpoint_refresh_ms: i64 = "3600000", Any, ReadOnly, Ignored(NO_SECURITY),
            "How often the keys of the token provider are read again.";
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms"
            sasl_oauthbearer_jwks_endpoint_retry_backoff_max_ms: i64 = "10000", Any, ReadOnly, Ignored(NO_SECURITY),
            "Longest pause between two attempts to read those keys.";
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms"
            sasl_oauthbearer_jwks_endpoint_retry_backoff_ms: i64 = "100", Any, ReadOnly, Ignored(NO_SECURITY),
            "First pause between two attempts to read those keys.";
        "sasl.oauthbearer.jwt.retriever.class"
            sasl_oauthbearer_jwt_retriever_class: ClassName = JWT_RETRIEVER, Any, ReadOnly, Ignored(NO_SECURITY),
            "The class that gets a token.";
        "sasl.oauthbearer.jwt.validator.class"
            sasl_oauthbearer_jwt_validator_class: ClassName = JWT_VALIDATOR, Any, ReadOnly, Ignored(NO_SECURITY),
            "The class that checks a token.";
        "sasl.oauthbearer.scope" sasl_oauthbearer_scope: Option<String> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "Scope asked of the token provider.";
        "sasl.oauthbearer.scope.claim.name" sasl_oauthbearer_scope_claim_name: String = "scope", Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Claim with the scope of a token.";
        "sasl.oauthbearer.sub.claim.name" sasl_oauthbearer_sub_claim_name: String = "sub", Any, ReadOnly,
            Ignored(NO_SECURITY),
            "Claim with the subject of a token.";
        "sasl.oauthbearer.token.endpoint.url"
            sasl_oauthbearer_token_endpoint_url: Option<String> = null, Any, ReadOnly, Ignored(NO_SECURITY),
            "Where tokens are asked for.";
        "security.providers" security_providers: Option<String> = null, Any, ReadOnly, Ignored(NO_JVM),
            "Classes of security providers.";
        "ssl.engine.factory.class" ssl_engine_factory_class: Option<ClassName> = null, Any, PerBroker,
            Ignored(NO_SECURITY),
            "The class that makes TLS engines.";
        "ssl.keymanager.algorithm" ssl_keymanager_algorithm: String = "SunX509", Any, PerBroker, Ignored(NO_SECURITY),
            "How keys are chosen.";
        "ssl.provider" ssl_provider: Option<String> = null, Any, PerBroker, Ignored(NO_SECURITY),
            "The security provider of TLS.";
        "ssl.secure.random.implementation" ssl_secure_random_implementation: Option<String> = null, Any, PerBroker,
            Ignored(NO_SECURITY),
            "The source of random numbers of TLS.";
        "ssl.trustmanager.algorithm" ssl_trustmanager_algorithm: String = "PKIX", Any, PerBroker,
            Ignored(NO_SECURITY),
            "How certificates are trusted.";
    }
    section "Ottla" {
        "ottla.direct.io" ottla_direct_io: bool = "true", Any, ReadOnly, Yes,
            "Whether batches are read and written past the page cache; without it they cost more CPU and the memory of \
             the system.";
        "ottla.disk.reserve.bytes" ottla_disk_reserve_bytes: i64 = "-1", AtLeast(-1), ReadOnly, Yes,
            "Room on the disk of a data directory below which records are refused, with an error that producers retry, \
             until there is more; 0 turns it off, -1 means 1 GiB, or a twentieth of the volume if that is less.";
        "ottla.metrics.listener" ottla_metrics_listener: String = "127.0.0.1:9404",
            Custom { check: rules::metrics_listener, allowed: "{host}:{port}, or empty" }, ReadOnly, Yes,
            "Where metrics are served over HTTP; empty turns them off.";
        "ottla.read.cache.bytes" ottla_read_cache_bytes: i64 = "67108864", AtLeast(0), ReadOnly, Yes,
            "Memory for batches read from disk, shared by the consumers that are behind.";
        "ottla.sync.before.ack" ottla_sync_before_ack: bool = "true", Any, ReadOnly, Yes,
            "Whether a record is on disk before it is acknowledged; false trades safety for speed.";
        "ottla.tail.cache.bytes" ottla_tail_cache_bytes: i64 = "67108864", AtLeast(0), ReadOnly, Yes,
            "Most memory for recently appended batches, from which consumers at the end are served; less if they keep up.";
    }
}

settings! {
    /// The settings of a topic, typed: its own over the broker's defaults.
    struct TopicSettings;
    /// One row per topic key, by name.
    rows TOPIC_ROWS;

    section "Topics" {
        "cleanup.policy" cleanup_policy: CleanupPolicy = "delete", ListOf(&["compact", "delete"]), PerTopic,
            Yes,
            "What happens to old records: delete, compact, both, or nothing.", from &[("log.cleanup.policy", 1)];
        "compression.gzip.level" compression_gzip_level: i32 = "-1",
            Custom { check: rules::gzip_level, allowed: "[1,...,9] or -1" }, PerTopic, Yes,
            "Level of gzip when the broker compresses.", from &[("compression.gzip.level", 1)];
        "compression.lz4.level" compression_lz4_level: i32 = "9", Between(1, 17), PerTopic, Yes,
            "Level of lz4 when the broker compresses.", from &[("compression.lz4.level", 1)];
        "compression.type" compression_type: CompressionType = "producer", OneOf(COMPRESSIONS), PerTopic, Yes,
            "How batches are stored; producer keeps what was sent.", from &[("compression.type", 1)];
        "compression.zstd.level" compression_zstd_level: i32 = "3", Between(-131072, 22), PerTopic, Yes,
            "Level of zstd when the broker compresses.", from &[("compression.zstd.level", 1)];
        "delete.retention.ms" delete_retention_ms: i64 = "86400000", AtLeast(0), PerTopic, Yes,
            "How long the mark of a deleted key is kept.", from &[("log.cleaner.delete.retention.ms", 1)];
        "file.delete.delay.ms" file_delete_delay_ms: i64 = "60000", AtLeast(0), PerTopic, Ignored(NO_SEGMENTS),
            "Time between forgetting a segment and deleting its files.", from &[("log.segment.delete.delay.ms", 1)];
        "flush.messages" flush_messages: i64 = "9223372036854775807", AtLeast(1), PerTopic, Ignored(SYNCED),
            "Records after which the log is flushed to disk.", from &[("log.flush.interval.messages", 1)];
        "flush.ms" flush_ms: i64 = "9223372036854775807", AtLeast(0), PerTopic, Ignored(SYNCED),
            "Time after which the log is flushed to disk.",
            from &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)];
        "follower.replication.throttled.replicas" follower_replication_throttled_replicas: Vec<String> = "",
            Custom { check: rules::throttled_replicas, allowed: THROTTLED }, PerTopic, Yes,
            "Replicas whose copying is throttled at the follower.";
        "index.interval.bytes" index_interval_bytes: i32 = "4096", AtLeast(0), PerTopic, Ignored(NO_SEGMENTS),
            "Bytes of log between two index entries.", from &[("log.index.interval.bytes", 1)];
        "leader.replication.throttled.replicas" leader_replication_throttled_replicas: Vec<String> = "",
            Custom { check: rules::throttled_replicas, allowed: THROTTLED }, PerTopic, Yes,
            "Replicas whose copying is throttled at the leader.";
        "local.retention.bytes" local_retention_bytes: i64 = "-2", AtLeast(-2), PerTopic, Ignored(NO_TIERS),
            "Size above which tiered records leave the broker; -2 means retention.bytes.",
            from &[("log.local.retention.bytes", 1)];
        "local.retention.ms" local_retention_ms: i64 = "-2", AtLeast(-2), PerTopic, Ignored(NO_TIERS),
            "Age after which tiered records leave the broker; -2 means retention.ms.",
            from &[("log.local.retention.ms", 1)];
        "max.compaction.lag.ms" max_compaction_lag_ms: i64 = "9223372036854775807", AtLeast(1), PerTopic,
            Yes,
            "How long a record may stay uncompacted.", from &[("log.cleaner.max.compaction.lag.ms", 1)];
        "max.message.bytes" max_message_bytes: i32 = "1048588", AtLeast(0), PerTopic, Yes,
            "Largest record batch accepted, in bytes, compressed.", from &[("message.max.bytes", 1)];
        "message.timestamp.after.max.ms" message_timestamp_after_max_ms: i64 = "3600000", AtLeast(0), PerTopic, Yes,
            "How far ahead of the broker's clock a record's timestamp may be.",
            from &[("log.message.timestamp.after.max.ms", 1)];
        "message.timestamp.before.max.ms" message_timestamp_before_max_ms: i64 = "9223372036854775807", AtLeast(0),
            PerTopic, Yes,
            "How far behind the broker's clock a record's timestamp may be.",
            from &[("log.message.timestamp.before.max.ms", 1)];
        "message.timestamp.type" message_timestamp_type: TimestampType = "CreateTime", OneOf(TIMESTAMPS), PerTopic,
            Yes,
            "Whose clock stamps a record: the producer's or the broker's.", from &[("log.message.timestamp.type", 1)];
        "min.cleanable.dirty.ratio" min_cleanable_dirty_ratio: f64 = "0.5", Ratio, PerTopic, Yes,
            "Share of uncompacted bytes from which the log is compacted.",
            from &[("log.cleaner.min.cleanable.ratio", 1)];
        "min.compaction.lag.ms" min_compaction_lag_ms: i64 = "0", AtLeast(0), PerTopic, Yes,
            "How long a record is safe from compaction.", from &[("log.cleaner.min.compaction.lag.ms", 1)];
        "min.insync.replicas" min_insync_replicas: i32 = "1", AtLeast(1), PerTopic, Yes,
            "In-sync replicas needed to accept a record sent with acks=all; never more than the replicas there are.",
            from &[("min.insync.replicas", 1)];
        "preallocate" preallocate: bool = "false", Any, PerTopic, Ignored(NO_SEGMENTS),
            "Whether the file of a segment is created at full size.", from &[("log.preallocate", 1)];
        "remote.log.copy.disable" remote_log_copy_disable: bool = "false", Any, PerTopic, Ignored(NO_TIERS),
            "Whether copying to remote storage is stopped.";
        "remote.log.delete.on.disable" remote_log_delete_on_disable: bool = "false", Any, PerTopic, Ignored(NO_TIERS),
            "Whether remote data is deleted when tiering is turned off.";
        "remote.storage.enable" remote_storage_enable: bool = "false", Any, PerTopic, Ignored(NO_TIERS),
            "Whether old parts of the log move to remote storage.";
        "retention.bytes" retention_bytes: i64 = "-1", Any, PerTopic, Yes,
            "Size above which a partition loses its oldest records; negative for no limit.",
            from &[("log.retention.bytes", 1)];
        "retention.ms" retention_ms: i64 = "604800000", AtLeast(-1), PerTopic, Yes,
            "Age after which records are deleted; -1 for never.",
            from &[("log.retention.ms", 1), ("log.retention.minutes", MINUTE_MS), ("log.retention.hours", HOUR_MS)];
        "segment.bytes" segment_bytes: i32 = "1073741824", AtLeast(1048576), PerTopic,
            Partly("bounds the size of a batch, and how much of a compacted log is active"),
            "Size of a log segment.", from &[("log.segment.bytes", 1)];
        "segment.index.bytes" segment_index_bytes: i32 = "10485760", AtLeast(4), PerTopic, Ignored(NO_SEGMENTS),
            "Size of an offset index.", from &[("log.index.size.max.bytes", 1)];
        "segment.jitter.ms" segment_jitter_ms: i64 = "0", AtLeast(0), PerTopic, Ignored(NO_SEGMENTS),
            "Random part of the age at which a segment is closed.",
            from &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)];
        "segment.ms" segment_ms: i64 = "604800000", AtLeast(1), PerTopic,
            Partly("bounds the time that records stored together, or uncompacted, may span"),
            "Age at which a segment is closed.", from &[("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)];
        "unclean.leader.election.enable" unclean_leader_election_enable: bool = "false", Any, PerTopic,
            Yes,
            "Whether a replica out of sync may lead when no other is left.",
            from &[("unclean.leader.election.enable", 1)];
    }
}

settings! {
    /// The settings of a group, typed: its own over the broker's defaults.
    struct GroupSettings;
    /// One row per group key, in Kafka's order, which is the order of its checks.
    rows GROUP_ROWS;

    section "Groups" {
        "consumer.session.timeout.ms" consumer_session_timeout_ms: i32 = "45000", AtLeast(1), PerGroup,
            Ignored(NO_CONSUMER),
            "Silence after which a member is removed.",
            from &[("group.consumer.session.timeout.ms", 1)];
        "consumer.heartbeat.interval.ms" consumer_heartbeat_interval_ms: i32 = "5000", AtLeast(1), PerGroup,
            Ignored(NO_CONSUMER),
            "Heartbeat interval given to members.",
            from &[("group.consumer.heartbeat.interval.ms", 1)];
        "consumer.assignment.interval.ms" consumer_assignment_interval_ms: i32 = "1000", AtLeast(0), PerGroup,
            Ignored(NO_CONSUMER),
            "Shortest time between two assignments.",
            from &[("group.consumer.assignment.interval.ms", 1)];
        "share.session.timeout.ms" share_session_timeout_ms: i32 = "45000", AtLeast(1), PerGroup, Ignored(NO_SHARE),
            "Silence after which a member is removed.",
            from &[("group.share.session.timeout.ms", 1)];
        "share.heartbeat.interval.ms" share_heartbeat_interval_ms: i32 = "5000", AtLeast(1), PerGroup,
            Ignored(NO_SHARE),
            "Heartbeat interval given to members.",
            from &[("group.share.heartbeat.interval.ms", 1)];
        "share.record.lock.duration.ms" share_record_lock_duration_ms: i32 = "30000", AtLeast(1000), PerGroup,
            Ignored(NO_SHARE),
            "How long a record is locked for the consumer that has it.",
            from &[("group.share.record.lock.duration.ms", 1)];
        "share.delivery.count.limit" share_delivery_count_limit: i32 = "5", AtLeast(2), PerGroup, Ignored(NO_SHARE),
            "How often a record is delivered before it is given up.",
            from &[("group.share.delivery.count.limit", 1)];
        "share.partition.max.record.locks" share_partition_max_record_locks: i32 = "2000", AtLeast(100), PerGroup,
            Ignored(NO_SHARE),
            "Most records of a partition locked at once.",
            from &[("group.share.partition.max.record.locks", 1)];
        "share.auto.offset.reset" share_auto_offset_reset: String = "latest", AUTO_OFFSET_RESET, PerGroup,
            Ignored(NO_SHARE),
            "Where a share partition starts: earliest, latest, or so long ago.";
        "share.isolation.level" share_isolation_level: String = "read_uncommitted", OneOf(ISOLATIONS), PerGroup,
            Ignored(NO_SHARE),
            "Whether records of open or aborted transactions are delivered.";
        "share.renew.acknowledge.enable" share_renew_acknowledge_enable: bool = "true", Any, PerGroup,
            Ignored(NO_SHARE),
            "Whether a consumer may renew the lock of a record.";
        "share.assignment.interval.ms" share_assignment_interval_ms: i32 = "1000", AtLeast(0), PerGroup,
            Ignored(NO_SHARE),
            "Shortest time between two assignments.",
            from &[("group.share.assignment.interval.ms", 1)];
        "streams.session.timeout.ms" streams_session_timeout_ms: i32 = "45000", AtLeast(1), PerGroup,
            Ignored(NO_STREAMS),
            "Silence after which a member is removed.",
            from &[("group.streams.session.timeout.ms", 1)];
        "streams.heartbeat.interval.ms" streams_heartbeat_interval_ms: i32 = "5000", AtLeast(1), PerGroup,
            Ignored(NO_STREAMS),
            "Heartbeat interval given to members.",
            from &[("group.streams.heartbeat.interval.ms", 1)];
        "streams.num.standby.replicas" streams_num_standby_replicas: i32 = "0", AtLeast(0), PerGroup,
            Ignored(NO_STREAMS),
            "Standby tasks of each stateful task.",
            from &[("group.streams.num.standby.replicas", 1)];
        "streams.initial.rebalance.delay.ms" streams_initial_rebalance_delay_ms: i32 = "3000", AtLeast(0), PerGroup,
            Ignored(NO_STREAMS),
            "How long an empty group waits for more members.",
            from &[("group.streams.initial.rebalance.delay.ms", 1)];
        "streams.assignment.interval.ms" streams_assignment_interval_ms: i32 = "1000", AtLeast(0), PerGroup,
            Ignored(NO_STREAMS),
            "Shortest time between two assignments.",
            from &[("group.streams.assignment.interval.ms", 1)];
    }
}

settings! {
    /// The settings of one subscription to clients' metrics (KIP-714), typed.
    struct SubscriptionSettings;
    /// One row per key.
    rows SUBSCRIPTION_ROWS;

    section "Client metrics" {
        "metrics" metrics: Vec<String> = "", Distinct, PerSubscription, Yes,
            "Prefixes of the names of the metrics that clients shall push; * for all of them.";
        "interval.ms" interval_ms: i32 = "300000", Any, PerSubscription, Yes,
            "Time between two pushes of a client, from 100 to 3600000.";
        "match" match_: Vec<String> = "", Distinct, PerSubscription, Yes,
            "Which clients are meant, as attribute=regex; all of them must hold.";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_default_parses_and_is_valid() {
        for row in [BROKER_ROWS, TOPIC_ROWS, GROUP_ROWS, SUBSCRIPTION_ROWS].concat() {
            if let Some(default) = row.default {
                let value = row.parse(row.name, default);
                assert_eq!(value.map(|v| v.to_string()), Ok(default.to_owned()), "{}", row.name);
            }
        }
        // Reading from nothing panics if a default does not fit the type of its field.
        assert_eq!(BrokerSettings::read(&|_| None).offsets_topic_replication_factor, 3);
        assert_eq!(TopicSettings::read(&|_| None).retention_ms, 604_800_000);
        assert_eq!(GroupSettings::read(&|_| None).share_delivery_count_limit, 5);
        assert_eq!(SubscriptionSettings::read(&|_| None).interval_ms, 300_000);
    }

    #[test]
    fn keys_are_unique_and_synonyms_exist() {
        let names: BTreeSet<&str> = BROKER_ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), BROKER_ROWS.len());
        assert!(names.len() >= 247, "{}", names.len());
        for row in [TOPIC_ROWS, GROUP_ROWS].concat() {
            for (key, _unit) in row.synonyms {
                assert!(names.contains(key), "{} comes from {key}", row.name);
            }
        }
        assert!(TOPIC_ROWS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn keys_of_a_listener_have_the_row_of_their_base() {
        let name = |key| broker_row(key).map(|row| row.name);
        assert_eq!(name("listener.name.internal.ssl.client.auth"), Some("ssl.client.auth"));
        assert_eq!(name("listener.name.a.plain.sasl.jaas.config"), Some("sasl.jaas.config"));
        assert_eq!(name("listener.name.a.no.such.key"), None);
    }
}
