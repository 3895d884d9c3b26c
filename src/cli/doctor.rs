//! `ottla doctor`: what a Kafka broker, any one, serves.

use std::process::ExitCode;

use clap::Args;

use super::{print_line, refuse};
use crate::doctor::{self, Patient};
use crate::env::Env;

/// Probe any Kafka broker, Ottla or not: which APIs and versions it serves, and how it behaves, beside Kafka 4.3.
///
/// Without --write nothing is changed. It speaks plaintext, without authentication.
///
/// Exit code: 0 all is as in Kafka 4.3, 1 something is missing or differs, 2 the broker cannot be asked.
#[derive(Args)]
pub(super) struct Doctor {
    #[arg(value_name = "HOST:PORT")]
    address: String,

    /// Also create a topic of a random name, write to it in every codec and as an idempotent producer, read it back
    /// and delete it. The broker that is named must be able to lead it.
    #[arg(long)]
    write: bool,
}

impl Doctor {
    pub(super) fn run(&self) -> ExitCode {
        let parsed = self.address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((host, port)) = parsed else {
            return refuse(&format!("doctor {}: expected host:port", self.address), 2);
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(failure) => return refuse(&format!("cannot start the runtime: {failure}"), 2),
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let patient = Patient { host, port, may_write: self.write };
        match runtime.block_on(doctor::examine(&Env::real(), &patient)) {
            Err(why) => refuse(&why, 2),
            Ok(report) => {
                print_line(&report);
                ExitCode::from(u8::from(!report.is_like_kafka()))
            }
        }
    }
}
