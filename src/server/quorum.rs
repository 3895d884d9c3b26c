//! What the settings of a node say about the metadata quorum: is it in it, who else is, where are they found.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::config::Config;
use crate::ids::BrokerId;
use crate::metadata::{MemberEndpoint, QuorumSettings, Timing};
use crate::peer::Address;

/// The settings about the quorum; `addresses` are the listeners as they were bound.
pub(super) fn settings(config: &Config, addresses: &[(String, SocketAddr)]) -> QuorumSettings {
    let voters: BTreeMap<BrokerId, Address> =
        config.voters().into_iter().map(|(id, host, port)| (BrokerId(id), Address { host, port })).collect();
    let bootstrap = config.bootstrap_controllers().into_iter().map(|(host, port)| Address { host, port });
    let timeout_ms = u64::try_from(config.broker().controller_quorum_fetch_timeout_ms).unwrap_or(0);
    QuorumSettings {
        controller: config.has_role("controller"),
        voters,
        bootstrap: bootstrap.collect(),
        endpoints: endpoints(config, addresses),
        auto_join: config.broker().controller_quorum_auto_join_enable,
        formatted: false,
        timing: Timing::noticing_within(timeout_ms),
    }
}

/// Where the controller of this node is reached, in the order of `controller.listener.names`.
fn endpoints(config: &Config, addresses: &[(String, SocketAddr)]) -> Vec<MemberEndpoint> {
    let ports: BTreeMap<&str, u16> = addresses.iter().map(|(name, address)| (name.as_str(), address.port())).collect();
    let names = config.broker().controller_listener_names.iter().map(|name| name.to_uppercase());
    let endpoint = |name: String| {
        let listener = config.listeners().iter().find(|listener| listener.controller && listener.name == name)?;
        let (host, told) = listener.advertised.clone()?;
        let port = if told == 0 { *ports.get(name.as_str())? } else { told };
        Some(MemberEndpoint { listener: name, address: Address { host, port } })
    };
    names.filter_map(endpoint).collect()
}

/// Whether this node is part of a cluster of several, so that the cluster's id cannot be its own to draw.
pub(super) fn is_one_of_several(config: &Config) -> bool {
    let node = config.broker().node_id;
    let others = config.voters().iter().any(|(id, ..)| *id != node);
    let elsewhere = config.voters().is_empty() && config.bootstrap_controllers().len() > 1;
    others || elsewhere || !config.has_role("controller")
}
