//! The outside world behind traits: time, randomness and the disk.
//!
//! Start at [`Disk`]. Everything above this crate takes an [`Env`] and asks it, so that a run can be replayed
//! on a simulated machine ([`sim`]) by seed. This crate holds no policy; it is the only place for `unsafe`.

#![deny(unsafe_op_in_unsafe_fn)]

use std::io::{self, IoSlice};
use std::sync::Arc;

mod aligned;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod hold;
mod memory;
pub mod os;
mod path;
pub mod sim;

pub use aligned::AlignedBuf;
pub use memory::give_back_memory;

/// The three traits together, cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Random numbers.
    pub rng: Arc<dyn Rng>,
}

impl Env {
    /// The real machine, with `root` as the root of the disk.
    #[must_use]
    pub fn os(root: impl Into<std::path::PathBuf>) -> Self {
        Self {
            clock: Arc::new(os::OsClock::new()),
            disk: Arc::new(os::OsDisk::new(root.into())),
            rng: Arc::new(os::OsRng),
        }
    }

    /// A simulated machine: same seed and same calls, same results.
    #[must_use]
    pub fn sim(seed: u64) -> (Self, Arc<sim::SimDisk>, Arc<sim::SimClock>) {
        let disk = sim::SimDisk::new(seed);
        let clock = Arc::new(sim::SimClock::new());
        let env = Self {
            clock: Arc::<sim::SimClock>::clone(&clock),
            disk: Arc::<sim::SimDisk>::clone(&disk),
            rng: Arc::new(sim::SimRng::new(seed)),
        };
        (env, disk, clock)
    }

    /// The same clock and randomness with another disk.
    #[must_use]
    pub fn with_disk(&self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self.clone() }
    }
}

/// Time, both kinds.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch; may jump either way.
    fn wall_ms(&self) -> u64;
    /// Nanoseconds since an arbitrary start; never goes back.
    fn mono_ns(&self) -> u64;
}

/// Randomness. The operating system's is cryptographic; the simulated one is a seed's sequence.
pub trait Rng: Send + Sync {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
    /// A random number.
    fn next_u64(&self) -> u64 {
        let mut b = [0; 8];
        self.fill(&mut b);
        u64::from_le_bytes(b)
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; only read.
    Read,
    /// Must exist; read and write through the page cache.
    Write,
    /// Must exist; direct (unbuffered) where the file system allows it, else buffered
    /// (see [`File::is_direct`]). Offsets, lengths and memory must be aligned to [`ALIGN`].
    Direct,
    /// Must not exist; created, read and write, buffered.
    CreateNew,
}

/// Alignment in bytes of offsets, lengths and buffers of direct I/O.
pub const ALIGN: usize = 4096;

/// A directory tree. Paths are relative to the root the implementation was made with and use `/`; the root is
/// `""`.
///
/// # Errors
/// Every method fails with `InvalidInput` on a path that would leave the root, with `NotFound` when a file or
/// directory it needs is absent, and otherwise with what the operating system says.
pub trait Disk: Send + Sync {
    /// Makes a directory and its parents; one that exists is fine.
    ///
    /// # Durability
    /// Not durable before [`Disk::sync_dir`] of the parent of each new one.
    ///
    /// # Errors
    /// When a part of the path is a file, and as told at [`Disk`].
    fn create_dir_all(&self, dir: &str) -> io::Result<()>;

    /// Names of the files in a directory, sorted; no directories.
    ///
    /// # Errors
    /// `NotFound` when the directory is absent, `InvalidData` on a name that is not UTF-8.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Opens a file.
    ///
    /// # Durability
    /// The name of a created file is not durable before [`Disk::sync_dir`]; syncing the file does not do.
    ///
    /// # Errors
    /// `AlreadyExists` for [`OpenMode::CreateNew`], and as told at [`Disk`].
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Removes a file's name. Open handles go on working.
    ///
    /// # Durability
    /// Not durable before [`Disk::sync_dir`].
    ///
    /// # Errors
    /// As told at [`Disk`].
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Renames a file, over another if there is one. A crash leaves the old name or the new one.
    ///
    /// # Durability
    /// Not durable before [`Disk::sync_dir`].
    ///
    /// # Errors
    /// As told at [`Disk`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As told at [`Disk`]. After one, which names are durable is open.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Takes the exclusive lock file `path` (created if absent); released when dropped or when the process
    /// ends.
    ///
    /// # Errors
    /// `WouldBlock` when it is held, by another process or this one; and as told at [`Disk`].
    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>>;

    /// Free and total bytes of the file system.
    ///
    /// # Errors
    /// As told at [`Disk`].
    fn space(&self) -> io::Result<Space>;

    /// The real directory behind the root, for libraries that do their own I/O; `None` when simulated.
    fn real_root(&self) -> Option<std::path::PathBuf>;
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for this process.
    pub free_bytes: u64,
    /// In all.
    pub total_bytes: u64,
}

/// An open file. All methods take `&self` and may be called from several threads at once.
pub trait File: Send + Sync {
    /// Reads at an offset; fewer bytes than asked only at the end of the file.
    ///
    /// # Errors
    /// When the disk cannot give the bytes. What `out` then holds is open.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Reads at an offset what memory holds, without waiting for a disk: fewer bytes than asked (or none) where
    /// that ends. A file that cannot tell reads as [`File::read_at`] does.
    ///
    /// # Errors
    /// As for [`File::read_at`].
    fn read_cached_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.read_at(offset, out)
    }

    /// Writes all slices one after another at an offset, or fails; never less without an error.
    ///
    /// # Durability
    /// Not durable before [`File::sync_data`]; a crash before may keep any of the sectors.
    ///
    /// # Errors
    /// `StorageFull` and whatever else the disk says. Any part may then have been written.
    fn write_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<()>;

    /// `fdatasync`: returns when all bytes written before the call, and the length they need, are durable.
    ///
    /// # Errors
    /// When they may not be. They may still be read, and a later success does not cover them: write them
    /// again.
    fn sync_data(&self) -> io::Result<()>;

    /// `fsync`: data and metadata.
    ///
    /// # Errors
    /// As for [`File::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Reserves room for `[0, len)` and makes the file at least that long; what is new reads as zeros. Where
    /// the file system cannot reserve, zeros are written behind the end. Not to run beside a write that grows
    /// the file.
    ///
    /// # Durability
    /// Not durable before a sync.
    ///
    /// # Errors
    /// `StorageFull` when there is no room (the length is then as before), and whatever else the disk says.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Gives back the room from `len` on, a multiple of [`ALIGN`], if the file is longer. Not to run beside a write there.
    ///
    /// # Durability
    /// Not durable before a sync: a crash before may leave the old length with what was there.
    ///
    /// # Errors
    /// Whatever the disk says; the length is then as before.
    fn shorten(&self, len: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// When the disk cannot tell.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// As for [`File::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Whether I/O really bypasses the page cache.
    fn is_direct(&self) -> bool;
    /// Drops the file's clean pages from the page cache (advice).
    fn drop_cache(&self);
    /// Turns readahead off (advice).
    fn random_access(&self);
    /// Has the disk fetch bytes into the page cache meanwhile (advice).
    fn will_need(&self, _offset: u64, _len: u64) {}
}
