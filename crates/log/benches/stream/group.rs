//! Group commit: so many records of 1 KiB in flight, each submitted again when it is durable; the log and the bare disk in turns.

use millstream_env::Env;
use millstream_log::LogConfig;

use crate::args::Args;
use crate::bare::{Bare, Files};
use crate::load::Logs;
use crate::machine::Place;
use crate::report::Table;
use crate::turns::{Plan, Seen, drive};

const RECORD_BYTES: usize = 1 << 10;
/// Of the one log; so that its files come back, as those of the bare loop do.
const KEEP_BYTES: u64 = 128 << 20;
/// Appended before the log is measured: more than it keeps in memory.
const WARM_BYTES: u64 = 192 << 20;

const MEASURES: &[&str] = &[
    "log, thousand/s",
    "p50 ms",
    "p99 ms",
    "bare (recycled files), thousand/s",
    "its p50",
    "its p99",
    "bare (fresh files), thousand/s",
    "its p50",
    "its p99",
    "log : recycled",
    "p99 log : recycled",
    "log : fresh",
    "p99 log : fresh",
];

fn samples(s: &Seen) -> [f64; 3] {
    [s.records as f64 / s.seconds / 1e3, s.latency.at(0.5), s.latency.at(0.99)]
}

pub fn run(args: &Args, place: &Place) {
    let mut table = Table::new("in flight", MEASURES);
    let recycled = Files::new(&Env::os(place.fresh("recycled")), 256 << 20, true);
    for round in 0..args.rounds {
        for &in_flight in &args.in_flight {
            eprintln!("group commit, round {}: {in_flight} in flight", round + 1);
            let ns = (args.seconds * 1e9) as u64;
            let plan = Plan {
                in_flight,
                turn: args.turn,
                record_bytes: RECORD_BYTES,
                warm_ns: ns / 4,
                ns,
                bytes: args.bytes,
            };
            let log = of_log(place, plan);
            let bare = of_bare(place, recycled.clone(), plan);
            let dir = place.fresh("fresh");
            let fresh = of_bare(place, Files::new(&Env::os(&dir), args.bytes * 3 / 2, false), plan);
            std::fs::remove_dir_all(dir).unwrap();
            let ratios = [log[0] / bare[0], log[2] / bare[2], log[0] / fresh[0], log[2] / fresh[2]];
            table.add(&in_flight.to_string(), &[&log[..], &bare, &fresh, &ratios].concat());
        }
    }
    let direct = if recycled.is_direct() { "direct" } else { "BUFFERED" };
    println!("### Group commit, records of 1 KiB in turns of {}, {direct} writes\n", args.turn);
    table.print();
}

fn of_log(place: &Place, plan: Plan) -> [f64; 3] {
    let dir = place.fresh("log");
    // Room for all of them: what is in flight is bounded by the plan.
    let cfg = LogConfig { inflight_bytes: 32 << 20, ..LogConfig::default() };
    let mut logs = Logs::new(&dir, &cfg, 1, plan.record_bytes, KEEP_BYTES);
    let clock = Env::os(&dir).clock;
    // A log that has run for a while: its memory was touched before, as that of the bare loop was.
    let bytes = WARM_BYTES.min(plan.bytes);
    drive(&mut logs, &*clock, Plan { in_flight: 4096, warm_ns: 0, ns: u64::MAX / 2, bytes, ..plan });
    let seen = drive(&mut logs, &*clock, plan);
    drop(logs);
    std::fs::remove_dir_all(dir).unwrap();
    samples(&seen)
}

fn of_bare(place: &Place, files: Files, plan: Plan) -> [f64; 3] {
    let mut bare = Bare::start(files, plan.record_bytes);
    samples(&drive(&mut bare, &*Env::os(&place.root).clock, plan))
}
