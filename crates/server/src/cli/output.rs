//! Tables for people.

use std::io::Write as _;

use serde_json::Value;

/// Prints rows under a heading, columns as wide as needed.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut widths: Vec<usize> = heading.iter().map(|h| h.len()).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let mut out = std::io::stdout().lock();
    let heading: Vec<String> = heading.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// A field as text; absent or null is `-`.
pub fn field(v: &Value, name: &str) -> String {
    match v.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(s)) if s.is_empty() => "-".to_owned(),
        Some(Value::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    }
}

/// Rows of an array of objects.
pub fn rows(v: &Value, array: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let items = v.get(array).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| fields.iter().map(|f| field(item, f)).collect()).collect()
}

/// Prints JSON.
pub fn json(v: &Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{v}")?;
    Ok(())
}
