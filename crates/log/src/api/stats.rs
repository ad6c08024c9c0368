//! Counters of an open log.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a log did since it was opened, for metrics.
#[derive(Debug, Default)]
pub struct LogStats {
    pub(crate) merges: AtomicU64,
    pub(crate) merged_bytes: AtomicU64,
    pub(crate) merge_failures: AtomicU64,
    pub(crate) merge_budget_bytes: AtomicU64,
    pub(crate) freed_files: AtomicU64,
    pub(crate) live_bytes: AtomicU64,
    pub(crate) dead_bytes: AtomicU64,
    pub(crate) spared_bytes: AtomicU64,
    pub(crate) unindexed_bytes: AtomicU64,
    pub(crate) leaving_bytes: AtomicU64,
}

impl LogStats {
    /// Packs written.
    #[must_use]
    pub fn merges(&self) -> u64 {
        self.merges.load(Ordering::Relaxed)
    }

    /// Bytes of packs written.
    #[must_use]
    pub fn merged_bytes(&self) -> u64 {
        self.merged_bytes.load(Ordering::Relaxed)
    }

    /// Merges given up because a file could not be read or written.
    #[must_use]
    pub fn merge_failures(&self) -> u64 {
        self.merge_failures.load(Ordering::Relaxed)
    }

    /// Bytes that merges may write now; grows as the log is appended to.
    #[must_use]
    pub fn merge_budget_bytes(&self) -> u64 {
        self.merge_budget_bytes.load(Ordering::Relaxed)
    }

    /// Of files with an index and of packs: bytes of what lives, as last looked at (within a quarter of a second, as the four below).
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    /// Of files with an index and of packs: bytes of what does not live, frames and indexes included.
    #[must_use]
    pub fn dead_bytes(&self) -> u64 {
        self.dead_bytes.load(Ordering::Relaxed)
    }

    /// Of these, bytes in files that are not merged because they would soon be dead by themselves.
    #[must_use]
    pub fn spared_bytes(&self) -> u64 {
        self.spared_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the segment file in use, and of those that are full and have no index on disk yet.
    #[must_use]
    pub fn unindexed_bytes(&self) -> u64 {
        self.unindexed_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of files in which nothing lives, which wait for the engine's rows to include their records before they are free.
    #[must_use]
    pub fn leaving_bytes(&self) -> u64 {
        self.leaving_bytes.load(Ordering::Relaxed)
    }

    /// Segment files and packs given back because nothing in them lived.
    #[must_use]
    pub fn freed_files(&self) -> u64 {
        self.freed_files.load(Ordering::Relaxed)
    }
}
