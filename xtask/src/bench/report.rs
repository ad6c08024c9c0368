//! Samples of both brokers, reduced to medians and ratios, as a table of Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Which broker a sample is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Ours, syncing before it acknowledges.
    Millstream,
    /// The original, as it ships.
    Kafka,
}

/// All samples, in the order of the first of each measure.
#[derive(Default)]
pub struct Report {
    measures: Vec<String>,
    samples: BTreeMap<(usize, Who), Vec<f64>>,
}

impl Report {
    /// Adds one sample of `measure`; the unit belongs in its name.
    pub fn add(&mut self, measure: &str, who: Who, value: f64) {
        let row = self.measures.iter().position(|known| known == measure).unwrap_or_else(|| {
            self.measures.push(measure.to_owned());
            self.measures.len() - 1
        });
        self.samples.entry((row, who)).or_default().push(value);
    }

    /// The table: medians, the ratio Millstream : Kafka, and all samples behind them.
    pub fn markdown(&self) -> String {
        let mut table =
            "| measure | Millstream | Apache Kafka | ratio | samples (M; K) |\n|---|---|---|---|---|\n"
                .to_owned();
        for (row, measure) in self.measures.iter().enumerate() {
            let of = |who| self.samples.get(&(row, who)).map_or(&[][..], Vec::as_slice);
            let (ours, theirs) = (of(Who::Millstream), of(Who::Kafka));
            let (m, k) = (median(ours), median(theirs));
            let ratio = match (m, k) {
                (Some(m), Some(k)) if k > 0.0 => format!("{:.2}", m / k),
                _ => "-".to_owned(),
            };
            let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
            let list = |values: &[f64]| values.iter().copied().map(figure).collect::<Vec<_>>().join(" ");
            let _ = writeln!(
                table,
                "| {measure} | {} | {} | {ratio} | {}; {} |",
                show(m),
                show(k),
                list(ours),
                list(theirs)
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
        let mut report = Report::default();
        for (ours, theirs) in [(300.0, 100.0), (200.0, 90.0), (900.0, 110.0)] {
            report.add("produce, MB/s", Who::Millstream, ours);
            report.add("produce, MB/s", Who::Kafka, theirs);
        }
        report.add("idle, MiB", Who::Millstream, 12.34);
        let table = report.markdown();
        assert!(
            table.contains("| produce, MB/s | 300 | 100 | 3.00 | 300 200 900; 100 90.0 110 |"),
            "{table}"
        );
        assert!(table.contains("| idle, MiB | 12.3 | - | - | 12.3;  |"), "{table}");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
