//! Damage to the index of an adopted file or a pack costs nothing as long as its content is whole.

use std::sync::Arc;

use bytes::Bytes;
use millstream_env::sim::SimDisk;
use millstream_types::LogId;

use super::kept::*;
use super::merge::*;
use super::support::*;
use crate::api::*;
use crate::format::header::BLOCK_BYTES;
use crate::format::rows::{FileRow, file_of};
use crate::store::{SimStore, StateStore};

const LEN: usize = 20_000;
const ROUNDS: u64 = 40;

/// Ten entries of log 1 a round, in one record, and a body in logs 2 and 3; small ones of log 4 in records that may lie in two files.
fn fill(l: &mut Log) {
    for round in 0..ROUNDS {
        let own: Vec<[Bytes; 1]> = (0..10).map(|i| [Bytes::from(body(round * 10 + i, LEN))]).collect();
        let record: Vec<Op<'_>> =
            own.iter().enumerate().map(|(i, b)| append_op(1, round * 10 + i as u64, b)).collect();
        l.put(&record);
        let shared = [Bytes::from(body(round, 300))];
        let to = [(LogId(2), round), (LogId(3), round * 2)];
        let fan_out = Op::FanOut { to: &to, max_ts_ms: 5, attrs: b"attr", body: &shared };
        let small = [Bytes::from(body(round, 8))];
        let lsn = l.put(&[fan_out, append_op(4, round, &small)]);
        l.wait(lsn).unwrap();
    }
}

fn check(l: &Log, left: impl Fn(u64) -> bool) {
    let got: Vec<_> = l.read(1).into_iter().filter(|(pos, _)| left(*pos)).collect();
    assert_eq!(got.len(), (0..ROUNDS * 10).filter(|pos| left(*pos)).count());
    assert!(got.iter().all(|(pos, b)| *b == body(*pos, LEN)));
    for (log, step) in [(2, 1), (3, 2), (4, 1)] {
        let got: Vec<u64> = l.read(log).iter().map(|(pos, _)| *pos).collect();
        assert_eq!(got, (0..ROUNDS).map(|round| round * step).collect::<Vec<_>>());
    }
}

/// Files that have an index, and where it lies.
fn indexes(store: &SimStore, prefix: &[u8]) -> Vec<(String, FileRow)> {
    let rows = store.scan(prefix, prefix, 999).unwrap();
    rows.iter().map(|(k, v)| (crate::disk::file::path(file_of(k)), FileRow::decode(v).unwrap())).collect()
}

fn footer(disk: &SimDisk, (name, row): &(String, FileRow)) -> Vec<u8> {
    let at = row.footer_off as usize;
    disk.contents(name).unwrap()[at..at + row.footer_len as usize].to_vec()
}

/// Flips a bit in every block of an index.
fn harm(disk: &SimDisk, (name, row): &(String, FileRow)) {
    for at in (row.footer_off..row.footer_off + row.footer_len).step_by(BLOCK_BYTES) {
        disk.corrupt(name, at + 3, 1).unwrap();
    }
}

fn wait_until(what: &str, l: &Log, f: impl Fn() -> bool) {
    for _ in 0..500 {
        if f() {
            return;
        }
        l.flush();
        std::thread::sleep(std::time::Duration::from_millis(1)); // tidy: pacing
    }
    panic!("{what} {:?} {:?}", l.o.stats, l.o.marks.lost());
}

/// A log of which no file is merged.
fn unmerged() -> LogConfig {
    LogConfig { merge_gain_bytes_min: u64::MAX, ..eager() }
}

#[test]
fn a_damaged_index_of_a_segment_file_is_made_anew_from_its_frames() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = try_open_as(&disk, &store, &unmerged()).unwrap();
    fill(&mut l);
    drop(l);
    let files = indexes(&store, b"F");
    assert!(files.len() > 6, "{}", files.len());
    let whole: Vec<_> = files.iter().map(|f| footer(&disk, f)).collect();
    files.iter().for_each(|f| harm(&disk, f));
    let l = try_open_as(&disk, &store, &unmerged()).unwrap();
    check(&l, |_| true);
    assert!(files.iter().zip(&whole).all(|(f, whole)| footer(&disk, f) == *whole));
    check(&l, |_| true);
}

#[test]
fn a_merge_finds_a_damaged_index_made_anew() {
    let (disk, store) = (SimDisk::new(2), SimStore::new());
    let mut l = try_open_as(&disk, &store, &unmerged()).unwrap();
    fill(&mut l);
    drop(l);
    indexes(&store, b"F").iter().for_each(|f| harm(&disk, f));
    let mut l = open_eager(&disk, &store);
    for round in 0..ROUNDS {
        l.retire(1, &[(round * 10 + 1, 9)]);
    }
    l.push_on(3);
    wait_until("merges", &l, || l.o.stats.merges() > 0 && indexes(&store, b"F").len() < 4);
    assert_eq!(l.o.stats.merge_failures(), 0);
    check(&l, |pos| pos.is_multiple_of(10));
}

#[test]
fn a_damaged_index_of_a_pack_is_made_anew_from_its_blocks() {
    let (disk, store) = (SimDisk::new(3), SimStore::new());
    let mut l = open_eager(&disk, &store);
    fill(&mut l);
    for round in 0..ROUNDS {
        l.retire(1, &[(round * 10 + 1, 9)]);
    }
    l.push_on(3);
    wait_until("merges", &l, || l.o.stats.merges() > 0 && indexes(&store, b"F").len() < 4);
    drop(l);
    let packs = indexes(&store, b"P");
    assert!(!packs.is_empty());
    let whole: Vec<_> = packs.iter().map(|f| footer(&disk, f)).collect();
    packs.iter().for_each(|f| harm(&disk, f));
    let l = try_open_as(&disk, &store, &unmerged()).unwrap();
    check(&l, |pos| pos.is_multiple_of(10));
    assert!(packs.iter().zip(&whole).all(|(f, whole)| footer(&disk, f) == *whole));
}

#[test]
fn a_damaged_index_over_damaged_content_costs_its_file_and_no_other() {
    let (disk, store) = (SimDisk::new(4), SimStore::new());
    let mut l = try_open_as(&disk, &store, &unmerged()).unwrap();
    fill(&mut l);
    // The next opening need not walk them.
    l.flush();
    drop(l);
    let files = indexes(&store, b"F");
    let third = &files[2];
    harm(&disk, third);
    disk.corrupt(&third.0, 12_288 + 5000, 1).unwrap();
    let before = footer(&disk, third);
    let l = try_open_as(&disk, &store, &unmerged()).unwrap();
    let (mut from, mut got, mut bad) = (0, 0, 0);
    loop {
        match l.read_at(1, from, Level::Durable) {
            Ok(batch) => {
                got += batch.len();
                break;
            }
            Err(ReadError::Damaged { first, end, file }) => {
                assert!(file.contains(&third.0) && first >= from && end > first, "{file} {first} {end}");
                got += l.read_at_most(1, from, first);
                (from, bad) = (end, bad + 1);
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!(bad == 1 && got > 300 && got < 400, "{bad} {got}");
    assert_eq!(footer(&disk, third), before);
    assert!(l.o.marks.lost().is_none());
}

impl Log {
    /// Entries of a log in a range, as many as there are.
    fn read_at_most(&self, log: u64, from: u64, end: u64) -> usize {
        let (mut from, mut n) = (from, 0);
        while from < end {
            let lim = Limits { max_bytes: 1 << 20, max_entries: 1, end_pos: end };
            let batch = match self.o.reader.read(LogId(log), from, lim, Level::Durable) {
                ReadOutcome::Ready(b) => b.unwrap(),
                ReadOutcome::Cold(b) => block_on(b).unwrap(),
            };
            n += batch.entries.len();
            from = batch.next.max(from + 1);
        }
        n
    }
}

#[test]
fn what_a_file_does_not_need_behind_its_index_is_given_back_and_a_short_file_is_not_used_again() {
    let (disk, store) = (SimDisk::new(5), SimStore::new());
    let mut l = try_open_as(&disk, &store, &unmerged()).unwrap();
    l.append(1, 0, b"alone");
    drop(l);
    // The stop gave the file its index.
    let files = indexes(&store, b"F");
    let len = |name: &str| disk.contents(name).ok().map(|bytes| bytes.len());
    assert_eq!((files.len(), len(&files[0].0).unwrap()), (1, 12_288 + 3 * BLOCK_BYTES));
    let mut l = try_open_as(&disk, &store, &unmerged()).unwrap();
    assert_eq!(l.read(1).len(), 1);
    l.trim(1, 1);
    for pos in 0..200 {
        l.append(2, pos, &body(pos, LEN));
    }
    wait_until("it is removed", &l, || len(&files[0].0).is_none());
    let names = millstream_env::Disk::list(&*disk, "seg").unwrap();
    let first =
        names.iter().map(|n| format!("seg/{n}")).filter(|n| !indexes(&store, b"F").iter().any(|f| f.0 == *n));
    assert!(first.into_iter().all(|n| len(&n).is_none_or(|len| len == 1 << 20)));
    let _: Arc<SimDisk> = disk;
}
