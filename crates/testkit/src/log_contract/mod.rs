//! The contract of a log, as checks that panic: every implementation passes the same ones.
//!
//! Start at [`log_contract!`](crate::log_contract), which makes a test of each, for anything that is a
//! [`LogUnderTest`](crate::under::LogUnderTest). A check that needs a power cut, a hold or a fault does nothing where there is none.

pub mod kit;
pub mod marks;
pub mod reads;
pub mod records;
pub mod reopen;
pub mod room;
pub mod rows;
pub mod space;

/// Makes one `#[test]` of each check, in a module of the name given, for the logs that an expression of type
/// `Fn() -> impl LogUnderTest` makes: `log_contract!(memory, || Mem::new(Commit::AtOnce));`. With a list of checks
/// (`log_contract!(slow, make, records::a, marks::b)`) only these.
#[macro_export]
macro_rules! log_contract {
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::log_contract!(@group records, $make;
                lsns_are_dense_from_one
                entries_are_read_back_as_they_were_appended
                logs_are_apart_and_positions_may_leave_holes
                a_fan_out_is_read_from_each_log
                a_record_larger_than_a_file_is_read_back
                positions_that_do_not_grow_are_refused_loudly
            );
            $crate::log_contract!(@group marks, $make;
                marks_are_ordered_and_never_go_back
                reached_resolves_for_what_is_durable_and_what_becomes_so
                each_waiter_is_told_once_per_write_and_nobody_last
                records_of_one_waiter_become_durable_in_order
                nothing_is_told_while_nothing_is_durable
                a_lost_log_tells_everybody
            );
            $crate::log_contract!(@group room, $make;
                room_is_given_back_when_the_record_is_durable
                settling_goes_on_while_publishers_wait
                a_full_disk_stops_only_publishing
                a_record_larger_than_all_room_is_admitted_alone
                a_record_over_the_limit_is_refused
                the_largest_operation_that_the_log_names_is_taken
                a_stopped_log_admits_nothing
            );
            $crate::log_contract!(@group reads, $make;
                a_log_never_written_reads_as_empty
                an_entry_shows_at_the_level_its_record_has_reached
                a_read_gives_at_least_one_entry_and_keeps_its_limits
                a_read_ends_before_the_end_it_was_given
                a_read_into_a_batch_gives_the_whole_batch
                get_gives_the_entries_that_cover_the_positions
                heads_are_entries_without_bodies
                by_time_gives_the_first_entry_that_reaches_the_time
                bounds_and_extents_tell_where_a_log_begins_and_ends
                readers_on_other_threads_see_a_growing_prefix
            );
            $crate::log_contract!(@group space, $make;
                what_is_trimmed_is_refused_with_the_start
                a_batch_that_straddles_the_start_stays
                a_deleted_log_gives_nothing
                retiring_twice_is_harmless_and_spares_the_others
                a_trim_shows_only_when_it_is_durable
            );
            $crate::log_contract!(@group reopen, $make;
                epochs_grow_with_each_opening
                a_second_opening_is_locked_out
                replay_shows_every_operation_in_order
                entries_trims_and_deletions_outlive_a_clean_stop
                entries_trims_and_deletions_outlive_a_power_cut
                a_power_cut_takes_whole_records_from_the_end
                lsns_go_on_after_what_was_found
                what_an_earlier_epoch_lost_never_comes_back
                only_a_power_cut_is_unclean
                many_openings_in_a_row_lose_nothing
                a_log_that_failed_opens_again
                a_reader_that_is_closed_no_longer_holds_the_log
                a_sequencer_that_goes_by_a_panic_loses_the_log
            );
        }
    };
    ($name:ident, $make:expr, $($group:ident :: $check:ident),+ $(,)?) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $check() {
                    let make = $make;
                    $crate::log_contract::$group::$check(&make());
                }
            )+
        }
    };
    (@group $group:ident, $make:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let make = $make;
                $crate::log_contract::$group::$check(&make());
            }
        )*
    };
}

/// As [`log_contract!`](crate::log_contract), the part about rows of engine state, for logs that keep them.
#[macro_export]
macro_rules! log_contract_rows {
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::log_contract!(@group rows, $make;
                rows_offered_are_seen_at_once
                a_scan_is_ascending_and_keeps_its_limits
                the_later_slice_wins_and_a_removal_removes
                after_a_clean_stop_nothing_is_replayed
                rows_outlive_a_power_cut_once_flushed
                rows_above_durable_do_not_outlive_a_power_cut
                the_floor_stays_at_the_oldest_dirty_record
                trims_below_the_floor_hold
                rows_are_wanted_in_time
            );
        }
    };
}
