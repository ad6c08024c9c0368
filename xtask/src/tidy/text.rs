//! Rules for every tracked text file: nothing that names this machine or where its packages come from.

use super::Finding;

/// Where packages come from is the business of the machine's own settings. Written in halves: this file obeys, too.
const HOSTS: &[&str] = &[
    concat!("registry.npm", "js.org"),
    concat!("registry.yarn", "pkg.com"),
    concat!("py", "pi.org"),
    concat!("files.python", "hosted.org"),
    concat!("repo1.", "maven.org"),
    concat!("repo.maven", ".apache.org"),
    concat!("proxy.go", "lang.org"),
    concat!("sum.go", "lang.org"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("deb.deb", "ian.org"),
];

/// Directories of a machine, not of the project.
const PLACES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/t", "mp/"),
    concat!("/Us", "ers/"),
];

/// The findings in one file.
pub fn check(path: &str, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let mut found = |what: String| findings.push(Finding { at: path.to_owned(), line: index + 1, what });
        if let Some(host) = HOSTS.iter().find(|host| line.contains(**host)) {
            found(format!("names the package registry {host}"));
        }
        if let Some(place) = PLACES.iter().find(|place| starts_a_path(line, place)) {
            found(format!("names a path of one machine ({place}...)"));
        }
    }
    findings
}

/// Whether `place` stands in `line` as the beginning of a path, not inside one, as a folder of the project of the same name.
fn starts_a_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-*})]~>".contains(c))
    })
}
