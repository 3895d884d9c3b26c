//! The one writer of the quorum's store: jobs are written in the order they were handed in, as many at once as wait.
//!
//! Invariants: one write is under way at a time, so flushes are reported in order (openraft issue 1960); after the
//! first failure nothing is written any more and every job fails, because a failed sync is final; a snapshot is never
//! replaced by an older one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::env::Env;
use crate::metadata::quorum::store::{MetaStore, Write};
use crate::sabotage;

/// Jobs that may wait; a further one waits for a place.
const JOBS_MAX: usize = 1024;

/// Called with the outcome of a job.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

struct Job {
    writes: Vec<Write>,
    sync: bool,
    /// It writes the snapshot that ends with this entry.
    snapshot: Option<u64>,
    done: Option<Done>,
}

/// Hands jobs to the writer. Cheap to clone; the writer ends with its last handle.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    /// When the write that is under way began.
    busy_since: Arc<Mutex<Option<Instant>>>,
}

impl Writer {
    pub fn start(env: &Env, store: Arc<dyn MetaStore>) -> Writer {
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let busy_since = Arc::default();
        env.spawn(run(env.clone(), store, queue, Arc::clone(&busy_since)));
        Writer { jobs, busy_since }
    }

    /// When the write that is under way began; `None` if the disk has nothing to do.
    pub fn busy_since(&self) -> Option<Instant> {
        *self.busy_since.lock()
    }

    /// Writes in the background, without a sync: a later synced job makes it durable.
    pub async fn lazily(&self, writes: Vec<Write>) -> io::Result<()> {
        self.submit(Job { writes, sync: false, snapshot: None, done: None }).await
    }

    /// Writes and syncs in the background; `done` hears of it.
    pub async fn durably_then(&self, writes: Vec<Write>, done: Done) -> io::Result<()> {
        self.submit(Job { writes, sync: true, snapshot: None, done: Some(done) }).await
    }

    /// Returns when the writes, and all before them, are durable.
    pub async fn durably(&self, writes: Vec<Write>) -> io::Result<()> {
        let (answer, outcome) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(answer.send(result)));
        self.durably_then(writes, done).await?;
        outcome.await.map_err(|_| gone())?
    }

    /// As [`Writer::durably`] for the snapshot that ends with entry `index`. Nothing is written if a newer one was
    /// handed in before: one is built here while another node's is installed.
    pub async fn snapshot(&self, index: u64, writes: Vec<Write>) -> io::Result<()> {
        let (answer, outcome) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(answer.send(result)));
        self.submit(Job { writes, sync: true, snapshot: Some(index), done: Some(done) }).await?;
        outcome.await.map_err(|_| gone())?
    }

    async fn submit(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).await.map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::other("the writer of the metadata store has ended")
}

async fn run(
    env: Env,
    store: Arc<dyn MetaStore>,
    mut queue: mpsc::Receiver<Job>,
    busy_since: Arc<Mutex<Option<Instant>>>,
) {
    let mut jobs = Vec::new();
    let mut failure: Option<io::Error> = None;
    let mut newest_snapshot = 0;
    while queue.recv_many(&mut jobs, JOBS_MAX).await > 0 {
        let mut writes = Vec::new();
        let mut sync = false;
        for job in &mut jobs {
            sync |= job.sync && !sabotage::on("metadata-unsynced");
            if job.snapshot.is_some_and(|index| index < newest_snapshot) {
                continue;
            }
            newest_snapshot = job.snapshot.unwrap_or(newest_snapshot);
            writes.append(&mut job.writes);
        }
        if failure.is_none() {
            let store = store.clone();
            *busy_since.lock() = Some(env.now());
            let delay_us = store.delay_max().as_micros() as u64;
            if delay_us > 0 {
                env.sleep(Duration::from_micros(env.random_below(delay_us))).await;
            }
            failure = env.blocking(move || store.put_many(writes, sync)).await.err();
            *busy_since.lock() = None;
            if let Some(failure) = &failure {
                tracing::error!(%failure, "the metadata store cannot be written any more");
            }
        }
        for done in jobs.drain(..).filter_map(|job| job.done) {
            done(match &failure {
                None => Ok(()),
                Some(failure) => Err(io::Error::new(failure.kind(), failure.to_string())),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::quorum::store::MemoryStore;
    use crate::metadata::tests::simulated;

    #[tokio::test(start_paused = true)]
    async fn an_older_snapshot_replaces_no_newer_one() {
        let store = MemoryStore::new();
        let writer = Writer::start(&simulated(1), store.clone());
        let writes = |value: &[u8]| vec![(b"s".to_vec(), Some(value.to_vec()))];
        for (index, value, stored) in [(5, b"5", b"5"), (7, b"7", b"7"), (6, b"6", b"7"), (7, b"a", b"a")] {
            writer.snapshot(index, writes(value)).await.unwrap();
            assert_eq!(store.get(b"s").unwrap(), Some(stored.to_vec()));
        }
        writer.durably(vec![(b"t".to_vec(), Some(b"1".to_vec()))]).await.unwrap();
        assert_eq!(store.get(b"t").unwrap(), Some(b"1".to_vec()));
    }
}
