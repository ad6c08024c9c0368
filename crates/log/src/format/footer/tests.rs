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
            run.push(IndexEntry::new(pos, count, (i * 10) as i64, (offset, len), 1));
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
