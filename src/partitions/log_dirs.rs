//! What lies in the data directories of this broker, for DescribeLogDirs and AlterReplicaLogDirs.
//!
//! Invariant: directories are named by their absolute path, as clients know them, and come in the order of `log.dirs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Partition, Partitions};
use crate::env::Env;
use crate::error::ErrorCode;
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

    /// Whether `partition` may be moved to the directory at `path`; the directory is judged before the error that may
    /// stand for the partition. `LogDirNotFound` if there is no such directory, `KafkaStorageError` if it is offline.
    /// Nothing moves between directories yet: `InvalidReplicaAssignment` for another one than where the partition is.
    pub fn check_move(&self, partition: Result<&Partition, ErrorCode>, path: &str) -> Result<(), ErrorCode> {
        let named = |directory: &&Arc<DataDir>| absolute(&directory.path) == Path::new(path);
        if self.0.lost.iter().any(|lost| absolute(&lost.path) == Path::new(path)) {
            return Err(ErrorCode::KafkaStorageError);
        }
        let directory = self.0.directories.iter().find(named).ok_or(ErrorCode::LogDirNotFound)?;
        if directory.engine().poison().is_some() {
            return Err(ErrorCode::KafkaStorageError);
        }
        let home = partition?.directory().ok_or(ErrorCode::ReplicaNotAvailable)?;
        if home == directory.id { Ok(()) } else { Err(ErrorCode::InvalidReplicaAssignment) }
    }
}

fn log_dir(directory: &DataDir, hosted: &[Arc<Partition>]) -> LogDir {
    let here = hosted.iter().filter(|partition| partition.directory() == Some(directory.id));
    let log = |partition: &Arc<Partition>| {
        let lag = partition.offsets_if_any().map(|offsets| (offsets.high_watermark - offsets.log_end).max(0));
        HostedLog { partition: partition.clone(), bytes: partition.size().0, lag }
    };
    LogDir {
        path: absolute(&directory.path),
        online: directory.engine().poison().is_none(),
        space: directory.space(),
        logs: here.map(log).collect(),
    }
}

pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
