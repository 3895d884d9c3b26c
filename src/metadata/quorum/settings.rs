//! What the settings of a node say about the quorum, and what follows from them and from its directory.

use std::collections::BTreeMap;

use crate::ids::BrokerId;
use crate::metadata::quorum::founding::Founding;
use crate::metadata::quorum::types::{Member, MemberEndpoint, VoterId};
use crate::metadata::quorum::{StartError, Timing};
use crate::peer::Address;

/// What the settings of a node say about the quorum.
#[derive(Clone, Debug)]
pub struct QuorumSettings {
    /// `process.roles` names a controller.
    pub controller: bool,
    /// `controller.quorum.voters`.
    pub voters: BTreeMap<BrokerId, Address>,
    /// `controller.quorum.bootstrap.servers`.
    pub bootstrap: Vec<Address>,
    /// Where this node's controller listens, in the order of `controller.listener.names`.
    pub endpoints: Vec<MemberEndpoint>,
    /// `controller.quorum.auto.join.enable`.
    pub auto_join: bool,
    /// The directory was formatted by hand, not by this start. One that `storage format` has made says so itself.
    pub formatted: bool,
    pub timing: Timing,
}

impl Default for QuorumSettings {
    /// A node that is its own quorum.
    fn default() -> QuorumSettings {
        QuorumSettings {
            controller: true,
            voters: BTreeMap::new(),
            bootstrap: Vec::new(),
            endpoints: Vec::new(),
            auto_join: false,
            formatted: false,
            timing: Timing::default(),
        }
    }
}

impl QuorumSettings {
    /// Addresses at which some controller is found.
    pub fn seeds(&self) -> Vec<Address> {
        let mut seeds = self.bootstrap.clone();
        seeds.extend(self.voters.values().filter(|address| !self.bootstrap.contains(address)).cloned());
        seeds.retain(|address| self.endpoints.iter().all(|endpoint| endpoint.address != *address));
        seeds
    }

    /// What the membership shall say of this controller.
    pub fn member(&self) -> Member {
        Member { endpoints: self.endpoints.clone() }
    }

    /// True if the voters are in the log; false if they are a setting.
    pub fn has_dynamic_voters(&self) -> bool {
        self.voters.is_empty()
    }

    /// How this controller becomes part of a quorum. Its directory was formatted by hand, or not; `first` are the
    /// voters it was formatted with, if it was with any.
    pub fn founding(
        &self,
        node: BrokerId,
        formatted: bool,
        first: Option<BTreeMap<VoterId, Member>>,
    ) -> Result<Founding, StartError> {
        if self.voters.keys().any(|voter| *voter != node) {
            if !self.voters.contains_key(&node) {
                let why = format!("node.id={node}: this controller is not in controller.quorum.voters");
                return Err(StartError::Identity(why));
            }
            return Ok(Founding::Static { voters: self.voters.clone(), formatted: formatted || self.formatted });
        }
        Ok(match first {
            Some(first) => Founding::Dynamic { first },
            // Others are there to be joined.
            None if self.voters.is_empty() && !self.seeds().is_empty() => Founding::Dynamic { first: BTreeMap::new() },
            None => Founding::Alone,
        })
    }
}
