//! A call and its answer: one at a time, from one connection to another and back, beside the same against `RabbitMQ`.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::client::{Client, Kind};
use super::wire;
use crate::bench::report::Report;
use crate::clock::Moment;
use crate::millstream::Millstream;
use crate::process::Scratch;
use crate::rabbitmq::RabbitMq;

const BODY_BYTES: usize = 100;
/// Rounds, the brokers in turns.
const ROUNDS: usize = 3;
/// Calls before those that are timed.
const WARM_UP: u64 = 200;

/// By which queues calls and answers go.
const WAYS: [(&str, Kind, bool); 2] = [
    ("by exclusive queues, transient", Kind::Exclusive, false),
    ("by durable queues, persistent", Kind::Durable, true),
];

/// Times so many calls each way and round.
pub(super) fn run(binary: &Path, place: &Path, calls: u64, report: &mut Report) -> Result<()> {
    let data = Scratch::new(place.join("rabbitmq-data"))?;
    let (ours, theirs) = (Millstream::start(binary, place, &[])?, RabbitMq::start(data.path())?);
    for round in 0..ROUNDS {
        for (what, kind, persistent) in WAYS {
            for (column, address) in [&ours.amqp, &theirs.address].into_iter().enumerate() {
                eprintln!("calls {what}, round {} of {ROUNDS}", round + 1);
                let mut took = timed(address, kind, persistent, calls)?;
                took.sort_unstable();
                for (name, percent) in [("p50", 50), ("p99", 99)] {
                    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
                    let ms = took.get(at).map_or(0.0, |t| t.as_secs_f64() * 1e3);
                    report.add(&format!("a call {what}: {name}, ms"), column, ms);
                }
            }
        }
    }
    theirs.stop()?;
    ours.stop()
}

/// How long each call took.
fn timed(address: &str, kind: Kind, persistent: bool, calls: u64) -> Result<Vec<Duration>> {
    let (mut caller, mut server) = (Client::open(address)?, Client::open(address)?);
    for (client, queue) in [(&mut caller, "answers"), (&mut server, "calls")] {
        client.declare(std::iter::once(queue.to_owned()), kind)?;
        client.subscribe(queue, 1)?;
    }
    let answer = wire::message("", "answers", persistent, BODY_BYTES)?;
    let call = wire::message("", "calls", persistent, BODY_BYTES)?;
    let answering = thread::spawn(move || {
        (0..WARM_UP + calls).try_for_each(|_| {
            server.take()?;
            server.send(&answer)
        })?;
        server.close()
    });
    let mut took = Vec::new();
    for n in 0..WARM_UP + calls {
        let began = Moment::now();
        caller.send(&call)?;
        caller.take()?;
        if n >= WARM_UP {
            took.push(began.elapsed());
        }
    }
    answering.join().map_err(|_| anyhow!("the server of calls broke down"))??;
    if kind == Kind::Durable {
        caller.delete("calls")?;
        caller.delete("answers")?;
    }
    caller.close()?;
    Ok(took)
}
