//! [`SimDisk`]: the simulated disk and the levers a test pulls.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::crash::Unsynced;
use super::fault::{Call, Fault};
use super::file::SimFile;
use super::pages::{flip_in, narrow};
use super::state::State;
use crate::path::{clean, parent};
use crate::{Disk, File, OpenMode, Space};

/// A disk in memory whose faults follow a seed. What a power cut leaves is told in the [module's
/// page](super).
///
/// A mutating call is one of `create_dir_all`, `open(CreateNew)`, `lock` that makes its file, `remove`,
/// `rename`, `sync_dir`, `write_at`, `sync_data`, `sync_all` and `allocate`, whether it succeeds or an
/// injected fault hits it.
pub struct SimDisk {
    state: Shared,
}

/// The state, shared by the disk, its open files and its locks.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A held lock file.
struct Lock {
    state: Shared,
    path: String,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.state.lock().locks.remove(&self.path);
    }
}

impl SimDisk {
    /// An empty disk of 1 TiB with sectors of 4096 bytes.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Self::from_state(State::new(seed))
    }

    /// An empty disk whose writes tear at 512 bytes.
    #[must_use]
    pub fn with_small_sectors(seed: u64) -> Arc<Self> {
        Self::from_state(State { sector_bytes: 512, ..State::new(seed) })
    }

    fn from_state(state: State) -> Arc<Self> {
        Arc::new(Self { state: Shared(Arc::new(Mutex::new(state))) })
    }

    /// Cuts the power: gives the disk as the next boot finds it, chosen at random among what is possible.
    /// This disk fails every call from now on. Calling it again gives another outcome of the same cut.
    #[must_use]
    pub fn crash(&self) -> Arc<Self> {
        self.end(State::crash)
    }

    /// Cuts the power so that all names and lengths survive, and exactly those un-synced sectors for which
    /// `keep` says so. It is asked file by file in order of path, write by write (oldest first), sector by
    /// sector.
    #[must_use]
    pub fn crash_with(&self, mut keep: impl FnMut(&Unsynced<'_>) -> bool) -> Arc<Self> {
        self.end(|state| state.crash_with(&mut keep))
    }

    /// Kills the process: gives the disk as the next process finds it, with all that was written still cached
    /// and still un-synced, and no lock held. This disk fails every call from now on.
    #[must_use]
    pub fn kill(&self) -> Arc<Self> {
        self.end(|_| ())
    }

    fn end(&self, then: impl FnOnce(&mut State)) -> Arc<Self> {
        let mut state = self.state.lock();
        state.off = true;
        let mut next = state.fork();
        drop(state);
        then(&mut next);
        Self::from_state(next)
    }

    /// A copy of the disk as it is, cached and durable, without open files, locks, faults and hooks. This
    /// disk goes on.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Self> {
        let copy = self.state.lock().fork();
        Self::from_state(copy)
    }

    /// Lets `n` more mutating calls take place; the next one may or may not, and from it on every call fails,
    /// reads too. To crash at every point, run a workload with `n` = 0, 1, 2, … until
    /// [`is_off`](Self::is_off) stays false.
    pub fn fail_after(&self, n: u64) {
        self.state.lock().ops_left = Some(n);
    }

    /// Whether the power is off: every call fails.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.lock().off
    }

    /// Mutating calls so far.
    #[must_use]
    pub fn op_count(&self) -> u64 {
        self.state.lock().ops
    }

    /// Injects a fault. Of several that match a call, the first injected hits it.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Removes all faults that are left.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Runs `hook` with the file's path before each sync of a file, outside of any lock. The sync covers what
    /// was written before the hook ran. A hook that waits makes a slow disk.
    pub fn on_sync(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        self.state.lock().on_sync = Some(Arc::new(hook));
    }

    /// Sets the size of the disk. Writes and allocations that would take more fail with `ENOSPC` and write
    /// nothing.
    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// Flips bits of one byte on the medium and in the cache, behind every program's back.
    ///
    /// # Errors
    /// `NotFound` without such a file, `InvalidInput` past its end.
    pub fn corrupt(&self, path: &str, offset: u64, xor: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.names.file(&clean(path)?)?;
        let inode = state.file(file)?;
        if offset >= inode.now.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "past the end of the file"));
        }
        inode.now.flip(offset, xor);
        inode.base.flip(offset, xor);
        let sector = inode.now.sector_of(offset);
        let within = narrow(offset % inode.now.sector_end(0));
        let images = inode.pending.iter_mut().flat_map(|op| &mut op.sectors);
        for (_, image) in images.filter(|image| image.0 == sector) {
            flip_in(image, within, xor);
        }
        Ok(())
    }

    /// A file's bytes as programs see them.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn contents(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut state = self.state.lock();
        let file = state.names.file(&clean(path)?)?;
        Ok(state.file(file)?.now.to_vec())
    }

    /// A file's bytes as the unluckiest power cut leaves them, if its name survives.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn durable_contents(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut state = self.state.lock();
        let file = state.names.file(&clean(path)?)?;
        Ok(state.file(file)?.base.to_vec())
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimDisk").field("ops", &state.ops).field("off", &state.off).finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        let dir = clean(dir)?;
        let mut state = self.state.lock();
        let verdict = state.enter(Call::CreateDir, &dir, None)?;
        if verdict.whole()? {
            state.names.create_dirs(&dir)?;
        }
        verdict.tell(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let dir = clean(dir)?;
        let mut state = self.state.lock();
        state.enter(Call::List, &dir, None)?.whole()?;
        state.names.expect_dir(&dir)?;
        Ok(state.names.list(&dir))
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let path = clean(path)?;
        let mut state = self.state.lock();
        let file = if mode == OpenMode::CreateNew {
            let verdict = state.enter(Call::Create, &path, None)?;
            verdict.whole()?;
            state.names.expect_free(&path)?;
            let file = state.create(&path);
            verdict.tell(file)?
        } else {
            state.enter(Call::Open, &path, None)?.whole()?;
            state.names.file(&path)?
        };
        state.file(file)?.opens += 1;
        Ok(Arc::new(SimFile::new(self.state.clone(), file, path, mode)))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = clean(path)?;
        let mut state = self.state.lock();
        let verdict = state.enter(Call::Remove, &path, None)?;
        let file = state.names.file(&path)?;
        if verdict.whole()? {
            state.names.remove(&path, file);
        }
        verdict.tell(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (clean(from)?, clean(to)?);
        let mut state = self.state.lock();
        let verdict = state.enter(Call::Rename, &from, None)?;
        let file = state.names.file(&from)?;
        state.names.expect_dir(parent(&to))?;
        if state.names.expect_dir(&to).is_ok() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if verdict.whole()? {
            state.names.rename(&from, &to, file);
        }
        verdict.tell(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let dir = clean(dir)?;
        let mut state = self.state.lock();
        let verdict = state.enter(Call::SyncDir, &dir, None)?;
        state.names.expect_dir(&dir)?;
        if verdict.whole()? {
            state.names.sync(&dir);
            state.collect();
        }
        verdict.tell(())
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        let path = clean(path)?;
        let mut state = self.state.lock();
        state.expect_power()?;
        if state.locks.contains(&path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if state.names.get(&path).is_none() {
            let verdict = state.enter(Call::Create, &path, None)?;
            verdict.whole()?;
            state.names.expect_free(&path)?;
            state.create(&path);
            verdict.tell(())?;
        }
        state.names.file(&path)?;
        state.locks.insert(path.clone());
        Ok(Box::new(Lock { state: self.state.clone(), path }))
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state.lock();
        state.expect_power()?;
        let total_bytes = state.capacity_bytes;
        Ok(Space { free_bytes: total_bytes.saturating_sub(state.used_bytes()), total_bytes })
    }

    fn real_root(&self) -> Option<std::path::PathBuf> {
        None
    }
}
