//! Brokers that break a promise on purpose: each must be caught, or the checker proves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_env::sim::{Call, Fault};
use millstream_log::mem::Commit;
use millstream_log::{
    Bounds, BoxFuture, DiskLog, EntryHead, Extent, Head, Level, Limits, LogConfig, LogStore, Lost, Marks,
    OnDurable, OpenError, Opened, ReadError, ReadOutcome, Reader, Replay, StateReader, StoreKind, Watermarks,
};

use millstream_testkit::under::{LogUnderTest, Mem, OnSim};
use millstream_testkit::wrapped::Wrapped;
use millstream_types::{Epoch, LogId, Lsn};

use crate::world::run;

/// The first seed whose history shows the bug, and how.
fn caught(seeds: u64, make: impl Fn(u64) -> Box<dyn LogUnderTest>) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| run(seed, &*make(seed)).err().map(|violation| (seed, violation)))
}

fn must_be_caught(what: &str, seeds: u64, make: impl Fn(u64) -> Box<dyn LogUnderTest>) {
    let (seed, violation) = caught(seeds, make).unwrap_or_else(|| panic!("{what}: nobody noticed"));
    println!("{what}: seed {seed}: {violation}");
}

#[test]
fn a_disk_that_lies_about_syncs_is_noticed() {
    must_be_caught("syncs that lie", 40, |seed| {
        Box::new(Wrapped::new(on_sim(seed), |under: &OnSim| {
            let fault = Fault::new(Call::Sync).on_path(|path| path.starts_with("seg/")).after(2);
            under.disk().inject(fault.always().lie());
            under.store()
        }))
    });
}

#[test]
fn effects_that_are_not_replayed_are_noticed() {
    must_be_caught("forgotten effects", 40, |_| with(memory(), Bug::ForgetsEffects));
}

#[test]
fn appends_that_are_not_replayed_are_noticed() {
    must_be_caught("forgotten appends", 40, |_| with(memory(), Bug::ForgetsAppends));
}

#[test]
fn a_reader_that_leaves_out_an_entry_is_noticed() {
    must_be_caught("entries left out", 40, |_| with(memory(), Bug::LeavesOut));
}

#[test]
fn a_reader_that_moves_entries_is_noticed() {
    must_be_caught("entries moved", 40, |_| with(memory(), Bug::Swaps));
}

#[test]
fn answers_before_the_sync_are_noticed() {
    must_be_caught("answers before the sync", 40, |seed| with(on_sim(seed), Bug::AnswersEarly));
}

#[cfg(debug_assertions)]
#[test]
fn a_message_that_a_merge_leaves_behind_is_noticed() {
    must_be_caught("lost in a merge", 100, |seed| {
        let make = |env, rows| -> Box<dyn LogStore> {
            let log = DiskLog::with_store(env, StoreKind::Sim(rows));
            Box::new(log.with_bug(millstream_log::Bug::LosesWhatItMerges))
        };
        Box::new(OnSim::with_rows(seed, make).merging_at_once())
    });
}

fn memory() -> Mem {
    Mem::new(Commit::AtOnce)
}

fn on_sim(seed: u64) -> OnSim {
    OnSim::new(seed, |env| Box::new(DiskLog::new(env)))
}

#[derive(Clone, Copy)]
enum Bug {
    ForgetsEffects,
    ForgetsAppends,
    LeavesOut,
    Swaps,
    AnswersEarly,
}

fn with<U: LogUnderTest + 'static>(under: U, bug: Bug) -> Box<dyn LogUnderTest> {
    Box::new(Wrapped::new(under, move |under: &U| Box::new(BuggyStore(under.store(), bug))))
}

struct BuggyStore(Box<dyn LogStore>, Bug);

impl LogStore for BuggyStore {
    fn open(&self, cfg: &LogConfig, replay: &mut dyn Replay) -> Result<Opened, OpenError> {
        let mut forgetful = Forgetful { to: replay, bug: self.1, calls: 0 };
        let mut opened = self.0.open(cfg, &mut forgetful)?;
        if matches!(self.1, Bug::LeavesOut | Bug::Swaps) {
            opened.reader =
                Arc::new(BuggyReader { of: opened.reader, bug: self.1, reads: AtomicU64::new(0) });
        }
        if matches!(self.1, Bug::AnswersEarly) {
            opened.marks = Arc::new(EarlyMarks(opened.marks));
        }
        Ok(opened)
    }
}

/// Calls durable what was only given a number.
struct EarlyMarks(Arc<dyn Watermarks>);

impl Watermarks for EarlyMarks {
    fn get(&self) -> Marks {
        let marks = self.0.get();
        Marks { written: marks.sequenced, durable: marks.sequenced, ..marks }
    }
    fn reached(&self, lsn: Lsn) -> BoxFuture<Result<(), Lost>> {
        self.0.reached(lsn)
    }
    fn on_durable(&self, f: OnDurable) {
        self.0.on_durable(f);
    }
    fn lost(&self) -> Option<Lost> {
        self.0.lost()
    }
}

/// Passes replay on, but for every fifth call of one kind.
struct Forgetful<'a> {
    to: &'a mut dyn Replay,
    bug: Bug,
    calls: u64,
}

impl Forgetful<'_> {
    fn forgets(&mut self) -> bool {
        self.calls += 1;
        self.calls.is_multiple_of(5)
    }
}

impl Replay for Forgetful<'_> {
    fn begin(&mut self, rows: Arc<dyn StateReader>, epoch: Epoch) {
        self.to.begin(rows, epoch);
    }
    fn effect(&mut self, lsn: Lsn, object: &[u8], bytes: &[u8]) {
        if !(matches!(self.bug, Bug::ForgetsEffects) && self.forgets()) {
            self.to.effect(lsn, object, bytes);
        }
    }
    fn append(&mut self, lsn: Lsn, entry: EntryHead<'_>) {
        if !(matches!(self.bug, Bug::ForgetsAppends) && self.forgets()) {
            self.to.append(lsn, entry);
        }
    }
    fn trim(&mut self, lsn: Lsn, log: LogId, before: u64) {
        self.to.trim(lsn, log, before);
    }
    fn delete(&mut self, lsn: Lsn, log: LogId) {
        self.to.delete(lsn, log);
    }
    fn record_end(&mut self, lsn: Lsn) {
        self.to.record_end(lsn);
    }
}

/// Spoils every tenth read of several entries.
struct BuggyReader {
    of: Arc<dyn Reader>,
    bug: Bug,
    reads: AtomicU64,
}

impl Reader for BuggyReader {
    fn read(&self, log: LogId, from: u64, lim: Limits, level: Level) -> ReadOutcome {
        match self.of.read(log, from, lim, level) {
            ReadOutcome::Ready(Ok(mut batch)) if batch.entries.len() > 2 => {
                if self.reads.fetch_add(1, Ordering::Relaxed) % 10 == 9 {
                    match self.bug {
                        Bug::LeavesOut => drop(batch.entries.remove(1)),
                        _ => {
                            let body = batch.entries[0].body.clone();
                            batch.entries[0].body = std::mem::replace(&mut batch.entries[1].body, body);
                        }
                    }
                }
                ReadOutcome::Ready(Ok(batch))
            }
            outcome => outcome,
        }
    }
    fn get(&self, log: LogId, positions: &[u64]) -> ReadOutcome {
        self.of.get(log, positions)
    }
    fn heads(
        &self,
        log: LogId,
        from: u64,
        lim: Limits,
        level: Level,
    ) -> BoxFuture<Result<Vec<Head>, ReadError>> {
        self.of.heads(log, from, lim, level)
    }
    fn by_time(
        &self,
        log: LogId,
        from: u64,
        ts_ms: i64,
        level: Level,
    ) -> BoxFuture<Result<Option<Head>, ReadError>> {
        self.of.by_time(log, from, ts_ms, level)
    }
    fn bounds(&self, log: LogId) -> Bounds {
        self.of.bounds(log)
    }
    fn extents(&self, log: LogId, from: u64, max: usize) -> BoxFuture<Result<Vec<Extent>, ReadError>> {
        self.of.extents(log, from, max)
    }
    fn close(&self) {
        self.of.close();
    }
}
