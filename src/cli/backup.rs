//! `ottla backup` and `ottla restore`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{print_line, refuse};
use crate::config::Loaded;
use crate::env::Env;
use crate::offline;
use crate::server::{Answer, Order, SOCKET};

/// Copy a running broker, consistently, while it serves.
///
/// Everything acknowledged before the command began is in the backup: records, topics, settings, groups and their
/// offsets. The broker itself makes it, on its own machine: run this there, as its user or root, with the --data-dir,
/// --config or KAFKA_LOG_DIRS that the broker runs with. On one file system, files that never change again are shared
/// with the broker by hard links, which makes a backup quick and small: copy it elsewhere, or use --copy, for it to
/// outlive the disk. Check it with `ottla verify DEST`, use it with `ottla restore`.
///
/// Exit code: 0 done, 1 failed, 2 the broker could not be asked.
#[derive(Args)]
pub(super) struct Backup {
    /// A folder that is empty or does not exist.
    #[arg(value_name = "DEST")]
    destination: PathBuf,

    /// Share no file with the broker: every byte is copied.
    #[arg(long)]
    copy: bool,
}

impl Backup {
    pub(super) fn run(&self, loaded: &Loaded) -> ExitCode {
        let Some(directory) = loaded.config.broker().log_dirs.first() else {
            return refuse("log.dirs: names no directory", 2);
        };
        let destination = match std::path::absolute(&self.destination) {
            Ok(destination) => destination,
            Err(failure) => return refuse(&format!("{}: {failure}", self.destination.display()), 2),
        };
        let order = Order::Backup { destination, own_copies: self.copy };
        match ask(Path::new(directory), &order) {
            Err(why) => refuse(&why, 2),
            Ok(Answer::Failed(why)) => refuse(&why, 1),
            Ok(Answer::Done { files, bytes }) => {
                print_line(format!("{}: {files} files, {bytes} bytes", self.destination.display()));
                ExitCode::SUCCESS
            }
        }
    }
}

fn ask(directory: &Path, order: &Order) -> Result<Answer, String> {
    let socket = directory.join(SOCKET);
    let stream = Env::real().connect_local(&socket);
    let stream = stream.map_err(|e| format!("no broker answers at {}: {e}", socket.display()))?;
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", socket.display());
    let mut line = serde_json::to_string(order).map_err(|e| failed(&e))?;
    line.push('\n');
    (&stream).write_all(line.as_bytes()).map_err(|e| failed(&e))?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).map_err(|e| failed(&e))?;
    serde_json::from_str(&answer).map_err(|_| failed(&"the broker ended before it answered"))
}

/// Make data directories from a backup.
///
/// They are copies: the backup stays as it is. A broker started on them is the one that was copied, with its cluster id
/// and node id; do not run both in one network under one name.
///
/// Exit code: 0 done, 1 refused or failed.
#[derive(Args)]
pub(super) struct Restore {
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,

    /// As many as the backup has, each empty or not there yet; in the order of log.dirs.
    #[arg(required = true, value_name = "DATA_DIR")]
    directories: Vec<PathBuf>,
}

impl Restore {
    pub(super) fn run(&self) -> ExitCode {
        match offline::restore(&self.backup, &self.directories) {
            Err(why) => refuse(&why, 1),
            Ok(manifest) => {
                let (node, cluster) = (manifest.node_id, manifest.cluster_id);
                print_line(format!("restored node {node} of cluster {cluster} as of {} ms", manifest.begun_ms));
                ExitCode::SUCCESS
            }
        }
    }
}
