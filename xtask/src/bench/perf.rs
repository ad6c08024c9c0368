//! Apache Kafka's own tools: `ProducerPerformance`, `ConsumerPerformance`, `TopicCommand`, run from its jars.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::output;

/// How the producer tool sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Records a second; as fast as it goes if not said.
    pub rate: Option<u64>,
    /// `linger.ms`, how long a record waits for others in the client; its own default of 5 if not said.
    pub linger_ms: Option<u64>,
}

/// The tools, pointed at one broker.
pub struct Tools {
    /// Where the jars are.
    pub jars: PathBuf,
    /// The broker's address.
    pub bootstrap: String,
}

/// What the producer tool measured after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Produced {
    /// Acknowledged records a second.
    pub records_per_second: f64,
    /// Median time from `send` to the acknowledgement, in ms.
    pub p50_ms: f64,
    /// The time that 99 of 100 stay under, in ms.
    pub p99_ms: f64,
}

impl Tools {
    /// Makes a topic.
    pub fn create(&self, topic: &str, partitions: u64) -> Result<()> {
        let partitions = partitions.to_string();
        self.tool("TopicCommand", &["--create", "--topic", topic, "--partitions", &partitions]).map(drop)
    }

    /// Removes a topic.
    pub fn delete(&self, topic: &str) -> Result<()> {
        self.tool("TopicCommand", &["--delete", "--topic", topic]).map(drop)
    }

    /// Sends `records` of `bytes` each with acks=all, after `warm_up` more that do not count.
    pub fn produce(
        &self,
        topic: &str,
        records: u64,
        warm_up: u64,
        bytes: u64,
        pace: Pace,
    ) -> Result<Produced> {
        let rate = pace.rate.map_or_else(|| "-1".to_owned(), |rate| rate.to_string());
        let (all, warm_up, bytes) = ((records + warm_up).to_string(), warm_up.to_string(), bytes.to_string());
        let linger = pace.linger_ms.map(|ms| format!("linger.ms={ms}"));
        let mut arguments = vec![
            "--topic",
            topic,
            "--num-records",
            &all,
            "--warmup-records",
            &warm_up,
            "--record-size",
            &bytes,
            "--throughput",
            &rate,
            "--reporting-interval",
            "600000",
            "--command-property",
            "acks=all",
        ];
        arguments.extend(linger.as_deref());
        let said = self.tool("ProducerPerformance", &arguments)?;
        said.lines()
            .rev()
            .find_map(produced)
            .with_context(|| format!("no totals from the producer tool:\n{said}"))
    }

    /// Reads `records` from the start; MB (2^20) a second, the time in the group's first rebalance left out.
    pub fn consume(&self, topic: &str, records: u64) -> Result<f64> {
        let records = records.to_string();
        let said = self.tool(
            "ConsumerPerformance",
            &[
                "--topic",
                topic,
                "--num-records",
                &records,
                "--timeout",
                "60000",
                "--reporting-interval",
                "600000",
            ],
        )?;
        said.lines()
            .rev()
            .find_map(consumed)
            .with_context(|| format!("no totals from the consumer tool:\n{said}"))
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let mut java = Command::new("java");
        java.args(["-Xmx1G", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]);
        java.arg("-cp").arg(format!("{}/*", self.jars.display()));
        java.arg(format!("org.apache.kafka.tools.{name}")).args(["--bootstrap-server", &self.bootstrap]);
        output(java.args(arguments)).with_context(|| name.to_owned())
    }
}

/// The totals in a line such as `500 records sent, 99.5 records/sec (0.1 MB/sec), 0.6 ms avg latency, 9.0 ms max latency, 1 ms 50th, ...`.
fn produced(line: &str) -> Option<Produced> {
    let before = |unit: &str| {
        let words = line.split_once(unit)?.0;
        words.rsplit([' ', '(']).next()?.parse::<f64>().ok()
    };
    Some(Produced {
        records_per_second: before(" records/sec")?,
        p50_ms: before(" ms 50th")?,
        p99_ms: before(" ms 99th")?,
    })
}

/// `fetch.MB.sec` of the line of figures: start, end, MB, MB.sec, records, records.sec, rebalance ms, fetch ms, fetch MB.sec, fetch records.sec.
fn consumed(line: &str) -> Option<f64> {
    let fields: Vec<&str> = line.split(", ").collect();
    match fields.as_slice() {
        [_, _, _, _, _, _, _, _, fetched, _] => fetched.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_and_progress_is_not() {
        let line = "20000 records sent, 998.7 records/sec (0.98 MB/sec), 1.10 ms avg latency, 40.00 ms max latency, \
                    1 ms 50th, 2 ms 95th, 12 ms 99th, 30 ms 99.9th.";
        assert_eq!(produced(line), Some(Produced { records_per_second: 998.7, p50_ms: 1.0, p99_ms: 12.0 }));
        assert_eq!(produced("5000 records sent, 999.8 records/sec (0.98 MB/sec), 1.0 ms avg latency"), None);
        let line = "2026-01-01 00:00:00:000, 2026-01-01 00:00:01:000, 195.3, 150.1, 200000, 153728.9, 314, 987, 197.9, 202634.2";
        assert_eq!(consumed(line), Some(197.9));
        assert_eq!(consumed("start.time, end.time, data.consumed.in.MB"), None);
    }
}
