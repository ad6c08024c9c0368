//! Messages of a lane that came back or that somebody has, in little memory: there may be millions of them.
//!
//! Start at [`Slots`]. What most messages do not have (a key, an expiry, a time before which they may not go out) is kept apart, so that
//! it takes no room in the others.

use super::blocks::{Blocks, U48, U48_MAX};
use super::lane::{Ahead, Rest, Slot};

/// A slot without its position and without what is rare. It is in no window, so it has no place in a chain either.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    bytes: u32,
    deliveries: u16,
    attempts: u16,
    enqueued_ms: U48,
    flags: u8,
}

const KNOWN: u8 = 1;
const IN_DUE: u8 = 2;
const SEEN: u8 = 4;
/// What is rare of it is kept apart.
const IS_RARE: u8 = 8;

/// What few messages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rare {
    expiry_ms: U48,
    due_ms: U48,
    has_key: bool,
    key_hash: [u8; 8],
}

/// What few messages of a lane have, by position.
#[derive(Debug, Default)]
pub(super) struct Rares(Blocks<Rare>);

impl Rares {
    /// Keeps what is rare of a message, and gives what is not. Whether something is kept of it already, `before` tells.
    pub(super) fn pack(&mut self, slot: &Slot, before: Option<Packed>) -> Packed {
        // The largest stands for none at all: that is never.
        let expiry_ms = if slot.expiry_ms == u64::MAX { U48_MAX } else { slot.expiry_ms.min(U48_MAX - 1) };
        let rare = Rare {
            expiry_ms: U48::of(expiry_ms),
            due_ms: U48::of(slot.due_ms),
            has_key: slot.key_hash.is_some(),
            key_hash: slot.key_hash.unwrap_or(0).to_ne_bytes(),
        };
        let is_rare = expiry_ms != U48_MAX || slot.due_ms != 0 || rare.has_key;
        if is_rare {
            self.0.insert(slot.pos, rare);
        } else if let Some(before) = before {
            self.forget(slot.pos, before);
        }
        let flag = |is, flag| if is { flag } else { 0 };
        Packed {
            bytes: slot.bytes,
            deliveries: slot.deliveries,
            attempts: slot.attempts,
            enqueued_ms: U48::of(slot.enqueued_ms),
            flags: flag(slot.known, KNOWN)
                | flag(slot.in_due, IN_DUE)
                | flag(slot.seen, SEEN)
                | flag(is_rare, IS_RARE),
        }
    }

    /// The message again.
    pub(super) fn whole(&self, pos: u64, packed: Packed) -> Slot {
        let rare = if packed.flags & IS_RARE == 0 { None } else { self.0.get(pos) };
        Slot {
            pos,
            enqueued_ms: packed.enqueued_ms.get(),
            expiry_ms: rare.map_or(u64::MAX, |r| r.expiry_ms.get_or_max()),
            key_hash: rare.filter(|r| r.has_key).map(|r| u64::from_ne_bytes(r.key_hash)),
            due_ms: rare.map_or(0, |r| r.due_ms.get()),
            bytes: packed.bytes,
            deliveries: packed.deliveries,
            attempts: packed.attempts,
            known: packed.flags & KNOWN != 0,
            in_due: packed.flags & IN_DUE != 0,
            seen: packed.flags & SEEN != 0,
            ..Slot::default()
        }
    }

    /// The message is not kept any more.
    pub(super) fn forget(&mut self, pos: u64, packed: Packed) {
        if packed.flags & IS_RARE != 0 {
            self.0.remove(pos);
        }
    }
}

/// Messages of a lane, by position.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    all: Blocks<Packed>,
    rare: Rares,
}

impl Slots {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// The lowest position.
    pub(crate) fn first(&self) -> Option<u64> {
        if self.all.is_empty() { None } else { self.all.first().map(|s| s.0) }
    }
    pub(crate) fn get(&self, pos: u64) -> Option<Slot> {
        self.all.get(pos).map(|s| self.rare.whole(pos, *s))
    }
    pub(crate) fn insert(&mut self, slot: &Slot) {
        let before = self.all.get(slot.pos).copied();
        let packed = self.rare.pack(slot, before);
        self.all.insert(slot.pos, packed);
    }
    pub(crate) fn remove(&mut self, pos: u64) -> Option<Slot> {
        let packed = self.all.remove(pos)?;
        let slot = self.rare.whole(pos, packed);
        self.rare.forget(pos, packed);
        Some(slot)
    }
    /// Takes the first one below a position.
    pub(crate) fn pop_below(&mut self, before: u64) -> Option<Slot> {
        let pos = self.first().filter(|pos| *pos < before)?;
        self.remove(pos)
    }
}

/// Messages of a lane that rest, by position.
#[derive(Debug, Default)]
pub(crate) struct Rests {
    slots: Slots,
    until_ms: Blocks<U48>,
}

impl Rests {
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
    /// Until when a message rests.
    pub(crate) fn until_ms(&self, pos: u64) -> Option<u64> {
        self.until_ms.get(pos).map(|until| until.get())
    }
    pub(crate) fn insert(&mut self, rest: &Rest) {
        self.slots.insert(&rest.slot);
        self.until_ms.insert(rest.slot.pos, U48::of(rest.until_ms));
    }
    pub(crate) fn remove(&mut self, pos: u64) -> Option<Slot> {
        self.until_ms.remove(pos);
        self.slots.remove(pos)
    }
    /// Takes the first one below a position.
    pub(crate) fn pop_below(&mut self, before: u64) -> Option<Slot> {
        let pos = self.slots.first().filter(|pos| *pos < before)?;
        self.remove(pos)
    }
}

/// What is known of a message ahead of the scan, without its key.
#[derive(Clone, Copy, Debug)]
struct PackedAhead {
    bytes: u32,
    deliveries: u16,
    attempts: u16,
    until_ms: U48,
}

/// Messages of a lane of which a row knows something, and of which the attrs were not seen yet, by position.
#[derive(Debug, Default)]
pub(crate) struct Aheads {
    all: Blocks<PackedAhead>,
    keys: Blocks<u64>,
    /// Of these, ready.
    ready: usize,
}

impl Aheads {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// Whether any is ready but for its attrs.
    pub(crate) fn any_ready(&self) -> bool {
        self.ready > 0
    }
    pub(crate) fn get(&self, pos: u64) -> Option<Ahead> {
        let PackedAhead { bytes, deliveries, attempts, until_ms } = *self.all.get(pos)?;
        let key_hash = if self.keys.is_empty() { None } else { self.keys.get(pos).copied() };
        Some(Ahead { deliveries, attempts, bytes, key_hash, until_ms: until_ms.get() })
    }
    pub(crate) fn insert(&mut self, pos: u64, ahead: Ahead) {
        self.remove(pos);
        let Ahead { deliveries, attempts, bytes, key_hash, until_ms } = ahead;
        self.ready += usize::from(until_ms == 0);
        self.all.insert(pos, PackedAhead { bytes, deliveries, attempts, until_ms: U48::of(until_ms) });
        if let Some(hash) = key_hash {
            self.keys.insert(pos, hash);
        }
    }
    pub(crate) fn remove(&mut self, pos: u64) -> Option<Ahead> {
        if self.all.is_empty() {
            return None;
        }
        let ahead = self.get(pos)?;
        self.all.remove(pos);
        if ahead.key_hash.is_some() {
            self.keys.remove(pos);
        }
        self.ready -= usize::from(ahead.until_ms == 0);
        Some(ahead)
    }
    /// The first that is ready.
    pub(crate) fn first_ready(&self) -> Option<u64> {
        let mut all = self.all.iter().filter(|_| self.ready > 0);
        all.find(|(_, a)| a.until_ms.get() == 0).map(|(pos, _)| pos)
    }
    pub(crate) fn last(&self) -> Option<u64> {
        self.all.last().map(|(pos, _)| pos)
    }
    /// Takes the first one of a range.
    pub(crate) fn pop_of(&mut self, from: u64, end: u64) -> Option<Ahead> {
        let pos = self.all.from(from).next().map(|(pos, _)| pos).filter(|pos| *pos < end)?;
        self.remove(pos)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn slot() -> impl Strategy<Value = Slot> {
        let ms = || prop_oneof![3 => Just(0), 1 => 0..U48_MAX];
        let flags = any::<(bool, bool, bool)>();
        let expiry_ms = prop_oneof![3 => Just(u64::MAX), 1 => 0..U48_MAX];
        (0..200_u64, 0..U48_MAX, expiry_ms, ms(), any::<Option<u64>>(), any::<(u32, u16, u16)>(), flags)
            .prop_map(
                |(
                    pos,
                    enqueued_ms,
                    expiry_ms,
                    due_ms,
                    key_hash,
                    (bytes, deliveries, attempts),
                    (known, in_due, seen),
                )| Slot {
                    pos,
                    enqueued_ms,
                    expiry_ms,
                    key_hash,
                    due_ms,
                    bytes,
                    deliveries,
                    attempts,
                    known,
                    in_due,
                    seen,
                    ..Slot::default()
                },
            )
    }

    proptest! {
        #[test]
        fn slots_are_as_a_map_has_them(steps in vec((slot(), any::<bool>()), 0..200), before in 0..250_u64) {
            let (mut slots, mut map) = (Slots::default(), BTreeMap::new());
            for (slot, put) in steps {
                if put {
                    slots.insert(&slot);
                    map.insert(slot.pos, slot);
                } else {
                    prop_assert_eq!(slots.remove(slot.pos), map.remove(&slot.pos));
                }
                prop_assert_eq!(slots.get(slot.pos), map.get(&slot.pos).copied());
                prop_assert_eq!(slots.first(), map.keys().next().copied());
                prop_assert_eq!(slots.is_empty(), map.is_empty());
                let rare = map.values().filter(|s| s.due_ms != 0 || s.expiry_ms != u64::MAX || s.key_hash.is_some());
                prop_assert_eq!(slots.rare.0.iter().count(), rare.count());
            }
            let below: Vec<Slot> = std::iter::from_fn(|| slots.pop_below(before)).collect();
            let after = map.split_off(&before);
            prop_assert!(below.iter().eq(map.values()));
            prop_assert!(after.values().all(|s| slots.remove(s.pos) == Some(*s)) && slots.is_empty());
        }
        #[test]
        fn aheads_are_as_a_map_has_them(steps in vec((slot(), any::<bool>()), 0..200), from in 0..250_u64) {
            let (mut aheads, mut map) = (Aheads::default(), BTreeMap::new());
            for (slot, put) in steps {
                let Slot { pos, deliveries, attempts, bytes, key_hash, due_ms: until_ms, .. } = slot;
                let ahead = Ahead { deliveries, attempts, bytes, key_hash, until_ms };
                if put {
                    aheads.insert(pos, ahead);
                    map.insert(pos, ahead);
                } else {
                    prop_assert_eq!(aheads.remove(pos), map.remove(&pos));
                }
                prop_assert_eq!(aheads.get(pos), map.get(&pos).copied());
                let ready = map.iter().find(|(_, a)| a.until_ms == 0).map(|(pos, _)| *pos);
                prop_assert_eq!((aheads.any_ready(), aheads.first_ready()), (ready.is_some(), ready));
                prop_assert_eq!(aheads.last(), map.keys().next_back().copied());
            }
            let some: Vec<Ahead> = std::iter::from_fn(|| aheads.pop_of(from, from + 20)).collect();
            prop_assert!(some.iter().eq(map.range(from..from + 20).map(|(_, a)| a)));
        }
    }

    #[test]
    fn an_expiry_beyond_all_time_is_one_all_the_same() {
        let mut slots = Slots::default();
        slots.insert(&Slot { expiry_ms: u64::MAX - 1, ..Slot::default() });
        assert_eq!(slots.get(0).map(|s| s.expiry_ms), Some(U48_MAX - 1));
    }

    /// A queue of which millions of messages came back has as many of these.
    #[test]
    fn a_message_takes_16_bytes() {
        assert_eq!((size_of::<Packed>(), size_of::<PackedAhead>()), (16, 16));
    }
}
