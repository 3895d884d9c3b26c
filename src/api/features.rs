//! The features this broker supports (KIP-584): name, lowest and highest level, and what a new cluster starts with.
//!
//! Only what is built is listed. Levels are Kafka's numbers, because tools print them by Kafka's names.

/// One supported feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SupportedFeature {
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
    /// The level a new cluster finalizes; 0 leaves the feature off.
    pub initial: i16,
}

/// `metadata.version` 7 is 3.3-IV3, the lowest Kafka 4 knows; 30 is 4.3-IV0.
/// `kraft.version` 1 is a quorum whose voters are in the log (KIP-853); a new cluster has it unless its settings name
/// the voters.
const SUPPORTED: &[SupportedFeature] = &[
    SupportedFeature { name: "kraft.version", min: 0, max: 1, initial: 1 },
    SupportedFeature { name: "metadata.version", min: 7, max: 30, initial: 30 },
    SupportedFeature { name: "eligible.leader.replicas.version", min: 0, max: 1, initial: 1 },
];

/// Every supported feature.
pub fn supported_features() -> &'static [SupportedFeature] {
    SUPPORTED
}
