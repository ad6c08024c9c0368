//! Rows of engine state: seen at once, kept only when durable, and the floor that follows from them.

use millstream_log::{Level, Op, ReadError, Row};
use millstream_types::Lsn;

use super::kit::{A, ALL, Log, body, one, open};
use crate::block_on::until;
use crate::seen::Event;
use crate::under::LogUnderTest;

fn effect(log: &mut Log<'_>, object: &str, what: &str) -> Lsn {
    log.commit(&[Op::Effect { object: object.as_bytes(), bytes: what.as_bytes() }])
}

fn row(lsn: Lsn, value: &str) -> (Lsn, String) {
    (lsn, value.to_owned())
}

/// See the name.
pub fn rows_offered_are_seen_at_once(under: &dyn LogUnderTest) {
    let mut log = open(under);
    assert_eq!(log.row("k"), None);
    let hold = under.hold();
    let lsn = log.turn(&[Op::Effect { object: b"k", bytes: b"e" }]);
    let id = log.offer(&[("k", lsn, Some("v"))], lsn, None);
    assert_eq!(log.row("k"), Some(row(lsn, "v")));
    assert_eq!(log.opened.rows.scan(b"", b"", 10).unwrap().len(), 1);
    if hold.is_some() {
        assert!(log.opened.sink.flushed() < id, "rows of a record that is not durable are not kept");
    }
    drop(hold);
    log.durable(lsn);
    log.flushed(id);
    assert_eq!(log.row("k"), Some(row(lsn, "v")));
}

/// See the name.
pub fn a_scan_is_ascending_and_keeps_its_limits(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let lsn = effect(&mut log, "x", "e");
    let keys = ["a", "b", "b\u{1}", "b/1", "b/2", "c", "b\u{7f}"];
    // Half in the store, half on the way to it.
    let rows: Vec<_> = keys.iter().map(|k| (*k, lsn, Some(*k))).collect();
    let id = log.offer(&rows[..4], lsn, Some(lsn));
    log.flushed(id);
    log.offer(&rows[4..], lsn, None);
    let check = |log: &Log<'_>| {
        let scan = |prefix: &str, from: &str, max| -> Vec<String> {
            let rows = log.opened.rows.scan(prefix.as_bytes(), from.as_bytes(), max).unwrap();
            let text = |r: Row| {
                assert_eq!((r.row_lsn, r.value.as_ref()), (lsn, Some(&r.key)));
                String::from_utf8(r.key).unwrap()
            };
            rows.into_iter().map(text).collect()
        };
        assert_eq!(scan("", "", 100), ["a", "b", "b\u{1}", "b/1", "b/2", "b\u{7f}", "c"]);
        assert_eq!(scan("b", "", 100), ["b", "b\u{1}", "b/1", "b/2", "b\u{7f}"]);
        assert_eq!(scan("b", "b/1", 100), ["b/1", "b/2", "b\u{7f}"]);
        assert_eq!(scan("b", "b/1", 2), ["b/1", "b/2"]);
        assert_eq!(scan("b", "b/1\0", 1), ["b/2"]);
        assert!(scan("b", "c", 10).is_empty() && scan("d", "", 10).is_empty() && scan("", "", 0).is_empty());
    };
    check(&log);
    check(&log.reopen());
}

/// See the name.
pub fn the_later_slice_wins_and_a_removal_removes(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let first = effect(&mut log, "k", "1");
    log.offer(
        &[("k", first, Some("1")), ("gone", first, Some("1")), ("stays", first, Some("1"))],
        first,
        None,
    );
    let second = effect(&mut log, "k", "2");
    let id = log.offer(&[("k", second, Some("2")), ("gone", second, None)], second, None);
    let check = |log: &Log<'_>| {
        assert_eq!(log.row("k"), Some(row(second, "2")));
        assert_eq!(log.row("gone"), None);
        assert_eq!(log.row("stays"), Some(row(first, "1")));
        assert_eq!(log.opened.rows.scan(b"", b"", 10).unwrap().len(), 2);
    };
    check(&log);
    log.flushed(id);
    check(&log);
    check(&log.reopen());
}

/// See the name.
pub fn after_a_clean_stop_nothing_is_replayed(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..20);
    let lsn = effect(&mut log, "k", "1");
    log.offer(&[("k", lsn, Some("1"))], lsn, None);
    let mut log = log.reopen();
    assert_eq!(log.seen.events, []);
    assert_eq!((log.opened.report.replayed_records, log.opened.report.unclean), (0, false));
    assert_eq!(log.row("k"), Some(row(lsn, "1")));
    assert_eq!(log.positions(A), (0..20).collect::<Vec<_>>());
    // An empty slice says as much as one with rows.
    let last = log.append(A, 20..25);
    log.offer(&[], last, None);
    let log = log.reopen();
    assert_eq!(log.seen.events, []);
    assert_eq!(log.opened.marks.get().durable, last);
}

/// See the name.
pub fn rows_outlive_a_power_cut_once_flushed(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let lsn = effect(&mut log, "k", "1");
    let id = log.offer(&[("k", lsn, Some("1"))], lsn, None);
    log.flushed(id);
    let later = effect(&mut log, "k", "2");
    let Ok(log) = log.crash() else { return };
    assert_eq!(log.row("k"), Some(row(lsn, "1")));
    let replayed = log.seen.ends();
    assert!(
        replayed == [later] || replayed == [lsn, later],
        "{replayed:?}: the floor may be late, never early"
    );
    let Ok(log) = log.crash() else { return };
    assert_eq!(log.row("k"), Some(row(lsn, "1")));
    assert!(log.seen.ends().ends_with(&[later]));
}

/// See the name.
pub fn rows_above_durable_do_not_outlive_a_power_cut(under: &dyn LogUnderTest) {
    for round in 0..5 {
        let mut log = open(under);
        let sure = effect(&mut log, "k", "sure");
        let id = log.offer(&[("k", sure, Some("sure"))], sure, None);
        log.flushed(id);
        let Some(hold) = under.hold() else { return };
        let lsn = log.turn(&[Op::Effect { object: b"k", bytes: b"maybe" }]);
        let id = log.offer(&[("k", lsn, Some("maybe")), ("new", lsn, Some("maybe"))], lsn, None);
        assert_eq!(log.row("k"), Some(row(lsn, "maybe")), "round {round}");
        assert!(log.opened.sink.flushed() < id);
        if !under.crash() {
            return;
        }
        drop(hold);
        drop(log);
        let log = open(under);
        assert_eq!(log.row("k"), Some(row(sure, "sure")), "round {round}: the state is ahead of the log");
        assert_eq!(log.row("new"), None);
    }
}

/// See the name.
pub fn the_floor_stays_at_the_oldest_dirty_record(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let first = effect(&mut log, "a", "1");
    let second = effect(&mut log, "b", "1");
    let third = effect(&mut log, "a", "2");
    log.append(A, 0..3);
    let applied = effect(&mut log, "c", "1");
    // `a` and `c` are given, `b` is still dirty.
    let id = log.offer(&[("a", third, Some("2")), ("c", applied, Some("1"))], applied, Some(second));
    log.flushed(id);
    let check = |log: &Log<'_>| {
        let ends = log.seen.ends();
        assert!(ends.first().is_some_and(|l| *l >= first && *l <= second), "{ends:?}");
        assert_eq!(ends.last(), Some(&applied));
        assert!(ends.windows(2).all(|w| w[1] == w[0].next()), "{ends:?}");
        let b = Event::Effect(second, b"b".to_vec(), b"1".to_vec());
        assert!(log.seen.events.contains(&b), "an effect that is in no row is replayed");
        assert_eq!(log.row("a"), Some(row(third, "2")));
    };
    let log = log.crash_or_reopen();
    check(&log);
    let log = log.reopen();
    check(&log);
    log.offer(&[("b", second, Some("1"))], applied, None);
    assert_eq!(log.reopen().seen.events, []);
}

/// See the name.
pub fn trims_below_the_floor_hold(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..10);
    let lsn = log.commit(&[Op::Trim { log: A, before: 7 }, one(A, 10, &body(A, 10))]);
    log.offer(&[], lsn, None);
    let mut log = log.reopen();
    assert_eq!(log.seen.events, []);
    let check = |log: &Log<'_>| {
        assert_eq!(log.read(A, 6, ALL, Level::Durable).unwrap_err(), ReadError::Trimmed { start: 7 });
        assert_eq!(log.positions(A), [7, 8, 9, 10]);
        let bounds = log.opened.reader.bounds(A);
        assert_eq!((bounds.start, bounds.next), (7, 11));
    };
    check(&log);
    // Everything goes, and the end is remembered by nobody but the start.
    let lsn = log.commit(&[Op::Trim { log: A, before: 11 }]);
    log.offer(&[], lsn, None);
    let log = log.reopen();
    assert_eq!(log.read(A, 10, ALL, Level::Durable).unwrap_err(), ReadError::Trimmed { start: 11 });
    let log = log.crash_or_reopen();
    assert!(log.positions(A).is_empty());
    assert_eq!(log.opened.reader.bounds(A).start, 11);
}

/// See the name.
pub fn rows_are_wanted_in_time(under: &dyn LogUnderTest) {
    let mut cfg = under.config();
    cfg.replay_records = 50;
    let mut seen = crate::seen::Seen::default();
    let mut opened = under.store().open(&cfg, &mut seen).unwrap();
    let mut last = Lsn(0);
    for pos in 0..60 {
        let permit = opened.gate.try_admit(millstream_log::Class::Publish, 1_000).unwrap();
        last = opened.sequencer.sequence(permit, &[one(A, pos, &body(A, pos))], None);
        opened.sequencer.end_turn();
        under.commit();
    }
    until("rows are wanted", || opened.sink.wanted().is_some());
    let batch = millstream_log::RowBatch { rows: Vec::new(), oldest_dirty: None, applied: last };
    let id = opened.sink.offer(batch);
    until("the empty slice is done", || opened.sink.flushed() >= id);
    until("nothing is wanted any more", || opened.sink.wanted().is_none());
}
