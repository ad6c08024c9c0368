//! Samples by case and measure, reduced to medians, as tables of Markdown.

/// One table: a row per case, a column per measure.
pub struct Table {
    head: &'static str,
    measures: &'static [&'static str],
    rows: Vec<(String, Vec<Vec<f64>>)>,
}

impl Table {
    pub fn new(head: &'static str, measures: &'static [&'static str]) -> Self {
        Self { head, measures, rows: Vec::new() }
    }

    /// Adds one sample of each measure to a case.
    pub fn add(&mut self, case: &str, samples: &[f64]) {
        assert_eq!(samples.len(), self.measures.len());
        let at = self.rows.iter().position(|(name, _)| name == case).unwrap_or_else(|| {
            self.rows.push((case.to_owned(), vec![Vec::new(); self.measures.len()]));
            self.rows.len() - 1
        });
        for (all, sample) in self.rows[at].1.iter_mut().zip(samples) {
            all.push(*sample);
        }
    }

    /// Medians, then all samples.
    pub fn print(&self) {
        println!("| {} | {} |", self.head, self.measures.join(" | "));
        println!("|---{}|", "|---".repeat(self.measures.len()));
        for (case, measures) in &self.rows {
            let medians: Vec<String> = measures.iter().map(|all| figure(median(all))).collect();
            println!("| {case} | {} |", medians.join(" | "));
        }
        println!("\nAll samples, in the order of the rounds:\n");
        for (case, measures) in &self.rows {
            let all = measures.iter().zip(self.measures).map(|(all, name)| {
                let all: Vec<String> = all.iter().copied().map(figure).collect();
                format!("{name}: {}", all.join(" "))
            });
            println!("- {case}: {}", all.collect::<Vec<_>>().join("; "));
        }
        println!();
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Three figures that count.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
