//! `cargo xtask bench`: the load tools of Apache Kafka and `RabbitMQ`, and our own for AMQP and SQS, against both brokers; and benchmarks of the
//! log alone, and of very many idle queues in the broker alone.

mod amqp;
mod kafka;
mod perf;
mod report;
mod sqs;
mod sqsload;
mod usage;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::args::Args;
use crate::process::must;
use crate::workspace;

/// Does what the command line says.
pub fn run(root: &Path, mut args: Args) -> Result<bool> {
    match args.word().as_deref() {
        Some("kafka") => kafka::run(root, args)?,
        Some("amqp") => amqp::run(root, args)?,
        Some("sqs") => sqs::run(root, args)?,
        Some("log") => {
            let bench = if args.flag("--queues") { "queues" } else { "stream" };
            let mut cargo = Command::new(workspace::cargo());
            cargo.args(["bench", "--package", "millstream-log", "--bench", bench, "--"]);
            must(cargo.args(args.rest()).current_dir(root))?;
        }
        Some("idle") => {
            let mut cargo = Command::new(workspace::cargo());
            cargo.args(["bench", "--package", "millstream-broker", "--bench", "idle", "--"]);
            must(cargo.args(args.rest()).current_dir(root))?;
        }
        other => bail!("bench what? kafka, amqp, sqs, log or idle, not {other:?}"),
    }
    Ok(true)
}
