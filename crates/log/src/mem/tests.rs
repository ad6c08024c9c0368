#![allow(clippy::pedantic)]
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use millstream_types::{Epoch, LogId};

use super::*;
use crate::{Budget, Class, EntryHead, Level, Limits, ReadOutcome, Row, RowBatch, StateReader};

#[derive(Default)]
struct Seen(Vec<String>);

impl Replay for Seen {
    fn begin(&mut self, _: Arc<dyn StateReader>, epoch: Epoch) {
        self.0.push(format!("epoch {}", epoch.0));
    }
    fn effect(&mut self, lsn: Lsn, object: &[u8], _: &[u8]) {
        self.0.push(format!("{lsn} effect {object:?}"));
    }
    fn append(&mut self, lsn: Lsn, e: EntryHead<'_>) {
        self.0.push(format!("{lsn} append {}@{}", e.log.0, e.pos));
    }
    fn trim(&mut self, lsn: Lsn, log: LogId, before: u64) {
        self.0.push(format!("{lsn} trim {}<{before}", log.0));
    }
    fn delete(&mut self, lsn: Lsn, log: LogId) {
        self.0.push(format!("{lsn} delete {}", log.0));
    }
    fn record_end(&mut self, _: Lsn) {}
}

fn open(log: &MemLog) -> (Opened, Vec<String>) {
    let mut seen = Seen::default();
    let opened = log.open(&LogConfig::default(), &mut seen).unwrap();
    (opened, seen.0)
}

fn append(o: &mut Opened, log: u64, pos: u64) -> Lsn {
    let permit = o.gate.try_admit(Class::Publish, 100).unwrap();
    let body = [Bytes::from_static(b"x")];
    let lsn = o.sequencer.sequence(
        permit,
        &[Op::Append { log: LogId(log), pos, count: 1, max_ts_ms: 7, attrs: b"", body: &body }],
        None,
    );
    o.sequencer.end_turn();
    lsn
}

fn positions(o: &Opened, level: Level) -> Vec<u64> {
    let lim = Limits { max_bytes: 1 << 20, max_entries: 100, end_pos: u64::MAX };
    match o.reader.read(LogId(1), 0, lim, level) {
        ReadOutcome::Ready(Ok(b)) => b.entries.iter().map(|e| e.pos).collect(),
        _ => panic!("a log in memory answers at once"),
    }
}

#[test]
fn a_crash_takes_what_was_not_durable_and_replay_shows_the_rest() {
    let log = MemLog::new(Commit::ByHand);
    let (mut o, _) = open(&log);
    let first = append(&mut o, 1, 0);
    append(&mut o, 1, 1);
    log.commit_to(first);
    assert_eq!((positions(&o, Level::Sequenced), positions(&o, Level::Durable)), (vec![0, 1], vec![0]));
    log.crash();
    std::mem::forget(o);
    let (o, seen) = open(&log);
    assert_eq!(seen, ["epoch 2", "1 append 1@0"]);
    assert_eq!(positions(&o, Level::Durable), vec![0]);
}

#[test]
fn rows_are_kept_only_when_what_they_include_is_durable_and_then_replay_begins_behind_them() {
    let log = MemLog::new(Commit::ByHand);
    let (mut o, _) = open(&log);
    let lsn = append(&mut o, 1, 0);
    log.want_rows();
    assert_eq!(o.sink.wanted(), Some(Budget { rows_max: usize::MAX, bytes_max: usize::MAX }));
    let row = Row { key: b"k".to_vec(), row_lsn: lsn, value: Some(b"v".to_vec()) };
    let id = o.sink.offer(RowBatch { rows: vec![row], oldest_dirty: None, applied: lsn });
    assert!(o.sink.flushed() < id);
    log.commit_to(lsn);
    assert_eq!(o.sink.flushed(), id);
    drop(o);
    let (o, seen) = open(&log);
    assert_eq!(seen, ["epoch 2"]);
    assert_eq!(o.rows.get(b"k").unwrap(), Some((lsn, b"v".to_vec())));
}

#[test]
fn a_lost_log_resolves_waiters_with_the_loss() {
    let log = MemLog::new(Commit::ByHand);
    let (mut o, _) = open(&log);
    let lsn = append(&mut o, 1, 0);
    let mut reached = o.marks.reached(lsn);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(reached.as_mut().poll(&mut cx).is_pending());
    log.lose("a test");
    log.commit_to(lsn);
    assert!(matches!(reached.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
    assert!(o.marks.get().durable < lsn);
}
