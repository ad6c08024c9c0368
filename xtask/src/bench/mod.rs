//! `cargo xtask bench`: Apache Kafka's perf tools against both brokers, and the log's own benchmark.

mod kafka;
mod perf;
mod report;
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
        Some("log") => {
            let bench = if args.flag("--queues") { "queues" } else { "stream" };
            let mut cargo = Command::new(workspace::cargo());
            cargo.args(["bench", "--package", "millstream-log", "--bench", bench, "--"]);
            must(cargo.args(args.rest()).current_dir(root))?;
        }
        other => bail!("bench what? kafka or log, not {other:?}"),
    }
    Ok(true)
}
