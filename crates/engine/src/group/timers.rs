//! Which group is to be looked at when. Knows no clock: times are monotonic milliseconds that come in.
//!
//! Start at [`Timers`]. All operations are O(log n).

use std::collections::BTreeSet;
use std::sync::Arc;

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A rebalance waited long enough for its members.
    Rebalance,
    /// Members that joined should have synchronised by now.
    Sync,
    /// Offsets may have expired.
    Expiry,
    /// A member may have been silent for too long.
    Member(Arc<str>),
    /// A member id was given and nobody came with it.
    Pending(Arc<str>),
}

/// All timers of all groups.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// (due, group's number, what). Who sets a timer remembers its due time, to take it back.
    set: BTreeSet<(u64, u64, Due)>,
}

impl Timers {
    /// Sets a timer.
    pub fn set(&mut self, due_ms: u64, group: u64, what: Due) {
        self.set.insert((due_ms, group, what));
    }

    /// Takes a timer back.
    pub fn cancel(&mut self, due_ms: u64, group: u64, what: Due) {
        self.set.remove(&(due_ms, group, what));
    }

    /// When the earliest is due.
    pub fn next(&self) -> Option<u64> {
        self.set.first().map(|t| t.0)
    }

    /// Takes the earliest if it is due.
    pub fn pop(&mut self, now_ms: u64) -> Option<(u64, Due)> {
        if self.next()? > now_ms {
            return None;
        }
        self.set.pop_first().map(|(_, group, what)| (group, what))
    }

    /// Moves the timer that stands at `slot` (if any) to `due_ms` (`None` = away).
    pub fn renew(&mut self, slot: &mut Option<u64>, due_ms: Option<u64>, group: u64, what: &Due) {
        if let Some(old) = slot.take() {
            self.cancel(old, group, what.clone());
        }
        if let Some(due_ms) = due_ms {
            self.set(due_ms, group, what.clone());
            *slot = Some(due_ms);
        }
    }
}
