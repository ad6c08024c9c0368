#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::*;
use crate::disk::place::FooterRoom;

fn runs(logs: u64, entries: u64) -> Vec<(LogId, Vec<IndexEntry>)> {
    let mut offset = 12288u32;
    let mut runs: Vec<(LogId, Vec<IndexEntry>)> = (0..logs).map(|l| (LogId(l * 7 + 1), Vec::new())).collect();
    for i in 0..entries {
        for (log, run) in &mut runs {
            let count = if (i + log.0) % 5 == 0 { 40 } else { 1 };
            let hole = u64::from(i % 11 == 3);
            let pos = run.last().map_or(log.0 << 33, IndexEntry::end) + hole;
            let len = 41 + (i as u32 * 13 + log.0 as u32) % 999;
            run.push(IndexEntry::new(pos, count, (i * 10) as i64, (offset, len)));
            offset += len.next_multiple_of(8);
        }
    }
    runs
}

fn all(f: &Footer, log: LogId, from: u64) -> Vec<(u64, u32, u32, u32)> {
    let mut out = Vec::new();
    let d = f.find(log).unwrap().unwrap();
    f.entries(&d, from, |e| {
        out.push((e.pos, e.count, e.offset, e.len));
        true
    })
    .unwrap();
    out
}

#[test]
fn every_entry_is_found_from_every_position_and_the_room_foretold_is_enough() {
    for (logs, entries) in [(1, 1), (1, 1000), (100, 7), (300, 130), (3, 64), (3, 65)] {
        let runs = runs(logs, entries);
        let raw = encode(&runs);
        let mut room = FooterRoom::default();
        for (_, run) in &runs {
            let mut last = None;
            for e in run {
                room.add(last.map(|p| e.pos - p), e.count);
                last = Some(e.pos);
            }
        }
        assert!(raw.len() <= room.bytes(), "{} {}", raw.len(), room.bytes());
        let f = Footer::parse(&raw);
        assert!(f.find(LogId(2)).unwrap().is_none());
        for (log, run) in runs.iter().step_by(17) {
            let want: Vec<_> = run.iter().map(|e| (e.pos, e.count, e.offset, e.len)).collect();
            assert_eq!(all(&f, *log, 0), want);
            for (i, e) in run.iter().enumerate().step_by(9) {
                assert_eq!(all(&f, *log, e.end() - 1), want[i..]);
                assert_eq!(all(&f, *log, e.end()), want[i + 1..]);
            }
        }
    }
}

#[test]
fn damage_costs_the_blocks_it_hits() {
    let runs = runs(300, 130);
    let raw = encode(&runs);
    for block in 0..raw.len() / 4096 {
        let mut bad = raw.clone();
        bad[block * 4096 + 99] ^= 4;
        let f = Footer::parse(&bad);
        let (mut good, mut lost) = (0, 0);
        for (log, run) in &runs {
            let mut seen = Vec::new();
            let read = f.find(*log).and_then(|d| match d {
                Some(d) => f.entries(&d, 0, |e| {
                    seen.push((e.pos, e.offset));
                    true
                }),
                None => panic!("a log went missing"),
            });
            let want: Vec<_> = run.iter().map(|e| (e.pos, e.offset)).collect();
            match read {
                Ok(()) => {
                    assert_eq!(seen, want);
                    good += 1;
                }
                Err(Rotten) => {
                    assert_eq!(seen, want[..seen.len()]);
                    lost += 1;
                }
            }
        }
        assert!(lost > 0 && (block < 4 || good > 200), "block {block}: {good} good, {lost} lost");
    }
}

#[test]
fn one_log_of_many_costs_a_few_blocks() {
    let raw = encode(&runs(10_000, 6));
    let reads = std::cell::Cell::new(0);
    let looked_at = |ids: &[u64]| {
        let f = Footer::new(
            Arc::new(Blocks::new(raw.len())),
            Box::new(|at, len| {
                reads.set(reads.get() + 1);
                Ok(Bytes::copy_from_slice(&raw[at..at + len]))
            }),
        );
        reads.set(0);
        for id in ids {
            assert_eq!(all(&f, LogId(*id), 0).len(), 6);
        }
        reads.get()
    };
    for id in [1, 8, 7 * 4_999 + 1, 7 * 7_777 + 1, 7 * 9_999 + 1] {
        let n = looked_at(&[id]);
        assert!(n <= 6, "{n} of {} blocks for log {id}", raw.len() / 4096);
    }
    // Each block once.
    let every: Vec<u64> = (0..10_000).map(|l| l * 7 + 1).collect();
    assert_eq!(looked_at(&every), raw.len() / 4096);
}

#[test]
fn logs_are_found_however_their_ids_are_spread() {
    let mut id = 0u64;
    let ids: Vec<u64> = (0..3_000u64)
        .map(|i| {
            id += 1 + (i % 97 == 5) as u64 * (1 << 40) + (i % 1000 == 7) as u64 * (1 << 60);
            id
        })
        .collect();
    let runs: Vec<_> = ids.iter().map(|id| (LogId(*id), vec![IndexEntry::new(*id, 1, 0, (8, 41))])).collect();
    let raw = encode(&runs);
    let f = Footer::parse(&raw);
    for id in &ids {
        assert_eq!(f.find(LogId(*id)).unwrap().unwrap().first, *id);
        assert_eq!(f.find(LogId(id + 1)).unwrap().is_some(), ids.binary_search(&(id + 1)).is_ok());
    }
    assert!(f.find(LogId(0)).unwrap().is_none() && f.find(LogId(u64::MAX)).unwrap().is_none());
}

#[test]
fn a_block_that_could_not_be_read_is_read_again() {
    let raw = encode(&runs(3, 5));
    let blocks = Arc::new(Blocks::new(raw.len()));
    let bad = Footer::new(Arc::clone(&blocks), Box::new(|_, _| Err(io::ErrorKind::Other.into())));
    assert_eq!(bad.find(LogId(8)), Err(Rotten));
    assert!(bad.failed().is_some());
    let good = Footer::new(blocks, Box::new(|at, len| Ok(Bytes::copy_from_slice(&raw[at..at + len]))));
    assert_eq!(all(&good, LogId(8), 0).len(), 5);
    assert!(good.failed().is_none());
}

/// Logs that get the same bodies, beside some that do not; `apart` = each of the former once got another body.
fn fanned_out(entries: u64, apart: bool) -> Vec<(LogId, Vec<IndexEntry>)> {
    let mut runs = runs(5, entries);
    for shared in 0..3u64 {
        for n in 0..50u64 {
            let log = 1000 * (shared + 1) + n;
            let entry = |i: u64| {
                let hole = u64::from(apart && i == n % entries);
                let at = 8 * (i as u32 * 150 + shared as u32);
                IndexEntry::new((log << 20) + i * 2 + hole, 1, i as i64, (at, 1100))
            };
            runs.push((LogId(log), (0..entries).map(entry).collect()));
        }
    }
    runs
}

#[test]
fn logs_with_the_same_bodies_share_their_entries_and_are_read_each_from_every_position() {
    for entries in [1, 4, 64, 65, 300] {
        for apart in [false, true] {
            let runs = fanned_out(entries, apart);
            for raw in [encode(&runs), encode_apart(&runs)] {
                let f = Footer::parse(&raw);
                for (log, run) in runs.iter().step_by(7) {
                    let want: Vec<_> = run.iter().map(|e| (e.pos, e.count, e.offset, e.len)).collect();
                    assert_eq!(all(&f, *log, 0), want);
                    for (i, e) in run.iter().enumerate().step_by(9) {
                        assert_eq!(all(&f, *log, e.end() - 1), want[i..]);
                        assert_eq!(all(&f, *log, e.end()), want[i + 1..]);
                    }
                }
            }
        }
    }
    let runs = fanned_out(1000, false);
    let (shared, apart) = (encode(&runs).len(), encode_apart(&runs).len());
    assert!(shared * 5 < apart, "{shared} {apart}");
}

#[test]
fn shared_entries_lie_as_drawn() {
    let run = |log: u64| {
        let entry = |i: u64| IndexEntry::new(log * 100 + i, 1, 7, (12288 + 40 * i as u32, 33));
        (LogId(log), (0..4).map(entry).collect::<Vec<_>>())
    };
    let raw = encode(&[run(1), run(2)]);
    let of = |at: usize, len: usize| raw[at..at + len].to_vec();
    let restarts = HEAD_BYTES + 2 * DIRECTORY_BYTES;
    let first = |n: u64| [n, 12288].map(u64::to_le_bytes);
    for n in 0..2 {
        let (d, r) = (HEAD_BYTES + n * DIRECTORY_BYTES, restarts + n * RESTART_BYTES);
        assert_eq!(of(d + 40, 8), [(r as u32).to_le_bytes(), SHARED.to_le_bytes()].concat());
        assert_eq!(of(r, 8), first(100 * (n as u64 + 1))[0]);
        // Where the entries begin, from the log's own restart points on.
        let begin = (2 - n) as u32 * RESTART_BYTES as u32;
        assert_eq!(of(r + 8, 8), [12288u32.to_le_bytes(), begin.to_le_bytes()].concat());
    }
    assert_eq!(of(restarts + 2 * RESTART_BYTES, 13), [0, 0, 33, 0, 5, 33, 0, 5, 33, 0, 5, 33, 0]);
}
