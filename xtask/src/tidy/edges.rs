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
    Layer { name: "millstream-accept", uses: &[] },
    Layer { name: "millstream-amqp", uses: &["millstream-types", "millstream-broker", "millstream-accept"] },
    Layer { name: "millstream-aws", uses: &["millstream-types", "millstream-broker", "millstream-accept"] },
    Layer { name: "millstream-kafka", uses: &["millstream-types", "millstream-broker", "millstream-accept"] },
    Layer {
        // The log, to open the one that it hands to the broker, and for nothing else.
        name: "millstream-server",
        uses: &[
            "millstream-types",
            "millstream-env",
            "millstream-log",
            "millstream-broker",
            "millstream-amqp",
            "millstream-aws",
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

/// The feature with bugs on purpose; only dev-dependencies may ask for it, and test kits may pass it on.
const BUGS: &str = "deliberate_bugs";

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
            if dependency.get("kind").and_then(Value::as_str) != Some("dev") && asks_for_bugs(dependency) {
                findings.push(finding(name, format!("only a dev-dependency may ask {used} for {BUGS}")));
            }
        }
        if !TEST_ONLY.contains(&name) && passes_bugs_on(package) {
            findings.push(finding(name, format!("only a test kit may have a feature that brings {BUGS}")));
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

fn asks_for_bugs(dependency: &Value) -> bool {
    dependency.get("features").and_then(Value::as_array).is_some_and(|all| all.iter().any(|f| f == BUGS))
}

/// Whether a feature of the package, `default` above all, brings that of a dependency or its own.
fn passes_bugs_on(package: &Value) -> bool {
    let features = package.get("features").and_then(Value::as_object);
    let brought = features.into_iter().flat_map(|f| f.values()).filter_map(Value::as_array).flatten();
    brought.filter_map(Value::as_str).any(|f| f.rsplit(['/', '?']).next() == Some(BUGS))
}

fn finding(at: &str, what: String) -> Finding {
    Finding { at: at.to_owned(), line: 0, what }
}
