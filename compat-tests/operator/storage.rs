//! `ottla storage`: what Kafka's tool says and does, and that a broker takes up what was chosen.

use std::path::Path;

use kafka_protocol::messages::ApiVersionsRequest;

use crate::asks;
use crate::broker::{Broker, run, text};

const ID: &str = "5L6g3nShT-eMCtK--X86sw";

/// Exit code and output, errors after the rest.
fn storage(arguments: &[&str]) -> (i32, String) {
    let output = run(&[&["storage"], arguments].concat());
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}

fn settings(root: &Path, name: &str, lines: &str) -> String {
    let file = root.join(name);
    let directories = format!("log.dirs={0}/b,{0}/a\n", root.display());
    std::fs::write(&file, format!("process.roles=broker,controller\nnode.id=1\n{directories}{lines}")).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn formats_once_and_says_so_as_kafka_does() {
    let root = tempfile::tempdir().unwrap();
    let shown = root.path().display();
    let file = settings(root.path(), "static", "controller.quorum.voters=1@localhost:9093\n");
    let (code, said) = storage(&["info", "--config", &file]);
    assert_eq!(
        (code, said.as_str()),
        (1, &*format!("Found problems:\n  {shown}/a does not exist\n  {shown}/b does not exist\n\n"))
    );
    let (code, said) = storage(&["format", "--config", &file, "-t", ID, "--standalone"]);
    assert!(code == 1 && said.starts_with("You cannot specify controller.quorum.voters and format"), "{said}");
    let (code, said) = storage(&["format", "--config", &file, "-t", ID]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(code, 0, "{said}");
    assert!(lines[0].starts_with(
        "Bootstrap metadata: BootstrapMetadata(records=[ApiMessageAndVersion(FeatureLevelRecord(\
         name='metadata.version', featureLevel=30) at version 0)"
    ));
    assert!(lines[0].ends_with("metadataVersionLevel=30, source=format command)"));
    assert_eq!(lines[1], format!("Formatting data directory {shown}/a with metadata.version 4.3-IV0."));
    assert_eq!(lines[2], format!("Formatting metadata directory {shown}/b with metadata.version 4.3-IV0."));
    let (code, said) = storage(&["format", "--config", &file, "-t", ID]);
    let refused = format!(
        "Log directory {shown}/a is already formatted. Use --ignore-formatted to ignore this directory and format the \
         others.\n"
    );
    assert_eq!((code, said), (1, refused));
    let again = storage(&["format", "--config", &file, "-t", ID, "-g"]);
    assert_eq!(again, (0, "All of the log directories are already formatted.\n".to_owned()));
    let (code, said) = storage(&["format", "--config", &file, "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-g"]);
    assert!(code == 1 && said.contains(&format!("Expected AAAAAAAAAAAAAAAAAAAAAQ, but read {ID}")), "{said}");
    let (code, said) = storage(&["info", "--config", &file]);
    assert!(code == 0 && said.contains(&format!("Found metadata: {{cluster.id={ID}, directory.id=")), "{said}");
    assert!(said.ends_with(", node.id=1, version=1}\n\n"), "{said}");
}

#[test]
fn a_broker_begins_with_the_levels_that_were_chosen() {
    let root = tempfile::tempdir().unwrap();
    let file = settings(root.path(), "dynamic", "");
    let (code, said) = storage(&["format", "--config", &file, "-t", ID]);
    assert!(code == 1 && said.starts_with("Because controller.quorum.voters is not set on this controller"), "{said}");
    let (code, said) = storage(&["format", "--config", &file, "-t", ID, "-s", "--release-version", "4.0"]);
    assert!(code == 0 && said.contains("Formatting dynamic metadata voter directory"), "{said}");
    let both = format!("{0}/b,{0}/a", root.path().display());
    let broker = Broker::start(Path::new(&both));
    let mut client = broker.client();
    let request = ApiVersionsRequest::default()
        .with_client_software_name(asks::text("operator"))
        .with_client_software_version(asks::text("1"));
    let answer = client.call(4, &request);
    let level = answer.finalized_features.iter().find(|feature| &*feature.name == "metadata.version").unwrap();
    assert_eq!(level.max_version_level, 25, "4.0-IV3");
    assert_eq!(client.call(12, &asks::metadata(12, &[])).cluster_id.as_deref(), Some(ID));
    broker.stop();
    let verified = run(&["verify", &format!("{}/b", root.path().display()), &format!("{}/a", root.path().display())]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
}

#[test]
fn refusals_write_nothing() {
    let root = tempfile::tempdir().unwrap();
    let file = settings(root.path(), "dynamic", "");
    let cases: [(&[&str], &str); 7] = [
        (&["-t", "short"], "Cluster ID short"),
        (&["-t", ID, "-f", "foo=1"], "Unsupported feature: foo. Supported features are: "),
        (&["-t", ID, "-f", "metadata.version=31"], "metadata.version 4.4-IV0 is not yet stable."),
        (&["-t", ID, "-f", "metadata.version=20", "-r", "3.9"], "Use --release-version instead of --feature"),
        (&["-t", ID, "-f", "group.version=9"], "No feature:group.version with feature level 9"),
        (&["-t", ID, "-r", "9.9"], "Unknown metadata.version '9.9'. Supported metadata.version are: 3.3-IV3, "),
        (&["-t", ID, "-S", "SCRAM-SHA-256=[name=a,password=b]"], "--add-scram: "),
    ];
    for (arguments, expected) in cases {
        let (code, said) = storage(&[&["format", "--config", &file, "-s"], arguments].concat());
        assert!(code == 1 && said.starts_with(expected), "{arguments:?}: {code} {said}");
    }
    let (code, _) = storage(&["format", "--config", &file]);
    assert_eq!(code, 1, "the cluster id is missing");
    assert!(!root.path().join("a").exists() && !root.path().join("b").exists());
}
