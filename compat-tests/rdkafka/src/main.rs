//! rdkafka (librdkafka in Rust), unmodified, through the checks of compat-tests/harness/scenario.py.

mod checks;
mod client;
mod endurance;
mod group;
mod report;
mod samples;

/// Why a check failed.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Checked<T = ()> = Result<T, Failure>;

fn main() {
    let admin = client::Admin::new().expect("an admin client needs no broker yet");
    let mut report = report::Report::default();
    report.check("topics", || checks::topics(&admin));
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        report.check(&format!("codec-{codec}"), || checks::codec(&admin, codec));
    }
    report.check("append-time", || checks::append_time(&admin));
    report.check("group-of-three", || group::grow_and_shrink(&admin));
    report.check("commit-resume", || checks::commit_resume(&admin));
    report.check("seek", || checks::seek(&admin));
    report.check("restart-resume", || endurance::restart_resume(&admin));
    report.check("idempotence", || endurance::idempotence(&admin));
    report.check("administration", || endurance::administration(&admin));
    std::process::exit(report.exit_code());
}
