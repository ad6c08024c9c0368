//! The messages of a delay lane in memory: those that are due soonest. The others are in DUE rows.
//!
//! Start at [`Delays`].

use std::collections::{BTreeMap, VecDeque};

use super::lane::{Lane, Slot};
use super::rows::QueueRows;
use super::rows::due::{DueKey, MINUTE_MS};
use super::rows::set::CHUNK;

/// A delay lane's messages by (due, position).
#[derive(Debug)]
pub(crate) struct Delays {
    /// Not due yet.
    pub(crate) waiting: BTreeMap<(u64, u64), Slot>,
    /// Due, and not handed out.
    pub(crate) eligible: BTreeMap<(u64, u64), Slot>,
    /// Messages that are due from this minute on are in rows only; the largest number: none is.
    horizon: u64,
    /// The timer for the next message is set for then.
    pub(crate) timer_ms: Option<u64>,
    /// Most messages in each of the two.
    max: usize,
    /// Rows of which nothing counts any more.
    pub(crate) void: VecDeque<DueKey>,
}

impl Delays {
    pub(crate) fn new(max: usize) -> Self {
        let (waiting, eligible) = (BTreeMap::new(), BTreeMap::new());
        Self { waiting, eligible, horizon: u64::MAX, timer_ms: None, max, void: VecDeque::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.eligible.clear();
        self.horizon = u64::MAX;
    }

    pub(crate) fn push(&mut self, slot: Slot) {
        if slot.due_ms / MINUTE_MS >= self.horizon {
            return;
        }
        self.waiting.insert((slot.due_ms, slot.pos), slot);
        // The last minute goes back to its rows.
        if self.waiting.len() > self.max
            && let Some(((last, _), _)) = self.waiting.last_key_value()
        {
            let minute = last / MINUTE_MS;
            let first = self.waiting.first_key_value().map_or(0, |f| f.0.0 / MINUTE_MS);
            if minute > first {
                self.waiting.split_off(&(minute * MINUTE_MS, 0));
                self.horizon = minute;
            }
        }
    }

    /// When the next message is due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|w| w.0.0)
    }

    /// Makes the next message eligible, if it is due and there is room (also for what waits aside): its payload bytes.
    pub(crate) fn pop_due(&mut self, now_ms: u64, room: bool) -> Option<u32> {
        let first = self.waiting.first_entry()?;
        if first.key().0 > now_ms || self.eligible.len() >= self.max || !room {
            return None;
        }
        let (key, slot) = first.remove_entry();
        self.eligible.insert(key, slot);
        Some(slot.bytes)
    }
}

impl Lane {
    /// After a start: what is due soonest comes into memory. How many messages the rows have, and their payload bytes.
    pub(crate) fn reload_delays(&mut self, rows: &QueueRows) -> (u64, u64) {
        self.delays.horizon = 0;
        self.load_delays(rows);
        let (mut n, mut bytes) = (0, 0);
        for (key, row) in rows.due_of(self.queue, 0).filter(|(k, _)| k.lane == self.number) {
            for e in &row.entries {
                if !self.is_settled(rows, key.chunk * CHUNK + u64::from(e.off)) {
                    n += 1;
                    bytes += u64::from(e.bytes);
                }
            }
        }
        (n, bytes)
    }

    /// When none is left in memory, the next minutes are taken from rows.
    pub(crate) fn load_delays(&mut self, rows: &QueueRows) {
        if !self.delays.waiting.is_empty() || self.delays.horizon == u64::MAX {
            return;
        }
        let mut full_at = None;
        let mut loaded = Vec::new();
        let mut void = Vec::new();
        for (key, row) in rows.due_of(self.queue, self.delays.horizon) {
            if full_at.is_some_and(|minute| minute != key.minute) {
                break;
            }
            if key.lane != self.number {
                continue;
            }
            let before = loaded.len();
            for e in &row.entries {
                let pos = key.chunk * CHUNK + u64::from(e.off);
                if !self.is_settled(rows, pos) {
                    loaded.push(Slot {
                        pos,
                        enqueued_ms: e.enqueued_ms,
                        expiry_ms: e.expiry_ms.unwrap_or(u64::MAX),
                        key_hash: e.key_hash,
                        due_ms: key.minute * MINUTE_MS + u64::from(e.ms),
                        bytes: e.bytes,
                        known: true,
                        in_due: true,
                        ..Slot::default()
                    });
                }
            }
            if loaded.len() == before {
                void.push(*key);
            }
            if loaded.len() >= self.delays.max {
                full_at.get_or_insert(key.minute);
            }
        }
        self.delays.horizon = full_at.map_or(u64::MAX, |minute| minute + 1);
        self.delays.waiting.extend(loaded.into_iter().map(|s| ((s.due_ms, s.pos), s)));
        self.delays.void.extend(void);
    }
}
