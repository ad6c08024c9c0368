//! `cargo xtask sim`: the simulation by seed. Many seeds over every variant of the log's histories and of the whole broker, or one
//! seed again, or the bugs on purpose that it must notice.
//!
//! The histories are tests of their crates (`tests/sim`); this builds them once and runs them in slices of seeds. Start at [`run`].

mod report;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::report::{Failure, Outcome, Report};
use crate::args::Args;
use crate::clock::{Moment, wait_for};
use crate::process::{Scratch, counted, output};
use crate::summary::Summary;
use crate::{tools, workspace};

/// Seeds of a run that does not say how many.
const SEEDS: u64 = 2_000;
/// Processes at a time.
const JOBS_MAX: u64 = 2;
/// Seeds that one process runs.
const SLICE_SEEDS: u64 = 20;
/// One slice takes less than this, or hangs.
const SLICE_WITHIN: Duration = Duration::from_mins(20);
/// The bugs on purpose of one crate take less than this.
const BUGS_WITHIN: Duration = Duration::from_mins(20);

/// One kind of history.
struct Variant {
    name: &'static str,
    package: &'static str,
    /// The test that runs it.
    test: &'static str,
    /// How many of all seeds it gets, against the others.
    weight: u64,
}

/// The name begins with the crate; `--only` takes the crate or the whole name.
const VARIANTS: &[Variant] = &[
    Variant {
        name: "log-memory",
        package: "millstream-log",
        test: "a_log_in_memory_shares_random_histories_with_the_model",
        weight: 1,
    },
    Variant {
        name: "log-memory-by-hand",
        package: "millstream-log",
        test: "a_log_in_memory_that_commits_by_hand_shares_random_histories_with_the_model",
        weight: 1,
    },
    Variant {
        name: "log-disk",
        package: "millstream-log",
        test: "histories_with_power_cuts_kills_failed_syncs_and_rot_agree_with_the_model",
        weight: 4,
    },
    Variant {
        name: "log-rows",
        package: "millstream-log",
        test: "histories_agree_with_the_model_when_rows_are_kept_and_files_freed",
        weight: 4,
    },
    Variant {
        name: "log-adopting",
        package: "millstream-log",
        test: "histories_agree_with_the_model_when_files_are_adopted_at_once",
        weight: 4,
    },
    Variant {
        name: "log-queues",
        package: "millstream-log",
        test: "queues_that_are_settled_keep_what_lives_and_give_the_rest_of_the_room_back",
        weight: 3,
    },
    Variant {
        name: "log-merging",
        package: "millstream-log",
        test: "histories_agree_with_the_model_while_what_lives_is_merged",
        weight: 3,
    },
    Variant {
        name: "log-queues-merging",
        package: "millstream-log",
        test: "queues_that_are_settled_keep_what_lives_while_it_is_merged_again_and_again",
        weight: 3,
    },
    Variant {
        name: "broker-memory",
        package: "millstream-broker",
        test: "a_broker_over_a_log_in_memory_keeps_its_promises",
        weight: 2,
    },
    Variant {
        name: "broker-slow",
        package: "millstream-broker",
        test: "a_broker_over_a_slow_log_keeps_its_promises",
        weight: 1,
    },
    Variant {
        name: "broker-disk",
        package: "millstream-broker",
        test: "a_broker_over_a_log_on_disk_keeps_its_promises_through_power_cuts_and_failed_syncs",
        weight: 4,
    },
    Variant {
        name: "broker-rows",
        package: "millstream-broker",
        test: "a_broker_whose_rows_are_kept_and_whose_files_are_freed_keeps_its_promises_too",
        weight: 5,
    },
    Variant {
        name: "broker-merging",
        package: "millstream-broker",
        test: "a_broker_whose_messages_are_merged_again_and_again_keeps_its_promises_too",
        weight: 4,
    },
];

/// Seeds for one process.
struct Slice {
    variant: &'static Variant,
    seeds: Range<u64>,
}

/// Does what the command line says.
pub fn run(root: &Path, mut args: Args) -> Result<bool> {
    let one = args.value("--seed")?;
    let (seeds, from) = (args.number("--seeds", SEEDS)?, args.number("--from", 0)?);
    let jobs = args.number("--jobs", JOBS_MAX)?.clamp(1, JOBS_MAX);
    let (only, bugs) = (args.value("--only")?, args.flag("--bugs"));
    args.finish()?;
    let chosen = chosen(only.as_deref())?;
    let programs = build(root, &chosen)?;
    if bugs {
        return Ok(run_bugs(&programs));
    }
    let slices = match one {
        Some(seed) => {
            let seed = seed.parse().with_context(|| format!("--seed wants a number, not {seed:?}"))?;
            chosen.iter().map(|variant| Slice { variant, seeds: seed..seed + 1 }).collect()
        }
        None => sliced(&chosen, seeds, from),
    };
    // Of this process alone: two runs may go on at once.
    let place = Scratch::new(tools::made(root).join(format!("sim-{}", std::process::id())))?;
    let report = Mutex::new(Report::new(slices.iter().map(|s| s.seeds.end - s.seeds.start).sum()));
    let waiting = Mutex::new(slices);
    std::thread::scope(|threads| {
        for n in 0..jobs {
            let (programs, waiting, report) = (&programs, &waiting, &report);
            let log = place.path().join(format!("{n}.log"));
            threads.spawn(move || {
                while let Some(slice) = take(waiting) {
                    slice.run(programs, &log, report);
                }
            });
        }
    });
    Ok(report.into_inner().unwrap_or_else(PoisonError::into_inner).close())
}

fn take(waiting: &Mutex<VecDeque<Slice>>) -> Option<Slice> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn chosen(only: Option<&str>) -> Result<Vec<&'static Variant>> {
    let of = |v: &&Variant| only.is_none_or(|only| v.name == only || v.name.split('-').next() == Some(only));
    let chosen: Vec<_> = VARIANTS.iter().filter(of).collect();
    if chosen.is_empty() {
        let names: Vec<_> = VARIANTS.iter().map(|v| v.name).collect();
        bail!("--only log, broker, or one of {}", names.join(", "));
    }
    Ok(chosen)
}

/// Spreads the seeds over the variants by weight, in slices that take turns, so that each has begun soon.
fn sliced(chosen: &[&'static Variant], seeds: u64, from: u64) -> VecDeque<Slice> {
    let weights: u64 = chosen.iter().map(|v| v.weight).sum();
    let mut left: Vec<(&'static Variant, Range<u64>)> =
        chosen.iter().map(|v| (*v, from..from + (seeds * v.weight).div_ceil(weights))).collect();
    let mut slices = VecDeque::new();
    while left.iter().any(|(_, seeds)| !seeds.is_empty()) {
        for (variant, seeds) in left.iter_mut().filter(|(_, seeds)| !seeds.is_empty()) {
            let end = seeds.end.min(seeds.start + SLICE_SEEDS);
            slices.push_back(Slice { variant, seeds: seeds.start..end });
            seeds.start = end;
        }
    }
    slices
}

/// Builds the test programs; gives where each package's is.
fn build(root: &Path, chosen: &[&Variant]) -> Result<BTreeMap<&'static str, PathBuf>> {
    let mut programs = BTreeMap::new();
    for package in chosen.iter().map(|v| v.package) {
        if programs.contains_key(package) {
            continue;
        }
        let mut cargo = Command::new(workspace::cargo());
        cargo.args(["test", "--package", package, "--test", "sim", "--no-run", "--message-format", "json"]);
        let told = output(cargo.current_dir(root)).with_context(|| format!("building {package}"))?;
        let program =
            told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|m| {
                let is_it = m.pointer("/target/name").and_then(Value::as_str) == Some("sim");
                m.get("executable").and_then(Value::as_str).filter(|_| is_it).map(PathBuf::from)
            });
        programs.insert(package, program.with_context(|| format!("cargo made no simulation of {package}"))?);
    }
    Ok(programs)
}

/// Every bug on purpose must be noticed; each says by which seed and how.
fn run_bugs(programs: &BTreeMap<&'static str, PathBuf>) -> bool {
    let mut summary = Summary::default();
    for (package, program) in programs {
        println!("\n== bugs on purpose, {package}");
        let started = Moment::now();
        let mut command = Command::new(program);
        command.args(["bugs::", "--nocapture", "--test-threads", "1"]).env("RUST_BACKTRACE", "0");
        command.env_remove("MILLSTREAM_SEEDS").stderr(Stdio::null());
        match counted("", &mut command, BUGS_WITHIN) {
            Ok(ended) => summary.ran(package, ended.tally, started.elapsed(), ended.note),
            Err(error) => summary.check(package, started.elapsed(), Err(error)),
        }
    }
    summary.close()
}

impl Slice {
    /// Runs the seeds; behind one that fails it goes on.
    fn run(mut self, programs: &BTreeMap<&'static str, PathBuf>, log: &Path, report: &Mutex<Report>) {
        while !self.seeds.is_empty() {
            let started = Moment::now();
            let outcome = self.once(programs, log);
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            let took = started.elapsed();
            match outcome {
                Ok(Outcome::Held(counts)) => {
                    let n = self.seeds.end - self.seeds.start;
                    self.seeds.start = self.seeds.end;
                    report.held(self.variant.name, n, &counts, took);
                }
                Ok(Outcome::Broken { seed, what }) => {
                    // Those before it held; their counts went with the process.
                    let seed = seed.filter(|seed| self.seeds.contains(seed));
                    let held = seed.map_or(0, |seed| seed - self.seeds.start);
                    self.seeds.start = seed.map_or(self.seeds.end, |seed| seed + 1);
                    report.held(self.variant.name, held, &BTreeMap::new(), took);
                    report.broken(Failure { variant: self.variant.name, seed, what });
                }
                Err(error) => {
                    self.seeds.start = self.seeds.end;
                    let what = format!("{error:#}");
                    report.broken(Failure { variant: self.variant.name, seed: None, what });
                }
            }
        }
    }

    fn once(&self, programs: &BTreeMap<&'static str, PathBuf>, log: &Path) -> Result<Outcome> {
        let program = programs.get(self.variant.package).context("it was not built")?;
        let out = File::create(log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(program);
        command.args(["--exact", self.variant.test, "--nocapture"]);
        command.env("MILLSTREAM_SEEDS", format!("{}..{}", self.seeds.start, self.seeds.end));
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let status = wait_for(SLICE_WITHIN, || child.try_wait())?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let said = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
        let Some(status) = status else {
            bail!("seeds {:?} hang: ended after {} s\n{said}", self.seeds, SLICE_WITHIN.as_secs());
        };
        let outcome = Outcome::read(&said, status.success());
        if let Outcome::Held(counts) = &outcome {
            let ran = counts.get("seeds").copied().unwrap_or(0);
            ensure!(ran == self.seeds.end - self.seeds.start, "{ran} of seeds {:?} ran\n{said}", self.seeds);
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_spread_by_weight_and_none_runs_twice_in_a_variant() {
        let all = chosen(None).unwrap();
        let slices = sliced(&all, 200, 7);
        let total: u64 = slices.iter().map(|s| s.seeds.end - s.seeds.start).sum();
        assert!((200..200 + all.len() as u64).contains(&total), "{total}");
        for variant in &all {
            let of: Vec<_> = slices.iter().filter(|s| s.variant.name == variant.name).collect();
            assert_eq!(of.first().unwrap().seeds.start, 7);
            assert!(of.windows(2).all(|w| w[0].seeds.end == w[1].seeds.start));
        }
    }

    #[test]
    fn variants_are_chosen_by_crate_or_by_name() {
        let names = |only| chosen(Some(only)).unwrap().iter().map(|v| v.name).collect::<Vec<_>>();
        assert_eq!(names("broker").len() + names("log").len(), VARIANTS.len());
        assert_eq!(names("log-queues"), ["log-queues"]);
        assert!(chosen(Some("lo")).is_err());
    }
}
