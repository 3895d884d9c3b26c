//! Who does what on which host of a cluster's clients.

mod admin;
pub mod auditor;
mod committer;
mod consumer;
mod producer;
mod straggler;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use futures_util::future::join_all;

use super::Cluster;
use super::caller::{Caller, PORT};
use super::plan::NODES;
use crate::client::Client;
use crate::workload::{Actor, member};

type Part = Pin<Box<dyn Future<Output = ()>>>;

/// Everything that the clients of one host do until the load is over.
pub async fn play(cluster: Rc<Cluster>, seed: u64, host: usize) -> turmoil::Result {
    let caller = |name: &str| Caller::new(&cluster, seed, name);
    let member = |name: &str| {
        let targets = NODES[..cluster.nodes.len()].iter().map(|node| (*node, PORT)).collect();
        Actor::with(Client::among(name, &cluster.stage, targets), &cluster.stage, seed)
    };
    let parts: Vec<Part> = match host {
        0 => vec![
            Box::pin(admin::run(caller("admin"))),
            Box::pin(producer::run_idempotent(caller("sure-0"))),
            Box::pin(consumer::run(caller("reader-0"))),
            Box::pin(committer::run(caller("solo-a"), "solo-a")),
            Box::pin(member::run(member("member-0"), "team")),
        ],
        1 => vec![
            Box::pin(producer::run_plain(caller("plain-0"))),
            Box::pin(producer::run_idempotent(caller("sure-1"))),
            Box::pin(straggler::run(caller("straggler"))),
        ],
        _ => vec![
            Box::pin(producer::run_plain(caller("plain-1"))),
            Box::pin(producer::run_weak(caller("weak-0"))),
            Box::pin(consumer::run(caller("reader-1"))),
            Box::pin(committer::run(caller("solo-b"), "solo-b")),
            Box::pin(member::run(member("member-2"), "team")),
        ],
    };
    join_all(parts).await;
    Ok(())
}
