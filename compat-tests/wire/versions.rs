//! Every version of every API: one case per row of the API table, run in each version that the row serves.
//!
//! A case sends at least one request that means something and looks at every field the version has. The cases lie in
//! `versions/`, grouped as the APIs are.
//!
//! Invariants: a row without a case fails [`every_row_has_a_case`]; a version in which a case checked no answer fails
//! its sweep; what ApiVersions advertises is what is swept.

mod admin;
mod cluster;
mod configs;
mod controller;
mod data;
mod disks;
mod groups;
mod quotas;
mod telemetry;
mod topics;

pub use configs::alter;
pub use quotas::alter_quotas;

use kafka_protocol::messages::ApiVersionsRequest;
use ottla::api::table::{self, Scope};
use ottla::wire::generate::Generator;
use ottla::wire::schema;

use crate::asks::{Topic, code, text};
use crate::broker::Broker;
use crate::client::Client;

/// What a case works with. The client must be the one that checks the answers of the API in question.
pub struct Lab {
    pub broker: Broker,
    pub client: Client,
    names: usize,
    scope: Scope,
}

/// Checks one version of one API.
type Case = fn(&mut Lab, i16);

impl Lab {
    /// A lab whose client asks where the API is served: a broker, or a controller if only those serve it.
    fn start(scope: Scope) -> Lab {
        let broker = if scope == Scope::Controllers { Broker::as_controller() } else { Broker::start() };
        let client = if scope == Scope::Controllers { broker.controller_client() } else { broker.client() };
        Lab { broker, client, names: 0, scope }
    }

    /// Another connection to the same listener.
    fn connect(&self) -> Client {
        if self.scope == Scope::Controllers { self.broker.controller_client() } else { self.broker.client() }
    }

    /// A name that was not used before.
    pub fn name(&mut self, stem: &str) -> String {
        self.names += 1;
        format!("{stem}-{}", self.names)
    }

    /// A new topic.
    pub fn topic(&mut self, partitions: i32) -> Topic {
        let name = self.name("topic");
        self.client.topic(&name, partitions, &[])
    }
}

/// The rows that have a case, each with the name of its test and the case.
macro_rules! cases {
    ($($key:literal $test:ident => $case:path;)*) => {
        const COVERED: &[i16] = &[$($key),*];
        $(#[test] fn $test() { sweep($key, $case); })*
    };
}

cases! {
    0 produce => data::produce;
    1 fetch => data::fetch;
    2 list_offsets => data::list_offsets;
    3 metadata => topics::metadata;
    8 offset_commit => groups::offset_commit;
    9 offset_fetch => groups::offset_fetch;
    10 find_coordinator => groups::find_coordinator;
    11 join_group => groups::join_group;
    12 heartbeat => groups::heartbeat;
    13 leave_group => groups::leave_group;
    14 sync_group => groups::sync_group;
    15 describe_groups => groups::describe_groups;
    16 list_groups => groups::list_groups;
    18 api_versions => admin::api_versions;
    19 create_topics => topics::create_topics;
    20 delete_topics => topics::delete_topics;
    21 delete_records => data::delete_records;
    22 init_producer_id => data::init_producer_id;
    23 offset_for_leader_epoch => data::offset_for_leader_epoch;
    32 describe_configs => configs::describe_configs;
    33 alter_configs => configs::alter_configs;
    34 alter_replica_log_dirs => disks::alter_replica_log_dirs;
    35 describe_log_dirs => disks::describe_log_dirs;
    37 create_partitions => topics::create_partitions;
    42 delete_groups => groups::delete_groups;
    43 elect_leaders => cluster::elect_leaders;
    44 incremental_alter_configs => configs::incremental_alter_configs;
    45 alter_partition_reassignments => cluster::alter_partition_reassignments;
    46 list_partition_reassignments => cluster::list_partition_reassignments;
    47 offset_delete => groups::offset_delete;
    48 describe_client_quotas => quotas::describe_client_quotas;
    49 alter_client_quotas => quotas::alter_client_quotas;
    50 describe_user_scram_credentials => admin::describe_user_scram_credentials;
    55 describe_quorum => cluster::describe_quorum;
    56 alter_partition => controller::alter_partition;
    57 update_features => cluster::update_features;
    58 envelope => controller::envelope;
    60 describe_cluster => admin::describe_cluster;
    61 describe_producers => disks::describe_producers;
    62 broker_registration => controller::broker_registration;
    63 broker_heartbeat => controller::broker_heartbeat;
    64 unregister_broker => cluster::unregister_broker;
    67 allocate_producer_ids => controller::allocate_producer_ids;
    71 get_telemetry_subscriptions => telemetry::get_telemetry_subscriptions;
    72 push_telemetry => telemetry::push_telemetry;
    73 assign_replicas_to_dirs => controller::assign_replicas_to_dirs;
    74 list_config_resources => configs::list_config_resources;
    75 describe_topic_partitions => topics::describe_topic_partitions;
    80 add_raft_voter => cluster::add_raft_voter;
    81 remove_raft_voter => cluster::remove_raft_voter;
    82 update_raft_voter => controller::update_raft_voter;
}

#[test]
fn every_row_has_a_case() {
    let rows: Vec<i16> = table::APIS.iter().map(|api| api.key).collect();
    assert_eq!(rows, COVERED, "the rows of the API table and the cases differ");
    let broker = Broker::as_controller();
    for (controller, mut client) in [(false, broker.client()), (true, broker.controller_client())] {
        let served = table::APIS.iter().filter(|api| api.scope.covers(controller)).map(|api| api.key);
        let advertised = advertised(&mut client);
        assert!(advertised.iter().map(|range| range.0).eq(served), "{advertised:?}");
    }
}

/// Key, lowest and highest version of everything that ApiVersions names.
fn advertised(client: &mut Client) -> Vec<(i16, i16, i16)> {
    let response = client.call(0, &ApiVersionsRequest::default());
    assert_eq!(response.error_code, code::NONE);
    response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect()
}

fn sweep(key: i16, case: Case) {
    let mut lab = Lab::start(table::find(key).expect("a row").scope);
    let ranges = advertised(&mut lab.client);
    let (_, low, high) = *ranges.iter().find(|range| range.0 == key).expect("an API that is advertised");
    let row = table::find(key).expect("a row");
    assert_eq!((low, high), (row.advertised_min, *row.versions.end()), "{}", row.name);
    // What the sweep itself asked must not pass for the case's work.
    lab.client = lab.connect();
    for version in row.versions.clone() {
        case(&mut lab, version);
        let checked = lab.client.answered().contains(&(key, version));
        assert!(checked, "{} v{version}: no answer was checked", row.name);
    }
    let unserved = (low..*row.versions.start()).chain([*row.versions.start() - 1, high + 1]);
    for version in unserved.filter(|_| key != table::API_VERSIONS) {
        refuse(&lab, key, version);
    }
}

/// A version that is not served closes the connection, whatever the body.
fn refuse(lab: &Lab, key: i16, version: i16) {
    let mut client = lab.connect();
    let (header, body) = match schema::request(key, version) {
        Some(shape) => (shape.header_version, Generator::new(1).body(shape)),
        None => (1, bytes::Bytes::new()),
    };
    let frame = client.frame_of(key, version, header, &body);
    client.write(&frame).expect("the broker reads");
    client.assert_closed(&format!("api {key} v{version}"));
}

/// The request that opens a conversation, as a client of this version writes it.
pub fn hello(version: i16) -> ApiVersionsRequest {
    let hello = ApiVersionsRequest::default();
    if version < 3 {
        return hello;
    }
    hello.with_client_software_name(text("wire-test")).with_client_software_version(text("1.0"))
}
