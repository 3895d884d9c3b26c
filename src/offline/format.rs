//! `ottla storage format` and `info`: what Kafka's storage tool does to data directories.
//!
//! Sentences are Kafka's (`StorageTool`, `Formatter`). Invariants: everything is checked before anything is written; a
//! directory's identity is written last, so one whose formatting broke off is not formatted. The levels chosen here are
//! what a new cluster begins with, and so what clients see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::features::{self, Feature, METADATA_VERSION, version_name};
use crate::env::Env;
use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::{self, Member, MemberEndpoint, MetadataRecord, RocksMetaStore, VoterId};
use crate::peer::Address;
use crate::storage::dirs::{Identity, LockedDir, NotTaken};

const KRAFT_VERSION: &str = "kraft.version";

/// Who forms the first quorum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Quorum {
    /// Nothing was said.
    Unsaid,
    Standalone,
    NoInitialControllers,
    /// `id@host:port:directory`, comma-separated.
    Initial(String),
}

/// What a format command asks for.
pub struct FormatRequest {
    pub cluster_id: String,
    pub node_id: i32,
    pub log_dirs: Vec<PathBuf>,
    /// `controller.quorum.voters` has a value.
    pub static_voters: bool,
    pub release_version: Option<String>,
    /// `feature=level`, as given.
    pub features: Vec<String>,
    pub quorum: Quorum,
    pub ignore_formatted: bool,
    /// Levels this broker supports, both ends inclusive.
    pub supported: BTreeMap<String, (i16, i16)>,
    /// Where the controller of this node listens: listener, host, port.
    pub endpoints: Vec<(String, String, u16)>,
}

/// What the metadata directory is formatted with.
struct Beginning {
    levels: BTreeMap<String, i16>,
    /// The first voters and their directories, this node's among them; none if they are a setting or elsewhere.
    voters: BTreeMap<VoterId, Member>,
}

/// Formats; gives what to print. The error is for the operator.
pub fn format(env: &Env, request: &FormatRequest) -> Result<String, String> {
    let cluster_id = KafkaUuid::parse(&request.cluster_id).filter(|id| !id.is_zero());
    let cluster_id = cluster_id.ok_or_else(|| {
        format!("Cluster ID {} is not 22 characters of base64url, as random-uuid prints them.", request.cluster_id)
    })?;
    let home_id = env.random_uuid();
    let voters = first_voters(request, home_id)?;
    let own_voter = voters.keys().find(|voter| voter.node == request.node_id);
    let home_id = own_voter.map_or(home_id, |voter| KafkaUuid(voter.directory));
    let beginning = Beginning { levels: levels(request)?, voters };
    let levels = &beginning.levels;
    let release = version_name(levels.get(METADATA_VERSION).copied().unwrap_or(0)).unwrap_or_default();
    let mut directories = request.log_dirs.clone();
    directories.sort();
    directories.dedup();
    let mut unformatted = Vec::new();
    let mut formatted = None;
    for path in &directories {
        match Identity::read(path)? {
            None => unformatted.push(path),
            Some(identity) => {
                check(path, "cluster.id", &request.cluster_id, &identity.cluster_id)?;
                check(path, "node.id", &request.node_id.to_string(), &identity.node_id.to_string())?;
                formatted = formatted.or(Some(path));
            }
        }
    }
    if let Some(path) = formatted.filter(|_| !request.ignore_formatted) {
        return Err(format!(
            "Log directory {} is already formatted. Use --ignore-formatted to ignore this directory and format the \
             others.",
            path.display()
        ));
    }
    if unformatted.is_empty() {
        return Ok("All of the log directories are already formatted.\n".into());
    }
    let mut text = format!("Bootstrap metadata: {}\n", shown(levels));
    // Metadata lives in the first directory that the settings name.
    let home = request.log_dirs.first();
    for path in unformatted {
        let is_home = Some(path) == home;
        let kind = match (&request.quorum, is_home) {
            (_, false) => "data directory",
            (Quorum::Standalone | Quorum::Initial(_), true) => "dynamic metadata voter directory",
            (Quorum::Unsaid | Quorum::NoInitialControllers, true) => "metadata directory",
        };
        text.push_str(&format!("Formatting {kind} {} with {METADATA_VERSION} {release}.\n", path.display()));
        let directory_id = if is_home { home_id } else { env.random_uuid() };
        let identity = Identity { cluster_id: cluster_id.to_string(), node_id: request.node_id, directory_id };
        write(path, identity, is_home.then_some(&beginning))?;
    }
    Ok(text)
}

fn write(path: &Path, identity: Identity, beginning: Option<&Beginning>) -> Result<(), String> {
    let mut locked = LockedDir::take(path).map_err(NotTaken::why)?;
    if let Some(Beginning { levels, voters }) = beginning {
        let record =
            |(name, level): (&String, &i16)| MetadataRecord::FeatureLevel { name: name.clone(), level: *level };
        let records: Vec<MetadataRecord> = levels.iter().map(record).collect();
        let failed = |e: std::io::Error| format!("{}: {e}", path.join("metadata").display());
        let store = RocksMetaStore::open(&path.join("metadata")).map_err(failed)?;
        metadata::write_bootstrap(&store, &records).map_err(failed)?;
        if !voters.is_empty() {
            metadata::write_first_voters(&store, voters).map_err(failed)?;
        }
    }
    locked.identify(identity).map_err(NotTaken::why)
}

fn check(path: &Path, what: &str, expected: &str, read: &str) -> Result<(), String> {
    if expected == read {
        return Ok(());
    }
    let file = path.join("meta.properties");
    Err(format!("Invalid {what} in: {}. Expected {expected}, but read {read}", file.display()))
}

/// The voters that a dynamic quorum begins with. A voter of its own quorum has the directory `home_id`.
fn first_voters(request: &FormatRequest, home_id: KafkaUuid) -> Result<BTreeMap<VoterId, Member>, String> {
    if request.static_voters && matches!(request.quorum, Quorum::Standalone | Quorum::Initial(_)) {
        return Err("You cannot specify controller.quorum.voters and format the node with --initial-controllers or \
                    --standalone. If you want to use dynamic quorum, please remove controller.quorum.voters and \
                    specify controller.quorum.bootstrap.servers instead."
            .into());
    }
    match &request.quorum {
        Quorum::Unsaid if !request.static_voters => {
            Err("Because controller.quorum.voters is not set on this controller, you must specify one of the \
                 following: --standalone, --initial-controllers, or --no-initial-controllers."
                .into())
        }
        Quorum::Unsaid | Quorum::NoInitialControllers => Ok(BTreeMap::new()),
        Quorum::Standalone => {
            let own = VoterId::new(BrokerId(request.node_id), home_id);
            let endpoint = |(listener, host, port): &(String, String, u16)| MemberEndpoint {
                listener: listener.clone(),
                address: Address { host: host.clone(), port: *port },
            };
            Ok(BTreeMap::from([(own, Member { endpoints: request.endpoints.iter().map(endpoint).collect() })]))
        }
        Quorum::Initial(controllers) => initial_voters(controllers, request),
    }
}

/// The voters in `id@host:port:directory,...`: each node once, and this node among them.
fn initial_voters(controllers: &str, request: &FormatRequest) -> Result<BTreeMap<VoterId, Member>, String> {
    let listener = request.endpoints.first().map_or("CONTROLLER", |(listener, ..)| listener);
    let mut voters = BTreeMap::new();
    for voter in controllers.split(',').map(str::trim).filter(|voter| !voter.is_empty()) {
        let parsed = voter.split_once('@').and_then(|(id, rest)| {
            let (address, directory) = rest.rsplit_once(':')?;
            let (host, port) = address.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let address = Address { host: host.to_owned(), port: port.parse().ok()? };
            let directory = KafkaUuid::parse(directory.trim()).filter(|directory| !directory.is_zero())?;
            Some((VoterId::new(BrokerId(id.trim().parse().ok()?), directory), address))
        });
        let (id, address) =
            parsed.ok_or_else(|| format!("--initial-controllers {voter}: expected id@host:port:directory-id"))?;
        if voters.keys().any(|known: &VoterId| known.node == id.node || known.directory == id.directory) {
            return Err(format!("--initial-controllers {voter}: its id or its directory id is there twice"));
        }
        voters.insert(id, Member { endpoints: vec![MemberEndpoint { listener: listener.to_owned(), address }] });
    }
    if !voters.keys().any(|voter| voter.node == request.node_id) {
        let named: Vec<String> = voters.keys().map(|voter| voter.node.to_string()).collect();
        let named = if named.is_empty() { "nobody".into() } else { format!("node {}", named.join(", ")) };
        return Err(format!("--initial-controllers names {named}, this is node {}", request.node_id));
    }
    Ok(voters)
}

/// The level of every feature that this broker supports, as Kafka's formatter computes them.
fn levels(request: &FormatRequest) -> Result<BTreeMap<String, i16>, String> {
    let mut asked = BTreeMap::new();
    for text in &request.features {
        let unparsed = |why: &str| format!("Can't parse feature=level string {text}: {why}");
        let (name, level) = text.split_once('=').ok_or_else(|| unparsed("equals sign not found."))?;
        let level = level.trim();
        let number = level.parse::<i16>().map_err(|_| unparsed(&format!("unable to parse {level} as a short.")))?;
        asked.insert(name.trim().to_owned(), number);
    }
    let release = match (asked.remove(METADATA_VERSION), &request.release_version) {
        (Some(_), Some(_)) => {
            return Err("Use --release-version instead of --feature metadata.version=X to avoid ambiguity.".into());
        }
        (Some(level), None) => level,
        (None, Some(release)) => features::parse_release(release, false)?,
        (None, None) => features::LATEST_PRODUCTION,
    };
    let version = version_name(release).ok_or_else(|| {
        format!("No MetadataVersion with feature level {release}. Valid feature levels are from 7 to 31.")
    })?;
    if release > features::LATEST_PRODUCTION {
        return Err(format!("metadata.version {version} is not yet stable."));
    }
    if let Some(name) = asked.keys().find(|name| Feature::named(name).is_none()) {
        let mut known: Vec<&str> = features::FEATURES.iter().map(|feature| feature.name).collect();
        known.sort_unstable();
        return Err(format!("Unsupported feature: {name}. Supported features are: {}", known.join(", ")));
    }
    let mut levels = BTreeMap::from([(METADATA_VERSION.to_owned(), release)]);
    for feature in features::FEATURES {
        let default = match feature.name {
            KRAFT_VERSION => i16::from(!request.static_voters),
            _ => feature.default_at(release),
        };
        let level = asked.get(feature.name).copied();
        check_level(feature, level, request)?;
        let (min, max) = request.supported.get(feature.name).copied().unwrap_or((0, 0));
        if let Some(level) = level.filter(|level| !(min..=max).contains(level)) {
            return Err(format!(
                "{} could not be set to {level}: this broker supports levels {min} to {max} of it.",
                feature.name
            ));
        }
        // What was not asked for begins as far as this broker goes.
        levels.insert(feature.name.to_owned(), level.unwrap_or(default.min(max)));
    }
    for feature in features::FEATURES {
        let level = levels.get(feature.name).copied().unwrap_or(0);
        let depends_on = feature.level(level).map_or(&[][..], |level| level.depends_on);
        let lacks = |(name, needed): &&(&str, i16)| levels.get(*name).is_none_or(|level| level < needed);
        if let Some((name, needed)) = depends_on.iter().find(lacks) {
            return Err(format!(
                "{} could not be set to {level} because it depends on {name} level {needed}",
                feature.name
            ));
        }
    }
    levels.retain(|_, level| *level > 0);
    Ok(levels)
}

fn check_level(feature: &Feature, asked: Option<i16>, request: &FormatRequest) -> Result<(), String> {
    let Some(level) = asked else { return Ok(()) };
    if feature.level(level).is_none() {
        return Err(format!("No feature:{} with feature level {level}", feature.name));
    }
    if feature.name == KRAFT_VERSION && level == 0 && !request.static_voters {
        return Err("Cannot set kraft.version to 0 if controller.quorum.voters is empty and one of the flags \
                    --standalone, --initial-controllers, or --no-initial-controllers is used. For dynamic controllers \
                    support, try removing the --feature flag for kraft.version."
            .into());
    }
    Ok(())
}

/// The levels as Kafka prints the records they become.
fn shown(levels: &BTreeMap<String, i16>) -> String {
    let record = |(name, level): (&String, &i16)| {
        format!("ApiMessageAndVersion(FeatureLevelRecord(name='{name}', featureLevel={level}) at version 0)")
    };
    let release = levels.get(METADATA_VERSION).copied().unwrap_or(0);
    let first = levels.iter().filter(|(name, _)| *name == METADATA_VERSION);
    // Kafka keeps the quorum's own level in the quorum's log.
    let others = levels.iter().filter(|(name, _)| *name != METADATA_VERSION && *name != KRAFT_VERSION);
    let records: Vec<String> = first.chain(others).map(record).collect();
    format!(
        "BootstrapMetadata(records=[{}], metadataVersionLevel={release}, source=format command)",
        records.join(", ")
    )
}

/// `kafka-storage info`: what to print, and whether there are problems.
pub fn info(log_dirs: &[PathBuf]) -> (String, bool) {
    let mut directories = log_dirs.to_vec();
    directories.sort();
    directories.dedup();
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let mut first: Option<Identity> = None;
    for path in &directories {
        let shown = path.display();
        if !path.is_dir() {
            let what = if path.exists() { "is not a directory" } else { "does not exist" };
            problems.push(format!("{shown} {what}"));
            continue;
        }
        found.push(shown.to_string());
        match (Identity::read(path), &first) {
            (Err(why), _) => problems.push(format!("Error loading {shown}/meta.properties: {why}")),
            (Ok(None), _) => problems.push(format!("{shown} is not formatted.")),
            (Ok(Some(identity)), None) => first = Some(identity),
            (Ok(Some(identity)), Some(other)) => {
                if identity.cluster_id != other.cluster_id {
                    problems.push("Mismatched cluster IDs between storage directories.".into());
                } else if identity.node_id != other.node_id {
                    problems.push("Mismatched node IDs between storage directories.".into());
                }
            }
        }
    }
    let mut text = section("Found log directory:", "Found log directories:", &found);
    if let Some(Identity { cluster_id, node_id, directory_id }) = first {
        let metadata = format!("cluster.id={cluster_id}, directory.id={directory_id}, node.id={node_id}, version=1");
        text.push_str(&format!("Found metadata: {{{metadata}}}\n\n"));
    }
    text.push_str(&section("Found problem:", "Found problems:", &problems));
    (text, !problems.is_empty())
}

fn section(one: &str, many: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let title = if lines.len() == 1 { one } else { many };
    let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    format!("{title}\n{lines}\n")
}
