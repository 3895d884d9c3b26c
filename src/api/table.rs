//! Every API that this broker serves: one row each, in the order of the keys.
//!
//! Dispatch, the answer to ApiVersions and `docs/apis.md` all read this table; nothing else registers an API. A row
//! `api!(key, name, versions, route, handler(Request))` decodes with the protocol crate, awaits
//! `handlers::<handler>::handle(&Context, Request)` and encodes what that returns: a message of the crate, or a
//! [`crate::wire::reply::Body`] that the handler encoded itself.
//!
//! Invariants: keys ascend; every version in a row has a shape in `wire::schema` and is known to the protocol crate, or
//! has a row in `wire::bridge`;
//! the advertised range covers the served one.

use std::fmt::Write;
use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;

use crate::api::context::Context;
use crate::api::dispatch::{Outcome, decode, decode_in, finish};
use crate::api::handlers;
use crate::env::BoxFuture;
use crate::wire::schema::{self, Direction};

/// One API.
pub struct Api {
    pub key: i16,
    /// Kafka's name.
    pub name: &'static str,
    /// The versions that are served.
    pub versions: RangeInclusive<i16>,
    /// The lowest version that ApiVersions names; lower than what is served where old clients insist on it.
    pub advertised_min: i16,
    pub route: Route,
    /// Which listeners serve it.
    pub scope: Scope,
    /// What we knowingly do not do, in a sentence; empty if nothing is known to be missing.
    pub gaps: &'static str,
    pub(super) run: Run,
    decodes: Decodes,
}

/// Decode, handle, encode.
type Run = fn(Context, Bytes) -> BoxFuture<'static, Outcome>;

/// Decode, and forget what came of it but for the number of bytes behind it.
type Decodes = fn(i16, Bytes) -> Result<usize, String>;

/// Who decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The broker that was asked.
    Here,
    /// The controller, on behalf of the broker that was asked.
    Controller,
    /// The broker that was asked as far as it is about itself; the controller the rest.
    Split,
}

/// On which listeners an API is served (`listeners` in Kafka's message definitions).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Those of brokers.
    Brokers,
    /// Those of controllers.
    Controllers,
    /// All of them.
    Both,
}

impl Scope {
    /// Whether a listener of controllers, or else one of brokers, serves it.
    pub fn covers(self, controller: bool) -> bool {
        match self {
            Scope::Brokers => !controller,
            Scope::Controllers => controller,
            Scope::Both => true,
        }
    }
}

impl Api {
    const fn on(mut self, scope: Scope) -> Api {
        self.scope = scope;
        self
    }

    /// Decodes a body that [`crate::wire::guard`] let pass, as a request of `version`: how many bytes are left over, or
    /// what is wrong with it. For tests; nothing is done about the request.
    pub fn decodes(&self, version: i16, body: Bytes) -> Result<usize, String> {
        (self.decodes)(version, body)
    }

    const fn advertised_from(mut self, version: i16) -> Api {
        self.advertised_min = version;
        self
    }

    const fn gaps(mut self, gaps: &'static str) -> Api {
        self.gaps = gaps;
        self
    }
}

/// The key of ApiVersions, which is answered in any version.
pub const API_VERSIONS: i16 = 18;

macro_rules! api {
    ($key:literal, $name:literal, $min:literal ..= $max:literal, $route:ident, $handler:ident($request:ident)) => {{
        const { assert!(<$request as Request>::KEY == $key, "the key and the request of a row differ") };
        fn run(ctx: Context, body: Bytes) -> BoxFuture<'static, Outcome> {
            Box::pin(async move {
                let Some(request) = decode::<$request>(&ctx, body) else { return Outcome::Close };
                let reply = handlers::$handler::handle(&ctx, request).await;
                finish(&ctx, reply)
            })
        }
        fn decodes(version: i16, body: Bytes) -> Result<usize, String> {
            decode_in::<$request>($key, version, body).map(|(_, left)| left.len())
        }
        Api {
            key: $key,
            name: $name,
            versions: RangeInclusive::new($min, $max),
            advertised_min: $min,
            route: Route::$route,
            scope: Scope::Brokers,
            gaps: "",
            run,
            decodes,
        }
    }};
}

/// The table.
pub static APIS: &[Api] = &[
    // Clients based on librdkafka turn features off unless they see the oldest versions (KAFKA-18659).
    api!(0, "Produce", 3..=13, Here, produce(ProduceRequest)).advertised_from(0).gaps("no transactions"),
    api!(1, "Fetch", 4..=18, Here, fetch(FetchRequest)).gaps("no transactions"),
    api!(2, "ListOffsets", 1..=11, Here, list_offsets(ListOffsetsRequest)),
    api!(3, "Metadata", 0..=13, Here, metadata(MetadataRequest)),
    api!(8, "OffsetCommit", 2..=10, Here, offset_commit(OffsetCommitRequest)),
    api!(9, "OffsetFetch", 1..=10, Here, offset_fetch(OffsetFetchRequest)),
    api!(10, "FindCoordinator", 0..=6, Here, find_coordinator(FindCoordinatorRequest)),
    api!(11, "JoinGroup", 0..=9, Here, join_group(JoinGroupRequest)),
    api!(12, "Heartbeat", 0..=4, Here, heartbeat(HeartbeatRequest)),
    api!(13, "LeaveGroup", 0..=5, Here, leave_group(LeaveGroupRequest)),
    api!(14, "SyncGroup", 0..=5, Here, sync_group(SyncGroupRequest)),
    api!(15, "DescribeGroups", 0..=6, Here, describe_groups(DescribeGroupsRequest)),
    api!(16, "ListGroups", 0..=5, Here, list_groups(ListGroupsRequest)),
    api!(18, "ApiVersions", 0..=4, Here, api_versions(ApiVersionsRequest)).on(Scope::Both),
    api!(19, "CreateTopics", 2..=7, Controller, create_topics(CreateTopicsRequest)).on(Scope::Both),
    api!(20, "DeleteTopics", 1..=6, Controller, delete_topics(DeleteTopicsRequest)).on(Scope::Both),
    api!(21, "DeleteRecords", 0..=2, Here, delete_records(DeleteRecordsRequest)),
    api!(22, "InitProducerId", 0..=5, Here, init_producer_id(InitProducerIdRequest)).gaps("no transactional ids"),
    api!(23, "OffsetForLeaderEpoch", 2..=4, Here, offset_for_leader_epoch(OffsetForLeaderEpochRequest)),
    api!(32, "DescribeConfigs", 1..=4, Here, describe_configs(DescribeConfigsRequest)).on(Scope::Both),
    api!(33, "AlterConfigs", 0..=2, Split, alter_configs(AlterConfigsRequest)).on(Scope::Both),
    api!(34, "AlterReplicaLogDirs", 1..=2, Here, alter_replica_log_dirs(AlterReplicaLogDirsRequest)),
    api!(35, "DescribeLogDirs", 1..=5, Here, describe_log_dirs(DescribeLogDirsRequest)),
    api!(37, "CreatePartitions", 0..=3, Controller, create_partitions(CreatePartitionsRequest)).on(Scope::Both),
    api!(42, "DeleteGroups", 0..=2, Here, delete_groups(DeleteGroupsRequest)),
    api!(43, "ElectLeaders", 0..=2, Controller, elect_leaders(ElectLeadersRequest)).on(Scope::Both),
    api!(44, "IncrementalAlterConfigs", 0..=1, Split, incremental_alter_configs(IncrementalAlterConfigsRequest))
        .on(Scope::Both),
    api!(
        45,
        "AlterPartitionReassignments",
        0..=1,
        Controller,
        alter_partition_reassignments(AlterPartitionReassignmentsRequest)
    )
    .on(Scope::Both),
    api!(
        46,
        "ListPartitionReassignments",
        0..=0,
        Controller,
        list_partition_reassignments(ListPartitionReassignmentsRequest)
    )
    .on(Scope::Both),
    api!(47, "OffsetDelete", 0..=0, Here, offset_delete(OffsetDeleteRequest)),
    api!(48, "DescribeClientQuotas", 0..=1, Here, describe_client_quotas(DescribeClientQuotasRequest)),
    api!(49, "AlterClientQuotas", 0..=1, Controller, alter_client_quotas(AlterClientQuotasRequest)).on(Scope::Both),
    api!(
        50,
        "DescribeUserScramCredentials",
        0..=0,
        Here,
        describe_user_scram_credentials(DescribeUserScramCredentialsRequest)
    )
    .gaps("no credentials can be made yet, so there are none"),
    api!(55, "DescribeQuorum", 0..=2, Controller, describe_quorum(DescribeQuorumRequest)).on(Scope::Both),
    api!(56, "AlterPartition", 2..=3, Here, alter_partition(AlterPartitionRequest)).on(Scope::Controllers),
    api!(57, "UpdateFeatures", 0..=2, Controller, update_features(UpdateFeaturesRequest)).on(Scope::Both),
    api!(58, "Envelope", 0..=0, Here, envelope(EnvelopeRequest)).on(Scope::Controllers),
    api!(60, "DescribeCluster", 0..=2, Here, describe_cluster(DescribeClusterRequest)).on(Scope::Both),
    api!(61, "DescribeProducers", 0..=0, Here, describe_producers(DescribeProducersRequest)),
    api!(62, "BrokerRegistration", 0..=4, Here, broker_registration(BrokerRegistrationRequest)).on(Scope::Controllers),
    api!(63, "BrokerHeartbeat", 0..=2, Here, broker_heartbeat(BrokerHeartbeatRequest)).on(Scope::Controllers),
    api!(64, "UnregisterBroker", 0..=0, Controller, unregister_broker(UnregisterBrokerRequest)).on(Scope::Both),
    api!(67, "AllocateProducerIds", 0..=0, Here, allocate_producer_ids(AllocateProducerIdsRequest))
        .on(Scope::Controllers),
    api!(71, "GetTelemetrySubscriptions", 0..=0, Here, get_telemetry_subscriptions(GetTelemetrySubscriptionsRequest)),
    api!(72, "PushTelemetry", 0..=0, Here, push_telemetry(PushTelemetryRequest)),
    api!(73, "AssignReplicasToDirs", 0..=0, Here, assign_replicas_to_dirs(AssignReplicasToDirsRequest))
        .on(Scope::Controllers),
    api!(74, "ListConfigResources", 0..=1, Here, list_config_resources(ListConfigResourcesRequest)),
    api!(75, "DescribeTopicPartitions", 0..=0, Here, describe_topic_partitions(DescribeTopicPartitionsRequest)),
    api!(80, "AddRaftVoter", 0..=1, Controller, add_raft_voter(AddRaftVoterRequest)).on(Scope::Both),
    api!(81, "RemoveRaftVoter", 0..=0, Controller, remove_raft_voter(RemoveRaftVoterRequest)).on(Scope::Both),
    api!(82, "UpdateRaftVoter", 0..=0, Here, update_raft_voter(UpdateRaftVoterRequest)).on(Scope::Controllers),
];

/// The row with this key.
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.binary_search_by_key(&key, |api| api.key).ok().map(|index| &APIS[index])
}

/// The rows that a listener of controllers, or else one of brokers, serves.
pub fn served(controller: bool) -> impl Iterator<Item = &'static Api> {
    APIS.iter().filter(move |api| api.scope.covers(controller))
}

/// Key and name of every row.
pub fn apis() -> impl Iterator<Item = (i16, &'static str)> {
    APIS.iter().map(|api| (api.key, api.name))
}

/// The text of `docs/apis.md`: what is served, and what Kafka 4.3 serves beyond it.
pub fn apis_markdown() -> String {
    let mut text = String::from(
        "# APIs\n\nGenerated from `src/api/table.rs`. *Kafka* is the range that Kafka 4.3 knows, *versions* what is \
         served here.\n\n| key | name | versions | Kafka | decided by | not done |\n|---|---|---|---|---|---|\n",
    );
    for api in APIS {
        let decided = match api.route {
            Route::Here => "broker",
            Route::Controller => "controller",
            Route::Split => "broker, controller",
        };
        let scope = match api.scope {
            Scope::Brokers => "brokers",
            Scope::Controllers => "controllers",
            Scope::Both => "both",
        };
        let (versions, kafka) = (versions(&api.versions), kafka_versions(api.key));
        let advertised = if api.advertised_min < *api.versions.start() {
            format!(" (advertised from {})", api.advertised_min)
        } else {
            String::new()
        };
        let (key, name, gaps) = (api.key, api.name, api.gaps);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {key} | {name} | {versions}{advertised} | {kafka} | {scope} | {decided} | {gaps} |");
    }
    let missing: Vec<String> = missing_apis().map(|(key, name)| format!("{name} ({key})")).collect();
    let _ = write!(text, "\nNot served: {}.\n", missing.join(", "));
    text
}

fn versions(range: &RangeInclusive<i16>) -> String {
    if range.start() == range.end() { range.start().to_string() } else { format!("{}-{}", range.start(), range.end()) }
}

fn kafka_versions(key: i16) -> String {
    let of_key = || schema::messages().filter(|message| message.api_key == key);
    let min = of_key().map(|message| message.version_min).min();
    let max = of_key().map(|message| message.version_max).max();
    min.zip(max).map_or_else(String::new, |(min, max)| versions(&(min..=max)))
}

fn missing_apis() -> impl Iterator<Item = (i16, &'static str)> {
    let mut last = None;
    schema::messages()
        .filter(|message| message.direction == Direction::Request && find(message.api_key).is_none())
        .map(|message| (message.api_key, message.name))
        .filter(move |api| last.replace(*api) != Some(*api))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::generate::Generator;
    use crate::wire::guard;

    #[test]
    fn rows_ascend_and_agree_with_the_shapes() {
        assert!(APIS.is_sorted_by(|a, b| a.key < b.key));
        for api in APIS {
            assert_eq!(schema::api_name(api.key), Some(api.name));
            assert!(api.advertised_min <= *api.versions.start());
            for version in api.versions.clone() {
                assert!(schema::request(api.key, version).is_some(), "{} v{version}", api.name);
                assert!(schema::response(api.key, version).is_some(), "{} v{version}", api.name);
            }
        }
        assert!(find(API_VERSIONS).is_some_and(|api| api.name == "ApiVersions"));
        assert!(find(4).is_none());
    }

    #[test]
    fn the_document_names_every_api_once() {
        let text = apis_markdown();
        assert!(
            text.contains("| 0 | Produce | 3-13 (advertised from 0) | 3-13 | brokers | broker | no transactions |"),
            "{text}"
        );
        assert!(text.contains("| 75 | DescribeTopicPartitions | 0 | 0 | brokers | broker |"));
        for name in schema::messages().map(|message| message.name) {
            let times = |pattern: String| text.matches(&pattern).count();
            assert_eq!(times(format!("| {name} |")) + times(format!(" {name} (")), 1, "{name}");
        }
    }

    #[test]
    fn what_passes_the_guard_decodes() {
        for (api, version) in APIS.iter().flat_map(|api| api.versions.clone().map(move |version| (api, version))) {
            let shape = schema::request(api.key, version).unwrap();
            let mut generator = Generator::new(u64::from(version as u16));
            for _ in 0..100 {
                let body = generator.body(shape);
                assert_eq!(guard::walk(shape, &body), Ok(body.len()));
                assert_eq!(api.decodes(version, body.clone()), Ok(0), "{} v{version}: {body:?}", api.name);
                let mut spoiled = body.to_vec();
                generator.mutate(&mut spoiled);
                if guard::walk(shape, &spoiled).is_ok() {
                    // May be refused, for example for its UTF-8; must not panic or ask for the moon.
                    let _ = api.decodes(version, spoiled.into());
                }
            }
        }
    }
}
