//! Merges: what lives in mostly dead files is found in packs, whatever goes meanwhile, and the files come free.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_env::Disk;
use millstream_env::sim::{Call, Fault, SimDisk};
use millstream_types::LogId;

use super::kept::*;
use super::support::*;
use crate::api::*;
use crate::format::op::{Found, To, take_op};
use crate::format::pack::{BLOCKS_OFFSET, BlockHeader, BlockOf, Trailer};
use crate::store::{SimStore, StateStore};

/// As [`small`], and merges whatever may be merged at once.
pub fn eager() -> LogConfig {
    LogConfig {
        merge_budget_percent: 100,
        merge_bytes_per_s: 0,
        merge_gain_bytes_min: 0,
        replay_bytes: 2 << 20,
        ..small()
    }
}

pub fn open_eager(disk: &Arc<SimDisk>, store: &SimStore) -> Log {
    try_open_as(disk, store, &eager()).unwrap()
}

pub fn list(disk: &SimDisk, dir: &str) -> Vec<String> {
    Disk::list(disk, dir).unwrap_or_default()
}

pub fn body(pos: u64, len: usize) -> Vec<u8> {
    let mut b: Vec<u8> = (0..len).map(|i| (i as u64 * 31 + pos * 7) as u8).collect();
    b[..8].copy_from_slice(&pos.to_le_bytes());
    b
}

fn wait_until(what: &str, l: &Log, mut f: impl FnMut() -> bool) {
    for _ in 0..200 {
        if f() {
            return;
        }
        l.flush();
        std::thread::sleep(std::time::Duration::from_millis(1)); // tidy: pacing
    }
    panic!("{what} {:?} {:?}", l.o.stats, l.o.marks.lost());
}

impl Log {
    pub fn retire(&mut self, log: u64, runs: &[(u64, u32)]) {
        let lsn = self.put(&[Op::Retire { log: LogId(log), runs }]);
        self.wait(lsn).unwrap();
    }

    fn fan_out(&mut self, to: &[(LogId, u64)], bytes: Vec<u8>) {
        let bytes = [Bytes::from(bytes)];
        let lsn = self.put(&[Op::FanOut { to, max_ts_ms: 5, attrs: b"attr", body: &bytes }]);
        self.wait(lsn).unwrap();
    }

    /// Entries of which any position is left, by position, without those that may show and need not.
    fn read_left(&self, log: u64, left: impl Fn(u64) -> bool) -> Vec<(u64, Vec<u8>)> {
        self.read(log).into_iter().filter(|(pos, _)| left(*pos)).collect()
    }

    /// Fills files with another log until all before are adopted.
    pub fn push_on(&mut self, files: u64) {
        let from = self.o.reader.bounds(LogId(99)).next;
        for pos in from..from + files * 9 {
            self.append(99, pos, &body(pos, 110_000));
        }
        let next = self.o.reader.bounds(LogId(99)).next;
        self.trim(99, next);
        self.flush();
    }
}

fn merges(l: &Log) -> u64 {
    l.o.stats.merges()
}

const LEN: usize = 20_000;

/// Of every ten entries of log 1 one stays.
fn scatter(l: &mut Log, entries: u64) {
    let from = l.o.reader.bounds(LogId(1)).next;
    for pos in from..from + entries {
        l.append(1, pos, &body(pos, LEN));
    }
    for first in (from..from + entries).step_by(10) {
        l.retire(1, &[(first + 1, 9)]);
    }
}

fn stays(pos: u64) -> bool {
    pos.is_multiple_of(10)
}

fn check(l: &Log, entries: u64) {
    let want: Vec<_> = (0..entries).filter(|p| stays(*p)).map(|p| (p, body(p, LEN))).collect();
    let got = l.read_left(1, stays);
    assert_eq!(got.iter().map(|e| e.0).collect::<Vec<_>>(), want.iter().map(|e| e.0).collect::<Vec<_>>());
    assert!(got == want);
    let ask: Vec<u64> = (0..entries).filter(|p| stays(*p)).collect();
    let got = match l.o.reader.get(LogId(1), &ask) {
        ReadOutcome::Ready(r) => r.unwrap(),
        ReadOutcome::Cold(r) => block_on(r).unwrap(),
    };
    assert!(got.entries.iter().map(|e| (e.pos, e.body.to_vec())).eq(want));
    let late = (entries - 1) / 10 * 10;
    let found = block_on(l.o.reader.by_time(LogId(1), 0, late as i64, Level::Durable)).unwrap();
    assert_eq!(found.unwrap().pos, late);
    assert_eq!(l.o.reader.bounds(LogId(1)).next, entries);
}

#[test]
fn what_lives_in_mostly_dead_files_is_read_from_packs_and_the_files_come_free() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_eager(&disk, &store);
    scatter(&mut l, 600);
    l.push_on(4);
    // 600 entries are 12 files, of which a tenth lives.
    wait_until("merges", &l, || merges(&l) > 0 && store.scan(b"F", b"F", 99).unwrap().len() < 3);
    check(&l, 600);
    assert!(!list(&disk, "pack").is_empty() && l.o.stats.merged_bytes() > 1_000_000);
    let held: usize =
        list(&disk, "pack").iter().map(|n| disk.contents(&format!("pack/{n}")).unwrap().len()).sum();
    assert!(held < 2_000_000, "{held}");
    drop(l);
    let mut l = open_eager(&disk, &store);
    check(&l, 600);
    // All of the rest goes, and every pack with it.
    l.trim(1, 600);
    wait_until("packs are removed", &l, || list(&disk, "pack").is_empty());
    for letter in [b"P", b"X", b"R"] {
        assert!(store.scan(letter, letter, 9).unwrap().is_empty());
    }
}

/// Entries of a pack by block, read from front to back.
fn walk(bytes: &[u8], meta: &[u8]) -> BTreeMap<(u64, u64), usize> {
    let uuid: [u8; 16] = meta[8..24].try_into().unwrap();
    let id = crate::format::ids::StoreId::new(uuid);
    let trailer = Trailer::decode(&bytes[bytes.len() - 4096..], &id).unwrap();
    let mut rest = &bytes[BLOCKS_OFFSET as usize..trailer.blocks_end as usize];
    let mut refs = BTreeMap::new();
    let mut last = None;
    while !rest.is_empty() {
        let (header, mut entries) = BlockHeader::take(&mut rest).unwrap();
        let mut n = 0;
        while !entries.is_empty() {
            n += 1;
            let (found, _) = take_op(&mut entries).unwrap();
            let Found::Entry(e) = found else { panic!("not an entry") };
            match (&header.of, e.to) {
                (BlockOf::Log { log, first, end }, To::One { log: of, pos, count }) => {
                    assert!(*log == of && *first <= pos && pos + u64::from(count) <= *end);
                    assert!(last < Some((log.0, pos)), "blocks are sorted");
                    last = Some((log.0, pos));
                    refs.insert((log.0, pos), e.body.len());
                }
                (BlockOf::FanOuts, To::Many(to)) => {
                    last = Some((u64::MAX, 0));
                    refs.extend(to.map(|(log, pos)| ((log.0, pos), e.body.len())));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(n, header.n);
    }
    assert_eq!(refs.len(), trailer.entries as usize);
    refs
}

#[test]
fn a_body_in_several_logs_goes_with_its_last_reference_and_lies_in_one_pack_with_all_of_them() {
    let (disk, store) = (SimDisk::new(2), SimStore::new());
    let mut l = open_eager(&disk, &store);
    let bodies = 50u64;
    for pos in 0..bodies {
        let to: Vec<_> = (1..=40).map(|log| (LogId(log), pos * 2)).collect();
        l.fan_out(&to, body(pos, 18_000));
        // Own entries between them: in a pack the fan-outs lie behind.
        l.append(3, pos * 2 + 1, &body(1000 + pos, 1_000));
    }
    // Of every fifth body two references stay, of the others none.
    let kept = |log: u64, pos: u64| (log == 3 || log == 7) && pos.is_multiple_of(10);
    for log in 1..=40 {
        let runs: Vec<_> = (0..bodies).map(|b| b * 2).filter(|p| !kept(log, *p)).map(|p| (p, 1)).collect();
        l.retire(log, &runs);
    }
    l.push_on(4);
    wait_until("merges", &l, || merges(&l) > 0 && store.scan(b"F", b"F", 99).unwrap().len() < 3);
    let verify = |l: &Log| {
        let own = |pos: u64| pos % 2 == 1;
        let three = l.read_left(3, |p| own(p) || kept(3, p));
        let want = |p: u64| if own(p) { body(1000 + p / 2, 1_000) } else { body(p / 2, 18_000) };
        assert_eq!(three.len(), 60);
        assert!(three.iter().all(|(p, b)| *b == want(*p)));
        let seven = l.read_left(7, |p| kept(7, p));
        assert!(seven.iter().map(|e| e.0).eq((0..10).map(|i| i * 10)));
        assert!(seven.iter().all(|(p, b)| *b == want(*p)));
        // The whole of one log reads through, forwards and backwards in the file.
        assert!(l.read(3).windows(2).all(|w| w[0].0 < w[1].0));
    };
    verify(&l);
    let meta = disk.contents("meta").unwrap();
    let mut refs = BTreeMap::new();
    for name in list(&disk, "pack") {
        refs.extend(walk(&disk.contents(&format!("pack/{name}")).unwrap(), &meta));
    }
    let shared: Vec<_> = refs.iter().filter(|(_, len)| **len == 18_000).map(|(at, _)| *at).collect();
    // The last may lie in the file that is not full.
    assert!(shared.len() >= 16, "{shared:?}");
    assert!(shared.iter().all(|(log, pos)| kept(*log, *pos)));
    drop(l);
    let mut l = open_eager(&disk, &store);
    verify(&l);
    // One of the two references of each goes: the bodies stay. Then the other: they go at the next merge, or with the pack.
    l.retire(7, &(0..10).map(|i| (i * 10, 1)).collect::<Vec<_>>());
    l.flush();
    assert_eq!(l.read_left(3, |p| kept(3, p)).len(), 10);
    l.trim(3, 100);
    for log in 1..=40 {
        l.trim(log, 100);
    }
    wait_until("packs are removed", &l, || list(&disk, "pack").is_empty());
}

#[test]
fn nastiest_7_entries_settle_and_logs_go_while_they_are_merged() {
    for seed in 0..6 {
        let (disk, store) = (SimDisk::new(seed), SimStore::new());
        let mut l = open_eager(&disk, &store);
        for pos in 0..200 {
            let to = [(LogId(2), pos), (LogId(3), pos), (LogId(4), pos)];
            l.append(1, pos, &body(pos, 5_000));
            l.fan_out(&to, body(pos, 15_000));
        }
        for log in [1, 2, 3, 4] {
            let runs: Vec<_> = (0..20).map(|i| (i * 10 + 1, 9)).collect();
            l.retire(log, &runs);
        }
        l.push_on(3);
        // While merges run, half of what is left settles one by one, log 4 is deleted and log 2 trimmed.
        for i in 0..20 {
            if i % 2 == 0 {
                for log in [1, 2, 3] {
                    l.retire(log, &[(i * 10, 1)]);
                }
            }
            if i == seed * 3 {
                let lsn = l.put(&[Op::Delete { log: LogId(4) }]);
                l.wait(lsn).unwrap();
            }
            if i == 15 {
                l.trim(2, 100);
            }
            l.append(98, i, &body(i, 90_000));
        }
        wait_until("merges", &l, || merges(&l) > 0);
        let verify = |l: &Log| {
            let left = |pos: u64| pos % 20 == 10;
            for (log, len) in [(1, 5_000), (3, 15_000)] {
                let got = l.read_left(log, left);
                assert!(got.iter().map(|e| e.0).eq((0..10).map(|i| i * 20 + 10)), "log {log}");
                assert!(got.iter().all(|(p, b)| *b == body(*p, len)), "log {log}");
            }
            assert!(l.read_left(2, left).iter().map(|e| e.0).eq((5..10).map(|i| i * 20 + 10)));
            assert!(l.read_at(4, 0, Level::Durable).map_or(true, |got| got.is_empty()));
        };
        verify(&l);
        drop(l);
        let mut l = open_eager(&disk, &store);
        verify(&l);
        for log in [1, 2, 3, 98] {
            let lsn = l.put(&[Op::Delete { log: LogId(log) }]);
            l.wait(lsn).unwrap();
        }
        l.push_on(3);
        wait_until("all is free", &l, || {
            list(&disk, "pack").is_empty()
                && [b"P", b"R"].iter().all(|letter| store.scan(*letter, *letter, 9).unwrap().is_empty())
        });
    }
}

#[test]
fn a_merge_that_cannot_be_written_changes_nothing_and_is_made_later() {
    for fault in [
        Fault::new(Call::Allocate).no_space(),
        Fault::new(Call::Write),
        Fault::new(Call::Write).no_space(),
        Fault::new(Call::Sync),
        Fault::new(Call::SyncDir),
        Fault::new(Call::Create),
    ] {
        let what = format!("{fault:?}");
        let (disk, store) = (SimDisk::new(3), SimStore::new());
        let mut l = open_eager(&disk, &store);
        disk.inject(fault.on_path(|p| p.starts_with("pack")));
        scatter(&mut l, 200);
        l.push_on(3);
        wait_until(&what, &l, || merges(&l) > 0 && store.scan(b"F", b"F", 99).unwrap().len() < 3);
        check(&l, 200);
        assert!(l.o.marks.lost().is_none());
    }
}

#[test]
fn a_pack_that_is_missing_or_damaged_costs_what_lay_in_it_and_no_more() {
    let (disk, store) = (SimDisk::new(4), SimStore::new());
    let mut l = open_eager(&disk, &store);
    scatter(&mut l, 200);
    l.push_on(3);
    wait_until("merges", &l, || merges(&l) > 0 && store.scan(b"F", b"F", 99).unwrap().len() < 3);
    for pos in 0..5 {
        l.append(2, pos, &body(pos, 100));
    }
    drop(l);
    let names = list(&disk, "pack");
    let damage: [&dyn Fn(&str); 3] = [
        &|name| {
            let entry = disk.contents(name).unwrap().len() as u64 / 3;
            disk.corrupt(name, entry, 1).unwrap();
        },
        &|name| disk.corrupt(name, 9, 1).unwrap(),
        &|name| Disk::remove(&*disk, name).unwrap(),
    ];
    for harm in damage {
        names.iter().for_each(|n| harm(&format!("pack/{n}")));
        let l = open_eager(&disk, &store);
        assert_eq!(l.read(2).len(), 5);
        let (mut from, mut bad) = (0, 0);
        loop {
            match l.read_at(1, from, Level::Durable) {
                Ok(_) => break,
                Err(ReadError::Damaged { first, end, file }) => {
                    assert!(file.contains("pack/") && first >= from && end > first, "{file} {first} {end}");
                    (from, bad) = (end, bad + 1);
                }
                Err(e) => panic!("{e}"),
            }
        }
        assert!(bad > 0);
        l.flush();
        assert!(l.o.marks.lost().is_none());
    }
}

#[test]
fn a_damaged_source_is_left_as_it_is_and_the_log_goes_on() {
    let (disk, store) = (SimDisk::new(5), SimStore::new());
    // Nothing is merged yet.
    let waiting = LogConfig { merge_gain_bytes_min: u64::MAX, ..eager() };
    let mut l = try_open_as(&disk, &store, &waiting).unwrap();
    scatter(&mut l, 200);
    l.push_on(3);
    wait_until("files are adopted", &l, || store.scan(b"F", b"F", 99).unwrap().len() > 3);
    drop(l);
    // The first entry, which stays.
    disk.corrupt("seg/0000000000000000", 12_288 + 100, 1).unwrap();
    let mut l = open_eager(&disk, &store);
    scatter(&mut l, 200);
    l.push_on(3);
    wait_until("a merge is given up", &l, || l.o.stats.merge_failures() > 0);
    wait_until("others are merged", &l, || merges(&l) > 0);
    assert!(matches!(l.read_at(1, 0, Level::Durable), Err(ReadError::Damaged { first: 0, .. })));
    let got = l.read_at(1, 1, Level::Durable).unwrap();
    assert!(got.iter().filter(|(p, _)| stays(*p)).count() == 39);
}

#[test]
fn the_budget_bounds_what_merges_write() {
    let (disk, store) = (SimDisk::new(6), SimStore::new());
    let cfg = LogConfig { merge_budget_percent: 2, ..eager() };
    let mut l = try_open_as(&disk, &store, &cfg).unwrap();
    for _ in 0..6 {
        scatter(&mut l, 100);
        l.push_on(2);
        l.flush();
    }
    let appended = 6 * (100 * LEN as u64 + 18 * 110_000);
    assert!(l.o.stats.merged_bytes() <= appended * 2 / 100 + (1 << 20), "{:?}", l.o.stats);
    check(&l, 600);
    drop(l);
    let cfg = LogConfig { merge_budget_percent: 0, ..eager() };
    let mut l = try_open_as(&disk, &store, &cfg).unwrap();
    scatter(&mut l, 100);
    l.push_on(3);
    assert_eq!((merges(&l), l.o.stats.merge_budget_bytes()), (0, 0));
}

#[test]
fn packs_are_merged_again() {
    let (disk, store) = (SimDisk::new(7), SimStore::new());
    let mut l = open_eager(&disk, &store);
    scatter(&mut l, 300);
    l.push_on(3);
    wait_until("merges", &l, || merges(&l) > 0 && store.scan(b"F", b"F", 99).unwrap().len() < 3);
    let before: u64 = merges(&l);
    // Of the thirty that stay nine in ten go.
    for pos in (0..300).filter(|p| stays(*p) && p % 100 != 0) {
        l.retire(1, &[(pos, 1)]);
    }
    l.push_on(2);
    wait_until("merges again", &l, || merges(&l) > before);
    let got = l.read_left(1, |p| p % 100 == 0);
    assert!(got.iter().map(|e| e.0).eq([0, 100, 200]) && got.iter().all(|(p, b)| *b == body(*p, LEN)));
    drop(l);
    let l = open_eager(&disk, &store);
    assert_eq!(l.read_left(1, |p| p % 100 == 0).len(), 3);
}
