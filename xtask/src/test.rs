//! `cargo xtask test`: cargo's tests, then the client programs and the crash tests against the release binary.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::clients::{self, Peer, Run};
use crate::clock::Moment;
use crate::conformance;
use crate::millstream::{self, Millstream};
use crate::process::{Scratch, counted};
use crate::summary::Summary;
use crate::tools::{self, Tool};
use crate::workspace;

/// Building and running all of cargo's tests takes less than this.
const CARGO_WITHIN: Duration = Duration::from_mins(40);

/// A program of `conformance/crash`: it starts the binary itself, and kills or traces it.
struct Crash {
    name: &'static str,
    arguments: &'static [&'static str],
    needs: &'static [&'static Tool],
    within: Duration,
}

const CRASHES: &[Crash] = &[
    Crash {
        name: "kill9",
        arguments: &["--rounds", "50"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(8),
    },
    Crash {
        name: "hold_sync",
        arguments: &[],
        needs: &[&tools::PYTHON, &tools::STRACE],
        within: Duration::from_mins(4),
    },
];

/// What the command line asks for.
struct Wanted {
    rust: bool,
    programs: bool,
    require_all: bool,
    only: Option<String>,
}

impl Wanted {
    fn names(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == name)
    }
}

/// Does what the command line says.
pub fn run(root: &Path, mut args: Args) -> Result<bool> {
    let (rust_only, programs_only) = (args.flag("--rust-only"), args.flag("--conformance-only"));
    let require_all = args.flag("--require-all");
    let only = args.value("--only")?;
    args.finish()?;
    if rust_only && (programs_only || only.is_some()) {
        bail!("--rust-only leaves nothing of the other flag");
    }
    let rust = !programs_only && only.is_none();
    let wanted = Wanted { rust, programs: !rust_only, require_all, only };
    let mut summary = Summary::default();
    if wanted.rust {
        cargo_tests(root, &mut summary);
    }
    if wanted.programs {
        programs(root, &wanted, &mut summary)?;
    }
    Ok(summary.close())
}

fn cargo_tests(root: &Path, summary: &mut Summary) {
    println!("== cargo test");
    let started = Moment::now();
    let mut cargo = Command::new(workspace::cargo());
    cargo.args(["test", "--workspace", "--no-fail-fast"]).current_dir(root);
    match counted("", &mut cargo, CARGO_WITHIN) {
        Ok(ended) => summary.ran("cargo test", ended.tally, started.elapsed(), ended.note),
        Err(error) => summary.check("cargo test", started.elapsed(), Err(error)),
    }
}

/// Everything that needs the binary. What cannot be set up is a failed row, and the rest goes on.
fn programs(root: &Path, wanted: &Wanted, summary: &mut Summary) -> Result<()> {
    let clients: Vec<_> = clients::CLIENTS.iter().filter(|client| wanted.names(client.name)).collect();
    let crashes: Vec<_> = CRASHES.iter().filter(|crash| wanted.names(crash.name)).collect();
    if clients.is_empty() && crashes.is_empty() {
        bail!("no program {:?}", wanted.only.as_deref().unwrap_or_default());
    }
    if wanted.require_all {
        let needed: Vec<&Tool> = crashes.iter().flat_map(|crash| crash.needs).copied().collect();
        clients::install_tools(&clients).and_then(|()| tools::install(&needed))?;
    }
    let building = Moment::now();
    println!("\n== build the broker");
    let binary = match millstream::build(root) {
        Ok(binary) => binary,
        Err(error) => {
            summary.check("build the broker", building.elapsed(), Err(error));
            return Ok(());
        }
    };
    let place = Scratch::new(tools::made(root).join("test"))?;
    if !clients.is_empty() {
        let starting = Moment::now();
        match Millstream::start(&binary, place.path()) {
            Err(error) => summary.check("start the broker", starting.elapsed(), Err(error)),
            Ok(broker) => {
                let bootstrap = broker.bootstrap.clone();
                let run = Run {
                    bootstrap: &bootstrap,
                    peer: Peer::Millstream,
                    check: None,
                    require_all: wanted.require_all,
                };
                conformance::all(root, &clients, &run, summary);
                let stopping = Moment::now();
                let stopped = broker.stop();
                summary.check("clean stop", stopping.elapsed(), stopped);
            }
        }
    }
    for crash in crashes {
        crash.run(root, &binary, wanted.require_all, summary);
    }
    Ok(())
}

impl Crash {
    fn run(&self, root: &Path, binary: &Path, require_all: bool, summary: &mut Summary) {
        let name = format!("crash {}", self.name);
        if let Some(tool) = self.needs.iter().find(|tool| !tool.is_here()) {
            return summary.absent(&name, format!("{} not installed", tool.program), require_all);
        }
        println!("\n== {name}");
        let started = Moment::now();
        let ended = tools::python(root).and_then(|python| {
            let program = root.join("conformance/crash").join(format!("{}.py", self.name));
            let mut command = Command::new(python);
            command.arg(program).arg("--binary").arg(binary).args(self.arguments);
            counted(self.name, &mut command, self.within)
        });
        match ended.context("setting up") {
            Ok(ended) => summary.ran(&name, ended.tally, started.elapsed(), ended.note),
            Err(error) => summary.check(&name, started.elapsed(), Err(error)),
        }
    }
}
