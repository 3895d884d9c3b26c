//! `ottla dump`: an offline look into data directories.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::refuse;
use crate::offline::{self, DumpRequest};

/// Print what data directories hold that no broker is running on: partitions and their batches, records if asked for.
///
/// Records of __consumer_offsets are decoded. Nothing is written. Exit code: 0 printed, 2 it could not be read.
#[derive(Args)]
pub(super) struct Dump {
    /// The data directories of one node (all that log.dirs names), or a backup.
    #[arg(required = true, value_name = "DATA_DIR")]
    directories: Vec<PathBuf>,

    /// Only this topic.
    #[arg(long)]
    topic: Option<String>,

    /// Only this partition.
    #[arg(long)]
    partition: Option<i32>,

    /// Only offsets from the first up to, and without, the second; either may be left out.
    #[arg(long, value_name = "FROM..TO", value_parser = parse_offsets)]
    offsets: Option<Range<i64>>,

    /// Print every record, not only batches.
    #[arg(long)]
    records: bool,

    /// Print the metadata log instead: votes, snapshot, entries and their records.
    #[arg(long)]
    metadata: bool,

    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
}

fn parse_offsets(text: &str) -> Result<Range<i64>, String> {
    let (from, to) = text.split_once("..").ok_or("expected FROM..TO")?;
    let number = |text: &str, otherwise| match text {
        "" => Ok(otherwise),
        text => text.parse::<i64>().map_err(|e| format!("{text}: {e}")),
    };
    Ok(number(from, 0)?..number(to, i64::MAX)?)
}

impl Dump {
    pub(super) fn run(&self) -> ExitCode {
        let request = DumpRequest {
            directories: self.directories.clone(),
            topic: self.topic.clone(),
            partition: self.partition,
            offsets: self.offsets.clone().unwrap_or(0..i64::MAX),
            records: self.records,
            metadata: self.metadata,
            json: self.json,
        };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        // A reader that has seen enough (`| head`) closes the pipe: that is an end, not a failure.
        let dumped = offline::dump(&request, &mut |line| writeln!(out, "{line}").is_ok());
        let _ = out.flush();
        match dumped {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => refuse(&why, 2),
        }
    }
}
