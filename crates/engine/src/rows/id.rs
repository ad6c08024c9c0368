//! Counters that give ids, family [`ID`](super::family::ID).
//!
//! Key: `which u8` (1 = objects, 2 = producers). Value, version 1: `version u8 · next u64`. Effect, version 1: the same bytes: the
//! counter afterwards. A counter that was never written stands at 1 for objects and 0 for producers.

use millstream_types::Lsn;

use super::{KeyDec, RowKey, RowValue, family};
use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::table::Table;

const VERSION: u8 = 1;

/// Which counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Counter {
    /// Counters of [`millstream_types::ObjectId`], of all kinds.
    Objects = 1,
    /// Producer ids.
    Producers = 2,
}

impl RowKey for Counter {
    const FAMILY: u8 = family::ID;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let which = match d.u8()? {
            1 => Self::Objects,
            2 => Self::Producers,
            _ => return Err(DecodeError::Value { what: "counter" }),
        };
        d.end()?;
        Ok(which)
    }
}

/// The next id of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextId(pub u64);

impl RowValue for NextId {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.u64(self.0);
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let next = d.u64()?;
        d.end()?;
        Ok(Self(next))
    }
}

/// The counters. Taking ids is: read [`Ids::next`], put [`Ids::effect`] of what comes after them into the record that uses them.
pub type Ids = Table<Counter, NextId>;

impl Ids {
    /// The next id that was not given yet.
    #[must_use]
    pub fn next(&self, which: Counter) -> u64 {
        let first = match which {
            Counter::Objects => 1,
            Counter::Producers => 0,
        };
        self.get(&which).map_or(first, |n| n.0)
    }

    /// The effect after which `next` is the next id.
    #[must_use]
    pub fn effect(which: Counter, next: u64) -> RowEffect {
        let mut bytes = Vec::with_capacity(9);
        NextId(next).put(&mut bytes);
        RowEffect::new(which.encode(), bytes)
    }

    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let (key, next) = (Counter::decode(key)?, NextId::take(bytes)?);
        self.apply(lsn, &key, |row| *row = Some(next));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_counter_comes_back_as_it_was_written(next: u64) {
            let mut bytes = Vec::new();
            NextId(next).put(&mut bytes);
            prop_assert_eq!(NextId::take(&bytes).unwrap(), NextId(next));
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (NextId::take(&bytes), Counter::decode(&bytes));
        }
    }

    #[test]
    fn keys_come_back_and_keep_their_order() {
        let (a, b) = (Counter::Objects.encode(), Counter::Producers.encode());
        assert!(a < b);
        assert_eq!(
            (Counter::decode(&a).unwrap(), Counter::decode(&b).unwrap()),
            (Counter::Objects, Counter::Producers)
        );
    }
}
