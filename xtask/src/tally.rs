//! How many checks passed and failed, read from what a test program prints.

use std::ops::AddAssign;

/// Counts of checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checks that held.
    pub passed: u64,
    /// Checks that did not.
    pub failed: u64,
    /// Checks that were not made.
    pub skipped: u64,
}

impl Tally {
    /// One check that failed: a program that did not even count.
    pub const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    /// One check that held.
    pub const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    /// One check that was not made.
    pub const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// The counts that `line` closes with, if it is a closing line: cargo's `test result: ok. 3 passed; 0 failed; 1 ignored; ...`
    /// or `3 passed, 0 failed[, 1 skipped]` alone.
    pub fn parse(line: &str) -> Option<Self> {
        match line.trim().strip_prefix("test result: ") {
            Some(rest) => Self::parts(rest.split_once(". ")?.1, ';'),
            None => Self::parts(line.trim(), ','),
        }
    }

    fn parts(text: &str, separator: char) -> Option<Self> {
        let mut counts = text.split(separator).map(|part| part.trim().split_once(' '));
        let mut take = |words: &[&str]| {
            let (number, word) = counts.next()??;
            words.contains(&word).then(|| number.parse::<u64>().ok())?
        };
        let (passed, failed) = (take(&["passed"])?, take(&["failed"])?);
        let skipped = take(&["skipped", "ignored"]).unwrap_or(0);
        Some(Self { passed, failed, skipped })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_cargo_and_of_ours_are_counted() {
        let cargo = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(Tally::parse(cargo), Some(Tally { passed: 12, failed: 2, skipped: 1 }));
        assert_eq!(Tally::parse("31 passed, 0 failed\n"), Some(Tally { passed: 31, failed: 0, skipped: 0 }));
        assert_eq!(
            Tally::parse("3 passed, 1 failed, 2 skipped"),
            Some(Tally { passed: 3, failed: 1, skipped: 2 })
        );
    }

    #[test]
    fn other_lines_are_not() {
        for line in ["", "ok 3 passed, 0 failed", "running 3 tests", "3 passed", "FAIL x: 3 passed, 1 failed"]
        {
            assert_eq!(Tally::parse(line), None, "{line}");
        }
    }
}
