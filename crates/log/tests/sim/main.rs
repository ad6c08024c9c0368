//! Random histories of the log against a naive model, by seed. `cargo xtask sim` runs more of them, or one.
//!
//! A seed fixes what is asked of the log and which faults strike when; its threads may interleave differently each time, so a seed
//! that fails once may need a few runs to fail again.
//!
//! - [`bugs`]: logs that break a promise on purpose; the histories must notice.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

#[cfg(debug_assertions)]
mod bugs;

use millstream_env::Env;
use millstream_log::mem::Commit;
use millstream_log::{DiskLog, LogStore, SimStore, StoreKind};
use millstream_testkit::model::{self, Shape, Tally};
use millstream_testkit::seeds::{for_each_seed, tell};
use millstream_testkit::under::{LogUnderTest, Mem, OnSim};

fn disk(env: Env) -> Box<dyn LogStore> {
    Box::new(DiskLog::new(env))
}

fn with_rows(env: Env, rows: SimStore) -> Box<dyn LogStore> {
    Box::new(DiskLog::with_store(env, StoreKind::Sim(rows)))
}

/// Seeds that together are sure to see everything that can happen.
const MANY: u64 = 30;

fn many(few: u64, shape: Shape, make: impl Fn(u64) -> Box<dyn LogUnderTest>) -> (u64, Tally) {
    let (mut seeds, mut sum) = (0, Tally::default());
    for_each_seed(few, |seed| {
        sum += model::run(seed, &*make(seed), shape);
        seeds += 1;
    });
    tell(&[
        ("seeds", seeds),
        ("crashes", sum.crashes),
        ("acknowledged", sum.acknowledged),
        ("checked", sum.checked),
        ("taken", sum.taken),
        ("refused", sum.refused),
        ("drained", sum.drained),
        ("merges", sum.merges),
    ]);
    (seeds, sum)
}

#[test]
fn a_log_in_memory_shares_random_histories_with_the_model() {
    let (seeds, sum) = many(80, Shape::Mixed, |_| Box::new(Mem::new(Commit::AtOnce)));
    assert!(seeds < MANY || sum.crashes > 0);
}

#[test]
fn a_log_in_memory_that_commits_by_hand_shares_random_histories_with_the_model() {
    let (seeds, sum) = many(80, Shape::Mixed, |_| Box::new(Mem::new(Commit::ByHand)));
    assert!(seeds < MANY || sum.crashes > 0);
}

#[test]
fn histories_with_power_cuts_kills_failed_syncs_and_rot_agree_with_the_model() {
    let (seeds, sum) = many(50, Shape::Mixed, |seed| Box::new(OnSim::new(seed, disk)));
    assert!(seeds < MANY || (sum.crashes > 0 && sum.taken > 0 && sum.refused > 0), "{sum:?}");
}

#[test]
fn histories_agree_with_the_model_when_rows_are_kept_and_files_freed() {
    let (seeds, sum) = many(50, Shape::Mixed, |seed| Box::new(OnSim::with_rows(seed, with_rows)));
    assert!(seeds < MANY || (sum.crashes > 0 && sum.taken > 0), "{sum:?}");
}

#[test]
fn histories_agree_with_the_model_when_files_are_adopted_at_once() {
    let (seeds, sum) =
        many(40, Shape::Mixed, |seed| Box::new(OnSim::with_rows(seed, with_rows).adopting_at_once()));
    assert!(seeds < MANY || (sum.crashes > 0 && sum.taken > 0), "{sum:?}");
}

#[test]
fn queues_that_are_settled_keep_what_lives_and_give_the_rest_of_the_room_back() {
    let (seeds, sum) =
        many(15, Shape::Queues, |seed| Box::new(OnSim::with_rows(seed, with_rows).adopting_at_once()));
    assert!(seeds < 10 || (sum.crashes > 0 && sum.drained > 0), "{sum:?}");
}

#[test]
fn queues_that_are_settled_keep_what_lives_while_it_is_merged_again_and_again() {
    let (seeds, sum) =
        many(15, Shape::Queues, |seed| Box::new(OnSim::with_rows(seed, with_rows).merging_at_once()));
    assert!(seeds < 10 || (sum.crashes > 0 && sum.drained > 0 && sum.merges > 0), "{sum:?}");
}

#[test]
fn histories_agree_with_the_model_while_what_lives_is_merged() {
    let (seeds, sum) =
        many(30, Shape::Mixed, |seed| Box::new(OnSim::with_rows(seed, with_rows).merging_at_once()));
    assert!(seeds < MANY || (sum.crashes > 0 && sum.taken > 0), "{sum:?}");
}
