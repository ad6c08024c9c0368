//! Receives at the limit of leases, and what a delivery tells of the first one.

use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_types::ObjectId;

use crate::behaviour::{policy, world};
use crate::world::*;

fn bounded(q: ObjectId, wait_ms: u64) -> Receive {
    Receive { wait_ms, leases_max: 2, ..pull(q, 10) }
}

#[test]
fn at_the_limit_of_leases_a_receive_that_waits_is_served_as_soon_as_one_ends_and_another_is_refused() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 6);
    // Never more than may be out, though it asked for more.
    let two = w.receive(2, bounded(q, 0));
    assert_eq!(two.len(), 2);
    let refused = w.ask(3, QueueOp::Receive(bounded(q, 0)));
    assert!(matches!(refused, QueueReply::Received(Err(ReceiveError::OverLimit))), "{refused:?}");
    let first = w.submit(3, QueueOp::Receive(bounded(q, 1_000)));
    let second = w.submit(4, QueueOp::Receive(bounded(q, 1_000)));
    w.settle_down();
    assert!(w.received(first).is_none() && w.received(second).is_none());
    // Others are not kept from theirs.
    w.subscribe(5, 1, q, ConsumerOpts { credit: Some(1), ..PUSH });
    w.settle_down();
    assert_eq!(w.got(), [(5, 2, false)]);
    w.settle(&two[0], Verb::Ack).unwrap();
    w.settle_down();
    assert!(w.received(first).is_none(), "there are two still");
    w.settle(&two[1], Verb::Ack).unwrap();
    w.settle_down();
    let got = w.received(first).expect("it was woken");
    assert_eq!(got.iter().map(|d| d.pos).collect::<Vec<_>>(), [3]);
    assert!(w.received(second).is_none());
    w.settle(&got[0], Verb::Ack).unwrap();
    w.settle_down();
    assert_eq!(w.received(second).expect("it was woken").len(), 1);
}

#[test]
fn a_receive_that_stands_back_is_answered_when_its_time_is_over_or_its_session_is() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 4);
    let two = w.receive(2, bounded(q, 0));
    let late = w.submit(3, QueueOp::Receive(bounded(q, 1_000)));
    w.submit(4, QueueOp::Receive(bounded(q, 5_000)));
    let third = w.submit(5, QueueOp::Receive(bounded(q, 5_000)));
    w.settle_down();
    w.later(1_000);
    w.tick();
    assert_eq!(w.received(late), Some(Vec::new()));
    w.gone(4);
    w.settle(&two[0], Verb::Ack).unwrap();
    w.settle_down();
    assert_eq!(w.received(third).expect("who went before does not stand in the way").len(), 1);
}

#[test]
fn a_delivery_tells_when_the_message_was_first_handed_out_also_after_a_crash() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.lease_ms = 500));
    w.fill(q, 2);
    w.later(10);
    let at = w.now.wall_ms;
    assert_eq!(w.receive(2, pull(q, 1))[0].first_ms, at);
    w.settle_down();
    w.later(1_000);
    w.settle_down();
    let again = w.receive(2, pull(q, 2));
    assert_eq!(
        again.iter().map(|d| (d.deliveries, d.first_ms)).collect::<Vec<_>>(),
        [(2, at), (1, at + 1_000)]
    );
    // From the records, and from the rows.
    for from_rows in [false, true] {
        if from_rows {
            w.flush();
        }
        w.settle_down();
        w.crash(1);
        w.later(1_000);
        w.settle_down();
        let third = w.receive(2, pull(q, 2));
        assert_eq!(third.iter().map(|d| d.first_ms).collect::<Vec<_>>(), [at, at + 1_000], "{from_rows}");
    }
}

#[test]
fn what_never_reached_its_receiver_was_not_handed_out() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 1);
    let got = w.receive(2, pull(q, 1));
    w.settle(&got[0], Verb::Undelivered).unwrap();
    w.settle_down();
    w.later(70);
    assert_eq!(w.receive(2, pull(q, 1))[0].first_ms, w.now.wall_ms);
}
