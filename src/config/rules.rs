//! The checks of the table that need a function.
//!
//! Invariants: pure. An error is Kafka's whole sentence. A value that is not of the checked type passes: its type was
//! refused before.

use super::value::{Value, invalid};

/// Splits `host:port`; the host may be empty and loses the brackets of an IPv6 address. `None` if it is not one.
pub fn host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'%' | b'.' | b'_' | b':');
    // The parser of numbers would also take a leading plus.
    if !host.bytes().all(legal) || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((host, port.parse().ok()?))
}

/// A voter of `controller.quorum.voters`: its id, its host, its port.
pub type Voter = (i32, String, u16);

/// The ids in `controller.quorum.voters`, in the order they are written.
pub fn voter_ids(entries: &[String]) -> Result<Vec<i32>, String> {
    Ok(parse_voters(entries)?.into_iter().map(|(id, ..)| id).collect())
}

/// The voters in `controller.quorum.voters`, in the order they are written (`QuorumConfig.parseVoterConnections`).
pub fn parse_voters(entries: &[String]) -> Result<Vec<Voter>, String> {
    let key = "controller.quorum.voters";
    let form = "Each entry should be in the form `{id}@{host}:{port}`.";
    let mut voters = Vec::new();
    for entry in entries {
        let Some((id, address)) = entry.split_once('@') else {
            return Err(format!("Invalid configuration value for {key}. {form}"));
        };
        let Ok(id) = id.parse::<i32>() else {
            return Err(format!("Failed to parse voter ID as an integer from {id}"));
        };
        let Some((host, port)) = host_port(address).filter(|(host, _)| !host.is_empty()) else {
            return Err(format!(
                "Failed to parse host and port from entry {entry} for the configuration {key}. {form}"
            ));
        };
        voters.push((id, host.to_owned(), port));
    }
    Ok(voters)
}

pub fn voters(_name: &str, value: &Value) -> Result<(), String> {
    if let Value::List(entries) = value { voter_ids(entries).map(drop) } else { Ok(()) }
}

pub fn bootstrap_servers(name: &str, value: &Value) -> Result<(), String> {
    let Value::List(entries) = value else { return Ok(()) };
    for entry in entries {
        if host_port(entry).is_none_or(|(host, _)| host.is_empty()) {
            let form = "Each entry should be in the form \"{host}:{port}\"";
            return Err(format!("Failed to parse host and port from {entry} for the configuration {name}. {form}"));
        }
    }
    Ok(())
}

pub fn gzip_level(name: &str, value: &Value) -> Result<(), String> {
    if let Value::Whole(level) = value
        && !(1..=9).contains(level)
        && *level != -1
    {
        return Err(invalid(name, value, "Value must be between 1 and 9 or equal to -1"));
    }
    Ok(())
}

pub fn throttled_replicas(name: &str, value: &Value) -> Result<(), String> {
    let Value::List(entries) = value else { return Ok(()) };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pair = |text: &str| text.split_once(':').is_some_and(|(partition, broker)| number(partition) && number(broker));
    if entries.iter().all(|entry| entry.is_empty() || pair(entry)) || entries.concat() == "*" {
        return Ok(());
    }
    let form = "[partitionId]:[brokerId],[partitionId]:[brokerId],...";
    let why = format!("{name} must be the literal '*' or a list of replicas in the following format: {form}");
    Err(invalid(name, value, &why))
}

/// `address:count,...`. The reasons are those of Java's own exceptions.
pub fn connections_per_ip(name: &str, value: &Value) -> Result<(), String> {
    let Value::Text(text) = value else { return Ok(()) };
    for entry in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
        let why = match entry.rsplit_once(':') {
            None => format!("begin 0, end -1, length {}", entry.encode_utf16().count()),
            Some((_, count)) if count.trim().parse::<i32>().is_err() => {
                format!("For input string: \"{}\"", count.trim())
            }
            Some(_) => continue,
        };
        return Err(format!("Error parsing configuration property '{name}': {why}"));
    }
    Ok(())
}

pub fn auto_offset_reset(name: &str, value: &Value) -> Result<(), String> {
    let Value::Text(text) = value else { return Ok(()) };
    let duration = text.strip_prefix("by_duration:").is_some_and(is_duration);
    if duration || text == "earliest" || text == "latest" {
        return Ok(());
    }
    let why = format!(
        "Invalid value `{text}` for configuration {name}. The value must be either 'earliest', 'latest' or of the \
         format 'by_duration:<PnDTnHnMn.nS>'."
    );
    Err(invalid(name, value, &why))
}

/// True for a duration that `java.time.Duration.parse` reads and that is not negative.
fn is_duration(text: &str) -> bool {
    let upper = text.strip_prefix('+').unwrap_or(text).to_ascii_uppercase();
    let Some(rest) = upper.strip_prefix('P') else { return false };
    let (days, time) = rest.split_once('T').map_or((rest, None), |(days, time)| (days, Some(time)));
    if time.is_some_and(str::is_empty) || (days.is_empty() && time.is_none()) {
        return false;
    }
    parts(days, "D").is_some() && time.is_none_or(|time| parts(time, "HMS").is_some())
}

/// Reads numbers, each with one of `units` in their order; only seconds may have a fraction.
fn parts(mut text: &str, units: &str) -> Option<()> {
    let mut least = 0;
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = (&text[..end], text[end..].chars().next()?);
        let place = units.find(unit).filter(|place| *place >= least)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let fractional = number.contains('.');
        if whole.parse::<i64>().is_err() || fraction.len() > 9 || (fractional && unit != 'S') {
            return None;
        }
        least = place + 1;
        text = &text[end + 1..];
    }
    Some(())
}

pub fn metrics_listener(name: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Text(text) if !text.is_empty() && host_port(text).is_none() => {
            Err(invalid(name, value, "Expected {host}:{port}, or nothing to turn metrics off"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Value {
        Value::List(items.iter().map(|item| (*item).to_owned()).collect())
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(host_port("localhost:9092"), Some(("localhost", 9092)));
        assert_eq!(host_port(":9092"), Some(("", 9092)));
        assert_eq!(host_port("[::1]:9092"), Some(("::1", 9092)));
        for bad in ["localhost", "localhost:", "localhost:+1", "localhost:65536", "a b:1"] {
            assert_eq!(host_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn quorum_addresses() {
        let entries = ["1@a:9093".to_owned(), "2@[::1]:9093".to_owned()];
        assert_eq!(voter_ids(&entries), Ok(vec![1, 2]));
        assert!(voters("controller.quorum.voters", &list(&["a:9093"])).is_err());
        assert!(voters("controller.quorum.voters", &list(&["1@:9093"])).is_err());
        assert!(voters("controller.quorum.voters", &list(&["x@a:9093"])).is_err());
        assert!(bootstrap_servers("controller.quorum.bootstrap.servers", &list(&["localhost:9093"])).is_ok());
        assert!(bootstrap_servers("controller.quorum.bootstrap.servers", &list(&["localhost"])).is_err());
    }

    #[test]
    fn levels_and_replicas() {
        for level in [-1, 1, 9] {
            assert!(gzip_level("key", &Value::Whole(level)).is_ok(), "{level}");
        }
        let why = "Invalid value 0 for configuration key: Value must be between 1 and 9 or equal to -1";
        assert_eq!(gzip_level("key", &Value::Whole(0)), Err(why.into()));
        for good in [&["*"][..], &[], &["0:1", "1:2"]] {
            assert!(throttled_replicas("key", &list(good)).is_ok(), "{good:?}");
        }
        for bad in [&["0"][..], &["*", "0:1"], &["0:x"]] {
            assert!(throttled_replicas("key", &list(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn overrides_are_addresses_with_counts() {
        let check = |text: &str| connections_per_ip("key", &Value::Text(text.into()));
        for good in ["", "127.0.0.1:5", "10.0.0.1:1, [::1]:2", "host:0"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let refused = |why: &str| Err(format!("Error parsing configuration property 'key': {why}"));
        assert_eq!(check("xx"), refused("begin 0, end -1, length 2"));
        assert_eq!(check("a:1,b:x"), refused("For input string: \"x\""));
    }

    #[test]
    fn a_share_group_starts_somewhere() {
        let check = |text: &str| auto_offset_reset("key", &Value::Text(text.into()));
        for good in ["earliest", "latest", "by_duration:P1D", "by_duration:PT1H30M", "by_duration:P2DT0.5S"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            ["", "none", "by_duration:", "by_duration:P", "by_duration:PT", "by_duration:-PT1H", "by_duration:1H"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check("by_duration:PT1M1H").is_err(), "out of order");
    }

    #[test]
    fn a_metrics_listener_is_an_address_or_nothing() {
        assert!(metrics_listener("key", &Value::Text(String::new())).is_ok());
        assert!(metrics_listener("key", &Value::Text("0.0.0.0:9404".into())).is_ok());
        assert!(metrics_listener("key", &Value::Text("9404".into())).is_err());
    }
}
