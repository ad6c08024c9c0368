#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::{edges, source, text};

fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
    let dependencies: Vec<Value> =
        dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind, "path": "here"})).collect();
    json!({"packages": [{"name": name, "dependencies": dependencies}]})
}

fn edges_of(name: &str, dependencies: &[(&str, Option<&str>)]) -> usize {
    edges::compare(&package(name, dependencies)).unwrap().len()
}

fn source_of(path: &str, content: &str) -> Vec<String> {
    source::check(path, content).into_iter().map(|finding| finding.what).collect()
}

#[test]
fn dependencies_point_down() {
    assert_eq!(edges_of("millstream-engine", &[("millstream-types", None), ("millstream-log", None)]), 0);
    assert_eq!(edges_of("millstream-log", &[("millstream-engine", None)]), 1);
}

#[test]
fn a_protocol_touches_neither_engine_nor_log_and_the_engine_no_clock() {
    assert_eq!(edges_of("millstream-kafka", &[("millstream-broker", None)]), 0);
    assert_eq!(
        edges_of("millstream-kafka", &[("millstream-engine", None), ("millstream-log", Some("dev"))]),
        2
    );
    assert_eq!(edges_of("millstream-engine", &[("millstream-env", None)]), 1);
}

#[test]
fn the_test_kit_is_for_tests_only() {
    assert_eq!(edges_of("millstream-log", &[("millstream-testkit", Some("dev"))]), 0);
    assert_eq!(edges_of("millstream-log", &[("millstream-testkit", None)]), 1);
    assert_eq!(edges_of("millstream-log", &[("millstream-testkit", Some("build"))]), 1);
}

#[test]
fn bugs_on_purpose_are_for_dev_dependencies_only() {
    let of = |name: &str, kind: Option<&str>, features: Value| {
        let dependency =
            json!({"name": "millstream-log", "kind": kind, "path": "here", "features": ["deliberate_bugs"]});
        let package = json!({"name": name, "dependencies": [dependency], "features": features});
        edges::compare(&json!({"packages": [package]})).unwrap().len()
    };
    assert_eq!(of("millstream-broker", Some("dev"), json!({})), 0);
    assert_eq!(of("millstream-broker", None, json!({})), 1);
    assert_eq!(
        of("millstream-broker", Some("dev"), json!({"default": ["millstream-log/deliberate_bugs"]})),
        1
    );
    assert_eq!(of("millstream-testkit", Some("dev"), json!({"bugs": ["millstream-log/deliberate_bugs"]})), 0);
}

#[test]
fn a_crate_without_a_layer_is_found_and_foreign_crates_are_not() {
    assert_eq!(edges_of("millstream-extra", &[]), 1);
    let foreign = json!({"packages": [{"name": "millstream-types", "dependencies": [{"name": "bytes", "kind": null}]}]});
    assert_eq!(edges::compare(&foreign).unwrap(), vec![]);
}

#[test]
fn registries_and_places_of_a_machine_are_found() {
    let lines =
        [concat!("see https://py", "pi.org/x"), concat!("cd /wo", "rk/main"), concat!("\"/t", "mp/x\"")];
    let found = text::check("README.md", &lines.join("\n"));
    assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(text::check("a.rs", concat!("src/wo", "rk/queue.rs and ", "{dir}/t", "mp/x")), vec![]);
}

#[test]
fn a_long_file_is_found() {
    assert_eq!(source_of("conformance/x.py", &"pass\n".repeat(801)).len(), 1);
    assert_eq!(source_of("conformance/x.py", &"pass\n".repeat(800)).len(), 0);
    assert_eq!(source_of("Cargo.lock", &"x\n".repeat(9_000)).len(), 0);
}

#[test]
fn what_is_unfinished_is_found_but_not_in_comments_or_inside_words() {
    let head = "//! Docs.\n";
    assert_eq!(
        source_of("crates/a/src/b.rs", &format!("{head}fn f() {{ {}() }}", concat!("to", "do!"))).len(),
        1
    );
    assert_eq!(
        source_of("crates/a/src/b.rs", &format!("{head}fn f() {{ {}(1); }}", concat!("db", "g!"))).len(),
        1
    );
    assert_eq!(
        source_of("crates/a/src/b.rs", &format!("{head}// no {} here", concat!("to", "do!"))).len(),
        0
    );
    assert_eq!(source_of("crates/a/src/b.rs", &format!("{head}my_{}()", concat!("to", "do!"))).len(), 0);
}

#[test]
fn a_module_opens_with_its_docs() {
    assert_eq!(source_of("crates/a/src/b.rs", "use x;\n").len(), 1);
    assert_eq!(source_of("crates/a/src/b/tests.rs", "use x;\n").len(), 0);
}

#[test]
fn every_crate_root_but_env_forbids_unsafe_code() {
    assert_eq!(source_of("crates/a/src/lib.rs", "//! Docs.\n").len(), 1);
    assert_eq!(source_of("crates/a/src/main.rs", "//! Docs.\n#![forbid(unsafe_code)]\n").len(), 0);
    assert_eq!(source_of("crates/env/src/lib.rs", "//! Docs.\n").len(), 0);
}

#[test]
fn a_sleep_is_found_unless_it_only_paces() {
    let sleep = concat!("time.", "sleep(1)");
    assert_eq!(source_of("conformance/x.py", sleep).len(), 1);
    assert_eq!(source_of("conformance/x.py", &format!("{sleep}  # tidy: pacing")).len(), 0);
    assert_eq!(source_of("conformance/x.js", concat!("await ", "sleep(20)")).len(), 1);
    let timer = concat!("tokio::time::", "sleep(d).await;");
    assert_eq!(source_of("crates/a/tests/t.rs", timer).len(), 1);
    assert_eq!(source_of("crates/a/src/b.rs", &format!("//! Docs.\n{timer}")).len(), 0);
    assert_eq!(source_of("crates/a/tests/t.rs", concat!("std::thread::", "sleep(d);")).len(), 1);
    assert_eq!(
        source_of("crates/a/tests/t.rs", concat!("std::thread::", "sleep(d); // tidy: pacing")).len(),
        0
    );
}

#[test]
fn a_lint_is_expected_not_allowed_outside_tests() {
    let allow = concat!("#[", "allow(dead_code)]");
    assert_eq!(source_of("crates/a/src/b.rs", &format!("//! Docs.\n{allow}\nfn f() {{}}")).len(), 1);
    assert_eq!(
        source_of("crates/a/src/b.rs", &format!("//! Docs.\n#[cfg(test)]\nmod tests {{\n{allow}\n}}")).len(),
        0
    );
    assert_eq!(
        source_of("crates/a/src/b.rs", &format!("//! Docs.\n#[cfg(test)]\nmod tests;\n{allow}\n")).len(),
        1
    );
    assert_eq!(source_of("crates/a/tests/t.rs", &format!("{allow}\nfn f() {{}}")).len(), 0);
}
