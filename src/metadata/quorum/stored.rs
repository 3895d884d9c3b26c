//! What a metadata store holds, for who examines it while no quorum runs on it. Pure.

use std::collections::BTreeMap;
use std::io;

use openraft::EntryPayload;

use crate::ids::{KafkaUuid, WallMillis};
use crate::metadata::image::{ClusterImage, ImageIndex};
use crate::metadata::quorum::format::{self, Proposal};
use crate::metadata::quorum::store::MetaStore;
use crate::metadata::quorum::types::{Entry, LogId, Member, StoredMembership, VoterId};
use crate::metadata::record::MetadataRecord;

/// What one entry of the raft log carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoredPayload {
    Blank,
    Round {
        stamp: ImageIndex,
        wall_ms: WallMillis,
        records: Vec<MetadataRecord>,
        /// False if the round came too late to have an effect.
        applied: bool,
    },
    /// Voters as `node@directory`.
    Membership(Vec<String>),
}

/// One entry of the raft log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredEntry {
    pub index: u64,
    pub term: u64,
    pub payload: StoredPayload,
}

/// A metadata store, read and replayed.
#[derive(Clone, Default, Debug)]
pub struct StoredMetadata {
    /// Term of the vote and the node it went to.
    pub vote: Option<String>,
    pub committed: Option<u64>,
    pub purged: Option<u64>,
    /// Last index of the snapshot.
    pub snapshot: Option<u64>,
    /// The image of the snapshot: what replay began with.
    pub snapshot_image: ClusterImage,
    pub entries: Vec<StoredEntry>,
    /// The image after every entry.
    pub image: ClusterImage,
    /// Node and directory of every voter.
    pub voters: Vec<(i32, KafkaUuid)>,
    /// What does not decode or does not fit.
    pub wrong: Vec<String>,
}

/// Writes the records that a new cluster begins with; durable when it returns.
pub fn write_bootstrap(store: &dyn MetaStore, records: &[MetadataRecord]) -> io::Result<()> {
    store.put_many(vec![(format::BOOTSTRAP_KEY.to_vec(), Some(format::encode_bootstrap(records)))], true)
}

/// The records that a new cluster begins with, if the directory was formatted with some.
pub fn read_bootstrap(store: &dyn MetaStore) -> io::Result<Option<Vec<MetadataRecord>>> {
    let row = store.get(format::BOOTSTRAP_KEY)?;
    Ok(row.map(|row| format::decode_bootstrap(&row)).transpose()?)
}

/// Writes the voters that a dynamic quorum begins with; durable when it returns.
pub fn write_first_voters(store: &dyn MetaStore, voters: &BTreeMap<VoterId, Member>) -> io::Result<()> {
    store.put_many(vec![(format::FIRST_VOTERS_KEY.to_vec(), Some(format::encode_first_voters(voters)))], true)
}

/// The voters that a dynamic quorum begins with, if the directory was formatted with some.
pub fn read_first_voters(store: &dyn MetaStore) -> io::Result<Option<BTreeMap<VoterId, Member>>> {
    let row = store.get(format::FIRST_VOTERS_KEY)?;
    Ok(row.map(|row| format::decode_first_voters(&row)).transpose()?)
}

type Row = (Vec<u8>, Vec<u8>);

impl StoredMetadata {
    /// Reads the rows of a store.
    pub fn read(rows: &[Row]) -> StoredMetadata {
        let mut stored = StoredMetadata::default();
        let mut raw = Vec::new();
        for (key, value) in rows {
            if let Err(what) = stored.take(key, value, &mut raw) {
                let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                stored.wrong.push(format!("row {key}: {what}"));
            }
        }
        stored.replay(raw);
        stored
    }

    fn take(&mut self, key: &[u8], value: &[u8], entries: &mut Vec<Entry>) -> Result<(), String> {
        let text = |malformed: &dyn std::fmt::Display| malformed.to_string();
        match key {
            format::VOTE_KEY => {
                let vote = format::decode_vote(value).map_err(|e| text(&e))?;
                self.vote = Some(format!("term {}, {}", vote.leader_id.term, vote.leader_id.node_id));
            }
            format::COMMITTED_KEY => {
                self.committed = Some(format::decode_log_id(value).map_err(|e| text(&e))?.index);
            }
            format::PURGED_KEY => self.purged = Some(format::decode_log_id(value).map_err(|e| text(&e))?.index),
            format::SNAPSHOT_KEY => {
                let (meta, image) = format::decode_snapshot(value).map_err(|e| text(&e))?;
                self.snapshot = meta.last_log_id.map(|id: LogId| id.index);
                self.note_voters(&meta.last_membership);
                self.snapshot_image = ClusterImage::decode_snapshot(image).map_err(|e| text(&e))?;
            }
            format::FIRST_VOTERS_KEY => {
                format::decode_first_voters(value).map_err(|e| text(&e))?;
            }
            format::BOOTSTRAP_KEY => {
                format::decode_bootstrap(value).map_err(|e| text(&e))?;
            }
            key if key.starts_with(format::HEARD_OF_KEYS.0) => {
                format::heard_of(key).map_err(|e| text(&e))?;
            }
            key if key.starts_with(format::ENTRY_KEYS.0) => {
                let entry = format::decode_entry(value).map_err(|e| text(&e))?;
                if format::entry_key(entry.log_id.index) != key {
                    return Err(format!("holds the entry {}", entry.log_id.index));
                }
                entries.push(entry);
            }
            _ => return Err("an unknown key".into()),
        }
        Ok(())
    }

    fn note_voters(&mut self, membership: &StoredMembership) {
        let voters: Vec<VoterId> = membership.voter_ids().collect();
        if !voters.is_empty() {
            self.voters = voters.iter().map(|voter| (voter.node, KafkaUuid(voter.directory))).collect();
        }
    }

    fn replay(&mut self, entries: Vec<Entry>) {
        self.image = self.snapshot_image.clone();
        let mut previous: Option<u64> = None;
        for entry in entries {
            let (index, term) = (entry.log_id.index, entry.log_id.leader_id.term);
            if let Some(previous) = previous.filter(|previous| previous.checked_add(1) != Some(index)) {
                self.wrong.push(format!("entry {index} does not follow entry {previous}"));
            }
            previous = Some(index);
            let membership_id = Some(entry.log_id);
            let payload = match entry.payload {
                EntryPayload::Blank => StoredPayload::Blank,
                EntryPayload::Membership(membership) => {
                    let membership = StoredMembership::new(membership_id, membership);
                    self.note_voters(&membership);
                    StoredPayload::Membership(membership.voter_ids().map(|voter| voter.to_string()).collect())
                }
                EntryPayload::Normal(round) => match Proposal::decode(&round) {
                    Ok(Proposal { stamp, wall_ms, records }) => {
                        let in_snapshot = self.snapshot.is_some_and(|last| index <= last);
                        let applied = in_snapshot || self.apply(index, stamp, &records);
                        StoredPayload::Round { stamp, wall_ms, records, applied }
                    }
                    Err(malformed) => {
                        self.wrong.push(format!("entry {index}: {malformed}"));
                        continue;
                    }
                },
            };
            self.entries.push(StoredEntry { index, term, payload });
        }
        if let (Some(committed), Some(last)) = (self.committed, previous.or(self.purged).or(self.snapshot))
            && committed > last
        {
            self.wrong.push(format!("entry {committed} is committed and the log ends at {last}"));
        }
    }

    fn apply(&mut self, index: u64, stamp: ImageIndex, records: &[MetadataRecord]) -> bool {
        if stamp != self.image.index {
            return false;
        }
        match self.image.try_replay(records) {
            Ok(next) => self.image = next,
            Err(misfit) => self.wrong.push(format!("entry {index}: {misfit}")),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use openraft::impls::leader_id_adv::LeaderId;

    use super::*;
    use crate::metadata::quorum::types::VoterId;

    /// Found by fuzzing: the sum of the last index there is and one.
    #[test]
    fn nothing_follows_the_last_index_there_is() {
        let row = |index: u64| {
            let leader_id = LeaderId { term: 1, node_id: VoterId { node: 1, directory: 1 } };
            let entry = Entry { log_id: LogId { leader_id, index }, payload: EntryPayload::Blank };
            (format::entry_key(index), format::encode_entry(&entry))
        };
        let wrong = |indexes: &[u64]| StoredMetadata::read(&indexes.iter().copied().map(row).collect::<Vec<_>>()).wrong;
        assert_eq!(wrong(&[3, 4, 5]), [""; 0]);
        assert_eq!(wrong(&[3, 5]), ["entry 5 does not follow entry 3"]);
        assert_eq!(wrong(&[u64::MAX, 0]), [format!("entry 0 does not follow entry {}", u64::MAX)]);
    }
}
