//! One queue of ours, deep: what it takes to fill, to come back after a kill, to drain from the disk, and to be settled out of order.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::client::{Acks, Client, Kind};
use super::load::BACKLOG;
use super::wire;
use crate::bench::report::Report;
use crate::bench::usage::Usage;
use crate::clock::Moment;
use crate::millstream::Millstream;

const QUEUE: &str = "deep";
/// A body in the deep queue, and in the one that is settled out of order.
const DEEP_BODY_BYTES: usize = 256;
const BODY_BYTES: usize = 1024;
/// Of a deep queue so much is drained at a time.
const DRAINED: u64 = 500_000;
/// The broker leases at most eight million of a queue: of more, the last would never be delivered while the others are out.
const OUT_OF_ORDER_MAX: u64 = 12_000_000;

/// How a queue is drained in order.
const IN_ORDER: (u16, Acks) = (BACKLOG.prefetch, Acks::Together(BACKLOG.acked_together));

/// A broker that is measured while something is done to it.
struct Watched {
    usage: Usage,
    cpu_seconds: f64,
    reads: f64,
}

impl Watched {
    fn of(broker: &Millstream) -> Result<Self> {
        let usage = Usage::of(broker.pid())?;
        Ok(Self { cpu_seconds: usage.cpu_seconds()?, reads: usage.reads()?, usage })
    }

    /// Adds the rate, and what the broker spent on each message.
    fn add(&self, report: &mut Report, what: &str, messages: u64, took: Duration) -> Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let n = messages as f64;
        report.add(&format!("{what}: messages/s"), 0, n / took.as_secs_f64());
        let cpu = (self.usage.cpu_seconds()? - self.cpu_seconds) * 1e6 / n;
        report.add(&format!("{what}: processor time of the broker a message, us"), 0, cpu);
        let reads = (self.usage.reads()? - self.reads) * 1e3 / n;
        report.add(&format!("{what}: reads of files a thousand messages"), 0, reads);
        report.add(&format!("{what}: resident after it, MiB"), 0, self.usage.resident_mib()?);
        Ok(())
    }
}

fn fill(broker: &Millstream, report: &mut Report, what: &str, messages: u64, body: usize) -> Result<()> {
    let mut client = Client::open(&broker.amqp)?;
    client.declare(std::iter::once(QUEUE.to_owned()), Kind::Durable)?;
    client.select()?;
    let message = wire::message("", QUEUE, true, body)?;
    let (watched, started) = (Watched::of(broker)?, Moment::now());
    client.publish(&message, BACKLOG.unconfirmed_max, |sent, _| sent < messages)?;
    watched.add(report, &format!("{what}, filled with confirms"), messages, started.elapsed())
}

/// `prefetch` 0: without end.
fn drain(
    broker: &Millstream,
    report: &mut Report,
    what: &str,
    messages: u64,
    (prefetch, acks): (u16, Acks),
) -> Result<()> {
    let mut client = Client::open(&broker.amqp)?;
    let watched = Watched::of(broker)?;
    client.subscribe(QUEUE, prefetch)?;
    let started = Moment::now();
    client.consume(acks, |got| got < messages)?;
    let took = started.elapsed();
    client.close()?;
    watched.add(report, what, messages, took)
}

/// Kills it and starts it again on what it left.
fn restart(
    broker: Millstream,
    binary: &Path,
    place: &Path,
    report: &mut Report,
    what: &str,
) -> Result<Millstream> {
    let usage = Usage::of(broker.pid())?;
    report.add(&format!("{what}: resident at most, MiB"), 0, usage.peak_mib()?);
    let broker = Millstream::start_on(broker.kill(), binary, place, &[])?;
    report.add(&format!("{what}: ready after kill -9, s"), 0, broker.ready_after.as_secs_f64());
    Ok(broker)
}

/// Fills a queue deeply, kills the broker, and drains a part from the disk; beside it, the same of a queue that was just filled.
pub(super) fn deep(binary: &Path, place: &Path, messages: u64, report: &mut Report) -> Result<()> {
    let what = format!("{messages} of {DEEP_BODY_BYTES} bytes");
    let part = messages.min(DRAINED);
    let broker = Millstream::start(binary, place, &[])?;
    eprintln!("{what}");
    fill(&broker, report, &what, messages, DEEP_BODY_BYTES)?;
    let broker = restart(broker, binary, place, report, &what)?;
    drain(&broker, report, &format!("{what}: the first {part} right after that"), part, IN_ORDER)?;
    let next = part.min(messages - part);
    if next > 0 {
        drain(&broker, report, &format!("{what}: the next {next}"), next, IN_ORDER)?;
    }
    broker.stop()?;
    let broker = Millstream::start(binary, place, &[])?;
    let hot = format!("{} just filled", 2 * part);
    fill(&broker, report, &hot, 2 * part, DEEP_BODY_BYTES)?;
    drain(&broker, report, &format!("{hot}: the first {part}"), part, IN_ORDER)?;
    broker.stop()
}

/// Has every third message acknowledged and the others given back; after a kill all others are there, and no more.
pub(super) fn out_of_order(binary: &Path, place: &Path, messages: u64, report: &mut Report) -> Result<()> {
    ensure!(messages <= OUT_OF_ORDER_MAX, "at most {OUT_OF_ORDER_MAX} are leased at a time");
    let what = format!("{messages} of 1 KiB, every third acknowledged out of order");
    eprintln!("{what}");
    let broker = Millstream::start(binary, place, &[])?;
    fill(&broker, report, &what, messages, BODY_BYTES)?;
    drain(&broker, report, &format!("{what}: delivered"), messages, (0, Acks::EveryThird))?;
    let broker = restart(broker, binary, place, report, &what)?;
    let rest = messages - messages / 3;
    drain(&broker, report, &format!("{what}: the rest"), rest, IN_ORDER)?;
    let left = Client::open(&broker.amqp)?.depth(QUEUE)?;
    ensure!(left == 0, "{left} messages more than there should be");
    broker.stop()
}
