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

/// The key of the one API that is ours: what members of the quorum, and brokers outside it, ask its controllers. It is
/// served on the listeners of controllers only and is never advertised. Its bodies are opaque here; its headers have
/// tagged fields, as those of every recent API.
pub const PRIVATE_API: i16 = 1000;

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
