//! Sets programs up (environments, jars, builds) while something else is done, each before it is run, and runs them.

use std::process::Command;

use anyhow::{Error, Result};

use crate::clock::Moment;
use crate::process::Ended;
use crate::summary::Summary;
use crate::tools::Tool;

/// What became of setting a program up.
pub enum Ready {
    /// These tools are not here.
    Absent(String),
    /// It could not be.
    Failed(Error),
    /// So it is started.
    Command(Command),
}

impl Ready {
    /// Sets up with `work` if these tools are here.
    pub fn with(needs: &[&Tool], work: impl FnOnce() -> Result<Command>) -> Self {
        let absent: Vec<&str> =
            needs.iter().filter(|tool| !tool.is_here()).map(|tool| tool.program).collect();
        if !absent.is_empty() {
            return Self::Absent(absent.join(", "));
        }
        work().map_or_else(Self::Failed, Self::Command)
    }

    /// Runs it with `work`, if it was set up; the outcome is one row of `summary`. Tools that are missing fail it if all are required.
    pub fn run(
        self,
        name: &str,
        require_all: bool,
        summary: &mut Summary,
        work: impl FnOnce(Command) -> Result<Ended>,
    ) {
        let command = match self {
            Self::Absent(tools) => {
                return summary.absent(name, format!("{tools} not installed"), require_all);
            }
            Self::Failed(error) => Err(error.context("setting up")),
            Self::Command(command) => Ok(command),
        };
        println!("\n== {name}");
        let started = Moment::now();
        match command.and_then(work) {
            Ok(ended) => summary.ran(name, ended.tally, started.elapsed(), ended.note),
            Err(error) => summary.check(name, started.elapsed(), Err(error)),
        }
    }
}
