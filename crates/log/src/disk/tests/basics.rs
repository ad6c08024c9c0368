//! Commit, read, trim and reopen, without faults.

use bytes::Bytes;
use millstream_env::sim::SimDisk;
use millstream_types::LogId;

use super::support::*;
use crate::api::*;

#[test]
fn what_is_durable_is_read_and_found_again() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    assert_eq!((log.o.epoch.0, log.seen.ends.len()), (1, 0));
    for n in 0..10 {
        log.append(7, n, format!("body {n}").as_bytes());
    }
    let expect: Vec<_> = (0..10).map(|n| (n, format!("body {n}").into_bytes())).collect();
    assert_eq!(log.read(7), expect);
    drop(log);
    let mut log = open(&disk);
    assert_eq!(log.o.epoch.0, 2);
    assert!(!log.o.report.unclean && log.o.report.cut_at.is_none(), "{:?}", log.o.report);
    assert_eq!(log.seen.ends, (1..=10).collect::<Vec<_>>());
    assert_eq!(log.seen.appends[3], (4, LogId(7), 3, 1, b"attr".to_vec()));
    assert_eq!(log.read(7), expect);
    assert_eq!(log.append(7, 10, b"more"), 11);
    assert_eq!(log.read_at(7, 10, Level::Durable).unwrap(), [(10, b"more".to_vec())]);
}

#[test]
fn every_operation_is_replayed_in_order() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    let body = [Bytes::from_static(b"shared")];
    let to = [(LogId(1), 4), (LogId(2), 9), (LogId(900), 0)];
    log.put(&[
        Op::FanOut { to: &to, max_ts_ms: 5, attrs: b"", body: &body },
        Op::Effect { object: b"key", bytes: b"what" },
    ]);
    log.put(&[Op::Retire { log: LogId(2), runs: &[(9, 1)] }, Op::Effect { object: b"key", bytes: b"" }]);
    log.put(&[]);
    let lsn = log.put(&[Op::Trim { log: LogId(1), before: 5 }, Op::Delete { log: LogId(900) }]);
    log.wait(lsn).unwrap();
    let check = |log: &Log| {
        assert_eq!(log.read(2), [(9, b"shared".to_vec())]);
        assert_eq!(log.read_at(1, 4, Level::Durable), Err(ReadError::Trimmed { start: 5 }));
        assert_eq!(log.read_at(900, 0, Level::Durable), Err(ReadError::Trimmed { start: u64::MAX }));
        assert_eq!(log.o.reader.bounds(LogId(1)).start, 5);
    };
    check(&log);
    drop(log);
    let log = open(&disk);
    check(&log);
    assert_eq!(
        log.seen.effects,
        [(1, b"key".to_vec(), b"what".to_vec()), (2, b"key".to_vec(), b"".to_vec())]
    );
    assert_eq!(log.seen.appends.iter().map(|a| (a.1, a.2)).collect::<Vec<_>>(), to);
    assert_eq!(log.seen.trims, [(4, LogId(1), 5), (4, LogId(900), u64::MAX)]);
    assert_eq!(log.seen.ends, [1, 2, 3, 4]);
}

#[test]
fn records_span_frames_and_files_and_are_read_from_disk_when_memory_let_go() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    let bodies: Vec<[Bytes; 1]> = (0..60u8).map(|n| [Bytes::from(vec![n; 100_000])]).collect();
    let record: Vec<Op<'_>> = bodies.iter().enumerate().map(|(n, b)| append_op(3, n as u64, b)).collect();
    let lsn = log.put(&record);
    log.wait(lsn).unwrap();
    log.append(3, 60, b"last");
    let expect: Vec<_> =
        (0..60u64).map(|n| (n, vec![n as u8; 100_000])).chain([(60, b"last".to_vec())]).collect();
    assert!(log.read(3) == expect);
    assert!(log.o.reader.bounds(LogId(3)).bytes > 6_000_000);
    assert!(block_on(log.o.reader.extents(LogId(3), 0, 100)).unwrap().len() > 5);
    drop(log);
    let log = open(&disk);
    assert!(log.read(3) == expect);
    assert_eq!(log.seen.ends, [1, 2]);
}

#[test]
fn an_entry_shows_when_its_record_has_reached_the_level() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    let body = [Bytes::from_static(b"x")];
    let permit = log.permit();
    log.o.sequencer.sequence(permit, &[append_op(1, 0, &body)], None);
    assert_eq!(log.read_at(1, 0, Level::Durable).unwrap().len(), 0);
    log.o.sequencer.end_turn();
    assert_eq!(log.read_at(1, 0, Level::Sequenced).unwrap().len(), 1);
    log.wait(1).unwrap();
    assert_eq!(log.read_at(1, 0, Level::Durable).unwrap().len(), 1);
}

#[test]
fn reads_stop_at_their_limits_and_find_by_time_and_position() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    for n in 0..10 {
        log.append(1, n * 2, &[n as u8; 100]);
    }
    let read = |lim| match log.o.reader.read(LogId(1), 3, lim, Level::Durable) {
        ReadOutcome::Ready(b) => b.unwrap().entries.iter().map(|e| e.pos).collect::<Vec<_>>(),
        ReadOutcome::Cold(_) => panic!("in memory"),
    };
    assert_eq!(read(Limits { max_bytes: 1, max_entries: 9, end_pos: u64::MAX }), [4]);
    assert_eq!(read(Limits { max_bytes: 250, max_entries: 9, end_pos: u64::MAX }), [4, 6]);
    assert_eq!(read(Limits { max_bytes: 9000, max_entries: 3, end_pos: u64::MAX }), [4, 6, 8]);
    assert_eq!(read(Limits { max_bytes: 9000, max_entries: 9, end_pos: 6 }), [4]);
    let head = block_on(log.o.reader.by_time(LogId(1), 0, 5, Level::Durable)).unwrap().unwrap();
    assert_eq!((head.pos, head.max_ts_ms, head.body_len, &head.attrs[..]), (6, 6, 100, &b"attr"[..]));
    let ReadOutcome::Ready(got) = log.o.reader.get(LogId(1), &[0, 3, 18, 40]) else { panic!() };
    assert_eq!(got.unwrap().entries.iter().map(|e| e.pos).collect::<Vec<_>>(), [0, 18]);
}

#[test]
fn a_directory_is_opened_once_and_only_if_it_is_ours() {
    let disk = SimDisk::new(1);
    let log = open(&disk);
    assert!(matches!(try_open(&disk), Err(OpenError::Locked { .. })));
    drop(log);
    disk.corrupt("meta", 0, 1).unwrap();
    assert!(matches!(try_open(&disk), Err(OpenError::Foreign { .. })));
}
