//! What the seeds came to: progress while they run, then a table, and for each that failed what was wrong and how to see it again.

use std::collections::BTreeMap;
use std::time::Duration;

/// Counts by name, as a test tells them.
pub type Counts = BTreeMap<String, u64>;

/// Lines of a failed history that are shown.
const SHOWN_LINES: usize = 12;
/// Columns of the table; other counts follow by name.
const COLUMNS: [&str; 3] = ["crashes", "acknowledged", "checked"];

/// How one process ended.
pub enum Outcome {
    /// All its seeds held.
    Held(Counts),
    /// One did not.
    Broken {
        /// Which, if it said so.
        seed: Option<u64>,
        /// What was wrong.
        what: String,
    },
}

impl Outcome {
    /// From what a test program printed.
    pub fn read(said: &str, success: bool) -> Self {
        if success {
            let mut counts = Counts::new();
            for line in said.lines().filter_map(|line| line.split_once("tally: ")) {
                for (what, n) in line.1.split(", ").filter_map(|part| part.rsplit_once(' ')) {
                    *counts.entry(what.to_owned()).or_default() += n.parse::<u64>().unwrap_or(0);
                }
            }
            return Self::Held(counts);
        }
        let seed = said
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("seed ")?.split_once(" failed; again")?.0.parse::<u64>().ok());
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let from = lines.iter().position(|line| line.contains("panicked at")).unwrap_or(0);
        let what: Vec<&str> = lines.into_iter().skip(from).take(SHOWN_LINES).collect();
        Self::Broken { seed, what: what.join("\n  ") }
    }
}

/// A seed that failed.
pub struct Failure {
    pub variant: &'static str,
    pub seed: Option<u64>,
    pub what: String,
}

impl Failure {
    fn again(&self) -> String {
        match self.seed {
            Some(seed) => format!("cargo xtask sim --seed {seed} --only {}", self.variant),
            None => format!("cargo xtask sim --only {}", self.variant),
        }
    }
}

#[derive(Default)]
struct Row {
    seeds: u64,
    counts: Counts,
    took: Duration,
}

/// Everything so far.
pub struct Report {
    /// Seeds to run.
    wanted: u64,
    done: u64,
    rows: BTreeMap<&'static str, Row>,
    failures: Vec<Failure>,
}

impl Report {
    pub fn new(wanted: u64) -> Self {
        Self { wanted, done: 0, rows: BTreeMap::new(), failures: Vec::new() }
    }

    /// Seeds of a variant held.
    pub fn held(&mut self, variant: &'static str, seeds: u64, counts: &Counts, took: Duration) {
        let row = self.rows.entry(variant).or_default();
        row.seeds += seeds;
        row.took += took;
        for (what, n) in counts {
            *row.counts.entry(what.clone()).or_default() += n;
        }
        self.done += seeds;
        println!(
            "{:6} of {} seeds  {variant} {seeds} in {:.1} s",
            self.done,
            self.wanted,
            took.as_secs_f64()
        );
    }

    /// A seed failed.
    pub fn broken(&mut self, failure: Failure) {
        self.done += u64::from(failure.seed.is_some());
        println!("FAILED {}\n  {}\n  again: {}", failure.variant, failure.what, failure.again());
        self.failures.push(failure);
    }

    /// Prints the table, the failures, and last the closing line alone. `true` when nothing failed and something ran.
    pub fn close(&self) -> bool {
        println!("\n{:20}  seeds  failed  crashes  acknowledged   checked  seconds", "variant");
        let (mut seeds, mut sum) = (0, Counts::new());
        for (variant, row) in &self.rows {
            let failed = self.failures.iter().filter(|f| f.variant == *variant).count();
            let [crashes, acknowledged, checked] = COLUMNS.map(|c| row.counts.get(c).copied().unwrap_or(0));
            let others =
                row.counts.iter().filter(|(what, _)| *what != "seeds" && !COLUMNS.contains(&what.as_str()));
            let others: Vec<String> = others.map(|(what, n)| format!("{what} {n}")).collect();
            println!(
                "{variant:20} {:6} {failed:7} {crashes:8} {acknowledged:13} {checked:9} {:8.1}  {}",
                row.seeds,
                row.took.as_secs_f64(),
                others.join(", ")
            );
            seeds += row.seeds;
            for what in COLUMNS {
                *sum.entry(what.to_owned()).or_default() += row.counts.get(what).copied().unwrap_or(0);
            }
        }
        let of = |what: &str| sum.get(what).copied().unwrap_or(0);
        let (crashes, acknowledged, checked) = (of("crashes"), of("acknowledged"), of("checked"));
        println!("\n{crashes} crashes, {acknowledged} acknowledged, {checked} checked");
        for failure in &self.failures {
            println!("failed: {}", failure.again());
        }
        println!("{seeds} passed, {} failed", self.failures.len());
        self.failures.is_empty() && seeds > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_wherever_the_harness_puts_them() {
        let said = "running 1 test\ntest x ... \ntally: seeds 3, crashes 40\nok\n";
        let Outcome::Held(counts) = Outcome::read(said, true) else { panic!() };
        assert_eq!((counts["seeds"], counts["crashes"]), (3, 40));
    }

    #[test]
    fn a_failed_seed_is_named_with_the_command_that_runs_it_again() {
        let said = "\nthread 'x' panicked at a.rs:1:2:\nappend 4 is gone\nseed 17 failed; again: MILLSTREAM_SEEDS=17..18\n";
        let Outcome::Broken { seed, what } = Outcome::read(said, false) else { panic!() };
        assert!(what.contains("append 4 is gone"), "{what}");
        let failure = Failure { variant: "log-disk", seed, what };
        assert_eq!(failure.again(), "cargo xtask sim --seed 17 --only log-disk");
        let mut report = Report::new(1);
        report.held("log-disk", 1, &Counts::new(), Duration::ZERO);
        assert!(report.close());
        report.broken(failure);
        assert!(!report.close());
    }
}
