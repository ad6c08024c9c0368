//! Messages without any time to live: for who waits for them as they come, and for nobody else.

use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_types::ObjectId;

use crate::behaviour::{policy, world};
use crate::world::*;

fn at_once(queue: ObjectId) -> Publish {
    Publish { expiry_ms: Some(0), ..message(&[queue]) }
}

#[test]
fn without_time_to_live_a_message_goes_to_a_consumer_that_waits_once_it_is_durable() {
    for p in [QueuePolicy::default(), policy(|p| p.ttl_ms = Some(0))] {
        let mut w = world();
        let q = w.create("q", p);
        w.subscribe(2, 1, q, ConsumerOpts { prefetch: 2, ..PUSH });
        for _ in 0..3 {
            w.publish(at_once(q));
        }
        w.tick();
        assert_eq!((w.got(), w.counts(q)), (vec![], [3, 0, 0, 0, 0]), "not durable yet");
        // However long that takes.
        w.later(5_000);
        w.settle_down();
        assert_eq!(w.got(), [(2, 0, false), (2, 1, false)]);
        assert_eq!(w.counts(q), [0, 2, 0, 0, 0], "there was no credit for the third");
    }
}

#[test]
fn without_time_to_live_and_without_a_consumer_a_message_is_expired() {
    let mut w = world();
    let q = w.create("q", policy(|p| p.dead_letter = true));
    w.publish(at_once(q));
    w.settle_down();
    assert_eq!(w.counts(q), [0, 0, 0, 1, 0]);
    assert_eq!(w.moves[0].cause, Cause::Expired);
    // Who comes now is too late.
    w.subscribe(2, 1, q, PUSH);
    w.settle_down();
    assert_eq!(w.got(), []);
}

#[test]
fn a_message_without_time_to_live_waits_for_nobody_behind_others() {
    let mut w = world();
    let q = w.create("q", policy(|p| p.dead_letter = true));
    w.publish(message(&[q]));
    w.publish(at_once(q));
    w.settle_down();
    assert_eq!(w.counts(q), [2, 0, 0, 0, 0], "time counts at the head");
    w.subscribe(2, 1, q, PUSH);
    w.settle_down();
    assert_eq!(w.got(), [(2, 0, false)]);
    assert_eq!(w.counts(q), [0, 1, 0, 1, 0]);
}

#[test]
fn a_message_without_time_to_live_that_comes_back_is_expired() {
    let mut w = world();
    let q = w.create("q", policy(|p| p.dead_letter = true));
    w.subscribe(2, 1, q, PUSH);
    w.publish(at_once(q));
    w.settle_down();
    let d = w.deliveries.remove(0);
    w.settle(&d, Verb::Release { failed: true, delay_ms: None }).unwrap();
    w.settle_down();
    assert_eq!((w.got(), w.counts(q)), (vec![], [0, 0, 0, 1, 0]));
}

#[test]
fn of_receives_only_those_that_wait_get_what_has_no_time_to_live() {
    let mut w = world();
    let q = w.create("q", QueuePolicy::default());
    let ticket = w.submit(2, QueueOp::Receive(Receive { wait_ms: 1_000, ..pull(q, 1) }));
    w.publish(at_once(q));
    w.settle_down();
    assert_eq!(w.received(ticket).unwrap().len(), 1);
    // One that asks in the very turn in which it becomes visible was not there when it came.
    w.publish(at_once(q));
    w.sync();
    assert_eq!(w.receive(2, pull(q, 1)), []);
    w.settle_down();
    assert_eq!(w.counts(q), [0, 1, 0, 0, 0]);
}

#[test]
fn what_has_no_time_to_live_is_expired_after_a_crash() {
    let mut w = world();
    let q = w.create("q", QueuePolicy::default());
    w.subscribe(2, 1, q, PUSH);
    w.publish(at_once(q));
    w.sync();
    w.crash(1);
    w.subscribe(3, 1, q, PUSH);
    w.settle_down();
    assert_eq!((w.got(), w.counts(q)), (vec![], [0, 0, 0, 0, 0]));
}

#[test]
fn a_closed_key_expires_what_has_no_time_to_live() {
    let mut w = world();
    let q = w.create("q", policy(|p| p.ordering = Ordering::ByKey));
    w.subscribe(2, 1, q, PUSH);
    w.subscribe(3, 1, q, PUSH);
    let keyed = |key| Publish { key_hash: Some(key), ..at_once(q) };
    w.publish(keyed(1));
    w.settle_down();
    let holder = w.got()[0].0;
    w.publish(keyed(1));
    w.publish(keyed(2));
    w.settle_down();
    let got = w.got();
    assert_eq!(got.len(), 1, "another key's alone: {got:?}");
    assert_eq!((got[0].1, holder), (2, 2));
    assert_eq!(w.counts(q), [0, 2, 0, 0, 0]);
}
