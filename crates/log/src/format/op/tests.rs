#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;

use super::*;

fn encoded(op: &Op<'_>) -> BytesMut {
    let mut buf = BytesMut::with_capacity(1 << 16);
    encode(op, &mut buf);
    assert_eq!(buf.len(), align8(encoded_len(op)));
    buf
}

#[test]
fn an_append_round_trips() {
    let body = [Bytes::from_static(b"he"), Bytes::new(), Bytes::from_static(b"llo")];
    let op = Op::Append { log: LogId(7), pos: 9, count: 3, max_ts_ms: -1, attrs: b"at", body: &body };
    let buf = encoded(&op);
    let mut rest = &buf[..];
    let (found, len) = take_op(&mut rest).unwrap();
    assert!(rest.is_empty() && entry_is_sound(&buf[..len]));
    let Found::Entry(e) = found else { panic!("{found:?}") };
    assert_eq!(e.to, To::One { log: LogId(7), pos: 9, count: 3 });
    assert_eq!((e.max_ts_ms, e.attrs, e.body, e.attrs_at), (-1, &b"at"[..], &b"hello"[..], 40));
    for at in 0..len {
        let mut bad = buf[..len].to_vec();
        bad[at] ^= 1;
        assert!(!entry_is_sound(&bad), "byte {at}");
    }
}

#[test]
fn a_fan_out_round_trips_and_holds_each_of_its_references() {
    let to = [(LogId(1), 5), (LogId(300), 0), (LogId(u64::MAX), u64::MAX)];
    let body = [Bytes::from_static(b"x")];
    let buf = encoded(&Op::FanOut { to: &to, max_ts_ms: 4, attrs: b"", body: &body });
    let (Found::Entry(e), _) = take_op(&mut &buf[..]).unwrap() else { panic!() };
    let To::Many(refs) = e.to.clone() else { panic!() };
    assert_eq!(refs.collect::<Vec<_>>(), to);
    assert!(to.iter().all(|(l, p)| e.to.holds(*l, *p)) && !e.to.holds(LogId(1), 6));
    assert_eq!(e.body, b"x");
}

#[test]
fn small_operations_round_trip() {
    let runs = [(10, 2), (12, 1), (5, 7), (u64::MAX, 1)];
    let buf = encoded(&Op::Retire { log: LogId(3), runs: &runs });
    let (Found::Retire { log, runs: r }, _) = take_op(&mut &buf[..]).unwrap() else { panic!() };
    assert_eq!((log, r.collect::<Vec<_>>()), (LogId(3), runs.to_vec()));
    let buf = encoded(&Op::Trim { log: LogId(3), before: 77 });
    assert_eq!(take_op(&mut &buf[..]).unwrap().0, Found::Trim { log: LogId(3), before: 77 });
    let buf = encoded(&Op::Delete { log: LogId(3) });
    assert_eq!(take_op(&mut &buf[..]).unwrap().0, Found::Delete { log: LogId(3) });
    let buf = encoded(&Op::Effect { object: b"key", bytes: b"" });
    assert_eq!(take_op(&mut &buf[..]).unwrap().0, Found::Effect { object: b"key", bytes: b"" });
}

#[test]
fn an_unknown_operation_is_refused_only_if_it_must_be_understood() {
    let mut buf = encoded(&Op::Delete { log: LogId(3) });
    buf[4] = 99;
    assert_eq!(take_op(&mut &buf[..]), Err(OpError::Newer));
    buf[6] = 0;
    assert_eq!(take_op(&mut &buf[..]).unwrap().0, Found::Unknown);
    let mut buf =
        encoded(&Op::Append { log: LogId(1), pos: 0, count: 1, max_ts_ms: 0, attrs: b"", body: &[] });
    buf[28] = 99;
    assert_eq!(take_op(&mut &buf[..]), Err(OpError::Newer));
}

#[test]
fn cut_bytes_are_errors_and_never_panics() {
    let body = [Bytes::from_static(b"hello")];
    let ops = [
        Op::Append { log: LogId(7), pos: 9, count: 3, max_ts_ms: -1, attrs: b"at", body: &body },
        Op::FanOut { to: &[(LogId(1), 5), (LogId(2), 6)], max_ts_ms: 4, attrs: b"", body: &body },
        Op::Effect { object: b"key", bytes: b"value" },
    ];
    for op in &ops {
        let buf = encoded(op);
        for n in 0..buf.len() {
            assert_eq!(take_op(&mut &buf[..n]), Err(OpError::Malformed), "{n}");
        }
        for at in 0..buf.len() {
            for xor in [1, 0x80, 0xff] {
                let mut bad = buf[..].to_vec();
                bad[at] ^= xor;
                let _ = take_op(&mut &bad[..]);
            }
        }
    }
}
