//! What queues and connections take that do nothing: memory of both brokers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::{Client, Kind};
use crate::bench::report::Report;
use crate::bench::usage::Usage;
use crate::clock::pause;
use crate::millstream::Millstream;
use crate::process::Scratch;
use crate::rabbitmq::RabbitMq;

/// Before memory is called idle.
const IDLE_AFTER: Duration = Duration::from_secs(15);

/// A broker of which the memory is looked at.
struct Subject<'a> {
    column: usize,
    address: &'a str,
    usage: Usage,
}

/// Makes so many durable queues, then so many connections with a channel each. 0: none.
pub(super) fn run(
    binary: &Path,
    place: &Path,
    queues: u64,
    connections: u64,
    report: &mut Report,
) -> Result<()> {
    let data = Scratch::new(place.join("rabbitmq-data"))?;
    let (ours, theirs) = (Millstream::start(binary, place, &[])?, RabbitMq::start(data.path())?);
    let subjects = [
        Subject { column: 0, address: &ours.amqp, usage: Usage::of(ours.pid())? },
        Subject { column: 1, address: &theirs.address, usage: Usage::of(theirs.pid()?)? },
    ];
    for subject in &subjects {
        if queues > 0 {
            subject.takes(report, &format!("{queues} idle durable queues"), || {
                Client::open(subject.address)?
                    .declare((0..queues).map(|n| format!("idle-{n}")), Kind::Durable)
            })?;
        }
        if connections > 0 {
            subject.takes(report, &format!("{connections} idle connections with a channel each"), || {
                let open = |n| Client::open(subject.address).with_context(|| format!("connection {n}"));
                (0..connections).map(open).collect::<Result<Vec<Client>>>()
            })?;
        }
    }
    theirs.stop()?;
    ours.stop()
}

impl Subject<'_> {
    /// Adds what memory was taken by what `make` makes, and stays while that is held.
    fn takes<T>(&self, report: &mut Report, what: &str, make: impl FnOnce() -> Result<T>) -> Result<()> {
        eprintln!("{what}");
        pause(IDLE_AFTER);
        let before = self.usage.resident_mib()?;
        let held = make()?;
        pause(IDLE_AFTER);
        report.add(&format!("{what}: resident more, MiB"), self.column, self.usage.resident_mib()? - before);
        drop(held);
        Ok(())
    }
}
