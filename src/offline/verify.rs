//! `ottla verify`: is every byte of these data directories what was written?
//!
//! The whole value log is read once, group by group (their checksums cover every byte of it); every table of RocksDB is
//! read with its checksums; the write-ahead log and manifests are read by us, because RocksDB takes damage at their
//! end for a crash; then rows, batches, metadata and identity are held against each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::{self, Names};
use super::logs::{LogCheck, rows_folder};
use crate::ids::KafkaUuid;
use crate::metadata::StoredMetadata;
use crate::storage::dirs::Identity;
use crate::storage::engine::Frozen;
use crate::storage::findings::{Finding, Severity};

/// How much was looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    pub logs: u64,
    pub batches: u64,
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
}

/// What was found in data directories.
#[derive(Default, Debug)]
pub struct Report {
    pub counts: Counts,
    pub findings: Vec<Finding>,
}

impl Report {
    /// True if something is not as it was written.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Damage)
    }
}

/// Examines data directories of one node, or a backup of them. The error says why that is not possible, for example
/// because a broker is running on one.
pub fn verify(paths: &[PathBuf]) -> Result<Report, String> {
    let paths = directory::directories(paths)?;
    let _locks = paths.iter().map(|path| directory::lock(path)).collect::<Result<Vec<_>, _>>()?;
    let mut report = Report::default();
    let mut metadata: Option<(PathBuf, StoredMetadata)> = None;
    for path in &paths {
        match directory::metadata(path, &mut report.findings) {
            Ok(Some(stored)) => metadata = metadata.or(Some((path.clone(), stored))),
            Ok(None) => {}
            Err(why) => report.findings.push(Finding::damage(&path.join("metadata"), None, why)),
        }
    }
    let names = Names(Arc::new(metadata.as_ref().map(|(_, stored)| stored.image.clone()).unwrap_or_default()));
    for path in &paths {
        match Identity::read(path) {
            Err(why) => report.findings.push(Finding::damage(&path.join("meta.properties"), None, why)),
            Ok(None) => {
                let finding = Finding::damage(&path.join("meta.properties"), None, "is not there");
                report.findings.push(finding);
            }
            Ok(Some(identity)) => check_identity(path, &identity, metadata.as_ref(), &mut report.findings),
        }
        if path.join("records").is_dir() {
            check_records(path, &names, &mut report);
        }
    }
    report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(report)
}

fn check_records(path: &Path, names: &Names, report: &mut Report) {
    let Report { counts, findings } = report;
    let records = path.join("records");
    let frozen = match Frozen::open(&records, true, findings) {
        Ok(frozen) => frozen,
        Err(poison) => {
            findings.push(Finding::damage(&records, None, format!("cannot be opened: {}", poison.0)));
            return;
        }
    };
    let checked = frozen.check_tables(findings).and_then(|()| {
        let rows = rows_folder(path);
        LogCheck { frozen: &frozen, rows, names, findings, counts }.run()
    });
    if let Err(poison) = checked {
        report.findings.push(Finding::damage(&records, None, poison.0));
    }
}

/// `meta.properties` has no checksum: it must be exactly what we write, and say what the metadata says.
fn check_identity(
    path: &Path,
    identity: &Identity,
    metadata: Option<&(PathBuf, StoredMetadata)>,
    findings: &mut Vec<Finding>,
) {
    let file = path.join("meta.properties");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    // Kafka's own tool begins with an empty comment and the date.
    if text != identity.text() && !text.starts_with("#\n#") {
        findings.push(Finding::damage(&file, None, "is not as ottla writes it"));
    }
    let Some((home, stored)) = metadata else { return };
    let mut differs = |what: &str, ours: String, theirs: String| {
        let what = format!("{what} is {ours}, the metadata says {theirs}");
        findings.push(Finding::damage(&file, None, what));
    };
    let cluster = stored.image.cluster_id;
    if !cluster.is_zero() && identity.cluster_id != cluster.to_string() {
        differs("cluster.id", identity.cluster_id.clone(), cluster.to_string());
    }
    let Some((node, directory)) = stored.voters.first().copied() else { return };
    if node != identity.node_id {
        differs("node.id", identity.node_id.to_string(), node.to_string());
    }
    let broker = stored.image.brokers.iter().find(|broker| broker.id.0 == node);
    let known: Vec<KafkaUuid> = broker.map(|broker| broker.log_dirs.clone()).unwrap_or_default();
    let is_known = known.is_empty() || known.contains(&identity.directory_id);
    if !is_known || (home == path && identity.directory_id != directory) {
        differs("directory.id", identity.directory_id.to_string(), directory.to_string());
    }
}
