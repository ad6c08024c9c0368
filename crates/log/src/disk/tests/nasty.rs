//! The log's hard cases by number (`docs/hard-cases.md`), those that need no state store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use millstream_env::Disk;
use millstream_env::hold::HoldDisk;
use millstream_env::sim::{Call, Fault, SimDisk};

use super::support::*;
use crate::api::*;

/// A log whose syncs can be held back.
fn held(disk: &Arc<SimDisk>) -> (Log, Arc<HoldDisk>) {
    let hold = Arc::new(HoldDisk::new(Arc::<SimDisk>::clone(disk)));
    let env = env_on(disk).with_disk(Arc::<HoldDisk>::clone(&hold));
    // Large files, so that the ready pool is at rest and only the committer syncs.
    let cfg = LogConfig { segment_bytes: 8 << 20, ready_files: 1, ..LogConfig::default() };
    let log = open_with(env, &cfg).unwrap();
    while log_files(disk) < 2 {
        std::thread::yield_now();
    }
    (log, hold)
}

fn log_files(disk: &Arc<SimDisk>) -> usize {
    disk.list("seg").map_or(0, |names| names.iter().filter(|n| header_is_durable(disk, n)).count())
}

fn header_is_durable(disk: &Arc<SimDisk>, name: &str) -> bool {
    disk.durable_contents(&format!("seg/{name}")).is_ok_and(|b| b.starts_with(b"MSEG"))
}

/// The file being written: the one that holds the newest frames.
fn active(disk: &Arc<SimDisk>) -> String {
    let names = disk.list("seg").unwrap();
    let frames = |n: &String| {
        let bytes = disk.contents(&format!("seg/{n}")).unwrap();
        bytes.chunks(4096).filter(|b| b.starts_with(b"MFR1")).count()
    };
    format!("seg/{}", names.iter().max_by_key(|n| frames(n)).unwrap())
}

/// Three frames in one write: each record is larger than half a frame.
fn three_frames_in_one_write(log: &mut Log, hold: &HoldDisk) {
    let h = hold.hold();
    let small = [Bytes::from_static(b"first")];
    log.put(&[append_op(1, 0, &small)]);
    h.wait_for(1);
    for pos in 1..4 {
        let body = [Bytes::from(vec![pos as u8; 1_500_000])];
        log.put(&[append_op(1, pos, &body)]);
    }
    // The write that waits becomes durable; the three frames form the next one, which is held again.
    h.release_one();
    log.wait(1).unwrap();
    h.wait_for(1);
    std::mem::forget(h);
}

#[test]
fn test_1_a_frame_that_landed_behind_a_lost_one_never_comes_back() {
    let disk = SimDisk::new(1);
    let (mut log, hold) = held(&disk);
    three_frames_in_one_write(&mut log, &hold);
    let file = active(&disk);
    let frames: Vec<u64> = frame_offsets(&disk, &file);
    let [a, b, c] = frames[frames.len() - 3..] else { panic!() };
    // A and C land, B does not.
    let mut next = disk.crash_with(|u| u.path != file || (a..b).contains(&u.offset) || u.offset >= c);
    drop((hold.hold(), log));
    let cfg = LogConfig { segment_bytes: 8 << 20, ready_files: 1, ..LogConfig::default() };
    let expect = |log: &Log| {
        let found = log.read_at(1, 0, Level::Durable).unwrap();
        assert_eq!(found.iter().map(|e| e.0).collect::<Vec<_>>()[..2], [0, 1]);
        assert!(found.iter().skip(2).all(|(_, body)| body == b"new epoch"), "C came back");
        found.len() as u64
    };
    {
        let log = open_with(env_on(&next), &cfg).unwrap();
        assert_eq!(log.o.report.cut_at.map(|l| l.0), Some(3));
        assert_eq!(expect(&log), 2);
    }
    // The new epoch writes, and the power goes at every step of it.
    for n in 0..40 {
        let disk = next.snapshot();
        disk.fail_after(n);
        let mut acked = 2;
        if let Ok(mut log) = open_with(env_on(&disk), &cfg) {
            let body = [Bytes::from_static(b"new epoch")];
            for pos in 2..5 {
                let Ok(permit) = log.o.gate.try_admit(Class::Publish, 100) else { break };
                let lsn = log.o.sequencer.sequence(permit, &[append_op(1, pos, &body)], None);
                log.o.sequencer.end_turn();
                if log.wait(lsn.0).is_err() {
                    break;
                }
                acked = pos + 1;
            }
        }
        let disk = disk.crash();
        let found = expect(&open_with(env_on(&disk), &cfg).unwrap());
        assert!(found >= acked, "{found} of {acked}");
        if n == 39 {
            next = disk;
        }
    }
    expect(&open_with(env_on(&next), &cfg).unwrap());
}

fn frame_offsets(disk: &Arc<SimDisk>, file: &str) -> Vec<u64> {
    let bytes = disk.contents(file).unwrap();
    let starts = bytes.chunks(4096).enumerate().filter(|(_, b)| b.starts_with(b"MFR1"));
    starts.map(|(n, _)| n as u64 * 4096).collect()
}

#[test]
fn test_1_a_record_over_frames_and_files_is_there_whole_or_not_at_all() {
    // 1 MiB files: the record lies in several. Whatever frame is missing, nothing of it shows and its number is used again.
    let record: Vec<[Bytes; 1]> = (0..30u8).map(|n| [Bytes::from(vec![n; 100_000])]).collect();
    for luck in 0..30u64 {
        let disk = SimDisk::new(luck);
        let mut log = open(&disk);
        log.append(1, 0, b"first");
        disk.fail_after(luck);
        let ops: Vec<Op<'_>> =
            record.iter().enumerate().map(|(n, b)| append_op(1, 1 + n as u64, b)).collect();
        let lsn = log.put(&ops);
        let durable = log.wait(lsn).is_ok();
        let next = disk.crash();
        drop(log);
        let mut log = open(&next);
        let found = log.read(1).len();
        assert!(found == 31 || (found == 1 && !durable), "{found} entries");
        let again = log.append(1, found as u64, b"again");
        assert_eq!(again, if found == 31 { 3 } else { 2 });
        drop(log);
        assert_eq!(open(&next.crash()).read(1).len(), found + 1);
    }
}

#[test]
fn test_2_rot_in_a_write_that_a_later_one_proves_is_refused() {
    let disk = SimDisk::new(1);
    let (mut log, hold) = held(&disk);
    // The frame of record 2 closes while the sync of record 1 runs; still its write proves record 1.
    let h = hold.hold();
    let body = [Bytes::from(vec![7; 5000])];
    log.put(&[append_op(1, 0, &body)]);
    h.wait_for(1);
    log.put(&[append_op(1, 1, &body)]);
    drop(h);
    log.wait(2).unwrap();
    let file = active(&disk);
    let frames = frame_offsets(&disk, &file);
    let killed = disk.kill();
    drop(log);
    killed.corrupt(&file, frames[frames.len() - 2] + 100, 1).unwrap();
    match try_open(&killed) {
        Err(OpenError::Corrupt { file: f, first, last, .. }) => {
            assert_eq!((f, first.0, last.0), (file, 1, 1));
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn test_2_rot_in_the_very_last_write_is_cut_as_nothing_proves_it() {
    // The window: without a clean end, nothing tells rot in the last write from a tear.
    let disk = SimDisk::new(1);
    let (mut log, _hold) = held(&disk);
    log.append(1, 0, &[1; 5000]);
    log.append(1, 1, &[2; 5000]);
    let file = active(&disk);
    let last = *frame_offsets(&disk, &file).last().unwrap();
    let killed = disk.kill();
    drop(log);
    killed.corrupt(&file, last + 100, 1).unwrap();
    let log = open(&killed);
    assert_eq!((log.read(1).len(), log.o.report.cut_at.map(|l| l.0)), (1, Some(2)));
}

#[test]
fn test_2_after_a_clean_end_rot_in_the_last_write_is_refused() {
    let disk = SimDisk::new(1);
    let (mut log, _hold) = held(&disk);
    log.append(1, 0, &[1; 5000]);
    let file = active(&disk);
    let last = *frame_offsets(&disk, &file).last().unwrap();
    drop(log);
    disk.corrupt(&file, last + 100, 1).unwrap();
    assert!(matches!(try_open(&disk), Err(OpenError::Corrupt { .. })));
}

#[test]
fn test_9_what_a_failed_sync_left_in_the_cache_is_written_again_before_it_is_served() {
    let disk = SimDisk::new(1);
    let (mut log, _hold) = held(&disk);
    log.append(1, 0, b"durable");
    disk.inject(Fault::new(Call::Sync));
    let body = [Bytes::from_static(b"cached only")];
    let lsn = log.put(&[append_op(1, 1, &body)]);
    assert!(log.wait(lsn).is_err());
    assert_eq!(log.o.marks.get().durable.0, 1);
    assert_eq!(log.read_at(1, 0, Level::Sequenced).unwrap().len(), 1, "a lost log shows what is durable");
    // The process ends and starts again on the same kernel: the bytes are readable, and not on the disk.
    let disk = disk.kill();
    drop(log);
    let log = open(&disk);
    assert_eq!(log.read(1).len(), 2);
    assert!(log.o.report.frames_rewritten >= 1);
    // What was served survives the power cut that follows.
    let disk = disk.crash_with(|_| false);
    drop(log);
    assert_eq!(open(&disk).read(1).len(), 2);
}

#[test]
fn test_9_no_later_write_follows_an_error() {
    let disk = SimDisk::new(1);
    let (mut log, hold) = held(&disk);
    log.append(1, 0, b"durable");
    disk.inject(Fault::new(Call::Sync));
    let body = [Bytes::from_static(b"x")];
    for pos in 1..20 {
        let Ok(permit) = log.o.gate.try_admit(Class::Publish, 10) else { break };
        log.o.sequencer.sequence(permit, &[append_op(1, pos, &body)], None);
        log.o.sequencer.end_turn();
    }
    assert!(log.wait(5).is_err());
    let writes = hold.writes();
    assert!(log.o.gate.try_admit(Class::Settle, 1).is_err());
    drop(log);
    assert_eq!(hold.writes(), writes, "a lost log writes nothing more, not even an end");
}

#[test]
fn test_10_a_forged_frame_in_a_body_refuses_nothing() {
    let disk = SimDisk::new(1);
    let (mut log, _hold) = held(&disk);
    // A reader of the format publishes frames; all he lacks is the secret uuid.
    let mut forged = vec![0; 64];
    let header = crate::format::frame::FrameHeader {
        lap: 1,
        epoch: 1,
        first_lsn: 900,
        durable_lsn: 1000,
        begins: 1,
        number: 2,
        ..Default::default()
    };
    crate::format::frame::finish(header, &crate::format::ids::StoreId::new([0; 16]), &mut forged);
    forged.resize(4096, 0);
    log.append(1, 0, b"before");
    let mut body = vec![0; 4096 - 64 - 24 - 40 - 4];
    for _ in 0..5 {
        body.extend_from_slice(&forged);
    }
    log.append(1, 1, &body);
    let file = active(&disk);
    let bytes = disk.contents(&file).unwrap();
    let forged_at = bytes.chunks(4096).filter(|b| *b == &forged[..]).count();
    assert_eq!(forged_at, 5, "the forged frames lie where a frame could");
    let last = *frame_offsets(&disk, &file).iter().rev().nth(5).unwrap();
    let killed = disk.kill();
    drop(log);
    // A tear over the frame that carries it.
    killed.corrupt(&file, last + 70, 0xff).unwrap();
    let log = open(&killed);
    assert_eq!(log.read(1), [(0, b"before".to_vec())]);
}

#[test]
fn test_13_no_reply_above_durable_with_ten_thousand_in_flight_when_the_epoch_is_lost() {
    let disk = SimDisk::new(1);
    let (mut log, hold) = held(&disk);
    let told = Arc::new(AtomicU64::new(0));
    let (t, marks) = (Arc::clone(&told), Arc::clone(&log.o.marks));
    log.o.marks.on_durable(Arc::new(move |_, lsn| {
        assert!(lsn <= marks.get().durable);
        t.fetch_max(lsn.0, Ordering::SeqCst);
    }));
    let h = hold.hold();
    let body = [Bytes::from_static(b"one of many")];
    let first = log.put(&[append_op(1, 0, &body)]);
    h.wait_for(1);
    for pos in 1..10_000 {
        let permit = log.o.gate.try_admit(Class::Publish, 10).unwrap();
        log.o.sequencer.sequence(permit, &[append_op(1, pos, &body)], None);
        log.o.sequencer.end_turn();
    }
    let waiting: Vec<_> = (1..=10_000).map(|n| log.o.marks.reached(millstream_types::Lsn(n))).collect();
    // The first sync takes half a second as far as anyone can tell; the next one fails.
    disk.inject(Fault::new(Call::Sync).after(1));
    drop(h);
    let answers: Vec<bool> = waiting.into_iter().map(|w| block_on(w).is_ok()).collect();
    assert!(answers[0] && answers[1..].iter().all(|ok| !ok));
    assert_eq!((told.load(Ordering::SeqCst), log.o.marks.get().durable.0), (first, first));
    assert_eq!(log.read_at(1, 0, Level::Durable).unwrap().len(), 1);
    let disk = disk.crash_with(|_| false);
    drop(log);
    assert_eq!(open(&disk).seen.ends, [1]);
}

#[test]
fn a_panic_in_a_callback_loses_the_log_and_hangs_nobody() {
    let disk = SimDisk::new(1);
    let (mut log, _hold) = held(&disk);
    log.append(1, 0, b"durable");
    log.o.marks.on_durable(Arc::new(|conn, lsn| assert!(conn.is_none() || lsn.0 < 2, "a broken callback")));
    let body = [Bytes::from_static(b"x")];
    log.put(&[append_op(1, 1, &body)]);
    while log.o.marks.lost().is_none() {
        std::thread::yield_now();
    }
    assert!(log.o.gate.try_admit(Class::Settle, 1).is_err());
    assert!(log.wait(9).is_err());
    drop(log);
    assert_eq!(open(&disk).read(1).len(), 2);
}
