//! Sets programs up (environments, jars, builds) while something else is done, each before it is run.

use std::process::Command;

use anyhow::{Error, Result};

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
}
