//! `ottla doctor`: which APIs, versions and behaviours any Kafka broker serves, beside what Kafka 4.3 does.
//!
//! Invariants: a probe that fails is a finding, not the end; nothing is created unless that was allowed, and what was
//! created is deleted again; only the broker that was named is asked.

mod link;
mod probes;
mod report;

use std::collections::BTreeMap;

use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;

use crate::env::Env;
use crate::error::ErrorCode;
use link::Link;
pub use report::{Api, Check, Report, Standing};

/// What to examine.
pub struct Patient {
    pub host: String,
    pub port: u16,
    /// Create a topic of a random name, write to it, read it, delete it.
    pub may_write: bool,
}

/// Versions that a broker says it serves, by API key.
type Served = BTreeMap<i16, (i16, i16)>;

/// A feature's supported levels, and the finalized one if it is on.
type Features = BTreeMap<String, (i16, i16, Option<i16>)>;

/// Examines a broker. The error says why it cannot be asked at all.
pub async fn examine(env: &Env, patient: &Patient) -> Result<Report, String> {
    let mut link = Link::open(env, &patient.host, patient.port).await?;
    let (served, features) = versions(&mut link).await?;
    let apis = report::compare(&served);
    let mut probe = probes::Probes { env, link, served, checks: Vec::new(), cluster: Vec::new() };
    probe.run(patient).await;
    let (checks, cluster) = (probe.checks, probe.cluster);
    Ok(Report { address: format!("{}:{}", patient.host, patient.port), cluster, features, apis, checks })
}

/// Asks in the newest version, and in the oldest if that is not known (KIP-511).
async fn versions(link: &mut Link) -> Result<(Served, Features), String> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("ottla-doctor"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let unsupported = ErrorCode::UnsupportedVersion.code();
    // An error is always answered in version 0, whose shape begins like all of them.
    let id = link.send(3, &request).await?;
    let answer = link.receive::<ApiVersionsRequest>(3, id).await;
    let answer = match answer {
        Ok(answer) if answer.error_code != unsupported => answer,
        _ => return Err("does not answer ApiVersions 3, which every broker since Kafka 2.4 does".into()),
    };
    if answer.error_code != 0 {
        return Err(format!("refuses ApiVersions: error {}", answer.error_code));
    }
    let served = answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
    let mut features = Features::new();
    for feature in &answer.supported_features {
        features.insert(feature.name.to_string(), (feature.min_version, feature.max_version, None));
    }
    for feature in &answer.finalized_features {
        features.entry(feature.name.to_string()).or_default().2 = Some(feature.max_version_level);
    }
    Ok((served, features))
}
