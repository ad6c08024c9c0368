//! The durable log under queue-shaped load: a million logs that are mostly idle, messages that are settled soon, later or never, one
//! body in fifty logs, a long backlog settled in order, every third and at random, merging beside commits, and a disk that is nearly full.
//!
//! `cargo xtask bench log --queues [-- ARGS]`; `-- --help` says what can be chosen. Each case runs in a process of its own, which is
//! killed when it was measured; another opens what it left. Tables go to standard output as Markdown, as in the benchmark of streams.
#![forbid(unsafe_code)]
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

#[path = "queues/args.rs"]
mod args;
#[path = "queues/backlog.rs"]
mod backlog;
#[path = "queues/child.rs"]
mod child;
#[path = "queues/engine.rs"]
mod engine;
#[path = "queues/flow.rs"]
mod flow;
#[path = "queues/quota.rs"]
mod quota;
#[path = "queues/run.rs"]
mod run;

#[path = "stream/machine.rs"]
mod machine;
#[path = "stream/report.rs"]
mod report;
#[path = "stream/turns.rs"]
mod turns;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use args::Args;
use machine::Place;

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    if words.first().is_some_and(|w| w == "--child") {
        words.remove(0);
        return child::run(&words);
    }
    let args = match Args::parse(&words) {
        Ok(args) => args,
        Err(usage) => {
            eprintln!("{usage}");
            std::process::exit(2);
        }
    };
    let place = Place::new(args.disk_bytes());
    println!("{}\n", machine::line(&place.root));
    run::run(&args, &place);
}
