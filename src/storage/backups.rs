//! What a backup is on disk: a folder with one numbered data directory for each of the broker's, and a manifest.
//!
//! Invariant: the manifest is written last, after everything else is on stable storage: a folder without one is no
//! backup.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use crate::ids::WallMillis;

/// Name of the manifest's file.
pub const MANIFEST: &str = "backup.json";

const FORMAT: u32 = 1;

/// What a backup holds.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub format: u32,
    /// The program that made it.
    pub program: String,
    pub cluster_id: String,
    pub node_id: i32,
    /// When it was asked for: everything acknowledged before is in it.
    pub begun_ms: WallMillis,
    /// Where the data directories were, in the order of the folders `1`, `2`, ...
    pub directories: Vec<PathBuf>,
    /// Path and size of every file.
    pub files: Vec<(PathBuf, u64)>,
}

impl Manifest {
    /// The manifest of the backup in `folder`; `None` if it is no backup.
    pub fn read(folder: &Path) -> Result<Option<Manifest>, String> {
        let path = folder.join(MANIFEST);
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(failed(&e)),
        };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| failed(&e))?;
        if manifest.format != FORMAT {
            return Err(failed(&format!("format {} is not understood, this program knows {FORMAT}", manifest.format)));
        }
        Ok(Some(manifest))
    }

    /// Its data directories in `folder`.
    pub fn folders(&self, folder: &Path) -> impl Iterator<Item = PathBuf> {
        (1..=self.directories.len()).map(|number| folder.join(number.to_string()))
    }

    /// What of the files is not there as it was.
    pub fn missing(&self, folder: &Path) -> Option<String> {
        let wrong = |(path, bytes): &&(PathBuf, u64)| !fs::metadata(folder.join(path)).is_ok_and(|m| m.len() == *bytes);
        self.files.iter().find(wrong).map(|(path, bytes)| format!("{} does not have {bytes} bytes", path.display()))
    }

    /// Makes everything in `folder` durable and then writes the manifest, which lists it.
    pub fn seal(mut self, folder: &Path) -> io::Result<Manifest> {
        self.format = FORMAT;
        let files = sync_tree(folder)?;
        let inside = files.into_iter().map(|(path, bytes)| {
            let path = path.strip_prefix(folder).map(Path::to_owned).unwrap_or(path);
            (path, bytes)
        });
        self.files = inside.collect();
        let mut file = File::create(folder.join(MANIFEST))?;
        file.write_all(&serde_json::to_vec_pretty(&self)?)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(self)
    }
}

/// Syncs every file and folder below `folder`; gives path and size of the files, in order.
pub fn sync_tree(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(sync_tree(&path)?);
        } else {
            let file = File::open(&path)?;
            file.sync_all()?;
            files.push((path, file.metadata()?.len()));
        }
    }
    File::open(folder)?.sync_all()?;
    files.sort();
    Ok(files)
}

/// A second name for a file that never changes any more, or a copy of it on another file system.
pub fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => Err(failure),
        Err(_) => fs::copy(from, to).map(drop),
    }
}

/// Copies the first `bytes` of a file that is being appended to.
pub fn copy_start(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let mut copy = OpenOptions::new().write(true).create_new(true).open(to)?;
    let copied = io::copy(&mut File::open(from)?.take(bytes), &mut copy)?;
    if copied == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Replaces every file below `folder` that has another name elsewhere by a copy of its own.
pub fn own_copies(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            own_copies(&path)?;
        } else if fs::metadata(&path)?.nlink() > 1 {
            let copy = path.with_extension("copy");
            fs::copy(&path, &copy)?;
            fs::rename(&copy, &path)?;
        }
    }
    Ok(())
}
