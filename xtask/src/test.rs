//! `cargo xtask test`: cargo's tests, the client programs, the command line's and the crash tests against the real binary. What
//! waits for nothing else runs side by side, and environments are set up while cargo compiles; the table keeps its order.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::args::Args;
use crate::clients::{CLIENTS, Client, Peer, Protocol, Run};
use crate::clock::Moment;
use crate::lanes::{self, Job, Later};
use crate::millstream::{self, Millstream};
use crate::process::{Scratch, counted};
use crate::setup::Ready;
use crate::solos::{SOLOS, Solo};
use crate::summary::Summary;
use crate::tools::{self, Tool};
use crate::workspace;

/// Building and running all of cargo's tests takes less than this.
const CARGO_WITHIN: Duration = Duration::from_mins(40);
/// About how long cargo's tests take to compile and run on two cores, seconds.
const CARGO_LASTS_S: u32 = 300;

/// What the command line asks for.
struct Wanted {
    rust: bool,
    programs: bool,
    require_all: bool,
    only: Option<String>,
    /// The broker to run; built if it is not given.
    binary: Option<PathBuf>,
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
    let binary = args.value("--binary")?.map(PathBuf::from);
    args.finish()?;
    if rust_only && (programs_only || only.is_some()) {
        bail!("--rust-only leaves nothing of the other flag");
    }
    let rust = !programs_only && only.is_none();
    let wanted = Wanted { rust, programs: !rust_only, require_all, only, binary };
    let parts = parts(&wanted)?;
    side_by_side(root, &wanted, &parts).map(|summary| summary.close())
}

/// What runs on its own, beside the others.
enum Part {
    /// All of cargo's tests.
    Cargo,
    /// The client programs of a protocol, one after another on a broker of theirs.
    Clients(Protocol, Vec<&'static Client>),
    /// A program that starts its brokers itself.
    Solo(&'static Solo),
}

/// The parts that are wanted, in the order of the table at the end.
fn parts(wanted: &Wanted) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    if wanted.rust {
        parts.push(Part::Cargo);
    }
    if !wanted.programs {
        return Ok(parts);
    }
    let before = parts.len();
    for protocol in Protocol::ALL {
        let of_protocol = |client: &&Client| client.protocol == protocol && wanted.names(client.name);
        let clients: Vec<_> = CLIENTS.iter().filter(of_protocol).collect();
        if !clients.is_empty() {
            parts.push(Part::Clients(protocol, clients));
        }
    }
    parts.extend(SOLOS.iter().filter(|solo| wanted.names(solo.name)).map(Part::Solo));
    if parts.len() == before {
        bail!("no program {:?}", wanted.only.as_deref().unwrap_or_default());
    }
    Ok(parts)
}

/// The binary that programs run, or why there is none.
type Binary = Later<Result<PathBuf, String>>;

fn side_by_side(root: &Path, wanted: &Wanted, parts: &[Part]) -> Result<Summary> {
    let place = Scratch::new(tools::made(root).join("test"))?;
    let (place, binary) = (place.path(), Binary::default());
    let mut longest_first: Vec<(usize, &Part)> = parts.iter().enumerate().collect();
    longest_first.sort_by_key(|(_, part)| Reverse(part.lasts_s()));
    let (mut setting_up, mut jobs) = (Vec::new(), Vec::<Job<'_, (usize, Summary)>>::new());
    for (at, part) in longest_first {
        let (tx, ready) = sync_channel(part.programs());
        setting_up.push((part, tx));
        let binary = &binary;
        jobs.push(Box::new(move || (at, part.run(root, place, wanted, &ready, binary))));
    }
    let mut building = Summary::default();
    let mut done = thread::scope(|scope| {
        let build = wanted.programs.then(|| scope.spawn(|| build(root, wanted, &binary)));
        scope.spawn(move || set_up(root, wanted, setting_up));
        let done = lanes::run(lanes(), jobs);
        if let Some(row) = build.and_then(|build| build.join().ok()) {
            building = row;
        }
        done
    });
    done.sort_by_key(|(at, _)| *at);
    for (_, rows) in done {
        building.join(rows);
    }
    Ok(building)
}

/// Programs wait more than they work, so there is one more of them at a time than there are processors.
fn lanes() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get) + 1
}

/// Builds the broker; a row only where it fails.
fn build(root: &Path, wanted: &Wanted, binary: &Binary) -> Summary {
    let mut summary = Summary::default();
    let building = Moment::now();
    let built = wanted.binary.clone().map_or_else(|| millstream::build_tested(root), Ok);
    binary.set(match built.and_then(|path| Ok(path.canonicalize()?)) {
        Ok(binary) => Ok(binary),
        Err(error) => {
            let why = format!("{error:#}");
            summary.check("build the broker", building.elapsed(), Err(error));
            Err(why)
        }
    });
    summary
}

/// Sets up all programs, in the order in which they run.
fn set_up(root: &Path, wanted: &Wanted, parts: Vec<(&Part, SyncSender<Ready>)>) {
    if wanted.require_all {
        let needed: Vec<&Tool> = parts.iter().flat_map(|(part, _)| part.needs()).collect();
        if let Err(error) = tools::install(&needed) {
            eprintln!("xtask: {error:#}"); // what is still missing fails where it is needed
        }
    }
    for (part, ready) in parts {
        part.set_up(root, &ready);
    }
}

impl Part {
    fn lasts_s(&self) -> u32 {
        match self {
            Self::Cargo => CARGO_LASTS_S,
            Self::Clients(_, clients) => clients.iter().map(|client| client.lasts_s).sum(),
            Self::Solo(solo) => solo.lasts_s,
        }
    }

    /// How many programs are to be set up for it.
    fn programs(&self) -> usize {
        match self {
            Self::Cargo => 0,
            Self::Clients(_, clients) => clients.len(),
            Self::Solo(_) => 1,
        }
    }

    fn needs(&self) -> Vec<&'static Tool> {
        match self {
            Self::Cargo => Vec::new(),
            Self::Clients(_, clients) => clients.iter().flat_map(|client| client.needs).copied().collect(),
            Self::Solo(solo) => solo.needs.to_vec(),
        }
    }

    fn set_up(&self, root: &Path, ready: &SyncSender<Ready>) {
        // Nobody waits for it where the broker could not be built.
        match self {
            Self::Cargo => {}
            Self::Clients(_, clients) => {
                for client in clients {
                    drop(ready.send(client.prepare(root)));
                }
            }
            Self::Solo(solo) => drop(ready.send(solo.prepare(root))),
        }
    }

    fn run(
        &self,
        root: &Path,
        place: &Path,
        wanted: &Wanted,
        ready: &Receiver<Ready>,
        binary: &Binary,
    ) -> Summary {
        let next =
            || ready.recv().unwrap_or_else(|_| Ready::Failed(anyhow::anyhow!("setting up ended early")));
        // Without the broker there is nothing to run: why, was said where it was built.
        match self {
            Self::Cargo => cargo_tests(root),
            Self::Clients(protocol, clients) => binary.get().map_or_else(
                |_| Summary::default(),
                |binary| {
                    let place = place.join(protocol.name());
                    on_one_broker(root, &place, wanted, &binary, (*protocol, clients), next)
                },
            ),
            Self::Solo(solo) => binary
                .get()
                .map_or_else(|_| Summary::default(), |binary| solo.run(next(), &binary, wanted.require_all)),
        }
    }
}

fn cargo_tests(root: &Path) -> Summary {
    println!("== cargo test");
    let mut summary = Summary::default();
    let started = Moment::now();
    let mut cargo = Command::new(workspace::cargo());
    cargo.args(["test", "--workspace", "--no-fail-fast"]).current_dir(root);
    match counted("", &mut cargo, CARGO_WITHIN) {
        Ok(ended) => summary.ran("cargo test", ended.tally, started.elapsed(), ended.note),
        Err(error) => summary.check("cargo test", started.elapsed(), Err(error)),
    }
    summary
}

/// Runs the client programs of one protocol on a broker of their own, which must then stop cleanly.
fn on_one_broker(
    root: &Path,
    place: &Path,
    wanted: &Wanted,
    binary: &Path,
    (protocol, clients): (Protocol, &[&'static Client]),
    next: impl Fn() -> Ready,
) -> Summary {
    let mut summary = Summary::default();
    let starting = Moment::now();
    let broker = match Millstream::start(binary, place, millstream::BRISK) {
        Ok(broker) => broker,
        Err(error) => {
            summary.check(&format!("start for {}", protocol.name()), starting.elapsed(), Err(error));
            return summary;
        }
    };
    let run = Run {
        address: broker.address(protocol),
        amqp_admin: Some(&broker.admin),
        peer: Peer::Millstream,
        check: None,
        require_all: wanted.require_all,
    };
    for client in clients {
        client.run(root, next(), &run, &mut summary);
    }
    let stopping = Moment::now();
    let stopped = broker.stop();
    summary.check(&format!("clean stop {}", protocol.name()), stopping.elapsed(), stopped);
    summary
}
