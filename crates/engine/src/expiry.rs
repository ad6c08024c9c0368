//! Forgets producers that were idle for long.
//!
//! Start at [`Expiry`]. A producer stands in the heap once, with a time at which it may be due at the earliest; whether it is due is
//! seen in its row when that time comes, so that an append touches nothing here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use millstream_log::Permit;

use crate::effect::{RECORD_OVERHEAD_BYTES, RowEffect};
use crate::op::{Commits, Now};
use crate::rows::prod::{ProdKey, ProdRow, forget_effect};
use crate::table::Table;

/// Producers looked at in one turn.
const TURN_PRODUCERS_MAX: usize = 512;
/// When there was no room for a record: wait so long.
const RETRY_MS: u64 = 10;

/// When to look at which producer.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    idle_ms: u64,
    heap: BinaryHeap<Reverse<(u64, ProdKey)>>,
    /// Not before then, monotonic milliseconds: there was no room.
    rest_until_ms: u64,
}

impl Expiry {
    /// For all producers there are.
    pub(crate) fn of(producers: &Table<ProdKey, ProdRow>, idle_ms: u64) -> Self {
        let heap = producers.iter().map(|(k, r)| Reverse((r.last_ms.saturating_add(idle_ms), *k))).collect();
        Self { idle_ms, heap, rest_until_ms: 0 }
    }

    /// A producer appended for the first time.
    pub(crate) fn begin(&mut self, key: ProdKey, now: Now) {
        self.heap.push(Reverse((now.wall_ms.saturating_add(self.idle_ms), key)));
    }

    /// A record's room and effects, if producers are to be forgotten now.
    pub(crate) fn due(
        &mut self,
        now: Now,
        producers: &Table<ProdKey, ProdRow>,
        log: &mut dyn Commits,
    ) -> Option<(Permit, Vec<RowEffect>)> {
        if now.mono_ms < self.rest_until_ms {
            return None;
        }
        let mut idle = Vec::new();
        for _ in 0..TURN_PRODUCERS_MAX {
            let Some(Reverse((at, key))) = self.heap.peek().copied() else { break };
            if at > now.wall_ms {
                break;
            }
            self.heap.pop();
            let Some(row) = producers.get(&key) else { continue };
            // A clock that was set back must not keep a producer for longer than the span itself.
            let due = row.last_ms.min(now.wall_ms).saturating_add(self.idle_ms);
            if due > now.wall_ms {
                self.heap.push(Reverse((due, key)));
            } else {
                idle.push(key);
            }
        }
        if idle.is_empty() {
            return None;
        }
        // A producer that came anew may stand in the heap twice.
        idle.sort_unstable();
        idle.dedup();
        let effects: Vec<RowEffect> = idle.iter().map(|k| forget_effect(*k)).collect();
        let bytes = RECORD_OVERHEAD_BYTES + effects.iter().map(RowEffect::bytes_bound).sum::<usize>();
        let Some(permit) = log.spare(bytes) else {
            self.heap.extend(idle.into_iter().map(|k| Reverse((now.wall_ms, k))));
            self.rest_until_ms = now.mono_ms.saturating_add(RETRY_MS);
            return None;
        };
        Some((permit, effects))
    }

    /// When [`Expiry::due`] has something to look at, monotonic milliseconds.
    pub(crate) fn next_mono_ms(&self, now: Now) -> Option<u64> {
        let Reverse((at, _)) = self.heap.peek()?;
        let due = now.mono_ms.saturating_add(at.saturating_sub(now.wall_ms));
        Some(due.max(self.rest_until_ms))
    }
}
