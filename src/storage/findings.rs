//! What an examination of a data directory found: where, and what it means.
//!
//! Invariant: a finding is for a person; nothing in the broker decides by it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::ids::Offset;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Worth knowing, nothing is lost: what a crash leaves behind and the next start tidies up.
    Note,
    /// Bytes are not what was written, or rows contradict each other.
    Damage,
}

/// One thing that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub severity: Severity,
    pub file: PathBuf,
    /// Byte position in the file, where there is one.
    pub at: Option<u64>,
    /// `topic-partition`, where it is known.
    pub partition: Option<String>,
    /// First and last offset concerned.
    pub offsets: Option<(Offset, Offset)>,
    pub what: String,
}

impl Finding {
    pub fn damage(file: &Path, at: Option<u64>, what: impl Into<String>) -> Finding {
        Finding::of(Severity::Damage, file, at, what)
    }

    pub fn note(file: &Path, at: Option<u64>, what: impl Into<String>) -> Finding {
        Finding::of(Severity::Note, file, at, what)
    }

    fn of(severity: Severity, file: &Path, at: Option<u64>, what: impl Into<String>) -> Finding {
        Finding { severity, file: file.to_owned(), at, partition: None, offsets: None, what: what.into() }
    }

    /// Names the partition, and the offsets if any, that are concerned.
    pub fn of_partition(mut self, partition: &str, offsets: Option<(Offset, Offset)>) -> Finding {
        self.partition = Some(partition.to_owned());
        self.offsets = offsets;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Damage => "damage",
        };
        write!(f, "{severity}: {}", self.file.display())?;
        if let Some(at) = self.at {
            write!(f, " at byte {at}")?;
        }
        if let Some(partition) = &self.partition {
            write!(f, ", {partition}")?;
        }
        match self.offsets {
            Some((first, last)) if first == last => write!(f, " offset {first}")?,
            Some((first, last)) => write!(f, " offsets {first}..{last}")?,
            None => {}
        }
        write!(f, ": {}", self.what)
    }
}
