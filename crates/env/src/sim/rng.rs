//! Random numbers by seed: [`SimRng`], and the generator behind it. Not for secrets.

use std::sync::{Mutex, PoisonError};

use crate::Rng;

/// `SplitMix64` (Steele, Lea, Flood 2014): one word of state, every seed is good.
#[derive(Clone, Debug)]
pub(super) struct SplitMix(u64);

impl SplitMix {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when `n` is 0. The bias is below `n / 2^64`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or(0)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

/// The simulated machine's random numbers: the sequence of a seed.
#[derive(Debug)]
pub struct SimRng(Mutex<SplitMix>);

impl SimRng {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Apart from the disk's own sequence of the same seed.
        Self(Mutex::new(SplitMix::new(seed ^ 0x5249_4e47_5249_4e47)))
    }
}

impl Rng for SimRng {
    fn fill(&self, out: &mut [u8]) {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in out.chunks_mut(8) {
            for (to, from) in chunk.iter_mut().zip(rng.next().to_le_bytes()) {
                *to = from;
            }
        }
    }
}
