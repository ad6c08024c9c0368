//! Rules one by one, with numbers one can check by hand.

use millstream_engine::queue::WindowSizes;
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_engine::{EngineConfig, queue::DELIVERY_BYTES};
use millstream_types::{ConnId, Lsn, ObjectId, ObjectKind};

use crate::support::Logged;
use crate::world::*;

pub fn world() -> World {
    World::new(small_windows())
}

pub fn policy(f: impl FnOnce(&mut QueuePolicy)) -> QueuePolicy {
    let mut p = QueuePolicy::default();
    f(&mut p);
    p
}

fn prefetch(n: u32) -> ConsumerOpts {
    ConsumerOpts { prefetch: n, ..PUSH }
}

#[test]
fn a_message_is_delivered_once_it_is_durable_and_not_before() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.subscribe(2, 1, q, PUSH);
    let home = w.publish(message(&[q])).home;
    assert_eq!(home, Some((log_of(q, 0), 0)));
    w.tick();
    assert_eq!(w.got(), []);
    w.sync();
    w.tick();
    assert_eq!(w.got(), [(2, 0, false)]);
}

#[test]
fn one_body_for_several_queues_is_one_record_with_one_fan_out() {
    let mut w = world();
    let queues: Vec<ObjectId> = ["a", "b", "c"].map(|n| w.create(n, QueuePolicy::default())).to_vec();
    let full = w.create("full", policy(|p| (p.messages_max, p.overflow) = (Some(0), Overflow::Reject)));
    let gone = ObjectId::new(ObjectKind::Queue, 999);
    let records = w.log.records.len();
    let mut to = queues.clone();
    to.extend([full, gone, queues[0]]);
    let result = w.publish(message(&to));
    assert_eq!((result.accepted, result.home), (3, Some((log_of(queues[0], 0), 0))));
    assert_eq!(result.refused, [(full, Refusal::Full), (gone, Refusal::Gone)]);
    assert_eq!(w.log.records.len(), records + 1);
    let appends = w.log.records[records].iter().filter(|op| matches!(op, Logged::Append { .. })).count();
    assert_eq!((appends, w.log.records[records].len()), (3, 3));
}

#[test]
fn a_body_goes_once_into_the_log_for_each_256_queues_and_once_to_a_queue_named_twice() {
    let mut w = world();
    let queues: Vec<ObjectId> =
        (0..300).map(|n| w.create(&format!("q{n}"), QueuePolicy::default())).collect();
    let mut to = queues.clone();
    to.extend(&queues);
    assert_eq!(w.publish(message(&to)).accepted, 300);
    assert_eq!(w.log.records.last().unwrap().len(), 300);
    w.settle_down();
    assert!(queues.iter().all(|q| w.counts(*q) == [1, 0, 0, 0, 0]));
}

#[test]
fn a_released_message_takes_its_old_place() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 5);
    let all = w.receive(2, pull(q, 3));
    assert_eq!(all.iter().map(|d| d.pos).collect::<Vec<_>>(), [0, 1, 2]);
    w.settle(&all[1], Verb::Release { failed: true, delay_ms: None }).unwrap();
    let next = w.receive(2, pull(q, 2));
    assert_eq!(next.iter().map(|d| (d.pos, d.redelivered)).collect::<Vec<_>>(), [(1, true), (3, false)]);
    assert_eq!((next[0].deliveries, next[0].attempts), (2, 1));
}

#[test]
fn what_each_verb_counts() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.lease_ms = 1_000));
    w.fill(q, 1);
    let owned = LeaseKind::Timed { lease_ms: None, owned: true };
    let next = |w: &mut World, session| {
        let all = w.receive(session, Receive { lease: owned, ..pull(q, 1) });
        (all[0], (all[0].deliveries, all[0].attempts, all[0].redelivered))
    };
    let (d, counts) = next(&mut w, 2);
    assert_eq!(counts, (1, 0, false));
    w.settle(&d, Verb::Undelivered).unwrap();
    let (d, counts) = next(&mut w, 2);
    assert_eq!(counts, (1, 0, false));
    w.settle(&d, Verb::Release { failed: false, delay_ms: None }).unwrap();
    let (d, counts) = next(&mut w, 2);
    assert_eq!(counts, (2, 0, true));
    w.settle(&d, Verb::Release { failed: true, delay_ms: None }).unwrap();
    let (_, counts) = next(&mut w, 2);
    assert_eq!(counts, (3, 1, true));
    w.gone(2);
    let (d, counts) = next(&mut w, 3);
    assert_eq!(counts, (4, 2, true));
    w.later(1_000);
    w.tick();
    assert_eq!(w.settle(&d, Verb::Ack), Err(SettleError::Expired));
    let (e, counts) = next(&mut w, 3);
    assert_eq!(counts, (5, 3, true));
    assert_eq!(w.settle(&d, Verb::Ack), Err(SettleError::Stale));
    assert_eq!(w.settle_as(9, &e, Verb::Ack), Err(SettleError::NotHolder));
    w.settle(&e, Verb::Ack).unwrap();
    assert_eq!(w.settle(&e, Verb::Ack), Err(SettleError::Unknown));
    assert_eq!(w.counts(q), [0, 0, 0, 0, 0]);
}

#[test]
fn a_late_word_counts_until_the_message_is_handed_out_again() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.lease_ms = 1_000));
    w.fill(q, 4);
    let all = w.receive(2, pull(q, 4));
    w.later(1_000);
    w.tick();
    assert_eq!(w.counts(q), [4, 0, 0, 0, 0]);
    w.settle(&all[1], Verb::AckLate).unwrap();
    assert_eq!(w.settle(&all[1], Verb::AckLate), Err(SettleError::Unknown));
    let again = w.receive(3, pull(q, 1));
    assert_eq!(again[0].pos, 0);
    assert_eq!(w.settle(&all[0], Verb::AckLate), Err(SettleError::Stale));
    w.sync();
    w.crash(1);
    w.settle_down();
    w.settle_as(7, &all[3], Verb::AckLate).unwrap();
    assert_eq!(w.counts(q), [1, 1, 0, 0, 0]);
    let rest = w.receive(3, pull(q, 5));
    assert_eq!(rest.iter().map(|d| d.pos).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_late_word_finds_what_was_given_back_or_rests() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 2);
    let all = w.receive(2, pull(q, 2));
    w.settle(&all[0], Verb::Release { failed: true, delay_ms: Some(0) }).unwrap();
    w.settle(&all[1], Verb::Release { failed: true, delay_ms: Some(5_000) }).unwrap();
    w.settle(&all[0], Verb::AckLate).unwrap();
    w.settle(&all[1], Verb::AckLate).unwrap();
    assert_eq!(w.counts(q), [0, 0, 0, 0, 0]);
    w.later(5_000);
    w.tick();
    assert_eq!(w.receive(2, pull(q, 2)), []);
}

#[test]
fn a_timed_lease_and_its_number_hold_over_a_restart_and_a_bound_one_does_not() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.lease_ms = 10_000));
    w.fill(q, 2);
    let timed = w.receive(2, pull(q, 1))[0];
    let bound = w.receive(2, Receive { lease: LeaseKind::Bound, ..pull(q, 1) })[0];
    w.sync();
    w.crash(1);
    w.settle_down();
    assert_eq!(w.counts(q), [1, 1, 0, 0, 0]);
    assert_eq!(w.settle_as(7, &bound, Verb::Ack), Err(SettleError::Stale));
    let again = w.receive(3, pull(q, 5));
    assert_eq!(again.iter().map(|d| (d.pos, d.deliveries, d.attempts)).collect::<Vec<_>>(), [(1, 2, 1)]);
    w.settle_as(7, &timed, Verb::Ack).unwrap();
    assert_eq!(w.counts(q), [0, 1, 0, 0, 0]);
}

#[test]
fn a_lease_is_extended_from_now_and_runs_out_after_that() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.lease_ms = 1_000));
    w.fill(q, 1);
    let d = w.receive(2, pull(q, 1))[0];
    w.later(900);
    let item = ExtendItem { queue: q, lane: 0, pos: 0, len: 1, delivery_no: d.delivery_no, lease_ms: 500 };
    assert_eq!(w.ask(5, QueueOp::Extend(vec![item])), QueueReply::Settled { errors: vec![] });
    w.later(499);
    w.tick();
    assert_eq!(w.counts(q), [0, 1, 0, 0, 0]);
    w.later(1);
    w.tick();
    assert_eq!(w.counts(q), [1, 0, 0, 0, 0]);
}

#[test]
fn a_lease_that_was_extended_fails_once_when_it_runs_out() {
    let mut w = world();
    let p = policy(|p| (p.attempts_max, p.on_exhausted) = (Some(1), OnExhausted::Park));
    let q = w.create("a", QueuePolicy { lease_ms: 1_000, dead_letter: true, ..p });
    w.fill(q, 1);
    let d = w.receive(2, pull(q, 1))[0];
    // Both ends come due in one turn.
    let item = ExtendItem { queue: q, lane: 0, pos: 0, len: 1, delivery_no: d.delivery_no, lease_ms: 500 };
    w.ask(5, QueueOp::Extend(vec![item]));
    w.later(1_000);
    w.tick();
    assert_eq!(w.counts(q), [0, 0, 0, 0, 1]);
    w.ask(1, QueueOp::Unpark(vec![UnparkItem { queue: q, lane: 0, pos: 0, release: false }]));
    w.tick();
    assert_eq!(w.moves[0].attempts, 1);
}

#[test]
fn leases_never_exceed_the_prefetch_and_a_settlement_makes_room() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.subscribe(2, 1, q, prefetch(2));
    w.fill(q, 5);
    let all = std::mem::take(&mut w.deliveries);
    assert_eq!(all.len(), 2);
    w.settle(&all[0], Verb::Ack).unwrap();
    w.tick();
    assert_eq!(w.got(), [(2, 2, false)]);
    // A lower limit takes nothing back.
    w.ask(2, QueueOp::Prefetch { consumer: Some(ConsumerId(1)), max: 1 });
    w.settle(&all[1], Verb::Ack).unwrap();
    w.tick();
    assert_eq!(w.got(), []);
    assert_eq!(w.counts(q), [2, 1, 0, 0, 0]);
}

#[test]
fn a_limit_of_the_session_counts_all_its_consumers() {
    let mut w = world();
    let (a, b) = (w.create("a", QueuePolicy::default()), w.create("b", QueuePolicy::default()));
    w.ask(2, QueueOp::Prefetch { consumer: None, max: 3 });
    w.subscribe(2, 1, a, PUSH);
    w.subscribe(2, 2, b, PUSH);
    w.fill(a, 3);
    w.fill(b, 3);
    let all = std::mem::take(&mut w.deliveries);
    assert_eq!(all.len(), 3);
    w.settle(&all[0], Verb::Ack).unwrap();
    w.tick();
    assert_eq!(w.deliveries.len(), 1);
    assert_eq!(w.deliveries[0].queue, b);
}

#[test]
fn credit_is_used_up_by_deliveries_and_not_given_back_by_settlements() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.subscribe(2, 1, q, ConsumerOpts { credit: Some(1), ..PUSH });
    w.fill(q, 3);
    let all = std::mem::take(&mut w.deliveries);
    assert_eq!(all.len(), 1);
    w.settle(&all[0], Verb::Ack).unwrap();
    w.tick();
    assert_eq!(w.got(), []);
    w.ask(2, QueueOp::Credit { consumer: ConsumerId(1), add: 1 });
    w.tick();
    assert_eq!(w.got(), [(2, 1, false)]);
}

#[test]
fn consumers_take_turns_and_a_higher_priority_goes_first() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    for session in 2..5 {
        w.subscribe(session, 1, q, PUSH);
    }
    w.fill(q, 6);
    assert_eq!(w.got().iter().map(|d| d.0).collect::<Vec<_>>(), [2, 3, 4, 2, 3, 4]);
    w.subscribe(9, 1, q, ConsumerOpts { priority: 1, prefetch: 1, ..PUSH });
    for _ in 0..3 {
        w.publish(message(&[q]));
    }
    w.settle_down();
    assert_eq!(w.got().iter().map(|d| d.0).collect::<Vec<_>>(), [9, 2, 3]);
}

#[test]
fn a_slow_socket_gets_nothing_more_whatever_its_prefetch() {
    let mut w = world();
    w.taking = false;
    let q = w.create("a", QueuePolicy::default());
    w.subscribe(2, 1, q, PUSH);
    let mut m = message(&[q]);
    m.body = vec![vec![0; 400 << 10].into()];
    m.envelope_len = 0;
    for _ in 0..5 {
        let mut m2 = message(&[q]);
        (m2.body, m2.envelope_len) = (m.body.clone(), 0);
        w.publish(m2);
    }
    w.settle_down();
    assert_eq!(w.got().len(), 3);
    w.engine.handed_over(ConnId(2), 3 * ((400 << 10) + DELIVERY_BYTES));
    w.tick();
    assert_eq!(w.got().len(), 2);
}

#[test]
fn a_receive_waits_for_the_first_message_and_is_served_with_what_is_ready_then() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    let ticket = w.submit(2, QueueOp::Receive(Receive { wait_ms: 1_000, ..pull(q, 10) }));
    w.tick();
    assert_eq!(w.received(ticket), None);
    w.fill(q, 1);
    assert_eq!(w.received(ticket).unwrap().len(), 1);
    let ticket = w.submit(2, QueueOp::Receive(Receive { wait_ms: 1_000, ..pull(q, 10) }));
    w.tick();
    w.later(999);
    w.tick();
    assert_eq!(w.received(ticket), None);
    w.later(1);
    assert_eq!(w.engine.next_timer(), Some(w.now.mono_ms));
    w.tick();
    assert_eq!(w.received(ticket), Some(vec![]));
    assert_eq!(w.stats(q).waiting, 0);
}

#[test]
fn a_receive_takes_at_least_one_message_and_stops_at_its_bytes() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 4);
    assert_eq!(w.receive(2, Receive { bytes_max: 1, ..pull(q, 4) }).len(), 1);
    assert_eq!(w.receive(2, Receive { bytes_max: 14, ..pull(q, 4) }).len(), 2);
}

#[test]
fn an_answer_waits_for_its_leases_unless_they_ride() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 3);
    let d = w.receive(2, pull(q, 1))[0];
    assert_eq!(d.wait, w.log.last());
    // The first that rides waits for the word that somebody rides here.
    let riding = Receive { ride: true, lease: LeaseKind::Bound, ..pull(q, 1) };
    assert_eq!(w.receive(2, riding)[0].wait, w.log.last());
    w.sync();
    assert_eq!(w.receive(2, riding)[0].wait, Lsn(0));
}

#[test]
fn auto_ack_settles_as_it_delivers() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.subscribe(2, 1, q, ConsumerOpts { auto_ack: true, prefetch: 1, ..PUSH });
    w.fill(q, 40);
    assert_eq!(w.got().len(), 40);
    assert_eq!(w.counts(q), [0, 0, 0, 0, 0]);
}

#[test]
fn priorities_are_strict_and_capped_by_the_queue() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.priority_max = 5));
    for priority in [0, 3, 255, 5, 3] {
        w.publish(Publish { priority, ..message(&[q]) });
    }
    w.settle_down();
    let all = w.receive(2, pull(q, 9));
    assert_eq!(
        all.iter().map(|d| (d.lane, d.pos)).collect::<Vec<_>>(),
        [(5, 0), (5, 1), (3, 0), (3, 1), (0, 0)]
    );
}

#[test]
fn nothing_is_delivered_after_its_time_and_time_counts_at_the_head() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    let (now, sooner) = (w.now.wall_ms, w.now.wall_ms + 50);
    w.publish(Publish { expiry_ms: Some(now + 100), ..message(&[q]) });
    w.publish(Publish { expiry_ms: Some(sooner), ..message(&[q]) });
    w.settle_down();
    w.later(60);
    w.tick();
    // The second is too old, but stands behind the first.
    assert_eq!(w.counts(q), [2, 0, 0, 0, 0]);
    w.later(40);
    w.tick();
    assert_eq!(w.counts(q), [0, 0, 0, 0, 0]);
}

#[test]
fn the_shorter_of_two_times_to_live_counts_also_for_what_is_there_already() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 1);
    let p = policy(|p| (p.ttl_ms, p.dead_letter) = (Some(500), true));
    let change = QueueChange::Alter { id: q, expect: 1, policy: p, settings: Default::default() };
    assert!(matches!(w.ask(1, QueueOp::Change(vec![change])), QueueReply::Changed(Ok(_))));
    w.tick();
    w.later(500);
    w.tick();
    assert_eq!(w.counts(q), [0, 0, 0, 1, 0]);
    assert_eq!(w.moves[0].cause, Cause::Expired);
}

#[test]
fn a_full_queue_drops_its_oldest_refuses_or_refuses_and_dead_letters() {
    let mut w = world();
    let limited = |o| policy(|p| (p.messages_max, p.overflow, p.dead_letter) = (Some(2), o, false));
    let drop_head = w.create("drop", limited(Overflow::DropHead));
    w.fill(drop_head, 3);
    assert_eq!(w.counts(drop_head), [2, 0, 0, 0, 0]);
    assert_eq!(w.receive(2, pull(drop_head, 1))[0].pos, 1);
    let reject = w.create("reject", limited(Overflow::Reject));
    w.fill(reject, 2);
    assert_eq!(w.publish(message(&[reject])).refused, [(reject, Refusal::Full)]);
    // What is leased does not count.
    w.receive(2, pull(reject, 1));
    assert_eq!(w.publish(message(&[reject])).accepted, 1);
    let p = QueuePolicy { dead_letter: true, ..limited(Overflow::RejectDeadLetter) };
    let both = w.create("both", p);
    w.fill(both, 2);
    assert_eq!(w.publish(message(&[both])).refused, [(both, Refusal::Full)]);
    w.settle_down();
    assert_eq!(w.counts(both), [2, 0, 0, 1, 0]);
    let work = w.moves.pop().unwrap();
    assert_eq!((work.queue, work.pos, work.cause), (both, 2, Cause::Length));
}

#[test]
fn exhausted_messages_go_to_the_mover_are_dropped_or_parked() {
    for (on_exhausted, dead_letter, after) in [
        (OnExhausted::DeadLetter, true, [0, 0, 0, 1, 0]),
        (OnExhausted::DeadLetter, false, [0, 0, 0, 0, 0]),
        (OnExhausted::Drop, true, [0, 0, 0, 0, 0]),
        (OnExhausted::Park, true, [0, 0, 0, 0, 1]),
    ] {
        let mut w = world();
        let q = w.create(
            "a",
            QueuePolicy { attempts_max: Some(2), on_exhausted, dead_letter, ..QueuePolicy::default() },
        );
        w.fill(q, 1);
        let d = w.receive(2, pull(q, 1))[0];
        w.settle(&d, Verb::Release { failed: true, delay_ms: None }).unwrap();
        let d = w.receive(2, pull(q, 1))[0];
        // The second failure is silence.
        w.later(LEASE_MS_DEFAULT);
        w.tick();
        assert_eq!(w.counts(q), after, "{on_exhausted:?}");
        assert_eq!(w.settle(&d, Verb::Ack), Err(SettleError::Unknown));
        // And it is decided the same way by who opens the log without the record.
        let lsn = Lsn(w.log.last().0 - 1);
        w.durable = lsn;
        w.crash(1);
        w.settle_down();
        assert_eq!(w.counts(q), after, "{on_exhausted:?}");
    }
}

#[test]
fn a_parked_message_goes_back_or_away_by_command() {
    let mut w = world();
    let q = w.create("a", policy(|p| (p.attempts_max, p.on_exhausted) = (Some(1), OnExhausted::Park)));
    w.fill(q, 2);
    for d in w.receive(2, pull(q, 2)) {
        w.settle(&d, Verb::Release { failed: true, delay_ms: None }).unwrap();
    }
    assert_eq!(w.counts(q), [0, 0, 0, 0, 2]);
    let unpark = |pos, release| UnparkItem { queue: q, lane: 0, pos, release };
    let items = vec![unpark(0, true), unpark(1, false), unpark(1, false)];
    let errors = vec![(2, SettleError::Unknown)];
    assert_eq!(w.ask(1, QueueOp::Unpark(items)), QueueReply::Unparked { errors });
    let d = w.receive(2, pull(q, 9));
    assert_eq!(d.iter().map(|d| (d.pos, d.deliveries, d.attempts)).collect::<Vec<_>>(), [(0, 2, 0)]);
}

#[test]
fn a_failed_message_rests_for_its_backoff_and_others_pass_it() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.backoff = Backoff::Fixed { ms: 300 }));
    w.fill(q, 2);
    let d = w.receive(2, pull(q, 1))[0];
    w.settle(&d, Verb::Release { failed: true, delay_ms: None }).unwrap();
    assert_eq!(w.counts(q), [1, 0, 1, 0, 0]);
    assert_eq!(w.receive(2, pull(q, 1))[0].pos, 1);
    w.later(300);
    w.tick();
    assert_eq!(w.receive(2, pull(q, 1))[0].pos, 0);
}

#[test]
fn a_delayed_message_waits_and_then_goes_before_what_was_published_after_its_time() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    let due = |w: &World, ms| vec![Target { queue: q, due_ms: Some(w.now.wall_ms + ms), key_hash: None }];
    let to = due(&w, 100);
    w.publish(Publish { to, ..message(&[]) });
    let to = due(&w, 50);
    w.publish(Publish { to, ..message(&[]) });
    w.fill(q, 1);
    assert_eq!(w.counts(q), [1, 0, 2, 0, 0]);
    w.later(100);
    w.tick();
    w.fill(q, 1);
    let all = w.receive(2, pull(q, 9));
    // Position 0 was published before either was due; then the delayed ones by their time; then the fresh one.
    assert_eq!(all.iter().map(|d| (d.lane, d.pos)).collect::<Vec<_>>(), [(0, 0), (256, 1), (256, 0), (0, 1)]);
}

#[test]
fn more_scheduled_messages_than_memory_has_room_for_come_in_their_order() {
    let windows = WindowSizes { window: 4, tail: 4, due: 3, ..WindowSizes::default() };
    let mut w = World::new(EngineConfig { queue_windows: windows, ..EngineConfig::default() });
    let q = w.create("a", QueuePolicy::default());
    for minute in [9, 3, 5, 1, 7, 2, 8, 4, 6, 0] {
        let due_ms = Some(w.now.wall_ms + 1 + minute * 60_000);
        w.publish(Publish { to: vec![Target { queue: q, due_ms, key_hash: None }], ..message(&[]) });
    }
    w.settle_down();
    let mut got = Vec::new();
    for round in 0..11 {
        if round == 4 {
            w.crash(1);
        }
        w.later(60_000);
        w.tick();
        got.extend(w.receive(2, Receive { auto_ack: true, ..pull(q, 9) }).iter().map(|d| d.pos));
        w.sync();
    }
    assert_eq!(got, [9, 3, 5, 1, 7, 2, 8, 4, 6, 0]);
    assert_eq!(w.counts(q), [0; 5]);
}

#[test]
fn a_purge_takes_no_delayed_message_that_was_published_after_it() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    let later = |w: &mut World| {
        let to = vec![Target { queue: q, due_ms: Some(w.now.wall_ms + 5_000), key_hash: None }];
        w.publish(Publish { to, ..message(&[]) });
    };
    later(&mut w);
    w.settle_down();
    assert_eq!(w.ask(1, QueueOp::Purge { queue: q, keep_leased: true }), QueueReply::Purged(Some(1)));
    // In the same minute, before the purge was followed up.
    later(&mut w);
    w.later(2_000);
    w.settle_down();
    w.crash(1);
    w.settle_down();
    assert_eq!(w.counts(q), [0, 0, 1, 0, 0]);
    w.later(5_000);
    w.tick();
    assert_eq!(w.receive(2, pull(q, 9)).len(), 1);
}

#[test]
fn a_backlog_far_beyond_the_window_is_read_in_order() {
    let windows = WindowSizes { window: 4, tail: 4, due: 4, ..WindowSizes::default() };
    let mut w = World::new(EngineConfig { queue_windows: windows, ..EngineConfig::default() });
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 60);
    w.crash(1);
    w.subscribe(2, 1, q, prefetch(0));
    w.settle_down();
    assert_eq!(w.got().iter().map(|d| d.1).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
}

#[test]
fn damaged_positions_are_stepped_over_and_stay() {
    let windows = WindowSizes { window: 4, tail: 4, due: 4, ..WindowSizes::default() };
    let mut w = World::new(EngineConfig { queue_windows: windows, ..EngineConfig::default() });
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 20);
    w.crash(1);
    w.reading = false;
    w.subscribe(2, 1, q, PUSH);
    w.tick();
    let asked = w.reads.remove(0);
    let (first, end) = (asked.from, asked.from + 3);
    let heads = Err(millstream_log::ReadError::Damaged { first, end, file: "seg/1".to_owned() });
    w.engine.window_read(w.now, WindowRead { asked, heads });
    w.reading = true;
    w.settle_down();
    assert_eq!(w.got().iter().map(|d| d.1).collect::<Vec<_>>(), (3..20).collect::<Vec<_>>());
    assert_eq!(w.counts(q)[0], 3);
}

#[test]
fn of_several_consumers_one_is_active_and_the_next_begins_when_its_leases_have_ended() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.single_active = true));
    for session in 2..5 {
        let priority = i32::from(session == 4);
        w.subscribe(session, 1, q, ConsumerOpts { priority, prefetch: 1, ..PUSH });
    }
    w.fill(q, 4);
    // The first that came stays, whatever the priority of those that follow.
    let first = w.deliveries.remove(0);
    assert_eq!((first.session, w.deliveries.len()), (ConnId(2), 0));
    w.ask(2, QueueOp::Cancel { consumer: ConsumerId(1) });
    w.tick();
    assert_eq!(w.got(), []);
    w.settle(&first, Verb::Ack).unwrap();
    w.tick();
    assert_eq!(w.got(), [(4, 1, false)]);
    // A session that ends gives its leases back at once.
    w.gone(4);
    w.tick();
    assert_eq!(w.got(), [(3, 1, true)]);
    let ticket = w.submit(9, QueueOp::Receive(pull(q, 1)));
    assert!(w.answers.iter().any(|a| a.ticket == ticket));
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    let exclusive = ConsumerOpts { exclusive: true, ..PUSH };
    let subscribe = |consumer, opts| QueueOp::Subscribe { queue: q, consumer: ConsumerId(consumer), opts };
    w.subscribe(2, 1, q, exclusive);
    let refused = QueueReply::Subscribed(Err(SubscribeError::Exclusive));
    assert_eq!(w.ask(3, subscribe(1, PUSH)), refused);
    assert_eq!(w.ask(2, subscribe(1, PUSH)), QueueReply::Subscribed(Err(SubscribeError::Exists)));
    w.gone(2);
    w.subscribe(3, 1, q, PUSH);
    assert_eq!(w.ask(4, subscribe(1, exclusive)), refused);
    let single = w.create("b", QueuePolicy { single_active: true, ..QueuePolicy::default() });
    let opts = QueueOp::Subscribe { queue: single, consumer: ConsumerId(2), opts: exclusive };
    assert_eq!(w.ask(4, opts), refused, "whoever is active is alone there");
}

#[test]
fn a_receive_beside_an_exclusive_consumer_is_served_only_if_it_says_so() {
    let mut w = world();
    let q = w.create("a", QueuePolicy { single_active: true, ..QueuePolicy::default() });
    w.fill(q, 1);
    let refused = QueueReply::Received(Err(ReceiveError::Exclusive));
    assert_eq!(w.ask(2, QueueOp::Receive(pull(q, 1))), refused);
    assert_eq!(w.receive(2, Receive { beside: true, ..pull(q, 1) }).len(), 1);
}

#[test]
fn a_cancelled_consumer_keeps_its_leases() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.subscribe(2, 1, q, PUSH);
    w.fill(q, 1);
    let d = w.deliveries.remove(0);
    w.ask(2, QueueOp::Cancel { consumer: ConsumerId(1) });
    w.fill(q, 1);
    assert_eq!((w.got(), w.counts(q)), (vec![], [1, 1, 0, 0, 0]));
    w.settle(&d, Verb::Ack).unwrap();
    assert_eq!(w.counts(q), [1, 0, 0, 0, 0]);
}

#[test]
fn a_queue_drained_in_order_leaves_one_row_and_a_trimmed_log() {
    let mut w = World::new(EngineConfig::default());
    let q = w.create("a", QueuePolicy::default());
    for _ in 0..100 {
        for _ in 0..90 {
            w.publish(message(&[q]));
        }
        w.settle_down();
        for d in w.receive(2, pull(q, 90)) {
            w.settle(&d, Verb::Ack).unwrap();
        }
        w.deliveries.clear();
    }
    w.later(1_000);
    w.settle_down();
    w.later(1_000);
    w.settle_down();
    assert_eq!(w.log.heads(log_of(q, 0), 0, u64::MAX, 9).len(), 0);
    w.flush();
    let chunks = w.store.keys().filter(|k| k[0] == 0x31).count();
    assert!(chunks <= 1, "{chunks} rows");
    let trims = w.log.records.iter().flatten().filter(|op| matches!(op, Logged::Trim { .. })).count();
    assert!((2..=4).contains(&trims), "{trims} trims");
}

#[test]
fn what_is_settled_past_the_floor_is_retired_once_the_floor_has_stood() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 6);
    let all = w.receive(2, pull(q, 6));
    for i in [1, 2, 4] {
        w.settle(&all[i], Verb::Ack).unwrap();
    }
    w.tick();
    let left = |w: &World| w.log.heads(log_of(q, 0), 0, 99, 99).iter().map(|h| h.pos).collect::<Vec<_>>();
    assert_eq!(left(&w).len(), 6);
    w.later(1_000);
    w.tick();
    assert_eq!(left(&w), [0, 3, 5]);
    w.settle(&all[0], Verb::Ack).unwrap();
    w.later(1_000);
    w.tick();
    w.later(1_000);
    w.tick();
    assert_eq!(left(&w), [3, 5]);
}

#[test]
fn dispatch_rests_while_there_is_no_room_for_a_record() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.subscribe(2, 1, q, PUSH);
    w.log.room = false;
    w.fill(q, 2);
    assert_eq!(w.got(), []);
    w.log.room = true;
    assert_eq!(w.engine.next_timer(), Some(w.now.mono_ms));
    w.tick();
    assert_eq!(w.got().len(), 2);
}

#[test]
fn a_redrive_holds_messages_and_moves_them_in_one_record() {
    let mut w = world();
    let (dead, home) = (w.create("dead", QueuePolicy::default()), w.create("home", QueuePolicy::default()));
    w.fill(dead, 3);
    let QueueReply::Held(Some(held)) = w.ask(1, QueueOp::Hold { queue: dead, max: 2 }) else { panic!() };
    assert_eq!(
        held.iter().map(|h| (h.pos, h.cause)).collect::<Vec<_>>(),
        [(0, Cause::Redrive), (1, Cause::Redrive)]
    );
    let records = w.log.records.len();
    let items = held
        .iter()
        .map(|h| MoveItem {
            queue: dead,
            lane: h.lane,
            pos: h.pos,
            delivery_no: h.delivery_no,
            then: MoveThen::Publish { publish: message(&[home]), at_most_once: false },
        })
        .collect();
    assert_eq!(w.ask(1, QueueOp::Move(items)), QueueReply::Moved(vec![Ok(()), Ok(())]));
    assert_eq!(w.log.records.len(), records + 1);
    w.settle_down();
    assert_eq!((w.counts(dead), w.counts(home)), ([1, 0, 0, 0, 0], [2, 0, 0, 0, 0]));
}

#[test]
fn the_mover_is_told_again_after_a_restart() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.dead_letter = true));
    w.fill(q, 1);
    let d = w.receive(2, pull(q, 1))[0];
    w.settle(&d, Verb::Reject).unwrap();
    w.settle_down();
    let before = std::mem::take(&mut w.moves);
    w.sync();
    w.crash(1);
    w.settle_down();
    let after = std::mem::take(&mut w.moves);
    assert_eq!(after.len(), 1);
    assert_eq!(after[0], MoveWork { wait: after[0].wait, ..before[0] });
}

#[test]
fn what_was_held_as_it_came_and_is_given_back_before_the_window_reaches_it_comes_once() {
    let queue_windows = WindowSizes { window: 4, tail: 4, ..WindowSizes::default() };
    let mut w = World::new(EngineConfig { queue_windows, ..EngineConfig::default() });
    let q = w.create(
        "a",
        policy(|p| {
            p.messages_max = Some(20);
            p.overflow = Overflow::RejectDeadLetter;
            p.dead_letter = true;
        }),
    );
    for _ in 0..25 {
        w.publish(message(&[q]));
    }
    w.settle_down();
    assert_eq!(w.counts(q), [20, 0, 0, 5, 0]);
    for m in std::mem::take(&mut w.moves) {
        let MoveWork { queue, lane, pos, delivery_no, .. } = m;
        let item = MoveItem { queue, lane, pos, delivery_no, then: MoveThen::Release };
        assert_eq!(w.ask(1, QueueOp::Move(vec![item])), QueueReply::Moved(vec![Ok(())]));
    }
    w.settle_down();
    let all = w.receive_all(2, q, 25);
    assert_eq!(all.iter().map(|d| d.pos).collect::<Vec<_>>(), (0..25).collect::<Vec<_>>());
    assert_eq!(w.receive(2, pull(q, 5)), []);
}
