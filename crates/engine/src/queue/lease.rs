//! Messages of a queue that are not ready because somebody has them: consumers, the mover, the parking place.
//!
//! Start at [`Leases`].

use foldhash::{HashMap, HashMapExt};
use millstream_types::ConnId;

use super::api::{Cause, ConsumerId};
use super::lane::Slot;

/// Who has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    /// A consumer, or whoever knows the number.
    Consumer,
    /// The mover.
    Mover(Cause),
    /// Nobody: set aside.
    Parked(Cause),
    /// Nobody: its attempts are used up, and the record that says what becomes of it is not made yet.
    Exhausted,
}

/// A message that somebody has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// The message. Of one that came from a row, only position, sizes and counts are known until the scan has met it.
    pub(crate) slot: Slot,
    /// Delivery number.
    pub(crate) no: u32,
    /// Who has it.
    pub(crate) has: Has,
    /// Until then, milliseconds since the epoch; the largest number: without end.
    pub(crate) until_ms: u64,
    /// Whom it counts for.
    pub(crate) holder: Option<(ConnId, ConsumerId)>,
    /// Only the holder's session may settle it, and it ends with it.
    pub(crate) owned: bool,
}

/// The leases of one lane, by position.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_pos: HashMap<u64, Lease>,
}

impl Leases {
    pub(crate) fn new() -> Self {
        Self { by_pos: HashMap::new() }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.by_pos.is_empty()
    }
    pub(crate) fn get(&self, pos: u64) -> Option<&Lease> {
        self.by_pos.get(&pos)
    }
    pub(crate) fn get_mut(&mut self, pos: u64) -> Option<&mut Lease> {
        self.by_pos.get_mut(&pos)
    }
    pub(crate) fn insert(&mut self, lease: Lease) {
        self.by_pos.insert(lease.slot.pos, lease);
    }
    pub(crate) fn remove(&mut self, pos: u64) -> Option<Lease> {
        self.by_pos.remove(&pos)
    }
    /// All of them, ascending by position.
    pub(crate) fn sorted(&self) -> Vec<Lease> {
        let mut all: Vec<Lease> = self.by_pos.values().copied().collect();
        all.sort_unstable_by_key(|l| l.slot.pos);
        all
    }
}
