//! The voters of the quorum as operators and other controllers see and change them (KIP-853).

use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::quorum::{Member, MemberEndpoint, Quorum, QuorumState, VoterChange, VoterId};
use crate::metadata::{Metadata, Part};
use crate::peer::Peer;

/// How long a new voter may take to say what it supports.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// The version in which features with a lowest level of 0 are told (KAFKA-17011).
const PROBE_VERSION: i16 = 4;

const KRAFT_VERSION: &str = "kraft.version";

impl Metadata {
    /// Refuses what was meant for another cluster.
    pub fn check_cluster(&self, cluster_id: Option<&str>) -> Result<(), ApiError> {
        let ours = self.image().cluster_id.to_string();
        match cluster_id {
            Some(theirs) if theirs != ours => {
                let why = format!("This is cluster {ours}, not {theirs}.");
                Err(ApiError::new(ErrorCode::InconsistentClusterId, why))
            }
            _ => Ok(()),
        }
    }

    /// The controllers that vote, and where they listen, as far as this controller knows; nobody if it is none.
    pub fn controllers(&self) -> Vec<(BrokerId, Vec<MemberEndpoint>)> {
        match &self.part {
            Part::Controller { quorum, .. } => quorum.controllers(),
            Part::Outside { .. } => Vec::new(),
        }
    }

    /// The quorum as its leader sees it; `None` if this node does not lead it.
    pub fn quorum_state(&self) -> Option<QuorumState> {
        match &self.part {
            Part::Controller { quorum, .. } => quorum.describe(),
            Part::Outside { .. } => None,
        }
    }

    /// Adds a voter that is there, has everything and supports what the quorum does. Returns once that is committed or,
    /// without `until_committed`, once nothing stands in its way any more.
    pub async fn add_voter(
        &self,
        id: BrokerId,
        directory: KafkaUuid,
        member: Member,
        patience: Duration,
        until_committed: bool,
    ) -> Result<(), ApiError> {
        let (quorum, voter) = (self.leading()?, VoterId::new(id, directory));
        self.check_identity(directory, Some(&member))?;
        let change = VoterChange::Add(member.clone());
        quorum.would_change(voter, &change)?;
        if let Some(endpoint) = member.endpoints.first() {
            let peer = Peer::new(&self.env, endpoint.address.clone(), &format!("add-voter-{}", self.registration.id));
            self.check_support(voter, &peer).await?;
        }
        quorum.change_voter(voter, change, patience, until_committed).await
    }

    /// Removes a voter; if it is the leader, another one leads afterwards.
    pub async fn remove_voter(&self, id: BrokerId, directory: KafkaUuid, patience: Duration) -> Result<(), ApiError> {
        let quorum = self.leading()?;
        self.check_identity(directory, None)?;
        quorum.change_voter(VoterId::new(id, directory), VoterChange::Remove, patience, true).await
    }

    /// Notes where a voter listens, and what it supports (`kraft.version`, both ends inclusive).
    pub async fn update_voter(
        &self,
        id: BrokerId,
        directory: KafkaUuid,
        member: Member,
        supported: (i16, i16),
    ) -> Result<(), ApiError> {
        let (quorum, voter) = (self.leading()?, VoterId::new(id, directory));
        self.check_identity(directory, Some(&member))?;
        let change = VoterChange::Update(member);
        quorum.would_change(voter, &change)?;
        self.check_range(voter, Some(supported))?;
        quorum.change_voter(voter, change, PROBE_PATIENCE, false).await
    }

    /// The quorum, if its leadership is this node's.
    fn leading(&self) -> Result<&Quorum, ApiError> {
        match &self.part {
            Part::Controller { quorum, .. } if self.is_active() => Ok(quorum),
            Part::Controller { quorum, .. } if quorum.describe().is_some() => {
                let why = "The leader has not yet committed anything of its own.";
                Err(ApiError::new(ErrorCode::RequestTimedOut, why))
            }
            _ => Err(ApiError::new(ErrorCode::NotLeaderOrFollower, "This node does not lead the quorum.")),
        }
    }

    /// A dynamic voter has a directory, and listens where this one does.
    fn check_identity(&self, directory: KafkaUuid, member: Option<&Member>) -> Result<(), ApiError> {
        let Part::Controller { listener, .. } = &self.part else { return Ok(()) };
        if directory.is_zero() {
            return Err(ApiError::new(ErrorCode::InvalidRequest, "A voter has a directory id."));
        }
        let listens =
            |member: &Member| member.endpoints.iter().any(|endpoint| Some(&endpoint.listener) == listener.as_ref());
        if let (Some(listener), false) = (listener, member.is_none_or(listens)) {
            let why = format!("The voter has no endpoint for the default listener {listener}.");
            return Err(ApiError::new(ErrorCode::InvalidRequest, why));
        }
        Ok(())
    }

    async fn check_support(&self, voter: VoterId, peer: &Peer) -> Result<(), ApiError> {
        let software = |text| StrBytes::from_static_str(text);
        let request = ApiVersionsRequest::default()
            .with_client_software_name(software("ottla"))
            .with_client_software_version(software(env!("CARGO_PKG_VERSION")));
        let answer = peer.call(PROBE_VERSION, &request, PROBE_PATIENCE).await;
        let answer = match answer {
            Ok(answer) if answer.error_code == 0 => answer,
            Ok(answer) => {
                let code = ErrorCode::from_code(answer.error_code).name();
                return Err(ApiError::new(
                    ErrorCode::RequestTimedOut,
                    format!("{voter} answers ApiVersions with {code}."),
                ));
            }
            Err(failed) => {
                let why = format!("New voter {voter} is not ready to receive requests: {failed}");
                return Err(ApiError::new(ErrorCode::RequestTimedOut, why));
            }
        };
        self.check_range(voter, supported(&answer))
    }

    fn check_range(&self, voter: VoterId, supported: Option<(i16, i16)>) -> Result<(), ApiError> {
        let level = self.image().features.level(KRAFT_VERSION);
        let (min, max) = supported.unwrap_or((0, 0));
        if (min..=max).contains(&level) {
            return Ok(());
        }
        let why = format!("{voter} supports {KRAFT_VERSION} from {min} to {max}, the quorum is at {level}.");
        Err(ApiError::new(ErrorCode::InvalidRequest, why))
    }
}

fn supported(answer: &ApiVersionsResponse) -> Option<(i16, i16)> {
    let mut features = answer.supported_features.iter();
    features.find(|feature| &*feature.name == KRAFT_VERSION).map(|feature| (feature.min_version, feature.max_version))
}
