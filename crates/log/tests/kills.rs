//! Kills: what a process leaves in the page cache may look durable and is not.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use millstream_log::DiskLog;
use millstream_testkit::log_contract::kit::{A, open, try_open};
use millstream_testkit::under::{LogUnderTest, OnSim};

/// A process is killed while it makes the data directory, at every call in turn. The next one finds its files in the cache, builds
/// upon them and answers; then the power goes. (Found by the model: `meta` was read from the cache, and never synced.)
#[test]
fn what_a_killed_process_left_in_the_cache_is_made_durable_by_the_next_opening() {
    for calls in 0..40 {
        for seed in 0..6 {
            let under = OnSim::new(seed, |env| Box::new(DiskLog::new(env)));
            under.cut_after(calls);
            drop(try_open(&under));
            under.kill();
            let mut log = open(&under);
            log.append(A, 0..3);
            under.crash();
            drop(log);
            let log =
                try_open(&under).unwrap_or_else(|e| panic!("killed after {calls} calls, seed {seed}: {e}"));
            assert_eq!(log.positions(A), [0, 1, 2], "killed after {calls} calls, seed {seed}");
        }
    }
}
