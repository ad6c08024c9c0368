//! Which of a chunk's 4,096 positions are settled.
//!
//! Bytes: `runs u8` (0 to [`RUNS_MAX`]) and `runs × (first u16, last u16)`, ascending; or 255 and 512 bytes of bits. At most 513 bytes.
//! Start at [`Settled`].

use crate::codec::{Dec, DecodeError, Enc};

/// Positions of a chunk.
pub const CHUNK: u64 = 4_096;
/// More runs than this are kept as bits.
const RUNS_MAX: usize = 64;
const AS_BITS: u8 = 255;
const WORDS: usize = 64;

/// A set of offsets below [`CHUNK`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// (first, last), ascending, apart by one at least.
    Runs(Vec<(u16, u16)>),
    /// A bit each.
    Bits(Box<[u64; WORDS]>),
}

impl Default for Settled {
    fn default() -> Self {
        Self::Runs(Vec::new())
    }
}

/// Bits `from..=to` of one word.
fn mask(from: u16, to: u16) -> u64 {
    (u64::MAX << from) & (u64::MAX >> (63 - to))
}

impl Settled {
    /// Whether an offset is in it.
    #[must_use]
    pub fn has(&self, off: u16) -> bool {
        match self {
            Self::Runs(runs) => {
                let i = runs.partition_point(|r| r.1 < off);
                runs.get(i).is_some_and(|r| r.0 <= off)
            }
            Self::Bits(words) => words.get(usize::from(off / 64)).is_some_and(|w| w & (1 << (off % 64)) != 0),
        }
    }

    /// The first offset at or past `off` that is not in it; 4,096 if all are.
    #[must_use]
    pub fn first_out(&self, off: u16) -> u16 {
        match self {
            Self::Runs(runs) => {
                let i = runs.partition_point(|r| r.1 < off);
                runs.get(i).filter(|r| r.0 <= off).map_or(off, |r| r.1 + 1)
            }
            Self::Bits(words) => {
                let mut at = off;
                while let Some(word) = words.get(usize::from(at / 64)) {
                    let out = !word & (u64::MAX << (at % 64));
                    if out != 0 {
                        return at / 64 * 64 + low_bit(out);
                    }
                    at = (at / 64 + 1) * 64;
                }
                at
            }
        }
    }

    /// Its runs (first, last), ascending.
    pub fn runs(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let mut at = 0_u16;
        std::iter::from_fn(move || {
            let first = self.first_in(at)?;
            let end = self.first_out(first);
            at = end;
            Some((first, end - 1))
        })
    }

    fn first_in(&self, off: u16) -> Option<u16> {
        match self {
            Self::Runs(runs) => {
                let i = runs.partition_point(|r| r.1 < off);
                runs.get(i).map(|r| r.0.max(off))
            }
            Self::Bits(words) => {
                let mut at = off;
                while let Some(word) = words.get(usize::from(at / 64)) {
                    let found = word & (u64::MAX << (at % 64));
                    if found != 0 {
                        return Some(at / 64 * 64 + low_bit(found));
                    }
                    at = (at / 64 + 1) * 64;
                }
                None
            }
        }
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> u32 {
        match self {
            Self::Runs(runs) => runs.iter().map(|r| u32::from(r.1 - r.0) + 1).sum(),
            Self::Bits(words) => words.iter().map(|w| w.count_ones()).sum(),
        }
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `first..=last`, both below [`CHUNK`].
    pub fn add(&mut self, first: u16, last: u16) {
        if let Self::Runs(runs) = self {
            // Runs that touch the new one become part of it.
            let from = runs.partition_point(|r| r.1 + 1 < first);
            let to = runs.partition_point(|r| r.0 <= last.saturating_add(1));
            let low = runs.get(from).filter(|_| from < to).map_or(first, |r| r.0.min(first));
            let high = to.checked_sub(1).filter(|i| *i >= from).and_then(|i| runs.get(i));
            let high = high.map_or(last, |r| r.1.max(last));
            runs.splice(from..to, [(low, high)]);
            if runs.len() <= RUNS_MAX {
                return;
            }
            let mut words = Box::new([0; WORDS]);
            for &(a, b) in &*runs {
                set_bits(&mut words, a, b);
            }
            *self = Self::Bits(words);
        } else if let Self::Bits(words) = self {
            set_bits(words, first, last);
            if self.runs().take(RUNS_MAX / 2 + 1).count() <= RUNS_MAX / 2 {
                *self = Self::Runs(self.runs().collect());
            }
        }
    }

    /// Writes it.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Runs(runs) => {
                out.u8(u8::try_from(runs.len()).unwrap_or(u8::MAX - 1));
                for (a, b) in runs {
                    out.u16(*a);
                    out.u16(*b);
                }
            }
            Self::Bits(words) => {
                out.u8(AS_BITS);
                for w in words.iter() {
                    out.u64(*w);
                }
            }
        }
    }

    /// Reads it off the front.
    ///
    /// # Errors
    /// If [`Settled::put`] did not write it.
    pub fn take(d: &mut Dec<'_>) -> Result<Self, DecodeError> {
        let n = d.u8()?;
        if n == AS_BITS {
            let mut words = Box::new([0; WORDS]);
            for w in words.iter_mut() {
                *w = d.u64()?;
            }
            return Ok(Self::Bits(words));
        }
        let mut runs: Vec<(u16, u16)> = Vec::with_capacity(usize::from(n));
        for _ in 0..n {
            let (a, b) = (d.u16()?, d.u16()?);
            let apart = runs.last().is_none_or(|last| last.1 + 1 < a);
            if a > b || u64::from(b) >= CHUNK || !apart || runs.len() >= RUNS_MAX {
                return Err(DecodeError::Value { what: "settled run" });
            }
            runs.push((a, b));
        }
        Ok(Self::Runs(runs))
    }
}

/// The lowest bit set of a word that is not 0.
fn low_bit(word: u64) -> u16 {
    u16::try_from(word.trailing_zeros()).unwrap_or(63)
}

fn set_bits(words: &mut [u64; WORDS], first: u16, last: u16) {
    for (i, word) in (0_u16..).zip(words.iter_mut()) {
        let base = i * 64;
        if base <= last && base + 63 >= first {
            *word |= mask(first.max(base) - base, last.min(base + 63) - base);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(adds in vec((0..4_096_u16, prop_oneof![4 => 0..3_u16, 1 => 0..700_u16]), 0..260)) {
            let (mut set, mut naive) = (Settled::default(), BTreeSet::new());
            for (first, n) in adds {
                let last = (first + n).min(4_095);
                set.add(first, last);
                naive.extend(first..=last);
            }
            prop_assert_eq!(set.len() as usize, naive.len());
            prop_assert_eq!(set.is_empty(), naive.is_empty());
            for off in 0..4_096_u16 {
                prop_assert_eq!(set.has(off), naive.contains(&off));
            }
            for off in [0, 1, 63, 64, 65, 2_000, 4_095] {
                let out = (off..4_096).find(|o| !naive.contains(o)).unwrap_or(4_096);
                prop_assert_eq!(set.first_out(off), out);
            }
            let all: BTreeSet<u16> = set.runs().flat_map(|(a, b)| a..=b).collect();
            prop_assert_eq!(&all, &naive);
            let mut bytes = Vec::new();
            set.put(&mut bytes);
            prop_assert!(bytes.len() <= 513);
            let mut d = Dec::new(&bytes);
            prop_assert_eq!(Settled::take(&mut d).unwrap(), set);
            prop_assert!(d.is_empty());
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = Settled::take(&mut Dec::new(&bytes));
        }
    }
}
