//! `docs/configuration.md`, written from the table.
//!
//! Invariants: pure; the same table gives the same text.

use super::table::{BROKER_ROWS, GROUP_ROWS, Honoured, Row, SUBSCRIPTION_ROWS, TOPIC_ROWS, Update};

const INTRODUCTION: &str = "\
# Configuration

Generated from `src/config/table.rs`; do not edit.

Ottla reads the settings of Apache Kafka 4.3 under their own names. A value comes from the strongest of these places:

1. dynamic setting of this broker (`kafka-configs.sh --entity-type brokers --entity-name <id>`),
2. cluster-wide dynamic setting (`--entity-default`),
3. command line (`--override key=value`),
4. environment: `KAFKA_` before the key in capitals, `_` for `.`, `__` for `_`, `___` for `-`,
5. the `.properties` file,
6. the default.

A value that is not allowed stops the start. A key that is unknown, or known and without effect here, is accepted with
one line of warning, so that an existing file starts as it is.

*Dynamic* says when a setting may change: `cluster` for one broker or all of them, `broker` for one broker, nothing for
a restart.
";

/// The text of `docs/configuration.md`.
pub fn configuration_markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut section = "";
    for row in BROKER_ROWS {
        if row.section != section {
            section = row.section;
            text.push_str(&format!("\n## {section}\n\n"));
            text.push_str("| Name | Type | Default | Valid | Dynamic | Effect |\n|---|---|---|---|---|---|\n");
        }
        text.push_str(&line(row, dynamic(row.update)));
    }
    text.push_str("\n## Topics\n\nAll of these may change while a topic is in use. ");
    text.push_str("The broker's keys give the default.\n\n");
    text.push_str("| Name | Type | Default | Valid | Keys of the broker | Effect |\n|---|---|---|---|---|---|\n");
    for row in TOPIC_ROWS {
        let keys: Vec<String> = row.synonyms.iter().map(|(key, _)| format!("`{key}`")).collect();
        text.push_str(&line(row, &keys.join(", ")));
    }
    text.push_str("\n## Groups\n\nOf resource GROUP; the broker's key gives the default.\n\n");
    text.push_str("| Name | Type | Default | Valid | Key of the broker | Effect |\n|---|---|---|---|---|---|\n");
    for row in GROUP_ROWS {
        let keys: Vec<String> = row.synonyms.iter().map(|(key, _)| format!("`{key}`")).collect();
        text.push_str(&line(row, &keys.join(", ")));
    }
    text.push_str("\n## Client metrics\n\nOf resource CLIENT_METRICS, one per subscription (KIP-714).\n\n");
    text.push_str("| Name | Type | Default | Valid | Dynamic | Effect |\n|---|---|---|---|---|---|\n");
    for row in SUBSCRIPTION_ROWS {
        text.push_str(&line(row, dynamic(row.update)));
    }
    text
}

fn dynamic(update: Update) -> &'static str {
    match update {
        Update::ReadOnly => "",
        Update::PerBroker => "broker",
        Update::ClusterWide => "cluster",
        Update::PerTopic => "topic",
        Update::PerGroup => "group",
        Update::PerSubscription => "subscription",
    }
}

fn line(row: &Row, fifth: &str) -> String {
    let default = match row.default {
        None => "null".to_owned(),
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
    };
    let kind = row.kind.name().to_lowercase();
    let effect = match row.honoured {
        Honoured::Yes => row.help.to_owned(),
        Honoured::Partly(what) => format!("{} *Partly: {what}.*", row.help),
        Honoured::Ignored(why) => format!("{} *No effect: {why}.*", row.help),
    };
    format!("| `{}` | {kind} | {default} | {} | {fifth} | {effect} |\n", row.name, row.valid.allowed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_line() {
        let text = configuration_markdown();
        for row in BROKER_ROWS {
            let start = format!("| `{}` |", row.name);
            let in_topics = usize::from(TOPIC_ROWS.iter().any(|topic| topic.name == row.name));
            let lines = text.lines().filter(|line| line.starts_with(&start)).count();
            assert_eq!(lines, 1 + in_topics, "{}", row.name);
        }
        // A bar inside a cell would break the table.
        let cells = |line: &str| line.matches('|').count();
        assert!(text.lines().filter(|line| line.starts_with('|')).all(|line| cells(line) == 7));
    }

    #[test]
    fn a_line_says_what_matters() {
        let text = configuration_markdown();
        let threads = "| `num.io.threads` | int | `8` | [1,...] | cluster | Threads that process requests in Kafka. \
                       *No effect: tokio workers serve all requests.* |";
        assert!(text.contains(threads));
        let retention = "| `retention.ms` | long | `604800000` | [-1,...] | `log.retention.ms`, \
                         `log.retention.minutes`, `log.retention.hours` |";
        assert!(text.contains(retention));
    }
}
