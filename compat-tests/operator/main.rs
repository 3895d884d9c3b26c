//! Operator tests: the program as an operator uses it, beside a running broker and on the directories it leaves.
//!
//! * ground: `broker` runs the built program on a directory and a port of its own; clients are those of the wire tests;
//! * `backup`: copies of a running broker, put back;
//! * `doctor`: probes of a broker;
//! * `dump`: what is stored, readable;
//! * `moves`: a broker killed while a replica moves between its directories;
//! * `storage`: what kafka-storage.sh does;
//! * `verify`: every byte that is changed in a data directory is found.
//!
//! `OTTLA_FLIPS` is the number of bytes that are changed, one at a time: 400 unless it says otherwise.
//!
//! Invariants: no test sleeps; a broker is gone when its test ends, however it ends.

#![allow(clippy::disallowed_methods, reason = "tests have no Env")]

#[allow(dead_code, reason = "shared with the wire tests")]
#[path = "../wire/asks.rs"]
mod asks;
mod backup;
#[allow(dead_code, reason = "shared with the wire tests")]
#[path = "../wire/batch.rs"]
mod batch;
mod broker;
#[allow(dead_code, reason = "shared with the wire tests")]
#[path = "../wire/client.rs"]
mod client;
mod doctor;
mod dump;
mod groups;
mod moves;
#[path = "../wire/replicas.rs"]
mod replicas;
mod storage;
mod verify;
