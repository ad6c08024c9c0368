//! A log with a state store: rows, the floor, files adopted and freed; crashes in between.

use millstream_env::sim::{Call, Fault, SimDisk};

use super::support::*;
use crate::api::*;
use crate::disk::DiskLog;
use crate::format::rows::{META_KEY, MetaRow};
use crate::store::{SimStore, StateStore, StoreKind};
use millstream_types::{LogId, Lsn};

use std::sync::Arc;

/// Small, so that files are adopted and freed all the time.
pub fn small() -> LogConfig {
    LogConfig { replay_bytes: 4 << 20, flush_interval_ms: 0, ..config() }
}

pub fn try_open_kept(disk: &Arc<SimDisk>, store: &SimStore) -> Result<Log, OpenError> {
    try_open_as(disk, store, &small())
}

pub fn try_open_as(disk: &Arc<SimDisk>, store: &SimStore, cfg: &LogConfig) -> Result<Log, OpenError> {
    let mut seen = Memory::default();
    let o = DiskLog::with_store(env_on(disk), StoreKind::Sim(store.clone())).open(cfg, &mut seen)?;
    Ok(Log { o, seen })
}

pub fn open_kept(disk: &Arc<SimDisk>, store: &SimStore) -> Log {
    try_open_kept(disk, store).unwrap()
}

impl Log {
    /// Offers clean rows until the store has them.
    pub fn flush(&self) {
        let applied = self.o.marks.get().sequenced;
        let id = self.o.sink.offer(RowBatch { rows: Vec::new(), oldest_dirty: None, applied });
        self.wait_flushed(id);
    }

    pub fn wait_flushed(&self, id: BatchId) {
        while self.o.sink.flushed() < id && self.o.marks.lost().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1)); // tidy: pacing
        }
    }

    pub fn trim(&mut self, log: u64, before: u64) {
        let lsn = self.put(&[Op::Trim { log: LogId(log), before }]);
        self.wait(lsn).unwrap();
    }
}

fn files(disk: &SimDisk) -> usize {
    millstream_env::Disk::list(disk, "seg").unwrap().len()
}

fn body(log: u64, pos: u64, len: usize) -> Vec<u8> {
    let mut b = vec![(log * 7 + pos) as u8; len];
    b[..8].copy_from_slice(&pos.to_le_bytes());
    b
}

/// Appends `n` entries of 100 kB, turn by turn over the logs.
fn fill(l: &mut Log, logs: u64, from: u64, n: u64) {
    for i in from..from + n {
        l.append(1 + i % logs, i / logs, &body(1 + i % logs, i / logs, 100_000));
    }
}

fn check(l: &Log, logs: u64, n: u64, start: u64) {
    for log in 1..=logs {
        let got = l.read_at(log, start, Level::Durable).unwrap();
        let want: Vec<_> =
            (start..(n + logs - log) / logs).map(|pos| (pos, body(log, pos, 100_000))).collect();
        assert!(got == want, "log {log}: {} of {}", got.len(), want.len());
        assert_eq!(l.o.reader.bounds(LogId(log)).next, (n + logs - log) / logs);
    }
}

fn adopted(store: &SimStore) -> usize {
    store.scan(b"F", b"F", usize::MAX).unwrap().len()
}

#[test]
fn adopted_files_serve_reads_by_position_and_time_and_after_reopening() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    fill(&mut l, 3, 0, 120);
    while adopted(&store) < 8 {
        std::thread::sleep(std::time::Duration::from_millis(1)); // tidy: pacing
    }
    l.flush();
    let verify = |l: &Log| {
        check(l, 3, 120, 0);
        let heads = l.o.reader.by_time(LogId(2), 0, 17, Level::Durable);
        assert_eq!(block_on(heads).unwrap().unwrap().pos, 17);
        let late = block_on(l.o.reader.by_time(LogId(2), 0, 39, Level::Durable)).unwrap();
        assert_eq!(late.unwrap().pos, 39);
        assert!(block_on(l.o.reader.by_time(LogId(2), 0, 40, Level::Durable)).unwrap().is_none());
        let get = |positions: &[u64]| {
            let got = match l.o.reader.get(LogId(1), positions) {
                ReadOutcome::Ready(r) => r.unwrap(),
                ReadOutcome::Cold(r) => block_on(r).unwrap(),
            };
            assert!(got.entries.iter().all(|e| e.body == body(1, e.pos, 100_000)));
            got.entries.iter().map(|e| e.pos).collect::<Vec<_>>()
        };
        assert_eq!(get(&[0, 3, 39, 77]), [0, 3, 39]);
        // Close together and far apart, over the files' edges, and past the end.
        for step in 1..=20 {
            for from in 0..3 {
                let positions: Vec<u64> = (from..50).step_by(step).collect();
                let there: Vec<u64> = positions.iter().copied().filter(|p| *p < 40).collect();
                assert_eq!(get(&positions), there, "every {step} from {from}");
            }
        }
        let extents = block_on(l.o.reader.extents(LogId(1), 0, 100)).unwrap();
        assert!(extents.len() > 8 && extents[0].first == 0 && extents.last().unwrap().end == 40);
        assert!(extents.windows(2).all(|w| w[0].end == w[1].first));
    };
    verify(&l);
    drop(l);
    let l = open_kept(&disk, &store);
    let meta = MetaRow::decode(&store.get(b"M").unwrap().unwrap()).unwrap();
    assert!(l.o.report.replayed_bytes < 5 << 20, "{:?} {meta:?}", l.o.report);
    verify(&l);
}

#[test]
fn files_in_which_nothing_lives_are_used_again_once_the_floor_has_passed() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    let mut most = 0;
    for round in 0..20 {
        fill(&mut l, 2, round * 40, 40);
        for log in 1..=2 {
            l.trim(log, (round * 40 + 40) / 2 - 4);
        }
        l.flush();
        most = most.max(files(&disk));
    }
    // 800 entries are 90 files' worth.
    assert!(most < 40, "{most} files");
    for log in 1..=2 {
        let got = l.read_at(log, 396, Level::Durable).unwrap();
        assert_eq!(got, (396..400).map(|p| (p, body(log, p, 100_000))).collect::<Vec<_>>());
        assert!(matches!(l.read_at(log, 3, Level::Durable), Err(ReadError::Trimmed { start: 396 })));
    }
    drop(l);
    let l = open_kept(&disk, &store);
    assert!(matches!(l.read_at(1, 3, Level::Durable), Err(ReadError::Trimmed { start: 396 })));
    assert_eq!(l.read_at(1, 396, Level::Durable).unwrap().len(), 4);
}

fn row(key: &[u8], lsn: u64, value: Option<&[u8]>) -> Row {
    Row { key: key.to_vec(), row_lsn: Lsn(lsn), value: value.map(<[u8]>::to_vec) }
}

#[test]
fn nastiest_5_a_row_above_durable_is_seen_but_not_written_and_is_gone_if_the_write_fails() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    let first = l.append(1, 0, b"x");
    let id = l.o.sink.offer(RowBatch {
        rows: vec![row(b"k", first, Some(b"old"))],
        oldest_dirty: None,
        applied: Lsn(first),
    });
    l.wait_flushed(id);
    disk.inject(Fault::new(Call::Sync).always());
    let lsn = l.put(&[Op::Effect { object: b"k", bytes: b"new" }]);
    let rows = vec![row(b"k", lsn, Some(b"new"))];
    l.o.sink.offer(RowBatch { rows, oldest_dirty: None, applied: Lsn(lsn) });
    assert_eq!(l.o.rows.get(b"k").unwrap(), Some((Lsn(lsn), b"new".to_vec())));
    assert!(l.wait(lsn).is_err());
    drop(l);
    let value = store.get(b"Ok").unwrap().unwrap();
    assert_eq!(&value[8..], b"old");
}

#[test]
fn nastiest_6_an_object_removed_and_flushed_is_not_made_anew_by_older_effects() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    let other = l.put(&[Op::Effect { object: b"other", bytes: b"1" }]);
    for bytes in [b"create".as_slice(), b"change", b"delete"] {
        l.put(&[Op::Effect { object: b"k", bytes }]);
    }
    let last = l.o.marks.get().sequenced;
    l.wait(last.0).unwrap();
    // The other object is still dirty and holds the floor.
    let batch =
        RowBatch { rows: vec![row(b"k", last.0, None)], oldest_dirty: Some(Lsn(other)), applied: last };
    let id = l.o.sink.offer(batch);
    l.wait_flushed(id);
    assert_eq!(l.o.rows.get(b"k").unwrap(), None);
    drop(l);
    let mut l = open_kept(&disk, &store);
    assert_eq!(l.seen.effects, [(other, b"other".to_vec(), b"1".to_vec())]);
    // Made again by a later record, and then the tombstone goes with the floor.
    let again = l.put(&[Op::Effect { object: b"k", bytes: b"again" }]);
    l.wait(again).unwrap();
    drop(l);
    let l = open_kept(&disk, &store);
    assert_eq!(l.seen.effects.last().unwrap(), &(again, b"k".to_vec(), b"again".to_vec()));
    l.flush();
    assert!(store.scan(b"T", b"T", 9).unwrap().is_empty());
}

#[test]
fn a_clean_stop_leaves_no_effect_to_replay() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    for i in 0..50 {
        let lsn = l.put(&[Op::Effect { object: b"k", bytes: &[i] }]);
        l.wait(lsn).unwrap();
    }
    let rows = vec![row(b"k", 50, Some(b"all"))];
    l.o.sink.offer(RowBatch { rows, oldest_dirty: None, applied: Lsn(50) });
    drop(l);
    let l = open_kept(&disk, &store);
    assert!(l.seen.effects.is_empty() && l.seen.ends.is_empty());
    assert_eq!(l.o.rows.get(b"k").unwrap(), Some((Lsn(50), b"all".to_vec())));
    assert_eq!(l.o.rows.scan(b"", b"", 9).unwrap().len(), 1);
    assert_eq!(l.o.marks.get().durable, Lsn(50));
}

#[test]
fn openings_that_write_nothing_eat_no_disk() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    for i in 0..60 {
        let mut l = open_kept(&disk, &store);
        assert_eq!(l.read(1).len(), i / 20);
        if i % 20 == 19 {
            l.append(1, i as u64 / 20, b"x");
        }
        l.flush();
    }
    // Sixteen that are free, those ready and those in use.
    assert!(files(&disk) < 24, "{} files", files(&disk));
}

#[test]
fn a_flush_of_nothing_is_flushed() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let l = open_kept(&disk, &store);
    for _ in 0..3 {
        l.flush();
    }
}

/// Rows are not asked for again (the clock stands still): what the last ones said is all that the floor can go by.
#[test]
fn the_floor_follows_what_becomes_durable_after_its_rows_were_taken() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let cfg = LogConfig { flush_interval_ms: 3_600_000, replay_bytes: 1 << 40, ..small() };
    let mut l = try_open_as(&disk, &store, &cfg).unwrap();
    while l.o.gate.room().ready_files < 4 {
        std::thread::yield_now();
    }
    let held = Arc::new(std::sync::Mutex::new(()));
    let hold = held.lock().unwrap();
    let gate = Arc::clone(&held);
    disk.on_sync(move |name| {
        if name.starts_with("seg/") {
            drop(gate.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    });
    // Two files, and none of it durable when the rows are taken.
    for pos in 0..15 {
        let bytes = [bytes::Bytes::from(body(1, pos, 100_000))];
        let permit = block_on(l.o.gate.admit(Class::Publish, 110_000)).unwrap();
        l.o.sequencer.sequence(permit, &[append_op(1, pos, &bytes)], None);
        l.o.sequencer.end_turn();
    }
    let last = l.put(&[Op::Trim { log: LogId(1), before: 15 }]);
    l.flush();
    assert!(l.o.marks.get().durable.0 < last);
    drop(hold);
    l.wait(last).unwrap();
    let floor = || {
        let row = store.get(META_KEY).unwrap();
        row.map_or(0, |row| MetaRow::decode(&row).unwrap().object_floor)
    };
    for _ in 0..5_000 {
        if floor() > last {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1)); // tidy: pacing
    }
    panic!("the floor stands at {} of {last}", floor());
}
