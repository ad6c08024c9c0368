//! The power goes at every change of the disk, while writing and again while recovering.

use bytes::Bytes;
use millstream_env::Disk;
use millstream_env::sim::{Call, Fault, SimDisk};
use std::sync::Arc;

use super::support::*;
use crate::api::*;

/// Body of an entry, so that what is read can be checked.
fn body(n: u64) -> Vec<u8> {
    let len = [10, 3000, 5000, 90_000][n as usize % 4];
    (0..len).map(|i| (n as usize + i) as u8).collect()
}

/// Records of one to three entries in one log each, some larger than a file; until the power goes. Gives what was
/// acknowledged: the position after the last entry.
fn write(log: &mut Log, mut pos: u64, records: u64) -> u64 {
    let mut acked = pos;
    for r in 0..records {
        let entries = if r % 7 == 6 { 15 } else { 1 + r % 3 };
        let bodies: Vec<[Bytes; 1]> = (pos..pos + entries).map(|n| [Bytes::from(body(n))]).collect();
        let ops: Vec<Op<'_>> =
            bodies.iter().enumerate().map(|(i, b)| append_op(1, pos + i as u64, b)).collect();
        let Ok(permit) = block_on(log.o.gate.admit(Class::Publish, 1 << 10)) else { return acked };
        let lsn = log.o.sequencer.sequence(permit, &ops, None);
        log.o.sequencer.end_turn();
        pos += entries;
        // Some in flight together.
        if r % 3 != 1 {
            if log.wait(lsn.0).is_err() {
                return acked;
            }
            acked = pos;
        }
    }
    acked
}

/// Everything acknowledged is there, whole records only, in order.
fn check(log: &Log, acked: u64) -> u64 {
    let found = log.read(1);
    assert!(found.len() as u64 >= acked, "{} of {acked}", found.len());
    for (n, (pos, bytes)) in found.iter().enumerate() {
        assert_eq!(*pos, n as u64);
        assert!(*bytes == body(*pos), "body at {pos}");
    }
    let appends = log.seen.appends.len() as u64;
    assert_eq!(appends, found.len() as u64, "replay and index agree");
    assert_eq!(log.seen.ends, (1..=log.seen.ends.len() as u64).collect::<Vec<_>>());
    let in_complete = log.seen.appends.iter().filter(|a| log.seen.ends.contains(&a.0)).count() as u64;
    assert_eq!(in_complete, appends, "no part of a record shows");
    appends
}

/// Opens, or tells that the power went. Nothing else may be wrong.
fn open_or_off(disk: &Arc<SimDisk>) -> Option<Log> {
    match try_open(disk) {
        Ok(log) => Some(log),
        Err(OpenError::Io { .. }) if disk.is_off() => None,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn whatever_the_power_takes_while_writing_and_recovering_acknowledged_records_stay() {
    let mut cuts = 0;
    for n in 0.. {
        let disk = SimDisk::new(n);
        disk.fail_after(n);
        let acked = open_or_off(&disk).map_or(0, |mut log| write(&mut log, 0, 16));
        let done = !disk.is_off();
        let mut disk = disk.crash();
        // The next two openings lose power as well, each at another place; then one goes on.
        for again in [n % 9, n % 5] {
            disk.fail_after(again);
            if let Some(log) = open_or_off(&disk) {
                check(&log, acked);
            }
            cuts += u64::from(disk.is_off());
            disk = disk.crash();
        }
        let mut log = open(&disk);
        let found = check(&log, acked);
        let acked = write(&mut log, found, 5);
        drop(log);
        check(&open(&disk.crash()), acked);
        if done {
            break;
        }
    }
    assert!(cuts > 20, "{cuts}");
}

#[test]
fn crash_loops_eat_no_disk() {
    let mut disk = SimDisk::new(5);
    let mut log = open(&disk);
    log.append(1, 0, &body(0));
    drop(log);
    let files = |disk: &SimDisk| Disk::list(disk, "seg").unwrap().len();
    disk = disk.crash();
    drop(open(&disk));
    let before = files(&disk);
    for _ in 0..20 {
        let log = open(&disk);
        let next = disk.crash();
        drop(log);
        disk = next;
    }
    assert!(files(&disk) <= before + 3, "{before} files became {}", files(&disk));
}

#[test]
fn of_two_laps_that_follow_the_same_one_the_later_opening_counts() {
    let disk = SimDisk::new(3);
    let mut log = open(&disk);
    log.append(1, 0, &body(0));
    let disk = {
        let next = disk.kill();
        drop(log);
        next
    };
    // This opening writes its link and nothing else.
    let log = open(&disk);
    let disk = {
        let next = disk.kill();
        drop(log);
        next
    };
    let names = Disk::list(&*disk, "seg").unwrap().into_iter().map(|n| format!("seg/{n}"));
    let with_link = |n: &String| disk.contents(n).unwrap().get(8192..8196) == Some(b"MFR1");
    let [_, only_link] = &names.filter(with_link).collect::<Vec<_>>()[..] else { panic!() };
    // The next one goes on from the same lap. It looks at the other's file twice, and cannot open it to use it again.
    let only_link = only_link.clone();
    disk.inject(Fault::new(Call::Open).on_path(move |p| p == only_link).after(2).always().no_space());
    let mut log = open(&disk);
    // Publishing may be refused by now: no other file can be made ready.
    let permit = block_on(log.o.gate.admit(Class::Settle, 1 << 10)).unwrap();
    let bytes = [Bytes::copy_from_slice(&body(1))];
    let lsn = log.o.sequencer.sequence(permit, &[append_op(1, 1, &bytes)], None);
    log.o.sequencer.end_turn();
    log.wait(lsn.0).unwrap();
    let next = disk.kill();
    drop(log);
    check(&open(&next), 2);
}
