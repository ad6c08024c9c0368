//! Heads of queues, family [`HEAD`](family::HEAD).
//!
//! Key: `queue u64`. Value, version 1: `version u8 · flags u8 (1 = riding) · purge_no u32 · lanes u32 · lanes × (lane u16, next u64,
//! floor u64, purged_to u64, mark_below u64, appended bytes u64, settled u64, settled bytes u64)`; version 2, of a subscription that did not
//! hand out all: then `lost u64 · skipped u64 · unreadable u64`. A lane of a subscription has no `next` of its own: the partition has it. Below
//! where the subscription began all counts as purged. Changed by appends (`next` and the
//! bytes appended), by the deletion of the queue's logs (the row goes) and by the effect, version 1: `version u8` and items, each with a
//! number in front:
//! 1 `lane u16 · floor u64 · n u32 · bytes u64`: so many more are settled; the floor is at least this;
//! 2 `purge_no u32 · lane u16 · purged_to u64 · n u64 · bytes u64`: so many more are settled; below `purged_to` all are but those
//!   that a chunk of this purge keeps;
//! 3: a consumer rode on this queue: deliveries may have gone out whose leases were lost;
//! 4 `lane u16 · below u64`: what lies below is marked as redelivered;
//! 5 `lane u16 · floor u64 · n u64 · bytes u64`: as 1, and retention took so many of a subscription;
//! 6 `lane u16 · floor u64 · skipped u64 · unreadable u64`: as 1, of records that a subscription does not hand out.
//! A queue that was never written has no row.

use millstream_log::EntryHead;
use millstream_types::{Lsn, ObjectId};

use crate::attrs::SingleAttrs;
use crate::codec::{Dec, DecodeError, Enc};
use crate::queue::api::TopicCounts;
use crate::queue::lanes::Lanes;
use crate::rows::{KeyDec, RowKey, RowValue, family};
use crate::table::Table;

const VERSION: u8 = 1;
/// With what a subscription did not hand out.
const VERSION_TOPIC: u8 = 2;
pub(crate) const EFFECT_VERSION: u8 = 1;
const SETTLED: u8 = 1;
const PURGED: u8 = 2;
const RIDING: u8 = 3;
const MARK: u8 = 4;
const LOST: u8 = 5;
const SKIPPED: u8 = 6;
const FLAG_RIDING: u8 = 1;

/// The key of a queue's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeadKey(pub ObjectId);

impl RowKey for HeadKey {
    const FAMILY: u8 = family::HEAD;
    fn is_transient(&self) -> bool {
        self.0.is_transient()
    }
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.0.to_be_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let id = ObjectId(d.u64()?);
        d.end()?;
        Ok(Self(id))
    }
}

/// A queue's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Grows with each purge.
    pub purge_no: u32,
    /// A consumer took deliveries before their leases were durable.
    pub riding: bool,
    /// Lanes in use.
    pub lanes: Lanes<LaneHead>,
    /// What a subscription did not hand out.
    pub topic: TopicCounts,
}

/// One lane of a queue's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneHead {
    /// The next position to be given; as many messages were appended.
    pub next: u64,
    /// Everything below is settled.
    pub floor: u64,
    /// Everything below is settled, but what a chunk of the last purge keeps.
    pub purged_to: u64,
    /// What lies below may have been delivered.
    pub mark_below: u64,
    /// Payload bytes appended.
    pub appended_bytes: u64,
    /// Messages settled.
    pub settled: u64,
    /// Payload bytes settled.
    pub settled_bytes: u64,
}

impl RowValue for Head {
    fn put(&self, out: &mut Vec<u8>) {
        let topic = self.topic != TopicCounts::default();
        out.u8(if topic { VERSION_TOPIC } else { VERSION });
        out.u8(if self.riding { FLAG_RIDING } else { 0 });
        out.u32(self.purge_no);
        out.len_u32(self.lanes.len());
        for (lane, l) in self.lanes.iter() {
            out.u16(*lane);
            for v in
                [l.next, l.floor, l.purged_to, l.mark_below, l.appended_bytes, l.settled, l.settled_bytes]
            {
                out.u64(v);
            }
        }
        if topic {
            let TopicCounts { lost, skipped, unreadable } = self.topic;
            for v in [lost, skipped, unreadable] {
                out.u64(v);
            }
        }
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        let version = d.version(VERSION_TOPIC)?;
        let flags = d.u8()?;
        if flags & !FLAG_RIDING != 0 {
            return Err(DecodeError::Value { what: "head flags" });
        }
        let purge_no = d.u32()?;
        let mut lanes = Lanes::default();
        for _ in 0..d.len(58)? {
            let lane = d.u16()?;
            let l = LaneHead {
                next: d.u64()?,
                floor: d.u64()?,
                purged_to: d.u64()?,
                mark_below: d.u64()?,
                appended_bytes: d.u64()?,
                settled: d.u64()?,
                settled_bytes: d.u64()?,
            };
            lanes.insert(lane, l);
        }
        let topic = if version == VERSION_TOPIC {
            TopicCounts { lost: d.u64()?, skipped: d.u64()?, unreadable: d.u64()? }
        } else {
            TopicCounts::default()
        };
        d.end()?;
        Ok(Self { purge_no, riding: flags & FLAG_RIDING != 0, lanes, topic })
    }
}

/// Item 1.
pub(crate) fn put_settled(out: &mut Vec<u8>, lane: u16, floor: u64, n: u32, bytes: u64) {
    out.u8(SETTLED);
    out.u16(lane);
    out.u64(floor);
    out.u32(n);
    out.u64(bytes);
}

/// Item 2.
pub(crate) fn put_purged(out: &mut Vec<u8>, purge_no: u32, lane: u16, purged_to: u64, n: u64, bytes: u64) {
    out.u8(PURGED);
    out.u32(purge_no);
    out.u16(lane);
    for v in [purged_to, n, bytes] {
        out.u64(v);
    }
}

/// Item 3.
pub(crate) fn put_riding(out: &mut Vec<u8>) {
    out.u8(RIDING);
}

/// Item 4.
pub(crate) fn put_mark(out: &mut Vec<u8>, lane: u16, below: u64) {
    out.u8(MARK);
    out.u16(lane);
    out.u64(below);
}

/// Item 5.
pub(crate) fn put_lost(out: &mut Vec<u8>, lane: u16, floor: u64, n: u64, bytes: u64) {
    out.u8(LOST);
    out.u16(lane);
    for v in [floor, n, bytes] {
        out.u64(v);
    }
}

/// Item 6.
pub(crate) fn put_skipped(out: &mut Vec<u8>, lane: u16, floor: u64, skipped: u64, unreadable: u64) {
    out.u8(SKIPPED);
    out.u16(lane);
    for v in [floor, skipped, unreadable] {
        out.u64(v);
    }
}

fn apply_items(head: &mut Head, mut d: Dec<'_>) -> Result<(), DecodeError> {
    while !d.is_empty() {
        match d.u8()? {
            SETTLED => {
                let lane = head.lanes.get_or_default(d.u16()?);
                lane.floor = lane.floor.max(d.u64()?);
                lane.settled = lane.settled.saturating_add(u64::from(d.u32()?));
                lane.settled_bytes = lane.settled_bytes.saturating_add(d.u64()?);
            }
            PURGED => {
                head.purge_no = head.purge_no.max(d.u32()?);
                let lane = head.lanes.get_or_default(d.u16()?);
                lane.purged_to = lane.purged_to.max(d.u64()?);
                lane.settled = lane.settled.saturating_add(d.u64()?);
                lane.settled_bytes = lane.settled_bytes.saturating_add(d.u64()?);
            }
            RIDING => head.riding = true,
            MARK => {
                let lane = head.lanes.get_or_default(d.u16()?);
                lane.mark_below = lane.mark_below.max(d.u64()?);
            }
            LOST => {
                let lane = head.lanes.get_or_default(d.u16()?);
                lane.floor = lane.floor.max(d.u64()?);
                let n = d.u64()?;
                lane.settled = lane.settled.saturating_add(n);
                lane.settled_bytes = lane.settled_bytes.saturating_add(d.u64()?);
                head.topic.lost = head.topic.lost.saturating_add(n);
            }
            SKIPPED => {
                let lane = head.lanes.get_or_default(d.u16()?);
                lane.floor = lane.floor.max(d.u64()?);
                let (skipped, unreadable) = (d.u64()?, d.u64()?);
                lane.settled = lane.settled.saturating_add(skipped).saturating_add(unreadable);
                head.topic.skipped = head.topic.skipped.saturating_add(skipped);
                head.topic.unreadable = head.topic.unreadable.saturating_add(unreadable);
            }
            _ => return Err(DecodeError::Value { what: "head effect" }),
        }
    }
    Ok(())
}

/// Payload bytes of an entry: its body without the envelope.
pub(crate) fn payload_bytes(body_len: u32, envelope_len: u32) -> u32 {
    body_len.saturating_sub(envelope_len)
}

impl Table<HeadKey, Head> {
    /// Applies an append.
    pub fn apply_append(&mut self, lsn: Lsn, e: &EntryHead<'_>, attrs: &SingleAttrs) {
        self.apply(lsn, &HeadKey(e.log.object()), |row| {
            let lane = row.get_or_insert_default().lanes.get_or_default(e.log.lane());
            lane.next = lane.next.max(e.pos.saturating_add(u64::from(e.count)));
            let bytes = payload_bytes(e.body_len, attrs.envelope_len);
            lane.appended_bytes = lane.appended_bytes.saturating_add(u64::from(bytes));
        });
    }

    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = HeadKey::decode(key)?;
        let mut d = Dec::new(bytes);
        d.version(EFFECT_VERSION)?;
        let mut result = Ok(());
        self.apply(lsn, &key, |row| result = apply_items(row.get_or_insert_default(), d));
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn lane()(v in any::<[u64; 7]>()) -> LaneHead {
            let [next, floor, purged_to, mark_below, appended_bytes, settled, settled_bytes] = v;
            LaneHead { next, floor, purged_to, mark_below, appended_bytes, settled, settled_bytes }
        }
    }

    proptest! {
        #[test]
        fn a_head_comes_back_as_it_was_written(purge_no: u32, riding: bool, lanes in btree_map(any::<u16>(), lane(), 0..4), topic in any::<[u64; 3]>()) {
            let [lost, skipped, unreadable] = topic.map(|n| if riding { n } else { 0 });
            let lanes = lanes.into_iter().collect();
            let head = Head { purge_no, riding, lanes, topic: TopicCounts { lost, skipped, unreadable } };
            let mut bytes = Vec::new();
            head.put(&mut bytes);
            prop_assert_eq!(Head::take(&bytes).unwrap(), head);
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (Head::take(&bytes), HeadKey::decode(&bytes), apply_items(&mut Head::default(), Dec::new(&bytes)));
        }
    }

    #[test]
    fn items_add_up() {
        let mut t = Table::<HeadKey, Head>::default();
        let key = HeadKey(ObjectId(7));
        let mut bytes = vec![EFFECT_VERSION];
        put_settled(&mut bytes, 3, 10, 4, 40);
        put_settled(&mut bytes, 3, 8, 1, 5);
        put_purged(&mut bytes, 2, 4, 90, 60, 600);
        put_riding(&mut bytes);
        put_mark(&mut bytes, 3, 12);
        put_lost(&mut bytes, 5, 20, 7, 70);
        put_skipped(&mut bytes, 5, 9, 2, 1);
        t.apply_effect(Lsn(1), &key.encode(), &bytes).unwrap();
        let head = t.get(&key).unwrap();
        assert_eq!((head.purge_no, head.riding), (2, true));
        let three =
            LaneHead { floor: 10, mark_below: 12, settled: 5, settled_bytes: 45, ..LaneHead::default() };
        let four = LaneHead { purged_to: 90, settled: 60, settled_bytes: 600, ..LaneHead::default() };
        let five = LaneHead { floor: 20, settled: 10, settled_bytes: 70, ..LaneHead::default() };
        assert_eq!(head.lanes, [(3, three), (4, four), (5, five)].into_iter().collect());
        assert_eq!(head.topic, TopicCounts { lost: 7, skipped: 2, unreadable: 1 });
    }
}
