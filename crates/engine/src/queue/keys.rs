//! Keys of a queue that orders by key: which are closed, and where messages wait that may not go out for that.
//!
//! A key is here while it is closed, or while messages of it wait aside. Of those, a few are in memory, in their order; of the others
//! only the chunks are known in which the scan has met them: so dispatch steps over each message of a closed key once, however many there
//! are. When chunks would take too much memory, a key keeps a range to search instead. Nothing here is durable: what closes a key is
//! in the rows of chunks, and what waits is met again by the scan. Start at [`Keys`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use foldhash::{HashMap, HashMapExt};

use super::api::DELAY_LANE;
use super::lane::{Slot, WindowSizes};
use super::rows::set::CHUNK;

/// Memory that messages and chunks of closed keys may take, per queue, bytes.
pub(crate) const KEYS_BYTES_MAX: usize = 64 << 20;
/// Messages of a key that wait in memory, per lane. What was handed out before is not counted: that is bounded by what was leased.
pub(crate) const ASIDE_MAX: usize = 64;
/// With half of the memory taken, so many.
const ASIDE_TIGHT: usize = 16;
/// Reads for keys under way, per queue.
const READS_MAX: usize = 16;
/// What a message aside takes, bytes.
const SLOT_BYTES: usize = size_of::<Slot>() + 32;
/// What a chunk's number takes, bytes.
const NUMBER_BYTES: usize = 8;

/// A message's place in its lane's order.
pub(crate) type Rank = (u64, u64);

/// What is known of keys.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Only ever looked up.
    by_hash: HashMap<u64, Key>,
    /// The first message aside of each lane and key, by place; one that has to be read counts with where it is looked for.
    first: BTreeSet<(u16, Rank, u64)>,
    /// Keys whose messages aside are to be looked at.
    dirty: VecDeque<u64>,
    /// What is to be read: (lane, key).
    wanted: BTreeSet<(u16, u64)>,
    /// What is being read, by token.
    reads: BTreeMap<u64, (u16, u64)>,
    /// Reads that failed, to be tried again.
    failed: Vec<(u16, u64)>,
    /// Of a fair queue: closed keys that have something waiting, by leases.
    soft: BTreeSet<(u32, u64)>,
    bytes: usize,
    sizes: WindowSizes,
}

/// A key.
#[derive(Debug, Default)]
struct Key {
    /// Messages that close it.
    count: u32,
    /// What waits, by lane.
    lanes: BTreeMap<u16, Waiting>,
    in_soft: bool,
}

/// Messages of a key and lane that wait aside.
#[derive(Debug, Default)]
struct Waiting {
    /// Those in memory, in order.
    aside: BTreeMap<Rank, Slot>,
    /// The one that was let back into the lane.
    promoted: Option<Rank>,
    /// Those that are only in the log.
    unread: Unread,
    /// As `Keys::first` has it.
    indexed: Option<Rank>,
    reading: bool,
}

/// Messages that are only in the log: at or past `from`, in these chunks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unread {
    from: u64,
    /// Ascending.
    chunks: VecDeque<u64>,
    /// And perhaps in any of these, first and last: there was no room for their numbers.
    rest: Option<(u64, u64)>,
}

impl Unread {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.rest.is_none()
    }

    /// A message at `pos` is left to the log. Whether a number more is kept.
    fn add(&mut self, pos: u64, room: bool) -> bool {
        let chunk = pos / CHUNK;
        if self.is_empty() {
            self.from = pos;
        }
        if let Some(rest) = &mut self.rest {
            rest.1 = rest.1.max(chunk);
        } else if self.chunks.back() != Some(&chunk) {
            if room || self.chunks.is_empty() {
                self.chunks.push_back(chunk);
                return true;
            }
            self.rest = Some((chunk, chunk));
        }
        false
    }

    /// What is to be read next, of what lies below `met`.
    fn range(&self, met: u64) -> Option<(u64, u64)> {
        let chunk = self.chunks.front().copied().or(self.rest.map(|r| r.0))?;
        let base = chunk.saturating_mul(CHUNK);
        let from = self.from.max(base);
        let end = base.saturating_add(CHUNK).min(met);
        Some((from, end.max(from)))
    }

    /// Everything below `to` was looked at. How many numbers went.
    fn read_to(&mut self, to: u64, met: u64) -> usize {
        self.from = self.from.max(to);
        let mut gone = 0;
        while let Some((from, end)) = self.range(met) {
            if from < end {
                break;
            }
            if self.chunks.pop_front().is_some() {
                gone += 1;
            } else if let Some((first, last)) = self.rest {
                self.rest = (first < last).then_some((first + 1, last));
            }
        }
        gone
    }
}

impl Waiting {
    /// The first that is in memory and has nothing unread before it.
    fn next(&self) -> Option<(Rank, &Slot)> {
        let (rank, slot) = self.aside.first_key_value()?;
        (self.unread.is_empty() || rank.1 < self.unread.from).then_some((*rank, slot))
    }

    fn first(&self) -> Option<Rank> {
        let unread = (!self.unread.is_empty()).then_some((0, self.unread.from));
        let aside = self.aside.first_key_value().map(|a| *a.0);
        match (aside, unread) {
            (Some(a), Some(u)) => Some(a.min(u)),
            (a, u) => a.or(u),
        }
    }

    fn is_empty(&self) -> bool {
        self.aside.is_empty() && self.promoted.is_none() && self.unread.is_empty() && !self.reading
    }
}

/// The first message of a lane that waits aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// It is in memory.
    Is(Slot),
    /// It has to be read; it is not before this place.
    Unread(Rank),
}

impl Keys {
    pub(crate) fn new(sizes: WindowSizes) -> Self {
        Self {
            by_hash: HashMap::new(),
            first: BTreeSet::new(),
            dirty: VecDeque::new(),
            wanted: BTreeSet::new(),
            reads: BTreeMap::new(),
            failed: Vec::new(),
            soft: BTreeSet::new(),
            bytes: 0,
            sizes,
        }
    }

    /// Whether nothing of any key is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_hash.is_empty() && self.reads.is_empty() && self.failed.is_empty()
    }

    /// Whether messages aside take all the memory they may.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.sizes.keys_bytes
    }

    /// Messages that close a key.
    fn count(&self, hash: u64) -> u32 {
        self.by_hash.get(&hash).map_or(0, |k| k.count)
    }

    /// A message more closes the key, or one less.
    pub(crate) fn close(&mut self, hash: u64, up: bool) {
        let key = if up {
            self.by_hash.entry(hash).or_default()
        } else {
            let Some(key) = self.by_hash.get_mut(&hash) else { return };
            key
        };
        let before = key.count;
        key.count = if up { before.saturating_add(1) } else { before.saturating_sub(1) };
        if key.in_soft {
            self.soft.remove(&(before, hash));
            self.soft.insert((key.count, hash));
        }
        if !key.lanes.is_empty() {
            self.dirty.push_back(hash);
        } else if key.count == 0 {
            self.by_hash.remove(&hash);
        }
    }

    /// Whether a message at the head of its lane has to wait: its key is closed by more than `open_to`, or others of it come first.
    pub(crate) fn blocks(&self, hash: u64, lane: u16, slot: &Slot, open_to: u32) -> bool {
        let Some(key) = self.by_hash.get(&hash) else { return false };
        if key.count > open_to {
            return true;
        }
        let Some(w) = key.lanes.get(&lane) else { return false };
        let rank = slot.rank();
        if w.promoted == Some(rank) {
            return false;
        }
        !w.unread.is_empty() && slot.pos >= w.unread.from
            || w.aside.first_key_value().is_some_and(|a| *a.0 < rank)
            || w.promoted.is_some_and(|p| p < rank)
    }

    /// A message that was at its lane's head, or came back, waits aside until its key opens.
    pub(crate) fn put_aside(&mut self, hash: u64, lane: u16, slot: Slot) {
        let most = if self.bytes >= self.sizes.keys_bytes / 2 { ASIDE_TIGHT } else { self.sizes.aside };
        let most = most.min(self.sizes.aside);
        let full = self.is_full();
        let w = self.by_hash.entry(hash).or_default().lanes.entry(lane).or_default();
        if w.promoted == Some(slot.rank()) {
            w.promoted = None;
        }
        let fits = w.unread.is_empty() && w.aside.len() < most && !full || slot.pos < w.unread.from;
        if slot.seen || lane >= DELAY_LANE || fits {
            if w.aside.insert(slot.rank(), slot).is_none() {
                self.bytes += SLOT_BYTES;
            }
        } else if w.unread.add(slot.pos, !full) {
            self.bytes += NUMBER_BYTES;
        }
        self.reindex(hash, lane);
        self.dirty.push_back(hash);
    }

    fn reindex(&mut self, hash: u64, lane: u16) {
        let Some(key) = self.by_hash.get_mut(&hash) else { return };
        let Some(w) = key.lanes.get_mut(&lane) else { return };
        let first = w.first();
        if w.indexed != first {
            if let Some(old) = w.indexed {
                self.first.remove(&(lane, old, hash));
            }
            if let Some(new) = first {
                self.first.insert((lane, new, hash));
            }
            w.indexed = first;
        }
        if w.is_empty() {
            key.lanes.remove(&lane);
        }
        if key.lanes.is_empty() {
            if key.in_soft {
                self.soft.remove(&(key.count, hash));
                key.in_soft = false;
            }
            if key.count == 0 {
                self.by_hash.remove(&hash);
            }
        }
    }

    /// The first message of a lane that waits aside.
    pub(crate) fn first_of(&self, lane: u16) -> Option<(u64, First)> {
        let from = (lane, (0, 0), 0);
        let to = (lane, (u64::MAX, u64::MAX), u64::MAX);
        let (_, rank, hash) = *self.first.range(from..=to).next()?;
        let w = self.by_hash.get(&hash)?.lanes.get(&lane)?;
        Some((hash, w.aside.get(&rank).map_or(First::Unread(rank), |s| First::Is(*s))))
    }

    /// The next message of a key that waits aside in a lane, if nothing unread is before it.
    pub(crate) fn next_of(&self, hash: u64, lane: u16) -> Option<&Slot> {
        self.by_hash.get(&hash)?.lanes.get(&lane)?.next().map(|n| n.1)
    }

    /// Whether messages of a key and lane are known to the log only.
    pub(crate) fn has_unread(&self, hash: u64, lane: u16) -> bool {
        self.by_hash.get(&hash).and_then(|k| k.lanes.get(&lane)).is_some_and(|w| !w.unread.is_empty())
    }

    /// Takes a message that waits aside.
    pub(crate) fn take(&mut self, hash: u64, lane: u16, rank: Rank) -> Option<Slot> {
        let w = self.by_hash.get_mut(&hash)?.lanes.get_mut(&lane)?;
        let slot = w.aside.remove(&rank)?;
        self.bytes = self.bytes.saturating_sub(SLOT_BYTES);
        self.reindex(hash, lane);
        Some(slot)
    }

    /// The key of a message that waits aside, by its position: all keys are looked through.
    pub(crate) fn hash_at(&self, lane: u16, pos: u64) -> Option<u64> {
        let waits = |w: &Waiting| w.aside.keys().any(|r| r.1 == pos);
        // At most one has it, whatever the order.
        self.by_hash.iter().find(|(_, k)| k.lanes.get(&lane).is_some_and(waits)).map(|(hash, _)| *hash)
    }

    /// Takes a message that waits aside, by its position.
    pub(crate) fn take_at(&mut self, hash: u64, lane: u16, pos: u64) -> Option<Slot> {
        let w = self.by_hash.get(&hash)?.lanes.get(&lane)?;
        let rank = w.aside.keys().find(|r| r.1 == pos).copied()?;
        self.take(hash, lane, rank)
    }

    /// A message left its lane: if it was let back before, the next of its key may follow.
    pub(crate) fn popped(&mut self, hash: u64, lane: u16, slot: &Slot) {
        let w = self.by_hash.get_mut(&hash).and_then(|k| k.lanes.get_mut(&lane));
        let Some(w) = w.filter(|w| w.promoted == Some(slot.rank())) else { return };
        w.promoted = None;
        self.dirty.push_back(hash);
        self.reindex(hash, lane);
    }

    /// A key to be looked at.
    pub(crate) fn next_dirty(&mut self) -> Option<u64> {
        self.dirty.pop_front()
    }

    /// The first lane from `from` on in which messages of a key wait.
    pub(crate) fn lane_of(&self, hash: u64, from: u16) -> Option<u16> {
        self.by_hash.get(&hash)?.lanes.range(from..).next().map(|l| *l.0)
    }

    /// What is to be done for a key and lane: it is closed by what exceeds `open_to`.
    pub(crate) fn step(&mut self, hash: u64, lane: u16, open_to: u32) -> Option<Step> {
        let closed = self.count(hash) > open_to;
        let w = self.by_hash.get_mut(&hash)?.lanes.get_mut(&lane)?;
        let next = w.next().map(|n| n.0);
        let step = match w.promoted {
            Some(p) if closed || next.is_some_and(|n| n < p) => Step::Demote(p),
            None if !closed && next.is_some() => Step::Promote(next?),
            None if !closed && !w.unread.is_empty() && !w.reading => {
                self.wanted.insert((lane, hash));
                return None;
            }
            _ => return None,
        };
        Some(step)
    }

    /// The message that was let back into its lane is out of it again.
    pub(crate) fn demoted(&mut self, hash: u64, lane: u16, rank: Rank, slot: Option<Slot>) {
        let Some(w) = self.by_hash.get_mut(&hash).and_then(|k| k.lanes.get_mut(&lane)) else { return };
        w.promoted = None;
        if let Some(slot) = slot
            && w.aside.insert(rank, slot).is_none()
        {
            self.bytes += SLOT_BYTES;
        }
        self.reindex(hash, lane);
    }

    /// The first message aside goes back into its lane.
    pub(crate) fn promote(&mut self, hash: u64, lane: u16, rank: Rank) -> Option<Slot> {
        let w = self.by_hash.get_mut(&hash)?.lanes.get_mut(&lane)?;
        let slot = w.aside.remove(&rank)?;
        w.promoted = Some(rank);
        self.bytes = self.bytes.saturating_sub(SLOT_BYTES);
        self.reindex(hash, lane);
        Some(slot)
    }

    /// Of a fair queue: a closed key with something waiting opens when it has no more than so many leases.
    pub(crate) fn watch(&mut self, hash: u64) {
        if let Some(key) = self.by_hash.get_mut(&hash).filter(|k| !k.in_soft && !k.lanes.is_empty()) {
            key.in_soft = true;
            self.soft.insert((key.count, hash));
        }
    }

    /// Of a fair queue: keys that are open now are looked at.
    pub(crate) fn open_soft(&mut self, open_to: u32) {
        while let Some((_, hash)) = self.soft.first().copied().filter(|s| s.0 <= open_to) {
            self.soft.pop_first();
            if let Some(key) = self.by_hash.get_mut(&hash) {
                key.in_soft = false;
            }
            self.dirty.push_back(hash);
        }
    }

    /// The first message of a lane is to be read, if it is only in the log.
    pub(crate) fn want_first(&mut self, lane: u16) {
        if let Some((hash, First::Unread(_))) = self.first_of(lane)
            && let Some(w) = self.by_hash.get(&hash).and_then(|k| k.lanes.get(&lane))
            && !w.reading
        {
            self.wanted.insert((lane, hash));
        }
    }

    /// What is to be read next: lane, first position and end. `met` tells what the scan of a lane has handed on.
    pub(crate) fn next_read(&mut self, token: u64, met: impl Fn(u16) -> u64) -> Option<(u16, u64, u64)> {
        if self.reads.len() >= READS_MAX {
            return None;
        }
        while let Some((lane, hash)) = self.wanted.pop_first() {
            let Some(w) = self.by_hash.get_mut(&hash).and_then(|k| k.lanes.get_mut(&lane)) else { continue };
            if w.reading {
                continue;
            }
            let met = met(lane);
            match w.unread.range(met) {
                Some((from, end)) if from < end => {
                    w.reading = true;
                    self.reads.insert(token, (lane, hash));
                    return Some((lane, from, end));
                }
                Some((_, end)) => self.was_read(lane, hash, std::iter::empty(), end, met),
                None => {}
            }
        }
        None
    }

    /// Whether something is read or to be read.
    pub(crate) fn is_reading(&self) -> bool {
        !self.reads.is_empty() || !self.wanted.is_empty()
    }

    /// For whom a read was.
    pub(crate) fn read_of(&mut self, token: u64) -> Option<(u16, u64)> {
        self.reads.remove(&token)
    }

    /// A read failed: it is wanted again when [`Keys::retry`] says so.
    pub(crate) fn read_failed(&mut self, lane: u16, hash: u64) {
        self.failed.push((lane, hash));
    }

    /// Reads that failed are tried again.
    pub(crate) fn retry(&mut self) {
        for (lane, hash) in std::mem::take(&mut self.failed) {
            if let Some(w) = self.by_hash.get_mut(&hash).and_then(|k| k.lanes.get_mut(&lane)) {
                w.reading = false;
                self.wanted.insert((lane, hash));
            }
        }
    }

    /// Takes messages of a key that were read, ascending, and everything below `end` as looked at; from one that finds no room, the
    /// rest is to be read again.
    pub(crate) fn was_read(
        &mut self,
        lane: u16,
        hash: u64,
        slots: impl Iterator<Item = Slot>,
        end: u64,
        met: u64,
    ) {
        let (full, most) = (self.is_full(), self.sizes.aside);
        let Some(w) = self.by_hash.get_mut(&hash).and_then(|k| k.lanes.get_mut(&lane)) else { return };
        w.reading = false;
        let mut to = end;
        for slot in slots.filter(|s| s.pos >= w.unread.from) {
            // One at least comes in, whatever the memory.
            if !w.aside.is_empty() && (full || w.aside.len() >= most) {
                to = slot.pos;
                break;
            }
            w.aside.insert(slot.rank(), slot);
            self.bytes += SLOT_BYTES;
        }
        let gone = w.unread.read_to(to, met);
        self.bytes = self.bytes.saturating_sub(gone * NUMBER_BYTES);
        self.reindex(hash, lane);
        self.dirty.push_back(hash);
    }

    /// Everything goes: a purge. What still closes keys is the caller's to say.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.sizes);
    }
}

/// What is to be done for a key in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This one goes into the lane.
    Promote(Rank),
    /// This one comes out of it.
    Demote(Rank),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(aside: usize, keys_bytes: usize) -> WindowSizes {
        WindowSizes { aside, keys_bytes, ..WindowSizes::default() }
    }

    fn slot(pos: u64) -> Slot {
        Slot { pos, key_hash: Some(7), known: true, ..Slot::default() }
    }

    #[test]
    fn a_million_of_one_key_take_chunk_numbers_and_are_read_in_their_order() {
        let mut keys = Keys::new(sizes(16, KEYS_BYTES_MAX));
        keys.close(7, true);
        for pos in 1..1_000_000 {
            keys.put_aside(7, 0, slot(pos));
        }
        assert!(keys.bytes <= 16 * SLOT_BYTES + 245 * NUMBER_BYTES, "{}", keys.bytes);
        keys.close(7, false);
        // All of them come, each once, in order.
        let mut next = 1;
        let mut token = 0;
        while next < 1_000_000 {
            while let Some(Step::Promote(rank)) = keys.step(7, 0, 0) {
                let s = keys.promote(7, 0, rank).unwrap();
                assert_eq!(s.pos, next);
                next += 1;
                keys.popped(7, 0, &s);
            }
            if next == 1_000_000 {
                break;
            }
            token += 1;
            let (lane, from, end) = keys.next_read(token, |_| 1_000_000).unwrap();
            assert_eq!((lane, keys.read_of(token)), (0, Some((0, 7))));
            let end = end.min(from + 100);
            keys.was_read(0, 7, (from..end).map(slot), end, 1_000_000);
        }
        assert_eq!((keys.by_hash.len(), keys.bytes, keys.first.len()), (0, 0, 0));
    }

    #[test]
    fn without_room_for_numbers_a_key_searches_a_range() {
        let mut unread = Unread::default();
        assert!(unread.add(5, false));
        assert!(!unread.add(CHUNK + 1, false));
        assert!(!unread.add(4 * CHUNK, false));
        assert_eq!((unread.chunks.len(), unread.rest), (1, Some((1, 4))));
        let mut ranges = Vec::new();
        while let Some((from, end)) = unread.range(4 * CHUNK + 9) {
            ranges.push((from, end));
            unread.read_to(end, 4 * CHUNK + 9);
        }
        let whole = |c| (c * CHUNK, (c + 1) * CHUNK);
        assert_eq!(ranges, [(5, CHUNK), whole(1), whole(2), whole(3), (4 * CHUNK, 4 * CHUNK + 9)]);
        assert!(unread.is_empty());
    }
}
