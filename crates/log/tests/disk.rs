//! The contract on the log on disk.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use millstream_env::Env;
use millstream_log::{DiskLog, LogStore, SimStore, StoreKind};
use millstream_testkit::log_contract;
use millstream_testkit::under::{OnOs, OnSim};

fn disk(env: Env) -> Box<dyn LogStore> {
    Box::new(DiskLog::new(env))
}

fn with_rows(env: Env, rows: SimStore) -> Box<dyn LogStore> {
    Box::new(DiskLog::with_store(env, StoreKind::Sim(rows)))
}

log_contract!(with_a_simulated_store, || OnSim::with_rows(1, with_rows));
log_contract!(simulated, || OnSim::new(1, disk));
log_contract!(real, || OnOs::new(disk));
