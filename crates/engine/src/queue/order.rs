//! Order by key: whose messages may go out, and which of them in one go.
//!
//! In a queue that orders by key, a key is closed while a message of it is leased, rests after a failure, or is parked: nothing of it goes
//! out then. So its messages have one holder at a time, and a run of them that one holder got begins again at the first that was given back
//! once all of the run are settled or have come back. In a fair queue a key is closed while it has more leases than its share, and only
//! others have something ready. Start at [`Queue::sort_heads`]; what waits is in [`Keys`](super::keys::Keys).

use super::api::ReadWindow;
use super::keys::{First, Step};
use super::lane::{Lane, Slot, Woken};
use super::lease::{Has, Lease};
use super::live::{Queue, Turn};
use super::policy::Ordering;
use super::rows::QueueRows;

/// Leases that a key of a fair queue may have however few the queue has.
const FAIR_LEASES_MIN: u32 = 8;
/// Above that, a key may have one in so many of the queue's leases.
const FAIR_SHARE: u64 = 10;

impl Queue {
    /// The key that a message is ordered by; `None`: by none.
    pub(super) fn key_of(&self, slot: &Slot) -> Option<u64> {
        slot.key_hash.filter(|_| self.policy().ordering != Ordering::None)
    }

    /// A key is closed by more than so many messages.
    fn open_to(&self) -> u32 {
        if self.policy().ordering == Ordering::ByKey {
            return 0;
        }
        FAIR_LEASES_MIN.max(u32::try_from(self.leased.n / FAIR_SHARE).unwrap_or(u32::MAX))
    }

    fn closes(&self, has: Has) -> bool {
        match has {
            Has::Consumer => true,
            Has::Exhausted | Has::Parked(_) => self.policy().ordering == Ordering::ByKey,
            Has::Mover(_) => false,
        }
    }

    /// A message with that key closes it now, or no longer.
    fn close_key(&mut self, key_hash: Option<u64>, up: bool) {
        let Some(hash) = key_hash.filter(|_| self.policy().ordering != Ordering::None) else { return };
        self.keys.close(hash, up);
        if self.policy().ordering == Ordering::Fair {
            self.keys.watch(hash);
        }
    }

    /// Somebody has a message now.
    pub(super) fn add_lease(&mut self, number: u16, lease: Lease) {
        if self.closes(lease.has) {
            self.close_key(lease.slot.key_hash, true);
        }
        if let Some(lane) = self.lanes.get_mut(number) {
            lane.leases.insert(&lease);
        }
    }

    pub(super) fn take_lease(&mut self, number: u16, pos: u64) -> Option<Lease> {
        let lease = self.lanes.get_mut(number)?.leases.remove(pos)?;
        if self.closes(lease.has) {
            self.close_key(lease.slot.key_hash, false);
        }
        Some(lease)
    }

    /// A message begins to rest, or its rest is over.
    pub(super) fn rests(&mut self, key_hash: Option<u64>, begins: bool) {
        if self.policy().ordering == Ordering::ByKey {
            self.close_key(key_hash, begins);
        }
    }

    /// A message is back in its place.
    pub(super) fn give_back(&mut self, number: u16, mut slot: Slot) {
        slot.seen = true;
        // The scan has it before it: what was held as it came in may come back before its turn to be met.
        slot.known &= self.lanes.get(number).is_some_and(|l| l.is_delayed() || slot.pos < l.scan);
        match self.key_of(&slot) {
            Some(hash) if slot.known => {
                self.keys.put_aside(hash, number, slot);
                if self.policy().ordering == Ordering::Fair {
                    self.keys.watch(hash);
                }
            }
            _ => {
                if let Some(lane) = self.lanes.get_mut(number) {
                    lane.give_back(slot);
                }
            }
        }
    }

    /// A message's rest is over: it is ready.
    pub(super) fn woken(&mut self, number: u16, woken: Woken) {
        self.scheduled.sub(woken.bytes);
        self.ready.add(woken.bytes);
        self.rests(woken.key_hash, false);
        if let Some(slot) = woken.slot {
            self.give_back(number, slot);
        }
    }

    /// After a purge: what still closes keys is counted anew.
    pub(super) fn count_keys(&mut self) {
        if self.policy().ordering == Ordering::None {
            return;
        }
        self.keys.clear();
        let closing = self.lanes.values().flat_map(|l| l.leases.iter()).filter(|l| self.closes(l.has));
        let hashes: Vec<u64> = closing.filter_map(|l| l.slot.key_hash).collect();
        for hash in hashes {
            self.close_key(Some(hash), true);
        }
    }

    /// Makes the head of each lane one that may go out, as far as keys are concerned: others wait aside, and those of keys that have
    /// opened come back.
    pub(super) fn sort_heads(&mut self, rows: &QueueRows) {
        if self.policy().ordering == Ordering::None {
            return;
        }
        let open_to = self.open_to();
        if self.policy().ordering == Ordering::Fair {
            self.keys.open_soft(open_to);
        }
        let fair = self.policy().ordering == Ordering::Fair;
        self.look_at_keys(open_to);
        let Self { lanes, keys, .. } = self;
        for (number, lane) in lanes.iter_mut() {
            while let Some(slot) = lane.peek()
                && let Some(hash) = slot.key_hash
                && keys.blocks(hash, *number, &slot, open_to)
            {
                lane.pop();
                lane.fill_from_memory(rows);
                keys.put_aside(hash, *number, slot);
                if fair {
                    keys.watch(hash);
                }
            }
        }
        self.look_at_keys(open_to);
    }

    fn look_at_keys(&mut self, open_to: u32) {
        let Self { lanes, keys, .. } = self;
        while let Some(hash) = keys.next_dirty() {
            let mut from = 0;
            while let Some(number) = keys.lane_of(hash, from) {
                from = number.saturating_add(1);
                let Some(lane) = lanes.get_mut(number) else { continue };
                while let Some(step) = keys.step(hash, number, open_to) {
                    match step {
                        Step::Demote(rank) => {
                            let slot = lane.take_back(rank);
                            keys.demoted(hash, number, rank, slot);
                        }
                        Step::Promote(rank) => {
                            if let Some(slot) = keys.promote(hash, number, rank) {
                                lane.give_back(slot);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The first ready message of a lane, whether its key is open or not.
    pub(super) fn first_of_all(&self, number: u16) -> Option<First> {
        let open = self.lanes.get(number).and_then(Lane::peek);
        match (open, self.keys.first_of(number)) {
            (Some(o), Some((_, First::Is(a)))) if a.rank() < o.rank() => Some(First::Is(a)),
            (Some(o), Some((_, First::Unread(rank)))) if rank < o.rank() => Some(First::Unread(rank)),
            (Some(o), _) => Some(First::Is(o)),
            (None, Some((_, first))) => Some(first),
            (None, None) => None,
        }
    }

    /// Whether the first ready message of each lane is known, whether its key is open or not.
    pub(super) fn knows_firsts(&self) -> bool {
        self.lanes.iter().all(|(number, lane)| match self.first_of_all(*number) {
            Some(First::Is(_)) => true,
            Some(First::Unread(_)) => false,
            None => lane.knows_next(),
        })
    }

    /// Takes the next message of a lane: the head, or, `of_all`, the first whether its key is open or not.
    pub(super) fn pop_from(&mut self, rows: &QueueRows, number: u16, of_all: bool) -> Option<Slot> {
        if of_all
            && let Some(First::Is(slot)) = self.first_of_all(number)
            && let Some(hash) = self.key_of(&slot)
            && let Some(slot) = self.keys.take(hash, number, slot.rank())
        {
            return Some(slot);
        }
        let lane = self.lanes.get_mut(number)?;
        let slot = lane.pop()?;
        lane.fill_from_memory(rows);
        self.turn = number.wrapping_add(1);
        if let Some(hash) = self.key_of(&slot) {
            self.keys.popped(hash, number, &slot);
        }
        Some(slot)
    }

    /// Takes the next message of a key that was just handed out from a lane, if it may go out with it.
    pub(super) fn pop_of_run(
        &mut self,
        turn: &Turn<'_>,
        number: u16,
        hash: u64,
        fits: impl FnOnce(&Slot) -> bool,
    ) -> Option<Slot> {
        // The key is closed now: one that was let back into the lane is among those aside again.
        self.look_at_keys(self.open_to());
        let lane = self.lanes.get(number)?;
        let aside = self.keys.next_of(hash, number).copied();
        let window = lane.peek_same(hash).copied().filter(|_| !self.keys.has_unread(hash, number));
        let (slot, is_aside) = match (aside, window) {
            (Some(a), Some(w)) if w.rank() < a.rank() => (w, false),
            (Some(a), _) => (a, true),
            (None, w) => (w?, false),
        };
        let may_go = slot.pos < lane.visible
            && !self.is_expired(number, &slot, turn.now_ms)
            && !self.is_gated(&slot, turn.now_ms);
        if !may_go || !fits(&slot) {
            return None;
        }
        let slot = if is_aside {
            self.keys.take(hash, number, slot.rank())?
        } else {
            let lane = self.lanes.get_mut(number)?;
            let slot = lane.pop_same(hash)?;
            lane.fill_from_memory(turn.rows);
            slot
        };
        self.ready.sub(slot.bytes);
        Some(slot)
    }

    /// When a message may go out at the earliest, if the queue delays its messages without taking them out of their order; 0 = at once.
    pub(super) fn gate_ms(&self, slot: &Slot) -> u64 {
        let delay_ms = self.policy().delay_ms;
        if self.policy().ordering != Ordering::ByKey
            || delay_ms == 0
            || slot.due_ms > 0
            || slot.deliveries > 0
        {
            return 0;
        }
        slot.enqueued_ms.saturating_add(delay_ms)
    }

    pub(super) fn is_gated(&self, slot: &Slot, now_ms: u64) -> bool {
        self.gate_ms(slot) > now_ms
    }

    /// Asks for messages of keys that have to be read.
    pub(super) fn read_keys(&mut self, turn: &Turn<'_>, reads: &mut Vec<ReadWindow>, token: &mut u64) {
        if self.policy().ordering == Ordering::None {
            return;
        }
        let queue = self.id();
        let Self { lanes, keys, .. } = self;
        for number in lanes.keys() {
            keys.want_first(*number);
        }
        let met = |number| lanes.get(number).map_or(0, Lane::met);
        while let Some((number, from, end)) = keys.next_read(*token + 1, met) {
            *token += 1;
            let log = millstream_types::LogId::new(queue, number);
            let max_entries = turn.sizes.window;
            reads.push(ReadWindow { queue, lane: number, log, from, end, max_entries, token: *token });
        }
    }
}
