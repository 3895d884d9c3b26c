//! Runs the scripts in `scripts/` against a shard.
//!
//! A script is a list of lines: an ask or the passing of time, and indented beneath it the records and answers that
//! follow, in order. `UPDATE=1` rewrites what is beneath. After every line a fresh shard is loaded from the records
//! emitted so far and compared: replay ≡ live.
//!
//! | line | meaning |
//! |---|---|
//! | `limits initial=3s max=2 retention=1h check=10m metadata=8` | other limits; the shard is loaded anew |
//! | `join g as=m1` / `join g member=m1` | a join without id (which would get `m1`), or with one; `v=` API version |
//! | `sync g m1 gen=1 assign=m1:x,m2:y` | the assignment is text |
//! | `heartbeat g m1 gen=1` · `leave g m1 -/i1` | `member/instance`, `-` for no member id |
//! | `commit g t-0@5 member=m1 gen=1` · `fetch g t-0` | without `member` and `gen` a simple commit |
//! | `describe g` · `list state=Stable type=classic` · `delete g` · `delete-offsets g t-0` · `topics-deleted t` | |
//! | `tick 3s` | time passes, timers fire |
//! | `reload` | the shard is loaded anew from its records |
//! | `refused` + an ask | the journal refuses: the decision is dropped |

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::ids::{KafkaUuid, PartitionIndex, TopicName};

/// A shard, its journal, and the time.
struct Stage {
    limits: GroupLimits,
    shard: GroupShard,
    image: ClusterImage,
    now: WallMillis,
    timers: BTreeMap<GroupTimer, WallMillis>,
    journal: Vec<GroupRecord>,
    asked: AnswerId,
    said: Vec<String>,
}

impl Stage {
    fn new() -> Stage {
        let limits = GroupLimits {
            min_session_ms: 6_000,
            max_session_ms: 1_800_000,
            initial_rebalance_delay_ms: 0,
            max_size: usize::MAX,
            offset_metadata_max_bytes: 4096,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            expiry_interval_ms: 600_000,
        };
        let mut stage = Stage {
            limits,
            shard: GroupShard::new(limits),
            image: ClusterImage::default(),
            now: 0,
            timers: BTreeMap::new(),
            journal: Vec::new(),
            asked: 0,
            said: Vec::new(),
        };
        stage.reload();
        stage
    }

    /// Plays one line; returns what follows from it.
    fn play(&mut self, line: &str) -> Vec<String> {
        let words = Words::of(line);
        match words.verb {
            "" => {}
            comment if comment.starts_with('#') => {}
            "limits" => self.set_limits(&words),
            "tick" => self.tick(duration(words.at(0))),
            "reload" => self.reload(),
            "refused" => {
                let ask = ask(&Words::of(line.trim_start_matches("refused")));
                drop(self.shard.decide(self.now, &self.image, ask, self.asked + 1));
            }
            _ => {
                self.asked += 1;
                let decision = self.shard.decide(self.now, &self.image, ask(&words), self.asked);
                self.apply(decision);
            }
        }
        self.compare_with_replay();
        std::mem::take(&mut self.said)
    }

    fn set_limits(&mut self, words: &Words<'_>) {
        let millis = |name: &str, usual: i64| words.named(name).map_or(usual, duration);
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let count = |name: &str, usual: usize| words.named(name).map_or(usual, number);
        self.limits = GroupLimits {
            initial_rebalance_delay_ms: millis("initial", self.limits.initial_rebalance_delay_ms),
            offsets_retention_ms: millis("retention", self.limits.offsets_retention_ms),
            expiry_interval_ms: millis("check", self.limits.expiry_interval_ms),
            max_size: count("max", self.limits.max_size),
            offset_metadata_max_bytes: count("metadata", self.limits.offset_metadata_max_bytes),
            ..self.limits
        };
        self.reload();
    }

    fn replayed(&self) -> GroupShard {
        let mut shard = GroupShard::new(self.limits);
        for (offset, record) in (0..).zip(&self.journal) {
            shard.replay(offset, record.clone());
        }
        shard
    }

    fn reload(&mut self) {
        self.shard = self.replayed();
        self.timers.clear();
        self.change_timers(self.shard.loaded(self.now));
    }

    fn tick(&mut self, millis: i64) {
        let until = self.now + millis;
        loop {
            let due = self.timers.iter().filter(|(_, at)| **at <= until).min_by_key(|(timer, at)| (**at, *timer));
            let Some((timer, at)) = due.map(|(timer, at)| (timer.clone(), *at)) else { break };
            self.timers.remove(&timer);
            self.now = self.now.max(at);
            let decision = self.shard.expire(self.now, &self.image, &timer);
            self.apply(decision);
        }
        self.now = until;
    }

    /// What the runtime does with a decision.
    fn apply(&mut self, decision: Decision<GroupShard>) {
        for record in decision.records {
            self.said.push(show_record(&record));
            let (key, value) = GroupShard::encode(&record);
            assert_eq!(GroupShard::decode(key, value), Ok(Some(record.clone())), "what is written is read back");
            self.shard.replay(self.journal.len() as Offset, record.clone());
            self.journal.push(record);
        }
        if let Some(next) = decision.next {
            self.shard.adopt(next);
        }
        for (id, answer) in decision.answers {
            self.said.push(format!("#{id} {}", show_answer(&answer)));
        }
        self.change_timers(decision.timers);
    }

    fn change_timers(&mut self, changes: Vec<TimerChange<GroupTimer>>) {
        for change in changes {
            match change {
                TimerChange::Set(timer, at) => self.timers.insert(timer, at),
                TimerChange::Cancel(timer) => self.timers.remove(&timer),
            };
        }
    }

    fn compare_with_replay(&self) {
        let replayed = self.replayed();
        assert_eq!(stored(&replayed), stored(&self.shard), "replayed and live groups");
        assert_eq!(replayed.offsets, self.shard.offsets, "replayed and live offsets");
        for (id, entry) in &self.shard.groups {
            let is_settled = matches!(entry.group.state(), GroupState::Stable | GroupState::Empty);
            if let Some(value) = entry.stored.as_ref().filter(|_| is_settled) {
                assert_eq!(entry.group.to_value(), *value, "the living group {id} and the journal");
            }
        }
    }
}

fn stored(shard: &GroupShard) -> BTreeMap<&GroupId, &ClassicGroupValue> {
    shard.groups.iter().filter_map(|(id, entry)| Some((id, entry.stored.as_ref()?))).collect()
}

/// The words of a line: a verb, what stands by itself, and what has a name.
struct Words<'a> {
    verb: &'a str,
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Words<'a> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or("");
        let (mut plain, mut named) = (Vec::new(), BTreeMap::new());
        for word in words {
            match word.split_once('=') {
                Some((name, value)) => {
                    named.insert(name, value);
                }
                None => plain.push(word),
            }
        }
        Words { verb, plain, named }
    }

    fn at(&self, index: usize) -> &'a str {
        self.plain.get(index).copied().unwrap_or_else(|| panic!("{} needs more words", self.verb))
    }

    fn named(&self, name: &str) -> Option<&'a str> {
        self.named.get(name).copied()
    }

    fn or(&self, name: &str, usual: &'a str) -> &'a str {
        self.named(name).unwrap_or(usual)
    }

    fn list(&self, name: &str, usual: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.or(name, usual).split(',').filter(|word| !word.is_empty())
    }

    fn version(&self) -> i16 {
        self.or("v", "9").parse().expect("a version")
    }

    fn generation(&self) -> i32 {
        self.or("gen", "-1").parse().expect("a generation")
    }

    fn instance(&self) -> Option<InstanceId> {
        self.named("instance").map(Into::into)
    }

    fn partitions(&self) -> Vec<(TopicName, Vec<PartitionIndex>)> {
        self.plain[1..].iter().map(|word| partition(word)).map(|(topic, index)| (topic, vec![index])).collect()
    }
}

fn ask(words: &Words<'_>) -> GroupAsk {
    let group = || GroupId::from(words.at(0));
    match words.verb {
        "join" => GroupAsk::Join(join(words)),
        "sync" => GroupAsk::Sync(SyncAsk {
            group: group(),
            generation: words.generation(),
            member_id: words.at(1).into(),
            instance_id: words.instance(),
            protocol_type: words.named("type").map(Into::into),
            protocol: words.named("protocol").map(Into::into),
            assignments: words.list("assign", "").map(assignment).collect(),
        }),
        "heartbeat" => GroupAsk::Heartbeat(HeartbeatAsk {
            group: group(),
            generation: words.generation(),
            member_id: words.at(1).into(),
            instance_id: words.instance(),
        }),
        "leave" => GroupAsk::Leave(LeaveAsk {
            group: group(),
            members: words.plain[1..].iter().map(|word| leaving(word)).collect(),
        }),
        "commit" => GroupAsk::CommitOffsets(commit(words)),
        "fetch" => {
            let topics = Some(words.partitions()).filter(|topics| !topics.is_empty());
            GroupAsk::FetchOffsets(FetchAsk { group: group(), topics })
        }
        "describe" => GroupAsk::DescribeGroup(group()),
        "list" => GroupAsk::ListGroups(ListAsk {
            states: words.list("state", "").map(Into::into).collect(),
            types: words.list("type", "").map(Into::into).collect(),
        }),
        "delete" => GroupAsk::DeleteGroup(group()),
        "delete-offsets" => GroupAsk::DeleteOffsets(DeleteOffsetsAsk { group: group(), topics: words.partitions() }),
        "topics-deleted" => GroupAsk::TopicsDeleted(vec![(words.at(0).into(), KafkaUuid::ZERO)]),
        unknown => panic!("a script cannot {unknown}"),
    }
}

fn join(words: &Words<'_>) -> JoinAsk {
    let metadata = subscription(words.list("topics", "t").collect());
    let protocol = |name: &str| Protocol { name: name.into(), metadata: metadata.clone() };
    let timeout = |name: &str, usual: &'static str| i32::try_from(duration(words.or(name, usual))).expect("a timeout");
    JoinAsk {
        group: words.at(0).into(),
        member_id: words.or("member", "").into(),
        instance_id: words.instance(),
        new_member_id: words.or("as", "nobody").into(),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: timeout("session", "10s"),
        rebalance_timeout_ms: timeout("rebalance", "60s"),
        protocol_type: words.or("type", "consumer").into(),
        protocols: words.list("protocols", "range").map(protocol).collect(),
        takes_member_id_first: words.version() >= 4,
        takes_skip_assignment: words.version() >= 9,
    }
}

fn commit(words: &Words<'_>) -> CommitAsk {
    let topic = |word: &&str| {
        let (at, offset) = word.split_once('@').expect("partition@offset");
        let (name, index) = partition(at);
        let offset = offset.parse().expect("an offset");
        let metadata = words.or("note", "").into();
        CommitTopic {
            name,
            id: KafkaUuid(7),
            partitions: vec![CommitPartition { index, offset, leader_epoch: 3, metadata }],
        }
    };
    CommitAsk {
        group: words.at(0).into(),
        generation: words.generation(),
        member_id: words.or("member", "").into(),
        instance_id: words.instance(),
        retention_ms: words.named("retention").map(duration),
        knows_group_id_not_found: words.version() >= 9,
        topics: words.plain[1..].iter().map(topic).collect(),
    }
}

/// `t-0`
fn partition(word: &str) -> (TopicName, PartitionIndex) {
    let (topic, index) = word.rsplit_once('-').expect("topic-partition");
    (topic.into(), index.parse().expect("a partition"))
}

/// `m1:x`
fn assignment(word: &str) -> (MemberId, Bytes) {
    let (member_id, assignment) = word.split_once(':').expect("member:assignment");
    (member_id.into(), Bytes::copy_from_slice(assignment.as_bytes()))
}

/// `m1`, `m1/i1` or `-/i1`
fn leaving(word: &str) -> Leaving {
    let (member_id, instance) = match word.split_once('/') {
        Some((member_id, instance)) => (member_id, Some(instance)),
        None => (word, None),
    };
    let member_id = if member_id == "-" { "" } else { member_id };
    Leaving { member_id: member_id.into(), instance_id: instance.map(Into::into) }
}

/// `500ms`, `3s`, `5m`, `1h` or `7d`, in milliseconds.
fn duration(word: &str) -> i64 {
    let digits = word.find(|letter: char| !letter.is_ascii_digit()).expect("a unit");
    let (count, unit) = word.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 24 * 3_600_000,
        unknown => panic!("{unknown} is no unit of time"),
    };
    count.parse::<i64>().expect("a number") * unit_ms
}

/// A consumer's subscription of version 0.
fn subscription(topics: Vec<&str>) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

fn show_record(record: &GroupRecord) -> String {
    match record {
        GroupRecord::Offset(key, None) => format!("record {} {}-{} gone", key.group, key.topic, key.partition),
        GroupRecord::Offset(key, Some(value)) => {
            let mut text = format!("record {} {}-{} {}", key.group, key.topic, key.partition, value.offset);
            if let Some(expire_ms) = value.expire_ms {
                let _ = write!(text, " expires={expire_ms}ms");
            }
            text
        }
        GroupRecord::ClassicGroup(group, None) => format!("record {group} gone"),
        GroupRecord::ClassicGroup(group, Some(value)) => {
            let (kind, protocol) = (&value.protocol_type, or_dash(value.protocol.as_deref()));
            let leader = or_dash(value.leader.as_deref());
            let mut text = format!("record {group} gen={} {kind} {protocol} leader={leader}", value.generation);
            for member in &value.members {
                let name = name(&member.member_id, member.instance_id.as_deref());
                let _ = write!(text, " {name}={}", show_bytes(&member.assignment));
            }
            text
        }
    }
}

fn show_answer(answer: &GroupAnswer) -> String {
    match answer {
        GroupAnswer::Refused(code) => format!("refused {code}"),
        GroupAnswer::Join(Ok(joined)) => show_joined(joined),
        GroupAnswer::Join(Err(refused)) if refused.member_id.is_empty() => format!("join {}", refused.code),
        GroupAnswer::Join(Err(refused)) => format!("join {} {}", refused.code, refused.member_id),
        GroupAnswer::Sync(Ok(synced)) => format!("synced {}", show_bytes(&synced.assignment)),
        GroupAnswer::Sync(Err(code)) => format!("sync {code}"),
        GroupAnswer::Heartbeat(Ok(())) => "alive".to_owned(),
        GroupAnswer::Heartbeat(Err(code)) => format!("heartbeat {code}"),
        GroupAnswer::Overview(groups) => format!("overview of {} groups", groups.len()),
        GroupAnswer::Leave(left) => {
            let one = |left: &Left| format!(" {}={}", name(&left.member_id, left.instance_id.as_deref()), left.code);
            format!("left{}", left.iter().map(one).collect::<String>())
        }
        GroupAnswer::CommitOffsets(Ok(topics)) => format!("committed{}", show_outcomes(topics)),
        GroupAnswer::CommitOffsets(Err(code)) => format!("commit {code}"),
        GroupAnswer::FetchOffsets(topics) => format!("fetched{}", show_fetched(topics)),
        GroupAnswer::DescribeGroup(None) => "described nothing".to_owned(),
        GroupAnswer::DescribeGroup(Some(group)) => show_described(group),
        GroupAnswer::ListGroups(groups) => {
            let one = |listed: &ListedGroup| format!(" {}={}", listed.group, listed.state.name());
            format!("listed{}", groups.iter().map(one).collect::<String>())
        }
        GroupAnswer::DeleteGroup(Ok(())) => "deleted".to_owned(),
        GroupAnswer::DeleteGroup(Err(code)) => format!("delete {code}"),
        GroupAnswer::DeleteOffsets(Ok(topics)) => format!("offsets deleted{}", show_outcomes(topics)),
        GroupAnswer::DeleteOffsets(Err(code)) => format!("delete-offsets {code}"),
        GroupAnswer::TopicsDeleted { more } => format!("topics deleted more={more}"),
    }
}

fn show_joined(joined: &Joined) -> String {
    let mut text = format!("joined {} gen={}", joined.member_id, joined.generation);
    let _ = write!(text, " {} leader={}", or_dash(joined.protocol.as_deref()), joined.leader);
    for member in &joined.members {
        let _ = write!(text, " {}", name(&member.member_id, member.instance_id.as_deref()));
    }
    if joined.skip_assignment {
        text.push_str(" skip");
    }
    text
}

fn show_described(group: &GroupDescription) -> String {
    let mut text = format!("described {}", group.state.name());
    let _ = write!(text, " {} {}", or_dash(Some(&group.protocol_type)), or_dash(group.protocol.as_deref()));
    for member in &group.members {
        let seen = if member.metadata.is_empty() { "" } else { "+" };
        let _ = write!(text, " {}{seen}", name(&member.member_id, member.instance_id.as_deref()));
    }
    text
}

fn show_outcomes(topics: &[TopicOutcome]) -> String {
    let mut text = String::new();
    for topic in topics {
        for (index, code) in &topic.partitions {
            let _ = write!(text, " {}-{index}={code}", topic.topic);
        }
    }
    text
}

fn show_fetched(topics: &[FetchedTopic]) -> String {
    let mut text = String::new();
    for topic in topics {
        for at in &topic.partitions {
            let _ = write!(text, " {}-{}@{}", topic.topic, at.index, at.offset);
        }
    }
    text
}

fn name(member_id: &str, instance: Option<&str>) -> String {
    let member_id = or_dash(Some(member_id));
    instance.map_or_else(|| member_id.to_owned(), |instance| format!("{member_id}/{instance}"))
}

fn show_bytes(bytes: &Bytes) -> String {
    or_dash(std::str::from_utf8(bytes).ok()).to_owned()
}

fn or_dash(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or("-")
}

/// Plays a script and compares what follows from each line with what stands beneath it.
fn check(name: &str, script: &str) {
    let mut stage = Stage::new();
    let mut actual = String::new();
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        let _ = writeln!(actual, "{line}");
        for said in stage.play(line) {
            let _ = writeln!(actual, "  {said}");
        }
    }
    if actual == script {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/coordinator/group/scripts");
        std::fs::write(format!("{folder}/{name}.txt"), actual).expect("a script can be rewritten");
        return;
    }
    let lines = actual.lines().zip(script.lines()).enumerate().find(|(_, (actual, expected))| actual != expected);
    let differs = lines.map_or_else(
        || "one goes on where the other ends".to_owned(),
        |(index, (actual, expected))| format!("line {}: got `{actual}`, expected `{expected}`", index + 1),
    );
    panic!("script {name}: {differs}\n\n{actual}");
}

macro_rules! scripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(stringify!($name), include_str!(concat!("scripts/", stringify!($name), ".txt")));
        }
    )*};
}

/// One test per script; a module of its own, because scripts are named like functions here.
mod scripts {
    use super::check;

    scripts! {
        first_generation initial_delay rejoining missing_members member_ids static_members static_restart protocols
        group_size syncing sessions leaving commits offsets deleting expiry reloading refused_append
    }
}
