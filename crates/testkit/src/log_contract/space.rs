//! Giving room back: trims, retires, deletions.

use millstream_log::{Level, Op, ReadError};

use super::kit::{A, ALL, B, Log, body, finish, one, open};
use crate::block_on::block_on;
use crate::under::LogUnderTest;

fn trim(log: &mut Log<'_>, before: u64) {
    log.commit(&[Op::Trim { log: A, before }]);
}

/// See the name.
pub fn what_is_trimmed_is_refused_with_the_start(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..10);
    log.append(B, 0..3);
    trim(&mut log, 4);
    let refused = |log: &Log<'_>, from| log.read(A, from, ALL, Level::Durable).unwrap_err();
    for from in 0..4 {
        assert_eq!(refused(&log, from), ReadError::Trimmed { start: 4 });
    }
    assert_eq!(log.positions(A), [4, 5, 6, 7, 8, 9]);
    assert_eq!(log.positions(B), [0, 1, 2]);
    let bounds = log.opened.reader.bounds(A);
    assert_eq!((bounds.start, bounds.next), (4, 10));
    let found = block_on(log.opened.reader.by_time(A, 0, 0, Level::Durable)).unwrap();
    assert_eq!(found.map(|h| h.pos), Some(4), "a search by time begins at the start");
    let got = finish(log.opened.reader.get(A, &[2, 5])).unwrap();
    assert_eq!(super::kit::positions(&got.entries), [5], "what is gone does not exist");
    // A lower trim changes nothing; all may go, and the log goes on.
    trim(&mut log, 2);
    assert_eq!(refused(&log, 3), ReadError::Trimmed { start: 4 });
    trim(&mut log, 10);
    assert_eq!(refused(&log, 9), ReadError::Trimmed { start: 10 });
    assert!(log.positions(A).is_empty());
    log.append(A, 10..12);
    assert_eq!(log.positions(A), [10, 11]);
}

/// See the name.
pub fn a_batch_that_straddles_the_start_stays(under: &dyn LogUnderTest) {
    let mut log = open(under);
    for pos in [0, 10, 20] {
        log.commit(&[Op::Append { log: A, pos, count: 10, max_ts_ms: 0, attrs: b"", body: &body(A, pos) }]);
    }
    trim(&mut log, 15);
    assert_eq!(log.read(A, 14, ALL, Level::Durable).unwrap_err(), ReadError::Trimmed { start: 15 });
    let read = log.read(A, 15, ALL, Level::Durable).unwrap();
    assert_eq!(super::kit::positions(&read.entries), [10, 20]);
    assert_eq!(log.opened.reader.bounds(A).start, 15);
    let get = |at: &[u64]| super::kit::positions(&finish(log.opened.reader.get(A, at)).unwrap().entries);
    assert_eq!(get(&[12, 16, 25]), [10, 20]);
    assert!(get(&[0, 12]).is_empty(), "positions below the start do not exist");
}

/// See the name.
pub fn a_deleted_log_gives_nothing(under: &dyn LogUnderTest) {
    let check = |log: &Log<'_>| {
        match log.read(A, 0, ALL, Level::Durable) {
            Ok(read) => assert!(read.entries.is_empty()),
            Err(e) => assert!(matches!(e, ReadError::Trimmed { .. }), "{e}"),
        }
        assert!(finish(log.opened.reader.get(A, &[0, 1])).map_or(true, |b| b.entries.is_empty()));
        assert_eq!(log.positions(B), [0, 1]);
    };
    let mut log = open(under);
    log.append(A, 0..5);
    log.append(B, 0..2);
    log.commit(&[Op::Delete { log: A }]);
    check(&log);
    check(&log.reopen());
}

/// See the name.
pub fn retiring_twice_is_harmless_and_spares_the_others(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..10);
    log.commit(&[Op::Retire { log: A, runs: &[(0, 2), (5, 1)] }]);
    log.commit(&[Op::Retire { log: A, runs: &[(1, 1), (5, 2)] }, one(A, 10, &body(A, 10))]);
    let check = |log: &Log<'_>| {
        let there = log.positions(A);
        assert!([2, 3, 4, 7, 8, 9, 10].iter().all(|pos| there.contains(pos)), "{there:?}");
    };
    check(&log);
    check(&log.reopen());
}

/// See the name.
pub fn a_trim_shows_only_when_it_is_durable(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..4);
    let Some(hold) = under.hold() else { return };
    log.turn(&[Op::Trim { log: A, before: 2 }]);
    let lsn = log.turn(&[Op::Delete { log: A }]);
    assert_eq!(log.positions(A), [0, 1, 2, 3]);
    drop(hold);
    log.durable(lsn);
    assert!(log.read(A, 0, ALL, Level::Durable).map_or(true, |b| b.entries.is_empty()));
}
