//! Orders of the operator to a running broker, over a socket file in its first data directory.
//!
//! One order per connection: a line of JSON, answered by a line of JSON. Who may connect is decided by the kernel: the
//! broker's own user and root (docs/decisions/0010). Orders are carried out one after the other. Invariants: nothing
//! here is reachable by the network; a line is bounded, and so is the wait for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::env::{Duplex, Env};
use crate::partitions::Partitions;

use super::backup::Source;

/// Name of the socket file.
pub const SOCKET: &str = "admin.sock";

const LINE_BYTES_MAX: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// What an operator can order.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", tag = "order")]
pub enum Order {
    /// A backup in a folder of the broker's machine, by its absolute path.
    #[serde(rename_all = "camelCase")]
    Backup { destination: PathBuf, own_copies: bool },
}

/// What became of an order.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Done { files: usize, bytes: u64 },
    Failed(String),
}

/// Serves orders for ever, unless the disks are simulated. A broker without a socket still is a broker: that it cannot
/// be made is only said.
pub(super) fn serve(env: &Env, source: Arc<Source>, partitions: &Partitions) {
    let Some(first) = source.directories.first().filter(|_| !env.is_simulated()) else { return };
    let path = first.path.join(SOCKET);
    let listener = match env.bind_local(&path) {
        Ok(listener) => listener,
        Err(failure) => {
            tracing::warn!(%failure, path = %path.display(), "cannot listen for orders: no backups while running");
            return;
        }
    };
    let (of_task, partitions) = (env.clone(), partitions.clone());
    env.spawn(async move {
        loop {
            match listener.accept().await {
                Ok(stream) => obey(&of_task, &source, &partitions, stream).await,
                Err(failure) => {
                    tracing::warn!(%failure, "cannot accept an order");
                    of_task.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
}

async fn obey(env: &Env, source: &Arc<Source>, partitions: &Partitions, stream: Box<dyn Duplex>) {
    let (reading, mut writing) = tokio::io::split(stream);
    let mut line = String::new();
    let mut reading = BufReader::new(reading).take(LINE_BYTES_MAX);
    let Some(Ok(_)) = env.timeout(PATIENCE, reading.read_line(&mut line)).await else { return };
    let answer = match serde_json::from_str(&line) {
        Ok(order) => carry_out(env, source, partitions, order).await,
        Err(malformed) => Answer::Failed(format!("not an order: {malformed}")),
    };
    let Ok(mut text) = serde_json::to_vec(&answer) else { return };
    text.push(b'\n');
    // Who asked may have gone; the order was carried out all the same.
    let _ = env.timeout(PATIENCE, writing.write_all(&text)).await;
}

async fn carry_out(env: &Env, source: &Arc<Source>, partitions: &Partitions, order: Order) -> Answer {
    let Order::Backup { destination, own_copies } = order;
    if !destination.is_absolute() {
        return Answer::Failed(format!("{}: is no absolute path", destination.display()));
    }
    let (of_work, source, shown) = (env.clone(), source.clone(), destination.display().to_string());
    // One directory is copied after the other: no log may move from one that is still to be copied to one that was.
    let _held = partitions.hold_moves().await;
    let made = env.blocking(move || source.back_up(&of_work, &destination, own_copies)).await;
    match made {
        Ok(manifest) => {
            let bytes = manifest.files.iter().map(|(_, bytes)| bytes).sum();
            tracing::info!(to = shown, files = manifest.files.len(), bytes, "backup made");
            Answer::Done { files: manifest.files.len(), bytes }
        }
        Err(why) => {
            tracing::warn!(to = shown, why, "a backup failed");
            Answer::Failed(why)
        }
    }
}
