//! Opening again: epochs, replay, what outlives a clean stop and a power cut.

use millstream_log::{Bounds, Class, Level, Op, OpenError, Opened, ReadError};
use millstream_types::{ConnId, Epoch, Lsn};

use super::kit::{A, ALL, B, C, Log, body, finish, one, open, positions, try_open};
use crate::block_on::{block_on, ready};
use crate::seen::{Event, Past};
use crate::under::LogUnderTest;

/// See the name.
pub fn epochs_grow_with_each_opening(under: &dyn LogUnderTest) {
    let mut log = open(under);
    assert_eq!(log.opened.epoch, Epoch(1));
    for _ in 0..5 {
        let before = log.opened.epoch;
        log = log.reopen();
        assert!(log.opened.epoch > before);
        let before = log.opened.epoch;
        log = match log.crash() {
            Ok(log) => log,
            Err(_) => return,
        };
        assert!(log.opened.epoch > before);
    }
}

/// See the name.
pub fn a_second_opening_is_locked_out(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..3);
    match try_open(under) {
        Err(OpenError::Locked { .. }) => {}
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("opened twice"),
    }
    log.append(A, 3..5);
    assert_eq!(log.reopen().positions(A), [0, 1, 2, 3, 4]);
}

/// See the name.
pub fn replay_shows_every_operation_in_order(under: &dyn LogUnderTest) {
    let mut log = open(under);
    assert!(log.seen.events.is_empty() && log.opened.report.replayed_records == 0);
    let to = [(A, 1), (B, 0)];
    log.commit(&[
        Op::Effect { object: b"o1", bytes: b"first" },
        one(A, 0, &body(A, 0)),
        Op::Effect { object: b"o2", bytes: b"" },
    ]);
    log.commit(&[Op::FanOut { to: &to, max_ts_ms: 4, attrs: b"fan", body: &body(C, 0) }]);
    log.commit(&[Op::Trim { log: A, before: 1 }, Op::Retire { log: A, runs: &[(1, 1)] }]);
    log.commit(&[Op::Delete { log: B }, Op::Effect { object: b"o1", bytes: b"second" }]);
    let effect = |lsn, object: &[u8], bytes: &[u8]| Event::Effect(Lsn(lsn), object.to_vec(), bytes.to_vec());
    let past = |log, pos, max_ts_ms, attrs: &[u8], body: &[bytes::Bytes]| Past {
        log,
        pos,
        count: 1,
        max_ts_ms,
        attrs: attrs.to_vec(),
        body_len: u32::try_from(body.concat().len()).unwrap(),
    };
    let expected = vec![
        effect(1, b"o1", b"first"),
        Event::Append(Lsn(1), past(A, 0, 1_000, b"at", &body(A, 0))),
        effect(1, b"o2", b""),
        Event::End(Lsn(1)),
        Event::Append(Lsn(2), past(A, 1, 4, b"fan", &body(C, 0))),
        Event::Append(Lsn(2), past(B, 0, 4, b"fan", &body(C, 0))),
        Event::End(Lsn(2)),
        Event::Trim(Lsn(3), A, 1),
        Event::End(Lsn(3)),
        Event::Delete(Lsn(4), B),
        effect(4, b"o1", b"second"),
        Event::End(Lsn(4)),
    ];
    let log = log.reopen();
    assert_eq!(log.seen.events, expected);
    assert_eq!(log.opened.report.replayed_records, 4);
    if let Ok(log) = log.crash() {
        assert_eq!(log.seen.events, expected);
    }
}

fn fill(log: &mut Log<'_>) {
    log.append(A, 0..8);
    log.append(B, 0..4);
    log.append(C, [5, 9]);
    log.commit(&[Op::Trim { log: A, before: 3 }]);
    log.commit(&[Op::Delete { log: B }]);
}

fn check_filled(log: &Log<'_>) {
    assert_eq!(log.read(A, 2, ALL, Level::Durable).unwrap_err(), ReadError::Trimmed { start: 3 });
    assert_eq!(log.positions(A), [3, 4, 5, 6, 7]);
    assert_eq!(log.positions(C), [5, 9]);
    assert!(log.read(B, 0, ALL, Level::Durable).map_or(true, |b| b.entries.is_empty()));
    for e in log.all(A, 3).unwrap() {
        assert_eq!(e.body, body(A, e.pos)[0]);
    }
    let bounds = log.opened.reader.bounds(A);
    assert_eq!((bounds.start, bounds.next), (3, 8));
}

/// See the name.
pub fn entries_trims_and_deletions_outlive_a_clean_stop(under: &dyn LogUnderTest) {
    let mut log = open(under);
    fill(&mut log);
    // Not waited for: a clean stop makes it durable.
    log.turn(&[one(C, 11, &body(C, 11)), Op::Trim { log: C, before: 5 }]);
    log.put(Class::Publish, &[one(C, 12, &body(C, 12))], Some(ConnId(1)));
    let log = log.reopen();
    assert_eq!(log.positions(C), [5, 9, 11, 12]);
    let mut log = log.reopen();
    log.commit(&[Op::Delete { log: C }]);
    log.append(A, 8..9);
    assert_eq!(log.reopen().positions(A), [3, 4, 5, 6, 7, 8]);
}

/// See the name.
pub fn entries_trims_and_deletions_outlive_a_power_cut(under: &dyn LogUnderTest) {
    let mut log = open(under);
    fill(&mut log);
    let Ok(log) = log.crash() else { return };
    check_filled(&log);
    let Ok(log) = log.crash() else { return };
    check_filled(&log);
    check_filled(&log.reopen());
}

/// See the name.
pub fn a_power_cut_takes_whole_records_from_the_end(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let mut pos = 0;
    for _ in 0..8 {
        let durable = log.append(A, pos..pos + 2);
        let hold = under.hold();
        for p in pos + 2..pos + 12 {
            log.turn(&[
                one(A, p, &body(A, p)),
                Op::Effect { object: b"o", bytes: b"e" },
                one(B, p, &body(B, p)),
            ]);
        }
        if !under.crash() {
            return;
        }
        drop(hold);
        let last = log.opened.marks.get().sequenced;
        drop(log);
        log = open(under);
        let now = log.opened.marks.get();
        assert!(now.durable >= durable && now.durable <= last, "{durable} to {last}: {now:?}");
        assert_eq!((now.sequenced, now.written), (now.durable, now.durable));
        // What is there of the last records is a prefix, and of each both halves.
        let (a, b) = (log.positions(A), log.positions(B));
        let survived = now.durable.0 - durable.0;
        let expected: Vec<u64> = (pos + 2..pos + 2 + survived).collect();
        assert_eq!(a.iter().copied().filter(|p| *p >= pos + 2).collect::<Vec<_>>(), expected);
        assert_eq!(b.iter().copied().filter(|p| *p >= pos + 2).collect::<Vec<_>>(), expected);
        assert!(a.contains(&pos) && a.contains(&(pos + 1)));
        pos += 2 + survived;
    }
}

/// See the name.
pub fn lsns_go_on_after_what_was_found(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let last = log.append(A, 0..5);
    let log = log.reopen();
    assert_eq!(log.opened.marks.get().durable, last);
    assert!(matches!(ready(log.opened.marks.reached(last)), Some(Ok(()))));
    let mut log = log;
    assert_eq!(log.append(A, 5..6), last.next());
    assert_eq!(log.seen.ends(), (1..=5).map(Lsn).collect::<Vec<_>>());
    let Ok(mut log) = log.crash() else { return };
    assert_eq!(log.append(A, 6..7), last.next().next());
}

/// See the name.
pub fn what_an_earlier_epoch_lost_never_comes_back(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..2);
    for round in 0..6u64 {
        // The same position again and again: of all that were lost, none may show once another is there.
        let hold = under.hold();
        let end = log.opened.reader.bounds(A).next;
        let lost = [bytes::Bytes::from(format!("lost in round {round}"))];
        log.turn(&[one(A, end, &lost), one(B, round, &lost)]);
        log.turn(&[one(A, end + 1, &lost)]);
        if !under.crash() {
            return;
        }
        drop(hold);
        drop(log);
        log = open(under);
        let end = log.opened.reader.bounds(A).next;
        log.append(A, end..end + 2);
        let found = log.all(A, 0).unwrap();
        let Ok(again) = log.crash() else { return };
        let now = again.all(A, 0).unwrap();
        assert_eq!(found.len(), now.len());
        for (was, is) in found.iter().zip(&now) {
            assert_eq!(super::kit::parts(was), super::kit::parts(is));
        }
        log = again;
    }
}

/// See the name.
pub fn only_a_power_cut_is_unclean(under: &dyn LogUnderTest) {
    let log = open(under);
    assert!(!log.opened.report.unclean, "there was no last run");
    let mut log = log.reopen();
    assert!(!log.opened.report.unclean);
    log.append(A, 0..3);
    let mut log = log.reopen();
    assert!(!log.opened.report.unclean);
    log.append(A, 3..5);
    let Ok(log) = log.crash() else { return };
    assert!(log.opened.report.unclean);
    assert!(!log.reopen().opened.report.unclean);
}

/// See the name.
pub fn many_openings_in_a_row_lose_nothing(under: &dyn LogUnderTest) {
    let mut log = open(under);
    for pos in 0..12 {
        log.append(A, [pos]);
        log = if pos % 2 == 0 { log.reopen() } else { log.crash_or_reopen() };
        if pos % 3 == 0 {
            log = log.crash_or_reopen();
        }
        assert_eq!(log.positions(A), (0..=pos).collect::<Vec<_>>());
    }
}

/// See the name.
pub fn a_log_that_failed_opens_again(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..3);
    let permit = block_on(log.opened.gate.admit(Class::Publish, 1_000)).unwrap();
    if !under.fail() {
        return;
    }
    let lsn = log.opened.sequencer.sequence(permit, &[one(A, 3, &body(A, 3))], None);
    log.opened.sequencer.end_turn();
    assert!(block_on(log.opened.marks.reached(lsn)).is_err());
    let Ok(mut log) = log.crash() else { return };
    let there = log.positions(A);
    assert!(there == [0, 1, 2] || there == [0, 1, 2, 3], "{there:?}");
    log.append(A, 4..6);
    assert!(log.reopen().positions(A).ends_with(&[4, 5]));
}

/// See the name.
pub fn a_reader_that_is_closed_no_longer_holds_the_log(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..20);
    let Opened { sequencer, reader, .. } = log.opened;
    let begun: Vec<_> = (0..20).map(|pos| reader.read(A, pos, ALL, Level::Durable)).collect();
    drop(sequencer);
    reader.close();
    let again = open(under);
    for (pos, read) in (0..20).zip(begun) {
        assert_eq!(positions(&finish(read).unwrap().entries), (pos..20).collect::<Vec<_>>());
    }
    let refused = |outcome| assert_eq!(finish(outcome).unwrap_err(), ReadError::Closed);
    refused(reader.read(A, 0, ALL, Level::Durable));
    refused(reader.get(A, &[3]));
    assert_eq!(block_on(reader.heads(A, 0, ALL, Level::Durable)).unwrap_err(), ReadError::Closed);
    assert_eq!(block_on(reader.by_time(A, 0, 0, Level::Durable)).unwrap_err(), ReadError::Closed);
    assert_eq!(block_on(reader.extents(A, 0, 1)).unwrap_err(), ReadError::Closed);
    assert_eq!(reader.bounds(A), Bounds { max_ts_ms: -1, ..Bounds::default() });
    reader.close();
    assert_eq!(again.positions(A), (0..20).collect::<Vec<_>>());
}

/// See the name.
pub fn a_sequencer_that_goes_by_a_panic_loses_the_log(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let acked = log.append(A, 0..3);
    let Opened { mut sequencer, gate, reader, marks, .. } = log.opened;
    let permit = block_on(gate.admit(Class::Publish, 1_000)).unwrap();
    let panics = std::thread::spawn(move || {
        let lsn = sequencer.sequence(permit, &[one(A, 3, &body(A, 3))], None);
        std::panic::resume_unwind(Box::new(lsn));
    });
    let lsn = *panics.join().unwrap_err().downcast::<Lsn>().unwrap();
    assert!(marks.lost().is_some());
    assert!(block_on(marks.reached(lsn)).is_err());
    assert!(gate.try_admit(Class::Settle, 1).is_err());
    reader.close();
    let mut log = open(under);
    assert!(log.opened.marks.get().durable >= acked);
    let there = log.positions(A);
    assert!(there == [0, 1, 2] || there == [0, 1, 2, 3], "{there:?}");
    log.append(A, 4..5);
    assert!(log.reopen().positions(A).ends_with(&[4]));
}
