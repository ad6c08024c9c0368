//! The durable log against the bare disk: group commit with 1, 100 and 10,000 records in flight, and stream-shaped load that keeps
//! everything, is killed, and opened again; and, on demand, reading from files that many logs share.
//!
//! `cargo xtask bench log [-- ARGS]`; `-- --help` says what can be chosen. Tables go to standard output as Markdown. Data lies in a
//! directory of its own under the target directory, removed at the end. What is measured together runs in turns, so that what the
//! machine does to one it does to the other; a figure is the median of its rounds, and all samples stand beside it.
#![forbid(unsafe_code)]
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

#[path = "stream/args.rs"]
mod args;
#[path = "stream/bare.rs"]
mod bare;
#[path = "stream/child.rs"]
mod child;
#[path = "stream/count.rs"]
mod count;
#[path = "stream/crowd.rs"]
mod crowd;
#[path = "stream/group.rs"]
mod group;
#[path = "stream/kept.rs"]
mod kept;
#[path = "stream/load.rs"]
mod load;
#[path = "stream/machine.rs"]
mod machine;
#[path = "stream/report.rs"]
mod report;
#[path = "stream/turns.rs"]
mod turns;

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
    let place = Place::new(args.bytes * 2 + (1 << 30));
    println!("{}\n", machine::line(&place.root));
    if args.group {
        group::run(&args, &place);
    }
    if args.kept {
        kept::run(&args, &place);
    }
    if args.crowd {
        crowd::run(&args, &place);
    }
}
