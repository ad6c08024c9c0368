//! The client programs of `conformance/kafka`: what each needs, how it is set up, how it is run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::clock::Moment;
use crate::process::{Ended, counted, must};
use crate::summary::Summary;
use crate::tools::{self, Tool};

/// A client program still running after this hangs.
const DONE_WITHIN: Duration = Duration::from_mins(5);

/// One client program, a folder of `conformance/kafka`.
pub struct Client {
    /// Its folder.
    pub name: &'static str,
    needs: &'static [&'static Tool],
    /// Sets it up, and says how it is started.
    prepare: fn(&Path, &Path) -> Result<Command>,
}

/// All of them, the broadest first.
pub const CLIENTS: &[Client] = &[
    Client { name: "python", needs: &[&tools::PYTHON], prepare: python },
    Client { name: "kcat", needs: &[&tools::PYTHON, &tools::KCAT], prepare: kcat },
    Client { name: "java", needs: &[&tools::JAVA, &tools::JAVAC, &tools::MAVEN], prepare: java },
    Client { name: "go", needs: &[&tools::GO], prepare: go },
    Client { name: "node", needs: &[&tools::NODE, &tools::NPM], prepare: node },
];

/// Which broker the programs talk to; some checks differ where Millstream means to.
#[derive(Clone, Copy)]
pub enum Peer {
    /// Apache Kafka.
    Kafka,
    /// Ours.
    Millstream,
}

impl Client {
    /// Sets it up and runs it against the broker at `bootstrap`; the outcome is one row of `summary`.
    pub fn run(&self, root: &Path, run: &Run<'_>, summary: &mut Summary) {
        let name = format!("conformance {}", self.name);
        let absent: Vec<&str> =
            self.needs.iter().filter(|tool| !tool.is_here()).map(|tool| tool.program).collect();
        if !absent.is_empty() {
            return summary.absent(&name, format!("{} not installed", absent.join(", ")), run.require_all);
        }
        println!("\n== {name}");
        let started = Moment::now();
        match self.ran(root, run) {
            Ok(ended) => summary.ran(&name, ended.tally, started.elapsed(), ended.note),
            Err(error) => summary.check(&name, started.elapsed(), Err(error)),
        }
    }

    fn ran(&self, root: &Path, run: &Run<'_>) -> Result<Ended> {
        let folder = root.join("conformance/kafka").join(self.name);
        let mut command = (self.prepare)(root, &folder).context("setting up")?;
        command.current_dir(&folder).args(["--bootstrap", run.bootstrap]);
        command.args([
            "--peer",
            match run.peer {
                Peer::Kafka => "kafka",
                Peer::Millstream => "millstream",
            },
        ]);
        if let Some(check) = run.check {
            command.args(["--only", check]);
        }
        counted(self.name, &mut command, DONE_WITHIN)
    }
}

/// What is the same for every client program of a run.
pub struct Run<'a> {
    /// The broker's address.
    pub bootstrap: &'a str,
    /// What it is.
    pub peer: Peer,
    /// Only the checks whose name holds this.
    pub check: Option<&'a str>,
    /// Whether a client whose tools are missing has failed, or is skipped.
    pub require_all: bool,
}

/// The clients called `only`, or all.
pub fn chosen(only: Option<&str>) -> Result<Vec<&'static Client>> {
    let clients: Vec<_> =
        CLIENTS.iter().filter(|client| only.is_none_or(|only| only == client.name)).collect();
    if clients.is_empty() {
        bail!("no client program {:?}", only.unwrap_or_default());
    }
    Ok(clients)
}

/// Installs what the clients need and this machine lacks.
pub fn install_tools(clients: &[&Client]) -> Result<()> {
    let needed: Vec<&Tool> = clients.iter().flat_map(|client| client.needs).copied().collect();
    tools::install(&needed)
}

fn python(root: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new(tools::python(root)?);
    command.arg(folder.join("run.py"));
    Ok(command)
}

fn kcat(root: &Path, folder: &Path) -> Result<Command> {
    python(root, folder)
}

fn java(root: &Path, folder: &Path) -> Result<Command> {
    let made = tools::made(root).join("java");
    let (classes, jars) = (made.join("classes"), made.join("jars"));
    let pom = folder.join("pom.xml");
    tools::once(&jars, &pom, || {
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(&pom).arg("dependency:copy-dependencies");
        must(maven.arg(format!("-DoutputDirectory={}", jars.display())))
    })?;
    let mut sources = Vec::new();
    find(&folder.join("src"), "java", &mut sources)?;
    let _ = std::fs::remove_dir_all(&classes); // classes of sources that are gone
    std::fs::create_dir_all(&classes)?;
    let path = format!("{}:{}/*", classes.display(), jars.display());
    must(Command::new("javac").arg("-d").arg(&classes).args(["-cp", &path]).args(sources))?;
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-cp", &path, "Main"]);
    Ok(command)
}

fn go(root: &Path, folder: &Path) -> Result<Command> {
    let binary = tools::made(root).join("conformance-go");
    must(Command::new("go").args(["build", "-o"]).arg(&binary).arg(".").current_dir(folder))?;
    Ok(Command::new(binary))
}

fn node(_root: &Path, folder: &Path) -> Result<Command> {
    tools::once(&folder.join("node_modules"), &folder.join("package-lock.json"), || {
        must(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(folder))
    })?;
    let mut command = Command::new("node");
    command.arg(folder.join("run.js"));
    Ok(command)
}

/// The files under `folder` that end in `.end`.
fn find(folder: &Path, end: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, end, found)?;
        } else if path.extension().is_some_and(|extension| extension == end) {
            found.push(path);
        }
    }
    Ok(())
}
