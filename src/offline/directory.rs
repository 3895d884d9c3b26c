//! A locked data directory with what is needed to name things in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ids::{TopicIdPartition, internal_topics};
use crate::metadata::{ClusterImage, ResourceKind, StoredMetadata};
use crate::storage::backups::Manifest;
use crate::storage::dirs::{LockedDir, NotTaken};
use crate::storage::engine::FrozenStore;
use crate::storage::findings::Finding;

/// The data directories that `paths` name: themselves, or those in a backup.
pub(super) fn directories(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in paths {
        match Manifest::read(path)? {
            None => found.push(path.clone()),
            Some(manifest) => found.extend(manifest.folders(path)),
        }
    }
    for path in &found {
        if !path.join("records").is_dir() && !path.join("meta.properties").is_file() {
            return Err(format!("{}: is no data directory (it has no meta.properties)", path.display()));
        }
    }
    Ok(found)
}

/// Takes the lock of a directory to look at it.
pub(super) fn lock(path: &Path) -> Result<LockedDir, String> {
    LockedDir::take_to_examine(path).map_err(NotTaken::why)
}

/// Reads the metadata store below `path`; `None` if the directory has none.
pub(super) fn metadata(path: &Path, findings: &mut Vec<Finding>) -> Result<Option<StoredMetadata>, String> {
    let folder = path.join("metadata");
    if !folder.is_dir() {
        return Ok(None);
    }
    let store = FrozenStore::open(&folder).map_err(|poison| poison.0)?;
    store.check_files(findings).map_err(|poison| poison.0)?;
    let stored = StoredMetadata::read(&store.rows().map_err(|poison| poison.0)?);
    findings.extend(stored.wrong.iter().map(|what| Finding::damage(&folder, None, what)));
    Ok(Some(stored))
}

/// Names partitions by the newest image.
#[derive(Clone, Default)]
pub(super) struct Names(pub Arc<ClusterImage>);

impl Names {
    /// `topic-partition`, or the topic's id if its name is not known any more.
    pub(super) fn of(&self, id: TopicIdPartition) -> String {
        match self.0.topics.by_id(id.topic) {
            Some(topic) => format!("{}-{}", topic.name, id.partition),
            None => format!("{}-{}", id.topic, id.partition),
        }
    }

    /// True if offsets may be missing between batches, because keys are compacted.
    pub(super) fn is_compacted(&self, id: TopicIdPartition) -> bool {
        let Some(topic) = self.0.topics.by_id(id.topic) else { return true };
        let of = |kind, name: &str| self.0.settings.of(kind, name).get("cleanup.policy").cloned();
        let policy = of(ResourceKind::Topic, &topic.name);
        internal_topics::is_internal(&topic.name) || policy.is_some_and(|policy| policy.contains("compact"))
    }
}
