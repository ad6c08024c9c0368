#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! Random histories against a model that knows every position.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_env::{Rng, sim::SimRng};
use millstream_types::{LogId, Lsn};

use super::*;
use crate::disk::events::{Addr, FileId, SealedFile, SpaceOp};
use crate::format::retired::{CHUNK_POSITIONS, Retired};
use crate::format::rows::{ExtentRow, LogRow};
use crate::store::{SimStore, StateStore};

struct Dice(SimRng);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }
}

/// What a lap is to the model.
#[derive(Clone, Debug, Default)]
struct Lap {
    id: u64,
    first_lsn: u64,
    last_lsn: u64,
    sealed: bool,
    /// (log, position) appended.
    holds: BTreeSet<(u64, u64)>,
}

/// The history, and what lives.
#[derive(Default)]
struct Model {
    laps: BTreeMap<u64, Lap>,
    /// By number.
    packs: BTreeMap<u64, Lap>,
    packs_made: u64,
    free_ids: Vec<u64>,
    ids: u64,
    records: BTreeMap<u64, (u64, Vec<SpaceOp>)>,
    next_pos: BTreeMap<u64, u64>,
    start: BTreeMap<u64, u64>,
    retired: BTreeSet<(u64, u64)>,
    lsn: u64,
    lap: u64,
    logs: u64,
}

impl Model {
    fn live(&self, lap: &Lap) -> u64 {
        let start = |log: &u64| self.start.get(log).copied().unwrap_or(0);
        lap.holds
            .iter()
            .filter(|(log, pos)| *pos >= start(log) && !self.retired.contains(&(*log, *pos)))
            .count() as u64
    }

    fn begin(&mut self) -> (FileId, u64) {
        self.lap += 1;
        let id = if let Some(id) = self.free_ids.pop() {
            id
        } else {
            self.ids += 1;
            self.ids
        };
        self.laps.insert(self.lap, Lap { id, first_lsn: self.lsn + 1, ..Lap::default() });
        (FileId(id), self.lap)
    }

    fn record(&mut self, dice: &mut Dice) -> (u64, Vec<SpaceOp>) {
        self.lsn += 1;
        let lap = self.lap;
        let id = FileId(self.laps[&lap].id);
        let mut ops = Vec::new();
        for _ in 0..1 + dice.roll(4) {
            let log = match dice.roll(10) {
                0 => {
                    self.logs += 1;
                    self.logs
                }
                _ => 1 + dice.roll(self.logs.max(1)),
            };
            self.logs = self.logs.max(log);
            let next = self.next_pos.get(&log).copied().unwrap_or(0);
            let start = self.start.get(&log).copied().unwrap_or(0);
            if start == u64::MAX {
                continue;
            }
            match dice.roll(12) {
                0..6 => {
                    let pos = next + if dice.roll(6) == 0 { dice.roll(9000) } else { 0 };
                    let count = if dice.roll(4) == 0 { 1 + dice.roll(400) as u32 } else { 1 };
                    self.next_pos.insert(log, pos + u64::from(count));
                    for p in pos..pos + u64::from(count) {
                        self.laps.get_mut(&lap).unwrap().holds.insert((log, p));
                    }
                    let at = Addr { file: id, lap, offset: 0, len: 8 };
                    ops.push(SpaceOp::Append { log: LogId(log), pos, count, max_ts_ms: 5, bytes: 8, at });
                }
                6..9 if next > 0 => {
                    let first = dice.roll(next);
                    let most = if dice.roll(2) == 0 { 3 } else { 900 };
                    let run = (first, 1 + dice.roll((next - first).min(most)) as u32);
                    for p in run.0..run.0 + u64::from(run.1) {
                        self.retired.insert((log, p));
                    }
                    ops.push(SpaceOp::Retire { log: LogId(log), runs: vec![run, run] });
                }
                9 if next > 0 => {
                    let before = dice.roll(next + 1);
                    self.start.insert(log, start.max(before));
                    ops.push(SpaceOp::Trim { log: LogId(log), before });
                }
                10 if dice.roll(3) == 0 => {
                    self.start.insert(log, u64::MAX);
                    ops.push(SpaceOp::Delete { log: LogId(log) });
                }
                _ => {}
            }
        }
        self.laps.get_mut(&lap).unwrap().last_lsn = self.lsn;
        self.records.insert(self.lsn, (lap, ops.clone()));
        (self.lsn, ops)
    }

    fn sealed(&self, lap: u64) -> SealedFile {
        let l = &self.laps[&lap];
        SealedFile {
            file: FileId(l.id),
            lap,
            first_lsn: Lsn(l.first_lsn),
            last_lsn: Lsn(l.last_lsn),
            frames_end: 0,
        }
    }

    /// What recovery does: every lap from the floor's on, every record from the floor on.
    fn replay(&mut self, account: &mut Account, floor: u64, floor_lap: u64) {
        for (lap, l) in self.laps.range(floor_lap..) {
            account.begin(FileId(l.id), *lap, l.first_lsn);
        }
        for (lsn, (_, ops)) in self.records.range(floor..) {
            ops.iter().for_each(|op| account.apply(Lsn(*lsn), op).unwrap());
        }
        account.applied_to(Lsn(self.lsn));
        account.finish_replay().unwrap();
        let last = self.lap;
        self.laps.get_mut(&last).unwrap().sealed = true;
        for lap in self.laps.range(floor_lap..).map(|(n, _)| *n) {
            account.seal(&self.sealed(lap));
        }
        // Files that no row names and no lap needs are free.
        let free: Vec<u64> = self.laps.range(..floor_lap).map(|(n, _)| *n).collect();
        for lap in free {
            if !account.is_adopted(FileId(self.laps[&lap].id), lap) {
                let l = self.laps.remove(&lap).unwrap();
                assert_eq!(self.live(&l), 0, "lap {lap} was forgotten");
                self.free_ids.push(l.id);
            }
        }
        let (id, lap) = self.begin();
        account.begin(id, lap, self.lsn + 1);
    }

    /// Every retired position that rows know lies in an extent, or in a file without rows.
    fn check_retired(&self, store: &SimStore) {
        let extents: Vec<_> = store
            .scan(b"X", b"X", usize::MAX)
            .unwrap()
            .iter()
            .map(|(k, v)| (u64::from_be_bytes(k[1..9].try_into().unwrap()), ExtentRow::decode(k, v).unwrap()))
            .collect();
        for (key, value) in store.scan(b"R", b"R", usize::MAX).unwrap() {
            let log = u64::from_be_bytes(key[1..9].try_into().unwrap());
            let base = u64::from_be_bytes(key[9..].try_into().unwrap()) * CHUNK_POSITIONS;
            for (first, end) in Retired::decode(&value).unwrap().runs() {
                for pos in base + first..base + end {
                    let held = |l: &Lap| l.holds.contains(&(log, pos));
                    assert!(self.retired.contains(&(log, pos)));
                    let in_extent = extents.iter().any(|(l, x)| *l == log && x.first <= pos && pos < x.end);
                    assert!(in_extent || self.laps.values().any(held), "{log} {pos}");
                }
            }
        }
    }

    fn check(&self, account: &Account) {
        let laps = self.laps.iter().map(|(n, l)| ((FileId(l.id), *n), self.live(l)));
        let packs = self.packs.iter().map(|(n, l)| ((FileId::pack(*n), 0), self.live(l)));
        assert_eq!(account.live(), laps.chain(packs).collect());
        let counted = account.counted();
        for (id, row) in account.adopted_files() {
            let of = counted.get(&id).copied().unwrap_or_default();
            assert_eq!((row.live, row.live_bytes), of, "{id:?} {row:?}");
        }
    }

    /// Begins a merge of some adopted files and packs: what lives now is copied.
    fn merge(&mut self, dice: &mut Dice, account: &Account) -> Option<Merge> {
        let all: Vec<_> =
            account.adopted_files().filter(|(_, f)| f.live > 0).map(|(id, f)| (id, f.lap)).collect();
        let sources: Vec<_> = all.into_iter().filter(|_| dice.roll(3) == 0).take(3).collect();
        if sources.is_empty() {
            return None;
        }
        let start = |log: &u64| self.start.get(log).copied().unwrap_or(0);
        let (mut holds, mut logs) = (BTreeSet::new(), BTreeMap::<u64, (u64, u64)>::new());
        for (id, lap) in &sources {
            let of = if id.is_pack() { &self.packs[&id.number()] } else { &self.laps[lap] };
            for (log, pos) in &of.holds {
                let range = logs.entry(*log).or_insert((*pos, *pos + 1));
                *range = (range.0.min(*pos), range.1.max(*pos + 1));
                if *pos >= start(log) && !self.retired.contains(&(*log, *pos)) {
                    holds.insert((*log, *pos));
                }
            }
        }
        let logs = logs.into_iter().map(|(log, (first, end))| (LogId(log), first, end)).collect();
        self.packs_made += 1;
        let id = FileId::pack(self.packs_made);
        Some(Merge { packed: Packed { id, footer_off: 1, footer_len: 2, stored: 3, sources, logs }, holds })
    }

    /// The copy is durable and takes over.
    fn install(&mut self, account: &mut Account, merge: &Merge) {
        for (id, lap) in &merge.packed.sources {
            let of = if id.is_pack() { self.packs.get_mut(&id.number()) } else { self.laps.get_mut(lap) };
            // It may be gone by now: nothing of it lived.
            if let Some(of) = of {
                of.holds.clear();
            }
        }
        let l = Lap { holds: merge.holds.clone(), sealed: true, ..Lap::default() };
        let row = account.install(&merge.packed).unwrap();
        assert_eq!(row.is_some(), self.live(&l) > 0);
        if let Some(row) = row {
            assert_eq!(row.live, self.live(&l));
            self.packs.insert(merge.packed.id.number(), l);
        }
    }
}

/// A merge under way.
struct Merge {
    packed: Packed,
    /// What was copied.
    holds: BTreeSet<(u64, u64)>,
}

/// Writes the batch as the flusher does; gives (floor, floor lap, space lsn) as then durable.
fn flush(account: &mut Account, store: &SimStore, model: &mut Model, objects: u64) -> (u64, u64, u64) {
    let floor = objects.min(account.floor_max()).min(account.applied() + 1);
    let free = account.take_dead(floor).unwrap();
    let floor_lap = account.floor_lap(floor);
    let space_lsn = account.applied();
    store.write(account.take_changes()).unwrap();
    if !account.has_work() {
        model.check_retired(store);
    }
    for (id, lap) in free {
        if id.is_pack() {
            let l = model.packs.remove(&id.number()).unwrap();
            assert_eq!(model.live(&l), 0, "{id:?} was freed early");
            continue;
        }
        let l = model.laps.remove(&lap).unwrap();
        assert!(l.id == id.0 && l.sealed && lap < floor_lap);
        assert!(l.last_lsn < floor && model.live(&l) == 0, "lap {lap} was freed early");
        model.free_ids.push(id.0);
    }
    (floor, floor_lap, space_lsn)
}

fn history(seed: u64, steps: u64) -> u64 {
    let mut dice = Dice(SimRng::new(seed));
    let mut store = SimStore::new();
    let mut model = Model::default();
    let mut kept = (1, 0, 0);
    let open = |store: &SimStore, space_lsn| Account::load(Arc::new(store.clone()), space_lsn).unwrap();
    let mut account = open(&store, 0);
    account.finish_replay().unwrap();
    let (id, lap) = model.begin();
    account.begin(id, lap, 1);
    let (mut merge, mut merges): (Option<Merge>, u64) = (None, 0);
    for _ in 0..steps {
        match dice.roll(44) {
            0..28 => {
                let (lsn, ops) = model.record(&mut dice);
                ops.iter().for_each(|op| account.apply(Lsn(lsn), op).unwrap());
                account.applied_to(Lsn(lsn));
            }
            28..32 if model.laps[&model.lap].last_lsn > 0 => {
                let lap = model.lap;
                model.laps.get_mut(&lap).unwrap().sealed = true;
                account.seal(&model.sealed(lap));
                let (id, lap) = model.begin();
                account.begin(id, lap, model.lsn + 1);
            }
            32..34 => {
                let oldest = account.to_adopt().next();
                if let Some((id, lap)) = oldest {
                    account.adopt(id, lap, AdoptedAt { footer_off: 1, footer_len: 2 }).unwrap();
                    // The index in memory goes only once the rows are durable.
                    kept = flush(&mut account, &store, &mut model, kept.0);
                }
            }
            34..37 => {
                let objects = kept.0 + dice.roll(model.lsn + 2 - kept.0.min(model.lsn + 1));
                kept = flush(&mut account, &store, &mut model, objects.max(kept.0));
            }
            37 => account.work().unwrap(),
            40.. => match merge.take() {
                None => merge = model.merge(&mut dice, &account),
                Some(m) => {
                    let before = (model.laps.clone(), model.packs.clone());
                    model.install(&mut account, &m);
                    while account.has_work() {
                        account.work().unwrap();
                    }
                    model.check(&account);
                    if dice.roll(3) > 0 {
                        kept = flush(&mut account, &store, &mut model, kept.0);
                        merges += 1;
                    } else {
                        // The power goes before the rows are durable: the pack is nobody's.
                        (model.laps, model.packs) = before;
                        store = store.crash(false);
                        account = open(&store, kept.2);
                        model.replay(&mut account, kept.0, kept.1);
                    }
                }
            },
            _ => {
                merge = None;
                store = store.crash(false);
                account = open(&store, kept.2);
                model.replay(&mut account, kept.0, kept.1);
            }
        }
        while account.has_work() {
            account.work().unwrap();
        }
        if dice.roll(8) == 0 {
            model.check(&account);
        }
    }
    while account.has_work() {
        account.work().unwrap();
    }
    model.check(&account);
    // The end: everything goes, and no file and no row may be left but the active one's.
    for log in 1..=model.logs {
        model.lsn += 1;
        let (lap, op) = (model.lap, SpaceOp::Delete { log: LogId(log) });
        account.apply(Lsn(model.lsn), &op).unwrap();
        account.applied_to(Lsn(model.lsn));
        model.start.insert(log, u64::MAX);
        model.laps.get_mut(&lap).unwrap().last_lsn = model.lsn;
    }
    let lap = model.lap;
    model.laps.get_mut(&lap).unwrap().sealed = true;
    account.seal(&model.sealed(lap));
    let (id, lap) = model.begin();
    account.begin(id, lap, model.lsn + 1);
    let end = model.lsn + 1;
    flush(&mut account, &store, &mut model, end);
    flush(&mut account, &store, &mut model, end);
    assert_eq!((model.laps.len(), model.packs.len()), (1, 0), "files leaked");
    assert!(store.dump().is_empty(), "rows leaked: {:?}", store.dump());
    merges
}

#[test]
fn live_counts_equal_the_naive_model_over_random_histories_with_crashes() {
    let merges: u64 = (0..40).map(|seed| history(seed, 200)).sum();
    assert!(merges > 50, "{merges}");
}

#[test]
fn rows_of_version_1_say_what_lives_by_their_extents() {
    let store = SimStore::new();
    let mut a = Account::load(Arc::new(store.clone()), 0).unwrap();
    a.finish_replay().unwrap();
    store
        .write(vec![
            (b"F\0\0\0\0\0\0\0\x07".to_vec(), Some(vec![1, 1, 1, 9, 100, 5, 6])),
            (b"X\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec(), Some(vec![1, 7, 1, 8, 2, 80, 1])),
        ])
        .unwrap();
    let a = Account::load(Arc::new(store), 0).unwrap();
    let row = *a.adopted_files().next().unwrap().1;
    assert_eq!((row.content, row.live_bytes, row.stored, row.live_stored()), (80, 60, 100, 75));
}

#[test]
fn a_long_stretch_of_retired_positions_leaves_no_set_behind_a_merge() {
    let store = SimStore::new();
    let mut a = Account::load(Arc::new(store.clone()), 0).unwrap();
    a.finish_replay().unwrap();
    a.begin(FileId(1), 1, 1);
    let at = Addr { file: FileId(1), lap: 1, offset: 0, len: 48 };
    let append = SpaceOp::Append { log: LogId(1), pos: 0, count: 50_000, max_ts_ms: -1, bytes: 100_000, at };
    a.apply(Lsn(1), &append).unwrap();
    let (first_lsn, last_lsn) = (Lsn(1), Lsn(1));
    a.seal(&SealedFile { file: FileId(1), lap: 1, first_lsn, last_lsn, frames_end: 0 });
    a.begin(FileId(2), 2, 2);
    a.adopt(FileId(1), 1, AdoptedAt { footer_off: 1, footer_len: 2 }).unwrap();
    let runs = vec![(0, 20_000), (20_001, 1), (20_003, 20_000), (49_000, 1_000)];
    a.apply(Lsn(2), &SpaceOp::Retire { log: LogId(1), runs }).unwrap();
    a.applied_to(Lsn(2));
    let sources = vec![(FileId(1), 1)];
    let logs = vec![(LogId(1), 0, 50_000)];
    let packed = Packed { id: FileId::pack(1), footer_off: 1, footer_len: 2, stored: 5, sources, logs };
    let row = a.install(&packed).unwrap().unwrap();
    // 20,000; 20,002; 40,003 up to 48,999.
    assert_eq!((row.live, row.live_bytes), (8_999, 17_998));
    store.write(a.take_changes()).unwrap();
    assert_eq!(store.scan(b"R", b"R", 99).unwrap().len(), 1);
    assert_eq!(store.scan(b"X", b"X", 99).unwrap().len(), 2);
    let row = a.log(LogId(1)).unwrap();
    assert_eq!((row.next, row.bytes), (50_000, 6 + 17_994));
    assert_eq!(a.take_dead(3).unwrap(), [(FileId(1), 1)]);
}

#[test]
fn a_position_retired_twice_is_counted_once() {
    let store = SimStore::new();
    let mut a = Account::load(Arc::new(store.clone()), 0).unwrap();
    a.finish_replay().unwrap();
    a.begin(FileId(1), 1, 1);
    let at = Addr { file: FileId(1), lap: 1, offset: 0, len: 8 };
    let append = SpaceOp::Append { log: LogId(1), pos: 0, count: 10, max_ts_ms: -1, bytes: 8, at };
    a.apply(Lsn(1), &append).unwrap();
    let retire = SpaceOp::Retire { log: LogId(1), runs: vec![(2, 3), (3, 3)] };
    for lsn in 2..5 {
        a.apply(Lsn(lsn), &retire).unwrap();
    }
    assert_eq!(a.live()[&(FileId(1), 1)], 6);
}

/// The keeper looked for files to adopt when one was sealed, and not again when its last record was accounted for.
#[test]
fn a_full_file_is_awaited_until_its_last_record_is_applied() {
    let mut a = Account::load(Arc::new(SimStore::new()), 0).unwrap();
    a.finish_replay().unwrap();
    a.begin(FileId(1), 1, 1);
    let at = Addr { file: FileId(1), lap: 1, offset: 0, len: 8 };
    let append = SpaceOp::Append { log: LogId(1), pos: 0, count: 1, max_ts_ms: -1, bytes: 8, at };
    a.apply(Lsn(1), &append).unwrap();
    let (first_lsn, last_lsn) = (Lsn(1), Lsn(2));
    a.seal(&SealedFile { file: FileId(1), lap: 1, first_lsn, last_lsn, frames_end: 0 });
    a.applied_to(Lsn(1));
    assert!(a.to_adopt().next().is_none() && a.awaits_adoption());
    a.applied_to(Lsn(2));
    assert!(a.to_adopt().next().is_some() && !a.awaits_adoption());
}

#[test]
fn the_rows_of_many_logs_are_those_that_single_looks_give_close_together_or_far_apart() {
    let store = SimStore::new();
    let mut a = Account::load(Arc::new(store.clone()), 0).unwrap();
    a.finish_replay().unwrap();
    let with_rows = (1..3000).chain((1..40).map(|i| i * 1_000_003));
    for (lsn, log) in (1..).zip(with_rows.clone()) {
        a.apply(Lsn(lsn), &SpaceOp::Trim { log: LogId(log), before: log % 97 + 1 }).unwrap();
        if lsn == 2000 {
            // Some are read from the store, some are changes on top of it.
            store.write(a.take_changes()).unwrap();
        }
    }
    let logs: Vec<LogId> = with_rows.flat_map(|log| [LogId(log), LogId(log + 5000)]).collect();
    for step in [1, 2, 7, 500] {
        let mut asked: Vec<LogId> = logs.iter().copied().step_by(step).collect();
        asked.sort_unstable();
        asked.dedup();
        let single: Vec<LogRow> = asked.iter().map(|log| a.log(*log).unwrap()).collect();
        assert_eq!(a.log_rows(&asked).unwrap(), single);
    }
}

#[test]
fn a_trim_over_many_extents_is_finished_after_a_crash() {
    let store = SimStore::new();
    let mut a = Account::load(Arc::new(store.clone()), 0).unwrap();
    a.finish_replay().unwrap();
    a.begin(FileId(1), 1, 1);
    let at = Addr { file: FileId(1), lap: 1, offset: 0, len: 8 };
    for i in 0..25_000 {
        let op = SpaceOp::Append { log: LogId(1), pos: i * 2, count: 1, max_ts_ms: -1, bytes: 8, at };
        a.apply(Lsn(1), &op).unwrap();
    }
    let (first_lsn, last_lsn) = (Lsn(1), Lsn(1));
    a.seal(&SealedFile { file: FileId(1), lap: 1, first_lsn, last_lsn, frames_end: 0 });
    a.begin(FileId(2), 2, 2);
    a.adopt(FileId(1), 1, AdoptedAt { footer_off: 0, footer_len: 0 }).unwrap();
    store.write(a.take_changes()).unwrap();
    a.apply(Lsn(2), &SpaceOp::Delete { log: LogId(1) }).unwrap();
    a.applied_to(Lsn(2));
    assert!(a.has_work() && a.live()[&(FileId(1), 1)] == 15_000);
    store.write(a.take_changes()).unwrap();

    let store = store.crash(false);
    let mut a = Account::load(Arc::new(store.clone()), 2).unwrap();
    a.begin(FileId(2), 2, 2);
    a.finish_replay().unwrap();
    let mut slices = 0;
    while a.has_work() {
        a.work().unwrap();
        slices += 1;
    }
    assert_eq!((slices, a.live()[&(FileId(1), 1)]), (2, 0));
    assert_eq!(a.take_dead(2).unwrap(), [(FileId(1), 1)]);
    store.write(a.take_changes()).unwrap();
    assert!(store.dump().is_empty());
}

#[test]
fn appends_told_as_one_are_counted_as_each_by_itself() {
    let at = |offset, len| Addr { file: FileId(1), lap: 1, offset, len };
    let append = |log, pos, count, at| {
        let max_ts_ms = (pos * 7 % 5) as i64;
        SpaceOp::Append { log: LogId(log), pos, count, max_ts_ms, bytes: 9 + count, at }
    };
    let ops = [
        append(1, 0, 1, at(0, 51)),
        append(1, 1, 3, at(56, 44)),
        append(1, 4, 1, at(104, 50)),
        // A hole, and another log.
        append(1, 6, 1, at(160, 50)),
        append(2, 0, 1, at(216, 50)),
        // A fan-out, and an entry behind it.
        append(1, 7, 1, at(272, 90)),
        append(2, 1, 1, at(272, 90)),
        append(2, 2, 1, at(368, 50)),
        append(2, 3, 1, at(424, 50)),
    ];
    let rows = |ops: &[(Lsn, SpaceOp)]| {
        let mut a = Account::load(Arc::new(SimStore::new()), 0).unwrap();
        a.finish_replay().unwrap();
        a.begin(FileId(1), 1, 1);
        ops.iter().for_each(|(lsn, op)| a.apply(*lsn, op).unwrap());
        let (first_lsn, last_lsn) = (Lsn(1), Lsn(9));
        a.seal(&SealedFile { file: FileId(1), lap: 1, first_lsn, last_lsn, frames_end: 0 });
        a.applied_to(Lsn(9));
        a.begin(FileId(2), 2, 10);
        a.adopt(FileId(1), 1, AdoptedAt { footer_off: 1, footer_len: 2 }).unwrap();
        a.take_changes()
    };
    let each: Vec<_> = ops.iter().zip(1..).map(|(op, lsn)| (Lsn(lsn), op.clone())).collect();
    let mut told: Vec<(Lsn, SpaceOp)> = Vec::new();
    // A fan-out is one record, and never tried.
    for (i, (lsn, op)) in each.iter().enumerate() {
        if (5..7).contains(&i) || !SpaceOp::take_in(&mut told, op) {
            told.push((*lsn, op.clone()));
        }
    }
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!(rows(&told), rows(&each));
}
