//! The project's own automation: `cargo xtask test`, `sim`, `conformance`, `bench`, `tidy`.
//!
//! It drives other programs and reads what they print. It depends on no crate of the workspace, so that it builds in
//! seconds and can judge a workspace that does not. Start at [`run`].
#![forbid(unsafe_code)]

mod args;
mod bench;
mod clients;
mod clock;
mod conformance;
mod differential;
mod elasticmq;
mod lanes;
mod millstream;
mod original;
mod process;
mod rabbitmq;
mod setup;
mod sim;
mod solos;
mod summary;
mod tally;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};
use args::Args;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--rust-only | --conformance-only] [--require-all] [--only NAME] [--binary PATH]
      every test: cargo's, and against an optimised binary the client programs, the command line, the crash tests, side by side
  sim [--seeds N] [--from S] [--seed S] [--only NAME] [--jobs 1|2] [--bugs]
      the simulation: N seeds (2000) from S on, spread over all variants of the log and the broker; or one seed again;
      or the bugs on purpose that it must notice. `test` runs the share of it that every change must pass
  conformance kafka|amqp|sqs [--against original|millstream] [--bootstrap HOST:PORT] [--only NAME] [--check SUBSTRING]
      the client programs against Apache Kafka, RabbitMQ or ElasticMQ, this broker, or a broker that is already there
  bench kafka [--seconds N] [--rounds N] [--quick] [--partitions 6,500] [--binary PATH]
      Apache Kafka's own perf tools against both brokers, interleaved
  bench amqp [--own-tool] [--seconds N] [--rounds N] [--quick] [--backlog N] [--only SUBSTRING] [--binary PATH]
             [--deep N] [--out-of-order N] [--idle-queues N] [--idle-connections N] [--calls N]
      RabbitMQ's PerfTest, or with --own-tool a load tool of our own that takes little of the machine, against RabbitMQ (classic and
      quorum queues) and this broker, interleaved; or, with our own tool, each by its flag and nothing else then:
        --deep               N messages of 256 bytes in one queue of ours (for the issue 10000000): filling, memory, restart after
                             kill -9, and draining from the disk beside draining what is in memory
        --out-of-order       N messages (at most 1200000) of ours: every third acknowledged, the others given back, kill -9, restart,
                             and the rest, counted
        --idle-queues        memory of N durable queues (100000), both brokers
        --idle-connections   memory of N connections with a channel each (5000), both brokers; see `ulimit -n`
        --calls              N calls and answers, one at a time, by exclusive and by durable queues, both brokers
  bench sqs [--seconds N] [--rounds N] [--quick] [--binary PATH]
      a load tool of our own against ElasticMQ and this broker, interleaved
  bench log [--queues] [-- ARGS]
      the log under stream-shaped load, beside the bare disk; or under queue-shaped load
  bench idle [-- QUEUES...]
      memory and opening of the broker alone with so many queues (100000 1000000) that were used once and do nothing
  tidy
      the house rules

What --only names: the client programs python, kcat, java, go, node, pika, amqp091-go, amqplib, amqp-client, celery,
boto3, boto3-query; the command line cli; the crash tests kill9, hold_sync, kill9_queues, hold_sync_queues, kill9_sqs, hold_sync_sqs,
full_disk, full_disk_queues, bridge.
For sim: log, broker, log-memory, log-memory-by-hand, log-disk, log-rows, log-adopting, log-queues,
broker-memory, broker-slow, broker-disk, broker-rows.
";

fn main() -> ExitCode {
    match run(Args::from_env()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line says; `false` when something was found wanting.
fn run(mut args: Args) -> Result<bool> {
    let root = workspace::root();
    match args.word().as_deref() {
        Some("tidy") => {
            args.finish()?;
            tidy::run(&root)
        }
        Some("test") => test::run(&root, args),
        Some("conformance") => conformance::run(&root, args),
        Some("sim") => sim::run(&root, args),
        Some("bench") => bench::run(&root, args),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(true)
        }
        Some(other) => bail!("no command {other:?}\n\n{USAGE}"),
        None => bail!("no command\n\n{USAGE}"),
    }
}
