//! Cases of the APIs by which clients push their metrics (KIP-714).

use bytes::Bytes;
use kafka_protocol::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, PushTelemetryRequest,
};
use uuid::Uuid;

use super::{Lab, alter};
use crate::asks::{code, text};
use crate::client::Client;

const CLIENT_METRICS: i8 = 16;
const SET: i8 = 0;

/// Errors.
const INVALID_REQUEST: i16 = 42;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;
const THROTTLING_QUOTA_EXCEEDED: i16 = 89;
const UNKNOWN_SUBSCRIPTION_ID: i16 = 117;
const TELEMETRY_TOO_LARGE: i16 = 118;

/// GetTelemetrySubscriptions 71: ids are given and kept, subscriptions match by the client's attributes.
pub fn get_telemetry_subscriptions(lab: &mut Lab, version: i16) {
    let nothing = subscribe(&mut lab.client, version, Uuid::nil());
    assert_eq!((nothing.error_code, nothing.throttle_time_ms, nothing.push_interval_ms), (code::NONE, 0, 300_000));
    assert_eq!((nothing.accepted_compression_types, nothing.requested_metrics), (vec![4, 3, 1, 2], vec![]));
    assert_eq!((nothing.telemetry_max_bytes, nothing.delta_temporality), (1_048_576, true));
    let id = nothing.client_instance_id;
    assert!(!id.is_nil());
    let again = subscribe(&mut lab.client, version, id);
    assert_eq!(again.error_code, THROTTLING_QUOTA_EXCEEDED, "nothing has changed since");

    set(
        &mut lab.client,
        "mine",
        &[
            ("metrics", "org.apache.kafka.b.,org.apache.kafka.a."),
            ("interval.ms", "60000"),
            ("match", "client_id=wire"),
        ],
    );
    set(&mut lab.client, "others", &[("metrics", "*"), ("match", "client_id=somebody")]);
    let mine = subscribe(&mut lab.client, version, id);
    assert_eq!((mine.error_code, mine.client_instance_id, mine.push_interval_ms), (code::NONE, id, 60_000));
    assert_eq!(mine.requested_metrics.len(), 2, "{:?}", mine.requested_metrics);
    assert_ne!(mine.subscription_id, nothing.subscription_id);
    let mut somebody = lab.broker.client().called(Some("somebody"));
    let all = subscribe(&mut somebody, version, Uuid::nil());
    assert_eq!((all.requested_metrics, all.push_interval_ms), (vec![text("*")], 300_000));
    assert_ne!(all.client_instance_id, id);
}

/// PushTelemetry 72: what is pushed is read or refused, in the order of Kafka's checks.
pub fn push_telemetry(lab: &mut Lab, version: i16) {
    // Every accepted push may be followed at once by none other: each check has a client instance of its own.
    type Spoil = fn(PushTelemetryRequest) -> PushTelemetryRequest;
    let wrong: [(&str, Spoil, i16); 8] = [
        ("good", |push| push, code::NONE),
        ("empty", |push| push.with_metrics(Bytes::new()), code::NONE),
        ("compressed", |push| push.with_compression_type(2).with_metrics(Bytes::from_static(&[0])), code::NONE),
        ("subscription", other_subscription, UNKNOWN_SUBSCRIPTION_ID),
        ("codec", |push| push.with_compression_type(9), UNSUPPORTED_COMPRESSION_TYPE),
        ("size", |push| push.with_metrics(vec![0; 1_048_577].into()), TELEMETRY_TOO_LARGE),
        ("noise", |push| push.with_metrics(Bytes::from_static(&[0x0a, 0xff])), INVALID_RECORD),
        ("nobody", |push| push.with_client_instance_id(Uuid::from_u128(1)), INVALID_REQUEST),
    ];
    for (name, spoil, expected) in wrong {
        let granted = subscribe(&mut lab.client, version, Uuid::nil());
        let push = spoil(push(&granted));
        assert_eq!(answer(&mut lab.client, version, &push), expected, "{name}");
    }
    let granted = subscribe(&mut lab.client, version, Uuid::nil());
    let push = push(&granted);
    assert_eq!(answer(&mut lab.client, version, &push), code::NONE);
    assert_eq!(answer(&mut lab.client, version, &push), THROTTLING_QUOTA_EXCEEDED);
    let last = push.clone().with_terminating(true);
    assert_eq!(answer(&mut lab.client, version, &last), code::NONE, "the last one may come at any time");
    assert_eq!(answer(&mut lab.client, version, &last), INVALID_REQUEST);
    let page = lab.broker.services().telemetry.page(crate::broker::now_ms());
    let instance = ottla::ids::KafkaUuid::from(granted.client_instance_id);
    let line = format!("kafka_client_wire_gauge{{client_id=\"wire\",client_instance_id=\"{instance}\"}} 1.5\n");
    assert!(page.contains(&line), "{page}");
}

fn other_subscription(push: PushTelemetryRequest) -> PushTelemetryRequest {
    let other = push.subscription_id.wrapping_add(1);
    push.with_subscription_id(other)
}

fn push(granted: &GetTelemetrySubscriptionsResponse) -> PushTelemetryRequest {
    PushTelemetryRequest::default()
        .with_client_instance_id(granted.client_instance_id)
        .with_subscription_id(granted.subscription_id)
        .with_metrics(payload())
}

/// One gauge, `org.apache.kafka.wire.gauge`, at 1.5.
fn payload() -> Bytes {
    let nested = |tag: u8, inner: &[u8]| [&[tag, inner.len() as u8], inner].concat();
    let value = [&[0x21][..], &1.5f64.to_le_bytes()].concat();
    let metric = [nested(0x0a, b"org.apache.kafka.wire.gauge"), nested(0x2a, &nested(0x0a, &value))].concat();
    nested(0x0a, &nested(0x12, &nested(0x12, &metric))).into()
}

fn answer(client: &mut Client, version: i16, push: &PushTelemetryRequest) -> i16 {
    let response = client.call(version, push);
    assert_eq!(response.throttle_time_ms, 0);
    response.error_code
}

fn subscribe(client: &mut Client, version: i16, id: Uuid) -> GetTelemetrySubscriptionsResponse {
    client.call(version, &GetTelemetrySubscriptionsRequest::default().with_client_instance_id(id))
}

fn set(client: &mut Client, name: &str, settings: &[(&str, &str)]) {
    let changes: Vec<_> = settings.iter().map(|(key, value)| (*key, SET, Some(*value))).collect();
    assert_eq!(alter(client, 1, (CLIENT_METRICS, name), &changes, false), code::NONE);
}
