//! Watches the data directories: how much room they have, and whether they are still there.
//!
//! Invariant: a directory that failed takes its partitions offline, and no others; the last one ends the broker.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Partitions;
use crate::env::Env;
use crate::ids::KafkaUuid;

/// How often it looks. What is written in between is counted by the directory itself.
const PAUSE: Duration = Duration::from_secs(1);

/// The watching task.
pub struct DiskWatch {
    pub env: Env,
    pub partitions: Partitions,
}

impl DiskWatch {
    /// Watches for ever.
    pub async fn run(self) {
        let mut offline = BTreeSet::new();
        loop {
            let partitions = self.partitions.clone();
            self.env.blocking(move || partitions.0.directories.iter().for_each(|directory| directory.look())).await;
            self.take_offline(&mut offline);
            let directories = &self.partitions.0.directories;
            if !directories.is_empty() && offline.len() == directories.len() {
                self.partitions.0.all_failed.send_replace(true);
            }
            self.env.sleep(PAUSE).await;
        }
    }

    /// Takes the partitions of directories offline that are not yet among `offline`.
    fn take_offline(&self, offline: &mut BTreeSet<KafkaUuid>) {
        for directory in &self.partitions.0.directories {
            if directory.engine().poison().is_none() || !offline.insert(directory.id) {
                continue;
            }
            let hosted = self.partitions.all();
            let lost = hosted.iter().filter(|partition| partition.directory() == Some(directory.id));
            let count = lost.map(|partition| partition.take_offline()).count();
            tracing::error!(path = %directory.path.display(), partitions = count, "partitions of a failed disk are offline");
        }
    }
}
