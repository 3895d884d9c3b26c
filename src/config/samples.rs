//! Settings as the tests of this folder write them.

use std::collections::BTreeMap;

use super::layers::{Config, Sources};

/// These settings.
pub(super) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The defaults with these overrides.
pub(super) fn config(overrides: &[(&str, &str)]) -> Config {
    let overrides = map(overrides).into_iter().collect();
    Config::load(Sources { overrides, ..Sources::default() }).unwrap().config
}
