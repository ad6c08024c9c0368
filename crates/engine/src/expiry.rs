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
    /// (when to look, whom at, when it had appended last).
    heap: BinaryHeap<Reverse<(u64, ProdKey, u64)>>,
    /// Not before then, monotonic milliseconds: there was no room.
    rest_until_ms: u64,
}

impl Expiry {
    /// For all producers there are.
    pub(crate) fn of(producers: &Table<ProdKey, ProdRow>, idle_ms: u64, now: Now) -> Self {
        let mut expiry = Self { idle_ms, ..Self::default() };
        for (key, row) in producers.iter() {
            expiry.look_at(*key, row.last_ms, now);
        }
        expiry
    }

    /// A clock that was set back must not keep a producer for longer than the span itself.
    fn look_at(&mut self, key: ProdKey, last_ms: u64, now: Now) {
        let at = last_ms.min(now.wall_ms).saturating_add(self.idle_ms);
        self.heap.push(Reverse((at, key, last_ms)));
    }

    /// A producer appended for the first time.
    pub(crate) fn begin(&mut self, key: ProdKey, now: Now) {
        self.look_at(key, now.wall_ms, now);
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
            let Some(Reverse((at, key, last_ms))) = self.heap.peek().copied() else { break };
            if at > now.wall_ms {
                break;
            }
            self.heap.pop();
            match producers.get(&key) {
                None => {}
                Some(row) if row.last_ms != last_ms => self.look_at(key, row.last_ms, now),
                Some(_) => idle.push((key, last_ms)),
            }
        }
        if idle.is_empty() {
            return None;
        }
        // A producer that came anew may stand in the heap twice.
        idle.sort_unstable();
        idle.dedup();
        let effects: Vec<RowEffect> = idle.iter().map(|i| forget_effect(i.0)).collect();
        let bytes = RECORD_OVERHEAD_BYTES + effects.iter().map(RowEffect::bytes_bound).sum::<usize>();
        let Some(permit) = log.spare(bytes) else {
            self.heap.extend(idle.into_iter().map(|(key, last_ms)| Reverse((now.wall_ms, key, last_ms))));
            self.rest_until_ms = now.mono_ms.saturating_add(RETRY_MS);
            return None;
        };
        Some((permit, effects))
    }

    /// When [`Expiry::due`] has something to look at, monotonic milliseconds.
    pub(crate) fn next_mono_ms(&self, now: Now) -> Option<u64> {
        let Reverse((at, ..)) = self.heap.peek()?;
        let due = now.mono_ms.saturating_add(at.saturating_sub(now.wall_ms));
        Some(due.max(self.rest_until_ms))
    }
}
