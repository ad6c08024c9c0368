//! The Kafka benchmark: both brokers up at once, measured in turns, so that what the machine does to one it does to the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::perf::{Pace, Tools};
use super::report::Report;
use super::usage::Usage;
use crate::args::Args;
use crate::clock::pause;
use crate::millstream::{self, Millstream};
use crate::original::{Original, Setting};
use crate::process::Scratch;
use crate::tools;

/// One record.
const RECORD_BYTES: u64 = 1024;
/// The paced load, in records a second.
const PACED_RATE: u64 = 1_000;
/// Before memory is called idle.
const IDLE_AFTER: Duration = Duration::from_secs(5);
/// What the producer tool may assume of full load, to fill the time asked for: measured of the original.
const FULL_RATE: u64 = 80_000;
/// The same for hundreds of partitions.
const FULL_RATE_MANY: u64 = 30_000;
/// From here on partitions are many.
const PARTITIONS_MANY: u64 = 100;

struct Plan {
    seconds: u64,
    rounds: u64,
    partitions: Vec<u64>,
    binary: Option<PathBuf>,
}

/// The columns of the table, by number.
const OURS: usize = 0;
const THEIRS: usize = 1;

/// A broker under measurement.
struct Subject {
    who: usize,
    name: &'static str,
    tools: Tools,
    usage: Usage,
}

/// Measures, and prints the table.
pub fn run(root: &Path, mut args: Args) -> Result<()> {
    let quick = args.flag("--quick");
    let plan = Plan {
        seconds: args.number("--seconds", if quick { 4 } else { 15 })?,
        rounds: args.number("--rounds", if quick { 1 } else { 3 })?,
        partitions: args
            .value("--partitions")?
            .unwrap_or_else(|| "6,500".to_owned())
            .split(',')
            .map(|count| count.parse().with_context(|| format!("--partitions wants numbers, not {count:?}")))
            .collect::<Result<_>>()?,
        binary: args.value("--binary")?.map(PathBuf::from),
    };
    args.finish()?;
    let jars = tools::kafka_jars(root)?;
    let binary = plan.binary.clone().map_or_else(|| millstream::build(root), Ok)?;
    let place = Scratch::new(tools::made(root).join("bench"))?;
    let mut report = Report::of(&["Millstream", "Apache Kafka"]);

    let ours = Millstream::start(&binary, place.path(), &[])?;
    let theirs = Original::start(&jars, place.path(), Setting::AsItShips)?;
    let subjects = [
        subject(OURS, "millstream", &jars, &ours.bootstrap, ours.pid())?,
        subject(THEIRS, "kafka", &jars, &theirs.bootstrap, theirs.pid())?,
    ];
    report.add("ready on an empty directory, ms", OURS, ours.ready_after.as_secs_f64() * 1e3);
    report.add("ready on an empty directory, ms", THEIRS, theirs.ready_after.as_secs_f64() * 1e3);
    pause(IDLE_AFTER);
    for subject in &subjects {
        report.add("resident, idle, MiB", subject.who, subject.usage.resident_mib()?);
    }
    for &partitions in &plan.partitions {
        for round in 0..plan.rounds {
            let order: [usize; 2] = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for subject in order.iter().filter_map(|&place| subjects.get(place)) {
                eprintln!(
                    "{partitions} partitions, round {} of {}: {}",
                    round + 1,
                    plan.rounds,
                    subject.name
                );
                subject.measure(partitions, round, plan.seconds, &mut report)?;
            }
        }
    }
    for subject in &subjects {
        report.add("resident, peak, MiB", subject.who, subject.usage.peak_mib()?);
    }
    println!(
        "1 KiB records, acks=all, {} s a measurement, {} rounds in turns on one machine, medians. Millstream syncs before it \
         acknowledges; Apache Kafka 4.3.1 as it ships (no sync, heap 1 GiB).\n",
        plan.seconds, plan.rounds
    );
    print!("{}", report.markdown());
    theirs.stop()?;
    ours.stop()
}

fn subject(who: usize, name: &'static str, jars: &Path, bootstrap: &str, pid: u32) -> Result<Subject> {
    let tools = Tools { jars: jars.to_owned(), bootstrap: bootstrap.to_owned() };
    Ok(Subject { who, name, tools, usage: Usage::of(pid)? })
}

impl Subject {
    /// One round on a topic of its own: full load, reading it back, the paced load.
    fn measure(&self, partitions: u64, round: u64, seconds: u64, report: &mut Report) -> Result<()> {
        let topic = format!("bench-{partitions}-{round}");
        let rate = if partitions < PARTITIONS_MANY { FULL_RATE } else { FULL_RATE_MANY };
        let (records, warm_up) = (rate * seconds, rate);
        let mut add =
            |what: &str, value: f64| report.add(&format!("{what}, {partitions} partitions"), self.who, value);
        self.tools.create(&topic, partitions)?;

        let before = self.usage.cpu_seconds()?;
        let full = self.tools.produce(&topic, records, warm_up, RECORD_BYTES, Pace::default())?;
        let cpu = self.usage.cpu_seconds()? - before;
        add("produce at full load, records/s", full.records_per_second);
        add("produce at full load, p50 ms", full.p50_ms);
        add("produce at full load, p99 ms", full.p99_ms);
        add("produce, CPU s/GB", cpu / gigabytes(records + warm_up));

        let before = self.usage.cpu_seconds()?;
        add("consume, catching up, MB/s", self.tools.consume(&topic, records + warm_up)?);
        let cpu = self.usage.cpu_seconds()? - before;
        add("consume, CPU s/GB", cpu / gigabytes(records + warm_up));

        // By default the client itself keeps a record for 5 ms, which both brokers are then measured with; without, what is left is
        // more of the broker's.
        for (how, linger_ms) in [("", None), (" without linger", Some(0))] {
            let pace = Pace { rate: Some(PACED_RATE), linger_ms };
            let paced =
                self.tools.produce(&topic, PACED_RATE * seconds, PACED_RATE * 2, RECORD_BYTES, pace)?;
            add(&format!("produce at 1,000/s{how}, p50 ms"), paced.p50_ms);
            add(&format!("produce at 1,000/s{how}, p99 ms"), paced.p99_ms);
        }
        self.tools.delete(&topic)
    }
}

/// 10^9 bytes.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn gigabytes(records: u64) -> f64 {
    (records * RECORD_BYTES) as f64 / 1e9
}
