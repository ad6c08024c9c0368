//! The AMQP benchmark: `RabbitMQ`'s `PerfTest` against `RabbitMQ` (classic durable and quorum queues) and Millstream, both up at once and
//! measured in turns, so that what the machine does to one it does to the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::perftest::PerfTest;
use super::report::Report;
use super::usage::Usage;
use crate::args::Args;
use crate::clock::pause;
use crate::millstream::{self, Millstream};
use crate::process::Scratch;
use crate::rabbitmq::RabbitMq;
use crate::tools;

/// Before memory is called idle.
const IDLE_AFTER: Duration = Duration::from_secs(5);
/// The columns; ours first.
const SUBJECTS: [&str; 3] = ["Millstream", "RabbitMQ classic", "RabbitMQ quorum"];

struct Plan {
    seconds: u64,
    rounds: u64,
    backlog: u64,
    binary: Option<PathBuf>,
    only: Option<String>,
}

/// A load that runs for a while.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Its queues are exclusive ones: not for quorum queues.
    exclusive: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "1 KiB persistent, confirmed, 2 connections",
        arguments: &[
            "-x",
            "1",
            "-y",
            "1",
            "-f",
            "persistent",
            "-c",
            "500",
            "-q",
            "500",
            "-A",
            "50",
            "-s",
            "1024",
        ],
        exclusive: false,
    },
    Case {
        name: "1 KiB persistent, confirmed, 50 connections",
        arguments: &[
            "-x",
            "25",
            "-y",
            "25",
            "-f",
            "persistent",
            "-c",
            "100",
            "-q",
            "100",
            "-A",
            "20",
            "-s",
            "1024",
        ],
        exclusive: false,
    },
    Case {
        name: "16 bytes persistent, confirmed",
        arguments: &[
            "-x",
            "1",
            "-y",
            "1",
            "-f",
            "persistent",
            "-c",
            "1000",
            "-q",
            "1000",
            "-A",
            "100",
            "-s",
            "16",
        ],
        exclusive: false,
    },
    Case {
        name: "1 KiB to 50 queues of a fanout",
        arguments: &[
            "-x",
            "1",
            "-y",
            "50",
            "-t",
            "fanout",
            "-e",
            "bench-fan",
            "-c",
            "100",
            "-q",
            "500",
            "-A",
            "50",
            "-s",
            "1024",
        ],
        exclusive: true,
    },
];

/// A broker, and a kind of queue there.
struct Subject {
    column: usize,
    perf: PerfTest,
}

/// Measures, and prints the table.
pub fn run(root: &Path, mut args: Args) -> Result<()> {
    let quick = args.flag("--quick");
    let plan = Plan {
        seconds: args.number("--seconds", if quick { 5 } else { 15 })?,
        rounds: args.number("--rounds", if quick { 1 } else { 3 })?,
        backlog: args.number("--backlog", if quick { 100_000 } else { 1_000_000 })?,
        binary: args.value("--binary")?.map(PathBuf::from),
        only: args.value("--only")?,
    };
    args.finish()?;
    let jars = tools::perftest_jars(root)?;
    let binary = plan.binary.clone().map_or_else(|| millstream::build(root), Ok)?;
    let place = Scratch::new(tools::made(root).join("bench-amqp"))?;
    let mut report = Report::of(&SUBJECTS);
    let ours = Millstream::start(&binary, place.path(), &[])?;
    let theirs = RabbitMq::start(place.path())?;
    let usages = [(0, Usage::of(ours.pid())?), (1, Usage::of(theirs.pid()?)?)];
    pause(IDLE_AFTER);
    for (column, usage) in &usages {
        report.add("resident, idle, MiB", *column, usage.resident_mib()?);
    }
    let subject = |column, address: &str, queue| Subject {
        column,
        perf: PerfTest { jars: jars.clone(), address: address.to_owned(), queue },
    };
    let subjects = [
        subject(0, &ours.amqp, &[]),
        subject(1, &theirs.address, &[]),
        subject(2, &theirs.address, &["-qq"]),
    ];
    let wanted = |name: &str| plan.only.as_deref().is_none_or(|only| name.contains(only));
    for round in 0..plan.rounds {
        for case in CASES.iter().filter(|case| wanted(case.name)) {
            for subject in subjects.iter().filter(|s| !(case.exclusive && s.column == 2)) {
                eprintln!("{}, round {} of {}", case.name, round + 1, plan.rounds);
                subject.load(case, round, plan.seconds, &mut report)?;
            }
        }
        for subject in subjects.iter().filter(|_| plan.backlog > 0 && wanted("backlog")) {
            eprintln!("backlog, round {} of {}", round + 1, plan.rounds);
            subject.backlog(plan.backlog, round, &mut report)?;
        }
    }
    for (column, usage) in &usages {
        report.add("resident, peak, MiB", *column, usage.peak_mib()?);
    }
    println!(
        "PerfTest, {} s a measurement, {} rounds in turns on one machine, medians. Millstream syncs before it confirms; RabbitMQ as \
         Debian ships it, on its own node with one data directory.\n",
        plan.seconds, plan.rounds
    );
    print!("{}", report.markdown());
    theirs.stop()?;
    ours.stop()
}

impl Subject {
    fn queue(&self, what: &str, round: u64) -> String {
        format!("bench-{what}-{}-{round}", self.column)
    }

    fn load(&self, case: &Case, round: u64, seconds: u64, report: &mut Report) -> Result<()> {
        let (queue, seconds) = (self.queue("load", round), seconds.to_string());
        let mut arguments = case.arguments.to_vec();
        arguments.extend(["-z", &seconds]);
        if !case.exclusive {
            arguments.extend(["-u", &queue, "-ad", "true"]);
        }
        let measured = self.perf.run(&arguments)?;
        let mut add = |what: &str, value: Option<f64>| {
            if let Some(value) = value {
                report.add(&format!("{}: {what}", case.name), self.column, value);
            }
        };
        add("sent/s", measured.sent);
        add("received/s", measured.received);
        add("latency p50, ms", measured.latency_ms.map(|l| l.0));
        add("latency p99, ms", measured.latency_ms.map(|l| l.1));
        add("confirm p99, ms", measured.confirm_ms.map(|l| l.1));
        Ok(())
    }

    /// Fills a queue, then empties it.
    fn backlog(&self, messages: u64, round: u64, report: &mut Report) -> Result<()> {
        let (queue, count) = (self.queue("backlog", round), messages.to_string());
        let common = ["-u", &queue, "-ad", "false", "-f", "persistent", "-s", "1024"];
        let fill = [&["-x", "1", "-y", "0", "-c", "1000", "-C", &count], &common[..]].concat();
        let drain = [&["-x", "0", "-y", "1", "-q", "1000", "-A", "100", "-D", &count], &common[..]].concat();
        if let Some(sent) = self.perf.run(&fill)?.sent {
            report.add(&format!("{messages} messages of 1 KiB: filled, sent/s"), self.column, sent);
        }
        if let Some(received) = self.perf.run(&drain)?.received {
            report.add(&format!("{messages} messages of 1 KiB: drained, received/s"), self.column, received);
        }
        Ok(())
    }
}
