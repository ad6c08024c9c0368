//! Messages of a queue that are not ready because somebody has them: consumers, the mover, the parking place.
//!
//! Start at [`Leases`].

use foldhash::HashMap;
use millstream_types::ConnId;

use super::api::{Cause, ConsumerId};
use super::blocks::{Blocks, U48};
use super::lane::Slot;
use super::slots::{Packed, Rares};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A lease without its position.
#[derive(Clone, Copy, Debug)]
struct PackedLease {
    slot: Packed,
    no: u32,
    holder: HolderNo,
    until_ms: U48,
    has: Has,
}

/// Whom a lease counts for, and whether it is owned.
type Holder = (Option<(ConnId, ConsumerId)>, bool);

/// Names one of the holders of a lane's leases.
#[derive(Clone, Copy, Debug)]
struct HolderNo(u32);

/// Who has leases of a lane.
#[derive(Debug, Default)]
struct Holders {
    /// And how many; those with none are free to be used again.
    all: Vec<(Holder, u64)>,
    free: Vec<u32>,
    /// Only ever looked up.
    numbers: HashMap<Holder, u32>,
}

impl Holders {
    /// One more lease is this holder's.
    fn more(&mut self, holder: Holder) -> HolderNo {
        if let Some(no) = self.numbers.get(&holder)
            && let Some(place) = self.all.get_mut(*no as usize)
        {
            place.1 += 1;
            return HolderNo(*no);
        }
        let free = self.free.pop();
        let no = free.unwrap_or_else(|| u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.numbers.insert(holder, no);
        match self.all.get_mut(no as usize) {
            Some(place) => *place = (holder, 1),
            None => self.all.push((holder, 1)),
        }
        HolderNo(no)
    }

    fn get(&self, no: HolderNo) -> Holder {
        self.all.get(no.0 as usize).map_or((None, false), |h| h.0)
    }

    /// A lease of it ended.
    fn less(&mut self, no: HolderNo) {
        let Some((holder, n)) = self.all.get_mut(no.0 as usize) else { return };
        *n -= 1;
        if *n == 0 {
            self.numbers.remove(holder);
            self.free.push(no.0);
        }
    }
}

/// The leases of one lane, by position. Millions may be out, of many messages that are not neighbours.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    all: Blocks<PackedLease>,
    rare: Rares,
    holders: Holders,
}

impl Leases {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    pub(crate) fn has(&self, pos: u64) -> bool {
        self.all.has(pos)
    }
    fn whole(&self, pos: u64, packed: PackedLease) -> Lease {
        let PackedLease { slot, no, holder, until_ms, has } = packed;
        let (holder, owned) = self.holders.get(holder);
        Lease { slot: self.rare.whole(pos, slot), no, has, until_ms: until_ms.get_or_max(), holder, owned }
    }
    pub(crate) fn get(&self, pos: u64) -> Option<Lease> {
        self.all.get(pos).map(|l| self.whole(pos, *l))
    }
    /// In place of the lease of that message, if there is one.
    pub(crate) fn insert(&mut self, lease: &Lease) {
        let Lease { slot, no, has, until_ms, holder, owned } = lease;
        let before = self.all.get(slot.pos).copied();
        let holder = self.holders.more((*holder, *owned));
        let packed = self.rare.pack(slot, before.map(|b| b.slot));
        let (no, until_ms, has) = (*no, U48::of(*until_ms), *has);
        self.all.insert(slot.pos, PackedLease { slot: packed, no, holder, until_ms, has });
        if let Some(before) = before {
            self.holders.less(before.holder);
        }
    }
    pub(crate) fn remove(&mut self, pos: u64) -> Option<Lease> {
        let packed = self.all.remove(pos)?;
        let lease = self.whole(pos, packed);
        self.rare.forget(pos, packed.slot);
        self.holders.less(packed.holder);
        Some(lease)
    }
    /// The lease of a message gets its number. Until when it is.
    pub(crate) fn number(&mut self, pos: u64, no: u32) -> Option<u64> {
        let lease = self.all.get_mut(pos)?;
        lease.no = no;
        Some(lease.until_ms.get_or_max())
    }
    /// The lowest position of any.
    pub(crate) fn first(&self) -> Option<u64> {
        self.all.first().map(|l| l.0)
    }
    /// All of them, ascending by position.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Lease> {
        self.from(0)
    }
    /// Those from a position on.
    pub(crate) fn from(&self, pos: u64) -> impl Iterator<Item = Lease> {
        self.all.from(pos).map(|(pos, l)| self.whole(pos, *l))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn lease() -> impl Strategy<Value = Lease> {
        let has = prop_oneof![
            Just(Has::Consumer),
            Just(Has::Mover(Cause::Length)),
            Just(Has::Parked(Cause::Exhausted))
        ];
        let until_ms = prop_oneof![Just(u64::MAX), 0..1_u64 << 40];
        let holder =
            prop_oneof![Just(None), (0..3_u64, 0..3_u64).prop_map(|(s, c)| Some((ConnId(s), ConsumerId(c))))];
        (0..150_u64, any::<(u32, Option<u64>, bool)>(), has, until_ms, holder).prop_map(
            |(pos, (no, key_hash, owned), has, until_ms, holder)| {
                let slot = Slot { pos, key_hash, bytes: no / 2, expiry_ms: u64::MAX, ..Slot::default() };
                Lease { slot, no, has, until_ms, holder, owned }
            },
        )
    }

    proptest! {
        #[test]
        fn leases_are_as_a_map_has_them(steps in vec((lease(), 0..4_u8), 0..300)) {
            let (mut leases, mut map) = (Leases::default(), BTreeMap::<u64, Lease>::new());
            for (lease, what) in steps {
                let pos = lease.slot.pos;
                match what {
                    0 => prop_assert_eq!(leases.remove(pos), map.remove(&pos)),
                    1 => {
                        let of_map = map.get_mut(&pos).map(|l| {
                            l.no = lease.no;
                            l.until_ms
                        });
                        prop_assert_eq!(leases.number(pos, lease.no), of_map);
                    }
                    _ => {
                        leases.insert(&lease);
                        map.insert(pos, lease);
                    }
                }
                prop_assert_eq!((leases.get(pos), leases.has(pos)), (map.get(&pos).copied(), map.contains_key(&pos)));
                prop_assert_eq!(leases.is_empty(), map.is_empty());
                let counted: u64 = leases.holders.all.iter().map(|h| h.1).sum();
                prop_assert_eq!(counted, map.len() as u64);
                let some = leases.holders.all.iter().filter(|h| h.1 > 0).count();
                prop_assert_eq!((leases.holders.numbers.len(), leases.holders.all.len() - leases.holders.free.len()), (some, some));
            }
            prop_assert!(leases.iter().eq(map.values().copied()));
            prop_assert!(leases.from(70).eq(map.range(70..).map(|(_, l)| *l)));
        }
    }

    /// A queue of which millions of messages are at consumers has as many of these.
    #[test]
    fn a_lease_takes_32_bytes() {
        assert_eq!(size_of::<PackedLease>(), 32);
    }
}
