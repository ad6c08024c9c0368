//! The SQS benchmark: our load tool against `ElasticMQ` and Millstream, both up at once and measured in turns, so that what the machine
//! does to one it does to the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::report::Report;
use super::sqsload::{Queue, percentile};
use super::usage::Usage;
use crate::args::Args;
use crate::clock::pause;
use crate::elasticmq::ElasticMq;
use crate::millstream::{self, Millstream};
use crate::process::Scratch;
use crate::tools;

/// Before memory is called idle.
const IDLE_AFTER: Duration = Duration::from_secs(5);
/// Long polls that are woken, in each round.
const WAKE_UPS: usize = 300;
/// What a broker does before anything is measured: a Java program must warm up.
const WARM_UP_SECONDS: u64 = 5;
/// Connections, and messages a request.
const CASES: &[(usize, usize)] = &[(1, 1), (1, 10), (32, 1), (32, 10)];

/// A broker under measurement.
struct Subject {
    column: usize,
    address: String,
    usage: Usage,
}

/// Measures, and prints the table.
pub fn run(root: &Path, mut args: Args) -> Result<()> {
    let quick = args.flag("--quick");
    let seconds = args.number("--seconds", if quick { 3 } else { 10 })?;
    let rounds = args.number("--rounds", if quick { 1 } else { 3 })?;
    let binary = args.value("--binary")?.map(PathBuf::from);
    args.finish()?;
    let jars = tools::elasticmq_jars(root)?;
    let binary = binary.map_or_else(|| millstream::build(root), Ok)?;
    let place = Scratch::new(tools::made(root).join("bench-sqs"))?;
    let mut report = Report::of(&["Millstream", "ElasticMQ"]);
    let ours = Millstream::start(&binary, place.path(), &[])?;
    let theirs = ElasticMq::start(&jars, place.path())?;
    let subjects = [
        Subject { column: 0, address: ours.aws.clone(), usage: Usage::of(ours.pid())? },
        Subject { column: 1, address: theirs.address.clone(), usage: Usage::of(theirs.pid())? },
    ];
    pause(IDLE_AFTER);
    for subject in &subjects {
        report.add("resident, idle, MiB", subject.column, subject.usage.resident_mib()?);
    }
    for subject in &subjects {
        Queue::create(&subject.address, "warm-up")?.through(32, 10, WARM_UP_SECONDS)?;
    }
    for round in 0..rounds {
        for &(connections, batch) in CASES {
            for subject in &subjects {
                eprintln!("{connections} connections, {batch} a request, round {} of {rounds}", round + 1);
                subject.through(connections, batch, round, seconds, &mut report)?;
            }
        }
        for subject in &subjects {
            eprintln!("long polls, round {} of {rounds}", round + 1);
            let woken = Queue::create(&subject.address, &format!("poll-{round}"))?.wake_ups(WAKE_UPS)?;
            for percent in [50, 99] {
                if let Some(time) = percentile(&woken, percent) {
                    let measure = format!("from a send to an idle long poll's answer, p{percent} ms");
                    report.add(&measure, subject.column, time);
                }
            }
        }
    }
    for subject in &subjects {
        report.add("resident, peak, MiB", subject.column, subject.usage.peak_mib()?);
    }
    println!(
        "Messages of 1 KiB, each connection sends, receives and deletes in turn; {seconds} s a measurement, {rounds} rounds in turns on one \
         machine, medians. Millstream syncs before each answer; ElasticMQ 1.6.14 keeps everything in memory.\n"
    );
    print!("{}", report.markdown());
    theirs.stop()?;
    ours.stop()
}

impl Subject {
    fn through(
        &self,
        connections: usize,
        batch: usize,
        round: u64,
        seconds: u64,
        report: &mut Report,
    ) -> Result<()> {
        let queue = Queue::create(&self.address, &format!("through-{connections}-{batch}-{round}"))?;
        let tool = Usage::of(std::process::id())?;
        let before = (self.usage.cpu_seconds()?, tool.cpu_seconds()?);
        let done = queue.through(connections, batch, seconds)?;
        let (broker, tool) = (self.usage.cpu_seconds()? - before.0, tool.cpu_seconds()? - before.1);
        let mut add = |what: &str, value: Option<f64>| {
            if let Some(value) = value {
                let plural = if connections == 1 { "" } else { "s" };
                let measure = format!("{connections} connection{plural}, {batch} a request: {what}");
                report.add(&measure, self.column, value);
            }
        };
        add("messages/s", Some(done.per_second));
        for (verb, times) in
            [("send", &done.send_ms), ("receive", &done.receive_ms), ("delete", &done.delete_ms)]
        {
            add(&format!("{verb} p50, ms"), percentile(times, 50));
            add(&format!("{verb} p99, ms"), percentile(times, 99));
        }
        let thousands = done.messages / 1e3;
        add("the broker's CPU, ms per 1,000 messages", Some(broker * 1e3 / thousands));
        add("the load tool's CPU, ms per 1,000 messages", Some(tool * 1e3 / thousands));
        Ok(())
    }
}
