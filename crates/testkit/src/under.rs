//! The logs that are tested, each with a way to cut its power, hold back its syncs and break it.
//!
//! Start at [`LogUnderTest`].

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_env::hold::HoldDisk;
use millstream_env::os::OsDisk;
use millstream_env::sim::{Call, Fault, SimClock, SimDisk};
use millstream_env::{Disk, Env};
use millstream_log::mem::{Commit, MemLog};
use millstream_log::{LogConfig, LogStore, SimStore};

use crate::model::SpaceHeld;
use crate::rot;

/// A log and the machine it is on.
pub trait LogUnderTest {
    /// The log as this machine finds it now.
    fn store(&self) -> Box<dyn LogStore>;
    /// Cuts the power while the log is open: what is not durable may be gone. Afterwards `store` gives the log as the next boot
    /// finds it. False: cannot be done here, and nothing happened.
    fn crash(&self) -> bool;
    /// Makes what was sequenced durable, where that needs a hand.
    fn commit(&self) {}
    /// Nothing becomes durable until the guard is dropped. `None`: cannot be done here.
    fn hold(&self) -> Option<Box<dyn Any>> {
        None
    }
    /// From now on nothing becomes durable, for ever. False: cannot be done here.
    fn fail(&self) -> bool;
    /// Kills the process while the log is open: what was written is still cached, whether durable or not. False: as for `crash`.
    fn kill(&self) -> bool {
        false
    }
    /// Cuts the power by itself after so many more changes of the disk (`u64::MAX`: not at all). Does nothing where that cannot be
    /// done.
    fn cut_after(&self, _calls: u64) {}
    /// Whether the power went by itself.
    fn is_off(&self) -> bool {
        false
    }
    /// The machine, for what else lives on it.
    fn env(&self) -> Env;
    /// Lets some later call of the disk fail once; which kind of call, and how late, follows from a random number. Does nothing where
    /// that cannot be done.
    fn disturb(&self, _random: u64) {}
    /// Makes every sync take so long, from now on. Does nothing where that cannot be done.
    fn slow_syncs(&self, _by: Duration) {}
    /// Moves the machine's time on, where it is simulated.
    fn advance(&self, _by: Duration) {}
    /// Flips a bit of some frame of the log, which is closed; gives what flips it back. `None`: cannot be done here.
    fn rot(&self, _random: u64) -> Option<Box<dyn FnOnce()>> {
        None
    }
    /// What the log holds of its disk and its state store. `None`: it keeps no rows, so it gives nothing back.
    fn space_held(&self) -> Option<SpaceHeld> {
        None
    }
    /// Small sizes, so that little data fills files.
    fn config(&self) -> LogConfig {
        config()
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        reserve_bytes: 4 << 20,
        inflight_bytes: 8 << 20,
        tail_bytes: 4 << 20,
        replay_bytes: REPLAY_BYTES,
        flush_interval_ms: 20,
        ready_files: 2,
        ..LogConfig::default()
    }
}

/// A log in memory.
pub struct Mem {
    log: MemLog,
    env: Env,
    clock: Arc<SimClock>,
    by_hand: bool,
}

impl Mem {
    /// Empty.
    #[must_use]
    pub fn new(commit: Commit) -> Self {
        let (env, _, clock) = Env::sim(0);
        Self { log: MemLog::new(commit), env, clock, by_hand: commit == Commit::ByHand }
    }
}

impl LogUnderTest for Mem {
    fn store(&self) -> Box<dyn LogStore> {
        Box::new(self.log.clone())
    }
    fn env(&self) -> Env {
        self.env.clone()
    }
    fn crash(&self) -> bool {
        self.log.crash();
        true
    }
    fn commit(&self) {
        if self.by_hand {
            self.log.commit_to(millstream_types::Lsn(u64::MAX));
        }
    }
    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
    fn hold(&self) -> Option<Box<dyn Any>> {
        self.by_hand.then(|| Box::new(()) as Box<dyn Any>)
    }
    fn fail(&self) -> bool {
        self.log.lose("a test");
        true
    }
}

/// What makes a log over an environment: `|env| Box::new(DiskLog::new(env))`.
pub type Make = fn(Env) -> Box<dyn LogStore>;

/// As [`Make`], with the state store that goes with the simulated disk.
pub type MakeWithRows = fn(Env, SimStore) -> Box<dyn LogStore>;

enum How {
    Alone(Make),
    WithRows(MakeWithRows),
}

/// A log on a simulated disk, by seed.
pub struct OnSim {
    env: Env,
    clock: Arc<SimClock>,
    slow: Mutex<Option<Duration>>,
    make: How,
    replay_bytes: u64,
    merging: bool,
    rows: Mutex<SimStore>,
    disk: Mutex<(Arc<SimDisk>, Arc<HoldDisk>)>,
}

const REPLAY_BYTES: u64 = 64 << 20;

impl OnSim {
    /// On an empty disk.
    #[must_use]
    pub fn new(seed: u64, make: Make) -> Self {
        Self::made(seed, How::Alone(make))
    }

    /// On an empty disk, with an empty state store whose power goes with the disk's.
    #[must_use]
    pub fn with_rows(seed: u64, make: MakeWithRows) -> Self {
        Self::made(seed, How::WithRows(make))
    }

    fn made(seed: u64, make: How) -> Self {
        let (env, disk, clock) = Env::sim(seed);
        // Writes tear at 512 bytes on every third disk, else at 4096.
        let disk = if seed % 3 == 1 { SimDisk::with_small_sectors(seed) } else { disk };
        let (rows, disk) = (Mutex::default(), Mutex::new(held(disk)));
        let (slow, merging, replay_bytes) = (Mutex::new(None), false, REPLAY_BYTES);
        Self { env, clock, slow, make, replay_bytes, merging, rows, disk }
    }

    /// Files get their index on disk as soon as they are full.
    #[must_use]
    pub fn adopting_at_once(self) -> Self {
        Self { replay_bytes: 2 << 20, ..self }
    }

    /// What still lives in mostly dead files is merged at once, and again and again.
    #[must_use]
    pub fn merging_at_once(self) -> Self {
        Self { replay_bytes: 2 << 20, merging: true, ..self }
    }

    /// The state store in use.
    pub fn rows(&self) -> SimStore {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn next_rows(&self) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let keep_in_doubt = self.env.rng.next_u64().is_multiple_of(2);
        *rows = rows.crash(keep_in_doubt);
    }

    /// The disk in use.
    #[must_use]
    pub fn disk(&self) -> Arc<SimDisk> {
        Arc::clone(&self.disk.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Goes on with another disk (what [`SimDisk::crash`] or [`SimDisk::kill`] gave).
    pub fn set_disk(&self, disk: Arc<SimDisk>) {
        if let Some(by) = *self.slow.lock().unwrap_or_else(PoisonError::into_inner) {
            disk.on_sync(move |_| std::thread::sleep(by)); // tidy: pacing
        }
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = held(disk);
    }
}

fn held(disk: Arc<SimDisk>) -> (Arc<SimDisk>, Arc<HoldDisk>) {
    let hold = Arc::new(HoldDisk::new(Arc::<SimDisk>::clone(&disk)));
    (disk, hold)
}

impl LogUnderTest for OnSim {
    fn config(&self) -> LogConfig {
        let config = LogConfig { replay_bytes: self.replay_bytes, ..config() };
        if !self.merging {
            return config;
        }
        // The clock stands still: nothing may wait for it.
        LogConfig {
            flush_interval_ms: 0,
            merge_budget_percent: 100,
            merge_bytes_per_s: 0,
            merge_gain_bytes_min: 0,
            ..config
        }
    }

    fn store(&self) -> Box<dyn LogStore> {
        match self.make {
            How::Alone(make) => make(self.env()),
            How::WithRows(make) => make(self.env(), self.rows()),
        }
    }
    fn crash(&self) -> bool {
        let next = self.disk().crash();
        self.next_rows();
        self.set_disk(next);
        true
    }
    fn kill(&self) -> bool {
        let next = self.disk().kill();
        self.next_rows();
        self.set_disk(next);
        true
    }
    fn cut_after(&self, calls: u64) {
        self.disk().fail_after(calls);
        // The power may also go while rows are written.
        self.rows().fail_after(if calls.is_multiple_of(3) { calls / 3 } else { u64::MAX / 2 });
    }
    fn is_off(&self) -> bool {
        self.disk().is_off() || self.rows().is_off()
    }
    fn env(&self) -> Env {
        let hold = Arc::clone(&self.disk.lock().unwrap_or_else(PoisonError::into_inner).1);
        self.env.with_disk(hold)
    }
    fn slow_syncs(&self, by: Duration) {
        *self.slow.lock().unwrap_or_else(PoisonError::into_inner) = Some(by);
        self.disk().on_sync(move |_| std::thread::sleep(by)); // tidy: pacing
    }
    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
    fn disturb(&self, random: u64) {
        let late = random / 8 % 4;
        let fault = match random % 8 {
            0..=3 => Fault::new(Call::Sync),
            4 => Fault::new(Call::Write),
            5 => Fault::new(Call::Create),
            6 => Fault::new(Call::Allocate).no_space().times(1 + late),
            _ => Fault::new(Call::SyncDir),
        };
        self.disk().inject(fault.after(late));
    }
    fn hold(&self) -> Option<Box<dyn Any>> {
        let hold = Arc::clone(&self.disk.lock().unwrap_or_else(PoisonError::into_inner).1);
        Some(Box::new(hold.hold()))
    }
    fn rot(&self, random: u64) -> Option<Box<dyn FnOnce()>> {
        // With rows, files below the floor rot unseen until they are read: another question.
        matches!(self.make, How::Alone(_)).then(|| rot::flip(&self.disk(), random))?
    }
    fn space_held(&self) -> Option<SpaceHeld> {
        let How::WithRows(_) = self.make else { return None };
        let files = ["seg", "pack"].map(|dir| self.disk().list(dir).map_or(0, |names| names.len()));
        let mut held = SpaceHeld { files: files.iter().sum(), ..SpaceHeld::default() };
        for (key, _) in self.rows().dump() {
            *held.rows.entry(key.first().copied().unwrap_or(0)).or_default() += 1;
        }
        Some(held)
    }
    fn fail(&self) -> bool {
        self.disk().inject(Fault::new(Call::Sync).always());
        true
    }
}

/// A log in a temporary directory of the real disk. Its power cannot be cut.
pub struct OnOs {
    env: Env,
    make: Make,
    hold: Arc<HoldDisk>,
    _dir: tempfile::TempDir,
}

impl OnOs {
    /// In a new directory.
    #[must_use]
    pub fn new(make: Make) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hold = Arc::new(HoldDisk::new(Arc::new(OsDisk::new(dir.path().to_owned()))));
        let env = Env::os(dir.path()).with_disk(Arc::<HoldDisk>::clone(&hold) as Arc<dyn Disk>);
        Self { env, make, hold, _dir: dir }
    }
}

impl LogUnderTest for OnOs {
    fn store(&self) -> Box<dyn LogStore> {
        (self.make)(self.env.clone())
    }
    fn crash(&self) -> bool {
        false
    }
    fn env(&self) -> Env {
        self.env.clone()
    }
    fn hold(&self) -> Option<Box<dyn Any>> {
        Some(Box::new(self.hold.hold()))
    }
    fn fail(&self) -> bool {
        false
    }
}
