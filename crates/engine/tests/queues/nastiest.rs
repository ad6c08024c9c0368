//! The nastiest tests of the design that concern the queue's engine, by their number.

use millstream_engine::queue::WindowSizes;
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_engine::{Engine, EngineConfig};
use millstream_log::Replay;
use millstream_types::{ConnId, Lsn};

use crate::support::FakeStore;
use crate::world::*;

#[test]
fn nastiest_2_back_into_an_old_place_while_the_window_reads_past_it_and_the_one_before_expires() {
    let windows = WindowSizes { window: 4, tail: 4, due: 4, ..WindowSizes::default() };
    let mut w = World::new(EngineConfig { queue_windows: windows, ..EngineConfig::default() });
    let q = w.create("a", QueuePolicy::default());
    for pos in 0..30 {
        let expiry_ms = (pos == 0).then(|| w.now.wall_ms + 100);
        w.publish(Publish { expiry_ms, ..message(&[q]) });
    }
    w.settle_down();
    let all = w.receive(2, pull(q, 2));
    w.settle(&all[0], Verb::Release { failed: false, delay_ms: None }).unwrap();
    // The window is read while 1 comes back and 0, before it, runs out of time.
    w.reading = false;
    let all2 = w.receive_now(3, Receive { wait_ms: 5_000, ..pull(q, 1) });
    assert_eq!(all2.unwrap()[0].pos, 0);
    w.settle(&all[1], Verb::Release { failed: true, delay_ms: None }).unwrap();
    w.gone(9);
    w.later(100);
    w.reading = true;
    w.tick();
    let rest = w.receive_all(4, q, 29);
    assert_eq!(rest.iter().map(|d| d.pos).collect::<Vec<_>>(), (1..30).collect::<Vec<_>>());
    // 0 is given back after its time: it is never seen again.
    w.settle(&Delivery { delivery_no: all[0].delivery_no + 1, ..all[0] }, Verb::Undelivered).unwrap();
    w.tick();
    assert_eq!(w.receive(4, pull(q, 40)), []);
    assert_eq!(w.counts(q), [0, 29, 0, 0, 0]);
}

impl World {
    fn receive_now(&mut self, session: u64, what: Receive) -> Option<Vec<Delivery>> {
        let ticket = self.submit(session, QueueOp::Receive(what));
        self.tick();
        self.received(ticket)
    }
}

#[test]
fn nastiest_7_a_lease_that_rode_and_was_lost_marks_what_it_delivered() {
    let mut w = World::new(small_windows());
    let q = w.create("a", QueuePolicy::default());
    w.subscribe(2, 1, q, PUSH);
    w.fill(q, 1);
    let first = w.deliveries.remove(0);
    w.settle(&first, Verb::Ack).unwrap();
    w.publish(message(&[q]));
    w.sync();
    let durable = w.log.last();
    w.tick();
    // It goes out at once, and its lease is lost.
    assert_eq!(w.got(), [(2, 1, false)]);
    w.durable = durable;
    w.crash(1);
    w.subscribe(3, 1, q, PUSH);
    w.settle_down();
    assert_eq!(w.got(), [(3, 1, true)]);
    // What is published from now on is not marked; after a clean stop nothing more is.
    w.fill(q, 1);
    assert_eq!(w.got(), [(3, 2, false)]);
    w.publish(message(&[q]));
    w.gone(3);
    w.restart_cleanly();
    w.subscribe(4, 1, q, PUSH);
    w.settle_down();
    // Positions 1 and 2 were out when it stopped.
    assert_eq!(w.got(), [(4, 1, true), (4, 2, true), (4, 3, false)]);
}

#[test]
fn nastiest_7_the_mark_stays_when_the_next_stop_is_clean() {
    let mut w = World::new(small_windows());
    let q = w.create("a", QueuePolicy::default());
    w.subscribe(2, 1, q, PUSH);
    w.fill(q, 1);
    w.gone(2);
    w.publish(message(&[q]));
    w.sync();
    w.crash(1);
    w.settle_down();
    w.restart_cleanly();
    w.subscribe(3, 1, q, PUSH);
    w.settle_down();
    assert_eq!(w.got(), [(3, 0, true), (3, 1, true)]);
}

#[test]
fn nastiest_8_a_purge_with_leases_in_three_chunks_replayed_over_flushed_rows() {
    for keep_leased in [true, false] {
        let mut w = World::new(EngineConfig::default());
        let q = w.create("a", QueuePolicy::default());
        for _ in 0..9_000 {
            w.publish(message(&[q]));
        }
        w.settle_down();
        let mut leased = Vec::new();
        let mut pos = 0;
        for at in [5, 4_000, 4_100, 8_190, 8_200] {
            // What lies between is acked.
            let all = w.receive_all(2, q, (at - pos + 1) as usize);
            pos = at + 1;
            let (last, between) = all.split_last().unwrap();
            let items = between.iter().map(|d| item(d, Verb::Ack)).collect();
            assert_eq!(w.ask(2, QueueOp::Settle(items)), QueueReply::Settled { errors: vec![] });
            leased.push(*last);
        }
        w.sync();
        // Rows are flushed in part before, in part after the purge; all that came before is replayed over them.
        w.store.offer(&mut w.engine, 2);
        w.store.commit(w.durable, 9);
        let n = if keep_leased { 9_000 - 8_201 } else { 9_000 - 8_201 + 5 };
        assert_eq!(w.ask(1, QueueOp::Purge { queue: q, keep_leased }), QueueReply::Purged(Some(n)));
        let counts = if keep_leased { [0, 5, 0, 0, 0] } else { [0; 5] };
        assert_eq!(w.counts(q), counts);
        w.settle_down();
        w.store.offer(&mut w.engine, 1);
        w.store.commit(w.durable, 9);
        w.crash(1);
        w.settle_down();
        assert_eq!(w.counts(q), counts);
        // What comes after the purge is not touched by it.
        w.publish(message(&[q]));
        w.settle_down();
        assert_eq!(w.receive(3, pull(q, 9)).iter().map(|d| d.pos).collect::<Vec<_>>(), [9_000]);
        for (i, d) in leased.iter().enumerate() {
            let verb = if i == 2 { Verb::Release { failed: true, delay_ms: None } } else { Verb::Ack };
            let expected = if keep_leased { Ok(()) } else { Err(SettleError::Unknown) };
            assert_eq!(w.settle(d, verb), expected);
        }
        // A lease that was kept goes back to its place.
        let again = w.receive(3, pull(q, 9));
        let expected = if keep_leased { vec![4_100] } else { vec![] };
        assert_eq!(again.iter().map(|d| d.pos).collect::<Vec<_>>(), expected);
        w.sync();
        let all = w.store.clone().all(reopened(&w, &w.store, 1), w.durable);
        assert_eq!(all, FakeStore::new().all(reopened(&w, &FakeStore::new(), 1), w.durable));
    }
}

fn reopened(w: &World, store: &FakeStore, floor: u64) -> Engine {
    crate::support::open(w.cfg, store, &w.log, floor, w.epoch + 1, w.now)
}

#[test]
fn nastiest_9_a_queue_made_again_under_the_same_name_inherits_nothing() {
    let mut w = World::new(small_windows());
    let q = w.create("a", QueuePolicy { attempts_max: Some(9), ..QueuePolicy::default() });
    w.subscribe(2, 1, q, ConsumerOpts { prefetch: 1, ..PUSH });
    w.fill(q, 5);
    let old = w.deliveries.remove(0);
    let later = Some(w.now.wall_ms + 500);
    w.publish(Publish { to: vec![Target { queue: q, due_ms: later, key_hash: None }], ..message(&[]) });
    let waits = w.submit(3, QueueOp::Receive(Receive { wait_ms: 9_000, ..pull(q, 1) }));
    w.flush();
    let delete = QueueChange::Delete { id: q, if_unused: false, if_empty: false, if_idle: false };
    let reply = w.ask(1, QueueOp::Change(vec![delete.clone(), create("a", QueuePolicy::default())]));
    let QueueReply::Changed(Ok(defs)) = reply else { panic!("{reply:?}") };
    let new = defs[1].id;
    assert_ne!(q, new);
    w.answers.retain(|a| a.ticket != waits);
    // Drafts for the old one come too late.
    assert_eq!(w.publish(message(&[q])).refused, [(q, Refusal::Gone)]);
    assert_eq!(w.settle(&old, Verb::Ack), Err(SettleError::Unknown));
    assert_eq!(w.ask(1, QueueOp::Change(vec![delete])), QueueReply::Changed(Err(QueueError::NotFound)));
    w.later(1_000);
    w.settle_down();
    assert_eq!((w.got(), w.counts(new)), (vec![], [0; 5]));
    w.fill(new, 1);
    w.sync();
    for floor in [1, w.store.floor] {
        w.crash(floor);
        w.settle_down();
        assert_eq!(w.counts(new), [1, 0, 0, 0, 0]);
        assert!(w.engine.queues().by_id(q).is_none());
    }
    w.flush();
    let of_old = |k: &&Vec<u8>| matches!(k[0], 0x30..=0x32) && k[1..9] == q.0.to_be_bytes();
    assert_eq!(w.store.keys().filter(of_old).count(), 0, "rows of the old queue");
}

#[test]
fn nastiest_10_the_clock_is_set_across_a_restart() {
    const DAY_MS: u64 = 86_400_000;
    for (ahead, leased, scheduled) in [(true, 0, 0), (false, 1, 1)] {
        let mut w = World::new(small_windows());
        w.now.wall_ms = 10 * DAY_MS;
        let q = w.create("a", QueuePolicy::default());
        w.fill(q, 1);
        w.receive(2, pull(q, 1));
        let due_ms = Some(w.now.wall_ms + 1_000);
        w.publish(Publish { to: vec![Target { queue: q, due_ms, key_hash: None }], ..message(&[]) });
        w.sync();
        w.now.wall_ms = if ahead { 11 * DAY_MS } else { 9 * DAY_MS };
        w.crash(1);
        w.settle_down();
        let counts = w.counts(q);
        assert_eq!((counts[1], counts[2]), (leased, scheduled));
        // A lease never lasts longer than the longest there is, however far the clock was set back.
        w.later(LEASE_MS_MAX);
        w.tick();
        assert_eq!(w.counts(q)[1], 0);
    }
}

#[test]
fn nastiest_11_of_fifty_consumers_with_a_prefetch_of_one_nearly_all_die() {
    let mut w = World::new(small_windows());
    let q = w.create("a", QueuePolicy::default());
    for session in 1..=50 {
        w.subscribe(session, 1, q, ConsumerOpts { prefetch: 1, ..PUSH });
    }
    w.fill(q, 200);
    let all = std::mem::take(&mut w.deliveries);
    assert_eq!(all.len(), 50);
    for session in 1..50 {
        w.gone(session);
    }
    w.settle_down();
    assert_eq!(w.got(), []);
    assert_eq!(w.counts(q), [199, 1, 0, 0, 0]);
    let mut order = Vec::new();
    let mut d = all[49];
    assert_eq!(d.session, ConnId(50));
    for _ in 0..199 {
        w.settle(&d, Verb::Ack).unwrap();
        w.tick();
        d = w.deliveries.remove(0);
        assert_eq!((d.session, w.deliveries.len()), (ConnId(50), 0));
        order.push(d.pos);
    }
    // What the dead had comes first, in its old order, then the rest.
    let expected: Vec<u64> = (0..200).filter(|p| *p != 49).collect();
    assert_eq!(order, expected);
}

#[test]
fn what_cannot_be_understood_is_an_error_when_the_log_is_opened() {
    let w = World::new(small_windows());
    let mut e = Engine::new(w.cfg);
    e.begin(FakeStore::new().reader(), millstream_types::Epoch(1));
    e.effect(Lsn(1), &[0x31, 1, 2], &[1]);
    e.record_end(Lsn(1));
    assert!(e.serve(w.now).is_err());
}

#[test]
fn what_a_redrive_took_is_back_after_a_restart_with_nothing_counted() {
    let mut w = World::new(small_windows());
    let q = w.create("q", QueuePolicy { attempts_max: Some(1), ..QueuePolicy::default() });
    w.fill(q, 3);
    let QueueReply::Held(Some(held)) = w.ask(1, QueueOp::Hold { queue: q, max: 2 }) else { panic!() };
    w.settle_down();
    assert_eq!((held.len(), w.counts(q)), (2, [1, 0, 0, 2, 0]));
    w.crash(1);
    w.settle_down();
    assert_eq!(w.counts(q), [3, 0, 0, 0, 0]);
    assert!(w.moves.is_empty(), "nobody is told to bring them anywhere");
    let MoveWork { queue, lane, pos, delivery_no, .. } = held[0];
    let late = MoveItem { queue, lane, pos, delivery_no, then: MoveThen::Drop(Cause::Redrive) };
    assert_eq!(w.ask(1, QueueOp::Move(vec![late])), QueueReply::Moved(vec![Err(MoveError::NotHeld)]));
    let late = SettleItem { queue, lane, pos, len: 1, delivery_no, verb: Verb::AckLate };
    let stale = QueueReply::Settled { errors: vec![(0, SettleError::Stale)] };
    assert_eq!(w.ask(1, QueueOp::Settle(vec![late])), stale);
    let got = w.receive_all(1, q, 3);
    assert!(got.iter().all(|d| (d.deliveries, d.attempts, d.redelivered) == (1, 0, false)));
}
