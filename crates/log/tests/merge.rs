//! Merges on a real disk: readers that go over the whole log while what lives in it moves see every message that is left, byte for
//! byte, and the files come free.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use millstream_env::Env;
use millstream_log::{
    Class, DiskLog, Level, Limits, LogConfig, LogStore, Op, Opened, ReadError, ReadOutcome, Reader, RowBatch,
};
use millstream_testkit::block_on::block_on;
use millstream_testkit::seen::Seen;
use millstream_types::LogId;

const LOG: LogId = LogId(7);
const ENTRIES: u64 = 4000;

fn body(pos: u64) -> Vec<u8> {
    let len = 1000 + usize::try_from(pos % 7).unwrap() * 5000;
    (0..len).map(|i| (pos.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 57)).to_le_bytes()[0]).collect()
}

/// One in sixteen is left.
fn stays(pos: u64) -> bool {
    pos.is_multiple_of(16)
}

fn read(reader: &dyn Reader, from: u64) -> Result<millstream_log::ReadBatch, ReadError> {
    let lim = Limits { max_bytes: 256 << 10, max_entries: 1000, end_pos: u64::MAX };
    match reader.read(LOG, from, lim, Level::Durable) {
        ReadOutcome::Ready(r) => r,
        ReadOutcome::Cold(r) => block_on(r),
    }
}

/// Reads all from the start; gives how many that stay it saw. Up to `end` all of them must be there.
fn read_all(reader: &dyn Reader, end: u64) -> u64 {
    let (mut from, mut due, mut seen) = (0, 0, 0);
    loop {
        let b = read(reader, from).unwrap();
        if b.entries.is_empty() {
            assert!(due >= end, "{due} to {end} is missing");
            return seen;
        }
        for e in &b.entries {
            assert!(e.body[..] == body(e.pos)[..], "stale bytes at {}", e.pos);
            if stays(e.pos) {
                assert_eq!(e.pos, due);
                (due, seen) = (due + 16, seen + 1);
            }
        }
        from = b.next;
    }
}

fn write(o: &mut Opened, ops: &[Op<'_>]) {
    let permit = block_on(o.gate.admit(Class::Publish, 80 << 10)).unwrap();
    let applied = o.sequencer.sequence(permit, ops, None);
    o.sequencer.end_turn();
    if o.sink.wanted().is_some() {
        o.sink.offer(RowBatch { rows: Vec::new(), oldest_dirty: None, applied });
    }
}

#[test]
fn readers_see_every_message_that_is_left_while_it_moves_from_file_to_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = DiskLog::new(Env::os(dir.path()));
    let cfg = LogConfig {
        segment_bytes: 1 << 20,
        tail_bytes: 128 << 10,
        replay_bytes: 2 << 20,
        flush_interval_ms: 20,
        merge_budget_percent: 100,
        merge_bytes_per_s: 64 << 20,
        merge_gain_bytes_min: 0,
        ..LogConfig::default()
    };
    let mut o = log.open(&cfg, &mut Seen::default()).unwrap();
    let (stop, durable) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (reader, stop, durable) = (Arc::clone(&o.reader), Arc::clone(&stop), Arc::clone(&durable));
            std::thread::spawn(move || {
                let mut seen = 0;
                while !stop.load(Ordering::Acquire) {
                    seen += read_all(&*reader, durable.load(Ordering::Acquire));
                }
                seen
            })
        })
        .collect();
    for pos in 0..ENTRIES {
        let bytes = [Bytes::from(body(pos))];
        write(&mut o, &[Op::Append { log: LOG, pos, count: 1, max_ts_ms: -1, attrs: b"", body: &bytes }]);
        if pos % 16 == 15 {
            write(&mut o, &[Op::Retire { log: LOG, runs: &[(pos - 14, 15)] }]);
            let last = o.marks.get().sequenced;
            block_on(o.marks.reached(last)).unwrap();
            durable.store(pos + 1, Ordering::Release);
        }
    }
    // What is left of 64 MB is 4; the files that held it come free while the log stands still.
    let seg = dir.path().join("seg");
    for _ in 0..2000 {
        if o.stats.merges() > 0 && std::fs::read_dir(&seg).unwrap().count() < 40 {
            break;
        }
        let applied = o.marks.get().sequenced;
        o.sink.offer(RowBatch { rows: Vec::new(), oldest_dirty: None, applied });
        std::thread::sleep(std::time::Duration::from_millis(10)); // tidy: pacing
    }
    assert!(o.stats.merges() > 0, "{:?}", o.stats);
    stop.store(true, Ordering::Release);
    assert!(readers.into_iter().map(|r| r.join().unwrap()).sum::<u64>() > 0);
    assert_eq!((o.marks.lost(), o.stats.merge_failures()), (None, 0));
    drop(o);

    let o = log.open(&cfg, &mut Seen::default()).unwrap();
    assert_eq!(read_all(&*o.reader, ENTRIES), ENTRIES / 16);
    let held = |dir: std::path::PathBuf| {
        let files = std::fs::read_dir(dir).unwrap();
        files.map(|f| f.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let packs = held(dir.path().join("pack"));
    assert!(packs > 0 && packs < 16 << 20, "{packs}");
}
