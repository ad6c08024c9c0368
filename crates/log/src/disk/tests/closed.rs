//! A log that was closed opens without being read.

use std::sync::Arc;

use millstream_env::Disk;
use millstream_env::sim::SimDisk;
use millstream_types::LogId;

use super::kept::{open_kept, small, try_open_kept};
use super::support::*;
use crate::api::*;
use crate::format::header::LINK_OFFSET;
use crate::format::rows::{END_KEY, FileRow};
use crate::store::{SimStore, StateStore};

const HEADERS_BYTES: u64 = 12 << 10;

fn fill(l: &mut Log, from: u64, n: u64) {
    for pos in from..from + n {
        l.append(1 + pos % 3, pos / 3, &[pos as u8; 100_000]);
    }
}

fn check(l: &Log, n: u64) {
    for log in 1..=3 {
        let got = l.read_at(log, 0, Level::Durable).unwrap();
        assert!(got.iter().map(|(pos, _)| *pos).eq(0..n / 3), "log {log}");
        assert!(got.iter().all(|(pos, body)| body[99_999] == (pos * 3 + log - 1) as u8), "log {log}");
        assert_eq!(l.o.reader.bounds(LogId(log)).next, n / 3);
    }
}

/// As the engine does when it stops: nothing is dirty.
fn close(l: Log) {
    let applied = l.o.marks.get().sequenced;
    l.o.sink.offer(RowBatch { rows: Vec::new(), oldest_dirty: None, applied });
    drop(l);
}

fn files(disk: &SimDisk) -> u64 {
    disk.list("seg").unwrap().len() as u64
}

#[test]
fn a_clean_stop_leaves_the_next_opening_headers_to_read() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    // The last file is filled in part.
    fill(&mut l, 0, 75);
    close(l);
    for more in [0, 0, 30, 3, 0] {
        let mut l = open_kept(&disk, &store);
        let report = l.o.report.clone();
        assert!(report.replayed_bytes <= small().segment_bytes && report.replayed_records == 0);
        assert!(report.read_bytes <= files(&disk) * HEADERS_BYTES, "{report:?}");
        assert!(!report.unclean && report.frames_rewritten == 0 && report.cut_at.is_none());
        let n = l.o.reader.bounds(LogId(3)).next * 3;
        check(&l, n);
        fill(&mut l, n, more);
        check(&l, n + more);
        close(l);
    }
    let mut l = open_kept(&disk, &store);
    check(&l, 108);
    fill(&mut l, 108, 3);
    // A kill is no clean stop, even of a log that was closed before.
    let (killed, rows) = (disk.kill(), store.crash(true));
    drop(l);
    let l = open_kept(&killed, &rows);
    assert!(l.o.report.unclean);
    check(&l, 111);
}

#[test]
fn what_a_clean_stop_indexed_can_be_trimmed_and_its_files_are_used_again() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    for round in 0..8 {
        let mut l = open_kept(&disk, &store);
        fill(&mut l, round * 30, 30);
        let before = round * 10 + 5;
        let trims: Vec<Op<'_>> = (1..=3).map(|log| Op::Trim { log: LogId(log), before }).collect();
        let lsn = l.put(&trims);
        l.wait(lsn).unwrap();
        close(l);
    }
    let l = open_kept(&disk, &store);
    assert_eq!(l.read(2).iter().map(|(pos, _)| *pos).collect::<Vec<_>>(), (75..80).collect::<Vec<_>>());
    // 240 entries are 27 files' worth; besides those in use, some are ready and some free.
    let live = store.scan(b"F", b"F", 99).unwrap();
    let live = live.iter().filter(|(_, row)| FileRow::decode(row).unwrap().live > 0).count();
    assert!(live <= 3 && files(&disk) < 24, "{live} of {}", files(&disk));
}

/// The row that says so must be gone before anything is durable behind the end: else rot in the next lap's first blocks would look
/// like a log that ends where it was closed.
#[test]
fn that_the_log_was_closed_is_forgotten_before_it_goes_on() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    fill(&mut l, 0, 3);
    close(l);
    assert!(store.get(END_KEY).unwrap().is_some());
    let before = disk.list("seg").unwrap().into_iter().map(|n| disk.contents(&format!("seg/{n}")).unwrap());
    let before: Vec<Vec<u8>> = before.collect();
    let mut l = open_kept(&disk, &store);
    assert!(store.get(END_KEY).unwrap().is_none());
    // The second write proves the first.
    l.append(1, 1, b"behind the end");
    l.append(1, 2, b"and on");
    let (killed, rows): (Arc<SimDisk>, _) = (disk.kill(), store.crash(true));
    drop(l);
    let link =
        |n: &String| killed.contents(&format!("seg/{n}")).unwrap()[LINK_OFFSET as usize..][..64].to_vec();
    let is_new = |n: &&String| {
        let link = link(n);
        link.starts_with(b"MFR1") && !before.iter().any(|f| f[LINK_OFFSET as usize..][..64] == link)
    };
    let names = killed.list("seg").unwrap();
    let lap = names.iter().find(is_new).unwrap();
    killed.corrupt(&format!("seg/{lap}"), LINK_OFFSET + 20, 1).unwrap();
    assert!(matches!(try_open_kept(&killed, &rows), Err(OpenError::Corrupt { .. })));
}
