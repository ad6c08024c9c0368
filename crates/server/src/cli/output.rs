//! What commands print: lines, tables for people, JSON for programs.

use std::fmt::{self, Arguments};
use std::io::{self, ErrorKind, Write as _};

use anyhow::Context as _;
use serde_json::Value;

/// Whoever read what is printed has gone: there is nobody to tell more, nor anything wrong.
#[derive(Debug)]
pub struct NobodyReads;

impl fmt::Display for NobodyReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads what is printed")
    }
}

impl std::error::Error for NobodyReads {}

/// Prints a line, or ends the function with an error.
macro_rules! say {
    () => {
        say!("")
    };
    ($($text:tt)+) => {
        $crate::cli::output::line(format_args!($($text)+))?
    };
}
pub(super) use say;

/// Prints a line.
///
/// # Errors
/// [`NobodyReads`], or the output failed.
pub fn line(text: Arguments<'_>) -> anyhow::Result<()> {
    written(writeln!(io::stdout().lock(), "{text}"))
}

fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        other => other.context("writing to standard output"),
    }
}

/// Prints rows under a heading, columns as wide as needed.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut widths: Vec<usize> = heading.iter().map(|h| h.len()).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let mut out = io::stdout().lock();
    let heading: Vec<String> = heading.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        written(writeln!(out, "{}", cells.join("  ").trim_end()))?;
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
    line(format_args!("{v}"))
}
