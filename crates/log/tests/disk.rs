//! The contract and random histories on the log on disk.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use millstream_env::Env;
use millstream_log::{DiskLog, LogStore, SimStore, StoreKind};
use millstream_testkit::seeds::for_each_seed;
use millstream_testkit::under::{OnOs, OnSim};
use millstream_testkit::{log_contract, model};

fn disk(env: Env) -> Box<dyn LogStore> {
    Box::new(DiskLog::new(env))
}

fn with_rows(env: Env, rows: SimStore) -> Box<dyn LogStore> {
    Box::new(DiskLog::with_store(env, StoreKind::Sim(rows)))
}

log_contract!(with_a_simulated_store, || OnSim::with_rows(1, with_rows));
log_contract!(simulated, || OnSim::new(1, disk));
log_contract!(real, || OnOs::new(disk));

#[test]
fn random_histories_with_power_cuts_kills_and_failed_syncs_agree_with_the_model() {
    let (mut crashes, mut taken) = (0, 0);
    for_each_seed(60, |seed| {
        let tally = model::run(seed, &OnSim::new(seed, disk));
        crashes += tally.crashes;
        taken += tally.taken;
    });
    assert!(crashes > 0 && taken > 0);
}

#[test]
fn random_histories_agree_with_the_model_when_rows_are_kept_and_files_freed() {
    let (mut crashes, mut taken) = (0, 0);
    for_each_seed(60, |seed| {
        let tally = model::run(seed, &OnSim::with_rows(seed, with_rows));
        crashes += tally.crashes;
        taken += tally.taken;
    });
    assert!(crashes > 0 && taken > 0);
}

#[test]
fn random_histories_agree_with_the_model_when_files_are_adopted_at_once() {
    let mut crashes = 0;
    for_each_seed(40, |seed| {
        crashes += model::run(seed, &OnSim::with_rows(seed, with_rows).adopting_at_once()).crashes;
    });
    assert!(crashes > 0);
}
