//! Crashes at every step of a merge, twice in a row: nothing that lives is lost, no file leaks, none is freed early.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use millstream_env::sim::SimDisk;
use millstream_types::LogId;

use super::kept::*;
use super::merge::*;
use super::support::*;
use crate::api::*;
use crate::store::{SimStore, StateStore};

/// What was acknowledged. Log 1 has entries of its own; logs 2 and 3 share bodies.
#[derive(Clone, Debug, Default)]
struct State {
    next: u64,
    /// (log, position)
    retired: BTreeSet<(u64, u64)>,
    start: u64,
}

const LEN: usize = 30_000;

fn put(l: &mut Log, record: &[Op<'_>]) -> Option<()> {
    let permit = block_on(l.o.gate.admit(Class::Publish, 1 << 10)).ok()?;
    let lsn = l.o.sequencer.sequence(permit, record, None);
    l.o.sequencer.end_turn();
    l.wait(lsn.0).ok()
}

/// Rounds of twenty entries, of which few stay. `pending` = what may have happened.
fn work(l: &mut Log, now: &mut State, pending: &mut State, rounds: u64) -> Option<()> {
    for _ in 0..rounds {
        let from = now.next;
        for pos in from..from + 10 {
            let (own, shared) = ([Bytes::from(body(pos, LEN))], [Bytes::from(body(pos + 7, LEN))]);
            let to = [(LogId(2), pos), (LogId(3), pos)];
            let fan_out = Op::FanOut { to: &to, max_ts_ms: -1, attrs: b"", body: &shared };
            pending.next = pos + 1;
            put(l, &[append_op(1, pos, &own), fan_out])?;
            *now = pending.clone();
        }
        for (log, first, n) in
            [(1, from + 1, 9), (2, from, 10), (3, from, 9), (1, from.saturating_sub(30), 1)]
        {
            pending.retired.extend((first..first + u64::from(n)).map(|pos| (log, pos)));
            put(l, &[Op::Retire { log: LogId(log), runs: &[(first, n)] }])?;
            *now = pending.clone();
        }
        if from % 50 == 40 {
            pending.start = from - 20;
            put(l, &[Op::Trim { log: LogId(3), before: pending.start }])?;
            *now = pending.clone();
        }
        let applied = l.o.marks.get().sequenced;
        let id = l.o.sink.offer(RowBatch { rows: Vec::new(), oldest_dirty: None, applied });
        l.wait_flushed(id);
    }
    l.o.marks.lost().is_none().then_some(())
}

/// Opens and compares; gives what is there as the new state.
fn verify(disk: &Arc<SimDisk>, store: &SimStore, now: &State, pending: &State) -> Option<(Log, State)> {
    let l = match try_open_as(disk, store, &eager()) {
        Ok(l) => l,
        Err(e) if disk.is_off() || store.is_off() => {
            assert!(!matches!(e, OpenError::Corrupt { .. } | OpenError::Foreign { .. }), "{e}");
            return None;
        }
        Err(e) => panic!("{e}"),
    };
    let mut found = now.clone();
    for log in 1..=3 {
        let bounds = l.o.reader.bounds(LogId(log));
        assert!(bounds.next == now.next || bounds.next == pending.next, "log {log}: {bounds:?} {now:?}");
        found.next = bounds.next;
        let start = if log == 3 { [now.start, pending.start] } else { [0, 0] };
        assert!(start.contains(&bounds.start), "log {log}: {bounds:?} {start:?}");
        let got = match l.read_at(log, bounds.start, Level::Durable) {
            Ok(got) => got,
            Err(_) if disk.is_off() || store.is_off() => return None,
            Err(e) => panic!("log {log}: {e}"),
        };
        let len = |pos: u64| body(if log == 1 { pos } else { pos + 7 }, LEN);
        assert!(got.iter().all(|(pos, b)| *b == len(*pos)), "log {log}");
        let got: BTreeSet<u64> = got.iter().map(|(pos, _)| *pos).collect();
        for pos in bounds.start..bounds.next {
            assert!(
                got.contains(&pos) || pending.retired.contains(&(log, pos)),
                "{pos} of log {log} is gone"
            );
        }
    }
    found.retired = pending.retired.clone();
    found.start = l.o.reader.bounds(LogId(3)).start;
    Some((l, found))
}

/// Crashes once in `work` and once in the recovery or the merges after it. Whether the power went in `work`, and merges before.
fn crash_twice(seed: u64, disk_ops: Option<u64>, batches: Option<u64>, again: u64) -> (bool, u64) {
    let (disk, store) = (SimDisk::new(seed), SimStore::new());
    let (mut now, mut pending) = (State::default(), State::default());
    let mut l = open_eager(&disk, &store);
    disk.fail_after(disk_ops.unwrap_or(u64::MAX));
    if let Some(n) = batches {
        store.fail_after(n);
    }
    let done = work(&mut l, &mut now, &mut pending, 12).is_some();
    let merges = l.o.stats.merges();
    let (disk2, store2) = (disk.crash(), store.crash(seed.is_multiple_of(2)));
    drop(l);
    disk2.fail_after(again);
    if let Some((mut l, found)) = verify(&disk2, &store2, &now, &pending) {
        (now, pending) = (found.clone(), found);
        let _ = work(&mut l, &mut now, &mut pending, 3);
    }
    let (disk3, store3) = (disk2.crash(), store2.crash(seed.is_multiple_of(3)));
    let (mut l, found) = verify(&disk3, &store3, &now, &pending).expect("nothing fails any more");
    (now, pending) = (found.clone(), found);
    // What may have been retired is: then all of it can come free.
    for (log, pos) in now.retired.clone() {
        put(&mut l, &[Op::Retire { log: LogId(log), runs: &[(pos, 1)] }]).expect("nothing fails any more");
    }
    work(&mut l, &mut now, &mut pending, 4).expect("nothing fails any more");
    let names = list(&disk3, "seg").len();
    assert!(names < 30, "{names} files");
    drop(l);
    let (mut l, _) = verify(&disk3, &store3, &now, &pending).expect("nothing fails any more");
    // A pack for each row and a row for each pack.
    let rows =
        || store3.scan(b"P", b"P", 99).unwrap().iter().map(|(k, _)| k[1..].to_vec()).collect::<Vec<_>>();
    let on_disk = |name: &String| u64::from_str_radix(name, 16).unwrap().to_be_bytes().to_vec();
    let packs: Vec<_> = list(&disk3, "pack").iter().map(on_disk).collect();
    assert!(rows().iter().all(|row| packs.contains(row)));
    for log in 1..=3 {
        put(&mut l, &[Op::Delete { log: LogId(log) }]).expect("nothing fails any more");
    }
    l.push_on(3);
    for _ in 0..100 {
        if list(&disk3, "pack").is_empty() && rows().is_empty() {
            return (done, merges);
        }
        l.flush();
        std::thread::sleep(std::time::Duration::from_millis(2)); // tidy: pacing
    }
    panic!("packs leak: {:?} {:?}", list(&disk3, "pack"), rows());
}

#[test]
fn nastiest_3_a_crash_at_any_call_of_a_merge_loses_nothing_and_frees_nothing_early() {
    let mut merges = 0;
    for n in (60..320).step_by(13) {
        merges += crash_twice(n, Some(n), None, 6 + n % 41).1;
    }
    assert!(merges > 0);
}

#[test]
fn nastiest_3_a_crash_at_any_batch_of_rows_of_a_merge_loses_nothing_and_frees_nothing_early() {
    for n in (1..50).step_by(3) {
        crash_twice(n, None, Some(n), 9 + n % 37);
    }
}

#[test]
fn a_pack_to_which_no_row_leads_is_removed_by_the_next_opening() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    drop(open_eager(&disk, &store));
    millstream_env::Disk::create_dir_all(&*disk, "pack").unwrap();
    for name in ["pack/0000000000000000", "pack/0000000000000007", "pack/notes"] {
        millstream_env::Disk::open(&*disk, name, millstream_env::OpenMode::CreateNew).unwrap();
    }
    let mut l = open_eager(&disk, &store);
    assert_eq!(list(&disk, "pack"), ["notes"]);
    // Its number is not given again while this opening lasts.
    let (mut now, mut pending) = (State::default(), State::default());
    work(&mut l, &mut now, &mut pending, 12).unwrap();
    assert!(list(&disk, "pack").iter().all(|n| n == "notes" || n.as_str() > "0000000000000007"));
}
