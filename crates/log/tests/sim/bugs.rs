//! Logs that break a promise on purpose: each must be noticed, or the histories prove nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use millstream_env::sim::{Call, Fault};
use millstream_log::{Bug, DiskLog, LogStore, SimStore, StoreKind};
use millstream_testkit::model::{self, Shape};
use millstream_testkit::under::{LogUnderTest, OnSim};
use millstream_testkit::wrapped::Wrapped;

use crate::with_rows;

/// Each bug must be noticed within so many seeds.
const SEEDS: u64 = 100;

/// Runs seeds until one fails, and says which and how.
fn must_be_noticed(bug: &str, shape: Shape, make: impl Fn(u64) -> Box<dyn LogUnderTest>) {
    for seed in 0..SEEDS {
        let under = make(seed);
        let Err(violation) = catch_unwind(AssertUnwindSafe(|| model::run(seed, &*under, shape))) else {
            continue;
        };
        let text = violation.downcast_ref::<String>().cloned();
        let text = text.or_else(|| violation.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        println!("{bug}: seed {seed}: {}", text.unwrap_or_default());
        return;
    }
    panic!("{bug}: nobody noticed in {SEEDS} seeds");
}

#[test]
fn a_sync_that_is_skipped_is_noticed() {
    must_be_noticed("skips the sync", Shape::Mixed, |seed| {
        Box::new(OnSim::new(seed, |env| Box::new(DiskLog::new(env).with_bug(Bug::SkipsSync))))
    });
}

#[test]
fn an_acknowledgement_before_the_sync_is_noticed() {
    must_be_noticed("acknowledges early", Shape::Mixed, |seed| {
        let under = OnSim::new(seed, |env| Box::new(DiskLog::new(env).with_bug(Bug::AnswersEarly)));
        // On a disk that syncs at once hardly anything happens between the answer and the sync.
        under.slow_syncs(Duration::from_millis(2));
        Box::new(under)
    });
}

#[test]
fn a_directory_sync_that_is_forgotten_is_noticed() {
    must_be_noticed("forgets the directory sync", Shape::Mixed, |seed| {
        let lies = || Fault::new(Call::SyncDir).on_path(|path| path == "seg").always().lie();
        Box::new(Wrapped::new(OnSim::new(seed, |env| Box::new(DiskLog::new(env))), move |under: &OnSim| {
            under.disk().inject(lies());
            under.store()
        }))
    });
}

#[test]
fn a_durable_lsn_that_is_filled_before_the_sync_before_returned_is_noticed() {
    must_be_noticed("fills durable_lsn early", Shape::Mixed, |seed| {
        Box::new(OnSim::new(seed, |env| Box::new(DiskLog::new(env).with_bug(Bug::FillsDurableLsnEarly))))
    });
}

fn queues(seed: u64, make: fn(millstream_env::Env, SimStore) -> Box<dyn LogStore>) -> Box<dyn LogUnderTest> {
    Box::new(OnSim::with_rows(seed, make).adopting_at_once())
}

#[test]
fn a_file_that_is_used_again_too_soon_is_noticed() {
    must_be_noticed("reuses a file too soon", Shape::Queues, |seed| {
        queues(seed, |env, rows| {
            Box::new(DiskLog::with_store(env, StoreKind::Sim(rows)).with_bug(Bug::ReusesFileEarly))
        })
    });
}

#[test]
fn a_retire_that_is_counted_twice_is_noticed() {
    must_be_noticed("counts a retire twice", Shape::Queues, |seed| {
        queues(seed, |env, rows| {
            Box::new(DiskLog::with_store(env, StoreKind::Sim(rows)).with_bug(Bug::CountsRetireTwice))
        })
    });
}

#[test]
fn an_entry_that_a_merge_leaves_behind_is_noticed() {
    must_be_noticed("loses what it merges", Shape::Queues, |seed| {
        let make = |env, rows| -> Box<dyn LogStore> {
            Box::new(DiskLog::with_store(env, StoreKind::Sim(rows)).with_bug(Bug::LosesWhatItMerges))
        };
        Box::new(OnSim::with_rows(seed, make).merging_at_once())
    });
}

#[test]
fn without_a_bug_the_same_seeds_find_nothing() {
    for seed in 0..2 {
        model::run(seed, &*queues(seed, with_rows), Shape::Queues);
        model::run(seed, &OnSim::with_rows(seed, with_rows).merging_at_once(), Shape::Queues);
    }
}
