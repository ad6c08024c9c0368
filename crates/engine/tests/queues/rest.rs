//! Queues that left memory: they come back as they were, and nobody can tell.

use millstream_engine::EngineConfig;
use millstream_engine::queue::REST_MS;
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_engine::rows::family;

use crate::behaviour::policy;
use crate::world::*;

fn world(queue_rest_ms: u64) -> World {
    World::new(EngineConfig { queue_rest_ms, ..small_windows() })
}

/// One message goes through a queue.
fn use_once(w: &mut World, q: millstream_types::ObjectId) -> Delivery {
    w.fill(q, 1);
    let taken = w.receive(2, pull(q, 1)).remove(0);
    w.settle(&taken, Verb::Ack).unwrap();
    w.settle_down();
    taken
}

/// The floor has stood for long enough to be recorded.
fn stand(w: &mut World) {
    w.later(1_001);
    w.settle_down();
}

#[test]
fn a_queue_at_rest_leaves_memory_and_comes_back_as_it_was() {
    let mut w = world(0);
    let q = w.create("a", policy(|p| p.priority_max = 3));
    let first = use_once(&mut w, q);
    assert_eq!(w.engine.queues_in_memory(), 1, "its floor is not recorded");
    stand(&mut w);
    assert_eq!(w.engine.queues_in_memory(), 0);
    // Nothing of what was settled is left in rows but the head.
    w.flush();
    assert!(!w.store.keys().any(|k| k.first() == Some(&family::CHUNK)));
    let stats = w.stats(q);
    assert_eq!((stats.delivered, stats.acked, stats.appended.n, stats.settled.n), (1, 1, 1, 1));
    w.tick();
    assert_eq!(w.settle(&first, Verb::Ack), Err(SettleError::Unknown));
    let second = use_once(&mut w, q);
    assert_eq!((second.pos, second.redelivered, second.deliveries), (1, false, 1));
    assert_eq!(w.counts(q), [0; 5]);
    stand(&mut w);
    w.restart_cleanly();
    assert_eq!((w.stats(q).settled.n, w.counts(q)), (2, [0; 5]));
}

#[test]
fn a_queue_stays_in_memory_for_a_while_and_as_long_as_somebody_has_or_wants_something_of_it() {
    let mut w = world(REST_MS);
    let [q, held, watched] = ["a", "b", "c"].map(|n| w.create(n, QueuePolicy::default()));
    use_once(&mut w, q);
    w.fill(held, 1);
    let lent = w.receive(2, pull(held, 1)).remove(0);
    w.subscribe(3, 1, watched, PUSH);
    w.settle_down();
    w.later(REST_MS - 1);
    w.tick();
    assert_eq!(w.engine.queues_in_memory(), 3);
    w.later(1);
    w.tick();
    assert_eq!(w.engine.queues_in_memory(), 2);
    // The engine asks for no more turns for those that stay.
    assert!(w.engine.next_timer().is_none_or(|t| t > w.now.mono_ms));
    w.settle(&lent, Verb::Ack).unwrap();
    w.gone(3);
    w.settle_down();
    for ms in [1_001, REST_MS] {
        w.later(ms);
        w.settle_down();
    }
    assert_eq!(w.engine.queues_in_memory(), 0);
}

#[test]
fn a_queue_that_left_memory_is_unused_since_it_was_used() {
    let mut w = world(0);
    let q = w.create("a", policy(|p| p.expires_ms = Some(20_000)));
    w.tick();
    w.later(5_000);
    use_once(&mut w, q);
    for _ in 0..3 {
        stand(&mut w);
        assert_eq!(w.engine.queues_in_memory(), 0);
        // Looking at it is no use of it.
        w.stats(q);
        w.tick();
    }
    w.later(20_000 - 3 * 1_001 - 1);
    w.tick();
    assert_eq!((w.unused.clone(), w.engine.queues_in_memory()), (vec![], 0));
    w.later(1);
    w.tick();
    assert_eq!(w.unused, [Unused::Idle(q)]);
}

#[test]
fn a_time_to_be_unused_that_is_set_later_counts_from_then() {
    for queue_rest_ms in [0, REST_MS] {
        let mut w = world(queue_rest_ms);
        let q = w.create("a", QueuePolicy::default());
        use_once(&mut w, q);
        stand(&mut w);
        w.later(3_000);
        let policy = policy(|p| p.expires_ms = Some(2_000));
        let change = QueueChange::Alter { id: q, expect: 1, policy, settings: Default::default() };
        assert!(matches!(w.ask(1, QueueOp::Change(vec![change])), QueueReply::Changed(Ok(_))));
        w.later(1_999);
        w.tick();
        assert_eq!(w.unused, []);
        w.later(1);
        w.tick();
        assert_eq!(w.unused, [Unused::Idle(q)]);
    }
}

#[test]
fn however_many_queues_are_used_at_a_time_few_stay_in_memory() {
    let mut w = world(REST_MS);
    let queues: Vec<_> = (0..12_000).map(|n| w.create(&format!("q{n}"), QueuePolicy::default())).collect();
    for q in &queues {
        w.ask(1, QueueOp::Stats { queue: *q, touch: true, durable: false });
    }
    assert_eq!(w.engine.queues_in_memory(), 12_000);
    for _ in 0..4 {
        w.tick_once();
    }
    assert_eq!(w.engine.queues_in_memory(), 8_192);
}
