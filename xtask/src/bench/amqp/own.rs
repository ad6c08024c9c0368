//! The loads with our own client, a thread for each connection: it takes little of a machine that it shares with the broker. What is sent
//! counts when it is confirmed, what is received when it is delivered, and at the end everything confirmed has been.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::client::{Acks, Client, Kind};
use super::load::{Load, Measured, To, Tool};
use super::wire;
use crate::clock::{Moment, pause, wait_for};

/// What was confirmed is received within this after the last is published.
const EMPTIED_WITHIN: Duration = Duration::from_mins(5);

/// The tool.
pub struct Own {
    /// The broker's address.
    pub address: String,
    /// What durable queues are here.
    pub kind: Kind,
}

/// What the threads of a run share with the one that started them.
struct Run {
    confirmed: Vec<AtomicU64>,
    received: Vec<AtomicU64>,
    /// Nothing more is published.
    published: AtomicBool,
    /// Nothing more is to be received.
    ended: AtomicBool,
}

impl Run {
    fn of(load: &Load) -> Self {
        let zeroes = |n| std::iter::repeat_with(|| AtomicU64::new(0)).take(n).collect();
        Self {
            confirmed: zeroes(load.publishers),
            received: zeroes(load.consumers),
            published: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }
}

fn sum(counts: &[AtomicU64]) -> u64 {
    counts.iter().map(|count| count.load(Relaxed)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn figure(count: u64) -> f64 {
    count as f64
}

impl Tool for Own {
    fn run(&self, load: &Load, queue: &str, seconds: u64) -> Result<Measured> {
        let mut admin = self.open()?;
        let queues: Vec<String> = match load.to {
            To::Queue => vec![queue.to_owned()],
            To::ExclusiveQueues | To::DurableQueues => {
                (0..load.consumers).map(|n| format!("{queue}-{n}")).collect()
            }
        };
        let exchange = if load.to == To::Queue { "" } else { queue };
        if !exchange.is_empty() {
            admin.declare_fanout(exchange)?;
        }
        let durable = load.to != To::ExclusiveQueues;
        if durable {
            admin.declare(queues.iter().cloned(), self.kind)?;
        }
        let consumers = (0..load.consumers)
            .zip(queues.iter().cycle())
            .map(|(_, queue)| {
                let mut consumer = self.open()?;
                if !durable {
                    consumer.declare(std::iter::once(queue.clone()), Kind::Exclusive)?;
                }
                if !exchange.is_empty() {
                    consumer.bind(queue, exchange)?;
                }
                consumer.subscribe(queue, load.prefetch)?;
                Ok(consumer)
            })
            .collect::<Result<Vec<Client>>>()?;
        let publishers = (0..load.publishers).map(|_| self.publisher()).collect::<Result<Vec<Client>>>()?;
        let message = wire::message(exchange, queue, durable, load.body_bytes)?;
        let measured = measure(load, publishers, consumers, &message, queues.len() as u64, seconds)?;
        if durable {
            queues.iter().try_for_each(|queue| admin.delete(queue))?;
        }
        Ok(measured)
    }

    fn fill(&self, load: &Load, queue: &str, messages: u64) -> Result<Measured> {
        let mut publisher = self.publisher()?;
        publisher.declare(std::iter::once(queue.to_owned()), self.kind)?;
        let message = wire::message("", queue, true, load.body_bytes)?;
        let started = Moment::now();
        let confirmed = publisher.publish(&message, load.unconfirmed_max, |sent, _| sent < messages)?;
        let confirmed = figure(confirmed);
        let sent = Some(confirmed / started.elapsed().as_secs_f64());
        Ok(Measured { messages: confirmed, sent, ..Measured::default() })
    }

    fn drain(&self, load: &Load, queue: &str, messages: u64) -> Result<Measured> {
        let mut consumer = self.open()?;
        let started = Moment::now();
        consumer.subscribe(queue, load.prefetch)?;
        consumer.consume(Acks::Together(load.acked_together), |got| got < messages)?;
        let took = started.elapsed();
        consumer.close()?;
        let left = self.open()?.depth(queue)?;
        ensure!(left == 0, "{left} messages more than were published");
        let messages = figure(messages);
        let received = Some(messages / took.as_secs_f64());
        Ok(Measured { messages, received, ..Measured::default() })
    }
}

impl Own {
    fn open(&self) -> Result<Client> {
        Client::open(&self.address)
    }

    fn publisher(&self) -> Result<Client> {
        let mut publisher = self.open()?;
        publisher.select()?;
        Ok(publisher)
    }
}

/// Has all publish and consume for so long, then all received that was confirmed. The rates are those of that time; `messages` are all.
fn measure(
    load: &Load,
    publishers: Vec<Client>,
    consumers: Vec<Client>,
    message: &[u8],
    copies: u64,
    seconds: u64,
) -> Result<Measured> {
    let run = Run::of(load);
    thread::scope(|scope| {
        let started = Moment::now();
        let consuming: Vec<_> = (consumers.into_iter().zip(&run.received))
            .map(|(mut client, received)| {
                let ended = &run.ended;
                scope.spawn(move || {
                    client.consume(Acks::Together(load.acked_together), |got| {
                        received.store(got, Relaxed);
                        !ended.load(Relaxed)
                    })?;
                    client.close()
                })
            })
            .collect();
        let publishing: Vec<_> = (publishers.into_iter().zip(&run.confirmed))
            .map(|(mut client, confirmed)| {
                let published = &run.published;
                scope.spawn(move || {
                    client.publish(message, load.unconfirmed_max, |_, now| {
                        confirmed.store(now, Relaxed);
                        !published.load(Relaxed)
                    })
                })
            })
            .collect();
        pause(Duration::from_secs(seconds));
        let (confirmed, received) = (sum(&run.confirmed), sum(&run.received));
        let took = started.elapsed().as_secs_f64();
        run.published.store(true, Relaxed);
        let mut expected: Result<u64> = Ok(0);
        for publisher in publishing {
            let all = publisher.join().ok().context("a publisher panicked").flatten();
            expected = expected.and_then(|so_far| Ok(so_far + all? * copies));
        }
        // A consumer that failed says so below.
        if let Ok(expected) = expected {
            wait_for(EMPTIED_WITHIN, || {
                let over =
                    sum(&run.received) >= expected || consuming.iter().any(ScopedJoinHandle::is_finished);
                Ok::<_, anyhow::Error>(over.then_some(()))
            })?;
        }
        run.ended.store(true, Relaxed);
        for consumer in consuming {
            consumer.join().ok().context("a consumer panicked").flatten()?;
        }
        let (expected, all) = (expected?, sum(&run.received));
        ensure!(all == expected, "{all} received of {expected} confirmed");
        Ok(Measured {
            messages: figure(all),
            sent: Some(figure(confirmed) / took),
            received: Some(figure(received) / took),
            ..Measured::default()
        })
    })
}
