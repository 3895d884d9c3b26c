//! The asks of brokers in scripts: registrations, heartbeats, ISRs, directories.

use super::{Runner, Words, broker_lists, list};
use crate::ids::{BrokerId, KafkaUuid, PartitionIndex, TopicId};
use crate::metadata::broker_asks;
use crate::metadata::sessions::Word;
use crate::metadata::{
    AlterPartition, AlteredPartition, DirectoryAssignment, Heartbeat, HeartbeatAnswer, PartitionRegistration,
    Registration,
};

impl Runner {
    /// `metadata-max=n`, `life=n`, `rack=r`, `dirs=1,2` (by default one that has the number of the broker),
    /// `previous=epoch`, or `clean` for the right one.
    pub(super) fn registration(&self, words: &Words<'_>) -> Registration {
        let max = words.number("metadata-max", 30);
        let id: i32 = words.0[0].parse().unwrap();
        let features: &[(&str, (i16, i16))] = &[
            ("metadata.version", (7, max)),
            ("transaction.version", (0, 2)),
            ("kraft.version", (0, 1)),
            ("eligible.leader.replicas.version", (0, 1)),
        ];
        let stored = self.epoch_of(BrokerId(id));
        Registration {
            id: BrokerId(id),
            incarnation: KafkaUuid(words.number("life", 1)),
            rack: words.value("rack").map(str::to_owned),
            endpoints: Vec::new(),
            features: features.iter().map(|(name, range)| ((*name).to_owned(), *range)).collect(),
            log_dirs: words.value("dirs").map_or_else(|| vec![directory_id(&id.to_string())], directory_ids),
            previous_epoch: if words.has("clean") { stored } else { words.number("previous", -1) },
        }
    }

    pub(super) fn epoch_of(&self, id: BrokerId) -> i64 {
        self.image.brokers.by_id(id).map_or(-1, |broker| broker.epoch)
    }

    fn partition(&self, word: &str) -> (TopicId, PartitionIndex, PartitionRegistration) {
        let (name, index) = word.rsplit_once(':').unwrap();
        let index: PartitionIndex = index.parse().unwrap();
        let topic = self.image.topics.by_name(name);
        let partition = topic.and_then(|topic| topic.partition(index)).cloned().unwrap_or_default();
        (topic.map_or(KafkaUuid(999), |topic| topic.id), index, partition)
    }

    /// `beat id [read=offset] [want-fence] [want-stop] [offline=dirs] [cordoned=dirs] [epoch=n]`; by default the broker
    /// has read everything.
    pub(super) fn beat(&mut self, words: &Words<'_>) {
        let id = BrokerId(words.0[0].parse().unwrap());
        let dirs = |key: &str| words.value(key).map_or_else(Vec::new, directory_ids);
        let heartbeat = Heartbeat {
            id,
            epoch: words.number("epoch", self.epoch_of(id)),
            metadata_offset: words.number("read", self.image.index.next_offset - 1),
            want_fence: words.has("want-fence"),
            want_shut_down: words.has("want-stop"),
            offline_dirs: dirs("offline"),
            cordoned_dirs: Some(dirs("cordoned")),
        };
        let word = Word { id, epoch: heartbeat.epoch, read: heartbeat.metadata_offset, connection: None };
        self.sessions.heard(&self.image, word, self.now);
        let sessions = self.sessions.clone();
        self.decide(broker_asks::Beat { heartbeat, sessions }, |answer| match answer {
            Ok(HeartbeatAnswer { caught_up, fenced, shut_down }) => {
                let said = [(caught_up, "caught-up"), (fenced, "fenced"), (shut_down, "may-stop")];
                said.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
            }
            Err(refused) => refused.to_string(),
        });
    }

    /// `isr topic:index to=ids [by=id] [epochs=numbers] [le=n] [pe=n] [recovering]`; by default as the leader would.
    pub(super) fn alter_isr(&mut self, words: &Words<'_>) {
        let (topic, index, partition) = self.partition(words.0[0]);
        let sender = words.value("by").map(|id| BrokerId(id.parse().unwrap())).or(partition.leader);
        let sender = sender.unwrap_or(BrokerId(-1));
        let members = broker_lists(words.value("to").unwrap()).concat();
        let epochs: Vec<i64> = match words.value("epochs") {
            Some(text) => text.split(',').map(|epoch| epoch.parse().unwrap()).collect(),
            None => members.iter().map(|id| self.epoch_of(*id)).collect(),
        };
        let change = AlterPartition {
            topic,
            index,
            leader_epoch: words.number("le", partition.leader_epoch),
            partition_epoch: words.number("pe", partition.partition_epoch),
            isr: members.into_iter().zip(epochs).collect(),
            recovering: words.has("recovering"),
        };
        let epoch = words.number("epoch", self.epoch_of(sender));
        self.decide(broker_asks::AlterPartitions { sender, epoch, changes: vec![change] }, |answer| match answer {
            Ok(altered) => match &altered[0] {
                Ok(AlteredPartition { leader, leader_epoch, isr, recovering, partition_epoch }) => {
                    let (leader, isr) = (list(leader.as_slice()), list(isr));
                    let recovering = if *recovering { " recovering" } else { "" };
                    format!("ok isr={isr} leader={leader}@{leader_epoch} pe={partition_epoch}{recovering}")
                }
                Err(code) => code.to_string(),
            },
            Err(refused) => refused.to_string(),
        });
    }

    /// `dir topic:index of=id in=dir`.
    pub(super) fn assign_directory(&mut self, words: &Words<'_>) {
        let (topic, index, _) = self.partition(words.0[0]);
        let broker = BrokerId(words.number("of", 1));
        let directory = directory_id(words.value("in").unwrap());
        let assignments = vec![DirectoryAssignment { topic, index, directory }];
        let epoch = self.epoch_of(broker);
        self.decide(broker_asks::AssignDirectories { broker, epoch, assignments }, |answer| match answer {
            Ok(outcomes) => outcomes[0].map_or_else(|code| code.to_string(), |()| "ok".into()),
            Err(refused) => refused.to_string(),
        });
    }
}

/// A directory by its number in a script.
fn directory_id(number: &str) -> KafkaUuid {
    KafkaUuid(1000 + number.parse::<u128>().unwrap())
}

fn directory_ids(text: &str) -> Vec<KafkaUuid> {
    text.split(',').map(directory_id).collect()
}

pub(super) fn directory_numbers(ids: &[KafkaUuid]) -> String {
    let number = |id: &KafkaUuid| id.0.checked_sub(1000).map_or_else(|| format!("?{}", id.0), |id| id.to_string());
    ids.iter().map(number).collect::<Vec<_>>().join(",")
}
