//! Small translations between our types and the protocol crate's.
//!
//! Invariants: pure; an empty message becomes null, because clients then print the text they know for the code.

use std::net::IpAddr;

use kafka_protocol::messages::{BrokerId as WireBrokerId, TopicName as WireTopicName};
use kafka_protocol::protocol::StrBytes;

use crate::error::ApiError;
use crate::ids::BrokerId;

/// A string as the protocol crate holds it.
pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A topic name as the protocol crate holds it.
pub fn topic_name(name: &str) -> WireTopicName {
    WireTopicName(text(name))
}

/// Broker ids as the protocol crate holds them, in the same order.
pub fn broker_ids(ids: &[BrokerId]) -> Vec<WireBrokerId> {
    ids.iter().map(|id| WireBrokerId(id.0)).collect()
}

/// Broker ids of a request as ours, in the same order.
pub fn our_broker_ids(ids: &[WireBrokerId]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(id.0)).collect()
}

/// An address as Java prints it: an IPv4 address as what it is though it came through an IPv6 socket, an IPv6 address
/// with all its groups.
pub fn address(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.segments().map(|group| format!("{group:x}")).join(":"),
    }
}

/// The sentence for an `ErrorMessage` field; null if there is none.
pub fn message(error: &ApiError) -> Option<StrBytes> {
    (!error.message.is_empty()).then(|| text(&error.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn addresses_are_printed_as_java_does() {
        let printed = |text: &str| address(text.parse().unwrap());
        assert_eq!(printed("127.0.0.1"), "127.0.0.1");
        assert_eq!(printed("::ffff:127.0.0.1"), "127.0.0.1");
        assert_eq!(printed("::1"), "0:0:0:0:0:0:0:1");
        assert_eq!(printed("2001:db8::a:0"), "2001:db8:0:0:0:0:a:0");
    }

    #[test]
    fn an_empty_message_is_null() {
        assert_eq!(message(&ApiError::from(ErrorCode::UnknownTopicOrPartition)), None);
        let refused = ApiError::new(ErrorCode::InvalidConfig, "no such key");
        assert_eq!(message(&refused).as_deref(), Some("no such key"));
    }
}
