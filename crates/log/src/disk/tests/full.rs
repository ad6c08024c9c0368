//! A full disk: who is refused and who goes on, what is kept back, and how publishing goes on without a restart. Case 8 of `docs/hard-cases.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use millstream_env::Disk;
use millstream_env::sim::{Call, Fault, SimDisk};
use millstream_types::{LogId, Lsn};

use super::kept::*;
use super::merge::open_eager;
use super::support::*;
use crate::api::*;
use crate::disk::DiskLog;
use crate::store::{SimStore, StoreKind};

const MIB: u64 = 1 << 20;
/// Entries are so large that a file holds about 60 of them.
const LEN: usize = 16_000;

fn body(pos: u64) -> Vec<u8> {
    let mut b = vec![pos as u8; LEN];
    b[..8].copy_from_slice(&pos.to_le_bytes());
    b
}

/// What the test acts as: an engine whose one object counts settlements, and which gives its rows when asked.
struct Load {
    log: Log,
    disk: Arc<SimDisk>,
    store: SimStore,
    next: u64,
    start: u64,
}

impl Load {
    fn open(disk: &Arc<SimDisk>, store: &SimStore) -> Self {
        Self::of(disk, store, open_kept(disk, store))
    }

    fn of(disk: &Arc<SimDisk>, store: &SimStore, log: Log) -> Self {
        let bounds = log.o.reader.bounds(LogId(1));
        let (disk, store) = (Arc::clone(disk), store.clone());
        Self { log, disk, store, next: bounds.next, start: bounds.start }
    }

    /// Room, whatever it takes: gives rows meanwhile, as the sequencer's thread would.
    fn permit(&self, class: Class, bytes: usize) -> Result<Permit, AdmitError> {
        loop {
            match self.log.o.gate.try_admit(class, bytes) {
                Err(AdmitError::Busy) => self.give_rows(),
                other => return other,
            }
            std::thread::yield_now();
        }
    }

    fn give_rows(&self) {
        if self.log.o.sink.wanted().is_some() {
            let applied = self.log.o.marks.get().sequenced;
            self.log.o.sink.offer(RowBatch { rows: Vec::new(), oldest_dirty: None, applied });
        }
    }

    fn record(&mut self, permit: Permit, ops: &[Op<'_>]) {
        let lsn = self.log.o.sequencer.sequence(permit, ops, None);
        self.log.o.sequencer.end_turn();
        self.log.wait(lsn.0).unwrap();
        self.give_rows();
    }

    fn publish(&mut self) -> Result<(), AdmitError> {
        let permit = self.permit(Class::Publish, LEN + 256)?;
        let bytes = [Bytes::from(body(self.next))];
        self.record(permit, &[append_op(1, self.next, &bytes)]);
        self.next += 1;
        Ok(())
    }

    /// Publishes until it is refused.
    fn fill(&mut self) {
        loop {
            match self.publish() {
                Ok(()) => {}
                Err(AdmitError::DiskFull) => break,
                Err(e) => panic!("{e}"),
            }
        }
        assert!(self.log.o.marks.lost().is_none());
    }

    /// One settlement: 4 KiB of the log.
    fn settle(&mut self, pos: u64) {
        let permit = self.permit(Class::Settle, 256).unwrap();
        let effect = Op::Effect { object: b"queue", bytes: &pos.to_le_bytes() };
        self.record(permit, &[Op::Retire { log: LogId(1), runs: &[(pos, 1)] }, effect]);
    }

    fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.give_rows();
            assert!(self.log.o.marks.lost().is_none(), "{:?}", self.log.o.marks.lost());
            std::thread::sleep(std::time::Duration::from_millis(1)); // tidy: pacing
        }
        panic!("never: {what}; {:?}", self.log.o.gate.room());
    }

    fn is_full(&self) -> bool {
        self.log.o.gate.is_full()
    }

    fn verify(&self) {
        let got = self.log.read(1);
        let want = self.start..self.next;
        assert_eq!(got.iter().map(|(pos, _)| *pos).collect::<Vec<_>>(), want.collect::<Vec<_>>());
        assert!(got.iter().all(|(pos, bytes)| *bytes == body(*pos)));
    }

    /// The process ends without a word.
    fn kill(self) -> Self {
        let Self { log, disk, store, next, start } = self;
        let (disk, store) = (disk.kill(), store.crash(true));
        drop(log);
        Self { next, start, ..Self::open(&disk, &store) }
    }
}

fn full_disk(mib: u64) -> Load {
    let (disk, store) = (SimDisk::new(8), SimStore::new());
    disk.set_capacity_bytes(mib * MIB);
    let mut load = Load::open(&disk, &store);
    load.fill();
    load
}

fn files(disk: &SimDisk) -> usize {
    disk.list("seg").unwrap().len()
}

#[test]
fn publishing_stops_with_the_reserve_untouched_and_goes_on_when_there_is_room() {
    let mut load = full_disk(20);
    load.until("full", Load::is_full);
    let (room, space) = (load.log.o.gate.room(), load.disk.space().unwrap());
    assert!(room.full && room.ready_files >= 3 && room.needed_bytes > 0, "{room:?}");
    assert_eq!((room.reserve_bytes, room.ballast_bytes), (4 * MIB, 2 * MIB));
    assert!(space.free_bytes + room.ballast_bytes >= 4 * MIB, "{space:?}");
    assert!(load.next > 400, "{}", load.next);
    assert!(load.log.o.gate.refused() > 0);
    // All of it is there, reads go on, and so does settling.
    load.verify();
    for pos in 0..10 {
        load.settle(pos);
    }
    load.disk.set_capacity_bytes(40 * MIB);
    load.until("room again", |l| !l.is_full());
    load.publish().unwrap();
}

#[test]
fn what_is_in_flight_when_the_disk_fills_never_takes_the_files_of_settling() {
    let (disk, store) = (SimDisk::new(8), SimStore::new());
    disk.set_capacity_bytes(60 * MIB);
    disk.on_sync(|_| std::thread::sleep(std::time::Duration::from_millis(2))); // tidy: pacing
    let mut load = Load::open(&disk, &store);
    // As much at once as is let in: 16 MiB, which is as many files.
    let mut last = Lsn(0);
    loop {
        match load.log.o.gate.try_admit(Class::Publish, LEN + 256) {
            Ok(permit) => {
                let bytes = [Bytes::from(body(load.next))];
                last = load.log.o.sequencer.sequence(permit, &[append_op(1, load.next, &bytes)], None);
                load.log.o.sequencer.end_turn();
                load.next += 1;
            }
            Err(AdmitError::DiskFull) => break,
            Err(_) => std::thread::yield_now(),
        }
    }
    load.log.wait(last.0).unwrap();
    assert!(load.next > 2_000, "{}", load.next);
    let room = load.log.o.gate.room();
    assert!(room.ready_files >= 3, "{room:?}");
    load.settle(0);
    load.verify();
}

#[test]
fn a_trim_on_a_full_disk_gives_room_back_without_a_restart() {
    let mut load = full_disk(24);
    for _ in 0..3 {
        let before = load.next - 60;
        let permit = load.permit(Class::Reclaim, 256).unwrap();
        load.record(permit, &[Op::Trim { log: LogId(1), before }]);
        load.start = before;
        load.until("room again", |l| !l.is_full());
        let from = load.next;
        load.fill();
        assert!(load.next - from > 200, "only {} more", load.next - from);
        load.verify();
    }
    assert!(files(&load.disk) <= 20);
}

#[test]
fn nastiest_8_every_entry_of_a_full_disk_is_settled_one_by_one_through_the_reserve() {
    let mut load = full_disk(20);
    load.until("full", Load::is_full);
    let entries = load.next;
    // In an order that keeps every file alive to the end: each 50th is left for last.
    let order = (0..entries).filter(|pos| pos % 50 != 0).chain((0..entries).filter(|pos| pos % 50 == 0));
    let mut kills = 0;
    for (done, pos) in order.enumerate() {
        load.settle(pos);
        // Killed and opened again while it is full: what was settled stays so, and settling goes on.
        // Merges give room back long before the last entry of a file is settled, perhaps just now.
        if done % 53 == 52 && load.is_full() {
            load = load.kill();
            kills += 1;
        }
    }
    assert!(kills >= 1, "{kills} kills");
    load.until("room again", |l| !l.is_full());
    let from = load.next;
    for _ in 0..300 {
        // Some of the files may still be on their way back.
        while load.publish().is_err() {
            load.until("room again", |l| !l.is_full());
        }
    }
    let got = load.log.read(1);
    let left: Vec<_> = got.iter().map(|(pos, _)| *pos).filter(|pos| *pos >= from).collect();
    assert_eq!(left, (from..load.next).collect::<Vec<_>>());
}

#[test]
fn settling_goes_on_for_ever_on_a_full_disk() {
    let mut load = full_disk(20);
    load.until("full", Load::is_full);
    // Ten times what the files that are kept back hold.
    for round in 0..5_000 {
        let permit = load.permit(Class::Settle, 256).unwrap();
        let effect = Op::Effect { object: b"offset", bytes: &u64::to_le_bytes(round) };
        load.record(permit, &[effect]);
    }
    assert!(load.is_full());
    load.verify();
}

/// Each file's end lies in a record that goes on in the next. (Found on a real disk: such a record held the file in which it
/// began until the next was full, and there was no next.)
#[test]
fn settling_goes_on_for_ever_with_records_that_lie_in_two_files() {
    let mut load = full_disk(20);
    load.until("full", Load::is_full);
    let bytes = vec![7; 110_000];
    for round in 0..80_u64 {
        let permit = load.permit(Class::Settle, 340_000).unwrap();
        let number = round.to_le_bytes();
        let effects = [&number[..], &bytes[..], &bytes[..], &bytes[..]];
        let effects = effects.map(|bytes| Op::Effect { object: b"offset", bytes });
        load.record(permit, &effects);
        if round % 13 == 12 {
            load = load.kill();
            assert!(load.is_full());
            let last = load.log.o.marks.get().durable;
            assert_eq!(last, load.log.o.marks.get().sequenced);
        }
    }
    load.verify();
}

#[test]
fn killed_and_opened_again_and_again_a_full_disk_keeps_its_files() {
    let mut load = full_disk(20);
    for round in 0..12 {
        load = load.kill();
        if round % 3 == 2 {
            load.settle(round);
        }
        load.verify();
    }
    for pos in 20..40 {
        load.settle(pos);
    }
}

#[test]
fn a_crash_at_any_call_on_a_full_disk_loses_nothing_acknowledged() {
    for n in (0..120).step_by(5) {
        let load = full_disk(16);
        load.disk.fail_after(n);
        let Load { mut log, disk, store, next, .. } = load;
        let (mut acked, mut tried) = (0, 0);
        while !disk.is_off() && tried < 400 {
            let Ok(permit) = log.o.gate.try_admit(Class::Settle, 256) else {
                if log.o.marks.lost().is_some() {
                    break;
                }
                let applied = log.o.marks.get().sequenced;
                if log.o.sink.wanted().is_some() {
                    log.o.sink.offer(RowBatch { rows: Vec::new(), oldest_dirty: None, applied });
                }
                std::thread::yield_now();
                continue;
            };
            tried += 1;
            let value = u64::to_le_bytes(tried);
            let effect = Op::Effect { object: b"offset", bytes: &value };
            let lsn = log.o.sequencer.sequence(permit, &[effect], None);
            log.o.sequencer.end_turn();
            if log.wait(lsn.0).is_err() {
                break;
            }
            acked = tried;
            let row = Row { key: b"offset".to_vec(), row_lsn: lsn, value: Some(value.to_vec()) };
            log.o.sink.offer(RowBatch { rows: vec![row], oldest_dirty: None, applied: lsn });
        }
        let (disk, store) = (disk.crash(), store.crash(n % 2 == 0));
        drop(log);
        let load = Load { next, start: 0, ..Load::open(&disk, &store) };
        load.verify();
        let row = load.log.o.rows.get(b"offset").unwrap();
        let stored = row.map_or(0, |(_, v)| u64::from_le_bytes(v.try_into().unwrap()));
        let replayed = load.log.seen.effects.last();
        let replayed = replayed.map_or(0, |(_, _, v)| u64::from_le_bytes(v[..].try_into().unwrap()));
        let now = stored.max(replayed);
        assert!(now >= acked && now <= tried, "call {n}: {acked} to {tried}, found {now}");
        // And it settles on.
        let mut load = load;
        for pos in 0..5 {
            load.settle(pos);
        }
    }
}

#[test]
fn a_disk_too_small_is_refused_with_what_it_needs_and_a_full_one_is_opened() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    disk.set_capacity_bytes(8 * MIB);
    let Err(OpenError::DiskFull { needed_bytes }) = try_open_kept(&disk, &store) else { panic!() };
    assert_eq!(needed_bytes, 9 * MIB);
    // Some for `meta`, and what a file system of its own would need.
    disk.set_capacity_bytes(needed_bytes + MIB);
    let load = Load::open(&disk, &store);
    load.until("files are ready", |l| l.log.o.gate.room().ready_files >= 3);
    // Another program takes all that is free.
    let used = 10 * MIB - disk.space().unwrap().free_bytes;
    disk.set_capacity_bytes(used);
    let mut load = load.kill();
    assert!(load.is_full());
    assert_eq!(load.publish().unwrap_err(), AdmitError::DiskFull);
    load.settle(0);
}

#[test]
fn the_ballast_goes_to_the_store_and_comes_back_before_publishing_does() {
    let mut load = full_disk(20);
    load.until("full", Load::is_full);
    let free = load.disk.space().unwrap().free_bytes;
    // Another program takes what the store must have.
    let used = 20 * MIB - free;
    load.disk.set_capacity_bytes(used + MIB / 2);
    load.until("the ballast is given", |l| l.log.o.gate.room().ballast_bytes == 0);
    for pos in 0..100 {
        load.settle(pos);
    }
    load.disk.set_capacity_bytes(40 * MIB);
    load.until("room again", |l| !l.is_full());
    assert_eq!(load.log.o.gate.room().ballast_bytes, 2 * MIB);
}

#[test]
fn a_merge_on_a_full_disk_gets_the_ballast_and_gives_room_back() {
    let (disk, store) = (SimDisk::new(8), SimStore::new());
    disk.set_capacity_bytes(24 * MIB);
    let mut load = Load::of(&disk, &store, open_eager(&disk, &store));
    load.fill();
    let live = load.next;
    // Three of five go, everywhere: nothing comes free but by merging.
    // What is free is enough for the state store, and not for a pack beside it; with the ballast it is.
    let space = Disk::space(&*disk).unwrap();
    disk.set_capacity_bytes(space.total_bytes - space.free_bytes + MIB + 64 * 1024);
    for pos in (0..live).filter(|pos| pos % 5 > 1) {
        load.settle(pos);
    }
    load.until("merges", |l| l.log.o.stats.merges() > 0);
    load.until("room", |l| !l.is_full());
    load.publish().unwrap();
    let left: Vec<u64> = load.log.read(1).iter().map(|(pos, _)| *pos).filter(|pos| pos % 5 < 2).collect();
    assert!(left.iter().copied().filter(|pos| *pos < live).eq((0..live).filter(|pos| pos % 5 < 2)));
}

#[test]
fn the_store_waits_for_room_without_ending_the_log_and_free_files_give_it_some() {
    let mut load = full_disk(20);
    load.until("full", Load::is_full);
    let used = 20 * MIB - load.disk.space().unwrap().free_bytes;
    // Nothing at all is left, not even with the ballast: its room is taken too.
    load.disk.set_capacity_bytes(used - 2 * MIB);
    let batches = load.store.batches();
    let permit = load.permit(Class::Reclaim, 256).unwrap();
    let before = load.next;
    load.record(permit, &[Op::Trim { log: LogId(1), before }]);
    for _ in 0..50 {
        load.settle(before);
    }
    assert!(load.log.o.marks.lost().is_none());
    assert!(load.store.batches() <= batches + 1, "it wrote without room");
    load.disk.set_capacity_bytes(used + 2 * MIB);
    load.until("room again", |l| !l.is_full());
}

#[test]
fn a_state_store_that_lacks_room_makes_some_of_what_it_holds_in_vain() {
    let mut load = full_disk(20);
    load.until("full", Load::is_full);
    // The store holds all that is left, and the ballast's room as well; no file is free.
    let used = 20 * MIB - load.disk.space().unwrap().free_bytes;
    load.disk.set_capacity_bytes(used - 2 * MIB);
    let disk = Arc::clone(&load.disk);
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    load.store.on_make_room(move |free_bytes| {
        assert!(free_bytes < MIB, "{free_bytes}");
        disk.set_capacity_bytes(used);
        !seen.swap(true, Ordering::AcqRel)
    });
    load.until("the store is asked", |_| asked.load(Ordering::Acquire));
    // More than the files hold that are kept back: they come back with batches of the store only.
    for _ in 0..1_000 {
        load.settle(0);
    }
    load.verify();
}

#[test]
fn a_file_that_cannot_be_prepared_loses_the_log_only_when_it_is_not_for_want_of_room() {
    let mut load = full_disk(12);
    assert!(load.log.o.marks.lost().is_none());
    load.disk.inject(Fault::new(Call::Allocate));
    load.disk.set_capacity_bytes(64 * MIB);
    while load.log.o.marks.lost().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(load.publish().unwrap_err(), AdmitError::Closed);
}

#[test]
fn free_files_beyond_sixteen_are_removed_one_by_one_and_commits_go_on() {
    let (disk, store) = (SimDisk::new(3), SimStore::new());
    let mut load = Load::open(&disk, &store);
    while load.next < 2_000 {
        load.publish().unwrap();
    }
    let before = files(&disk);
    let permit = load.permit(Class::Reclaim, 256).unwrap();
    load.record(permit, &[Op::Trim { log: LogId(1), before: load.next }]);
    load.until("files go", |l| files(&l.disk) < before);
    load.publish().unwrap();
    load.until("no more than sixteen are free", |l| files(&l.disk) <= 16 + 7);
}

#[test]
fn an_operation_of_half_a_segment_fits_and_the_log_says_so() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    let max = log.o.gate.op_bytes_max();
    assert_eq!(max, (512 << 10) - (64 << 10));
    let bytes = [Bytes::from(vec![7; max - 64])];
    for pos in 0..8 {
        let permit = block_on(log.o.gate.admit(Class::Publish, max + 256)).unwrap();
        let lsn = log.o.sequencer.sequence(permit, &[append_op(1, pos, &bytes)], None);
        log.o.sequencer.end_turn();
        log.wait(lsn.0).unwrap();
    }
    assert_eq!(log.read(1).len(), 8);
}

#[test]
fn a_state_store_that_hangs_while_syncs_return_ends_the_log_and_is_named() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let (env, _, clock) = millstream_env::Env::sim(1);
    let env = env.with_disk(Arc::<SimDisk>::clone(&disk));
    let mut seen = Memory::default();
    let o = DiskLog::with_store(env, StoreKind::Sim(store.clone())).open(&small(), &mut seen).unwrap();
    let mut log = Log { o, seen };
    log.append(1, 0, b"x");
    let hang = store.hang();
    let applied = log.o.marks.get().sequenced;
    log.o.sink.offer(RowBatch { rows: Vec::new(), oldest_dirty: None, applied });
    hang.wait_for_a_batch();
    // Commits go on beside it, and are what shows that the disk is well.
    for pos in 1..=31 {
        clock.advance(std::time::Duration::from_secs(1));
        log.append(1, pos, b"y");
    }
    let lost = loop {
        match log.o.marks.lost() {
            Some(lost) => break lost,
            None => std::thread::yield_now(),
        }
    };
    assert!(lost.cause.contains("state store") && lost.cause.contains("31 s"), "{lost}");
    assert_eq!(log.o.gate.try_admit(Class::Settle, 1).unwrap_err(), AdmitError::Closed);
    drop(hang);
    drop(log);
    let (disk, store) = (disk.crash(), store.crash(false));
    assert_eq!(open_kept(&disk, &store).read(1).len(), 32);
}
