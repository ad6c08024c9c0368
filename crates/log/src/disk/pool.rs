//! The ready pool: segment files prepared ahead, so that going on in the next file costs the commit path nothing.
//!
//! A file is handed out only with its room reserved, a header with a lap number never used before synced, and its name synced.
//! Start at [`ReadyPool`]; [`ReadyPool::run`] is the thread's body.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_env::{Disk, OpenMode};

use super::events::FileId;
use super::file::{SEG_DIR, SegFile, path};
use crate::format::header::{BLOCK_BYTES, SegmentHeader};
use crate::format::ids::StoreId;

/// How long the pool waits before it asks a full disk again.
const RETRY: Duration = Duration::from_millis(250);

/// Free files kept for use again.
const FREE_FILES_MAX: usize = 16;

/// What the pool says about room on the disk.
pub(crate) type OnPressure = Box<dyn Fn(Pressure) + Send + Sync>;

/// Room for files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// As many files are ready as wanted.
    None,
    /// The disk is full and few are ready.
    Full,
    /// A file cannot be prepared for another reason; the log cannot go on.
    Broken(String),
}

/// Files ready to be written.
pub(crate) struct ReadyPool {
    disk: Arc<dyn Disk>,
    store: StoreId,
    segment_bytes: u64,
    target: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<SegFile>>,
    /// Files whose content nobody needs any more.
    free: VecDeque<FileId>,
    next_id: u64,
    next_lap: u64,
    stop: bool,
}

impl ReadyPool {
    /// A pool that keeps `target` files ready. `next_id` and `next_lap` were never used.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        store: StoreId,
        segment_bytes: u64,
        target: usize,
        next_id: u64,
        next_lap: u64,
    ) -> Self {
        let state = State { next_id, next_lap, ..State::default() };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { disk, store, segment_bytes, target: target.max(1), state, changed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back a file whose content nobody needs any more. Those beyond [`FREE_FILES_MAX`] are removed.
    pub(crate) fn give_back(&self, id: FileId) {
        let keep = self.lock().free.len() < FREE_FILES_MAX;
        // A file that cannot be removed is used again.
        if !keep && self.disk.remove(&path(id)).is_ok() {
            return;
        }
        self.lock().free.push_back(id);
        self.changed.notify_all();
    }

    /// The lap number that comes next: none from it on was ever given.
    pub(crate) fn next_lap(&self) -> u64 {
        self.lock().next_lap
    }

    /// A ready file, if there is one.
    pub(crate) fn try_take(&self) -> Option<Arc<SegFile>> {
        let file = self.lock().ready.pop_front();
        self.changed.notify_all();
        file
    }

    /// Waits for a ready file; `None` once the pool was stopped.
    pub(crate) fn take(&self) -> Option<Arc<SegFile>> {
        let mut s = self.lock();
        loop {
            if let Some(file) = s.ready.pop_front() {
                self.changed.notify_all();
                return Some(file);
            }
            if s.stop {
                return None;
            }
            s = self.changed.wait(s).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends [`ReadyPool::run`] and wakes who waits.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    /// Prepares one file now, a free one first.
    ///
    /// # Errors
    /// What the disk says; the file is not lost to the pool.
    pub(crate) fn prepare(&self) -> io::Result<Arc<SegFile>> {
        let (id, fresh, lap) = {
            let mut s = self.lock();
            let free = s.free.pop_front();
            let id = free.unwrap_or_else(|| {
                s.next_id += 1;
                FileId(s.next_id - 1)
            });
            s.next_lap += 1;
            (id, free.is_none(), s.next_lap - 1)
        };
        let made = self.make(id, fresh, lap);
        if made.is_err() {
            // Whatever became of it, its content is nothing; the next attempt takes it as it is.
            self.lock().free.push_front(id);
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
        if file.len()? < self.segment_bytes {
            file.allocate(self.segment_bytes)?;
        }
        let header = SegmentHeader { id: id.0, lap }.encode(&self.store);
        // The seal block as well: a block never written between the header and the frames keeps the written part of the file in
        // two extents, and each write of a frame then takes ext4 twice as long.
        file.write_at(0, &[io::IoSlice::new(&header), io::IoSlice::new(&[0; BLOCK_BYTES])])?;
        file.sync_all()?;
        file.drop_cache();
        self.disk.sync_dir(SEG_DIR)?;
        Ok(Arc::new(SegFile::open(&self.disk, id, lap, self.segment_bytes)?))
    }

    /// Keeps the pool filled until it is stopped.
    pub(crate) fn run(&self, tell: &OnPressure) {
        let mut s = self.lock();
        while !s.stop {
            if s.ready.len() >= self.target {
                s = self.changed.wait(s).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(s);
            let made = self.prepare();
            s = self.lock();
            match made {
                Ok(file) => {
                    s.ready.push_back(file);
                    let full = s.ready.len() >= self.target;
                    self.changed.notify_all();
                    if full {
                        drop(s);
                        tell(Pressure::None);
                        s = self.lock();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                    let few = s.ready.len() <= 2;
                    drop(s);
                    if few {
                        tell(Pressure::Full);
                    }
                    s = self.lock();
                    if !s.stop {
                        s = self.changed.wait_timeout(s, RETRY).unwrap_or_else(PoisonError::into_inner).0;
                    }
                }
                Err(e) => {
                    s.stop = true;
                    self.changed.notify_all();
                    drop(s);
                    tell(Pressure::Broken(format!("{SEG_DIR}: a file cannot be prepared: {e}")));
                    return;
                }
            }
        }
    }
}
