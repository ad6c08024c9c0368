//! Limits count what nobody waits for: what comes goes to consumers first.

use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_types::ObjectId;

use crate::behaviour::{policy, world};
use crate::world::*;

fn burst(w: &mut World, queue: ObjectId, n: usize) -> Vec<Published> {
    match w.ask(1, QueueOp::Publish(vec![message(&[queue]); n])) {
        QueueReply::Published(all) => all,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_burst_goes_to_who_waits_for_it_before_the_limit_counts() {
    for limit in [0, 1, 5] {
        let mut w = world();
        let q = w.create("q", policy(|p| p.messages_max = Some(limit)));
        w.subscribe(2, 1, q, ConsumerOpts { prefetch: 30, ..PUSH });
        w.tick();
        burst(&mut w, q, 100);
        assert_eq!(w.deliveries.len(), 30);
        assert!(w.deliveries.iter().all(|d| d.wait == w.log.last()), "handed over before it is durable");
        w.settle_down();
        assert_eq!(w.got(), (0..30).map(|pos| (2, pos, false)).collect::<Vec<_>>());
        assert_eq!(w.counts(q), [limit, 30, 0, 0, 0]);
        let left: Vec<u64> = w.receive_all(3, q, limit as usize).iter().map(|d| d.pos).collect();
        assert_eq!(left, (100 - limit..100).collect::<Vec<_>>());
    }
}

#[test]
fn a_queue_that_refuses_does_so_when_nobody_waits() {
    let mut w = world();
    let q = w.create("q", policy(|p| (p.messages_max, p.overflow) = (Some(2), Overflow::Reject)));
    w.subscribe(2, 1, q, ConsumerOpts { prefetch: 10, ..PUSH });
    w.tick();
    let refused: Vec<bool> = burst(&mut w, q, 14).iter().map(|p| !p.refused.is_empty()).collect();
    assert_eq!(refused, [vec![false; 12], vec![true; 2]].concat());
    w.settle_down();
    assert_eq!(w.counts(q), [2, 10, 0, 0, 0]);
}

#[test]
fn a_burst_goes_to_the_active_consumer_alone() {
    let mut w = world();
    let q = w.create("q", policy(|p| (p.messages_max, p.single_active) = (Some(1), true)));
    for session in [2, 3] {
        w.subscribe(session, 1, q, ConsumerOpts { prefetch: 3, ..PUSH });
    }
    w.tick();
    burst(&mut w, q, 10);
    w.settle_down();
    assert_eq!(w.got(), [(2, 0, false), (2, 1, false), (2, 2, false)]);
    assert_eq!(w.counts(q), [1, 3, 0, 0, 0]);
}

#[test]
fn what_comes_back_to_a_full_queue_goes_to_who_waits_or_is_dropped() {
    let mut w = world();
    let q = w.create("q", policy(|p| (p.messages_max, p.dead_letter) = (Some(2), true)));
    w.fill(q, 2);
    w.settle_down();
    let out = w.receive_all(2, q, 2);
    w.fill(q, 2);
    w.settle_down();
    w.subscribe(3, 1, q, ConsumerOpts { credit: Some(0), ..PUSH });
    for d in &out {
        w.settle_as(2, d, Verb::Release { failed: false, delay_ms: None }).unwrap();
    }
    assert_eq!(w.ask(3, QueueOp::Credit { consumer: ConsumerId(1), add: 1 }), QueueReply::Done);
    w.settle_down();
    // One of four went to the consumer, one is too many, and two are left.
    assert_eq!(w.got(), [(3, 0, true)]);
    assert_eq!(w.counts(q), [2, 1, 0, 1, 0]);
}

/// A connection may have millions: others do not wait until all of these are given back.
#[test]
fn a_session_that_goes_gives_very_many_leases_back_in_turns() {
    const MANY: u64 = 70_000;
    let mut w = world();
    let q = w.create("q", policy(|_| {}));
    w.subscribe(2, 1, q, PUSH);
    w.fill(q, MANY as usize);
    w.settle_down();
    assert_eq!(w.counts(q), [0, MANY, 0, 0, 0]);
    w.deliveries.clear();
    w.gone(2);
    let [ready, leased, ..] = w.counts(q);
    assert!(ready > 60_000 && leased > 0 && ready + leased == MANY, "{ready} are ready, {leased} leased");
    w.tick();
    assert_eq!(w.counts(q), [MANY, 0, 0, 0, 0]);
    w.subscribe(3, 1, q, PUSH);
    w.settle_down();
    assert_eq!(w.got(), (0..MANY).map(|pos| (3, pos, true)).collect::<Vec<_>>());
}
