//! Bytes on a client's connection: frames, headers, the shape of every message, and replies ready to be written.
//!
//! A request comes in as a [`frame`] (four bytes of size, then the rest), starts with a [`header`], and its body is
//! walked by [`guard`] along its [`schema`] before the protocol crate decodes it. A reply goes out as a
//! [`reply::Response`]: one buffer of our own and any number of slices that were never copied. Versions that the crate
//! lacks go over a [`bridge`], both ways. [`generate`] makes random bodies for tests.
//!
//! Invariants: nothing here opens a socket or awaits. No length read from the wire is used before it was compared with
//! the bytes that are there. The guard has always run before the protocol crate decodes, because the crate allocates
//! whatever an array count asks for.

pub mod bridge;
pub mod frame;
pub mod generate;
pub mod guard;
pub mod header;
pub mod primitives;
pub mod reply;
pub mod schema;

/// Why bytes could not be read as what they should be. Only ever logged: the connection is closed without an answer, as
/// Kafka does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// What is wrong.
    pub reason: &'static str,
    /// Position of the offence in the bytes that were walked.
    pub at: usize,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.at)
    }
}
