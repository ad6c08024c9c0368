//! `RabbitMQ`'s own load tool, `PerfTest`, run from its jars.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::load::{Load, Measured, To, Tool};
use crate::process::output;

/// The exchange of loads with many queues.
const FANOUT: &str = "bench-fan";

/// The tool, pointed at one broker.
pub struct PerfTest {
    /// Where the jars are.
    pub jars: PathBuf,
    /// The broker's address.
    pub address: String,
    /// What makes a queue here: nothing for a classic one.
    pub queue: &'static [&'static str],
}

impl Tool for PerfTest {
    fn run(&self, load: &Load, queue: &str, seconds: u64) -> Result<Measured> {
        let mut arguments = arguments(load);
        arguments.extend(["-z".to_owned(), seconds.to_string()]);
        let last = load.consumers.to_string();
        let of_each = format!("{queue}-%d");
        arguments.extend(
            match load.to {
                To::Queue => vec!["-u", queue, "-ad", "true", "-f", "persistent"],
                To::ExclusiveQueues => vec!["-t", "fanout", "-e", FANOUT],
                To::DurableQueues => {
                    let each = ["-qp", &of_each, "-qpf", "1", "-qpt", &last, "-ad", "true"];
                    [&["-t", "fanout", "-e", FANOUT, "-f", "persistent"][..], &each].concat()
                }
            }
            .into_iter()
            .map(str::to_owned),
        );
        let measured = self.java(&arguments)?;
        let in_seconds = f64::from(u32::try_from(seconds)?);
        Ok(Measured { messages: measured.received.unwrap_or_default() * in_seconds, ..measured })
    }

    fn fill(&self, load: &Load, queue: &str, messages: u64) -> Result<Measured> {
        self.of_backlog(&Load { consumers: 0, ..*load }, queue, "-C", messages)
    }

    fn drain(&self, load: &Load, queue: &str, messages: u64) -> Result<Measured> {
        self.of_backlog(&Load { publishers: 0, ..*load }, queue, "-D", messages)
    }
}

impl PerfTest {
    fn of_backlog(&self, load: &Load, queue: &str, ends_after: &str, messages: u64) -> Result<Measured> {
        let mut arguments = arguments(load);
        let count = messages.to_string();
        let more = ["-u", queue, "-ad", "false", "-f", "persistent", ends_after, &count];
        arguments.extend(more.map(str::to_owned));
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let messages = messages as f64;
        Ok(Measured { messages, ..self.java(&arguments)? })
    }

    fn java(&self, arguments: &[String]) -> Result<Measured> {
        let uri = format!("amqp://guest:guest@{}", self.address);
        let mut java = Command::new("java");
        java.arg("-Xmx1G").arg("-cp").arg(format!("{}/*", self.jars.display()));
        java.args(["com.rabbitmq.perf.PerfTest", "-h", &uri]).args(arguments).args(self.queue);
        let said = output(&mut java).context("PerfTest")?;
        let measured = measured(&said);
        (measured != Measured::default()).then_some(measured).with_context(|| format!("no totals:\n{said}"))
    }
}

/// What all loads say alike.
fn arguments(load: &Load) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
    add("-x", load.publishers.to_string());
    add("-y", load.consumers.to_string());
    add("-s", load.body_bytes.to_string());
    if load.publishers > 0 {
        add("-c", load.unconfirmed_max.to_string());
    }
    if load.consumers > 0 {
        add("-q", load.prefetch.to_string());
        add("-A", load.acked_together.to_string());
    }
    arguments
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
            ..Measured::default()
        };
        assert_eq!(measured(said), want);
        assert_eq!(measured("id: test-1, time 6.002 s, sent: 6930 msg/s"), Measured::default());
    }
}
