//! Cases of the APIs that show and change client quotas.

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_client_quotas_response::EntryData as Altered;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{AlterClientQuotasRequest, DescribeClientQuotasRequest, DescribeClientQuotasResponse};

use super::Lab;
use crate::asks::{code, text};
use crate::client::Client;

/// Parts of an entity: kind and name, no name for the default.
type Entity<'a> = &'a [(&'a str, Option<&'a str>)];
/// Keys with their new values, no value to remove one.
type Changes<'a> = &'a [(&'a str, Option<f64>)];

const UNSUPPORTED_VERSION: i16 = 35;

fn entry(entity: Entity<'_>, changes: Changes<'_>) -> EntryData {
    let part = |(kind, name): &(&str, Option<&str>)| {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
    };
    let op = |(key, value): &(&str, Option<f64>)| {
        OpData::default().with_key(text(key)).with_value(value.unwrap_or(0.0)).with_remove(value.is_none())
    };
    EntryData::default().with_entity(entity.iter().map(part).collect()).with_ops(changes.iter().map(op).collect())
}

fn call(client: &mut Client, version: i16, entries: Vec<EntryData>, validate_only: bool) -> Vec<Altered> {
    let request = AlterClientQuotasRequest::default().with_entries(entries).with_validate_only(validate_only);
    let response = client.call(version, &request);
    assert_eq!(response.throttle_time_ms, 0);
    response.entries
}

/// Alters the quotas of one entity; its error code and message.
fn alter(client: &mut Client, version: i16, entity: Entity<'_>, changes: Changes<'_>) -> (i16, Option<String>) {
    let answers = call(client, version, vec![entry(entity, changes)], false);
    let [answer] = &answers[..] else { panic!("one answer: {answers:?}") };
    let mut named: Vec<_> =
        answer.entity.iter().map(|part| (part.entity_type.as_str(), part.entity_name.as_deref())).collect();
    let mut given = entity.to_vec();
    named.sort_unstable();
    given.sort_unstable();
    assert_eq!(named, given);
    (answer.error_code, answer.error_message.as_ref().map(ToString::to_string))
}

/// Alters the quotas of one entity, which must be taken.
pub fn alter_quotas(client: &mut Client, entity: Entity<'_>, changes: Changes<'_>) {
    assert_eq!(alter(client, 1, entity, changes), (code::NONE, None));
}

/// A filter: kind, type of match (0 a name, 1 the default, 2 any), name.
type Filter<'a> = &'a [(&'a str, i8, Option<&'a str>)];

fn describe(client: &mut Client, version: i16, filter: Filter<'_>, strict: bool) -> DescribeClientQuotasResponse {
    let component = |(kind, match_type, name): &(&str, i8, Option<&str>)| {
        let component = ComponentData::default().with_entity_type(text(kind)).with_match_type(*match_type);
        component.with_match(name.map(text))
    };
    let components = filter.iter().map(component).collect();
    client.call(version, &DescribeClientQuotasRequest::default().with_components(components).with_strict(strict))
}

/// What a filter finds: entities and quotas as text, sorted.
fn found(response: &DescribeClientQuotasResponse) -> Vec<String> {
    assert_eq!((response.error_code, response.throttle_time_ms), (code::NONE, 0));
    let entries = response.entries.as_ref().expect("entries");
    let shown = entries.iter().map(|entry| {
        let part = |part: &kafka_protocol::messages::describe_client_quotas_response::EntityData| {
            format!("{}:{}", part.entity_type.as_str(), part.entity_name.as_deref().unwrap_or("*"))
        };
        let value = |value: &kafka_protocol::messages::describe_client_quotas_response::ValueData| {
            format!("{}={}", value.key.as_str(), value.value)
        };
        let words: Vec<String> = entry.entity.iter().map(part).chain(entry.values.iter().map(value)).collect();
        words.join(" ")
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    shown
}

/// The quotas of the broker, as text.
fn describe_quotas(client: &mut Client) -> Vec<String> {
    found(&describe(client, 1, &[], false))
}

/// DescribeClientQuotas 48: every way to match, strict and not, and every way to be refused.
pub fn describe_client_quotas(lab: &mut Lab, version: i16) {
    let client = &mut lab.client;
    let entities: [Entity<'_>; 6] = [
        &[("user", Some("u"))],
        &[("user", None)],
        &[("user", Some("u")), ("client-id", Some("c"))],
        &[("user", Some("u")), ("client-id", None)],
        &[("client-id", Some("c"))],
        &[("ip", None)],
    ];
    for entity in entities {
        let key = if entity[0].0 == "ip" { "connection_creation_rate" } else { "producer_byte_rate" };
        alter_quotas(client, entity, &[(key, Some(1e9))]);
    }
    let (user, any_user) = ("user:u producer_byte_rate=1000000000", "user:* producer_byte_rate=1000000000");
    let (pair, any_client) =
        ("client-id:c user:u producer_byte_rate=1000000000", "client-id:* user:u producer_byte_rate=1000000000");
    let (of_client, ip) = ("client-id:c producer_byte_rate=1000000000", "ip:* connection_creation_rate=1000000000");
    let cases: [(Filter<'_>, bool, &[&str]); 10] = [
        (&[], false, &[any_client, of_client, pair, ip, any_user, user]),
        (&[], true, &[]),
        (&[("user", 0, Some("u"))], false, &[any_client, pair, user]),
        (&[("user", 0, Some("u"))], true, &[user]),
        (&[("user", 1, None)], false, &[any_user]),
        (&[("user", 2, None)], true, &[any_user, user]),
        (&[("user", 2, None), ("client-id", 1, None)], false, &[any_client]),
        (&[("user", 2, None), ("client-id", 2, None)], true, &[any_client, pair]),
        (&[("client-id", 0, Some("nobody"))], false, &[]),
        (&[("ip", 1, None)], true, &[ip]),
    ];
    for (filter, strict, expected) in cases {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found(&describe(client, version, filter, strict)), expected, "{filter:?} {strict}");
    }
    let refusals: [(Filter<'_>, i16, &str); 8] = [
        (&[("", 2, None)], code::INVALID_REQUEST, "Invalid empty entity type."),
        (&[("user", 0, None)], code::INVALID_REQUEST, "set match string to null"),
        (&[("user", 1, Some("u"))], code::INVALID_REQUEST, "MATCH_TYPE_DEFAULT"),
        (&[("user", 2, Some("u"))], code::INVALID_REQUEST, "MATCH_TYPE_SPECIFIED"),
        (&[("user", 3, None)], code::INVALID_REQUEST, "Unknown match type 3"),
        (&[("user", 2, None), ("user", 1, None)], code::INVALID_REQUEST, "cannot appear more than once"),
        (&[("user", 2, None), ("ip", 1, None)], code::INVALID_REQUEST, "Invalid entity filter component combination."),
        (&[("host", 2, None)], UNSUPPORTED_VERSION, "Unsupported entity type host"),
    ];
    for (filter, expected, words) in refusals {
        let refused = describe(client, version, filter, false);
        assert_eq!((refused.error_code, refused.entries.as_ref()), (expected, None), "{filter:?}");
        assert!(refused.error_message.as_ref().is_some_and(|message| message.contains(words)), "{refused:?}");
    }
    for entity in entities {
        let key = if entity[0].0 == "ip" { "connection_creation_rate" } else { "producer_byte_rate" };
        alter_quotas(client, entity, &[(key, None)]);
    }
    assert!(describe_quotas(client).is_empty());
}

/// AlterClientQuotas 49: what is set and removed, what is only validated, and every way to be refused.
pub fn alter_client_quotas(lab: &mut Lab, version: i16) {
    let client = &mut lab.client;
    let user: Entity<'_> = &[("user", Some("u"))];
    let changes: Changes<'_> = &[("producer_byte_rate", Some(1e9)), ("request_percentage", Some(1234.5))];
    let tried = call(client, version, vec![entry(user, changes)], true);
    assert_eq!((tried[0].error_code, tried[0].error_message.as_ref()), (code::NONE, None));
    assert!(describe_quotas(client).is_empty());
    assert_eq!(alter(client, version, user, changes), (code::NONE, None));
    assert_eq!(describe_quotas(client), ["user:u producer_byte_rate=1000000000 request_percentage=1234.5"]);
    let removed: Changes<'_> = &[("producer_byte_rate", None), ("never.set", None)];
    assert_eq!(alter(client, version, user, removed), (code::NONE, None));
    let left = ["user:u request_percentage=1234.5"];
    assert_eq!(describe_quotas(client), left);
    let ip: Entity<'_> = &[("ip", Some("127.0.0.1"))];
    let rate: Changes<'_> = &[("producer_byte_rate", Some(1e9))];
    let refusals: [(Entity<'_>, Changes<'_>, &str); 12] = [
        (&[], rate, "Invalid empty client quota entity"),
        (&[("user", Some(""))], rate, "Empty user not supported"),
        (&[("host", Some("h"))], rate, "Unhandled client quota entity type: host"),
        (&[("ip", None), ("user", None)], rate, "Invalid quota entity combination"),
        (
            &[("ip", Some("no such host"))],
            &[("connection_creation_rate", Some(1.0))],
            "is not a valid IP or resolvable",
        ),
        (ip, rate, "Invalid configuration key producer_byte_rate"),
        (ip, &[("connection_creation_rate", Some(1.5))], "connection_creation_rate cannot be a fractional value."),
        (ip, &[("connection_creation_rate", Some(3e9))], "too large for an INT"),
        (user, &[("producer_byte_rate", Some(1e30))], "too large for a LONG"),
        (user, &[("producer_byte_rate", Some(0.0))], "Quota producer_byte_rate must be greater than 0"),
        (user, &[("consumer_byte_rate", Some(5.0)), ("nonsense", Some(1.0))], "Invalid configuration key nonsense"),
        (user, &[("consumer_byte_rate", Some(5.0)), ("consumer_byte_rate", None)], "Ignoring duplicate entity"),
    ];
    for (entity, changes, words) in refusals {
        let (error, message) = alter(client, version, entity, changes);
        assert_eq!(error, code::INVALID_REQUEST, "{words}");
        assert!(message.as_ref().is_some_and(|message| message.contains(words)), "{message:?}, not {words}");
    }
    let other: Entity<'_> = &[("user", Some("v"))];
    let several = call(client, version, vec![entry(user, rate), entry(other, rate), entry(user, rate)], false);
    let codes: Vec<i16> = several.iter().map(|answer| answer.error_code).collect();
    assert_eq!(codes, [code::INVALID_REQUEST, code::NONE], "an entity answers once, and for itself");
    assert_eq!(describe_quotas(client), [left[0], "user:v producer_byte_rate=1000000000"]);
    assert_eq!(alter(client, version, user, &[("request_percentage", None)]), (code::NONE, None));
    assert_eq!(alter(client, version, other, &[("producer_byte_rate", None)]), (code::NONE, None));
}
