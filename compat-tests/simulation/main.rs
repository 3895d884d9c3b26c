//! Simulation: one broker, its disks and its clients from one seed, with power cuts that lose what was not synced,
//! slow disks and cut connections. Checkers that know nothing of the broker's code say what must hold.
//!
//! `OTTLA_SEEDS=1000` plays more seeds than the few of an everyday run, `OTTLA_SEED=7` one, with its trace. The
//! sabotages need `--features sabotage`: faults on purpose, each of which the checkers must find.
//!
//! Invariant: nothing here waits for real time. What a run does follows from its seed alone.

// The clients are no part of the broker: they live in turmoil's time and sockets, not behind `Env`.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::print_stdout, reason = "a run tells its seeds and, if asked, its trace")]

mod checkers;
mod client;
mod cluster;
mod faults;
mod net;
mod requests;
mod stage;
mod workload;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Broken, Report, run};

/// Seeds of an everyday run: of one broker, and of a cluster.
const SEEDS: u64 = 60;
const CLUSTER_SEEDS: u64 = 6;
/// The line in which one process tells another what came of a run begins so.
const REPORT: &str = "report: ";

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

type Run = fn(u64, bool) -> Result<Report, Broken>;

/// Plays the seeds `1..=count` on every processor, each in a process of its own, so that a seed does behind others what
/// it does alone: libraries keep counters that outlive a run. The first that breaks, in the words of its process.
fn play_all(test: &str, count: u64) -> Result<Vec<Report>, String> {
    let (next, reports, broken) = (AtomicU64::new(1), Mutex::new(Vec::new()), Mutex::new(None));
    let work = || {
        while broken.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > count {
                return;
            }
            match play_apart(test, seed) {
                Ok(report) => reports.lock().unwrap().push(report),
                Err(words) => _ = broken.lock().unwrap().get_or_insert(words),
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(work);
        }
    });
    match broken.into_inner().unwrap() {
        Some(words) => Err(words),
        None => Ok(reports.into_inner().unwrap()),
    }
}

/// One seed in another process, or all that it says where an invariant breaks.
fn play_apart(test: &str, seed: u64) -> Result<Report, String> {
    let output = another_process(test, seed);
    let told = String::from_utf8_lossy(&output.stdout);
    let report = told.lines().find_map(|line| line.strip_prefix(REPORT)?.parse().ok());
    report
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("{told}\n{}", String::from_utf8_lossy(&output.stderr)))
}

fn another_process(test: &str, seed: u64) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("OTTLA_SEED", seed.to_string())
        .output()
        .expect("a second process")
}

#[test]
fn a_thousand_seeds_keep_every_invariant() {
    keep_every_invariant("a_thousand_seeds_keep_every_invariant", SEEDS, run);
}

#[test]
fn a_thousand_clusters_keep_every_invariant() {
    keep_every_invariant("a_thousand_clusters_keep_every_invariant", CLUSTER_SEEDS, cluster::run);
}

/// `OTTLA_LOG=ottla=debug` prints what the brokers log.
fn tell() {
    let Ok(filter) = std::env::var("OTTLA_LOG") else { return };
    let told = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::new(filter));
    told.without_time().with_ansi(false).with_writer(std::io::stdout).init();
}

fn keep_every_invariant(test: &str, seeds: u64, run: Run) {
    if let Some(seed) = number_in("OTTLA_SEED") {
        tell();
        let report = run(seed, true).unwrap_or_else(|broken| panic!("{broken}"));
        println!("{REPORT}{report}");
        return;
    }
    let count = number_in("OTTLA_SEEDS").unwrap_or(seeds);
    let reports = play_all(test, count).unwrap_or_else(|words| panic!("\n{words}"));
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    println!(
        "{count} seeds: {} simulated seconds, {} starts, {} records acknowledged, {} events",
        sum(|report| report.simulated_ms) / 1000,
        sum(|report| u64::from(report.starts)),
        sum(|report| report.acknowledged as u64),
        sum(|report| report.events),
    );
    let mean = sum(|report| report.acknowledged as u64) / count.max(1);
    assert!(mean > 200, "a workload that writes nothing proves nothing: {mean} records in a run");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 4, 5] {
        compare_traces("a_thousand_seeds_keep_every_invariant", seed);
    }
    for seed in [1, 2] {
        compare_traces("a_thousand_clusters_keep_every_invariant", seed);
    }
}

fn compare_traces(test: &str, seed: u64) {
    let (first, second) = (trace_of(test, seed), trace_of(test, seed));
    assert!(first.len() > 500, "seed {seed}: a run that does nothing proves nothing:\n{}", first.join("\n"));
    let differs = first.iter().zip(&second).find(|(one, other)| one != other);
    assert!(differs.is_none(), "{test}, seed {seed}: {differs:?}");
    assert_eq!(first.len(), second.len(), "{test}, seed {seed}");
}

/// Every line of one run's trace, without the test harness's own, which tell real time.
fn trace_of(test: &str, seed: u64) -> Vec<String> {
    let run = another_process(test, seed);
    let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    text.lines().filter(|line| !line.starts_with("test result")).map(str::to_owned).collect()
}

/// The oracle is worth as much as it finds.
#[cfg(feature = "sabotage")]
#[test]
fn every_sabotage_is_found() {
    find(ottla::sabotage::ALL, 100, run);
}

#[cfg(feature = "sabotage")]
#[test]
fn every_sabotage_of_a_cluster_is_found() {
    find(ottla::sabotage::OF_CLUSTERS, 200, cluster::run);
}

#[cfg(feature = "sabotage")]
fn find(faults: &[&str], seeds: u64, run: Run) {
    let mut missed = Vec::new();
    let only = std::env::var("OTTLA_SABOTAGE").ok();
    for fault in faults.iter().filter(|fault| only.as_deref().is_none_or(|only| only == **fault)) {
        ottla::sabotage::choose(Some(fault));
        let found = (1..=seeds).find_map(|seed| run(seed, false).err());
        ottla::sabotage::choose(None);
        match found {
            Some(Broken { seed, sentence, .. }) => println!("{fault}: seed {seed}: {sentence}"),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found within {seeds} seeds: {missed:?}");
}
