//! Order by key, fair queues and the parking place, with numbers one can check by hand.

use millstream_engine::EngineConfig;
use millstream_engine::queue::WindowSizes;
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;

use crate::behaviour::{policy, world};
use crate::world::*;

fn by_key(f: impl FnOnce(&mut QueuePolicy)) -> QueuePolicy {
    policy(|p| {
        p.ordering = Ordering::ByKey;
        p.lease_ms = 1_000;
        f(p);
    })
}

fn positions(all: &[Delivery]) -> Vec<u64> {
    all.iter().map(|d| d.pos).collect()
}

const RELEASE: Verb = Verb::Release { failed: false, delay_ms: None };
const FAIL: Verb = Verb::Release { failed: true, delay_ms: None };

#[test]
fn a_key_has_one_holder_and_others_flow_past_it() {
    let mut w = world();
    let q = w.create("a", by_key(|_| {}));
    w.fill_keys(q, [1, 1, 2, 1, 2, 3]);
    let first = w.receive(2, pull(q, 1));
    assert_eq!(positions(&first), [0]);
    // Key 1 is closed: 1 and 3 wait.
    assert_eq!(positions(&w.receive(3, pull(q, 1))), [2]);
    assert_eq!(positions(&w.receive(4, pull(q, 5))), [5]);
    assert_eq!(positions(&w.receive(5, pull(q, 5))), []);
    w.settle(&first[0], Verb::Ack).unwrap();
    assert_eq!(positions(&w.receive(5, pull(q, 5))), [1, 3]);
}

#[test]
fn a_run_of_one_key_goes_to_one_receive_before_other_keys() {
    let mut w = world();
    let q = w.create("a", by_key(|_| {}));
    w.fill_keys(q, [1, 2, 1, 2, 1, 3, 1]);
    assert_eq!(positions(&w.receive(2, pull(q, 3))), [0, 2, 4]);
    assert_eq!(positions(&w.receive(3, pull(q, 10))), [1, 3, 5]);
}

#[test]
fn a_run_goes_to_one_consumer_as_far_as_its_credit_goes() {
    let mut w = world();
    let q = w.create("a", by_key(|_| {}));
    w.subscribe(2, 1, q, ConsumerOpts { prefetch: 2, ..PUSH });
    w.subscribe(3, 1, q, ConsumerOpts { prefetch: 5, ..PUSH });
    w.fill_keys(q, [1, 1, 1, 2, 1, 2]);
    let got: Vec<(u64, u64)> = w.deliveries.iter().map(|d| (d.session.0, d.pos)).collect();
    assert_eq!(got, [(2, 0), (2, 1), (3, 3), (3, 5)]);
    // With the whole run settled the key opens, for whoever is ready first.
    for d in std::mem::take(&mut w.deliveries) {
        if d.session.0 == 2 {
            w.settle(&d, Verb::Ack).unwrap();
        }
    }
    w.tick();
    let got: Vec<(u64, u64)> = w.deliveries.iter().map(|d| (d.session.0, d.pos)).collect();
    assert!(got == [(2, 2), (2, 4)] || got == [(3, 2), (3, 4)], "{got:?}");
}

#[test]
fn messages_without_a_key_depend_on_nobody() {
    let mut w = world();
    let q = w.create("a", by_key(|_| {}));
    w.fill(q, 3);
    assert_eq!(positions(&w.receive(2, pull(q, 1))), [0]);
    assert_eq!(positions(&w.receive(3, pull(q, 5))), [1, 2]);
}

/// Nastiest test 4, its second half: a run of ten, the third released and the fifth run out.
#[test]
fn nastiest_4_a_run_begins_again_at_the_released_one_once_all_of_it_is_settled_or_expired() {
    let mut w = world();
    let q = w.create("a", by_key(|_| {}));
    w.fill_keys(q, [7; 12]);
    let run = w.receive(2, pull(q, 10));
    assert_eq!(positions(&run), (0..10).collect::<Vec<_>>());
    w.settle(&run[2], FAIL).unwrap();
    assert_eq!(w.receive(3, pull(q, 10)), []);
    // All but the fifth are kept for longer, then settled; the fifth runs out.
    for d in run.iter().filter(|d| ![2, 4].contains(&d.pos)) {
        let item =
            ExtendItem { queue: q, lane: 0, pos: d.pos, len: 1, delivery_no: d.delivery_no, lease_ms: 9_000 };
        assert_eq!(w.ask(2, QueueOp::Extend(vec![item])), QueueReply::Settled { errors: vec![] });
    }
    w.later(1_000);
    w.tick();
    assert_eq!(w.counts(q), [4, 8, 0, 0, 0]);
    assert_eq!(w.receive(3, pull(q, 10)), []);
    for d in run.iter().filter(|d| ![2, 4].contains(&d.pos)) {
        assert_eq!(w.receive(3, pull(q, 10)), []);
        w.settle(d, Verb::Ack).unwrap();
    }
    let again = w.receive(3, pull(q, 10));
    assert_eq!(positions(&again), [2, 4, 10, 11]);
    assert_eq!(again.iter().map(|d| d.attempts).collect::<Vec<_>>(), [1, 1, 0, 0]);
}

#[test]
fn a_message_that_rests_keeps_its_key_closed() {
    let mut w = world();
    let q = w.create("a", by_key(|p| p.backoff = Backoff::Fixed { ms: 500 }));
    w.fill_keys(q, [1, 1, 2]);
    let first = w.receive(2, pull(q, 1));
    w.settle(&first[0], FAIL).unwrap();
    assert_eq!(positions(&w.receive(2, pull(q, 5))), [2]);
    // Neither a restart opens it.
    w.sync();
    w.crash(1);
    w.settle_down();
    assert_eq!(w.receive(2, pull(q, 5)), []);
    w.later(500);
    assert_eq!(positions(&w.receive(2, pull(q, 5))), [0, 1]);
}

#[test]
fn closed_keys_are_closed_after_a_restart_wherever_their_leases_are() {
    let mut w = world();
    let q = w.create("a", by_key(|p| p.lease_ms = 60_000));
    // Key 1 first and last, with more between than a window holds.
    let keys = std::iter::once(1).chain((0..100).map(|n| 100 + n)).chain([1, 1]);
    w.fill_keys(q, keys);
    w.subscribe(2, 1, q, PUSH);
    w.tick();
    w.gone(2);
    // All came back. The whole run of key 1 is out, and its first message comes back.
    let mut all = w.receive_all(3, q, 103);
    let last = all.iter().position(|d| d.pos == 101).unwrap();
    let last = all.remove(last);
    for d in all.iter().filter(|d| d.pos != 102) {
        w.settle(d, RELEASE).unwrap();
    }
    w.sync();
    w.crash(1);
    w.settle_down();
    let all = w.receive_all(4, q, 100);
    assert_eq!(positions(&all), (1..101).collect::<Vec<_>>());
    assert_eq!(w.receive(4, pull(q, 9)), []);
    w.settle(&last, Verb::Ack).unwrap();
    assert_eq!(w.receive(4, pull(q, 9)), []);
    let other = Delivery { pos: 102, ..last };
    w.settle(&other, RELEASE).unwrap();
    assert_eq!(positions(&w.receive(4, pull(q, 9))), [0, 102]);
}

#[test]
fn one_holder_per_key_over_all_priorities_and_the_higher_first() {
    let mut w = world();
    let q = w.create("a", by_key(|p| p.priority_max = 1));
    for (key, priority) in [(1, 0), (1, 1), (2, 0), (1, 1)] {
        w.publish(Publish { key_hash: Some(key), priority, ..message(&[q]) });
    }
    w.settle_down();
    let all = |w: &mut World| w.receive(2, pull(q, 9)).iter().map(|d| (d.lane, d.pos)).collect::<Vec<_>>();
    let first = w.receive(2, pull(q, 2));
    assert_eq!(first.iter().map(|d| (d.lane, d.pos)).collect::<Vec<_>>(), [(1, 0), (1, 1)]);
    assert_eq!(all(&mut w), [(0, 1)]);
    w.settle(&first[1], Verb::Ack).unwrap();
    assert_eq!(all(&mut w), []);
    w.settle(&first[0], Verb::Ack).unwrap();
    assert_eq!(all(&mut w), [(0, 0)]);
}

#[test]
fn a_delay_of_an_ordered_queue_keeps_the_order_and_counts_as_ready() {
    let mut w = world();
    let q = w.create("a", by_key(|p| p.delay_ms = 1_000));
    w.fill_keys(q, [1, 2]);
    assert_eq!(w.counts(q), [2, 0, 0, 0, 0]);
    w.later(999);
    w.fill_keys(q, [1]);
    assert_eq!(w.receive(2, pull(q, 5)), []);
    w.later(1);
    assert_eq!(positions(&w.receive(2, pull(q, 5))), [0, 1]);
    // A receive that waits is woken by the time.
    w.subscribe(3, 1, q, PUSH);
    w.tick();
    assert_eq!(w.got(), []);
    w.later(1_000);
    w.tick();
    // Key 1 is leased until then.
    assert_eq!(w.got(), [(3, 0, true), (3, 2, false), (3, 1, true)]);
}

#[test]
fn a_dead_lettered_message_lets_its_key_flow_on_and_a_parked_one_closes_it() {
    for park in [false, true] {
        let mut w = world();
        let q = w.create(
            "a",
            by_key(|p| {
                p.attempts_max = Some(1);
                p.dead_letter = true;
                if park {
                    p.on_exhausted = OnExhausted::Park;
                }
            }),
        );
        w.fill_keys(q, [1, 1, 2, 1]);
        let first = w.receive(2, pull(q, 1));
        w.settle(&first[0], FAIL).unwrap();
        w.settle_down();
        if !park {
            assert_eq!(w.counts(q), [3, 0, 0, 1, 0]);
            assert_eq!(positions(&w.receive(2, pull(q, 2))), [1, 3]);
            continue;
        }
        assert_eq!(w.counts(q), [3, 0, 0, 0, 1]);
        let parked = |w: &mut World, from| match w.ask(2, QueueOp::Parked { queue: q, from, max: 9 }) {
            QueueReply::Parked(Some(all)) => all,
            other => panic!("{other:?}"),
        };
        let it = ParkedMessage { lane: 0, pos: 0, deliveries: 1, attempts: 1, bytes: 7 };
        assert_eq!((parked(&mut w, (0, 0)), parked(&mut w, (0, 1))), (vec![it], vec![]));
        assert_eq!(positions(&w.receive(2, pull(q, 5))), [2]);
        // Also after a restart.
        w.sync();
        w.crash(1);
        w.settle_down();
        assert_eq!(positions(&w.receive(2, pull(q, 5))), []);
        // Released, it is the first of its key again; skipped, the next one is.
        let item = UnparkItem { queue: q, lane: 0, pos: 0, release: true };
        assert_eq!(w.ask(2, QueueOp::Unpark(vec![item])), QueueReply::Unparked { errors: vec![] });
        let again = w.receive(2, pull(q, 1));
        assert_eq!((positions(&again), again[0].attempts), (vec![0], 0));
        w.settle(&again[0], FAIL).unwrap();
        w.settle_down();
        let item = UnparkItem { release: false, ..item };
        assert_eq!(w.ask(2, QueueOp::Unpark(vec![item])), QueueReply::Unparked { errors: vec![] });
        w.settle_down();
        assert_eq!(w.counts(q)[3..], [1, 0]);
        assert_eq!(positions(&w.receive(2, pull(q, 5))), [1, 3]);
    }
}

#[test]
fn more_than_so_many_parked_go_to_the_target_or_the_queue_pauses_and_says_so() {
    for dead_letter in [true, false] {
        let mut w = World::new(EngineConfig::default());
        let q = w.create(
            "a",
            by_key(|p| {
                p.attempts_max = Some(1);
                p.on_exhausted = OnExhausted::Park;
                p.dead_letter = dead_letter;
            }),
        );
        let n = PARKED_MAX + 2;
        w.fill_keys(q, 0..n);
        let fail = |w: &mut World, n| {
            for d in w.receive_all(2, q, n) {
                w.settle(&d, FAIL).unwrap();
            }
            w.settle_down();
        };
        fail(&mut w, PARKED_MAX as usize + 1);
        let stats = w.stats(q);
        assert_eq!((stats.parked.n, stats.ready.n), (PARKED_MAX, 1));
        assert_eq!(
            (stats.held.n, stats.leased.n, stats.paused),
            if dead_letter { (1, 0, false) } else { (0, 1, true) }
        );
        let more = w.receive(2, pull(q, 5));
        assert_eq!(more.len(), usize::from(dead_letter));
        if dead_letter {
            continue;
        }
        // Room for one, and it goes on.
        let item = UnparkItem { queue: q, lane: 0, pos: 0, release: false };
        assert_eq!(w.ask(2, QueueOp::Unpark(vec![item])), QueueReply::Unparked { errors: vec![] });
        w.settle_down();
        assert_eq!((w.stats(q).paused, w.stats(q).parked.n), (false, PARKED_MAX));
        assert_eq!(positions(&w.receive(2, pull(q, 5))), [n - 1]);
    }
}

/// Nastiest test 4, its first half, in steps and not in time.
#[test]
fn nastiest_4_one_closed_key_with_very_many_waiting_delays_no_other() {
    let mut w = World::new(EngineConfig::default());
    let q = w.create("a", by_key(|p| p.lease_ms = 3_600_000));
    let n = 200_000;
    for _ in 0..n / 5_000 {
        w.fill_keys(q, std::iter::repeat_n(1, 5_000));
    }
    let mut run = w.receive(2, pull(q, 10));
    assert_eq!(positions(&run), (0..10).collect::<Vec<_>>());
    // The scan steps over them once.
    w.fill_keys(q, [2]);
    assert_eq!(positions(&w.receive(3, pull(q, 10))), [n]);
    assert!(w.entries_read <= n as usize + 1, "{}", w.entries_read);
    // From then on another key costs what it is alone: nothing is read for it.
    w.entries_read = 0;
    for i in 1..200 {
        w.fill_keys(q, [2 + i]);
        let got = w.receive(3, pull(q, 10));
        assert_eq!(positions(&got), [n + i]);
        w.settle(&got[0], Verb::Ack).unwrap();
    }
    assert_eq!(w.entries_read, 0);
    // The closed one goes on in its order, and reads what it delivers.
    for _ in 0..100 {
        let next = run.last().unwrap().pos + 1;
        for d in run.drain(..) {
            w.settle(&d, Verb::Ack).unwrap();
        }
        run = w.receive(2, pull(q, 10));
        assert_eq!(positions(&run), (next..next + run.len() as u64).collect::<Vec<_>>());
        assert!(!run.is_empty());
    }
    assert!(w.entries_read <= 20 * 1_024, "{}", w.entries_read);
}

#[test]
fn without_memory_for_keys_everything_still_comes_in_its_order() {
    let windows = WindowSizes { window: 64, tail: 64, aside: 4, keys_bytes: 1_000, ..WindowSizes::default() };
    let mut w = World::new(EngineConfig { queue_windows: windows, ..EngineConfig::default() });
    let q = w.create("a", by_key(|p| p.lease_ms = 3_600_000));
    let key = |pos| if pos % 997 == 0 { pos % 4 + 10 } else { pos % 2 };
    for i in 0..6 {
        w.fill_keys(q, (0..4_000).map(|n| key(i * 4_000 + n)));
    }
    let mut last = std::collections::BTreeMap::new();
    let mut n = 0;
    let mut open: Vec<Delivery> = Vec::new();
    while n < 24_000 {
        let got = w.receive(2, pull(q, 100));
        for d in &got {
            let key = key(d.pos);
            assert!(last.insert(key, d.pos).is_none_or(|l| l < d.pos), "{key} at {}", d.pos);
        }
        n += got.len();
        assert!(!got.is_empty() || !open.is_empty());
        for d in std::mem::replace(&mut open, got) {
            w.settle(&d, Verb::Ack).unwrap();
        }
        w.tick();
    }
}

#[test]
fn a_purge_that_keeps_leases_keeps_their_keys_closed() {
    let mut w = world();
    let q = w.create("a", by_key(|_| {}));
    w.fill_keys(q, [1, 1, 2, 2]);
    let first = w.receive(2, pull(q, 1));
    assert_eq!(w.ask(2, QueueOp::Purge { queue: q, keep_leased: true }), QueueReply::Purged(Some(3)));
    w.fill_keys(q, [1, 2]);
    assert_eq!(positions(&w.receive(3, pull(q, 5))), [5]);
    w.settle(&first[0], RELEASE).unwrap();
    assert_eq!(positions(&w.receive(3, pull(q, 5))), [0, 4]);
    assert_eq!(w.ask(2, QueueOp::Purge { queue: q, keep_leased: false }), QueueReply::Purged(Some(3)));
    w.fill_keys(q, [1]);
    assert_eq!(positions(&w.receive(3, pull(q, 5))), [6]);
}

#[test]
fn a_full_ordered_queue_drops_its_oldest_whose_key_is_closed_or_not() {
    let mut w = world();
    let q = w.create("a", by_key(|p| p.messages_max = Some(3)));
    w.fill_keys(q, [1]);
    let first = w.receive(2, pull(q, 1));
    w.fill_keys(q, [1, 1, 2, 3]);
    assert_eq!(w.counts(q), [3, 1, 0, 0, 0]);
    assert_eq!(positions(&w.receive(3, pull(q, 5))), [3, 4]);
    w.settle(&first[0], Verb::Ack).unwrap();
    assert_eq!(positions(&w.receive(3, pull(q, 5))), [2]);
}

#[test]
fn what_waits_for_a_closed_key_expires_in_its_time() {
    let mut w = world();
    let q = w.create("a", by_key(|p| (p.ttl_ms, p.lease_ms) = (Some(500), 10_000)));
    w.fill_keys(q, [1, 1, 1]);
    w.receive(2, pull(q, 1));
    w.later(500);
    w.tick();
    assert_eq!(w.counts(q), [0, 1, 0, 0, 0]);
}

#[test]
fn in_a_fair_queue_a_key_with_many_leases_stands_back_while_others_have_something() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.ordering = Ordering::Fair));
    w.fill_keys(q, [1; 20]);
    let held = w.receive_all(2, q, 9);
    assert_eq!(positions(&held), (0..9).collect::<Vec<_>>());
    // Nine leases are more than eight: others go first, and then the least of all.
    w.fill_keys(q, [2, 3, 2]);
    assert_eq!(positions(&w.receive_all(3, q, 3)), [20, 21, 22]);
    assert_eq!(positions(&w.receive_all(3, q, 2)), [9, 10]);
    // With eight it is as good as any.
    for d in held.iter().take(3) {
        w.settle(d, Verb::Ack).unwrap();
    }
    w.fill_keys(q, [2]);
    assert_eq!(positions(&w.receive_all(3, q, 1)), [11]);
    assert_eq!(positions(&w.receive_all(3, q, 1)), [23]);
}
