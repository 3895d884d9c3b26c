//! Combinations of settings with which a broker does not start, although each of them is valid.
//!
//! Invariants: pure. What Kafka refuses is refused in its words (`KafkaConfig.validateValues`); what we cannot do yet
//! and must not pretend is refused in ours. Kafka's demands for a controller's listener and for quorum addresses are
//! left out: a quorum of one needs neither, and a start without a file must work.

use super::rules::voter_ids;
use super::table::BrokerSettings;

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// The reasons not to start; none if all is well.
pub fn refusals(broker: &BrokerSettings) -> Vec<String> {
    [ids(broker), logs(broker), replication(broker), network(broker), quorum(broker)]
        .into_iter()
        .flatten()
        .filter(|(holds, _)| !holds)
        .map(|(_, why)| why)
        .collect()
}

/// What must hold, and what to say if it does not.
type Demand = (bool, String);

fn ids(broker: &BrokerSettings) -> Vec<Demand> {
    let why = "You must set `node.id` to the same value as `broker.id`.";
    vec![(broker.node_id == broker.broker_id, why.into())]
}

fn logs(broker: &BrokerSettings) -> Vec<Demand> {
    let hours = |hours: i32| i64::from(hours) * HOUR_MS;
    let roll_ms = broker.log_roll_ms.unwrap_or(hours(broker.log_roll_hours));
    let jitter_ms = broker.log_roll_jitter_ms.unwrap_or(hours(broker.log_roll_jitter_hours));
    let retention_minutes = broker.log_retention_minutes.map(|minutes| i64::from(minutes) * MINUTE_MS);
    let retention_ms = broker.log_retention_ms.or(retention_minutes).unwrap_or(hours(broker.log_retention_hours));
    let (least_lag, most_lag) = (broker.log_cleaner_min_compaction_lag_ms, broker.log_cleaner_max_compaction_lag_ms);
    let threads = i64::from(broker.log_cleaner_threads);
    let per_thread = broker.log_cleaner_dedupe_buffer_size.checked_div(threads);
    let dedupe = "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.";
    let retention = "log.retention.ms must be unlimited (-1) or, greater than or equal to 1";
    vec![
        (roll_ms >= 1, "log.roll.ms must be greater than or equal to 1".into()),
        (jitter_ms >= 0, "log.roll.jitter.ms must be greater than or equal to 0".into()),
        // Every negative value means unlimited, as in Kafka.
        (retention_ms != 0, retention.into()),
        (per_thread.is_none_or(|bytes| bytes > 1024 * 1024), dedupe.into()),
        (least_lag <= most_lag, lag_conflict(least_lag, most_lag)),
    ]
}

/// Kafka's sentence about compaction lags that contradict each other, for brokers and topics alike.
pub fn lag_conflict(least_ms: i64, most_ms: i64) -> String {
    format!("conflict topic config setting min.compaction.lag.ms ({least_ms}) > max.compaction.lag.ms ({most_ms})")
}

fn replication(broker: &BrokerSettings) -> Vec<Demand> {
    let wait_ms = broker.replica_fetch_wait_max_ms;
    let socket = "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary \
                  socket timeouts";
    let lag = "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent \
               frequent changes in ISR";
    vec![
        (wait_ms <= broker.replica_socket_timeout_ms, socket.into()),
        (i64::from(wait_ms) <= broker.replica_lag_time_max_ms, lag.into()),
    ]
}

fn network(broker: &BrokerSettings) -> Vec<Demand> {
    let queued = broker.queued_max_request_bytes;
    let request = i64::from(broker.socket_request_max_bytes);
    let no_overrides = broker.max_connections_per_ip_overrides.is_empty();
    let (delay_ms, idle_ms) = (broker.connection_failed_authentication_delay_ms, broker.connections_max_idle_ms);
    let overrides = "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is \
                     set.";
    let delay = format!(
        "connection.failed.authentication.delay.ms={delay_ms} should always be less than \
         connections.max.idle.ms={idle_ms} to prevent failed authentication responses from timing out"
    );
    vec![
        (
            queued <= 0 || queued >= request,
            "queued.max.request.bytes must be larger or equal to socket.request.max.bytes".into(),
        ),
        (broker.max_connections_per_ip > 0 || !no_overrides, overrides.into()),
        (idle_ms < 0 || i64::from(delay_ms) < idle_ms, delay),
    ]
}

/// Who is in the quorum, and where this node finds it (`KafkaConfig.validateValues`).
fn quorum(broker: &BrokerSettings) -> Vec<Demand> {
    let has = |role: &str| broker.process_roles.iter().any(|one| one == role);
    // Entries that do not parse were refused as values.
    let voters = voter_ids(&broker.controller_quorum_voters).unwrap_or_default();
    let node = broker.node_id;
    let listed: Vec<String> = voters.iter().map(i32::to_string).collect();
    let listed = listed.join(", ");
    let absent = format!(
        "If process.roles contains the 'controller' role, the node id {node} must be included in the set of voters \
         controller.quorum.voters=Set({listed})"
    );
    let present = format!(
        "If process.roles contains just the 'broker' role, the node id {node} must not be included in the set of \
         voters controller.quorum.voters=Set({listed})"
    );
    let alone = "If process.roles is broker, either controller.quorum.bootstrap.servers must contain the set of \
                 bootstrap controllers or controller.quorum.voters must contain a parseable set of controllers.";
    let found = !voters.is_empty() || !broker.controller_quorum_bootstrap_servers.is_empty();
    vec![
        (voters.is_empty() || !has("controller") || voters.contains(&node), absent),
        (has("controller") || !voters.contains(&node), present),
        (has("controller") || found, alone.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(settings: &[(&str, &str)], expected: &[&str]) {
        let text = |key: &str| settings.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        let mut broker = BrokerSettings::read(&text);
        if text("broker.id").is_none() {
            broker.broker_id = broker.node_id;
        }
        let refused = refusals(&broker);
        assert_eq!(refused.len(), expected.len(), "{refused:?}");
        for (refusal, part) in refused.iter().zip(expected) {
            assert!(refusal.contains(part), "{refusal}");
        }
    }

    #[test]
    fn defaults_start() {
        check(&[], &[]);
    }

    #[test]
    fn times_that_make_no_sense() {
        check(&[("log.roll.ms", "0")], &["log.roll.ms must be"]);
        check(&[("log.retention.hours", "0")], &["log.retention.ms must be unlimited"]);
        check(&[("log.retention.hours", "0"), ("log.retention.minutes", "5")], &[]);
        check(&[("log.retention.minutes", "-7")], &[]);
        check(&[("replica.fetch.wait.max.ms", "30001")], &["replica.socket.timeout.ms", "replica.lag.time.max.ms"]);
        let lags = [("log.cleaner.min.compaction.lag.ms", "2"), ("log.cleaner.max.compaction.lag.ms", "1")];
        check(&lags, &["min.compaction.lag.ms (2) > max.compaction.lag.ms (1)"]);
    }

    #[test]
    fn sizes_that_make_no_sense() {
        check(&[("log.cleaner.dedupe.buffer.size", "1048576")], &["at least 1MB per cleaner thread"]);
        check(&[("log.cleaner.dedupe.buffer.size", "1"), ("log.cleaner.threads", "0")], &[]);
        check(&[("queued.max.request.bytes", "1000")], &["queued.max.request.bytes must be larger"]);
    }

    #[test]
    fn who_is_in_the_quorum() {
        check(&[("controller.quorum.voters", "1@localhost:9093")], &[]);
        check(&[("controller.quorum.bootstrap.servers", "localhost:9093")], &[]);
        check(&[("controller.quorum.voters", "1@a:1,2@b:1")], &[]);
        let other = [("node.id", "2"), ("controller.quorum.voters", "1@localhost:9093")];
        check(&other, &["the node id 2 must be included in the set of voters controller.quorum.voters=Set(1)"]);
        check(&[("process.roles", "broker")], &["either controller.quorum.bootstrap.servers must contain"]);
        let outside = [("process.roles", "broker"), ("node.id", "2"), ("controller.quorum.voters", "1@a:1")];
        check(&outside, &[]);
        let inside = [("process.roles", "broker"), ("controller.quorum.voters", "1@a:1")];
        check(&inside, &["the node id 1 must not be included in the set of voters"]);
        check(&[("node.id", "2"), ("broker.id", "3")], &["You must set `node.id` to the same value"]);
    }
}
