//! The processes that are measured alone: they load a directory until they are killed, or open what another left. They print
//! `name=value` lines, then `measured`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_env::Env;
use millstream_log::LogConfig;
use millstream_testkit::process::{Used, resident_mib};

use crate::backlog::{BATCH, LOG, Order, Settler, reads_per_second};
use crate::engine::{Engine, Random};
use crate::flow::{Fate, Flow};
use crate::quota::{Quota, held_bytes};
use crate::turns::{Latency, Plan, Seen, drive};

/// How long the disk may take to come to rest.
const REST_SECONDS_MAX: u32 = 60;

/// So long after the last rows were written the log has given back what memory it can.
const QUIET_SECONDS: u32 = 12;

pub fn run(words: &[String]) {
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let dir = Path::new(&words[1]);
    match words[0].as_str() {
        "flow" => {
            let cfg = LogConfig { merge_budget_percent: number(8) as u32, ..LogConfig::default() };
            flow(dir, &cfg, &words[2], [3, 4, 5, 6, 7].map(number));
        }
        "fill" => {
            let cfg = LogConfig::default();
            flow(dir, &cfg, "kept", [1, number(2), number(2) * number(3), 0, 0]);
        }
        "steady" => steady(dir, [2, 3, 4, 5, 6].map(number)),
        "reopen" => reopen(dir),
        "settle" => settle(dir, &words[2], number(3), number(4)),
        other => panic!("no child is called {other}"),
    }
}

fn fate(name: &str) -> Fate {
    match name {
        "kept" => Fate::Kept,
        "settled" => Fate::Settled,
        "half" => Fate::Half,
        "fanout" => Fate::Fanout,
        "random" => Fate::Random,
        other => panic!("no fate is called {other}"),
    }
}

/// Waits until the disk holds the same for two seconds: what the log does behind the commits is done, or waits for more.
fn rest(dir: &Path, engine: &mut Engine) -> u64 {
    let (mut held, mut same) = (held_bytes(dir), 0);
    for _ in 0..REST_SECONDS_MAX * 10 {
        std::thread::sleep(Duration::from_millis(100)); // tidy: pacing
        engine.end_turn();
        let now = held_bytes(dir);
        same = if now == held { same + 1 } else { 0 };
        held = now;
        if same == 20 {
            break;
        }
    }
    held
}

/// Waits until the log has given memory back.
fn settle_down(engine: &mut Engine) {
    for _ in 0..QUIET_SECONDS * 10 {
        std::thread::sleep(Duration::from_millis(100)); // tidy: pacing
        engine.end_turn();
    }
}

fn flow(dir: &Path, cfg: &LogConfig, name: &str, [logs, size, bytes, live_bytes, quota_bytes]: [u64; 5]) {
    let (clock, size) = (Env::os(dir).clock, size as usize);
    let limited = |disk| -> Arc<dyn millstream_env::Disk> {
        if quota_bytes > 0 { Arc::new(Quota { disk, total_bytes: quota_bytes }) } else { disk }
    };
    let before = Used::now();
    let engine = Engine::open(dir, cfg, limited);
    let mut target = Flow::new(engine, Arc::clone(&clock), fate(name), logs, size, live_bytes);
    let plan =
        Plan { in_flight: usize::MAX, turn: 64, record_bytes: size, warm_ns: 0, ns: u64::MAX / 2, bytes };
    let seen = drive(&mut target, &*clock, plan);
    target.say_all();
    let (_, peak) = resident_mib();
    let held = rest(dir, &mut target.engine);
    settle_down(&mut target.engine);
    let rss = resident_mib().0;
    let after = Used::now();
    let acknowledged = target.published() as f64 * size as f64;
    say_load(&seen, size);
    println!("published={}", target.published());
    println!("written={}", (after.write_bytes - before.write_bytes) as f64 / acknowledged);
    println!("held={}", held as f64 / 1e6);
    println!("live={}", target.living() as f64 * size as f64 / 1e6);
    println!("cpu={}", (after.cpu_seconds - before.cpu_seconds) / (acknowledged / 1e9));
    println!("refused={}", target.refused);
    println!("rss={rss}\npeak={peak}\nmeasured");
    // Killed meanwhile.
    std::thread::sleep(Duration::from_secs(600)); // tidy: pacing
}

/// Messages published at a steady pace and settled at random, until as much is freed as is written. A third of the time is measured.
fn steady(dir: &Path, [seconds, live_mib, pace_mib, spare_s, budget]: [u64; 5]) {
    const SIZE: usize = 1024;
    let env = Env::os(dir);
    let cfg = LogConfig {
        merge_spare_ms: spare_s * 1000,
        merge_budget_percent: budget as u32,
        ..LogConfig::default()
    };
    let engine = Engine::open(dir, &cfg, |disk| disk);
    std::thread::sleep(Duration::from_secs(1)); // tidy: pacing
    let empty = held_bytes(dir);
    let clock = Arc::clone(&env.clock);
    let mut target = Flow::new(engine, clock, Fate::Random, 100, SIZE, live_mib << 20);
    let begin_ns = env.clock.mono_ns();
    target.pace = Some((begin_ns, (pace_mib << 20) / SIZE as u64));
    let plan = Plan {
        in_flight: usize::MAX,
        turn: 64,
        record_bytes: SIZE,
        warm_ns: 0,
        ns: 1_000_000_000,
        bytes: u64::MAX,
    };
    let (mut ratios, mut latency, mut begun) = (Vec::new(), Latency::default(), None);
    let mut splits: Vec<[f64; SPLIT.len()]> = Vec::new();
    let merges = |target: &Flow| target.engine.opened.stats.merges();
    let mut seen_s = 0;
    while env.clock.mono_ns() - begin_ns < seconds * 1_000_000_000 {
        let seen = drive(&mut target, &*env.clock, plan);
        let stats = &target.engine.opened.stats;
        if seen_s != (env.clock.mono_ns() - begin_ns) / 10_000_000_000 {
            seen_s = (env.clock.mono_ns() - begin_ns) / 10_000_000_000;
            let held = held_bytes(dir).saturating_sub(empty) >> 20;
            let split = split(&target.engine, dir).map(|mb| mb as u64);
            eprintln!(
                "{} s: {held} MiB, {} merges, {} MiB; {SPLIT:?} {split:?}",
                seen_s * 10,
                stats.merges(),
                stats.merged_bytes() >> 20
            );
        }
        if env.clock.mono_ns() - begin_ns < seconds * 1_000_000_000 * 2 / 3 {
            continue;
        }
        begun.get_or_insert((Used::now(), target.published(), merges(&target), env.clock.mono_ns()));
        latency.absorb(&seen.latency);
        splits.push(split(&target.engine, dir));
        let live = target.living() * SIZE as u64;
        ratios.push((held_bytes(dir) - empty.min(held_bytes(dir))) as f64 / live as f64);
    }
    let (before, published, merged, since) = begun.unwrap();
    let (after, bytes) = (Used::now(), ((target.published() - published) as usize * SIZE) as f64);
    let took = (env.clock.mono_ns() - since) as f64 / 1e9;
    println!("mbs={}\nmerges={}", bytes / 1e6 / took, merges(&target) - merged);
    println!("p50={}\np99={}", latency.at(0.5), latency.at(0.99));
    println!("written={}", (after.write_bytes - before.write_bytes) as f64 / bytes);
    println!("cpu={}", (after.cpu_seconds - before.cpu_seconds) / (bytes / 1e9));
    println!("live={}\nempty={}", (target.living() as usize * SIZE) as f64 / 1e6, empty as f64 / 1e6);
    for (i, name) in SPLIT.iter().enumerate() {
        println!("{name}={}", splits.iter().map(|s| s[i]).sum::<f64>() / splits.len() as f64);
    }
    println!("mean={}", ratios.iter().sum::<f64>() / ratios.len() as f64);
    println!("most={}", ratios.iter().copied().fold(0.0, f64::max));
    println!("peak={}\nmeasured", resident_mib().1);
    std::thread::sleep(Duration::from_secs(600)); // tidy: pacing
}

/// What the disk is held by, in MB.
pub const SPLIT: [&str; 8] =
    ["alive", "dead", "spared", "unindexed", "leaving", "free_files", "ready_files", "other"];

fn split(engine: &Engine, dir: &Path) -> [f64; SPLIT.len()] {
    let (stats, room) = (&engine.opened.stats, engine.opened.gate.room());
    let free = room.free_files * room.segment_bytes;
    let ready = room.ready_files * room.segment_bytes;
    let files = held_bytes(&dir.join("seg")) + held_bytes(&dir.join("pack"));
    let other = held_bytes(dir).saturating_sub(files);
    [
        stats.live_bytes(),
        stats.dead_bytes(),
        stats.spared_bytes(),
        stats.unindexed_bytes(),
        stats.leaving_bytes(),
        free,
        ready,
        other,
    ]
    .map(|bytes| bytes as f64 / 1e6)
}

fn say_load(seen: &Seen, size: usize) {
    println!("mbs={}", seen.records as f64 * size as f64 / seen.seconds / 1e6);
    println!("rate={}", seen.records as f64 / seen.seconds);
    println!("p50={}\np99={}", seen.latency.at(0.5), seen.latency.at(0.99));
}

fn reopen(dir: &Path) {
    let clock = Env::os(dir).clock;
    let start = clock.mono_ns();
    let engine = Engine::open(dir, &LogConfig::default(), |disk| disk);
    let seconds = (clock.mono_ns() - start) as f64 / 1e9;
    println!("seconds={seconds}\nreplayed={}", engine.opened.report.replayed_bytes >> 20);
    println!("next={}", engine.opened.reader.bounds(LOG).next);
    println!("peak={}\nmeasured", resident_mib().1);
    // Killed meanwhile: a clean stop would change what the next one finds.
    std::thread::sleep(Duration::from_secs(600)); // tidy: pacing
}

/// Opens a backlog that was killed, reads in it, and settles it.
fn settle(dir: &Path, order: &str, messages: u64, size: u64) {
    let order = match order {
        "in-order" => Order::Ascending,
        "third" => Order::Third,
        "random" => Order::Random,
        other => panic!("no order is called {other}"),
    };
    let clock = Env::os(dir).clock;
    let engine = Engine::open(dir, &LogConfig::default(), |disk| disk);
    if order == Order::Ascending {
        let mut random = Random(3);
        let reads = 3000.min(messages / BATCH as u64);
        let head = reads_per_second(&engine, (0..reads).map(|i| i * BATCH as u64), &*clock);
        let middle = messages / 2;
        let deep =
            reads_per_second(&engine, (0..reads).map(|i| (middle + i * BATCH as u64) % messages), &*clock);
        let scattered = reads_per_second(&engine, (0..reads).map(|_| random.below(messages)), &*clock);
        println!("head={head}\ndeep={deep}\nscattered={scattered}");
    }
    let before = Used::now();
    let mut target = Settler::new(engine, order, messages);
    let n = target.messages();
    let plan =
        Plan { in_flight: 64, turn: 8, record_bytes: 1, warm_ns: 0, ns: u64::MAX / 2, bytes: u64::MAX };
    let seen = drive(&mut target, &*clock, plan);
    target.say_all();
    let (rss, peak) = resident_mib();
    let start = clock.mono_ns();
    let held = rest(dir, &mut target.engine);
    let after = Used::now();
    let left = match order {
        Order::Third => messages - n,
        _ => 0,
    };
    println!("rate={}", n as f64 / seen.seconds);
    println!("core_rate={}", n as f64 / (after.cpu_seconds - before.cpu_seconds));
    println!("p50={}\np99={}", seen.latency.at(0.5), seen.latency.at(0.99));
    println!("held={}\nlive={}", held as f64 / 1e6, (left * size) as f64 / 1e6);
    println!("rest={}", (clock.mono_ns() - start) as f64 / 1e9);
    println!("rss={rss}\npeak={peak}\nmeasured");
    std::thread::sleep(Duration::from_secs(600)); // tidy: pacing
}
