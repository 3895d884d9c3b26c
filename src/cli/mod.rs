//! The command line: flags become layers of the configuration, errors become one sentence and an exit code.
//!
//! Exit codes: 0 clean shutdown, 1 the broker could not start or run, 2 the command line or a setting is wrong. The
//! tools beside the broker have a file each; where their codes mean more, their `--help` says so.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

mod backup;
mod doctor;
mod dump;
mod storage;
mod verify;

use crate::api::loggers::ApplyFilter;
use crate::config::{Config, Loaded, Sources};
use crate::env::Env;
use crate::server::{Server, Start};

/// How long the end waits for tasks and blocking work to let go of the disks.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// A durable, drop-in Apache Kafka broker.
///
/// Without arguments it serves on port 9092, keeps its data in ./ottla-data and its metrics on 127.0.0.1:9404.
/// Settings come, the later winning, from: defaults, --config, KAFKA_* variables (as in Kafka's image), --override.
#[derive(Parser)]
#[command(name = "ottla", version, max_term_width = 100)]
struct Cli {
    /// Kafka's own server.properties.
    #[arg(long, short = 'c', value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// One setting, as in server.properties; may be given often. Example: --override num.partitions=3
    #[arg(long = "override", short = 'o', value_name = "KEY=VALUE", global = true)]
    overrides: Vec<String>,

    /// Where the data is kept: short for --override log.dirs=DIR.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker (the default).
    Start,
    /// Print every setting with its value in force and where it comes from, then exit.
    Config,
    /// Print a generated document: apis, configuration or metrics.
    Docs {
        document: String,
    },
    Storage(storage::Storage),
    Verify(verify::Verify),
    Dump(dump::Dump),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Doctor(doctor::Doctor),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) => return explain(&wrong),
    };
    match &cli.command {
        Some(Command::Docs { document }) => return print_document(document),
        Some(Command::Verify(verify)) => return verify.run(),
        Some(Command::Dump(dump)) => return dump.run(),
        Some(Command::Restore(restore)) => return restore.run(),
        Some(Command::Doctor(doctor)) => return doctor.run(),
        Some(Command::Storage(storage)) if !storage.needs_settings() => return storage.run_alone(),
        Some(Command::Start | Command::Config | Command::Backup(_) | Command::Storage(_)) | None => {}
    }
    let loaded = match sources(&cli).and_then(|sources| Config::load(sources).map_err(|e| e.to_string())) {
        Ok(loaded) => loaded,
        Err(refusal) if matches!(cli.command, Some(Command::Storage(_))) => return refuse(&refusal, 1),
        Err(refusal) => return refuse(&refusal, 2),
    };
    match cli.command {
        Some(Command::Config) => print_config(&loaded),
        Some(Command::Backup(backup)) => backup.run(&loaded),
        Some(Command::Storage(storage)) => storage.run(&loaded),
        _ => start(loaded),
    }
}

/// Help and version, or what is wrong with the command line. Scripts that call Kafka's storage tool know 1 for that.
fn explain(wrong: &clap::Error) -> ExitCode {
    // A closed pipe leaves nobody to tell.
    let _ = wrong.print();
    let is_storage = std::env::args_os().any(|word| word == "storage");
    match wrong.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_storage => ExitCode::from(1),
        _ => ExitCode::from(2),
    }
}

fn sources(cli: &Cli) -> Result<Sources, String> {
    let mut overrides = Vec::new();
    if let Some(directory) = &cli.data_dir {
        overrides.push(("log.dirs".to_owned(), directory.display().to_string()));
    }
    for pair in &cli.overrides {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("--override {pair}: expected KEY=VALUE"))?;
        overrides.push((key.trim().to_owned(), value.to_owned()));
    }
    let file = match &cli.config {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| format!("--config {}: {e}", path.display()))?;
            Some((path.clone(), text))
        }
    };
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Sources { file, env: env.collect(), overrides })
}

fn refuse(reason: &str, code: u8) -> ExitCode {
    #[allow(clippy::print_stderr, reason = "the program's answer to the one who typed the command")]
    {
        eprintln!("ottla: {reason}");
    }
    ExitCode::from(code)
}

/// Prints one line of what was asked for; nobody who reads half of it (`| head`) is a failure.
fn print_line(line: impl std::fmt::Display) {
    use std::io::Write;
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

#[allow(clippy::print_stdout, reason = "the output asked for")]
fn print_document(document: &str) -> ExitCode {
    let text = match document {
        "apis" => crate::api::apis_markdown(),
        "configuration" => crate::config::configuration_markdown(),
        "metrics" => crate::metrics::metrics_markdown(),
        other => return refuse(&format!("docs {other}: expected apis, configuration or metrics"), 2),
    };
    print!("{text}");
    ExitCode::SUCCESS
}

#[allow(clippy::print_stdout, reason = "the output asked for")]
fn print_config(loaded: &Loaded) -> ExitCode {
    for setting in loaded.config.describe_broker() {
        let value = if setting.sensitive { "(hidden)" } else { setting.value.as_deref().unwrap_or("null") };
        let origin = match setting.source {
            5 => "default",
            4 => "set",
            _ => "dynamic",
        };
        println!("{}={value}  # {origin}", setting.name);
    }
    for warning in &loaded.warnings {
        println!("# warning: {warning}");
    }
    ExitCode::SUCCESS
}

fn start(loaded: Loaded) -> ExitCode {
    let (filter, apply) = start_logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("ottla").build() {
        Ok(runtime) => runtime,
        Err(failure) => return refuse(&format!("cannot start the runtime: {failure}"), 1),
    };
    let cluster_id = std::env::var_os("CLUSTER_ID").and_then(|id| id.into_string().ok());
    let ended = runtime.block_on(async move {
        let server = Server::start(Env::real(), Start { loaded, cluster_id, announce: true }).await?;
        server.services().loggers.attach(&filter, apply);
        let outcome = tokio::select! {
            biased;
            signal = termination() => {
                tracing::info!(signal, "shutting down");
                Ok(())
            }
            reason = server.failed() => Err(reason),
        };
        server.stop().await;
        outcome
    });
    // The last handles of the disks go with the tasks that hold them. A process that ends before RocksDB is closed
    // takes its statics away under its threads, which then abort.
    runtime.shutdown_timeout(CLOSE_LIMIT);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => refuse(&reason, 1),
    }
}

/// Starts the log with the filter in `OTTLA_LOG`; returns that filter, and how to put another one in its place.
fn start_logging() -> (String, ApplyFilter) {
    let filter = std::env::var_os("OTTLA_LOG").and_then(|filter| filter.into_string().ok());
    let filter = filter.unwrap_or_else(|| "info,openraft=error".to_owned());
    let (layer, handle) = reload::Layer::new(EnvFilter::new(&filter));
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(false);
    tracing_subscriber::registry().with(layer).with(lines).init();
    let apply = move |filter: &str| {
        if let Err(failure) = handle.reload(EnvFilter::new(filter)) {
            tracing::error!(%failure, filter, "the log level cannot change");
        }
    };
    (filter, Box::new(apply))
}

/// Waits for SIGTERM or SIGINT.
async fn termination() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot listen for signals: only SIGKILL will end this process");
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}
