//! The ready pool: segment files prepared ahead, so that going on in the next file costs the commit path nothing; and what is done
//! about room on the disk, as [`room`](super::room) says.
//!
//! A file is handed out only with its room reserved, a header with a lap number never used before synced, and its name synced.
//! Start at [`ReadyPool`]; [`ReadyPool::run`] is the thread's body.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use millstream_env::{Disk, OpenMode};

use super::ballast::Ballast;
use super::events::FileId;
use super::file::{SEG_DIR, SegFile, path};
use super::room::{MergeRoom, OPENING_FILES, SETTLE_FILES, Seen, Sizes, Step};
use crate::api::Gate;
use crate::format::header::{BLOCK_BYTES, SegmentHeader};
use crate::format::ids::StoreId;
use crate::store::StateStore;

/// How often the pool looks at the disk when nothing happens.
const LOOK: Duration = Duration::from_millis(250);
/// Files are removed no faster than one in so long: it costs the file system time that commits would wait for.
const UNLINK_PAUSE: Duration = Duration::from_millis(50);
/// Looks in which nothing happened, after which free files that were not needed all the while are more than what is kept.
const IDLE_LOOKS: u32 = 40;

/// Files ready to be written.
pub(crate) struct ReadyPool {
    disk: Arc<dyn Disk>,
    store: StoreId,
    sizes: Sizes,
    ballast: Ballast,
    gate: Arc<Gate>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<SegFile>>,
    /// Files whose content nobody needs any more.
    free: VecDeque<FileId>,
    /// Those of them that are shorter than a segment file: to use one again takes room, so they are removed.
    short: VecDeque<FileId>,
    next_id: u64,
    next_lap: u64,
    stop: bool,
    /// The state store, while the log is open.
    rows: Option<Weak<dyn StateStore>>,
    idle: Idle,
    /// As last looked at; the files are counted anew by [`State::seen`].
    at: Seen,
}

/// How many free files are there all the while.
#[derive(Default)]
struct Idle {
    /// There were so many at least in the time before.
    files: usize,
    /// The least seen in this time so far.
    least: usize,
    looks: u32,
}

impl Idle {
    /// There are so many free files; `quiet`: nothing happened since the last look.
    fn look(&mut self, free_files: usize, quiet: bool) {
        self.least = self.least.min(free_files);
        self.files = self.files.min(free_files);
        self.looks += u32::from(quiet);
        if self.looks >= IDLE_LOOKS {
            *self = Self { files: self.least, least: free_files, looks: 0 };
        }
    }
}

impl State {
    fn seen(&self) -> Seen {
        let free_files = self.free.len();
        Seen { ready: self.ready.len(), free_files, idle_files: self.idle.files.min(free_files), ..self.at }
    }

    fn next_to_remove(&mut self) -> Option<FileId> {
        self.short.pop_front().or_else(|| self.free.pop_front())
    }
}

impl ReadyPool {
    /// A pool of files of these sizes that says to the gate what there is room for. `next_id` and `next_lap` were never used.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        store: StoreId,
        sizes: Sizes,
        gate: Arc<Gate>,
        next_id: u64,
        next_lap: u64,
    ) -> Self {
        let state = State { next_id, next_lap, ..State::default() };
        let ballast = Ballast::new(Arc::clone(&disk), sizes.ballast_bytes());
        Self { disk, store, sizes, ballast, gate, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back a file whose content nobody needs any more.
    pub(crate) fn give_back(&self, id: FileId) {
        // What cannot be told is found when it is used again.
        let len = self.disk.open(&path(id), OpenMode::Read).and_then(|file| file.len());
        let mut s = self.lock();
        if len.is_ok_and(|len| len < self.sizes.segment_bytes) {
            s.short.push_back(id);
        } else {
            s.free.push_back(id);
        }
        drop(s);
        self.changed.notify_all();
    }

    /// The lap number that comes next: none from it on was ever given.
    pub(crate) fn next_lap(&self) -> u64 {
        self.lock().next_lap
    }

    /// A ready file, if there is one. The last is the next opening's.
    pub(crate) fn try_take(&self) -> Option<Arc<SegFile>> {
        let mut s = self.lock();
        self.take_from(&mut s)
    }

    fn take_from(&self, s: &mut State) -> Option<Arc<SegFile>> {
        let file = if s.ready.len() > OPENING_FILES { s.ready.pop_front() } else { None };
        if file.is_some() {
            // Before anything more is admitted.
            self.tell(s);
            self.changed.notify_all();
        }
        file
    }

    /// Waits for a ready file; `None` once the pool was stopped.
    pub(crate) fn take(&self) -> Option<Arc<SegFile>> {
        let mut s = self.lock();
        loop {
            if let Some(file) = self.take_from(&mut s) {
                s.at.waiting = false;
                return Some(file);
            }
            if s.stop {
                return None;
            }
            if !s.at.waiting {
                s.at.waiting = true;
                self.changed.notify_all();
            }
            s = self.changed.wait(s).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends [`ReadyPool::run`] and wakes who waits.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    /// Whether the state store, whose merges may take `merge_bytes`, may write a batch of so many bytes; else how many are free. If room
    /// is short it gets the ballast; if that is not enough, files that are free are removed, and it is to ask again.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn may_store(&self, batch_bytes: u64, merge_bytes: u64) -> io::Result<Result<(), u64>> {
        let need = self.sizes.store_bytes(batch_bytes, merge_bytes);
        let mut free = self.disk.space()?.free_bytes;
        if free < need && self.give_ballast()? {
            free = self.disk.space()?.free_bytes;
        }
        let enough = free >= need;
        let mut s = self.lock();
        if s.at.starved == enough {
            s.at.starved = !enough;
            self.changed.notify_all();
        }
        Ok(if enough { Ok(()) } else { Err(free) })
    }

    /// Gives the ballast's room to whoever asks: the state store, or a merge. False: it was given already. It is taken back before
    /// publishing goes on.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn give_ballast(&self) -> io::Result<bool> {
        if self.lock().at.ballast_bytes == 0 {
            return Ok(false);
        }
        self.ballast.give()?;
        let mut s = self.lock();
        s.at.ballast_bytes = 0;
        self.look(&mut s);
        self.changed.notify_all();
        Ok(true)
    }

    /// Whether a merge may write a pack of so many bytes; it gets the ballast if room is short (`hurry`) and that is what it lacks.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn may_merge(&self, pack_bytes: u64, hurry: bool) -> io::Result<bool> {
        let room = {
            let mut s = self.lock();
            self.look(&mut s);
            self.sizes.merge(&s.seen(), pack_bytes, hurry)
        };
        match room {
            MergeRoom::Enough => Ok(true),
            MergeRoom::WithBallast => self.give_ballast(),
            MergeRoom::None => Ok(false),
        }
    }

    /// What is on the disk before anything runs: the room, and whether publishing is stopped from the start.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn begin(&self, rows: Option<Weak<dyn StateStore>>) -> io::Result<()> {
        let held = self.ballast.held()?;
        let mut s = self.lock();
        s.rows = rows;
        s.at.ballast_bytes = held;
        self.look(&mut s);
        self.judge(&mut s);
        Ok(())
    }

    /// Makes the files ready that are kept back for settling and for the next opening.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn fill(&self) -> io::Result<()> {
        while self.lock().ready.len() < SETTLE_FILES + OPENING_FILES {
            let file = self.prepare(None)?;
            self.lock().ready.push_back(file);
        }
        Ok(())
    }

    /// A file for an opening: one that is free, else a new one.
    ///
    /// # Errors
    /// What the disk says of the last that was tried.
    pub(crate) fn for_opening(&self) -> io::Result<Arc<SegFile>> {
        let tries = self.lock().free.len();
        for _ in 0..tries {
            match self.recycle() {
                Err(e) if e.kind() == io::ErrorKind::StorageFull => {}
                Ok(Some(file)) => return Ok(file),
                Ok(None) => break,
                Err(e) => return Err(e),
            }
        }
        self.prepare(None)
    }

    /// Prepares a free file, if there is one.
    fn recycle(&self) -> io::Result<Option<Arc<SegFile>>> {
        let id = self.lock().free.pop_front();
        id.map(|id| self.prepare(Some(id))).transpose()
    }

    /// Prepares a file that was free, or a new one.
    fn prepare(&self, free: Option<FileId>) -> io::Result<Arc<SegFile>> {
        let (id, lap) = {
            let mut s = self.lock();
            let id = free.unwrap_or_else(|| {
                s.next_id += 1;
                FileId(s.next_id - 1)
            });
            s.next_lap += 1;
            (id, s.next_lap - 1)
        };
        let made = self.make(id, free.is_none(), lap);
        // Whatever became of it, its content is nothing. A new one need not stay; of the others the next attempt takes another first.
        if made.is_err() && (free.is_some() || self.disk.remove(&path(id)).is_err()) {
            self.lock().free.push_back(id);
        }
        made
    }

    fn make(&self, id: FileId, fresh: bool, lap: u64) -> io::Result<Arc<SegFile>> {
        let path = path(id);
        let file = if fresh {
            self.disk.open(&path, OpenMode::CreateNew)?
        } else {
            match self.disk.open(&path, OpenMode::Write) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.disk.open(&path, OpenMode::CreateNew)?
                }
                other => other?,
            }
        };
        if file.len()? < self.sizes.segment_bytes {
            file.allocate(self.sizes.segment_bytes)?;
        }
        let header = SegmentHeader { id: id.0, lap }.encode(&self.store);
        // The seal block as well: a block never written between the header and the frames keeps the written part of the file in
        // two extents, and each write of a frame then takes ext4 twice as long.
        file.write_at(0, &[io::IoSlice::new(&header), io::IoSlice::new(&[0; BLOCK_BYTES])])?;
        file.sync_all()?;
        file.drop_cache();
        self.disk.sync_dir(SEG_DIR)?;
        Ok(Arc::new(SegFile::open(&self.disk, id, lap, self.sizes.segment_bytes)?))
    }

    /// Looks at the disk. What it cannot say stays as it was: whether a file can be made decides.
    fn look(&self, s: &mut State) {
        if let Ok(space) = self.disk.space() {
            let rows = s.rows.as_ref().and_then(Weak::upgrade);
            let (owed, merge) = rows.map_or((0, 0), |rows| (rows.owed_bytes(), rows.merge_bytes()));
            s.at.free_bytes = space.free_bytes.saturating_sub(owed);
            s.at.merge_bytes = merge;
            s.at.refused = false;
        }
    }

    /// Decides whether publishing is stopped, and says it.
    fn judge(&self, s: &mut State) {
        s.at.full = self.sizes.is_full(&s.seen());
        self.tell(s);
    }

    fn tell(&self, s: &State) {
        self.gate.set_room(self.sizes.room(&s.seen()));
    }

    /// Does one step; how long to wait before the next.
    fn step(&self, step: Step) -> io::Result<Duration> {
        let done = match step {
            Step::Rest => return Ok(LOOK),
            Step::Recycle => self.recycle().map(|file| self.lock().ready.extend(file)),
            Step::Create => self.prepare(None).map(|file| self.lock().ready.push_back(file)),
            Step::TakeBallast => {
                self.ballast.take().map(|()| self.lock().at.ballast_bytes = self.sizes.ballast_bytes())
            }
            Step::Unlink => {
                let Some(id) = self.lock().next_to_remove() else { return Ok(Duration::ZERO) };
                match self.disk.remove(&path(id)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                    _ => return Ok(UNLINK_PAUSE),
                }
            }
        };
        match done {
            Ok(()) => Ok(Duration::ZERO),
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                self.lock().at.refused = true;
                Ok(LOOK)
            }
            Err(e) => Err(e),
        }
    }

    /// Keeps the pool filled and watches the room until it is stopped. `look` is called each time round.
    ///
    /// # Errors
    /// A file cannot be prepared, and not for want of room: the log cannot go on.
    pub(crate) fn run(&self, look: &dyn Fn()) -> io::Result<()> {
        let mut quiet = false;
        loop {
            look();
            let step = {
                let mut s = self.lock();
                if s.stop {
                    return Ok(());
                }
                self.look(&mut s);
                let free_files = s.free.len();
                s.idle.look(free_files, std::mem::take(&mut quiet));
                self.judge(&mut s);
                let next = self.sizes.next(&s.seen());
                // Who waits for a file that can be had goes first.
                let first = s.seen().lacks_file() && matches!(next, Step::Create | Step::Recycle);
                if s.short.is_empty() || first { next } else { Step::Unlink }
            };
            let pause = self.step(step)?;
            let mut s = self.lock();
            self.judge(&mut s);
            self.changed.notify_all();
            if s.stop {
                return Ok(());
            }
            // Whatever happens is a reason to look again, but not to remove files faster.
            let paced = step == Step::Unlink;
            drop(if pause.is_zero() {
                s
            } else if paced {
                let still = |s: &mut State| !s.stop && !s.seen().lacks_file();
                self.changed.wait_timeout_while(s, pause, still).unwrap_or_else(PoisonError::into_inner).0
            } else {
                let (s, waited) = self.changed.wait_timeout(s, pause).unwrap_or_else(PoisonError::into_inner);
                quiet = waited.timed_out();
                s
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use millstream_env::Env;

    use super::*;

    #[test]
    fn one_that_waits_and_does_not_wake_yet_gets_no_file_after_file() {
        let (env, _disk, _clock) = Env::sim(1);
        env.disk.create_dir_all(SEG_DIR).unwrap();
        let sizes = Sizes {
            segment_bytes: 1 << 20,
            reserve_bytes: 4 << 20,
            ready_files: 2,
            inflight_bytes: 8 << 20,
            record_bytes: 1 << 20,
            store_least_bytes: 0,
        };
        let store = StoreId::new([1; 16]);
        let pool = ReadyPool::new(Arc::clone(&env.disk), store, sizes, Arc::new(Gate::new(8 << 20)), 1, 1);
        pool.begin(None).unwrap();
        pool.lock().at.waiting = true;
        let looks = Cell::new(0);
        let stop_in_time = || {
            looks.set(looks.get() + 1);
            if looks.get() > sizes.target() + 3 {
                pool.stop();
            }
        };
        pool.run(&stop_in_time).unwrap();
        let s = pool.lock();
        assert!(s.at.waiting);
        assert_eq!(s.ready.len(), sizes.target());
    }

    #[test]
    fn free_files_are_idle_that_were_there_all_through_a_quiet_time() {
        let mut idle = Idle::default();
        let mut look = |free_files, quiet, n| {
            (0..n).for_each(|_| idle.look(free_files, quiet));
            idle.files
        };
        // What was not looked at before the time began does not count.
        assert_eq!(look(9, true, IDLE_LOOKS), 0);
        assert_eq!(look(9, true, IDLE_LOOKS - 1), 0);
        assert_eq!(look(5, false, 100), 0);
        assert_eq!(look(9, true, 1), 5);
        assert_eq!(look(3, false, 1), 3);
        assert_eq!(look(9, true, IDLE_LOOKS), 3);
    }
}
