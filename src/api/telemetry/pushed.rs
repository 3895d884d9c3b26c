//! The latest values that clients have pushed, and their page for Prometheus.
//!
//! A name `org.apache.kafka.producer.x.total` becomes `kafka_client_producer_x_total`; other names keep all their parts
//! behind `kafka_client_`. Labels are the client's id and instance, and those of the point. Sums that count from push
//! to push are added up here, because Prometheus wants totals.
//!
//! Invariants: at most [`SERIES_MAX`] series, and [`SERIES_PER_CLIENT_MAX`] of one client; what finds no place is
//! counted. A client's series go when it has been silent for as long as its instance is known. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Client;
use super::otlp::{Nature, Point};
use crate::ids::{KafkaUuid, WallMillis};

const SERIES_MAX: usize = 50_000;
const SERIES_PER_CLIENT_MAX: usize = 1_000;

/// The prefix that clients of Kafka give to the names of their metrics.
const KAFKA_PREFIX: &str = "org.apache.kafka.";

/// One number: name and labels as they stand on the page.
type Series = (String, String);

/// Labels as they stand on the page, and the value.
type Line<'a> = (&'a str, f64);

#[derive(Default)]
pub(super) struct Pushed {
    clients: BTreeMap<KafkaUuid, Values>,
    series: usize,
    dropped: u64,
}

struct Values {
    expires_ms: WallMillis,
    series: BTreeMap<Series, (Kind, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

impl Pushed {
    pub fn series(&self) -> usize {
        self.series
    }

    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub fn absorb(&mut self, client: &Client, points: Vec<Point>, now_ms: WallMillis, expires_ms: WallMillis) {
        self.expire(now_ms);
        if points.is_empty() && !self.clients.contains_key(&client.instance) {
            return;
        }
        let own = Values { expires_ms, series: BTreeMap::new() };
        let values = self.clients.entry(client.instance).or_insert(own);
        values.expires_ms = expires_ms;
        for point in points {
            let place = (name(&point.name), labels(client, &point.labels));
            let kind = match point.nature {
                Nature::Sum { monotonic: true, .. } => Kind::Counter,
                Nature::Sum { .. } | Nature::Gauge => Kind::Gauge,
            };
            if let Some((known, value)) = values.series.get_mut(&place) {
                let adds = matches!(point.nature, Nature::Sum { delta: true, .. });
                *value = if adds { *value + point.value } else { point.value };
                *known = kind;
            } else if values.series.len() < SERIES_PER_CLIENT_MAX && self.series < SERIES_MAX {
                values.series.insert(place, (kind, point.value));
                self.series += 1;
            } else {
                self.dropped += 1;
            }
        }
    }

    pub fn expire(&mut self, now_ms: WallMillis) {
        let series = &mut self.series;
        self.clients.retain(|_, values| {
            let stays = values.expires_ms > now_ms;
            if !stays {
                *series -= values.series.len();
            }
            stays
        });
    }

    /// Prometheus wants all series of a name together.
    pub fn page(&self) -> String {
        let mut by_name: BTreeMap<&str, (Kind, Vec<Line<'_>>)> = BTreeMap::new();
        for values in self.clients.values() {
            for ((name, labels), (kind, value)) in &values.series {
                by_name.entry(name).or_insert((*kind, Vec::new())).1.push((labels, *value));
            }
        }
        let mut page = String::new();
        for (name, (kind, series)) in by_name {
            let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
            // Writing to a string cannot fail.
            let _ = writeln!(page, "# HELP {name} Pushed by clients (KIP-714).\n# TYPE {name} {kind}");
            for (labels, value) in series {
                let _ = writeln!(page, "{name}{{{labels}}} {value}");
            }
        }
        page
    }
}

fn name(told: &str) -> String {
    let told = told.strip_prefix(KAFKA_PREFIX).unwrap_or(told);
    format!("kafka_client_{}", word(told))
}

fn labels(client: &Client, of_point: &[(String, String)]) -> String {
    let mut all = BTreeMap::new();
    for (key, value) in of_point {
        all.insert(word(key), value.as_str());
    }
    let instance = client.instance.to_string();
    all.insert("client_id".to_owned(), &client.client_id);
    all.insert("client_instance_id".to_owned(), &instance);
    let pairs = all.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// Letters, digits and `_`, and no digit in front.
fn word(text: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let word: String = text.chars().map(legal).collect();
    if word.starts_with(|c: char| c.is_ascii_digit()) || word.is_empty() { format!("_{word}") } else { word }
}

fn escaped(text: &str) -> String {
    const TEXT_CHARS_MAX: usize = 256;
    let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::otlp;
    use super::*;

    fn client(id: u128, name: &str) -> Client {
        Client {
            instance: KafkaUuid(id),
            client_id: Arc::from(name),
            software: None,
            peer: "127.0.0.1:5000".parse().unwrap(),
            connection: 1,
        }
    }

    fn sample() -> Vec<Point> {
        otlp::read(&otlp::tests::sample()).unwrap()
    }

    #[test]
    fn totals_add_up_and_labels_are_quoted() {
        let mut pushed = Pushed::default();
        let odd = client(1, "a\"b\\\n");
        pushed.absorb(&odd, sample(), 0, 100);
        pushed.absorb(&odd, sample(), 1, 100);
        pushed.absorb(&client(2, "c"), sample(), 1, 100);
        let page = pushed.page();
        let one = KafkaUuid(1);
        let total = format!(
            "# TYPE kafka_client_a_total counter\n\
             kafka_client_a_total{{client_id=\"a\\\"b\\\\\\n\",client_instance_id=\"{one}\",node=\"1\"}} 10\n"
        );
        assert!(page.contains(&total), "{page}");
        assert!(page.contains("# TYPE kafka_client_b gauge\n") && page.contains("} 1.5\n"), "{page}");
        assert_eq!((page.matches("# TYPE").count(), pushed.series()), (2, 4));
    }

    #[test]
    fn silent_clients_go() {
        let mut pushed = Pushed::default();
        pushed.absorb(&client(1, "a"), sample(), 0, 100);
        pushed.absorb(&client(2, "b"), sample(), 50, 150);
        pushed.expire(100);
        assert!(pushed.series() == 2 && !pushed.page().contains("client_id=\"a\""));
        pushed.expire(150);
        assert_eq!((pushed.series(), pushed.page()), (0, String::new()));
    }

    #[test]
    fn series_are_bounded() {
        let mut pushed = Pushed::default();
        let point = |n: usize| Point { name: format!("m.{n}"), nature: Nature::Gauge, labels: vec![], value: 1.0 };
        for id in 0..60 {
            pushed.absorb(&client(id, "a"), (0..SERIES_PER_CLIENT_MAX + 1).map(point).collect(), 0, 100);
        }
        assert_eq!(pushed.series(), SERIES_MAX);
        assert_eq!(pushed.dropped() as usize, 60 * (SERIES_PER_CLIENT_MAX + 1) - SERIES_MAX);
        pushed.expire(100);
        assert_eq!(pushed.series(), 0);
    }

    #[test]
    fn names_are_words() {
        assert_eq!(name("org.apache.kafka.consumer.fetch.latency.avg"), "kafka_client_consumer_fetch_latency_avg");
        assert_eq!(name("my-app/1.x"), "kafka_client_my_app_1_x");
        assert_eq!((word("9"), word("")), ("_9".to_owned(), "_".to_owned()));
    }
}
