//! Every log, one contract.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use millstream_log::mem::Commit;
use millstream_testkit::under::Mem;
use millstream_testkit::{log_contract, log_contract_rows};

log_contract!(memory, || Mem::new(Commit::AtOnce));
log_contract_rows!(memory_rows, || Mem::new(Commit::AtOnce));

// Nothing moves unless the test says so.
log_contract!(memory_by_hand, || Mem::new(Commit::ByHand));
log_contract_rows!(memory_by_hand_rows, || Mem::new(Commit::ByHand));

// The slow one: nobody may assume that a commit is quick. A few checks that are many commits in flight.
log_contract!(
    slow,
    || Mem::new(Commit::After(Duration::from_millis(500))),
    marks::marks_are_ordered_and_never_go_back,
    marks::each_waiter_is_told_once_per_write_and_nobody_last,
    marks::records_of_one_waiter_become_durable_in_order,
    marks::a_lost_log_tells_everybody,
    records::a_fan_out_is_read_from_each_log,
    reads::readers_on_other_threads_see_a_growing_prefix,
    reopen::replay_shows_every_operation_in_order,
    reopen::a_power_cut_takes_whole_records_from_the_end,
    rows::rows_outlive_a_power_cut_once_flushed,
);
