//! `ottla restore`: data directories from a backup.
//!
//! Invariants: a backup is never changed, nor shares a file with what is restored; a directory gets its identity file
//! last, so that a restore that broke off is no directory a broker would take.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::storage::backups::{self, Manifest};
use crate::storage::dirs::RESTORED;

/// Puts the directories of the backup in `folder` into `targets`, which must be empty or not exist: as many as it has.
pub fn restore(folder: &Path, targets: &[PathBuf]) -> Result<Manifest, String> {
    let shown = folder.display();
    let manifest = Manifest::read(folder)?;
    let manifest = manifest.ok_or_else(|| format!("{shown}: is no backup (it has no {})", backups::MANIFEST))?;
    if let Some(missing) = manifest.missing(folder) {
        return Err(format!("{shown}: the backup is not whole: {missing}"));
    }
    if manifest.directories.len() != targets.len() {
        let wanted: Vec<String> = manifest.directories.iter().map(|path| path.display().to_string()).collect();
        let (held, given) = (wanted.len(), targets.len());
        return Err(format!("the backup holds {held} data directories ({}), {given} are given", wanted.join(", ")));
    }
    for target in targets {
        let failed = |e: io::Error| format!("{}: {e}", target.display());
        fs::create_dir_all(target).map_err(failed)?;
        if fs::read_dir(target).map_err(failed)?.next().is_some() {
            return Err(format!("{}: is not empty", target.display()));
        }
    }
    for (source, target) in manifest.folders(folder).zip(targets) {
        put_back(&source, target).map_err(|e| format!("{}: {e}", target.display()))?;
    }
    Ok(manifest)
}

fn put_back(source: &Path, target: &Path) -> io::Result<()> {
    const IDENTITY: &str = "meta.properties";
    copy_tree(source, target, &|name| name != IDENTITY)?;
    // What was acknowledged since the backup is not here: the broker must not say that it is.
    fs::write(target.join(RESTORED), [])?;
    backups::sync_tree(target)?;
    fs::copy(source.join(IDENTITY), target.join(IDENTITY))?;
    backups::sync_tree(target).map(drop)
}

fn copy_tree(source: &Path, target: &Path, wanted: &dyn Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if from.is_dir() {
            fs::create_dir(&to)?;
            copy_tree(&from, &to, &|_| true)?;
        } else if entry.file_name().to_str().is_some_and(wanted) {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
