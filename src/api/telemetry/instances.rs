//! The client instances that asked of late, and the judgement of their requests (Kafka's `ClientMetricsManager`).
//!
//! Invariants: at most [`INSTANCES_MAX`] instances; the one that has been silent longest goes first. An instance that
//! was forgotten is a new one when it comes back, which is lenient and never wrong. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Attributes, Client, Push};
use crate::config::ClientSubscription;
use crate::error::ErrorCode;
use crate::ids::{KafkaUuid, WallMillis};
use crate::metadata::{ResourceKind, SettingMap, Settings};
use crate::records::Codec;

/// Instances known at a time (`ClientMetricsManager.CACHE_MAX_SIZE`).
const INSTANCES_MAX: usize = 16_384;

/// An instance is known for at least so long after its last request, and for three pushes.
const KNOWN_MS: i64 = 60_000;

/// The push interval of a client that no subscription means.
const INTERVAL_MS_DEFAULT: i32 = 300_000;

/// All metrics.
const ALL: &str = "*";

/// What a client is told to push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    pub subscription_id: i32,
    pub metrics: Vec<String>,
    pub interval_ms: i32,
}

struct Instance {
    attributes: Attributes,
    granted: Granted,
    /// Of the subscriptions that `granted` was made from.
    version: u64,
    last_get_ms: WallMillis,
    last_push_ms: WallMillis,
    terminating: bool,
    last_error: Option<ErrorCode>,
    expires_ms: WallMillis,
    connection: u64,
    /// Its turn among all requests.
    used: u64,
}

/// Every instance, and the subscriptions they are held against.
#[derive(Default)]
pub(super) struct Instances {
    by_id: BTreeMap<KafkaUuid, Instance>,
    by_use: BTreeSet<(u64, KafkaUuid)>,
    by_expiry: BTreeSet<(WallMillis, KafkaUuid)>,
    requests: u64,
    settings: Vec<(String, Arc<SettingMap>)>,
    subscriptions: Vec<ClientSubscription>,
    version: u64,
}

impl Instances {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn knows(&self, id: KafkaUuid) -> bool {
        self.by_id.contains_key(&id)
    }

    pub fn subscribe(
        &mut self,
        settings: &Settings,
        client: &Client,
        now_ms: WallMillis,
    ) -> Result<Granted, ErrorCode> {
        let instance = self.instance(settings, client, now_ms);
        let waited = now_ms - instance.last_get_ms.max(instance.last_push_ms);
        if waited >= i64::from(instance.granted.interval_ms) {
            instance.last_get_ms = now_ms;
        } else if !matches!(
            instance.last_error,
            Some(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType)
        ) {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        instance.last_error = None;
        Ok(instance.granted.clone())
    }

    pub fn push(
        &mut self,
        settings: &Settings,
        client: &Client,
        push: &Push,
        now_ms: WallMillis,
    ) -> Result<(), ErrorCode> {
        let instance = self.instance(settings, client, now_ms);
        let judged = instance.judge(push, now_ms);
        instance.terminating = push.terminating;
        instance.last_error = judged.err();
        judged
    }

    /// Notes that a push was good in form and could not be read.
    pub fn failed(&mut self, id: KafkaUuid, code: ErrorCode) {
        if let Some(instance) = self.by_id.get_mut(&id) {
            instance.last_error = Some(code);
        }
    }

    /// Until when what a client has pushed counts.
    pub fn expiry(&self, id: KafkaUuid, now_ms: WallMillis) -> WallMillis {
        self.by_id.get(&id).map_or(now_ms + KNOWN_MS, |instance| instance.expires_ms)
    }

    pub fn disconnected(&mut self, id: KafkaUuid, connection: u64) {
        if self.by_id.get(&id).is_some_and(|instance| instance.connection == connection) {
            self.forget(id);
        }
    }

    pub fn expire(&mut self, now_ms: WallMillis) {
        while let Some(&(expires_ms, id)) = self.by_expiry.first()
            && expires_ms <= now_ms
        {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: KafkaUuid) {
        if let Some(instance) = self.by_id.remove(&id) {
            self.by_use.remove(&(instance.used, id));
            self.by_expiry.remove(&(instance.expires_ms, id));
        }
    }

    /// The instance that asks, known for a while longer; made afresh if it is new or subscriptions have changed.
    fn instance(&mut self, settings: &Settings, client: &Client, now_ms: WallMillis) -> &mut Instance {
        self.follow(settings);
        self.expire(now_ms);
        let id = client.instance;
        let mut instance = match self.by_id.remove(&id) {
            Some(known) => {
                self.by_use.remove(&(known.used, id));
                self.by_expiry.remove(&(known.expires_ms, id));
                if known.version < self.version { self.admit(known.attributes, id) } else { known }
            }
            None => self.admit(Attributes::of(client), id),
        };
        while self.by_id.len() >= INSTANCES_MAX
            && let Some(&(_, oldest)) = self.by_use.first()
        {
            self.forget(oldest);
        }
        self.requests += 1;
        instance.used = self.requests;
        instance.connection = client.connection;
        instance.expires_ms = now_ms + KNOWN_MS.max(3 * i64::from(instance.granted.interval_ms));
        self.by_use.insert((instance.used, id));
        self.by_expiry.insert((instance.expires_ms, id));
        self.by_id.entry(id).or_insert(instance)
    }

    fn admit(&self, attributes: Attributes, id: KafkaUuid) -> Instance {
        let mut interval_ms = INTERVAL_MS_DEFAULT;
        let mut metrics: Vec<String> = Vec::new();
        for subscription in &self.subscriptions {
            if subscription.means(|attribute| attributes.text(attribute)) {
                interval_ms = interval_ms.min(subscription.interval_ms);
                for metric in &subscription.metrics {
                    if !metrics.contains(metric) {
                        metrics.push(metric.clone());
                    }
                }
            }
        }
        if metrics.iter().any(|metric| metric == ALL) {
            metrics = vec![ALL.to_owned()];
        }
        let metrics = in_java_order(metrics);
        let subscription_id = subscription_id(&metrics, interval_ms, id);
        Instance {
            attributes,
            granted: Granted { subscription_id, metrics, interval_ms },
            version: self.version,
            last_get_ms: 0,
            last_push_ms: 0,
            terminating: false,
            last_error: None,
            expires_ms: 0,
            connection: 0,
            used: 0,
        }
    }

    /// Takes over the subscriptions if they have changed.
    fn follow(&mut self, settings: &Settings) {
        let kind = ResourceKind::ClientMetrics;
        let same = |(known, there): (&(String, Arc<SettingMap>), &str)| {
            let found = settings.of(kind, there);
            known.0 == there && (Arc::ptr_eq(&known.1, &found) || known.1 == found)
        };
        let count = settings.names(kind).count();
        if count == self.settings.len() && self.settings.iter().zip(settings.names(kind)).all(same) {
            return;
        }
        self.settings = settings.names(kind).map(|name| (name.to_owned(), settings.of(kind, name))).collect();
        self.subscriptions = self.settings.iter().map(|(_, settings)| ClientSubscription::read(settings)).collect();
        self.version += 1;
    }
}

impl Instance {
    fn judge(&mut self, push: &Push, now_ms: WallMillis) -> Result<(), ErrorCode> {
        if self.terminating {
            return Err(ErrorCode::InvalidRequest);
        }
        // The first push after a subscription may come at once: clients spread theirs.
        let fresh = self.last_get_ms > self.last_push_ms;
        if fresh || now_ms - self.last_push_ms >= i64::from(self.granted.interval_ms) {
            self.last_push_ms = now_ms;
        } else if !push.terminating {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        if push.subscription_id != self.granted.subscription_id {
            return Err(ErrorCode::UnknownSubscriptionId);
        }
        if Codec::from_id(push.compression.into()).is_none() {
            return Err(ErrorCode::UnsupportedCompressionType);
        }
        if push.bytes > push.bytes_max {
            return Err(ErrorCode::TelemetryTooLarge);
        }
        Ok(())
    }
}

/// CRC-32C of the metrics as Java prints a set of them, with the interval behind; mixed with the id.
fn subscription_id(metrics: &[String], interval_ms: i32, id: KafkaUuid) -> i32 {
    let text = format!("[{}]{interval_ms}", metrics.join(", "));
    let halves = (id.0 >> 64) as u64 ^ id.0 as u64;
    let hash = (halves >> 32) as u32 ^ halves as u32;
    (crc32c::crc32c(text.as_bytes()) ^ hash) as i32
}

/// The order in which Java's `HashSet` tells its words: by place in a table that is at most three quarters full.
fn in_java_order(mut words: Vec<String>) -> Vec<String> {
    let mut places = 16;
    while words.len() * 4 > places * 3 {
        places *= 2;
    }
    let place = |word: &String| {
        let hash = word.encode_utf16().fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
        (hash ^ (hash >> 16)) as usize & (places - 1)
    };
    words.sort_by_key(place);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{ClusterImage, MetadataRecord};

    const NOW: WallMillis = 1_700_000_000_000;

    fn settings(subscriptions: &[(&str, &[(&str, &str)])]) -> Settings {
        let mut records = Vec::new();
        for (name, pairs) in subscriptions {
            records.extend(pairs.iter().map(|(key, value)| MetadataRecord::Config {
                kind: ResourceKind::ClientMetrics,
                name: (*name).to_owned(),
                key: (*key).to_owned(),
                value: Some((*value).to_owned()),
            }));
        }
        ClusterImage::default().replay(&records).settings
    }

    fn client(id: u128) -> Client {
        Client {
            instance: KafkaUuid(id),
            client_id: Arc::from("app"),
            software: Some(("java".to_owned(), "4.3.1".to_owned())),
            peer: "127.0.0.1:5000".parse().unwrap(),
            connection: 1,
        }
    }

    fn push(subscription_id: i32) -> Push {
        Push { subscription_id, terminating: false, compression: 0, bytes: 10, bytes_max: 100 }
    }

    fn one_second() -> Settings {
        settings(&[("s", &[("metrics", "a."), ("interval.ms", "1000")])])
    }

    #[test]
    fn subscriptions_that_mean_the_client_add_up() {
        let all = settings(&[
            ("java", &[("metrics", "b.,a."), ("interval.ms", "5000"), ("match", "client_software_name=java")]),
            ("local", &[("metrics", "a."), ("interval.ms", "9000"), ("match", "client_source_address=127[.].*")]),
            ("other", &[("metrics", "*"), ("match", "client_id=other")]),
        ]);
        let granted = Instances::default().subscribe(&all, &client(7), NOW).unwrap();
        assert_eq!((granted.metrics, granted.interval_ms), (vec!["b.".to_owned(), "a.".to_owned()], 5000));
        let star = settings(&[("x", &[("metrics", "a.,*")]), ("y", &[("interval.ms", "100")])]);
        let granted = Instances::default().subscribe(&star, &client(7), NOW).unwrap();
        assert_eq!((granted.metrics, granted.interval_ms), (vec!["*".to_owned()], 100));
        let none = Instances::default().subscribe(&settings(&[]), &client(7), NOW).unwrap();
        assert_eq!((none.metrics.len(), none.interval_ms), (0, 300_000));
    }

    // Computed by Java: Crc32C of the text, xor Uuid.hashCode.
    #[test]
    fn subscription_ids_are_those_of_kafka() {
        let id = KafkaUuid((1 << 64) | 2);
        assert_eq!(subscription_id(&["*".to_owned()], 300_000, id), (crc32c::crc32c(b"[*]300000") ^ 3) as i32);
        // A table of 16 places; "a" is 97, "b" 98, "q" 113: both "a" and "q" have place 1.
        let words = ["q", "b", "a", "p"].map(str::to_owned).to_vec();
        assert_eq!(in_java_order(words), ["p", "q", "a", "b"]);
    }

    #[test]
    fn a_client_waits_for_its_interval() {
        let (mut instances, settings, client) = (Instances::default(), one_second(), client(7));
        let granted = instances.subscribe(&settings, &client, NOW).unwrap();
        assert_eq!(instances.subscribe(&settings, &client, NOW + 999), Err(ErrorCode::ThrottlingQuotaExceeded));
        let good = push(granted.subscription_id);
        assert_eq!(instances.push(&settings, &client, &good, NOW + 10), Ok(()), "the first may come at once");
        assert_eq!(instances.push(&settings, &client, &good, NOW + 999), Err(ErrorCode::ThrottlingQuotaExceeded));
        assert_eq!(instances.push(&settings, &client, &good, NOW + 1010), Ok(()));
        assert_eq!(instances.subscribe(&settings, &client, NOW + 2010), Ok(granted));
    }

    #[test]
    fn the_last_push_ends_it() {
        let (mut instances, settings, client) = (Instances::default(), one_second(), client(7));
        let id = instances.subscribe(&settings, &client, NOW).unwrap().subscription_id;
        assert_eq!(instances.push(&settings, &client, &push(id), NOW), Ok(()));
        let last = Push { terminating: true, ..push(id) };
        assert_eq!(instances.push(&settings, &client, &last, NOW + 1), Ok(()), "whatever the interval");
        assert_eq!(instances.push(&settings, &client, &push(id), NOW + 5000), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn pushes_are_refused_for_what_is_wrong_first() {
        let (mut instances, settings, client) = (Instances::default(), one_second(), client(7));
        let id = instances.subscribe(&settings, &client, NOW).unwrap().subscription_id;
        let mut at = NOW;
        let mut check = |push: Push, code| {
            at += 1000;
            assert_eq!(instances.push(&settings, &client, &push, at), Err(code));
        };
        check(Push { compression: 9, bytes: 101, ..push(id + 1) }, ErrorCode::UnknownSubscriptionId);
        check(Push { compression: 9, bytes: 101, ..push(id) }, ErrorCode::UnsupportedCompressionType);
        check(Push { compression: -1, ..push(id) }, ErrorCode::UnsupportedCompressionType);
        check(Push { bytes: 101, ..push(id) }, ErrorCode::TelemetryTooLarge);
        let again = instances.subscribe(&settings, &client, at);
        assert_eq!(again, Err(ErrorCode::ThrottlingQuotaExceeded), "its size says nothing of the subscription");
        assert_eq!(instances.push(&settings, &client, &push(id + 1), at + 1000), Err(ErrorCode::UnknownSubscriptionId));
        assert!(instances.subscribe(&settings, &client, at + 1000).is_ok(), "it must learn the new one");
    }

    #[test]
    fn a_changed_subscription_starts_afresh() {
        let (mut instances, client) = (Instances::default(), client(7));
        let before = instances.subscribe(&one_second(), &client, NOW).unwrap();
        let changed = settings(&[("s", &[("metrics", "b."), ("interval.ms", "1000")])]);
        let after = instances.subscribe(&changed, &client, NOW + 1).unwrap();
        assert_ne!(before.subscription_id, after.subscription_id);
        assert_eq!(after.metrics, ["b."]);
        let late = push(before.subscription_id);
        assert_eq!(instances.push(&changed, &client, &late, NOW + 2), Err(ErrorCode::UnknownSubscriptionId));
    }

    #[test]
    fn instances_are_bounded_and_forgotten() {
        let (mut instances, settings) = (Instances::default(), one_second());
        for id in 0..INSTANCES_MAX as u128 + 2 {
            let _ = instances.subscribe(&settings, &client(id + 2), NOW);
        }
        assert_eq!((instances.len(), instances.by_use.len(), instances.by_expiry.len()), (16_384, 16_384, 16_384));
        assert!(!instances.knows(KafkaUuid(2)) && !instances.knows(KafkaUuid(3)) && instances.knows(KafkaUuid(4)));
        instances.disconnected(KafkaUuid(4), 2);
        assert!(instances.knows(KafkaUuid(4)), "another connection of it");
        instances.disconnected(KafkaUuid(4), 1);
        assert!(!instances.knows(KafkaUuid(4)));
        instances.expire(NOW + KNOWN_MS);
        assert_eq!((instances.len(), instances.by_use.len(), instances.by_expiry.len()), (0, 0, 0));
    }
}
