//! Watermarks: durable is a prefix, and who waits is told once.

use std::sync::{Arc, Mutex};

use millstream_log::{AdmitError, Class, ReadError};
use millstream_types::{ConnId, Lsn};

use super::kit::{A, body, one, open};
use crate::block_on::{block_on, ready, until};
use crate::under::LogUnderTest;

type Told = Arc<Mutex<Vec<(Option<ConnId>, Lsn)>>>;

fn listen(log: &super::kit::Log<'_>) -> Told {
    let told = Told::default();
    let ear = Arc::clone(&told);
    log.opened.marks.on_durable(Arc::new(move |conn, lsn| ear.lock().unwrap().push((conn, lsn))));
    told
}

/// See the name.
pub fn marks_are_ordered_and_never_go_back(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let mut before = log.opened.marks.get();
    let look = |log: &super::kit::Log<'_>, before: &mut millstream_log::Marks| {
        let m = log.opened.marks.get();
        assert!(m.durable <= m.written && m.written <= m.sequenced, "{m:?}");
        assert!(m.durable >= before.durable && m.written >= before.written, "{before:?} then {m:?}");
        *before = m;
    };
    for pos in 0..200 {
        log.turn(&[one(A, pos, &body(A, pos))]);
        look(&log, &mut before);
        if pos % 50 == 0 {
            under.commit();
        }
    }
    log.durable(Lsn(200));
    look(&log, &mut before);
    assert_eq!(before.durable, Lsn(200));
}

/// See the name.
pub fn reached_resolves_for_what_is_durable_and_what_becomes_so(under: &dyn LogUnderTest) {
    let mut log = open(under);
    assert!(ready(log.opened.marks.reached(Lsn(0))).is_some(), "LSN 0 is always durable");
    let lsn = log.append(A, 0..3);
    assert!(matches!(ready(log.opened.marks.reached(lsn)), Some(Ok(()))));
    // Asked for before it exists.
    let later = log.opened.marks.reached(lsn.next());
    let earlier = log.opened.marks.reached(Lsn(1));
    log.append(A, 3..4);
    block_on(later).unwrap();
    block_on(earlier).unwrap();
}

/// See the name.
pub fn each_waiter_is_told_once_per_write_and_nobody_last(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let told = listen(&log);
    let mut last = Lsn(0);
    for pos in 0..60 {
        let waiter = (pos % 4 != 3).then_some(ConnId(pos % 4));
        last = log.put(Class::Publish, &[one(A, pos, &body(A, pos))], waiter);
        if pos % 10 == 9 {
            log.opened.sequencer.end_turn();
            under.commit();
        }
    }
    log.durable(last);
    // `reached` may resolve just before the callback is called.
    until("the last write is told", || told.lock().unwrap().last() == Some(&(None, last)));
    let told = told.lock().unwrap().clone();
    let mut round: Vec<ConnId> = Vec::new();
    let (mut before, mut at) = (Lsn(0), None);
    for (conn, lsn) in told {
        assert!(*at.get_or_insert(lsn) == lsn, "one round tells one LSN");
        if let Some(conn) = conn {
            assert!(!round.contains(&conn), "{conn:?} was told twice of one write");
            round.push(conn);
            continue;
        }
        assert!(lsn > before, "a write moved nothing");
        let waiting = |c: &u64| (before.0..lsn.0).any(|pos| pos % 4 == *c);
        let mut expected: Vec<ConnId> = (0..3).filter(waiting).map(ConnId).collect();
        round.sort_unstable();
        expected.sort_unstable();
        assert_eq!(round, expected, "write of {}..={}", before.0 + 1, lsn.0);
        (before, at) = (lsn, None);
        round.clear();
    }
}

/// See the name.
pub fn records_of_one_waiter_become_durable_in_order(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let mut waits = Vec::new();
    for pos in 0..30 {
        let lsn = log.turn(&[one(A, pos, &body(A, pos))]);
        waits.push((lsn, log.opened.marks.reached(lsn)));
    }
    under.commit();
    // The last one first: then all before it must be done already.
    while let Some((lsn, wait)) = waits.pop() {
        if lsn == Lsn(30) {
            block_on(wait).unwrap();
        } else {
            assert!(ready(wait).is_some(), "{lsn} is not durable though a later one is");
        }
    }
}

/// See the name.
pub fn nothing_is_told_while_nothing_is_durable(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let durable = log.append(A, 0..2);
    let told = listen(&log);
    let Some(hold) = under.hold() else { return };
    let lsn = log.put(Class::Publish, &[one(A, 2, &body(A, 2))], Some(ConnId(5)));
    log.opened.sequencer.end_turn();
    assert!(ready(log.opened.marks.reached(lsn)).is_none());
    let marks = log.opened.marks.get();
    assert_eq!((marks.sequenced, marks.durable), (lsn, durable));
    assert_eq!(log.positions(A), [0, 1]);
    assert!(told.lock().unwrap().iter().all(|(_, l)| *l <= durable));
    drop(hold);
    log.durable(lsn);
    until("the waiter is told", || told.lock().unwrap().contains(&(Some(ConnId(5)), lsn)));
    assert_eq!(log.positions(A), [0, 1, 2]);
}

/// See the name.
pub fn a_lost_log_tells_everybody(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let durable = log.append(A, 0..2);
    let told = listen(&log);
    assert_eq!(log.opened.marks.lost(), None);
    let waiting = log.opened.marks.reached(durable.next());
    if !under.fail() {
        return;
    }
    let lsn = log
        .opened
        .gate
        .try_admit(Class::Publish, 1_000)
        .map(|permit| log.opened.sequencer.sequence(permit, &[one(A, 2, &body(A, 2))], Some(ConnId(1))));
    log.opened.sequencer.end_turn();
    assert!(block_on(waiting).is_err(), "what will never be durable is lost");
    if let Ok(lsn) = lsn {
        assert!(block_on(log.opened.marks.reached(lsn)).is_err());
    }
    assert!(log.opened.marks.lost().is_some());
    assert_eq!(log.opened.marks.get().durable, durable);
    assert!(matches!(ready(log.opened.marks.reached(durable)), Some(Ok(()))), "what was durable stays so");
    assert_eq!(block_on(log.opened.gate.admit(Class::Settle, 1)).unwrap_err(), AdmitError::Closed);
    until("the loss is told", || told.lock().unwrap().iter().any(|(conn, _)| conn.is_none()));
    assert!(told.lock().unwrap().iter().all(|(conn, lsn)| conn.is_none() || *lsn <= durable));
    // A lost log may still be read, up to what was durable; it need not.
    match log.all(A, 0) {
        Ok(entries) => assert_eq!(super::kit::positions(&entries), [0, 1]),
        Err(e) => assert_eq!(e, ReadError::Closed),
    }
}
