//! A consistent copy of a running broker's disks.
//!
//! Invariants: what was acknowledged before the copy began is in it. Records are copied before metadata, so that the
//! copy's metadata is never older than its records: no topic of a record is unknown, no producer id is given twice. The
//! broker goes on serving; only giving disk space back waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::env::Env;
use crate::metadata::MetaStore;
use crate::storage::backups::{self, Manifest};
use crate::storage::dirs::DataDir;

use super::disks::Disks;

/// What backups are made of.
pub(super) struct Source {
    pub directories: Vec<Arc<DataDir>>,
    /// How many were lost before the start.
    lost: usize,
    metadata: Arc<dyn MetaStore>,
    cluster_id: String,
    node_id: i32,
}

impl Source {
    pub(super) fn of(disks: &Disks, config: &Config) -> Arc<Source> {
        Arc::new(Source {
            directories: disks.directories.clone(),
            lost: disks.lost.len(),
            metadata: disks.metadata.clone(),
            cluster_id: disks.cluster_id.to_string(),
            node_id: config.broker().node_id,
        })
    }

    /// Makes a backup in `to`, which must be empty or not exist. With `own_copies`, no file in it shares its bytes with
    /// the broker's. Blocking.
    pub(super) fn back_up(&self, env: &Env, to: &Path, own_copies: bool) -> Result<Manifest, String> {
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", to.display());
        let failed_since = self.directories.iter().filter(|directory| directory.engine().poison().is_some()).count();
        match self.lost + failed_since {
            0 => {}
            offline => return Err(failed(&format!("{offline} data directories are offline and would be missing"))),
        }
        let begun_ms = env.wall_ms();
        std::fs::create_dir_all(to).map_err(|e| failed(&e))?;
        if std::fs::read_dir(to).map_err(|e| failed(&e))?.next().is_some() {
            return Err(failed(&"is not empty"));
        }
        let folders: Vec<PathBuf> = (1..=self.directories.len()).map(|number| to.join(number.to_string())).collect();
        for (directory, folder) in self.directories.iter().zip(&folders) {
            std::fs::create_dir(folder).map_err(|e| failed(&e))?;
            directory.back_up(folder)?;
        }
        if let Some(first) = folders.first() {
            self.metadata.back_up(&first.join("metadata")).map_err(|e| failed(&e))?;
        }
        if own_copies {
            backups::own_copies(to).map_err(|e| failed(&e))?;
        }
        let manifest = Manifest {
            format: 0,
            program: format!("ottla {}", env!("CARGO_PKG_VERSION")),
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_id,
            begun_ms,
            directories: self.directories.iter().map(|directory| super::absolute(&directory.path).into()).collect(),
            files: Vec::new(),
        };
        manifest.seal(to).map_err(|e| failed(&e))
    }
}
