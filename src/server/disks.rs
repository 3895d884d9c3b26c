//! The disks of a node: data directories, and the small store of its metadata quorum.
//!
//! Invariants: every directory is locked before anything is read; all directories and the settings agree on cluster and
//! node; the metadata store lives in the first data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::BrokerSettings;
use crate::env::Env;
use crate::ids::KafkaUuid;
use crate::metadata::{MemoryStore, MetaStore, RocksMetaStore};
use crate::storage::dirs::{DataDir, DirOptions, Identity, LockedDir, NotTaken};
use crate::storage::engine::{EngineOptions, MemoryDisk, VALUE_FILE_BYTES_MAX};

/// Opened disks.
pub(super) struct Disks {
    pub directories: Vec<Arc<DataDir>>,
    pub metadata: Arc<dyn MetaStore>,
    pub cluster_id: KafkaUuid,
    /// The id of the directory that holds the metadata store.
    pub directory_id: KafkaUuid,
}

fn dir_options(settings: &BrokerSettings) -> DirOptions {
    let bytes = |setting: i64| usize::try_from(setting).unwrap_or(0);
    let engine = EngineOptions {
        sync: settings.ottla_sync_before_ack,
        value_file_bytes_max: VALUE_FILE_BYTES_MAX,
        direct: settings.ottla_direct_io,
        read_cache_bytes: bytes(settings.ottla_read_cache_bytes),
    };
    DirOptions { engine, tail_bytes: bytes(settings.ottla_tail_cache_bytes) }
}

fn paths_of(settings: &BrokerSettings) -> Vec<PathBuf> {
    settings.log_dirs.iter().map(PathBuf::from).collect()
}

impl Disks {
    /// Locks, identifies and opens the directories that the settings name. Blocking.
    pub(super) fn open(env: &Env, settings: &BrokerSettings, new_cluster: Option<&str>) -> Result<Disks, NotTaken> {
        let paths = paths_of(settings);
        let mut locked = paths.iter().map(|path| LockedDir::take(path)).collect::<Result<Vec<_>, _>>()?;
        let cluster_id = agree(env, &locked, settings, new_cluster)?;
        for directory in &mut locked {
            if directory.identity.is_none() {
                let cluster_id = cluster_id.to_string();
                let directory_id = env.random_uuid();
                directory.identify(Identity { cluster_id, node_id: settings.node_id, directory_id })?;
            }
        }
        let first = paths.first().ok_or_else(|| "log.dirs: names no directory".to_owned())?;
        let directory_id = locked.first().and_then(|directory| directory.identity.as_ref());
        let directory_id = directory_id.map(|identity| identity.directory_id).unwrap_or_default();
        let options = dir_options(settings);
        // The metadata store is opened beside the first data directory: a start waits for the slower of the two.
        let metadata = open_beside(env, &first.join("metadata"))?;
        let directories = locked.into_iter().map(|directory| DataDir::open(env, directory, &options).map(Arc::new));
        let directories = directories.collect::<Result<Vec<_>, _>>()?;
        let metadata = metadata.recv().map_err(|_| "the metadata store was not opened".to_owned())??;
        Ok(Disks { directories, metadata, cluster_id, directory_id })
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.directories.iter().map(|directory| directory.path.clone()).collect()
    }
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
    locked: &[LockedDir],
    settings: &BrokerSettings,
    new_cluster: Option<&str>,
) -> Result<KafkaUuid, String> {
    let mut cluster: Option<String> = None;
    for directory in locked {
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
    match cluster.as_deref().or(new_cluster) {
        None => Ok(env.random_uuid()),
        Some(id) => KafkaUuid::parse(id).ok_or_else(|| {
            format!("CLUSTER_ID={id}: expected 22 characters of base64url, such as {}", env.random_uuid())
        }),
    }
}

/// Disks of a simulated node: they outlive its process.
pub struct SimulatedDisks {
    pub records: MemoryDisk,
    metadata: parking_lot::Mutex<Arc<MemoryStore>>,
    cluster_id: KafkaUuid,
    directory_id: KafkaUuid,
}

impl SimulatedDisks {
    /// Empty disks of a new cluster; ids are drawn from `env`.
    pub fn new(cluster_id: KafkaUuid, directory_id: KafkaUuid) -> SimulatedDisks {
        let metadata = parking_lot::Mutex::new(MemoryStore::new());
        SimulatedDisks { records: MemoryDisk::new(), metadata, cluster_id, directory_id }
    }

    /// Power cut: of the unsynced writes, the first few survive on each disk.
    pub fn crash(&self, records_kept: usize, metadata_kept: usize) {
        self.records.crash(records_kept);
        let mut metadata = self.metadata.lock();
        let survived = metadata.crash(metadata_kept);
        *metadata = survived;
    }

    /// Writes that a crash now could lose, on the records' disk and on the metadata's.
    pub fn unsynced(&self) -> (usize, usize) {
        (self.records.unsynced(), self.metadata.lock().unsynced())
    }

    pub(super) fn open(&self, env: &Env, settings: &BrokerSettings) -> Result<Disks, String> {
        let directory = DataDir::in_memory(env, &self.records, self.directory_id, &dir_options(settings))?;
        let metadata: Arc<dyn MetaStore> = self.metadata.lock().clone();
        let (cluster_id, directory_id) = (self.cluster_id, self.directory_id);
        Ok(Disks { directories: vec![Arc::new(directory)], metadata, cluster_id, directory_id })
    }
}
