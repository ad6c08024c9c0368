//! The cases, each in processes of its own. Start at [`run`].

use std::path::Path;

use millstream_log::LogConfig;
use millstream_testkit::process::measured_and_killed;

use crate::args::Args;
use crate::child::SPLIT;
use crate::machine::Place;
use crate::report::Table;

const FLOW: &[&str] = &[
    "MB/s",
    "p50 ms",
    "p99 ms",
    "written : acknowledged",
    "disk MB",
    "live MB",
    "disk : live",
    "CPU s/GB",
    "refused for want of disk",
    "RSS MiB at rest",
    "at most",
    "opening after a kill, s",
    "replayed MiB",
    "RSS MiB at most, opening",
];
const STEADY: &[&str] = &[
    "MB/s",
    "p50 ms",
    "p99 ms",
    "written : acknowledged",
    "live MB",
    "disk : live, mean",
    "disk : live, at most",
    "alive, MB",
    "dead",
    "of it spared",
    "in use or unindexed",
    "dead, to be freed",
    "free files",
    "ready files",
    "reserve, rows",
    "packs written",
    "CPU s/GB",
    "RSS MiB at most",
    "opening after a kill, s",
];
const BACKLOG: &[&str] = &[
    "filled, messages/s",
    "RSS MiB at most, filling",
    "opening after a kill, s",
    "RSS MiB at most, opening",
    "read/s at the head",
    "read/s in the middle",
    "read/s, 64 each at random",
];
const SETTLE: &[&str] = &[
    "settled/s",
    "settled per CPU second",
    "p50 ms of 64",
    "p99 ms",
    "disk MB after",
    "live MB",
    "at rest after, s",
    "RSS MiB at most",
];

/// What an empty log takes on a small disk, or leaves free: its reserve, the state store's journal, ready files.
const EMPTY_BYTES: u64 = 160 << 20;

/// Runs what was asked for and prints it.
pub fn run(args: &Args, place: &Place) {
    let mut flows = Table::new("load", FLOW);
    let mut steady_state = Table::new("settled at random", STEADY);
    let (mut backlog, mut settled) = (Table::new("backlog", BACKLOG), Table::new("settled", SETTLE));
    for round in 0..args.rounds {
        for case in &args.only {
            eprintln!("queues, round {}: {case}", round + 1);
            match case.as_str() {
                "backlog" => backlogs(args, place, &mut backlog, &mut settled),
                "steady" => steady(args, place, &mut steady_state),
                case => one_flow(args, place, case, &mut flows),
            }
        }
    }
    if args.only.iter().any(|case| case == "steady") {
        println!(
            "### A steady state: {} MiB/s published for {} s, {} MiB live, the last third measured\n",
            args.pace, args.seconds, args.live
        );
        println!(
            "*Disk*: what the log holds less what it held when it was empty (ready files, half of the reserve). What holds it all, in MB: \
             what lives in files with an index and in packs, what is dead there and how much of that is spared, files without an index, \
             dead files that wait for the rows of the engine, free files, ready files, the rest.\n"
        );
        steady_state.print();
    }
    if args.only.iter().any(|case| !["backlog", "steady"].contains(&case.as_str())) {
        println!("### Messages that flow: {} MiB published\n", args.mib);
        flows.print();
    }
    if args.only.iter().any(|case| case == "backlog") {
        println!("### A backlog of {} messages in one queue\n", args.backlog);
        backlog.print();
        settled.print();
    }
}

fn words(first: &str, dir: &Path, more: &[&dyn ToString]) -> Vec<String> {
    let more = more.iter().map(|word| word.to_string());
    ["--child".to_owned(), first.to_owned(), dir.display().to_string()].into_iter().chain(more).collect()
}

/// One load: what is published, and what becomes of it.
struct Load {
    name: String,
    fate: &'static str,
    logs: u64,
    size: u64,
    bytes: u64,
    /// Bytes that live before the first message is settled.
    live: u64,
    /// Size of the disk, 0 = as it is.
    disk: u64,
    merge_budget_percent: u32,
}

fn loads(args: &Args, case: &str) -> Vec<Load> {
    let bytes = args.mib << 20;
    let soon = bytes / 16;
    let merge_budget_percent = LogConfig::default().merge_budget_percent;
    let load = |name: &str, fate, logs, live| {
        let name = name.to_owned();
        Load { name, fate, logs, size: 1024, bytes, live, disk: 0, merge_budget_percent }
    };
    let fanout = |name, live| Load { bytes: bytes / 4, ..load(name, "fanout", 50, live) };
    match case {
        "idle" => {
            let name = format!("{} logs, 4 of 100 B each", args.idle);
            vec![Load { size: 100, bytes: args.idle * 400, ..load(&name, "kept", args.idle, 0) }]
        }
        "drained" => vec![load("1,000 queues, settled soon", "settled", 1000, soon)],
        "kept" => vec![load("1,000 queues, kept", "kept", 1000, 0)],
        "half" => vec![load("1,000 queues, half settled soon", "half", 1000, soon)],
        "fanout" => {
            vec![
                fanout("one body to 50, settled soon", soon / 4),
                fanout("one body to 50, settled late", bytes / 8),
            ]
        }
        "full" => {
            let name = "settled at random, 60 % of the disk lives".to_owned();
            let disk = bytes / 4 * 5 / 3 + EMPTY_BYTES;
            vec![Load { name, disk, bytes: bytes / 2, ..load("", "random", 100, bytes / 4) }]
        }
        _ => vec![],
    }
}

fn one_flow(args: &Args, place: &Place, case: &str, table: &mut Table) {
    for Load { name, fate, logs, size, bytes, live, disk, merge_budget_percent } in loads(args, case) {
        let dir = place.fresh("queues");
        let load = measured_and_killed(&words(
            "flow",
            &dir,
            &[&fate, &logs, &size, &bytes, &live, &disk, &merge_budget_percent],
        ));
        let again = measured_and_killed(&words("reopen", &dir, &[]));
        let ratio = load["held"] / load["live"].max(1.0);
        table.add(
            &name,
            &[
                load["mbs"],
                load["p50"],
                load["p99"],
                load["written"],
                load["held"],
                load["live"],
                ratio,
                load["cpu"],
                load["refused"],
                load["rss"],
                load["peak"],
                again["seconds"],
                again["replayed"],
                again["peak"],
            ],
        );
        std::fs::remove_dir_all(dir).unwrap();
    }
}

fn steady(args: &Args, place: &Place, table: &mut Table) {
    for (name, budget) in [("merging", args.budget), ("without merges", 0)] {
        let dir = place.fresh("steady");
        let of: [&dyn ToString; 5] = [&args.seconds, &args.live, &args.pace, &args.spare, &budget];
        let seen = measured_and_killed(&words("steady", &dir, &of));
        let again = measured_and_killed(&words("reopen", &dir, &[]));
        let mut values: Vec<f64> =
            ["mbs", "p50", "p99", "written", "live", "mean", "most"].map(|name| seen[name]).to_vec();
        values.extend(SPLIT.map(|name| seen[name]));
        values.extend(["merges", "cpu", "peak"].map(|name| seen[name]));
        values.push(again["seconds"]);
        table.add(name, &values);
        std::fs::remove_dir_all(dir).unwrap();
    }
}

fn backlogs(args: &Args, place: &Place, backlog: &mut Table, settled: &mut Table) {
    for &size in &args.sizes {
        for orders in [&["in-order"][..], &["third", "random"]] {
            let asked = |order: &&&str| args.orders.iter().any(|asked| asked == **order);
            let orders: Vec<&str> = orders.iter().filter(asked).copied().collect();
            if orders.is_empty() {
                continue;
            }
            let dir = place.fresh("backlog");
            let filled = measured_and_killed(&words("fill", &dir, &[&size, &args.backlog]));
            let again = measured_and_killed(&words("reopen", &dir, &[]));
            for order in orders {
                let seen = measured_and_killed(&words("settle", &dir, &[&order, &args.backlog, &size]));
                if order == "in-order" {
                    backlog.add(
                        &format!("{size} B"),
                        &[
                            filled["rate"],
                            filled["peak"],
                            again["seconds"],
                            again["peak"],
                            seen["head"],
                            seen["deep"],
                            seen["scattered"],
                        ],
                    );
                }
                settled.add(
                    &format!("{size} B, {order}"),
                    &[
                        seen["rate"],
                        seen["core_rate"],
                        seen["p50"],
                        seen["p99"],
                        seen["held"],
                        seen["live"],
                        seen["rest"],
                        seen["peak"],
                    ],
                );
            }
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
}
