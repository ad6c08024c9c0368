//! What sessions see of a partition while the engine owns it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use millstream_types::LogId;

/// Shared by the engine (which writes) and sessions (which read, without a lock). An end moves only when what is below it has
/// reached its durability, and always as a prefix.
#[derive(Debug)]
pub struct PartitionView {
    /// The partition's log.
    pub log: LogId,
    start: AtomicU64,
    visible_end: AtomicU64,
    leader_epoch: AtomicU32,
    gone: AtomicBool,
}

impl PartitionView {
    /// A view with its ends.
    #[must_use]
    pub fn new(log: LogId, start: u64, visible_end: u64, leader_epoch: u32) -> Self {
        Self {
            log,
            start: AtomicU64::new(start),
            visible_end: AtomicU64::new(visible_end),
            leader_epoch: AtomicU32::new(leader_epoch),
            gone: AtomicBool::new(false),
        }
    }
    /// First retained offset.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Acquire)
    }
    /// One past the last visible offset (the high watermark).
    #[must_use]
    pub fn visible_end(&self) -> u64 {
        self.visible_end.load(Ordering::Acquire)
    }
    /// One past the last offset that no open transaction can still take back. Equal to `visible_end` while there are no transactions.
    #[must_use]
    pub fn stable_end(&self) -> u64 {
        self.visible_end()
    }
    /// The leader epoch in force: never goes down.
    #[must_use]
    pub fn leader_epoch(&self) -> u32 {
        self.leader_epoch.load(Ordering::Acquire)
    }
    /// Whether the topic was deleted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
    /// For the engine: moves the start up.
    pub fn set_start(&self, start: u64) {
        self.start.fetch_max(start, Ordering::AcqRel);
    }
    /// For the engine: moves the visible end up.
    pub fn set_visible_end(&self, end: u64) {
        self.visible_end.fetch_max(end, Ordering::AcqRel);
    }
    /// For the engine: the partition is gone.
    pub fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }
}
