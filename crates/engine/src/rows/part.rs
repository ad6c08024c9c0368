//! Partitions, family [`PART`](super::family::PART).
//!
//! Key: `log u64`. Value, version 1: `version u8 · next u64 · start u64 · epochs u32 · epochs × (leader epoch u32, first offset u64)`.
//! Changed by appends (`next`), trims (`start`, and the epochs that end below it go), deletion, and the effect, version 1:
//! `version u8 · 1 u8 · leader epoch u32 · first offset u64`: offsets from there on belong to that epoch. A partition that was never
//! written has no row: it is empty and begins at 0.

use millstream_types::{LogId, Lsn};

use super::{KeyDec, RowKey, RowValue, family};
use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::table::Table;

const VERSION: u8 = 1;
const EFFECT_VERSION: u8 = 1;
const EPOCH: u8 = 1;

impl RowKey for LogId {
    const FAMILY: u8 = family::PART;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let log = Self(d.u64()?);
        d.end()?;
        Ok(log)
    }
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartRow {
    /// The next offset to be given.
    pub next: u64,
    /// The first that is retained.
    pub start: u64,
    /// (leader epoch, its first offset), ascending in both.
    pub epochs: Vec<(u32, u64)>,
}

impl PartRow {
    /// The newest leader epoch that wrote here.
    #[must_use]
    pub fn last_epoch(&self) -> Option<u32> {
        self.epochs.last().map(|e| e.0)
    }

    fn append(&mut self, pos: u64, count: u32) {
        self.next = self.next.max(pos.saturating_add(u64::from(count)));
    }

    fn trim(&mut self, before: u64) {
        self.start = self.start.max(before);
        self.next = self.next.max(before);
        trim_epochs(&mut self.epochs, self.start);
    }

    fn epoch(&mut self, epoch: u32, first: u64) {
        if self.last_epoch().is_none_or(|e| e < epoch) {
            self.epochs.push((epoch, first));
        }
    }
}

/// Removes the epochs that end at or below `start`.
pub fn trim_epochs(epochs: &mut Vec<(u32, u64)>, start: u64) {
    let past = epochs.iter().skip(1).take_while(|e| e.1 <= start).count();
    epochs.drain(..past);
}

impl RowValue for PartRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.u64(self.next);
        out.u64(self.start);
        out.len_u32(self.epochs.len());
        for (epoch, first) in &self.epochs {
            out.u32(*epoch);
            out.u64(*first);
        }
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let (next, start) = (d.u64()?, d.u64()?);
        let n = d.len(12)?;
        let mut epochs = Vec::with_capacity(n);
        for _ in 0..n {
            epochs.push((d.u32()?, d.u64()?));
        }
        d.end()?;
        Ok(Self { next, start, epochs })
    }
}

/// The effect that begins a leader epoch at `first`.
#[must_use]
pub fn epoch_effect(log: LogId, epoch: u32, first: u64) -> RowEffect {
    let mut bytes = Vec::with_capacity(14);
    bytes.u8(EFFECT_VERSION);
    bytes.u8(EPOCH);
    bytes.u32(epoch);
    bytes.u64(first);
    RowEffect::new(log.encode(), bytes)
}

impl Table<LogId, PartRow> {
    /// Applies an append.
    pub fn apply_append(&mut self, lsn: Lsn, log: LogId, pos: u64, count: u32) {
        self.apply(lsn, &log, |row| row.get_or_insert_default().append(pos, count));
    }
    /// Applies a trim.
    pub fn apply_trim(&mut self, lsn: Lsn, log: LogId, before: u64) {
        self.apply(lsn, &log, |row| row.get_or_insert_default().trim(before));
    }
    /// Applies the deletion of the log.
    pub fn apply_delete(&mut self, lsn: Lsn, log: LogId) {
        self.apply(lsn, &log, |row| *row = None);
    }
    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let log = LogId::decode(key)?;
        let mut d = Dec::new(bytes);
        d.version(EFFECT_VERSION)?;
        if d.u8()? != EPOCH {
            return Err(DecodeError::Value { what: "partition effect" });
        }
        let (epoch, first) = (d.u32()?, d.u64()?);
        d.end()?;
        self.apply(lsn, &log, |row| row.get_or_insert_default().epoch(epoch, first));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_partition_comes_back_as_it_was_written(next: u64, start: u64, epochs in vec((any::<u32>(), any::<u64>()), 0..5)) {
            let row = PartRow { next, start, epochs };
            let mut bytes = Vec::new();
            row.put(&mut bytes);
            prop_assert_eq!(PartRow::take(&bytes).unwrap(), row);
        }
        #[test]
        fn keys_come_back_and_keep_their_order(a: u64, b: u64) {
            prop_assert_eq!(LogId::decode(&LogId(a).encode()).unwrap(), LogId(a));
            prop_assert_eq!(LogId(a).encode().cmp(&LogId(b).encode()), a.cmp(&b));
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (PartRow::take(&bytes), LogId::decode(&bytes));
        }
    }

    #[test]
    fn a_trim_drops_the_epochs_that_end_below_the_start() {
        let mut row = PartRow { next: 100, start: 0, epochs: vec![(1, 0), (3, 10), (4, 50)] };
        row.trim(9);
        assert_eq!(row.epochs, [(1, 0), (3, 10), (4, 50)]);
        row.trim(10);
        assert_eq!(row.epochs, [(3, 10), (4, 50)]);
        row.trim(100);
        assert_eq!(row.epochs, [(4, 50)]);
    }

    #[test]
    fn an_epoch_begins_once() {
        let mut t = Table::<LogId, PartRow>::default();
        for (lsn, epoch, first) in [(1, 2, 0), (2, 2, 7), (3, 5, 9)] {
            let e = epoch_effect(LogId(8), epoch, first);
            t.apply_effect(Lsn(lsn), &e.key, &e.bytes).unwrap();
        }
        assert_eq!(t.get(&LogId(8)).unwrap().epochs, [(2, 0), (5, 9)]);
    }
}
