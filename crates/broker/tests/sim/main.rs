//! The whole broker (sessions, engine, log) under simulated clients, power cuts and failing disks, by seed, and a checker of
//! everything it answered, in the manner of Jepsen's Kafka workload.
//!
//! A seed fixes what clients do and which faults strike when; the broker's threads may interleave differently each time, so a seed
//! that fails once may need a few runs to fail again. `cargo xtask sim` runs more seeds, or one.
//!
//! - [`world`]: one history. Start at [`world::run`].
//! - [`book`]: what was sent and answered, and what must therefore be true.
//! - [`queues`]: clients of queues, and what must be true for them.
//! - [`steps`]: workers that consume, enqueue and commit in one step.
//! - [`bugs`]: brokers that break a promise on purpose; the checker must notice.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod book;
mod bugs;
mod clients;
mod queues;
mod steps;
mod world;

use std::time::Duration;

use millstream_log::mem::Commit;
use millstream_log::{DiskLog, StoreKind};
use millstream_testkit::seeds::{for_each_seed, tell};
use millstream_testkit::under::{LogUnderTest, Mem, OnSim};
use world::{Tally, run};

fn many(few: u64, make: impl Fn(u64) -> Box<dyn LogUnderTest>) -> Tally {
    let (mut seeds, mut sum) = (0, Tally::default());
    for_each_seed(few, |seed| match run(seed, &*make(seed)) {
        Ok(tally) => {
            sum += tally;
            seeds += 1;
        }
        Err(violation) => panic!("{violation}"),
    });
    tell(&[
        ("seeds", seeds),
        ("crashes", sum.crashes),
        ("acknowledged", sum.acknowledged),
        ("checked", sum.checked),
        ("unknown", sum.unknown),
        ("duplicates", sum.duplicates),
        ("transactions", sum.transacted),
        ("delivered", sum.delivered),
        ("settled", sum.ended),
        ("dead-lettered", sum.buried),
        ("steps", sum.steps),
        ("steps of a twin too late", sum.late),
        ("merges", sum.merges),
    ]);
    sum
}

#[test]
fn a_broker_over_a_log_in_memory_keeps_its_promises() {
    let sum = many(100, |_| Box::new(Mem::new(Commit::AtOnce)));
    if sum.crashes > 400 {
        assert!(
            sum.acknowledged > 0
                && sum.checked > 0
                && sum.duplicates > 0
                && sum.transacted > 0
                && sum.buried > 0
                && sum.steps > 0
                && sum.late > 0,
            "{sum:?}"
        );
    }
}

#[test]
fn a_broker_over_a_slow_log_keeps_its_promises() {
    let sum = many(25, |_| Box::new(Mem::new(Commit::After(Duration::from_millis(2)))));
    assert!(sum.crashes < 50 || sum.unknown > 0, "{sum:?}");
}

#[test]
fn a_broker_over_a_log_on_disk_keeps_its_promises_through_power_cuts_and_failed_syncs() {
    let sum = many(100, |seed| Box::new(OnSim::new(seed, |env| Box::new(DiskLog::new(env)))));
    if sum.crashes > 400 {
        assert!(
            sum.acknowledged > 0
                && sum.checked > 0
                && sum.duplicates > 0
                && sum.transacted > 0
                && sum.buried > 0
                && sum.steps > 0
                && sum.late > 0,
            "{sum:?}"
        );
    }
}

#[test]
fn a_broker_whose_rows_are_kept_and_whose_files_are_freed_keeps_its_promises_too() {
    let sum = many(100, |seed| {
        let log =
            OnSim::with_rows(seed, |env, rows| Box::new(DiskLog::with_store(env, StoreKind::Sim(rows))));
        Box::new(log.adopting_at_once())
    });
    assert!(sum.crashes < 400 || (sum.acknowledged > 0 && sum.checked > 0), "{sum:?}");
}

#[test]
fn a_broker_whose_messages_are_merged_again_and_again_keeps_its_promises_too() {
    let sum = many(60, |seed| {
        let log =
            OnSim::with_rows(seed, |env, rows| Box::new(DiskLog::with_store(env, StoreKind::Sim(rows))));
        Box::new(log.merging_at_once())
    });
    assert!(sum.crashes < 200 || (sum.acknowledged > 0 && sum.checked > 0 && sum.merges > 0), "{sum:?}");
}
