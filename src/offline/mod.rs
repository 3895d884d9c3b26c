//! What an operator does with data directories while no broker runs on them: examine, print, prepare, put back.
//!
//! Invariants: a directory's lock is held as long as it is looked at; `verify` and `dump` write nothing into it; output
//! is text for people or JSON lines for programs, and goes to the writer that the caller gave.

mod directory;
mod dump;
pub mod features;
mod format;
mod logs;
mod restore;
mod verify;

pub use dump::{DumpRequest, dump};
pub use format::{FormatRequest, Quorum, format, info};
pub use restore::restore;
pub use verify::{Report, verify};
