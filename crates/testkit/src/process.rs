//! Processes of a benchmark, measured and killed, and what the kernel says of this one.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Runs this program again with these words, and reads what it prints, `name=value` a line, to a line that is `until`. It goes on then:
/// whoever asked kills it, or closes its standard input.
pub fn child<S: AsRef<str>>(words: &[S], until: &str) -> (HashMap<String, f64>, Child) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(words.iter().map(AsRef::as_ref))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut values = HashMap::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == until {
            break;
        }
        eprint!("{line} ");
        let (name, value) = line.split_once('=').unwrap();
        values.insert(name.to_owned(), value.parse().unwrap());
    }
    eprintln!();
    (values, child)
}

/// The same until it has `measured`, and kills it.
pub fn measured_and_killed<S: AsRef<str>>(words: &[S]) -> HashMap<String, f64> {
    let (values, mut child) = child(words, "measured");
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert!(!values.is_empty(), "the process ended early");
    values
}

/// What this process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// Of all its threads.
    pub cpu_seconds: f64,
    /// Sent to the block layer, whoever wrote it.
    pub write_bytes: u64,
}

impl Used {
    /// Now.
    pub fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let mut fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11);
        let mut ticks = || fields.next().unwrap().parse::<f64>().unwrap();
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        // Linux says 100 ticks a second to every program.
        Self { cpu_seconds: (ticks() + ticks()) / 100.0, write_bytes: field(&io, "write_bytes:") }
    }
}

/// Resident memory of this process: now and at most, in MiB.
pub fn resident_mib() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    (field(&status, "VmRSS:") >> 10, field(&status, "VmHWM:") >> 10)
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()).and_then(|v| v.parse().ok()).unwrap_or(0)
}
