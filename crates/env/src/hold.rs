//! [`HoldDisk`]: a disk whose `sync_data` waits for a test's leave, to show that nothing is answered before
//! it.
//!
//! It passes all else through to the disk it wraps, and counts.

use std::io::{self, IoSlice};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Disk, File, OpenMode, Space};

/// A disk that can hold back `sync_data`, and counts syncs and bytes.
pub struct HoldDisk {
    inner: Arc<dyn Disk>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    held: bool,
    /// Syncs that may pass though the gate is held.
    passes: u64,
    waiting: u64,
    syncs: u64,
    syncs_all: u64,
    writes: u64,
    bytes_written: u64,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        self.changed.notify_all();
        while state.held && state.passes == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.held {
            state.passes -= 1;
        }
        state.waiting -= 1;
        drop(state);
        self.changed.notify_all();
    }

    fn wait_until(&self, done: impl Fn(&GateState) -> bool) {
        let mut state = self.lock();
        while !done(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn count(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Holds back every `sync_data` until it is dropped, so that a test that fails leaves no thread stuck.
#[must_use = "syncs are held until this is dropped"]
pub struct Hold {
    gate: Arc<Gate>,
}

impl Hold {
    /// Blocks until `n` syncs are waiting.
    pub fn wait_for(&self, n: u64) {
        self.gate.wait_until(|state| state.waiting >= n);
    }

    /// Syncs that are waiting now.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.gate.lock().waiting
    }

    /// Lets one sync pass, one that waits or else the next.
    pub fn release_one(&self) {
        self.gate.count(|state| state.passes += 1);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gate.count(|state| {
            state.held = false;
            state.passes = 0;
        });
    }
}

impl HoldDisk {
    /// Wraps a disk; nothing is held yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, gate: Arc::default() }
    }

    /// Holds back every `sync_data` that begins from now on, on files opened before or after. One hold at a
    /// time.
    pub fn hold(&self) -> Hold {
        self.gate.count(|state| {
            state.held = true;
            state.passes = 0;
        });
        Hold { gate: Arc::clone(&self.gate) }
    }

    /// `sync_data` calls that succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.gate.lock().syncs
    }

    /// `sync_all` calls that succeeded.
    #[must_use]
    pub fn syncs_all(&self) -> u64 {
        self.gate.lock().syncs_all
    }

    /// Writes that succeeded.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.gate.lock().writes
    }

    /// Bytes of the writes that succeeded.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.gate.lock().bytes_written
    }
}

impl Disk for HoldDisk {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(HoldFile { inner, gate: Arc::clone(&self.gate) }))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.inner.space()
    }

    fn real_root(&self) -> Option<std::path::PathBuf> {
        self.inner.real_root()
    }
}

struct HoldFile {
    inner: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl File for HoldFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, out)
    }

    fn read_cached_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read_cached_at(offset, out)
    }

    fn write_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<()> {
        self.inner.write_at(offset, bufs)?;
        let bytes: u64 = bufs.iter().map(|b| u64::try_from(b.len()).unwrap_or(u64::MAX)).sum();
        self.gate.count(|state| {
            state.writes += 1;
            state.bytes_written += bytes;
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.inner.sync_data()?;
        self.gate.count(|state| state.syncs += 1);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync_all()?;
        self.gate.count(|state| state.syncs_all += 1);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn shorten(&self, len: u64) -> io::Result<()> {
        self.inner.shorten(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn is_direct(&self) -> bool {
        self.inner.is_direct()
    }

    fn drop_cache(&self) {
        self.inner.drop_cache();
    }

    fn random_access(&self) {
        self.inner.random_access();
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.inner.will_need(offset, len);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::pedantic, clippy::unwrap_used)]

    use super::*;
    use crate::sim::SimDisk;

    #[test]
    fn a_sync_waits_until_it_is_released() {
        let sim = SimDisk::new(1);
        let disk = HoldDisk::new(Arc::<SimDisk>::clone(&sim));
        let file = disk.open("f", OpenMode::CreateNew).unwrap();
        file.write_at(0, &[IoSlice::new(b"abc")]).unwrap();
        let hold = disk.hold();
        std::thread::scope(|scope| {
            let sync = scope.spawn(|| file.sync_data().unwrap());
            hold.wait_for(1);
            assert_eq!((hold.waiting(), disk.syncs()), (1, 0));
            assert_eq!(sim.durable_contents("f").unwrap(), b"");
            hold.release_one();
            sync.join().unwrap();
        });
        assert_eq!(sim.durable_contents("f").unwrap(), b"abc");
        assert_eq!((disk.syncs(), disk.writes(), disk.bytes_written()), (1, 1, 3));
    }

    #[test]
    fn dropping_the_hold_releases_all() {
        let disk = HoldDisk::new(SimDisk::new(1));
        let file = disk.open("f", OpenMode::CreateNew).unwrap();
        let hold = disk.hold();
        std::thread::scope(|scope| {
            let syncs = [scope.spawn(|| file.sync_data()), scope.spawn(|| file.sync_data())];
            hold.wait_for(2);
            drop(hold);
            for sync in syncs {
                sync.join().unwrap().unwrap();
            }
        });
        file.sync_data().unwrap();
        assert_eq!(disk.syncs(), 3);
    }
}
