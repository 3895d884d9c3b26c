//! Listeners: where the broker listens, what each listener speaks, and what clients are told to connect to.
//!
//! Invariants: pure. Names are in capitals and unique. The listener that brokers use is advertised and not a
//! controller's. Errors are worded as Kafka's (`KafkaConfig`, `AbstractKafkaConfig`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::rules::host_port;
use super::table::BrokerSettings;
use super::value::trim;

/// What a listener speaks (`SecurityProtocol`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's name, as it stands in `listener.security.protocol.map` and in broker registrations.
    pub const fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// The protocol with this name, in small letters or capitals.
    pub fn from_name(name: &str) -> Option<SecurityProtocol> {
        let all = [
            SecurityProtocol::Plaintext,
            SecurityProtocol::Ssl,
            SecurityProtocol::SaslPlaintext,
            SecurityProtocol::SaslSsl,
        ];
        all.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }
}

/// One listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerSetting {
    /// In capitals, such as `PLAINTEXT` or `TC-0`.
    pub name: String,
    /// The address to bind; empty for every interface.
    pub host: String,
    /// The port to bind; 0 lets the system choose.
    pub port: u16,
    pub protocol: SecurityProtocol,
    /// What clients are told to connect to; `None` if they are not told of this listener. Port 0 stands for the port
    /// that was bound.
    pub advertised: Option<(String, u16)>,
    /// True if it serves the controller and not clients.
    pub controller: bool,
}

/// The listeners that the settings describe. `is_set` says whether a key is set at all.
pub fn resolve(broker: &BrokerSettings, is_set: &dyn Fn(&str) -> bool) -> Result<Vec<ListenerSetting>, String> {
    let protocols = protocol_map(broker, is_set("listener.security.protocol.map"))?;
    let bound = endpoints(&broker.listeners, &protocols, true)?;
    let advertised = match &broker.advertised_listeners {
        Some(entries) => Some(endpoints(entries, &protocols, false)?),
        None => None,
    };
    let controllers: BTreeSet<String> = broker.controller_listener_names.iter().map(|name| normal(name)).collect();
    if let Some(advertised) = &advertised {
        check_advertised(advertised, &bound, &controllers)?;
    }
    let listeners: Vec<ListenerSetting> = bound
        .iter()
        .map(|endpoint| {
            let controller = controllers.contains(&endpoint.name);
            let told = advertised.as_ref().and_then(|all| all.iter().find(|told| told.name == endpoint.name));
            // Controllers are always told of: Kafka takes their own address when they are not advertised.
            let own = (advertised.is_none() || controller).then_some(endpoint);
            ListenerSetting {
                name: endpoint.name.clone(),
                host: endpoint.host.clone(),
                port: endpoint.port,
                protocol: endpoint.protocol,
                advertised: told.or(own).map(|told| (reachable(&told.host), told.port)),
                controller,
            }
        })
        .collect();
    check_inter_broker(broker, is_set, &listeners)?;
    check_built(&listeners)?;
    Ok(listeners)
}

/// The name of the listener that brokers use among themselves.
pub fn inter_broker_name(broker: &BrokerSettings) -> String {
    normal(broker.inter_broker_listener_name.as_ref().unwrap_or(&broker.security_inter_broker_protocol))
}

/// An entry of `listeners` or `advertised.listeners`.
struct Endpoint {
    name: String,
    host: String,
    port: u16,
    protocol: SecurityProtocol,
}

fn normal(name: &str) -> String {
    name.to_uppercase()
}

/// A host that clients can use, for an address that means every interface.
fn reachable(host: &str) -> String {
    if matches!(host, "" | "0.0.0.0" | "::") { "localhost".into() } else { host.to_owned() }
}

/// Which protocol each listener name speaks. When the map is not set, controllers speak PLAINTEXT, unless a listener is
/// named after another protocol.
fn protocol_map(broker: &BrokerSettings, is_set: bool) -> Result<BTreeMap<String, SecurityProtocol>, String> {
    let key = "listener.security.protocol.map";
    let mut map = BTreeMap::new();
    for entry in broker.listener_security_protocol_map.split(',').map(trim).filter(|entry| !entry.is_empty()) {
        let Some((name, protocol)) = entry.rsplit_once(':') else {
            return Err(format!("Error parsing configuration property '{key}': no colon in '{entry}'"));
        };
        let Some(known) = SecurityProtocol::from_name(trim(protocol)) else {
            let names = "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL";
            return Err(format!("Invalid security protocol `{}` defined in {key} (allowed: {names})", trim(protocol)));
        };
        map.insert(normal(trim(name)), known);
    }
    if is_set {
        return Ok(map);
    }
    let controllers = &broker.controller_listener_names;
    let scheme = |listener: &String| normal(listener.split(':').next().unwrap_or_default());
    let mut names = controllers.iter().map(|name| normal(name)).chain(broker.listeners.iter().map(scheme));
    if !names.any(|name| matches!(name.as_str(), "SSL" | "SASL_PLAINTEXT" | "SASL_SSL")) {
        map.extend(controllers.iter().map(|name| (normal(name), SecurityProtocol::Plaintext)));
    }
    Ok(map)
}

/// Parses `NAME://host:port` entries; ports must differ if the entries are to be bound.
fn endpoints(
    entries: &[String],
    protocols: &BTreeMap<String, SecurityProtocol>,
    to_be_bound: bool,
) -> Result<Vec<Endpoint>, String> {
    let shown = format!("[{}]", entries.join(", "));
    let fail = |why: String| format!("Error creating broker listeners from '{shown}': {why}");
    let mut parsed: Vec<Endpoint> = Vec::new();
    for entry in entries {
        let address = entry.rsplit_once("://").and_then(|(name, rest)| Some((normal(name), host_port(rest)?)));
        let Some((name, (host, port))) = address else {
            return Err(fail(format!("Unable to parse {entry} to a broker endpoint")));
        };
        let Some(&protocol) = protocols.get(&name) else {
            return Err(fail(format!("No security protocol defined for listener {name}")));
        };
        if parsed.iter().any(|other| other.name == name) {
            return Err(fail(format!("Each listener must have a different name, listeners: {shown}")));
        }
        parsed.push(Endpoint { name, host: host.to_owned(), port, protocol });
    }
    if to_be_bound {
        check_ports(&parsed, &shown).map_err(fail)?;
    }
    Ok(parsed)
}

/// Two listeners may share a port if one is bound to an IPv4 address and the other to an IPv6 address (KIP-797).
fn check_ports(endpoints: &[Endpoint], shown: &str) -> Result<(), String> {
    let mut by_port: BTreeMap<u16, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.port != 0) {
        by_port.entry(endpoint.port).or_default().push(endpoint);
    }
    for (port, sharing) in by_port.into_iter().filter(|(_, sharing)| sharing.len() > 1) {
        let addresses: Vec<IpAddr> = sharing.iter().filter_map(|endpoint| endpoint.host.parse().ok()).collect();
        let unnumbered = sharing.len() - addresses.len();
        if unnumbered > 1 {
            return Err(format!("Each listener must have a different port, listeners: {shown}"));
        }
        match addresses.as_slice() {
            [one, other] if unnumbered == 0 && one.is_ipv4() != other.is_ipv4() => {}
            [_, _] => {
                return Err(format!(
                    "If you have two listeners on the same port then one needs to be IPv4 and the other IPv6, \
                     listeners: {shown}, port: {port}"
                ));
            }
            _ => {
                return Err(format!(
                    "Each listener must have a different port unless exactly one listener has an IPv4 address and the \
                     other IPv6 address, listeners: {shown}, port: {port}"
                ));
            }
        }
    }
    Ok(())
}

fn check_advertised(advertised: &[Endpoint], bound: &[Endpoint], controllers: &BTreeSet<String>) -> Result<(), String> {
    let names = |endpoints: &[Endpoint]| endpoints.iter().map(|one| one.name.clone()).collect::<Vec<_>>().join(",");
    let for_clients: Vec<&Endpoint> = advertised.iter().filter(|one| !controllers.contains(&one.name)).collect();
    if for_clients.iter().any(|one| bound.iter().all(|listener| listener.name != one.name)) {
        return Err(format!(
            "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. \
             Found {}. The valid options based on the current configuration are {}",
            names(advertised),
            names(bound)
        ));
    }
    if advertised.iter().any(|one| one.host == "0.0.0.0") {
        return Err(
            "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address.".into()
        );
    }
    Ok(())
}

fn check_inter_broker(
    broker: &BrokerSettings,
    is_set: &dyn Fn(&str) -> bool,
    listeners: &[ListenerSetting],
) -> Result<(), String> {
    if is_set("inter.broker.listener.name") && is_set("security.inter.broker.protocol") {
        return Err("Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.".into());
    }
    if !broker.process_roles.iter().any(|role| role == "broker") {
        return match listeners.iter().all(|listener| listener.controller) {
            true => Ok(()),
            false => Err("The listeners config must only contain KRaft controller listeners from \
                          controller.listener.names when process.roles=controller"
                .into()),
        };
    }
    let advertised: Vec<&str> = listeners
        .iter()
        .filter(|listener| !listener.controller && listener.advertised.is_some())
        .map(|listener| listener.name.as_str())
        .collect();
    if advertised.is_empty() {
        return Err("There must be at least one broker advertised listener. \
                    Perhaps all listeners appear in controller.listener.names?"
            .into());
    }
    if !advertised.contains(&inter_broker_name(broker).as_str()) {
        return Err(format!(
            "inter.broker.listener.name must be a listener name defined in advertised.listeners. \
             The valid options based on currently configured listeners are {}",
            advertised.join(",")
        ));
    }
    Ok(())
}

/// Refuses what we cannot speak yet, rather than serve in the clear what was meant to be protected.
fn check_built(listeners: &[ListenerSetting]) -> Result<(), String> {
    match listeners.iter().find(|listener| listener.protocol != SecurityProtocol::Plaintext) {
        Some(listener) => Err(format!(
            "Listener {} uses the security protocol {}: TLS and SASL are not built yet, only PLAINTEXT is",
            listener.name,
            listener.protocol.name()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(settings: &[(&str, &str)]) -> Result<Vec<ListenerSetting>, String> {
        let text = |key: &str| settings.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        let broker = BrokerSettings::read(&text);
        resolve(&broker, &|key: &str| text(key).is_some())
    }

    #[track_caller]
    fn refused(settings: &[(&str, &str)], why: &str) {
        let error = resolved(settings).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn nothing_set_listens_on_9092() {
        let listeners = resolved(&[]).unwrap();
        assert_eq!(listeners.len(), 1);
        assert_eq!((listeners[0].name.as_str(), listeners[0].host.as_str()), ("PLAINTEXT", ""));
        assert_eq!(listeners[0].advertised, Some(("localhost".to_owned(), 9092)));
        assert!(!listeners[0].controller);
    }

    #[test]
    fn a_container_with_its_own_names() {
        let listeners = resolved(&[
            ("listeners", "PLAINTEXT://0.0.0.0:9092,broker://0.0.0.0:9093,CONTROLLER://0.0.0.0:9094,TC-0://:19092"),
            ("advertised.listeners", "PLAINTEXT://localhost:32768,BROKER://c0ffee:9093,TC-0://kafka:19092"),
            (
                "listener.security.protocol.map",
                "BROKER:PLAINTEXT, PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TC-0:PLAINTEXT",
            ),
            ("inter.broker.listener.name", "BROKER"),
        ])
        .unwrap();
        let advertised: Vec<_> = listeners.iter().map(|one| (one.name.as_str(), one.advertised.clone())).collect();
        let at = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(
            advertised,
            [
                ("PLAINTEXT", at("localhost", 32768)),
                ("BROKER", at("c0ffee", 9093)),
                ("CONTROLLER", at("localhost", 9094)),
                ("TC-0", at("kafka", 19092)),
            ]
        );
        assert_eq!(listeners.iter().filter(|one| one.controller).count(), 1);
    }

    #[test]
    fn a_listener_need_not_be_advertised() {
        let listeners = resolved(&[
            ("listeners", "PLAINTEXT://:9092,HIDDEN://:9093"),
            ("advertised.listeners", "PLAINTEXT://a:9092"),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,HIDDEN:PLAINTEXT"),
        ]);
        assert_eq!(listeners.unwrap()[1].advertised, None);
    }

    #[test]
    fn names_ports_and_protocols_are_checked() {
        refused(&[("listeners", "PLAINTEXT//:9092")], "Unable to parse PLAINTEXT//:9092 to a broker endpoint");
        refused(&[("listeners", "PLAINTEXT://:9092,PLAINTEXT://:9093")], "must have a different name");
        refused(&[("listeners", "PLAINTEXT://:9092,CONTROLLER://:9092")], "must have a different port");
        refused(&[("listeners", "INSIDE://:9092")], "No security protocol defined for listener INSIDE");
        refused(&[("listener.security.protocol.map", "PLAINTEXT:PLAIN")], "Invalid security protocol `PLAIN`");
        let secure = [("listeners", "SSL://:9093"), ("security.inter.broker.protocol", "SSL")];
        refused(&secure, "not built yet");
    }

    #[test]
    fn a_port_may_be_shared_by_ipv4_and_ipv6() {
        let map = ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,SIX:PLAINTEXT");
        let both = resolved(&[("listeners", "PLAINTEXT://127.0.0.1:9092,SIX://[::1]:9092"), map]);
        assert_eq!(both.unwrap()[1].host, "::1");
        let same = "one needs to be IPv4 and the other IPv6";
        refused(&[("listeners", "PLAINTEXT://127.0.0.1:9092,SIX://127.0.0.2:9092"), map], same);
        refused(&[("listeners", "PLAINTEXT://127.0.0.1:9092,SIX://:9092"), map], "unless exactly one listener");
    }

    #[test]
    fn what_is_advertised_must_be_reachable_and_bound() {
        let meta = [("advertised.listeners", "PLAINTEXT://0.0.0.0:9092")];
        refused(&meta, "cannot use the nonroutable meta-address 0.0.0.0");
        let unbound = [
            ("advertised.listeners", "PLAINTEXT://a:9092,OUT://b:9093"),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,OUT:PLAINTEXT"),
        ];
        refused(&unbound, "must be equal to or a subset of the ones defined in listeners. Found PLAINTEXT,OUT.");
    }

    #[test]
    fn brokers_need_a_listener_among_themselves() {
        let other = [("inter.broker.listener.name", "INSIDE")];
        refused(&other, "The valid options based on currently configured listeners are PLAINTEXT");
        let both = [("inter.broker.listener.name", "PLAINTEXT"), ("security.inter.broker.protocol", "PLAINTEXT")];
        refused(&both, "Only one of");
        let none = [("listeners", "CONTROLLER://:9093")];
        refused(&none, "Perhaps all listeners appear in controller.listener.names?");
    }
}
