//! `server.properties`: whatever it says, it is loaded or refused with reasons.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla::config::{Config, Sources};

fuzz_target!(|text: &str| {
    let file = Some(("server.properties".into(), text.to_owned()));
    match Config::load(Sources { file, ..Sources::default() }) {
        Ok(loaded) => drop((loaded.config.describe_broker(), loaded.config.describe_cluster())),
        Err(refused) => assert!(!refused.problems.is_empty()),
    }
});
