//! Producers of a partition, family [`PROD`](super::family::PROD).
//!
//! Key: `log u64 · producer u64`. Value, version 1: `version u8 · epoch i16 · last_ms u64 · batches u8 (at most 5) · batches ×
//! (first_seq i32, last_seq i32, base offset u64)`, oldest first. Changed by appends of kind 2, which say all that is needed; by the
//! deletion of the log; and by the effect, version 1: `version u8 · 0 u8`: forgotten after it was idle for long.

use millstream_types::{LogId, Lsn};

use super::{KeyDec, RowKey, RowValue, family};
use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::op::BatchMeta;
use crate::table::Table;

const VERSION: u8 = 1;
const EFFECT_VERSION: u8 = 1;
const FORGOTTEN: u8 = 0;
/// Batches of a producer that are recognised when they come again.
pub const BATCHES_KEPT: usize = 5;

/// A producer at a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProdKey {
    /// The partition's log.
    pub log: LogId,
    /// The producer id.
    pub producer: u64,
}

impl RowKey for ProdKey {
    const FAMILY: u8 = family::PROD;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.log.0.to_be_bytes());
        out.extend_from_slice(&self.producer.to_be_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let key = Self { log: LogId(d.u64()?), producer: d.u64()? };
        d.end()?;
        Ok(key)
    }
}

/// A batch that is recognised when it comes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Sequence number of its first record.
    pub first_seq: i32,
    /// Of its last.
    pub last_seq: i32,
    /// Its first offset.
    pub base: u64,
}

/// What a partition knows of a producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProdRow {
    /// The newest epoch seen.
    pub epoch: i16,
    /// When it last appended, milliseconds since the epoch.
    pub last_ms: u64,
    seen: [Seen; BATCHES_KEPT],
    len: u8,
}

impl ProdRow {
    /// The last batches, oldest first, at most [`BATCHES_KEPT`].
    #[must_use]
    pub fn batches(&self) -> &[Seen] {
        self.seen.get(..usize::from(self.len)).unwrap_or(&self.seen)
    }

    /// The newest batch.
    #[must_use]
    pub fn last(&self) -> Option<&Seen> {
        self.batches().last()
    }

    /// A batch was appended at `base`. A batch of another epoch than the last begins anew.
    pub fn appended(&mut self, base: u64, a: &BatchMeta, append_ms: u64) {
        if a.epoch != self.epoch {
            self.epoch = a.epoch;
            self.len = 0;
        }
        self.last_ms = append_ms;
        self.push(Seen { first_seq: a.first_seq, last_seq: a.last_seq(), base });
    }

    fn push(&mut self, seen: Seen) {
        if usize::from(self.len) == BATCHES_KEPT {
            self.seen.rotate_left(1);
            self.len -= 1;
        }
        if let Some(slot) = self.seen.get_mut(usize::from(self.len)) {
            *slot = seen;
            self.len += 1;
        }
    }
}

impl RowValue for ProdRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.i16(self.epoch);
        out.u64(self.last_ms);
        out.u8(self.len);
        for s in self.batches() {
            out.i32(s.first_seq);
            out.i32(s.last_seq);
            out.u64(s.base);
        }
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let mut row = Self { epoch: d.i16()?, last_ms: d.u64()?, ..Self::default() };
        let n = d.u8()?;
        if usize::from(n) > BATCHES_KEPT {
            return Err(DecodeError::Value { what: "number of batches" });
        }
        for _ in 0..n {
            row.push(Seen { first_seq: d.i32()?, last_seq: d.i32()?, base: d.u64()? });
        }
        d.end()?;
        Ok(row)
    }
}

/// The effect that forgets a producer.
#[must_use]
pub fn forget_effect(key: ProdKey) -> RowEffect {
    RowEffect::new(key.encode(), vec![EFFECT_VERSION, FORGOTTEN])
}

impl Table<ProdKey, ProdRow> {
    /// The producers of a partition, ascending by id.
    pub fn of(&self, log: LogId) -> impl Iterator<Item = (&ProdKey, &ProdRow)> {
        self.range(ProdKey { log, producer: 0 }..=ProdKey { log, producer: u64::MAX })
    }

    /// Applies an append of kind 2.
    pub fn apply_append(&mut self, lsn: Lsn, log: LogId, pos: u64, a: &BatchMeta, append_ms: u64) {
        if let Ok(producer) = u64::try_from(a.producer) {
            self.apply(lsn, &ProdKey { log, producer }, |row| {
                row.get_or_insert_default().appended(pos, a, append_ms);
            });
        }
    }

    /// Applies the deletion of the log: its producers are gone with it.
    pub fn apply_delete(&mut self, lsn: Lsn, log: LogId) {
        let keys: Vec<ProdKey> = self.of(log).map(|(k, _)| *k).collect();
        for key in keys {
            self.apply(lsn, &key, |row| *row = None);
        }
    }

    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = ProdKey::decode(key)?;
        let mut d = Dec::new(bytes);
        d.version(EFFECT_VERSION)?;
        if d.u8()? != FORGOTTEN {
            return Err(DecodeError::Value { what: "producer effect" });
        }
        d.end()?;
        self.apply(lsn, &key, |row| *row = None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn seen() -> impl Strategy<Value = Seen> {
        (any::<i32>(), any::<i32>(), any::<u64>()).prop_map(|(first_seq, last_seq, base)| Seen {
            first_seq,
            last_seq,
            base,
        })
    }

    proptest! {
        #[test]
        fn a_producer_comes_back_as_it_was_written(epoch: i16, last_ms: u64, batches in vec(seen(), 0..9)) {
            let mut row = ProdRow { epoch, last_ms, ..ProdRow::default() };
            for b in &batches {
                row.push(*b);
            }
            prop_assert_eq!(row.batches(), &batches[batches.len().saturating_sub(BATCHES_KEPT)..]);
            let mut bytes = Vec::new();
            row.put(&mut bytes);
            let back = ProdRow::take(&bytes).unwrap();
            prop_assert_eq!((back.epoch, back.last_ms, back.batches()), (row.epoch, row.last_ms, row.batches()));
        }
        #[test]
        fn keys_come_back_and_keep_their_order(a: (u64, u64), b: (u64, u64)) {
            let key = |(log, producer)| ProdKey { log: LogId(log), producer };
            prop_assert_eq!(ProdKey::decode(&key(a).encode()).unwrap(), key(a));
            prop_assert_eq!(key(a).encode().cmp(&key(b).encode()), a.cmp(&b));
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (ProdRow::take(&bytes), ProdKey::decode(&bytes));
        }
    }
}
