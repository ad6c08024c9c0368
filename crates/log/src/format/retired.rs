//! [`Retired`]: which of 4,096 positions in a row are retired; as runs when those are small, else as a bitmap.

use super::bytes::{array_at, take_varint, varint};
use super::rows::damaged;
use crate::api::StoreError;

/// Positions in one set.
pub(crate) const CHUNK_POSITIONS: u64 = 4096;
const WORDS: usize = 64;
/// Runs that take more than a bitmap does are written as one, bytes.
const RUNS_BYTES_MAX: usize = WORDS * 8;
const RUNS: u8 = 1;
const BITMAP: u8 = 2;

/// A set of positions of one chunk, counted from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retired {
    words: [u64; WORDS],
}

impl Default for Retired {
    fn default() -> Self {
        Self { words: [0; WORDS] }
    }
}

/// The bits of word `i` within `[from, to)`.
fn mask(i: usize, from: u64, to: u64) -> u64 {
    let base = u64::try_from(i).unwrap_or(u64::MAX) * 64;
    let below = |n: u64| match n.saturating_sub(base) {
        n @ 0..64 => (1 << n) - 1,
        _ => u64::MAX,
    };
    below(to) & !below(from)
}

impl Retired {
    /// Adds `[from, to)`; gives how many were not in it.
    pub(crate) fn add(&mut self, from: u64, to: u64) -> u64 {
        let mut newly = 0;
        let words = (to.div_ceil(64) - (from / 64).min(to.div_ceil(64))).try_into().unwrap_or(WORDS);
        let skip = (from / 64).try_into().unwrap_or(WORDS);
        for (i, w) in self.words.iter_mut().enumerate().skip(skip).take(words) {
            let m = mask(i, from, to);
            newly += u64::from((m & !*w).count_ones());
            *w |= m;
        }
        newly
    }

    /// Takes `[from, to)` out.
    pub(crate) fn remove(&mut self, from: u64, to: u64) {
        for (i, w) in self.words.iter_mut().enumerate() {
            *w &= !mask(i, from, to);
        }
    }

    /// How many of `[from, to)` are in it.
    pub(crate) fn count(&self, from: u64, to: u64) -> u64 {
        self.words.iter().enumerate().map(|(i, w)| u64::from((w & mask(i, from, to)).count_ones())).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    /// Its runs of positions, ascending: (first, one past the last).
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next(at, true)?;
            at = self.next(first, false).unwrap_or(CHUNK_POSITIONS);
            Some((first, at))
        })
    }

    /// The first position from `at` on that is in it, or is not.
    fn next(&self, at: u64, wanted: bool) -> Option<u64> {
        let mut skip = at % 64;
        let words = self.words.iter().zip(0u64..).skip(usize::try_from(at / 64).ok()?);
        for (word, i) in words {
            let wanted = if wanted { *word } else { !*word } & (u64::MAX << std::mem::take(&mut skip));
            if wanted != 0 {
                return Some(i * 64 + u64::from(wanted.trailing_zeros()));
            }
        }
        None
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![RUNS];
        let mut before = 0;
        for (first, end) in self.runs() {
            for n in [first - before, end - first] {
                let (bytes, len) = varint(n);
                out.extend_from_slice(bytes.get(..len).unwrap_or_default());
            }
            before = end;
            if out.len() > RUNS_BYTES_MAX {
                break;
            }
        }
        if out.len() <= RUNS_BYTES_MAX {
            return out;
        }
        let words = self.words.iter().flat_map(|w| w.to_le_bytes());
        std::iter::once(BITMAP).chain(words).collect()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let mut set = Self::default();
        let (kind, mut rest) = value.split_first().ok_or_else(damaged)?;
        match *kind {
            BITMAP if rest.len() == WORDS * 8 => {
                for (i, w) in set.words.iter_mut().enumerate() {
                    *w = array_at(rest, i * 8).map(u64::from_le_bytes).ok_or_else(damaged)?;
                }
            }
            RUNS => {
                let mut at = 0u64;
                while !rest.is_empty() {
                    let skip = take_varint(&mut rest).ok_or_else(damaged)?;
                    let len = take_varint(&mut rest).ok_or_else(damaged)?;
                    let first = at.checked_add(skip).ok_or_else(damaged)?;
                    at = first.checked_add(len).filter(|end| *end <= CHUNK_POSITIONS).ok_or_else(damaged)?;
                    set.add(first, at);
                }
            }
            _ => return Err(damaged()),
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_once_and_sets_round_trip_in_both_shapes() {
        let mut set = Retired::default();
        assert_eq!(set.add(0, 4096), 4096);
        assert_eq!(set.add(5, 70), 0);
        assert_eq!(set.encode().len(), 4);
        assert_eq!(Retired::decode(&set.encode()).unwrap(), set);
        set.remove(64, 4000);
        assert_eq!((set.count(0, 4096), set.count(60, 70), set.add(63, 65)), (160, 4, 1));
        assert_eq!(Retired::decode(&set.encode()).unwrap(), set);
        let mut scattered = Retired::default();
        for at in (0..4096).step_by(3) {
            assert_eq!(scattered.add(at, at + 1), 1);
        }
        let bytes = scattered.encode();
        assert_eq!(bytes.len(), 513);
        assert_eq!(Retired::decode(&bytes).unwrap(), scattered);
        assert!(Retired::decode(&bytes[..512]).is_err() && Retired::decode(b"").is_err());
        assert!(Retired::decode(&[RUNS, 0, 0xff, 0xff, 3]).is_err());
        assert!(Retired::decode(&Retired::default().encode()).unwrap().is_empty());
    }
}
