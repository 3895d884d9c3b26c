//! The raft log, the vote and the commit point.
//!
//! Invariants: the log since the last purge is in memory (snapshots keep it short), and the disk follows in the order
//! things were done; an append and a vote count only once they are synced; the commit point and purges need no sync of
//! their own, because raft recomputes the one and repeats the other.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use parking_lot::Mutex;

use crate::metadata::quorum::format;
use crate::metadata::quorum::store::{MetaStore, Write};
use crate::metadata::quorum::types::{Entry, LogId, QuorumTypes, Vote};
use crate::metadata::quorum::writer::Writer;
use crate::sabotage;

/// Bytes of entries that are sent to another member at once, but for one that is larger.
const MESSAGE_BYTES: usize = 1 << 20;

fn entry_bytes(entry: &Entry) -> usize {
    const OVERHEAD: usize = 64;
    match &entry.payload {
        EntryPayload::Normal(round) => OVERHEAD + round.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => OVERHEAD,
    }
}

/// A handle to the log; clones share it.
#[derive(Clone)]
pub struct LogStore {
    log: Arc<Mutex<Log>>,
    writer: Writer,
}

#[derive(Default)]
struct Log {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl LogStore {
    /// Reads what an earlier life left in `store`; blocks on the disk.
    pub fn open(store: &dyn MetaStore, writer: Writer) -> io::Result<LogStore> {
        let vote = store.get(format::VOTE_KEY)?.map(|bytes| format::decode_vote(&bytes)).transpose()?;
        let committed = store.get(format::COMMITTED_KEY)?.map(|bytes| format::decode_log_id(&bytes)).transpose()?;
        let purged = store.get(format::PURGED_KEY)?.map(|bytes| format::decode_log_id(&bytes)).transpose()?;
        let (from, to) = format::ENTRY_KEYS;
        let mut entries = BTreeMap::new();
        for (_, bytes) in store.scan(from, to)? {
            let entry = format::decode_entry(&bytes)?;
            entries.insert(entry.log_id.index, entry);
        }
        let log = Log { vote, committed, purged, entries };
        Ok(LogStore { log: Arc::new(Mutex::new(log)), writer })
    }

    /// Takes the entries with these indexes out of memory and returns the writes that take them off the disk.
    fn forget(&self, indexes: impl RangeBounds<u64>) -> Vec<Write> {
        let mut log = self.log.lock();
        let gone: Vec<u64> = log.entries.range(indexes).map(|(index, _)| *index).collect();
        for index in &gone {
            log.entries.remove(index);
        }
        gone.into_iter().map(|index| (format::entry_key(index), None)).collect()
    }
}

impl RaftLogReader<QuorumTypes> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.log.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    /// What goes into one message: bounded by bytes, because a round may have thousands of records.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (log, mut bytes) = (self.log.lock(), 0);
        let fits = |(_, entry): &(&u64, &Entry)| {
            let had = bytes;
            bytes += entry_bytes(entry);
            had == 0 || bytes <= MESSAGE_BYTES
        };
        Ok(log.entries.range(start..end).take_while(fits).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.lock().vote)
    }
}

impl RaftLogStorage<QuorumTypes> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<QuorumTypes>> {
        let log = self.log.lock();
        let last = log.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.lock().vote = Some(*vote);
        if sabotage::on("vote-not-stored") {
            return Ok(());
        }
        self.writer.durably(vec![(format::VOTE_KEY.to_vec(), Some(format::encode_vote(vote)))]).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.log.lock().committed = committed;
        let value = committed.map(|id| format::encode_log_id(&id));
        self.writer.lazily(vec![(format::COMMITTED_KEY.to_vec(), value)]).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<QuorumTypes>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut writes = Vec::new();
        {
            let mut log = self.log.lock();
            for entry in entries {
                writes.push((format::entry_key(entry.log_id.index), Some(format::encode_entry(&entry))));
                log.entries.insert(entry.log_id.index, entry);
            }
        }
        self.writer.durably_then(writes, Box::new(move |result| callback.io_completed(result))).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let first = last_log_id.map_or(0, |id| id.index + 1);
        let writes = self.forget(first..);
        self.writer.lazily(writes).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let mut writes = self.forget(..=log_id.index);
        self.log.lock().purged = Some(log_id);
        writes.push((format::PURGED_KEY.to_vec(), Some(format::encode_log_id(&log_id))));
        self.writer.lazily(writes).await
    }
}

#[cfg(test)]
mod tests {
    use openraft::StorageError;
    use openraft::storage::RaftLogStorageExt;
    use openraft::testing::log::{StoreBuilder, Suite};
    use openraft_rt::deterministic_rng::DeterministicRng;
    use openraft_rt_tokio::TokioRuntime;

    use super::*;
    use crate::metadata::quorum::roster::Roster;
    use crate::metadata::quorum::state_machine::Machine;
    use crate::metadata::quorum::store::MemoryStore;
    use crate::metadata::quorum::types::VoterId;
    use crate::metadata::tests::simulated;

    struct Fresh;

    impl StoreBuilder<QuorumTypes, LogStore, Machine> for Fresh {
        async fn build(&self) -> Result<((), LogStore, Machine), StorageError<QuorumTypes>> {
            let env = simulated(1);
            let store = MemoryStore::new();
            let writer = Writer::start(&env, store.clone());
            let log = LogStore::open(&*store, writer.clone()).unwrap();
            let roster = Arc::new(Roster::open(BTreeMap::new(), &*store, writer.clone()).unwrap());
            Ok(((), log, Machine::open(&env, store, writer, roster).unwrap()))
        }
    }

    /// The library's own suite: what raft relies on beyond what the traits' types say.
    #[tokio::test(start_paused = true)]
    async fn it_conforms_to_what_raft_relies_on() {
        DeterministicRng::<TokioRuntime>::scope(1, Suite::test_all(Fresh)).await.unwrap();
    }

    fn blank(index: u64) -> Entry {
        let mut entry = format::decode_entry(&[0; 38]).unwrap();
        entry.log_id.index = index;
        entry
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_crash_leaves_is_a_log() {
        let store = MemoryStore::new();
        let env = simulated(1);
        let mut log = LogStore::open(&*store, Writer::start(&env, store.clone())).unwrap();
        let vote = Vote::new_committed(7, VoterId::from(1));
        log.save_vote(&vote).await.unwrap();
        assert_eq!(store.unsynced(), 0, "a vote is durable when it is saved");
        for index in 1..=6 {
            log.blocking_append([blank(index)]).await.unwrap();
        }
        log.truncate_after(Some(blank(4).log_id)).await.unwrap();
        tokio::task::yield_now().await;
        log.purge(blank(2).log_id).await.unwrap();
        tokio::task::yield_now().await;
        for kept in 0..=store.unsynced() {
            let found = store.crash(kept);
            let mut log = LogStore::open(&*found, Writer::start(&env, found.clone())).unwrap();
            assert_eq!(log.read_vote().await.unwrap(), Some(vote));
            let state = log.get_log_state().await.unwrap();
            let first = state.last_purged_log_id.map_or(0, |id| id.index) + 1;
            let last = state.last_log_id.unwrap().index;
            let entries = log.try_get_log_entries(0..u64::MAX).await.unwrap();
            let indexes: Vec<u64> = entries.iter().map(|entry| entry.log_id.index).collect();
            assert_eq!(indexes, (first..=last).collect::<Vec<_>>(), "no hole with {kept} unsynced writes kept");
            assert!(last >= 4);
        }
    }
}
