//! `cargo xtask test`: cargo's tests, then the client programs, the command line's and the crash tests against the release binary.

use std::path::{Path, PathBuf};
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

/// A program that starts the binary itself: as people do, or to kill or trace it.
struct Solo {
    name: &'static str,
    /// Its file under `conformance`.
    program: &'static str,
    /// The Python that has the client libraries which it imports.
    python: fn(&Path) -> Result<PathBuf>,
    arguments: &'static [&'static str],
    needs: &'static [&'static Tool],
    within: Duration,
}

const SOLOS: &[Solo] = &[
    Solo {
        name: "cli",
        program: "cli/run.py",
        python: plain_python,
        arguments: &[],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(5),
    },
    Solo {
        name: "kill9",
        program: "crash/kill9.py",
        python: tools::python,
        arguments: &["--rounds", "50"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(8),
    },
    Solo {
        name: "bridge",
        program: "crash/bridge.py",
        python: tools::python,
        arguments: &["--rounds", "8"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(5),
    },
    Solo {
        name: "cross",
        program: "cross/run.py",
        python: tools::cross_python,
        arguments: &[],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(5),
    },
    Solo {
        name: "hold_sync",
        program: "crash/hold_sync.py",
        python: tools::python,
        arguments: &[],
        needs: &[&tools::PYTHON, &tools::STRACE],
        within: Duration::from_mins(4),
    },
    Solo {
        name: "kill9_queues",
        program: "crash/kill9_queues.py",
        python: tools::amqp_python,
        arguments: &["--rounds", "50"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(8),
    },
    Solo {
        name: "hold_sync_queues",
        program: "crash/hold_sync_queues.py",
        python: tools::amqp_python,
        arguments: &[],
        needs: &[&tools::PYTHON, &tools::STRACE],
        within: Duration::from_mins(4),
    },
    Solo {
        name: "kill9_sqs",
        program: "crash/kill9_sqs.py",
        python: tools::sqs_python,
        arguments: &["--rounds", "50"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(8),
    },
    Solo {
        name: "kill9_moves",
        program: "crash/kill9_moves.py",
        python: tools::sqs_python,
        arguments: &["--rounds", "10"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(4),
    },
    Solo {
        name: "hold_sync_sqs",
        program: "crash/hold_sync_sqs.py",
        python: tools::sqs_python,
        arguments: &[],
        needs: &[&tools::PYTHON, &tools::STRACE],
        within: Duration::from_mins(4),
    },
    Solo {
        name: "full_disk",
        program: "crash/full_disk.py",
        python: tools::python,
        arguments: &[],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(8),
    },
];

/// The machine's own, without client libraries.
#[expect(clippy::unnecessary_wraps, reason = "one of several")]
fn plain_python(_root: &Path) -> Result<PathBuf> {
    Ok(PathBuf::from("python3"))
}

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
    let solos: Vec<_> = SOLOS.iter().filter(|solo| wanted.names(solo.name)).collect();
    if clients.is_empty() && solos.is_empty() {
        bail!("no program {:?}", wanted.only.as_deref().unwrap_or_default());
    }
    if wanted.require_all {
        let needed: Vec<&Tool> = solos.iter().flat_map(|solo| solo.needs).copied().collect();
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
        match Millstream::start(&binary, place.path(), millstream::BRISK) {
            Err(error) => summary.check("start the broker", starting.elapsed(), Err(error)),
            Ok(broker) => {
                let (bootstrap, amqp, aws) =
                    (broker.bootstrap.clone(), broker.amqp.clone(), broker.aws.clone());
                let run = Run {
                    bootstrap: &bootstrap,
                    amqp: &amqp,
                    amqp_admin: Some(&broker.admin),
                    aws: &aws,
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
    for solo in solos {
        solo.run(root, &binary, wanted.require_all, summary);
    }
    Ok(())
}

impl Solo {
    fn run(&self, root: &Path, binary: &Path, require_all: bool, summary: &mut Summary) {
        let name = self.program.trim_end_matches("/run.py").trim_end_matches(".py").replace('/', " ");
        if let Some(tool) = self.needs.iter().find(|tool| !tool.is_here()) {
            return summary.absent(&name, format!("{} not installed", tool.program), require_all);
        }
        println!("\n== {name}");
        let started = Moment::now();
        let ended = (self.python)(root).and_then(|python| {
            let program = root.join("conformance").join(self.program);
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
