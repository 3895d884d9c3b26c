//! What lies in the data directories of this broker, for DescribeLogDirs.
//!
//! Invariant: directories are named by their absolute path, as clients know them, and come in the order of `log.dirs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FutureLog, Partition, Partitions};
use crate::env::Env;
use crate::storage::dirs::DataDir;
use crate::storage::reserve::Space;

/// One data directory.
#[derive(Clone, Debug)]
pub struct LogDir {
    pub path: PathBuf,
    pub online: bool,
    /// `None` if the file system does not tell.
    pub space: Option<Space>,
    /// What is hosted there, in the order of topic ids and indexes.
    pub logs: Vec<HostedLog>,
}

/// The log of a hosted partition.
#[derive(Clone, Debug)]
pub struct HostedLog {
    pub partition: Arc<Partition>,
    pub bytes: u64,
    /// Records that are committed but not here; `None` if nothing is known of the log.
    pub lag: Option<i64>,
    /// It is a copy in the making, that is to take the place of the log in another directory; its lag is what it lacks
    /// of that.
    pub is_future: bool,
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic(), self.index())
    }
}

impl Partitions {
    /// Every directory and what lies there.
    pub async fn log_dirs(&self, env: &Env) -> Vec<LogDir> {
        let partitions = self.clone();
        env.blocking(move || {
            let hosted = partitions.all();
            let mut log_dirs: Vec<LogDir> =
                partitions.0.directories.iter().map(|directory| log_dir(directory, &hosted)).collect();
            for lost in &partitions.0.lost {
                let (path, logs) = (absolute(&lost.path), Vec::new());
                log_dirs.insert(lost.index.min(log_dirs.len()), LogDir { path, online: false, space: None, logs });
            }
            log_dirs
        })
        .await
    }
}

fn log_dir(directory: &DataDir, hosted: &[Arc<Partition>]) -> LogDir {
    let logs = hosted.iter().flat_map(|partition| {
        let log = (partition.directory() == Some(directory.id)).then(|| {
            let lag = partition.offsets_if_any().map(|offsets| (offsets.high_watermark - offsets.log_end).max(0));
            HostedLog { partition: partition.clone(), bytes: partition.size().0, lag, is_future: false }
        });
        let future = partition.future().filter(|future| future.directory == directory.id).map(|future| {
            let FutureLog { bytes, lag, .. } = future;
            HostedLog { partition: partition.clone(), bytes, lag: Some(lag), is_future: true }
        });
        log.into_iter().chain(future)
    });
    LogDir {
        path: absolute(&directory.path),
        online: directory.engine().poison().is_none(),
        space: directory.space(),
        logs: logs.collect(),
    }
}

pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
