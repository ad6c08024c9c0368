//! Random histories against a naive model. `MILLSTREAM_SEEDS` runs more of them, see `millstream_testkit::seeds`.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use millstream_log::mem::Commit;
use millstream_testkit::model;
use millstream_testkit::seeds::for_each_seed;
use millstream_testkit::under::Mem;

#[test]
fn a_log_in_memory_shares_random_histories_with_the_model() {
    for commit in [Commit::AtOnce, Commit::ByHand] {
        let mut crashes = 0;
        for_each_seed(80, |seed| crashes += model::run(seed, &Mem::new(commit)).crashes);
        assert!(crashes > 0);
    }
}
