//! The built program, as processes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::client::Client;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ottla");

/// A running broker process.
pub struct Broker {
    process: Child,
    address: SocketAddr,
    /// Keeps the other end of the pipe open.
    _log: std::thread::JoinHandle<()>,
}

impl Broker {
    /// Starts one on `directory` and waits until it serves.
    pub fn start(directory: &Path) -> Broker {
        Broker::with(directory, &[])
    }

    /// With settings of its own.
    pub fn with(directory: &Path, settings: &[&str]) -> Broker {
        Broker::try_start(directory, settings).expect("a broker that starts")
    }

    /// `None` if it ends instead of serving.
    pub fn try_start(directory: &Path, settings: &[&str]) -> Option<Broker> {
        let mut command = Command::new(PROGRAM);
        command.env_clear().arg("--override").arg(format!("log.dirs={}", directory.display()));
        let usual = [
            "listeners=PLAINTEXT://127.0.0.1:0",
            "ottla.metrics.listener=",
            "offsets.topic.num.partitions=1",
            "group.initial.rebalance.delay.ms=0",
        ];
        for setting in usual.iter().chain(settings) {
            command.arg("--override").arg(setting);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let (mut address, mut serves) = (None, false);
        for line in lines.by_ref() {
            let line = line.expect("text");
            if let Some((_, rest)) = line.split_once("listener PLAINTEXT on ") {
                address = Some(rest.trim().parse().expect("an address"));
            }
            if line.contains("Kafka Server started") {
                serves = true;
                break;
            }
        }
        if !serves {
            process.wait().expect("an end");
            return None;
        }
        let address = address.expect("the broker says where it listens");
        let log = std::thread::spawn(move || lines.for_each(drop));
        Some(Broker { process, address, _log: log })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) {
        let id = self.process.id().to_string();
        // The shell's own: a bare machine has no such program.
        let killed = Command::new("sh").args(["-c", "kill \"$0\"", &id]).status().expect("sh runs");
        assert!(killed.success());
        let status = self.process.wait().expect("an end");
        assert!(status.success(), "{status}");
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().expect("kill");
        self.process.wait().expect("an end");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the program with these arguments to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).env_clear().args(arguments).output().expect("the program runs")
}

/// What a program printed.
pub fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// The wall clock, in milliseconds.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_millis() as i64
}
