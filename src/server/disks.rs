//! The disks of a node: data directories, and the small store of its metadata quorum.
//!
//! Invariants: every directory is locked before anything is read; all directories and the settings agree on cluster and
//! node; the metadata store lives in the first data directory, which therefore must work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::BrokerSettings;
use crate::env::Env;
use crate::ids::KafkaUuid;
use crate::metadata::{MemoryStore, MetaStore, RocksMetaStore};
use crate::partitions::LostDir;
use crate::storage::dirs::{DataDir, DirOptions, Identity, LockedDir, NotTaken};
use crate::storage::engine::{EngineOptions, MemoryDisk, VALUE_FILE_BYTES_MAX};

/// Opened disks.
pub(super) struct Disks {
    pub directories: Vec<Arc<DataDir>>,
    /// Those that could not be opened, in the order of the settings.
    pub lost: Vec<LostDir>,
    pub metadata: Arc<dyn MetaStore>,
    pub cluster_id: KafkaUuid,
    /// The id of the directory that holds the metadata store.
    pub directory_id: KafkaUuid,
    /// See [`crate::metadata::MetadataOptions::snapshot_log_bytes`].
    pub snapshot_log_bytes: u64,
}

/// The cluster that a node with empty directories belongs to.
#[derive(Clone, Debug)]
pub(super) enum NewCluster {
    Id(String),
    /// Its own, with an id that it draws.
    Draw,
    /// One of several nodes, and nobody said which cluster.
    Missing,
}

fn dir_options(settings: &BrokerSettings) -> DirOptions {
    let bytes = |setting: i64| usize::try_from(setting).unwrap_or(0);
    let engine = EngineOptions {
        sync: settings.ottla_sync_before_ack,
        value_file_bytes_max: VALUE_FILE_BYTES_MAX,
        direct: settings.ottla_direct_io,
        read_cache_bytes: bytes(settings.ottla_read_cache_bytes),
    };
    let reserve_bytes = settings.ottla_disk_reserve_bytes;
    DirOptions { engine, tail_bytes: bytes(settings.ottla_tail_cache_bytes), reserve_bytes }
}

fn paths_of(settings: &BrokerSettings) -> Vec<PathBuf> {
    settings.log_dirs.iter().map(PathBuf::from).collect()
}

impl Disks {
    /// Locks, identifies and opens the directories that the settings name. Blocking.
    ///
    /// A disk that failed is left out, as in Kafka, as long as the first directory, where the metadata is, can be read
    /// and some directory can be opened.
    pub(super) fn open(env: &Env, settings: &BrokerSettings, new_cluster: &NewCluster) -> Result<Disks, NotTaken> {
        let paths = paths_of(settings);
        let first = paths.first().ok_or_else(|| "log.dirs: names no directory".to_owned())?;
        let (mut locked, mut lost) = (Vec::new(), Vec::new());
        for (index, path) in paths.iter().enumerate() {
            match LockedDir::take(path) {
                Ok(directory) => locked.push((index, directory)),
                Err(NotTaken::Unreadable(why)) if index > 0 => lost.push(lose(index, path, None, &why)),
                Err(why) => return Err(why),
            }
        }
        let cluster_id = agree(env, &locked, settings, new_cluster)?;
        let mut identified = Vec::new();
        for (index, mut directory) in locked {
            if directory.identity.is_none() {
                let (cluster_id, directory_id) = (cluster_id.to_string(), env.random_uuid());
                match directory.identify(Identity { cluster_id, node_id: settings.node_id, directory_id }) {
                    Err(NotTaken::Unreadable(why)) if index > 0 => {
                        lost.push(lose(index, &paths[index], Some(directory), &why));
                        continue;
                    }
                    outcome => outcome?,
                }
            }
            identified.push((index, directory));
        }
        let directory_id = identified.first().and_then(|(_, directory)| directory.identity.as_ref());
        let directory_id = directory_id.map(|identity| identity.directory_id).unwrap_or_default();
        let options = dir_options(settings);
        // The metadata store is opened beside the first data directory: a start waits for the slower of the two.
        let metadata = open_beside(env, &first.join("metadata"))?;
        let mut directories = Vec::new();
        let mut failures = Vec::new();
        for (index, locked) in identified {
            match DataDir::open(env, &locked, &options) {
                Ok(directory) => directories.push(Arc::new(directory)),
                Err(why) => failures.push((index, locked, why)),
            }
        }
        if directories.is_empty() {
            let failures: Vec<String> = failures.into_iter().map(|(.., why)| why).collect();
            return Err(failures.join("; ").into());
        }
        for (index, locked, why) in failures {
            lost.push(lose(index, &paths[index], Some(locked), &why));
        }
        lost.sort_by_key(|lost| lost.index);
        let metadata = metadata.recv().map_err(|_| "the metadata store was not opened".to_owned())??;
        let snapshot_log_bytes = crate::metadata::SNAPSHOT_LOG_BYTES;
        Ok(Disks { directories, lost, metadata, cluster_id, directory_id, snapshot_log_bytes })
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.directories.iter().map(|directory| directory.path.clone()).collect()
    }
}

fn lose(index: usize, path: &Path, lock: Option<LockedDir>, why: &str) -> LostDir {
    tracing::error!(path = %path.display(), reason = why, "data directory is offline, and what lies in it");
    LostDir { index, path: path.to_owned(), lock }
}

type Opened = Result<Arc<dyn MetaStore>, String>;

fn open_beside(env: &Env, path: &Path) -> Result<std::sync::mpsc::Receiver<Opened>, String> {
    let (told, opened) = std::sync::mpsc::sync_channel(1);
    let path = path.to_owned();
    env.thread("ottla-open", move || {
        let store = RocksMetaStore::open(&path);
        let store =
            store.map(|store| Arc::new(store) as Arc<dyn MetaStore>).map_err(|e| format!("{}: {e}", path.display()));
        // The starter has given up if it does not listen any more.
        let _ = told.send(store);
    })
    .map_err(|failure| format!("cannot start a thread: {failure}"))?;
    Ok(opened)
}

/// The cluster that every directory belongs to, or a new one's id.
fn agree(
    env: &Env,
    locked: &[(usize, LockedDir)],
    settings: &BrokerSettings,
    new_cluster: &NewCluster,
) -> Result<KafkaUuid, String> {
    let mut cluster: Option<String> = None;
    for (_, directory) in locked {
        let Some(identity) = &directory.identity else { continue };
        let shown = directory.path.display();
        if identity.node_id != settings.node_id {
            let (theirs, ours) = (identity.node_id, settings.node_id);
            return Err(format!("node.id={ours}: {shown} belongs to node {theirs} (its meta.properties says so)"));
        }
        if cluster.as_ref().is_some_and(|cluster| *cluster != identity.cluster_id) {
            return Err(format!("log.dirs: {shown} belongs to another cluster ({})", identity.cluster_id));
        }
        cluster = Some(identity.cluster_id.clone());
    }
    let id = match (&cluster, new_cluster) {
        (Some(id), _) | (None, NewCluster::Id(id)) => id,
        (None, NewCluster::Draw) => return Ok(env.random_uuid()),
        (None, NewCluster::Missing) => {
            return Err(format!(
                "log.dirs: {} is empty, and this is one node of several: format it with the id of the cluster (ottla \
                 storage format --cluster-id) or set CLUSTER_ID, such as {}",
                locked.first().map(|(_, directory)| directory.path.display().to_string()).unwrap_or_default(),
                env.random_uuid()
            ));
        }
    };
    KafkaUuid::parse(id)
        .ok_or_else(|| format!("CLUSTER_ID={id}: expected 22 characters of base64url, such as {}", env.random_uuid()))
}

/// Disks of a simulated node: they outlive its process.
pub struct SimulatedDisks {
    /// The first data directory's.
    pub records: MemoryDisk,
    /// Those of further data directories.
    pub more: Vec<(KafkaUuid, MemoryDisk)>,
    /// A snapshot of the metadata takes the place of a log that is heavier than this.
    pub snapshot_log_bytes: u64,
    metadata: parking_lot::Mutex<Arc<MemoryStore>>,
    cluster_id: KafkaUuid,
    directory_id: KafkaUuid,
}

impl SimulatedDisks {
    /// Empty disks of a new cluster; ids are drawn from `env`.
    pub fn new(cluster_id: KafkaUuid, directory_id: KafkaUuid) -> SimulatedDisks {
        let metadata = parking_lot::Mutex::new(MemoryStore::new());
        let snapshot_log_bytes = crate::metadata::SNAPSHOT_LOG_BYTES;
        let records = MemoryDisk::new();
        SimulatedDisks { records, more: Vec::new(), snapshot_log_bytes, metadata, cluster_id, directory_id }
    }

    /// Power cut: of the unsynced writes, the first few survive on each disk.
    pub fn crash(&self, records_kept: usize, metadata_kept: usize) {
        self.records.crash(records_kept);
        self.more.iter().for_each(|(_, disk)| disk.crash(records_kept));
        let mut metadata = self.metadata.lock();
        let survived = metadata.crash(metadata_kept);
        *metadata = survived;
    }

    /// From now on every write on any of them takes up to `delay`, and every sync of records as much again.
    pub fn set_delay_max(&self, delay: std::time::Duration) {
        self.records.set_delay_max(delay);
        self.more.iter().for_each(|(_, disk)| disk.set_delay_max(delay));
        self.metadata.lock().set_delay_max(delay);
    }

    /// Writes that a crash now could lose, on the first records' disk and on the metadata's.
    pub fn unsynced(&self) -> (usize, usize) {
        (self.records.unsynced(), self.metadata.lock().unsynced())
    }

    pub(super) fn open(&self, env: &Env, settings: &BrokerSettings) -> Result<Disks, String> {
        let (options, first) = (dir_options(settings), (self.directory_id, self.records.clone()));
        let disks = std::iter::once(&first).chain(&self.more).zip(1..);
        let directories = disks.map(|((id, disk), number)| {
            let mut directory = DataDir::in_memory(env, disk, *id, &options)?;
            directory.path = PathBuf::from(format!("/memory-{number}"));
            Ok(Arc::new(directory))
        });
        let directories = directories.collect::<Result<Vec<_>, String>>()?;
        let metadata: Arc<dyn MetaStore> = self.metadata.lock().clone();
        let (cluster_id, directory_id) = (self.cluster_id, self.directory_id);
        let snapshot_log_bytes = self.snapshot_log_bytes;
        Ok(Disks { directories, lost: Vec::new(), metadata, cluster_id, directory_id, snapshot_log_bytes })
    }
}
