//! `conformance/amqp/differential`: random histories on `RabbitMQ` and on Millstream, compared. It needs both, so it runs with
//! `cargo xtask conformance amqp --against original`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::clients::Protocol;
use crate::clock::Moment;
use crate::millstream::{self, Millstream};
use crate::process::counted;
use crate::summary::Summary;
use crate::tools;

/// What `--only` calls it.
pub const NAME: &str = "differential";
/// Histories.
const SEEDS: u32 = 200;
/// They take less than this, also where many differ.
const DONE_WITHIN: Duration = Duration::from_mins(15);

/// Compares a running `RabbitMQ` with a Millstream of its own under `place`; the outcome is one row of `summary`.
pub fn run(root: &Path, place: &Path, rabbitmq: &str, summary: &mut Summary) {
    let started = Moment::now();
    match compare(root, place, rabbitmq, summary, started) {
        Ok(()) => {}
        Err(error) => summary.check(&format!("conformance {NAME}"), started.elapsed(), Err(error)),
    }
}

fn compare(root: &Path, place: &Path, rabbitmq: &str, summary: &mut Summary, started: Moment) -> Result<()> {
    let python = tools::amqp_python(root)?;
    let broker = Millstream::start(&millstream::build_tested(root)?, place, millstream::BRISK)?;
    let mut command = Command::new(python);
    command.arg(root.join("conformance/amqp/differential/run.py"));
    command.args(["--rabbitmq", rabbitmq, "--millstream", broker.address(Protocol::Amqp)]);
    command.args(["--seeds", &SEEDS.to_string()]);
    let ended = counted(NAME, &mut command, DONE_WITHIN)?;
    summary.ran(&format!("conformance {NAME}"), ended.tally, started.elapsed(), ended.note);
    broker.stop()
}
