//! Reading in a crowd: many logs interleaved in the same files, all with their index on disk. One of them is read alone; all are read
//! through, log by log and turn by turn.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use millstream_env::{Env, OpenMode};
use millstream_log::{Level, Limits, LogConfig, ReadOutcome, Reader};
use millstream_testkit::block_on::block_on;
use millstream_testkit::process::{Used, resident_mib};
use millstream_types::LogId;

use crate::args::Args;
use crate::load::{self, Logs};
use crate::machine::Place;
use crate::report::Table;
use crate::turns::{Plan, drive};

const MEASURES: &[&str] =
    &["MB/s", "CPU s/GB", "preads an entry", "bytes read : bytes given", "entries", "RSS MiB at most"];
/// Logs read alone, one after another.
const ALONE: u64 = 1000;
/// Likewise, each read from the device.
const ALONE_COLD: u64 = 50;
/// Bytes that one read may give.
const READ_BYTES: usize = 64 << 10;
const TURN_BYTES: usize = 8 << 10;
const READERS: usize = 8;

pub fn run(args: &Args, place: &Place) {
    let size = args.sizes[0];
    let mut table = Table::new("logs × append, how", MEASURES);
    for &logs in &args.logs {
        let dir = place.fresh("crowd");
        fill(&dir, logs, size, args.bytes);
        for _ in 0..args.rounds {
            for (how, cold, run) in CASES {
                if cold {
                    drop_cache(&dir);
                }
                eprintln!("crowd: {logs} × {size} B, {how}");
                let samples = measure(&dir, logs, |reader| run(reader, logs));
                table.add(&format!("{logs} × {size} B, {how}"), &samples);
            }
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
    println!("### Logs in a crowd: {} MiB in files with an index\n", args.bytes >> 20);
    table.print();
}

type Case = (&'static str, bool, fn(&dyn Reader, u64) -> (u64, u64));

const CASES: [Case; 5] = [
    ("one alone", false, |o, logs| {
        let step = (logs / ALONE).max(1);
        sum((0..logs).step_by(step as usize).map(|log| through(o, LogId(log + 1))))
    }),
    ("one alone, cache dropped", true, |o, logs| {
        let step = (logs / ALONE_COLD).max(1);
        sum((0..logs).step_by(step as usize).map(|log| through(o, LogId(log + 1))))
    }),
    ("all, log by log", false, |o, logs| sum((0..logs).map(|log| through(o, LogId(log + 1))))),
    ("all, log by log, 8 readers", false, |o, logs| {
        let at = AtomicU64::new(0);
        spread(|| {
            sum(std::iter::from_fn(|| {
                let log = at.fetch_add(1, Relaxed);
                (log < logs).then(|| through(o, LogId(log + 1)))
            }))
        })
    }),
    ("all, turn by turn, 8 readers", false, |o, logs| {
        let next = AtomicUsize::new(0);
        spread(|| {
            let me = next.fetch_add(1, Relaxed);
            let mine: Vec<u64> = (1..=logs).filter(|log| *log as usize % READERS == me).collect();
            let mut at = vec![0; mine.len()];
            let (mut total, mut more) = ((0, 0), true);
            while more {
                more = false;
                for (log, from) in mine.iter().zip(&mut at) {
                    let (entries, bytes, next) = read(o, LogId(*log), *from, TURN_BYTES);
                    (total, *from) = ((total.0 + entries, total.1 + bytes), next);
                    more |= entries > 0;
                }
            }
            total
        })
    }),
];

fn sum(parts: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    parts.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

fn spread(work: impl Fn() -> (u64, u64) + Sync) -> (u64, u64) {
    std::thread::scope(|s| {
        let threads: Vec<_> = (0..READERS).map(|_| s.spawn(&work)).collect();
        sum(threads.into_iter().map(|t| t.join().unwrap()))
    })
}

/// Entries, bytes, and where to go on.
fn read(reader: &dyn Reader, log: LogId, from: u64, max_bytes: usize) -> (u64, u64, u64) {
    let lim = Limits { max_bytes, max_entries: usize::MAX, end_pos: u64::MAX };
    let batch = match reader.read(log, from, lim, Level::Durable) {
        ReadOutcome::Ready(batch) => batch.unwrap(),
        ReadOutcome::Cold(batch) => block_on(batch).unwrap(),
    };
    let bytes: usize = batch.entries.iter().map(|e| e.body.len()).sum();
    (batch.entries.len() as u64, bytes as u64, batch.next)
}

/// A whole log.
fn through(reader: &dyn Reader, log: LogId) -> (u64, u64) {
    let (mut total, mut from) = ((0, 0), 0);
    loop {
        let (entries, bytes, next) = read(reader, log, from, READ_BYTES);
        if entries == 0 {
            return total;
        }
        (total, from) = ((total.0 + entries, total.1 + bytes), next);
    }
}

/// Appends, and closes the log, which gives every file its index.
fn fill(dir: &Path, logs: u64, size: usize, bytes: u64) {
    let mut target = Logs::new(dir, &LogConfig::default(), logs, size, 0);
    let clock = Env::os(dir).clock;
    let plan =
        Plan { in_flight: usize::MAX, turn: 64, record_bytes: size, warm_ns: 0, ns: u64::MAX / 2, bytes };
    drive(&mut target, &*clock, plan);
    target.flush_all();
}

fn drop_cache(dir: &Path) {
    let disk = Env::os(dir).disk;
    for name in disk.list("seg").unwrap() {
        disk.open(&format!("seg/{name}"), OpenMode::Read).unwrap().drop_cache();
    }
}

fn measure(dir: &Path, logs: u64, run: impl FnOnce(&dyn Reader) -> (u64, u64)) -> Vec<f64> {
    let clock = Env::os(dir).clock;
    let (opened, counts, _) = load::open(dir, &LogConfig::default());
    assert!((1..=logs).all(|log| opened.reader.bounds(LogId(log)).next > 0));
    let (reads, read_bytes) = (counts.reads.load(Relaxed), counts.read_bytes.load(Relaxed));
    let (before, start) = (Used::now(), clock.mono_ns());
    let (entries, bytes) = run(&*opened.reader);
    let (after, end) = (Used::now(), clock.mono_ns());
    let reads = (counts.reads.load(Relaxed) - reads) as f64;
    let read_bytes = (counts.read_bytes.load(Relaxed) - read_bytes) as f64;
    vec![
        bytes as f64 / ((end - start) as f64 / 1e9) / 1e6,
        (after.cpu_seconds - before.cpu_seconds) / (bytes as f64 / 1e9),
        reads / entries as f64,
        read_bytes / bytes as f64,
        entries as f64,
        resident_mib().1 as f64,
    ]
}
