//! `RabbitMQ`'s own load tool, `PerfTest`, run from its jars.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::output;

/// The tool, pointed at one broker.
pub struct PerfTest {
    /// Where the jars are.
    pub jars: PathBuf,
    /// The broker's address.
    pub address: String,
    /// What makes a queue here: nothing for a classic one.
    pub queue: &'static [&'static str],
}

/// What a run measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Messages sent a second.
    pub sent: Option<f64>,
    /// Messages received a second, all consumers together.
    pub received: Option<f64>,
    /// From a message's publish to its delivery, ms: the median, and what 99 of 100 stay under.
    pub latency_ms: Option<(f64, f64)>,
    /// From a publish to its confirm, ms: the same.
    pub confirm_ms: Option<(f64, f64)>,
}

impl PerfTest {
    /// Runs it with these arguments.
    pub fn run(&self, arguments: &[&str]) -> Result<Measured> {
        let uri = format!("amqp://guest:guest@{}", self.address);
        let mut java = Command::new("java");
        java.arg("-Xmx1G").arg("-cp").arg(format!("{}/*", self.jars.display()));
        java.args(["com.rabbitmq.perf.PerfTest", "-h", &uri]).args(arguments).args(self.queue);
        let said = output(&mut java).context("PerfTest")?;
        let measured = measured(&said);
        (measured != Measured::default()).then_some(measured).with_context(|| format!("no totals:\n{said}"))
    }
}

/// The totals at the end: `id: ..., sending rate avg: 6481 msg/s`, `id: ..., consumer latency min/median/75th/95th/99th 187/18200/32807/88607/231529 µs`.
fn measured(said: &str) -> Measured {
    let mut all = Measured::default();
    for line in said.lines() {
        let rate = |what: &str| {
            line.split_once(what)?.1.trim().strip_suffix("msg/s")?.trim().replace(',', "").parse::<f64>().ok()
        };
        all.sent = rate("sending rate avg:").or(all.sent);
        all.received = rate("receiving rate avg:").or(all.received);
        all.latency_ms = latency(line, "consumer latency min/median/75th/95th/99th ").or(all.latency_ms);
        all.confirm_ms = latency(line, "confirm latency min/median/75th/95th/99th ").or(all.confirm_ms);
    }
    all
}

/// Median and 99th of a line of microseconds.
fn latency(line: &str, what: &str) -> Option<(f64, f64)> {
    let figures = line.split_once(what)?.1.split_whitespace().next()?;
    let micros: Vec<f64> = figures.split('/').map_while(|n| n.parse().ok()).collect();
    match micros.as_slice() {
        [_, median, _, _, p99] => Some((median / 1e3, p99 / 1e3)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_and_progress_is_not() {
        let said = "id: test-1, time 6.002 s, sent: 6930 msg/s, confirmed: 6615 msg/s\n\
                    id: test-1, sending rate avg: 6481 msg/s\n\
                    id: test-1, receiving rate avg: 6480 msg/s\n\
                    id: test-1, consumer latency min/median/75th/95th/99th 187/18200/32807/88607/231529 µs\n";
        let want = Measured {
            sent: Some(6481.0),
            received: Some(6480.0),
            latency_ms: Some((18.2, 231.529)),
            confirm_ms: None,
        };
        assert_eq!(measured(said), want);
        assert_eq!(measured("id: test-1, time 6.002 s, sent: 6930 msg/s"), Measured::default());
    }
}
