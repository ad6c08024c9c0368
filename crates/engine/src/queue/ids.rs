//! Which messages were published lately, by their ids: one that comes again within its queue's window is not appended a second time.
//!
//! Start at [`IdWindow::find`] and [`IdWindow::note`]. What is durable is in [`rows::ids`](super::rows::ids); here is an index over it,
//! built again from the rows when the log is opened. Ids outlive their messages: whether one was consumed, purged or taken elsewhere is
//! no matter. A row goes when all its ids are older than the window.
//!
//! An id costs about 75 bytes: 32 in its row, and a slot of the index.

use std::collections::{BTreeSet, VecDeque};

use foldhash::{HashMap, HashMapExt};
use millstream_types::{LogId, ObjectId};

use super::policy::mix;
use super::queues::{Cx, Queues};
use super::record::Record;
use super::rows::QueueRows;
use super::rows::due::MINUTE_MS;
use super::rows::ids::{self, IdsKey, ROW_IDS};
use crate::op::Now;

/// Ids remembered of all queues together.
pub const IDS_MAX: usize = 4_000_000;
/// Rows that go with one record.
const GONE_MAX: usize = 256;
/// Room that a row takes in such a record.
const GONE_BYTES: usize = 128;

/// Where an id is: which row, which of its entries.
type Place = (u32, u32);

/// A row as the index knows it.
#[derive(Clone, Copy, Debug)]
struct Known {
    key: IdsKey,
    /// It was there when the log was opened: a clock that was set back since must not keep its ids for longer than their window.
    opened: bool,
    /// It stands in the list of those that go by this time.
    due_ms: u64,
}

/// The ids of all queues.
#[derive(Debug)]
pub(crate) struct IdWindow {
    max: usize,
    opened_ms: u64,
    /// By a part of the hash and the queue. Where two ids have the same, the later one is at the next number that is free.
    index: HashMap<u64, Place>,
    rows: HashMap<u32, Known>,
    numbers: HashMap<IdsKey, u32>,
    next_row: u32,
    /// The row that a queue's ids go to, and how many it has.
    filling: HashMap<ObjectId, (IdsKey, usize)>,
    due: BTreeSet<(u64, IdsKey)>,
    /// Of the record that is being made: not in rows yet.
    fresh: HashMap<(ObjectId, u128), (u16, u64)>,
    came: Vec<(ObjectId, u128, u16, u64)>,
    /// How the record says it: row, and how many of `came`, in order.
    sealed: Vec<(IdsKey, usize)>,
}

impl Default for IdWindow {
    fn default() -> Self {
        Self {
            max: IDS_MAX,
            opened_ms: 0,
            index: HashMap::new(),
            rows: HashMap::new(),
            numbers: HashMap::new(),
            next_row: 0,
            filling: HashMap::new(),
            due: BTreeSet::new(),
            fresh: HashMap::new(),
            came: Vec::new(),
            sealed: Vec::new(),
        }
    }
}

fn slot_of(queue: ObjectId, hash: u128) -> u64 {
    mix(queue.0) ^ u64::try_from(hash & u128::from(u64::MAX)).unwrap_or_default()
}

impl IdWindow {
    /// Everything was replayed: finds what the rows have. `window_ms` is each queue's.
    pub(crate) fn open(
        &mut self,
        rows: &QueueRows,
        max: usize,
        now_ms: u64,
        window_ms: impl Fn(ObjectId) -> Option<u64>,
    ) {
        (self.max, self.opened_ms) = (max, now_ms);
        let keys: Vec<(IdsKey, usize)> = rows.ids.iter().map(|(k, r)| (*k, r.entries.len())).collect();
        for (key, n) in keys {
            let number = self.number(key, true, window_ms(key.queue).unwrap_or(0));
            for off in 0..n {
                self.put(rows, number, off);
            }
        }
    }

    /// Ids that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.index.len() + self.fresh.len()
    }

    /// Whether no more are taken.
    pub(crate) fn is_full(&self, more: usize) -> bool {
        self.len() + more >= self.max
    }

    /// Where the message is that had this id within the window.
    pub(crate) fn find(
        &self,
        rows: &QueueRows,
        queue: ObjectId,
        hash: u128,
        window_ms: u64,
        now_ms: u64,
    ) -> Option<(LogId, u64)> {
        if let Some((lane, pos)) = self.fresh.get(&(queue, hash)) {
            return Some((LogId::new(queue, *lane), *pos));
        }
        let place = *self.index.get(&self.slot(rows, queue, hash)?)?;
        let (key, entry) = self.entry(rows, place)?;
        let at_ms = key.minute.saturating_mul(MINUTE_MS).saturating_add(u64::from(entry.ms));
        let opened = self.rows.get(&place.0).is_some_and(|r| r.opened);
        let at_ms = if opened { at_ms.min(self.opened_ms) } else { at_ms };
        (at_ms.saturating_add(window_ms) > now_ms).then(|| (LogId::new(queue, entry.lane), entry.pos))
    }

    /// A message with an id is appended by the record that is being made.
    pub(crate) fn note(&mut self, queue: ObjectId, hash: u128, lane: u16, pos: u64) {
        self.fresh.insert((queue, hash), (lane, pos));
        self.came.push((queue, hash, lane, pos));
    }

    /// Puts what came into the record: an effect per row.
    pub(crate) fn seal(&mut self, rows: &QueueRows, record: &mut Record, now_ms: u64) {
        if self.came.is_empty() {
            return;
        }
        let mut came = std::mem::take(&mut self.came);
        // Stable: those of a queue stay in order.
        came.sort_by_key(|c| c.0);
        let (minute, ms) = (now_ms / MINUTE_MS, u16::try_from(now_ms % MINUTE_MS).unwrap_or(0));
        for of_queue in came.chunk_by(|a, b| a.0 == b.0) {
            let Some((queue, ..)) = of_queue.first() else { continue };
            let mut rest = of_queue;
            while !rest.is_empty() {
                let (key, len) = self.row(rows, *queue, minute);
                let (part, after) = rest.split_at(rest.len().min(ROW_IDS - len));
                record.effect(&key, |out| {
                    ids::put_came(out, ms, part.iter().map(|(_, hash, lane, pos)| (*hash, *lane, *pos)));
                });
                self.filling.insert(*queue, (key, len + part.len()));
                self.sealed.push((key, part.len()));
                rest = after;
            }
        }
        self.came = came;
    }

    /// The row that a queue's next id goes to, and how many it has.
    fn row(&self, rows: &QueueRows, queue: ObjectId, minute: u64) -> (IdsKey, usize) {
        let first = IdsKey { queue, minute, n: 0 };
        match self.filling.get(&queue) {
            Some((key, len)) if key.minute == minute && *len < ROW_IDS => (*key, *len),
            Some((key, _)) if key.minute == minute => (IdsKey { n: key.n + 1, ..first }, 0),
            // What was there when the log was opened is left as it is.
            _ => {
                let last = rows.ids.range(first..=IdsKey { n: u32::MAX, ..first }).last();
                (IdsKey { n: last.map_or(0, |(k, _)| k.n + 1), ..first }, 0)
            }
        }
    }

    /// The record is made and applied: the index follows.
    pub(crate) fn recorded(&mut self, rows: &QueueRows, window_ms: impl Fn(ObjectId) -> Option<u64>) {
        let mut sealed = std::mem::take(&mut self.sealed);
        for (key, n) in sealed.drain(..) {
            let number = match self.numbers.get(&key) {
                Some(number) => *number,
                None => self.number(key, false, window_ms(key.queue).unwrap_or(0)),
            };
            let len = rows.ids.get(&key).map_or(0, |r| r.entries.len());
            for off in len.saturating_sub(n)..len {
                self.put(rows, number, off);
            }
        }
        self.sealed = sealed;
        self.fresh.clear();
        self.came.clear();
    }

    fn number(&mut self, key: IdsKey, opened: bool, window_ms: u64) -> u32 {
        while self.rows.contains_key(&self.next_row) {
            self.next_row = self.next_row.wrapping_add(1);
        }
        let number = self.next_row;
        self.next_row = self.next_row.wrapping_add(1);
        let known = Known { key, opened, due_ms: 0 };
        self.numbers.insert(key, number);
        self.rows.insert(number, known);
        self.wait(number, window_ms);
        number
    }

    /// When a row's ids are all older than a window.
    fn due_ms(&self, known: &Known, window_ms: u64) -> u64 {
        let end_ms = known.key.end_ms();
        let end_ms = if known.opened { end_ms.min(self.opened_ms.saturating_add(MINUTE_MS)) } else { end_ms };
        end_ms.saturating_add(window_ms)
    }

    fn wait(&mut self, number: u32, window_ms: u64) {
        let Some(mut known) = self.rows.get(&number).copied() else { return };
        self.due.remove(&(known.due_ms, known.key));
        known.due_ms = self.due_ms(&known, window_ms);
        self.due.insert((known.due_ms, known.key));
        self.rows.insert(number, known);
    }

    fn entry<'r>(&self, rows: &'r QueueRows, place: Place) -> Option<(IdsKey, &'r ids::IdEntry)> {
        let key = self.rows.get(&place.0)?.key;
        Some((key, rows.ids.get(&key)?.entries.get(place.1 as usize)?))
    }

    /// Where the index has an id; `None`: it does not.
    fn slot(&self, rows: &QueueRows, queue: ObjectId, hash: u128) -> Option<u64> {
        let mut slot = slot_of(queue, hash);
        while let Some(place) = self.index.get(&slot) {
            if let Some((key, entry)) = self.entry(rows, *place)
                && (key.queue, entry.hash) == (queue, hash)
            {
                return Some(slot);
            }
            slot = slot.wrapping_add(1);
        }
        None
    }

    /// The index learns of an entry. One with the same id that was there before is older, and forgotten.
    fn put(&mut self, rows: &QueueRows, number: u32, off: usize) {
        let place = (number, u32::try_from(off).unwrap_or(u32::MAX));
        let Some((key, entry)) = self.entry(rows, place) else { return };
        let slot = self.slot(rows, key.queue, entry.hash).unwrap_or_else(|| {
            let mut slot = slot_of(key.queue, entry.hash);
            while self.index.contains_key(&slot) {
                slot = slot.wrapping_add(1);
            }
            slot
        });
        self.index.insert(slot, place);
    }

    /// A row goes: the index forgets it. The row must still be there.
    fn forget(&mut self, rows: &QueueRows, key: IdsKey) {
        let Some(number) = self.numbers.remove(&key) else { return };
        let entries = rows.ids.get(&key).map(|r| r.entries.as_slice()).unwrap_or_default();
        for (off, entry) in (0..).zip(entries) {
            let Some(slot) = self.slot(rows, key.queue, entry.hash) else { continue };
            if self.index.get(&slot) == Some(&(number, off)) {
                self.index.remove(&slot);
                self.close_gap(rows, slot);
            }
        }
        if let Some(known) = self.rows.remove(&number) {
            self.due.remove(&(known.due_ms, known.key));
        }
        if self.filling.get(&key.queue).is_some_and(|f| f.0 == key) {
            self.filling.remove(&key.queue);
        }
    }

    /// Those behind a number that came free may have stood there but for who left.
    fn close_gap(&mut self, rows: &QueueRows, free: u64) {
        let mut moved: VecDeque<Place> = VecDeque::new();
        let mut slot = free.wrapping_add(1);
        while let Some(place) = self.index.remove(&slot) {
            moved.push_back(place);
            slot = slot.wrapping_add(1);
        }
        for (number, off) in moved {
            self.put(rows, number, off as usize);
        }
    }

    /// A queue goes, and with it its ids. The rows must still be there.
    pub(crate) fn forget_queue(&mut self, rows: &QueueRows, queue: ObjectId) {
        let keys: Vec<IdsKey> = rows.ids.of(queue).map(|(k, _)| *k).collect();
        for key in keys {
            self.forget(rows, key);
        }
        self.filling.remove(&queue);
    }

    /// When [`Queues::forget_ids`] has something to do, milliseconds since the epoch.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.due.first().map(|d| d.0)
    }
}

impl Queues {
    /// Everything was replayed: finds the ids that the rows have.
    pub(crate) fn open_ids(&mut self, rows: &QueueRows, max: usize, now: Now) {
        let Self { ids, directory, .. } = self;
        ids.open(rows, max, now.wall_ms, |id| directory.by_id(id)?.policy.id_window_ms);
    }

    /// Rows of ids that are all too old go, some at a time.
    pub(crate) fn forget_ids(&mut self, cx: &mut Cx<'_>) {
        let now_ms = cx.now.wall_ms;
        let mut gone = Vec::new();
        while gone.len() < GONE_MAX {
            let Some((due_ms, key)) = self.ids.due.first().copied().filter(|d| d.0 <= now_ms) else { break };
            let window_ms = self.window_of(key.queue);
            let number = self.ids.numbers.get(&key).copied().unwrap_or_default();
            // The window may have been made longer since.
            if let (Some(window_ms), Some(known)) = (window_ms, self.ids.rows.get(&number))
                && self.ids.due_ms(known, window_ms) > now_ms
            {
                self.ids.wait(number, window_ms);
                continue;
            }
            self.ids.due.remove(&(due_ms, key));
            gone.push((due_ms, key));
        }
        if gone.is_empty() {
            return;
        }
        let Some(permit) = cx.log.spare(crate::effect::RECORD_OVERHEAD_BYTES + gone.len() * GONE_BYTES)
        else {
            self.ids.due.extend(gone);
            return;
        };
        for (_, key) in &gone {
            self.ids.forget(&cx.state.queues, *key);
            self.record.effect(key, ids::put_gone);
        }
        self.commit(cx, permit, None, |_| &[]);
    }

    /// A queue's window, milliseconds.
    pub(crate) fn window_of(&self, queue: ObjectId) -> Option<u64> {
        self.directory.by_id(queue)?.policy.id_window_ms
    }
}
