//! Reading: levels, limits, positions, times.

use bytes::Bytes;
use millstream_log::{Level, Limits, Op};
use millstream_types::{LogId, Lsn};

use super::kit::{A, ALL, B, Log, body, finish, one, open, positions};
use crate::block_on::block_on;
use crate::under::LogUnderTest;

fn batch(log: LogId, pos: u64, count: u32, max_ts_ms: i64, body: &[Bytes]) -> Op<'_> {
    Op::Append { log, pos, count, max_ts_ms, attrs: b"b", body }
}

/// See the name.
pub fn a_log_never_written_reads_as_empty(under: &dyn LogUnderTest) {
    let log = open(under);
    for level in [Level::Durable, Level::Written, Level::Sequenced] {
        let read = log.read(A, 0, ALL, level).unwrap();
        assert!(read.entries.is_empty() && read.next == 0);
        assert_eq!(log.read(A, 17, ALL, level).unwrap().next, 17, "nothing found: go on from there");
    }
    assert!(finish(log.opened.reader.get(A, &[0, 5])).unwrap().entries.is_empty());
    assert!(block_on(log.opened.reader.heads(A, 0, ALL, Level::Durable)).unwrap().is_empty());
    assert!(block_on(log.opened.reader.by_time(A, 0, 0, Level::Durable)).unwrap().is_none());
    assert!(block_on(log.opened.reader.extents(A, 0, 10)).unwrap().is_empty());
    let bounds = log.opened.reader.bounds(A);
    assert_eq!((bounds.start, bounds.next, bounds.bytes, bounds.max_ts_ms), (0, 0, 0, -1));
}

/// See the name.
pub fn an_entry_shows_at_the_level_its_record_has_reached(under: &dyn LogUnderTest) {
    let mut log = open(under);
    log.append(A, 0..2);
    let at = |log: &Log<'_>, level| positions(&log.read(A, 0, ALL, level).unwrap().entries);
    let hold = under.hold();
    let lsn = log.turn(&[one(A, 2, &body(A, 2)), one(B, 0, &body(B, 0)), one(A, 3, &body(A, 3))]);
    assert_eq!(at(&log, Level::Sequenced), [0, 1, 2, 3]);
    if let Some(hold) = hold {
        assert_eq!(at(&log, Level::Durable), [0, 1]);
        let written = at(&log, Level::Written);
        assert!(written == [0, 1] || written == [0, 1, 2, 3], "{written:?}: a record shows whole");
        drop(hold);
    }
    log.durable(lsn);
    for level in [Level::Durable, Level::Written, Level::Sequenced] {
        assert_eq!(at(&log, level), [0, 1, 2, 3]);
    }
}

/// See the name.
pub fn a_read_gives_at_least_one_entry_and_keeps_its_limits(under: &dyn LogUnderTest) {
    let mut log = open(under);
    let kilobyte = [Bytes::from(vec![1; 1_000])];
    for pos in 0..20 {
        log.commit(&[batch(A, pos, 1, 0, &kilobyte)]);
    }
    let count = |from, lim| {
        let read = log.read(A, from, lim, Level::Durable).unwrap();
        let found = positions(&read.entries);
        assert!(found.iter().enumerate().all(|(i, pos)| *pos == from + i as u64));
        assert_eq!(read.next, from + found.len() as u64);
        found.len()
    };
    assert_eq!(count(0, Limits { max_bytes: 0, ..ALL }), 1);
    assert_eq!(count(3, Limits { max_bytes: 10, ..ALL }), 1);
    assert_eq!(count(3, Limits { max_bytes: 5_500, ..ALL }), 5);
    assert_eq!(count(3, Limits { max_bytes: 3 * 1_001, ..ALL }), 3);
    assert_eq!(count(0, Limits { max_entries: 7, ..ALL }), 7);
    assert_eq!(count(15, Limits { max_entries: 7, ..ALL }), 5);
    assert_eq!(count(20, ALL), 0);
    assert_eq!(count(0, ALL), 20);
}

/// See the name.
pub fn a_read_ends_before_the_end_it_was_given(under: &dyn LogUnderTest) {
    let mut log = open(under);
    for pos in [0, 10, 20] {
        log.commit(&[batch(A, pos, 10, 0, &body(A, pos))]);
    }
    let upto = |from, end_pos| {
        positions(&log.read(A, from, Limits { end_pos, ..ALL }, Level::Durable).unwrap().entries)
    };
    assert_eq!(upto(0, 20), [0, 10]);
    assert_eq!(upto(0, 10), [0]);
    assert!(upto(0, 0).is_empty() && upto(10, 10).is_empty() && upto(20, 10).is_empty());
    assert_eq!(upto(0, 21), [0, 10, 20], "an entry that begins before the end shows whole");
}

/// See the name.
pub fn a_read_into_a_batch_gives_the_whole_batch(under: &dyn LogUnderTest) {
    let mut log = open(under);
    for pos in [0, 100, 200] {
        log.commit(&[batch(A, pos, 50, 0, &body(A, pos))]);
    }
    let from = |pos| {
        let read = log.read(A, pos, Limits { max_entries: 1, ..ALL }, Level::Durable).unwrap();
        (positions(&read.entries), read.next)
    };
    assert_eq!(from(0), (vec![0], 50));
    assert_eq!(from(49), (vec![0], 50));
    assert_eq!(from(50), (vec![100], 150), "a hole");
    assert_eq!(from(101), (vec![100], 150));
    assert_eq!(from(249), (vec![200], 250));
    assert_eq!(from(250), (vec![], 250));
}

/// See the name.
pub fn get_gives_the_entries_that_cover_the_positions(under: &dyn LogUnderTest) {
    let mut log = open(under);
    for pos in [0, 10, 20, 40] {
        log.commit(&[batch(A, pos, 10, 0, &body(A, pos))]);
    }
    let get = |at: &[u64]| positions(&finish(log.opened.reader.get(A, at)).unwrap().entries);
    assert_eq!(get(&[5]), [0]);
    assert_eq!(get(&[0, 1, 9, 10, 39, 40, 49, 50]), [0, 10, 40]);
    assert!(get(&[35, 50]).is_empty() && get(&[]).is_empty());
    let read = finish(log.opened.reader.get(A, &[21])).unwrap();
    assert_eq!(read.entries[0].body, body(A, 20)[0]);
}

/// See the name.
pub fn heads_are_entries_without_bodies(under: &dyn LogUnderTest) {
    let mut log = open(under);
    for pos in 0..6u64 {
        log.commit(&[batch(A, pos * 2, 2, 100 + i64::try_from(pos).unwrap(), &body(A, pos))]);
    }
    let heads = |from, lim| block_on(log.opened.reader.heads(A, from, lim, Level::Durable)).unwrap();
    let read = log.read(A, 3, ALL, Level::Durable).unwrap().entries;
    let found = heads(3, ALL);
    assert_eq!(found.len(), 5);
    for (h, e) in found.iter().zip(&read) {
        assert_eq!((h.pos, h.count, h.max_ts_ms, &h.attrs), (e.pos, e.count, e.max_ts_ms, &e.attrs));
        assert_eq!(h.body_len as usize, e.body.len());
    }
    assert_eq!(heads(0, Limits { max_entries: 2, ..ALL }).len(), 2);
    assert_eq!(heads(0, Limits { end_pos: 7, ..ALL }).len(), 4);
}

/// See the name.
pub fn by_time_gives_the_first_entry_that_reaches_the_time(under: &dyn LogUnderTest) {
    let mut log = open(under);
    for (pos, ts) in [(0, 100), (1, -1), (2, 300), (3, 200), (4, 300), (5, 400)] {
        log.commit(&[batch(A, pos, 1, ts, &body(A, pos))]);
    }
    let at = |from, ts| {
        block_on(log.opened.reader.by_time(A, from, ts, Level::Durable))
            .unwrap()
            .map(|h| (h.pos, h.max_ts_ms))
    };
    assert_eq!(at(0, 0), Some((0, 100)));
    assert_eq!(at(0, 101), Some((2, 300)));
    assert_eq!(at(3, 101), Some((3, 200)), "times may go back");
    assert_eq!(at(3, 300), Some((4, 300)));
    assert_eq!(at(0, 400), Some((5, 400)));
    assert_eq!((at(0, 401), at(6, 0)), (None, None));
}

/// See the name.
pub fn bounds_and_extents_tell_where_a_log_begins_and_ends(under: &dyn LogUnderTest) {
    let mut log = open(under);
    // Enough for several files, in two logs.
    let large = [Bytes::from(vec![3; 200_000])];
    for pos in 0..24 {
        log.commit(&[batch(A, pos * 10, 10, 50, &large), batch(B, pos, 1, 60, &body(B, pos))]);
    }
    let bounds = log.opened.reader.bounds(A);
    assert_eq!((bounds.start, bounds.next, bounds.max_ts_ms), (0, 240, 50));
    assert!((24 * 200_000..24 * 220_000).contains(&bounds.bytes), "{bounds:?}");
    let extents = block_on(log.opened.reader.extents(A, 0, 1_000)).unwrap();
    assert_eq!(extents.first().map(|e| e.first), Some(0));
    assert_eq!(extents.last().map(|e| e.end), Some(240));
    for pair in extents.windows(2) {
        assert_eq!(pair[0].end, pair[1].first);
    }
    assert_eq!(extents.iter().map(|e| e.max_ts_ms).max(), Some(50));
    assert!(extents.iter().map(|e| e.bytes).sum::<u64>() >= 24 * 200_000);
    let last = *extents.last().unwrap();
    let from_there = block_on(log.opened.reader.extents(A, last.first, 10)).unwrap();
    assert_eq!(from_there, [last]);
    assert_eq!(block_on(log.opened.reader.extents(A, 0, 1)).unwrap(), extents[..1]);
    assert!(block_on(log.opened.reader.extents(A, 240, 10)).unwrap().is_empty());
}

/// See the name.
pub fn readers_on_other_threads_see_a_growing_prefix(under: &dyn LogUnderTest) {
    const ENTRIES: u64 = 400;
    let mut log = open(under);
    let (reader, marks) = (log.opened.reader.clone(), log.opened.marks.clone());
    std::thread::scope(|scope| {
        for level in [Level::Durable, Level::Sequenced] {
            let (reader, marks) = (reader.clone(), marks.clone());
            scope.spawn(move || {
                let mut next = 0;
                while next < ENTRIES {
                    let durable = marks.get().durable;
                    let read = finish(reader.read(A, next, ALL, level)).unwrap();
                    for e in &read.entries {
                        assert_eq!((e.pos, &e.body), (next, &body(A, next)[0]));
                        next += 1;
                    }
                    assert!(next >= durable.0, "what was durable before the read shows");
                    assert!(level == Level::Sequenced || next <= marks.get().durable.0);
                    std::thread::yield_now();
                }
            });
        }
        for pos in 0..ENTRIES {
            log.turn(&[one(A, pos, &body(A, pos))]);
            if pos % 40 == 0 {
                under.commit();
            }
        }
        log.durable(Lsn(ENTRIES));
    });
}
