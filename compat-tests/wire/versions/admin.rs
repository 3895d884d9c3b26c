//! Cases of the APIs that describe the broker itself.

use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeUserScramCredentialsRequest};
use ottla::api::table;

use super::{Lab, hello};
use crate::asks::{code, text};

const RESOURCE_NOT_FOUND: i16 = 91;
const DUPLICATE_RESOURCE: i16 = 92;

/// ApiVersions 18: the table, and the features as the version may see them.
pub fn api_versions(lab: &mut Lab, version: i16) {
    let response = lab.client.call(version, &hello(version));
    assert_eq!((response.error_code, response.throttle_time_ms), (code::NONE, 0));
    let listed = response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version));
    let served = table::APIS.iter().filter(|api| api.scope.covers(false));
    let rows = served.map(|api| (api.key, api.advertised_min, *api.versions.end()));
    assert!(listed.eq(rows), "{:?}", response.api_keys);
    assert!(!response.zk_migration_ready);
    let level = |name: &str| {
        let found = response.finalized_features.iter().find(|feature| feature.name.as_str() == name);
        found.map(|feature| (feature.min_version_level, feature.max_version_level))
    };
    let supported = |name: &str| {
        let found = response.supported_features.iter().find(|feature| feature.name.as_str() == name);
        found.map(|feature| (feature.min_version, feature.max_version))
    };
    if version < 3 {
        assert!(response.supported_features.is_empty() && response.finalized_features.is_empty());
        return;
    }
    assert_eq!(supported("metadata.version"), Some((7, 30)));
    assert_eq!(level("metadata.version"), Some((30, 30)));
    assert!(response.finalized_features_epoch >= 0);
    let from_zero = response.supported_features.iter().any(|feature| feature.min_version == 0);
    assert!(version >= 4 || !from_zero, "a feature that starts at level 0 is hidden before v4 (KAFKA-17492)");
    for feature in &response.finalized_features {
        assert!(feature.max_version_level > 0, "a feature at level 0 is not finalized");
    }
}

/// DescribeUserScramCredentials 50: nobody has any.
pub fn describe_user_scram_credentials(lab: &mut Lab, version: i16) {
    let user = |name: &str| UserName::default().with_name(text(name));
    let mut ask = |users: Option<Vec<UserName>>| {
        let response = lab.client.call(version, &DescribeUserScramCredentialsRequest::default().with_users(users));
        assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
        response.results.iter().map(|result| (result.user.to_string(), result.error_code)).collect::<Vec<_>>()
    };
    assert_eq!(ask(None), []);
    assert_eq!(ask(Some(vec![])), []);
    let named = ask(Some(vec![user("a"), user("b"), user("b")]));
    assert_eq!(named, [("a".to_owned(), RESOURCE_NOT_FOUND), ("b".to_owned(), DUPLICATE_RESOURCE)]);
}

/// DescribeCluster 60: the one broker, where the client can reach it.
pub fn describe_cluster(lab: &mut Lab, version: i16) {
    for asked in [false, true] {
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(asked);
        let response = lab.client.call(version, &request);
        assert_eq!((response.error_code, response.error_message.as_ref()), (code::NONE, None));
        assert_eq!(response.endpoint_type, 1);
        assert_eq!(response.cluster_id.len(), 22, "{:?}", response.cluster_id);
        assert_eq!(response.controller_id.0, lab.broker.node());
        assert_eq!(response.cluster_authorized_operations, if asked { 8096 } else { i32::MIN });
        let [broker] = &response.brokers[..] else { panic!("one broker") };
        assert_eq!(broker.broker_id.0, lab.broker.node());
        assert_eq!((broker.host.as_str(), broker.port), ("127.0.0.1", i32::from(lab.broker.address().port())));
        assert_eq!((broker.rack.as_ref(), broker.is_fenced), (None, false));
    }
    if version >= 1 {
        for (endpoint, expected) in [(2, 114), (3, 115)] {
            let request = DescribeClusterRequest::default().with_endpoint_type(endpoint);
            let response = lab.client.call(version, &request);
            assert_eq!((response.error_code, response.brokers.len()), (expected, 0));
        }
    }
    if version >= 2 {
        let request = DescribeClusterRequest::default().with_include_fenced_brokers(true);
        assert_eq!(lab.client.call(version, &request).brokers.len(), 1);
    }
}
