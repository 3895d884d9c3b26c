//! The architecture, tested: layers, walls, sizes, module docs, generated documents.
//!
//! The tables below are the architecture; `docs/ARCHITECTURE.md` repeats the first one in prose and is compared with
//! it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every top-level module with the modules it may import. Downwards only; nothing may import what is not listed.
const LAYERS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("error", &["ids"]),
    ("env", &["ids"]),
    ("metrics", &[]),
    ("sabotage", &[]),
    ("config", &["ids", "error"]),
    ("records", &["ids", "error"]),
    ("wire", &["ids", "error", "env"]),
    ("storage", &["ids", "error", "env", "sabotage", "records"]),
    ("peer", &["env", "wire"]),
    ("metadata", &["ids", "error", "env", "sabotage", "wire", "storage", "peer"]),
    ("partitions", &["ids", "error", "env", "sabotage", "config", "records", "wire", "storage", "peer", "metadata"]),
    ("coordinator", &["ids", "error", "env", "sabotage", "config", "records", "metadata", "partitions"]),
    (
        "api",
        &[
            "ids",
            "error",
            "env",
            "sabotage",
            "config",
            "records",
            "wire",
            "storage",
            "peer",
            "metadata",
            "partitions",
            "coordinator",
            "metrics",
        ],
    ),
    ("network", &["ids", "error", "env", "config", "wire", "api"]),
    ("http", &["ids", "error", "env", "metrics", "config", "metadata", "partitions", "coordinator", "api", "network"]),
    (
        "server",
        &[
            "ids",
            "error",
            "env",
            "metrics",
            "config",
            "wire",
            "storage",
            "peer",
            "metadata",
            "partitions",
            "coordinator",
            "api",
            "network",
            "http",
        ],
    ),
    ("offline", &["ids", "env", "records", "storage", "peer", "metadata", "coordinator"]),
    ("doctor", &["error", "env", "records", "wire"]),
    ("cli", &["ids", "error", "env", "config", "api", "server", "metrics", "offline", "doctor"]),
    ("main", &["cli"]),
    ("testing", &["config", "api", "metrics"]),
];

/// Narrower than a layer: which files of a module may reach into another. (importer prefix, imported prefix) pairs
/// allowed.
const NARROW: &[(&str, &str, &[&str])] = &[
    // The quorum's log is the only thing in metadata that stores bytes.
    ("metadata", "storage", &["src/metadata/quorum/"]),
    // What a wire looks like is of no concern to a decision.
    ("metadata", "wire", &["src/metadata/quorum/", "src/metadata/remote.rs", "src/metadata/cluster_tests.rs"]),
    // Handlers see what an append returned, and nothing else of storage.
    ("api", "storage", &["src/api/handlers/produce.rs"]),
];

/// Outside crates behind a wall: crate, and the only files that may name it.
const WALLS: &[(&str, &[&str])] = &[
    ("rocksdb", &["src/storage/engine/rocks.rs", "src/storage/engine/frozen.rs"]),
    ("openraft", &["src/metadata/quorum/"]),
    ("openraft_rt", &["src/metadata/quorum/"]),
    (
        "kafka_protocol",
        &[
            "src/wire/",
            "src/peer.rs",
            "src/metadata/remote.rs",
            "src/metadata/voters.rs",
            "src/partitions/fetcher",
            "src/api/",
            "src/doctor/",
        ],
    ),
    ("clap", &["src/cli/"]),
    ("metrics_exporter_prometheus", &["src/http/"]),
    ("hyper", &["src/http/"]),
    ("snap", &["src/records/compression.rs"]),
    ("lz4", &["src/records/compression.rs"]),
    ("lz4_flex", &["src/records/compression.rs"]),
    ("zstd", &["src/records/compression.rs"]),
    ("flate2", &["src/records/compression.rs"]),
    ("crc32c", &["src/records/", "src/storage/engine/", "src/api/telemetry/instances.rs"]),
    ("crc_fast", &["src/records/checksum.rs"]),
    ("memmap2", &["src/storage/engine/direct.rs"]),
    ("rustix", &["src/storage/dirs.rs"]),
    ("regex", &["src/config/subscriptions.rs"]),
    ("socket2", &["src/env.rs"]),
    ("tikv_jemallocator", &["src/lib.rs"]),
];

const LINES_MAX: usize = 800;
const LINE_LENGTH_MAX: usize = 120;
/// Files whose length is a table's.
const TABLES: &[&str] = &["src/config/table.rs"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                files.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(files.len() > 50, "the source tree was not found");
    files
}

/// The top-level module a file belongs to: `src/api/table.rs` → `api`.
fn module_of(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    inside.split(['/', '.']).next().unwrap_or(inside)
}

/// The code of a file without comments and string literals' worst offenders: whole comment lines only.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Every `crate::x` a file names, also in braces after `use crate::{`.
fn imports(text: &str) -> Vec<String> {
    let joined: String = code(text).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in joined.match_indices("crate::") {
        let before = joined[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &joined[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            for part in list.split_inclusive([',', '{', '}']) {
                let name = part.trim().trim_end_matches([',', '{', '}']).trim();
                if depth == 0 && !name.is_empty() {
                    found.push(name.split("::").next().unwrap_or(name).to_owned());
                }
                depth += part.matches('{').count() as i32 - part.matches('}').count() as i32;
                if depth < 0 {
                    break;
                }
            }
        } else {
            found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

#[test]
fn imports_point_downwards() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let module = module_of(&file);
        if module == "lib" {
            continue;
        }
        let Some(allowed) = layers.get(module) else {
            wrong.push(format!("{file}: module `{module}` has no row in LAYERS"));
            continue;
        };
        for import in imports(&text) {
            if import == module || !layers.contains_key(import.as_str()) {
                continue;
            }
            if !allowed.contains(&import.as_str()) {
                wrong.push(format!("{file}: `{module}` may not import `{import}`"));
            }
            let narrow = NARROW.iter().find(|(from, to, _)| *from == module && *to == import);
            if let Some((_, _, files)) = narrow
                && !files.iter().any(|prefix| file.starts_with(prefix))
            {
                wrong.push(format!("{file}: only {files:?} may import `{import}` in `{module}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_module_imports_one_above_it() {
    let position = |name: &str| LAYERS.iter().position(|(module, _)| *module == name);
    for (module, allowed) in LAYERS {
        for import in *allowed {
            assert!(position(import) < position(module), "LAYERS: {module} imports {import}, which stands below it");
        }
    }
}

#[test]
fn outside_crates_stay_behind_their_walls() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if file == "src/testing/tidy.rs" {
            continue;
        }
        for (krate, allowed) in WALLS {
            let named = code(&text).any(|line| names_crate(line, krate));
            if named && !allowed.iter().any(|prefix| file.starts_with(prefix)) {
                wrong.push(format!("{file}: names `{krate}`, which only {allowed:?} may"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn names_crate(line: &str, krate: &str) -> bool {
    line.match_indices(krate).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + krate.len()..];
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '.' || c == '"');
        starts && after.starts_with("::")
    })
}

#[test]
fn the_top_level_holds_what_was_agreed() {
    const AGREED: &[&str] =
        &["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "compat-tests", "docker", "docs", "scripts", "src"];
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap();
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let listed = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let agreed = |name: &str| name.starts_with('.') || AGREED.contains(&name) || ignored.contains(&name);
    let more: Vec<String> = listed.filter(|name| !agreed(name)).collect();
    assert!(more.is_empty(), "not agreed: {more:?}");
}

#[test]
fn files_open_with_their_purpose_and_stay_readable() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{file}: does not open with `//!`"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX && !TABLES.contains(&file.as_str()) {
            wrong.push(format!("{file}: {lines} lines, the limit is {LINES_MAX}"));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > LINE_LENGTH_MAX && !line.contains("\"") {
                wrong.push(format!("{file}:{}: longer than {LINE_LENGTH_MAX}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_api_row_has_a_handler_file_and_every_handler_a_row() {
    let markdown = crate::api::apis_markdown();
    let folder = root().join("src/api/handlers");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().replace(".rs", "");
        let camel: String = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        assert!(name == "mod" || markdown.contains(&format!("| {camel} |")), "{name}.rs has no row in the API table");
    }
}

fn is_current(name: &str, generated: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, generated).unwrap();
    }
    let held = fs::read_to_string(&path).unwrap_or_default();
    assert!(held == generated, "docs/{name} is not current: run scripts/fix (or UPDATE=1 cargo test tidy)");
}

#[test]
fn generated_documents_are_current() {
    is_current("apis.md", &crate::api::apis_markdown());
    is_current("configuration.md", &crate::config::configuration_markdown());
    is_current("metrics.md", &crate::metrics::metrics_markdown());
}

#[test]
fn the_architecture_document_names_every_layer() {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap_or_default();
    let row = |module: &str| text.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{module}`")));
    for (module, allowed) in LAYERS {
        if matches!(*module, "main" | "testing") {
            continue;
        }
        assert!(row(module), "docs/ARCHITECTURE.md: no row for `{module}`");
        let line = text.lines().find(|line| line.starts_with(&format!("| `{module}`"))).unwrap_or_default();
        for import in *allowed {
            assert!(
                line.contains(&format!("`{import}`")),
                "docs/ARCHITECTURE.md: the row of `{module}` lacks `{import}`"
            );
        }
    }
    assert!(Path::new(&root().join("docs/decisions")).is_dir());
}
