//! The operating system's clock, randomness and disk (Linux). Start at [`OsDisk`]. Nothing here is cached or
//! retried on behalf of the caller, except calls that a signal interrupted.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::{Clock, Rng};

mod disk;
mod file;
#[cfg(test)]
mod tests;

pub use disk::OsDisk;

/// The machine's clocks.
#[derive(Debug)]
pub struct OsClock {
    start: Instant,
}

impl OsClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for OsClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    fn wall_ms(&self) -> u64 {
        // A clock set before 1970 reads as 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The kernel's cryptographic random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRng;

impl Rng for OsRng {
    /// # Panics
    /// If the kernel has no `getrandom`, which every supported one has.
    fn fill(&self, out: &mut [u8]) {
        let mut rest = out;
        while !rest.is_empty() {
            let n = rustix::io::retry_on_intr(|| getrandom(&mut *rest, GetRandomFlags::empty()))
                .expect("the kernel gives random bytes");
            rest = rest.get_mut(n..).unwrap_or_default();
        }
    }
}
