//! Samples of several brokers, reduced to medians and ratios, as a table of Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// All samples, in the order of the first of each measure.
pub struct Report {
    subjects: Vec<&'static str>,
    measures: Vec<String>,
    samples: BTreeMap<(usize, usize), Vec<f64>>,
}

impl Report {
    /// A table with a column for each of `subjects`, ours first: ratios are ours to each other.
    pub fn of(subjects: &[&'static str]) -> Self {
        Self { subjects: subjects.to_vec(), measures: Vec::new(), samples: BTreeMap::new() }
    }

    /// Adds one sample of `measure` for the subject of this number; the unit belongs in its name.
    pub fn add(&mut self, measure: &str, subject: usize, value: f64) {
        let row = self.measures.iter().position(|known| known == measure).unwrap_or_else(|| {
            self.measures.push(measure.to_owned());
            self.measures.len() - 1
        });
        self.samples.entry((row, subject)).or_default().push(value);
    }

    /// The table: medians, the ratios, and all samples behind them.
    pub fn markdown(&self) -> String {
        let others = self.subjects.len().saturating_sub(1);
        let ratios = if others == 1 { " ratio |".to_owned() } else { " ratios |".to_owned() };
        let mut table = format!("| measure | {} |{ratios} samples |\n", self.subjects.join(" | "));
        table.push_str("|---|");
        table.push_str(&"---|".repeat(self.subjects.len() + 2));
        table.push('\n');
        for (row, measure) in self.measures.iter().enumerate() {
            let of = |who: usize| self.samples.get(&(row, who)).map_or(&[][..], Vec::as_slice);
            let medians: Vec<Option<f64>> = (0..self.subjects.len()).map(|who| median(of(who))).collect();
            let ours = medians.first().copied().flatten();
            let ratio = |theirs: &Option<f64>| match (ours, theirs) {
                (Some(m), Some(k)) if *k > 0.0 => format!("{:.2}", m / k),
                _ => "-".to_owned(),
            };
            let show = |value: &Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
            let list = |who| of(who).iter().copied().map(figure).collect::<Vec<_>>().join(" ");
            let _ = writeln!(
                table,
                "| {measure} | {} | {} | {} |",
                medians.iter().map(show).collect::<Vec<_>>().join(" | "),
                medians.iter().skip(1).map(ratio).collect::<Vec<_>>().join(", "),
                (0..self.subjects.len()).map(list).collect::<Vec<_>>().join("; ")
            );
        }
        table
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(middle - 1).map(|lower| f64::midpoint(*lower, upper))
}

/// Three figures that count.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_make_the_table() {
        let mut report = Report::of(&["Millstream", "Apache Kafka"]);
        for (ours, theirs) in [(300.0, 100.0), (200.0, 90.0), (900.0, 110.0)] {
            report.add("produce, MB/s", 0, ours);
            report.add("produce, MB/s", 1, theirs);
        }
        report.add("idle, MiB", 0, 12.34);
        let table = report.markdown();
        assert!(
            table.contains("| produce, MB/s | 300 | 100 | 3.00 | 300 200 900; 100 90.0 110 |"),
            "{table}"
        );
        assert!(table.contains("| idle, MiB | 12.3 | - | - | 12.3;  |"), "{table}");
    }

    #[test]
    fn three_subjects_have_two_ratios() {
        let mut report = Report::of(&["ours", "a", "b"]);
        for (who, value) in [(0, 6.0), (1, 2.0), (2, 3.0)] {
            report.add("x", who, value);
        }
        assert!(
            report.markdown().contains("| x | 6.00 | 2.00 | 3.00 | 3.00, 2.00 |"),
            "{}",
            report.markdown()
        );
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
