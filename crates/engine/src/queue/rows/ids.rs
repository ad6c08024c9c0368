//! Ids of messages that were published lately, so that a message which comes again is recognised: family [`IDS`](family::IDS).
//!
//! Key: `queue u64 · minute u64 · n u32`: the n-th row of a minute. Value, version 1: `version u8 · ids u32 × (hash 16 B · lane u16 · pos u64 ·
//! ms in the minute u16)`, as they came. Changed by the deletion of the queue's logs, and by the effect, version 1: `version u8 · what u8`,
//! then: 0 = the row goes; 1 = these come: `ms in the minute u16 · ids u32 × (hash 16 B · lane u16 · pos u64)`.

use millstream_types::{Lsn, ObjectId};

use super::due::MINUTE_MS;
use crate::codec::{Dec, DecodeError, Enc};
use crate::rows::{KeyDec, RowKey, RowValue, family};
use crate::table::Table;

const VERSION: u8 = 1;
const EFFECT_VERSION: u8 = 1;
const GONE: u8 = 0;
const CAME: u8 = 1;
const ENTRY_BYTES: usize = 28;
/// Ids of a row, after which another one is begun.
pub const ROW_IDS: usize = 512;

/// The key of some ids of a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdsKey {
    /// The queue.
    pub queue: ObjectId,
    /// Minutes since the epoch.
    pub minute: u64,
    /// Which of the minute's.
    pub n: u32,
}

impl IdsKey {
    /// When the minute is over, milliseconds since the epoch.
    #[must_use]
    pub fn end_ms(&self) -> u64 {
        self.minute.saturating_add(1).saturating_mul(MINUTE_MS)
    }
}

impl RowKey for IdsKey {
    const FAMILY: u8 = family::IDS;
    fn is_transient(&self) -> bool {
        self.queue.is_transient()
    }
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.queue.0.to_be_bytes());
        out.extend_from_slice(&self.minute.to_be_bytes());
        out.extend_from_slice(&self.n.to_be_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let key = Self { queue: ObjectId(d.u64()?), minute: d.u64()?, n: d.u32()? };
        d.end()?;
        Ok(key)
    }
}

/// An id, and where the message is that had it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdEntry {
    /// Keyed hash of the id.
    pub hash: u128,
    /// Position of the message.
    pub pos: u64,
    /// Its lane.
    pub lane: u16,
    /// When it came: milliseconds into the row's minute.
    pub ms: u16,
}

/// Some ids of a minute, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdsRow {
    /// The ids.
    pub entries: Vec<IdEntry>,
}

fn hash(d: &mut Dec<'_>) -> Result<u128, DecodeError> {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(d.bytes(16)?);
    Ok(u128::from_le_bytes(bytes))
}

impl RowValue for IdsRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.len_u32(self.entries.len());
        for e in &self.entries {
            out.extend_from_slice(&e.hash.to_le_bytes());
            out.u16(e.lane);
            out.u64(e.pos);
            out.u16(e.ms);
        }
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let entry =
            |d: &mut Dec<'_>| Ok(IdEntry { hash: hash(d)?, lane: d.u16()?, pos: d.u64()?, ms: d.u16()? });
        let entries = (0..d.len(ENTRY_BYTES)?).map(|_| entry(&mut d)).collect::<Result<_, _>>()?;
        d.end()?;
        Ok(Self { entries })
    }
}

/// The effect by which ids come: all at the same time.
pub(crate) fn put_came(out: &mut Vec<u8>, ms: u16, ids: impl ExactSizeIterator<Item = (u128, u16, u64)>) {
    out.u8(EFFECT_VERSION);
    out.u8(CAME);
    out.u16(ms);
    out.len_u32(ids.len());
    for (hash, lane, pos) in ids {
        out.extend_from_slice(&hash.to_le_bytes());
        out.u16(lane);
        out.u64(pos);
    }
}

/// The effect by which a row goes.
pub(crate) fn put_gone(out: &mut Vec<u8>) {
    out.u8(EFFECT_VERSION);
    out.u8(GONE);
}

impl Table<IdsKey, IdsRow> {
    /// The rows of a queue, oldest minute first.
    pub fn of(&self, queue: ObjectId) -> impl Iterator<Item = (&IdsKey, &IdsRow)> {
        let from = IdsKey { queue, minute: 0, n: 0 };
        self.range(from..=IdsKey { queue, minute: u64::MAX, n: u32::MAX })
    }

    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = IdsKey::decode(key)?;
        let mut d = Dec::new(bytes);
        d.version(EFFECT_VERSION)?;
        match d.u8()? {
            GONE => {
                d.end()?;
                self.apply(lsn, &key, |row| *row = None);
            }
            CAME => {
                let ms = d.u16()?;
                let entry =
                    |d: &mut Dec<'_>| Ok(IdEntry { hash: hash(d)?, lane: d.u16()?, pos: d.u64()?, ms });
                let n = d.len(ENTRY_BYTES - 2)?;
                let came = (0..n).map(|_| entry(&mut d)).collect::<Result<Vec<_>, _>>()?;
                d.end()?;
                self.apply(lsn, &key, |row| row.get_or_insert_default().entries.extend(came));
            }
            _ => return Err(DecodeError::Value { what: "effect on ids" }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::table::Dirty;

    prop_compose! {
        fn entry()(hash: u128, pos: u64, lane: u16, ms: u16) -> IdEntry {
            IdEntry { hash, pos, lane, ms }
        }
    }

    proptest! {
        #[test]
        fn ids_come_back_as_they_were_written(entries in vec(entry(), 0..9)) {
            let mut bytes = Vec::new();
            let row = IdsRow { entries };
            row.put(&mut bytes);
            prop_assert_eq!(IdsRow::take(&bytes).unwrap(), row);
        }
        #[test]
        fn keys_come_back_and_keep_their_order(a: (u64, u64, u32), b: (u64, u64, u32)) {
            let key = |(queue, minute, n)| IdsKey { queue: ObjectId(queue), minute, n };
            prop_assert_eq!(IdsKey::decode(&key(a).encode()).unwrap(), key(a));
            prop_assert_eq!(key(a).encode().cmp(&key(b).encode()), a.cmp(&b));
        }
        #[test]
        fn what_comes_is_added_and_a_row_goes_whole(a in vec(entry(), 1..5), b in vec(entry(), 1..5), ms: u16) {
            let key = IdsKey { queue: ObjectId(1), minute: 2, n: 3 };
            let mut t = Table::<IdsKey, IdsRow>::default();
            for (lsn, came) in [(1, &a), (2, &b)] {
                let mut bytes = Vec::new();
                put_came(&mut bytes, ms, came.iter().map(|e| (e.hash, e.lane, e.pos)));
                t.apply_effect(Lsn(lsn), &key.encode(), &bytes).unwrap();
                t.record_end(Lsn(lsn));
            }
            let all: Vec<IdEntry> = a.iter().chain(&b).map(|e| IdEntry { ms, ..*e }).collect();
            prop_assert_eq!(&t.get(&key).unwrap().entries, &all);
            let mut bytes = Vec::new();
            put_gone(&mut bytes);
            t.apply_effect(Lsn(3), &key.encode(), &bytes).unwrap();
            prop_assert_eq!(t.get(&key), None);
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (IdsRow::take(&bytes), IdsKey::decode(&bytes));
            let key = IdsKey { queue: ObjectId(1), minute: 2, n: 3 };
            let _ = Table::<IdsKey, IdsRow>::default().apply_effect(Lsn(1), &key.encode(), &bytes);
        }
    }

    /// The bytes of version 1, which later programs must read.
    #[test]
    fn version_one_is_these_bytes() {
        let key = IdsKey { queue: ObjectId(1), minute: 2, n: 3 };
        assert_eq!(key.encode(), [0x33, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]);
        let entries = vec![IdEntry { hash: 0x0102, pos: 5, lane: 4, ms: 6 }];
        let mut golden = vec![1, 1, 0, 0, 0, 2, 1];
        golden.extend([0; 14]);
        golden.extend([4, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0]);
        let row = IdsRow { entries };
        let mut bytes = Vec::new();
        row.put(&mut bytes);
        assert_eq!(bytes, golden);
        assert_eq!(IdsRow::take(&golden).unwrap(), row);
        let mut came = Vec::new();
        put_came(&mut came, 6, [(0x0102, 4, 5)].into_iter());
        let mut golden = vec![1, 1, 6, 0, 1, 0, 0, 0, 2, 1];
        golden.extend([0; 14]);
        golden.extend([4, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(came, golden);
    }
}
