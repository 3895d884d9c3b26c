//! From a journal to a machine: what a new leader does before it serves.
//!
//! Invariants: records reach the machine in the order of their offsets, except those of transactions, which wait for
//! their marker; of one key the machine never sees an older record after a newer one. Control batches are not shown to
//! it. Nothing is skipped but records of unknown types: a journal that cannot be read whole gives no machine at all.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use super::shard::{Journal, Shard};
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerId};
use crate::records::{self, BatchHeader, EndMarker};

/// How much of the journal is read at once.
const READ_BYTES: usize = 1 << 20;

/// Why there is no machine.
#[derive(Debug)]
pub(super) enum LoadFailure {
    /// The journal refused to be read.
    Journal(ErrorCode),
    /// Bytes in the journal make no sense; says which.
    Unreadable(String),
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadFailure::Journal(code) => write!(f, "reading the journal failed: {code}"),
            LoadFailure::Unreadable(what) => f.write_str(what),
        }
    }
}

/// Replays the whole journal into `shard`, which is new.
pub(super) async fn load<S: Shard>(journal: &dyn Journal, shard: S) -> Result<S, LoadFailure> {
    let mut loading = Loading { shard, held: BTreeMap::new() };
    let mut next = journal.log_start();
    while next < journal.log_end() {
        let chunk = journal.read(next, READ_BYTES).await.map_err(LoadFailure::Journal)?;
        // Compaction may have removed the last records.
        if chunk.is_empty() {
            break;
        }
        let reached = loading.replay_chunk(next, chunk).map_err(LoadFailure::Unreadable)?;
        if reached <= next {
            return Err(LoadFailure::Unreadable(format!("reading offset {next} led back to {reached}")));
        }
        next = reached;
    }
    Ok(loading.shard)
}

/// A machine being loaded.
struct Loading<S: Shard> {
    shard: S,
    /// Records of open transactions by key, with their offsets. They are replayed at the COMMIT marker and forgotten at
    /// the ABORT marker; those of a transaction that is still open at the end of the journal stay invisible.
    held: BTreeMap<ProducerId, BTreeMap<Bytes, (Offset, Option<Bytes>)>>,
}

impl<S: Shard> Loading<S> {
    /// Replays whole batches, leaving out what lies before `from`, and returns the offset after them.
    fn replay_chunk(&mut self, from: Offset, chunk: Bytes) -> Result<Offset, String> {
        let mut next = from;
        for batch in records::batches(chunk) {
            let (header, batch) = batch.map_err(|error| format!("batch after offset {next}: {error}"))?;
            self.replay_batch(from, &header, &batch)
                .map_err(|reason| format!("batch at offset {}: {reason}", header.base_offset))?;
            next = header.next_offset();
        }
        Ok(next)
    }

    fn replay_batch(&mut self, from: Offset, header: &BatchHeader, batch: &Bytes) -> Result<(), String> {
        if header.is_control() {
            return match EndMarker::read(batch).map_err(|error| error.to_string())? {
                Some(marker) => self.end_transaction(header.producer_id, marker.committed),
                None => Ok(()),
            };
        }
        for record in records::records(batch).map_err(|error| error.to_string())? {
            let offset = record.offset(header);
            if offset < from {
                continue;
            }
            let key = record.key.ok_or_else(|| format!("the record at offset {offset} has no key"))?;
            if header.is_transactional() {
                self.held.entry(header.producer_id).or_default().insert(key, (offset, record.value));
            } else {
                self.replay_record(offset, key, record.value)?;
            }
        }
        Ok(())
    }

    fn end_transaction(&mut self, producer: ProducerId, committed: bool) -> Result<(), String> {
        let held = self.held.remove(&producer).unwrap_or_default();
        if !committed {
            return Ok(());
        }
        let mut held: Vec<_> = held.into_iter().collect();
        held.sort_by_key(|(_, (offset, _))| *offset);
        for (key, (offset, value)) in held {
            self.replay_record(offset, key, value)?;
        }
        Ok(())
    }

    fn replay_record(&mut self, offset: Offset, key: Bytes, value: Option<Bytes>) -> Result<(), String> {
        // A record supersedes what transactions said about its key before it, even if they commit later. Otherwise a
        // tombstone would be undone by a transaction that began before it and ends after it.
        for held in self.held.values_mut() {
            if held.get(&key).is_some_and(|(older, _)| *older < offset) {
                held.remove(&key);
            }
        }
        let record = S::decode(key, value).map_err(|reason| format!("the record at offset {offset}: {reason}"))?;
        if let Some(record) = record {
            self.shard.replay(offset, record);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::toy::{MemoryJournal, START_MS, Toy, batch};

    async fn loaded(batches: impl IntoIterator<Item = Bytes>) -> Result<String, String> {
        let journal = MemoryJournal::committing();
        for batch in batches {
            journal.write(batch);
        }
        let toy = load(&*journal, Toy::default()).await.map_err(|failure| failure.to_string())?;
        Ok(toy.print())
    }

    fn marker(producer: ProducerId, committed: bool) -> Bytes {
        EndMarker { committed, coordinator_epoch: 0 }.batch(producer, 0, START_MS)
    }

    #[tokio::test]
    async fn transactions_are_replayed_at_their_markers() {
        let batches = [
            batch(None, &[("a", Some("old"))]),
            batch(Some(7), &[("a", Some("new")), ("c", Some("superseded"))]),
            batch(Some(8), &[("b", Some("aborted"))]),
            batch(Some(9), &[("d", Some("open"))]),
            batch(None, &[("c", None)]),
            marker(7, true),
            marker(8, false),
        ];
        assert_eq!(loaded(batches).await, Ok("a@1=new".to_owned()));
    }

    #[tokio::test]
    async fn of_two_transactions_the_later_write_stays() {
        let batches = [
            batch(Some(7), &[("a", Some("first"))]),
            batch(Some(8), &[("a", Some("second"))]),
            marker(8, true),
            marker(7, true),
        ];
        assert_eq!(loaded(batches).await, Ok("a@1=second".to_owned()));
    }

    #[tokio::test]
    async fn unknown_records_are_skipped_and_broken_ones_are_not() {
        let skipped = loaded([batch(None, &[("a", Some("1")), ("?", Some("of a type to come"))])]).await;
        assert_eq!(skipped, Ok("a@0=1".to_owned()));
        let broken = loaded([batch(None, &[("a", Some("1"))]), batch(None, &[("!", Some("broken"))])]).await;
        assert_eq!(broken, Err("batch at offset 1: the record at offset 1: a broken word".to_owned()));
    }
}
