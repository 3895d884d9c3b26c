//! A node that has the metadata and no part in the quorum: `process.roles=broker`.

use std::sync::Arc;

use crate::env::Env;
use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::image::ClusterImage;
use crate::metadata::quorum::network::Sender;
use crate::metadata::quorum::published::Published;
use crate::metadata::quorum::pull::{LeaderHint, Puller};
use crate::metadata::quorum::roster::Roster;
use crate::metadata::quorum::settings::QuorumSettings;
use crate::metadata::quorum::types::VoterId;
use crate::peer::Address;

/// What a node outside the quorum knows. Cheap to clone.
#[derive(Clone)]
pub struct Outside {
    published: Arc<Published>,
    leader: LeaderHint,
}

impl Outside {
    /// Starts to pull; returns before anything is known.
    pub fn start(
        env: &Env,
        node: BrokerId,
        directory: KafkaUuid,
        cluster_id: KafkaUuid,
        settings: &QuorumSettings,
    ) -> Outside {
        let published = Published::new(ClusterImage::default(), 0, 0);
        let sender = Sender {
            env: env.clone(),
            me: VoterId::new(node, directory),
            cluster_id,
            published: published.clone(),
            roster: Arc::new(Roster::of_nobody()),
        };
        let leader = LeaderHint::default();
        env.spawn(Puller::new(sender, settings.seeds(), leader.clone()).run(|| true));
        Outside { published, leader }
    }

    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// The newest leader that a controller named, and where it listens.
    pub fn leader(&self) -> Option<(BrokerId, Option<Address>)> {
        self.leader.lock().clone()
    }
}
