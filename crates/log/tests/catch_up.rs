//! Readers that catch up on a real disk while files are written, given an index, freed and written again.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use millstream_env::Env;
use millstream_log::{
    Class, DiskLog, Level, Limits, LogConfig, LogStore, Op, Opened, ReadError, ReadOutcome, Reader, RowBatch,
};
use millstream_testkit::block_on::block_on;
use millstream_testkit::seen::Seen;
use millstream_types::LogId;

const LOG: LogId = LogId(7);

fn body(pos: u64) -> Vec<u8> {
    let mut state = pos.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let len = 1000 + usize::try_from(pos % 7).unwrap() * 9000;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

fn read(reader: &dyn Reader, from: u64) -> Result<millstream_log::ReadBatch, ReadError> {
    let lim = Limits { max_bytes: 256 << 10, max_entries: 1000, end_pos: u64::MAX };
    match reader.read(LOG, from, lim, Level::Durable) {
        ReadOutcome::Ready(r) => r,
        ReadOutcome::Cold(r) => block_on(r),
    }
}

/// Reads from the start to the end again and again; gives how many entries it saw.
fn catch_up(reader: &dyn Reader, stop: &AtomicBool) -> u64 {
    let mut seen = 0;
    while !stop.load(Ordering::Acquire) {
        let mut from = reader.bounds(LOG).start;
        loop {
            match read(reader, from) {
                Ok(b) if b.entries.is_empty() => break,
                Ok(b) => {
                    for e in &b.entries {
                        assert!(e.body[..] == body(e.pos)[..], "stale bytes at {}", e.pos);
                        seen += 1;
                    }
                    from = b.next;
                }
                Err(ReadError::Trimmed { start }) => from = start,
                Err(e) => panic!("{e}"),
            }
        }
    }
    seen
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
fn nastiest_12_catch_up_readers_beside_the_writer_see_no_error_and_no_stale_byte() {
    let dir = tempfile::tempdir().unwrap();
    let log = DiskLog::new(Env::os(dir.path()));
    let cfg = LogConfig {
        segment_bytes: 1 << 20,
        reserve_bytes: 4 << 20,
        tail_bytes: 128 << 10,
        replay_bytes: 4 << 20,
        flush_interval_ms: 20,
        ..LogConfig::default()
    };
    let mut o = log.open(&cfg, &mut Seen::default()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (reader, stop) = (Arc::clone(&o.reader), Arc::clone(&stop));
            std::thread::spawn(move || catch_up(&*reader, &stop))
        })
        .collect();
    let entries = 4000;
    for pos in 0..entries {
        let bytes = [Bytes::from(body(pos))];
        let append = Op::Append { log: LOG, pos, count: 1, max_ts_ms: -1, attrs: b"", body: &bytes };
        write(&mut o, &[append]);
        if pos % 100 == 99 {
            write(&mut o, &[Op::Trim { log: LOG, before: pos.saturating_sub(600) }]);
        }
    }
    stop.store(true, Ordering::Release);
    assert!(readers.into_iter().map(|r| r.join().unwrap()).sum::<u64>() > 0);
    assert_eq!(o.marks.lost(), None);
    let applied = o.marks.get().sequenced;
    o.sink.offer(RowBatch { rows: Vec::new(), oldest_dirty: None, applied });
    drop(o);

    // 110 MB were written; what is left is what lives, and some room.
    let o = log.open(&cfg, &mut Seen::default()).unwrap();
    let files = std::fs::read_dir(dir.path().join("seg")).unwrap().count();
    assert!(files < 60, "{files} files");
    let start = o.reader.bounds(LOG).start;
    let (mut from, mut all) = (start, 0);
    while let Ok(b) = read(&*o.reader, from)
        && !b.entries.is_empty()
    {
        assert!(b.entries.iter().all(|e| e.body[..] == body(e.pos)[..]));
        (from, all) = (b.next, all + b.entries.len() as u64);
    }
    assert_eq!((from, all), (entries, entries - start));
}
