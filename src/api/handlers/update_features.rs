//! UpdateFeatures (57): finalizes feature levels for the cluster (KIP-584).
//!
//! v0: whether a downgrade is allowed, which Kafka's controller does not look at, and neither do we: v0 only upgrades.
//! v1: safe and unsafe downgrades, dry runs (KIP-778). v2: no results per feature any more; every update is made or
//! none (KIP-1022).

use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::api::translate::message;
use crate::api::{Context, Reply};
use crate::metadata::{FeatureUpdate, UpgradeType};

/// The last version with results per feature.
const RESULTS_MAX: i16 = 1;

/// Asks the quorum, and answers once the levels are in the image.
pub async fn handle(ctx: &Context, request: UpdateFeaturesRequest) -> Reply<UpdateFeaturesResponse> {
    let services = &ctx.services;
    let updates = request.feature_updates.iter().map(|update| self::update(ctx.request.version, update)).collect();
    let asked = services.metadata.update_features(updates, request.validate_only);
    let response = UpdateFeaturesResponse::default().with_error_message(None);
    Reply::Now(match ctx.within(request.timeout_ms, asked).await {
        Err(why) => response.with_error_code(why.code.code()).with_error_message(message(&why)),
        Ok(()) if ctx.request.version > RESULTS_MAX => response,
        Ok(()) => response.with_results(request.feature_updates.iter().map(done).collect()),
    })
}

fn update(version: i16, update: &FeatureUpdateKey) -> FeatureUpdate {
    let upgrade_type = match update.upgrade_type {
        _ if version == 0 => UpgradeType::Upgrade,
        1 => UpgradeType::Upgrade,
        2 => UpgradeType::SafeDowngrade,
        3 => UpgradeType::UnsafeDowngrade,
        _ => UpgradeType::Unknown,
    };
    FeatureUpdate { name: update.feature.to_string(), level: update.max_version_level, upgrade_type }
}

fn done(update: &FeatureUpdateKey) -> UpdatableFeatureResult {
    UpdatableFeatureResult::default().with_feature(update.feature.clone()).with_error_message(None)
}
