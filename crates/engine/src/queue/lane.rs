//! One lane of a queue in memory: which messages come next. Bounded, however long the lane is.
//!
//! A message that is ready is in one of these places: `returned` (given back, at its old place ahead of the window), `window` (ascending,
//! the next ones that were never taken), `tail` (the newest, kept so that a window that catches up need not read the log), or only
//! in the log: from `scan` on, but for what `tail` has. Start at [`Lane`].

use std::collections::{BTreeSet, VecDeque};

use foldhash::{HashMap, HashMapExt};

use super::api::DELAY_LANE;
use super::delays::Delays;
use super::keys::{ASIDE_MAX, KEYS_BYTES_MAX, Rank};
use super::lease::{Lease, Leases};
use super::policy::Ordering;
use super::record::Record;
use super::rows::QueueRows;
use super::rows::chunk::{ChunkKey, offset};
use super::rows::head::LaneHead;
use super::rows::set::CHUNK;
use super::slots::{Aheads, Rests, Slots};
use super::topics::Skips;
use millstream_types::{LogId, ObjectId};

/// The window of a lane whose consumers have many messages out is at most so many times as large.
const WINDOW_GROWTH_MAX: usize = 8;

/// How much of a lane is in memory, whatever its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSizes {
    /// Messages of a window whose consumers have few; below half, it is filled up.
    pub window: usize,
    /// The newest messages that are kept while the window is elsewhere.
    pub tail: usize,
    /// Scheduled messages.
    pub due: usize,
    /// Messages of one closed key, per lane.
    pub aside: usize,
    /// Bytes of all messages of closed keys, and of the numbers of chunks that hold more.
    pub keys_bytes: usize,
}

impl Default for WindowSizes {
    fn default() -> Self {
        Self { window: 1_024, tail: 1_024, due: 65_536, aside: ASIDE_MAX, keys_bytes: KEYS_BYTES_MAX }
    }
}

/// A message as far as delivering it needs to know.
#[expect(clippy::struct_excessive_bools, reason = "each says something else of one message")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) pos: u64,
    pub(crate) enqueued_ms: u64,
    /// Its own; the largest number: none; 0: only for who waits for it as it comes.
    pub(crate) expiry_ms: u64,
    pub(crate) key_hash: Option<u64>,
    /// In a delay lane: not before then.
    pub(crate) due_ms: u64,
    pub(crate) bytes: u32,
    pub(crate) deliveries: u16,
    pub(crate) attempts: u16,
    /// Its attrs were seen; else only position, size and counts are known, from a row.
    pub(crate) known: bool,
    /// A DUE row has it.
    pub(crate) in_due: bool,
    /// It was handed out before, or somebody had it: it came back, and what is known of it is not only in the log.
    pub(crate) seen: bool,
    /// In a window that is chained: it was taken out of turn.
    pub(super) gone: bool,
    /// In a window that is chained: the next one of its key; 0 = none.
    pub(super) next_same: u64,
}

impl Slot {
    /// Its place in its lane's order.
    pub(crate) fn rank(&self) -> Rank {
        (self.due_ms, self.pos)
    }
}

/// A message of which a row knows something, and of which the attrs were not seen yet: counts, and when it may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    pub(crate) deliveries: u16,
    pub(crate) attempts: u16,
    pub(crate) bytes: u32,
    pub(crate) key_hash: Option<u64>,
    /// Not before then; 0 = it is ready.
    pub(crate) until_ms: u64,
}

/// A message whose rest is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Woken {
    pub(crate) bytes: u32,
    pub(crate) key_hash: Option<u64>,
    /// To be given back; `None`: it waits for the scan.
    pub(crate) slot: Option<Slot>,
}

/// A message that rests after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) slot: Slot,
    pub(crate) until_ms: u64,
}

/// A lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: ObjectId,
    pub(crate) number: u16,
    /// Where its messages are: its own log, or a partition.
    pub(crate) log: LogId,
    pub(crate) sizes: WindowSizes,
    /// Messages that the window is to hold now.
    wanted: usize,
    ordering: Ordering,
    pub(crate) purge_no: u32,
    /// The next position to be given.
    pub(crate) next: u64,
    /// Everything below is settled, by what is applied.
    pub(crate) floor: u64,
    /// Everything below is settled, but what chunks of the last purge keep.
    pub(crate) purged_to: u64,
    /// What lies below is marked as redelivered.
    pub(crate) mark_below: u64,
    /// Everything below may be delivered.
    pub(crate) visible: u64,
    /// Who waited had his chance of everything below.
    pub(crate) offered: u64,
    /// Everything below is accounted for in memory.
    pub(crate) scan: u64,
    window: VecDeque<Slot>,
    /// Of a queue that orders by key: first and last message of each key in the window. Only ever looked up.
    same: HashMap<u64, (u64, u64)>,
    pub(crate) tail: VecDeque<Slot>,
    pub(crate) returned: Slots,
    pub(crate) ahead: Aheads,
    pub(crate) resting: Rests,
    pub(crate) delays: Delays,
    pub(crate) leases: Leases,
    /// A read is under way.
    pub(crate) reading: Option<u64>,
    /// The timer that looks at the head's expiry is set for then.
    pub(crate) head_timer_ms: Option<u64>,
    pub(crate) tidy: Tidy,
}

/// What is still to be said of a lane's floor.
#[derive(Debug, Default)]
pub(crate) struct Tidy {
    /// The floor as recorded.
    pub(crate) recorded: u64,
    /// Trimmed up to here.
    pub(crate) trimmed: u64,
    /// Chunks below have no row.
    pub(crate) gone_below: u64,
    /// Chunks in which something settled past the floor since they were last retired.
    pub(crate) retire: BTreeSet<u64>,
    /// The floor last moved then.
    pub(crate) moved_ms: u64,
    /// The timer that looks at it is set.
    pub(crate) timer: bool,
    /// Of a subscription: what the scan passed that will not be handed out.
    pub(crate) skips: Skips,
}

impl Tidy {
    fn pending(&self, floor: u64) -> bool {
        self.recorded < floor
            || self.trimmed < floor
            || self.gone_below < floor / CHUNK
            || !self.retire.is_empty()
            || !self.skips.is_empty()
    }
}

/// Where a lane's next message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Returned(u64),
    Window,
    Due((u64, u64)),
}

impl Lane {
    pub(crate) fn of(
        queue: ObjectId,
        number: u16,
        purge_no: u32,
        head: &LaneHead,
        sizes: WindowSizes,
        ordering: Ordering,
    ) -> Self {
        let floor = head.floor;
        let tidy = Tidy { recorded: floor, trimmed: floor, gone_below: floor / CHUNK, ..Tidy::default() };
        Self {
            queue,
            number,
            log: LogId::new(queue, number),
            sizes,
            wanted: sizes.window,
            ordering,
            purge_no,
            next: head.next,
            floor,
            purged_to: head.purged_to,
            mark_below: head.mark_below,
            visible: head.next,
            offered: head.next,
            // A delay lane is not scanned: its messages come by their time.
            scan: if number < DELAY_LANE { floor } else { head.next },
            window: VecDeque::new(),
            same: HashMap::new(),
            tail: VecDeque::new(),
            returned: Slots::default(),
            ahead: Aheads::default(),
            resting: Rests::default(),
            delays: Delays::new(sizes.due),
            leases: Leases::default(),
            reading: None,
            head_timer_ms: None,
            tidy,
        }
    }

    /// A message was appended.
    pub(crate) fn push(&mut self, slot: Slot) {
        if self.scan == slot.pos && self.window.len() < self.wanted {
            self.window_push(slot);
            self.scan = slot.pos + 1;
        } else {
            if self.tail.len() >= self.sizes.tail {
                self.tail.pop_front();
            }
            self.tail.push_back(slot);
        }
    }

    /// A message was appended that is not ready: somebody has it from the start.
    pub(crate) fn skip(&mut self, pos: u64) {
        if self.scan == pos {
            self.scan = pos + 1;
        }
    }

    /// A message was appended that is not to be delivered yet.
    pub(crate) fn schedule(&mut self, slot: Slot) {
        self.skip(slot.pos);
        self.delays.push(slot);
    }

    pub(crate) fn is_delayed(&self) -> bool {
        self.number >= DELAY_LANE
    }

    /// Whether it is a partition of a topic, which it only reads.
    pub(crate) fn is_fed(&self) -> bool {
        self.log.object() != self.queue
    }

    /// Records that nobody will read what lies below `before` in its own log. A topic's log is the topic's.
    pub(crate) fn trim(&mut self, record: &mut Record, before: u64) {
        if self.tidy.trimmed < before {
            self.tidy.trimmed = before;
            if !self.is_fed() {
                record.trim(self.log, before);
            }
        }
    }

    /// Likewise of these messages (position and how many), which lie past it.
    pub(crate) fn retire(&self, record: &mut Record, runs: impl Iterator<Item = (u64, u32)>) {
        if !self.is_fed() {
            record.retire(self.log, runs);
        }
    }

    fn next(&self) -> Option<Next> {
        if self.is_delayed() {
            let first = self.delays.eligible.first_key_value().filter(|_| !self.ahead.any_ready());
            return first.map(|(k, _)| Next::Due(*k));
        }
        match (self.returned.first(), self.window.front()) {
            (Some(r), Some(w)) if r < w.pos => Some(Next::Returned(r)),
            (_, Some(_)) => Some(Next::Window),
            (Some(r), None) => Some(Next::Returned(r)),
            (None, None) => None,
        }
    }

    /// The next message in memory, whether it may go out yet or not.
    pub(crate) fn peek(&self) -> Option<Slot> {
        match self.next()? {
            Next::Returned(pos) => self.returned.get(pos),
            Next::Window => self.window.front().copied(),
            Next::Due(key) => self.delays.eligible.get(&key).copied(),
        }
    }

    /// The next message, if it is visible.
    pub(crate) fn peek_visible(&self) -> Option<Slot> {
        self.peek().filter(|s| s.pos < self.visible)
    }

    pub(crate) fn pop(&mut self) -> Option<Slot> {
        match self.next()? {
            Next::Returned(pos) => self.returned.remove(pos),
            Next::Window => self.window_pop(),
            Next::Due(key) => self.delays.eligible.remove(&key),
        }
    }

    /// Takes a message that was given back out again.
    pub(crate) fn take_back(&mut self, rank: Rank) -> Option<Slot> {
        if self.is_delayed() { self.delays.eligible.remove(&rank) } else { self.returned.remove(rank.1) }
    }

    /// Everything below was handed on by the scan and the window, or somebody has it.
    pub(crate) fn met(&self) -> u64 {
        self.window.front().map_or(self.scan, |s| s.pos)
    }

    pub(super) fn window_len(&self) -> usize {
        self.window.len()
    }

    fn window_push(&mut self, mut slot: Slot) {
        slot.next_same = 0;
        if let Some(hash) = slot.key_hash.filter(|_| self.ordering == Ordering::ByKey) {
            let ends = self.same.entry(hash).or_insert((slot.pos, slot.pos));
            if let Ok(i) = self.window.binary_search_by_key(&ends.1, |s| s.pos)
                && let Some(last) = self.window.get_mut(i)
            {
                last.next_same = slot.pos;
            }
            ends.1 = slot.pos;
        }
        self.window.push_back(slot);
    }

    fn window_pop(&mut self) -> Option<Slot> {
        let slot = self.window.pop_front()?;
        self.unchain(&slot);
        while self.window.pop_front_if(|s| s.gone).is_some() {}
        Some(slot)
    }

    /// The first of its key in the window is taken out.
    fn unchain(&mut self, slot: &Slot) {
        let Some(hash) = slot.key_hash.filter(|_| self.ordering == Ordering::ByKey) else { return };
        if slot.next_same == 0 {
            self.same.remove(&hash);
        } else if let Some(ends) = self.same.get_mut(&hash) {
            ends.0 = slot.next_same;
        }
    }

    /// The first message of a key in the window.
    pub(crate) fn peek_same(&self, hash: u64) -> Option<&Slot> {
        let (first, _) = self.same.get(&hash)?;
        let i = self.window.binary_search_by_key(first, |s| s.pos).ok()?;
        self.window.get(i)
    }

    /// Takes the first message of a key out of the window, out of turn.
    pub(crate) fn pop_same(&mut self, hash: u64) -> Option<Slot> {
        let (first, _) = *self.same.get(&hash)?;
        let i = self.window.binary_search_by_key(&first, |s| s.pos).ok()?;
        if i == 0 {
            return self.window_pop();
        }
        let place = self.window.get_mut(i)?;
        let slot = *place;
        place.gone = true;
        self.unchain(&slot);
        Some(slot)
    }

    /// Whether the next message in memory is the lane's next: nothing below it waits to be read.
    pub(crate) fn knows_next(&self) -> bool {
        if self.is_delayed() {
            return !self.ahead.any_ready();
        }
        // What is returned or in the window lies below the scan.
        self.next().is_some() || self.scan >= self.visible
    }

    /// Back to its place. What was not met yet waits for the scan.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        if !slot.known {
            self.put_ahead(slot, 0);
        } else if self.is_delayed() {
            self.delays.eligible.insert((slot.due_ms, slot.pos), slot);
        } else {
            self.returned.insert(&slot);
        }
    }

    /// It rests until then.
    pub(crate) fn rest(&mut self, slot: Slot, until_ms: u64) {
        if slot.known {
            self.resting.insert(&Rest { slot, until_ms });
        } else {
            self.put_ahead(slot, until_ms);
        }
    }

    fn put_ahead(&mut self, slot: Slot, until_ms: u64) {
        let Slot { deliveries, attempts, bytes, key_hash, .. } = slot;
        self.ahead.insert(slot.pos, Ahead { deliveries, attempts, bytes, key_hash, until_ms });
    }

    /// If the message rests and its time has come, it is ready.
    pub(crate) fn wake(&mut self, pos: u64, now_ms: u64) -> Option<Woken> {
        if let Some(until_ms) = self.resting.until_ms(pos) {
            let slot = if until_ms > now_ms { None } else { self.resting.remove(pos) }?;
            return Some(Woken { bytes: slot.bytes, key_hash: slot.key_hash, slot: Some(slot) });
        }
        let ahead = self.ahead.get(pos).filter(|a| a.until_ms > 0 && a.until_ms <= now_ms)?;
        self.ahead.insert(pos, Ahead { until_ms: 0, ..ahead });
        Some(Woken { bytes: ahead.bytes, key_hash: ahead.key_hash, slot: None })
    }

    /// Whether a message rests until then.
    pub(crate) fn rests(&self, pos: u64, until_ms: u64) -> bool {
        self.resting.until_ms(pos) == Some(until_ms)
            || self.ahead.get(pos).is_some_and(|a| a.until_ms == until_ms)
    }

    /// Whether a message is settled.
    pub(crate) fn is_settled(&self, rows: &QueueRows, pos: u64) -> bool {
        if pos < self.floor {
            return true;
        }
        let chunk = rows.chunk(self.queue, self.number, pos, self.purge_no);
        if pos < self.purged_to {
            return chunk.and_then(|c| c.exception(offset(pos))).is_none();
        }
        chunk.is_some_and(|c| c.settled.has(offset(pos)))
    }

    /// The first position at or past `from` that is not settled, `next` if there is none.
    pub(crate) fn first_unsettled(&self, rows: &QueueRows, from: u64) -> u64 {
        let mut at = from.max(self.floor);
        if at < self.purged_to {
            match self.first_kept(rows, at) {
                Some(kept) => return kept,
                None => at = self.purged_to,
            }
        }
        while at < self.next {
            let Some(chunk) = rows.chunk(self.queue, self.number, at, self.purge_no) else { break };
            let base = at - u64::from(offset(at));
            let out = u64::from(chunk.settled.first_out(offset(at)));
            at = base + out;
            if out < CHUNK {
                break;
            }
        }
        at.min(self.next)
    }

    /// The first message at or past `from` that the last purge kept.
    fn first_kept(&self, rows: &QueueRows, from: u64) -> Option<u64> {
        let key = |pos| ChunkKey::of(self.queue, self.number, pos);
        for (k, chunk) in rows.chunks.range(key(from)..=key(self.purged_to)) {
            if chunk.purge_no != self.purge_no {
                continue;
            }
            let kept = chunk.exceptions.iter().map(|e| k.base() + u64::from(e.off)).find(|p| *p >= from);
            if let Some(pos) = kept {
                return (pos < self.purged_to).then_some(pos);
            }
        }
        None
    }

    /// The floor moves over what is settled now. Whether something of it is still to be recorded, and no timer will.
    pub(crate) fn advance(&mut self, rows: &QueueRows, now_ms: u64) -> bool {
        let floor = self.first_unsettled(rows, self.floor);
        if floor > self.floor {
            self.floor = floor;
            self.tidy.moved_ms = now_ms;
            let below = floor / CHUNK;
            while self.tidy.retire.first().is_some_and(|c| *c < below) {
                self.tidy.retire.pop_first();
            }
        }
        if self.is_fed() {
            // There is nothing to say of it.
            self.tidy.trimmed = self.floor;
            self.tidy.retire.clear();
        }
        let wanted = !self.tidy.timer && self.tidy.pending(self.floor);
        self.tidy.timer |= wanted;
        wanted
    }

    /// Whether something of the floor is still to be recorded.
    pub(crate) fn untidy(&self) -> bool {
        self.tidy.pending(self.floor)
    }

    /// Fills the window from the tail; else says which positions are to be read for it. So many messages of the lane are out: while it is
    /// read, as many may be settled and asked for, and must be there.
    pub(crate) fn fill(&mut self, rows: &QueueRows, out: usize) -> Option<(u64, u64, usize)> {
        if self.is_delayed() {
            return self.fill_delayed();
        }
        let most = self.sizes.window * WINDOW_GROWTH_MAX;
        self.wanted = out.saturating_mul(2).clamp(self.sizes.window, most);
        if self.window.capacity() > 4 * self.wanted.max(self.window.len()) {
            self.window.shrink_to(self.wanted);
        }
        let enough = self.wanted / 2;
        if self.window.len() >= enough || self.scan >= self.next || self.tidy.skips.is_full() {
            return None;
        }
        let from = self.first_unsettled(rows, self.scan);
        self.scan = self.scan.max(from);
        while self.tail.front().is_some_and(|s| s.pos < self.scan) {
            self.tail.pop_front();
        }
        self.take_tail(rows);
        if self.scan >= self.next || self.window.len() >= enough || self.reading.is_some() {
            return None;
        }
        let end = self.tail.front().map_or(self.visible, |s| s.pos.min(self.visible));
        (self.scan < end).then(|| (self.scan, end, self.wanted - self.window.len()))
    }

    /// Of a delay lane only messages are read that a row knows something of.
    fn fill_delayed(&mut self) -> Option<(u64, u64, usize)> {
        let from = self.ahead.first_ready().filter(|_| self.reading.is_none())?;
        let last = self.ahead.last().unwrap_or(from);
        let end = last.saturating_add(1).min(from.saturating_add(self.sizes.window as u64));
        Some((from, end, self.sizes.window))
    }

    /// When the window is empty, the tail may follow at once.
    pub(crate) fn fill_from_memory(&mut self, rows: &QueueRows) {
        if self.window.is_empty() && !self.tail.is_empty() {
            self.take_tail(rows);
        }
    }

    fn take_tail(&mut self, rows: &QueueRows) {
        while self.window.len() < self.wanted {
            let Some(slot) = self.tail.front().copied().filter(|s| s.pos == self.scan) else { break };
            self.tail.pop_front();
            // What came back before it was met is older than the tail.
            if let Some(back) = self.meet(rows, slot) {
                self.give_back(back);
            }
        }
    }

    /// The attrs of a message were seen. What rests goes on resting: its timer tells. One that came back is returned, to be given back.
    pub(crate) fn meet(&mut self, rows: &QueueRows, mut slot: Slot) -> Option<Slot> {
        if !self.is_delayed() {
            if slot.pos < self.scan {
                return None;
            }
            self.scan = slot.pos + 1;
        }
        if let Some(lease) = self.leases.get(slot.pos) {
            let Slot { deliveries, attempts, .. } = lease.slot;
            self.leases.insert(&Lease { slot: Slot { deliveries, attempts, seen: true, ..slot }, ..lease });
        } else if let Some(ahead) = self.ahead.remove(slot.pos) {
            slot.deliveries = ahead.deliveries;
            slot.attempts = ahead.attempts;
            slot.seen = true;
            if ahead.until_ms > 0 {
                self.rest(slot, ahead.until_ms);
            } else {
                return Some(slot);
            }
        } else if !self.is_delayed() && !self.is_settled(rows, slot.pos) {
            self.window_push(slot);
        }
        None
    }

    /// Nothing was there to be read between these: it is stepped over. What rested of it.
    pub(crate) fn step_over(&mut self, from: u64, end: u64) -> Vec<Ahead> {
        if !self.is_delayed() {
            self.scan = self.scan.max(end);
            return Vec::new();
        }
        let lost = std::iter::from_fn(|| self.ahead.pop_of(from, end));
        lost.filter(|a| a.until_ms > 0).collect()
    }

    /// What lies below is gone. Payload bytes of each message that rested there, and of all that were ready, as far as they were known.
    pub(super) fn drop_below(&mut self, before: u64) -> (Vec<u32>, u64) {
        let mut rested = Vec::new();
        let mut ready_bytes = 0;
        rested.extend(std::iter::from_fn(|| self.resting.pop_below(before)).map(|s| s.bytes));
        while let Some(a) = self.ahead.pop_of(0, before) {
            if a.until_ms > 0 {
                rested.push(a.bytes);
            } else {
                ready_bytes += u64::from(a.bytes);
            }
        }
        while let Some(slot) = self.returned.pop_below(before) {
            ready_bytes += u64::from(slot.bytes);
        }
        while self.window.front().is_some_and(|s| s.pos < before) {
            ready_bytes += self.window_pop().map_or(0, |s| u64::from(s.bytes));
        }
        self.scan = self.scan.max(before);
        (rested, ready_bytes)
    }

    /// Everything in memory goes: a purge. Leases are the caller's.
    pub(crate) fn empty(&mut self) {
        self.window.clear();
        self.same.clear();
        self.tail.clear();
        self.returned = Slots::default();
        self.ahead = Aheads::default();
        self.resting = Rests::default();
        self.delays.clear();
        self.reading = None;
        self.tidy.skips.clear();
        self.scan = self.next;
    }
}
