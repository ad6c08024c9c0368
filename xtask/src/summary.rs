//! The one table at the end of a run, and the closing line beneath it.

use std::time::Duration;

use crate::tally::Tally;

/// One program's outcome.
pub struct Row {
    /// The program.
    pub name: String,
    /// What it counted.
    pub tally: Tally,
    /// How long it took.
    pub took: Duration,
    /// Why it was skipped or failed; empty when it went well.
    pub note: String,
}

/// What a run has done so far.
#[derive(Default)]
pub struct Summary {
    rows: Vec<Row>,
}

impl Summary {
    /// Adds a program that ran.
    pub fn ran(&mut self, name: &str, tally: Tally, took: Duration, note: impl Into<String>) {
        self.rows.push(Row { name: name.to_owned(), tally, took, note: note.into() });
    }

    /// Adds a program that could not run, and why: skipped, or failed where everything is demanded.
    pub fn absent(&mut self, name: &str, why: impl Into<String>, demanded: bool) {
        let (tally, word) = if demanded { (Tally::FAILED, "FAILED") } else { (Tally::SKIPPED, "skipped") };
        self.ran(name, tally, Duration::ZERO, format!("{word}: {}", why.into()));
    }

    /// Adds one check of our own.
    pub fn check(&mut self, name: &str, took: Duration, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.ran(name, Tally::PASSED, took, ""),
            Err(error) => self.ran(name, Tally::FAILED, took, format!("{error:#}")),
        }
    }

    /// Adds what another run did, behind its own.
    pub fn join(&mut self, other: Self) {
        self.rows.extend(other.rows);
    }

    /// Prints the table and, last, the closing line alone. `true` when nothing failed and something passed.
    pub fn close(&self) -> bool {
        let mut total = Tally::default();
        let wide = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(7);
        println!("\n{:wide$}  passed  failed  skipped  seconds", "program");
        for row in &self.rows {
            let Tally { passed, failed, skipped } = row.tally;
            let seconds = row.took.as_secs_f64();
            println!("{:wide$}  {passed:6}  {failed:6}  {skipped:7}  {seconds:7.1}  {}", row.name, row.note);
            total += row.tally;
        }
        let skipped = if total.skipped > 0 { format!(", {} skipped", total.skipped) } else { String::new() };
        println!("\n{} passed, {} failed{skipped}", total.passed, total.failed);
        total.failed == 0 && total.passed > 0
    }
}
