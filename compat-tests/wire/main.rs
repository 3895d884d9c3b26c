//! Wire tests: a whole broker in this process, spoken to over real sockets.
//!
//! * ground: `broker` starts one, `client` speaks frames and checks every answer to its last byte, `batch` builds
//!   record batches without the broker's own code, `asks` has the requests that many tests send;
//! * `versions`: every version of every API that is advertised, with what each version changes;
//! * `quirks`, `order`: what a connection does; `topics`: how they come and go; `produce_rules`, `producers`: what may be
//!   written; `fetch_rules`, `sessions`, `offsets`: what is read; `members`: groups that grow and shrink;
//! * `compaction`: what is left of a compacted topic; `controllers`: nodes that are no brokers;
//! * `disks`: disks that fill up, fail and are damaged; `moves`: replicas that go from one to another (`replicas` says
//!   where they are);
//! * `settings`: what changes while the broker runs;
//! * `quotas`: clients that are told to wait;
//! * `limits`, `absurd`, `hostile`, `hostile_batches`: clients that take too much, ask for too much, and lie.
//!
//! `OTTLA_FRAMES` is the number of hostile frames: 5,000 unless it says otherwise.
//!
//! Invariants: no test sleeps, none asserts how long something took. What a test waits for is an answer, the end of a
//! connection, or a state that it asks for until it is there. A read that gets nothing for [`client::PATIENCE`] fails.

mod absurd;
mod asks;
mod batch;
mod broker;
mod client;
mod compaction;
mod controllers;
mod disks;
mod fetch_rules;
mod hostile;
mod hostile_batches;
mod limits;
mod members;
mod moves;
mod offsets;
mod order;
mod produce_rules;
mod producers;
mod quirks;
mod quotas;
mod replicas;
mod sessions;
mod settings;
mod topics;
mod versions;
