//! ApiVersions: which APIs and versions are served here, and which features the cluster has.
//!
//! v0 key ranges · v1 throttle time · v3 flexible body, client software name and version in the request, features in
//! the response (KIP-482, KIP-511, KIP-584) · v4 features whose lowest level is 0 are listed too (KAFKA-17011).
//!
//! The response header is always the oldest one. A version that we do not know is answered in v0 with error 35 and with
//! ApiVersions as the only key, so that the client can come down; dispatch does that, with [`unknown_version`].

use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::api::Reply;
use crate::api::context::{ClientSoftware, Context};
use crate::api::features::{SupportedFeature, supported_features};
use crate::api::table::{self, APIS, Api};
use crate::error::ErrorCode;
use crate::metadata::ClusterImage;

pub async fn handle(ctx: &Context, request: ApiVersionsRequest) -> Reply<ApiVersionsResponse> {
    let version = ctx.request.version;
    if version >= 3 {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        if !is_software_word(name) || !is_software_word(version) {
            return Reply::Now(ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code()));
        }
        let software = ClientSoftware { name: name.to_string(), version: version.to_string() };
        // A client may ask again; what it said first stays.
        let _ = ctx.connection.client_software.set(software);
    }
    Reply::Now(response(version, ctx.connection.controller, &feature_levels(&ctx.services.metadata.image())))
}

/// The answer to a version that we do not know; to be encoded as version 0.
pub fn unknown_version() -> ApiVersionsResponse {
    let own = APIS.iter().filter(|api| api.key == table::API_VERSIONS).map(range).collect();
    ApiVersionsResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code()).with_api_keys(own)
}

/// What ApiVersions tells of the features.
struct FeatureLevels {
    /// Offset of the newest metadata record: grows with every change.
    epoch: i64,
    levels: Vec<FeatureLevel>,
}

/// One feature: the levels that this broker supports and the one that the cluster has agreed on; 0 is off.
struct FeatureLevel {
    name: &'static str,
    min: i16,
    max: i16,
    finalized: i16,
}

/// The features that this broker supports, at the levels that the image has.
fn feature_levels(image: &ClusterImage) -> FeatureLevels {
    let levels = supported_features().iter().map(|feature| {
        let SupportedFeature { name, min, max, .. } = *feature;
        FeatureLevel { name, min, max, finalized: image.features.level(name) }
    });
    FeatureLevels { epoch: image.index.next_offset - 1, levels: levels.collect() }
}

fn response(version: i16, controller: bool, features: &FeatureLevels) -> ApiVersionsResponse {
    let response = ApiVersionsResponse::default().with_api_keys(table::served(controller).map(range).collect());
    if version < 3 {
        return response;
    }
    let supported = features.levels.iter().filter(|feature| version >= 4 || feature.min > 0).map(|feature| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(feature.name))
            .with_min_version(feature.min)
            .with_max_version(feature.max)
    });
    let finalized = features.levels.iter().filter(|feature| feature.finalized > 0).map(|feature| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(feature.name))
            .with_min_version_level(feature.finalized)
            .with_max_version_level(feature.finalized)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features_epoch(features.epoch)
        .with_finalized_features(finalized.collect())
}

fn range(api: &Api) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api.key)
        .with_min_version(api.advertised_min)
        .with_max_version(*api.versions.end())
}

/// Letters and digits, with `-` and `.` allowed inside (`ApiVersionsRequest.isValid`).
fn is_software_word(word: &str) -> bool {
    let outer = |byte: u8| byte.is_ascii_alphanumeric();
    let bytes = word.as_bytes();
    bytes.first().copied().is_some_and(outer)
        && bytes.last().copied().is_some_and(outer)
        && bytes.iter().all(|&byte| outer(byte) || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    fn levels() -> FeatureLevels {
        let level = |name, min, max, finalized| FeatureLevel { name, min, max, finalized };
        let levels = vec![
            level("metadata.version", 7, 30, 30),
            level("group.version", 0, 1, 1),
            level("share.version", 0, 1, 0),
        ];
        FeatureLevels { epoch: 41, levels }
    }

    fn supported(response: &ApiVersionsResponse) -> Vec<(&str, i16, i16)> {
        let features = response.supported_features.iter();
        features.map(|feature| (&*feature.name, feature.min_version, feature.max_version)).collect()
    }

    #[test]
    fn every_version_lists_every_api_and_encodes() {
        for version in 0..=4 {
            let response = response(version, false, &levels());
            assert_eq!(response.api_keys.len(), table::served(false).count());
            let produce = &response.api_keys[0];
            assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
            assert!(response.encode(&mut BytesMut::new(), version).is_ok());
        }
    }

    #[test]
    fn features_are_told_as_the_version_allows() {
        assert!(response(2, false, &levels()).supported_features.is_empty());
        assert_eq!(supported(&response(3, false, &levels())), [("metadata.version", 7, 30)]);
        let response = response(4, false, &levels());
        assert_eq!(
            supported(&response),
            [("metadata.version", 7, 30), ("group.version", 0, 1), ("share.version", 0, 1)]
        );
        let finalized = response.finalized_features.iter();
        let finalized: Vec<_> = finalized.map(|f| (&*f.name, f.min_version_level, f.max_version_level)).collect();
        assert_eq!(finalized, [("metadata.version", 30, 30), ("group.version", 1, 1)]);
        assert_eq!(response.finalized_features_epoch, 41);
    }

    #[test]
    fn an_unknown_version_is_told_our_own_range() {
        let response = unknown_version();
        assert_eq!((response.error_code, response.api_keys.len()), (35, 1));
        let own = &response.api_keys[0];
        assert_eq!((own.api_key, own.min_version, own.max_version), (18, 0, 4));
    }

    #[test]
    fn software_words() {
        for word in ["a", "apache-kafka-java", "4.3.1", "librdkafka", "1.0-rc.2"] {
            assert!(is_software_word(word), "{word}");
        }
        for word in ["", "-a", "a-", "a b", "a_b", "é", ".", "a."] {
            assert!(!is_software_word(word), "{word}");
        }
    }
}
