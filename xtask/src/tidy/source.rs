//! Rules for source files: rooms of a fair size, documented roots, nothing unfinished, no sleep that stands for a condition.

use super::Finding;

/// A file longer than this is split.
const FILE_LINES_MAX: usize = 800;
/// Ends a line whose sleep paces a poll loop or a load, and stands for no condition.
const PACING: &str = "tidy: pacing";
/// The one crate that may hold unsafe code.
const UNSAFE_CRATE: &str = "crates/env/";

/// What stands for something that is not there. Written in halves: this file obeys, too.
const UNFINISHED: &[&str] = &[concat!("to", "do!"), concat!("unimplemen", "ted!"), concat!("db", "g!")];
/// Waits that know no condition.
const SLEEPS: &[&str] = &[
    concat!("thread::", "sleep("),
    concat!("time.", "sleep("),
    concat!("asyncio.", "sleep("),
    concat!("time.", "Sleep("),
    concat!("await ", "sleep("),
    concat!("Thread.", "sleep("),
];
/// The async runtime's: outside tests it is a timer like others.
const TIMER: &str = concat!("tokio::time::", "sleep(");
/// The attribute that hides a lint for good, outside and inside the item.
const ALLOW: &[&str] = &[concat!("#[", "allow("), concat!("#![", "allow(")];

/// The findings in one file; none for what is not source.
pub fn check(path: &str, content: &str) -> Vec<Finding> {
    let Some(language) = path.rsplit('.').next().filter(|end| ["rs", "py", "go", "js", "java"].contains(end))
    else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let lines = content.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(whole(path, format!("{lines} lines: split it before {FILE_LINES_MAX}")));
    }
    let rust = language == "rs";
    if rust {
        findings.extend(root_rules(path, content));
    }
    let mut in_tests = is_test_file(path);
    let mut gated = false; // the line before was #[cfg(test)]
    for (index, line) in content.lines().enumerate() {
        in_tests |= gated && line.trim_end().ends_with('{'); // a module of tests comes last in its file
        gated = rust && line.trim_start().starts_with("#[cfg(test)]")
            || gated && line.trim_start().starts_with("#[");
        let code = if rust { line.split("//").next().unwrap_or(line) } else { line };
        let mut found = |what: String| findings.push(Finding { at: path.to_owned(), line: index + 1, what });
        if rust && let Some(word) = UNFINISHED.iter().find(|word| has_word(code, word)) {
            found(format!("{word} in the tree"));
        }
        let sleeps = SLEEPS.iter().any(|sleep| code.contains(sleep)) || in_tests && code.contains(TIMER);
        if sleeps && !line.trim_end().ends_with(PACING) {
            found(format!(
                "a sleep is no synchronisation: wait for the condition, or end the line with `{PACING}`"
            ));
        }
        if rust && !in_tests && ALLOW.iter().any(|allow| code.contains(allow)) {
            found("say #[expect(..., reason = ...)], which tells when it is no longer needed".to_owned());
        }
    }
    findings
}

/// Rules for `lib.rs`, `main.rs` and the modules beside them.
fn root_rules(path: &str, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let in_src = path.contains("/src/") && !is_test_file(path);
    if in_src && !content.trim_start().starts_with("//!") {
        findings
            .push(whole(path, "opens without `//!`: its job, what it never does, where to start".to_owned()));
    }
    let root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs") || path.contains("/src/bin/");
    if root && !path.starts_with(UNSAFE_CRATE) && !content.contains("#![forbid(unsafe_code)]") {
        findings.push(whole(path, "a crate's root says #![forbid(unsafe_code)]".to_owned()));
    }
    findings
}

/// Test code: tests and benchmarks, and the contract suites that a crate offers to the tests of others.
fn is_test_file(path: &str) -> bool {
    const FOLDERS: &[&str] = &["/tests/", "/benches/", "/contract/", "crates/testkit/"];
    FOLDERS.iter().any(|folder| path.contains(folder))
        || path.ends_with("tests.rs")
        || path.ends_with("contract.rs")
}

/// Whether `word` stands in `code` on its own, not as the end of a longer one.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn whole(path: &str, what: String) -> Finding {
    Finding { at: path.to_owned(), line: 0, what }
}
