//! Ids: a message that comes again within its queue's window is not appended again.

use millstream_engine::op::{Op, Reply, Tolerance, Transact, TransactError};
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::{Overflow, QueuePolicy};
use millstream_types::ObjectId;

use crate::world::*;

const WINDOW_MS: u64 = 300_000;

fn watching() -> QueuePolicy {
    QueuePolicy { id_window_ms: Some(WINDOW_MS), ..QueuePolicy::default() }
}

fn with_id(to: &[ObjectId], id: u128) -> Publish {
    Publish { dedup: Some(id), ..message(to) }
}

fn new(queue: ObjectId, pos: u64) -> Published {
    Published { accepted: 1, home: Some((log_of(queue, 0), pos)), ..Published::default() }
}

fn again(queue: ObjectId, pos: u64) -> Published {
    Published { duplicate: true, ..new(queue, pos) }
}

#[test]
fn a_duplicate_gets_the_home_of_its_original_and_is_not_appended() {
    let mut w = World::new(small_windows());
    let (q, other) = (w.create("q", watching()), w.create("other", QueuePolicy::default()));
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 0));
    assert_eq!(w.publish(with_id(&[q], 2)), new(q, 1));
    let records = w.log.records.len();
    assert_eq!(w.publish(with_id(&[q], 1)), again(q, 0));
    assert_eq!(w.log.records.len(), records);
    // Each queue looks for itself, and one without a window does not look.
    let both = w.publish(with_id(&[other, q], 2));
    assert_eq!((both.accepted, both.duplicate, both.home), (2, true, Some((log_of(other, 0), 0))));
    assert_eq!(w.publish(with_id(&[other], 2)), new(other, 1));
    // Two of one id in one record: the second one is the duplicate.
    let reply = w.ask(1, QueueOp::Publish(vec![with_id(&[q], 3), with_id(&[q], 3)]));
    assert_eq!(reply, QueueReply::Published(vec![new(q, 2), again(q, 2)]));
    w.settle_down();
    assert_eq!((w.counts(q), w.counts(other)), ([3, 0, 0, 0, 0], [2, 0, 0, 0, 0]));
}

#[test]
fn an_id_is_known_until_its_window_is_over_and_over_restarts() {
    let mut w = World::new(small_windows());
    let q = w.create("q", watching());
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 0));
    w.settle_down();
    w.later(WINDOW_MS / 2);
    w.crash(1);
    assert_eq!(w.publish(with_id(&[q], 1)), again(q, 0));
    w.restart_cleanly();
    w.later(WINDOW_MS / 2 - 1);
    w.settle_down();
    assert_eq!(w.publish(with_id(&[q], 1)), again(q, 0));
    w.later(1);
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 1));
    assert_eq!(w.publish(with_id(&[q], 1)), again(q, 1));
    // Its row goes a minute later at the latest, and no other row with it.
    w.later(59_999);
    w.settle_down();
    assert_eq!(w.publish(with_id(&[q], 1)), again(q, 1));
    w.later(WINDOW_MS + 60_000);
    w.settle_down();
    w.flush();
    assert_eq!(w.store.keys().filter(|k| k[0] == 0x33).count(), 0);
}

#[test]
fn an_id_outlives_its_message() {
    let mut w = World::new(small_windows());
    let q = w.create("q", QueuePolicy { attempts_max: Some(1), dead_letter: true, ..watching() });
    for id in 0..4 {
        assert_eq!(w.publish(with_id(&[q], id)), new(q, id as u64));
    }
    w.settle_down();
    let got = w.receive(1, pull(q, 2));
    w.settle(&got[0], Verb::Ack).unwrap();
    w.settle(&got[1], Verb::Reject).unwrap();
    assert_eq!(w.ask(1, QueueOp::Purge { queue: q, keep_leased: false }), QueueReply::Purged(Some(2)));
    for id in 0..4 {
        assert_eq!(w.publish(with_id(&[q], id)), again(q, id as u64));
    }
    w.settle_down();
    w.crash(1);
    for id in 0..4 {
        assert_eq!(w.publish(with_id(&[q], id)), again(q, id as u64));
    }
}

#[test]
fn what_a_queue_refuses_may_come_again_and_a_duplicate_of_what_it_took_is_never_too_much() {
    let mut w = World::new(small_windows());
    let policy = QueuePolicy { messages_max: Some(1), overflow: Overflow::Reject, ..watching() };
    let q = w.create("q", policy);
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 0));
    assert_eq!(w.publish(with_id(&[q], 2)).refused, [(q, Refusal::Full)]);
    assert_eq!(w.publish(with_id(&[q], 1)), again(q, 0));
    w.settle_down();
    let got = w.receive(1, pull(q, 1));
    assert_eq!(w.publish(with_id(&[q], 2)), new(q, 1));
    w.settle(&got[0], Verb::Ack).unwrap();
}

#[test]
fn at_the_bound_an_id_is_refused_and_never_taken_unseen() {
    let mut w = World::new(millstream_engine::EngineConfig { ids_max: 3, ..small_windows() });
    let q = w.create("q", watching());
    for id in 0..3 {
        assert_eq!(w.publish(with_id(&[q], id)), new(q, id as u64));
    }
    assert_eq!(w.publish(with_id(&[q], 3)).refused, [(q, Refusal::DedupFull)]);
    assert_eq!(w.publish(with_id(&[q], 2)), again(q, 2));
    assert_eq!(w.publish(message(&[q])), new(q, 3));
    w.settle_down();
    w.crash(1);
    assert_eq!(w.publish(with_id(&[q], 3)).refused, [(q, Refusal::DedupFull)]);
    let tx = Transact { publishes: vec![with_id(&[q], 3)], ..Transact::default() };
    let Reply::Transact(refused) = w.ask_any(1, Op::Transact(Box::new(tx))) else { panic!() };
    assert_eq!(refused, Err(TransactError::Publish { index: 0, queue: q, why: Refusal::DedupFull }));
    w.later(WINDOW_MS + 60_000);
    w.settle_down();
    assert_eq!(w.publish(with_id(&[q], 3)), new(q, 4));
}

#[test]
fn a_transaction_takes_a_duplicate_as_done() {
    let mut w = World::new(small_windows());
    let policy = QueuePolicy { messages_max: Some(1), overflow: Overflow::Reject, ..watching() };
    let q = w.create("q", policy);
    // Of two with one id the second one needs no room.
    let publishes = vec![with_id(&[q], 1), with_id(&[q], 1)];
    let tx = Transact { publishes, tolerance: Tolerance::Nothing, ..Transact::default() };
    let Reply::Transact(Ok(done)) = w.ask_any(1, Op::Transact(Box::new(tx))) else { panic!() };
    assert_eq!(done.published, [new(q, 0), again(q, 0)]);
    let tx = Transact { publishes: vec![with_id(&[q], 1)], ..Transact::default() };
    let Reply::Transact(Ok(done)) = w.ask_any(1, Op::Transact(Box::new(tx))) else { panic!() };
    assert_eq!(done.published, [again(q, 0)]);
}

#[test]
fn a_queue_made_again_under_a_name_knows_no_ids() {
    let mut w = World::new(small_windows());
    let q = w.create("q", watching());
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 0));
    let change = QueueChange::Delete { id: q, if_unused: false, if_empty: false, if_idle: false };
    assert!(matches!(w.ask(1, QueueOp::Change(vec![change])), QueueReply::Changed(Ok(_))));
    let q = w.create("q", watching());
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 0));
    w.settle_down();
    w.flush();
    assert_eq!(w.store.keys().filter(|k| k[0] == 0x33).count(), 1);
}

#[test]
fn many_ids_of_a_minute_are_in_rows_of_some_hundreds() {
    let mut w = World::new(small_windows());
    let q = w.create("q", watching());
    for part in 0..3_u128 {
        let batch: Vec<Publish> = (0..600).map(|i| with_id(&[q], part * 600 + i)).collect();
        w.ask(1, QueueOp::Publish(batch));
    }
    w.sync();
    w.flush();
    assert_eq!(w.store.keys().filter(|k| k[0] == 0x33).count(), 4);
    w.crash(1);
    for id in [0, 511, 512, 600, 1_799] {
        assert_eq!(w.publish(with_id(&[q], id)), again(q, id as u64));
    }
    // What comes after an opening begins a row of its own.
    assert_eq!(w.publish(with_id(&[q], 9_999)), new(q, 1_800));
    w.sync();
    w.crash(1);
    assert_eq!(w.publish(with_id(&[q], 9_999)), again(q, 1_800));
}

/// Nastiest test 6.
#[test]
fn a_duplicate_of_what_is_not_durable_yet_waits_for_it_and_comes_in_when_both_are_lost() {
    let mut w = World::new(small_windows());
    let q = w.create("q", watching());
    w.sync();
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 0));
    let original = w.log.last();
    assert!(original > w.durable);
    // The duplicate is answered behind its original, and behind all that was sequenced before it was recognised.
    w.publish(message(&[q]));
    let last = w.log.last();
    let ticket = w.submit(2, QueueOp::Publish(vec![with_id(&[q], 1)]));
    let answer = w.answers.iter().find(|a| a.ticket == ticket).unwrap();
    assert_eq!(answer.wait, last);
    assert!(matches!(&answer.reply, Reply::Queue(QueueReply::Published(all)) if all[0] == again(q, 0)));
    // The epoch is lost, and both with it: nobody was told, and it is taken as new.
    w.crash(1);
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 0));
    w.sync();
    w.crash(1);
    assert_eq!(w.publish(with_id(&[q], 1)), again(q, 0));
}

/// Nastiest test 10, the part of ids.
#[test]
fn a_clock_that_is_set_keeps_ids_for_no_longer_than_their_window() {
    const DAY_MS: u64 = 86_400_000;
    let mut w = World::new(small_windows());
    w.later(2 * DAY_MS);
    let q = w.create("q", watching());
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 0));
    w.settle_down();
    // A day back: the id is known, and for a window from the opening on.
    w.now.wall_ms -= DAY_MS;
    w.crash(1);
    w.settle_down();
    assert_eq!(w.publish(with_id(&[q], 1)), again(q, 0));
    w.later(WINDOW_MS - 1);
    w.settle_down();
    assert_eq!(w.publish(with_id(&[q], 1)), again(q, 0));
    w.later(1);
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 1));
    w.settle_down();
    // A day on: it is over.
    w.now.wall_ms += DAY_MS;
    w.crash(1);
    assert_eq!(w.publish(with_id(&[q], 1)), new(q, 2));
    w.later(WINDOW_MS + 61_000);
    w.settle_down();
    w.flush();
    assert_eq!(w.store.keys().filter(|k| k[0] == 0x33).count(), 0);
}
