//! [`SimClock`]: time that moves only when it is told to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Clock;

/// Wall time a simulation starts at: 2023-11-14T22:13:20Z.
const START_WALL_MS: u64 = 1_700_000_000_000;

/// A clock that is set by hand.
#[derive(Debug)]
pub struct SimClock {
    wall_ns: AtomicU64,
    mono_ns: AtomicU64,
}

impl SimClock {
    /// A clock at the start of a simulation, monotonic time zero.
    #[must_use]
    pub fn new() -> Self {
        Self { wall_ns: AtomicU64::new(START_WALL_MS * 1_000_000), mono_ns: AtomicU64::new(0) }
    }

    /// Moves both kinds of time on.
    pub fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.wall_ns.fetch_add(ns, Ordering::SeqCst);
        self.mono_ns.fetch_add(ns, Ordering::SeqCst);
    }

    /// Sets the wall time, forwards or back, as an operator does; monotonic time stays.
    pub fn set_wall_ms(&self, ms: u64) {
        self.wall_ns.store(ms.saturating_mul(1_000_000), Ordering::SeqCst);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> u64 {
        self.wall_ns.load(Ordering::SeqCst) / 1_000_000
    }

    fn mono_ns(&self) -> u64 {
        self.mono_ns.load(Ordering::SeqCst)
    }
}
