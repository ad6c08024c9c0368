//! Engines that break a promise on purpose: the histories must notice. A check that never failed proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::history::Run;
use crate::world::Bug;

/// Whether a history of one of the first seeds fails.
fn is_caught(bug: Bug) -> bool {
    (0..40).any(|seed| {
        let run = || {
            let mut run = Run::with(seed, Some(bug));
            for _ in 0..150 {
                run.step();
            }
        };
        catch_unwind(AssertUnwindSafe(run)).is_err()
    })
}

#[test]
fn messages_that_show_before_they_are_durable() {
    assert!(is_caught(Bug::ShowsEarly));
}

#[test]
fn a_delivery_that_is_lost_on_its_way() {
    assert!(is_caught(Bug::LosesDelivery));
}

#[test]
fn a_delivery_that_goes_out_twice() {
    assert!(is_caught(Bug::DeliversTwice));
}

#[test]
fn effects_that_replay_forgets() {
    assert!(is_caught(Bug::ForgetsEffects));
}

#[test]
fn a_crash_that_is_taken_for_a_clean_stop() {
    assert!(is_caught(Bug::NeverMarks));
}

#[test]
fn a_log_that_forgets_what_it_was_not_told_to() {
    assert!(is_caught(Bug::TrimsMore));
}

#[test]
fn time_that_stands_still() {
    assert!(is_caught(Bug::NoTime));
}

#[test]
fn keys_that_nobody_minds() {
    assert!(is_caught(Bug::NoKeys));
}
