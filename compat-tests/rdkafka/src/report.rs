//! The lines that the driver reads (compat-tests/harness/report.py), and the control line to it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::Checked;

#[derive(Default)]
pub struct Report {
    failed: usize,
}

impl Report {
    /// Runs one check. A failure is reported and does not stop the checks that follow.
    pub fn check(&mut self, name: &str, body: impl FnOnce() -> Checked) {
        let began = Instant::now();
        match body() {
            Ok(()) => println!("check {name} ok {:.1} s", began.elapsed().as_secs_f64()),
            Err(why) => {
                self.failed += 1;
                let why: Vec<String> = why.to_string().split_whitespace().map(str::to_owned).collect();
                println!("check {name} failed {}", why.join(" "));
            }
        }
    }

    /// 0 when every check passed.
    pub fn exit_code(&self) -> i32 {
        i32::from(self.failed > 0)
    }
}

/// Sends a word to the driver (harness/control.py) and waits until the broker is ready again.
pub fn control(word: &str) -> Checked {
    let mut connection = TcpStream::connect(std::env::var("OTTLA_CONTROL")?)?;
    writeln!(connection, "{word}")?;
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer)?;
    println!("# {word}: {} s", answer.trim());
    if answer.starts_with("ready") { Ok(()) } else { Err(format!("{word}: {answer}").into()) }
}

/// Fails with a reason unless the condition holds.
pub fn require(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(why().into()) }
}
