//! Who may depend on whom: the layers of `ARCHITECTURE.md` as a list, compared with `cargo metadata`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Finding;
use crate::workspace;

/// A crate of the workspace, and the crates of the workspace that it may use. What is not listed may not be used.
struct Layer {
    name: &'static str,
    uses: &'static [&'static str],
}

/// From the bottom up.
const LAYERS: &[Layer] = &[
    Layer { name: "millstream-types", uses: &[] },
    Layer { name: "millstream-env", uses: &[] },
    Layer { name: "millstream-log", uses: &["millstream-types", "millstream-env"] },
    Layer { name: "millstream-engine", uses: &["millstream-types", "millstream-log"] },
    Layer {
        name: "millstream-broker",
        uses: &["millstream-types", "millstream-env", "millstream-log", "millstream-engine"],
    },
    Layer { name: "millstream-kafka", uses: &["millstream-types", "millstream-broker"] },
    Layer {
        // The log, to open the one that it hands to the broker, and for nothing else.
        name: "millstream-server",
        uses: &[
            "millstream-types",
            "millstream-env",
            "millstream-log",
            "millstream-broker",
            "millstream-kafka",
        ],
    },
    Layer {
        name: "millstream-testkit",
        uses: &[
            "millstream-types",
            "millstream-env",
            "millstream-log",
            "millstream-engine",
            "millstream-broker",
        ],
    },
    Layer { name: "xtask", uses: &[] },
];

/// The crates that tests alone may use; they may use any layer in their own tests too.
const TEST_ONLY: &[&str] = &["millstream-testkit"];

/// Asks cargo, and compares.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let told = Command::new(workspace::cargo())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    ensure!(told.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&told.stderr));
    compare(&serde_json::from_slice(&told.stdout).context("cargo metadata's JSON")?)
}

/// The findings in one answer of `cargo metadata --no-deps`.
pub fn compare(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package.get("name").and_then(Value::as_str).context("a package without a name")?;
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
            findings.push(finding(
                name,
                "has no place in the list of layers (xtask/src/tidy/edges.rs)".to_owned(),
            ));
            continue;
        };
        for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let used = dependency.get("name").and_then(Value::as_str).unwrap_or_default();
            let ours = dependency.get("path").is_some_and(|path| !path.is_null());
            if ours && let Some(what) = judge(layer, used, dependency.get("kind").and_then(Value::as_str)) {
                findings.push(finding(name, what));
            }
        }
    }
    Ok(findings)
}

/// What is wrong with `layer` using `used`, if anything. Tests may use every layer that the crate itself may use,
/// and the test kits.
fn judge(layer: &Layer, used: &str, kind: Option<&str>) -> Option<String> {
    let test_only = TEST_ONLY.contains(&used);
    match kind {
        Some("dev") if test_only || layer.uses.contains(&used) => None,
        _ if test_only => Some(format!("uses {used}, which is for tests only: make it a dev-dependency")),
        _ if layer.uses.contains(&used) => None,
        _ => Some(format!("may not use {used}: dependencies point down, and only along the list of layers")),
    }
}

fn finding(at: &str, what: String) -> Finding {
    Finding { at: at.to_owned(), line: 0, what }
}
