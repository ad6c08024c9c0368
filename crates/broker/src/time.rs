//! The broker's time: the wall clock's at opening plus what passed since, drawn towards the wall clock slowly, and never going back.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_engine::op::Now;
use millstream_env::Clock;

const NS_PER_MS: u64 = 1_000_000;
/// At most one part in so many is added or withheld to draw near the wall clock (5 %).
const DRAW_PART: u64 = 20;

/// The one time of a broker: the sequencer decides by it, and sessions reckon by it when a message expires.
pub(crate) struct BrokerClock {
    clock: Arc<dyn Clock>,
    last: Mutex<Now>,
}

impl fmt::Debug for BrokerClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerClock").field("last", &self.last).finish_non_exhaustive()
    }
}

impl BrokerClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (wall_ms, mono_ms) = (clock.wall_ms(), clock.mono_ns() / NS_PER_MS);
        Self { clock, last: Mutex::new(Now { wall_ms, mono_ms }) }
    }
    /// Monotonic milliseconds.
    pub(crate) fn mono_ms(&self) -> u64 {
        self.clock.mono_ns() / NS_PER_MS
    }
    /// The time now.
    pub(crate) fn now(&self) -> Now {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mono_ms = self.mono_ms();
        let passed = mono_ms.saturating_sub(last.mono_ms);
        if passed > 0 {
            let straight = last.wall_ms + passed;
            let wall = self.clock.wall_ms();
            let most = passed.div_ceil(DRAW_PART);
            last.wall_ms = if wall >= straight {
                straight + (wall - straight).min(most)
            } else {
                straight - (straight - wall).min(most)
            };
            last.mono_ms = mono_ms;
        }
        *last
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Fake {
        wall_ms: AtomicU64,
        mono_ms: AtomicU64,
    }
    impl Clock for Fake {
        fn wall_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::SeqCst)
        }
        fn mono_ns(&self) -> u64 {
            self.mono_ms.load(Ordering::SeqCst) * NS_PER_MS
        }
    }

    #[test]
    fn a_wall_clock_set_back_an_hour_never_takes_the_brokers_time_back() {
        let fake = Arc::new(Fake::default());
        fake.wall_ms.store(10_000_000, Ordering::SeqCst);
        let c = BrokerClock::new(Arc::clone(&fake) as Arc<dyn Clock>);
        fake.wall_ms.store(10_000_000 - 3_600_000, Ordering::SeqCst);
        let mut last = c.now().wall_ms;
        for _ in 0..1_000 {
            fake.mono_ms.fetch_add(7, Ordering::SeqCst);
            let t = c.now().wall_ms;
            assert!(t > last);
            last = t;
        }
    }

    #[test]
    fn a_wall_clock_that_is_ahead_is_drawn_near_by_at_most_a_twentieth() {
        let fake = Arc::new(Fake::default());
        let c = BrokerClock::new(Arc::clone(&fake) as Arc<dyn Clock>);
        fake.wall_ms.store(1_000_000, Ordering::SeqCst);
        fake.mono_ms.store(1_000, Ordering::SeqCst);
        assert_eq!(c.now().wall_ms, 1_050);
    }
}
