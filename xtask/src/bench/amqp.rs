//! The AMQP benchmark: a load tool, `RabbitMQ`'s `PerfTest` or our own, against `RabbitMQ` (classic durable and quorum queues) and Millstream,
//! both up at once and measured in turns, so that what the machine does to one it does to the other.

mod calls;
mod client;
mod confirms;
mod deep;
mod idle;
mod load;
mod own;
mod perftest;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use self::client::Kind;
use self::load::{BACKLOG, LOADS, Load, Measured, To, Tool};
use self::own::Own;
use self::perftest::PerfTest;
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
const QUORUM: usize = 2;

struct Plan {
    seconds: u64,
    rounds: u64,
    backlog: u64,
    own_tool: bool,
    binary: Option<PathBuf>,
    only: Option<String>,
}

/// What our own load tool measures beside the loads; 0: not.
struct Extra {
    deep: u64,
    out_of_order: u64,
    idle_queues: u64,
    idle_connections: u64,
    calls: u64,
}

impl Extra {
    fn is_any(&self) -> bool {
        self.deep + self.out_of_order + self.idle_queues + self.idle_connections + self.calls > 0
    }

    fn run(&self, root: &Path, binary: &Path) -> Result<()> {
        let place = Scratch::new(tools::made(root).join("bench-amqp"))?;
        let mut alone = Report::of(&SUBJECTS[..1]);
        if self.deep > 0 {
            deep::deep(binary, place.path(), self.deep, &mut alone)?;
        }
        if self.out_of_order > 0 {
            deep::out_of_order(binary, place.path(), self.out_of_order, &mut alone)?;
        }
        let mut both = Report::of(&SUBJECTS[..2]);
        if self.idle_queues + self.idle_connections > 0 {
            let (queues, connections) = (self.idle_queues, self.idle_connections);
            idle::run(binary, place.path(), queues, connections, &mut both)?;
        }
        if self.calls > 0 {
            calls::run(binary, place.path(), self.calls, &mut both)?;
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
    tool: Box<dyn Tool>,
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
        calls: args.number("--calls", 0)?,
    };
    let plan = Plan {
        seconds: args.number("--seconds", if quick { 5 } else { 15 })?,
        rounds: args.number("--rounds", if quick { 1 } else { 3 })?,
        backlog: args.number("--backlog", if quick { 100_000 } else { 1_000_000 })?,
        own_tool: args.flag("--own-tool"),
        binary: args.value("--binary")?.map(PathBuf::from),
        only: args.value("--only")?,
    };
    args.finish()?;
    if extra.is_any() {
        let binary = plan.binary.clone().map_or_else(|| millstream::build(root), Ok)?;
        return extra.run(root, &binary);
    }
    let tools = if plan.own_tool { Tools::Own } else { Tools::PerfTest(tools::perftest_jars(root)?) };
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
    let subjects = [0, 1, QUORUM].map(|column| {
        let (address, usage) =
            if column == 0 { (&ours.amqp, &usages[0].1) } else { (&theirs.address, &usages[1].1) };
        Subject { column, tool: tools.at(address, column == QUORUM), usage }
    });
    let wanted = |load: &Load| plan.only.as_deref().is_none_or(|only| load.name.contains(only));
    for round in 0..plan.rounds {
        for load in LOADS.iter().filter(|load| wanted(load)) {
            for subject in subjects.iter().filter(|s| load.to != To::ExclusiveQueues || s.column != QUORUM) {
                eprintln!("{}, round {} of {}", load.name, round + 1, plan.rounds);
                subject.load(load, round, plan.seconds, &mut report)?;
            }
        }
        for subject in subjects.iter().filter(|_| plan.backlog > 0 && wanted(&BACKLOG)) {
            eprintln!("{}, round {} of {}", BACKLOG.name, round + 1, plan.rounds);
            subject.backlog(plan.backlog, round, &mut report)?;
        }
    }
    for (column, usage) in &usages {
        report.add("resident, peak, MiB", *column, usage.peak_mib()?);
    }
    println!(
        "{}, {} s a measurement, {} rounds in turns on one machine, medians. Millstream syncs before it confirms; {} as Debian ships it, on \
         its own node with one data directory.\n",
        tools.described(),
        plan.seconds,
        plan.rounds,
        theirs.version()?
    );
    print!("{}", report.markdown());
    theirs.stop()?;
    ours.stop()
}

/// Whose load tool is used.
enum Tools {
    /// Where the jars are.
    PerfTest(PathBuf),
    Own,
}

impl Tools {
    fn at(&self, address: &str, quorum: bool) -> Box<dyn Tool> {
        let address = address.to_owned();
        match self {
            Self::PerfTest(jars) => {
                Box::new(PerfTest { jars: jars.clone(), address, queue: if quorum { &["-qq"] } else { &[] } })
            }
            Self::Own => Box::new(Own { address, kind: if quorum { Kind::Quorum } else { Kind::Durable } }),
        }
    }

    fn described(&self) -> &'static str {
        match self {
            Self::PerfTest(_) => "PerfTest",
            Self::Own => "Our own load tool, one thread a connection",
        }
    }
}

impl Subject<'_> {
    fn queue(&self, what: &str, round: u64) -> String {
        format!("bench-{what}-{}-{round}", self.column)
    }

    fn load(&self, load: &Load, round: u64, seconds: u64, report: &mut Report) -> Result<()> {
        let queue = self.queue("load", round);
        let measured = self.spending(load.name, report, || self.tool.run(load, &queue, seconds))?;
        let mut add = |what: &str, value: Option<f64>| {
            if let Some(value) = value {
                report.add(&format!("{}: {what}", load.name), self.column, value);
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
        let queue = self.queue("backlog", round);
        let what = format!("{messages} messages of 1 KiB: filled");
        let filled = self.spending(&what, report, || self.tool.fill(&BACKLOG, &queue, messages))?;
        if let Some(sent) = filled.sent {
            report.add(&format!("{what}, sent/s"), self.column, sent);
        }
        let what = format!("{messages} messages of 1 KiB: drained");
        let drained = self.spending(&what, report, || self.tool.drain(&BACKLOG, &queue, messages))?;
        if let Some(received) = drained.received {
            report.add(&format!("{what}, received/s"), self.column, received);
        }
        Ok(())
    }

    /// Adds what the broker and the load tool spend on a message: on a machine that both share, their sum is what bounds the rate.
    fn spending(
        &self,
        what: &str,
        report: &mut Report,
        run: impl FnOnce() -> Result<Measured>,
    ) -> Result<Measured> {
        let spent = || Ok::<_, anyhow::Error>([self.usage.cpu_seconds()?, self.usage.tools_cpu_seconds()?]);
        let before = spent()?;
        let measured = run()?;
        for ((who, before), after) in ["broker", "load tool"].into_iter().zip(before).zip(spent()?) {
            let measure = format!("{what}: processor time of the {who} a message, us");
            report.add(&measure, self.column, (after - before) * 1e6 / measured.messages.max(1.0));
        }
        Ok(measured)
    }
}
