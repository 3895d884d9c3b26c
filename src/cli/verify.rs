//! `ottla verify`: an offline look at data directories.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{print_line, refuse};
use crate::offline::{self, Report};

/// Check every byte of data directories that no broker is running on.
///
/// Checked are: every group of the value log, every table, log and manifest of RocksDB, every row, batch and record,
/// the order of offsets and leader epochs, the metadata log, and the identity file. Nothing is written.
///
/// Exit code: 0 all is as it was written (notes are what a crash leaves behind, the next start tidies up), 1 damage was
/// found, 2 it could not be checked, for example because a broker is running.
#[derive(Args)]
pub(super) struct Verify {
    /// The data directories of one node (all that log.dirs names), or a backup.
    #[arg(required = true, value_name = "DATA_DIR")]
    directories: Vec<PathBuf>,

    /// Print one JSON object per finding, and one with the counts at the end.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(&self) -> ExitCode {
        match offline::verify(&self.directories) {
            Err(why) => refuse(&why, 2),
            Ok(report) => {
                self.print(&report);
                ExitCode::from(u8::from(report.is_damaged()))
            }
        }
    }

    fn print(&self, report: &Report) {
        let counts = report.counts;
        if !self.json {
            for finding in &report.findings {
                print_line(finding);
            }
            let verdict = if report.is_damaged() { "damaged" } else { "sound" };
            let (logs, batches, records, bytes) = (counts.logs, counts.batches, counts.records, counts.bytes);
            print_line(format!("{verdict}: {logs} partitions, {batches} batches, {records} records, {bytes} bytes"));
            return;
        }
        for finding in &report.findings {
            print_line(json!({
                "severity": format!("{:?}", finding.severity).to_lowercase(),
                "file": finding.file,
                "at": finding.at,
                "partition": finding.partition,
                "firstOffset": finding.offsets.map(|(first, _)| first),
                "lastOffset": finding.offsets.map(|(_, last)| last),
                "what": finding.what,
            }));
        }
        print_line(json!({
            "damaged": report.is_damaged(),
            "partitions": counts.logs,
            "batches": counts.batches,
            "records": counts.records,
            "bytes": counts.bytes,
        }));
    }
}
