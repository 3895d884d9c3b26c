//! `ottla storage`: Kafka's storage tool, with its arguments, output and exit codes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{print_line, refuse};
use crate::api::supported_features;
use crate::config::{Config, Loaded};
use crate::env::Env;
use crate::offline::{self, FormatRequest, Quorum, features};

/// What kafka-storage.sh does: prepare data directories, look at them, draw ids.
///
/// Formatting is not needed: a broker formats empty directories at its first start. It is there for scripts that call
/// it, and for choosing the cluster's id and feature levels. Exit code: 0 done, 1 refused.
#[derive(Args)]
pub(super) struct Storage {
    #[command(subcommand)]
    command: StorageCommand,
}

#[derive(Subcommand)]
enum StorageCommand {
    Format(Format),
    /// Get information about the data directories that --config names.
    Info,
    /// Print the default level of every feature at a release of Kafka.
    VersionMapping {
        /// Such as 4.0 or 4.0-IV3; the newest stable one without it.
        #[arg(long, short = 'r', value_name = "RELEASE")]
        release_version: Option<String>,
    },
    /// Print what levels of features depend on.
    FeatureDependencies {
        /// Such as group.version=1; may be given often.
        #[arg(long, short = 'f', value_name = "FEATURE=LEVEL", required = true)]
        feature: Vec<String>,
    },
    /// Print a random id.
    RandomUuid,
}

/// Format the data directories that --config names.
#[derive(Args)]
struct Format {
    /// The id of the cluster, as random-uuid prints one.
    #[arg(long, short = 't', value_name = "ID")]
    cluster_id: String,

    /// Skip directories that are formatted already, instead of refusing.
    #[arg(long, short = 'g')]
    ignore_formatted: bool,

    /// The release whose feature levels the cluster begins with.
    #[arg(long, short = 'r', value_name = "RELEASE")]
    release_version: Option<String>,

    /// A level of one feature; may be given often. Levels this broker does not support are refused.
    #[arg(long, short = 'f', value_name = "FEATURE=LEVEL")]
    feature: Vec<String>,

    /// This node alone is the first quorum; controller.quorum.voters must not be set.
    #[arg(long, short = 's', group = "quorum")]
    standalone: bool,

    /// The first quorum is said elsewhere; controller.quorum.voters should not be set.
    #[arg(long, short = 'N', group = "quorum")]
    no_initial_controllers: bool,

    /// The first quorum, as id@host:port:directory-id, separated by commas; this node is one of them.
    #[arg(long, short = 'I', value_name = "VOTERS", group = "quorum")]
    initial_controllers: Option<String>,

    /// Refused: this version has no SASL listeners that would ask for credentials.
    #[arg(long, short = 'S', value_name = "CREDENTIAL")]
    add_scram: Vec<String>,
}

impl Storage {
    /// True if the settings are needed.
    pub(super) fn needs_settings(&self) -> bool {
        matches!(self.command, StorageCommand::Format(_) | StorageCommand::Info)
    }

    /// Runs what needs no settings.
    pub(super) fn run_alone(&self) -> ExitCode {
        match &self.command {
            StorageCommand::RandomUuid => print(Ok(format!("{}\n", Env::real().random_uuid()))),
            StorageCommand::VersionMapping { release_version } => {
                print(features::version_mapping(release_version.as_deref()))
            }
            StorageCommand::FeatureDependencies { feature } => {
                let texts = feature.iter().map(|feature| features::dependencies(feature));
                for text in texts {
                    if text.is_err() {
                        return print(text);
                    }
                    print(text);
                }
                ExitCode::SUCCESS
            }
            StorageCommand::Format(_) | StorageCommand::Info => refuse("the settings cannot be read", 1),
        }
    }

    pub(super) fn run(&self, loaded: &Loaded) -> ExitCode {
        let log_dirs: Vec<PathBuf> = loaded.config.broker().log_dirs.iter().map(PathBuf::from).collect();
        match &self.command {
            StorageCommand::Info => {
                let (text, problems) = offline::info(&log_dirs);
                print(Ok(text));
                ExitCode::from(u8::from(problems))
            }
            StorageCommand::Format(format) => print(format.run(loaded, log_dirs)),
            _ => self.run_alone(),
        }
    }
}

impl Format {
    fn run(&self, loaded: &Loaded, log_dirs: Vec<PathBuf>) -> Result<String, String> {
        if !self.add_scram.is_empty() {
            return Err(
                "--add-scram: this version has no SASL listeners, so credentials would protect nothing; nothing \
                        was formatted."
                    .into(),
            );
        }
        let broker = loaded.config.broker();
        let quorum = match (&self.initial_controllers, self.standalone, self.no_initial_controllers) {
            (Some(voters), ..) => Quorum::Initial(voters.clone()),
            (None, true, _) => Quorum::Standalone,
            (None, false, true) => Quorum::NoInitialControllers,
            (None, false, false) => Quorum::Unsaid,
        };
        let supported = supported_features().iter().map(|f| (f.name.to_owned(), (f.min, f.max))).collect();
        let request = FormatRequest {
            cluster_id: self.cluster_id.clone(),
            node_id: broker.node_id,
            log_dirs,
            static_voters: !broker.controller_quorum_voters.is_empty(),
            release_version: self.release_version.clone(),
            features: self.feature.clone(),
            quorum,
            ignore_formatted: self.ignore_formatted,
            supported,
            endpoints: controller_endpoints(&loaded.config),
        };
        offline::format(&Env::real(), &request)
    }
}

/// Where the controller of this node listens, in the order of `controller.listener.names`. A port that the system is to
/// choose is not known before the start, which tells it to the quorum then.
fn controller_endpoints(config: &Config) -> Vec<(String, String, u16)> {
    let names = config.broker().controller_listener_names.iter().map(|name| name.to_uppercase());
    let endpoint = |name: String| {
        let listener = config.listeners().iter().find(|listener| listener.controller && listener.name == name)?;
        let (host, port) = listener.advertised.clone()?;
        Some((name, host, port))
    };
    names.filter_map(endpoint).collect()
}

/// Prints the text, or the reason why there is none, as Kafka's tool says it: without a name before it.
#[allow(clippy::print_stderr, reason = "the program's answer to the one who typed the command")]
fn print(text: Result<String, String>) -> ExitCode {
    match text {
        Ok(text) => {
            text.lines().for_each(print_line);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(1)
        }
    }
}
