//! The AMQP benchmark: `RabbitMQ`'s `PerfTest` against `RabbitMQ` (classic durable and quorum queues) and Millstream, both up at once and
//! measured in turns, so that what the machine does to one it does to the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::amqpidle;
use super::amqpqueue;
use super::perftest::{Measured, PerfTest};
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

/// What our own load tool measures; 0: not.
struct Extra {
    deep: u64,
    out_of_order: u64,
    idle_queues: u64,
    idle_connections: u64,
}

impl Extra {
    fn is_any(&self) -> bool {
        self.deep + self.out_of_order + self.idle_queues + self.idle_connections > 0
    }

    fn run(&self, root: &Path, binary: &Path) -> Result<()> {
        let place = Scratch::new(tools::made(root).join("bench-amqp"))?;
        let mut alone = Report::of(&SUBJECTS[..1]);
        if self.deep > 0 {
            amqpqueue::deep(binary, place.path(), self.deep, &mut alone)?;
        }
        if self.out_of_order > 0 {
            amqpqueue::out_of_order(binary, place.path(), self.out_of_order, &mut alone)?;
        }
        let mut both = Report::of(&SUBJECTS[..2]);
        if self.idle_queues + self.idle_connections > 0 {
            let (queues, connections) = (self.idle_queues, self.idle_connections);
            amqpidle::run(binary, place.path(), queues, connections, &mut both)?;
        }
        println!(
            "Our own load tool: one client on the same machine.\n\n{}\n{}",
            alone.markdown(),
            both.markdown()
        );
        Ok(())
    }
}

/// A broker, and a kind of queue there.
struct Subject<'a> {
    column: usize,
    perf: PerfTest,
    usage: &'a Usage,
}

/// Measures, and prints the table.
pub fn run(root: &Path, mut args: Args) -> Result<()> {
    let quick = args.flag("--quick");
    let extra = Extra {
        deep: args.number("--deep", 0)?,
        out_of_order: args.number("--out-of-order", 0)?,
        idle_queues: args.number("--idle-queues", 0)?,
        idle_connections: args.number("--idle-connections", 0)?,
    };
    let plan = Plan {
        seconds: args.number("--seconds", if quick { 5 } else { 15 })?,
        rounds: args.number("--rounds", if quick { 1 } else { 3 })?,
        backlog: args.number("--backlog", if quick { 100_000 } else { 1_000_000 })?,
        binary: args.value("--binary")?.map(PathBuf::from),
        only: args.value("--only")?,
    };
    args.finish()?;
    if extra.is_any() {
        let binary = plan.binary.clone().map_or_else(|| millstream::build(root), Ok)?;
        return extra.run(root, &binary);
    }
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
        usage: if column == 0 { &usages[0].1 } else { &usages[1].1 },
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

impl Subject<'_> {
    fn queue(&self, what: &str, round: u64) -> String {
        format!("bench-{what}-{}-{round}", self.column)
    }

    fn load(&self, case: &Case, round: u64, seconds: u64, report: &mut Report) -> Result<()> {
        let (queue, in_seconds) = (self.queue("load", round), f64::from(u32::try_from(seconds)?));
        let seconds = seconds.to_string();
        let mut arguments = case.arguments.to_vec();
        arguments.extend(["-z", &seconds]);
        if !case.exclusive {
            arguments.extend(["-u", &queue, "-ad", "true"]);
        }
        let (measured, spent) = self.run(&arguments)?;
        if let Some(received) = measured.received {
            spent.add(case.name, self.column, received * in_seconds, report);
        }
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
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let n = messages as f64;
        let (filled, spent) = self.run(&fill)?;
        if let Some(sent) = filled.sent {
            let what = format!("{messages} messages of 1 KiB: filled");
            report.add(&format!("{what}, sent/s"), self.column, sent);
            spent.add(&what, self.column, n, report);
        }
        let (drained, spent) = self.run(&drain)?;
        if let Some(received) = drained.received {
            let what = format!("{messages} messages of 1 KiB: drained");
            report.add(&format!("{what}, received/s"), self.column, received);
            spent.add(&what, self.column, n, report);
        }
        Ok(())
    }

    /// Runs the load tool. What it measured, and what it and the broker spent.
    fn run(&self, arguments: &[&str]) -> Result<(Measured, Spent)> {
        let (broker, tool) = (self.usage.cpu_seconds()?, self.usage.tools_cpu_seconds()?);
        let measured = self.perf.run(arguments)?;
        let (broker, tool) = (self.usage.cpu_seconds()? - broker, self.usage.tools_cpu_seconds()? - tool);
        Ok((measured, Spent { broker, tool }))
    }
}

/// Processor seconds of a run: on a machine that both share, their sum is what bounds the rate.
struct Spent {
    broker: f64,
    tool: f64,
}

impl Spent {
    fn add(&self, what: &str, column: usize, messages: f64, report: &mut Report) {
        for (who, seconds) in [("broker", self.broker), ("load tool", self.tool)] {
            let measure = format!("{what}: processor time of the {who} a message, us");
            report.add(&measure, column, seconds * 1e6 / messages.max(1.0));
        }
    }
}
