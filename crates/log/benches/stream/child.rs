//! The processes that are measured alone: one that appends until it is killed, one that opens what it left. They print
//! `name=value` lines.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use millstream_env::Env;
use millstream_log::LogConfig;
use millstream_testkit::process::{Used, resident_mib};
use millstream_types::LogId;

use crate::load::{self, Logs};
use crate::turns::{Plan, drive};

pub fn run(words: &[String]) {
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let dir = Path::new(&words[1]);
    match words[0].as_str() {
        "load" => append(dir, number(2), number(3) as usize, number(4)),
        "reopen" => reopen(dir, number(2)),
        other => panic!("no child is called {other}"),
    }
}

fn append(dir: &Path, logs: u64, size: usize, bytes: u64) {
    let clock = Env::os(dir).clock;
    let mut target = Logs::new(dir, &LogConfig::default(), logs, size, 0);
    assert!(!target.report().unclean);
    let before = Used::now();
    let counted = |of: &std::sync::atomic::AtomicU64| of.load(Relaxed) as f64;
    let (bytes_before, syncs_before) = (counted(&target.counts.bytes), counted(&target.counts.syncs));
    let plan =
        Plan { in_flight: usize::MAX, turn: 64, record_bytes: size, warm_ns: 0, ns: u64::MAX / 2, bytes };
    let seen = drive(&mut target, &*clock, plan);
    let after = Used::now();
    // All that was submitted is durable now; the last turns are not in `seen`.
    let records = target.appended();
    let acknowledged = records as f64 * size as f64;
    let (rss, peak) = resident_mib();
    println!("records={records}");
    println!("mbs={}", seen.records as f64 * size as f64 / seen.seconds / 1e6);
    println!("p50={}\np99={}", seen.latency.at(0.5), seen.latency.at(0.99));
    println!("written={}", (after.write_bytes - before.write_bytes) as f64 / acknowledged);
    println!("frames={}", (counted(&target.counts.bytes) - bytes_before) / acknowledged);
    println!("syncs={}", counted(&target.counts.syncs) - syncs_before);
    println!("cpu={}", (after.cpu_seconds - before.cpu_seconds) / (acknowledged / 1e9));
    println!("rss={rss}\npeak={peak}\nmeasured");
    // Killed meanwhile; if not, the log is not left to fill the disk.
    drive(&mut target, &*clock, Plan { bytes: 256 << 20, ..plan });
    panic!("nobody killed this process");
}

fn reopen(dir: &Path, logs: u64) {
    let clock = Env::os(dir).clock;
    let start = clock.mono_ns();
    let (opened, _, appends) = load::open(dir, &LogConfig::default());
    let seconds = (clock.mono_ns() - start) as f64 / 1e9;
    let entries: u64 = (1..=logs).map(|log| opened.reader.bounds(LogId(log)).next).sum();
    assert!(entries >= appends);
    println!("seconds={seconds}\nentries={entries}");
    println!("replayed={}", opened.report.replayed_bytes >> 20);
    println!("peak={}\ndone", resident_mib().1);
}
