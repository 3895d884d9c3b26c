//! How a node becomes part of a quorum: alone, as one of a fixed list, or by what its directory was formatted with.
//!
//! Invariant: a voter that may have promised something before it lost its disk does not promise anew. A dynamic voter
//! is a stranger with a new directory. A static one has its node's id only: if its directory was not formatted for the
//! purpose, it first asks every other voter, and goes on only if none has ever heard of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::errors::RaftError;

use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::quorum::messages::{Answer, Question};
use crate::metadata::quorum::types::{Member, VoterId};
use crate::metadata::quorum::{Quorum, StartError, quorum_error};
use crate::peer::Address;

/// How long a voter may take to say what it knows of another, and the pause before it is asked again.
const STANDING_PATIENCE: Duration = Duration::from_secs(2);
const STANDING_PAUSE: Duration = Duration::from_millis(200);

/// What a quorum begins with.
#[derive(Clone, Debug)]
pub enum Founding {
    /// This node is all of it.
    Alone,
    /// `controller.quorum.voters` names several.
    Static {
        voters: BTreeMap<BrokerId, Address>,
        /// The directory was formatted by hand: its owner says that this node has promised nothing.
        formatted: bool,
    },
    /// The voters are in the log. A directory that was formatted with the first ones begins with them; any other waits
    /// to be added.
    Dynamic { first: BTreeMap<VoterId, Member> },
}

impl Founding {
    /// The raft id of this node.
    pub fn voter_id(&self, node: BrokerId, directory: KafkaUuid) -> VoterId {
        match self {
            Founding::Static { .. } => VoterId::new(node, KafkaUuid::ZERO),
            Founding::Alone | Founding::Dynamic { .. } => VoterId::new(node, directory),
        }
    }

    /// Addresses that are a setting.
    pub fn fixed_addresses(&self) -> BTreeMap<BrokerId, Address> {
        match self {
            Founding::Static { voters, .. } => voters.clone(),
            Founding::Alone | Founding::Dynamic { .. } => BTreeMap::new(),
        }
    }
}

impl Quorum {
    /// Begins the quorum, or goes on with the one that the store knows.
    pub(super) async fn found(&self, founding: Founding, member: Member) -> Result<(), StartError> {
        let me = self.sender.me;
        // The core answers only after it has published who votes and who leads, so the metrics read below are true.
        if self.raft.is_initialized().await.map_err(quorum_error)? {
            self.check_voters(&founding)?;
            self.admit();
            if self.is_alone() && !self.raft.is_leader() {
                // Nobody else can lead: no need to wait for a timeout.
                self.raft.trigger().elect(false).await.map_err(quorum_error)?;
            }
        } else {
            match founding {
                Founding::Alone => return self.begin_alone(member).await,
                Founding::Static { voters, formatted: true } => self.begin(static_members(&voters)).await?,
                Founding::Static { voters, formatted: false } => {
                    let quorum = self.clone();
                    self.env.spawn(async move { quorum.ask_before_beginning(voters).await });
                }
                Founding::Dynamic { mut first } => match (first.remove(&me), first.is_empty()) {
                    (Some(member), true) => return self.begin_alone(member).await,
                    (Some(member), false) => {
                        first.insert(me, member);
                        self.begin(first).await?;
                    }
                    // Somebody has to add it.
                    (None, _) => self.admit(),
                },
            }
        }
        if self.is_alone() {
            return self.leading().await.map_err(StartError::Quorum);
        }
        Ok(())
    }

    async fn begin_alone(&self, member: Member) -> Result<(), StartError> {
        self.begin(BTreeMap::from([(self.sender.me, member)])).await?;
        self.leading().await.map_err(StartError::Quorum)
    }

    fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    async fn begin(&self, members: BTreeMap<VoterId, Member>) -> Result<(), StartError> {
        self.raft.initialize(members).await.map_err(quorum_error)?;
        self.admit();
        Ok(())
    }

    /// Refuses a store whose voters are not those of the settings.
    fn check_voters(&self, founding: &Founding) -> Result<(), StartError> {
        let me = self.sender.me;
        let voters: BTreeSet<VoterId> = self.raft.voter_ids().collect();
        let expected = match founding {
            Founding::Alone => BTreeSet::from([me]),
            Founding::Static { voters, .. } => static_members(voters).into_keys().collect(),
            // They are whoever the log says, with or without this node.
            Founding::Dynamic { .. } => return Ok(()),
        };
        if voters == expected || (matches!(founding, Founding::Alone) && voters.contains(&me)) {
            return Ok(());
        }
        let named = |voters: &BTreeSet<VoterId>| voters.iter().map(VoterId::to_string).collect::<Vec<_>>().join(", ");
        Err(StartError::Identity(match founding {
            Founding::Static { .. } => {
                format!("its voters are [{}], controller.quorum.voters says [{}]", named(&voters), named(&expected))
            }
            _ => format!("its voters are [{}], this is {me}", named(&voters)),
        }))
    }

    /// Begins with the voters of the settings once every other one has said that it never heard of this node.
    async fn ask_before_beginning(&self, voters: BTreeMap<BrokerId, Address>) {
        let me = self.sender.me;
        for (node, address) in voters.iter().filter(|(node, _)| node.0 != me.node) {
            let other = VoterId::new(*node, KafkaUuid::ZERO);
            let peer = self.sender.peer(address.clone());
            let mut asked = false;
            loop {
                match self.sender.ask(&peer, Some(other), &Question::Standing, STANDING_PATIENCE).await {
                    Ok(Answer::Standing(standing)) if standing.has_heard_of_you => {
                        return self.condemn(format!(
                            "controller {node} has heard of this controller before, and its metadata directory is \
                             empty: if it was lost, empty and format it (storage format) to take part again, or a \
                             vote that was cast might be cast twice"
                        ));
                    }
                    Ok(Answer::Standing(_)) => break,
                    Ok(_) => tracing::warn!(controller = %node, "answers something else than it was asked"),
                    Err(why) if !asked => {
                        tracing::info!(controller = %node, why, "waiting for every controller, because this one's \
                                       directory was not formatted by hand");
                    }
                    Err(_) => {}
                }
                asked = true;
                self.env.sleep(STANDING_PAUSE).await;
            }
        }
        match self.raft.initialize(static_members(&voters)).await {
            Ok(()) => self.admit(),
            Err(RaftError::Fatal(fatal)) => tracing::info!(%fatal, "ended before the quorum was formed"),
            Err(RaftError::APIError(refused)) => self.condemn(format!("the quorum cannot be formed: {refused}")),
        }
    }
}

/// Static voters have no directory and no endpoints: every node has the same list in its settings.
fn static_members(voters: &BTreeMap<BrokerId, Address>) -> BTreeMap<VoterId, Member> {
    voters.keys().map(|node| (VoterId::new(*node, KafkaUuid::ZERO), Member::default())).collect()
}
