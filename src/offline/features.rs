//! Kafka's features and releases, as its storage tool knows them (`MetadataVersion`, `Feature`; KIP-584, KIP-1022).
//!
//! Facts of Kafka 4.3, whatever this broker supports of them. Pure.

/// The feature that releases are named by.
pub const METADATA_VERSION: &str = "metadata.version";

/// The level of the newest stable release.
pub const LATEST_PRODUCTION: i16 = 30;

/// Release and interim version of every level, from the lowest that Kafka 4 knows.
const VERSIONS: &[(i16, &str, u8)] = &[
    (7, "3.3", 3),
    (8, "3.4", 0),
    (9, "3.5", 0),
    (10, "3.5", 1),
    (11, "3.5", 2),
    (12, "3.6", 0),
    (13, "3.6", 1),
    (14, "3.6", 2),
    (15, "3.7", 0),
    (16, "3.7", 1),
    (17, "3.7", 2),
    (18, "3.7", 3),
    (19, "3.7", 4),
    (20, "3.8", 0),
    (21, "3.9", 0),
    (22, "4.0", 0),
    (23, "4.0", 1),
    (24, "4.0", 2),
    (25, "4.0", 3),
    (26, "4.1", 0),
    (27, "4.1", 1),
    (28, "4.2", 0),
    (29, "4.2", 1),
    (30, "4.3", 0),
    (31, "4.4", 0),
];

/// A level of a feature: the first metadata version with which it is the default, and the features it depends on.
pub struct Level {
    pub level: i16,
    pub since: i16,
    pub depends_on: &'static [(&'static str, i16)],
}

const fn level(level: i16, since: i16) -> Level {
    Level { level, since, depends_on: &[] }
}

/// One of Kafka's features beside `metadata.version`; levels rise.
pub struct Feature {
    pub name: &'static str,
    pub levels: &'static [Level],
}

/// Every production feature, in the order in which Kafka lists them.
pub const FEATURES: &[Feature] = &[
    Feature { name: "kraft.version", levels: &[level(0, 7), level(1, 21)] },
    Feature { name: "transaction.version", levels: &[level(0, 7), level(1, 24), level(2, 24)] },
    Feature { name: "group.version", levels: &[level(0, 7), level(1, 22)] },
    Feature {
        name: "eligible.leader.replicas.version",
        levels: &[level(0, 7), Level { level: 1, since: 26, depends_on: &[(METADATA_VERSION, 23)] }],
    },
    Feature { name: "share.version", levels: &[level(0, 7), level(1, 28)] },
    Feature { name: "streams.version", levels: &[level(0, 7), level(1, 29)] },
];

impl Feature {
    /// The feature of this name.
    pub fn named(name: &str) -> Option<&'static Feature> {
        FEATURES.iter().find(|feature| feature.name == name)
    }

    /// The level that a cluster of this metadata version begins with.
    pub fn default_at(&self, metadata_version: i16) -> i16 {
        let reached = self.levels.iter().take_while(|level| level.since <= metadata_version);
        reached.last().map_or(0, |level| level.level)
    }

    pub fn level(&self, level: i16) -> Option<&Level> {
        self.levels.iter().find(|known| known.level == level)
    }
}

/// A metadata version by its Kafka name: `4.3-IV0`; `None` if there is no such level.
pub fn version_name(level: i16) -> Option<String> {
    let (_, release, interim) = VERSIONS.iter().find(|(known, ..)| *known == level)?;
    Some(format!("{release}-IV{interim}"))
}

/// The level that a release stands for: `3.8`, `3.8.1`, `3.8-IV0`. The error is Kafka's sentence.
pub fn parse_release(text: &str, unstable: bool) -> Result<i16, String> {
    let key = text.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let names = |(_, release, interim): &&(i16, &str, u8)| *release == key || format!("{release}-IV{interim}") == key;
    let found = VERSIONS.iter().rev().find(names).map(|(level, ..)| *level);
    let newest = if unstable { VERSIONS.last().map_or(LATEST_PRODUCTION, |last| last.0) } else { LATEST_PRODUCTION };
    found.filter(|level| *level <= newest).ok_or_else(|| {
        let known: Vec<String> = VERSIONS.iter().filter_map(|(level, ..)| version_name(*level)).collect();
        let count = VERSIONS.iter().filter(|(level, ..)| *level <= newest).count();
        format!(
            "Unknown metadata.version '{text}'. Supported metadata.version are: {}",
            known.get(..count).unwrap_or(&known).join(", ")
        )
    })
}

/// `kafka-storage version-mapping`: the default level of every feature at a release.
pub fn version_mapping(release: Option<&str>) -> Result<String, String> {
    let newest = version_name(LATEST_PRODUCTION).unwrap_or_default();
    let release = release.unwrap_or(&newest);
    let level = parse_release(release, true)?;
    let mut text = format!("{METADATA_VERSION}={level} ({release})\n");
    for feature in FEATURES {
        text.push_str(&format!("{}={}\n", feature.name, feature.default_at(level)));
    }
    Ok(text)
}

/// `kafka-storage feature-dependencies` for one `feature=level`.
pub fn dependencies(feature: &str) -> Result<String, String> {
    let (name, version) = feature.split_once('=').ok_or_else(|| {
        format!("Invalid feature format: {feature}. Expected format: 'feature=version' (e.g. 'group.version=1')")
    })?;
    let (name, version) = (name.trim(), version.trim());
    let level: i16 = version.parse().map_err(|_| format!("Invalid version format: {version} for feature {name}"))?;
    if name == METADATA_VERSION {
        let version = VERSIONS.iter().find(|(known, ..)| *known == level).and_then(|(level, ..)| version_name(*level));
        let version = version.ok_or_else(|| format!("Unknown metadata.version {level}"))?;
        return Ok(format!("{name}={level} ({version}) has no dependencies.\n"));
    }
    let known = Feature::named(name).ok_or_else(|| format!("Unknown feature: {name}"))?;
    let of_level = known.level(level);
    let of_level = of_level.ok_or_else(|| format!("Feature level {level} is not supported for feature {name}"))?;
    if of_level.depends_on.is_empty() {
        return Ok(format!("{name}={level} has no dependencies.\n"));
    }
    let mut text = format!("{name}={level} requires:\n");
    for (depends_on, needed) in of_level.depends_on {
        let shown = version_name(*needed).filter(|_| *depends_on == METADATA_VERSION);
        let shown = shown.map(|version| format!(" ({version})")).unwrap_or_default();
        text.push_str(&format!("    {depends_on}={needed}{shown}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_found_as_kafka_finds_them() {
        for (text, level) in [("4.3", 30), ("4.3.1", 30), ("4.0-IV1", 23), ("3.5", 11), ("3.3-IV3", 7)] {
            assert_eq!(parse_release(text, false), Ok(level), "{text}");
        }
        assert_eq!(parse_release("4.4", true), Ok(31));
        let refused = parse_release("4.4", false).unwrap_err();
        assert!(
            refused.starts_with("Unknown metadata.version '4.4'. Supported metadata.version are: 3.3-IV3, 3.4-IV0")
        );
        assert!(refused.ends_with("4.3-IV0"));
    }

    #[test]
    fn mappings_and_dependencies() {
        let mapping = version_mapping(Some("4.0")).unwrap();
        assert!(
            mapping.starts_with("metadata.version=25 (4.0)\nkraft.version=1\ntransaction.version=2\n"),
            "{mapping}"
        );
        let elr = dependencies("eligible.leader.replicas.version=1").unwrap();
        assert_eq!(elr, "eligible.leader.replicas.version=1 requires:\n    metadata.version=23 (4.0-IV1)\n");
        assert_eq!(dependencies("group.version = 1").unwrap(), "group.version=1 has no dependencies.\n");
        assert!(dependencies("group.version=7").is_err() && dependencies("x=1").is_err() && dependencies("x").is_err());
    }
}
