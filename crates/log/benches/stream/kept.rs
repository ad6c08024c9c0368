//! Stream-shaped load: appends to so many logs at full speed, bounded by what may be in flight; everything is kept. Each round runs in
//! a process of its own, which is killed under load; another opens the log again.

use millstream_env::Env;
use millstream_log::LogConfig;
use millstream_testkit::process::child;

use crate::args::Args;
use crate::bare::{Bare, Files};
use crate::machine::Place;
use crate::report::Table;
use crate::turns::{Plan, drive};

const LOAD: &[&str] = &[
    "MB/s",
    "bare (fresh files) MB/s",
    "ratio",
    "p50 ms",
    "p99 ms",
    "bare p99 ms",
    "written : acknowledged",
    "frames alone",
    "syncs",
    "CPU s/GB",
];
const RESTART: &[&str] = &[
    "RSS MiB under load",
    "at most",
    "opening after a kill, s",
    "replayed MiB",
    "RSS MiB at most",
    "opening after a clean stop, s",
];

pub fn run(args: &Args, place: &Place) {
    let (mut load, mut restart) = (Table::new("logs × append", LOAD), Table::new("logs × append", RESTART));
    for round in 0..args.rounds {
        for &size in &args.sizes {
            for &logs in &args.logs {
                let case = format!("{logs} × {} KiB", size >> 10);
                eprintln!("kept streams, round {}: {case}", round + 1);
                let samples = one(args, place, logs, size);
                let (first, second) = samples.split_at(LOAD.len());
                load.add(&case, first);
                restart.add(&case, second);
            }
        }
    }
    println!("### Streams, everything kept: {} MiB appended to each case and round\n", args.bytes >> 20);
    load.print();
    println!("### The same: memory, and opening again\n");
    restart.print();
}

fn one(args: &Args, place: &Place, logs: u64, size: usize) -> Vec<f64> {
    let dir = place.fresh("log");
    let path = dir.display().to_string();
    let words = |first: &str, more: &[u64]| {
        let more = more.iter().map(u64::to_string);
        ["--child".to_owned(), first.to_owned(), path.clone()].into_iter().chain(more).collect::<Vec<_>>()
    };
    let (load, mut process) = child(&words("load", &[logs, size as u64, args.bytes]), "measured");
    process.kill().unwrap(); // SIGKILL, while it goes on appending
    process.wait().unwrap();
    assert!(load.contains_key("records"), "the load ended early");
    let (killed, mut process) = child(&words("reopen", &[logs]), "done");
    assert!(process.wait().unwrap().success());
    assert!(killed["entries"] >= load["records"], "lost: {killed:?}, {load:?}");
    let (clean, mut process) = child(&words("reopen", &[logs]), "done");
    assert!(process.wait().unwrap().success());
    assert_eq!(clean["entries"], killed["entries"], "a clean stop lost something");
    std::fs::remove_dir_all(dir).unwrap();

    let dir = place.fresh("fresh");
    let env = Env::os(&dir);
    let in_flight = LogConfig::default().inflight_bytes / size;
    let mut bare = Bare::start(Files::new(&env, args.bytes + (128 << 20), false), size);
    let plan =
        Plan { in_flight, turn: 64, record_bytes: size, warm_ns: 0, ns: u64::MAX / 2, bytes: args.bytes };
    let seen = drive(&mut bare, &*env.clock, plan);
    drop(bare);
    std::fs::remove_dir_all(dir).unwrap();
    let bare_mbs = seen.records as f64 * size as f64 / seen.seconds / 1e6;
    vec![
        load["mbs"],
        bare_mbs,
        load["mbs"] / bare_mbs,
        load["p50"],
        load["p99"],
        seen.latency.at(0.99),
        load["written"],
        load["frames"],
        load["syncs"],
        load["cpu"],
        load["rss"],
        load["peak"],
        killed["seconds"],
        killed["replayed"],
        killed["peak"],
        clean["seconds"],
    ]
}
