//! Transient queues: what happens to them is in no record, waits for no sync, and is gone with the process.

use millstream_engine::op::{Op, Reply, Tolerance, Transact};
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_types::{Lsn, ObjectId};

use crate::behaviour::{policy, world};
use crate::world::*;

fn transient(w: &mut World, name: &str, p: QueuePolicy) -> ObjectId {
    match w.ask(1, QueueOp::Change(vec![create_transient(name, p)])) {
        QueueReply::Changed(Ok(defs)) => defs[0].id,
        other => panic!("{other:?}"),
    }
}

/// The LSN that the answer to an operation waits for.
fn wait_of(w: &mut World, session: u64, op: QueueOp) -> Lsn {
    let ticket = w.submit(session, op);
    let at = w.answers.iter().position(|a| a.ticket == ticket).unwrap();
    w.answers.remove(at).wait
}

#[test]
fn a_transient_queue_works_without_a_record_and_without_a_sync() {
    let mut w = world();
    let q = transient(&mut w, "t", policy(|p| p.attempts_max = Some(5)));
    w.subscribe(2, 1, q, PUSH);
    assert_eq!(wait_of(&mut w, 1, QueueOp::Publish(vec![message(&[q]), message(&[q])])), Lsn(0));
    w.tick();
    let got = std::mem::take(&mut w.deliveries);
    assert_eq!(got.iter().map(|d| (d.pos, d.wait)).collect::<Vec<_>>(), [(0, Lsn(0)), (1, Lsn(0))]);
    w.settle(&got[0], Verb::Ack).unwrap();
    w.settle(&got[1], Verb::Release { failed: true, delay_ms: None }).unwrap();
    w.tick();
    assert_eq!(w.got(), [(2, 1, true)]);
    assert_eq!((w.counts(q), w.log.records.len()), ([0, 1, 0, 0, 0], 0));
}

#[test]
fn a_message_for_a_transient_and_another_queue_is_in_one_record_of_the_other() {
    let mut w = world();
    let (kept, t) =
        (w.create("kept", QueuePolicy::default()), transient(&mut w, "t", QueuePolicy::default()));
    w.settle_down();
    w.subscribe(2, 1, kept, PUSH);
    w.subscribe(2, 2, t, PUSH);
    let records = w.log.records.len();
    let wait = wait_of(&mut w, 1, QueueOp::Publish(vec![message(&[kept, t])]));
    assert_eq!((w.log.records.len(), wait), (records + 1, w.log.last()));
    w.tick();
    let first: Vec<ObjectId> = w.deliveries.drain(..).map(|d| d.queue).collect();
    assert_eq!(first, [t], "the other one is not durable yet");
    w.settle_down();
    assert_eq!(w.deliveries.drain(..).map(|d| d.queue).collect::<Vec<_>>(), [kept]);
}

#[test]
fn the_answer_to_a_transient_publish_says_that_what_its_session_settled_before_is_durable() {
    let mut w = world();
    let (kept, t) =
        (w.create("kept", QueuePolicy::default()), transient(&mut w, "t", QueuePolicy::default()));
    w.fill(kept, 2);
    let got = w.receive(1, pull(kept, 1));
    w.sync();
    let publish = || QueueOp::Publish(vec![message(&[t])]);
    assert_eq!(wait_of(&mut w, 1, publish()), Lsn(0));
    w.settle(&got[0], Verb::Ack).unwrap();
    let settled = w.log.last();
    assert_eq!((wait_of(&mut w, 1, publish()), wait_of(&mut w, 7, publish())), (settled, Lsn(0)));
}

#[test]
fn a_dead_letter_of_a_transient_queue_is_recorded_where_it_goes_to() {
    let mut w = world();
    let dead = w.create("dead", QueuePolicy::default());
    let q = transient(&mut w, "t", policy(|p| p.dead_letter = true));
    w.publish(message(&[q]));
    let d = w.receive(2, pull(q, 1))[0];
    w.settle(&d, Verb::Reject).unwrap();
    w.tick();
    let MoveWork { queue, lane, pos, delivery_no, wait, .. } = w.moves.remove(0);
    assert_eq!(wait, Lsn(0), "the mover need not wait");
    let then = MoveThen::Publish { publish: message(&[dead]), at_most_once: false };
    let item = MoveItem { queue, lane, pos, delivery_no, then };
    assert_eq!(w.ask(1, QueueOp::Move(vec![item])), QueueReply::Moved(vec![Ok(())]));
    assert_eq!(w.counts(q), [0, 0, 0, 0, 0]);
    w.sync();
    w.crash(1);
    w.settle_down();
    assert_eq!(w.counts(dead), [1, 0, 0, 0, 0]);
}

#[test]
fn a_transaction_settles_in_one_kind_of_queue_and_publishes_to_the_other() {
    let mut w = world();
    let (kept, t) =
        (w.create("kept", QueuePolicy::default()), transient(&mut w, "t", QueuePolicy::default()));
    w.publish(message(&[t]));
    w.fill(kept, 1);
    for (from, to) in [(t, kept), (kept, t)] {
        let d = w.receive(1, pull(from, 1))[0];
        let tx = Transact {
            publishes: vec![message(&[to])],
            settles: vec![item(&d, Verb::Ack)],
            tolerance: Tolerance::Nothing,
            ..Transact::default()
        };
        let reply = w.ask_any(1, Op::Transact(Box::new(tx)));
        assert!(matches!(reply, Reply::Transact(Ok(_))));
        w.settle_down();
    }
    assert_eq!((w.counts(t), w.counts(kept)), ([1, 0, 0, 0, 0], [1, 0, 0, 0, 0]));
    w.crash(1);
    w.settle_down();
    assert_eq!(w.counts(kept), [1, 0, 0, 0, 0]);
}

#[test]
fn a_name_goes_from_one_kind_of_queue_to_the_other_and_back() {
    let mut w = world();
    let first = w.create("q", QueuePolicy::default());
    w.flush();
    let delete = |id| QueueChange::Delete { id, if_unused: false, if_empty: false, if_idle: false };
    // In one operation, and one by one.
    let both = vec![delete(first), create_transient("q", QueuePolicy::default())];
    let QueueReply::Changed(Ok(defs)) = w.ask(1, QueueOp::Change(both)) else { panic!() };
    let second = defs[1].id;
    assert!(second.is_transient());
    w.flush();
    assert!(matches!(w.ask(1, QueueOp::Change(vec![delete(second)])), QueueReply::Changed(Ok(_))));
    let third = w.create("q", QueuePolicy::default());
    w.fill(third, 1);
    let delete = QueueOp::Change(vec![delete(third)]);
    w.flush();
    w.later(1);
    w.crash(w.store.floor);
    w.settle_down();
    assert_eq!(w.counts(third), [1, 0, 0, 0, 0]);
    assert!(matches!(w.ask(1, delete), QueueReply::Changed(Ok(_))));
    let last = transient(&mut w, "q", QueuePolicy::default());
    assert_ne!(last, second);
    w.flush();
    w.restart_cleanly();
    assert_eq!(w.engine.queues().len(), 0);
}
