//! Runs `scripts/*.txt`: asks as text, and below each what was answered (`=`) and recorded (`+`).
//!
//! `UPDATE=1` rewrites the files from what happened. After every script the image is rebuilt from the records, from
//! their bytes and from a snapshot, and must be the same: replay ≡ live.

use std::fmt::{Debug, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use self::brokers::directory_numbers;
use super::*;
use crate::error::ErrorCode;
use crate::metadata::controller::{MetadataAsk, Round};
use crate::metadata::fields::{FieldReader, FieldWriter};
use crate::metadata::tests::rules;

mod brokers;

/// Compares `actual` with a file beside this module, or rewrites the file.
pub(super) fn expect_file(name: &str, actual: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src", "metadata", "scripts", name].iter().collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (line, (expected, actual)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(actual, expected, "{name}:{}", line + 1);
    }
    assert_eq!(actual.lines().count(), expected.lines().count(), "{name} has another length");
}

fn read_script(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src", "metadata", "scripts", name].iter().collect();
    std::fs::read_to_string(path).unwrap()
}

pub(super) struct Runner {
    pub(super) image: ClusterImage,
    sessions: Sessions,
    now: Instant,
    pub(super) records: Vec<MetadataRecord>,
    /// Topics so far: their ids are counted.
    topics: u128,
    pub(super) transcript: String,
}

impl Default for Runner {
    fn default() -> Runner {
        let (image, sessions, now) = (ClusterImage::default(), Sessions::default(), Env::real().now());
        Runner { image, sessions, now, records: Vec::new(), topics: 0, transcript: String::new() }
    }
}

fn run(name: &str) {
    let mut runner = Runner::default();
    let script = read_script(name);
    for line in script.lines().filter(|line| !line.starts_with(['=', '+'])) {
        runner.transcript.push_str(line);
        runner.transcript.push('\n');
        if let Some(ask) = line.strip_prefix("> ") {
            runner.ask(ask);
        }
    }
    runner.check_replay();
    expect_file(name, &runner.transcript);
}

/// The words of an ask: plain ones, and `key=value` ones.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Words<'a> {
        Words(text.split_whitespace().collect())
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn number<T: std::str::FromStr<Err: Debug>>(&self, key: &str, absent: T) -> T {
        self.value(key).map_or(absent, |text| text.parse().unwrap())
    }
}

fn broker_lists(text: &str) -> Vec<Vec<BrokerId>> {
    let list =
        |list: &str| list.split(',').filter(|id| !id.is_empty()).map(|id| BrokerId(id.parse().unwrap())).collect();
    text.split('/').map(list).collect()
}

impl Runner {
    pub(super) fn ask(&mut self, text: &str) {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let words = Words::new(rest);
        let validate = words.has("validate");
        match verb {
            "create" => {
                let topics = rest.split(" and ").map(|topic| self.new_topic(topic)).collect();
                self.decide(asks::CreateTopics { topics, seed: 0, validate, quota: quota(&words) }, |answers| {
                    let short = |created: CreatedTopic| (created.partitions, created.replication_factor);
                    said_all(answers.into_iter().map(|answer| answer.map(short)))
                });
            }
            "delete" => {
                let id = self.image.topics.by_name(words.0[0]).map_or(KafkaUuid(999), |topic| topic.id);
                self.decide(asks::DeleteTopics { ids: vec![id], quota: quota(&words) }, said_all);
            }
            "grow" => {
                let assignments = words.value("assign").map(broker_lists);
                let growth = Growth { topic: words.0[0].into(), count: words.number("count", 0), assignments };
                self.decide(
                    asks::CreatePartitions { growths: vec![growth], seed: 0, validate, quota: quota(&words) },
                    said_all,
                );
            }
            "alter" | "replace" => {
                let alteration = alteration(verb, &words);
                self.decide(asks::AlterSettings { alterations: vec![alteration], validate }, said_all);
            }
            "quotas" => match quota_alteration(&words) {
                Ok(alteration) => {
                    self.decide(asks::AlterClientQuotas { alterations: vec![alteration], validate }, said_all);
                }
                Err(refused) => writeln!(self.transcript, "= {refused}").unwrap(),
            },
            "producer-ids" => {
                let broker = BrokerId(words.0.first().map_or(1, |id| id.parse().unwrap()));
                let epoch = words.number("epoch", self.epoch_of(broker));
                self.decide(broker_asks::AllocateProducerIds { broker, epoch }, |ids| said(&ids));
            }
            "features" => {
                let updates = feature_updates(&words);
                self.decide(asks::UpdateFeatures { updates, validate }, |answer| said(&answer));
            }
            "join" => {
                let (registration, clean) = (self.registration(&words), false);
                self.decide(broker_asks::JoinCluster { registration, clean }, |answer| said(&answer));
            }
            "unregister" => {
                let id = BrokerId(words.0[0].parse().unwrap());
                let returning = words.has("alive").then(|| self.registration(&words));
                self.decide(broker_asks::UnregisterBroker { id, returning }, |answer| said(&answer));
            }
            "elect" => {
                let election = if words.has("unclean") { Election::Unclean } else { Election::Preferred };
                let partition = |word: &&str| {
                    let (topic, index) = word.rsplit_once(':')?;
                    Some((topic.to_owned(), index.parse().unwrap()))
                };
                let partitions = (!words.has("all")).then(|| words.0.iter().filter_map(partition).collect());
                self.decide(asks::ElectLeaders { election, partitions }, |elected| {
                    let said = |(topic, index, outcome)| format!("{topic}-{index} {}", said(&outcome));
                    elected.into_iter().map(said).collect::<Vec<_>>().join("\n= ")
                });
            }
            "reassign" => {
                let (topic, index) = words.0[0].rsplit_once(':').unwrap();
                let target = words.value("to").map(|text| broker_lists(text).concat());
                let asked = Reassignment { topic: topic.into(), index: index.parse().unwrap(), target };
                let factor_may_change = !words.has("same-factor");
                self.decide(asks::Reassign { reassignments: vec![asked], factor_may_change }, said_all);
            }
            "register" => {
                let (registration, sessions, now) = (self.registration(&words), self.sessions.clone(), self.now);
                let cluster_id = words.value("cluster").map(str::to_owned);
                let own = words.has("own");
                let ask = broker_asks::RegisterBroker { registration, cluster_id, own, sessions, now };
                self.decide(ask, |answer| said(&answer));
            }
            "beat" => self.beat(&words),
            "isr" => self.alter_isr(&words),
            "dir" => self.assign_directory(&words),
            "pass" => {
                // A controller looks all the time, and so it knows since when it has been listening.
                self.sessions.silent(&self.image, Duration::MAX, self.now);
                self.now += Duration::from_secs(rest.parse().unwrap());
            }
            "fence" => {
                let (sessions, now) = (self.sessions.clone(), self.now);
                self.decide(broker_asks::FenceSilent { sessions, now }, |fenced| {
                    fenced.map_or("nobody".into(), |id| format!("fenced {id}"))
                });
            }
            "balance" => self.decide(broker_asks::BalanceLeaders, |elected| format!("elected {elected}")),
            "rescue" => self.decide(broker_asks::ElectUncleanly, |elected| format!("elected {elected}")),
            "claim" => self.decide(Claim, |()| "claimed".into()),
            other => panic!("no such ask: {other}"),
        }
    }

    fn new_topic(&mut self, text: &str) -> (NewTopic, TopicId) {
        let words = Words::new(text);
        let manual = words.value("assign").map(broker_lists).unwrap_or_default();
        let first = words.number("from", 0);
        let configs = words.0.iter().filter_map(|word| word.strip_prefix("config:"));
        let new = NewTopic {
            name: words.0[0].trim_matches('"').into(),
            partitions: words.number("partitions", -1),
            replication_factor: words.number("rf", -1),
            assignments: (first..).zip(manual).collect(),
            configs: configs
                .map(|config| match config.split_once('=') {
                    Some((key, value)) => (key.into(), Some(value.into())),
                    None => (config.into(), None),
                })
                .collect(),
        };
        self.topics += 1;
        (new, KafkaUuid(self.topics))
    }

    fn decide<A: MetadataAsk>(&mut self, ask: A, say: impl FnOnce(A::Answer) -> String) {
        let mut round = Round::new(self.image.clone(), rules());
        let answer = ask.decide(&mut round);
        writeln!(self.transcript, "= {}", say(answer)).unwrap();
        for record in round.records() {
            writeln!(self.transcript, "+ {}", described(record)).unwrap();
        }
        self.records.extend_from_slice(round.records());
        self.image = round.image().clone();
    }

    pub(super) fn check_replay(&self) {
        assert_eq!(ClusterImage::default().replay(&self.records), self.image, "replay ≡ live");
        let mut out = FieldWriter::new();
        for record in &self.records {
            record.encode(&mut out);
        }
        let bytes = out.into_bytes();
        let mut fields = FieldReader::new(&bytes);
        for record in &self.records {
            assert_eq!(MetadataRecord::decode(&mut fields).as_ref(), Ok(record));
        }
        let snapshot = ClusterImage::decode_snapshot(&self.image.encode_snapshot()).unwrap();
        assert_eq!(snapshot, self.image, "snapshot ≡ live");
    }
}

struct Claim;

impl MetadataAsk for Claim {
    type Answer = ();

    fn decide(self, round: &mut Round) {
        let epoch = round.image().index.controller_epoch + 1;
        let (node, directory, incarnation) = (BrokerId(1), KafkaUuid(10), KafkaUuid(20));
        round.accept(vec![MetadataRecord::ControllerClaim { epoch, node, directory, incarnation }]);
    }
}

fn kind(word: &str) -> ResourceKind {
    match word {
        "topic" => ResourceKind::Topic,
        "broker" => ResourceKind::Broker,
        "group" => ResourceKind::Group,
        "client-metrics" => ResourceKind::ClientMetrics,
        other => panic!("no such kind: {other}"),
    }
}

fn alteration(verb: &str, words: &Words<'_>) -> SettingAlteration {
    let rest = words.0[2..].iter().filter(|word| **word != "validate");
    let alteration = if verb == "replace" {
        let pair = |word: &&str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap();
        Alteration::Replace(rest.map(pair).collect())
    } else {
        Alteration::Change(rest.map(|word| change(word)).collect())
    };
    SettingAlteration { kind: kind(words.0[0]), name: words.0[1].trim_matches('"').into(), alteration }
}

/// `key=value`, `-key`, `key+=items`, `key-=items`; the value in force of every list is `delete`.
fn change(word: &str) -> (String, SettingChange) {
    let base = || "delete".to_owned();
    if let Some(key) = word.strip_prefix('-') {
        return (key.into(), SettingChange::Delete);
    }
    let (key, value) = word.split_once('=').unwrap();
    let value = value.to_owned();
    if let Some(key) = key.strip_suffix('+') {
        (key.into(), SettingChange::Append { items: value, base: base() })
    } else if let Some(key) = key.strip_suffix('-') {
        (key.into(), SettingChange::Subtract { items: value, base: base() })
    } else {
        (key.into(), SettingChange::Set(value))
    }
}

/// `mutations=n`: a quota that says yes until n partitions were exceeded.
fn quota(words: &Words<'_>) -> MutationQuota {
    let Some(partitions) = words.value("mutations") else { return MutationQuota::default() };
    let left = std::sync::atomic::AtomicI64::new(partitions.parse().unwrap());
    MutationQuota::new(move |count| {
        let allowed = left.load(std::sync::atomic::Ordering::Relaxed) >= 0;
        left.fetch_sub(if allowed { count as i64 } else { 0 }, std::sync::atomic::Ordering::Relaxed);
        allowed
    })
}

/// `user:name`, `client-id:` (the default), `key=value`, `-key`.
fn quota_alteration(words: &Words<'_>) -> Result<QuotaAlteration, ApiError> {
    let parts = words.0.iter().filter_map(|word| word.split_once(':'));
    let parts = parts.map(|(kind, name)| (kind.to_owned(), (!name.is_empty()).then(|| name.to_owned()))).collect();
    let set = words.0.iter().filter_map(|word| word.split_once('='));
    let set = set.map(|(key, value)| (key.to_owned(), Some(value.parse().unwrap())));
    let unset = words.0.iter().filter_map(|word| word.strip_prefix('-')).map(|key| (key.to_owned(), None));
    Ok(QuotaAlteration { entity: QuotaEntity::of(&parts)?, changes: set.chain(unset).collect() })
}

fn feature_updates(words: &Words<'_>) -> Vec<FeatureUpdate> {
    let upgrade_type = match (words.has("safe"), words.has("unsafe")) {
        _ if words.has("unknown") => UpgradeType::Unknown,
        (true, _) => UpgradeType::SafeDowngrade,
        (_, true) => UpgradeType::UnsafeDowngrade,
        _ => UpgradeType::Upgrade,
    };
    let pairs = words.0.iter().filter_map(|word| word.split_once('='));
    pairs
        .map(|(name, level)| FeatureUpdate { name: name.into(), level: level.parse().unwrap(), upgrade_type })
        .collect()
}

fn said_all<T: Debug>(answers: impl IntoIterator<Item = Result<T, ApiError>>) -> String {
    answers.into_iter().map(|answer| said(&answer)).collect::<Vec<_>>().join("\n= ")
}

fn said<T: Debug>(answer: &Result<T, ApiError>) -> String {
    match answer {
        Ok(value) => format!("ok {value:?}").replace("ok ()", "ok"),
        Err(ApiError { code: ErrorCode::None, .. }) => panic!("an error without a code"),
        Err(error) => error.to_string(),
    }
}

/// A record in few words.
fn described(record: &MetadataRecord) -> String {
    match record {
        MetadataRecord::ControllerClaim { epoch, node, .. } => format!("ControllerClaim epoch={epoch} node={node}"),
        MetadataRecord::RegisterBroker(broker) => {
            let Broker { id, epoch, incarnation, rack, fenced, .. } = broker;
            let rack = rack.as_ref().map_or(String::new(), |rack| format!(" rack={rack}"));
            format!("RegisterBroker {id} epoch={epoch} life={}{rack} fenced={fenced}", incarnation.0)
        }
        MetadataRecord::BrokerChange(BrokerChange { id, epoch, fenced, shutting_down, log_dirs, cordoned_dirs }) => {
            let fenced = fenced.map_or(String::new(), |fenced| format!(" fenced={fenced}"));
            let leaving = shutting_down.map_or("", |leaving| if leaving { " leaving" } else { " staying" });
            let dirs = |what: &str, ids: &Option<Vec<KafkaUuid>>| {
                ids.as_ref().map_or(String::new(), |ids| format!(" {what}={}", directory_numbers(ids)))
            };
            let (dirs, cordoned) = (dirs("dirs", log_dirs), dirs("cordoned", cordoned_dirs));
            format!("BrokerChange {id} epoch={epoch}{fenced}{leaving}{dirs}{cordoned}")
        }
        MetadataRecord::Topic { id, name } => format!("Topic {name} id={}", id.0),
        MetadataRecord::RemoveTopic { id } => format!("RemoveTopic id={}", id.0),
        MetadataRecord::Partition { topic, index, registration } => {
            let PartitionRegistration { replicas, isr, leader, leader_epoch, .. } = registration;
            let (replicas, isr, leader) = (list(replicas), list(isr), list(leader.as_slice()));
            format!("Partition {}-{index} replicas={replicas} isr={isr} leader={leader}@{leader_epoch}", topic.0)
        }
        MetadataRecord::PartitionChange { topic, index, change } => {
            let isr = change.isr.as_ref().map_or(String::new(), |isr| format!(" isr={}", list(isr)));
            let leader = change.leader.map_or(String::new(), |leader| format!(" leader={}", list(leader.as_slice())));
            let replicas = |what: &str, ids: &Option<Vec<BrokerId>>| {
                ids.as_ref().map_or(String::new(), |ids| format!(" {what}={}", list(ids)))
            };
            let (elr, last) = (replicas("elr", &change.elr), replicas("last", &change.last_known_elr));
            let dirs = change.directories.as_ref();
            let dirs = dirs.map_or(String::new(), |ids| format!(" dirs={}", directory_numbers(ids)));
            let recovering = change.recovering.map_or(String::new(), |is| format!(" recovering={is}"));
            let replicas = [
                replicas("replicas", &change.replicas),
                replicas("adding", &change.adding),
                replicas("removing", &change.removing),
            ]
            .concat();
            format!("PartitionChange {}-{index}{replicas}{isr}{elr}{last}{leader}{recovering}{dirs}", topic.0)
        }
        MetadataRecord::ClientQuota { entity, key, value } => {
            let value = value.map_or("none".to_owned(), |QuotaValue(value)| value.to_string());
            format!("ClientQuota {:?} {key}={value}", entity.parts())
        }
        other => format!("{other:?}"),
    }
}

fn list(ids: &[BrokerId]) -> String {
    ids.iter().map(BrokerId::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn topics() {
    run("topics.txt");
}

#[test]
fn brokers() {
    run("brokers.txt");
}

#[test]
fn heartbeats() {
    run("heartbeats.txt");
}

#[test]
fn isrs() {
    run("isrs.txt");
}

#[test]
fn eligible_leaders() {
    run("eligible_leaders.txt");
}

#[test]
fn directories() {
    run("directories.txt");
}

#[test]
fn settings() {
    run("settings.txt");
}

#[test]
fn elections() {
    run("elections.txt");
}

#[test]
fn reassignments() {
    run("reassignments.txt");
}

#[test]
fn quotas() {
    run("quotas.txt");
}

#[test]
fn features() {
    run("features.txt");
}

/// Asks that get in each other's way.
const ASKS: &[&str] = &[
    "claim",
    "join 1 life=1",
    "join 1 life=2",
    "join 1 life=3",
    "register 2 life=1",
    "join 2 life=1",
    "join 2 life=2",
    "create a",
    "create a.b partitions=3 config:k=1",
    "create a_b rf=2 and c",
    "create c assign=1,2/2,1",
    "create c validate",
    "delete a",
    "delete a.b",
    "delete c",
    "grow a count=4",
    "grow c count=5 assign=1,2",
    "alter topic a k=1",
    "alter topic a k+=2,3",
    "alter topic a -k",
    "replace topic a l=1",
    "replace topic a",
    "alter broker 1 k=1",
    "alter group g k=1",
    "alter group g -k",
    "quotas user:u producer_byte_rate=1024",
    "quotas user:u -producer_byte_rate",
    "quotas user: client-id:c request_percentage=5 consumer_byte_rate=7",
    "quotas ip: connection_creation_rate=3",
    "producer-ids",
    "features transaction.version=2",
    "features transaction.version=0 safe",
    "elect all",
    "elect all unclean",
    "elect c:0",
    "reassign a:0 to=1",
    "reassign a:0 to=2",
    "reassign c:1 to=1",
    "reassign a:0",
    "unregister 1",
    "unregister 2",
    "unregister 1 alive life=3",
    "beat 1",
    "beat 2 want-stop",
    "beat 2 want-fence",
    "beat 2 offline=2",
    "isr c:0 to=1,2",
    "isr c:1 to=2",
    "dir c:0 of=2 in=7",
    "features metadata.version=30 eligible.leader.replicas.version=1",
    "features eligible.leader.replicas.version=0 safe",
    "alter topic c unclean.leader.election.enable=true",
    "alter topic c min.insync.replicas=2",
    "register 3 life=2 clean",
    "pass 10",
    "fence",
    "balance",
    "rescue",
];

proptest::proptest! {
    #[test]
    fn whatever_is_decided_replays(asks in proptest::collection::vec(proptest::sample::select(ASKS), 0..60)) {
        let mut runner = Runner::default();
        for ask in asks {
            runner.ask(ask);
        }
        runner.check_replay();
    }
}
