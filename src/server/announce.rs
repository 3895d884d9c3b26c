//! What a start says: where it listens, where its data is, what an acknowledgement means.
//!
//! Two of the lines are Kafka's own words, once each, because scripts and test containers wait for them.

use std::path::PathBuf;
use std::time::Duration;

use super::{Server, absolute};

/// Says it, as log lines.
pub(super) fn announce(server: &Server, warnings: &[String], data: &[PathBuf], took: Duration) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let services = &server.services;
    let config = services.config.load();
    for path in data {
        tracing::info!("data in {}", absolute(path));
    }
    for (name, address) in &server.addresses {
        tracing::info!("listener {name} on {address}");
    }
    match server.metrics_address {
        Some(address) => {
            tracing::info!("metrics on http://{address}/metrics, health on /health/live and /health/ready")
        }
        None => tracing::info!("metrics are off (ottla.metrics.listener)"),
    }
    if config.broker().ottla_sync_before_ack {
        tracing::info!("an acknowledged record (acks=1 or all) is on disk, synced");
    } else {
        tracing::warn!(
            "ottla.sync.before.ack=false: acknowledged records survive a crash of this process, not of the machine"
        );
    }
    tracing::info!("The broker has been unfenced. Transitioning from RECOVERY to RUNNING.");
    let image = services.metadata.image();
    tracing::info!(
        "[KafkaRaftServer nodeId={}] Kafka Server started (ottla {}, cluster {}, {} topics, {} ms)",
        services.node,
        env!("CARGO_PKG_VERSION"),
        image.cluster_id,
        image.topics.len(),
        took.as_millis()
    );
}
