//! The house rules as a test: what `cargo xtask tidy` looks at. Each rule is a function over text, so each has a test.

mod edges;
mod source;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A rule that a file breaks.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, or the crate.
    pub at: String,
    /// Its line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.at, self.what),
            line => write!(f, "{}:{line}: {}", self.at, self.what),
        }
    }
}

/// Checks the whole work tree; prints what it finds. `true` when there is nothing.
pub fn run(root: &Path) -> Result<bool> {
    let mut findings = edges::check(root)?;
    let files = tracked(root)?;
    for path in &files {
        let Ok(bytes) = std::fs::read(root.join(path)) else { continue }; // deleted, not yet committed
        let Ok(content) = String::from_utf8(bytes) else { continue };
        findings.extend(text::check(path, &content));
        findings.extend(source::check(path, &content));
    }
    for finding in &findings {
        println!("tidy: {finding}");
    }
    println!("tidy: {} files, {} findings", files.len(), findings.len());
    Ok(findings.is_empty())
}

/// The files that git knows or would take.
fn tracked(root: &Path) -> Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).context("file names that are not UTF-8")?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}
