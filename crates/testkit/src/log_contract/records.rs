//! Records: order, atomicity, what is read back.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use millstream_log::Op;
use millstream_types::{LogId, Lsn};

use super::kit::{A, B, C, body, one, open, parts};
use crate::under::LogUnderTest;

/// See the name.
pub fn lsns_are_dense_from_one(under: &dyn LogUnderTest) {
    let mut log = open(under);
    for n in 1..=20 {
        assert_eq!(log.turn(&[one(A, n, &body(A, n))]), Lsn(n));
    }
    log.durable(Lsn(20));
    let marks = log.opened.marks.get();
    assert_eq!((marks.sequenced, marks.written, marks.durable), (Lsn(20), Lsn(20), Lsn(20)));
}

/// See the name.
pub fn entries_are_read_back_as_they_were_appended(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let large = Bytes::from((0..300_000u32).map(|i| i.to_le_bytes()[i as usize % 4]).collect::<Vec<u8>>());
    let pieces = [Bytes::from_static(b"in "), Bytes::new(), Bytes::from_static(b"pieces")];
    let attrs = [7; millstream_types::limits::ATTRS_BYTES_MAX];
    let cases: [(u32, i64, &[u8], &[Bytes]); 5] = [
        (1, -1, b"", &[]),
        (10, 0, b"a", std::slice::from_ref(&large)),
        (1, i64::MAX, &attrs, &pieces),
        (u32::MAX / 2, 5, b"\0", &[Bytes::from_static(b"")]),
        (1, 1_700_000_000_000, b"last", &pieces[..1]),
    ];
    let (mut pos, mut expected, mut last) = (3, Vec::new(), Lsn(0));
    for (count, max_ts_ms, attrs, body) in cases {
        last = log.turn(&[Op::Append { log: A, pos, count, max_ts_ms, attrs, body }]);
        expected.push((pos, count, max_ts_ms, attrs, body.concat()));
        pos += u64::from(count);
    }
    log.durable(last);
    let read = log.all(A, 0).unwrap();
    assert_eq!(read.len(), expected.len());
    for (entry, (pos, count, ts, attrs, body)) in read.iter().zip(&expected) {
        assert!(parts(entry) == (*pos, *count, *ts, *attrs, &body[..]), "the entry at {pos} differs");
    }
}

/// See the name.
pub fn logs_are_apart_and_positions_may_leave_holes(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let (a, b) = ([0, 1, 5, 6, 1 << 40], [u64::from(u32::MAX), 1 << 33]);
    for (x, y) in a.iter().zip(b.iter().chain(&[1 << 34, 1 << 35, 1 << 36])) {
        log.commit(&[one(A, *x, &body(A, *x)), one(B, *y, &body(B, *y))]);
    }
    assert_eq!(log.positions(A), a);
    assert_eq!(log.all(B, 0).unwrap()[0].body, body(B, b[0])[0]);
    assert_eq!(log.all(A, 2).unwrap()[0].pos, 5, "a read from a hole goes on behind it");
    assert!(log.all(A, (1 << 40) + 1).unwrap().is_empty());
    assert!(log.all(LogId(77), 0).unwrap().is_empty());
}

/// See the name.
pub fn a_fan_out_is_read_from_each_log(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(B, 0..3);
    let to = [(A, 10), (B, 3), (C, 0)];
    let shared = [Bytes::from_static(b"one body, "), Bytes::from_static(b"three places")];
    log.commit(&[Op::FanOut { to: &to, max_ts_ms: 9, attrs: b"fan", body: &shared }]);
    for (to, pos) in to {
        let read = log.all(to, pos).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(parts(&read[0]), (pos, 1, 9, &b"fan"[..], &shared.concat()[..]));
    }
    let many: Vec<(LogId, u64)> =
        (0..millstream_types::limits::FANOUT_MAX as u64).map(|i| (LogId(i + 1), i)).collect();
    log.commit(&[Op::FanOut { to: &many, max_ts_ms: -1, attrs: b"", body: &shared }]);
    for (to, pos) in many {
        assert_eq!(log.all(to, 0).unwrap()[0].pos, pos);
    }
}

/// See the name.
pub fn a_record_larger_than_a_file_is_read_back(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let pieces: Vec<[Bytes; 1]> = (0..9u8).map(|i| [Bytes::from(vec![i; 400_000])]).collect();
    let record: Vec<Op<'_>> = pieces.iter().zip(0..).map(|(p, pos)| one(A, pos, p)).collect();
    log.append(B, [0]);
    log.commit(&record);
    log.append(B, [1]);
    let check = |log: &super::kit::Log<'_>| {
        let read = log.all(A, 0).unwrap();
        assert_eq!(read.len(), 9);
        assert!(read.iter().zip(&pieces).all(|(e, p)| e.body == p[0]));
        assert_eq!(log.positions(B), [0, 1]);
    };
    check(&log);
    check(&log.reopen());
}

/// See the name.
pub fn positions_that_do_not_grow_are_refused_loudly(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, [4]);
    let refused = std::panic::catch_unwind(AssertUnwindSafe(|| log.turn(&[one(A, 4, &body(A, 4))])));
    assert!(refused.is_err(), "a position was given twice");
}
