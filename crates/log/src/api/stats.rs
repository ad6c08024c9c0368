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

    /// Segment files and packs given back because nothing in them lived.
    #[must_use]
    pub fn freed_files(&self) -> u64 {
        self.freed_files.load(Ordering::Relaxed)
    }
}
